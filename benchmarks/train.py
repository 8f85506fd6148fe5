"""Seconds per training step of the PARE-size denoiser, batch 128, float32.

    python -m benchmarks.train --json FILE

`plain_seconds_per_step` is the same step with the denoiser as the paper draws it: LayerNorm and
Linear on the concatenation [h, c] in every block. Both run in this process, scanned, in turns;
the best turn counts.
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from benchmarks import machine
from scorehmr_jax.diffusion import cosine_betas, schedule
from scorehmr_jax.networks.denoiser import ResidualMLP
from scorehmr_jax.training.run import make_run
from scorehmr_jax.training.step import (
    TrainingBatch,
    init_state,
    make_step,
    make_update,
    released_optimizer,
)
from scorehmr_jax.types import Array

BATCH = 128


@dataclass(frozen=True)
class PlainDenoiser(ResidualMLP):
    """The denoiser trained as its definition says, without any shortcut."""

    def training_noise(self, params: Any, x: Array, t: Array, features: Array | None) -> Array:
        return self.noise(params, x, t, features)


def main() -> None:
    parser = argparse.ArgumentParser("benchmarks.train", description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--steps", type=int, default=20, help="steps of one turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--peak", type=float, help="teraflop per second that the device can do")
    parser.add_argument("--precision", default="float32", help="of products, as in configs/")
    options = parser.parse_args()

    denoiser = ResidualMLP()
    constants = schedule(cosine_betas())
    plain = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-4, 0.9, 0.99))
    keys = jax.random.split(jax.random.key(0), 4)
    data = TrainingBatch(
        jax.random.normal(keys[0], (BATCH, denoiser.dim)),
        jax.random.normal(keys[1], (BATCH, denoiser.features)),
    )
    best: dict[str, float] = {}
    runs, states = {}, {}
    for name, network, optimizer in (
        ("", denoiser, released_optimizer()),
        ("plain_", PlainDenoiser(), plain),
    ):
        step = make_step(
            make_update(network, constants, optimizer, precision=options.precision), 1000
        )
        runs[name] = make_run(step, lambda key, step, data: data, options.steps)
        states[name] = init_state(network, optimizer, keys[2])
    norms: dict[str, np.ndarray] = {}
    for turn in range(options.turns + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            states[name], metrics = jax.block_until_ready(run(states[name], data, keys[3]))
            seconds = (time.perf_counter() - start) / options.steps
            if turn:  # the first compiles
                best[name] = min(best.get(name, seconds), seconds)
            norms.setdefault(name, np.asarray(metrics["grad_norm"]))  # of the first steps
    # As utilisation is usually counted: two for each weight and sample, forward once, back twice.
    kernels = [leaf.size for leaf in jax.tree.leaves(states[""].params) if leaf.ndim == 2]
    flop = 3 * 2 * BATCH * sum(kernels)
    result = {
        "seconds_per_step": best[""],
        "model_tflop_per_second": flop / best[""] / 1e12,
        "utilisation": flop / best[""] / 1e12 / options.peak if options.peak else None,
        "plain_seconds_per_step": best["plain_"],
        "speedup": best["plain_"] / best[""],
        "gradient_difference": float(np.max(np.abs(norms[""] / norms["plain_"] - 1))),
        "batch": BATCH,
        "features": denoiser.features,
        "hidden": denoiser.hidden,
        "precision": options.precision,
        **machine.describe(),
    }
    print(json.dumps(result, indent=1))
    machine.write(result, options.json)


if __name__ == "__main__":
    main()
