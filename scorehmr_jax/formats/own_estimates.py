"""First estimates and their evidence out of our own .npz."""

import os
import warnings
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from body_model.files import Npz, read_npz, warn_of_unread
from body_model.joints import JOINT_NAMES, NUM_JOINTS, OPENPOSE_25
from body_model.pytree import Array
from body_model.smpl import pose_matrices
from scorehmr_jax import units
from scorehmr_jax.camera import DEFAULT_FOCAL, to_camera_frame
from scorehmr_jax.formats.bodies.people import Tracks
from scorehmr_jax.types import Camera, Estimate, Keypoints2D

# The first estimate that a result was refined from.
FIRST = ("first_pose", "first_betas", "first_translation")
READ = (
    "pose",
    "pose_axis_angle",
    "betas",
    "translation",
    "keypoints",
    "image_size",
    "focal",
    "center",
    "camera_rotation",
    "camera_translation",
    "distortion",
    "skew",
    "features",
    "joint_names",
    "fps",
    *FIRST,
)
# Fields that a camera may have or not, by their keys, and the axes of one camera in them.
OPTIONAL: dict[str, tuple[str, tuple[int, ...]]] = {
    "camera_rotation": ("rotation", (3, 3)),
    "camera_translation": ("translation", (3,)),
    "distortion": ("distortion", (5,)),
    "skew": ("skew", ()),
}
# Written about a result, and no part of the next input.
_WRITTEN_ONLY = (
    "status",
    "kept_share",
    "expected_worse",
    "expected_error",
    "expected_joint_error",
    "filled",
    "ids",
    "frame_numbers",
    "frame_names",
)


@dataclass(frozen=True)
class RefineInput:
    """Holds first estimates of N images and their evidence: the arguments of `refine`."""

    estimate: Estimate  # [N]; of others' files [P, T], NaN where a person is not in a frame
    keypoints: Keypoints2D | None  # [N, 25] OpenPose; None: the file has none
    camera: Camera | None  # [N]; None: the file does not tell
    features: Float[Array, "*N F"] | None  # standardised
    tracks: Tracks | None = None  # who is in which frame; None for our own .npz
    fps: float | None = None  # frames per second; None: images, or the file does not tell
    first: Estimate | None = None  # [N] that `estimate` was refined from; None: it was not


