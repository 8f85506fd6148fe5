"""Reading the released code's files: what they mean, and what a user hears when they are wrong."""

import pickle
import warnings

import numpy as np
import pytest

from scorehmr_jax.formats.features import read_features
from scorehmr_jax.formats.released import read_groups, warn_of_mixed_sequences

pytestmark = pytest.mark.filterwarnings("error::UserWarning")


class Evil:
    def __reduce__(self):
        import os

        return os.system, ("echo harm",)


def annotations(n=3, **changes):
    rng = np.random.default_rng(0)
    data = {
        "imgname": np.array([f"{i}.png" for i in range(n)]),
        "center": np.full((n, 2), 100.0),
        "scale": np.full(n, 80.0),
        "body_keypoints_2d": rng.uniform([60, 60, 0], [140, 140, 1], (n, 25, 3)),
        "extra_keypoints_3d": rng.uniform(size=(n, 19, 4)),
    }
    return without(data | changes)


def predictions(n=3, **changes):
    data = {
        "pred_pose": np.tile(np.eye(3), (n, 24, 1, 1)),
        "pred_betas": np.arange(10.0 * n).reshape(n, 10) / 8,
        "pred_cam": np.tile([0.9, 0.1, -0.2], (n, 1)),
        "pred_cam_t": np.tile([0.1, 0.2, 12.0], (n, 1)),
    }
    return without(data | changes)


def without(data):
    return {key: value for key, value in data.items() if value is not None}


def save(path, data):
    if path.suffix == ".npz":
        np.savez(path, **data)
    else:
        path.write_bytes(pickle.dumps(data))
    return path


def read(tmp_path, data=None, preds=None, suffix=".npz", **options):
    data = save(tmp_path / f"data{suffix}", annotations() if data is None else data)
    preds = save(tmp_path / f"preds{suffix}", predictions() if preds is None else preds)
    return read_groups(data, preds, **options)


def test_an_image_data_set_reads_as_the_released_code_reads_it(golden):
    pack = golden / "pack"
    (group,) = read_groups(
        pack / "3dpw_test.npz",
        pack / "3dpw_test_hmr2_preds.npz",
        image_sizes=pack / "3dpw_test_img_size.npz",
    )
    items = np.load(pack / "result_kp.npz")
    n = len(items["item_img_size"])
    assert len(group) == n and group.keypoints.xy.shape == (n, 44, 2)
    np.testing.assert_array_equal(group.joints_3d, items["item_keypoints_3d"][..., :3])
    np.testing.assert_array_equal(group.confidence_3d, items["item_keypoints_3d"][..., 3])
    np.testing.assert_array_equal(group.camera.image_size, items["item_img_size"])
    np.testing.assert_array_equal(group.camera.center, items["item_img_size"] / 2)
    assert (group.camera.focal == 5000).all() and group.has_body.all()
    assert group.estimate.pose.dtype == np.float32


@pytest.mark.parametrize(("name", "size"), [("3dpw_test_video", 24), ("h36m_val_multiview", 4)])
def test_groups_read_in_order_and_share_their_shape(golden, name, size):
    files = [golden / "pack" / f"{name}{end}" for end in (".pkl", "_hmr2_preds.pkl")]
    shared = read_groups(*files, share_betas=True)
    own = read_groups(*files)
    written = pickle.loads(files[0].read_bytes())
    assert [len(group) for group in shared] == [size] * len(written) and shared[0].camera is None
    for a, b, group in zip(shared, own, written, strict=True):
        assert [*a.names] == group["imgname"]
        np.testing.assert_allclose(a.estimate.betas[0], b.estimate.betas.mean(0), rtol=1e-6)
        assert np.ptp(a.estimate.betas, axis=0).max() == 0
        assert f"_{len(b)}" not in b.names[0] and b.names[0].endswith("frame_00000.jpg")


def test_features_are_flattened_and_standardised(golden):
    pack = golden / "pack"
    raw, stats = (np.load(pack / f"{n}.npz") for n in ("3dpw_test_pare_feats", "pare_feat_stats"))
    files = pack / "3dpw_test_pare_feats.npz", pack / "pare_feat_stats.npz"
    n = len(raw["pose_feats"])
    (found,) = read_features(*files, 4608, [n])
    parts = [
        (raw[k] - stats[f"{k}_mean"]) / stats[f"{k}_std"] for k in ("pose_feats", "cam_shape_feats")
    ]
    np.testing.assert_allclose(found, np.concatenate(parts, axis=1).reshape(n, -1), rtol=1e-5)
    (pose,) = read_features(*files, 3072, [n])
    np.testing.assert_array_equal(pose, found[:, :3072])
    views = pack / "h36m_val_multiview_pare_feats.pkl"
    sizes = [len(group["pose_feats"]) for group in pickle.loads(views.read_bytes())]
    groups = read_features(views, None, 3072, sizes, np.float64)
    assert [g.shape for g in groups] == [(n, 3072) for n in sizes] and groups[0].dtype == np.float64


