"""PyTorch checkpoints written without PyTorch.

The file is what `torch.save` writes: a zip with `data.pkl`, a pickle of the object in which every
tensor names its storage, and one member of raw numbers for each storage. `torch.load`, with
`weights_only=True` too, and our own `load_torch` read it.
"""

import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from body_model.files import local_path, writing

# numpy's name of a type -> PyTorch's of its storage.
_STORAGES = {
    "float32": "Float",
    "float64": "Double",
    "float16": "Half",
    "bfloat16": "BFloat16",
    "int64": "Long",
    "int32": "Int",
    "int16": "Short",
    "int8": "Char",
    "uint8": "Byte",
    "bool": "Bool",
}
# PyTorch maps storages into memory where they lie at such multiples.
_ALIGNMENT = 64
_HEADER = 30  # bytes of a zip member before its name


def save_torch(path: str | Path, value: Any) -> None:
    """Writes a file for `torch.load`, replacing one of that name; whole or not at all.

    Args:
        path: of the file, usually ending in .pt.
        value: nested dicts, lists and tuples of numbers, strings, None and arrays. Arrays
            come back as tensors of the same type and shape.
    Raises:
        ValueError: naming what it is, if it holds anything else, or an array of another type
            than floats, whole numbers of up to 64 bits and truth values.
    """
    path = local_path(path)
    description = _Description(str(path))
    description.write(value, "")
    with writing(path) as file, zipfile.ZipFile(file, "w") as archive:

        def add(name: str, content: bytes) -> None:
            member = _member(f"{path.stem}/{name}", file.tell())
            archive.writestr(member, content)

        add("data.pkl", description.pickled())
        add("byteorder", b"little")
        for number, array in enumerate(description.storages):
            add(f"data/{number}", array.tobytes())
        add("version", b"3\n")


def _member(name: str, offset: int) -> zipfile.ZipInfo:
    """Describes a member of the zip that is not compressed and lies at such a multiple."""
    info = zipfile.ZipInfo(name)  # with a fixed date: equal content gives equal files
    # An extra field "FB" of zeros fills the gap; its own head takes four bytes.
    gap = -(offset + _HEADER + len(name.encode()) + 4) % _ALIGNMENT
    info.extra = b"FB" + struct.pack("<H", gap) + bytes(gap)
    return info


class _Description:
    """A pickle that grows. Python's own pickler could only name classes that it can import."""

    def __init__(self, where: str) -> None:
        self.storages: list[np.ndarray] = []
        self._where = where
        self._out = [pickle.PROTO + b"\x02"]

    def pickled(self) -> bytes:
        return b"".join([*self._out, pickle.STOP])

    def write(self, value: Any, name: str) -> None:
        """Adds a value; its name is for messages."""
        put = self._out.append
        if hasattr(value, "__array__"):  # numpy's, or JAX's
            self._write_tensor(np.asarray(value), name)
        elif isinstance(value, dict):
            put(pickle.EMPTY_DICT + pickle.MARK)
            for key, child in value.items():
                self.write(key, name)
                self.write(child, f"{name}.{key}")
            put(pickle.SETITEMS)
        elif isinstance(value, list | tuple):
            is_list = isinstance(value, list)
            put(pickle.EMPTY_LIST + pickle.MARK if is_list else pickle.MARK)
            for i, child in enumerate(value):
                self.write(child, f"{name}.{i}")
            put(pickle.APPENDS if is_list else pickle.TUPLE)
        elif isinstance(value, str):
            text = value.encode()
            put(pickle.BINUNICODE + struct.pack("<I", len(text)) + text)
        elif value is None or isinstance(value, bool):
            put({None: pickle.NONE, True: pickle.NEWTRUE, False: pickle.NEWFALSE}[value])
        elif isinstance(value, int):
            number = pickle.encode_long(value)
            put(pickle.LONG1 + bytes([len(number)]) + number)
        elif isinstance(value, float):
            put(pickle.BINFLOAT + struct.pack(">d", value))
        else:
            raise self._error(name, f"expected numbers or arrays, found {type(value).__name__}")

    def _write_tensor(self, array: np.ndarray, name: str) -> None:
        kind = _STORAGES.get(array.dtype.name)
        if kind is None:
            kinds = ", ".join(_STORAGES)
            raise self._error(name, f"expected numbers of {kinds}, found {array.dtype}")
        number, put = len(self.storages), self._out.append
        self.storages.append(array.astype(array.dtype.newbyteorder("<"), copy=False))
        # One for each axis: how far apart in the storage its neighbours are.
        strides = [int(np.prod(array.shape[i + 1 :])) for i in range(array.ndim)]

        put(_name("torch._utils", "_rebuild_tensor_v2") + pickle.MARK)
        put(pickle.MARK)
        self.write("storage", name)
        put(_name("torch", f"{kind}Storage"))
        for each in (str(number), "cpu", array.size):
            self.write(each, name)
        put(pickle.TUPLE + pickle.BINPERSID)
        for argument in (0, array.shape, tuple(strides), False):
            self.write(argument, name)
        # Hooks: none.
        put(_name("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE)
        put(pickle.TUPLE + pickle.REDUCE)

    def _error(self, name: str, reason: str) -> ValueError:
        return ValueError(f"{self._where}: {name.removeprefix('.') or 'value'}: {reason}")


def _name(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()