def read_own(path: str | os.PathLike[str]) -> RefineInput:
    """Reads first estimates and their evidence from our own .npz.

    The keys, for N images (any leading axes may stand in its place):

    - `pose` [N, 24, 3, 3] rotations or [N, 24, 3] axis-angle in radians, the root's in the camera
      frame; or `pose_axis_angle` [N, 72]
    - `betas` [N, B]; `translation` [N, 3] body to camera, metres
    - `keypoints` [N, 25, 3] OpenPose-25: x and y in pixels of the full image, confidence in [0, 1]
    - `image_size` [N, 2] or [2] width and height, pixels
    - `focal` [N, 2], [N] or one number, pixels; 5000 is assumed without it, with a warning
    - `center` [N, 2] or [2] principal point, pixels; the image's middle is assumed without it, with
      a warning
    - `camera_rotation` [N, 3, 3] and `camera_translation` [N, 3], `distortion` [N, 5], `skew` [N],
      as `Camera` has them; or one for all
    - `features` [N, F] standardised, for a prior that needs them
    - `joint_names` [24], if given, must be SMPL's; `status` is not read
    - `fps`, one number: frames per second
    - `first_pose` [N, 24, 3, 3] or [N, 24, 3], `first_betas` [N, B], `first_translation` [N, 3]: of
      a result, the first estimate that it was refined from; all three or none

    Any other key is named in a warning. Units are checked (`scorehmr_jax.units`). Rows that are not
    finite are for `refine` to keep as they are.

    Args:
        path: of the file, such as `write_estimates` writes.
    Raises:
        ValueError: naming the file and key, if an array is missing, has another shape or is in
            other units.
    """
    arrays = read_npz(path)
    warn_of_unread(arrays.path, {*arrays, *arrays.objects}, READ, _WRITTEN_ONLY)
    betas = _numbers(arrays, "betas")
    if betas.ndim < 2:
        raise ValueError(f"{path}: betas: expected shape (N, B), found {betas.shape}")
    lead = betas.shape[:-1]
    if 0 in lead:
        raise ValueError(
            f"{path}: betas: no images, found shape {betas.shape}; expected at least one"
        )
    pose = _pose(arrays, lead)
    translation = _key(arrays, "translation", (*lead, 3))
    keypoints = _key(arrays, "keypoints", (*lead, len(OPENPOSE_25), 3))
    xy = keypoints[..., :2]
    confidence = units.checked_confidence(keypoints[..., 2], f"{path}: keypoints")
    focal, center, image_size = _camera(arrays, lead)
    optional = {
        field: jnp.broadcast_to(_key(arrays, key, (*lead, *axes), axes), (*lead, *axes))
        for key, (field, axes) in OPTIONAL.items()
        if key in arrays
    }
    camera = Camera(*map(jnp.asarray, (focal, center, image_size)), **optional)
    before_camera = np.asarray(to_camera_frame(translation[..., None, :], camera))[..., 0, :]
    units.check_betas(betas, f"{path}: betas")
    units.check_camera(focal, center, image_size, f"{path}: camera")
    units.check_keypoints(xy, confidence, image_size, f"{path}: keypoints")
    units.check_person_size(
        xy, confidence, before_camera, focal, f"{path}: keypoints, translation, focal"
    )
    units.check_translation(translation, f"{path}: translation")
    features = None
    if "features" in arrays:
        features = _key(arrays, "features", (*lead, None))
    return RefineInput(
        Estimate(pose_matrices(jnp.asarray(pose)), jnp.asarray(betas), jnp.asarray(translation)),
        Keypoints2D(jnp.asarray(xy), jnp.asarray(confidence)),
        camera,
        None if features is None else jnp.asarray(features),
        fps=read_fps(arrays),
        first=_first(arrays, lead),
    )


def read_fps(arrays: Npz) -> float | None:
    """Reads frames per second, the key `fps`; None if the file does not tell.

    Raises:
        ValueError: naming the file, if it is not one number above 0.
    """
    if "fps" not in arrays:
        return None
    found = _numbers(arrays, "fps")
    if found.size != 1 or not 0 < found.item() < np.inf:
        raise ValueError(
            f"{arrays.path}: fps: expected one number of frames per second, above 0; found "
            f"{found}; leave the key out if it is not known"
        )
    return float(arrays["fps"].item())


def has_first(arrays: Npz) -> bool:
    """True if the file holds the first estimate that its bodies were refined from.

    Raises:
        ValueError: naming the file and keys, if it holds only a part of it.
    """
    missing = [key for key in FIRST if key not in arrays]
    if missing and len(missing) < len(FIRST):
        found = ", ".join(key for key in FIRST if key in arrays)
        raise ValueError(
            f"{arrays.path}: no key {' and no key '.join(missing)} beside {found}; expected all of "
            f"{', '.join(FIRST)}, or none"
        )
    return not missing


def _first(arrays: Npz, lead: tuple[int, ...]) -> Estimate | None:
    if not has_first(arrays):
        return None
    joints = (*lead, NUM_JOINTS, 3)
    pose = _key(arrays, "first_pose", joints, (*joints, 3))
    betas = _key(arrays, "first_betas", (*lead, None))
    translation = _key(arrays, "first_translation", (*lead, 3))
    return Estimate(pose_matrices(jnp.asarray(pose)), jnp.asarray(betas), jnp.asarray(translation))


