"""Batches of a mixture of sets on disk: all on the device at once, or read in the background."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, Real
from numpy.typing import DTypeLike

from body_model.pytree import Array
from scorehmr_jax.datasets.batch import TrainingBatch
from scorehmr_jax.datasets.order import Order, batch_indices, traced_indices
from scorehmr_jax.datasets.records import RecordSet

_SHARE = 0.5  # share of free memory for resident data: weights and activations need the rest
_SAMPLES_AT_ONCE = 512  # samples in a part that a worker reads, or one batch if that is more


@dataclass(frozen=True)
class MixtureFeed:
    """Sets on disk that are drawn by weight.

    A sample depends on the seed, the step and its place in the batch alone.
    """

    sets: tuple[RecordSet, ...]
    weights: tuple[float, ...]
    condition: str = "features"  # contents of a batch's features: features, estimate or none
    # Least and greatest shape numbers, for a prior with shape.
    betas_range: tuple[Real[np.ndarray, " 10"], Real[np.ndarray, " 10"]] | None = None

    def __len__(self) -> int:
        return sum(map(len, self.sets))

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that are read."""
        shape = () if self.betas_range is None else ("betas",)
        return ("pose", *shape, *(() if self.condition == "none" else (self.condition,)))

    @property
    def nbytes(self) -> int:
        """Bytes that all samples take up in memory."""
        widths = self.sets[0].widths
        return len(self) * sum(widths[c] * np.dtype(_at_rest(c)).itemsize for c in self.columns)

    def order(self, seed: int, batch: int) -> Order:
        """The order in which samples are drawn, of batches of that size.

        Raises:
            ValueError: if the weights or sizes make no sense.
        """
        return Order(tuple(map(len, self.sets)), self.weights, batch, seed)

    def batch_indices(
        self, seed: int, step: Any, batch: int, process_index: int = 0, process_count: int = 1
    ) -> Int[np.ndarray, "..."]:
        """Numbers of the samples that one process draws in a step; as `order.batch_indices`."""
        return batch_indices(self.order(seed, batch), step, process_index, process_count)

    def choose(self, mode: str = "auto", free: int | None = None) -> str:
        """Chooses "resident" where all samples fit into half of the free memory, else "stream".

        Args:
            mode: auto, or the choice that was made before.
            free: bytes of free memory; measured on the first device if not given.
        Returns:
            resident or stream.
        Raises:
            ValueError: if there is no such mode.
        """
        if mode not in ("auto", "resident", "stream"):
            raise ValueError(f"expected auto, resident or stream, found {mode!r}")
        if mode != "auto":
            return mode
        room = _SHARE * (free_memory() if free is None else free)
        return "resident" if self.nbytes <= room else "stream"

    def resident(
        self, seed: int, batch: int, sharding: Any = None
    ) -> tuple[TrainingBatch, Callable[[Array, TrainingBatch], TrainingBatch]]:
        """Puts all samples on the device.

        Args:
            seed: of the order.
            batch: samples in a step, over all processes.
            sharding: of the arrays; by default they go to the first device. Replicated over a
                mesh, a draw needs no communication.
        Returns:
            All samples, x_0 [N, D] float32 and features [N, F] bfloat16 (an estimate: float32),
            and a function draw(step, data) that gives the whole batch of a step.
        Raises:
            ValueError: naming the shard, if one is damaged.
        """
        widths = self.sets[0].widths
        # One array for all sets, filled set by set, so that nothing is held twice.
        arrays = {c: _aligned((len(self), widths[c]), _at_rest(c)) for c in self.columns}
        start = 0
        for records in self.sets:
            part = slice(start, start := start + len(records))
            records.read_all({name: array[part] for name, array in arrays.items()})
        data = jax.tree.map(lambda array: _placed(array, sharding), self._batch(arrays))
        order = self.order(seed, batch)

        def draw(step: Array, data: TrainingBatch) -> TrainingBatch:
            rows = traced_indices(order, step)
            return jax.tree.map(lambda x: x[rows], data)

        return data, draw

    def stream(
        self,
        seed: int,
        batch: int,
        start: int = 0,
        process_index: int = 0,
        process_count: int = 1,
        workers: int = 2,
        ahead: int = 6,
    ) -> Iterator[TrainingBatch]:
        """Reads batches in the background, without end.

        Args:
            seed: of the order.
            batch: samples in a step, over all processes.
            start: the first step.
            process_index, process_count: of this process; it gets its part of each batch.
            workers: threads that read.
            ahead: parts, of 512 samples or one batch, that are read before they are asked for.
        Yields:
            Batches of numpy arrays, [batch / process_count, ...].
        Raises:
            ValueError: naming the shard, if one is damaged.
        """
        order = self.order(seed, batch)
        local = len(batch_indices(order, 0, process_index, process_count))
        steps = max(1, _SAMPLES_AT_ONCE // local)

        def part(first: int) -> list[TrainingBatch]:
            rows = batch_indices(
                order, np.arange(first, first + steps), process_index, process_count
            )
            return self._split(self.read(rows.reshape(-1)), steps)

        # This function is no generator, so that a mistake in its arguments shows at the call.
        return self._parts(part, start, steps, workers, ahead)

    def _parts(
        self,
        part: Callable[[int], list[TrainingBatch]],
        start: int,
        steps: int,
        workers: int,
        ahead: int,
    ) -> Iterator[TrainingBatch]:
        pool = ThreadPoolExecutor(workers, thread_name_prefix="feed")
        waiting: deque[Future[list[TrainingBatch]]] = deque()
        try:
            while True:
                while len(waiting) < ahead:
                    waiting.append(pool.submit(part, start))
                    start += steps
                yield from waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def read(self, rows: Int[np.ndarray, " n"]) -> TrainingBatch:
        """Reads the samples of given numbers, as numpy arrays."""
        sizes = np.cumsum([len(records) for records in self.sets])
        which = np.searchsorted(sizes, rows, side="right")
        widths = self.sets[0].widths
        out = {c: np.zeros((len(rows), widths[c]), _at_rest(c)) for c in self.columns}
        for i in np.unique(which):
            where = np.flatnonzero(which == i)
            first = sizes[i - 1] if i else 0
            for name, values in self.sets[i].read(rows[where] - first, self.columns).items():
                out[name][where] = values
        return self._batch(out)

    def _batch(self, columns: Mapping[str, np.ndarray]) -> TrainingBatch:
        x_0: Any = columns["pose"]
        if self.betas_range is not None:
            low, high = (np.asarray(b, np.float32) for b in self.betas_range)
            shape = 2 * (columns["betas"] - low) / (high - low) - 1
            x_0 = np.concatenate([x_0, shape], axis=1)
        features: Any = None if self.condition == "none" else columns[self.condition]
        return TrainingBatch(x_0, features)

    @staticmethod
    def _split(batch: TrainingBatch, steps: int) -> list[TrainingBatch]:
        size = len(batch.x_0) // steps
        return [
            jax.tree.map(lambda x, i=i: x[i * size : (i + 1) * size], batch) for i in range(steps)
        ]


def free_memory() -> int:
    """Measures the free bytes of the first device; on a CPU, its share of the machine's."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) for line in lines if "MemAvailable" in line) * 1024
    except (OSError, StopIteration):
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return free // jax.local_device_count()


def _at_rest(column: str) -> Any:
    return jnp.bfloat16 if column == "features" else np.float32


def _aligned(shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """Makes an array that begins at a multiple of 64, which a CPU device takes over uncopied."""
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype).reshape(shape)


def _placed(array: np.ndarray, sharding: Any) -> Array:
    if sharding is None:
        return jax.device_put(array)  # which, unlike asarray, makes no copy on a CPU
    # Each process holds the whole array, also where a mesh spans several.
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])
