"""Arrays of an .npz a few rows at a time, for files that are larger than memory."""

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scorehmr_jax.formats.tables import Table

_ROWS_AT_ONCE = 1024


def npz_files(folder: Path) -> list[Path]:
    """The .npz files in a folder and below it, in order.

    Raises:
        ValueError: if there are none.
    """
    paths = sorted(folder.rglob("*.npz"))
    if not paths:
        raise ValueError(f"{folder}: expected a folder with .npz files, found none")
    return paths


def read_shapes(path: str | Path) -> Table:
    """What an .npz holds, without reading it: a table whose columns are all zeros.

    Raises:
        ValueError: naming the file, if it is missing, damaged or no .npz.
    """
    columns = {}
    with _opened(path) as archive:
        for member in archive.namelist():
            if not member.endswith(".npy"):
                continue
            with archive.open(member) as file:
                shape, _, dtype = _header(file)
            if not dtype.hasobject:  # a pickle, which is not read
                columns[member[:-4]] = np.broadcast_to(np.zeros((), dtype), shape)
    return Table(str(path), columns)


def iterate(
    path: str | Path, keys: Sequence[str], rows: int = _ROWS_AT_ONCE
) -> Iterator[tuple[np.ndarray, ...]]:
    """Arrays of an .npz side by side, `rows` rows at a time and then the rest.

    Args:
        path: the file.
        keys: of arrays of equal length.
    Raises:
        ValueError: naming file and key, if the file is damaged or lengths differ.
    """
    shapes = read_shapes(path)
    lengths = {key: len(shapes[key]) for key in keys}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{path}: expected arrays of equal length, found {lengths}")
    count = next(iter(lengths.values()), 0)
    key = ""
    try:
        with zipfile.ZipFile(path) as archive:
            # One open file per key: each goes through its own part of the archive.
            members = {key: archive.open(f"{key}.npy") for key in keys}
            readers = {key: _reader(file) for key, file in members.items()}
            for start in range(0, count, rows):
                part = []
                for key in keys:
                    part.append(readers[key](min(rows, count - start)))
                yield tuple(part)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zipfile.zlib.error) as error:  # type: ignore[attr-defined]
        raise ValueError(
            f"{path}: {key} cannot be read to its end ({error}); copy or write the file again"
        ) from error


def _opened(path: str | Path) -> zipfile.ZipFile:
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file")
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path}: not a whole .npz of plain arrays ({error}); copy or write it again"
        ) from error


def _header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in read:
        raise ValueError(f"an array in version {version} of the .npy format")
    return read[version](file)


def _reader(file: Any) -> Any:
    """A function from a number of rows to the next rows."""
    shape, fortran, dtype = _header(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects; expected plain numbers or text")
    row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
    if fortran and len(shape) > 1:
        # Rows are scattered over the file: there is no way but to read it whole.
        whole = np.frombuffer(file.read(), dtype).reshape(shape, order="F")
        position = [0]

        def from_whole(rows: int) -> np.ndarray:
            position[0] += rows
            return np.ascontiguousarray(whole[position[0] - rows : position[0]])

        return from_whole

    def from_file(rows: int) -> np.ndarray:
        data = file.read(rows * row_bytes)
        if len(data) != rows * row_bytes:
            raise EOFError("it ends too soon")
        return np.frombuffer(data, dtype).reshape(rows, *shape[1:])

    return from_file
