"""Who is where in pictures: found by a detector, or given by files of keypoints and boxes."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from jaxtyping import Float

from body_model.joints import OPENPOSE_25
from scorehmr_jax.commands.long_work import progress
from scorehmr_jax.detectors.protocol import Detections, Detector
from scorehmr_jax.formats import image_size
from scorehmr_jax.formats.image_rows import read_image_rows
from scorehmr_jax.formats.pictures import Pictures
from scorehmr_jax.regression.boxes import Boxes


@dataclass(frozen=True)
class Where:
    """How people are found in pictures."""

    detector: Detector | None = None  # any; MediaPipe's by default
    people: int = 1  # that a detector finds in each frame, at most
    models: str | Path | None = None  # folder with MediaPipe's networks; else found or fetched
    keypoints: Path | None = None  # a file or folder of them, in place of a detector
    convention: str | None = None  # of that
    boxes: Path | None = None  # a data set's boxes, in the released layout
    keypoints_needed: bool = True  # False: boxes may be without

    @property
    def is_given(self) -> bool:
        """True if a file says who is where."""
        return self.keypoints is not None or self.boxes is not None


def find_people(pictures: Pictures, where: Where, moving: bool) -> tuple[Detections, np.ndarray]:
    """Finds people, or reads where they are.

    Args:
        pictures: to find them in.
        where: how.
        moving: True for the frames of one video.
    Returns:
        Who is where, and for each person and frame whether left and right were exchanged.
    Raises:
        ValueError: if nobody is in any picture, or files do not go with the pictures.
        ImportError: if a package of the extra `detect` is not installed.
    """
    from scorehmr_jax.detectors.sides import with_sides_put_right

    given = _given(pictures, where, moving) if where.is_given else None
    if given is not None and not given.found.any():
        raise ValueError(f"{where.keypoints or where.boxes}: has nobody in {pictures.source}")
    if given is not None and (given.confidence.any() or not where.keypoints_needed):
        return given, np.zeros(given.score.shape, bool)
    found = _detected(pictures, where, moving, given)
    if not found.found.any():
        raise ValueError(
            f"{pictures.source}: nobody was found in {len(found.image_size)} pictures; people "
            "should be seen from head to hip at least, and fill a tenth of the picture's height"
        )
    if moving:
        return with_sides_put_right(found)
    return found, np.zeros(found.score.shape, bool)


def _detected(
    pictures: Pictures, where: Where, moving: bool, boxed: Detections | None
) -> Detections:
    """People found by a detector, in the boxes if there are some."""
    from scorehmr_jax.detectors.mediapipe import MediaPipePose

    boxes = None if boxed is None else [*boxed.box.swapaxes(0, 1)]
    detector = where.detector or MediaPipePose(
        track=moving, people=where.people, boxes=boxes, models=where.models
    )
    found = detector(progress(pictures, "finding people", len(pictures.files)))
    return found if boxed is None else replace(found, box=boxed.box)


def boxes_of(found: Detections, where: Where) -> Boxes:
    """The boxes of people [P, T]: those given, else around the points that are seen."""
    if where.boxes is not None:
        return Boxes.of_corners(found.box)
    return Boxes.around(found.xy, found.confidence)


def _given(pictures: Pictures, where: Where, moving: bool) -> Detections:
    sizes = _sizes(pictures)
    found = None if where.keypoints is None else _keypoints(pictures, where, sizes, moving)
    if where.boxes is None:
        assert found is not None
        return found
    boxed = _boxes(pictures, where.boxes, sizes)
    if moving and len(boxed.score) > 1:
        raise ValueError(
            f"{where.boxes}: several boxes in an image, so who is who in a video is not known; "
            "give the boxes of one person, or --keypoints with ids"
        )
    return boxed if found is None else _in_boxes(boxed, found)


def _sizes(pictures: Pictures) -> Float[np.ndarray, "T 2"]:
    """Width and height of each frame, as it is shown."""
    if pictures.is_video:
        frames = progress(pictures, "counting frames", None)
        return np.array([frame.shape[1::-1] for frame in frames], float)
    names = [file.name for file in pictures.files]
    return image_size.from_headers(pictures.files[0].parent, names)


def _keypoints(pictures: Pictures, where: Where, sizes: np.ndarray, moving: bool) -> Detections:
    """People of a file of keypoints: a row for each id, or for each place in the file."""
    from scorehmr_jax.formats.keypoints.read import read_keypoints

    assert where.keypoints is not None
    one_size = sizes[0] if (sizes == sizes[0]).all() else None
    people = read_keypoints(where.keypoints, convention=where.convention, image_size=one_size).to(
        max_offset=50
    )
    if moving and not people.tracks and people.present.shape[1] > 1:
        raise ValueError(
            f"{where.keypoints}: several people without ids, so who is who in a video is not "
            "known; give ids [T, P]"
        )
    frames = _frames(
        pictures, people.frame_names, people.frame_numbers, len(sizes), where.keypoints
    )
    each = [people.track(one) for one in people.tracks] if moving and people.tracks else [people]
    xy, confidence, present = (
        np.concatenate([getattr(one, name) for one in each], 1)
        for name in ("xy", "confidence", "present")
    )
    found = _nobody(xy.shape[1], sizes)
    for row, t in enumerate(frames):
        if t is None:
            continue
        found.xy[:, t], found.confidence[:, t] = xy[row], confidence[row] * present[row][:, None]
        found.score[:, t] = present[row]
    return found


def _boxes(pictures: Pictures, file: Path, sizes: np.ndarray) -> Detections:
    """People of a data set's boxes, with its keypoints where it has them."""
    rows = read_image_rows(file)
    boxes = (
        Boxes(rows.center, rows.size)
        if rows.center is not None and rows.size is not None
        else Boxes.around(rows.keypoints[..., :2], rows.keypoints[..., 2])  # type: ignore[index]
    )
    names = [*dict.fromkeys(rows.names)]
    frames = _frames(pictures, names, np.arange(len(names)), len(sizes), file)
    place = {name: t for name, t in zip(names, frames, strict=True) if t is not None}
    if not pictures.is_video and len(sizes) > 1:
        stems = {photo.stem for photo in pictures.files}
        if not any(PurePath(name).stem in stems for name in names):
            raise ValueError(
                f"{file}: none of its images, first {names[0]}, is one of the photos of "
                f"{pictures.source}"
            )
    in_frame: list[list[int]] = [[] for _ in sizes]
    for i, name in enumerate(rows.names):
        if name in place:
            in_frame[place[name]].append(i)
    found = _nobody(max(map(len, in_frame), default=0), sizes)
    corners = np.concatenate([boxes.center - boxes.size / 2, boxes.center + boxes.size / 2], -1)
    for t, held in enumerate(in_frame):
        for person, i in enumerate(held):
            found.box[person, t], found.score[person, t] = corners[i], 1
            if rows.keypoints is not None:
                found.xy[person, t] = rows.keypoints[i, :, :2]
                found.confidence[person, t] = np.nan_to_num(rows.keypoints[i, :, 2])
    return found


