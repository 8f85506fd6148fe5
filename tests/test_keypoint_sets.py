"""Keypoint sets: names, mirror images, the way from one to another, and sets out of small files."""

import json
import math

import jax.numpy as jnp
import numpy as np
import pytest

import body_model
from body_model.joints import COCO_17, JOINT_NAMES, OPENPOSE_25, SMPL_24, coco_to_openpose
from body_model.keypoint_conversion import convert_keypoints, swap_sides
from body_model.keypoint_sets import (
    KEYPOINT_SETS,
    STAND_INS,
    check_names,
    keypoint_set,
    mirrored_name,
)
from scorehmr_jax.formats.conventions import (
    BY_COUNT,
    given_set,
    read_keypoint_set,
    set_of_count,
    set_of_names,
)

COUNTS = {
    "smpl-24": 24,
    "smpl-45": 45,
    "openpose-25": 25,
    "openpose-18": 18,
    "coco-17": 17,
    "coco-wholebody-133": 133,
    "halpe-26": 26,
    "halpe-136": 136,
    "h36m-17": 17,
    "mpii-16": 16,
    "mediapipe-33": 33,
    "mhr70": 70,
}
RANDOM = np.random.default_rng(0)


def points(of, axes=2):
    return RANDOM.uniform(1, 100, (3, len(KEYPOINT_SETS[of]), axes)), RANDOM.uniform(
        0.1, 1, (3, len(KEYPOINT_SETS[of]))
    )


def test_the_table_has_these_sets():
    assert {name: len(each) for name, each in KEYPOINT_SETS.items()} == COUNTS


@pytest.mark.parametrize("name", COUNTS)
def test_every_set_is_consistent(name):
    of = KEYPOINT_SETS[name]
    check_names(of.names, name)
    mirror = np.array(of.mirror)
    np.testing.assert_array_equal(mirror[mirror], range(len(of)))
    assert {*of.aliases.values()} <= {*of.names}
    assert all(part in of.names for parts in of.means.values() for part in parts)
    # An offset is of a point that the set has, or that it can be made of.
    assert all(of.parts(point)[0] for point in of.offsets)


# Where a few points lie in the orders that the detectors' own documentation gives.
PLACES = [
    ("openpose-25", {0: "nose", 1: "mid_shoulder", 8: "mid_hip", 19: "left_big_toe"}),
    ("openpose-18", {1: "mid_shoulder", 8: "right_hip", 14: "right_eye", 17: "left_ear"}),
    ("halpe-26", {17: "head_top", 18: "neck", 19: "mid_hip", 21: "right_big_toe", 24: "left_heel"}),
    (
        "halpe-136",
        {34: "face_8", 94: "left_hand_root", 98: "left_thumb", 115: "right_hand_root"},
    ),
    (
        "coco-wholebody-133",
        {17: "left_big_toe", 20: "right_big_toe", 31: "face_8", 91: "left_hand_root"},
    ),
    ("h36m-17", {0: "mid_hip", 1: "right_hip", 4: "left_hip", 8: "thorax_h36m", 16: "right_wrist"}),
    ("mpii-16", {0: "right_ankle", 6: "pelvis_mpii", 9: "head_top", 15: "left_wrist"}),
    (
        "mediapipe-33",
        {2: "left_eye", 5: "right_eye", 9: "left_mouth", 11: "left_shoulder", 32: "right_big_toe"},
    ),
    (
        "mhr70",
        {5: "left_shoulder", 9: "left_hip", 17: "left_heel", 21: "right_thumb", 41: "right_wrist"},
    ),
    ("mhr70", {62: "left_wrist", 63: "left_olecranon", 68: "right_acromion", 69: "neck"}),
]


@pytest.mark.parametrize(("name", "places"), PLACES)
def test_points_stand_where_the_detector_has_them(name, places):
    assert {i: KEYPOINT_SETS[name].names[i] for i in places} == places


def test_faces_are_mirrored_as_their_contour_runs():
    of = KEYPOINT_SETS["halpe-136"]
    swapped = {0: 16, 7: 9, 8: 8, 17: 26, 30: 30, 31: 35, 36: 45, 41: 46, 48: 54, 59: 55, 67: 65}
    for here, there in swapped.items():
        assert of.mirror[26 + here] == 26 + there


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("BODY_25", "openpose-25"),
        ("COCO", "coco-17"),
        ("coco_17", "coco-17"),
        ("Halpe26", "halpe-26"),
        ("MediaPipe", "mediapipe-33"),
        ("MHR-70", "mhr70"),
    ],
)
def test_sets_are_found_under_the_names_people_use(said, name):
    assert keypoint_set(said) is KEYPOINT_SETS[name]


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'cocoo-17' is not known \(did you mean coco-17\?\)"):
        keypoint_set("cocoo-17")
    with pytest.raises(ValueError, match="left_hip given more than once"):
        keypoint_set(["left_hip", "left_hip"])
    with pytest.raises(ValueError, match="left_hip without the point of the other side, right_hip"):
        keypoint_set(["left_hip", "nose"])


