"""SAM 3D Body's results of process_one_image, saved by its user.

Read at: facebookresearch/sam-3d-body, sam_3d_body/sam_3d_body_estimator.py (a list with a table for
each person: pred_keypoints_3d [70, 3] metres, pred_keypoints_2d [70, 2] pixels, pred_cam_t [3],
focal_length) and sam_3d_body/models/heads/camera_head.py (the points plus pred_cam_t are in the
camera's frame, x right, y down, z forward). Its body is MHR, not SMPL: its points are lifted.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from scorehmr_jax.formats.bodies.contents import has, table
from scorehmr_jax.formats.bodies.nlf import camera_between
from scorehmr_jax.formats.bodies.rows import Rows, key, no_ids, of_each, shaped

READ = ("pred_keypoints_3d", "pred_keypoints_2d", "pred_cam_t", "focal_length")
OTHERS = (
    *("bbox", "pred_vertices", "pred_pose_raw", "global_rot", "body_pose_params", "mask"),
    *("hand_pose_params", "scale_params", "shape_params", "expr_params", "pred_joint_coords"),
    *("pred_global_rots", "mhr_model_params", "lhand_bbox", "rhand_bbox", "bbox_score"),
)
_POINTS = 70


def is_person(held: Any) -> bool:
    """True for one person's results."""
    return has(held, "pred_keypoints_3d", "pred_cam_t", "focal_length")


def is_file(held: Any) -> bool:
    """True for a person, the people of an image, or a list or table of images."""
    if is_person(held):
        return True
    each = [*held.values()] if table(held) else held
    if not isinstance(each, list) or not each:
        return False
    if all(is_person(one) for one in each):
        return True
    people = [one for image in each if isinstance(image, list) for one in image]
    return (
        all(isinstance(image, list) for image in each)
        and bool(people)
        and all(map(is_person, people))
    )


def read(held: Any, where: str, image_size: np.ndarray | None = None) -> Rows:
    """Reads the points of the people of each image; `Rows.points` has them.

    Args:
        held: one image's list of people, or a list or table of such lists.
        where: begins messages.
        image_size: width and height, pixels; without it twice the camera's center.
    Raises:
        ValueError: naming file, image and key.
    """
    names: dict[int, str] = {}
    if is_person(held):
        images = [[held]]
    elif isinstance(held, Mapping):
        images = [one if isinstance(one, list) else [one] for one in held.values()]
        names = dict(enumerate(map(str, held)))
    else:
        images = [held] if is_person(held[0]) else held
    points, pixels, focal, frames = [], [], [], []
    for number, people in enumerate(images):
        for place, person in enumerate(people):
            at = f"{where}, image {number}, person {place}"
            moved = key(person, "pred_keypoints_3d", at)
            if moved.ndim != 2 or moved.shape[1] != 3 or len(moved) < _POINTS:
                raise ValueError(
                    f"{at}: pred_keypoints_3d: expected [70, 3], found {list(moved.shape)}"
                )
            at_camera = shaped(key(person, "pred_cam_t", at), (3,), f"{at}: pred_cam_t")
            points.append(moved[:_POINTS] + at_camera)
            pixels.append(
                shaped(key(person, "pred_keypoints_2d", at), (-1, 2), f"{at}: pred_keypoints_2d")[
                    :_POINTS
                ]
            )
            focal.append(of_each(person["focal_length"], 1, 2, f"{at}: focal_length")[0])
            frames.append(number)
    deep, flat, count = np.stack(points), np.stack(pixels), len(points)
    # Images may have been taken with different cameras.
    center = np.stack(
        [camera_between(deep[i : i + 1], flat[i : i + 1], where)[1][0] for i in range(count)]
    )
    size = 2 * center.round(1) if image_size is None else np.broadcast_to(image_size, (count, 2))
    empty = np.zeros((count, 24, 3, 3), np.float32)
    return Rows(
        empty,
        np.zeros((count, 10), np.float32),
        np.zeros((count, 3), np.float32),
        np.array(frames),
        no_ids(count),
        np.stack(focal),
        center,
        size.astype(np.float32),
        names,
        video=False,
        notes=(
            "its 70 points are lifted to the body; its own body (MHR) is not read",
            "image size from the camera's center",
        )[: 1 if image_size is not None else 2],
        keypoints=np.concatenate([flat, np.ones((count, _POINTS, 1), flat.dtype)], -1),
        points=deep,
        convention="mhr70",
    )
