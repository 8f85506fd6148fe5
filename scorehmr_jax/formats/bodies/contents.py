"""What a file of results holds, as plain containers and arrays, whatever wrote it."""

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from body_model.files import damage_named, is_npy, is_npz, read_npz
from body_model.pickles import load_pickle
from scorehmr_jax.convert.joblib_file import load_joblib
from scorehmr_jax.convert.torch_file import TENSORS, load_torch

SUFFIXES = (".npz", ".npy", ".pkl", ".pickle", ".joblib", ".pt", ".pth", ".json")


def contents(path: Path) -> Any:
    """Reads an .npz, .npy, .json, a pickle, a file of joblib's or of PyTorch's.

    Nothing that a file names is run. Tensors come as arrays, an array of one object as the object.

    Args:
        path: of the file, told by how it begins.
    Raises:
        ValueError: naming the file, if it is missing, damaged or names what is not read.
    """
    if is_npz(path):
        return load_torch(path) if is_torch(path) else _npz(path)
    if is_npy(path):
        with damage_named(path):
            data = path.read_bytes()
        return _array(data, str(path))
    with damage_named(path), path.open("rb") as file:
        start = file.read(64).lstrip()
    if start[:1] in (b"{", b"["):
        with damage_named(path):
            text = path.read_text(encoding="utf-8")
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: is no JSON, or cut short ({error})") from None
    return load_joblib(path, TENSORS)


def table(value: Any) -> Mapping[str, Any] | None:
    """The value as a table by names, if it is one."""
    named = isinstance(value, Mapping) and all(isinstance(key, str) for key in value)
    return value if named else None


def has(value: Any, *keys: str) -> bool:
    """True for a table that has all of the keys."""
    held = table(value)
    return held is not None and all(key in held for key in keys)


def is_torch(path: Path) -> bool:
    """True for a zip of PyTorch's."""
    with damage_named(path), zipfile.ZipFile(path) as archive:
        return any(name.endswith("/data.pkl") for name in archive.namelist())


def _npz(path: Path) -> dict[str, Any]:
    held = read_npz(path)
    found: dict[str, Any] = dict(held)
    with damage_named(path), zipfile.ZipFile(path) as archive:
        objects = {key: archive.read(f"{key}.npy") for key in held.objects}
    for key, data in objects.items():
        found[key] = _array(data, f"{path}, {key}")
    return found


def _array(data: bytes, where: str) -> Any:
    """The array of an .npy, also one of objects; of a single object the object itself."""
    stream = io.BytesIO(data)
    stream.name = where
    with damage_named(where):
        version = np.lib.format.read_magic(stream)
        header = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = header(stream)
        if not dtype.hasobject:
            stream.seek(0)
            return np.lib.format.read_array(stream, allow_pickle=False)
    rest = io.BytesIO(stream.read())
    rest.name = where
    array = load_pickle(rest, TENSORS)
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{where}: expected an array of objects, found {type(array).__name__}")
    return array.item() if shape == () else [*array.ravel()]
