"""Samples that cannot be refined: how they are found, and what becomes of them.

A sample that cannot be refined keeps its first estimate and touches no other: harmless numbers
stand in its place while the others are refined.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from body_model import Skeleton
from scorehmr_jax.prior import rotations_to_x
from scorehmr_jax.shapes import fits
from scorehmr_jax.terms import Term
from scorehmr_jax.types import Array, Estimate, Hypothesis, Refined

# `Info.status`.
OK, NOT_FINITE, NOT_IN_FRONT, NO_EVIDENCE, DIVERGED, PADDING, NOT_ROTATION = range(7)
STATUS = (
    "refined",
    "kept: the estimate or its features are not finite; replace NaN and infinity",
    "kept: the estimate is not in front of the camera; give translation in metres, body to "
    "camera, z forward",
    "kept: no term has evidence about it; give keypoints with a confidence above 0, or frames or "
    "views beside it",
    "kept: the refinement diverged; check keypoints and camera, or lower the terms' weights",
    "padding: left out by the mask",
    "kept: the pose is no rotation; give matrices with R^T R = 1 and det R = 1, or mask the sample "
    "if nobody was found",
)

# The largest error of a number in R^T R.
_ROTATION_TOLERANCE = 0.02


def screen(
    skeleton: Skeleton,
    estimate: Estimate,
    features: Float[Array, "... F"] | None,
    terms: tuple[Term, ...],
    mask: Bool[Array, "*N"],
    keep_without_evidence: bool = True,
) -> tuple[Estimate, Float[Array, "... F"] | None, Int[Array, "*N"]]:
    """Finds the samples that cannot be refined, and puts harmless numbers in their place.

    Args:
        skeleton, estimate, features, terms, mask: as `refine` has them, checked.
        keep_without_evidence: True to keep the estimates of samples that no term has evidence
            about, False to refine them by the prior alone.
    Returns:
        The estimate and the features with harmless numbers where they are not to be used, and the
        status of each sample.
    """
    finite = jnp.isfinite(estimate.pose).all((-3, -2, -1))
    finite &= jnp.isfinite(estimate.betas).all(-1) & jnp.isfinite(estimate.translation).all(-1)
    if features is not None:
        known = jnp.isfinite(features).all(-1)
        finite &= jnp.broadcast_to(known, finite.shape)
        features = jnp.where(known[..., None], features, 0)
    turned = _are_rotations(estimate.pose)
    sound = finite & turned & mask
    identity = jnp.broadcast_to(jnp.eye(3, dtype=estimate.pose.dtype), estimate.pose.shape)
    away = jnp.zeros_like(estimate.translation).at[..., 2].set(10)
    clean = Estimate(
        jnp.where(sound[..., None, None, None], estimate.pose, identity),
        jnp.where(sound[..., None], estimate.betas, 0),
        jnp.where(sound[..., None], estimate.translation, away),
    )
    first = as_hypothesis(skeleton, clean, sound, clean)
    weighed = _are_weighed(terms, mask)
    usable = _usable(terms, first)
    informed = jnp.full_like(mask, not keep_without_evidence)
    for term in terms:
        informed |= term.informs(first)
    # A body behind the camera is moved to where its gradients are harmless.
    translation = jnp.where(usable[..., None], clean.translation, away)
    clean = Estimate(clean.pose, clean.betas, translation)
    status = jnp.full_like(mask, OK, jnp.int32)
    for wrong, reason in (
        (~weighed, DIVERGED),
        (~informed, NO_EVIDENCE),
        (~usable, NOT_IN_FRONT),
        (~turned, NOT_ROTATION),
        (~finite, NOT_FINITE),
        (~mask, PADDING),
    ):
        status = jnp.where(wrong, reason, status)
    return clean, features, status


def as_hypothesis(
    skeleton: Skeleton,
    body: Estimate | Refined,
    mask: Bool[Array, "*N"],
    first: Estimate,
) -> Hypothesis:
    """A body as terms judge it, outside the diffusion.

    Args:
        skeleton: of the keypoints.
        body: [..., N] an estimate or a result.
        mask: False for samples that terms are to leave out.
        first: the estimate that a result comes from; an estimate is its own.
    """
    pose_6d = body.pose_6d if isinstance(body, Refined) else rotations_to_x(body.pose)
    return Hypothesis(
        pose_6d=pose_6d,
        pose=body.pose,
        betas=body.betas,
        joints=skeleton(body.pose, body.betas),
        translation=body.translation,
        mask=mask,
        noise_std=jnp.zeros((), pose_6d.dtype),
        first=first,
    )


def settle(
    skeleton: Skeleton,
    estimate: Estimate,
    refined: Refined,
    terms: tuple[Term, ...],
    status: Int[Array, "*N"],
) -> tuple[Refined, Int[Array, "*N"]]:
    """Puts the first estimate back wherever there is nothing better.

    Args:
        skeleton, estimate, terms: as `refine` has them, checked.
        refined: what came of the samples.
        status: as `screen` found it.
    Returns:
        The result and the status, in which a sample may have diverged.
    """
    sane = jnp.isfinite(refined.pose_6d).all(-1) & jnp.isfinite(refined.translation).all(-1)
    sane &= jnp.isfinite(refined.betas).all(-1) & _are_rotations(refined.pose)
    # The camera may have walked through the body.
    sane &= _usable(terms, as_hypothesis(skeleton, refined, status == OK, estimate))
    status = jnp.where((status == OK) & ~sane, DIVERGED, status)
    return choose(status == OK, refined, as_refined(estimate)), status


def as_refined(body: Estimate) -> Refined:
    """Gives an estimate the form of a result."""
    return Refined(body.pose, body.betas, body.translation, rotations_to_x(body.pose))


def choose(where: Bool[Array, "*N"], new: Refined, old: Refined) -> Refined:
    """Takes the new body of a sample, or the old one."""

    def each(new: Array, old: Array) -> Array:
        return jnp.where(where.reshape(where.shape + (1,) * (new.ndim - where.ndim)), new, old)

    return jax.tree.map(each, new, old)


def _are_rotations(pose: Array) -> Array:
    """True for poses [..., 24, 3, 3] of which every matrix is a rotation, [...]."""
    # By columns: the products of library calls on 3 x 3 matrices cost more.
    x, y, z = pose[..., 0], pose[..., 1], pose[..., 2]
    products = jnp.stack(
        [(a * b).sum(-1) for a, b in ((x, x), (y, y), (z, z), (x, y), (x, z), (y, z))]
    )
    wanted = jnp.array([1, 1, 1, 0, 0, 0], pose.dtype).reshape(6, *(1,) * (pose.ndim - 2))
    square = (jnp.abs(products - wanted) <= _ROTATION_TOLERANCE).all(0)
    mirrored = (jnp.cross(x, y) * z).sum(-1) < 0
    return (square & ~mirrored).all(-1)


def _are_weighed(terms: tuple[Term, ...], mask: Array) -> Array:
    """True for the samples for which every term has a weight that is a number."""
    weighed = jnp.ones_like(mask)
    for term in terms:
        weight = jnp.asarray(term.weight)
        if fits(weight.shape, mask.shape):  # others are refused where they are used
            weighed &= jnp.broadcast_to(jnp.isfinite(weight), mask.shape)
    return weighed


def _usable(terms: tuple[Term, ...], hypothesis: Hypothesis) -> Array:
    usable = jnp.ones_like(hypothesis.mask)
    for term in terms:
        usable &= term.usable(hypothesis)
    return usable
