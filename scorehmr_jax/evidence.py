"""More evidence beside the paper's: calibrated views, and keypoints in 3D."""

from dataclasses import field

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Real

from body_model.arithmetic import native_fields
from body_model.pytree import pytree
from scorehmr_jax import units
from scorehmr_jax.camera import camera_batch
from scorehmr_jax.guidance import (
    KEYPOINT_WEIGHT,
    check_observations,
    clipped_confidence,
    reprojection,
    screened,
    seen_in_front,
)
from scorehmr_jax.shapes import concrete, fits, floating, numbers
from scorehmr_jax.terms import Term, as_weight
from scorehmr_jax.types import Array, Camera, Estimate, Hypothesis, Keypoints2D, Keypoints3D, Number

# A metre of error pulls as its image in a picture of 1000 pixels, four metres away, does.
POINTS_WEIGHT = 400.0


@pytree
class CalibratedViewsTerm(Term):
    """Reprojection error of one body in several cameras. Build it with `calibrated_views`."""

    keypoints: Keypoints2D  # [..., V, N, K]
    camera: Camera  # [..., V, N], from the frame that the body is in
    view_weight: Real[Array, "..."]  # one number, or one for each view [V]
    sigma: Real[Array, "..."]  # pixels
    weight: Real[Array, "..."]

    measures = True

    def __call__(self, hypothesis: Hypothesis) -> Float[Array, "*N"]:
        points = self._in_every_view(hypothesis)
        losses = reprojection(points, self.keypoints, self.camera, self.sigma)
        share = jnp.broadcast_to(self.view_weight, losses.shape[-2:-1]).astype(losses.dtype)
        return jnp.sum(share[:, None] * losses, axis=-2)

    def informs(self, first: Hypothesis) -> Bool[Array, "*N"]:
        seen = jnp.any(self.keypoints.confidence > 0, axis=(-3, -1))
        return jnp.broadcast_to(seen, first.mask.shape)

    def usable(self, first: Hypothesis) -> Bool[Array, "*N"]:
        points = self._in_every_view(first)
        return jnp.all(seen_in_front(points, self.keypoints, self.camera), axis=-2)

    def _in_every_view(self, hypothesis: Hypothesis) -> Float[Array, "*N K 3"]:
        """The keypoints [..., V, N, K, 3], the same for all views."""
        xy, points = self.keypoints.xy, hypothesis.joints + hypothesis.translation[..., None, :]
        if xy.shape[-2] != points.shape[-2]:
            raise ValueError(
                f"keypoints: the skeleton has {points.shape[-2]} keypoints, found xy for "
                f"{xy.shape[-2]}; build it with Skeleton.of(body, names) for the names of your "
                "detections"
            )
        views, batch = xy.shape[-4], hypothesis.mask.shape
        rows = (*batch[:-1], views, batch[-1])
        if not fits(xy.shape[:-2], rows):
            raise ValueError(
                f"keypoints: expected xy of every view and estimate, (..., V, N) that goes with "
                f"{rows}, found {xy.shape[:-2]}"
            )
        return jnp.broadcast_to(points[..., None, :, :, :], (*rows, *points.shape[-2:]))


@pytree
class Keypoints3DTerm(Term):
    """Distance of keypoints in 3D. Build it with `keypoints_3d`."""

    keypoints: Keypoints3D
    sigma: Real[Array, "..."]  # metres
    weight: Real[Array, "..."]
    centred: bool = field(metadata={"static": True})

    measures = True

    def __call__(self, hypothesis: Hypothesis) -> Float[Array, "*N"]:
        points = hypothesis.joints + hypothesis.translation[..., None, :]
        keypoints = self._fitting(points)
        confidence, wanted = keypoints.confidence, keypoints.xyz
        if self.centred:
            points, wanted = (_about_centre(p, confidence) for p in (points, wanted))
        distance = points - wanted
        squared = jnp.sum(distance**2, axis=-1)
        sigma = jnp.broadcast_to(self.sigma, squared.shape[:-1]).astype(squared.dtype)[..., None]
        # By the distance, so that no axis is special.
        robust = sigma**2 * squared / (sigma**2 + squared)
        return jnp.sum(confidence**2 * robust, axis=-1)

    def informs(self, first: Hypothesis) -> Bool[Array, "*N"]:
        return jnp.broadcast_to((self.keypoints.confidence > 0).any(-1), first.mask.shape)

    def check_units(self, estimate: Estimate) -> None:
        seen = concrete(self.keypoints.xyz, self.keypoints.confidence, estimate.translation)
        if seen is None or self.centred:
            return
        xyz, confidence, translation = seen
        known = confidence > 0
        if not known.any() or not np.isfinite(translation).any():
            return
        middle = np.median(xyz[known], axis=0)
        far = float(np.linalg.norm(middle - np.nanmedian(translation.reshape(-1, 3), axis=0)))
        if far > 20:
            raise ValueError(
                f"keypoints_3d: the points lie {far:.3g} m from the estimates; expected the frame "
                "that the bodies are in, or centred=True for points about a centre of their own"
            )

    def _fitting(self, points: Array) -> Keypoints3D:
        xyz, confidence = self.keypoints.xyz, self.keypoints.confidence
        if xyz.shape[-2] != points.shape[-2]:
            raise ValueError(
                f"keypoints_3d: the skeleton has {points.shape[-2]} keypoints, found points for "
                f"{xyz.shape[-2]}; build it with Skeleton.of(body, names) for the names of yours"
            )
        if not fits(xyz.shape, points.shape):
            raise ValueError(
                f"keypoints_3d: expected one row for each estimate {points.shape[:-2]}, found "
                f"{xyz.shape[:-2]}"
            )
        return Keypoints3D(
            jnp.broadcast_to(xyz, points.shape).astype(points.dtype),
            jnp.broadcast_to(confidence, points.shape[:-1]).astype(points.dtype),
        )


