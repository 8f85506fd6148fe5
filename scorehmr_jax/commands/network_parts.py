"""A network over the rows of a data set, in parts that are kept: it can go on another day."""

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import jax
import numpy as np
from jax.tree_util import keystr
from jaxtyping import Float

from body_model.files import local_path, read_npz, write_npz
from scorehmr_jax.commands.long_work import progress
from scorehmr_jax.formats.image_rows import ImageRows
from scorehmr_jax.networks.image_network import ImageNetwork
from scorehmr_jax.provenance import versions
from scorehmr_jax.regression.boxes import Boxes
from scorehmr_jax.regression.feed import patches
from scorehmr_jax.regression.run import Batch, run, whole_batch

Columns = dict[str, np.ndarray]

_ROWS = 256  # of a part, or one batch if that is more
_WRITTEN = re.compile(r"rows\d+-[0-9a-f]{16}\.npz")


@dataclass(frozen=True)
class Shown:
    """Photos and boxes, row by row, and how they are shown to a network."""

    files: tuple[Path, ...]
    center: Float[np.ndarray, "N 2"]  # of the boxes, pixels
    side: Float[np.ndarray, " N"]  # pixels
    batch: int  # patches at once, as `whole_batch` makes it
    turned: bool = True  # photos are turned as their EXIF data say
    threads: int | None = None  # that decode

    @classmethod
    def of(
        cls,
        rows: ImageRows,
        images: str | Path,
        network: ImageNetwork,
        batch: int = 64,
        threads: int | None = None,
        turned: bool = True,
    ) -> "Shown":
        """Takes the boxes of a data set, around the keypoints where it has none.

        Raises:
            ValueError: naming the folder, if it has none of the images.
        """
        folder = local_path(images)
        files = tuple(folder / name for name in rows.names)
        if not any(file.is_file() for file in files):
            raise ValueError(
                f"{folder}: has none of the {len(files)} images, first {rows.names[0]}; expected "
                "the folder that the names start in"
            )
        boxes = boxes_of(rows)
        side = boxes.side(network.crop.shown)
        return cls(files, boxes.center, side, whole_batch(batch), turned, threads)

    def parts(self) -> list[slice]:
        """Rows that are kept together."""
        count = max(_ROWS // self.batch, 1) * self.batch
        starts = range(0, len(self.files), count)
        return [slice(start, min(start + count, len(self.files))) for start in starts]


def boxes_of(rows: ImageRows) -> Boxes:
    """The boxes of a data set; around the keypoints where it has none."""
    if rows.center is not None and rows.size is not None:
        return Boxes(rows.center, rows.size)
    assert rows.keypoints is not None
    return Boxes.around(rows.keypoints[..., :2], rows.keypoints[..., 2])


def network_parts(
    network: ImageNetwork,
    shown: Shown,
    folder: Path,
    beside: Callable[[slice, Columns], Columns] = lambda rows, columns: {},
    settings: str = "",
) -> Iterator[tuple[slice, Path, tuple[str, ...]]]:
    """Shows every row to a network, and writes each part, whole or not at all.

    Args:
        network: with its weights.
        shown: what it is shown.
        folder: for the parts.
        beside: further columns of a part, from its rows and columns.
        settings: what these depend on beside that.
    Yields:
        The part's rows, its file, and what is wrong with each row, "" if nothing is. Parts of an
        earlier run are not made again, unless something was wrong: that may be mended.
    """
    said = "|".join([_fingerprint(network), repr(versions()), str(shown.turned), settings])
    parts = shown.parts()
    files = [folder / f"rows{rows.start:09d}-{_digest(shown, rows, said)}.npz" for rows in parts]
    done = [_is_done(file, rows) for file, rows in zip(files, parts, strict=True)]
    # In one go, so that photos are decoded ahead from part to part. Parts are whole batches, so
    # what is left to do falls into the same ones.
    left = [i for rows, was in zip(parts, done, strict=True) if not was for i in _all(rows)]
    batches = _batches(network, shown, left)
    for rows, file, was in zip(parts, files, done, strict=True):
        if was:
            yield rows, file, ("",) * len(_all(rows))
            continue
        some = [*islice(batches, -(-len(_all(rows)) // shown.batch))]
        problems = tuple(chain.from_iterable(batch.problems for batch in some))
        columns = _joined(some)
        columns |= beside(rows, columns) | {"problems": np.array(problems, str)}
        write_npz(file, columns, compressed=False)
        yield rows, file, problems


def finished_parts(
    network: ImageNetwork,
    shown: Shown,
    folder: Path,
    beside: Callable[[slice, Columns], Columns] = lambda rows, columns: {},
    settings: str = "",
) -> tuple[list[Path], dict[int, str]]:
    """Makes all parts, and says where it goes on if it is interrupted.

    Args:
        network, shown, folder, beside, settings: as of `network_parts`.
    Returns:
        The parts' files, and what is wrong with rows that could not be shown, by their number.
    Raises:
        ValueError: if none of the first part's rows can be shown.
    """
    files: list[Path] = []
    problems: dict[int, str] = {}
    try:
        for rows, file, found in network_parts(network, shown, folder, beside, settings):
            files.append(file)
            problems |= {rows.start + i: text for i, text in enumerate(found) if text}
            if len(problems) == rows.stop:
                raise ValueError(
                    f"none of the first {rows.stop} images can be shown: {problems[0]}"
                )
    except KeyboardInterrupt:
        print(
            f"stopped: {len(files)} of {len(shown.parts())} parts are done and kept in {folder}; "
            "the same command goes on from there"
        )
        raise
    return files, problems


def _all(rows: slice) -> range:
    return range(rows.start, rows.stop)


def _batches(network: ImageNetwork, shown: Shown, rows: list[int]) -> Iterator[Batch]:
    found = patches(
        [shown.files[i] for i in rows],
        shown.center[rows],
        shown.side[rows],
        network.crop.size,
        turned=shown.turned,
        threads=shown.threads,
    )
    return run(network, progress(found, "images", len(rows)), shown.batch)


def _joined(batches: list[Batch]) -> Columns:
    columns = {
        key: np.concatenate([batch.outputs[key] for batch in batches]) for key in batches[0].outputs
    }
    return columns | {"image_size": np.concatenate([batch.image_size for batch in batches])}


def _fingerprint(network: ImageNetwork) -> str:
    """Names the network with its weights, whatever file they came from."""
    digest = hashlib.sha256(repr(network.architecture).encode())
    for path, leaf in jax.tree_util.tree_flatten_with_path(network.params)[0]:
        array = np.asarray(leaf)
        digest.update(f"{keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _digest(shown: Shown, rows: slice, settings: str) -> str:
    said = [settings, str(shown.batch), *map(str, shown.files[rows])]
    digest = hashlib.sha256("\n".join(said).encode())
    for array in (shown.center[rows], shown.side[rows]):
        digest.update(np.ascontiguousarray(array, np.float64).tobytes())
    return digest.hexdigest()[:16]


def _is_done(file: Path, rows: slice) -> bool:
    """True for a part of an earlier run that is whole and without problems."""
    if not file.is_file():
        return False
    try:
        problems = read_npz(file, ["problems"])["problems"]
    except ValueError:
        return False
    return problems.shape == (len(_all(rows)),) and not (problems != "").any()


def remove_network_parts(folder: Path) -> None:
    """Removes the parts that were written, and the folder if nothing else is in it."""
    for file in [*folder.iterdir()] if folder.is_dir() else []:
        if _WRITTEN.fullmatch(file.name):
            file.unlink(missing_ok=True)
    with suppress(OSError):  # not empty, or not there
        folder.rmdir()