def test_features_of_another_width_or_with_other_statistics_are_refused(tmp_path, golden):
    prohmr = save(tmp_path / "prohmr.npz", {"img_feats": np.zeros((3, 2048))})
    with pytest.raises(ValueError, match=r"takes 3072 features.*img_feats \(2048,\)"):
        read_features(prohmr, None, 3072, [3])
    with pytest.raises(ValueError, match=r"pare_feat_stats.npz: the key 'mean' is missing"):
        read_features(prohmr, golden / "pack/pare_feat_stats.npz", 2048, [3])
    with pytest.raises(ValueError, match=r"img_feats has shape \(3, 2048\); expected \(4, 2048\)"):
        read_features(prohmr, None, 2048, [4])
    with pytest.raises(ValueError, match="2 group"):
        read_features(prohmr, None, 2048, [1, 2])
    flat = save(tmp_path / "stats.npz", {"mean": np.zeros(2048), "std": np.zeros(2048)})
    with pytest.raises(ValueError, match="std must be above 0"):
        read_features(prohmr, flat, 2048, [3])


def test_optional_columns_may_be_missing(tmp_path):
    (group,) = read(tmp_path, annotations(body_keypoints_2d=None, extra_keypoints_3d=None))
    assert group.keypoints.confidence.max() == group.confidence_3d.max() == 0
    assert not group.has_body.any() and group.pose.shape == (3, 24, 3)


def test_the_camera_is_worked_out_where_it_is_missing(tmp_path, golden):
    pack = golden / "pack"
    columns = dict(np.load(pack / "3dpw_test_hmr2_preds.npz"))
    expected = columns.pop("pred_cam_t")
    options = {"image_sizes": pack / "3dpw_test_img_size.npz"}
    preds = save(tmp_path / "preds.npz", columns)
    (group,) = read_groups(pack / "3dpw_test.npz", preds, **options)
    np.testing.assert_allclose(group.estimate.translation, expected, atol=1e-5)
    with pytest.raises(ValueError, match="give image sizes"):
        read_groups(pack / "3dpw_test.npz", preds)


def test_a_box_with_two_sides_counts_by_the_larger(tmp_path):
    (tmp_path / "size.json").write_text("[200, 200]")
    wide = annotations(scale=np.tile([40.0, 80.0], (3, 1)))
    preds = predictions(pred_cam_t=None)
    (group,) = read(tmp_path, wide, preds, image_sizes=tmp_path / "size.json")
    np.testing.assert_allclose(group.estimate.translation[:, 2], 2 * 5000 / (80 * 0.9), rtol=1e-5)


@pytest.mark.parametrize(
    ("data", "preds", "message"),
    [
        ({"imgname": None}, {}, r"data.npz: the key 'imgname' is missing; found \['body_key"),
        ({"scale": None}, {}, "the key 'scale' is missing"),
        ({}, {"pred_pose": None}, "preds.npz: the key 'pred_pose' is missing"),
        ({}, {"pred_betas": np.zeros((2, 10))}, r"\(2, 10\); expected \(3, 10\)"),
        ({}, {"pred_pose": np.zeros((3, 72))}, r"\(3, 72\); expected \(3, 24, 3, 3\)"),
        ({"body_keypoints_2d": np.zeros((3, 17, 3))}, {}, r"expected \(3, 25, 3\)"),
        (
            {"body_keypoints_2d": np.full((3, 25, 3), -0.1)},
            {},
            r"body_keypoints_2d: .* found -0.1 at \[0, 0\] \(75 such",
        ),
        ({"body_keypoints_2d": np.full((3, 25, 3), 87.0)}, {}, "found 87 at .*Divide by"),
        ({"center": np.array([["a", "b"]] * 3)}, {}, "expected numbers"),
        ({"imgname": np.array([], str)}, {}, "imgname is empty"),
        ({"scale": np.ones((3, 4))}, {}, r"data.npz: scale has shape \(3, 4\); expected the box's"),
    ],
)
def test_wrong_columns_are_named(tmp_path, data, preds, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, annotations(**data), predictions(**preds))


