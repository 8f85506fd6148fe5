"""The plain-optimisation baseline."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from body_model import Skeleton
from body_model.joints import SMPL_24
from body_model.open.stand_in import stand_in
from body_model.rotations import axis_angle_to_matrix, matrix_to_6d
from scorehmr_jax.baselines.adam import AdamConfig, adam
from scorehmr_jax.camera import pinhole, project
from scorehmr_jax.guidance import keypoints_2d, smooth
from scorehmr_jax.moments import Moments, adam_step
from scorehmr_jax.screening import (
    DIVERGED,
    NO_EVIDENCE,
    NOT_FINITE,
    NOT_IN_FRONT,
    NOT_ROTATION,
    OK,
    PADDING,
)
from scorehmr_jax.types import Estimate, Keypoints2D

N = 4
CONFIG = AdamConfig(steps=60)


@pytest.fixture(scope="module")
def skeleton():
    # Native joints alone: a small program compiles fast.
    return Skeleton.of(stand_in(), SMPL_24)


@pytest.fixture(scope="module")
def scene(skeleton):
    keys = jax.random.split(jax.random.key(0), 3)
    turn = axis_angle_to_matrix(0.3 * jax.random.normal(keys[0], (N, 24, 3)))
    pose = turn.at[:, 0].set(jnp.diag(jnp.array([1.0, -1.0, -1.0])))
    betas = jax.random.normal(keys[1], (N, 10))
    translation = jnp.tile(jnp.array([0.1, 0.2, 5.0]), (N, 1))
    camera = pinhole(jnp.tile(jnp.array([1000.0, 1000.0]), (N, 1)), 1200.0)
    xy = project(skeleton(pose, betas, translation), camera)
    wrong = axis_angle_to_matrix(0.1 * jax.random.normal(keys[2], (N, 24, 3))) @ pose
    estimate = Estimate(wrong, betas, translation + jnp.array([0.05, 0.0, 0.0]))
    return estimate, Keypoints2D(xy, jnp.ones((N, 24))), camera


@pytest.fixture(scope="module")
def run(skeleton):
    return jax.jit(
        lambda estimate, term, pull, mask: adam(skeleton, estimate, term, pull, CONFIG, mask)
    )


EVERY = jnp.ones(N, bool)


def pixels(skeleton, body, scene):
    seen = project(skeleton(body.pose, body.betas, body.translation), scene[2])
    return np.linalg.norm(seen - scene[1].xy, axis=-1).mean(-1)


def test_free_optimisation_reaches_the_keypoints(skeleton, scene, run):
    refined, info = run(scene[0], keypoints_2d(*scene[1:]), 0.0, EVERY)
    assert np.all(pixels(skeleton, refined, scene) < 0.25 * pixels(skeleton, scene[0], scene))
    assert np.all(info.losses[-1] < 0.1 * info.losses[0])
    assert info.losses.shape == (CONFIG.steps, N)
    assert np.all(info.status == OK)
    np.testing.assert_allclose(
        refined.pose @ jnp.swapaxes(refined.pose, -1, -2),
        np.broadcast_to(np.eye(3), (N, 24, 3, 3)),
        atol=1e-5,
    )


def test_a_stronger_pull_stays_nearer_to_the_estimate(scene, run):
    start = matrix_to_6d(scene[0].pose).reshape(N, -1)
    moved = [
        float(np.abs(run(scene[0], keypoints_2d(*scene[1:]), w, EVERY)[0].pose_6d - start).mean())
        for w in (0.0, 100.0, 1e5)
    ]
    assert moved[0] > 2 * moved[1] > 4 * moved[2]


def test_another_pull_or_weight_does_not_recompile(scene, run):
    run(scene[0], keypoints_2d(*scene[1:]), 1.0, EVERY)
    before = run._cache_size()
    run(scene[0], keypoints_2d(*scene[1:], weight=0.5), 2.0, EVERY)
    assert run._cache_size() == before


def test_a_bad_sample_keeps_its_estimate_and_changes_no_other(scene, run):
    good = run(scene[0], keypoints_2d(*scene[1:]), 1.0, EVERY)[0]
    moved = scene[0].translation.at[1].set(jnp.nan).at[2, 2].set(-5.0)
    spoilt = replace(scene[0], translation=moved)
    refined, info = run(spoilt, keypoints_2d(*scene[1:]), 1.0, EVERY.at[3].set(False))
    assert info.status.tolist() == [OK, NOT_FINITE, NOT_IN_FRONT, PADDING]
    for kept in (1, 2, 3):
        np.testing.assert_array_equal(refined.pose[kept], scene[0].pose[kept])
        np.testing.assert_array_equal(refined.translation[kept], moved[kept])
    np.testing.assert_allclose(refined.pose[0], good.pose[0], atol=1e-5)


def test_no_rotation_and_no_evidence_are_kept(scene, run):
    estimate, keypoints, camera = scene
    bad = replace(estimate, pose=estimate.pose.at[1].set(0))
    unseen = replace(keypoints, confidence=keypoints.confidence.at[2].set(0))
    refined, info = run(bad, keypoints_2d(unseen, camera), 1.0, EVERY)
    assert info.status.tolist() == [OK, NOT_ROTATION, NO_EVIDENCE, OK]
    for kept in (1, 2):
        np.testing.assert_array_equal(refined.pose[kept], bad.pose[kept])


def test_a_camera_that_walks_through_the_body_keeps_the_estimate(scene, skeleton):
    config = AdamConfig(steps=3, camera_rate=30.0)
    refined, info = adam(skeleton, scene[0], keypoints_2d(*scene[1:]), config=config)
    lost = np.flatnonzero(info.status == DIVERGED)
    assert lost.size
    np.testing.assert_array_equal(refined.translation[lost], scene[0].translation[lost])
    assert (refined.translation[:, 2] > 0).all()


def test_a_term_that_diverges_is_flagged(scene, skeleton):
    def infinite(hypothesis):
        return jnp.where(jnp.arange(N) == 2, jnp.nan, 1.0) * hypothesis.translation[..., 2]

    config = AdamConfig(steps=3)
    refined, info = adam(skeleton, scene[0], [infinite, smooth()], config=config)
    # The neighbours in a video go on without it.
    assert info.status.tolist() == [OK, OK, DIVERGED, OK]
    np.testing.assert_array_equal(refined.translation[2], scene[0].translation[2])


def test_precision_is_that_of_the_pose(scene, skeleton):
    with jax.enable_x64(True):
        refined, info = jax.eval_shape(
            lambda: adam(skeleton, scene[0], keypoints_2d(*scene[1:]), 1.0, CONFIG)
        )
    assert {leaf.dtype for leaf in jax.tree.leaves((refined, info.losses))} == {
        np.dtype(np.float32)
    }


def test_shapes_that_do_not_fit_are_refused(scene, skeleton):
    with pytest.raises(ValueError, match=r"estimate.pose: expected \[..., N, 24, 3, 3\]"):
        adam(skeleton, replace(scene[0], pose=scene[0].pose[:, :23]), smooth())
    with pytest.raises(ValueError, match=r"mask: expected one for each estimate \(4,\)"):
        adam(skeleton, scene[0], smooth(), mask=jnp.ones(3, bool))


def test_the_step_has_a_gradient_also_where_nothing_has_pulled():
    """As on a sample without evidence: the root in Adam's step has no slope at 0."""

    rest = Moments.at_rest(jnp.zeros((2, 1)))

    def moved(slope):
        return adam_step(jnp.zeros((2, 1)), rest, slope, jnp.array(1), 0.1)[0]

    slope = jnp.array([[0.0], [3.0]])
    np.testing.assert_allclose(moved(slope), [[0], [-0.1]], atol=1e-6)
    derivative = jax.grad(lambda slope: moved(slope).sum())(slope)
    assert np.isfinite(derivative).all()
    np.testing.assert_allclose(derivative[1], 0, atol=1e-6)  # of any size, it is the same step


