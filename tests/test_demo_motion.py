"""The demo's motion: rotations, smooth, feet on the floor, joints that bend as a person's do."""

import jax
import numpy as np
import pytest

from body_model.joints import JOINT_NAMES, SMPL_LANDMARKS
from body_model.open.stand_in import stand_in
from body_model.rotations import matrix_to_axis_angle
from scorehmr_jax.simulation.authored_motion import FPS, FRAMES, authored_motion

SOLES = [
    SMPL_LANDMARKS[f"{side}_{part}"]
    for side in ("left", "right")
    for part in ("big_toe", "small_toe", "heel")
]


@pytest.fixture(scope="module")
def motion():
    poses, translation = authored_motion()
    return poses.astype(np.float32), translation.astype(np.float32)


@pytest.fixture(scope="module")
def joints(motion):
    return np.asarray(jax.jit(stand_in().joints)(motion[0], None, motion[1]))


@pytest.fixture(scope="module")
def degrees(motion):
    """Axis-angle of every joint by name, degrees [T, 3]."""
    angles = np.degrees(np.asarray(jax.jit(matrix_to_axis_angle)(motion[0])))
    return {name: angles[:, j] for j, name in enumerate(JOINT_NAMES)}


def test_poses_are_rotations(motion):
    poses, translation = motion
    assert poses.shape == (FRAMES, 24, 3, 3) and translation.shape == (FRAMES, 3)
    np.testing.assert_allclose(
        poses @ poses.swapaxes(-1, -2), np.broadcast_to(np.eye(3), poses.shape), atol=1e-5
    )
    np.testing.assert_allclose(np.linalg.det(poses), 1, atol=1e-5)


def test_it_is_smooth(joints):
    speed = np.linalg.norm(np.diff(joints, axis=0), axis=-1) * FPS
    assert speed.max() < 6  # m/s: a swinging foot is the fastest
    acceleration = np.linalg.norm(np.diff(joints, n=2, axis=0), axis=-1) * FPS**2
    assert acceleration.max() < 60  # m/s^2, at a heel strike
    assert acceleration.mean() < 4


def test_one_foot_is_always_on_the_floor_and_does_not_slide(motion):
    poses, translation = motion
    vertices = np.asarray(jax.jit(stand_in().vertices)(poses, None, translation))
    soles = vertices[:, SOLES].reshape(FRAMES, 2, 3, 3)
    lowest = soles[..., 1].min(-1)
    assert np.abs(lowest.min(1)).max() < 0.05
    # The toes: of the planted foot they move least while the body walks on.
    toes = soles[:, :, :2].mean(2)
    slide = np.linalg.norm(np.diff(toes[..., [0, 2]], axis=0), axis=-1).min(1) * FPS
    assert np.median(slide) < 0.02 and np.percentile(slide, 90) < 0.5


def test_knees_and_elbows_bend_the_right_way(degrees):
    for side, sign in (("left", 1), ("right", -1)):
        knee, elbow = degrees[f"{side}_knee"], sign * degrees[f"{side}_elbow"]
        assert knee[:, 0].min() > 0 and 80 < knee[:, 0].max() < 130
        assert elbow[:, 1].max() < 0 and elbow[:, 1].min() > -120
        np.testing.assert_allclose(knee[:, 1:], 0, atol=1e-3)


def test_it_walks_forward_stops_squats_and_waves(joints):
    pelvis, wrist = joints[:, 0], joints[:, JOINT_NAMES.index("right_wrist")]
    head = joints[:, JOINT_NAMES.index("head")]
    assert pelvis[45, 2] - pelvis[0, 2] > 1.2
    assert pelvis[:, 1].max() - pelvis[:, 1].min() > 0.25
    assert (wrist[100:, 1] > head[100:, 1]).all()
