"""Columns of numbers by name, from an .npz or from a pickled list of dicts, checked as read."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from body_model.files import is_npz, local_path, read_npz
from body_model.pickles import load_pickle
from scorehmr_jax.units import not_rotations


@dataclass(frozen=True)
class Table:
    """One dict of a file, that knows where it came from."""

    where: str
    columns: Mapping[str, Any]

    def __contains__(self, key: str) -> bool:
        return key in self.columns

    def __getitem__(self, key: str) -> Any:
        """A column as a numpy array.

        Raises:
            ValueError: naming the file and the keys it has, if this one is missing.
        """
        if key not in self.columns:
            raise ValueError(
                f"{self.where}: the key {key!r} is missing; found {sorted(self.columns)}"
            )
        return np.asarray(self.columns[key])

    def numbers(self, key: str) -> Any:
        """As `[key]`, of any shape.

        Raises:
            ValueError: if it is missing or holds no numbers.
        """
        value = self[key]
        if value.dtype.kind not in "fiub":
            raise ValueError(f"{self.where}: {key} holds {value.dtype}; expected numbers")
        return value

    def array(self, key: str, shape: tuple[int, ...], dtype: DTypeLike) -> Any:
        """A column of numbers, as a numpy array of its own; warns of rows that are not finite.

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

    def unchecked(self, key: str, shape: tuple[int, ...], dtype: DTypeLike) -> Any:
        """As `array`, without a look at the numbers."""
        value = self.numbers(key)
        if value.shape != shape:
            raise ValueError(
                f"{self.where}: {key} has shape {value.shape}; expected {shape}, one row per image "
                "of the annotations, in their order"
            )
        return value.astype(dtype)

    def warn_of_rows(self, key: str, value: np.ndarray) -> None:
        """Warns if rows of a column [N, ...] are not finite."""
        bad = np.flatnonzero(~np.isfinite(value).reshape(len(value), -1).all(axis=1))
        if len(bad):
            warnings.warn(
                f"{self.where}: {key} is NaN or infinite in {len(bad)} of {len(value)} rows "
                f"({_some(bad)}); these keep their first estimate or go unmeasured, no other is "
                "touched",
                stacklevel=3,
            )

    def warn_of_rotations(self, key: str, value: np.ndarray) -> None:
        """Warns if rows of a column [N, ..., 3, 3] are numbers, but no rotations."""
        bad = np.flatnonzero(not_rotations(value))
        if len(bad):
            warnings.warn(
                f"{self.where}: {key} holds matrices that are no rotations in {len(bad)} of "
                f"{len(value)} rows ({_some(bad)}); expected R^T R = 1 and det R = 1",
                stacklevel=3,
            )

    def optional(self, key: str, shape: tuple[int, ...], dtype: DTypeLike) -> Any:
        """As `array`; zeros where the column is missing."""
        return self.array(key, shape, dtype) if key in self else np.zeros(shape, dtype)


def _some(rows: np.ndarray) -> str:
    return ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")


def read_tables(path: str | Path, keys: tuple[str, ...] | None = None) -> list[Table]:
    """The tables of a file: one of an .npz, one per dict of a pickle.

    Args:
        path: .npz without pickled objects, or a pickle of a dict or a list of dicts.
        keys: which columns of an .npz to read; all by default.
    Raises:
        ValueError: naming the file, if it is missing, damaged, empty or of another kind.
    """
    path = local_path(path)
    if is_npz(path) or path.suffix == ".npz":
        return [Table(str(path), read_npz(path, keys))]
    groups = load_pickle(path)
    groups = [groups] if isinstance(groups, Mapping) else groups
    if not isinstance(groups, list | tuple) or not all(isinstance(g, Mapping) for g in groups):
        raise ValueError(f"{path}: expected a list of dicts, one per sequence or set of views")
    if not groups:
        raise ValueError(f"{path}: an empty list; expected at least one sequence or set of views")
    return [Table(f"{path}, group {i}", group) for i, group in enumerate(groups)]
