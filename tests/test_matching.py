"""People in estimates and people in keypoints, told to be the same frame by frame."""

import numpy as np
import pytest

import body_model
from scorehmr_jax.commands.matching import match
from scorehmr_jax.formats.bodies.people import Tracks
from scorehmr_jax.formats.keypoints.result import DetectedPeople


def tracks(present, names=None, numbers=None):
    present = np.array(present, bool)
    count = present.shape[1]
    numbers = np.arange(count) if numbers is None else np.array(numbers)
    return Tracks(present, np.arange(len(present)), numbers, names or ("",) * count, True, "x", ())


def detections(xy, names=None, numbers=None, conf=0.9):
    """Of xy [T, P, 25, 2]."""
    count, most = xy.shape[:2]
    present = np.isfinite(xy).all((-1, -2))
    return DetectedPeople(
        np.nan_to_num(xy).astype(np.float32),
        np.where(present[..., None], conf, np.zeros(xy.shape[:-1])),
        present,
        np.full((count, most), -1),
        np.full((count, most), np.nan),
        np.arange(count) if numbers is None else np.array(numbers),
        names or ("",) * count,
        body_model.keypoint_set("openpose-25"),
    )


def test_the_closest_pairs_are_made_first_and_strangers_are_left():
    random = np.random.default_rng(0)
    shape = random.uniform(0, 100, (25, 2))
    joints = np.stack([shape, shape + np.array([60, 0])])[:, None]
    both = np.stack([joints[1, 0] + 10, joints[0, 0] - 5, joints[0, 0] + 400])[None]
    found = match(joints, tracks([[1], [1]]), detections(both), "k")
    np.testing.assert_allclose(found.keypoints.xy[0, 0], both[0, 1], atol=1e-4)
    np.testing.assert_allclose(found.keypoints.xy[1, 0], both[0, 0], atol=1e-4)
    assert found.left == [(0, 2)] and not found.without
    # Of two people close together one is not detected: the other's points are not theirs.
    one = match(joints, tracks([[1], [1]]), detections(both[:, :1]), "k")
    assert one.without == {0: [0]}
    with pytest.raises(ValueError, match="k: none of its detections lies where the estimates"):
        match(joints, tracks([[1], [1]]), detections(both[:, 2:]), "k")


def test_frames_are_the_same_by_name_or_else_by_number():
    joints = np.random.default_rng(0).uniform(0, 100, (1, 3, 25, 2))
    shown = joints[0, [2, 1]][:, None]
    ours = tracks([[1, 1, 1]], ("a.jpg", "b.jpg", "c.jpg"))
    named = match(joints, ours, detections(shown, ("c.png", "b")), "k")
    assert named.by == "names" and named.frames == 2 and named.without == {0: [0]}
    np.testing.assert_allclose(named.keypoints.xy[0, 2], shown[0, 0], atol=1e-4)
    numbered = match(joints, ours, detections(shown, numbers=[2, 1]), "k")
    assert numbered.by == "numbers" and numbered.without == {0: [0]}
    with pytest.raises(ValueError, match=r"k: none of its frames \(7 to 8\).*\(0 to 2\), by name"):
        match(joints, ours, detections(shown, numbers=[7, 8]), "k")


def test_images_of_one_name_in_several_folders_are_told_apart():
    random = np.random.default_rng(0)
    joints = random.uniform(0, 100, (1, 1, 25, 2)) + np.array([0, 3, 40])[None, :, None, None]
    ours = tracks([[1, 1, 1]], ("v/cam1/1.jpg", "v/cam2/1.jpg", "v/cam1/2.jpg"))
    names = ("w/cam1/2.png", "w/cam2/1.png", "w/cam1/1.png")
    found = match(joints, ours, detections(joints[0, [2, 1, 0]][:, None], names), "k")
    assert found.by == "names" and found.frames == 3
    np.testing.assert_allclose(found.keypoints.xy[0], joints[0], atol=1e-4)
    # A frame that the other file has of one folder alone is not taken for another's.
    one = match(joints, ours, detections(joints[0, 1][None, None], ("cam2/1.png",)), "k")
    assert one.frames == 1 and one.without == {0: [0, 2]}
    # A folder for each frame.
    count = 3000
    mine = tuple(f"a/{number}/rgb.jpg" for number in range(count))
    theirs = tuple(f"{number}/rgb.png" for number in reversed(range(count)))
    many = tracks(np.ones((1, count)), mine)
    same = np.broadcast_to(joints[:, :1], (1, count, 25, 2))
    shown = detections(np.broadcast_to(joints[0, :1, None], (count, 1, 25, 2)), theirs)
    assert match(same, many, shown, "k").frames == count
    for names in (("1.png",), ("1.png", "1.png"), ("cam2/1.png", "cam2/1.jpg")):
        shown = detections(np.tile(joints[0, 0], (len(names), 1, 1, 1)), names)
        with pytest.raises(ValueError, match=r"k: \S*1\.(png|jpg) may be v/cam\d/1\.jpg"):
            match(joints, ours, shown, "k")
