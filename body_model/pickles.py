"""Pickles of others, read without running anything they name.

A pickle is a program: it may name any function of any installed package and call it. Body models
and data sets come as pickles, so this reader looks every name up in a short table and refuses the
rest. What the table holds is harmless by construction: plain containers, and small placeholders of
our own for numpy arrays, scipy sparse matrices and chumpy nodes. numpy's own reconstruction
functions are not among them, because some of them unpickle bytes in turn. Placeholders only store
what they are given; it is checked and made into numpy arrays afterwards. scipy and chumpy are never
imported.
"""

import gzip
import io
import lzma
import pickle
import pickletools
import re
import sys
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from body_model.files import local_path, most_bytes
from body_model.placeholders import (
    ArrayState,
    Budget,
    ChumpyNode,
    Converter,
    DtypeState,
    Placeholder,
    SparseMatrix,
    UnsafePickle,
    raw_bytes,
    shown,
)

Source = str | Path | bytes | BinaryIO | io.BufferedIOBase

_LEVELS = 200  # many times what body and data files have
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE")
_GETS = ("GET", "BINGET", "LONG_BINGET")
_CHANGES = ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD")


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


def _reconstruct(cls: type, shape: Any, code: Any) -> ArrayState:
    if cls is not ArrayState:
        raise UnsafePickle("refuses an array of a foreign class")
    return ArrayState()


def _from_buffer(contents: Any, dtype: DtypeState, shape: tuple, order: str) -> ArrayState:
    array = ArrayState()
    array.state = (1, shape, dtype, order == "F", contents)
    return array


def _scalar(dtype: DtypeState, contents: Any = None) -> np.generic:
    if dtype.dtype.hasobject:
        raise UnsafePickle("refuses a scalar of type object")
    return np.frombuffer(raw_bytes(contents), dtype.dtype, count=1)[0]


def _new(cls: type, base: Any, state: Any) -> Placeholder:
    if not (isinstance(cls, type) and issubclass(cls, Placeholder)):
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
    "numpy.dtype": DtypeState,
}
_ALLOWED |= {
    f"builtins.{t.__name__}": t for t in (dict, frozenset, list, object, set, tuple, complex)
}
_ALLOWED |= dict.fromkeys(("numpy.ndarray", "numpy.matrix"), ArrayState)
for _core in ("numpy.core", "numpy._core"):
    _ALLOWED[f"{_core}.multiarray._reconstruct"] = _reconstruct
    _ALLOWED[f"{_core}.multiarray.scalar"] = _scalar
    _ALLOWED[f"{_core}.numeric._frombuffer"] = _from_buffer
for _matrix in ("numpy.matrixlib.defmatrix", "numpy.core.defmatrix"):
    _ALLOWED[f"{_matrix}.matrix"] = ArrayState

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
        self._placeholders: dict[str, type] = {}
        self._persistent_load = persistent_load
        self._spend = spend

    def find_class(self, module: str, name: str) -> Any:
        full = f"{_ALIASES.get(module, module)}.{name}"
        if full in self._allowed:
            found = self._allowed[full]
            placeholder = isinstance(found, type) and issubclass(found, Placeholder)
            return found if placeholder else _Function(found, self._spend)
        if full in self._placeholders:
            return self._placeholders[full]
        base = (
            SparseMatrix
            if _SPARSE.fullmatch(full)
            else ChumpyNode
            if _CHUMPY.fullmatch(full)
            else None
        )
        if base is None:
            raise UnsafePickle(f"refuses {full}: a body or data file has no business naming it")
        return self._placeholders.setdefault(full, type(name, (base,), {"kind": full}))

    def persistent_load(self, pid: Any) -> Any:
        if self._persistent_load is None:
            raise UnsafePickle("refers to data outside the file")
        return self._persistent_load(pid)