def test_wrong_files_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere.npz: no such file"):
        read_groups(tmp_path / "nowhere.npz", tmp_path / "nowhere.npz")
    with pytest.raises(ValueError, match=r"is a folder; expected a file"):
        read_groups(tmp_path, tmp_path)
    whole = save(tmp_path / "data.npz", annotations())
    whole.write_bytes(whole.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"data.npz: cut short or damaged"):
        read_groups(whole, whole)
    with pytest.raises(ValueError, match=r"data.pkl: an empty list"):
        read(tmp_path, [], [predictions()], ".pkl")
    with pytest.raises(ValueError, match=r"data.pkl: expected a list of dicts"):
        read(tmp_path, [1, 2], [predictions()], ".pkl")
    with pytest.raises(ValueError, match=r"preds.pkl: 2 group"):
        read(tmp_path, [annotations()], [predictions()] * 2, ".pkl")
    with pytest.raises(ValueError, match=r"group 1: imgname is empty"):
        read(tmp_path, [annotations(), annotations(0)], [predictions()] * 2, ".pkl")
    with pytest.raises(ValueError, match=r"system"):
        read(tmp_path, [annotations(body_pose=Evil())], [predictions()], ".pkl")


def test_a_bad_row_is_reported_and_touches_no_other(tmp_path):
    preds = predictions()
    preds["pred_betas"][1] = np.nan
    with pytest.warns(UserWarning, match=r"pred_betas is NaN or infinite in 1 of 3 rows \(1\)"):
        (group,) = read(tmp_path, preds=preds, share_betas=True)
    np.testing.assert_array_equal(group.estimate.betas[0], preds["pred_betas"][[0, 2]].mean(0))


def test_a_group_without_one_good_shape_keeps_its_own(tmp_path):
    preds = predictions(pred_betas=np.full((3, 10), np.nan))
    with pytest.warns(UserWarning, match="pred_betas is NaN or infinite in 3 of 3 rows"):
        (group,) = read(tmp_path, preds=preds, share_betas=True)
    assert np.isnan(group.estimate.betas).all()


def test_matrices_that_are_no_rotations_are_reported(tmp_path):
    pose = predictions()["pred_pose"]
    pose[1, 5] *= 2
    pose[2, 7] = np.diag([1, 1, -1])
    with pytest.warns(UserWarning, match=r"pred_pose: row 1 \(2 of 3 in all\) .* no rotations"):
        read(tmp_path, preds=predictions(pred_pose=pose))


def test_images_of_several_folders_are_hardly_one_video(tmp_path):
    (group,) = read(tmp_path, annotations(imgname=np.array(["a/0.png", "a/1.png", "b/0.png"])))
    with pytest.warns(UserWarning, match=r"f.npz, group 0: taken as one video.* in 2 folders"):
        warn_of_mixed_sequences("f.npz", [group])
    warn_of_mixed_sequences("f.npz", read(tmp_path))


def test_keypoints_that_were_not_seen_may_be_nan(tmp_path):
    data = annotations()
    data["body_keypoints_2d"][0, 3] = [np.nan, np.nan, 0]
    (group,) = read(tmp_path, data)
    assert np.isfinite(group.keypoints.xy).all()


def test_confidences_a_little_above_one_are_taken_as_one(tmp_path):
    data = annotations()
    data["body_keypoints_2d"][0, 3, 2] = 1.25
    with pytest.warns(
        UserWarning, match=r"body_keypoints_2d: 1 confidences are above 1, up to 1.25"
    ):
        (group,) = read(tmp_path, data)
    assert group.keypoints.confidence.max() == 1


@pytest.mark.parametrize(
    ("data", "preds", "message"),
    [
        ({"body_pose": np.full((3, 72), 40.0)}, {}, "data.npz: body_pose: .* found degrees"),
        ({"body_keypoints_2d": np.full((3, 25, 3), 0.5)}, {}, "body_keypoints_2d: .* normalised"),
        ({"extra_keypoints_2d": np.full((3, 19, 3), 0.5)}, {}, "extra_keypoints_2d: .* normalised"),
        ({"scale": np.full(3, 1.5)}, {"pred_cam_t": None}, "data.npz: scale: .* over 200 by 200"),
        ({"center": np.full((3, 2), 0.5)}, {"pred_cam_t": None}, "data.npz: center: .* in pixels"),
        ({"extra_keypoints_3d": 9e2 * np.eye(19, 4)[None].repeat(3, 0) + 1}, {}, "divide by 1000"),
        ({"betas": np.full((3, 10), 99.0)}, {}, "data.npz: betas: expected SMPL's shape"),
        ({}, {"pred_betas": np.full((3, 10), 99.0)}, "preds.npz: pred_betas: expected SMPL's"),
        ({}, {"pred_pose": np.zeros((3, 24, 3, 3))}, "preds.npz: pred_pose: row 0 .3 of 3 in all"),
        ({}, {"pred_cam_t": np.full((3, 3), 12e4)}, "preds.npz: pred_cam_t.* found millimetres"),
    ],
)
def test_another_unit_is_refused_by_name(tmp_path, data, preds, message):
    known = {"has_body_pose": np.ones(3), "has_betas": np.ones(3)}
    known |= {"body_pose": np.zeros((3, 72)), "betas": np.zeros((3, 10))}
    (tmp_path / "size.json").write_text("[200, 200]")
    with pytest.raises(ValueError, match=message):
        read(
            tmp_path,
            annotations(**known | data),
            predictions(**preds),
            image_sizes=tmp_path / "size.json",
        )


