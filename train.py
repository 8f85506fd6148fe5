"""Trains one of the experiments in configs/.

    python train.py open-uncond --workdir runs/open-uncond --steps 30000 --data DIR

DIR holds mocap_poses.npz or, for an experiment with a mixture, the sets that `scorehmr build-data`
has built. Fields of the configuration are overridden by name, as in --learning-rate 3e-4
--run.save-every 1000 (NAME --fields lists them). Written to the work folder:

    log.jsonl       one object per line: step, loss, ...
    checkpoints/    the last few and the best, all that a run needs to go on
    weights.npz     the averaged weights in half precision, which `load_prior` reads
    samples/        with --pictures, what the prior draws: bodies, at every validation

A run that is found there goes on from its newest whole checkpoint, on however many devices. SIGTERM
and Ctrl-C end a run after the present call with a checkpoint and exit code 75: start it again to go
on. Several processes: see scorehmr_jax/cluster.py.
"""

import argparse
import importlib.util
import sys
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import jax
import numpy as np
import optax

import body_model
import configs
from body_model.paths import local_path, make_folder
from scorehmr_jax import checkpoint, cluster
from scorehmr_jax.compilation_cache import use_compilation_cache
from scorehmr_jax.diffusion import cosine_betas, schedule
from scorehmr_jax.training.log import Log
from scorehmr_jax.training.run import make_advance
from scorehmr_jax.training.run_data import RunData, from_mocap, from_sets
from scorehmr_jax.training.run_store import RunStore
from scorehmr_jax.training.sharding import Placement
from scorehmr_jax.training.signals import EXIT_CODE, StopRequest
from scorehmr_jax.training.step import (
    init_state,
    low_levels,
    make_step,
    make_update,
    released_optimizer,
    uniform_levels,
)
from scorehmr_jax.training.validator import Validator


def data_of(config: configs.TrainConfig, args: argparse.Namespace, placement: Placement) -> RunData:
    """Opens the data to train on and to validate on."""
    if not config.mixture:
        return from_mocap(
            args.data,
            args.workdir,
            config.batch,
            estimates_per_frame=config.estimates_per_frame,
            jitter=config.jitter,
            leave_out=config.leave_out,
            more=config.more_mocap,
            roll=config.roll,
        )
    return from_sets(
        args.data,
        dict(config.mixture),
        config.batch,
        config.seed,
        placement,
        condition_on=config.condition_on,
        width=config.network.condition_dim,
        with_shape=config.network.with_shape,
        feed=config.run.feed,
        feature_stats=args.feature_stats,
        betas_stats=args.betas_stats,
    )


