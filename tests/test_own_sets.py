"""From one's own files, or AMASS's, to training sets."""

import numpy as np
import pytest

pytest.importorskip("tensorflow_datasets", reason="needs the extra `data`")
pytest.importorskip("array_record", reason="needs the extra `data`")

from scorehmr_jax.commands.main import main
from training_files import everything

from scorehmr_jax.datasets.build import Given, build, describe
from scorehmr_jax.datasets.records import RecordSet
from scorehmr_jax.datasets.samples import axis_angle_to_x


def own_file(path, n=20, width=6, **changes):
    rng = np.random.default_rng(n)
    arrays = {"body_pose": rng.normal(size=(n, 72)), "features": rng.normal(3, 2, (n, width))}
    arrays |= changes
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    return arrays


def test_a_folder_of_ones_own_files(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    first = own_file(folder / "a.npz", 20)
    second = own_file(folder / "b.npz", 30, has_body_pose=np.arange(30) > 0)
    built = build("own", folder, tmp_path / "sets", Given(name="mine"), quiet=True)
    assert built == tmp_path / "sets/mine/1.0.0" and "49 of 50" in describe(built)
    found = everything(built, "pose", "features")
    rows = np.concatenate([first["features"], second["features"]])
    expected = np.delete((rows - rows.mean(0)) / rows.std(0), 20, axis=0)
    np.testing.assert_allclose(
        found["features"].astype(np.float32), expected, rtol=2**-7, atol=0.01
    )
    saved = RecordSet.open(built).statistics
    np.testing.assert_allclose(saved.mean, rows.mean(0), rtol=1e-5)
    np.savez(folder / "feature_stats.npz", mean=np.full(6, 90.0), std=np.ones(6))
    with pytest.raises(ValueError, match=r"not those of .*feature_stats.npz"):
        build("own", folder, tmp_path / "other", quiet=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"body_pose": np.zeros((20, 69))}, r"b.npz: body_pose has shape \(20, 69\)"),
        ({"features": np.zeros((20, 5))}, r"features has shape \(20, 5\); expected \(20, 6\)"),
        ({"features": np.zeros((19, 6))}, r"features has shape \(19, 6\); expected \(20, 6\)"),
        ({"features": np.full((20, 6), "?")}, r"b.npz: features holds <U1; expected numbers"),
        ({"body_pose": 0.0}, r"b.npz: body_pose has shape \(\); expected \[N, 72\]"),
        ({"features": None}, r"b.npz: the key 'features' is missing, but .*a.npz has it"),
        ({"body_pose": np.full((20, 72), np.inf)}, r"b.npz: row 0 and maybe others hold NaN"),
    ],
)
def test_ones_own_files_must_agree(tmp_path, changes, message):
    folder = tmp_path / "mine"
    folder.mkdir()
    own_file(folder / "a.npz")
    own_file(folder / "b.npz", **changes)
    with pytest.raises(ValueError, match=message):
        build("own", folder, tmp_path / "sets", quiet=True)


@pytest.mark.parametrize(
    ("changes", "message", "dropped"),
    [
        # Finite as it is, but not as it is kept.
        ({"betas": np.full((20, 10), 1e39)}, r"row 0 .* NaN or infinity in one of .*betas", 20),
        ({"pred_pose": np.zeros((20, 24, 3, 3))}, r"row 0 .* estimate .*no rotation", 20),
        ({"body_pose": np.degrees(np.full((20, 72), 0.3))}, r"20 of 20 poses; .*in radians", None),
    ],
)
def test_what_is_no_pose_is_refused_or_dropped(tmp_path, changes, message, dropped):
    folder = tmp_path / "mine"
    folder.mkdir()
    own_file(folder / "a.npz", **changes)
    with pytest.raises(ValueError, match=message):
        build("own", folder, tmp_path / "sets", quiet=True)
    if dropped:
        good = {"betas": np.zeros((90, 10)), "pred_pose": np.tile(np.eye(3), (90, 24, 1, 1))}
        own_file(folder / "b.npz", 90, **{key: good[key] for key in changes})
        built = build("own", folder, tmp_path / "sets", Given(drop_bad=True), quiet=True)
        assert "90 of 110" in describe(built) and "dropped 20: with" in describe(built)


