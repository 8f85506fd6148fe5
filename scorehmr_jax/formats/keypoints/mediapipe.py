"""MediaPipe's pose landmarks in JSON, in the words of its Python, JavaScript and older packages.

MediaPipe itself writes no files; people dump its results, one for each frame:

    {"pose_landmarks": [[{"x": 0.5, "y": 0.4, "z": 0, "visibility": 1}, ...]],
     "pose_world_landmarks": [[...]]}

as a list, or as {"image_size": [width, height], "frames": [...]}. Landmarks are parts of the width
and height of the image, world landmarks metres from between the hips, x right, y down, z away from
the camera.
"""

import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from scorehmr_jax.formats.keypoints.numbers import number, table
from scorehmr_jax.formats.keypoints.result import Frame, Person

_IMAGE = ("pose_landmarks", "poseLandmarks", "landmarks")
_WORLD = ("pose_world_landmarks", "poseWorldLandmarks", "world_landmarks", "worldLandmarks")
_NUMBER = ("frame_number", "frame", "frame_id", "frame_index")


def is_frame(held: Any) -> bool:
    """Tells whether this is the result of one image."""
    return isinstance(held, dict) and any(key in held for key in _IMAGE)


def is_file(held: Any) -> bool:
    """Tells whether this is a list of results, or a table that has one under `frames`."""
    rows = held.get("frames") if isinstance(held, dict) else held
    return isinstance(rows, list) and bool(rows) and all(is_frame(row) for row in rows)


def frames(held: Any, where: str, image_size: Any = None) -> list[Frame]:
    """Reads the frames of a file, or the one that it is.

    Args:
        held: the content, for which `is_file` or `is_frame` holds.
        where: begins messages.
        image_size: width and height, pixels, if the file does not say.
    Raises:
        ValueError: if landmarks are no numbers, or are parts of an image of unknown size.
    """
    outer: dict[str, Any] = {}
    rows = [held] if is_frame(held) else held
    if isinstance(rows, dict):
        outer, rows = rows, rows["frames"]
    found = []
    for index, row in enumerate(rows):
        place = f"{where}: frame {index}"
        size = _size(row) or _size(outer) or _given(image_size, index)
        key = next((key for key in _IMAGE if key in row), "")
        world_key = next((key for key in _WORLD if key in row), "")
        seen = list(_people(row[key], f"{place}: {key}"))
        world = list(_people(row.get(world_key), f"{place}: {world_key}"))
        if world and len(world) != len(seen):
            raise ValueError(f"{place}: {len(seen)} people in the image, {len(world)} in the world")
        people = []
        for p, points in enumerate(seen):
            visible = _visibility(points)
            deep = world[p][:, :3] if world else None
            people.append(Person(points[:, :2], visible, points_3d=deep))
        frame = next(
            (int(number(row[k])) for k in _NUMBER if math.isfinite(number(row.get(k)))), index
        )
        found.append(Frame(frame, str(row.get("image", "")), people, size))
    return in_pixels(found, where)


def in_pixels(found: list[Frame], where: str) -> list[Frame]:
    """Turns parts of the image's sides into pixels, unless the numbers are pixels already.

    Raises:
        ValueError: if they are parts and a frame's size is not known.
    """
    largest = [np.abs(p.xy).max(initial=0) for frame in found for p in frame.people]
    if not largest or np.nanmedian(largest) > 10:
        return found
    out = []
    for frame in found:
        if frame.people and frame.size is None:
            raise ValueError(
                f"{where}: landmarks are parts of the image's width and height, and the file does "
                "not hold its size; give image_size=(width, height), or put image_size beside them"
            )
        size = np.array(frame.size or (1, 1), float)
        people = [
            Person(p.xy * size, p.confidence, p.id, p.score, p.points_3d, p.confidence_3d)
            for p in frame.people
        ]
        out.append(Frame(frame.number, frame.name, people, frame.size))
    return out


def _people(held: Any, where: str) -> Iterator[np.ndarray]:
    """Goes through the people [33, 3 or more] of one result: x, y, z, visibility, presence."""
    if isinstance(held, dict):  # of the older package, through protobuf
        held = held.get("landmark", [])
    if not held:
        return
    if not isinstance(held, list):
        raise ValueError(f"{where}: expected landmarks, found {str(held)[:60]!r}")
    if _is_point(held[0]):
        held = [held]
    for person in held:
        if isinstance(person, dict):
            person = person.get("landmark", [])
        if not (isinstance(person, list) and person and all(map(_is_point, person))):
            raise ValueError(f"{where}: expected landmarks with x, y, z and visibility")
        if isinstance(person[0], dict):
            keys = [k for k in ("x", "y", "z", "visibility", "presence") if k in person[0]]
            if keys[:3] != ["x", "y", "z"]:
                raise ValueError(f"{where}: expected x, y and z, found {', '.join(person[0])}")
            person = [[number(point.get(key)) for key in keys] for point in person]
        yield table(person, len(person[0]), where)


def _is_point(held: Any) -> bool:
    if isinstance(held, dict):
        return "x" in held
    return isinstance(held, list) and len(held) >= 3 and not isinstance(held[0], list | dict)


def _visibility(points: np.ndarray) -> np.ndarray:
    if points.shape[1] > 3:
        return points[:, 3]
    warnings.warn(
        "landmarks without visibility: confidence 1 is assumed for every one", stacklevel=5
    )
    return np.ones(len(points))


def _size(held: dict[str, Any]) -> tuple[float, float] | None:
    pair = held.get("image_size")
    if isinstance(pair, list) and len(pair) == 2:
        return number(pair[0]), number(pair[1])
    for width, height in (("width", "height"), ("image_width", "image_height")):
        if width in held and height in held:
            return number(held[width]), number(held[height])
    return None


def _given(image_size: Any, index: int) -> tuple[float, float] | None:
    if image_size is None:
        return None
    sizes = np.asarray(image_size, float).reshape(-1, 2)
    width, height = sizes[min(index, len(sizes) - 1)]
    return float(width), float(height)
