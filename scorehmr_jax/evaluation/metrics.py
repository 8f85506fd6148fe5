"""Errors of 3D pose as the field reports them, for any leading axes.

Points are in metres and errors come in millimetres, unless a name or docstring says otherwise.
`valid` marks what was observed; a figure without a valid point is NaN, so average with
`jnp.nanmean` and report how many were left out. No figure depends on another sample.
"""

import jax
import jax.numpy as jnp

from body_model.pytree import Array

MM_PER_M = 1000.0

# EMDB leaves out the root, the feet and the hands, yet still divides by all 24 joints.
_EMDB_STILL_JOINTS = (0, 7, 8, 10, 11, 20, 21, 22, 23)


def mpjpe(predicted: Array, target: Array, valid: Array | None = None) -> Array:
    """Mean per-joint position error, with no alignment.

    For the usual root-relative figure subtract each body's pelvis first.

    Args:
        predicted: [..., J, 3] metres.
        target: [..., J, 3] metres.
        valid: [..., J], joints to count; all by default.
    Returns:
        [...] millimetres; NaN where no joint is valid.
    """
    return MM_PER_M * _mean(_norm(predicted - target), valid)


def similarity_align(source: Array, target: Array, valid: Array | None = None) -> Array:
    """Scale, rotate and shift points onto others with the least squared distance.

    The rotation is proper: where a reflection would fit better, the best rotation is taken
    (Umeyama, PAMI 1991, Eqs. 39 to 42). Points that coincide are only shifted.

    Args:
        source: [..., J, 3], the points to move.
        target: [..., J, 3], where to.
        valid: [..., J], points that decide the transform; all by default.
    Returns:
        [..., J, 3], every source point after the transform. Its gradient is finite where the
        singular values of the cross-covariance differ, that is: unless the points are symmetric
        or on a line.
    """
    weight = jnp.ones(source.shape[:-1], source.dtype) if valid is None else valid
    weight = weight[..., None].astype(source.dtype)
    count = jnp.maximum(weight.sum(-2, keepdims=True), 1)
    # 0 * NaN is NaN: points that do not count are emptied, not only weighted by 0.
    seen_source = jnp.where(weight > 0, source, 0)
    seen_target = jnp.where(weight > 0, target, 0)
    source_mean = seen_source.sum(-2, keepdims=True) / count
    target_mean = seen_target.sum(-2, keepdims=True) / count
    a = weight * (seen_source - source_mean)
    b = weight * (seen_target - target_mean)
    with jax.default_matmul_precision("float32"):
        u, s, vt = jnp.linalg.svd(jnp.swapaxes(a, -1, -2) @ b, full_matrices=False)
        sign = jnp.where(_det(u) * _det(vt) < 0, -1.0, 1.0).astype(s.dtype)
        u = u * _last_of_three(sign)[..., None, :]
        spread = jnp.square(a).sum((-2, -1))
        fit = (s * _last_of_three(sign)).sum(-1)
        scale = jnp.where(spread == 0, 1, fit / jnp.where(spread == 0, 1, spread))
        turned = (source - source_mean) @ (u @ vt)
    return scale[..., None, None] * turned + target_mean


def pa_mpjpe(predicted: Array, target: Array, valid: Array | None = None) -> Array:
    """Mean per-joint position error after the best similarity transform (reconstruction error).

    It hides scale, orientation and place: print an absolute metric beside it.

    Args:
        predicted: [..., J, 3] metres.
        target: [..., J, 3] metres.
        valid: [..., J], joints to align by and to count; all by default.
    Returns:
        [...] millimetres; NaN where no joint is valid.
    """
    return mpjpe(similarity_align(predicted, target, valid), target, valid)


def pve(
    predicted: Array,
    target: Array,
    predicted_root: Array | None = None,
    target_root: Array | None = None,
) -> Array:
    """Mean per-vertex error (PVE, MVE) of two meshes of one topology, pelvis on pelvis.

    Args:
        predicted: [..., V, 3] metres.
        target: [..., V, 3] metres.
        predicted_root: [..., 3], the predicted pelvis; without it nothing is aligned.
        target_root: [..., 3], the true pelvis.
    Returns:
        [...] millimetres.
    Raises:
        ValueError: if only one of the two roots is given.
    """
    if predicted_root is None and target_root is None:
        return mpjpe(predicted, target)
    if predicted_root is None or target_root is None:
        raise ValueError("pve: give both roots, to align by the pelvis, or neither")
    return mpjpe(predicted - predicted_root[..., None, :], target - target_root[..., None, :])


