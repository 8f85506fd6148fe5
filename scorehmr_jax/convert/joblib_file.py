"""Files of `joblib.dump` read without joblib, and without running anything they name.

Such a file is a pickle in which each array is a small description, with the array's numbers in the
stream right behind it. The whole may be compressed. Here the numbers are cut out first; what is
left is an ordinary pickle.
"""

import bz2
import io
import lzma
import math
import pickle
import pickletools
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from body_model.files import most_bytes
from body_model.pickles import load_unpacked, packed_bytes, unpacked
from body_model.placeholders import Budget, DtypeState, UnsafePickle, Value, shown

_WRAPPER = "joblib.numpy_pickle.NumpyArrayWrapper"
_LZ4 = b"\x04\x22\x4d\x18"
_RESAVE = "joblib.dump(joblib.load(path), new_path, compress=3)"


def load_joblib(path: str | Path, extra: Mapping[str, Any] | None = None) -> Any:
    """Reads a pickle, joblib's or an ordinary one, of containers, numbers, text and arrays.

    Args:
        path: of the file; zlib, gzip, bz2 and xz are unpacked.
        extra: further names allowed, as `load_pickle` has them.
    Raises:
        UnsafePickle: if it names anything else.
        ValueError: if it is missing, truncated, of another kind or compressed by lz4; both name the
            file.
    """
    name, data = packed_bytes(path)
    # All limits follow from the size on disk: each layer would multiply them otherwise.
    limit, budget = most_bytes(len(data)), Budget(len(data))
    data = _unpacked(name, unpacked(name, data, limit), limit)
    arrays: list[np.ndarray] = []
    if b"NumpyArrayWrapper" in data:
        try:
            cutter = _Cutter(
                data, lambda nested: load_unpacked("an array of objects", nested, budget, extra)
            )
            cutter.load()
        except UnsafePickle as error:
            raise UnsafePickle(f"{name}: {error}") from None
        # A damaged pickle can fail in any way.
        except Exception as error:
            raise ValueError(
                f"{name}: not a whole file of joblib's ({type(error).__name__}: {error}); it may "
                "be truncated or of another kind"
            ) from None
        data, arrays = cutter.rest(), cutter.arrays
    names = {"collections.defaultdict": _plain_dict, _WRAPPER: _placeholder(arrays)}
    return load_unpacked(name, data, budget, {**(extra or {}), **names})


def _plain_dict(factory: Any = None) -> dict:
    return {}


def _unpacked(name: str, data: bytes, limit: int) -> bytes:
    if data.startswith(_LZ4):
        raise ValueError(f"{name}: compressed by lz4, which is not read; save it again: {_RESAVE}")
    opener: Any
    if data[:1] == b"\x78" and int.from_bytes(data[:2], "big") % 31 == 0:
        opener = zlib.decompressobj()
    elif data.startswith(b"BZh"):
        opener = bz2.BZ2Decompressor()
    elif data.startswith(b"\x5d\x00"):
        opener = lzma.LZMADecompressor(lzma.FORMAT_ALONE)
    else:
        return data
    try:
        unpacked = opener.decompress(data, limit + 1)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise ValueError(f"{name}: cannot be decompressed ({error}); copy it again") from None
    if len(unpacked) > limit:
        raise UnsafePickle(f"{name}: refuses to decompress to more than {limit} bytes")
    if not opener.eof:
        raise ValueError(f"{name}: cut short; copy it again")
    return unpacked


def _placeholder(arrays: list[np.ndarray]) -> type[Value]:
    """A class that stands for joblib's description and takes one array after another."""
    left = iter(arrays)

    class Wrapper(Value):
        """The next array of the file."""

        value: Any = None

        def __init__(self) -> None:
            pass

        def __setstate__(self, state: Any) -> None:
            self.value = next(left, None)
            if self.value is None:
                raise UnsafePickle("describes more arrays than it holds")

    return Wrapper


class _Inert:
    """Stands for whatever a pickle names; to call it makes nothing but another one."""

    def __init__(self, *args: Any) -> None:
        pass

    def __new__(cls, *args: Any, **keywords: Any) -> "_Inert":
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        pass

    def extend(self, values: Any) -> None:
        pass


