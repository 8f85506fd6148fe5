"""A first estimate from named 3D points."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bodies import close, compilations, slope

import body_model
from body_model import Skeleton
from body_model.joints import JOINT_NAMES, SMPL_24
from body_model.rotations import axis_angle_to_matrix
from scorehmr_jax.camera import pinhole, project
from scorehmr_jax.lift import LiftConfig, lift, make_lifter
from scorehmr_jax.lift_points import BodyPoints, place
from scorehmr_jax.pose_gaussian import PoseGaussian
from scorehmr_jax.types import Estimate, Keypoints2D

N = 6
EXACT = LiftConfig(noise=0.005, offset=0.0)
LIMBS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
LIMB_JOINTS = tuple(f"{side}_{limb}" for side in ("left", "right") for limb in LIMBS)


@cache
def body():
    return body_model.stand_in()


@cache
def lifter(config=EXACT):
    return make_lifter(body(), SMPL_24, config=config)


@cache
def people():
    """Usual poses of one person in any heading, 4 m before the camera."""
    rng = np.random.default_rng(0)
    prior = PoseGaussian.shipped()
    spread = np.linalg.cholesky(np.linalg.inv(np.asarray(prior.precision, np.float64)))
    angles = np.asarray(prior.mean) + 0.7 * (rng.normal(size=(N, 69)) @ spread.T).reshape(N, 23, 3)
    root = rng.normal(size=(N, 1, 3)) * 2
    pose = np.asarray(axis_angle_to_matrix(np.concatenate([root, angles], 1).astype(np.float32)))
    betas = np.broadcast_to(0.7 * rng.normal(size=10), (N, 10)).astype(np.float32)
    translation = np.array([0.3, -0.2, 4], np.float32) + np.zeros((N, 3), np.float32)
    return Estimate(pose, betas, translation)


def points_of(people, names=SMPL_24):
    skeleton = Skeleton.of(body(), names)
    return np.array(skeleton(people.pose, people.betas, people.translation))


def joints_of(estimate):
    return np.asarray(body().joints(estimate.pose, estimate.betas, estimate.translation))


def errors(found, wanted):
    return np.linalg.norm(joints_of(found) - joints_of(wanted), axis=-1)


def test_joints_are_found_again_in_any_heading():
    found, info = lifter()(points_of(people()))
    assert errors(found, people()).mean() < 0.003
    assert np.asarray(info.found).all() and np.asarray(info.placed).all()
    assert np.asarray(info.distance).max() < 0.02
    assert (
        np.abs(np.asarray(found.pose @ jnp.swapaxes(found.pose, -1, -2)) - np.eye(3)).max() < 1e-5
    )


def test_noise_becomes_less_not_more():
    points = points_of(people())
    noise = 0.02 * np.random.default_rng(1).normal(size=points.shape).astype(np.float32)
    found, _ = lifter(LiftConfig(noise=0.02, offset=0.0))(points + noise)
    assert errors(found, people()).mean() < 0.75 * np.linalg.norm(noise, axis=-1).mean()


def test_arms_over_the_head_are_followed():
    pose = np.tile(np.eye(3, dtype=np.float32), (N, 24, 1, 1))
    for side, sign in (("left", 1), ("right", -1)):
        turn = np.zeros((N, 3), np.float32)
        turn[:, 2] = sign * np.linspace(-1.3, 1.6, N)  # from beside the body to overhead
        pose[:, JOINT_NAMES.index(f"{side}_shoulder")] = axis_angle_to_matrix(turn)
    raised = Estimate(pose, people().betas, people().translation)
    found, _ = lifter(LiftConfig())(points_of(raised))
    arm = [JOINT_NAMES.index(name) for name in ("left_shoulder", "left_elbow", "left_wrist")]
    for bone in (arm[:2], arm[1:]):
        ours, theirs = (np.diff(joints_of(x)[:, bone], axis=1)[:, 0] for x in (found, raised))
        cosine = (ours * theirs).sum(-1) / np.linalg.norm(ours, axis=-1)
        assert (cosine / np.linalg.norm(theirs, axis=-1) > np.cos(np.deg2rad(12))).all()


@pytest.mark.parametrize("shared", [False, True])
def test_a_bad_sample_touches_no_other(shared):
    points, confidence = points_of(people()), np.ones((N, 24), np.float32)
    usual, _ = lifter()(points, confidence, shared_shape=shared)
    bad = points.copy()
    bad[1] = np.nan
    bad[2, 3:] = np.inf  # three points are left
    confidence[4] = 0
    confidence[5, 2:] = np.nan  # two points are left
    found, info = lifter()(bad, confidence, shared_shape=shared)
    assert np.asarray(info.found).tolist() == [True, False, True, True, False, False]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    np.testing.assert_array_equal(found.translation[1], 0)
    assert np.isnan(np.asarray(info.distance)[1]).all()
    good = np.array([0, 3])
    if shared:  # the shape is that of the frames that are left
        assert errors(found, people())[good].mean() < 0.003
        assert np.ptp(np.asarray(found.betas), axis=0).max() == 0
    else:
        close("neighbours", found.pose[good], usual.pose[good], atol=1e-5)
        close("neighbours' shape", found.betas[good], usual.betas[good], atol=1e-4)


def test_keypoints_place_hip_centred_points_before_the_camera():
    points = points_of(people())
    camera = pinhole(np.tile(np.array([640.0, 480.0], np.float32), (N, 1)), 700.0)
    keypoints = Keypoints2D(project(points, camera), np.ones((N, 24), np.float32))
    keypoints.confidence[3] = 0
    found, info = lifter()(points - points[:, :1], keypoints=keypoints, camera=camera)
    assert np.asarray(info.placed).tolist() == [True, True, True, False, True, True]
    assert np.asarray(info.found).all()
    placed = np.array([0, 1, 2, 4, 5])
    assert np.abs(np.asarray(found.translation)[placed] - [0.3, -0.2, 4]).max() < 0.02
    np.testing.assert_array_equal(found.translation[3], 0)
    seen = project(joints_of(found)[placed], jax.tree.map(lambda a: a[placed], camera))
    assert np.abs(np.asarray(seen) - np.asarray(keypoints.xy)[placed]).max() < 3


def test_a_point_may_be_a_mean_or_left_out():
    names = (*LIMB_JOINTS, "nose", ("left_hip", "right_hip"), None)
    points = points_of(people(), (*LIMB_JOINTS, "nose", "left_hip", "right_hip"))
    middle = points[:, -2:].mean(1, keepdims=True)
    given = np.concatenate([points[:, :-2], middle, np.full_like(middle, np.nan)], 1)
    found, info = lift(body(), names, given, config=EXACT)
    limbs = [JOINT_NAMES.index(name) for name in LIMB_JOINTS]
    assert errors(found, people())[:, limbs].mean() < 0.006
    assert np.isnan(np.asarray(info.distance)[:, -1]).all()
    assert np.asarray(info.distance)[:, :-1].max() < 0.02


def test_a_known_height_is_kept():
    found, _ = lifter(LiftConfig())(points_of(people()), height=1.75, shared_shape=True)
    upright = np.asarray(body().shaped(found.betas[:1]))[0, :, 1]
    assert abs(np.ptp(upright) - 1.75) < 0.015
    unknown, _ = lifter(LiftConfig())(points_of(people()), height=np.nan, shared_shape=True)
    assert np.isfinite(unknown.betas).all()
    assert np.abs(np.asarray(unknown.betas - found.betas)).max() > 1e-3


def test_the_shape_does_not_run_away():
    """Points that lie beside the body's joints in every frame say little about the shape."""
    points = points_of(people())
    left, right = JOINT_NAMES.index("left_hip"), JOINT_NAMES.index("right_hip")
    apart = points[:, left] - points[:, right]
    points[:, left] += 0.3 * apart
    points[:, right] -= 0.3 * apart
    found, _ = lifter(LiftConfig())(points, shared_shape=True)
    exact, _ = lifter(EXACT)(points, shared_shape=True)
    true = people().betas
    assert np.abs(np.asarray(found.betas)).max() < 2
    assert np.abs(found.betas - true).max() < np.abs(exact.betas - true).max()