def test_coco_becomes_openpose_as_it_always_did():
    keypoints = RANDOM.uniform(0, 1, (4, 17, 3))
    xy, confidence = convert_keypoints(keypoints[..., :2], keypoints[..., 2], "coco-17")
    expected = coco_to_openpose(keypoints)
    np.testing.assert_array_equal(xy, expected[..., :2])
    np.testing.assert_array_equal(confidence, expected[..., 2])


def test_openpose_becomes_itself():
    xy, confidence = points("openpose-25")
    found, known = convert_keypoints(xy, confidence, "openpose-25")
    np.testing.assert_array_equal(found, xy)
    np.testing.assert_array_equal(known, confidence)


@pytest.mark.parametrize("target", COUNTS)
@pytest.mark.parametrize("name", COUNTS)
def test_there_and_back_leaves_what_both_sets_have(name, target):
    xy, confidence = points(name, axes=3)
    there = convert_keypoints(xy, confidence, name, target)
    back, known = convert_keypoints(*there, target, name)
    source, other = KEYPOINT_SETS[name], KEYPOINT_SETS[target]
    shared = [i for i, point in enumerate(source.names) if point in other.names]
    np.testing.assert_array_equal(back[:, shared], xy[:, shared])
    np.testing.assert_array_equal(known[:, shared], confidence[:, shared])
    # What neither has nor can be made of the other's is marked as not seen.
    lacking = [i for i, point in enumerate(other.names) if not source.parts(point)[0]]
    assert not there[1][:, lacking].any() and not there[0][:, lacking].any()


def test_a_mean_is_as_sure_as_its_weaker_part():
    xy, confidence = points("mediapipe-33")
    hips = [KEYPOINT_SETS["mediapipe-33"].names.index(f"{s}_hip") for s in ("left", "right")]
    found, known = convert_keypoints(xy, confidence, "mediapipe-33", ["pelvis", "nose"])
    np.testing.assert_allclose(found[:, 0], xy[:, hips].mean(1))
    np.testing.assert_array_equal(known[:, 0], confidence[:, hips].min(1))
    confidence[1, hips[1]] = 0
    assert convert_keypoints(xy, confidence, "mediapipe-33")[1][1, OPENPOSE_25.index("pelvis")] == 0


def test_points_that_lie_far_from_smpls_can_be_left_out():
    xy, confidence = points("mediapipe-33")
    all_known = convert_keypoints(xy, confidence, "mediapipe-33")[1]
    known = convert_keypoints(xy, confidence, "mediapipe-33", max_offset=50)[1]
    gone = {OPENPOSE_25[i] for i in np.flatnonzero((all_known > 0).all(0) & (known == 0).all(0))}
    assert gone == {"neck", "pelvis", "left_ear", "right_ear"}
    assert KEYPOINT_SETS["mediapipe-33"].parts("pelvis")[1] == 91
    # An unknown distance is no reason: COCO's hips stay.
    known = convert_keypoints(*points("coco-17"), "coco-17", max_offset=50)[1]
    assert known[:, OPENPOSE_25.index("left_hip")].all()
    assert not known[:, OPENPOSE_25.index("neck")].any()
    assert math.isnan(KEYPOINT_SETS["coco-17"].parts("left_hip")[1])


def test_stand_ins_lie_as_far_off_as_the_table_says():
    try:
        body = body_model.open_body()
    except (ImportError, ValueError):
        pytest.skip("needs the open body's data")
    joints = np.asarray(body.rest_joints(np.zeros((1, 10), np.float32)))[0] * 1000
    place = dict(zip(JOINT_NAMES, joints, strict=True))
    place["mid_hip"] = (place["left_hip"] + place["right_hip"]) / 2
    place["mid_shoulder"] = (place["left_shoulder"] + place["right_shoulder"]) / 2
    checked = 0
    for name, ways in STAND_INS.items():
        for parts, offset in ways:
            if not math.isnan(offset):
                middle = np.mean([place[part] for part in parts], axis=0)
                assert np.linalg.norm(middle - place[name]) == pytest.approx(offset, abs=0.6)
                checked += 1
    assert checked == 6


def test_points_are_found_on_a_body():
    hips = ("left_hip", "right_hip")
    assert KEYPOINT_SETS["h36m-17"].on_body[:2] == (hips, "right_hip")
    assert KEYPOINT_SETS["h36m-17"].on_body[7:11] == (None,) * 4
    assert KEYPOINT_SETS["openpose-25"].on_body[1] == ("left_shoulder", "right_shoulder")
    assert KEYPOINT_SETS["smpl-24"].on_body == SMPL_24
    on_body = KEYPOINT_SETS["mediapipe-33"].on_body
    assert on_body[17:19] == (None, None) and on_body[31] == "left_big_toe"


