"""The released code's files of images: annotations and predictions.

An image data set is an .npz with one row per image. Sequences and views are a pickled list of
dicts with the same keys, one dict per group. Predictions follow the annotations row by row, as
features do (features.py). Everything is checked as it is read: an error names the file, the key,
what was expected, what was found and what to do.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import DTypeLike

from scorehmr_jax import units
from scorehmr_jax.camera import DEFAULT_FOCAL, crop_to_full, pinhole
from scorehmr_jax.formats import image_size
from scorehmr_jax.formats.backbones import all_keys
from scorehmr_jax.formats.tables import Table, read_tables
from scorehmr_jax.types import Camera, Estimate, Keypoints2D

# Annotators disagree with the body about OpenPose's limbs; the released code drops them in 3D.
_UNTRUSTED_3D = slice(1, 15)


@dataclass(frozen=True)
class Group:
    """Images that are refined together: a data set, a sequence or the views of one moment.

    Arrays are numpy's.
    """

    names: tuple[str, ...]  # N images
    estimate: Estimate  # of a regression network
    keypoints: Keypoints2D  # [N, 44] detections: 25 of OpenPose, then 19 annotated ones
    joints_3d: Float[np.ndarray, "N 44 3"]  # true joints, metres; place and frame as annotated
    confidence_3d: Float[np.ndarray, "N 44"]  # 0 where there is no true joint
    pose: Float[np.ndarray, "N 24 3"]  # true axis-angle, radians; zero where there is none
    betas: Float[np.ndarray, "N 10"]  # true shape
    has_body: Bool[np.ndarray, " N"]  # true pose and shape are both known
    camera: Camera | None = None  # where image sizes were given
    features: Float[np.ndarray, "N F"] | None = None  # standardised

    def __len__(self) -> int:
        return len(self.names)


def read_groups(
    annotations: str | Path,
    predictions: str | Path,
    *,
    image_folder: str | Path | None = None,
    image_sizes: str | Path | None = None,
    share_betas: bool = False,
    focal: float = DEFAULT_FOCAL,
    dtype: DTypeLike = np.float32,
) -> list[Group]:
    """Reads what is known of every image before refinement; features apart.

    Units are checked (`scorehmr_jax.units`), and a key that is not read is named in a warning.

    Args:
        annotations: .npz of images, or .pkl with a list of groups.
        predictions: estimates for the same images, in the same layout.
        image_folder: to read image sizes from the headers of the images.
        image_sizes: or a file that lists them (`image_size.from_file`). Without either the
            camera is None.
        share_betas: give a group its mean shape: its images show one person.
        focal: of every camera, pixels.
        dtype: of the arrays.
    Returns:
        One group for an .npz, one per dict for a .pkl.
    Raises:
        ValueError: naming file, key, expected and found shape, and the fix.
    """
    tables = read_tables(annotations, ANNOTATION_KEYS, OTHER_ANNOTATIONS)
    estimates = read_tables(predictions, PREDICTION_KEYS, all_keys())
    if len(tables) != len(estimates):
        raise ValueError(
            f"{predictions}: {len(estimates)} group(s), but {annotations} has {len(tables)}; both "
            "must be of one data set"
        )
    names = [_names(table) for table in tables]
    sizes: list[np.ndarray | None] = [None] * len(tables)
    if image_sizes is not None:
        sizes = [*image_size.from_file(image_sizes, names)]
    elif image_folder is not None:
        sizes = [image_size.from_headers(image_folder, group) for group in names]
    known = [size for size in sizes if size is not None]
    if known:
        every = np.concatenate(known).astype(float)
        where = f"{image_sizes or image_folder}, with a focal length of {focal:g}: camera"
        units.check_camera(np.full_like(every, focal), every / 2, every, where)
    return [
        _group(table, estimate, group, size, share_betas, focal, dtype)
        for table, estimate, group, size in zip(tables, estimates, names, sizes, strict=True)
    ]


def warn_of_mixed_sequences(path: str | Path, groups: Sequence[Group]) -> None:
    """Warns of groups whose images lie in several folders: they are hardly one video's frames."""
    for i, group in enumerate(groups):
        folders = {str(PurePosixPath(name).parent) for name in group.names}
        if len(folders) > 1:
            warnings.warn(
                f"{path}, group {i}: taken as one video, but its {len(group)} images lie in "
                f"{len(folders)} folders; expected a pickled list with one dict per sequence",
                stacklevel=2,
            )


def concatenate(groups: Sequence[Group]) -> Group:
    """Puts all images of the groups into one group, in their order."""

    def joined(name: str) -> Any:
        parts = [getattr(group, name) for group in groups]
        return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)

    arrays = {f.name: joined(f.name) for f in fields(Group) if f.name != "names"}
    return Group(names=tuple(name for group in groups for name in group.names), **arrays)


_KEYPOINTS_2D = (("body_keypoints_2d", 25), ("extra_keypoints_2d", 19))
_KEYPOINTS_3D = (("body_keypoints_3d", 25), ("extra_keypoints_3d", 19))
ANNOTATION_KEYS = (
    *("imgname", "center", "scale", "body_pose", "has_body_pose", "betas", "has_betas"),
    *(key for key, _ in (*_KEYPOINTS_2D, *_KEYPOINTS_3D)),
)
# Of persons and hands, in files of this format that other code reads.
OTHER_ANNOTATIONS = (
    *("personid", "person_id", "extra_info", "gender", "genders", "hand_pose", "has_hand_pose"),
    *(f"{side}_hand_keypoints_{axes}d" for side in ("left", "right") for axes in (2, 3)),
)
PREDICTION_KEYS = ("pred_pose", "pred_betas", "pred_cam", "pred_cam_t")


