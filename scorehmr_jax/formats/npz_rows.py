"""Arrays of an .npz a few rows at a time, for files that are larger than memory."""

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from body_model.files import Npz, damage_named, open_npz, writing
from scorehmr_jax.formats.tables import Table

_ROWS_AT_ONCE = 1024


def read_shapes(path: str | Path) -> Table:
    """Reads what an .npz holds, but not the numbers: a table whose columns are all zeros.

    Raises:
        ValueError: naming the file, if it is missing, damaged or no .npz.
    """
    columns, objects = {}, []
    with open_npz(path, ()) as archive, damage_named(path):
        for member in archive.namelist():
            if not member.endswith(".npy"):
                continue
            with archive.open(member) as file:
                shape, _, dtype = _header(file)
            if dtype.hasobject:
                objects.append(member[:-4])
            else:
                columns[member[:-4]] = np.broadcast_to(np.zeros((), dtype), shape)
    return Table(str(path), Npz(str(path), columns, objects))


def iterate(
    path: str | Path, keys: Sequence[str], rows: int = _ROWS_AT_ONCE
) -> Iterator[tuple[np.ndarray, ...]]:
    """Reads arrays of an .npz side by side, `rows` rows at a time and then the rest.

    Args:
        path: of the file.
        keys: of arrays of equal length.
        rows: how many are read at once.
    Raises:
        ValueError: naming file and key, if the file is damaged or lengths differ.
    """
    shapes = read_shapes(path)
    lengths = {key: len(shapes[key]) for key in keys}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{path}: expected arrays of equal length, found {lengths}")
    count = next(iter(lengths.values()), 0)
    with open_npz(path, keys) as archive:
        # One open file per key: each goes through its own part of the archive.
        readers = {}
        for key in keys:
            with damage_named(f"{path}, {key}"):
                readers[key] = _reader(archive.open(f"{key}.npy"))
        for start in range(0, count, rows):
            part = []
            for key in keys:
                with damage_named(f"{path}, {key}"):
                    part.append(readers[key](min(rows, count - start)))
            yield tuple(part)


def join(path: str | Path, parts: Sequence[str | Path], keys: Sequence[str]) -> None:
    """Writes an .npz of the rows of several, one after another, without holding them all.

    Args:
        path: of the .npz to write, whole or not at all; uncompressed, as numpy.savez has it.
        parts: .npz files with these keys, at least one.
        keys: of arrays that have the same shape but for the rows, and the same type, in each part.
    Raises:
        ValueError: naming file and key, if a part is damaged or does not fit the first.
    """
    shapes = [read_shapes(part) for part in parts]
    with writing(path) as file, zipfile.ZipFile(file, "w") as archive:
        for key in keys:
            first = shapes[0].numbers(key)
            for part, table in zip(parts, shapes, strict=True):
                found = table.numbers(key)
                if (found.shape[1:], found.dtype) != (first.shape[1:], first.dtype):
                    raise ValueError(
                        f"{part}: {key}: expected rows {first.shape[1:]} of {first.dtype}, as in "
                        f"{parts[0]}, found {found.shape[1:]} of {found.dtype}"
                    )
            rows = sum(len(table[key]) for table in shapes)
            member = zipfile.ZipInfo(f"{key}.npy")  # with a fixed date
            with archive.open(member, "w", force_zip64=True) as stream:
                header = {"descr": first.dtype.str, "fortran_order": False}
                np.lib.format.write_array_header_1_0(
                    stream, header | {"shape": (rows, *first.shape[1:])}
                )
                for part in parts:
                    for (some,) in iterate(part, [key]):
                        stream.write(np.ascontiguousarray(some).tobytes())


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
    """Returns a function from a number of rows to the next rows."""
    shape, fortran, dtype = _header(file)
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