@pytest.mark.parametrize("suffix", [".npz", ".pkl"])
def test_keys_that_are_not_read_are_named_and_known_ones_are_not(tmp_path, suffix):
    known = annotations(gender=np.array(["m"] * 3), personid=np.arange(3))
    preds = predictions(pose_feats=np.zeros((3, 4)))
    groups = [[data] for data in (known, preds)] if suffix == ".pkl" else [known, preds]
    read(tmp_path, *groups, suffix)
    for odd in (known, preds):
        odd["focal_length"] = np.ones(3)
        name = "data" if odd is known else "preds"
        with pytest.warns(UserWarning, match=rf"{name}{suffix}: not read: focal_length; known are"):
            read(tmp_path, *groups, suffix)
        del odd["focal_length"]


def test_keys_beside_features_are_named(tmp_path):
    path = save(tmp_path / "f.npz", {"features": np.zeros((3, 5)), "feature": np.zeros(3)})
    with pytest.warns(UserWarning, match=r"f.npz: not read: feature \(features\?\); known are"):
        (found,) = read_features(path, None, 5, [3])
    assert found.shape == (3, 5)


def test_a_box_without_a_side_leaves_its_own_row_alone(tmp_path):
    (tmp_path / "size.json").write_text("[200, 200]")
    data = annotations(scale=np.array([80.0, 0, 80]))
    (group,) = read(
        tmp_path, data, predictions(pred_cam_t=None), image_sizes=tmp_path / "size.json"
    )
    found = np.isfinite(group.estimate.translation).all(axis=1)
    np.testing.assert_array_equal(found, [True, False, True])


def test_nothing_warns_on_good_files(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(tmp_path)


def test_rows_of_unequal_length_are_named(tmp_path):
    data = annotations(center=[[1.0, 2.0], [3.0], [4.0, 5.0]])
    with pytest.raises(ValueError, match=r"data.pkl, group 0: center is no array of one shape"):
        read(tmp_path, [data], [predictions()], ".pkl")


def test_statistics_of_another_shape_are_named_as_such(tmp_path):
    features = save(tmp_path / "f.npz", {"features": np.zeros((3, 5))})
    statistics = save(tmp_path / "s.npz", {"mean": np.zeros(4), "std": np.ones(4)})
    message = r"s.npz: expected mean and std of shape \(5,\), as the features have, found \(4,\)"
    with pytest.raises(ValueError, match=message):
        read_features(features, statistics, 5, [3])
    save(statistics, {"mean": np.full(5, np.nan), "std": np.ones(5)})
    with pytest.raises(ValueError, match=r"s.npz: std must be above 0 and mean finite"):
        read_features(features, statistics, 5, [3])


def test_truths_that_nothing_marks_as_known_are_named(tmp_path):
    data = annotations(body_pose=np.zeros((3, 72)), betas=np.zeros((3, 10)), has_betas=np.ones(3))
    with pytest.warns(UserWarning, match=r"data.npz: body_pose without has_body_pose: taken as"):
        (group,) = read(tmp_path, data)
    assert not group.has_body.any()


@pytest.mark.parametrize("missing", ["body_pose", "betas"])
def test_a_truth_that_is_marked_as_known_must_be_there(tmp_path, missing):
    truth = {"body_pose": np.zeros((3, 72)), "betas": np.zeros((3, 10)), missing: None}
    known = {"has_body_pose": np.ones(3), "has_betas": np.ones(3)}
    with pytest.raises(ValueError, match=rf"data.npz: has_{missing} .* in 3 rows, but .*missing"):
        read(tmp_path, annotations(**truth, **known))
    known[f"has_{missing}"] = np.zeros(3)  # as data sets of keypoints alone have it
    (group,) = read(tmp_path, annotations(**truth, **known))
    assert not group.has_body.any()


def test_a_focal_length_in_other_units_is_refused_with_any_predictions(tmp_path):
    (tmp_path / "size.json").write_text("[2000, 1000]")
    for preds in (predictions(), predictions(pred_cam_t=None)):
        with pytest.raises(
            ValueError, match=r"size.json, .* length of 35: camera.focal: .* pixels"
        ):
            read(tmp_path, None, preds, image_sizes=tmp_path / "size.json", focal=35)
    (tmp_path / "size.json").write_text("[1, 1]")
    with pytest.raises(ValueError, match=r"size.json, .*camera.image_size: .* found 1 x 1"):
        read(tmp_path, image_sizes=tmp_path / "size.json")
