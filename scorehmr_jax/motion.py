"""Evidence of a video beside the pose's smoothness: the path of the body, and feet that stand."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Real, Shaped

from body_model.joints import OPENPOSE_25
from body_model.pytree import pytree
from scorehmr_jax.shapes import concrete, fits
from scorehmr_jax.terms import Term, as_weight
from scorehmr_jax.types import Array, Hypothesis, Number

SMOOTH_CAMERA_WEIGHT = 1000.0
CONTACT_WEIGHT = 1000.0

# Keypoints that rest on the floor while a foot does.
FEET = tuple(name for name in OPENPOSE_25 if name.endswith(("toe", "heel")))


@pytree
class SmoothCameraTerm(Term):
    """Acceleration of the body's place. Build it with `smooth_camera`."""

    weight: Real[Array, "..."]

    def __call__(self, hypothesis: Hypothesis) -> Float[Array, "*N"]:
        place, mask = hypothesis.translation, hypothesis.mask
        if mask.shape[-1] < 3:
            return jnp.zeros_like(place[..., 0])
        three = mask[..., 2:] & mask[..., 1:-1] & mask[..., :-2]
        bend = place[..., 2:, :] - 2 * place[..., 1:-1, :] + place[..., :-2, :]
        # Before the arithmetic: what is not finite in padding must not come back in a gradient.
        change = jnp.sum(jnp.where(three[..., None], bend, 0) ** 2, axis=-1)
        return jnp.pad(change, [(0, 0)] * (change.ndim - 1) + [(1, 1)])

    def informs(self, first: Hypothesis) -> Bool[Array, "*N"]:
        return jnp.zeros_like(first.mask)


@pytree
class FootContactTerm(Term):
    """Sliding of feet that stand. Build it with `foot_contact`."""

    contact: Real[Array, "..."] | None  # [..., N, F] in [0, 1]; None: judged by the speed
    feet: Float[Array, "F K"]  # 1 at the keypoint of each point of a foot
    still: Real[Array, ""]  # metres a frame
    weight: Real[Array, "..."]

    def __call__(self, hypothesis: Hypothesis) -> Float[Array, "*N"]:
        joints, mask = hypothesis.joints, hypothesis.mask
        if joints.shape[-2] != self.feet.shape[-1]:
            raise ValueError(
                f"foot_contact: the skeleton has {joints.shape[-2]} keypoints, and names has "
                f"{self.feet.shape[-1]}; give the names that it was built with"
            )
        dtype, share = joints.dtype, jnp.asarray(self.feet, joints.dtype)
        # A sum and no matrix product, whose precision would be the device's choice.
        feet = jnp.sum(share[..., None] * joints[..., None, :, :], axis=-2)
        feet = feet + hypothesis.translation[..., None, :]
        both = mask[..., 1:] & mask[..., :-1]
        slid = jnp.where(both[..., None, None], feet[..., 1:, :, :] - feet[..., :-1, :, :], 0)
        squared = jnp.sum(slid**2, axis=-1)
        still = jnp.asarray(self.still, dtype) ** 2
        if self.contact is None:
            losses = still * squared / (still + squared)
        else:
            wanted = (*mask.shape, self.feet.shape[0])
            if not fits(self.contact.shape, wanted):
                raise ValueError(
                    f"contact: expected one for each estimate and point of a foot {wanted}, found "
                    f"{self.contact.shape}"
                )
            contact = jnp.broadcast_to(self.contact, wanted).astype(dtype)
            losses = contact[..., 1:, :] * contact[..., :-1, :] * squared
        return jnp.pad(losses.sum(-1), [(0, 0)] * (mask.ndim - 1) + [(1, 0)])

    def informs(self, first: Hypothesis) -> Bool[Array, "*N"]:
        return jnp.zeros_like(first.mask)


def smooth_camera(
    *, weight: Number | Real[Array, "..."] = SMOOTH_CAMERA_WEIGHT
) -> SmoothCameraTerm:
    """Steadiness of the body's place before the camera over the frames of a video.

    The squared change of its velocity, |t[n+1] - 2 t[n] + t[n-1]|^2, is counted at frame n: a
    person who walks evenly is not held back, depth that jumps is. It is no evidence by itself: a
    sample about which no other term knows anything keeps its estimate.

    Args:
        weight: the step size, one number or one for each sample.
    Returns:
        The term, for `refine`; the samples [..., N] are frames in order.
    """
    return SmoothCameraTerm(as_weight(weight))


def foot_contact(
    contact: Shaped[Array, "*N F"] | None = None,
    *,
    names: Sequence[str] = OPENPOSE_25,
    feet: Sequence[str] = FEET,
    still: Number = 0.01,
    weight: Number | Real[Array, "..."] = CONTACT_WEIGHT,
) -> FootContactTerm:
    """Feet that stand stay where they are, before a camera that stands still.

    A foot that moves by the distance d from one frame to the next costs d^2 if it is in contact in
    both, and still^2 d^2 / (still^2 + d^2) if contact is not known: one that hardly moves is held,
    one that swings is let go. Counted at the later frame. No evidence by itself.

    Args:
        contact: [..., N, F] in [0, 1], 1 where a point of `feet` stands on the floor.
        names: the keypoints of the skeleton.
        feet: the F keypoints that stand.
        still: metres a frame above which a foot is taken to swing, where contact is not known.
        weight: the step size, one number or one for each sample.
    Returns:
        The term, for `refine`; the samples [..., N] are frames in order.
    Raises:
        ValueError: if the skeleton lacks a point of the feet, or a number is out of its range.
    """
    lacking = [name for name in feet if name not in names]
    if lacking or not feet:
        raise ValueError(f"feet: expected keypoints of the skeleton, found {lacking or 'none'}")
    known = concrete(still, *(() if contact is None else (contact,)))
    if known is not None:
        if not known[0] > 0:
            raise ValueError(f"still: expected metres above 0, found {still}")
        if contact is not None and not ((known[1] >= 0) & (known[1] <= 1)).all():
            raise ValueError("contact: expected numbers from 0 (in the air) to 1 (on the floor)")
    rows = np.zeros((len(feet), len(names)), np.float32)
    rows[np.arange(len(feet)), [list(names).index(name) for name in feet]] = 1
    given = None if contact is None else as_weight(contact)
    return FootContactTerm(given, rows, as_weight(still), as_weight(weight))
