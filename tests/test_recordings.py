"""Data sets in the files of their makers, and each way that these are known to trip people."""

import pickle
import warnings

import numpy as np
import pytest
from data_set_files import ASPSET, FRAMES, K, aspset, bodies, c3d, emdb, motion, threedpw

from body_model.joints import OPENPOSE_25
from body_model.keypoint_sets import KEYPOINT_SETS
from scorehmr_jax.formats.c3d import read_c3d
from scorehmr_jax.formats.recordings.aspset import read_aspset
from scorehmr_jax.formats.recordings.emdb import read_emdb
from scorehmr_jax.formats.recordings.threedpw import read_3dpw


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return bodies(tmp_path_factory.mktemp("bodies"))


def test_people_of_3dpw_have_their_own_mask_gender_and_detections(tmp_path, made):
    folder = threedpw(tmp_path, made)
    first, second = read_3dpw(folder)
    assert [r.name for r in (first, second)] == ["walk_00_0", "walk_00_1"]
    assert [r.truth.gender for r in (first, second)] == ["male", "female"]
    assert first.counts.tolist() == [True, True, False, True, True, True, True]
    assert second.counts.all() and first.person == 0 and second.person == 1
    assert first.images[3] == "imageFiles/walk_00/image_00003.jpg" and first.fps == 30
    pose, betas, trans = motion(1)
    np.testing.assert_array_equal(second.truth.pose, pose.reshape(FRAMES, 24, 3))
    np.testing.assert_array_equal(second.truth.betas, np.tile(betas, (FRAMES, 1)))
    np.testing.assert_array_equal(second.truth.translation, trans)
    np.testing.assert_array_equal(first.camera.focal, np.tile([1900.0, 1910], (FRAMES, 1)))
    # The files do not tell the image's size, but its middle.
    np.testing.assert_array_equal(first.camera.image_size[0], [1080, 1920])
    assert "1080 x 1920" in first.notes[0]

    held = pickle.loads((folder / "sequenceFiles/test/walk_00.pkl").read_bytes())
    rows = held["poses2d"][1]
    names = KEYPOINT_SETS["openpose-18"].names
    for name in ("nose", "left_wrist", "right_ankle"):
        there, here = names.index(name), OPENPOSE_25.index(name)
        np.testing.assert_allclose(second.keypoints.xy[0, here], rows[0, :2, there])
        np.testing.assert_allclose(second.keypoints.confidence[0, here], rows[0, 2, there])
    # Feet are not among the 18, and nobody was found in frame 4.
    assert (second.keypoints.confidence[:, OPENPOSE_25.index("left_heel")] == 0).all()
    assert (second.keypoints.confidence[4] == 0).all()
    # Every place that people give for it.
    for place in (folder / "sequenceFiles", folder / "sequenceFiles/test"):
        assert len(read_3dpw(place)) == 2


def test_3dpw_with_300_shape_numbers_and_other_ways_to_write_a_gender(tmp_path, made):
    folder = threedpw(tmp_path, made, shape_numbers=300, genders=[b"m", "F"])
    first, second = read_3dpw(folder)
    assert first.truth.betas.shape == (FRAMES, 10) and second.truth.gender == "female"
    np.testing.assert_array_equal(first.truth.betas[0], motion(0)[1])
    assert any("290 shape numbers after the tenth are left out" in note for note in first.notes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"poses2d": [np.zeros((FRAMES, 18, 3))] * 2}, r"poses2d: expected \[N, 3, 18\].*rows"),
        ({"poses2d": [np.zeros((FRAMES, 3, 25))] * 2}, r"poses2d: expected \[N, 3, 18\]"),
        ({"img_frame_ids": np.arange(2 * FRAMES)}, "are poses those of 60 Hz"),
        ({"genders": ["m", "x"]}, "genders: expected one of male, female, neutral, found 'x'"),
        ({"genders": ["m"]}, "genders: expected a list of 2, one for each person"),
        ({"betas": [np.zeros(8)] * 2}, "betas: expected 10 shape numbers or more"),
        ({"trans": [np.zeros((FRAMES, 4))] * 2}, r"person 0: trans: expected numbers \[7, 3\]"),
        ({"cam_poses": np.zeros((FRAMES, 4, 4))}, "world to camera"),
        ({"poses": [np.full((FRAMES, 72), 90.0)] * 2}, "person 0: poses: .*degrees"),
        ({"cam_intrinsics": None}, "cam_intrinsics"),
    ],
)
def test_a_file_of_3dpw_that_cannot_be_is_named(tmp_path, made, changes, message):
    folder = threedpw(tmp_path, made, **changes)
    with pytest.raises(ValueError, match=message) as info:
        read_3dpw(folder)
    assert "walk_00.pkl" in str(info.value)


