"""Noise schedule, forward noise, and the DDIM step in both directions.

Notation: a_t is the product of (1 - beta) up to t; x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) eps.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from body_model.pytree import pytree
from scorehmr_jax.types import Array


@pytree
class Schedule:
    """Per-step constants of a diffusion, [T] each.

    All are made in float64 and rounded to float32 once. That is how the released code does it,
    and it matters: 1 - a_t of a float32 a_t keeps four digits at t = 2.
    """

    alphas_cumprod: np.ndarray  # a_t
    sqrt_recip: np.ndarray  # sqrt(1 / a_t)
    sqrt_recip_minus_one: np.ndarray  # sqrt(1 / a_t - 1)
    sqrt_one_minus: np.ndarray  # sqrt(1 - a_t)
    sqrt: np.ndarray  # sqrt(a_t)

    @property
    def num_steps(self) -> int:
        return len(self.alphas_cumprod)

    def at(self, t: Array, dtype: jnp.dtype) -> "Level":
        """The constants of noise levels t, [...] integers."""
        pick = lambda table: jnp.asarray(table, dtype)[t]  # noqa: E731
        a = pick(self.alphas_cumprod)
        return Level(
            sqrt_recip=pick(self.sqrt_recip),
            sqrt_recip_minus_one=pick(self.sqrt_recip_minus_one),
            sqrt_one_minus=pick(self.sqrt_one_minus),
            ddim_signal=jnp.sqrt(a),
            ddim_noise=jnp.sqrt(1 - a),
        )


@pytree
class Level:
    """The constants of one noise level, or of many."""

    sqrt_recip: Array
    sqrt_recip_minus_one: Array
    sqrt_one_minus: Array
    # The released DDIM step takes its roots of the float32 a_t; everything else of float64.
    ddim_signal: Array
    ddim_noise: Array


def cosine_betas(steps: int = 1000, offset: float = 0.008) -> np.ndarray:
    """The cosine schedule (Nichol and Dhariwal, 2021), [steps] in float64."""
    x = np.linspace(0, steps, steps + 1)
    a = np.cos((x / steps + offset) / (1 + offset) * math.pi / 2) ** 2
    a = a / a[0]
    return np.clip(1 - a[1:] / a[:-1], 0, 0.999)


def linear_betas(steps: int = 1000) -> np.ndarray:
    """The linear schedule (Ho et al., 2020), [steps] in float64."""
    scale = 1000 / steps
    return np.linspace(scale * 0.0001, scale * 0.02, steps)


def schedule(betas: np.ndarray) -> Schedule:
    """The constants of a noise schedule given by its betas, [T] in float64."""
    a = np.cumprod(1 - betas)
    f32 = lambda x: x.astype(np.float32)  # noqa: E731
    return Schedule(
        f32(a), f32(np.sqrt(1 / a)), f32(np.sqrt(1 / a - 1)), f32(np.sqrt(1 - a)), f32(np.sqrt(a))
    )


def add_noise(schedule: Schedule, x_0: Array, t: Array, noise: Array) -> Array:
    """Sample of q(x_t | x_0), [..., D], for levels t [...]."""
    signal = jnp.asarray(schedule.sqrt, x_0.dtype)[t]
    spread = jnp.asarray(schedule.sqrt_one_minus, x_0.dtype)[t]
    return signal[..., None] * x_0 + spread[..., None] * noise


def predict_x_0(level: Level, x: Array, noise: Array) -> Array:
    """The x_0 that the noise prediction at x_t implies (paper, Eq. 5)."""
    return level.sqrt_recip * x - level.sqrt_recip_minus_one * noise


def ddim_step(target: Level, x_0: Array, noise: Array) -> Array:
    """Deterministic DDIM move to another level, up or down (Song et al., 2021, Eq. 12)."""
    return target.ddim_signal * x_0 + target.ddim_noise * noise


def ddim_times(start: int, stop: int, step: int) -> np.ndarray:
    """The levels stop, stop + step, ..., up to start, ascending."""
    return np.arange(stop, start + 1, step)


def ddim(
    noise: Callable[[Array, Any], Array],
    schedule: Schedule,
    x: Array,
    times: np.ndarray,
    *,
    clip: float | None = None,
    inputs: Any = None,
) -> tuple[Array, Array]:
    """Deterministic DDIM along a path of levels: descending it samples, ascending it inverts.

    Args:
        noise: predicts the noise in x, given the level t, a scalar, or a row of inputs.
        x: [..., D] latent at the first level.
        times: [S] levels, the first being that of x; at least two.
        clip: if given, x_0 is kept within +- this at every step; the noise stays as predicted,
            as in the released code.
        inputs: leaves [S - 1, ...], given to noise in place of the levels but the last.
    Returns:
        The latent at the last level, and the x_0 predicted at the step before it.
    Raises:
        ValueError: if there are fewer than two levels.
    """
    if len(times) < 2:
        raise ValueError(f"times: expected at least two levels, found {len(times)}")
    levels = schedule.at(jnp.asarray(times), x.dtype)

    def step(
        state: tuple[Array, Array], now: tuple[Any, Level, Level]
    ) -> tuple[tuple[Array, Array], None]:
        x, _ = state
        given, here, there = now
        predicted = noise(x, given).astype(x.dtype)
        x_0 = predict_x_0(here, x, predicted)
        if clip is not None:
            x_0 = jnp.clip(x_0, -clip, clip)
        return (ddim_step(there, x_0, predicted), x_0), None

    inputs = jnp.asarray(times[:-1]) if inputs is None else inputs
    here = jax.tree.map(lambda leaf: leaf[:-1], levels)
    there = jax.tree.map(lambda leaf: leaf[1:], levels)
    # Reverse mode works each step out again, so that it need not keep the network's layers.
    step = jax.checkpoint(step, prevent_cse=False)
    (x, x_0), _ = jax.lax.scan(step, (x, x), (inputs, here, there))
    return x, x_0
