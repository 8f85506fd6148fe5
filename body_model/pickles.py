"""Pickles from strangers, read without running anything they name.

A pickle is a program: it may name any function of any installed package and call it. Body models
and data sets come as pickles, so this reader looks every name up in a short table and refuses the
rest. What the table holds is harmless by construction: plain containers, and small stand-ins of
our own for numpy arrays, scipy sparse matrices and chumpy nodes. numpy's own reconstruction
functions are not among them, because some of them unpickle bytes in turn. Stand-ins only store what
they are given; it is checked and made into numpy arrays afterwards. scipy and chumpy are never
imported.
"""

import gzip
import io
import lzma
import math
import pickle
import pickletools
import re
import reprlib
import sys
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from body_model.files import local_path, most_bytes

Source = str | Path | bytes | BinaryIO | io.BufferedIOBase

_CODE = re.compile(r"[biufcSU]\d{1,9}|\?|O8?")


class UnsafePickle(ValueError):
    """A pickle names something that this reader does not build."""


class StandIn:
    """What a class named by a pickle is replaced with: it keeps its state and does nothing."""

    kind = ""
    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __repr__(self) -> str:
        return f"<{self.kind}, not converted>"


class Value(StandIn):
    """Carries a finished value out of a function of `extra`, out of reach of the pickle."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __setstate__(self, state: Any) -> None:
        raise UnsafePickle("sets the state of a finished value")


class _Array(StandIn):
    """numpy.ndarray: its state is (version, shape, dtype, fortran, contents)."""

    kind = "numpy.ndarray"


class _Dtype(StandIn):
    """numpy.dtype of numbers, text or objects: its state is (version, byte order, ...)."""

    kind = "numpy.dtype"

    def __init__(self, code: Any, align: Any = False, copy: Any = False) -> None:
        if not (isinstance(code, str) and _CODE.fullmatch(code)):
            raise UnsafePickle(f"refuses the array type {shown(code)}")
        self.code = code

    @property
    def dtype(self) -> np.dtype:
        dtype = np.dtype(self.code)
        order = self.state[1] if self.state else None
        return dtype.newbyteorder(order) if order in ("<", ">") else dtype


class _Chumpy(StandIn):
    """A node of chumpy's expression graph; `Ch` holds its array as 'x', `Select` a view."""


class _Sparse(StandIn):
    """A scipy.sparse matrix in compressed columns, compressed rows or coordinates."""


class _Function:
    """A callable that a pickle can call but not alter.

    Each call spends what it makes: a few bytes of a pickle can copy a large object once more.
    """

    __slots__ = ("_call", "_spend")

    def __init__(self, call: Callable, spend: Callable[[int], None]) -> None:
        self._call, self._spend = call, spend

    def __call__(self, *args: Any) -> Any:
        made = self._call(*args)
        self._spend(sys.getsizeof(made))
        return made

    def __setstate__(self, state: Any) -> None:
        raise UnsafePickle("sets the state of a function")


def _reconstruct(cls: type, shape: Any, code: Any) -> _Array:
    if cls is not _Array:
        raise UnsafePickle("refuses an array of a foreign class")
    return _Array()


def _from_buffer(contents: Any, dtype: _Dtype, shape: tuple, order: str) -> _Array:
    array = _Array()
    array.state = (1, shape, dtype, order == "F", contents)
    return array


def _scalar(dtype: _Dtype, contents: Any = None) -> np.generic:
    if dtype.dtype.hasobject:
        raise UnsafePickle("refuses a scalar of type object")
    return np.frombuffer(_raw(contents), dtype.dtype, count=1)[0]


def _new(cls: type, base: Any, state: Any) -> StandIn:
    if not (isinstance(cls, type) and issubclass(cls, StandIn)):
        raise UnsafePickle("refuses copyreg._reconstructor of a foreign class")
    return cls()


