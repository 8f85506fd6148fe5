"""Detections of people, frame by frame, as every reader of keypoint files gives them."""

import dataclasses
import itertools
import math
import re
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Real, Shaped

from body_model.joints import OPENPOSE_25
from body_model.keypoint_conversion import convert_keypoints
from body_model.keypoint_sets import KeypointSet, keypoint_set
from body_model.pytree import Array
from scorehmr_jax import units

NO_ID = -1
# Networks that regress heat maps give a little less than 0 where they see nothing.
_BELOW_ZERO = -0.1


@dataclass(frozen=True)
class DetectedPeople:
    """Keypoints of the people in T frames, at most P in a frame, K points each.

    People stand in the file's order: the second person of one frame need not be the second of the
    next, unless `ids` says so. A place without a person has confidence 0 and `present` False.
    """

    xy: Float[np.ndarray, "T P K 2"]  # pixels of the full image; 0 where nothing is known
    confidence: Float[np.ndarray, "T P K"]  # in [0, 1]; 0: not seen, or not in the file
    present: Bool[np.ndarray, "T P"]  # there is a person
    ids: Int[np.ndarray, "T P"]  # of the tracker; NO_ID (-1) where there is none
    score: Float[np.ndarray, "T P"]  # of the person as a whole; NaN where the file has none
    frame_numbers: Int[np.ndarray, " T"]  # as the file counts, ascending
    frame_names: tuple[str, ...]  # of images or files, "" where there are none
    keypoint_set: KeypointSet
    points_3d: Float[np.ndarray, "T P K 3"] | None = None  # metres, in the axes of their source
    confidence_3d: Float[np.ndarray, "T P K"] | None = None
    image_size: Float[np.ndarray, "T 2"] | None = None  # width and height, pixels, if known
    format: str = ""  # of the file it was read from

    def to(
        self,
        target: str | KeypointSet | Sequence[str] = OPENPOSE_25,
        max_offset: float = math.inf,
    ) -> "DetectedPeople":
        """Arranges the points in the order of another set; see `convert_keypoints`."""
        of = (self.keypoint_set, target, max_offset)
        changed: dict[str, Any] = {"keypoint_set": keypoint_set(target)}
        for points, known in (("xy", "confidence"), ("points_3d", "confidence_3d")):
            if getattr(self, points) is not None:
                found = convert_keypoints(getattr(self, points), getattr(self, known), *of)
                changed |= dict(zip((points, known), found, strict=True))
        return dataclasses.replace(self, **changed)

    @property
    def tracks(self) -> tuple[int, ...]:
        """The tracker's ids of all people, ascending."""
        return tuple(int(i) for i in np.unique(self.ids[self.present]) if i != NO_ID)

    def track(self, of: int) -> "DetectedPeople":
        """Takes one person, by the tracker's id, in every frame: [T, 1, ...].

        Raises:
            ValueError: if no frame has a person of this id.
        """
        chosen = self.present & (self.ids == of)
        if not chosen.any():
            known = ", ".join(map(str, self.tracks[:20]))
            raise ValueError(f"no person has id {of}; found {known or 'no ids'}")
        place, absent = chosen.argmax(1), ~chosen.any(1)
        rows = np.arange(len(place))
        # Rows without this person are all placeholder.
        return self._mapped(
            lambda a, empty: np.where(
                absent.reshape(-1, *[1] * (a.ndim - 2)), np.array(empty, a.dtype), a[rows, place]
            )[:, None]
        )

    def with_missing_frames(self) -> "DetectedPeople":
        """Puts a frame without people wherever the numbers of the frames skip some.

        Raises:
            ValueError: if they skip nearly all, as those of a data set's images do.
        """
        if not len(self.frame_numbers):
            return self
        first = int(self.frame_numbers[0])
        count = int(self.frame_numbers[-1]) - first + 1
        if count > 1000 + 100 * len(self.frame_numbers):
            raise ValueError(
                f"{len(self.frame_numbers)} frames with numbers from {first} to "
                f"{first + count - 1}: expected those of a video"
            )
        rows = self.frame_numbers - first
        names = [""] * count
        for row, name in zip(rows, self.frame_names, strict=True):
            names[row] = name

        def spread(array: np.ndarray, empty: Any) -> np.ndarray:
            out = np.full((count, *array.shape[1:]), empty, array.dtype)
            out[rows] = array
            return out

        size = self.image_size
        if size is not None:
            # As large as the frame before.
            size = size[np.maximum.accumulate(spread(np.arange(len(rows)), 0))]
        return self._mapped(
            spread,
            frame_numbers=np.arange(first, first + count),
            frame_names=tuple(names),
            image_size=size,
        )

    def _mapped(
        self, change: Callable[[np.ndarray, Any], np.ndarray], **others: Any
    ) -> "DetectedPeople":
        """Changes every array that has an axis of frames and one of people, and other fields."""
        empty = {"ids": NO_ID, "score": math.nan}
        keys = ("xy", "confidence", "present", "ids", "score", "points_3d", "confidence_3d")
        arrays = {key: getattr(self, key) for key in keys if getattr(self, key) is not None}
        changed: dict[str, Any] = {
            key: change(array, empty.get(key, 0)) for key, array in arrays.items()
        }
        return dataclasses.replace(self, **changed, **others)