def test_new_numbers_do_not_compile_again():
    points = points_of(people())
    jax.block_until_ready(lifter()(points))
    with compilations() as seen:
        other = make_lifter(body(), SMPL_24, config=LiftConfig(noise=0.03, offset=0.01))
        jax.block_until_ready(other(points + 0.1))
    assert not seen


def test_leading_axes_are_groups_with_a_shape_each():
    points = points_of(people()).reshape(2, 3, 24, 3)
    points[1] *= 1.08
    found, info = lifter()(points, shared_shape=True)
    assert found.pose.shape == (2, 3, 24, 3, 3) and info.distance.shape == (2, 3, 24)
    assert np.ptp(np.asarray(found.betas), axis=1).max() == 0
    assert np.nanmean(info.distance, axis=(1, 2)).max() < 0.005
    sizes = np.ptp(np.asarray(body().shaped(found.betas[:, 0]))[..., 1], axis=1)
    assert abs(sizes[1] / sizes[0] - 1.08) < 0.02


@pytest.mark.slow
def test_derivatives_are_finite_and_right():
    points = points_of(people())[:2]
    confidence = np.ones((2, 24), np.float32)
    confidence[0, 5] = 0
    confidence[1] = 0
    run = make_lifter(body(), SMPL_24, config=LiftConfig(steps=2))

    @jax.jit
    def height(points, confidence):
        found, _ = run(points, confidence)
        return body().joints(found.pose, found.betas, found.translation)[..., 20, 1].sum()

    by_points, by_confidence = jax.grad(height, (0, 1))(points, confidence)
    assert np.isfinite(by_points).all() and np.isfinite(by_confidence).all()
    direction = np.zeros_like(points)
    direction[0, 20] = [0.2, 1, 0.1]
    wanted = slope(lambda p: height(p, confidence), points, direction, 2e-3)
    assert abs(float((by_points * direction).sum()) - wanted) < 0.05 * abs(wanted)
    np.testing.assert_array_equal(by_points[1], 0)