def test_it_runs_under_strict_promotion(scene, skeleton):
    with jax.numpy_dtype_promotion("strict"):
        terms = [keypoints_2d(*scene[1:]), smooth()]
        refined, _ = jax.eval_shape(lambda: adam(skeleton, scene[0], terms))
    assert refined.pose.shape == (N, 24, 3, 3)


def test_terms_of_a_video_count(scene, skeleton):
    refined, _ = adam(skeleton, scene[0], smooth(), config=AdamConfig(steps=40))

    def change(pose):
        return float(np.square(np.diff(matrix_to_6d(pose), axis=0)).sum())

    assert change(refined.pose) < 0.5 * change(scene[0].pose)


def test_one_free_shape_explains_keypoints_of_another_body(scene, skeleton):
    true = scene[0].betas[:1]
    xy = project(skeleton(scene[0].pose, jnp.repeat(true, N, 0), scene[0].translation), scene[2])
    start = replace(scene[0], betas=jnp.zeros_like(scene[0].betas).at[3].set(jnp.nan))
    config = AdamConfig(steps=60, pose_rate=1e-4, camera_rate=1e-3, shape_rate=0.05)
    config = replace(config, share_shape=True)
    term = keypoints_2d(Keypoints2D(xy, scene[1].confidence), scene[2])
    refined, info = adam(skeleton, start, term, config=config)
    assert info.status.tolist() == [OK, OK, OK, NOT_FINITE]
    assert np.ptp(refined.betas[:3], axis=0).max() == 0 and np.isnan(refined.betas[3]).all()
    assert np.all(info.losses[-1][:3] < 0.3 * info.losses[0][:3])
