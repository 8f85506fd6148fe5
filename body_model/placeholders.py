"""Placeholders for the arrays, sparse matrices and chumpy nodes of a pickle.

They only keep what they are given; afterwards `Converter` checks it and makes numpy arrays of it.
scipy and chumpy are never imported.
"""

import math
import re
import reprlib
from collections.abc import Callable
from typing import Any

import numpy as np

from body_model.files import most_bytes

_CODE = re.compile(r"[biufcSU]\d{1,9}|\?|O8?")


class UnsafePickle(ValueError):
    """A pickle names something that this reader does not build."""


class Placeholder:
    """Stands for an object of a class that a pickle names; it keeps its state and does nothing."""

    kind = ""
    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __repr__(self) -> str:
        return f"<{self.kind}, not converted>"


class Value(Placeholder):
    """Carries a finished value out of a function of `extra`, out of reach of the pickle."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __setstate__(self, state: Any) -> None:
        raise UnsafePickle("sets the state of a finished value")


class ArrayState(Placeholder):
    """Stands for numpy.ndarray; its state is (version, shape, dtype, fortran, contents)."""

    kind = "numpy.ndarray"


class DtypeState(Placeholder):
    """Stands for numpy.dtype of numbers, text or objects; state (version, byte order, ...)."""

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


class ChumpyNode(Placeholder):
    """A node of chumpy's expression graph; `Ch` holds its array as 'x', `Select` a view."""


class SparseMatrix(Placeholder):
    """A scipy.sparse matrix in compressed columns, compressed rows or coordinates."""


class Budget:
    """The memory that a file of a size may still grow into."""

    def __init__(self, size: int) -> None:
        self._left = most_bytes(size)

    def spend(self, nbytes: int) -> None:
        self._left -= nbytes
        if self._left < 0:
            raise UnsafePickle("refuses to grow into far more memory than the file's size")


class Converter:
    """Replaces the placeholders in what was unpickled, keeping shared objects shared."""

    def __init__(self, spend: Callable[[int], None]) -> None:
        self._spend = spend
        self._done: dict[int, Any] = {}

    def __call__(self, x: Any) -> Any:
        if not isinstance(x, Placeholder | dict | list | tuple | set | frozenset):
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
        if isinstance(x, Placeholder):
            out = self._done[id(x)] = self._of_placeholder(x)
            return out
        out = type(x)(self(v) for v in x)
        self._done[id(x)] = out
        return out

    def _of_placeholder(self, x: Placeholder) -> Any:
        if isinstance(x, Value):
            return x.value
        if isinstance(x, DtypeState):
            return x.dtype
        if isinstance(x, ArrayState):
            return self._array(x)
        state = x.state[0] if isinstance(x.state, tuple) and x.state else x.state
        if not isinstance(state, dict):
            return x
        if isinstance(x, SparseMatrix):
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

    def _array(self, x: ArrayState) -> np.ndarray:
        if x.state is None:
            raise ValueError("an array without contents")
        shape, holder, fortran, contents = x.state[-4:]
        if not isinstance(holder, DtypeState):
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
            raw = raw_bytes(contents)
            if len(raw) != count * holder.dtype.itemsize:
                raise ValueError(f"an array of shape {shown(shape)} with {len(raw)} bytes")
            flat = np.frombuffer(bytearray(raw), holder.dtype)
        return flat.reshape(shape, order="F" if fortran else "C")

    def _dense(self, kind: str, state: dict[str, Any]) -> np.ndarray:
        """Returns the matrix in full; entries given twice add up, as in scipy."""
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


def raw_bytes(contents: Any) -> bytes | bytearray:
    if isinstance(contents, str):  # Python 2 wrote bytes as text
        return contents.encode("latin1")
    if not isinstance(contents, bytes | bytearray):
        raise ValueError("an array whose contents are no bytes")
    return contents


def shown(x: Any) -> str:
    """Returns a short text of anything for a message, even of lists that contain each other."""
    return (repr(x) if isinstance(x, Placeholder) else reprlib.repr(x))[:80]
