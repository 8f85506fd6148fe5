"""Gaussian windows along the frames of a video: their means, and curves fitted in them."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from scorehmr_jax.diffusion import single_at_least
from scorehmr_jax.types import Array

# Holds a fitted curve straight where too few frames are there to tell how it bends; of the
# weight of one frame.
_STRAIGHT = 1e-3


def windowed_mean(
    values: Float[Array, "*N M"], mask: Bool[Array, "*N"], frames: float
) -> Float[Array, "*N M"]:
    """Averages over the window about each frame.

    Args:
        values: [..., N, M].
        mask: [..., N] the frames that are averaged; what the others hold may be anything.
        frames: standard deviation of the window.
    Returns:
        The mean at every frame; 0 where nothing is near.
    """
    near, weights, _ = _windows(values, mask, frames)
    total = weights.sum(-1)[..., None]
    mean = jnp.sum(near * weights[..., None], axis=-2) / jnp.where(total == 0, 1, total)
    return mean.astype(values.dtype)


def windowed_curve(
    values: Float[Array, "*N M"], mask: Bool[Array, "*N"], frames: float
) -> Float[Array, "*N M"]:
    """Fits a parabola in the window about each frame (Savitzky and Golay, 1964).

    A mean cuts the peaks of fast motion; a parabola follows them, and smooths as well in a window
    that is about 1.4 times as wide.

    Args:
        values, mask, frames: as `windowed_mean` has them.
    Returns:
        The parabola's value at its frame; 0 where nothing is near.
    """
    near, weights, places = _windows(values, mask, frames)
    powers = jnp.asarray(places[:, None] ** np.arange(5), near.dtype)
    # Of the least squares of c_0 + c_1 t + c_2 t^2, whose value at t = 0 is asked for.
    with jax.default_matmul_precision("float32"):
        moments = weights @ powers
    rows = jnp.stack([moments[..., i : i + 3] for i in range(3)], -2)
    held = jnp.diag(jnp.asarray([0, _STRAIGHT, _STRAIGHT], near.dtype))
    rows = rows + held.reshape((1,) * mask.ndim + held.shape)
    # What solves them for (1, 0, 0) stands upright on the other two rows.
    upright = jnp.cross(rows[..., 1, :], rows[..., 2, :])
    volume = jnp.sum(rows[..., 0, :] * upright, axis=-1, keepdims=True)
    with jax.default_matmul_precision("float32"):
        kernel = weights * ((upright / jnp.where(volume == 0, 1, volume)) @ powers[:, :3].T)
    return jnp.sum(near * kernel[..., None], axis=-2).astype(values.dtype)


def _windows(
    values: Float[Array, "*N M"], mask: Bool[Array, "*N"], frames: float
) -> tuple[Float[Array, "*N W M"], Float[Array, "*N W"], Float[np.ndarray, " W"]]:
    """What lies in the window about each frame, its weights, and its places in deviations."""
    # Half precision would overflow in the products of the least squares.
    number, count = single_at_least(values.dtype), mask.shape[-1]
    reach = min(int(np.ceil(3 * frames)), count - 1)
    shifts = np.arange(-reach, reach + 1)
    places = shifts / frames
    index = np.arange(count)[:, None] + np.arange(len(shifts))
    there = jnp.pad(mask, [(0, 0)] * (mask.ndim - 1) + [(reach, reach)])[..., index]
    width = [(0, 0)] * values.ndim
    width[-2] = (reach, reach)
    near = jnp.pad(jnp.where(mask[..., None], values, 0).astype(number), width)[..., index, :]
    heights = jnp.asarray(np.exp(-0.5 * places**2), number)
    return near, jnp.where(there, heights.reshape((1,) * mask.ndim + heights.shape), 0), places
