"""Errors of pose as the field reports them, for any leading axes, usable as losses.

What an evaluation prints of them is chosen in metric_table.py.

Points are in metres and errors in millimetres, unless a docstring says otherwise. Sums are taken in
float32 at least, and in float64 where an argument has it and JAX has it enabled. NumPy's float64 is
kept until differences are taken in any case: a person far from the origin loses no digits.

`valid` marks what counts: True, or a number above 0. What does not count may hold anything, NaN
too: it changes neither the error nor the gradient. An error without anything that counts is NaN
with gradient 0, so average with `jnp.nanmean` and report how many were left out. No error depends
on another sample.

Leading axes broadcast as in numpy, but for one case that is nearly always a mistake: an axis of
length 1 is repeated only if both arrays have the same number of axes. [N, J, 3] against
[N, 1, J, 3] is therefore refused, not compared each with each.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Real, Shaped

from body_model.arithmetic import native
from body_model.joints import EMDB_15, JOINT_NAMES
from body_model.procrustes import similarity
from body_model.pytree import Array, Number
from scorehmr_jax.shapes import concrete

MM_PER_M = 1000.0

# EMDB's 15 joints, yet it divides by all 24.
_EMDB_JOINTS = tuple(map(JOINT_NAMES.index, EMDB_15))


def mpjpe(
    predicted: Real[Array, "*#batch J 3"],
    target: Real[Array, "*#batch J 3"],
    valid: Shaped[Array, "*#batch J"] | None = None,
) -> Float[Array, "..."]:
    """Mean per-joint position error, with no alignment.

    For the usual root-relative error subtract each body's pelvis first.

    Args:
        predicted: [..., J, 3] metres.
        target: [..., J, 3] metres.
        valid: [J] or [..., J], joints that count; all by default.
    Returns:
        [...] millimetres; NaN where no joint counts.
    Raises:
        ValueError: if the shapes do not fit.
    """
    predicted, target = _pair("mpjpe", predicted, target, 2)
    counts = _counting("mpjpe", valid, predicted.shape[:-1])
    return MM_PER_M * _mean_distance(predicted, target, counts)


def similarity_align(
    source: Real[Array, "*#batch J 3"],
    target: Real[Array, "*#batch J 3"],
    valid: Shaped[Array, "*#batch J"] | None = None,
) -> Float[Array, "... J 3"]:
    """Scales, rotates and shifts points onto others with the least squared distance.

    The rotation is proper: where a reflection would fit better, the best rotation is taken
    (Umeyama, PAMI 1991, Eqs. 39 to 42). Points that coincide are only shifted.

    The gradient is finite for all finite points. Where several rotations fit equally well (points
    on a line, a reflection of symmetric points), none of them is preferred.

    Args:
        source: [..., J, 3], the points to move.
        target: [..., J, 3], where to.
        valid: [J] or [..., J], points that decide the transform; all by default.
    Returns:
        [..., J, 3], every source point after the transform.
    Raises:
        ValueError: if the shapes do not fit.
    """
    source, target = _pair("similarity_align", source, target, 2)
    counts = _counting("similarity_align", valid, source.shape[:-1])
    aligned, center = _align(source, target, counts)
    return aligned + center


def pa_mpjpe(
    predicted: Real[Array, "*#batch J 3"],
    target: Real[Array, "*#batch J 3"],
    valid: Shaped[Array, "*#batch J"] | None = None,
) -> Float[Array, "..."]:
    """Mean per-joint position error after the best similarity transform (reconstruction error).

    It hides scale, orientation and place: print an absolute error beside it.

    Args:
        predicted: [..., J, 3] metres.
        target: [..., J, 3] metres.
        valid: [J] or [..., J], joints to align by and to count; all by default.
    Returns:
        [...] millimetres; NaN where no joint counts.
    Raises:
        ValueError: if the shapes do not fit.
    """
    predicted, target = _pair("pa_mpjpe", predicted, target, 2)
    counts = _counting("pa_mpjpe", valid, predicted.shape[:-1])
    aligned, center = _align(predicted, target, counts)
    return MM_PER_M * _mean_distance(aligned, target - center, counts)


def pve(
    predicted: Real[Array, "*#batch V 3"],
    target: Real[Array, "*#batch V 3"],
    predicted_root: Real[Array, "*#batch 3"] | None = None,
    target_root: Real[Array, "*#batch 3"] | None = None,
    valid: Shaped[Array, "*#batch V"] | None = None,
) -> Float[Array, "..."]:
    """Mean per-vertex error (PVE, MVE) of two meshes of one topology, pelvis on pelvis.

    Args:
        predicted: [..., V, 3] metres.
        target: [..., V, 3] metres.
        predicted_root: [..., 3], the predicted pelvis; without it nothing is aligned.
        target_root: [..., 3], the true pelvis.
        valid: [V] or [..., V], vertices that count; all by default.
    Returns:
        [...] millimetres; NaN where no vertex counts.
    Raises:
        ValueError: if only one of the two roots is given, or the shapes do not fit.
    """
    predicted, target = _pair("pve", predicted, target, 2)
    counts = _counting("pve", valid, predicted.shape[:-1])
    if (predicted_root is None) != (target_root is None):
        raise ValueError("pve: give both roots, to align by the pelvis, or neither")
    if predicted_root is not None and target_root is not None:
        roots = _pair("pve, roots", predicted_root, target_root, 1)
        shape = (*predicted.shape[:-2], 3)
        root, true_root = (_stretch("pve, roots", root, shape, 1) for root in roots)
        predicted, target = predicted - root[..., None, :], target - true_root[..., None, :]
    return MM_PER_M * _mean_distance(predicted, target, counts)


def acceleration_error(
    predicted: Real[Array, "*#batch T J 3"],
    target: Real[Array, "*#batch T J 3"],
    valid: Shaped[Array, "*#batch T"] | None = None,
    fps: Number | None = None,
) -> Float[Array, "..."]:
    """Mean distance between the second differences of two motions.

    Args:
        predicted: [..., T, J, 3] metres.
        target: [..., T, J, 3] metres.
        valid: [T] or [..., T], frames that were observed; all by default.
        fps: frames per second. Without it the unit is mm/frame^2, as in the released code; with
            it m/s^2.
    Returns:
        [..., T-2]; NaN where one of the three frames does not count.
    Raises:
        ValueError: if the shapes do not fit.
    """
    predicted, target = _pair("acceleration_error", predicted, target, 3)
    frames = _counting("acceleration_error", valid, predicted.shape[:-2])
    moved = _differences(_emptied(predicted, frames, 2) - _emptied(target, frames, 2), 2)
    error = MM_PER_M * _norm(moved).mean(-1)
    if fps is not None:
        error = error * (_frame_rate("acceleration_error", fps, error.dtype) ** 2 / MM_PER_M)
    return _where_all_count(error, frames, 2)


def jitter(
    joints: Real[Array, "*batch T J 3"],
    fps: Number,
    convention: str = "wham",
    valid: Shaped[Array, "*#batch T"] | None = None,
) -> Float[Array, "..."]:
    """Mean jerk of the joints, in units of 10 m/s^3.

    Both conventions take the third difference, times fps^3, in world coordinates:
    'wham' (WHAM, GVHMR) averages over all joints given; 'emdb' takes SMPL's 24, keeps 15 of
    them (`body_model.joints.EMDB_15`) and still divides by 24, which makes it about 0.6 of the
    former.

    Args:
        joints: [..., T, J, 3] metres.
        fps: frames per second.
        convention: 'wham' or 'emdb'.
        valid: [T] or [..., T], frames that count; all by default.
    Returns:
        [..., T-3], 10 m/s^3; NaN where one of the four frames does not count.
    Raises:
        ValueError: on another convention, if 'emdb' does not get 24 joints, or if the shapes do
            not fit.
    """
    (joints,) = _floats(joints)
    _check_points("jitter", joints, 3)
    frames = _counting("jitter", valid, joints.shape[:-2])
    among = joints.shape[-2]
    if convention == "emdb":
        if among != 24:
            raise ValueError(f"jitter: 'emdb' needs SMPL's 24 joints, found {among}")
        joints = joints[..., _EMDB_JOINTS, :]
    elif convention != "wham":
        raise ValueError(f"jitter: convention is 'wham' or 'emdb', found {convention!r}")
    jerk = _norm(_differences(_emptied(joints, frames, 2), 3)).sum(-1) / among
    return _where_all_count(jerk * (_frame_rate("jitter", fps, jerk.dtype) ** 3 / 10), frames, 3)


def pelvis_error(
    predicted: Real[Array, "*#batch 3"],
    target: Real[Array, "*#batch 3"],
    valid: Shaped[Array, "*#batch"] | None = None,
) -> Float[Array, "..."]:
    """Distance of the pelvis from its true place in the camera frame.

    Args:
        predicted: [..., 3] metres, camera frame.
        target: [..., 3] metres, camera frame.
        valid: [...], samples that count; all by default.
    Returns:
        [...] millimetres; NaN where a sample does not count.
    Raises:
        ValueError: if the shapes do not fit.
    """
    predicted, target = _pair("pelvis_error", predicted, target, 1)
    counts = _counting("pelvis_error", valid, predicted.shape[:-1])
    distance = _norm(_emptied(predicted, counts, 1) - _emptied(target, counts, 1))
    return _where_all_count(MM_PER_M * distance, counts, 0)


def keypoint_error(
    projected: Real[Array, "*#batch K 2"],
    detected: Real[Array, "*#batch K 2"],
    confidence: Shaped[Array, "*#batch K"],
) -> Float[Array, "..."]:
    """Mean distance in the image between projected joints and the keypoints that were seen.

    Args:
        projected: [..., K, 2] pixels.
        detected: [..., K, 2] pixels.
        confidence: [K] or [..., K]; a keypoint counts, fully, where it is above 0.
    Returns:
        [...] pixels; NaN where no keypoint was seen.
    Raises:
        ValueError: if the shapes do not fit.
    """
    projected, detected = _pair("keypoint_error", projected, detected, 2, width=2)
    seen = _counting("keypoint_error", confidence, projected.shape[:-1])
    return _mean_distance(projected, detected, seen)


def _floats(*arrays: Any) -> list[Array]:
    """The arrays as numbers of one precision, float32 at least.

    They are NumPy's where one is of its float64 and JAX has none: JAX would round far places before
    any difference is taken.
    """
    given = [native("points", np.asarray(a) if isinstance(a, list) else a) for a in arrays]
    dtype = np.float64 if any(array.dtype == np.float64 for array in given) else np.float32
    possible = jax.dtypes.canonicalize_dtype(dtype)
    known = None if possible == dtype else concrete(*given)
    if known is not None:
        return [array.astype(dtype) for array in known]
    return [jnp.asarray(array).astype(possible) for array in given]


def _pair(name: str, first: Any, second: Any, axes: int, width: int = 3) -> list[Array]:
    """Two arrays of points in one shape, of which the last axes must be equal."""
    first, second = _floats(first, second)
    ends = first.shape[-axes:], second.shape[-axes:]
    for array in (first, second):
        _check_points(name, array, axes, width)
    if ends[0] != ends[1]:
        raise ValueError(
            f"{name}: expected two arrays that end in the same {axes} axes, found {first.shape} "
            f"and {second.shape}"
        )
    shape = max(first.shape, second.shape, key=len)
    if first.ndim == second.ndim:
        pairs = zip(first.shape, second.shape, strict=True)
        shape = tuple(b if a == 1 else a for a, b in pairs)
    return [_stretch(name, array, shape, axes) for array in (first, second)]


def _check_points(name: str, array: Array, axes: int, width: int = 3) -> None:
    """Refuses what are no points: a confidence or a flattened axis would count as a coordinate."""
    if array.ndim < axes or array.shape[-1] != width:
        expected = ", ".join(["...", *("T", "J")[3 - axes :], str(width)])
        raise ValueError(
            f"{name}: expected points [{expected}], found shape {array.shape}; take what is no "
            "coordinate off, and put each point into a row of its own"
        )


def _frame_rate(name: str, fps: Any, dtype: Any) -> jax.Array:
    """Frames per second as a number of this type."""
    if jnp.ndim(fps) != 0:
        raise ValueError(
            f"{name}: fps: expected one number for all sequences, found shape {jnp.shape(fps)}; "
            "measure sequences of other rates one by one"
        )
    known = concrete(fps)
    if known is not None and not 0 < known[0] < np.inf:
        raise ValueError(f"{name}: fps: expected frames per second above 0, found {known[0]}")
    return jnp.asarray(fps, dtype)


def _stretch(name: str, array: Array, shape: tuple[int, ...], axes: int) -> Array:
    """Repeats an array along leading axes; an axis of length 1 only where the ranks agree."""
    lead, wanted = array.shape[:-axes], shape[:-axes]
    same_rank = len(lead) == len(wanted)
    tail = wanted[len(wanted) - len(lead) :]
    fits = len(lead) <= len(wanted) and all(
        have == want or (have == 1 and same_rank) for have, want in zip(lead, tail, strict=True)
    )
    if not fits or array.shape[-axes:] != shape[-axes:]:
        raise ValueError(
            f"{name}: found shape {array.shape} beside {shape}, whose leading axes do not fit; "
            "give equal shapes, or repeat with jnp.broadcast_to"
        )
    return _library(array).broadcast_to(array, shape)


def _counting(name: str, valid: Any, shape: tuple[int, ...]) -> Array | None:
    """The mask of what counts, in the shape of what it speaks of."""
    if valid is None:
        return None
    counts = native(f"{name}: valid", np.asarray(valid) if isinstance(valid, list) else valid)
    counts = counts if counts.dtype == bool else counts > 0
    if not shape:
        if counts.ndim:
            raise ValueError(f"{name}: valid: expected one number, found shape {counts.shape}")
        return counts
    if counts.ndim == 0 or counts.ndim > len(shape) or counts.shape[-1] != shape[-1]:
        raise ValueError(
            f"{name}: valid: expected shape {shape} or {shape[-1:]}, found {counts.shape}"
        )
    return _stretch(f"{name}: valid", counts, shape, 1)


def _library(*arrays: Any) -> Any:
    """NumPy for arrays that are all NumPy's, or JAX' form of it."""
    return np if all(isinstance(array, np.ndarray | np.generic) for array in arrays) else jnp


def _emptied(points: Array, counts: Array | None, axes: int) -> Array:
    """Points with zeros where they do not count: 0 * NaN would be NaN, in the gradient too."""
    if counts is None:
        return points
    counts = counts.reshape(counts.shape + (1,) * axes)
    return _library(points, counts).where(counts, points, 0)


def _differences(points: Array, order: int) -> Array:
    """Differences of an order between the frames of points [..., T, J, 3]."""
    return _library(points).diff(points, n=order, axis=-3)


def _where_all_count(values: jax.Array, counts: Array | None, before: int) -> jax.Array:
    """NaN unless a frame and the `before` ones that it is compared with all count."""
    if counts is None:
        return values
    length = counts.shape[-1] - before if before else None
    for shift in range(before + 1):
        here = counts if length is None else counts[..., shift : shift + length]
        values = jnp.where(here, values, jnp.nan)
    return values


def _norm(x: Array) -> jax.Array:
    """Length of the last axis, with gradient 0 rather than NaN at 0."""
    squared = jnp.square(x).sum(-1)
    return jnp.where(squared == 0, 0, jnp.sqrt(jnp.where(squared == 0, 1, squared)))


def _mean_distance(first: Array, second: Array, counts: Array | None) -> jax.Array:
    """Mean over points [..., J, D] that count; NaN where none does."""
    if counts is None:
        return _norm(first - second).mean(-1)
    distances = _norm(_emptied(first, counts, 1) - _emptied(second, counts, 1))
    count = jnp.asarray(counts.sum(-1), distances.dtype)
    mean = distances.sum(-1) / jnp.maximum(count, 1)
    return jnp.where(count == 0, jnp.nan, mean)


def _align(source: Array, target: Array, counts: Array | None) -> tuple[jax.Array, Array]:
    """`similarity_align` for arrays of one shape: the points about a centre [..., 1, 3], and it."""
    weight = np.ones(source.shape[:-1], bool) if counts is None else counts
    weight = weight[..., None].astype(source.dtype)
    count = _library(weight).maximum(weight.sum(-2, keepdims=True), 1)
    seen_source, seen_target = (_emptied(points, counts, 1) for points in (source, target))
    source_mean = seen_source.sum(-2, keepdims=True) / count
    target_mean = seen_target.sum(-2, keepdims=True) / count
    a = jnp.asarray(weight * (seen_source - source_mean))
    b = jnp.asarray(weight * (seen_target - target_mean))
    # A point that is not finite and does not count must not reach the rotation's gradient.
    library = _library(source)
    finite = library.isfinite(source).all(-1, keepdims=True)
    rotation, scale = similarity(a, b)
    about = library.where(finite, source, source_mean) - source_mean
    with jax.default_matmul_precision("float32"):
        turned = jnp.asarray(about) @ rotation
    return jnp.where(finite, scale[..., None, None] * turned, jnp.nan), target_mean
