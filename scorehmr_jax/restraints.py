"""Terms that hold a body near what is known of it: its first estimate, its height, usual shapes."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Real

from body_model import SMPL
from body_model.joints import NUM_JOINTS
from body_model.pytree import pytree
from scorehmr_jax.prior import rotations_to_x
from scorehmr_jax.shapes import concrete
from scorehmr_jax.terms import Term, as_weight
from scorehmr_jax.types import Array, Hypothesis, Number

HEIGHT_WEIGHT = 1000.0


class Restraint(Term):
    """A term that knows nothing of the picture: by itself it is no evidence."""

    def informs(self, first: Hypothesis) -> Bool[Array, "*N"]:
        return jnp.zeros_like(first.mask)


@pytree
class TrustTerm(Restraint):
    """Distance to the first estimate. Build it with `trust`."""

    joint_weight: Real[Array, "..."]  # one number, or [24], or [..., N, 24]
    weight: Real[Array, "..."]

    def __call__(self, hypothesis: Hypothesis) -> Float[Array, "*N"]:
        away = hypothesis.pose_6d - rotations_to_x(hypothesis.first.pose)
        each = jnp.sum(away.reshape(*away.shape[:-1], NUM_JOINTS, 6) ** 2, axis=-1)
        share = jnp.broadcast_to(self.joint_weight, each.shape).astype(each.dtype)
        return jnp.sum(share * each, axis=-1)


@pytree
class HeightTerm(Restraint):
    """Distance to a known height. Build it with `known_height`."""

    height: Real[Array, "..."]  # metres; one number, or one for each sample
    mean: Float[Array, ""]  # of the body's mean shape, metres
    slope: Float[Array, " B"]  # change by each shape number, metres
    weight: Real[Array, "..."]

    def __call__(self, hypothesis: Hypothesis) -> Float[Array, "*N"]:
        betas = hypothesis.betas
        count = min(betas.shape[-1], self.slope.shape[-1])
        slope = jnp.asarray(self.slope[:count], betas.dtype)
        found = jnp.asarray(self.mean, betas.dtype) + jnp.sum(slope * betas[..., :count], axis=-1)
        wanted = jnp.broadcast_to(self.height, found.shape).astype(found.dtype)
        return (found - wanted) ** 2


@pytree
class UsualShapeTerm(Restraint):
    """Distance to the mean shape. Build it with `usual_shape`."""

    weight: Real[Array, "..."]

    def __call__(self, hypothesis: Hypothesis) -> Float[Array, "*N"]:
        return jnp.sum(hypothesis.betas**2, axis=-1)


def trust(
    weight: Number | Real[Array, "..."],
    *,
    joint_weight: Number | Real[Array, "..."] = 1.0,
) -> TrustTerm:
    """A pull to the first estimate, |x - x_first|^2 of the 6D pose.

    Args:
        weight: the step size, one number or one for each sample; 3 to 30 beside keypoints of the
            usual weight, more where the estimate is better than they are.
        joint_weight: one number, one for each joint [24], or for those of each sample [..., N, 24]:
            0 for a joint about which the estimate says nothing.
    Returns:
        The term, for `refine`.
    Raises:
        ValueError: if joint_weight is of another shape or negative.
    """
    shape = np.shape(joint_weight)
    if shape and shape[-1] != NUM_JOINTS:
        raise ValueError(f"joint_weight: expected one for each joint [..., 24], found {shape}")
    known = concrete(joint_weight)
    if known is not None and not (known[0] >= 0).all():
        raise ValueError("joint_weight: expected 0 or more, found less")
    return TrustTerm(as_weight(joint_weight), as_weight(weight))


def known_height(
    body: SMPL,
    height: Number | Real[Array, "..."],
    *,
    weight: Number | Real[Array, "..."] = HEIGHT_WEIGHT,
) -> HeightTerm:
    """A known body height, (h(betas) - height)^2, for loops in which the shape is free.

    Args:
        body: whose shape numbers are refined.
        height: metres from the soles to the top of the head; one number, or one for each sample.
        weight: the step size, one number or one for each sample.
    Returns:
        The term, for `refine` with a `shape_rate` above 0.
    Raises:
        ValueError: if a height is no person's in metres.
    """
    known = concrete(height)
    if known is not None and not ((known[0] > 0.3) & (known[0] < 3)).all():
        raise ValueError(f"height: expected metres, found {height}")
    tall = np.asarray(body.template, np.float64)[:, 1]
    top, bottom = int(tall.argmax()), int(tall.argmin())
    directions = np.asarray(body.shape_directions, np.float64)[:, 1]
    dtype = body.template.dtype
    return HeightTerm(
        as_weight(height),
        np.asarray(tall[top] - tall[bottom], dtype),
        np.asarray(directions[top] - directions[bottom], dtype),
        as_weight(weight),
    )


def usual_shape(weight: Number | Real[Array, "..."]) -> UsualShapeTerm:
    """A pull to the body's mean shape, |betas|^2, for loops in which the shape is free.

    SMPL's shape numbers are standard normal, so that this is minus twice their log density.

    Args:
        weight: the step size, one number or one for each sample.
    Returns:
        The term, for `refine` with a `shape_rate` above 0.
    """
    return UsualShapeTerm(as_weight(weight))
