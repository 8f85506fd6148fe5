"""Left and right exchanged by a detector over time."""

import numpy as np
import pytest

from body_model.joints import COCO_17
from scorehmr_jax.detectors.mediapipe_decode import MEDIAPIPE_33
from scorehmr_jax.detectors.protocol import Detections
from scorehmr_jax.detectors.sides import exchanged_sides, mirrored, with_sides_put_right

FRAMES = 60
WRONG = np.isin(np.arange(FRAMES), [0, 17, 30, 31, 32, 33, 40, 42, FRAMES - 1])


def walk(turn=0.0, noise=0.005):
    """A person who walks and turns on the spot, metres [T, 17, 3], x right, y down."""
    rng, time = np.random.default_rng(0), np.arange(FRAMES) / 30
    side = np.array([1 if n.startswith("left") else -1 if "right" in n else 0 for n in COCO_17])
    up = {"nose": 0.7, "eye": 0.72, "ear": 0.7, "shoulder": 0.5, "elbow": 0.25, "wrist": 0.0}
    up |= {"hip": 0.0, "knee": -0.4, "ankle": -0.8}
    part = [name.split("_")[-1] for name in COCO_17]
    swing = np.array(
        [0.2 * (p in ("wrist", "ankle")) + 0.1 * (p in ("knee", "elbow")) for p in part]
    )
    points = np.zeros((FRAMES, 17, 3))
    points[..., 0] = 0.17 * side
    points[..., 1] = [-up[p] for p in part]
    points[..., 2] = swing * side * np.sin(2 * np.pi * time)[:, None]
    angle = 0.3 + turn * time
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    x, z = points[..., 0].copy(), points[..., 2].copy()
    points[..., 0], points[..., 2] = cos * x + sin * z, cos * z - sin * x
    return points + rng.normal(scale=noise, size=points.shape)


def detected(points, wrong):
    """Pixels and metres as a detector gives them that exchanges sides in some frames."""
    swap = np.array(mirrored(COCO_17))
    points = np.where(wrong[:, None, None], points[:, swap], points)
    return 300 * points[..., :2] + 500, points


@pytest.mark.parametrize("turn", [0.0, 3.0])
def test_exchanged_frames_are_found_and_no_others(turn):
    points = walk(turn)
    for wrong in (WRONG, np.zeros(FRAMES, bool)):
        xy, seen = detected(points, wrong)
        np.testing.assert_array_equal(exchanged_sides(COCO_17, xy, seen), wrong)
    xy, seen = detected(walk(), WRONG)
    np.testing.assert_array_equal(exchanged_sides(COCO_17, xy), WRONG)  # without depth


def test_frames_and_points_that_are_not_seen_say_nothing():
    xy, seen = detected(walk(), WRONG)
    xy[20:25], seen[20:25] = np.nan, np.nan
    xy[28:45, 9], seen[28:45, 9] = np.nan, np.nan  # a wrist
    np.testing.assert_array_equal(exchanged_sides(COCO_17, xy, seen), WRONG)
    assert not exchanged_sides(COCO_17, np.full_like(xy, np.nan)).any()
    assert exchanged_sides(COCO_17, xy[:0]).shape == (0,)


def test_everything_that_has_a_side_is_put_right():
    points = walk()
    xy, _ = detected(points, WRONG)
    confidence = np.where(WRONG[:, None], *np.random.default_rng(0).random((2, 17)))
    nobody = np.full((1, FRAMES, 17), np.nan)
    found = Detections(
        COCO_17,
        np.concatenate([xy[None], nobody[..., None].repeat(2, -1)]),
        np.concatenate([confidence[None], 0 * np.nan_to_num(nobody)]),
        None,
        np.zeros((2, FRAMES, 4)),
        np.concatenate([np.ones((1, FRAMES)), np.zeros((1, FRAMES))]),
        np.full((FRAMES, 2), 1000.0),
    )
    right, exchanged = with_sides_put_right(found)
    np.testing.assert_array_equal(exchanged, [WRONG, np.zeros(FRAMES, bool)])
    np.testing.assert_allclose(right.xy[0], 300 * points[..., :2] + 500)
    swap = np.array(mirrored(COCO_17))
    np.testing.assert_array_equal(right.confidence[0, WRONG], confidence[WRONG][:, swap])
    np.testing.assert_array_equal(right.confidence[0, ~WRONG], confidence[~WRONG])
    assert np.isnan(right.xy[1]).all()


def test_sides_are_told_by_names():
    for names in (COCO_17, MEDIAPIPE_33):
        for name, other in zip(names, (names[i] for i in mirrored(names)), strict=True):
            if name.startswith("left_"):
                assert other == name.replace("left_", "right_")
            elif not name.startswith("right_"):
                assert other == name
    assert mirrored(("left_hip", "nose")) == (0, 1)  # no other side: itself