def _names(table: Table) -> tuple[str, ...]:
    names = table["imgname"].reshape(-1)
    if len(names) == 0:
        raise ValueError(f"{table.where}: imgname is empty; remove this group or add its images")
    return tuple(n.decode() if isinstance(n, bytes) else str(n) for n in names)


def _group(
    table: Table,
    predictions: Table,
    names: tuple[str, ...],
    size: np.ndarray | None,
    share_betas: bool,
    focal: float,
    dtype: DTypeLike,
) -> Group:
    n = len(names)
    detected: Any = np.concatenate(
        [_keypoints_2d(table, key, (n, k, 3), size, dtype) for key, k in _KEYPOINTS_2D], axis=1
    )
    true = np.concatenate(
        [_joints_3d(table, key, (n, k, 4), dtype) for key, k in _KEYPOINTS_3D], axis=1
    )
    true[:, _UNTRUSTED_3D, 3] = 0
    known = [_known(table, key, n) for key in ("body_pose", "betas")]
    pose = table.optional("body_pose", (n, 72), dtype).reshape(n, 24, 3)
    betas = table.optional("betas", (n, 10), dtype)
    units.check_axis_angle(pose[known[0]], f"{table.where}: body_pose")
    units.check_betas(betas[known[1]], f"{table.where}: betas")
    camera = None
    if size is not None:
        camera = jax.tree.map(np.asarray, pinhole(jnp.asarray(size.astype(dtype)), focal))
    estimate = _estimate(table, predictions, n, camera, share_betas, dtype)
    keypoints = Keypoints2D(detected[..., :2], detected[..., 2])
    if camera is not None:
        units.check_person_size(
            detected[..., :2],
            detected[..., 2],
            np.asarray(estimate.translation),
            np.asarray(camera.focal),
            f"{predictions.where}: pred_cam_t, and keypoints of {table.where}",
        )
    units.check_translation(np.asarray(estimate.translation), f"{predictions.where}: pred_cam_t")
    return Group(
        names=names,
        estimate=estimate,
        keypoints=keypoints,
        joints_3d=true[..., :3],
        confidence_3d=true[..., 3],
        pose=pose,
        betas=betas,
        has_body=known[0] & known[1],
        camera=camera,
    )


def _known(table: Table, key: str, n: int) -> Bool[np.ndarray, " N"]:
    """Returns which rows of a column of truths hold one, as the column before it says."""
    if key in table and f"has_{key}" not in table:
        warnings.warn(
            f"{table.where}: {key} without has_{key}: taken as unknown; expected has_{key} [N], "
            f"above 0 where {key} is true",
            stacklevel=4,
        )
    return table.known(key, n)


def _keypoints_2d(
    table: Table,
    key: str,
    shape: tuple[int, ...],
    image_size: np.ndarray | None,
    dtype: DTypeLike,
) -> Any:
    if key not in table:
        return np.zeros(shape, dtype)
    keypoints = table.unchecked(key, shape, dtype)
    confidence = units.checked_confidence(keypoints[..., 2], f"{table.where}: {key}")
    keypoints[..., 2] = confidence
    # Some tools write NaN for what they did not see; times 0 that would still be NaN.
    keypoints[..., :2] = np.where(confidence[..., None] == 0, 0, keypoints[..., :2])
    table.warn_of_rows(key, keypoints)
    units.check_keypoints(keypoints[..., :2], confidence, image_size, f"{table.where}: {key}")
    return keypoints


def _joints_3d(table: Table, key: str, shape: tuple[int, ...], dtype: DTypeLike) -> Any:
    joints = table.optional(key, shape, dtype)
    units.check_joints(joints[..., :3], joints[..., 3], f"{table.where}: {key}")
    return joints


def _estimate(
    table: Table,
    predictions: Table,
    n: int,
    camera: Camera | None,
    share_betas: bool,
    dtype: DTypeLike,
) -> Estimate:
    center = table.array("center", (n, 2), dtype)
    shape = table["scale"].shape
    if shape[1:] not in ((), (1,), (2,)):
        raise ValueError(
            f"{table.where}: scale has shape {shape}; expected the box's side [{n}] or its width "
            f"and height [{n}, 2] in pixels"
        )
    # Some data sets have the box's width and height; the released code takes the larger.
    side = table.array("scale", (n, *shape[1:]), dtype).reshape(n, -1).max(axis=1)
    pose = predictions.array("pred_pose", (n, 24, 3, 3), dtype)
    units.check_rotations(pose, f"{predictions.where}: pred_pose")
    betas = predictions.array("pred_betas", (n, 10), dtype)
    units.check_betas(betas, f"{predictions.where}: pred_betas")
    # Without the rows that are NaN: one bad image must not spoil its group.
    good = np.isfinite(betas).all(axis=1)
    if share_betas and good.any():
        betas = np.tile(betas[good].mean(axis=0), (n, 1))
    if "pred_cam_t" in predictions:
        translation = predictions.array("pred_cam_t", (n, 3), dtype)
    elif camera is None:
        raise ValueError(
            f"{predictions.where}: the key 'pred_cam_t' is missing; add it, or give image sizes to "
            "work it out from pred_cam"
        )
    else:
        units.check_boxes(center, side, f"{table.where}: ", np.asarray(camera.image_size))
        weak = predictions.array("pred_cam", (n, 3), dtype)
        # A box without a side says nothing of the distance.
        side = np.where(side > 0, side, np.nan)
        translation = np.asarray(
            crop_to_full(weak, center, side, camera.image_size, camera.focal), dtype
        )
    return Estimate(pose, betas, translation)
