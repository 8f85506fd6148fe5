"""Weights as a .safetensors file: a header in JSON with names, types and places, then numbers."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

_TYPES = {"f8": "F64", "f4": "F32", "f2": "F16"}


def save_safetensors(
    path: str | Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Writes named arrays of floats and some text about them; whole or not at all.

    Raises:
        ValueError: if an array holds no floats.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    parts, end = [], 0
    for name, array in arrays.items():
        if array.dtype.str[1:] not in _TYPES:
            raise ValueError(f"{path}: {name}: expected floats, found {array.dtype}")
        parts.append(array.astype(array.dtype.newbyteorder("<")).tobytes())
        start, end = end, end + len(parts[-1])
        header[name] = {
            "dtype": _TYPES[array.dtype.str[1:]],
            "shape": list(array.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    part = Path(f"{path}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    part.write_bytes(b"".join([len(text).to_bytes(8, "little"), text, *parts]))
    os.replace(part, path)
