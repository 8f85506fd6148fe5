"""The evidence: losses on a hypothesis whose gradients guide the sampling.

A term is any function from a `Hypothesis` of samples [..., N] to losses [..., N]. The last
axis, N, is the group: the frames of one video, the views of one person, or images that have
nothing to do with each other. Those here are pytrees: observations and weights are traced, so
that changing them never recompiles. A function of your own has that too if it is a pytree:
`jax.tree_util.Partial(loss, observations)`; a plain function's own data is compiled in.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from body_model.pytree import pytree
from scorehmr_jax.camera import in_front, project
from scorehmr_jax.types import Array, Camera, Hypothesis, Keypoints2D, Number

# Step sizes of the paper (section 4.3), and the released code's own factor on the views' term.
KEYPOINT_WEIGHT = 0.003
MULTIVIEW_WEIGHT = 0.005 * 300.0**2
SMOOTH_WEIGHT = 30.0

# The loss is measured in an image whose longer side has this many pixels.
_REFERENCE_SIDE = 1000.0


class Term:
    """What `refine` asks of a term beside its weight. A plain function is wrapped in one."""

    weight: Any

    def __call__(self, hypothesis: Hypothesis) -> Array:
        """Unweighted loss of each sample, [..., N]."""
        raise NotImplementedError

    def informs(self, first: Hypothesis) -> Array:
        """Whether the term has anything to say of each sample, [..., N]."""
        return jnp.ones_like(first.mask)

    def usable(self, first: Hypothesis) -> Array:
        """Whether each sample's first estimate can be judged at all, [..., N]."""
        return jnp.ones_like(first.mask)


@pytree
class KeypointTerm(Term):
    """Reprojection error (paper, Eq. 12). Build it with `keypoints_2d`."""

    keypoints: Keypoints2D
    camera: Camera
    sigma: Array
    weight: Array

    def __call__(self, hypothesis: Hypothesis) -> Array:
        self._check_fit(hypothesis)
        points = hypothesis.joints + hypothesis.translation[..., None, :]
        error = project(points, self.camera) - self.keypoints.xy
        scale = _REFERENCE_SIDE / jnp.max(jnp.asarray(self.camera.image_size), axis=-1)
        robust = geman_mcclure(error, self.sigma).sum(-1)
        return scale**2 * jnp.sum(self.keypoints.confidence**2 * robust, axis=-1)

    def informs(self, first: Hypothesis) -> Array:
        seen = jnp.any(self.keypoints.confidence > 0, axis=-1)
        return jnp.broadcast_to(seen, first.mask.shape)

    def usable(self, first: Hypothesis) -> Array:
        self._check_fit(first)
        points = first.joints + first.translation[..., None, :]
        # A keypoint that is not seen may be anywhere: a close-up leaves the feet behind.
        seen = self.keypoints.confidence[..., None] > 0
        return in_front(jnp.where(seen, points, jnp.ones_like(points)))

    def _check_fit(self, hypothesis: Hypothesis) -> None:
        found, wanted = self.keypoints.xy.shape[:-1], hypothesis.joints.shape[:-1]
        if found[-1] != wanted[-1]:
            raise ValueError(
                f"keypoints: the skeleton has {wanted[-1]} keypoints, found xy for {found[-1]}; "
                "build it with Skeleton.of(body, names) for the names of your detections"
            )
        camera = self.camera.image_size.shape[:-1]
        if not _fits(found[:-1], wanted[:-1]) or not _fits(camera, wanted[:-1]):
            raise ValueError(
                f"keypoints: expected one row and one camera for each estimate {wanted[:-1]}, "
                f"found {found[:-1]} and {camera}"
            )


@pytree
class MultiviewTerm(Term):
    """Disagreement of the body pose between views of one person (paper, Eq. 13)."""

    weight: Array

    def __call__(self, hypothesis: Hypothesis) -> Array:
        body = hypothesis.pose_6d[..., 6:]
        mask = hypothesis.mask[..., None].astype(body.dtype)
        count = jnp.maximum(mask.sum(-2, keepdims=True), 1)
        mean = (mask * body).sum(-2, keepdims=True) / count
        return jnp.sum(mask * (body - mean) ** 2, axis=-1)

    def informs(self, first: Hypothesis) -> Array:
        several = first.mask.sum(-1, keepdims=True) > 1
        return first.mask & several


