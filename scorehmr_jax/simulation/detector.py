"""A simulated detector of 2D keypoints.

A detector and a body model do not mean quite the same point by a joint, so each keypoint has an
offset that no averaging removes. Noise persists over frames; now and then a keypoint is far off,
missing, or on the limb of the other side, mostly with less confidence.
"""

from collections.abc import Sequence
from dataclasses import field
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from jaxtyping import Float, Int, Key, Real

from body_model.joints import OPENPOSE_25
from body_model.pytree import pytree
from scorehmr_jax.shapes import floating
from scorehmr_jax.simulation.clip_noise import smooth_noise
from scorehmr_jax.types import Array, Camera, Keypoints2D, Number

_PARTS = {"arm": ("elbow", "wrist"), "leg": ("knee", "ankle", "big_toe", "small_toe", "heel")}
_SIDES = ("left", "right")


@pytree
class Detector:
    """The errors of a simulated detector. Lengths are metres at the body's distance."""

    # Least and greatest length of a keypoint's offset, which is always the same.
    offset: tuple[Number, Number] = (0.02, 0.035)
    noise: Number = 0.025  # standard deviation along x and along y
    jitter: Number = 0.02  # share of the noise's variance that is new in every frame
    outliers: Number = 0.05  # share of keypoints with far larger noise
    outlier_noise: Number = 0.12  # their standard deviation
    missing: Number = 0.03  # share of keypoints that are not seen
    hidden: Number = 0.04  # share of arms and legs that are not seen at all
    swapped: Number = 0.02  # share of arm and leg pairs taken for each other
    tolerance: Number = 0.1  # error, without the offset, at which confidence has halved
    # Frames over which errors persist: standard deviation of a Gaussian window.
    correlation_frames: int = field(default=6, metadata={"static": True})


DETECTOR = Detector()  # of the demo and of the benchmarks


@partial(jax.jit, static_argnames=("names",))
def simulate_detections(
    key: Key[Array, ""],
    xy: Real[Array, "N K 2"],
    pixels_per_metre: Real[Array, " N"],
    detector: Detector = DETECTOR,
    clip_index: Int[Array, " N"] | None = None,
    names: tuple[str, ...] = OPENPOSE_25,
    detector_seed: int | Int[Array, ""] = 0,
) -> Keypoints2D:
    """Simulates what a 2D detector finds in images of these people.

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
        Keypoints [N, K], floating point of 32 bits at least; a missing one has confidence 0 and
        coordinates 0.
    Raises:
        ValueError: if there are not K names.
    """
    xy = floating(xy)
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

    itself = np.arange(number)[None]
    order = jnp.broadcast_to(itself, (count, number))
    is_swapped = jnp.zeros((count, number), bool)
    for i, part in enumerate(_PARTS):
        left, right = limbs["left", part], limbs["right", part]
        other = itself.copy()
        other[:, left], other[:, right] = right, left
        order = jnp.where(swapped[:, i, None], other, order)
        is_swapped |= swapped[:, i, None] & (other != itself)
    for i, members in enumerate(limbs.values()):
        missing = missing.at[:, members].set(missing[:, members] | hidden[:, i, None])

    sigma = jnp.where(outlier, detector.outlier_noise, detector.noise)
    error = sigma[..., None] * smooth(key_error, xy.shape, jitter=detector.jitter)
    taken = jnp.take_along_axis(xy, order[..., None], axis=1)
    scale = pixels_per_metre[:, None, None]
    found = taken + scale * (error + _offsets(detector_seed, number, detector.offset)[None])

    wrong = jnp.sqrt(jnp.square(error).sum(-1))
    confidence = 0.95 / (1 + jnp.square(wrong / detector.tolerance))
    confidence = confidence * (1 - 0.2 * norm.cdf(doubt))
    # Detectors are surer of a swapped limb than they should be.
    confidence = jnp.where(is_swapped, 0.6 * confidence, confidence)
    confidence = jnp.where(missing, 0.0, confidence).astype(xy.dtype)
    return Keypoints2D(jnp.where(missing[..., None], 0.0, found).astype(xy.dtype), confidence)


def _members(names: Sequence[str], side: str, part: str) -> np.ndarray:
    """Finds the keypoints of one arm or leg, by number."""
    wanted = [f"{side}_{joint}" for joint in _PARTS[part]]
    return np.array([names.index(n) for n in wanted if n in names], int)


def _offsets(seed: int | Array, number: int, bounds: tuple[Number, Number]) -> Float[Array, "K 2"]:
    """Draws an offset in metres for each keypoint."""
    key_angle, key_length = jax.random.split(jax.random.key(seed))
    angle = jax.random.uniform(key_angle, (number,), maxval=2 * np.pi)
    length = jax.random.uniform(key_length, (number,), minval=bounds[0], maxval=bounds[1])
    return length[:, None] * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)


def pixels_per_metre(camera: Camera, translation: Float[Array, "*N 3"]) -> Float[Array, "*N"]:
    """Measures how large bodies appear.

    Args:
        camera: of N samples.
        translation: [N, 3] body to camera, metres.
    Returns:
        [N] pixels for a metre at the body's distance.
    """
    return camera.focal.mean(-1) / translation[..., 2]
