"""Keypoints of people in an .npz: ours, and arrays of other packages' results."""

import math
import os

import numpy as np

from body_model.files import Npz, read_npz, warn_of_unread, write_npz
from body_model.keypoint_sets import KEYPOINT_SETS, KeypointSet
from scorehmr_jax.formats.keypoints.mediapipe import in_pixels
from scorehmr_jax.formats.keypoints.result import NO_ID, DetectedPeople, Frame, Person

READ = (
    *("keypoints", "xy", "landmarks", "confidence", "visibility"),
    *("points_3d", "world", "confidence_3d"),
    *("ids", "present", "score", "frame_numbers", "frame_names", "image_size"),
    *("convention", "names"),
)
_IN_2D = ("keypoints", "xy", "landmarks")
# Keys of first estimates, which may stand in the same file, and of detectors' runs.
_OTHERS = (
    *("pose", "pose_axis_angle", "betas", "translation", "focal", "center", "features"),
    *("joint_names", "status", "fps", "xy_undistorted"),
    *("first_pose", "first_betas", "first_translation"),
)


def frames(
    path: str | os.PathLike[str], image_size: object = None
) -> tuple[list[Frame], list[str] | str]:
    """Reads the frames of an .npz.

    The keys, for T frames, K points and, if wanted, P people:

    - `keypoints` [T, K, 3] or [T, P, K, 3]: x and y in pixels, confidence; or `xy` [..., K, 2] with
      `confidence` or `visibility` [..., K]; or `landmarks` [..., K, 4], MediaPipe's, of which x and
      y are parts of the image and the fourth is visibility
    - `points_3d` (or `world`) [..., K, 3] metres, with `confidence_3d` [..., K]; without it that of
      the points in 2D counts, or 1. They may be all there is
    - `ids` [T, P] of the tracker, -1 for none; `present` [T, P]; `score` [T, P]. An array with an
      axis of people needs `ids` or `present`, so that views are not taken for people
    - `frame_numbers`, `frame_names` [T]; `image_size` [2] or [T, 2]
    - `convention`: the name of a keypoint set; or `names` [K]

    Args:
        path: of the file.
        image_size: width and height, pixels, if the file does not hold it.
    Returns:
        The frames, and the names of the points or of their set; "" where the file has neither.
    Raises:
        ValueError: naming file and key.
    """
    held = read_npz(path)
    warn_of_unread(held.path, {*held, *held.objects}, READ, _OTHERS)
    points, confidence = _points(held)
    lead = points.shape[:-2]
    people = len(lead) == 2
    if not people and len(lead) != 1:
        raise ValueError(
            f"{held.path}: keypoints: expected [T, K, ...] or [T, P, K, ...], found axes {lead} "
            "before the points"
        )
    if people and not ("ids" in held or "present" in held):
        raise ValueError(
            f"{held.path}: keypoints with the axes {lead} before the points: people, or views? "
            "Add ids [T, P] (-1 for none) if they are people in a frame; write one file for each "
            "view if they are views"
        )
    deep = next((held[key] for key in ("points_3d", "world") if key in held), None)
    deep = None if deep is None else _shaped(held, deep, (*lead, points.shape[-2], 3), "points_3d")
    in_2d = any(key in held for key in _IN_2D)
    known = held.get("confidence_3d", confidence if in_2d else np.ones_like(confidence))
    known = _shaped(held, known, (*lead, points.shape[-2]), "confidence_3d")
    ids = _shaped(held, held.get("ids", np.full(lead, NO_ID)), lead, "ids")
    score = _shaped(held, held.get("score", np.full(lead, math.nan)), lead, "score")
    some = (confidence > 0).any(-1) | (False if deep is None else (known > 0).any(-1))
    present = _shaped(held, held.get("present", some), lead, "present").astype(bool)
    numbers = _shaped(
        held, held.get("frame_numbers", np.arange(lead[0])), lead[:1], "frame_numbers"
    )
    names = _shaped(held, held.get("frame_names", np.full(lead[0], "")), lead[:1], "frame_names")
    size = _size(held, image_size, lead[0])
    found = []
    for t in range(lead[0]):
        places = [(t, p) for p in range(lead[1])] if people else [(t,)]
        found.append(
            Frame(
                int(numbers[t]),
                str(names[t]),
                [
                    Person(
                        points[at],
                        confidence[at],
                        int(ids[at]),
                        float(score[at]),
                        None if deep is None else deep[at],
                        None if deep is None else known[at],
                    )
                    for at in places
                    if present[at]
                ],
                None if size is None else (float(size[t, 0]), float(size[t, 1])),
            )
        )
    if "landmarks" in held and "keypoints" not in held and "xy" not in held:
        found = in_pixels(found, held.path)
    if "names" in held:
        return found, [str(name) for name in held["names"].ravel()]
    return found, str(held["convention"]) if "convention" in held else ""