def test_3dpw_of_another_frame_rate_missing_keys_and_programs(tmp_path, made):
    folder = threedpw(tmp_path, made, img_frame_ids=2.4 * np.arange(FRAMES))
    with pytest.warns(UserWarning, match=r"expected 30 images per second, found 25\.0"):
        assert read_3dpw(folder)[0].fps == 25
    file = folder / "sequenceFiles/test/walk_00.pkl"
    held = pickle.loads(file.read_bytes())
    del held["campose_valid"]
    file.write_bytes(pickle.dumps(held, protocol=2))
    with pytest.raises(ValueError, match="'campose_valid' is missing; found betas, cam_"):
        read_3dpw(folder)
    file.write_bytes(pickle.dumps(pytest.skip))
    with pytest.raises(ValueError, match="refuses"):
        read_3dpw(folder)
    with pytest.raises(ValueError, match=r"no \.pkl in .*give 3DPW's folder sequenceFiles"):
        read_3dpw(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="split: expected one of train, validation, test"):
        read_3dpw(folder, "val")


def test_emdb_tells_its_part_good_frames_and_camera(tmp_path):
    emdb(tmp_path)
    emdb(tmp_path, "P2/19_indoor_walk", emdb1=False, emdb2=True)
    (found,) = read_emdb(tmp_path)
    assert found.name == "P1_14_outdoor_climb" and found.truth.gender == "female"
    assert found.counts.tolist() == [True, True, True, False, True, True, True]
    assert found.images[0] == "P1/14_outdoor_climb/images/00000.jpg" and found.fps == 30
    np.testing.assert_array_equal(found.truth.pose.reshape(FRAMES, 72), motion(5)[0])
    np.testing.assert_array_equal(found.camera.center[0], K[:2, 2])
    # Its kp2d are the truth, projected: whoever is guided by them has seen it.
    assert found.keypoints is None
    assert [r.name for r in read_emdb(tmp_path, 2)] == ["P2_19_indoor_walk"]
    with pytest.raises(ValueError, match=r"no P\*/\*/\*_data.pkl"):
        read_emdb(tmp_path / "P1")
    with pytest.raises(ValueError, match="part: expected 1 or 2, found 3"):
        read_emdb(tmp_path, 3)
    (tmp_path / "P1/14_outdoor_climb/P1_14_outdoor_climb_data.pkl").unlink()
    with pytest.raises(ValueError, match="none of 1 sequences is of EMDB 1"):
        read_emdb(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"good_frames_mask": np.ones(5, bool)}, r"good_frames_mask: expected numbers \[7\]"),
        ({"smpl": {}}, "smpl: the key 'poses_root' is missing; found none"),
        ({"gender": "unknown"}, "gender: expected one of male, female, neutral"),
        ({"camera": {"intrinsics": K, "width": 1080}}, "camera: the key 'height' is missing"),
    ],
)
def test_a_file_of_emdb_that_cannot_be_is_named(tmp_path, changes, message):
    emdb(tmp_path, **changes)
    with pytest.raises(ValueError, match=message) as info:
        read_emdb(tmp_path)
    assert "P1_14_outdoor_climb_data.pkl" in str(info.value)


