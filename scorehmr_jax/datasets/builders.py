"""TFDS builders of training sets in ArrayRecord, without TensorFlow.

One builder per data set; a config says whose fits and which features it holds. Any TFDS reads a
built set: `tfds.builder_from_directory(folder).as_data_source("train")`. There the bits of bfloat16
show as uint16: `sample["features"].view(ml_dtypes.bfloat16)`.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scorehmr_jax.datasets.image_sets import FILES
from scorehmr_jax.datasets.records import column_dtype
from scorehmr_jax.datasets.samples import SampleReader
from scorehmr_jax.datasets.statistics import save_statistics
from scorehmr_jax.formats.backbones import BACKBONES

try:
    import tensorflow_datasets as tfds
    from array_record.python.array_record_module import ArrayRecordWriter
    from tensorflow_datasets.proto import tf_example_pb2
except ImportError as error:
    raise ImportError(
        f"training sets need TFDS and ArrayRecord ({error}): pip install 'scorehmr-jax[data]'"
    ) from error

SPLIT = "train"
SHARD_BYTES = 256 * 2**20
# Standardised features do not compress: without trying, writing is ten times faster.
_WRITER_OPTIONS = "group_size:1,uncompressed"
_STATISTICS_FILE = "feature_stats.npz"
_DESCRIPTION = """\
Body poses in 6D for training a pose prior. Features are standardised bfloat16, whose bits show as
uint16: sample["features"].view(ml_dtypes.bfloat16) has the numbers.
"""


@dataclass
class SetConfig(tfds.core.BuilderConfig):
    """A kind of a set, by the fits and features that it holds."""

    fits: str = "none"
    backbone: str = "none"


class SampleBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Base of all builders: a sample is a pose and a shape, and perhaps image features.

    Args:
        reader: of the files to build from.
        progress: called with the number of samples that were read since the last call.
        rest: arguments of TFDS's builder: data_dir, config.
    """

    VERSION = tfds.core.Version("1.0.0")
    # TFDS would look here for checksums of downloads: there are none, and looking needs a package
    # that TFDS does not install.
    code_path = None

    def __init__(
        self,
        *,
        reader: SampleReader,
        progress: Callable[[int], Any] = lambda read: None,
        **rest: Any,
    ) -> None:
        self.reader, self.progress = reader, progress
        super().__init__(file_format="array_record", **rest)

    def _info(self) -> tfds.core.DatasetInfo:
        raw = tfds.features.Encoding.BYTES
        columns: dict[str, Any] = {
            name: tfds.features.Tensor(shape=(width,), dtype=_declared(name), encoding=raw)
            for name, width in self.reader.widths.items()
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=_DESCRIPTION,
            features=tfds.features.FeaturesDict({"name": tfds.features.Text(), **columns}),
            disable_shuffling=True,  # training draws an order of its own
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        return {SPLIT: self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        number = 0
        self.ranges: dict[str, np.ndarray] = {}
        self.without_shape = 0
        for read, samples in self.reader.parts():
            columns = {
                name: getattr(samples, name).astype(column_dtype(name))
                for name in self.reader.widths
            }
            self.without_shape += int((samples.betas == 0).all(axis=1).sum())
            if len(samples):
                low, high = samples.betas.min(0), samples.betas.max(0)
                self.ranges = {
                    "low": np.minimum(self.ranges.get("low", low), low),
                    "high": np.maximum(self.ranges.get("high", high), high),
                }
            for i, name in enumerate(samples.names):
                yield number, {"name": str(name), **{k: v[i] for k, v in columns.items()}}
                number += 1
            self.progress(read)

    def _generate_splits(self, dl_manager: Any, download_config: Any) -> list[Any]:
        # Shards are written as samples come: TFDS would hold a split in memory to shuffle it, and
        # beyond 1 GB write it out through TensorFlow.
        ((split, examples),) = self._split_generators(dl_manager).items()
        template = self._get_filename_template(split_name=split)
        shards = _Shards(Path(self.data_path))
        try:
            for _, example in examples:
                shards.write(_serialized(example))
        finally:
            shards.close()
        for i, path in enumerate(shards.paths):
            final = template.sharded_filepath(shard_index=i, num_shards=len(shards.paths))
            os.replace(path, final)
        self._note(shards)
        return [tfds.core.SplitInfo(split, shards.lengths, shards.num_bytes, template)]

    def _note(self, shards: "_Shards") -> None:
        """Writes facts that a training run needs into the set's metadata."""
        statistics = self.reader.statistics
        summary = {
            "read": self.reader.total,
            "kept": sum(shards.lengths),
            "dropped": dict(self.reader.dropped),
            "left_out": self.reader.left_out,
            "without_shape": self.without_shape,
            "source": self.reader.where,
            "layout": self.reader.widths,
            "betas_range": {k: v.tolist() for k, v in self.ranges.items()},
            "statistics": None,
            **self.reader.notes,
        }
        if statistics is not None:
            summary["statistics"] = statistics.digest
            shape = {"features": statistics.mean.shape}
            save_statistics(Path(self.data_path) / _STATISTICS_FILE, statistics, shape)
        self.info.metadata.update(summary)


class _Shards:
    """A series of files of records; when one is full, the next is begun."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.paths: list[Path] = []
        self.lengths: list[int] = []
        self.num_bytes = self._bytes = 0
        self._writer: Any = None

    def write(self, record: bytes) -> None:
        if self._writer is None or self._bytes >= SHARD_BYTES:
            self.close()
            self.paths.append(self.folder / f"shard-{len(self.paths)}.part")
            self.lengths.append(0)
            self._bytes = 0
            self._writer = ArrayRecordWriter(str(self.paths[-1]), _WRITER_OPTIONS)
        try:
            self._writer.write(record)
        except RuntimeError as error:
            raise self._cannot(error) from error
        self.lengths[-1] += 1
        self._bytes += len(record)
        self.num_bytes += len(record)

    def close(self) -> None:
        if self._writer is not None:
            writer, self._writer = self._writer, None
            try:
                writer.close()
            except RuntimeError as error:
                raise self._cannot(error) from error

    def _cannot(self, error: RuntimeError) -> OSError:
        return OSError(f"{self.folder}: a shard cannot be written ({error}); is the disk full?")


def _declared(column: str) -> np.dtype:
    # One of numpy's own types of that size: TFDS knows bfloat16 only once ml_dtypes is imported.
    dtype = column_dtype(column)
    return dtype if dtype.isbuiltin == 1 else np.dtype(f"u{dtype.itemsize}")


def _serialized(example: dict[str, Any]) -> bytes:
    """Writes a sample as a tf.Example of bytes, a hundred times faster than TFDS does."""
    message = tf_example_pb2.Example()
    for key, value in example.items():
        raw = value.encode() if isinstance(value, str) else value.tobytes()
        message.features.feature[key].bytes_list.value.append(raw)
    return message.SerializeToString()


def _configs(name: str) -> list[SetConfig]:
    return [
        SetConfig(
            name=f"{fits}_{backbone}".replace("-", "_"),
            description=f"{fits} fits, {backbone} features",
            fits=fits,
            backbone=backbone,
        )
        for fits in FILES[name]
        for backbone in (*BACKBONES, "none")
    ]


# They are not registered, because TFDS has a coco of its own.
class H36m(SampleBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Human3.6M."""

    BUILDER_CONFIGS = _configs("h36m")


class MpiInf3dhp(SampleBuilder, skip_registration=True):  # type: ignore[call-arg]
    """MPI-INF-3DHP."""

    name = "mpi_inf_3dhp"
    BUILDER_CONFIGS = _configs("mpi_inf_3dhp")


class Coco(SampleBuilder, skip_registration=True):  # type: ignore[call-arg]
    """COCO."""

    name = "coco"
    BUILDER_CONFIGS = _configs("coco")


class Mpii(SampleBuilder, skip_registration=True):  # type: ignore[call-arg]
    """MPII."""

    BUILDER_CONFIGS = _configs("mpii")


class Amass(SampleBuilder, skip_registration=True):  # type: ignore[call-arg]
    """AMASS, body pose only."""


class Own(SampleBuilder, skip_registration=True):  # type: ignore[call-arg]
    """A folder of your own .npz files; see `own_sets`."""


BUILDERS: dict[str, type[SampleBuilder]] = {
    "h36m": H36m,
    "mpi_inf_3dhp": MpiInf3dhp,
    "coco": Coco,
    "mpii": Mpii,
    "amass": Amass,
    "own": Own,
}