def test_another_number_of_points_is_refused():
    with pytest.raises(ValueError, match=r"keypoints of coco-17: expected points \[..., 17, D\]"):
        convert_keypoints(np.zeros((25, 2)), np.zeros(25), "coco-17")
    with pytest.raises(ValueError, match="expected the 17 points of coco-17"):
        swap_sides(np.zeros((25, 2)), "coco-17")


def test_sides_are_exchanged():
    xy, confidence = points("coco-17")
    swapped = swap_sides(xy, "coco-17")
    for i, name in enumerate(COCO_17):
        np.testing.assert_array_equal(swapped[:, COCO_17.index(mirrored_name(name))], xy[:, i])
    np.testing.assert_array_equal(swap_sides(swapped, "coco-17"), xy)
    assert swap_sides(confidence, "coco-17", axis=-1).shape == confidence.shape
    # Arrays of JAX stay with JAX.
    assert isinstance(swap_sides(jnp.asarray(xy), "coco-17"), type(jnp.asarray(xy)))


def test_names_of_other_packages_are_understood():
    halpe = [*COCO_17, "head", "neck", "hip", "left_big_toe", "right_big_toe", "left_small_toe"]
    halpe += ["right_small_toe", "left_heel", "right_heel"]
    assert set_of_names(halpe, "f") is KEYPOINT_SETS["halpe-26"]
    # MMPose names Human3.6M's ankles feet, and had the left leg first for a while.
    legs = ["hip", "knee", "foot"]
    left, right = ([f"{side}_{joint}" for joint in legs] for side in ("left", "right"))
    trunk = ["spine", "thorax", "neck_base", "head"]
    arms = [f"{s}_{j}" for s in ("left", "right") for j in ("shoulder", "elbow", "wrist")]
    assert set_of_names(["root", *right, *left, *trunk, *arms], "f") is KEYPOINT_SETS["h36m-17"]
    other = set_of_names(["root", *left, *right, *trunk, *arms], "f")
    assert other.names[1:4] == ("left_hip", "left_knee", "left_ankle")
    # Of whole bodies everybody names faces in another way.
    whole = [*COCO_17, *(f"kp_{i}" for i in range(116))]
    assert set_of_names(whole, "f") is KEYPOINT_SETS["coco-wholebody-133"]
    # Sides in other people's spelling.
    spelt = set_of_names(["RASI", "LASI", "RIGHT_HIP", "LEFT_HIP", "LBigToe", "RBigToe"], "f")
    assert spelt.names == (
        *("right_asi", "left_asi", "right_hip", "left_hip", "left_big_toe", "right_big_toe"),
    )
    # Points of no known set keep their names.
    assert set_of_names(["Left-Hip", "right_hip", "hip"], "f").names == (
        *("left_hip", "right_hip", "mid_hip"),
    )


def test_the_number_of_points_tells_the_set():
    assert set_of_count(26, "f") is KEYPOINT_SETS["halpe-26"]
    assert len(BY_COUNT) == 9
    with pytest.raises(ValueError, match=r"f: 21 points per person, .* 17 \(coco-17\)"):
        set_of_count(21, "f")


TOML = """
name = "lab"
names = ["left_hip", "right_hip", "left_asis", "right_asis", "c7"]
[means]
pelvis = ["left_asis", "right_asis"]
[offsets]
pelvis = 30
c7 = -1
"""


def test_a_set_of_ones_own_is_described_in_a_small_file(tmp_path):
    path = tmp_path / "lab.toml"
    path.write_text(TOML)
    of = read_keypoint_set(path)
    assert (of.name, len(of)) == ("lab", 5)
    assert of.parts("pelvis") == ((2, 3), 30)
    assert math.isnan(of.parts("c7")[1])
    xy, confidence = np.arange(10.0).reshape(5, 2), np.ones(5)
    found, known = convert_keypoints(xy, confidence, of, ["pelvis", "neck"])
    np.testing.assert_array_equal(found[0], [5, 6])
    np.testing.assert_array_equal(known, [1, 0])
    other = tmp_path / "same.json"
    other.write_text(json.dumps({"names": [*SMPL_24]}))
    assert given_set(str(other)).names == SMPL_24


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names = [", "is no TOML"),
        ("points = 3", "no key names; expected names"),
        ('names = "left_hip"', "names: expected a list of names, found 'left_hip'"),
        ('names = ["left_hip"]', "left_hip without the point of the other side"),
        ('names = ["a", "a"]', "a given more than once"),
        ('names = ["a"]\n[means]\nb = ["c"]', "means: b: 'c' is not among the names"),
        ('names = ["a"]\n[offsets]\na = "far"', "offsets: a: expected millimetres, found 'far'"),
    ],
)
def test_a_bad_description_is_named(text, message, tmp_path):
    path = tmp_path / "set.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_keypoint_set(path)
    assert str(path) in str(error.value)
