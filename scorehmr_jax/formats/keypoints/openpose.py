"""OpenPose's JSON: one file for each frame, with a list of people.

Pose2Sim and RTMLib write the same files with other sets of points; AlphaPose's form "open" has one
file of many frames, by image.
"""

import re
import warnings
from typing import Any

from scorehmr_jax.formats.keypoints.numbers import identity, number, table
from scorehmr_jax.formats.keypoints.result import Person

_BODY = ("pose_keypoints_2d", "pose_keypoints")  # the second is of versions before 1.1


def is_frame(held: Any) -> bool:
    """Tells whether this is the content of a file of one frame."""
    return isinstance(held, dict) and isinstance(held.get("people"), list)


def people(held: Any, where: str) -> list[Person]:
    """Reads the people of one frame.

    Args:
        held: the file's content, for which `is_frame` holds.
        where: begins messages.
    Raises:
        ValueError: if a person has no keypoints, or they are no numbers.
    """
    found = []
    for index, person in enumerate(held["people"]):
        place = f"{where}: people[{index}]"
        key = next((key for key in _BODY if isinstance(person, dict) and key in person), None)
        if key is None:
            raise ValueError(f"{place}: no key pose_keypoints_2d; expected OpenPose's JSON")
        if not person[key]:  # a face or hand without a body
            continue
        points = table(person[key], 3, f"{place}: {key}")
        deep = person.get("pose_keypoints_3d")
        points_3d = table(deep, 4, f"{place}: pose_keypoints_3d") if deep else None
        others = [k for k in person if re.match(r"(face|hand)_.*2d$", k) and person[k]]
        if others:
            warnings.warn(
                f"{where}: {', '.join(others)} are not read; the body's points are", stacklevel=4
            )
        found.append(
            Person(
                points[:, :2],
                points[:, 2],
                id=identity(person.get("person_id")),
                score=number(person.get("score")),
                points_3d=None if points_3d is None else points_3d[:, :3],
                confidence_3d=None if points_3d is None else points_3d[:, 3],
            )
        )
    return found