def calibrated_views(
    keypoints: Keypoints2D,
    camera: Camera,
    *,
    view_weight: Number | Real[Array, "..."] = 1.0,
    weight: Number | Real[Array, "..."] = KEYPOINT_WEIGHT,
    sigma: Number | Real[Array, "..."] = 100.0,
) -> CalibratedViewsTerm:
    """Reprojection of one body into several cameras whose places are known.

    The body lies in one frame, and each camera's rotation and translation lead from there to its
    own: with `relative_to` the frame is that of one of them. What a keypoint, a camera or a number
    is screened for is as in `keypoints_2d`. A body must lie before all cameras that see it.

    Args:
        keypoints: detections in V views, [..., V, N, K]; confidence 0 where a view does not see.
        camera: [V], or [..., V, N] where cameras move.
        view_weight: one number, or one for each view [V]: of a view that is trusted less, say.
        weight: the step size, one number or one for each sample [..., N].
        sigma: errors far above this many pixels count no more; one number, or one for each view
            and sample [..., V, N].
    Returns:
        The term, for `refine`; the samples are [..., N] bodies.
    Raises:
        ValueError: if shapes disagree, numbers are in other units (`scorehmr_jax.units`), or sigma
            is not positive.
    """
    keypoints = native_fields("keypoints", keypoints, Keypoints2D)
    camera = native_fields("camera", camera, Camera)
    shape, confidence = jnp.shape(keypoints.xy), jnp.shape(keypoints.confidence)
    if len(shape) < 4 or shape[-1] != 2 or confidence != shape[:-1]:
        raise ValueError(
            "keypoints: expected xy [..., V, N, K, 2] and confidence [..., V, N, K], "
            f"found {shape} and {confidence}"
        )
    rows = shape[:-2]
    batch = camera_batch(camera)
    each = len(batch) == 1
    if each:
        camera = jax.tree.map(lambda leaf: floating(leaf)[:, None], camera)
        batch = (*batch, 1)
    if batch[-2:-1] != rows[-2:-1] or not fits(batch, rows):
        raise ValueError(
            f"camera: expected one for each of the {rows[-2]} views, or for each row {rows}, found "
            f"{batch[:1] if each else batch}"
        )
    if np.shape(view_weight) not in ((), (rows[-2],)):
        raise ValueError(
            f"view_weight: expected one number, or one for each of the {rows[-2]} views, found "
            f"shape {np.shape(view_weight)}"
        )
    _check_sigma(sigma, "pixels")
    check_observations(keypoints, camera, rows)
    keypoints, camera = screened(keypoints, camera)
    shares = as_weight(view_weight)
    return CalibratedViewsTerm(keypoints, camera, shares, as_weight(sigma), as_weight(weight))


def keypoints_3d(
    keypoints: Keypoints3D,
    *,
    centred: bool = False,
    weight: Number | Real[Array, "..."] = POINTS_WEIGHT,
    sigma: Number | Real[Array, "..."] = 1.0,
) -> Keypoints3DTerm:
    """Distance to keypoints in 3D: joints of another network, markers, triangulated points.

    The error of a point at the distance d is sigma^2 d^2 / (sigma^2 + d^2). A point with a
    coordinate that is not finite counts as not seen.

    Args:
        keypoints: of the K keypoints of the skeleton, [..., N, K], in the frame that the bodies
            are in.
        centred: True for points about a centre of their own, such as the hips: the mean of the
            points, weighted by their confidence squared, is put upon that of the body's.
        weight: the step size, one number or one for each sample; the default pulls about as
            strongly as `keypoints_2d`.
        sigma: errors far above this many metres count no more. A small one leaves limbs that are
            far off where they are.
    Returns:
        The term, for `refine`.
    Raises:
        ValueError: if shapes disagree, points are not in metres, or sigma is not positive.
    """
    keypoints = native_fields("keypoints", keypoints, Keypoints3D)
    shape, confidence = jnp.shape(keypoints.xyz), jnp.shape(keypoints.confidence)
    if len(shape) < 2 or shape[-1] != 3 or confidence != shape[:-1]:
        raise ValueError(
            "keypoints: expected xyz [..., N, K, 3] and confidence [..., N, K], "
            f"found {shape} and {confidence}"
        )
    _check_sigma(sigma, "metres")
    known = concrete(keypoints.xyz, keypoints.confidence)
    if known is not None:
        units.checked_confidence(known[1], "keypoints.confidence")
        units.check_joints(known[0], known[1], "keypoints.xyz")
    return Keypoints3DTerm(_screened(keypoints), as_weight(sigma), as_weight(weight), centred)


@jax.jit
def _screened(keypoints: Keypoints3D) -> Keypoints3D:
    xyz, confidence = floating(keypoints.xyz), floating(keypoints.confidence)
    seen = jnp.isfinite(xyz).all(-1) & jnp.isfinite(confidence)
    confidence = jnp.where(seen, clipped_confidence(confidence), 0)
    return Keypoints3D(jnp.where(seen[..., None], xyz, 0), confidence)


def _about_centre(points: Array, confidence: Array) -> Array:
    """Points [..., K, 3] about their mean, by the weights that their errors have."""
    share = confidence[..., None] ** 2
    total = share.sum(-2, keepdims=True)
    return points - (share * points).sum(-2, keepdims=True) / jnp.where(total > 0, total, 1)


def _check_sigma(sigma: Number, unit: str) -> None:
    known = concrete(numbers("sigma", sigma))
    if known is not None and not (known[0] > 0).all():
        raise ValueError(f"sigma: expected {unit} above 0, found {sigma}")
