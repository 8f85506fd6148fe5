"""Metrics against the released code's, and what they promise beyond it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorehmr_jax.evaluation import metrics


@pytest.fixture(scope="module")
def released(golden):
    return dict(np.load(golden / "metrics.npz"))


def points(seed, *shape):
    return jax.random.normal(jax.random.key(seed), (*shape, 3))


def rotation(seed):
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q))


def test_alignment_is_the_released_one_also_for_the_reflection(released):
    found = metrics.similarity_align(released["S1"], released["S2"])
    np.testing.assert_allclose(found, released["S1_hat"], atol=1e-5)


def test_errors_are_the_released_ones(released):
    s1, s2 = released["S1"], released["S2"]
    np.testing.assert_allclose(metrics.mpjpe(s1, s2), released["mpjpe_mm"], rtol=1e-5)
    np.testing.assert_allclose(metrics.pa_mpjpe(s1, s2), released["pa_mpjpe_mm"], atol=0.01)


def test_acceleration_is_the_released_one_also_with_missing_frames(released):
    predicted, target, seen = released["accel_pred"], released["accel_gt"], released["vis"]
    found = metrics.acceleration_error(predicted, target)
    np.testing.assert_allclose(found, 1000 * released["accel"], rtol=1e-4)
    found = metrics.acceleration_error(predicted, target, seen)
    np.testing.assert_allclose(found[~np.isnan(found)], 1000 * released["accel_vis"], rtol=1e-4)


def test_alignment_undoes_a_similarity_but_never_reflects():
    source = points(0, 14)
    target = 1.7 * source @ rotation(1).T + np.array([3.0, -1.0, 2.0])
    assert metrics.pa_mpjpe(source, target) < 0.01
    assert metrics.pa_mpjpe(source * jnp.array([-1.0, 1, 1]), target) > 100


def test_points_that_do_not_count_change_nothing():
    source, target, valid = points(0, 14), points(1, 14), jnp.arange(14) != 3
    broken = source.at[3].set(jnp.nan)
    for metric in (metrics.mpjpe, metrics.pa_mpjpe):
        some = metric(jnp.delete(source, 3, 0), jnp.delete(target, 3, 0))
        np.testing.assert_allclose(metric(broken, target, valid), some, rtol=1e-5)
        assert np.isnan(metric(source, target, jnp.zeros(14)))


def test_a_nan_sample_touches_no_other():
    source, target = points(0, 4, 14), points(1, 4, 14)
    whole = metrics.pa_mpjpe(source, target)
    broken = metrics.pa_mpjpe(source.at[1].set(jnp.nan), target)
    assert np.isnan(broken[1])
    np.testing.assert_array_equal(np.delete(broken, 1), np.delete(whole, 1))


@pytest.mark.parametrize("metric", [metrics.mpjpe, metrics.pa_mpjpe, metrics.pve])
def test_gradients_are_finite_where_the_error_is_zero(metric):
    same = points(0, 14)
    assert np.isfinite(jax.grad(lambda x: metric(x, same))(same)).all()


def test_alignment_gradient_equals_finite_differences():
    with jax.enable_x64(True):
        source, target = (np.asarray(points(s, 14), np.float64) for s in (0, 1))
        step = 1e-6 * np.asarray(points(2, 14), np.float64)
        found = jnp.sum(jax.grad(metrics.pa_mpjpe)(source, target) * step)
        expected = (
            metrics.pa_mpjpe(source + step, target) - metrics.pa_mpjpe(source - step, target)
        ) / 2
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_points_that_coincide_are_only_shifted():
    target = points(1, 14)
    found = metrics.similarity_align(jnp.ones((14, 3)), target)
    np.testing.assert_allclose(found, jnp.broadcast_to(target.mean(0), (14, 3)), atol=1e-6)


def test_leading_axes_jit_and_vmap_agree():
    source, target = points(0, 2, 3, 14), points(1, 2, 3, 14)
    whole = metrics.pa_mpjpe(source, target)
    assert whole.shape == (2, 3)
    one_by_one = jax.jit(jax.vmap(jax.vmap(metrics.pa_mpjpe)))(source, target)
    np.testing.assert_allclose(one_by_one, whole, rtol=1e-5)


def test_dtype_follows_the_input():
    with jax.enable_x64(True):
        for dtype in (jnp.float32, jnp.float64):
            source, target = (points(s, 5, 14).astype(dtype) for s in (0, 1))
            assert metrics.pa_mpjpe(source, target).dtype == dtype
            assert metrics.acceleration_error(source, target, fps=30).dtype == dtype


def test_acceleration_and_jitter_in_physical_units():
    t = jnp.arange(8)[:, None, None] / 25  # at 25 frames a second
    falling = 0.5 * 9.81 * t**2 * jnp.array([0.0, 1, 0]) * jnp.ones((8, 24, 1))
    rest = jnp.zeros_like(falling)
    np.testing.assert_allclose(metrics.acceleration_error(falling, rest, fps=25), 9.81, rtol=1e-4)
    np.testing.assert_allclose(metrics.acceleration_error(falling, rest), 9810 / 25**2, rtol=1e-4)
    jerky = t**3 * jnp.ones((8, 24, 3))  # |jerk| = 6 sqrt(3) m/s^3
    np.testing.assert_allclose(metrics.jitter(jerky, 25), 0.6 * 3**0.5, rtol=1e-3)
    np.testing.assert_allclose(metrics.jitter(jerky, 25, "emdb"), 0.6 * 3**0.5 * 15 / 24, rtol=1e-3)
    with pytest.raises(ValueError, match="convention"):
        metrics.jitter(jerky, 25, "other")
    with pytest.raises(ValueError, match="24 joints"):
        metrics.jitter(jerky[:, :14], 25, "emdb")


def test_pve_puts_pelvis_on_pelvis():
    mesh = points(0, 50)
    shift = jnp.array([0.1, 0.0, 0.0])
    np.testing.assert_allclose(metrics.pve(mesh + shift, mesh), 100, rtol=1e-4)
    assert metrics.pve(mesh + shift, mesh, shift, jnp.zeros(3)) < 0.01
    np.testing.assert_allclose(metrics.pelvis_error(shift, jnp.zeros(3)), 100, rtol=1e-4)
    with pytest.raises(ValueError, match="both roots"):
        metrics.pve(mesh, mesh, shift)


def test_keypoints_that_were_not_seen_do_not_count():
    detected = jnp.zeros((3, 2))
    projected = jnp.array([[3.0, 4.0], [jnp.nan, 0.0], [0.0, 1.0]])
    assert metrics.keypoint_error(projected, detected, jnp.array([0.2, 0.0, 0.9])) == 3.0
    assert np.isnan(metrics.keypoint_error(projected, detected, jnp.zeros(3)))