class _Wrapper(_Inert):
    """Stands for joblib's description of an array."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Cutter(pickle._Unpickler):
    """Goes through the pickle, builds nothing but containers, and cuts the arrays' numbers out.

    It is Python's own slow unpickler: the fast one reads ahead of where it is.
    """

    stack: list[Any]
    pop_mark: Callable[[], list[Any]]
    dispatch: ClassVar[dict[int, Callable]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, data: bytes, nested: Callable[[bytes], Any]) -> None:
        self._stream = io.BytesIO(data)
        super().__init__(self._stream, encoding="latin1")
        self._data, self._nested = data, nested
        self._kept: list[bytes] = []
        self._from = 0
        self.arrays: list[np.ndarray] = []

    def rest(self) -> bytes:
        """The pickle without the numbers."""
        return b"".join([*self._kept, self._data[self._from :]])

    def find_class(self, module: str, name: str) -> Any:
        return {_WRAPPER: _Wrapper, "numpy.dtype": DtypeState}.get(f"{module}.{name}", _Inert)

    def persistent_load(self, pid: Any) -> Any:
        raise UnsafePickle("refers to data outside the file")

    def get_extension(self, code: int) -> None:
        raise UnsafePickle("names something by a number")

    def _build(self) -> None:
        state = self.stack.pop()
        built = self.stack[-1]
        if not isinstance(built, _Inert | DtypeState):
            raise UnsafePickle(f"sets the state of {shown(built)}")
        built.__setstate__(state)
        if isinstance(built, _Wrapper):
            self._cut(built.state)

    def _cut(self, state: Any) -> None:
        shape, holder = state["shape"], state["dtype"]
        if not isinstance(holder, DtypeState) or not all(
            isinstance(n, int) and n >= 0 for n in shape
        ):
            raise ValueError(f"an array of shape {shown(shape)} and type {shown(holder)}")
        start = position = self._stream.tell()
        dtype, count = holder.dtype, math.prod(shape)
        if dtype.hasobject:
            for _ in pickletools.genops(self._stream):
                pass
            end = self._stream.tell()
            array = self._nested(self._data[start:end])
            # Anything else, made into an array of objects, would take a pointer for each number.
            if not isinstance(array, np.ndarray) or array.dtype != object or array.size != count:
                raise ValueError(f"an array of {count} objects that holds something else")
        else:
            if state.get("numpy_array_alignment_bytes") is not None:
                position += 1 + self._data[position]
            end = position + count * dtype.itemsize
            if end > len(self._data):
                raise EOFError("it ends within an array")
            flat = np.frombuffer(self._data, dtype, count, position)
            backwards = state.get("order") == "F"
            array = flat.reshape(shape[::-1]).T if backwards else flat.reshape(shape)
        self.arrays.append(array)
        self._stream.seek(end)
        self._kept.append(self._data[self._from : start])
        self._from = end

    # Keys other than text are never hashed: deeply nested ones would overflow the stack.
    def _put(self, pairs: list[Any]) -> None:
        held = self.stack[-1]
        if isinstance(held, dict):
            held.update(
                (k, v) for k, v in zip(pairs[::2], pairs[1::2], strict=True) if type(k) is str
            )

    def _setitem(self) -> None:
        pair = self.stack[-2:]
        del self.stack[-2:]
        self._put(pair)

    def _setitems(self) -> None:
        self._put(self.pop_mark())

    def _dict(self) -> None:
        pairs = self.pop_mark()
        self.stack.append({})
        self._put(pairs)

    def _additems(self) -> None:
        self.pop_mark()

    def _frozenset(self) -> None:
        self.pop_mark()
        self.stack.append(_Inert())

    def _refused(self) -> None:
        raise UnsafePickle("holds a bytearray or a buffer, which files of results do not")

    for _opcode, _action in (
        (pickle.BUILD, _build),
        (pickle.SETITEM, _setitem),
        (pickle.SETITEMS, _setitems),
        (pickle.DICT, _dict),
        (pickle.ADDITEMS, _additems),
        (pickle.FROZENSET, _frozenset),
        (pickle.BYTEARRAY8, _refused),
        (pickle.NEXT_BUFFER, _refused),
    ):
        dispatch[_opcode[0]] = _action
