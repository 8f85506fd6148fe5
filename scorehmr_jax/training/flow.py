"""Trains a small conditional flow on motion capture, for the ProHMR fitting of the baselines.

    python -m scorehmr_jax.training.flow --data DIR --workdir DIR --out flow.npz

It sees what the shipped prior `open-cond` sees: the same poses, and as condition the same simulated
networks' estimates of them. It writes what `scorehmr_jax/baselines/flow.npz` holds.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from body_model.files import write_npz
from scorehmr_jax.baselines.flow_weights import write_flow
from scorehmr_jax.datasets.batch import TrainingBatch
from scorehmr_jax.networks.flow import ConditionalFlow
from scorehmr_jax.training.run import Resident
from scorehmr_jax.training.run_data import from_mocap
from scorehmr_jax.types import Array

SIZES = ConditionalFlow(features=144, hidden=256, layers=4, blocks=2, normed=False)
BATCH = 256
RATE = 1e-3
# Rotations in 6D fill no volume, so that their density has no bound; with this much noise it has.
NOISE = 0.02
_DECAY = 0.998  # of the running mean of the weights
_CHUNK = 100  # steps in one call


def first_weights(sizes: ConditionalFlow, key: Array, x: Array) -> Any:
    """Makes weights whose first activation norm standardises these poses [N, 144]."""
    params = sizes.init(key)
    spread = jnp.sqrt(x.var(0) + NOISE**2)
    params["layers_0"] |= {"log_scale": -jnp.log(spread), "shift": -x.mean(0) / spread}
    return params


def loss(sizes: ConditionalFlow, params: Any, key: Array, batch: TrainingBatch) -> Array:
    """The mean negative log-density of noisy poses, in nats."""
    x = batch.x_0 + NOISE * jax.random.normal(key, batch.x_0.shape, batch.x_0.dtype)
    assert batch.features is not None
    return -sizes.log_prob(params, x, batch.features).mean()


def main(arguments: list[str] | None = None) -> None:
    """Reads the arguments, trains and writes."""
    summary = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser("scorehmr_jax.training.flow", description=summary)
    parser.add_argument("--data", type=Path, required=True, help="folder of mocap_poses.npz")
    parser.add_argument("--workdir", type=Path, required=True, help="for simulated estimates")
    parser.add_argument("--out", type=Path, required=True, help="the .npz to write")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    options.workdir.mkdir(parents=True, exist_ok=True)
    data = from_mocap(
        options.data,
        options.workdir,
        BATCH,
        estimates_per_frame=2,
        leave_out=("deepmimic",),
    )
    train, held = data.training, data.validation
    assert isinstance(train, Resident)
    rate = optax.warmup_cosine_decay_schedule(0, RATE, 200, options.steps)
    optimizer = optax.chain(optax.clip_by_global_norm(10.0), optax.adamw(rate, weight_decay=1e-4))
    keys = jax.random.split(jax.random.key(options.seed), 3)
    params = first_weights(SIZES, keys[0], train.data.x_0)
    # Donated, so that the mean must be a copy.
    state = params, jax.tree.map(jnp.copy, params), optimizer.init(params)

    def step(state: Any, number: Array) -> tuple[Any, Array]:
        params, mean, memory = state
        key = jax.random.fold_in(keys[1], number)
        batch = train.draw(key, number, train.data)
        value, slope = jax.value_and_grad(lambda p: loss(SIZES, p, key, batch))(params)
        change, memory = optimizer.update(slope, memory, params)
        params = optax.apply_updates(params, change)
        mean = jax.tree.map(lambda m, p: _DECAY * m + (1 - _DECAY) * p, mean, params)
        return (params, mean, memory), value

    several = jax.jit(lambda state, numbers: jax.lax.scan(step, state, numbers), donate_argnums=0)
    judged = jax.jit(lambda params: loss(SIZES, params, keys[2], held))
    start = time.perf_counter()
    for first in range(0, options.steps, _CHUNK):
        numbers = jnp.arange(first, min(first + _CHUNK, options.steps))
        state, values = several(state, numbers)
        if first % (10 * _CHUNK) == 0 or first + _CHUNK >= options.steps:
            print(
                f"step {first + len(numbers)}: {float(values.mean()):.2f} nats, on the val split "
                f"{float(judged(state[1])):.2f}, {time.perf_counter() - start:.0f} s",
                flush=True,
            )
    write_npz(options.out, write_flow(SIZES, jax.tree.map(np.asarray, state[1])))


if __name__ == "__main__":
    main()