def _check_opcodes(data: bytes) -> None:
    """Refuses what would harm the reader itself, before anything is built.

    These are a memo beyond the file's size, and deep nesting: Python's hash of a tuple calls itself
    for each level and overflows the stack. So the stack is followed here with, for each value, a
    list of one number: how many levels it has.
    """
    stack: list[list[int]] = []
    memo: dict[Any, list[int]] = {}
    mark = [0]
    for opcode, argument, _ in pickletools.genops(data):
        name, below, after = opcode.name, opcode.stack_before, opcode.stack_after
        if name in _PUTS:
            if (argument or 0) > len(data):
                raise UnsafePickle("refuses a memo larger than the file")
            memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1] if stack else [0]
            continue
        if name in _GETS:
            stack.append(memo.get(argument, [0]))
            continue
        if name == "DUP":
            stack.append(stack[-1] if stack else [0])
            continue
        taken = []
        if pickletools.markobject in below:
            while stack and (value := stack.pop()) is not mark:
                taken.append(value)
            below = below[: below.index(pickletools.markobject)]
        for _ in range(min(len(below), len(stack))):
            taken.append(stack.pop())
        if pickletools.markobject in after:
            stack.append(mark)
        elif after:
            value = taken.pop() if name in _CHANGES and taken else [0]
            value[0] = max(value[0], *(1 + each[0] for each in taken)) if taken else value[0]
            if value[0] > _LEVELS:
                raise UnsafePickle(f"refuses what is nested deeper than {_LEVELS} levels")
            stack.append(value)


def read_bytes(source: Source) -> tuple[str, bytes]:
    """Reads a file, decompressed if it is gzip or xz.

    Args:
        source: path, contents or open binary file.
    Returns:
        Its name for messages, and its contents.
    Raises:
        ValueError: if there is no such file, or it is truncated, or far larger inside.
    """
    name, data = packed_bytes(source)
    return name, unpacked(name, data, most_bytes(len(data)))


def packed_bytes(source: Source) -> tuple[str, bytes]:
    """Reads a file as it is; arguments and errors as `read_bytes`."""
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
    return name, data


def unpacked(name: str, data: bytes, limit: int) -> bytes:
    """Decompresses gzip and xz, once; gives anything else as it is.

    Args:
        name: of the file, for messages.
        data: its contents.
        limit: bytes that it may grow into.
    Raises:
        ValueError: if it is truncated, or would grow into more.
    """
    opener: Any = gzip.open if data[:2] == b"\x1f\x8b" else None
    if data[:6] == b"\xfd7zXZ\x00":
        opener = lzma.open
    if opener is None:
        return data
    try:
        with opener(io.BytesIO(data)) as stream:
            data = stream.read(limit + 1)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise ValueError(f"{name}: cannot be decompressed ({error}); copy it again") from None
    if len(data) > limit:
        raise UnsafePickle(f"{name}: refuses to decompress to more than {limit} bytes")
    return data


def load_pickle(
    source: Source,
    extra: Mapping[str, Any] | None = None,
    persistent_load: Callable[[Any], Any] | None = None,
    encoding: str = "latin1",
) -> Any:
    """Reads a pickle of containers, numbers, text and arrays; nothing it names is run.

    scipy sparse matrices become dense arrays, and chumpy arrays plain ones.

    Args:
        source: path, contents or open binary file; gzip and xz are unpacked.
        extra: further names allowed, "module.name" -> function or subclass of `Placeholder`. A
            function that returns an array should wrap it in `Value`, so that the pickle cannot
            alter it.
        persistent_load: resolves references to data outside the pickle.
        encoding: of the text in Python 2's pickles.
    Raises:
        UnsafePickle: if it names anything else.
        ValueError: if it is truncated or no pickle; both name the file and the reason.
    """
    name, data = read_bytes(source)
    return load_unpacked(name, data, Budget(len(data)), extra, persistent_load, encoding)


def load_unpacked(
    name: str,
    data: bytes,
    budget: Budget,
    extra: Mapping[str, Any] | None = None,
    persistent_load: Callable[[Any], Any] | None = None,
    encoding: str = "latin1",
) -> Any:
    """Reads a pickle as `load_pickle` does, but unpacks nothing.

    Args:
        name: of the file, for messages.
        data: the pickle; compressed, it is none.
        budget: the memory that it may grow into, which several pickles of one file can share.
        extra: as `load_pickle` has it, and so the others.
        persistent_load: resolves references to data outside the pickle.
        encoding: of the text in Python 2's pickles.
    Raises:
        UnsafePickle: as `load_pickle`.
        ValueError: as `load_pickle`.
    """
    spend = budget.spend
    try:
        _check_opcodes(data)
        loaded = _Unpickler(data, extra or {}, persistent_load, encoding, spend).load()
        return Converter(spend)(loaded)
    except UnsafePickle as error:
        raise UnsafePickle(f"{name}: {error}") from None
    # A damaged pickle can fail in any way.
    except Exception as error:
        raise ValueError(
            f"{name}: not a whole pickle of arrays ({type(error).__name__}: {error}); "
            "it may be truncated or of another kind"
        ) from error
