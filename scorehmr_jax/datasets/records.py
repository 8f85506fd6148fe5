"""Built training sets, opened through TFDS and read as columns of numbers."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from jaxtyping import Float, Int

from body_model.files import local_path
from body_model.folders import is_left_over, is_superseded
from scorehmr_jax.datasets.statistics import Statistics, read_statistics

_READER = "readahead_buffer_size:0,max_parallelism:0"  # records are read in any order
_ROWS = 512  # samples that `read_all` reads at once


def column_dtype(name: str) -> np.dtype:
    """The type of a column's numbers, whatever TFDS is told of their bits."""
    return np.dtype(ml_dtypes.bfloat16 if name == "features" else np.float32)


@dataclass(frozen=True)
class RecordSet:
    """A set on disk. Reading is safe from several threads."""

    folder: Path
    shards: tuple[tuple[str, int, int], ...]  # file, first record, number of records
    widths: dict[str, int]  # numbers in each column of a sample
    notes: dict[str, Any]  # metadata that the builder left
    num_bytes: int
    _readers: threading.local = field(default_factory=threading.local, repr=False)

    @classmethod
    def open(cls, folder: str | Path, split: str = "train") -> "RecordSet":
        """Opens a set that `build` has built.

        Args:
            folder: with dataset_info.json; or above it, if there is one set below.
            split: in TFDS's notation, as train[:95%].
        Raises:
            ValueError: if there is no such set, or files of it are missing.
            ImportError: if TFDS or ArrayRecord is not installed.
        """
        try:
            import tensorflow_datasets as tfds
        except ImportError as error:
            raise ImportError(
                f"training sets need TFDS ({error}): pip install 'scorehmr-jax[data]'"
            ) from error

        folder = _find(local_path(folder))
        try:
            info = tfds.builder_from_directory(str(folder)).info
            part = info.splits[split]
            shards = tuple((str(f.filename), f.skip, f.take) for f in part.file_instructions)
            columns = sorted(info.features.items())  # TFDS has them in another order each time
            widths = {k: int(f.shape[0]) for k, f in columns if k != "name"}
            notes = dict(info.metadata or {})
            num_bytes = part.num_bytes
        except Exception as error:  # of a damaged set, anything
            raise ValueError(
                f"{folder}: not a whole training set ({error}); build it again"
            ) from error
        missing = [file for file, _, _ in shards if not Path(file).is_file()]
        if missing:
            raise ValueError(f"{missing[0]}: no such file, but the set has it; build it again")
        return cls(folder, shards, widths, notes, num_bytes)

    def __len__(self) -> int:
        return sum(take for _, _, take in self.shards)

    @property
    def statistics(self) -> Statistics | None:
        """Mean and standard deviation that the features were standardised with."""
        if "features" not in self.widths:
            return None
        shapes = {"features": (self.widths["features"],)}
        return read_statistics(self.folder / "feature_stats.npz", shapes)

    def read(
        self, rows: Int[np.ndarray, " n"], columns: Sequence[str]
    ) -> dict[str, Float[np.ndarray, "n _"]]:
        """Reads columns of some samples.

        Args:
            rows: numbers of samples, in any order.
            columns: names, as in `widths`.
        Returns:
            Each column by its name; features in bfloat16, all else in float32.
        Raises:
            ValueError: naming the shard, if it is damaged.
        """
        ends = list(accumulate(take for _, _, take in self.shards))
        shard_of = np.searchsorted(ends, rows, side="right")
        out = {k: np.zeros((len(rows), self.widths[k]), column_dtype(k)) for k in columns}
        for shard in np.unique(shard_of):
            file, first, _ = self.shards[shard]
            where = np.flatnonzero(shard_of == shard)
            start = ends[shard - 1] if shard else 0
            positions = (rows[where] - start + first).tolist()
            records = self._records(file, positions)
            for key, values in _columns(records, columns, self.widths, file).items():
                out[key][where] = values
        return out

    def read_all(self, columns: dict[str, Float[np.ndarray, "N _"]]) -> None:
        """Fills arrays with all samples in order, by the name of the column.

        Raises:
            ValueError: naming the shard, if it is damaged.
        """
        for start in range(0, len(self), _ROWS):
            rows = np.arange(start, min(start + _ROWS, len(self)))
            for key, values in self.read(rows, list(columns)).items():
                columns[key][rows[0] : rows[-1] + 1] = values

    def _records(self, file: str, positions: list[int]) -> list[bytes]:
        # Older readers are not safe to share between threads.
        mine = self._readers.__dict__
        try:
            if file not in mine:
                from array_record.python.array_record_module import ArrayRecordReader

                mine[file] = ArrayRecordReader(file, options=_READER, file_reader_buffer_size=8192)
            return mine[file].read(positions)
        except ImportError:
            raise
        except Exception as error:  # of a damaged file, anything
            raise _damaged(file, str(error)) from error


def _find(folder: Path) -> Path:
    if (folder / "dataset_info.json").is_file():
        return folder
    below = [path.relative_to(folder) for path in sorted(folder.rglob("dataset_info.json"))]
    below = [
        path
        for path in below
        if is_left_over((folder / path).parent) or not path.parts[0].startswith(".")  # being built
    ]
    below = [path for path in below if not is_superseded((folder / path).parent)]
    if len(below) != 1:
        found = ", ".join(str(path.parent) for path in below) or "none"
        raise ValueError(
            f"{folder}: expected one training set with its dataset_info.json; found {found}. "
            "Build one: scorehmr build-data"
        )
    return folder / below[0].parent


def _columns(
    records: Sequence[bytes], columns: Sequence[str], widths: dict[str, int], file: str
) -> dict[str, np.ndarray]:
    from tensorflow_datasets.proto import tf_example_pb2

    raw: dict[str, list[bytes]] = {key: [] for key in columns}
    try:
        for record in records:
            found = tf_example_pb2.Example.FromString(record).features.feature
            for key, values in raw.items():
                values.append(found[key].bytes_list.value[0])
        # Joined first, so that the bytes are copied once and not record by record.
        return {
            key: np.frombuffer(b"".join(values), column_dtype(key)).reshape(
                len(records), widths[key]
            )
            for key, values in raw.items()
        }
    except Exception as error:
        raise _damaged(file, str(error)) from error


def _damaged(file: str, error: str) -> ValueError:
    return ValueError(f"{file}: a damaged shard ({error}); build the set again")