def optimizer_of(config: configs.TrainConfig, steps: int) -> optax.GradientTransformation:
    """Makes the optimiser, with the learning rate's rise and fall over so many steps."""
    warmup, rate = min(config.warmup, steps // 10), config.learning_rate
    if config.schedule == "cosine":
        return released_optimizer(optax.warmup_cosine_decay_schedule(0.0, rate, warmup, steps))
    return released_optimizer(optax.linear_schedule(0.0, rate, warmup) if warmup else rate)


class ListFields(argparse.Action):
    """Prints the experiment's fields and values, and ends."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, *_: object
    ) -> None:
        configs.get(namespace.name or "tiny", ["--help"])


def arguments() -> tuple[argparse.Namespace, list[str]]:
    """Reads the command line: its own options, and fields of the configuration."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    option = parser.add_argument
    option("name", help="of a file in configs/")
    option("--fields", action=ListFields, nargs=0, help="list what can be overridden")
    option("--workdir", type=Path, required=True)
    option("--steps", type=int, required=True)
    option("--data", type=Path, required=True)
    option("--feature-stats", type=Path, help="refuse sets standardised with other statistics")
    option(
        "--betas-stats",
        type=Path,
        help="range of the shape numbers, of a prior with shape; by default that of the sets",
    )
    option(
        "--body",
        type=Path,
        help="SMPL file to measure and draw samples with; the open body by default",
    )
    option(
        "--accept-changes", action="store_true", help="go on with a run of another configuration"
    )
    option("--tensorboard", action="store_true", help="logs for it in DIR/tensorboard")
    option("--pictures", action="store_true", help="draw samples into DIR/samples; needs viz")
    cluster.add_arguments(parser)
    args, overrides = parser.parse_known_args()
    if args.steps < 1:
        raise ValueError(f"--steps: expected 1 or more, found {args.steps}")
    if args.pictures and importlib.util.find_spec("matplotlib") is None:
        raise ValueError("--pictures: needs matplotlib: pip install 'scorehmr-jax[viz]'")
    for name in ("workdir", "data", "feature_stats", "betas_stats", "body"):
        if getattr(args, name) is not None:
            setattr(args, name, local_path(getattr(args, name)))
    return args, overrides


def main() -> None:
    """Trains, from the newest checkpoint on if there is one."""
    args, overrides = arguments()
    config = configs.get(args.name, overrides)
    cluster.start(args.coordinator, args.processes, args.process_id)
    use_compilation_cache()
    args.workdir = make_folder(args.workdir)

    placement = Placement.of(shard_parameters=config.run.shard_parameters)
    placement.check_batch(config.batch, config.level_group)
    data = data_of(config, args, placement)

    network = config.network
    optimizer = optimizer_of(config, args.steps)
    constants = schedule(cosine_betas())
    levels = partial(low_levels, share=config.low_share) if config.low_share else uniform_levels
    update = make_update(
        network, constants, optimizer, config.ema, config.p2_gamma, config.precision
    )
    step = make_step(
        update, constants.num_steps, levels, config.level_group, config.condition_dropout
    )
    advance = make_advance(data.training, step, placement)
    sampled = args.pictures or (config.condition_on != "none" and config.run.samples)
    body = body_model.load(args.body) if args.body else body_model.open_body() if sampled else None
    validate = Validator(
        network,
        constants,
        data.validation,
        placement,
        condition_on=config.condition_on,
        body=body,
        samples=config.run.samples,
    )
    description = checkpoint.description(
        network, condition_on=config.condition_on, betas_range=data.betas_range
    )
    saved_config = configs.flat(config) | data.facts | {"steps": args.steps}
    if data.betas_range is not None:
        saved_config["betas_range"] = data.betas_range

    key_init, key, key_validation = jax.random.split(jax.random.key(config.seed), 3)
    state = placement.make(partial(init_state, network, optimizer), key_init)
    with ExitStack() as stack:
        store = stack.enter_context(
            RunStore(args.workdir, saved_config, config.run.keep, "val_loss", configs.renamed)
        )
        state, key = store.resume(state, args.accept_changes) or (state, key)
        done = int(state.step)
        log = stack.enter_context(Log(args.workdir, done, args.steps, args.tensorboard))
        asked_to_stop = stack.enter_context(StopRequest())
        while done < args.steps:
            start = time.time()
            length = config.run.steps_per_call - done % config.run.steps_per_call
            length = min(length, args.steps - done)
            state, metrics = advance(state, key, length)
            means = {name: float(np.mean(metrics[name])) for name in ("loss", "grad_norm")}
            if not np.isfinite(means["loss"]):
                raise ValueError(
                    f"the loss is {means['loss']} between steps {done} and {done + length}; the "
                    f"newest checkpoint is that of step {store.last}"
                )
            done += length
            speed = {"steps_per_second": length / (time.time() - start)}
            figures: dict[str, float] = {}
            if done % config.run.save_every == 0 or done == args.steps:
                figures = validate(state.ema, key_validation)
                store.save(state, key, figures)
                half = jax.tree.map(lambda x: x.astype(np.float16), placement.gather(state.ema))
                if cluster.is_main():
                    checkpoint.save_npz(args.workdir / "weights.npz", half, description)
                if args.pictures:
                    validate.draw(args.workdir / f"samples/{done}.png", state.ema, key_validation)
            log.write({"step": done, **means, **speed, **figures})
            if asked_to_stop() and done < args.steps:
                store.save(state, key)
                store.wait()
                print(f"stopped at step {done}, as asked; start again to go on", flush=True)
                sys.exit(EXIT_CODE)
        store.wait()


if __name__ == "__main__":
    try:
        main()
    except (ValueError, ImportError, OSError) as error:
        sys.exit(f"train.py: {error}")
