"""Patches of people in photos, decoded and cut by threads ahead of the network."""

import itertools
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Real, UInt8

from scorehmr_jax.formats.pictures import read_photo
from scorehmr_jax.regression.crop import check_box, crop

_AHEAD = 4  # photos that each thread may be ahead of the network


@dataclass(frozen=True)
class Patch:
    """What a network is shown of one person."""

    pixels: UInt8[np.ndarray, "S S 3"]  # black where there is a problem
    image_size: Float[np.ndarray, "2"]  # width and height of the photo; NaN if it cannot be read
    problem: str = ""  # why there are no pixels; "" if there are


def patches(
    files: Sequence[Path],
    center: Real[np.ndarray, "N 2"],
    side: Real[np.ndarray, " N"],
    size: int,
    *,
    turned: bool = True,
    threads: int | None = None,
) -> Iterator[Patch]:
    """Decodes photos in threads, and cuts out a patch of each box, in order.

    A photo that several rows in a row are of is decoded once. One that cannot be read, or a box
    that is none, is told in `Patch.problem`, and the others go on.

    Args:
        files: of the photo of each row.
        center: of the boxes, pixels of the photo as it is read.
        side: of the boxes, pixels.
        size: S, the side of the patches.
        turned: False to read photos as they are stored, whatever their EXIF data say.
        threads: that decode; as many as there are processors without.
    """
    runs, start = [], 0
    for _, same in itertools.groupby(files):
        stop = start + len([*same])
        runs.append(slice(start, stop))
        start = stop

    def cut(rows: slice) -> list[Patch]:
        return _cut(files[rows.start], center[rows], side[rows], size, turned)

    workers = threads or os.cpu_count() or 1
    waiting: deque[Future[list[Patch]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for rows in runs:
                waiting.append(pool.submit(cut, rows))
                if len(waiting) > _AHEAD * workers:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _cut(
    file: Path, centers: np.ndarray, sides: np.ndarray, size: int, turned: bool
) -> list[Patch]:
    black, unknown = np.zeros((size, size, 3), np.uint8), np.full(2, np.nan)
    try:
        photo = read_photo(file, turned)
    except ValueError as error:
        return [Patch(black, unknown, str(error))] * len(sides)
    found, image_size = [], np.array(photo.shape[1::-1], float)
    for center, side in zip(centers, sides, strict=True):
        try:
            check_box(center, side)
        except ValueError as error:
            found.append(Patch(black, image_size, f"{file}: {error}"))
            continue
        found.append(Patch(crop(photo, center, side, size), image_size))
    return found
