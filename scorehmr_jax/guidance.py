"""The evidence of the paper: keypoints in an image, several views, the frames of a video."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Real

from body_model.arithmetic import native_fields
from body_model.pytree import pytree
from scorehmr_jax import units
from scorehmr_jax.camera import (
    camera_batch,
    for_samples,
    in_front,
    project,
    screened_camera,
    to_camera_frame,
)
from scorehmr_jax.shapes import (
    Shape,
    concrete,
    fits,
    fits_plainly,
    floating,
    in_one_way,
    numbers,
)
from scorehmr_jax.terms import Term, as_terms, as_weight, plain, total_loss, weighted
from scorehmr_jax.types import Array, Camera, Estimate, Hypothesis, Keypoints2D, Number

__all__ = [
    "KEYPOINT_WEIGHT",
    "MULTIVIEW_WEIGHT",
    "SMOOTH_WEIGHT",
    "KeypointTerm",
    "MultiviewTerm",
    "SmoothTerm",
    "Term",
    "as_terms",
    "geman_mcclure",
    "keypoint_terms",
    "keypoints_2d",
    "multiview",
    "smooth",
    "total_loss",
    "weighted",
]

# Step sizes of the paper (section 4.3), and the released code's own factor on the views' term.
KEYPOINT_WEIGHT = 0.003
MULTIVIEW_WEIGHT = 0.005 * 300.0**2
SMOOTH_WEIGHT = 30.0

# The loss is measured in an image whose longer side has this many pixels.
_REFERENCE_SIDE = 1000.0

# Its fourth power is still a number in single precision.
_LARGEST_SIGMA = 1e9


@pytree
class KeypointTerm(Term):
    """Reprojection error (paper, Eq. 12). Build it with `keypoints_2d`."""

    keypoints: Keypoints2D
    camera: Camera
    sigma: Real[Array, "..."]  # pixels; one number, or one for each sample
    weight: Real[Array, "..."]

    measures = True

    def __call__(self, hypothesis: Hypothesis) -> Float[Array, "*N"]:
        self._check_fit(hypothesis)
        points = hypothesis.joints + hypothesis.translation[..., None, :]
        return reprojection(points, self.keypoints, self.camera, self.sigma)

    def informs(self, first: Hypothesis) -> Bool[Array, "*N"]:
        return _each(jnp.any(self.keypoints.confidence > 0, axis=-1), first.mask.shape)

    def usable(self, first: Hypothesis) -> Bool[Array, "*N"]:
        self._check_fit(first)
        points = first.joints + first.translation[..., None, :]
        return seen_in_front(points, self.keypoints, self.camera)

    def tempered(self, estimate: Estimate, largest: float) -> "KeypointTerm":
        batch, dtype = estimate.translation.shape[:-1], estimate.translation.dtype
        camera = jax.tree.map(lambda a: jnp.asarray(a, dtype), for_samples(self.camera, batch))
        depth = to_camera_frame(estimate.translation[..., None, :], camera)[..., 0, 2]
        # The loss grows with the square of a person's size in the image, and so does its pull.
        whole = jnp.mean(camera.focal, axis=-1) / jnp.max(camera.image_size, axis=-1)
        # Behind the camera nothing is refined.
        metre = _REFERENCE_SIDE * _each(whole, batch) / jnp.where(depth > 0, depth, jnp.inf)
        less = largest**2 / jnp.maximum(metre, largest) ** 2
        return replace(self, weight=_each(jnp.asarray(self.weight, dtype), batch) * less)

    def check_units(self, estimate: Estimate) -> None:
        check_size_in_image(estimate.translation, self.keypoints, self.camera)

    def _check_fit(self, hypothesis: Hypothesis) -> None:
        found, wanted = self.keypoints.xy.shape[:-1], hypothesis.joints.shape[:-1]
        if found[-1] != wanted[-1]:
            raise ValueError(
                f"keypoints: the skeleton has {wanted[-1]} keypoints, found xy for {found[-1]}; "
                "build it with Skeleton.of(body, names) for the names of your detections"
            )
        camera = camera_batch(self.camera)
        if not fits(found[:-1], wanted[:-1]) or not fits(camera, wanted[:-1]):
            raise ValueError(
                f"keypoints: expected one row and one camera for each estimate {wanted[:-1]}, "
                f"found {found[:-1]} and {camera}"
            )
        if not fits_plainly(self.sigma.shape, wanted[:-1]):
            raise ValueError(
                f"sigma: expected one number, or one for each estimate {wanted[:-1]}, found "
                f"{self.sigma.shape}{in_one_way(self.sigma.shape, wanted[:-1])}"
            )


@pytree
class MultiviewTerm(Term):
    """Disagreement of the body pose between views of one person (paper, Eq. 13)."""

    weight: Real[Array, "..."]

    def __call__(self, hypothesis: Hypothesis) -> Float[Array, "*N"]:
        body, mask = hypothesis.pose_6d[..., 6:], hypothesis.mask[..., None]
        # Before the arithmetic: what is not finite in padding must not come back in a gradient.
        body = jnp.where(mask, body, 0)
        count = jnp.maximum(mask.sum(-2, keepdims=True), 1).astype(body.dtype)
        mean = jnp.broadcast_to(body.sum(-2, keepdims=True) / count, body.shape)
        return jnp.sum(jnp.where(mask, body - mean, 0) ** 2, axis=-1)

    def informs(self, first: Hypothesis) -> Bool[Array, "*N"]:
        several = first.mask.sum(-1, keepdims=True) > 1
        return first.mask & several


@pytree
class SmoothTerm(Term):
    """Change of the pose from frame to frame (paper, Eq. 14).

    A pair's loss is counted at its later frame.
    """

    weight: Real[Array, "..."]

    def __call__(self, hypothesis: Hypothesis) -> Float[Array, "*N"]:
        pose, mask = hypothesis.pose_6d, hypothesis.mask
        both = mask[..., 1:] & mask[..., :-1]
        # Before the arithmetic, as above.
        jump = jnp.where(both[..., None], pose[..., 1:, :] - pose[..., :-1, :], 0)
        change = jnp.sum(jump**2, axis=-1)
        return jnp.concatenate([jnp.zeros_like(pose[..., :1, 0]), change], -1)

    def informs(self, first: Hypothesis) -> Bool[Array, "*N"]:
        none = jnp.zeros_like(first.mask[..., :1])
        before = jnp.concatenate([none, first.mask[..., :-1]], -1)
        after = jnp.concatenate([first.mask[..., 1:], none], -1)
        return first.mask & (before | after)


def keypoints_2d(
    keypoints: Keypoints2D,
    camera: Camera,
    *,
    weight: Number | Real[Array, "..."] = KEYPOINT_WEIGHT,
    sigma: Number | Real[Array, "..."] = 100.0,
) -> KeypointTerm:
    """Reprojection onto 2D keypoints (paper, Eq. 12), by the robust Geman-McClure error.

    A keypoint with a coordinate that is not finite counts as not seen; so do all keypoints of a
    camera with a number that is not finite or a focal length of 0, or of an image without size.

    Args:
        keypoints: detections of the K keypoints of the skeleton, [..., N, K].
        camera: [..., N], or one for all.
        weight: the step size rho, one number or one for each sample; the paper's by default.
        sigma: errors far above this many pixels count no more; one number, or one for each sample.
    Returns:
        The term, for `refine`.
    Raises:
        ValueError: if shapes disagree, numbers are in other units (`scorehmr_jax.units`), a sigma
            is not positive, or a weight is negative or not finite.
    """
    keypoints = native_fields("keypoints", keypoints, Keypoints2D)
    camera = native_fields("camera", camera, Camera)
    shape, confidence = jnp.shape(keypoints.xy), jnp.shape(keypoints.confidence)
    if len(shape) < 2 or shape[-1] != 2 or confidence != shape[:-1]:
        raise ValueError(
            "keypoints: expected xy [..., N, K, 2] and confidence [..., N, K], "
            f"found {shape} and {confidence}"
        )
    batch, rows = camera_batch(camera), shape[:-2]
    if not (fits_plainly(batch, rows) or fits_plainly(rows, batch)):
        raise ValueError(
            f"camera: expected one for each row {rows} of keypoints, found {batch}"
            f"{in_one_way(batch, rows) or in_one_way(rows, batch)}"
        )
    check_observations(keypoints, camera, np.broadcast_shapes(rows, batch))
    sigma = numbers("sigma", sigma)
    known = concrete(sigma)
    if known is not None and not ((known[0] > 0) & (known[0] < _LARGEST_SIGMA)).all():
        raise ValueError(
            f"sigma: expected pixels above 0 and below {_LARGEST_SIGMA:g}, which all but turns the "
            f"robust error into the square, found {sigma}"
        )
    keypoints, camera = screened(keypoints, camera)
    return KeypointTerm(keypoints, camera, as_weight(sigma), as_weight(weight, 0))


def multiview(*, weight: Number | Real[Array, "..."] = MULTIVIEW_WEIGHT) -> MultiviewTerm:
    """Agreement of the body pose between uncalibrated views (paper, Eq. 13).

    Args:
        weight: the step size, one number or one for each sample; by default the paper's 0.005
            times the released code's 300^2.
    Returns:
        The term, for `refine`; the samples [..., N] are views of one person.
    Raises:
        ValueError: if a weight is negative or not finite.
    """
    return MultiviewTerm(as_weight(weight, 0))


def smooth(*, weight: Number | Real[Array, "..."] = SMOOTH_WEIGHT) -> SmoothTerm:
    """Smoothness over the frames of a video (paper, Eq. 14).

    Args:
        weight: the step size, one number or one for each sample; the paper's by default.
    Returns:
        The term, for `refine`; the samples [..., N] are frames in order.
    Raises:
        ValueError: if a weight is negative or not finite.
    """
    return SmoothTerm(as_weight(weight, 0))


def geman_mcclure(
    error: Real[Array, "..."], sigma: Number | Real[Array, "..."]
) -> Float[Array, "..."]:
    """The robust error s^2 e^2 / (s^2 + e^2) (Geman and McClure, 1987).

    Args:
        error: of any shape. It decides the precision, float32 at least.
        sigma: the error at which half of sigma squared is reached; one number, or as error.
    Returns:
        As error, in its unit squared.
    """
    error = floating(error)
    squared, sigma = error**2, jnp.asarray(sigma, error.dtype)
    return sigma**2 * squared / (sigma**2 + squared)


def keypoint_terms(terms: tuple[Term, ...]) -> list[KeypointTerm]:
    """Lists the terms of `keypoints_2d` among others, whatever they are weighted by."""
    return [term for term in map(plain, terms) if isinstance(term, KeypointTerm)]


def reprojection(
    points: Float[Array, "*batch K 3"],
    keypoints: Keypoints2D,
    camera: Camera,
    sigma: Real[Array, "..."],
) -> Float[Array, "*batch"]:
    """The loss of points whose image is known (paper, Eq. 12), as if the image had 1000 pixels.

    Args:
        points: [..., K, 3] metres, in the frame that the body is in. They decide the precision.
        keypoints, camera: [...], or one for all; without useless numbers (`screened`).
        sigma: pixels; one number, or one for each [...].
    Returns:
        [...].
    """
    dtype, shape = points.dtype, points.shape[:-2]
    camera, keypoints = jax.tree.map(lambda a: jnp.asarray(a, dtype), (camera, keypoints))
    # One row of cameras serves every guess about the same samples.
    pixels = project(points, for_samples(camera, shape))
    error = pixels - jnp.broadcast_to(keypoints.xy, pixels.shape)
    sigma = _each(jnp.asarray(sigma, dtype), shape)[..., None, None]
    robust = geman_mcclure(error, jnp.broadcast_to(sigma, error.shape)).sum(-1)
    confidence = jnp.broadcast_to(keypoints.confidence, robust.shape)
    scale = _each(_REFERENCE_SIDE / jnp.max(camera.image_size, axis=-1), shape)
    return scale**2 * jnp.sum(confidence**2 * robust, axis=-1)


def seen_in_front(
    points: Float[Array, "*batch K 3"], keypoints: Keypoints2D, camera: Camera
) -> Bool[Array, "*batch"]:
    """True where all points whose image is known lie before the camera.

    Args:
        points, keypoints, camera: as `reprojection` has them.
    """
    points = to_camera_frame(points, for_samples(camera, points.shape[:-2]))
    # A keypoint that is not seen may be anywhere: a close-up leaves the feet behind.
    seen = jnp.broadcast_to(keypoints.confidence > 0, points.shape[:-1])
    return in_front(jnp.where(seen[..., None], points, 1))


def check_size_in_image(
    translation: Float[Array, "*batch 3"], keypoints: Keypoints2D, camera: Camera
) -> None:
    """Raises a ValueError if a person could not be so large; traced numbers cannot be seen."""
    arrays = translation, keypoints.xy, keypoints.confidence, camera.focal
    seen = concrete(*arrays, *jax.tree.leaves(camera))
    if seen is None:
        return
    xy, confidence, focal = seen[1:4]
    batch = seen[0].shape[:-1]
    if not fits(confidence.shape[:-1], batch) or not fits(camera_batch(camera), batch):
        return  # refused where it is used
    there = seen[0]
    if camera.rotation is not None or camera.translation is not None:
        # Inside a jit of the caller, even operations on known numbers would be traced.
        with jax.ensure_compile_time_eval():
            moved = to_camera_frame(there[..., None, :], for_samples(camera, batch))
            there = np.asarray(moved)[..., 0, :]
    where = "estimate.translation, keypoints and camera.focal"
    xy = np.broadcast_to(xy, (*batch, *xy.shape[-2:]))
    units.check_person_size(xy, confidence, there, focal, where)


# One program: by itself, each of these operations would be compiled alone.
@jax.jit
def screened(keypoints: Keypoints2D, camera: Camera) -> tuple[Keypoints2D, Camera]:
    """Puts harmless numbers in place of useless ones, which count as not seen.

    Args:
        keypoints, camera: as `keypoints_2d` has them.
    Returns:
        Both, of the same leading axes or such that broadcast.
    """
    xy, confidence = floating(keypoints.xy), floating(keypoints.confidence)
    camera, good = screened_camera(camera)
    # One row of keypoints may serve several cameras, some of them useless.
    rows = jnp.broadcast_shapes(xy.shape[:-2], good.shape)
    xy = jnp.broadcast_to(xy, (*rows, *xy.shape[-2:]))
    confidence = jnp.broadcast_to(confidence, xy.shape[:-1])
    good = _each(good, rows)[..., None]
    seen = jnp.isfinite(xy).all(-1) & jnp.isfinite(confidence) & good
    confidence = jnp.where(seen, clipped_confidence(confidence), 0)
    # What is not seen may be any number, too large for the arithmetic as well.
    return Keypoints2D(jnp.where((confidence > 0)[..., None], xy, 0), confidence), camera


def clipped_confidence(confidence: Float[Array, "..."]) -> Float[Array, "..."]:
    """Confidences held within 0 and 1."""
    # Not jnp.clip, which halves the gradient at a confidence of exactly 1.
    return jnp.where(confidence > 1, 1, jnp.where(confidence < 0, 0, confidence))


def _each(numbers: Array, batch: Shape) -> Array:
    """One number for each sample of a batch."""
    return jnp.broadcast_to(numbers, batch)


def check_observations(keypoints: Keypoints2D, camera: Camera, rows: Shape) -> None:
    """Raises a ValueError for numbers in other units; those that are traced cannot be seen.

    Args:
        keypoints, camera: as `keypoints_2d` has them.
        rows: their leading axes together.
    """
    seen = concrete(keypoints.xy, keypoints.confidence)
    if seen is None:
        return
    xy, confidence = seen
    units.checked_confidence(confidence, "keypoints.confidence")
    lens = concrete(camera.focal, camera.center, camera.image_size)
    if lens is not None:
        focal, center, image_size = lens
        units.check_camera(focal, center, image_size, "camera")
        xy = np.broadcast_to(xy, (*rows, *xy.shape[-2:]))
    units.check_keypoints(xy, confidence, None if lens is None else lens[2], "keypoints")
    place = None if camera.rotation is None else concrete(camera.rotation)
    if place is not None:
        units.check_rotations(place[0].reshape(-1, 3, 3), "camera.rotation")
