"""Plain optimisation, the baseline of every learned prior: Adam on the same losses."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from body_model import SMPL, Skeleton
from body_model.rotations import matrix_to_6d, six_d_to_matrix
from scorehmr_jax.guidance import as_terms
from scorehmr_jax.refine import Info
from scorehmr_jax.screening import (
    DIVERGED,
    NOT_FINITE,
    NOT_IN_FRONT,
    OK,
    PADDING,
    checked_estimate,
    checked_mask,
)
from scorehmr_jax.types import Array, Estimate, Hypothesis, Number, Refined


@dataclass(frozen=True)
class AdamConfig:
    """How to optimise. All static: another configuration compiles anew."""

    steps: int = 150
    pose_rate: float = 0.02  # Adam's step for the 6D pose
    camera_rate: float = 0.01  # Adam's step for the camera translation, metres


def adam(
    body: SMPL | Skeleton,
    estimate: Estimate,
    terms: Any,
    pull: Number = 0.0,
    config: AdamConfig = AdamConfig(),
    mask: Array | None = None,
) -> tuple[Refined, Info]:
    """Moves a first estimate down the guidance losses, with no prior but the estimate itself.

    Minimises the weighted terms plus pull * |x - x_estimate|^2 over the pose x in 6D and the
    camera translation. A sample that is not finite, not in front of the camera, or diverges keeps
    its first estimate and touches no other.

    Args:
        body, estimate, terms, mask: as for `refine`.
        pull: weight of the squared distance to the estimate in 6D; 0 optimises freely.
        config: steps and their sizes.
    Returns:
        As `refine`.
    Raises:
        ValueError: if shapes do not fit.
    """
    skeleton = body if isinstance(body, Skeleton) else Skeleton.of(body)
    terms = as_terms(terms)
    estimate = checked_estimate(estimate, skeleton)
    batch, dtype = estimate.betas.shape[:-1], estimate.pose.dtype
    mask = checked_mask(mask, batch)
    finite = _finite(estimate.pose, 3) & _finite(estimate.betas, 1)
    finite &= _finite(estimate.translation, 1)
    identity, away = jnp.eye(3, dtype=dtype), jnp.array([0, 0, 10], dtype)
    start = matrix_to_6d(jnp.where(finite[..., None, None, None], estimate.pose, identity))
    betas = jnp.where(finite[..., None], estimate.betas, 0)
    camera = jnp.where(finite[..., None], estimate.translation, away)

    def hypothesis(x: Array, camera: Array, active: Array) -> Hypothesis:
        pose = six_d_to_matrix(x)
        return Hypothesis(x.reshape(*batch, -1), pose, betas, skeleton(pose, betas), camera, active)

    first = hypothesis(start, camera, finite & mask)
    usable = jnp.ones(batch, bool)
    for term in terms:
        usable &= term.usable(first)
    camera = jnp.where(usable[..., None], camera, away)
    active = finite & usable & mask

    def loss(variables: tuple[Array, Array]) -> tuple[Array, Array]:
        x, moved = variables
        # A sample that has diverged is taken out of its group, or its neighbours would follow.
        sane = _finite(x, 2) & _finite(moved, 1)
        x = jnp.where(sane[..., None, None], x, start)
        body = hypothesis(x, jnp.where(sane[..., None], moved, camera), active & sane)
        total = pull * jnp.square(x - start).sum()
        losses = jnp.zeros(batch, dtype)
        for term in terms:
            each = jnp.where(active & sane, term(body), 0).astype(dtype)
            total, losses = total + jnp.sum(term.weight * each), losses + each
        return total, losses

    moments = optax.scale_by_adam()

    def step(state: tuple[Any, Any], _: None) -> tuple[tuple[Any, Any], Array]:
        variables, moved = state
        slope, losses = jax.grad(loss, has_aux=True)(variables)
        (by_pose, by_camera), moved = moments.update(slope, moved)
        x = variables[0] - config.pose_rate * by_pose
        return ((x, variables[1] - config.camera_rate * by_camera), moved), losses

    with jax.default_matmul_precision("float32"):
        variables = start, camera
        ((x, camera), _), losses = jax.lax.scan(
            step, (variables, moments.init(variables)), None, config.steps
        )
    good = active & _finite(x, 2) & _finite(camera, 1)
    refined = Refined(
        pose=jnp.where(good[..., None, None, None], six_d_to_matrix(x), estimate.pose),
        betas=estimate.betas,
        translation=jnp.where(good[..., None], camera, estimate.translation),
        pose_6d=jnp.where(
            good[..., None], x.reshape(*batch, -1), matrix_to_6d(estimate.pose).reshape(*batch, -1)
        ),
    )
    status = jnp.where(good, OK, DIVERGED)
    for wrong, reason in ((~usable, NOT_IN_FRONT), (~finite, NOT_FINITE), (~mask, PADDING)):
        status = jnp.where(wrong, reason, status)
    return refined, Info(status, jnp.full(batch, -1), losses)


def _finite(array: Array, axes: int) -> Array:
    return jnp.isfinite(array).all(tuple(range(-axes, 0)))