@pytest.mark.parametrize("columns", [3, 4])
def test_aspset_in_both_versions_of_its_splits(tmp_path, columns):
    folder = aspset(tmp_path, columns)
    found = read_aspset(folder)
    names = {r.name for r in found}
    assert {"1e28-0001-left", "1e28-0002-mid"} <= names
    assert len(found) == (2 if columns == 4 else 6)
    clip = next(r for r in found if r.name == "1e28-0002-mid")
    points = np.load(folder / "test/joints_3d/1e28/1e28-0002.npy")
    seen = clip.truth.seen
    np.testing.assert_allclose(clip.truth.points[seen], points[seen] / 1000, rtol=1e-6)
    assert not seen[5, ASPSET.index("left_knee")] and seen.sum() == 11 * 17 - 1
    assert clip.truth.names[12:] == (
        *("head_top_lsp", "head_h36m", "neck_lsp", "spine_h36m", "pelvis_mpii"),
    )
    # The makers evaluate ten frames a second of the test split, and all of the others.
    assert np.flatnonzero(clip.counts).tolist() == [0, 5, 10] and clip.fps == 50
    np.testing.assert_allclose(clip.camera.translation[0], [1, 0.01, 0.5])
    val = read_aspset(folder, "val")
    assert len(val) == 3 and all(r.counts.all() for r in val)


def test_aspset_that_cannot_be_is_named(tmp_path):
    folder = aspset(tmp_path)
    with pytest.raises(ValueError, match="no clip in split 'trainval'; found test, val"):
        read_aspset(folder, "trainval")
    file = folder / "test/joints_3d/1e28/1e28-0001.c3d"
    points = np.zeros((11, 16, 3))
    file.write_bytes(c3d(points, ASPSET[:16]))
    with pytest.raises(ValueError, match=r"1e28-0001.c3d: expected the joints .*pelvis"):
        read_aspset(folder)
    file.write_bytes(c3d(np.zeros((11, 17, 3)), ASPSET))
    (folder / "test/cameras/1e28/1e28-left.json").write_text('{"intrinsic_matrix": [1, 2]}')
    with pytest.raises(ValueError, match=r"1e28-left.json: intrinsic_matrix: expected numbers"):
        read_aspset(folder)
    (folder / "splits.csv").write_text("1e28,0001\n")
    with pytest.raises(ValueError, match=r"splits.csv: expected subject, clip, split"):
        read_aspset(folder)


def test_c3d_in_whole_numbers_other_units_and_damage(tmp_path):
    points = np.round(np.random.default_rng(0).normal(size=(3, 2, 3)) * 900)
    file = tmp_path / "a.c3d"
    file.write_bytes(c3d(points, ("a", "longer name"), unit="cm", scale=0.5, rate=120))
    found = read_c3d(file)
    assert found.names == ("a", "longer name") and found.fps == 120 and found.seen.all()
    np.testing.assert_allclose(found.points, points / 100, atol=1e-6)
    whole = c3d(points, ("a", "b"))
    for contents, message in (
        (whole[:-5], "cut short or damaged, copy it again"),
        (whole[:520], "cut short or damaged"),
        (b"\x02\x51" + whole[2:], "no C3D file"),
        (c3d(points, ("a", "b"), processor=86), "expected numbers of a PC .* found type 86"),
        (c3d(points, ("a", "b"), unit=""), "POINT:UNITS: expected one of mm, cm, dm, m, found no"),
        (c3d(points, ("a",)), "POINT:LABELS: expected 2 names, found 1"),
        (c3d(points, ("a", "b"), rate=0.0), "POINT:RATE: expected frames per second above 0"),
    ):
        file.write_bytes(contents)
        with pytest.raises(ValueError, match=message) as info, warnings.catch_warnings():
            read_c3d(file)
        assert "a.c3d" in str(info.value)
