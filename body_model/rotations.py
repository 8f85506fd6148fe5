"""Rotations as axis-angle, quaternion, matrix and 6D, on any leading axes.

Values and gradients are finite everywhere, the singular points included: a `where` on both sides of
a singularity keeps the branch not taken from sending a NaN back. So are second derivatives, but for
quaternions and 6D columns so short that the numbers have no place in the dtype.

Half precision is computed in float32 and rounded at the end; whole numbers are taken as floats.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Real

from body_model.arithmetic import computing_dtype, native, result_dtype, same_rank
from body_model.pytree import Array

# Below this norm a 6D column counts as this long. The released code's constant.
_MIN_NORM = 1e-12

# Below these squares the closed forms give way to series. Just above, a derivative of order k of
# a closed form loses k digits for each digit of the angle: at a small border few would be left.
# Each series ends where its second derivative is exact in float64.
_SMALL_ANGLE = 0.25
_SMALL_TANGENT = 0.01
_SINE = tuple((-1) ** k / math.factorial(2 * k + 1) for k in range(10))  # sin(a) / a
_COSINE = tuple((-1) ** k / math.factorial(2 * k + 2) for k in range(10))  # (1 - cos(a)) / a^2
_ARCTANGENT = tuple((-1) ** k / (2 * k + 1) for k in range(11))  # atan(x) / x


def axis_angle_to_matrix(axis_angle: Real[Array, "*batch 3"]) -> Float[Array, "*batch 3 3"]:
    """Gives rotation matrices by Rodrigues' formula.

    Args:
        axis_angle: [..., 3] unit axis times angle in radians.
    Returns:
        [..., 3, 3].
    """
    axis_angle, dtype = _floats(axis_angle)
    x, y, z = axis_angle[..., 0], axis_angle[..., 1], axis_angle[..., 2]
    squared = x**2 + y**2 + z**2
    small = squared < _SMALL_ANGLE
    angle = jnp.sqrt(jnp.where(small, 1.0, squared))
    near = jnp.where(small, squared, 0.0)
    sine = jnp.where(small, _series(_SINE, near), jnp.sin(angle) / angle)
    # 1 - cos(a) = 2 sin(a / 2)^2, without the cancellation.
    cosine = jnp.where(small, _series(_COSINE, near), 2 * (jnp.sin(angle / 2) / angle) ** 2)
    sx, sy, sz = sine * x, sine * y, sine * z
    xy, xz, yz = cosine * x * y, cosine * x * z, cosine * y * z
    # Entry by entry: whole matrices would take twice as long to differentiate.
    entries = [
        *(1 - cosine * (y**2 + z**2), xy - sz, xz + sy),
        *(xy + sz, 1 - cosine * (x**2 + z**2), yz - sx),
        *(xz - sy, yz + sx, 1 - cosine * (x**2 + y**2)),
    ]
    return jnp.stack(entries, axis=-1).reshape(*axis_angle.shape[:-1], 3, 3).astype(dtype)


def matrix_to_axis_angle(matrix: Real[Array, "*batch 3 3"]) -> Float[Array, "*batch 3"]:
    """Gives the axis-angle of rotation matrices, of angle in [0, pi].

    Args:
        matrix: [..., 3, 3].
    Returns:
        [..., 3] radians.
    """
    matrix, dtype = _floats(matrix)
    quaternion = matrix_to_quaternion(matrix)
    w, xyz = quaternion[..., :1], quaternion[..., 1:]
    squared = jnp.sum(xyz**2, axis=-1, keepdims=True)
    small = squared < _SMALL_TANGENT * w**2
    # The quaternion has w >= 0: the half angle is the arctangent of the vector's length over w.
    safe_w = jnp.where(small, w, 1.0)
    near = _series(_ARCTANGENT, jnp.where(small, squared, 0.0) / safe_w**2) / safe_w
    sine = jnp.sqrt(jnp.where(small, 1.0, squared))
    far = jnp.arctan2(sine, jnp.where(small, 1.0, w)) / sine
    return (2 * jnp.where(small, near, far) * xyz).astype(dtype)


def quaternion_to_matrix(quaternion: Real[Array, "*batch 4"]) -> Float[Array, "*batch 3 3"]:
    """Gives rotation matrices of quaternions, which need not have unit length.

    Args:
        quaternion: [..., 4] as w, x, y, z. A zero quaternion gives the identity.
    Returns:
        [..., 3, 3].
    """
    quaternion, dtype = _floats(quaternion)
    # The length does not matter, so that the scale needs no gradient; without it, the square of a
    # short quaternion's length would underflow.
    size = jax.lax.stop_gradient(jnp.max(jnp.abs(quaternion), axis=-1, keepdims=True))
    # One so short that its gradient would overflow counts as zero.
    zero = size < max(1e3 * jnp.finfo(quaternion.dtype).tiny, jnp.finfo(dtype).tiny)
    quaternion = quaternion / jnp.where(zero, 1.0, size)
    squared = jnp.sum(quaternion**2, axis=-1)
    scale = jnp.where(zero[..., 0], 0.0, 2.0) / jnp.where(zero[..., 0], 1.0, squared)
    w, xyz = quaternion[..., :1, None], quaternion[..., 1:]
    outer = xyz[..., :, None] * xyz[..., None, :]
    identity = _identity_like(outer)
    length = jnp.sum(xyz**2, axis=-1)[..., None, None]
    turn = w * _cross_matrix(xyz) + outer - length * identity
    return (identity + scale[..., None, None] * turn).astype(dtype)


def matrix_to_quaternion(matrix: Real[Array, "*batch 3 3"]) -> Float[Array, "*batch 4"]:
    """Gives unit quaternions of rotation matrices, with w >= 0.

    Of the four ways to solve for one component first, the one with the largest component is
    taken, so that nothing is divided by a number under one half.

    Args:
        matrix: [..., 3, 3].
    Returns:
        [..., 4] as w, x, y, z.
    """
    m, dtype = _floats(matrix)
    m00, m11, m22 = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    # Four times the squares of w, x, y, z.
    squares = jnp.stack(
        [1 + m00 + m11 + m22, 1 + m00 - m11 - m22, 1 - m00 + m11 - m22, 1 - m00 - m11 + m22], -1
    )
    wx, wy, wz = (
        m[..., 2, 1] - m[..., 1, 2],
        m[..., 0, 2] - m[..., 2, 0],
        m[..., 1, 0] - m[..., 0, 1],
    )
    xy, xz, yz = (
        m[..., 0, 1] + m[..., 1, 0],
        m[..., 0, 2] + m[..., 2, 0],
        m[..., 1, 2] + m[..., 2, 1],
    )
    products = jnp.stack(
        [
            jnp.stack([squares[..., 0], wx, wy, wz], -1),
            jnp.stack([wx, squares[..., 1], xy, xz], -1),
            jnp.stack([wy, xy, squares[..., 2], yz], -1),
            jnp.stack([wz, xz, yz, squares[..., 3]], -1),
        ],
        axis=-2,
    )
    largest = jnp.argmax(squares, axis=-1)[..., None]
    row = jnp.take_along_axis(products, largest[..., None], axis=-2)[..., 0, :]
    square = jnp.maximum(jnp.take_along_axis(squares, largest, axis=-1), 1e-6)
    quaternion = 0.5 * row / jnp.sqrt(square)
    return jnp.where(quaternion[..., :1] < 0, -quaternion, quaternion).astype(dtype)


def matrix_to_6d(matrix: Real[Array, "*batch 3 3"]) -> Float[Array, "*batch 6"]:
    """Gives the first two columns of rotation matrices, one after the other.

    Args:
        matrix: [..., 3, 3].
    Returns:
        [..., 6].
    """
    matrix, dtype = _floats(matrix)
    return jnp.concatenate([matrix[..., :, 0], matrix[..., :, 1]], axis=-1).astype(dtype)


def six_d_to_matrix(six_d: Real[Array, "*batch 6"]) -> Float[Array, "*batch 3 3"]:
    """Gives rotation matrices by Gram-Schmidt (Zhou et al., CVPR 2019).

    A zero or parallel second column leaves a matrix that is no rotation, as in the released
    code; values and gradients stay finite.

    Args:
        six_d: [..., 6] two columns, one after the other.
    Returns:
        [..., 3, 3].
    """
    six_d, dtype = _floats(six_d)
    # In half precision the gradient of a column of the released code's least norm would overflow.
    shortest = max(_MIN_NORM, float(jnp.finfo(dtype).tiny))
    x = _normalize(six_d[..., :3], shortest)
    second = six_d[..., 3:]
    y = _normalize(second - jnp.sum(x * second, axis=-1, keepdims=True) * x, shortest)
    return jnp.stack([x, y, jnp.cross(x, y)], axis=-1).astype(dtype)


def _floats(array: Array) -> tuple[jax.Array, np.dtype]:
    """The array in the dtype to compute in, and the dtype of the result."""
    array = jnp.asarray(native("rotations", array) if isinstance(array, np.ndarray) else array)
    dtype = result_dtype(array)
    return array.astype(computing_dtype(dtype)), dtype


def _normalize(vector: jax.Array, shortest: float) -> jax.Array:
    squared = jnp.sum(vector**2, axis=-1, keepdims=True)
    zero = squared == 0
    norm = jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, squared)))
    return vector / jnp.maximum(norm, shortest)


def _series(coefficients: tuple[float, ...], x: jax.Array) -> jax.Array:
    """The polynomial of x with these coefficients, the constant one first."""
    total = jnp.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = coefficient + x * total
    return total


def _identity_like(matrix: Array) -> Array:
    return same_rank(matrix, jnp.eye(3, dtype=matrix.dtype))[1]


def _cross_matrix(vector: Array) -> Array:
    x, y, z = vector[..., 0], vector[..., 1], vector[..., 2]
    zero = jnp.zeros_like(x)
    return jnp.stack(
        [
            jnp.stack([zero, -z, y], -1),
            jnp.stack([z, zero, -x], -1),
            jnp.stack([-y, x, zero], -1),
        ],
        axis=-2,
    )
