"""Training runs for the tests: the released code's twelve steps, a toy, train.py, other devices."""

import json
import os
import subprocess
import sys
from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from compiling import xla_flags

from scorehmr_jax.convert.denoiser import released_denoiser
from scorehmr_jax.datasets.samples import axis_angle_to_x
from scorehmr_jax.diffusion import cosine_betas, schedule
from scorehmr_jax.networks.denoiser import ResidualMLP
from scorehmr_jax.training.ema import Ema
from scorehmr_jax.training.run import make_stream_run
from scorehmr_jax.training.sharding import Placement
from scorehmr_jax.training.step import (
    Noised,
    TrainingBatch,
    init_state,
    low_levels,
    make_step,
    make_update,
    released_optimizer,
    start_state,
)

ROOT = Path(__file__).parents[1]
SCHEDULE = schedule(cosine_betas())
TINY = ResidualMLP(features=0, hidden=16, blocks=1)
OPTIMIZER = released_optimizer(3e-3)


def released_run(golden: Path, variant: str):
    """Reads the released code's twelve steps: network, first weights, batches, results."""
    weights = dict(np.load(golden / f"ckpt/tiny_{variant}_ema_f16.npz"))
    params, sizes = released_denoiser(weights)
    data = np.load(golden / f"train_steps_tiny_{variant}.npz")
    x_0 = jnp.asarray(axis_angle_to_x(data["pose_aa"]))
    if sizes["shape_features"]:
        stats = np.load(golden / "pack/betas_stats_eft_fits.npz")
        low, high = stats["betas_min"], stats["betas_max"]
        x_0 = jnp.concatenate([x_0, 2 * (data["betas"] - low) / (high - low) - 1], axis=-1)
    steps = len(data["t"])
    batches = Noised(
        jnp.broadcast_to(x_0, (steps, *x_0.shape)),
        jnp.broadcast_to(data["feats"], (steps, *data["feats"].shape)),
        jnp.asarray(data["t"]),
        jnp.asarray(data["noise"]),
    )
    return ResidualMLP(**sizes), params, batches, data


def check_released_steps(golden: Path, variant: str, placement: Placement) -> None:
    """Takes the released code's twelve steps, and compares their results."""
    denoiser, params, batches, data = released_run(golden, variant)
    optimizer = released_optimizer()
    update = make_update(denoiser, SCHEDULE, optimizer)
    run = make_stream_run(lambda state, batch, _: update(state, batch), placement)
    first = placement.make(partial(start_state, optimizer=optimizer), params)
    state, metrics = run(first, placement.put_rows(batches, axis=1), jax.random.key(0))
    assert first.step.is_deleted()  # its buffers were taken over
    assert state.step.sharding.device_set == set(placement.mesh.devices.flat)

    def close(found, key):
        """Compares the largest difference with the largest number."""
        atol = 1e-4 * np.abs(data[key]).max()
        np.testing.assert_allclose(found, data[key], rtol=0, atol=atol, err_msg=key)

    np.testing.assert_allclose(metrics["loss"], data["loss"], rtol=1e-4)
    np.testing.assert_allclose(metrics["grad_norm"], data["grad_norm_before_clip"], rtol=1e-4)
    pose = state.params["pose"]
    close(pose["input"]["kernel"].T, "final_init_mlp_weight")
    close(pose["output"]["kernel"].T, "final_final_mlp_weight")
    close(state.ema["pose"]["input"]["kernel"].T, "ema_init_mlp_weight")
    noise = jax.jit(denoiser.noise)
    for weights, key in ((state.params, "probe_out"), (state.ema, "probe_out_ema")):
        weights = placement.gather(weights)
        out = noise(weights, data["noise"][0], data["probe_t"], data["feats"])
        close(out, key)
    assert state.step == 12


def draw_toy(key, step, data):
    return TrainingBatch(data[jax.random.randint(key, (32,), 0, len(data))], None)


@cache
def toy_step():
    update = make_update(TINY, SCHEDULE, OPTIMIZER, Ema(0.9, 2, 0))
    return make_step(update, 1000, low_levels, level_group=4)


def toy_data():
    return np.random.default_rng(0).standard_normal((50, 144), np.float32)


@cache
def _toy_state():
    state = jax.jit(partial(init_state, TINY, OPTIMIZER))(jax.random.key(1))
    return jax.tree.map(np.asarray, state)


def toy_state(placement):
    """The toy at step 0: always the same, which is compiled once."""
    state = _toy_state()
    put = lambda x, place: jax.device_put(jnp.array(x), place)  # noqa: E731
    return jax.tree.map(put, state, placement.state(state))


def environment(devices: int = 1) -> dict[str, str]:
    """The environment of a process that sees so many devices."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return os.environ | {
        "XLA_FLAGS": xla_flags(devices),
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": paths,
    }


def elsewhere(code: str, *arguments: object, devices: int = 1):
    """Runs code in a process that sees so many devices; returns its last line, read as JSON."""
    run = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=environment(devices),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.splitlines()[-1])


def train_here(monkeypatch, name: str, workdir: Path, *options: object) -> list[dict]:
    """Runs train.py in this process; returns the records of its log."""
    import train

    monkeypatch.chdir(ROOT)
    arguments = ["train.py", name, "--workdir", workdir, *options]
    monkeypatch.setattr(sys, "argv", list(map(str, arguments)))
    train.main()
    return records(workdir)


def records(workdir: Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / "log.jsonl").read_text().splitlines()]