@pytree
class SmoothTerm(Term):
    """Change of the pose from frame to frame (paper, Eq. 14).

    A pair's loss is counted at its later frame.
    """

    weight: Array

    def __call__(self, hypothesis: Hypothesis) -> Array:
        pose, mask = hypothesis.pose_6d, hypothesis.mask
        both = (mask[..., 1:] & mask[..., :-1]).astype(pose.dtype)
        change = both * jnp.sum((pose[..., 1:, :] - pose[..., :-1, :]) ** 2, axis=-1)
        return jnp.concatenate([jnp.zeros_like(change, shape=(*mask.shape[:-1], 1)), change], -1)

    def informs(self, first: Hypothesis) -> Array:
        none = jnp.zeros_like(first.mask[..., :1])
        before = jnp.concatenate([none, first.mask[..., :-1]], -1)
        after = jnp.concatenate([first.mask[..., 1:], none], -1)
        return first.mask & (before | after)


@pytree
class FunctionTerm(Term):
    """A function of the user's, with a weight. Build it with `weighted`."""

    weight: Array
    function: Callable[[Hypothesis], Array]  # a pytree, what it carries being traced

    def __call__(self, hypothesis: Hypothesis) -> Array:
        loss = jnp.asarray(self.function(hypothesis))
        wanted = hypothesis.mask.shape
        if loss.shape != wanted:
            function = getattr(self.function, "func", self.function)
            name = getattr(function, "__name__", type(function).__name__)
            raise ValueError(
                f"term {name}: expected one loss per sample, shape {wanted}, found {loss.shape}"
            )
        return loss


@pytree
class WeightedTerm(Term):
    """Another term, times a number."""

    factor: Array
    term: Term

    @property
    def weight(self) -> Array:
        return self.factor * self.term.weight

    def __call__(self, hypothesis: Hypothesis) -> Array:
        return self.term(hypothesis)

    def informs(self, first: Hypothesis) -> Array:
        return self.term.informs(first)

    def usable(self, first: Hypothesis) -> Array:
        return self.term.usable(first)


def keypoints_2d(
    keypoints: Keypoints2D,
    camera: Camera,
    *,
    weight: Number = KEYPOINT_WEIGHT,
    sigma: Number = 100.0,
) -> KeypointTerm:
    """Reprojection onto 2D keypoints (paper, Eq. 12), by the robust Geman-McClure error.

    A keypoint with a coordinate that is not finite counts as not seen; so do all keypoints of a
    camera with a number that is not finite or a focal length of 0, or of an image without size.

    Args:
        keypoints: detections of the K keypoints of the skeleton, [..., N, K].
        camera: [..., N].
        weight: the step size rho; the paper's by default.
        sigma: errors far above this many pixels count no more.
    Raises:
        ValueError: if shapes disagree, or a confidence lies outside [0, 1].
    """
    xy, confidence = _floating(keypoints.xy), _floating(keypoints.confidence)
    if xy.ndim < 2 or xy.shape[-1] != 2 or confidence.shape != xy.shape[:-1]:
        raise ValueError(
            "keypoints: expected xy [..., N, K, 2] and confidence [..., N, K], "
            f"found {xy.shape} and {confidence.shape}"
        )
    if not isinstance(keypoints.confidence, jax.core.Tracer):
        _check_range(np.asarray(keypoints.confidence))
    camera, good = _screened(camera)
    if not (_fits(good.shape, xy.shape[:-2]) or _fits(xy.shape[:-2], good.shape)):
        raise ValueError(
            f"camera: expected one for each row {xy.shape[:-2]} of keypoints, found {good.shape}"
        )
    seen = jnp.isfinite(xy).all(-1) & jnp.isfinite(confidence) & good[..., None]
    xy = jnp.where(seen[..., None], xy, 0)
    # Not jnp.clip, which halves the gradient at a confidence of exactly 1.
    confidence = jnp.where(confidence > 1, 1, jnp.where(confidence < 0, 0, confidence))
    confidence = jnp.where(seen, confidence, 0)
    return KeypointTerm(
        Keypoints2D(xy, confidence),
        camera,
        jnp.asarray(sigma, xy.dtype),
        jnp.asarray(weight, xy.dtype),
    )


