"""Trains one of the experiments in configs/ on motion capture.

    python train.py open-uncond --workdir runs/open-uncond --steps 30000 --data DIR

DIR holds mocap_poses.npz. A run that is found in the work folder is resumed, given the same
number of steps. Written there: log.jsonl (one object per line: step, loss, ...), state.npz, and
weights.npz, the averaged weights in half precision, which `load_prior` reads.
"""

import argparse
import json
import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import configs
from body_model import Skeleton, open_body
from body_model.io import read_npz, write_npz
from body_model.rotations import axis_angle_to_matrix
from scorehmr_jax.checkpoint import save_npz
from scorehmr_jax.data import mocap
from scorehmr_jax.data.pairs import augment_pairs, simulate_pairs
from scorehmr_jax.denoiser import Denoiser
from scorehmr_jax.diffusion import cosine_betas, schedule
from scorehmr_jax.prior import rotations_to_x
from scorehmr_jax.training.step import (
    Batch,
    TrainState,
    init_state,
    low_levels,
    make_run,
    make_step,
    make_update,
    released_optimizer,
    uniform_levels,
)
from scorehmr_jax.training.validation import BANDS, band_losses, inversion_error

STEPS_PER_CALL = 500
SAVE_EVERY = 2500


def poses_of(split: str, config: configs.TrainConfig, data: Path, workdir: Path) -> Batch:
    """The poses of a split, y up; or, before cameras, with simulated estimates as features."""
    without = config.leave_out if split == "train" else ()
    frames = mocap.read(data / "mocap_poses.npz").select(split, without)
    if not config.estimates_per_frame:
        return Batch(rotations_to_x(axis_angle_to_matrix(jnp.asarray(frames.poses))), None)
    path = workdir / f"pairs_{split}.npz"
    if not path.exists():
        print(f"simulating a regression network on the {split} split", flush=True)
        key = jax.random.key(["train", "val"].index(split))
        skeleton = Skeleton.of(open_body())
        true, estimated = simulate_pairs(key, skeleton, frames.poses, config.estimates_per_frame)
        write_npz(path, {"true": true, "estimated": estimated})
    pairs = read_npz(path)
    return Batch(jnp.asarray(pairs["true"]), jnp.asarray(pairs["estimated"]))


def draw(config: configs.TrainConfig, key: jax.Array, data: Batch) -> Batch:
    """A random batch, augmented."""
    key_index, key_augment, key_jitter = jax.random.split(key, 3)
    index = jax.random.randint(key_index, (config.batch,), 0, len(data.x_0))
    batch = augmented(key_augment, jax.tree.map(lambda x: x[index], data))
    if config.jitter:
        batch = replace(batch, x_0=mocap.jitter(key_jitter, batch.x_0, config.jitter))
    return batch


def augmented(key: jax.Array, batch: Batch) -> Batch:
    if batch.features is None:
        return Batch(mocap.augment(key, batch.x_0), None)
    return Batch(*augment_pairs(key, batch.x_0, batch.features))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True)
    args = parser.parse_args()
    if args.steps % STEPS_PER_CALL:
        parser.error(f"--steps: expected a multiple of {STEPS_PER_CALL}, found {args.steps}")
    config = configs.get(args.name)
    args.workdir.mkdir(parents=True, exist_ok=True)

    data = poses_of("train", config, args.data, args.workdir)
    validation = poses_of("val", config, args.data, args.workdir)
    validation = augmented(jax.random.key(1), validation)

    denoiser = Denoiser(config.denoiser)
    constants = schedule(cosine_betas())
    warmup = min(config.warmup, args.steps // 10)
    optimizer = released_optimizer(
        optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, warmup, args.steps)
    )
    levels = partial(low_levels, share=config.low_share) if config.low_share else uniform_levels
    update = make_update(denoiser, constants, optimizer, config.ema)
    step = make_step(update, constants.num_steps, levels, config.share_level)
    run = make_run(step, partial(draw, config), STEPS_PER_CALL)
    losses = jax.jit(partial(band_losses, denoiser, constants))
    inversion = jax.jit(partial(inversion_error, denoiser, constants))
    condition_on = "estimate" if config.estimates_per_frame else "none"
    description = {**asdict(config.denoiser), "condition_on": condition_on}

    key_init, key_run, key_validation = jax.random.split(jax.random.key(config.seed), 3)
    state = init_state(denoiser, optimizer, key_init)
    saved = args.workdir / "state.npz"
    if saved.exists():
        state = restore(saved, state)
    while (done := int(state.step)) < args.steps:
        start = time.time()
        state, metrics = run(state, data, key_run)
        record = {
            "step": done + STEPS_PER_CALL,
            "loss": float(metrics["loss"].mean()),
            "grad_norm": float(metrics["grad_norm"].mean()),
            "steps_per_second": STEPS_PER_CALL / (time.time() - start),
        }
        if record["step"] % SAVE_EVERY == 0 or record["step"] == args.steps:
            bands = losses(state.ema, validation, key_validation)
            for (low, high), value in zip(BANDS, bands, strict=True):
                record[f"val_loss_{low}_{high}"] = float(value)
            record["val_inversion_error"] = float(inversion(state.ema, validation))
            leaves = jax.tree.leaves(state)
            write_npz(saved, {str(i): np.asarray(leaf) for i, leaf in enumerate(leaves)})
            half = jax.tree.map(lambda x: np.asarray(x, np.float16), state.ema)
            save_npz(args.workdir / "weights.npz", half, description)
        with open(args.workdir / "log.jsonl", "a") as log:
            log.write(json.dumps(record) + "\n")
        print(json.dumps(record), flush=True)


def restore(path: Path, like: TrainState) -> TrainState:
    found = read_npz(path)
    leaves, structure = jax.tree.flatten(like)
    shapes = {str(i): leaf.shape for i, leaf in enumerate(leaves)}
    if {name: leaf.shape for name, leaf in found.items()} != shapes:
        raise ValueError(f"{path}: a run of another experiment; choose another --workdir")
    return jax.tree.unflatten(structure, [jnp.asarray(found[name]) for name in shapes])


if __name__ == "__main__":
    main()
