"""Estimates and detections of images in an .npz of one row for each person found in an image.

Rows stand in any order, and images in which nobody was found have none: who is matched to whom is
told by names, never by place.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from scorehmr_jax import units
from scorehmr_jax.camera import crop_to_full
from scorehmr_jax.formats.tables import Table, read_tables
from scorehmr_jax.types import Camera, Estimate, Keypoints2D

ESTIMATES = ("pred_pose", "pred_betas", "pred_cam", "pred_cam_t", "center", "scale")
DETECTIONS = ("keypoints", "body_keypoints_2d")
NAMES = ("imgname", "person")
_LISTED = 3


@dataclass(frozen=True)
class Sample:
    """Who is looked for: the image, and the number of the person among those of the image."""

    image: str
    person: int = 0


def match(table: Table, samples: Sequence[Sample]) -> Int[np.ndarray, " N"]:
    """Finds the row of each sample.

    Args:
        table: with imgname [M], whose names may have more folders before them than those of the
            samples, and person [M], which may be left out where an image has one person.
        samples: N of them.
    Returns:
        [N] rows; -1 where there is none.
    Raises:
        ValueError: if two rows are of one person, no row is of any sample, or images have several
            people and the file does not tell who is who.
    """
    names = [n.decode() if isinstance(n, bytes) else str(n) for n in table["imgname"].ravel()]
    wanted = {(_plain(s.image), s.person): i for i, s in enumerate(samples)}
    images = {image for image, _ in wanted}
    several = len(images) < len(wanted)
    if "person" in table:
        people = table.numbers("person").astype(int).ravel()
    elif several:
        raise ValueError(
            f"{table.where}: images with several people, but no key 'person': add person [M], the "
            "number of each row's person among those of the truth, from 0"
        )
    else:
        people = np.zeros(len(names), int)
    if len(people) != len(names):
        raise ValueError(
            f"{table.where}: person: expected {len(names)} numbers, one for each imgname, found "
            f"{len(people)}"
        )
    rows = np.full(len(samples), -1)
    unused = []
    for row, (name, person) in enumerate(zip(names, people.tolist(), strict=True)):
        place = wanted.get((_known(name, images), person))
        if place is None:
            unused.append(name)
        elif rows[place] >= 0:
            raise ValueError(
                f"{table.where}: rows {rows[place]} and {row} are both of {name}, person {person}"
            )
        else:
            rows[place] = row
    if (rows < 0).all():
        raise ValueError(
            f"{table.where}: imgname: none of {len(names)} is an image of the data set; expected "
            f"names such as {samples[0].image}, found {', '.join(names[:_LISTED])}"
        )
    if unused:
        warnings.warn(
            f"{table.where}: {len(unused)} of {len(names)} rows are of frames that the protocol "
            f"leaves out, or of others ({', '.join(unused[:_LISTED])}, ...)",
            stacklevel=3,
        )
    return rows


def estimates(table: Table, rows: Int[np.ndarray, " N"], camera: Camera) -> Estimate:
    """Takes the estimates of matched rows; NaN where there is none.

    Args:
        table: with pred_pose [M, 24, 3, 3], pred_betas [M, 10], and pred_cam [M, 3] with center
            [M, 2] and scale [M], the box's side in pixels; or else pred_cam_t [M, 3], for the focal
            length of the camera.
        rows: of `match`.
        camera: [N] of the samples, for pred_cam.
    Raises:
        ValueError: naming file and key, if one is missing, has another shape or other units.
    """
    count = len(table["imgname"].ravel())
    pose = table.array("pred_pose", (count, 24, 3, 3), np.float64)
    betas = table.array("pred_betas", (count, 10), np.float64)
    units.check_rotations(pose, f"{table.where}: pred_pose")
    units.check_betas(betas, f"{table.where}: pred_betas")
    # A place that was worked out with another focal length than this data set's is metres off, and
    # does not say so; the crop's own camera holds for any.
    of_crop = all(name in table for name in ("pred_cam", "center", "scale"))
    if "pred_cam_t" in table and not of_crop:
        translation = _taken(table.array("pred_cam_t", (count, 3), np.float64), rows)
    else:
        weak = _taken(table.array("pred_cam", (count, 3), np.float64), rows)
        center = _taken(table.array("center", (count, 2), np.float64), rows)
        side = _taken(table.array("scale", (count,), np.float64), rows)
        there = rows >= 0
        translation = np.full((len(rows), 3), np.nan)
        of_image = (np.asarray(side)[there] for side in (camera.image_size, camera.focal))
        translation[there] = crop_to_full(weak[there], center[there], side[there], *of_image)
    units.check_translation(translation, f"{table.where}: pred_cam_t")
    return Estimate(_taken(pose, rows), _taken(betas, rows), translation)


def detections(table: Table, rows: Int[np.ndarray, " N"], camera: Camera) -> Keypoints2D:
    """Takes OpenPose's 25 keypoints of matched rows; confidence 0 where there is none.

    Args:
        table: with keypoints or body_keypoints_2d [M, 25, 3].
        rows: of `match`.
        camera: [N] of the samples, whose images they are in.
    Raises:
        ValueError: naming file and key, if they are missing, have another shape or other units.
    """
    name = next((name for name in DETECTIONS if name in table), DETECTIONS[0])
    count = len(table["imgname"].ravel())
    points = np.nan_to_num(_taken(table.unchecked(name, (count, 25, 3), np.float64), rows))
    confidence = units.checked_confidence(points[..., 2], f"{table.where}: {name}")
    xy = np.where(confidence[..., None] == 0, 0, points[..., :2])
    size = np.asarray(camera.image_size)
    units.check_keypoints(xy, confidence, size, f"{table.where}: {name}")
    return Keypoints2D(xy, confidence)


def read_rows(path: str | Path, keys: Sequence[str]) -> Table:
    """Reads the table of a file; other keys of such files are left unread."""
    (table, *rest) = read_tables(path, (*NAMES, *keys), (*ESTIMATES, *DETECTIONS))
    if rest:
        raise ValueError(f"{path}: expected an .npz with a row for each person found in an image")
    return table


def _taken(array: np.ndarray, rows: Int[np.ndarray, " N"]) -> np.ndarray:
    taken = array[np.maximum(rows, 0)]
    return np.where((rows >= 0).reshape(-1, *[1] * (array.ndim - 1)), taken, np.nan)


def _plain(name: str) -> str:
    return name.replace("\\", "/").strip("/")


def _known(name: str, images: set[str]) -> str:
    """The longest end of a path that is an image's name; the path itself if none is."""
    plain = _plain(name)
    parts = plain.split("/")
    ends = ("/".join(parts[i:]) for i in range(len(parts)))
    return next((end for end in ends if end in images), plain)
