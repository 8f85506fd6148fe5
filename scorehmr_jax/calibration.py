"""Calibrated cameras: from OpenCV's numbers, in the frame of another, without distortion."""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
from jaxtyping import Float, Real

from body_model.arithmetic import native_fields
from scorehmr_jax import lens
from scorehmr_jax.camera import FIELD_AXES, camera_batch, check_points, for_points, to_pixels
from scorehmr_jax.shapes import concrete, floating, rows_of
from scorehmr_jax.types import Array, Camera


def calibrated_camera(
    matrix: Real[Array, "*batch 3 3"],
    image_size: Real[Array, "... 2"],
    rotation: Real[Array, "... 3 3"] | None = None,
    translation: Real[Array, "... 3"] | None = None,
    distortion: Real[Array, "... d"] | None = None,
) -> Camera:
    """A camera as a calibration gives it, in the conventions of OpenCV.

    Args:
        matrix: K, [..., 3, 3]; its skew is kept if there is any.
        image_size: [..., 2] width and height in pixels, or one for all.
        rotation: R of x_cam = R x + t, [..., 3, 3], or one for all.
        translation: t, [..., 3] metres, or one for all.
        distortion: [..., 5] k1, k2, p1, p2, k3, or the first four of them; or one for all.
    Returns:
        A camera for each matrix.
    Raises:
        ValueError: if shapes do not fit, the last row of a matrix is not 0, 0, 1, or a distortion
            has more numbers than five.
    """
    matrix = floating(matrix)
    if matrix.shape[-2:] != (3, 3):
        raise ValueError(f"matrix: expected [..., 3, 3], found {matrix.shape}")
    batch = matrix.shape[:-2]
    known = concrete(matrix)
    skewed = known is None or bool((known[0][..., 0, 1] != 0).any())
    if known is not None and (known[0][..., 2, :] != (0, 0, 1)).any():
        raise ValueError("matrix: expected K with a last row of 0, 0, 1; is it transposed?")
    if distortion is not None:
        distortion = floating(distortion)
        if distortion.shape[-1:] == (4,):
            distortion = jnp.concatenate([distortion, jnp.zeros_like(distortion[..., :1])], -1)
        if distortion.shape[-1:] != (5,):
            raise ValueError(
                "distortion: expected OpenCV's k1, k2, p1, p2, k3 [..., 5], found "
                f"{distortion.shape}; other models need `cv2.undistortPoints` first"
            )
    given = {
        "image_size": image_size,
        "rotation": rotation,
        "translation": translation,
        "distortion": distortion,
    }
    fields: dict[str, Any] = {
        name: rows_of(name, value, FIELD_AXES[name], batch).astype(matrix.dtype)
        for name, value in given.items()
        if value is not None
    }
    focal = jnp.stack([matrix[..., 0, 0], matrix[..., 1, 1]], -1)
    return Camera(focal, matrix[..., :2, 2], skew=matrix[..., 0, 1] if skewed else None, **fields)


def relative_to(camera: Camera, reference: Camera) -> Camera:
    """Gives cameras their place in the frame of another, such as the first of them.

    A body is then said in the frame of the reference camera, which is what a prior of bodies
    before cameras expects.

    Args:
        camera: [...] cameras of one world.
        reference: a camera of the same world; one for all, or one for each [...].
    Returns:
        The cameras, whose R and t lead from the frame of the reference camera to their own.
    """
    rotation, translation = _pose(camera)
    reference_rotation, reference_translation = _pose(reference)
    turned = _product(rotation, jnp.swapaxes(reference_rotation, -1, -2))
    moved = translation - jnp.sum(turned * reference_translation[..., None, :], axis=-1)
    return replace(camera, rotation=turned, translation=moved)


def levelled(camera: Camera, up: Real[Array, "*#batch 3"]) -> Camera:
    """Turns a camera about its own centre until the world's up is straight up in its image.

    A camera that is held aslant shows bodies aslant, which a prior may hardly know. As the
    reference of `relative_to`, the levelled camera gives them a frame with y down.

    Args:
        camera: [...] with a pose in a world.
        up: [..., 3] the direction up in that world; not along the view.
    Returns:
        The same camera with another R and t.
    """
    rotation, translation = _pose(camera)
    down = -jnp.sum(rotation * jnp.asarray(up, rotation.dtype)[..., None, :], axis=-1)
    y = down / jnp.linalg.norm(down, axis=-1, keepdims=True)
    # The view is the part of the old one that is level.
    z = jnp.broadcast_to(jnp.array([0, 0, 1], y.dtype), y.shape)
    z = z - y * y[..., 2:]
    z = z / jnp.linalg.norm(z, axis=-1, keepdims=True)
    turn = jnp.stack([jnp.cross(y, z), y, z], axis=-2)
    return replace(
        camera,
        rotation=_product(turn, rotation),
        translation=jnp.sum(turn * translation[..., None, :], axis=-1),
    )


def undistort(xy: Real[Array, "*batch K 2"], camera: Camera) -> Float[Array, "*batch K 2"]:
    """Finds where points would be seen if the lens had no distortion.

    The result goes with the same camera with `distortion=None`.

    Args:
        xy: [..., K, 2] pixels, as the lens shows them.
        camera: one for each [...], or one for all.
    Returns:
        [..., K, 2] pixels.
    Raises:
        ValueError: if shapes do not fit.
    """
    xy, camera = floating(xy, "xy"), native_fields("camera", camera, Camera)
    check_points("xy", xy, 2, camera)
    if camera.distortion is None:
        return xy
    plane = _from_pixels(xy, camera)
    return to_pixels(lens.undistort(plane, for_points(camera.distortion, 1, plane)), camera)


def _from_pixels(xy: Array, camera: Camera) -> Array:
    """Points [..., K, 2] at depth 1 of pixels."""
    focal, center = (for_points(side, 1, xy) for side in (camera.focal, camera.center))
    plane = (xy - center) / focal
    if camera.skew is None:
        return plane
    sheared = for_points(camera.skew, 0, xy) * plane[..., 1] / focal[..., 0]
    return jnp.stack([plane[..., 0] - sheared, plane[..., 1]], axis=-1)


def _pose(camera: Camera) -> tuple[Array, Array]:
    """R and t of a camera, the identity and 0 where it has none."""
    batch, dtype = camera_batch(camera), floating(camera.focal).dtype
    given = zip((camera.rotation, camera.translation), (jnp.eye(3), jnp.zeros(3)), strict=True)
    rotation, translation = (
        jnp.asarray(jnp.broadcast_to(none, (*batch, *none.shape)), dtype)
        if field is None
        else floating(field)
        for field, none in given
    )
    return rotation, translation


def _product(first: Array, second: Array) -> Array:
    """The product of matrices [..., 3, 3], in full precision on any device."""
    return jnp.sum(first[..., :, :, None] * second[..., None, :, :], axis=-2)
