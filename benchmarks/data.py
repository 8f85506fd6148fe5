"""Training data: samples per second from disk, and memory on the device, with 3072 bf16 features.

    python -m benchmarks.data --json FILE [--samples 100000] [--dir DIR]

Builds a set of random samples (7 kB each) in DIR, streams batches of 128 in random order on two
cores, and loads it as resident data; memory is the growth of a process of its own. Then a
PARE-size training step takes batches from the stream, and the same batch again and again: the
difference is what it waits for data. The file system's cache is warm throughout.
"""

import argparse
import io
import json
import multiprocessing
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import machine
from scorehmr_jax.datasets.builders import Own
from scorehmr_jax.datasets.feed import open_feed
from scorehmr_jax.datasets.samples import SampleReader, Samples
from scorehmr_jax.datasets.statistics import Statistics
from scorehmr_jax.diffusion import cosine_betas, schedule
from scorehmr_jax.networks.denoiser import ResidualMLP
from scorehmr_jax.training.step import (
    init_state,
    make_step,
    make_update,
    released_optimizer,
)

BATCH, FEATURES, FULL = 128, 3072, 500_000
_PART = 1024


class RandomSource(SampleReader):
    """Samples that no file holds."""

    where, notes = "random", {"backbone": "own"}
    widths = {"pose": 144, "betas": 10, "features": FEATURES}  # noqa: RUF012

    def __init__(self, total: int) -> None:
        self.total, self.dropped = total, Counter[str]()
        self.statistics = Statistics(np.zeros(FEATURES), np.ones(FEATURES))

    def parts(self) -> Iterator[tuple[int, Samples]]:
        random = np.random.default_rng(0)
        for start in range(0, self.total, _PART):
            n = min(_PART, self.total - start)
            pose, betas, features = (
                random.standard_normal((n, width), np.float32) for width in (144, 10, FEATURES)
            )
            yield n, Samples(np.array([f"{start + i}" for i in range(n)]), pose, betas, features)


def memory() -> int:
    """Bytes of this process in memory, without files that are mapped."""
    status = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))


def peak() -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def streaming(folder: str, seconds: float) -> dict[str, Any]:
    stream = open_feed({folder: 1.0}, features=FEATURES).stream(0, BATCH)
    for _ in islice(stream, 200):  # files opened, threads running
        pass
    before, count, start = memory(), 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        count += len(next(stream).x_0)
    figures = {
        "samples_per_second": count / (time.perf_counter() - start),
        "memory_growth": memory() - before,
    }
    stream.close()
    return figures


def resident(folder: str, _: float) -> dict[str, Any]:
    feed = open_feed({folder: 1.0}, features=FEATURES)
    jax.block_until_ready(jax.numpy.zeros(1))
    before, start = memory(), time.perf_counter()
    data, draw = feed.resident(0, BATCH)
    jax.block_until_ready(data)
    seconds, grown = time.perf_counter() - start, memory() - before
    many = jax.jit(
        lambda data: jax.lax.map(lambda i: draw(i, data).x_0.sum(), jax.numpy.arange(1000))
    )
    jax.block_until_ready(many(data))
    start = time.perf_counter()
    jax.block_until_ready(many(data))
    return {
        "bytes": feed.nbytes,
        "measured_growth": grown,
        "peak_of_process": peak(),
        "bytes_per_sample": feed.nbytes / len(feed),
        "bytes_of_500000": feed.nbytes * FULL // len(feed),
        "measured_growth_scaled_to_500000": grown * FULL // len(feed),
        "load_samples_per_second": len(feed) / seconds,
        "seconds_per_draw": (time.perf_counter() - start) / 1000,
    }


def training(folder: str, _: float, steps: int = 40) -> dict[str, Any]:
    feed = open_feed({folder: 1.0}, features=FEATURES)
    network, optimizer = ResidualMLP(), released_optimizer()
    step = make_step(make_update(network, schedule(cosine_betas()), optimizer), 1000)
    step = jax.jit(step, donate_argnums=0)
    state, key = init_state(network, optimizer, jax.random.key(0)), jax.random.key(1)
    stream = feed.stream(0, BATCH)
    first = jax.device_put(next(stream))
    figures: dict[str, float] = {}
    for _turn in range(3):  # in turns: other work on the machine hits both
        waited = 0.0
        for name in ("same_batch", "streamed"):
            start = time.perf_counter()
            for _ in range(steps):
                asked = time.perf_counter()
                batch = first if name == "same_batch" else next(stream)
                waited += time.perf_counter() - asked
                state, _ = jax.block_until_ready(step(state, batch, key))
            seconds = (time.perf_counter() - start) / steps
            key_name = f"seconds_per_step_{name}"
            figures[key_name] = min(figures.get(key_name, seconds), seconds)
        waiting = waited / steps
        figures["seconds_waited_per_step"] = min(
            figures.get("seconds_waited_per_step", waiting), waiting
        )
    stream.close()
    return figures


def apart(function: Any, *arguments: Any) -> Any:
    """Calls a function in a fresh process, whose memory is its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def main() -> None:
    parser = argparse.ArgumentParser("benchmarks.data", description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=10.0, help="of streaming")
    parser.add_argument("--dir", type=Path, help="where the set goes; a temporary folder")
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])

    with tempfile.TemporaryDirectory(dir=options.dir) as folder:
        start = time.perf_counter()
        builder = Own(reader=RandomSource(options.samples), data_dir=folder)
        with redirect_stdout(io.StringIO()):  # TFDS announces a download
            builder.download_and_prepare()
        seconds = time.perf_counter() - start
        path = str(builder.data_path)
        result = {
            "samples": options.samples,
            "features": FEATURES,
            "batch": BATCH,
            "bytes_on_disk": sum(f.stat().st_size for f in Path(path).iterdir()),
            "build_samples_per_second": options.samples / seconds,
            "stream": apart(streaming, path, options.seconds),
            "resident": apart(resident, path, 0.0),
            "training": apart(training, path, 0.0),
            **machine.describe(),
        }
    print(json.dumps(result, indent=1))
    machine.write(result, options.json)


if __name__ == "__main__":
    main()
