"""Windows along the frames of a video."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorehmr_jax.windows import windowed_curve, windowed_mean

T = 12
WHOLE = np.ones(T, bool)
GAPS = np.isin(np.arange(T), (0, 1, 2, 5, 6, 9, 11))


def values(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(T, 3)).astype(np.float32)


def weights(mask: np.ndarray, frames: float, at: int) -> np.ndarray:
    away = np.arange(T) - at
    return np.exp(-0.5 * (away / frames) ** 2) * (np.abs(away) <= np.ceil(3 * frames)) * mask


@pytest.mark.parametrize("mask", [WHOLE, GAPS])
@pytest.mark.parametrize("frames", [0.7, 1.5, 20.0])
def test_a_mean_and_a_curve_are_weighted_least_squares(mask, frames):
    given = values()
    mean, curve = (f(given, mask, frames) for f in (windowed_mean, windowed_curve))
    for at in range(T):
        weight = weights(mask, frames, at)
        np.testing.assert_allclose(mean[at], weight @ given / weight.sum(), atol=1e-5)
        away = (np.arange(T) - at) / frames
        powers = away[:, None] ** np.arange(3)
        # The curve is held straight by a thousandth of one frame's weight.
        squares = (powers * weight[:, None]).T @ powers + np.diag([0, 1e-3, 1e-3])
        wanted = np.linalg.solve(squares, (powers * weight[:, None]).T @ given)[0]
        np.testing.assert_allclose(curve[at], wanted, atol=2e-3)


def test_a_curve_follows_a_parabola_and_a_mean_does_not():
    t = np.arange(T, dtype=np.float32)[:, None] / T
    bent = 1 + t - 2 * t**2
    np.testing.assert_allclose(windowed_curve(bent, WHOLE, 2.0), bent, atol=1e-3)
    assert np.abs(windowed_mean(bent, WHOLE, 2.0) - bent).max() > 0.03


@pytest.mark.parametrize("window", [windowed_mean, windowed_curve])
def test_few_frames_give_numbers_and_the_others_none(window):
    given = values()
    for few in ((4,), (4, 5), (4, 11)):
        mask = np.isin(np.arange(T), few)
        found = window(np.where(mask[:, None], given, np.nan), mask, 1.0)
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found[4], given[4], atol=0.8 if 5 in few else 1e-3)
    assert not np.asarray(window(given, np.zeros(T, bool), 1.0)).any()
    one = window(given[:1], np.ones(1, bool), 2.0)
    np.testing.assert_allclose(one, given[:1], atol=1e-6)


@pytest.mark.parametrize("window", [windowed_mean, windowed_curve])
def test_many_groups_are_as_one_and_derivatives_are_finite(window):
    both, masks = np.stack([values(0), values(1)]), np.stack([WHOLE, GAPS])
    found = window(both, masks, 1.5)
    for one, given, mask in zip(found, both, masks, strict=True):
        np.testing.assert_allclose(one, window(given, mask, 1.5), atol=1e-6)
    slope = jax.grad(lambda x: jnp.sum(window(x, masks, 1.5) ** 2))(jnp.asarray(both))
    assert np.isfinite(slope).all() and not np.asarray(slope)[1][~GAPS].any()


@pytest.mark.parametrize("window", [windowed_mean, windowed_curve])
def test_half_precision_comes_back_as_it_was_and_right(window):
    given = jnp.asarray(values())
    found = window(given.astype(jnp.float16), WHOLE, 2.0)
    assert found.dtype == jnp.float16
    np.testing.assert_allclose(found, window(given, WHOLE, 2.0), atol=5e-3)
