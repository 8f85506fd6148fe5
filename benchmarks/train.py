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
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import machine
from scorehmr_jax.diffusion import cosine_betas, schedule
from scorehmr_jax.networks.denoiser import POSE_DIM, Denoiser, DenoiserConfig, sinusoid
from scorehmr_jax.training.direct import DirectDenoiser
from scorehmr_jax.training.run import make_run
from scorehmr_jax.training.step import (
    Batch,
    init_state,
    make_step,
    make_update,
    released_optimizer,
)
from scorehmr_jax.types import Array

BATCH = 128


@dataclass(frozen=True)
class PlainDenoiser:
    """What `Denoiser` computes, from the same weights, without any shortcut."""

    config: DenoiserConfig

    def apply(self, variables: Any, x: Array, t: Array, features: Array) -> Array:
        p = variables["params"]["pose"]
        time_code = _linear(p["time2"], _gelu(_linear(p["time1"], sinusoid(t, POSE_DIM))))
        h = _linear(p["input"], x)
        for i in range(self.config.blocks):
            block = p[f"blocks_{i}"]
            scale, shift = jnp.split(_linear(block["time"], jax.nn.silu(time_code)), 2, axis=-1)
            h = h * (scale + 1) + shift
            inner = jnp.concatenate([h, features], axis=-1)
            inner = _gelu(_linear(block["linear1"], _norm(block["norm1"], inner)))
            h = h + _gelu(_linear(block["linear2"], _norm(block["norm2"], inner)))
        return _linear(p["output"], h)


def _linear(p: Any, x: Array) -> Array:
    return x @ p["kernel"] + p["bias"]


def _norm(p: Any, x: Array) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    return p["scale"] * centred * jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-5) + p["bias"]


_gelu = partial(jax.nn.gelu, approximate=False)


def main() -> None:
    parser = argparse.ArgumentParser("benchmarks.train", description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--steps", type=int, default=20, help="steps of one turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--peak", type=float, help="teraflop per second that the device can do")
    parser.add_argument("--precision", default="float32", help="of products, as in configs/")
    options = parser.parse_args()

    config = DenoiserConfig()
    constants = schedule(cosine_betas())
    plain = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-4, 0.9, 0.99))
    keys = jax.random.split(jax.random.key(0), 4)
    data = Batch(
        jax.random.normal(keys[0], (BATCH, config.dim)),
        jax.random.normal(keys[1], (BATCH, config.features)),
    )
    best: dict[str, float] = {}
    runs, states = {}, {}
    for name, denoiser, optimizer in (
        ("", DirectDenoiser(config), released_optimizer()),
        ("plain_", PlainDenoiser(config), plain),
    ):
        step = make_step(
            make_update(denoiser, constants, optimizer, precision=options.precision), 1000
        )
        runs[name] = make_run(step, lambda key, step, data: data, options.steps)
        states[name] = init_state(Denoiser(config), optimizer, keys[2])
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
        "features": config.features,
        "hidden": config.hidden,
        "precision": options.precision,
        **machine.describe(),
    }
    print(json.dumps(result, indent=1))
    machine.write(result, options.json)


if __name__ == "__main__":
    main()
