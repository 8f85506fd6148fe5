"""COCO's JSON: results, a list of people by the image's number, and annotations (COCO, Halpe).

Detectors write their confidence as the third number of each point; people who annotate, a flag: 0
for what is not marked, 1 for what is marked though hidden, 2 for what is seen.
"""

from typing import Any

import numpy as np

from scorehmr_jax.formats.keypoints.numbers import identity, number, table
from scorehmr_jax.formats.keypoints.result import Frame, Person

# The parts of COCO-WholeBody, which its files have apart.
_PARTS = ("keypoints", "foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts")
_ID_KEYS = ("track_id", "idx")


def person_of(row: dict[str, Any], where: str) -> Person:
    """Reads one person from an entry with `keypoints`.

    Raises:
        ValueError: if its keypoints are no numbers, three for each point.
    """
    keys = _PARTS if all(key in row for key in _PARTS) else _PARTS[:1]
    points = np.concatenate([table(row[key], 3, f"{where}: {key}") for key in keys])
    confidence = points[:, 2]
    # Whole numbers up to 2 are flags; 0 and 1 alone mean the same either way.
    if (confidence == 2).any() and np.isin(confidence, (0, 1, 2)).all():
        confidence = (confidence > 0).astype(float)
    tracked = next((row[key] for key in _ID_KEYS if key in row), None)
    return Person(points[:, :2], confidence, id=identity(tracked), score=number(row.get("score")))


def is_results(held: Any) -> bool:
    """Tells whether this is a list of people by the image's number."""
    return (
        isinstance(held, list)
        and bool(held)
        and all(isinstance(row, dict) and "keypoints" in row and "image_id" in row for row in held)
    )


def results(held: Any, where: str) -> list[Frame]:
    """Reads the frames of a list of results; images without people are not in it.

    Raises:
        ValueError: if image numbers or keypoints are no numbers.
    """
    by_image: dict[int, list[Person]] = {}
    for index, row in enumerate(held):
        by_image.setdefault(_image_number(row, f"{where}[{index}]"), []).append(
            person_of(row, f"{where}[{index}]")
        )
    return [Frame(image, "", people) for image, people in by_image.items()]


def is_annotations(held: Any) -> bool:
    """Tells whether this is a data set's file with lists of images and annotations."""
    return isinstance(held, dict) and all(
        isinstance(held.get(key), list) for key in ("images", "annotations")
    )


def annotations(held: Any, where: str) -> list[Frame]:
    """Reads the frames of a data set; images without people are frames without people.

    Raises:
        ValueError: if an annotation belongs to no image, or keypoints are no numbers.
    """
    found: dict[int, Frame] = {}
    for index, image in enumerate(held["images"]):
        place = f"{where}: images[{index}]"
        if not isinstance(image, dict) or "id" not in image:
            raise ValueError(f"{place}: no key id")
        size = number(image.get("width")), number(image.get("height"))
        found[_image_number({"image_id": image["id"]}, place)] = Frame(
            _image_number({"image_id": image["id"]}, place),
            str(image.get("file_name", "")),
            [],
            size if np.isfinite(size).all() else None,
        )
    for index, row in enumerate(held["annotations"]):
        place = f"{where}: annotations[{index}]"
        if not isinstance(row, dict) or not row.get("keypoints"):
            continue  # a box or mask alone
        image = _image_number(row, place)
        if image not in found:
            raise ValueError(f"{place}: image_id {image} is not among the images")
        found[image].people.append(person_of(row, place))
    return list(found.values())


def _image_number(row: dict[str, Any], where: str) -> int:
    image = row.get("image_id")
    if isinstance(image, str) and image.isdecimal():
        return int(image)
    if not isinstance(image, int | float) or isinstance(image, bool) or image % 1 != 0:
        raise ValueError(f"{where}: image_id: expected a whole number, found {image!r}")
    return int(image)
