"""Plain optimisation, the baseline of every learned prior: Adam on the same losses."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from body_model import SMPL, Skeleton
from scorehmr_jax.baselines.fitting import Fitting
from scorehmr_jax.moments import Moments, adam_step
from scorehmr_jax.prior import rotations_to_x, x_to_rotations
from scorehmr_jax.terms import total_loss
from scorehmr_jax.types import Array, Estimate, Hypothesis, Info, Number, Refined


@dataclass(frozen=True)
class AdamConfig:
    """The optimiser's schedule. All static: another configuration compiles anew."""

    steps: int = 150
    pose_rate: float = 0.02  # Adam's step for the 6D pose
    camera_rate: float = 0.01  # Adam's step for the camera translation, metres
    shape_rate: float = 0.0  # Adam's step for the shape numbers; 0 holds them
    share_shape: bool = False  # True gives one free shape to all samples of a group


def adam(
    body: SMPL | Skeleton,
    estimate: Estimate,
    terms: Any,
    pull: Number = 0.0,
    config: AdamConfig = AdamConfig(),
    mask: Array | None = None,
) -> tuple[Refined, Info]:
    """Moves a first estimate down the guidance losses, with no prior but the estimate itself.

    Minimises the weighted terms plus pull * |x - x_estimate|^2 over the pose x in 6D, the camera
    translation and, where it is free, the shape. Samples that cannot be refined are found and kept
    as `refine` does.

    Args:
        body, estimate, terms, mask: as for `refine`.
        pull: weight of the squared distance to the estimate in 6D; 0 optimises freely.
        config: steps and their sizes.
    Returns:
        As `refine`.
    Raises:
        ValueError: if shapes do not fit.
    """
    with jax.default_matmul_precision("float32"):
        fitting = Fitting.of(body, estimate, terms, mask)
        skeleton, terms, clean = fitting.skeleton, fitting.terms, fitting.clean
        active, start = fitting.active, rotations_to_x(clean.pose)
        pull = jnp.asarray(pull, start.dtype)
        if pull.ndim:
            raise ValueError(f"pull: expected one number, found shape {pull.shape}")

        def shape_of(shape: list[Array]) -> Array:
            # Those that are not refined keep theirs.
            return jnp.where(active[..., None], shape[0], clean.betas) if shape else clean.betas

        def loss(variables: tuple[Array, ...]) -> tuple[Array, Array]:
            x, translation, *shape = variables
            # A sample that has diverged is taken out of its group, or its neighbours would follow.
            sane = jnp.isfinite(x).all(-1) & jnp.isfinite(translation).all(-1)
            x = jnp.where(sane[..., None], x, start)
            pose = x_to_rotations(x)
            betas = shape_of(shape)
            hypothesis = Hypothesis(
                pose_6d=x,
                pose=pose,
                betas=betas,
                joints=skeleton(pose, betas),
                translation=jnp.where(sane[..., None], translation, clean.translation),
                mask=active & sane,
                noise_std=jnp.zeros((), x.dtype),
                first=clean,
            )
            total, losses = total_loss(terms, hypothesis)
            return total + pull * jnp.square(x - start).sum(), losses

        def step(state: tuple[Any, Any], taken: Array) -> tuple[tuple[Any, Any], Array]:
            variables, moments = state
            slopes, losses = jax.grad(loss, has_aux=True)(variables)
            rows = zip(variables, moments, slopes, rates, strict=True)
            moved = [adam_step(*row[:3], taken, row[3]) for row in rows]
            return (tuple(v for v, _ in moved), tuple(m for _, m in moved)), losses

        variables: tuple[Array, ...] = start, clean.translation
        rates: tuple[float, ...] = config.pose_rate, config.camera_rate
        if config.shape_rate:
            share = active[..., None].astype(clean.betas.dtype)
            mean = (share * clean.betas).sum(-2, keepdims=True)
            mean = mean / jnp.maximum(share.sum(-2, keepdims=True), 1)
            variables = *variables, mean if config.share_shape else clean.betas
            rates = *rates, config.shape_rate
        state = variables, tuple(map(Moments.at_rest, variables))
        steps = jnp.arange(1, config.steps + 1)
        ((x, translation, *shape), _), losses = jax.lax.scan(step, state, steps)
        found = Refined(x_to_rotations(x), shape_of(shape), translation, x)
        return fitting.settled(found, losses)
