"""Weights as a .safetensors file: a header in JSON with names, types and places, then numbers."""

import json
import math
import os
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from body_model.files import local_path, writing

# The numbers of a file lie from the least byte to the greatest.
_TYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
_LONGEST_HEADER = 100_000_000  # bytes, as the format's own reader has it


def save_safetensors(
    path: str | Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Writes named arrays of floats and some text about them; whole or not at all.

    Args:
        path: of the file.
        arrays: by name, of float16, bfloat16, float32 or float64.
        metadata: text by name.
    Raises:
        ValueError: if an array is of another type, or as `body_model.files.writing`.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    codes = {dtype.name: code for code, dtype in _TYPES.items()}
    end = 0
    for name, array in arrays.items():
        code = codes.get(array.dtype.name)
        if code is None:
            raise ValueError(
                f"{path}: {name}: expected one of {', '.join(codes)}, found {array.dtype}"
            )
        start, end = end, end + array.size * _TYPES[code].itemsize
        header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with writing(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in arrays.values():
            file.write(array.astype(_TYPES[codes[array.dtype.name]], copy=False).tobytes())


def load_safetensors(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Reads named arrays of floats, and the text about them.

    Args:
        path: of the file.
    Returns:
        The arrays as they were written, read-only, and the metadata.
    Raises:
        ValueError: naming the file, if it is missing, truncated, of another kind, or holds an
            array that is not of floats.
    """
    path = local_path(path)
    try:
        with path.open("rb") as file:
            return _read(path, file)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from None


def _read(path: Path, file: BufferedReader) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if length > min(size - 8, _LONGEST_HEADER):
        raise ValueError(f"{path}: not a whole .safetensors file")
    try:
        header = json.loads(file.read(length))
        metadata = header.pop("__metadata__", {})
        described = [(name, *_described(path, name, entry)) for name, entry in header.items()]
    except (ValueError, AttributeError, RecursionError) as error:
        raise ValueError(
            error if str(error).startswith(f"{path}: ") else f"{path}: no .safetensors ({error})"
        ) from None
    # Before any memory is taken: the arrays together are no larger than the file then.
    _check_places(
        path, [(start, end, name) for name, *_, start, end in described], size - 8 - length
    )
    arrays = {}
    for name, dtype, shape, start, end in described:
        # Each array has memory of its own, which is free as soon as that one is not needed.
        content = np.empty(end - start, np.uint8)
        file.seek(8 + length + start)
        if file.readinto(content.data) < len(content):
            raise ValueError(f"{path}: {name}: the file grew shorter while it was read")
        content.flags.writeable = False
        arrays[name] = content.view(dtype).reshape(shape)
    return arrays, {str(name): str(text) for name, text in metadata.items()}


def _check_places(path: Path, places: list[tuple[int, int, str]], held: int) -> None:
    """Refuses arrays that lie beyond the bytes that the file holds, or on those of another."""
    before, last = 0, ""
    for start, end, name in sorted(places):
        if end > held:
            raise ValueError(
                f"{path}: {name}: lies at bytes {start} to {end} of only {held}; "
                "the file is truncated"
            )
        if start < before and start < end:
            raise ValueError(
                f"{path}: {name}: lies at bytes {start} to {end}, where {last} lies; expected "
                "every array at bytes of its own"
            )
        before, last = max((before, last), (end, name))


def _described(path: Path, name: str, entry: Any) -> tuple[np.dtype, list[int], int, int]:
    """An array's type, shape and place, checked to fit each other."""
    try:
        code, shape = entry["dtype"], entry["shape"]
        start, end = entry["data_offsets"]
    except (TypeError, KeyError, ValueError):
        raise ValueError(
            f"{path}: {name}: expected dtype, shape and data_offsets, found {entry!r}"[:300]
        ) from None
    if code not in _TYPES:
        raise ValueError(f"{path}: {name}: expected one of {', '.join(_TYPES)}, found {code!r}")
    numbers = [start, end, *shape] if isinstance(shape, list) else [None]
    if not all(type(n) is int and n >= 0 for n in numbers):
        raise ValueError(f"{path}: {name}: expected whole numbers, found {entry!r}"[:300])
    dtype = _TYPES[code]
    if end - start != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{path}: {name}: {end - start} bytes do not hold shape {shape} of {code}")
    return dtype, shape, start, end


def is_safetensors(path: str | Path) -> bool:
    """Tells by its beginning if a file that exists is in this format, whatever its suffix."""
    with open(path, "rb") as file:
        start = file.read(9)
        size = os.fstat(file.fileno()).st_size
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") <= size - 8
