"""Perspective projection, and the way from a cropped box to the full image."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Real

from body_model.arithmetic import native_fields
from body_model.joints import PARENTS
from scorehmr_jax import lens, units
from scorehmr_jax.shapes import (
    Shape,
    concrete,
    fits,
    fits_plainly,
    floating,
    in_one_way,
    rows_of,
    same_dtype,
)
from scorehmr_jax.types import Array, Camera, Number

# Focal length in pixels that the released code and most regression networks assume.
DEFAULT_FOCAL = 5000.0

# Nearer to the camera's plane than this, a point is not divided by its depth.
_NEAR = 1e-6

# The axes of one camera in each field.
FIELD_AXES: dict[str, Shape] = {
    "focal": (2,),
    "center": (2,),
    "image_size": (2,),
    "rotation": (3, 3),
    "translation": (3,),
    "distortion": (5,),
    "skew": (),
}
_NOT_ZERO = ("focal", "center", "image_size")


def project(points: Real[Array, "*batch K 3"], camera: Camera) -> Float[Array, "*batch K 2"]:
    """Projects points into an image, through the camera's pose and lens where it has them.

    A point in the camera's plane or behind it has no image; its values are finite and
    meaningless. `in_front` tells which these are.

    Args:
        points: [..., K, 3] metres, in the frame that the body is in; of a camera without a pose,
            its own frame.
        camera: one for each [...], or one for all.
    Returns:
        [..., K, 2] pixels.
    Raises:
        ValueError: if shapes do not fit.
    """
    camera = native_fields("camera", camera, Camera)
    points = to_camera_frame(points, camera)
    depth = points[..., 2:]
    depth = jnp.where(jnp.abs(depth) < _NEAR, _NEAR, depth)
    plane = points[..., :2] / depth
    if camera.distortion is not None:
        plane = lens.distort(plane, for_points(camera.distortion, 1, plane))
    return to_pixels(plane, camera)


def to_camera_frame(
    points: Real[Array, "*batch K 3"], camera: Camera
) -> Float[Array, "*batch K 3"]:
    """Moves points into the frame of a camera, R X + t.

    Args:
        points: [..., K, 3] metres, in the frame that the body is in.
        camera: one for each [...], or one for all.
    Returns:
        [..., K, 3] metres.
    Raises:
        ValueError: if shapes do not fit.
    """
    points, camera = floating(points, "points"), native_fields("camera", camera, Camera)
    check_points("points", points, 3, camera)
    if camera.rotation is not None:
        # A sum and no matrix product, whose precision would be the device's choice.
        rotation = for_points(camera.rotation, 2, points)
        points = jnp.sum(rotation * points[..., None, :], axis=-1)
    if camera.translation is not None:
        points = points + for_points(camera.translation, 1, points)
    return points


def reach_along_view(joints: Float[Array, "*batch 24 3"], camera: Camera) -> Float[Array, "*batch"]:
    """How far a body's bones reach along a camera's view, in the mean: what its image hides.

    Args:
        joints: [..., 24, 3] metres, in the frame that the body is in.
        camera: one for each [...], or one for all.
    Returns:
        [...] metres.
    """
    depth = to_camera_frame(joints, camera)[..., 2]
    return jnp.abs(depth[..., 1:] - depth[..., np.asarray(PARENTS[1:])]).mean(-1)


def in_front(points: Real[Array, "*batch K 3"]) -> Bool[Array, "*batch"]:
    """True where every point lies before the camera.

    Args:
        points: [..., K, 3] metres, in the camera frame.
    Returns:
        [...].
    """
    return jnp.all(points[..., 2] > _NEAR, axis=-1)


def pinhole(
    image_size: Real[Array, "*batch 2"], focal: Number | Real[Array, "..."] = DEFAULT_FOCAL
) -> Camera:
    """A camera that looks through the middle of its image.

    Args:
        image_size: [..., 2] width and height, pixels.
        focal: pixels. One number, or one for each image [...], or x and y of each image [..., 2].
    Returns:
        A camera for each image.
    Raises:
        ValueError: if shapes do not fit.
    """
    image_size = floating(image_size, "image_size")
    if image_size.shape[-1:] != (2,):
        raise ValueError(f"image_size: expected [..., 2], found {image_size.shape}")
    batch = image_size.shape[:-1]
    return Camera(_both_focals(focal, batch).astype(image_size.dtype), image_size / 2, image_size)


def crop_to_full(
    weak_camera: Real[Array, "*batch 3"],
    box_center: Real[Array, "... 2"],
    box_size: Number | Real[Array, "..."],
    image_size: Real[Array, "... 2"],
    focal: Number | Real[Array, "..."],
) -> Float[Array, "*batch 3"]:
    """Translation in the full image's camera from a weak-perspective camera of a box.

    Args:
        weak_camera: [..., 3] scale, x and y, as regression networks predict them.
        box_center: [..., 2] pixels, or one for all.
        box_size: [...] side of the square box in pixels, or one for all.
        image_size: [..., 2] width and height in pixels, or one for all.
        focal: pixels. One number, or one for each image [...], or x and y of each image [..., 2];
            the depth follows from that of x.
    Returns:
        [..., 3] metres.
    Raises:
        ValueError: if shapes do not fit, or boxes, images or
            focal lengths are not in pixels.
    """
    weak_camera = floating(weak_camera, "weak_camera")
    if weak_camera.shape[-1:] != (3,):
        raise ValueError(f"weak_camera: expected [..., 3], found {weak_camera.shape}")
    batch = weak_camera.shape[:-1]
    weak_camera, box_center, sides, image_size = same_dtype(
        weak_camera,
        rows_of("box_center", box_center, (2,), batch),
        rows_of("box_size", box_size, (), batch),
        rows_of("image_size", image_size, (2,), batch),
    )
    focal = _both_focals(focal, batch).astype(weak_camera.dtype)
    known = concrete(box_center, sides, image_size, focal)
    if known is not None:
        center, side, size, lens = known
        units.check_camera(lens, size / 2, size, "crop_to_full: camera")
        units.check_boxes(center, side, "crop_to_full: the box's ", size)
    # The released code adds this; it also keeps a zero scale finite.
    scale = weak_camera[..., :1] * sides[..., None] + 1e-9
    offset = 2 * (box_center - image_size / 2) / scale
    return jnp.concatenate([weak_camera[..., 1:] + offset, 2 * focal[..., :1] / scale], axis=-1)


def check_points(name: str, points: Array, width: int, camera: Camera) -> None:
    """Refuses points that do not go with a camera.

    Args:
        name: of the points, for the message.
        points: expected [..., K, width].
        width: 3 in space, 2 in the image.
        camera: one for each [...], or one for all.
    Raises:
        ValueError: if shapes do not fit.
    """
    if points.ndim < 2 or points.shape[-1] != width:
        raise ValueError(f"{name}: expected [..., K, {width}], found {points.shape}")
    batch, wanted = camera_batch(camera), points.shape[:-2]
    if not fits_plainly(batch, wanted):
        raise ValueError(
            f"camera: expected one for each set of points {wanted}, found {batch}"
            f"{in_one_way(batch, wanted)}"
        )


def camera_batch(camera: Camera) -> Shape:
    """The leading axes of a camera.

    Raises:
        ValueError: if its fields do not end with their own axes, or disagree on the samples.
    """
    rows, shapes = {}, {}
    for name, value in vars(camera).items():
        if value is None:
            continue
        tail, shape = FIELD_AXES[name], jnp.shape(value)
        rows[name], shapes[name] = shape[: len(shape) - len(tail)], shape
        if len(shape) < len(tail) or shape[len(rows[name]) :] != tail:
            wanted = ", ".join(["...", "N", *map(str, tail)])
            raise ValueError(f"camera.{name}: expected [{wanted}], found {shape}")
    batch = max(rows.values(), key=lambda row: (len(row), row))
    # A focal length [2] beside two images could be x and y, or one for each.
    if not all(len(row) == len(batch) and fits(row, batch) for row in rows.values()):
        names, found = (
            " and ".join((", ".join(texts[:-1]), texts[-1]))
            for texts in ([*shapes], [*map(str, shapes.values())])
        )
        raise ValueError(f"camera: {names} disagree on the samples: {found}")
    return batch


def for_samples(camera: Camera, batch: Shape) -> Camera:
    """A camera with as many leading axes as the samples have.

    The caller says by this that a camera of fewer axes serves every group.

    Args:
        camera: [...], or one for all.
        batch: leading axes of the samples.
    """
    before = range(len(batch) - len(camera_batch(camera)))
    return jax.tree.map(lambda field: jnp.expand_dims(field, before), camera)


def screened_camera(camera: Camera) -> tuple[Camera, Bool[Array, "*batch"]]:
    """Puts harmless numbers in place of cameras that cannot be used.

    Args:
        camera: of any leading axes.
    Returns:
        The camera, all fields of one batch, and True for those that can be used: numbers are
        finite, the focal length is not 0 and the image has a size.
    """
    batch = camera_batch(camera)
    fields = {
        name: jnp.broadcast_to(floating(value), (*batch, *FIELD_AXES[name]))
        for name, value in vars(camera).items()
        if value is not None
    }
    good: Array = (jnp.max(fields["image_size"], axis=-1) > 0) & (fields["focal"] != 0).all(-1)
    for name, value in fields.items():
        good &= jnp.isfinite(value).all(tuple(range(-len(FIELD_AXES[name]), 0)))
    for name, value in fields.items():
        tail = FIELD_AXES[name]
        harmless = jnp.eye(3) if name == "rotation" else 1.0 * (name in _NOT_ZERO)
        fields[name] = jnp.where(
            good.reshape(good.shape + (1,) * len(tail)), value, jnp.asarray(harmless, value.dtype)
        )
    return Camera(**fields), good


def for_points(
    field: Real[Array, "..."], axes: int, like: Float[Array, "..."]
) -> Float[Array, "..."]:
    """A field [*batch, *tail] of a camera as it goes with points [*batch, K, ...].

    Args:
        field: of the camera.
        axes: of its tail.
        like: the points, whose precision it takes.
    """
    return jnp.expand_dims(jnp.asarray(field, like.dtype), -1 - axes)


def to_pixels(plane: Float[Array, "*batch K 2"], camera: Camera) -> Float[Array, "*batch K 2"]:
    """Pixels of points at depth 1, as K has them."""
    focal, center = (
        jnp.broadcast_to(for_points(side, 1, plane), plane.shape)
        for side in (camera.focal, camera.center)
    )
    pixels = plane * focal + center
    if camera.skew is not None:
        sheared = pixels[..., 0] + for_points(camera.skew, 0, plane) * plane[..., 1]
        pixels = jnp.stack([sheared, pixels[..., 1]], axis=-1)
    return pixels


def _both_focals(focal: Number, batch: Shape) -> Array:
    """Focal lengths along x and y, [*batch, 2]. The number of axes tells what is given."""
    both = floating(focal, "focal")
    if both.ndim == 0:
        return jnp.broadcast_to(both, (*batch, 2))
    if both.ndim == len(batch):
        both = both[..., None]
    if (
        both.ndim != len(batch) + 1
        or both.shape[-1] not in (1, 2)
        or not fits(both.shape[:-1], batch)
    ):
        raise ValueError(
            f"focal: expected one number, one for each image {batch}, or x and y of each "
            f"{(*batch, 2)}; found {jnp.shape(focal)}"
        )
    return jnp.broadcast_to(both, (*batch, 2))
