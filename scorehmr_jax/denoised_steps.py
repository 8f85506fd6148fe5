"""The steps of a denoised fit; denoised_fit.py says what it is."""

import math
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from scorehmr_jax.denoised_fit import DenoisedFit
from scorehmr_jax.diffusion import Level, predict_x_0
from scorehmr_jax.moments import Moments, adam_step
from scorehmr_jax.networks.layers import with_axes
from scorehmr_jax.networks.protocol import POSE_DIM
from scorehmr_jax.prior import x_to_rotations
from scorehmr_jax.problem import Problem
from scorehmr_jax.sampler import State, placed
from scorehmr_jax.slopes import slopes_of
from scorehmr_jax.types import Array

_ROOT = 6  # numbers of x that turn the whole body


def run_fit(problem: Problem, state: State) -> tuple[State, Float[Array, " S *N"]]:
    """Takes all steps.

    Args:
        problem: whose configuration has a `denoised_fit`.
        state: of `first_state`.
    Returns:
        The last state, and the unweighted losses before each of the fit's steps.
    """
    setup, first = problem.setup, problem.first_x
    fit = setup.config.denoised_fit
    assert fit is not None
    levels = setup.prior.schedule.at(jnp.asarray(fit.times), first.dtype)

    @partial(jax.checkpoint, prevent_cse=False)
    def step(
        carry: tuple[State, Moments], likely: Array, hold: Array
    ) -> tuple[tuple[State, Moments], Array]:
        state, moments = carry
        x = state.x
        free = x, state.translation, state.betas
        slopes, losses = slopes_of(problem, jnp.zeros((), x.dtype), free)
        slope = setup.config.guidance_scale * slopes[0] + _pull(fit, x - first)
        slope += hold * (x - likely)
        slope = jnp.where(problem.active[..., None], slope, 0)
        x, moments = adam_step(x, moments, slope, state.taken + 1, fit.rate)
        return (replace(placed(problem, state, *slopes[1:]), x=x), moments), losses

    def answer(
        carry: tuple[State, Moments], now: tuple[Level, Any, Array]
    ) -> tuple[tuple[State, Moments], Array]:
        level, modulation, noise = now
        x = carry[0].x
        noisy = level.ddim_signal * x + level.ddim_noise * with_axes(noise, x.ndim)
        likely = predict_x_0(level, noisy, problem.noise(noisy, modulation))
        # High levels, of hundreds, know little of the pose and are trusted less.
        hold = 2 * fit.prior * level.ddim_signal
        return jax.lax.scan(
            lambda carry, _: step(carry, likely, hold), carry, length=fit.denoise_every
        )

    @partial(jax.checkpoint, prevent_cse=False)
    def block(carry: tuple[State, Moments], rows: Any) -> tuple[tuple[State, Moments], Array]:
        return jax.lax.scan(jax.checkpoint(answer, prevent_cse=False), carry, rows)

    # In reverse mode the states between blocks are kept, and within one those between answers,
    # and within an answer those of its steps.
    answers = len(fit.times)
    length = max(n for n in range(1, math.isqrt(answers) + 1) if answers % n == 0)
    rows = jax.tree.map(
        lambda a: a.reshape(-1, length, *a.shape[1:]),
        (levels, setup.fit_modulations, noises_of(fit, first.shape[-1], first.dtype)),
    )
    (state, _), losses = jax.lax.scan(block, (state, Moments.at_rest(first)), rows)
    # Steps in 6D leave the rotations; the rounds, as the prior, know no other poses.
    pose, betas = x_to_rotations(state.x), problem.estimate.betas
    x = setup.prior.x_of(pose, setup.prior.betas_of(state.x, betas))
    # Losses of the fit and of the rounds are not of the same thing, and no rule compares them.
    state = replace(state, x=x, x_0=x, loss=jnp.full_like(state.loss, jnp.inf))
    return state, losses.reshape(fit.steps, *losses.shape[3:])


def noises_of(fit: DenoisedFit, width: int, dtype: Any) -> Float[Array, "answers D"]:
    """Draws the noise of each answer of the denoiser.

    Every other one is the one before it turned round: what noise adds to an answer all but
    cancels, and the result hardly depends on the seed. All samples have the same, so that a
    result does not depend on the place in a batch.

    Args:
        fit: whose seed and number of answers it is.
        width: numbers of a latent.
        dtype: of the noise.
    """
    answers = len(fit.times)
    shape = (-(-answers // 2), 1, width)
    drawn = jax.random.normal(jax.random.key(fit.seed), shape, dtype)
    return jnp.concatenate([drawn, -drawn], 1).reshape(-1, width)[:answers]


def _pull(fit: DenoisedFit, away: Float[Array, "*N D"]) -> Float[Array, "*N D"]:
    """The slope of the pull to the estimate at a distance from it."""
    slope = 2 * fit.pull * away
    if fit.pull_reach is None:
        return slope
    squared = jnp.square(away[..., _ROOT:POSE_DIM]).sum(-1, keepdims=True)
    less = 1 / (1 + squared / fit.pull_reach**2)
    root, body, shape = jnp.split(slope, (_ROOT, POSE_DIM), -1)
    return jnp.concatenate([root, less * body, shape], -1)
