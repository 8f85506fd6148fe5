"""Noise schedule, forward noise, and the DDIM step in both directions.

Notation: a_t is the product of (1 - beta) up to t; x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) eps.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Integer, Real
from numpy.typing import DTypeLike

from body_model.pytree import Array, pytree

Levels = Integer[Array, "*t"] | int | np.integer  # noise levels, 0 the cleanest


@pytree
class Schedule:
    """Constants of every noise level, as numpy arrays or on a device.

    They are made in float64 and rounded to float32 once. That is how the released code does it,
    and it matters: 1 - a_t of a float32 a_t keeps four digits at t = 2.
    """

    alphas_cumprod: Float[Array, " T"]  # a_t
    sqrt_recip: Float[Array, " T"]  # sqrt(1 / a_t)
    sqrt_recip_minus_one: Float[Array, " T"]  # sqrt(1 / a_t - 1)
    sqrt_one_minus: Float[Array, " T"]  # sqrt(1 - a_t)
    sqrt: Float[Array, " T"]  # sqrt(a_t)

    @property
    def num_steps(self) -> int:
        """T, the number of noise levels."""
        return self.alphas_cumprod.shape[0]

    def at(self, t: Levels, dtype: DTypeLike) -> "Level":
        """Picks the constants of noise levels.

        Args:
            t: [...] integer levels.
            dtype: of the result; half precision gives float32.
        """
        dtype = single_at_least(dtype)
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
    """Constants of one noise level, or of many."""

    sqrt_recip: Float[Array, "*t"]  # sqrt(1 / a_t)
    sqrt_recip_minus_one: Float[Array, "*t"]  # sqrt(1 / a_t - 1)
    sqrt_one_minus: Float[Array, "*t"]  # sqrt(1 - a_t)
    # The released DDIM step takes its roots of the float32 a_t; everything else of float64.
    ddim_signal: Float[Array, "*t"]  # sqrt(a_t)
    ddim_noise: Float[Array, "*t"]  # sqrt(1 - a_t)


def cosine_betas(steps: int = 1000, offset: float = 0.008) -> Float[np.ndarray, " T"]:
    """Makes the betas of the cosine schedule (Nichol and Dhariwal, 2021), [steps] in float64."""
    x = np.linspace(0, steps, steps + 1)
    a = np.cos((x / steps + offset) / (1 + offset) * math.pi / 2) ** 2
    a = a / a[0]
    return np.clip(1 - a[1:] / a[:-1], 0, 0.999)


def linear_betas(steps: int = 1000) -> Float[np.ndarray, " T"]:
    """Makes the betas of the linear schedule (Ho et al., 2020), [steps] in float64."""
    scale = 1000 / steps
    return np.linspace(scale * 0.0001, scale * 0.02, steps)


SCHEDULES: dict[str, Callable[[int], np.ndarray]] = {"cosine": cosine_betas, "linear": linear_betas}


def named_schedule(kind: str, steps: int) -> Schedule:
    """Makes a schedule by its name, as checkpoints keep it.

    Args:
        kind: of `SCHEDULES`.
        steps: number of noise levels.
    Raises:
        ValueError: if there is no such schedule, or it is none with so many levels.
    """
    if kind not in SCHEDULES:
        raise ValueError(f"schedule: expected one of {', '.join(SCHEDULES)}, found {kind!r}")
    if type(steps) is not int or steps < 2:
        raise ValueError(f"schedule: expected a whole number of at least 2 levels, found {steps!r}")
    return schedule(SCHEDULES[kind](steps))


def schedule(betas: Real[np.ndarray, " T"]) -> Schedule:
    """Works out the constants of a noise schedule.

    Args:
        betas: [T] share of noise added at each level, in float64.
    Raises:
        ValueError: if a beta lies outside of [0, 1), or no noise is added at the first level.
    """
    betas = np.asarray(betas, np.float64)
    if betas.ndim != 1 or not len(betas) or not ((betas >= 0) & (betas < 1)).all() or betas[0] == 0:
        raise ValueError(f"betas: expected [T] numbers in [0, 1), the first above 0, found {betas}")
    a = np.cumprod(1 - betas)
    f32 = lambda x: x.astype(np.float32)  # noqa: E731
    return Schedule(
        f32(a), f32(np.sqrt(1 / a)), f32(np.sqrt(1 / a - 1)), f32(np.sqrt(1 - a)), f32(np.sqrt(a))
    )


def add_noise(
    schedule: Schedule,
    x_0: Float[Array, "*x D"],
    t: Levels,
    noise: Float[Array, "*n D"],
) -> Float[Array, "*x D"]:
    """Draws from q(x_t | x_0) with given noise: sqrt(a_t) x_0 + sqrt(1 - a_t) noise.

    Args:
        x_0: [..., D] clean pose.
        t: [...] levels that broadcast with the leading axes of x_0.
        noise: [..., D] standard normal, that broadcasts with x_0.
    Returns:
        [..., D] in the precision of x_0.
    """
    dtype = single_at_least(x_0.dtype)
    t = jnp.asarray(t)
    t = t.reshape((1,) * (x_0.ndim - 1 - t.ndim) + t.shape)
    signal, spread = (
        jnp.asarray(table, dtype)[t][..., None]
        for table in (schedule.sqrt, schedule.sqrt_one_minus)
    )
    return (signal * x_0.astype(dtype) + spread * noise.astype(dtype)).astype(x_0.dtype)


def predict_x_0(
    level: Level, x: Float[Array, "*x D"], noise: Float[Array, "*n D"]
) -> Float[Array, "*out D"]:
    """Works out the x_0 that the noise prediction at x_t implies (paper, Eq. 5)."""
    return level.sqrt_recip * x - level.sqrt_recip_minus_one * noise


def ddim_step(
    target: Level, x_0: Float[Array, "*x D"], noise: Float[Array, "*n D"]
) -> Float[Array, "*out D"]:
    """Moves to another level, up or down, without randomness (DDIM; Song et al., 2021, Eq. 12)."""
    return target.ddim_signal * x_0 + target.ddim_noise * noise


def ddim_times(start: int, stop: int, step: int) -> Int[np.ndarray, " S"]:
    """Lists the levels stop, stop + step, ..., up to start, ascending."""
    return np.arange(stop, start + 1, step)


def ddim(
    noise: Callable[[Array, Any], Array],
    schedule: Schedule,
    x: Float[Array, "*x D"],
    times: Int[np.ndarray, " S"],
    *,
    clip: float | None = None,
    inputs: Any = None,
) -> tuple[Float[Array, "*x D"], Float[Array, "*x D"]]:
    """Walks along a path of levels by DDIM: descending it samples, ascending it inverts.

    Args:
        noise: predicts the noise in x, given the level t, a scalar, or a row of inputs.
        x: [..., D] latent at the first level.
        times: [S] levels, the first being that of x; at least two.
        clip: if given, x_0 is kept within +- this at every step; the noise stays as predicted,
            as in the released code.
        inputs: leaves [S - 1, ...], given to noise in place of the levels but the last.
    Returns:
        The latent at the last level, and the x_0 predicted at the step before it; both in the
        precision of x, though half precision is walked in float32.
    Raises:
        ValueError: if there are fewer than two levels.
    """
    if len(times) < 2:
        raise ValueError(f"times: expected at least two levels, found {len(times)}")
    dtype, given = single_at_least(x.dtype), x.dtype
    x = jnp.asarray(x, dtype)
    levels = schedule.at(jnp.asarray(times), dtype)

    def step(
        state: tuple[Array, Array], now: tuple[Any, Level, Level]
    ) -> tuple[tuple[Array, Array], None]:
        x, _ = state
        row, here, there = now
        predicted = noise(x, row).astype(dtype)
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
    return x.astype(given), x_0.astype(given)


def single_at_least(dtype: DTypeLike) -> np.dtype:
    """Gives float32 for half precision and for whole numbers, and any other type of floats back.

    Half precision holds weights and poses well enough, but not sums of thousands of numbers, nor
    the small differences of a noise schedule.
    """
    found = jnp.dtype(dtype)
    wide = jnp.issubdtype(found, jnp.floating) and jnp.finfo(found).bits >= 32
    return found if wide else np.dtype(np.float32)
