"""Columns of numbers by name, from an .npz or from a pickled list of dicts, checked as read."""

import pickle
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool
from numpy.typing import DTypeLike

from body_model.files import (
    Npz,
    is_npz,
    local_path,
    npz_keys,
    read_npz,
    warn_of_unread,
    writing,
)
from body_model.pickles import load_pickle


@dataclass(frozen=True)
class Table:
    """Columns of one dict of a file, with the file's name for messages."""

    where: str
    columns: Mapping[str, Any]

    def __contains__(self, key: str) -> bool:
        return key in self.columns

    def __getitem__(self, key: str) -> np.ndarray:
        """Returns a column as a numpy array.

        Raises:
            ValueError: naming the file and the keys it has, if this one is missing.
        """
        if key not in self.columns:
            raise ValueError(
                f"{self.where}: the key {key!r} is missing; found {sorted(self.columns)}"
            )
        try:
            return np.asarray(self.columns[key])
        except ValueError as error:
            if isinstance(self.columns, Npz):
                raise
            raise ValueError(f"{self.where}: {key} is no array of one shape ({error})") from None

    def numbers(self, key: str) -> Any:
        """Returns a column of numbers of any shape.

        Raises:
            ValueError: if it is missing or holds no numbers.
        """
        value = self[key]
        if value.dtype.kind not in "fiub":
            raise ValueError(f"{self.where}: {key} holds {value.dtype}; expected numbers")
        return value

    def array(self, key: str, shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
        """Returns a copy of a column of numbers, and warns of rows that are not finite.

        Args:
            key: its name.
            shape: what it must have.
            dtype: what it is converted to.
        Raises:
            ValueError: if it is missing, has another shape or no numbers.
        """
        value = self.unchecked(key, shape, dtype)
        self.warn_of_rows(key, value)
        return value

    def unchecked(self, key: str, shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
        """Returns the same as `array` without a look at the numbers."""
        value = self.numbers(key)
        if value.shape != shape:
            raise ValueError(
                f"{self.where}: {key} has shape {value.shape}; expected {shape}, one row per image "
                "of the annotations, in their order"
            )
        return value.astype(dtype)

    def warn_of_rows(self, key: str, value: np.ndarray) -> None:
        """Warns if rows of a column [N, ...] are not finite."""
        bad = np.flatnonzero(~np.isfinite(value).all(axis=tuple(range(1, value.ndim))))
        if len(bad):
            warnings.warn(
                f"{self.where}: {key} is NaN or infinite in {len(bad)} of {len(value)} rows "
                f"({_some(bad)}); these keep their first estimate or go unmeasured, no other is "
                "touched",
                stacklevel=3,
            )

    def optional(self, key: str, shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
        """Returns the same as `array`, or zeros where the column is missing."""
        return self.array(key, shape, dtype) if key in self else np.zeros(shape, dtype)

    def known(self, key: str, n: int) -> Bool[np.ndarray, " N"]:
        """Returns which of n rows of a column hold a fit or a truth, as `has_<key>` says.

        Raises:
            ValueError: if it says so of some, and the column is missing.
        """
        known = self.optional(f"has_{key}", (n,), np.float32) > 0
        if known.any() and key not in self:
            raise ValueError(
                f"{self.where}: has_{key} is above 0 in {np.count_nonzero(known)} rows, but the "
                f"key {key!r} is missing; found {sorted(self.columns)}. Name it so, or take "
                f"has_{key} out"
            )
        return known


def _some(rows: np.ndarray) -> str:
    return ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")


def read_tables(
    path: str | Path, keys: Collection[str] | None = None, others: Collection[str] | None = None
) -> list[Table]:
    """Reads the tables of a file: one of an .npz, one per dict of a pickle.

    Args:
        path: .npz without pickled objects, or a pickle of a dict or a list of dicts.
        keys: which columns of an .npz to read; all by default.
        others: columns that such files are known to have and that are not read. Any other is named
            in a warning, unless this is None.
    Raises:
        ValueError: naming the file, if it is missing, damaged, empty or of another kind.
    """
    path = local_path(path)
    if is_npz(path) or path.suffix == ".npz":
        if others is not None:
            warn_of_unread(str(path), npz_keys(path), keys or (), others)
        return [Table(str(path), read_npz(path, keys))]
    groups = load_pickle(path)
    groups = [groups] if isinstance(groups, Mapping) else groups
    if not isinstance(groups, list | tuple) or not all(isinstance(g, Mapping) for g in groups):
        raise ValueError(f"{path}: expected a list of dicts, one per sequence or set of views")
    if not groups:
        raise ValueError(f"{path}: an empty list; expected at least one sequence or set of views")
    if others is not None:
        warn_of_unread(str(path), {key for group in groups for key in group}, keys or (), others)
    return [Table(f"{path}, group {i}", group) for i, group in enumerate(groups)]


def write_groups(path: str | Path, groups: Sequence[Mapping[str, np.ndarray]]) -> None:
    """Writes a pickled list of dicts of arrays, whole or not at all, that old NumPy reads too.

    Args:
        path: of the file.
        groups: columns by name, one dict per sequence or set of views.
    Raises:
        ValueError: if the path is an address or a folder.
    """
    with writing(path) as file:
        _GroupPickler(file, protocol=4).dump([dict(group) for group in groups])


class _GroupPickler(pickle._Pickler):
    """Calls NumPy's own constructor of arrays by the name that it had before NumPy 2."""

    def save_global(self, obj: Any, name: str | None = None) -> None:
        if getattr(obj, "__name__", "") == "_reconstruct":
            self.write(b"cnumpy.core.multiarray\n_reconstruct\n")  # type: ignore[attr-defined]
            self.memoize(obj)  # type: ignore[attr-defined]
        else:
            super().save_global(obj, name)  # type: ignore[misc]
