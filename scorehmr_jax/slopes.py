"""The slopes of the evidence's loss by all that moves, safe from samples that have diverged."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp

from scorehmr_jax.networks.protocol import POSE_DIM
from scorehmr_jax.prior import x_to_rotations
from scorehmr_jax.problem import Problem
from scorehmr_jax.screening import DIVERGED
from scorehmr_jax.terms import total_loss
from scorehmr_jax.types import Array, Hypothesis

Free = tuple[Array, Array, Array | None]  # what moves: x_0, the translation, the shape


def _plain_slopes(problem: Problem, noise_std: Array, free: Free) -> tuple[Free, Array]:
    """Slopes of the loss by what is free, and the unweighted loss of each sample."""
    loss = partial(_loss, problem, noise_std)
    return jax.grad(loss, (0, 1, 2), has_aux=True)(*free)


slopes_of = jax.custom_jvp(_plain_slopes)


@slopes_of.defjvp
def _slopes_jvp(primals: tuple, tangents: tuple) -> tuple:
    """The derivative, in which a sample whose slopes are not finite is held as it is.

    The result does not depend on it, as it has diverged; but 0 times infinity would make NaN of
    its own derivative, and in the steps before also of its neighbours'.
    """
    slopes, losses = slopes_of(*primals)
    sound = jnp.isfinite(losses)
    for slope in jax.tree.leaves(slopes):
        sound &= jnp.isfinite(slope).all(-1)

    def held(problem: Problem, noise_std: Array, free: Free) -> tuple[Free, Array]:
        problem = replace(problem, status=jnp.where(sound, problem.status, DIVERGED))
        first: Free = problem.first_x, problem.estimate.translation, problem.estimate.betas
        if free[2] is None:
            first = (*first[:2], None)
        free = jax.tree.map(lambda now, then: jnp.where(sound[..., None], now, then), free, first)
        return _plain_slopes(problem, noise_std, free)

    return (slopes, losses), jax.jvp(held, primals, tangents)[1]


def _loss(
    problem: Problem, noise_std: Array, x_0: Array, translation: Array, betas: Array | None
) -> tuple[Array, Array]:
    """The weighted sum of the terms, and the unweighted loss of each sample."""
    estimate, setup = problem.estimate, problem.setup
    # A sample that has diverged is taken out of its group, or its neighbours would follow.
    sane = jnp.isfinite(x_0).all(-1) & jnp.isfinite(translation).all(-1)
    if betas is None:
        betas = estimate.betas
    else:
        sane &= jnp.isfinite(betas).all(-1)
        betas = jnp.where(sane[..., None], betas, estimate.betas)
    x_0 = jnp.where(sane[..., None], x_0, problem.first_x)
    pose, betas = x_to_rotations(x_0), setup.prior.betas_of(x_0, betas)
    hypothesis = Hypothesis(
        pose_6d=x_0[..., :POSE_DIM],
        pose=pose,
        betas=betas,
        joints=setup.skeleton(pose, betas),
        translation=jnp.where(sane[..., None], translation, estimate.translation),
        mask=problem.active & sane,
        noise_std=noise_std,
        first=estimate,
    )
    with jax.default_matmul_precision("float32"):
        return total_loss(problem.terms, hypothesis)