def write_keypoints(path: str | os.PathLike[str], people: DetectedPeople) -> None:
    """Writes people's keypoints as a compressed .npz that `read_keypoints` reads.

    Args:
        path: of the file; no suffix is added.
        people: what was detected.
    Raises:
        ValueError: if the path is an address or a folder.
    """
    arrays = {
        "keypoints": np.concatenate([people.xy, people.confidence[..., None]], -1),
        "present": people.present,
        "ids": people.ids,
        "score": people.score,
        "frame_numbers": people.frame_numbers,
        "frame_names": np.array(people.frame_names, dtype=str),
        **_convention(people.keypoint_set),
    }
    for key in ("points_3d", "confidence_3d", "image_size"):
        if getattr(people, key) is not None:
            arrays[key] = getattr(people, key)
    write_npz(path, arrays)


def _convention(of: KeypointSet) -> dict[str, np.ndarray]:
    if of.name in KEYPOINT_SETS and KEYPOINT_SETS[of.name].names == of.names:
        return {"convention": np.array(of.name)}
    return {"names": np.array(of.names)}


def _points(held: Npz) -> tuple[np.ndarray, np.ndarray]:
    """Reads points [..., K, 2] and confidence [..., K]; all 0 if there are points in 3D alone."""
    deep = next((key for key in ("points_3d", "world") if key in held), None)
    if deep is not None and not any(key in held for key in _IN_2D):
        array = _numbers(held, deep)
        if array.ndim < 3 or array.shape[-1] != 3:
            raise ValueError(f"{held.path}: {deep}: expected [T, K, 3], found {array.shape}")
        return np.zeros((*array.shape[:-1], 2)), np.zeros(array.shape[:-1])
    if "keypoints" in held:
        array = _numbers(held, "keypoints")
        if array.ndim < 3 or array.shape[-1] != 3:
            raise ValueError(
                f"{held.path}: keypoints: expected [T, K, 3] or [T, P, K, 3], found {array.shape}"
            )
        return array[..., :2], array[..., 2]
    key = "xy" if "xy" in held else "landmarks"
    array = _numbers(held, key)
    if array.ndim < 3 or array.shape[-1] < 2:
        raise ValueError(f"{held.path}: {key}: expected [T, K, 2 or more], found {array.shape}")
    seen = next((k for k in ("confidence", "visibility") if k in held), None)
    if seen is not None:
        confidence = _shaped(held, _numbers(held, seen), array.shape[:-1], seen)
    elif key == "landmarks" and array.shape[-1] >= 4:
        confidence = array[..., 3]
    else:
        raise ValueError(f"{held.path}: {key} without confidence [T, K]; expected it beside them")
    return array[..., :2], confidence


def _numbers(held: Npz, key: str) -> np.ndarray:
    array = held[key]
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{held.path}: {key}: expected numbers, found {array.dtype}")
    return array.astype(np.float64)


def _shaped(held: Npz, array: np.ndarray, shape: tuple[int, ...], key: str) -> np.ndarray:
    if array.shape != shape:
        raise ValueError(f"{held.path}: {key}: expected shape {shape}, found {array.shape}")
    return array


def _size(held: Npz, given: object, count: int) -> np.ndarray | None:
    size = held.get("image_size", given)
    if size is None:
        return None
    size = np.asarray(size, float)
    if size.shape not in ((2,), (count, 2)):
        raise ValueError(
            f"{held.path}: image_size: expected [2] or [{count}, 2], found {size.shape}"
        )
    return np.broadcast_to(size, (count, 2))
