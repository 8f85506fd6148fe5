"""A 2D keypoint detector, simulated: systematically off, noisy, and honest only in part.

What a detector calls a joint is not where the body model has it, so each keypoint has an offset
that no averaging removes. Noise persists over frames; now and then a keypoint is far off, missing,
or on the other side's limb, mostly with less confidence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm

from body_model.joints import OPENPOSE_25
from scorehmr_jax.simulation.clip_noise import smooth_noise
from scorehmr_jax.types import Array, Camera, Keypoints2D

_PARTS = {"arm": ("elbow", "wrist"), "leg": ("knee", "ankle", "big_toe", "small_toe", "heel")}


@partial(
    jax.tree_util.register_dataclass,
    meta_fields=["correlation_frames"],
    data_fields=["offset", "noise", "jitter", "outliers", "outlier_noise", "missing", "hidden",
                 "swapped", "tolerance"],
)  # fmt: skip
@dataclass(frozen=True)
class Detector:
    """How a simulated detector errs. Lengths are metres at the body's distance."""

    offset: tuple[float, float] = (0.02, 0.035)  # of each keypoint, always the same
    noise: float = 0.025  # sd along x and along y
    jitter: float = 0.02  # share of the noise's variance that is new in every frame
    outliers: float = 0.05  # share of keypoints with far larger noise
    outlier_noise: float = 0.12  # their sd
    missing: float = 0.03  # share of keypoints that are not seen
    hidden: float = 0.04  # share of arms and legs that are not seen at all
    swapped: float = 0.02  # share of arm and leg pairs taken for each other
    tolerance: float = 0.1  # error, without the offset, at which confidence has halved
    correlation_frames: int = 6  # over which errors persist (sd of a Gaussian window)


@partial(jax.jit, static_argnames=("names",))
def simulate_detections(
    key: Array,
    xy: Array,
    pixels_per_metre: Array,
    detector: Detector = Detector(),
    clip_index: Array | None = None,
    names: tuple[str, ...] = OPENPOSE_25,
    detector_seed: int | Array = 0,
) -> Keypoints2D:
    """What a 2D detector would find in images of these people.

    Args:
        key: PRNG key of everything that differs between frames.
        xy: [N, K, 2] true keypoints, pixels.
        pixels_per_metre: [N] at the body's distance; `pixels_per_metre` computes it.
        detector: how it errs.
        clip_index: [N] equal for the frames of one clip, which are contiguous and in order; None
            makes the errors of all frames independent, but for the offsets.
        names: of the K keypoints; arms and legs are known by them.
        detector_seed: decides the offsets. One seed is one detector.
    Returns:
        Keypoints [N, K]; a missing one has confidence 0 and coordinates 0.
    Raises:
        ValueError: if there are not K names.
    """
    count, number = xy.shape[:2]
    if len(names) != number:
        raise ValueError(f"names: expected one for each of {number} keypoints, found {len(names)}")
    limbs = {(side, part): _members(names, side, part) for part in _PARTS for side in _SIDES}
    smooth = partial(smooth_noise, clip_index=clip_index, frames=detector.correlation_frames)
    key_events, key_error = jax.random.split(key)
    # One draw for everything that lasts some frames.
    widths = np.cumsum([len(_PARTS), len(limbs), number, number])
    events = smooth(key_events, (count, int(widths[-1]) + number))
    swapped, hidden, missing, outlier, doubt = jnp.split(events, widths, axis=1)
    swapped, hidden, missing, outlier = (
        draw > norm.ppf(1 - share)
        for draw, share in (
            (swapped, detector.swapped),
            (hidden, detector.hidden),
            (missing, detector.missing),
            (outlier, detector.outliers),
        )
    )

    order = jnp.broadcast_to(jnp.arange(number), (count, number))
    is_swapped = jnp.zeros((count, number), bool)
    for i, part in enumerate(_PARTS):
        left, right = limbs["left", part], limbs["right", part]
        other = np.arange(number)
        other[left], other[right] = right, left
        order = jnp.where(swapped[:, i, None], other, order)
        is_swapped |= swapped[:, i, None] & (other != np.arange(number))
    for i, members in enumerate(limbs.values()):
        missing = missing.at[:, members].set(missing[:, members] | hidden[:, i, None])

    sigma = jnp.where(outlier, detector.outlier_noise, detector.noise)
    error = sigma[..., None] * smooth(key_error, xy.shape, jitter=detector.jitter)
    taken = jnp.take_along_axis(xy, order[..., None], axis=1)
    scale = pixels_per_metre[:, None, None]
    found = taken + scale * (error + _offsets(detector_seed, number, detector.offset))

    wrong = jnp.sqrt(jnp.square(error).sum(-1))
    confidence = 0.95 / (1 + jnp.square(wrong / detector.tolerance))
    confidence = confidence * (1 - 0.2 * norm.cdf(doubt))
    # Detectors are surer of a swapped limb than they should be.
    confidence = jnp.where(is_swapped, 0.6 * confidence, confidence)
    confidence = jnp.where(missing, 0.0, confidence).astype(xy.dtype)
    return Keypoints2D(jnp.where(missing[..., None], 0.0, found).astype(xy.dtype), confidence)


_SIDES = ("left", "right")


def _members(names: Sequence[str], side: str, part: str) -> np.ndarray:
    wanted = [f"{side}_{joint}" for joint in _PARTS[part]]
    return np.array([names.index(n) for n in wanted if n in names], int)


def _offsets(seed: int | Array, number: int, bounds: tuple[float, float]) -> Array:
    """An offset in metres for each keypoint, [K, 2]."""
    key_angle, key_length = jax.random.split(jax.random.key(seed))
    angle = jax.random.uniform(key_angle, (number,), maxval=2 * np.pi)
    length = jax.random.uniform(key_length, (number,), minval=bounds[0], maxval=bounds[1])
    return length[:, None] * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)


def pixels_per_metre(camera: Camera, translation: Array) -> Array:
    """How large the body appears, [N].

    Args:
        camera: of N samples.
        translation: [N, 3] body to camera, metres.
    """
    return camera.focal.mean(-1) / translation[..., 2]