def acceleration_error(
    predicted: Array, target: Array, valid: Array | None = None, fps: float | None = None
) -> Array:
    """Mean distance between the second differences of two motions.

    Args:
        predicted: [..., T, J, 3] metres.
        target: [..., T, J, 3] metres.
        valid: [..., T], frames that were observed; all by default.
        fps: frames per second. Without it the unit is mm/frame^2, as in the released code; with
            it m/s^2.
    Returns:
        [..., T-2]; NaN where one of the three frames is not valid.
    """
    difference = jnp.diff(predicted, n=2, axis=-3) - jnp.diff(target, n=2, axis=-3)
    error = MM_PER_M * _norm(difference).mean(-1)
    if fps is not None:
        error = error * (fps**2 / MM_PER_M)
    if valid is None:
        return error
    valid = valid.astype(bool)
    return jnp.where(valid[..., :-2] & valid[..., 1:-1] & valid[..., 2:], error, jnp.nan)


def jitter(joints: Array, fps: float, convention: str = "wham") -> Array:
    """Mean jerk of the joints, in units of 10 m/s^3.

    Both conventions take the third difference, times fps^3, in world coordinates:
    'wham' (WHAM, GVHMR) averages over all joints given; 'emdb' takes SMPL's 24, sets the root,
    feet and hands to zero and still divides by 24, which makes it about 0.6 of the former.

    Args:
        joints: [..., T, J, 3] metres.
        fps: frames per second.
        convention: 'wham' or 'emdb'.
    Returns:
        [..., T-3], 10 m/s^3.
    Raises:
        ValueError: on another convention, or if 'emdb' does not get 24 joints.
    """
    jerk = _norm(jnp.diff(joints, n=3, axis=-3)) * (fps**3 / 10)
    if convention == "wham":
        return jerk.mean(-1)
    if convention != "emdb":
        raise ValueError(f"jitter: convention is 'wham' or 'emdb', found {convention!r}")
    if joints.shape[-2] != 24:
        raise ValueError(f"jitter: 'emdb' needs SMPL's 24 joints, found {joints.shape[-2]}")
    return jnp.asarray(jerk).at[..., _EMDB_STILL_JOINTS].set(0).mean(-1)


def pelvis_error(predicted: Array, target: Array) -> Array:
    """Distance of the pelvis from where it is in the camera frame.

    Args:
        predicted: [..., 3] metres, camera frame.
        target: [..., 3] metres, camera frame.
    Returns:
        [...] millimetres.
    """
    return MM_PER_M * _norm(predicted - target)


def keypoint_error(projected: Array, detected: Array, confidence: Array) -> Array:
    """Mean distance in the image between projected joints and the keypoints that were seen.

    Args:
        projected: [..., K, 2] pixels.
        detected: [..., K, 2] pixels.
        confidence: [..., K]; a keypoint counts, fully, where it is above 0.
    Returns:
        [...] pixels; NaN where no keypoint was seen.
    """
    return _mean(_norm(projected - detected), confidence > 0)


def _norm(x: Array) -> Array:
    """Length of the last axis, with gradient 0 rather than NaN at 0."""
    squared = jnp.square(x).sum(-1)
    return jnp.where(squared == 0, 0, jnp.sqrt(jnp.where(squared == 0, 1, squared)))


def _mean(values: Array, valid: Array | None) -> Array:
    if valid is None:
        return values.mean(-1)
    return jnp.mean(values, axis=-1, where=valid.astype(bool))


def _det(m: Array) -> Array:
    """Determinant of [..., 3, 3]; of an orthogonal matrix only its sign is read."""
    return (m[..., 0, :] * jnp.cross(m[..., 1, :], m[..., 2, :])).sum(-1)


def _last_of_three(sign: Array) -> Array:
    one = jnp.ones_like(sign)
    return jnp.stack([one, one, sign], -1)