@dataclass(frozen=True)
class Person:
    """One person in one frame."""

    xy: Real[np.ndarray, "K 2"]  # pixels
    confidence: Shaped[np.ndarray, " K"]
    id: int = NO_ID
    score: float = math.nan
    points_3d: Real[np.ndarray, "K 3"] | None = None  # metres
    confidence_3d: Shaped[np.ndarray, " K"] | None = None


@dataclass(frozen=True)
class Frame:
    """The people in one frame."""

    number: int
    name: str = ""
    people: list[Person] = field(default_factory=list)
    size: tuple[float, float] | None = None  # width and height, pixels


def assemble(
    frames: Sequence[Frame],
    of: KeypointSet,
    where: str,
    format: str = "",
    image_size: Real[Array, "..."] | Sequence[float] | None = None,
) -> DetectedPeople:
    """Puts frames together and checks units and confidences.

    Args:
        frames: in any order; their numbers differ.
        of: the set of the points.
        where: begins messages: the file.
        format: the file's.
        image_size: width and height, pixels, [2] or [T, 2], where the frames do not say.
    Raises:
        ValueError: if a person has another number of points, a frame comes twice, or points are
            not in pixels or confidences not in [0, 1].
    """
    frames = sorted(frames, key=lambda frame: frame.number)
    numbers = [frame.number for frame in frames]
    if len(set(numbers)) < len(numbers):
        twice = next(n for n in numbers if numbers.count(n) > 1)
        names = [frame.name for frame in frames if frame.number == twice]
        raise ValueError(
            f"{where}: frame {twice} comes {len(names)} times ({', '.join(names[:3])}); expected "
            "one series of frames, each number once"
        )
    count, most = len(of), max((len(frame.people) for frame in frames), default=0)
    for frame in frames:
        for person in frame.people:
            if len(person.xy) != count:
                raise ValueError(
                    f"{where}: {frame.name or f'frame {frame.number}'}: {len(person.xy)} points "
                    f"per person, expected the {count} of {of.name}; give another convention, or "
                    "keep detections of one kind in a file"
                )
    lead = (len(frames), most)
    xy, confidence = np.zeros((*lead, count, 2)), np.zeros((*lead, count))
    points, known = np.zeros((*lead, count, 3)), np.zeros((*lead, count))
    present, ids = np.zeros(lead, bool), np.full(lead, NO_ID)
    score, deep = np.full(lead, math.nan), False
    for t, frame in enumerate(frames):
        for p, person in enumerate(frame.people):
            xy[t, p], confidence[t, p] = person.xy, person.confidence
            present[t, p], ids[t, p], score[t, p] = True, person.id, person.score
            if person.points_3d is not None:
                deep, points[t, p] = True, person.points_3d
                own = person.confidence_3d
                known[t, p] = person.confidence if own is None else own
    confidence = _checked(confidence, xy, f"{where}: keypoints")
    size = _sizes(frames, image_size, where)
    for each in [None] if size is None else [size[:, None]]:
        units.check_keypoints(xy, confidence, each, f"{where}: keypoints")
    if deep:
        known = _checked(known, points, f"{where}: 3D points")
        units.check_joints(points, known, f"{where}: 3D points")
    return DetectedPeople(
        xy=_finite(xy),
        confidence=confidence.astype(np.float32),
        present=present,
        ids=ids,
        score=score.astype(np.float32),
        frame_numbers=np.array(numbers, np.int64),
        frame_names=tuple(frame.name for frame in frames),
        keypoint_set=of,
        points_3d=_finite(points) if deep else None,
        confidence_3d=known.astype(np.float32) if deep else None,
        image_size=size,
        format=format,
    )


