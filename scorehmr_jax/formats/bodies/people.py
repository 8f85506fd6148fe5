"""Rows of bodies put together: P people in T frames."""

import math
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from scorehmr_jax import units
from scorehmr_jax.formats.bodies.rows import Rows
from scorehmr_jax.formats.keypoints.result import NO_ID
from scorehmr_jax.types import Camera, Estimate

# Of the arrays that hold all people in all frames.
_MOST_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Tracks:
    """Who is in which frame of a file of estimates, and what was assumed on reading it.

    Where a person is not in a frame, the estimate is NaN.
    """

    present: Bool[np.ndarray, "P T"]
    ids: Int[np.ndarray, " P"]  # of the tracker; NO_ID (-1) where people were not followed
    frame_numbers: Int[np.ndarray, " T"]  # as the file counts, ascending
    frame_names: tuple[str, ...]  # of images, "" where there are none
    video: bool  # False: images that have nothing to do with each other
    format: str  # of the file
    notes: tuple[str, ...]  # what was assumed or left out
    in_world: bool = False  # True: estimates are in a world of the file's own, without a camera


@dataclass(frozen=True)
class People:
    """Bodies as arrays [P, T, ...], with what the source has beside them."""

    estimate: Estimate
    camera: Camera | None
    tracks: Tracks
    keypoints: Float[np.ndarray, "P T K 3"] | None = None  # confidence 0 where not present
    fps: float | None = None  # frames per second; None: the file does not tell


def assemble(rows: Rows, where: str, format: str) -> People:
    """Puts rows together and checks their units.

    Rows that are not finite are missing. Frames that nobody is in stand between the first and the
    last of a video, so that the frames are at equal distances.

    Args:
        rows: at least one.
        where: begins messages: the file.
        format: the file's.
    Raises:
        ValueError: if a person comes twice in a frame, nothing is finite, numbers are in other
            units, or there are so many people and frames that these arrays take above 2 GiB.
    """
    good = np.isfinite(rows.pose).all((1, 2, 3)) & np.isfinite(rows.betas).all(1)
    good &= np.isfinite(rows.translation).all(1)
    if not good.any():
        raise ValueError(f"{where}: none of {len(rows)} bodies is finite")
    notes = [*rows.notes]
    if not good.all():
        notes.append(f"{np.count_nonzero(~good)} bodies that are not finite are taken as missing")
    units.check_betas(rows.betas[good], f"{where}: betas")
    units.check_translation(rows.translation[good], f"{where}: translation")
    if rows.focal is not None and rows.center is not None and rows.image_size is not None:
        units.check_camera(rows.focal, rows.center, rows.image_size, f"{where}: camera")
    frames, ids = rows.frames[good], rows.ids[good]
    numbers = _axis(frames, rows.video)
    column = np.searchsorted(numbers, frames)
    line, people = _lines(frames, ids, where)
    shape = (len(people), len(numbers))
    _check_size(rows, shape, where)

    def spread(array: np.ndarray, empty: float) -> np.ndarray:
        out = np.full((*shape, *array.shape[1:]), empty, np.float32)
        out[line, column] = array[good]
        return out

    present = np.zeros(shape, bool)
    present[line, column] = True
    estimate = Estimate(
        *(
            jnp.asarray(spread(array, math.nan))
            for array in (rows.pose, rows.betas, rows.translation)
        )
    )
    closest = nearest(present)
    camera = None
    if rows.focal is not None and rows.center is not None and rows.image_size is not None:
        fields = (rows.focal, rows.center, rows.image_size)
        camera = Camera(*(jnp.asarray(_taken(spread(a, 0), closest)) for a in fields))
    names = tuple(rows.names.get(int(n), "") for n in numbers)
    tracks = Tracks(
        present, people, numbers, names, rows.video, format, tuple(notes), rows.in_world
    )
    points = None if rows.keypoints is None else spread(rows.keypoints, 0)
    return People(estimate, camera, tracks, points, rows.fps)


def _check_size(rows: Rows, shape: tuple[int, int], where: str) -> None:
    """Refuses arrays of all people in all frames that would not fit into memory."""
    fields = (rows.pose, rows.betas, rows.translation, rows.keypoints)
    each = sum(math.prod(array.shape[1:]) for array in fields if array is not None)
    size = math.prod(shape) * each * np.dtype(np.float32).itemsize
    if size > _MOST_BYTES:
        raise ValueError(
            f"{where}: {shape[0]} people in {shape[1]} frames take {size / 2**30:.3g} GiB, as each "
            f"has a place in every frame; {_MOST_BYTES / 2**30:g} GiB are read; split the file by "
            "time, or join the ids of the same person"
        )


def _axis(frames: np.ndarray, video: bool) -> np.ndarray:
    """The numbers of the frames; of a video without gaps, unless nearly all are missing."""
    held = np.unique(frames)
    whole = int(held[-1] - held[0]) + 1
    return np.arange(held[0], held[-1] + 1) if video and whole <= 1000 + 10 * len(held) else held


def _lines(frames: np.ndarray, ids: np.ndarray, where: str) -> tuple[np.ndarray, np.ndarray]:
    """The place of each row's person, and the people's ids.

    People who were not followed stand in the file's order: the second of one image need not be the
    second of the next.
    """
    followed = np.unique(ids[ids != NO_ID])
    line = np.searchsorted(followed, ids)
    taken: dict[int, int] = {}
    for row in np.flatnonzero(ids == NO_ID):
        number = int(frames[row])
        line[row] = len(followed) + taken.get(number, 0)
        taken[number] = taken.get(number, 0) + 1
    pairs, counts = np.unique(np.stack([line, frames]), axis=1, return_counts=True)
    if (counts > 1).any():
        person, frame = pairs[:, counts.argmax()]
        raise ValueError(f"{where}: person {followed[person]} comes twice in frame {frame}")
    return line, np.append(followed, np.full(max(taken.values(), default=0), NO_ID))


def nearest(present: Bool[np.ndarray, "P T"]) -> Int[np.ndarray, "P T"]:
    """Finds for each place the nearest frame that the person is in; of two as near, the earlier.

    Args:
        present: each person in one frame at least.
    """
    frames = np.arange(present.shape[1])
    found = []
    for row in present:
        held = np.flatnonzero(row)
        after = np.searchsorted(held, frames).clip(0, len(held) - 1)
        before = (after - 1).clip(0)
        earlier = np.abs(frames - held[before]) <= np.abs(held[after] - frames)
        found.append(held[np.where(earlier, before, after)])
    return np.stack(found)


def _taken(array: np.ndarray, columns: np.ndarray) -> np.ndarray:
    expanded: Any = columns.reshape(*columns.shape, *(1,) * (array.ndim - 2))
    return np.take_along_axis(array, expanded, 1)