def _encode(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise UnsafePickle(f"refuses the encoding {shown(encoding)}")
    return text.encode("latin1")


def _bytes(contents: bytes = b"") -> bytes:
    # bytes(n) would take n bytes of memory.
    if not isinstance(contents, bytes):
        raise UnsafePickle("refuses bytes that are not made of bytes")
    return contents


_ALLOWED: dict[str, Any] = {
    "_codecs.encode": _encode,
    "collections.OrderedDict": OrderedDict,
    "copyreg._reconstructor": _new,
    "builtins.bytes": _bytes,
    "builtins.bytearray": lambda contents=b"": bytearray(_bytes(contents)),
    "numpy.dtype": _Dtype,
}
_ALLOWED |= {
    f"builtins.{t.__name__}": t for t in (dict, frozenset, list, object, set, tuple, complex)
}
_ALLOWED |= dict.fromkeys(("numpy.ndarray", "numpy.matrix"), _Array)
for _core in ("numpy.core", "numpy._core"):
    _ALLOWED[f"{_core}.multiarray._reconstruct"] = _reconstruct
    _ALLOWED[f"{_core}.multiarray.scalar"] = _scalar
    _ALLOWED[f"{_core}.numeric._frombuffer"] = _from_buffer
for _matrix in ("numpy.matrixlib.defmatrix", "numpy.core.defmatrix"):
    _ALLOWED[f"{_matrix}.matrix"] = _Array

# Python 2 and the platform have other names for the same things.
_ALIASES = {"__builtin__": "builtins", "copy_reg": "copyreg", "posix": "os", "nt": "os"}

_SPARSE = re.compile(r"scipy\.sparse\.(?:\w+\.)?(csc|csr|coo)_(?:matrix|array)")
_CHUMPY = re.compile(r"chumpy(?:\.\w+)+")


class _Unpickler(pickle.Unpickler):
    def __init__(
        self,
        data: bytes,
        extra: Mapping[str, Any],
        persistent_load: Callable[[Any], Any] | None,
        encoding: str,
        spend: Callable[[int], None],
    ) -> None:
        super().__init__(io.BytesIO(data), encoding=encoding)
        self._allowed = _ALLOWED | dict(extra)
        self._stand_ins: dict[str, type] = {}
        self._persistent_load = persistent_load
        self._spend = spend

    def find_class(self, module: str, name: str) -> Any:
        full = f"{_ALIASES.get(module, module)}.{name}"
        if full in self._allowed:
            found = self._allowed[full]
            stand_in = isinstance(found, type) and issubclass(found, StandIn)
            return found if stand_in else _Function(found, self._spend)
        if full in self._stand_ins:
            return self._stand_ins[full]
        base = _Sparse if _SPARSE.fullmatch(full) else _Chumpy if _CHUMPY.fullmatch(full) else None
        if base is None:
            raise UnsafePickle(f"refuses {full}: a body or data file has no business naming it")
        return self._stand_ins.setdefault(full, type(name, (base,), {"kind": full}))

    def persistent_load(self, pid: Any) -> Any:
        if self._persistent_load is None:
            raise UnsafePickle("refers to data outside the file")
        return self._persistent_load(pid)


class _Budget:
    """The memory that a file of a size may still grow into."""

    def __init__(self, size: int) -> None:
        self._left = most_bytes(size)

    def spend(self, nbytes: int) -> None:
        self._left -= nbytes
        if self._left < 0:
            raise UnsafePickle("refuses to grow into far more memory than the file's size")


class _Converter:
    """Replaces the stand-ins in what was unpickled, keeping shared objects shared."""

    def __init__(self, spend: Callable[[int], None]) -> None:
        self._spend = spend
        self._done: dict[int, Any] = {}

    def __call__(self, x: Any) -> Any:
        if not isinstance(x, StandIn | dict | list | tuple | set | frozenset):
            return x
        if id(x) in self._done:
            return self._done[id(x)]
        out: Any
        if isinstance(x, dict | list):
            # Known before its content is: a container may contain itself.
            out = self._done[id(x)] = type(x)()
            if isinstance(x, dict):
                out.update((k, self(v)) for k, v in x.items())
            else:
                out.extend(self(v) for v in x)
            return out
        out = type(x)(self(v) for v in x) if not isinstance(x, StandIn) else self._stand_in(x)
        self._done[id(x)] = out
        return out

    def _stand_in(self, x: StandIn) -> Any:
        if isinstance(x, Value):
            return x.value
        if isinstance(x, _Dtype):
            return x.dtype
        if isinstance(x, _Array):
            return self._array(x)
        state = x.state[0] if isinstance(x.state, tuple) and x.state else x.state
        if not isinstance(state, dict):
            return x
        if isinstance(x, _Sparse):
            return self._dense(x.kind, {k: self(v) for k, v in state.items()})
        if "x" in state:
            return self(state["x"])
        if x.kind.endswith(".Select") and "a" in state and "idxs" in state:
            source, index = self(state["a"]), self(state["idxs"])
            if not isinstance(source, np.ndarray) or not _is_vector(index, "iu"):
                return x
            self._spend(index.size * source.itemsize)
            chosen = source.ravel()[index]
            shape = state.get("preferred_shape")
            return chosen if shape is None else chosen.reshape(self(shape))
        return x

    def _array(self, x: _Array) -> np.ndarray:
        if x.state is None:
            raise ValueError("an array without contents")
        shape, holder, fortran, contents = x.state[-4:]
        if not isinstance(holder, _Dtype):
            raise ValueError("an array without a type")
        if not all(isinstance(n, int) and n >= 0 for n in shape):
            raise ValueError(f"an array of shape {shown(shape)}")
        count = math.prod(shape)
        self._spend(count * holder.dtype.itemsize)
        if holder.dtype.hasobject:
            if not isinstance(contents, list) or len(contents) != count:
                raise ValueError(f"an object array of shape {shape} with other contents")
            flat = np.empty(count, object)
            for i, item in enumerate(contents):
                flat[i] = self(item)
        else:
            raw = _raw(contents)
            if len(raw) != count * holder.dtype.itemsize:
                raise ValueError(f"an array of shape {shown(shape)} with {len(raw)} bytes")
            flat = np.frombuffer(bytearray(raw), holder.dtype)
        return flat.reshape(shape, order="F" if fortran else "C")

    def _dense(self, kind: str, state: dict[str, Any]) -> np.ndarray:
        """The matrix in full; entries given twice add up, as scipy has it."""
        data = state["data"]
        rows, columns = (int(n) for n in state["_shape" if "_shape" in state else "shape"])
        if "coo" in kind:
            row, column = state["coords"] if "coords" in state else (state["row"], state["col"])
        else:
            pointers, inner = state["indptr"], state["indices"]
            if not (_is_vector(pointers, "iu") and _is_vector(inner, "iu")):
                raise ValueError(f"{kind} without indices")
            lengths = np.diff(pointers.astype(np.int64))
            # Before anything is repeated so often.
            if ((lengths < 0) | (lengths > len(inner))).any() or lengths.sum() > len(inner):
                raise ValueError(f"{kind} whose indptr does not fit its indices")
            outer = np.repeat(np.arange(len(lengths)), lengths)
            # scipy may keep room for more entries at the end.
            inner, data = inner[: len(outer)], data[: len(outer)]
            row, column = (inner, outer) if "csc" in kind else (outer, inner)
        if not (_is_vector(data, "biufc") and _is_vector(row, "iu") and _is_vector(column, "iu")):
            raise ValueError(f"{kind} without vectors of numbers")
        if not len(data) == len(row) == len(column) or min(rows, columns) < 0:
            raise ValueError(f"{kind} of sizes that do not fit")
        if len(data) and (np.min(row) < 0 or np.min(column) < 0):
            raise ValueError(f"{kind} with negative indices")
        self._spend(rows * columns * data.itemsize)
        dense = np.zeros((rows, columns), data.dtype)
        np.add.at(dense, (row, column), data)
        return dense


def _is_vector(x: Any, kinds: str) -> bool:
    return isinstance(x, np.ndarray) and x.ndim == 1 and x.dtype.kind in kinds


def _check_opcodes(data: bytes) -> None:
    """Refuse sizes beyond the file's own, before anything is allocated for them."""
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in ("PUT", "LONG_BINPUT") and (argument or 0) > len(data):
            raise UnsafePickle("refuses a memo larger than the file")


def _raw(contents: Any) -> bytes | bytearray:
    if isinstance(contents, str):  # Python 2 wrote bytes as text
        return contents.encode("latin1")
    if not isinstance(contents, bytes | bytearray):
        raise ValueError("an array whose contents are no bytes")
    return contents


def shown(x: Any) -> str:
    """A short text of anything for a message; that of lists that share lists has no end."""
    return (repr(x) if isinstance(x, StandIn) else reprlib.repr(x))[:80]


def read_bytes(source: Source) -> tuple[str, bytes]:
    """A name for messages and the contents of a file, decompressed if it is gzip or xz.

    Raises:
        ValueError: if there is no such file, or it is truncated, or far larger inside.
    """
    if isinstance(source, bytes):
        name, data = "pickled bytes", source
    elif isinstance(source, str | Path):
        name = str(source)
        try:
            data = local_path(source).read_bytes()
        except OSError as error:
            raise ValueError(f"{name}: cannot be read ({error.strerror})") from None
    else:
        name, data = str(getattr(source, "name", "pickled data")), source.read()
    opener: Any = gzip.open if data[:2] == b"\x1f\x8b" else None
    if data[:6] == b"\xfd7zXZ\x00":
        opener = lzma.open
    if opener is None:
        return name, data
    limit = most_bytes(len(data))
    try:
        with opener(io.BytesIO(data)) as stream:
            data = stream.read(limit + 1)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise ValueError(f"{name}: cannot be decompressed ({error}); copy it again") from None
    if len(data) > limit:
        raise UnsafePickle(f"{name}: refuses to decompress to more than {limit} bytes")
    return name, data


def load_pickle(
    source: Source,
    extra: Mapping[str, Any] | None = None,
    persistent_load: Callable[[Any], Any] | None = None,
    encoding: str = "latin1",
) -> Any:
    """Read a pickle of containers, numbers, text and arrays; nothing it names is run.

    scipy sparse matrices become dense arrays, and chumpy arrays plain ones.

    Args:
        source: path, contents or open binary file; gzip and xz are unpacked.
        extra: further names allowed, "module.name" -> function or subclass of `StandIn`. A function
            that returns an array should wrap it in `Value`, so that the pickle cannot alter it.
        persistent_load: resolves references to data outside the pickle.
        encoding: of the text in Python 2's pickles.
    Raises:
        UnsafePickle: if it names anything else.
        ValueError: if it is truncated or no pickle; both name the file and the reason.
    """
    name, data = read_bytes(source)
    try:
        _check_opcodes(data)
        spend = _Budget(len(data)).spend
        loaded = _Unpickler(data, extra or {}, persistent_load, encoding, spend).load()
        return _Converter(spend)(loaded)
    except UnsafePickle as error:
        raise UnsafePickle(f"{name}: {error}") from None
    # A damaged pickle can fail in any way.
    except Exception as error:
        raise ValueError(
            f"{name}: not a whole pickle of arrays ({type(error).__name__}: {error}); "
            "it may be truncated or of another kind"
        ) from error