def numbered(names: Sequence[str], where: str) -> list[int]:
    """Finds the frame's number in each name: its last digits.

    Names without digits, or with digits that do not tell them apart, are counted in their order.

    Raises:
        ValueError: if there are two series of frames, as of two cameras.
    """
    found = [re.findall(r"\d+", name) for name in names]
    if all(found):
        last = [int(digits[-1][-18:]) for digits in found]
        if len(set(last)) == len(names):
            return last
        series = Counter(re.sub(r"\d+(?=\D*$)", "", name) for name in names)
        several = [name for name, count in series.items() if count > 1]
        if len(several) > 1:
            raise ValueError(
                f"{where}: holds several series of frames, {several[0]}... and {several[1]}...; "
                "keep each camera's or video's files in a folder of its own"
            )
    order = {name: number for number, name in enumerate(sorted(names))}
    return [order[name] for name in names]


def warn_of_gaps(numbers: Sequence[int], where: str) -> None:
    """Warns of frames that a folder of one file for each frame does not have."""
    held = sorted(numbers)
    gaps = [(a + 1, b - 1) for a, b in itertools.pairwise(held) if b > a + 1]
    if not gaps:
        return
    missing = sum(last - first + 1 for first, last in gaps)
    first, last = gaps[0]
    named = f"{first}" if first == last else f"{first} to {last}"
    warnings.warn(
        f"{where}: {missing} frames between {held[0]} and {held[-1]} have no file, first {named}; "
        "the others are read under their own numbers",
        stacklevel=3,
    )


def _checked(confidence: np.ndarray, points: np.ndarray, where: str) -> np.ndarray:
    """Confidences in [0, 1], 0 where a point is not finite."""
    with np.errstate(invalid="ignore"):
        seen = np.isfinite(points).all(-1) & np.isfinite(confidence)
        seen &= ~((confidence < 0) & (confidence >= _BELOW_ZERO))
    return units.checked_confidence(np.where(seen, confidence, 0), where)


def _finite(points: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(points).all(-1, keepdims=True), points, 0).astype(np.float32)


def _sizes(frames: Sequence[Frame], given: Any, where: str) -> np.ndarray | None:
    """The size of each frame [T, 2], as the file or the caller has it; the file goes first."""
    if given is not None:
        given = np.asarray(given, float)
        if given.shape not in ((2,), (len(frames), 2)):
            raise ValueError(
                f"{where}: image_size: expected width and height, [2] or [{len(frames)}, 2], "
                f"found {given.shape}"
            )
        given = np.broadcast_to(given, (len(frames), 2))
    sizes = [
        frame.size or (None if given is None else tuple(given[t])) for t, frame in enumerate(frames)
    ]
    if not sizes or any(size is None for size in sizes):
        return None
    return np.array(sizes, np.float32)
