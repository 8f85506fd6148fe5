"""The distortion of a lens by OpenCV's five numbers, at points of the plane at depth 1."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from scorehmr_jax.types import Array

# Farther from the axis than this (63 degrees) no lens is calibrated, and the polynomial is held:
# it would grow beyond all numbers for points beside the camera.
_FARTHEST = 2.0

# Of Newton's method; four are enough for a phone, eight for a view of 120 degrees.
_STEPS = 8


def distort(
    plane: Float[Array, "... 2"], coefficients: Float[Array, "... 5"]
) -> Float[Array, "... 2"]:
    """Moves points as a lens does.

    (x, y) goes to (x, y) (1 + k1 r^2 + k2 r^4 + k3 r^6)
    + (2 p1 x y + p2 (r^2 + 2 x^2), p1 (r^2 + 2 y^2) + 2 p2 x y).

    Args:
        plane: x / z and y / z of points.
        coefficients: k1, k2, p1, p2, k3; of leading axes that broadcast.
    Returns:
        As plane.
    """
    k1, k2, p1, p2, k3 = jnp.moveaxis(coefficients, -1, 0)
    far = jnp.square(plane).sum(-1, keepdims=True)
    outside = far > _FARTHEST**2
    held = jnp.where(outside, _FARTHEST * plane / jnp.sqrt(jnp.where(outside, far, 1)), plane)
    x, y = held[..., 0], held[..., 1]
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    tangential = jnp.stack(
        [2 * p1 * x * y + p2 * (r2 + 2 * x * x), p1 * (r2 + 2 * y * y) + 2 * p2 * x * y], axis=-1
    )
    return plane * radial[..., None] + tangential


def undistort(
    plane: Float[Array, "... 2"], coefficients: Float[Array, "... 5"]
) -> Float[Array, "... 2"]:
    """Undoes `distort`, by Newton's method from the distorted point.

    Args:
        plane: as a lens shows the points.
        coefficients: k1, k2, p1, p2, k3; of leading axes that broadcast.
    Returns:
        As plane.
    """

    def improve(_: Any, guess: Array) -> Array:
        def lens(point: Array) -> Array:
            return distort(point, coefficients)

        along_x, along_y = (
            jnp.broadcast_to(jnp.array(axis, guess.dtype), guess.shape) for axis in ((1, 0), (0, 1))
        )
        found, by_x = jax.jvp(lens, (guess,), (along_x,))
        _, by_y = jax.jvp(lens, (guess,), (along_y,))
        off = plane - found
        determinant = by_x[..., 0] * by_y[..., 1] - by_x[..., 1] * by_y[..., 0]
        # Where the lens folds the plane over there is no way back.
        folded = jnp.abs(determinant) < 1e-3
        determinant = jnp.where(folded, 1, determinant)
        step = jnp.stack(
            [
                by_y[..., 1] * off[..., 0] - by_y[..., 0] * off[..., 1],
                by_x[..., 0] * off[..., 1] - by_x[..., 1] * off[..., 0],
            ],
            axis=-1,
        )
        return guess + jnp.where(folded[..., None], 0, step / determinant[..., None])

    return jax.lax.fori_loop(0, _STEPS, improve, plane)
