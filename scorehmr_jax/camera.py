"""Perspective projection, and the way from a cropped box to the full image."""

import jax.numpy as jnp

from scorehmr_jax.types import Array, Camera, Number

# Focal length in pixels that the released code and most regression networks assume.
DEFAULT_FOCAL = 5000.0

# Nearer to the camera's plane than this, a point is not divided by its depth.
_NEAR = 1e-6


def project(points: Array, camera: Camera) -> Array:
    """Pixels of points in the camera frame.

    A point in the camera's plane or behind it has no image; its values are finite and
    meaningless. `in_front` tells which these are.

    Args:
        points: [..., K, 3] metres.
        camera: of leading axes [...].
    Returns:
        [..., K, 2] pixels.
    """
    depth = points[..., 2:]
    depth = jnp.where(jnp.abs(depth) < _NEAR, _NEAR, depth)
    focal, center = jnp.asarray(camera.focal), jnp.asarray(camera.center)
    return points[..., :2] / depth * focal[..., None, :] + center[..., None, :]


def in_front(points: Array) -> Array:
    """Whether every one of the points [..., K, 3] lies before the camera, [...]."""
    return jnp.all(points[..., 2] > _NEAR, axis=-1)


def pinhole(image_size: Array, focal: Number = DEFAULT_FOCAL) -> Camera:
    """A camera that looks through the middle of its image.

    Args:
        image_size: [..., 2] width and height, pixels.
        focal: one number, or [...] or [..., 2], pixels.
    """
    image_size = jnp.asarray(image_size)
    # Sizes often come as integers, which would cut the focal length to whole pixels.
    image_size = image_size.astype(jnp.promote_types(image_size.dtype, jnp.float32))
    focal = jnp.asarray(focal, image_size.dtype)
    if focal.ndim == image_size.ndim - 1:
        focal = focal[..., None]
    return Camera(jnp.broadcast_to(focal, image_size.shape), image_size / 2, image_size)


def crop_to_full(
    weak_camera: Array, box_center: Array, box_size: Number, image_size: Array, focal: Number
) -> Array:
    """Translation in the full image's camera from a weak-perspective camera of a box.

    Args:
        weak_camera: [..., 3] scale, x and y, as regression networks predict them.
        box_center: [..., 2] pixels.
        box_size: [...] side of the square box, pixels.
        image_size: [..., 2] width and height, pixels.
        focal: [..., 2] or one number, pixels.
    Returns:
        [..., 3] metres.
    """
    weak_camera, box_center, box_size, image_size = map(
        _floating, (weak_camera, box_center, box_size, image_size)
    )
    scale = weak_camera[..., :1] * box_size[..., None]
    # The released code adds this; it also keeps a zero scale finite.
    scale = scale + 1e-9
    offset = 2 * (box_center - image_size / 2) / scale
    focal = jnp.broadcast_to(jnp.asarray(focal, scale.dtype), offset.shape)
    return jnp.concatenate([weak_camera[..., 1:] + offset, 2 * focal[..., :1] / scale], axis=-1)


def _floating(array: Array) -> Array:
    """Whole pixels as float32: jax would make float64 of them where that is enabled."""
    array = jnp.asarray(array)
    return array if jnp.issubdtype(array.dtype, jnp.inexact) else array.astype(jnp.float32)