def _nobody(people: int, sizes: np.ndarray) -> Detections:
    shape, count = (people, len(sizes)), len(OPENPOSE_25)
    return Detections(
        tuple(OPENPOSE_25),
        np.full((*shape, count, 2), np.nan),
        np.zeros((*shape, count)),
        None,
        np.full((*shape, 4), np.nan),
        np.zeros(shape),
        sizes,
    )


def _frames(
    pictures: Pictures, names: Sequence[str], numbers: np.ndarray, count: int, file: Path
) -> list[int | None]:
    """The place among the pictures of each of a file's frames; None: it is of none of them.

    Photos are told by their names, else by number, as frames of a video are; one photo and one
    frame are each other's.
    """
    if not pictures.is_video:
        ours = {photo.stem: t for t, photo in enumerate(pictures.files)}
        by_name = [ours.get(PurePath(name).stem.removesuffix("_keypoints")) for name in names]
        if any(t is not None for t in by_name):
            known: dict[int, str] = {}
            for name, t in zip(names, by_name, strict=True):
                if t is not None and known.setdefault(t, name) != name:
                    raise ValueError(
                        f"{file}: {known[t]} and {name} are both {pictures.files[t].name}; give "
                        "the rows of one folder"
                    )
            return by_name
    if count == len(numbers) == 1:
        return [0]
    first = 1 if len(numbers) and numbers.max() == count and numbers.min() > 0 else 0
    found = [int(n) - first if first <= n < count + first else None for n in numbers]
    if all(t is None for t in found):
        raise ValueError(
            f"{file}: none of its {len(numbers)} frames is one of the {count} pictures of "
            f"{pictures.source}, by name or by number"
        )
    if first:
        warnings.warn(f"{file}: frames are numbered from 1, as the last is {count}", stacklevel=2)
    return found


def _in_boxes(boxed: Detections, found: Detections) -> Detections:
    """Gives each box the keypoints of the person of whom the largest share lies in it."""
    xy, confidence = np.full_like(boxed.xy, np.nan), np.zeros_like(boxed.confidence)
    for t in range(len(boxed.image_size)):
        share = np.array(
            [[_inside(box, *points) for points in _people(found, t)] for box in boxed.box[:, t]]
        )
        while share.size and share.max() > 0.5:
            box, person = np.unravel_index(np.argmax(share), share.shape)
            xy[box, t], confidence[box, t] = found.xy[person, t], found.confidence[person, t]
            share[box], share[:, person] = 0, 0
    return replace(boxed, xy=xy, confidence=confidence)


def _people(found: Detections, t: int) -> list[tuple[Any, Any]]:
    return [*zip(found.xy[:, t], found.confidence[:, t], strict=True)]


def _inside(box: np.ndarray, xy: np.ndarray, confidence: np.ndarray) -> float:
    """The share of a person's points that lies in a box."""
    seen = confidence > 0
    with np.errstate(invalid="ignore"):
        inside = (xy >= box[:2]).all(-1) & (xy <= box[2:]).all(-1)
    return float((inside & seen).sum() / max(seen.sum(), 1))
