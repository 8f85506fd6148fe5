"""MMPose's JSON, by its demos and its inferencer, also of ViTPose and RTMPose; and easy_ViTPose's.

{"meta_info": {...}, "instance_info": [...]}    demos: an image's people, or frames
[{"keypoints": ..., "keypoint_scores": ...}]    inferencer: an image
[{"frame_id": 0, "instances": [...]}]           inferencer: a video
{"keypoints": [{"0": [[y, x, score], ...]}], "skeleton": {"0": "nose"}}     easy_ViTPose
"""

import math
from typing import Any

from scorehmr_jax.formats.keypoints.numbers import identity, number, table
from scorehmr_jax.formats.keypoints.result import Frame, Person


def is_frame(held: Any) -> bool:
    """Tells whether this holds the people of one image."""
    instances = _instances(held)
    return isinstance(instances, list) and all(
        isinstance(row, dict) and "keypoints" in row and "keypoint_scores" in row
        for row in instances
    )


def is_file(held: Any) -> bool:
    """Tells whether this holds the frames of a video."""
    instances = _instances(held)
    return (
        isinstance(instances, list)
        and bool(instances)
        and all(
            isinstance(row, dict) and isinstance(row.get("instances"), list) for row in instances
        )
    )


def people(held: Any, where: str) -> list[Person]:
    """Reads the people of one image.

    Raises:
        ValueError: if keypoints are no numbers, are not as many as their scores, or are in 3D.
    """
    return [
        _person(row, f"{where}: instances[{index}]") for index, row in enumerate(_instances(held))
    ]


def frames(held: Any, where: str) -> list[Frame]:
    """Reads the frames of a video, those without people too.

    Raises:
        ValueError: as `people`.
    """
    found = []
    for index, row in enumerate(_instances(held)):
        said = number(row.get("frame_id"))
        frame = int(said) if math.isfinite(said) else index
        found.append(Frame(frame, "", people(row["instances"], f"{where}: frame {frame}")))
    return found


def names(held: Any) -> list[str] | None:
    """Reads the points' names, where the file has them."""
    meta = held.get("meta_info") if isinstance(held, dict) else None
    named = meta.get("keypoint_id2name") if isinstance(meta, dict) else None
    return _ordered(named)


def is_easy_vitpose(held: Any) -> bool:
    """Tells whether this is easy_ViTPose's."""
    return (
        isinstance(held, dict)
        and isinstance(held.get("keypoints"), list)
        and isinstance(held.get("skeleton"), dict)
    )


def easy_vitpose_frames(held: Any, where: str) -> list[Frame]:
    """Reads easy_ViTPose's frames, whose points are (y, x, score).

    Raises:
        ValueError: if a frame is no table of people, or points are no numbers.
    """
    found = []
    for frame, row in enumerate(held["keypoints"]):
        if not isinstance(row, dict):
            raise ValueError(
                f"{where}: keypoints[{frame}]: expected people by id, found {row!r:.60}"
            )
        people = []
        for track, points in row.items():
            yxc = table(points, 3, f"{where}: keypoints[{frame}]: {track}")
            of = identity(int(track) if track.isdecimal() else None)
            people.append(Person(yxc[:, 1::-1], yxc[:, 2], id=of))
        found.append(Frame(frame, "", people))
    return found


def easy_vitpose_names(held: Any) -> list[str] | None:
    """Reads the points' names."""
    return _ordered(held["skeleton"])


def _instances(held: Any) -> Any:
    if isinstance(held, dict) and "instance_info" in held:
        return held["instance_info"]
    return held


def _ordered(named: Any) -> list[str] | None:
    """Names by number, as a list."""
    if not isinstance(named, dict) or not all(str(key).isdecimal() for key in named):
        return None
    return [str(named[key]) for key in sorted(named, key=int)]


def _person(row: Any, where: str) -> Person:
    if not (isinstance(row, dict) and "keypoints" in row and "keypoint_scores" in row):
        raise ValueError(f"{where}: expected a person with keypoints and keypoint_scores")
    points = row["keypoints"]
    if isinstance(points, list) and len(points) == 1 and _is_list_of_lists(points[0]):
        points = points[0]  # with the axis of people that some versions leave
    if _is_list_of_lists(points) and len(points[0]) == 3:
        # Its demo turns them to z up and puts the lowest on the floor, by options of its own.
        raise ValueError(
            f"{where}: keypoints: 3D points, in axes that the file does not name; expected pixels. "
            "Bring them to the camera's axes in metres and save them as points_3d in an .npz"
        )
    xy = table(points, 2, f"{where}: keypoints")
    scores = table(row["keypoint_scores"], 1, f"{where}: keypoint_scores")[:, 0]
    if len(scores) != len(xy):
        raise ValueError(f"{where}: {len(xy)} keypoints with {len(scores)} keypoint_scores")
    return Person(xy, scores, id=identity(row.get("track_id")), score=number(row.get("bbox_score")))


def _is_list_of_lists(held: Any) -> bool:
    return isinstance(held, list) and bool(held) and isinstance(held[0], list)
