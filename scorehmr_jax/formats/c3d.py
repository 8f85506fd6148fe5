"""Points of C3D files, the exchange format of motion capture (https://www.c3d.org).

Blocks of 512 bytes: a header, parameters in named groups, then frames of points with x, y, z and a
fourth number that is negative where a point was not seen. What is read is what PC programs have
written since the nineties; analog channels, events and files of DEC and SGI machines are not.
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from body_model.files import damage_named, local_path

_BLOCK = 512
_MARK, _INTEL = 0x50, 84
_METRES = {"mm": 1e-3, "cm": 1e-2, "dm": 1e-1, "m": 1.0}


@dataclass(frozen=True)
class C3D:
    """Named points in motion."""

    points: Float[np.ndarray, "N K 3"]  # metres, in the axes of the capture
    seen: Bool[np.ndarray, "N K"]
    names: tuple[str, ...]
    fps: float


def read_c3d(path: str | Path) -> C3D:
    """Reads the points of a C3D file.

    Args:
        path: of the file.
    Raises:
        ValueError: naming the file, if it is no C3D file, is cut short, was written for another
            machine, or does not tell its unit of length.
    """
    file = local_path(path)
    with damage_named(file):
        data = file.read_bytes()
    try:
        return _read(data, str(file))
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: cut short or damaged ({error}); copy it again") from None


def _read(data: bytes, where: str) -> C3D:
    if len(data) < _BLOCK or data[1] != _MARK:
        raise ValueError(f"{where}: no C3D file: its second byte is not 0x50")
    start = (data[0] - 1) * _BLOCK
    machine = data[start + 3]
    if machine != _INTEL:
        raise ValueError(
            f"{where}: expected numbers of a PC (processor type {_INTEL}), found type {machine}; "
            "write the file anew with a program of today"
        )
    count, analog, first, last = struct.unpack_from("<4H", data, 2)
    scale, block = struct.unpack_from("<fH", data, 12)
    (rate,) = struct.unpack_from("<f", data, 20)
    groups = _parameters(data, start, where)
    point = groups.get("POINT", {})
    frames = last - first + 1
    width, kind = (4, "<f4") if scale < 0 else (2, "<i2")
    row = 4 * count + analog
    begin, size = (block - 1) * _BLOCK, frames * row * width
    if frames < 1 or count < 1 or begin < _BLOCK or begin + size > len(data):
        raise ValueError(
            f"{where}: expected {frames} frames of {count} points, {size} bytes from {begin} on, "
            f"found {len(data)} bytes; cut short or damaged, copy it again"
        )
    table: Any = np.frombuffer(data, kind, frames * row, begin).reshape(frames, row)
    table = table[:, : 4 * count].reshape(frames, count, 4).astype(np.float64)
    unit = "".join(point.get("UNITS", ())).strip().lower()
    if unit not in _METRES:
        raise ValueError(
            f"{where}: POINT:UNITS: expected one of {', '.join(_METRES)}, found {unit or 'nothing'}"
        )
    factor = _METRES[unit] * (1.0 if scale < 0 else scale)
    seen = (table[..., 3] >= 0) & np.isfinite(table).all(-1)
    names = tuple(str(name).strip() for name in point.get("LABELS", ()))[:count]
    if len(names) != count:
        raise ValueError(f"{where}: POINT:LABELS: expected {count} names, found {len(names)}")
    rates = point.get("RATE", ())
    fps = float(rates[0]) if len(rates) else float(rate)
    if not 0 < fps < np.inf:
        raise ValueError(f"{where}: POINT:RATE: expected frames per second above 0, found {fps}")
    return C3D(np.where(seen[..., None], table[..., :3], 0.0) * factor, seen, names, fps)


def _parameters(data: bytes, start: int, where: str) -> dict[str, dict[str, Any]]:
    """The parameters by group and name; numbers and texts as lists."""
    names: dict[int, str] = {}
    found: list[tuple[int, str, Any]] = []
    for number, name, at in _entries(data, start + 4, where):
        if number < 0:
            names[-number] = name
        else:
            found.append((number, name, _value(data, at)))
    groups: dict[str, dict[str, Any]] = {}
    for number, name, value in found:
        groups.setdefault(names.get(number, str(number)), {})[name] = value
    return groups


def _entries(data: bytes, at: int, where: str) -> Iterator[tuple[int, str, int]]:
    """Number of the group (negative: the group itself), name, and where the rest begins."""
    while True:
        length, number = struct.unpack_from("<bb", data, at)
        if length == 0 or number == 0:
            return
        end = at + 2 + abs(length)  # a negative length is a locked entry
        name = data[at + 2 : end].decode("latin1").upper()
        (step,) = struct.unpack_from("<H", data, end)
        yield number, name, end + 2
        if step == 0:
            return
        at = end + step
        if at >= len(data):
            raise ValueError(f"{where}: parameters end nowhere; cut short or damaged")


def _value(data: bytes, at: int) -> list[Any]:
    kind, dimensions = struct.unpack_from("<bB", data, at)
    shape = data[at + 2 : at + 2 + dimensions]
    at += 2 + dimensions
    total = math.prod(shape)
    if kind == -1:
        width = shape[0] if dimensions else 1
        text = data[at : at + total].decode("latin1")
        return [text[i : i + width] for i in range(0, total, max(width, 1))]
    form = {1: "<i1", 2: "<i2", 4: "<f4"}.get(kind)
    return [] if form is None else np.frombuffer(data, form, total, at).tolist()
