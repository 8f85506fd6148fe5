"""AlphaPose's JSON: a list of people by the image's name, and its forms "cmu" and "open"."""

from pathlib import PurePath
from typing import Any

from scorehmr_jax.formats.keypoints import openpose
from scorehmr_jax.formats.keypoints.coco import person_of
from scorehmr_jax.formats.keypoints.numbers import table
from scorehmr_jax.formats.keypoints.result import Frame, Person, numbered


def is_frame(held: Any) -> bool:
    """Tells whether this is one frame of the form "cmu", as in the folder sep-json."""
    return isinstance(held, dict) and isinstance(held.get("bodies"), list)


def people(held: Any, where: str) -> list[Person]:
    """Reads the people of one frame of the form "cmu".

    Raises:
        ValueError: if a person has no keypoints, or they are no numbers.
    """
    found = []
    for index, body in enumerate(held["bodies"]):
        if not isinstance(body, dict) or "joints" not in body:
            raise ValueError(f"{where}: bodies[{index}]: no key joints")
        points = table(body["joints"], 3, f"{where}: bodies[{index}]: joints")
        found.append(Person(points[:, :2], points[:, 2]))
    return found


def is_file(held: Any) -> bool:
    """Tells whether this is a file of many frames, in one of the three forms."""
    if isinstance(held, list):
        return bool(held) and all(
            isinstance(row, dict) and isinstance(row.get("image_id"), str) and "keypoints" in row
            for row in held
        )
    return (
        isinstance(held, dict)
        and bool(held)
        and all(is_frame(value) or openpose.is_frame(value) for value in held.values())
    )


def frames(held: Any, where: str) -> list[Frame]:
    """Reads the frames of a file; frames in which AlphaPose saw nobody are not in it.

    Raises:
        ValueError: as `people`.
    """
    by_image: dict[str, list[Person]] = {}
    if isinstance(held, list):
        for index, row in enumerate(held):
            by_image.setdefault(row["image_id"], []).append(person_of(row, f"{where}[{index}]"))
    else:
        for name, value in held.items():
            read = people if is_frame(value) else openpose.people
            by_image[name] = read(value, f"{where}: {name}")
    numbers = numbered([PurePath(name).stem for name in by_image], where)
    return [
        Frame(number, name, found)
        for number, (name, found) in zip(numbers, by_image.items(), strict=True)
    ]
