"""From one's own files, or AMASS's, to training sets."""

import numpy as np
import pytest

pytest.importorskip("tensorflow_datasets", reason="needs the extra `data`")
pytest.importorskip("array_record", reason="needs the extra `data`")

from training_files import everything

from scorehmr_jax.data.build import Given, build, describe
from scorehmr_jax.data.records import RecordSet
from scorehmr_jax.data.samples import axis_angle_to_x


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