def test_a_few_poses_may_have_gone_astray(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    pose = np.zeros((20, 72))
    pose[3, 5] = 99
    own_file(folder / "a.npz", body_pose=pose)
    assert "20 of 20" in describe(build("own", folder, tmp_path / "sets", quiet=True))


def test_statistics_that_are_not_there_are_no_default(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    own_file(folder / "a.npz")
    given = Given(statistics=tmp_path / "stast.npz")
    with pytest.raises(ValueError, match=r"stast.npz: no such file; expected mean and std"):
        build("own", folder, tmp_path / "sets", given, quiet=True)
    own_file(folder / "a.npz", features=None)
    with pytest.raises(ValueError, match=r"mine has no features"):
        build("own", folder, tmp_path / "sets", given, quiet=True)
    (folder / "a.npz").rename(folder / "feature_stats.npz")
    with pytest.raises(ValueError, match=r"expected .npz files beside feature_stats.npz"):
        build("own", folder, tmp_path / "sets", quiet=True)


def test_one_recipe_for_several_sets_of_ones_own(tmp_path):
    stats, files = tmp_path / "stats.npz", []
    for i, name in enumerate(("indoors", "outdoors")):
        (tmp_path / name).mkdir()
        files.append(str(tmp_path / name / "a.npz"))
        own_file(files[-1], 20 + i)
    main(["feature-stats", *files, "--out", str(stats)])
    for name in ("indoors", "outdoors"):
        main(["build-data", "own", "--set-name", name, "--data-root", str(tmp_path / name),
              "--stats", str(stats), "--out", str(tmp_path / "sets"), "--quiet"])  # fmt: skip
    sets = [RecordSet.open(tmp_path / "sets" / name) for name in ("indoors", "outdoors")]
    assert sets[0].statistics.digest == sets[1].statistics.digest


def test_a_feature_that_never_changes_stays_small(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    features = np.random.default_rng(0).normal(3, 2, (20, 6))
    features[:, 2] = 0.1
    own_file(folder / "a.npz", features=features)
    built = build("own", folder, tmp_path / "sets", quiet=True)
    assert RecordSet.open(built).statistics.std[2] == 1
    assert np.abs(everything(built, "features")["features"][:, 2].astype(float)).max() < 1e-6


def test_amass_gives_body_pose_alone(tmp_path):
    folder = tmp_path / "amass/CMU/01"
    folder.mkdir(parents=True)
    poses = np.random.default_rng(0).normal(size=(120, 156))
    betas = np.arange(16.0)
    np.savez(folder / "01_poses.npz", poses=poses, betas=betas, mocap_framerate=60.0)
    np.savez(folder / "shape.npz", betas=betas)
    built = build("amass", tmp_path / "amass", tmp_path / "sets", quiet=True)
    text = describe(built)
    assert "20 of 120" in text and "dropped 1: files without poses" in text
    found = everything(built, "pose", "betas")
    expected = poses[::6].reshape(20, -1, 3)[:, :24].copy()
    expected[:, [0, 22, 23]] = 0
    np.testing.assert_allclose(found["pose"], axis_angle_to_x(expected), atol=1e-6)
    np.testing.assert_array_equal(found["betas"], np.tile(betas[:10], (20, 1)))


@pytest.mark.parametrize("shape", [(8,), (16,), (1, 8), (12, 8)])
def test_amass_has_more_or_fewer_shape_numbers(tmp_path, shape):
    betas = np.arange(1.0, 1 + np.prod(shape)).reshape(shape)
    np.savez(tmp_path / "clip.npz", poses=np.zeros((12, 156)), betas=betas, mocap_framerate=10.0)
    found = everything(build("amass", tmp_path, tmp_path / "sets", quiet=True), "betas")["betas"]
    expected = np.zeros((12, 16))
    expected[:, : shape[-1]] = betas
    np.testing.assert_array_equal(found, expected[:, :10])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"betas": np.zeros((3, 8))}, r"clip.npz: betas has shape \(3, 8\); expected \[B\] or"),
        ({"mocap_framerate": np.nan}, r"clip.npz: mocap_framerate is nan"),
        ({"poses": np.full((12, 156), 20.0)}, r"12 of 12 poses; expected axis-angle in radians"),
    ],
)
def test_bad_clips_are_named(tmp_path, changes, message):
    arrays = {"poses": np.zeros((12, 156)), "betas": np.zeros(16), "mocap_framerate": 10.0}
    np.savez(tmp_path / "clip.npz", **arrays | changes)
    with pytest.raises(ValueError, match=message):
        build("amass", tmp_path, tmp_path / "sets", quiet=True)
