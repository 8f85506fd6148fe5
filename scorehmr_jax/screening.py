"""Which samples can be refined, and what becomes of those that cannot.

A sample that cannot be refined keeps its first estimate and touches no other: harmless numbers
stand in its place while the others are refined.
"""

from dataclasses import replace

import jax.numpy as jnp

from body_model import Skeleton
from scorehmr_jax.guidance import Term
from scorehmr_jax.networks.protocol import POSE_DIM
from scorehmr_jax.prior import Prior, rotations_to_x, x_to_rotations
from scorehmr_jax.types import Array, Estimate, Hypothesis, Refined

# `Info.status`.
OK, NOT_FINITE, NOT_IN_FRONT, NO_EVIDENCE, DIVERGED, PADDING = range(6)
STATUS = (
    "refined",
    "kept: the estimate or its features are not finite",
    "kept: the estimate is not in front of the camera",
    "kept: no term has anything to say of it",
    "kept: the refinement diverged",
    "padding",
)


def checked_estimate(estimate: Estimate, skeleton: Skeleton) -> Estimate:
    """An estimate of one batch and precision; a ValueError if its shapes do not fit."""
    pose, betas = jnp.asarray(estimate.pose), jnp.asarray(estimate.betas)
    translation = jnp.asarray(estimate.translation)
    expected = {
        "pose": (pose, (24, 3, 3)),
        "betas": (betas, (skeleton.num_betas,)),
        "translation": (translation, (3,)),
    }
    for name, (array, tail) in expected.items():
        if array.ndim <= len(tail) or array.shape[-len(tail) :] != tail:
            tail_text = ", ".join(map(str, tail))
            raise ValueError(
                f"estimate.{name}: expected [..., N, {tail_text}], found {array.shape}"
            )
    shapes = pose.shape[:-3], betas.shape[:-1], translation.shape[:-1]
    try:
        batch = jnp.broadcast_shapes(*shapes)
    except ValueError:
        raise ValueError(
            "estimate: pose, betas and translation disagree on the samples: {}, {} and {}".format(
                *shapes
            )
        ) from None
    if 0 in batch:
        raise ValueError("estimate: no samples (an empty sequence or batch)")
    # The pose decides the precision of all that the loop carries.
    dtype = jnp.promote_types(pose.dtype, jnp.float32)
    return Estimate(
        jnp.broadcast_to(pose, (*batch, 24, 3, 3)).astype(dtype),
        jnp.broadcast_to(betas, (*batch, betas.shape[-1])).astype(dtype),
        jnp.broadcast_to(translation, (*batch, 3)).astype(dtype),
    )


def checked_mask(mask: Array | None, batch: tuple[int, ...]) -> Array:
    """A mask of the batch, of True where none is given; a ValueError if it does not fit."""
    mask = jnp.asarray(True if mask is None else mask, bool)
    try:
        return jnp.broadcast_to(mask, batch)
    except ValueError:
        raise ValueError(
            f"mask: expected one for each estimate {batch}, found shape {mask.shape}"
        ) from None


def screen(
    prior: Prior,
    skeleton: Skeleton,
    estimate: Estimate,
    features: Array | None,
    terms: tuple[Term, ...],
    mask: Array,
    keep_without_evidence: bool,
) -> tuple[Estimate, Array | None, Array]:
    """Finds the samples that cannot be refined, and puts harmless numbers in their place.

    Args:
        prior, skeleton, estimate, features, terms, mask: as `refine` has them, checked.
        keep_without_evidence: whether a sample that no term informs counts among them.
    Returns:
        The estimate and the features with all numbers finite and all bodies before the camera,
        and the status of each sample [..., N].
    """
    finite = jnp.isfinite(estimate.pose).all((-3, -2, -1))
    finite &= jnp.isfinite(estimate.betas).all(-1) & jnp.isfinite(estimate.translation).all(-1)
    if features is not None:
        known = jnp.isfinite(features).all(-1)
        finite &= known
        features = jnp.where(known[..., None], features, 0)
    identity = jnp.eye(3, dtype=estimate.pose.dtype)
    away = jnp.array([0, 0, 10], estimate.translation.dtype)
    clean = Estimate(
        jnp.where(finite[..., None, None, None], estimate.pose, identity),
        jnp.where(finite[..., None], estimate.betas, 0),
        jnp.where(finite[..., None], estimate.translation, away),
    )
    x = prior.x_of(clean.pose, clean.betas)
    first = hypothesis(prior, skeleton, x, clean.betas, clean.translation, mask & finite)
    usable = _usable(terms, first)
    informed = jnp.full(mask.shape, not keep_without_evidence)
    for term in terms:
        informed |= term.informs(first)
    # A body behind the camera is moved to where its gradients are harmless.
    clean = replace(clean, translation=jnp.where(usable[..., None], clean.translation, away))
    status = jnp.full(mask.shape, OK, jnp.int32)
    for wrong, reason in (
        (~informed, NO_EVIDENCE),
        (~usable, NOT_IN_FRONT),
        (~finite, NOT_FINITE),
        (~mask, PADDING),
    ):
        status = jnp.where(wrong, reason, status)
    return clean, features, status


def hypothesis(
    prior: Prior, skeleton: Skeleton, x_0: Array, betas: Array, camera: Array, mask: Array
) -> Hypothesis:
    """The body that terms judge, of x_0 [..., N, D] and a camera translation [..., N, 3]."""
    pose = x_to_rotations(x_0)
    betas = prior.betas_of(x_0, betas)
    joints = skeleton(pose, betas)
    return Hypothesis(x_0[..., :POSE_DIM], pose, betas, joints, camera, mask)


def _usable(terms: tuple[Term, ...], hypothesis: Hypothesis) -> Array:
    usable = jnp.ones(hypothesis.mask.shape, bool)
    for term in terms:
        usable &= term.usable(hypothesis)
    return usable


def settle(
    skeleton: Skeleton,
    estimate: Estimate,
    refined: Refined,
    terms: tuple[Term, ...],
    status: Array,
) -> tuple[Refined, Array]:
    """The first estimate again, wherever there is nothing better."""
    sane = jnp.isfinite(refined.pose_6d).all(-1) & jnp.isfinite(refined.translation).all(-1)
    sane &= jnp.isfinite(refined.betas).all(-1)
    last = Hypothesis(
        refined.pose_6d,
        refined.pose,
        refined.betas,
        skeleton(refined.pose, refined.betas),
        refined.translation,
        status == OK,
    )
    # The camera may have walked through the body.
    sane &= _usable(terms, last)
    status = jnp.where((status == OK) & ~sane, DIVERGED, status)
    good = status == OK

    def choose(new: Array, old: Array) -> Array:
        return jnp.where(good.reshape(good.shape + (1,) * (new.ndim - good.ndim)), new, old)

    chosen = Refined(
        pose=choose(refined.pose, estimate.pose),
        betas=choose(refined.betas, estimate.betas),
        translation=choose(refined.translation, estimate.translation),
        pose_6d=choose(refined.pose_6d, rotations_to_x(estimate.pose)),
    )
    return chosen, status
