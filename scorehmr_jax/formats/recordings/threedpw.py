"""3DPW's own sequenceFiles: one pickle for each sequence, with one or two people in it.

Read at: the readme of the data set. Lists over the people: poses [N, 72] in the world, betas [10]
or more, trans [N, 3], genders, jointPositions [N, 72], campose_valid [N], and poses2d [N, 3, 18],
OpenPose's detections in COCO's order with x, y and confidence in rows, all 0 where fewer than six
joints were found. For all people: cam_poses [N, 4, 4] from the world to the camera, cam_intrinsics,
and img_frame_ids, the numbers of the images in 60 Hz, which tell the frame rate. The files were
written with Python 2.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from body_model.files import local_path
from body_model.keypoint_conversion import convert_keypoints
from body_model.pickles import load_pickle
from scorehmr_jax import units
from scorehmr_jax.formats.recordings.recording import (
    Recording,
    TrueMotion,
    array,
    camera_of,
    gender,
    key,
    shaped,
    ten_betas,
)
from scorehmr_jax.types import Keypoints2D

SPLITS = ("train", "validation", "test")
_IMU_RATE = 60.0  # of poses_60Hz, which img_frame_ids count in


def read_3dpw(path: str | Path, split: str = "test") -> list[Recording]:
    """Reads the people of a split, or of one file.

    Args:
        path: the folder sequenceFiles, the one that it is in, that of a split, or a file.
        split: train, validation or test.
    Returns:
        A recording for each person of each sequence, by name. A frame counts where campose_valid
        of this person says so.
    Raises:
        ValueError: naming the file and key, if one is missing, has another shape or other units.
    """
    found: list[Recording] = []
    for file in _files(local_path(path), split):
        found += _people(load_pickle(file), str(file))
    return found


def _files(path: Path, split: str) -> list[Path]:
    if path.is_file():
        return [path]
    if split not in SPLITS:
        raise ValueError(f"split: expected one of {', '.join(SPLITS)}, found {split!r}")
    places = (path / "sequenceFiles" / split, path / split, path)
    for place in places:
        if files := sorted(place.glob("*.pkl")):
            return files
    raise ValueError(
        f"{path}: no .pkl in {' or '.join(map(str, places))}; give 3DPW's folder sequenceFiles"
    )


def _people(held: Any, where: str) -> list[Recording]:
    poses = key(held, "poses", where)
    count, people = len(poses[0]) if len(poses) else 0, len(poses)
    if not count:
        raise ValueError(f"{where}: poses: expected [N, 72] for each person, found none")
    sequence = str(key(held, "sequence", where))
    extrinsics = array(held, "cam_poses", (count, 4, 4), where)
    intrinsics = array(held, "cam_intrinsics", (3, 3), where)
    # The files do not tell the size; these cameras' principal points lie in the middle.
    size = np.round(2 * intrinsics[:2, 2])
    # Poses of a camera that is not aligned with the image may hold anything.
    aligned = np.any([np.asarray(v) > 0 for v in key(held, "campose_valid", where)], axis=0)
    camera = camera_of(intrinsics, extrinsics, size, where, aligned)
    images = tuple(f"imageFiles/{sequence}/image_{i:05}.jpg" for i in range(count))
    fps = _frame_rate(held, count, where)
    for name in ("betas", "trans", "genders", "campose_valid", "poses2d"):
        if len(key(held, name, where)) != people:
            raise ValueError(
                f"{where}: {name}: expected a list of {people}, one for each person of poses, "
                f"found {len(held[name])}"
            )
    found = []
    for person in range(people):
        at = f"{where}, person {person}"
        counts = shaped(held["campose_valid"][person], (count,), f"{at}: campose_valid") > 0
        truth, note = _truth(held, person, count, counts, at)
        found.append(
            Recording(
                f"{sequence}_{person}",
                images,
                person,
                fps,
                camera,
                truth,
                counts,
                _detections(held["poses2d"][person], count, at),
                (f"image size as twice the principal point, {size[0]:g} x {size[1]:g}", *note),
            )
        )
    return found


def _truth(
    held: Any, person: int, count: int, counts: Bool[np.ndarray, " N"], at: str
) -> tuple[TrueMotion, tuple[str, ...]]:
    pose = shaped(held["poses"][person], (count, 72), f"{at}: poses").reshape(count, 24, 3)
    units.check_axis_angle(pose[counts], f"{at}: poses")
    betas, note = ten_betas(held["betas"][person], count, f"{at}: betas")
    joints = None
    if "jointPositions" in held:
        flat = shaped(held["jointPositions"][person], (count, 72), f"{at}: jointPositions")
        joints = flat.reshape(count, 24, 3)
    truth = TrueMotion(
        pose,
        betas,
        shaped(held["trans"][person], (count, 3), f"{at}: trans"),
        gender(held["genders"][person], f"{at}: genders"),
        joints,
    )
    return truth, (note,) if note else ()


def _detections(value: Any, count: int, at: str) -> Keypoints2D:
    rows = shaped(value, (count, None, None), f"{at}: poses2d")
    if rows.shape[1:] == (18, 3):
        raise ValueError(
            f"{at}: poses2d: expected [N, 3, 18], x, y and confidence in rows, found [N, 18, 3]; "
            "this is no file of 3DPW's makers"
        )
    if rows.shape[1:] != (3, 18):
        raise ValueError(f"{at}: poses2d: expected [N, 3, 18], found {list(rows.shape)}")
    points = rows.transpose(0, 2, 1)
    confidence = units.checked_confidence(points[..., 2], f"{at}: poses2d")
    xy, confidence = convert_keypoints(points[..., :2], confidence, "openpose-18", "openpose-25")
    return Keypoints2D(np.asarray(xy), np.asarray(confidence))


def _frame_rate(held: Any, count: int, where: str) -> float:
    """Frames per second, told by the images' numbers among those of 60 Hz."""
    ids = np.asarray(held.get("img_frame_ids", ()), np.float64).ravel()
    if len(ids) < 2:
        return 30.0
    if len(ids) != count:
        raise ValueError(
            f"{where}: img_frame_ids: expected {count} numbers, one for each frame of poses, found "
            f"{len(ids)}; are poses those of 60 Hz?"
        )
    steps = np.diff(ids)
    rate = _IMU_RATE / float(np.mean(steps))
    if not 29.0 < rate < 31.0:
        warnings.warn(
            f"{where}: img_frame_ids: expected 30 images per second, found {rate:.1f}; "
            "accelerations are in these",
            stacklevel=4,
        )
        return round(rate, 3)
    return 30.0
