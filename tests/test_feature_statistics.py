"""Statistics of image features: computed from files, and compared with features."""

import numpy as np
import pytest

pytest.importorskip("tensorflow_datasets", reason="needs the extra `data`")
pytest.importorskip("array_record", reason="needs the extra `data`")

from training_files import change, everything, released_layout

from scorehmr_jax.commands.main import main
from scorehmr_jax.datasets.build import Given, build
from scorehmr_jax.datasets.statistics import (
    Moments,
    Statistics,
    check_features,
    compute_statistics,
)
from scorehmr_jax.formats.npz_rows import iterate


@pytest.fixture
def data(golden, tmp_path):
    return released_layout(golden, tmp_path)


def test_statistics_are_computed_and_saved_as_released(golden, data, tmp_path):
    path = tmp_path / "cache/pare/coco_train_eft.npz"
    main(["feature-stats", str(path), "--out", str(tmp_path / "stats.npz")])
    saved, rows = np.load(tmp_path / "stats.npz"), np.load(path)
    assert set(saved.files) == set(np.load(golden / "pack/pare_feat_stats.npz").files)
    for key in ("pose_feats", "cam_shape_feats"):
        np.testing.assert_allclose(saved[f"{key}_mean"], rows[key].mean(0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(saved[f"{key}_std"], rows[key].std(0), rtol=1e-4)
    own = Given(statistics=tmp_path / "stats.npz")
    features = everything(build("coco", data, tmp_path / "s", own, quiet=True), "features")
    assert abs(features["features"].astype(np.float32).mean()) < 0.01
    with pytest.raises(SystemExit, match=r"stats.npz: there is a file already.*--overwrite"):
        main(["feature-stats", str(path), "--out", str(tmp_path / "stats.npz")])
    main(["feature-stats", str(path), "--out", str(tmp_path / "stats.npz"), "--overwrite"])
    with pytest.raises(ValueError, match=r"coco_train_eft.npz: the same file; give each once"):
        compute_statistics([path, path.parent / "." / path.name], tmp_path / "none.npz")
    with pytest.raises(ValueError, match="is one of the files to read too"):
        compute_statistics([path], path, overwrite=True)
    change(path, pose_feats=np.full((40, 128, 24), np.nan))
    with pytest.raises(ValueError, match="features of 40 or more images are NaN"):
        compute_statistics([path], tmp_path / "none.npz")
    assert not (tmp_path / "none.npz").exists()


def test_statistics_are_of_what_all_files_hold(tmp_path):
    rng, (a, b) = np.random.default_rng(0), (tmp_path / "a.npz", tmp_path / "b.npz")
    pose, shape = rng.normal(size=(9, 128, 24)), rng.normal(size=(9, 64, 24))
    rows = rng.normal(size=(9, 5))
    for first, second, keys in (
        ({"pose_feats": pose, "cam_shape_feats": shape}, {"pose_feats": pose}, "pose_feats_"),
        ({"img_feats": pose.reshape(9, -1)[:, :2048]}, {"img_feats": np.ones((3, 2048))}, ""),
        ({"features": rows}, {"features": rows, "body_pose": np.zeros((9, 72))}, ""),
    ):
        np.savez(a, **first)
        np.savez(b, **second)
        compute_statistics([a, b], tmp_path / "stats.npz", overwrite=True)
        saved = np.load(tmp_path / "stats.npz")
        assert saved.files == [f"{keys}mean", f"{keys}std"]
    np.testing.assert_allclose(saved["mean"], rows.mean(0), rtol=1e-5)
    for changes, message in (
        ({"img_feats": rows}, r"expected features that every file has, .*found \['features'\]; "),
        ({"features": rows[:, 1:]}, r"b.npz: features of an image have .*\(4,\).*, but .*\(5,\)"),
        ({"features": rows[0]}, r"b.npz: features has shape \(5,\); expected \[N, F\]"),
        ({"features": np.full((9, 5), "?")}, r"b.npz: features holds <U1; expected numbers"),
    ):
        np.savez(b, **changes)
        with pytest.raises(ValueError, match=message):
            compute_statistics([a, b], tmp_path / "none.npz")


@pytest.mark.parametrize(
    ("rows", "found"),
    [(np.zeros((0, 6)), "none"), (np.full((1, 6), 7.0), "1"), (np.ones((20, 6)), "all alike")],
)
def test_too_few_rows_give_no_statistics(tmp_path, rows, found):
    np.savez(tmp_path / "a.npz", features=rows)
    with pytest.raises(ValueError, match=rf"a.npz: expected features of two .* found {found};"):
        compute_statistics([tmp_path / "a.npz"], tmp_path / "stats.npz")
    assert not (tmp_path / "stats.npz").exists()


def test_features_of_two_backbones_are_told_apart_by_the_user(tmp_path):
    rng, out = np.random.default_rng(0), tmp_path / "stats.npz"
    own, other = rng.normal(size=(20, 6)), rng.normal(size=(20, 2048))
    np.savez(tmp_path / "a.npz", features=own, img_feats=other)
    with pytest.raises(ValueError, match=r"a.npz: .* those of prohmr and own; .* --backbone"):
        compute_statistics([tmp_path / "a.npz"], out)
    np.testing.assert_allclose(
        compute_statistics([tmp_path / "a.npz"], out, "own").mean, own.mean(0), rtol=1e-6
    )


def test_keys_beside_features_are_named_and_rows_without_a_fit_left_out(tmp_path, recwarn):
    rows, fitted = np.random.default_rng(0).normal(size=(20, 6)), np.arange(20) > 4
    arrays = {"features": rows, "has_body_pose": fitted, "body_pose": np.zeros((20, 72))}
    np.savez(tmp_path / "a.npz", **arrays)
    found = compute_statistics([tmp_path / "a.npz"], tmp_path / "stats.npz")
    np.testing.assert_allclose(found.mean, rows[5:].mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.std, rows[5:].std(0), rtol=1e-6)
    assert not recwarn
    np.savez(tmp_path / "a.npz", **arrays, Features=rows)
    with pytest.warns(UserWarning, match=r"a.npz: not read: Features \(features\?\)"):
        compute_statistics([tmp_path / "a.npz"], tmp_path / "stats.npz", overwrite=True)


def test_moments_of_parts_are_those_of_the_whole():
    rows = 1e4 + np.random.default_rng(0).normal(size=(1000, 5))
    moments = Moments()
    for part in np.split(rows, [1, 30, 30, 700]):
        moments.add(part)
    np.testing.assert_allclose(moments.mean, rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments.std, rows.std(0), rtol=1e-9)


def test_another_backbone_is_told_from_another_data_set():
    rng = np.random.default_rng(0)

    def backbone(count, shift=0.0):  # features after a ReLU: all means and spreads alike
        mean = rng.gamma(2, 0.3, 500)
        rows = lambda: mean + rng.normal(0, 0.4, (count, 500))  # noqa: E731
        return rows, rows() + shift * rng.normal(0, 0.4, 500)

    rows, elsewhere = backbone(300, shift=0.5)
    saved = Statistics(rows().mean(0), rows().std(0), "mine.npz")
    for features, fine in (
        (rows(), True),
        (elsewhere, True),  # shifted by half a standard deviation, as outdoors to indoors
        (backbone(300)[0](), False),
        (saved.standardise(rows()), False),  # standardised already
        (10 * rows(), False),
        (backbone(4)[0](), True),  # too few to tell
    ):
        moments = Moments()
        moments.add(features)
        if fine:
            check_features(moments, saved, "these.npz")
        else:
            with pytest.raises(ValueError, match=r"these.npz: .*not those of mine.npz"):
                check_features(moments, saved, "these.npz")


def test_the_first_rows_of_a_sorted_file_may_be_of_one_person():
    rng = np.random.default_rng(0)
    # As features after a ReLU, and one person's: much alike, and off all features' mean.
    mean = rng.gamma(2, 0.3, 500)
    saved = Statistics(mean, np.full(500, 0.4), "all.npz")
    person = mean.mean() + 0.1 * (mean - mean.mean())
    moments = Moments()
    moments.add(person + rng.normal(0, 0.05, (300, 500)))
    check_features(moments, saved, "first rows", early=True)
    with pytest.raises(ValueError, match=r"all.npz"):
        check_features(moments, saved, "all rows")
    for far in (mean + 1.2, mean * 9):
        moments = Moments()
        moments.add(far + rng.normal(0, 0.05, (300, 500)))
        with pytest.raises(ValueError, match=r"all.npz"):
            check_features(moments, saved, "first rows", early=True)


def test_a_sorted_file_is_judged_as_a_whole(tmp_path):
    rng, n = np.random.default_rng(0), 8192
    mean = rng.gamma(2, 0.3, 2048)
    features = rng.normal(0, 0.4, (n, 2048)).astype(np.float32) + mean.astype(np.float32)
    features[: n // 4] -= 0.9 * (mean - mean.mean())  # one person, first
    names, pose = np.arange(n).astype(str), np.zeros((n, 72))
    np.savez(tmp_path / "fits.npz", imgname=names, body_pose=pose, has_body_pose=np.ones(n))
    np.savez(tmp_path / "features.npz", img_feats=features)
    compute_statistics([tmp_path / "features.npz"], tmp_path / "stats.npz")
    given = Given(
        backbone="prohmr",
        annotations=tmp_path / "fits.npz",
        features=tmp_path / "features.npz",
        statistics=tmp_path / "stats.npz",
    )
    assert build("coco", tmp_path, tmp_path / "sets", given, quiet=True).exists()


def test_rows_of_an_npz_come_in_parts(tmp_path):
    arrays = {
        "a": np.arange(70).reshape(10, 7),
        "b": np.asfortranarray(np.arange(30).reshape(10, 3)),
    }
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "x.npz", **arrays, text=np.array(["ab", "c"] * 5))
        parts = [*iterate(tmp_path / "x.npz", ["a", "b", "text"], rows=4)]
        assert [len(p[0]) for p in parts] == [4, 4, 2]
        for key, found in zip(["a", "b"], zip(*parts, strict=True), strict=False):
            np.testing.assert_array_equal(np.concatenate(found), arrays[key])
    np.savez(tmp_path / "y.npz", a=arrays["a"], b=np.array([{}] * 10))
    with pytest.raises(ValueError, match=r"y.npz: key b holds Python objects"):
        next(iterate(tmp_path / "y.npz", ["a", "b"]))


def test_rows_of_images_that_could_not_be_read_are_left_out(tmp_path):
    rows = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    holes = np.insert(rows, [2, 7], np.nan, axis=0)
    np.savez(tmp_path / "whole.npz", features=rows)
    np.savez(tmp_path / "holes.npz", features=holes)
    whole = compute_statistics([tmp_path / "whole.npz"], tmp_path / "a.npz")
    with pytest.warns(UserWarning, match=r"holes.npz: 2 rows are NaN, as .* they are left out"):
        found = compute_statistics([tmp_path / "holes.npz"], tmp_path / "b.npz")
    np.testing.assert_array_equal(found.mean, whole.mean)
    np.testing.assert_array_equal(found.std, whole.std)
    holes[3, 1] = np.nan
    np.savez(tmp_path / "holes.npz", features=holes)
    with pytest.raises(ValueError, match="features of 1 or more images are NaN"):
        compute_statistics([tmp_path / "holes.npz"], tmp_path / "c.npz")
