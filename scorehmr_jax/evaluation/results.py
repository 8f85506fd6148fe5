"""The results of an evaluation: collected batch by batch, and written."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Int

from body_model.files import local_path, write_json, write_npz
from scorehmr_jax import cluster
from scorehmr_jax.evaluation.batching import Rows

T = TypeVar("T")


class Results:
    """Arrays over all samples of a data set, filled batch by batch.

    Args:
        lengths: samples of each group; groups lie one after another.
        fewer: of each figure by name, how many values fewer than samples a group has.
    """

    def __init__(self, lengths: Sequence[int], fewer: Mapping[str, int] | None = None) -> None:
        self.lengths = list(lengths)
        self.count = sum(lengths)
        self._fewer = dict(fewer or {})
        self._arrays: dict[str, np.ndarray] = {}

    def add(self, batch: Rows, values: Mapping[str, Any]) -> None:
        """Stores the values of a batch that are not padding.

        Args:
            batch: the samples.
            values: by name, [*rows.shape, ...], or fewer along the last axis of rows: a figure of
                frames t, t + 1, ... is stored at t.
        """
        rows, mask = batch
        for name, value in values.items():
            value = np.asarray(value)
            missing = rows.shape[-1] - value.shape[rows.ndim - 1]
            if missing:
                fill = [(0, 0)] * (rows.ndim - 1) + [(0, missing)]
                value = np.pad(value, fill, constant_values=np.nan)
            if name not in self._arrays:
                empty = np.nan if value.dtype.kind == "f" else 0
                shape = (self.count, *value.shape[rows.ndim :])
                self._arrays[name] = np.full(shape, empty, value.dtype)
            self._arrays[name][rows[mask]] = value[mask]

    def share(self, owner: np.ndarray) -> None:
        """Completes the arrays with those of the other processes; all have to call it.

        Args:
            owner: of each sample, the process that has worked on it.
        """
        # Short sequences have no figures of several frames: who has none of others lacks the array.
        names = sorted(self._fewer.keys() | self._arrays.keys())
        there = cluster.from_all(np.array([name in self for name in names])).any(axis=0)
        figures = next(array.dtype for name, array in self._arrays.items() if name in self._fewer)
        for name in np.array(names)[there].tolist():
            mine = self._arrays.get(name, np.full(self.count, np.nan, figures))
            self._arrays[name] = cluster.from_all(mine)[owner, np.arange(self.count)]

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def __getitem__(self, name: str) -> np.ndarray:
        return self._arrays[name]

    def names(self) -> list[str]:
        """Lists the arrays."""
        return [*self._arrays]

    def sequences(self, name: str) -> list[np.ndarray]:
        """Splits an array by group, each as long as the figure is defined."""
        parts = np.split(self._arrays[name], np.cumsum(self.lengths)[:-1])
        fewer = self._fewer.get(name, 0)
        return [part[: max(len(part) - fewer, 0)] for part in parts]

    def sequence_of(self, name: str, sequence: Int[np.ndarray, " N"]) -> np.ndarray:
        """Gives the sequence of each value of an array, of which a group may have fewer.

        Args:
            name: of the array.
            sequence: of each sample.
        """
        parts = zip(
            np.split(sequence, np.cumsum(self.lengths)[:-1]), self.sequences(name), strict=True
        )
        return np.concatenate([numbers[: len(values)] for numbers, values in parts])

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns every array by name, groups one after another."""
        return {name: np.concatenate(self.sequences(name)) for name in self._arrays}


def write(
    folder: str | Path,
    summary: Mapping[str, Any],
    results: Results,
    names: Sequence[str],
    sequence: Int[np.ndarray, " N"],
) -> None:
    """Writes metrics.json and per_sample.npz into a folder; each whole or not at all."""
    folder = local_path(folder)
    about = {"imgname": np.array(names, "U"), "sequence": sequence}
    write_npz(folder / "per_sample.npz", results.arrays() | about)
    write_json(folder / "metrics.json", summary)


def progress(batches: Sequence[T], shown: bool = True) -> Iterable[T]:
    """Goes through batches with a progress bar on a terminal; tqdm's where it is installed.

    Args:
        batches: all of them.
        shown: False for none, as in all processes but the first.
    """
    if not shown:
        return batches
    try:
        from tqdm import tqdm
    except ImportError:
        return _counted(batches)
    return tqdm(batches, unit="batch", disable=None)


def _counted(batches: Sequence[T]) -> Iterator[T]:
    for done, batch in enumerate(batches, 1):
        yield batch
        if sys.stderr.isatty():
            end = "\n" if done == len(batches) else ""
            print(f"\rbatch {done} of {len(batches)}", end=end, file=sys.stderr, flush=True)