def test_arms_are_the_derivatives_of_the_points():
    """Turning joints by w about their places moves a point by the sum of w x arm."""
    names = ("left_wrist", "nose", ("left_hip", "right_ankle"), "left_heel")
    stiff = replace(body(), pose_directions=0 * body().pose_directions)
    points = jax.tree.map(jnp.asarray, BodyPoints.of(stiff, names))
    pose, betas = jnp.moveaxis(people().pose[:1], 0, -1), people().betas[:1].T
    rng = np.random.default_rng(0)
    turn, change = rng.normal(size=(24, 3)), rng.normal(size=(10, 1))

    @jax.jit
    def compared(turn, change):
        placed = place(points, pose, betas)
        world = placed.rotations[..., 0]
        parents = world @ jnp.swapaxes(pose[..., 0], -1, -2)

        def moved(step):
            turned = axis_angle_to_matrix(step * turn) @ world
            relative = jnp.swapaxes(parents, -1, -2) @ turned
            return place(points, relative[..., None], betas + step * change).points

        moves = jax.jvp(moved, (0.0,), (1.0,))[1]
        by_turn = jnp.cross(turn, placed.arms[..., 0]).sum(1)[..., None]
        return moves, by_turn + jnp.einsum("kxbm,bm->kxm", placed.by_shape, change)

    moves, wanted = compared(turn.astype(np.float32), change.astype(np.float32))
    assert np.abs(moves).max() > 0.1
    close("moves", moves, wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ("left_hand_tip", *SMPL_24[1:])}, "left_hand_tip"),
        ({"points": np.zeros((N, 23, 3))}, "24 names"),
        ({"points": 1000 * np.random.default_rng(0).normal(size=(N, 24, 3))}, "metres"),
        ({"confidence": np.ones((N, 23))}, "confidence"),
        ({"keypoints": Keypoints2D(np.zeros((N, 24, 2)), np.ones((N, 24)))}, "camera"),
        (
            {
                "keypoints": Keypoints2D(np.zeros((N, 24, 2)), np.ones((N, 24))),
                "camera": replace(pinhole(np.ones((N, 2))), distortion=np.zeros((N, 5))),
            },
            "undistort",
        ),
        ({"height": 175.0}, "height: expected metres"),
    ],
)
def test_wrong_input_is_named(change, message):
    given = {"names": SMPL_24, "points": np.zeros((N, 24, 3))} | change
    with pytest.raises(ValueError, match=message):
        lift(body(), **given)


def test_a_gaussian_learns_mean_spread_and_mirror_image():
    rng = np.random.default_rng(0)
    mean = np.zeros((24, 3))
    mean[JOINT_NAMES.index("left_elbow")] = [0, -1, 0]
    mean[JOINT_NAMES.index("right_elbow")] = [0, 1, 0]
    poses = mean + 0.2 * rng.normal(size=(20000, 24, 3))
    learnt = PoseGaussian.fit(poses, np.full(24, 0.1))
    close("mean", learnt.mean, mean[1:], atol=0.01)
    variance = np.diag(np.linalg.inv(np.asarray(learnt.precision, np.float64)))
    close("variance", variance, np.full(69, 0.2**2 + 0.1**2), rtol=0.05)
    left, right = (JOINT_NAMES.index(f"{side}_elbow") - 1 for side in ("left", "right"))
    close("limits", learnt.low[left][1], -learnt.high[right][1], atol=1e-5)