def _pose(arrays: Npz, lead: tuple[int, ...]) -> np.ndarray:
    """Reads axis-angle [N, 24, 3] or rotations [N, 24, 3, 3]."""
    path = arrays.path
    if "joint_names" in arrays:
        names = [*arrays["joint_names"].astype(str).ravel()]  # some tools write bytes
        if names != [*JOINT_NAMES]:
            raise ValueError(
                f"{path}: joint_names: expected SMPL's joints in their order, {JOINT_NAMES[0]}, "
                f"{JOINT_NAMES[1]}, ..., found {', '.join(names[:4])}, ...; reorder the pose"
            )
    flat = (*lead, 3 * NUM_JOINTS)
    if "pose" not in arrays and "pose_axis_angle" in arrays:
        pose = _key(arrays, "pose_axis_angle", flat).reshape(*lead, NUM_JOINTS, 3)
        units.check_axis_angle(pose.reshape(-1, NUM_JOINTS, 3), f"{path}: pose_axis_angle")
        return pose
    pose = _key(arrays, "pose", (*lead, NUM_JOINTS, 3), (*lead, NUM_JOINTS, 3, 3))
    if pose.ndim == len(lead) + 2:
        units.check_axis_angle(pose.reshape(-1, NUM_JOINTS, 3), f"{path}: pose")
    else:
        units.check_rotations(pose.reshape(-1, NUM_JOINTS, 3, 3), f"{path}: pose")
    if "pose_axis_angle" in arrays:
        again = _key(arrays, "pose_axis_angle", flat).reshape(*lead, NUM_JOINTS, 3)
        a, b = (np.asarray(pose_matrices(jnp.asarray(p, jnp.float32))) for p in (pose, again))
        apart = np.abs(a - b)
        if (apart[np.isfinite(apart)] > 0.01).any():
            warnings.warn(
                f"{path}: pose and pose_axis_angle are not the same; pose is taken", stacklevel=3
            )
    return pose


def _camera(arrays: Npz, lead: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reads focal length, center and size of every image; warns of what it has to assume."""
    path = arrays.path
    size = np.broadcast_to(_pixels(arrays, "image_size", (*lead, 2), (2,)), (*lead, 2))
    focal, center = np.full((*lead, 2), DEFAULT_FOCAL, size.dtype), size / 2
    if "focal" in arrays:
        found = _pixels(arrays, "focal", (), (1,), lead, (*lead, 2))
        focal = np.broadcast_to(found[..., None] if found.shape == lead else found, (*lead, 2))
    if "center" in arrays:
        center = np.broadcast_to(_key(arrays, "center", (*lead, 2), (2,)), (*lead, 2))
        if not np.isfinite(center).any():
            raise ValueError(
                f"{path}: center: expected pixels, found nothing finite; without the key the "
                "image's middle is assumed"
            )
    assumed = {"focal": f"{DEFAULT_FOCAL:g} pixels", "center": "the image's middle"}
    absent = [key for key in assumed if key not in arrays]
    if absent:
        warnings.warn(
            f"{path}: no key {' and no key '.join(absent)}: assumes "
            f"{' and '.join(assumed[key] for key in absent)}. Give what is known of the camera: "
            "depth and the body's place follow it",
            stacklevel=3,
        )
    return focal, center, size


def _numbers(arrays: Npz, key: str) -> np.ndarray:
    array = arrays[key]
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{arrays.path}: {key}: expected numbers, found {array.dtype}")
    return array.astype(np.promote_types(array.dtype, np.float32))


def _key(arrays: Npz, key: str, *shapes: tuple[int | None, ...]) -> np.ndarray:
    """Reads the numbers of a key, of one of the shapes, as floats; None stands for any length."""
    array = _numbers(arrays, key)
    fits = (
        len(shape) == array.ndim
        and all(want in (None, have) for want, have in zip(shape, array.shape, strict=True))
        for shape in shapes
    )
    if not any(fits):
        wanted = " or ".join(str(shape).replace("None", "F") for shape in dict.fromkeys(shapes))
        raise ValueError(f"{arrays.path}: {key}: expected shape {wanted}, found {array.shape}")
    return array


def _pixels(arrays: Npz, key: str, *shapes: tuple[int | None, ...]) -> np.ndarray:
    """Reads lengths in pixels, and puts NaN where some are not above 0; refuses if none is."""
    array = _key(arrays, key, *shapes)
    good = np.isfinite(array) & (array > 0)
    if good.all():
        return array
    message = f"{arrays.path}: {key}: expected pixels above 0, found {array[~good][0]:g}"
    if not good.any():
        raise ValueError(message)
    warnings.warn(f"{message} in {np.count_nonzero(~good)} places among them", stacklevel=3)
    return np.where(good, array, np.nan)