def multiview(*, weight: Number = MULTIVIEW_WEIGHT) -> MultiviewTerm:
    """Agreement of the body pose between uncalibrated views (paper, Eq. 13).

    Args:
        weight: the step size; by default the paper's 0.005 times the released code's 300^2.
    """
    return MultiviewTerm(_weight(weight))


def smooth(*, weight: Number = SMOOTH_WEIGHT) -> SmoothTerm:
    """Smoothness over the frames of a video (paper, Eq. 14).

    Args:
        weight: the step size; the paper's by default.
    """
    return SmoothTerm(_weight(weight))


def weighted(weight: Number, term: Term | Callable[[Hypothesis], Array]) -> Term:
    """A term times a number, which may be traced.

    Args:
        weight: multiplies the term's own weight; a plain function's own weight is 1.
        term: a term, or a function from a hypothesis to a loss per sample [..., N]. What a
            function carries is traced if it is a pytree, such as `jax.tree_util.Partial`.
    Raises:
        ValueError: if term is neither, or a function that can be neither traced nor hashed.
    """
    if isinstance(term, Term):
        return WeightedTerm(_weight(weight), term)
    if not callable(term):
        raise ValueError(
            "term: expected a function from a hypothesis to a loss per sample, or one of "
            f"keypoints_2d, multiview, smooth; found {type(term).__name__}"
        )
    if jax.tree_util.all_leaves([term]):
        try:
            hash(term)
        except TypeError:
            raise ValueError(
                f"term: {type(term).__name__} can neither be traced nor hashed; register it as a "
                "pytree, or pass jax.tree_util.Partial(function, data)"
            ) from None
        term = jax.tree_util.Partial(term)
    return FunctionTerm(_weight(weight), term)


def as_terms(terms: Any) -> tuple[Term, ...]:
    """One term or several, functions wrapped; a ValueError if there is none."""
    several = terms if isinstance(terms, tuple | list) else (terms,)
    if not several:
        raise ValueError("terms: expected at least one, such as keypoints_2d(...), found none")
    return tuple(t if isinstance(t, Term) else weighted(1.0, t) for t in several)


def geman_mcclure(error: Array, sigma: Number) -> Array:
    """The robust error s^2 e^2 / (s^2 + e^2) (Geman and McClure, 1987)."""
    squared = error**2
    return sigma**2 * squared / (sigma**2 + squared)


def _fits(rows: tuple[int, ...], batch: tuple[int, ...]) -> bool:
    """Whether an array of these leading axes broadcasts to the batch."""
    pairs = zip(rows[::-1], batch[::-1], strict=False)
    return len(rows) <= len(batch) and all(n in (1, wanted) for n, wanted in pairs)


def _weight(weight: Number) -> Array:
    # Of one dtype, whatever kind of number it came as: another would compile anew.
    return jnp.asarray(weight, float)


def _floating(array: Array) -> Array:
    array = jnp.asarray(array)
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def _screened(camera: Camera) -> tuple[Camera, Array]:
    """A camera with harmless numbers where it has useless ones, and where it has none such."""
    for name in ("focal", "center", "image_size"):
        shape = jnp.shape(getattr(camera, name))
        if shape[-1:] != (2,):
            raise ValueError(f"camera.{name}: expected [..., N, 2], found {shape}")
    camera = jax.tree.map(_floating, camera)
    shapes = [leaf.shape for leaf in jax.tree.leaves(camera)]
    try:
        jnp.broadcast_shapes(*shapes)
    except ValueError:
        raise ValueError(
            "camera: focal, center and image_size disagree on the samples: {}, {} and {}".format(
                *shapes
            )
        ) from None
    good = (jnp.max(camera.image_size, axis=-1) > 0) & (camera.focal != 0).all(-1)
    for leaf in jax.tree.leaves(camera):
        good = good & jnp.isfinite(leaf).all(-1)
    return jax.tree.map(lambda leaf: jnp.where(good[..., None], leaf, 1), camera), good


def _check_range(confidence: np.ndarray) -> None:
    known = confidence[~np.isnan(confidence)]
    if known.size and (known.min() < 0 or known.max() > 1):
        raise ValueError(
            f"keypoints.confidence: expected within [0, 1], found {known.min():g} to "
            f"{known.max():g}; clip or rescale the detector's scores first"
        )
