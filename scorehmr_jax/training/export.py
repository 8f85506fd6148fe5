"""A prior in another form: of a training run, or of any file that `load_prior` reads.

    scorehmr export-prior runs/scorehmr-b --out model-100.pt

The name decides what is written: model-<n>.pt for the released PyTorch code, optimiser included
and, of a prior with shape, betas_stats.npz beside it; .npz or .safetensors; and without a suffix
an Orbax directory. `load_prior` reads each of them.
"""

from pathlib import Path
from typing import Any

import numpy as np

from body_model.files import local_path, read_npz, write_npz
from scorehmr_jax import checkpoint, orbax_store
from scorehmr_jax.convert.torch_write import save_torch
from scorehmr_jax.convert.write_released import released_checkpoint
from scorehmr_jax.description import COSINE, checked, signed
from scorehmr_jax.networks.denoiser import ResidualMLP
from scorehmr_jax.networks.registry import network_of


def export(source: str | Path, out: str | Path, step: int | None = None) -> None:
    """Writes a prior in another form.

    Args:
        source: a run's folder, or any prior that `checkpoint.read` knows.
        out: the file or directory to write.
        step: which of a run's checkpoints; the newest by default.
    Raises:
        ValueError: if there is nothing to read, the suffix is none of the above, a step is asked
            of what is no run, the released code has no such network, or the statistics of another
            prior lie where this one's would go.
    """
    source, out = local_path(source), local_path(out)
    if out.suffix not in (".pt", *checkpoint.SUFFIXES):
        raise ValueError(
            f"{out}: expected .pt, .npz, .safetensors or no suffix, found {out.suffix}"
        )
    run = read_run(source, step) if (source / "checkpoints").is_dir() else None
    if run is not None:
        ema, config = run["ema"], _description(run["run"])
    elif step is not None:
        raise ValueError(f"{source}: no training run, so there is no step {step} to choose")
    else:
        ema, config = checkpoint.read(source)
    # The writer tells its own versions; those of the software that trained must not be lost.
    if "written_by" in config:
        config.setdefault("exported_from", config["written_by"])
    if out.suffix == ".pt":
        _write_released(out, run, ema, config)
    else:
        checkpoint.write(out, ema, config)


def read_run(workdir: Path, step: int | None = None) -> dict[str, Any]:
    """Reads a run's checkpoint as `RunStore` wrote it.

    Args:
        workdir: the run's folder.
        step: of the checkpoint; the newest by default.
    Returns:
        `train` and `ema`, nested dicts of numpy arrays, and `run`, of what JSON can hold.
    Raises:
        ValueError: if the step is not there, or cannot be read.
    """
    import orbax.checkpoint as ocp

    marks = (workdir / "checkpoints").glob(f"*/{orbax_store.MARK}")
    steps = sorted(int(m.parent.name) for m in marks if m.parent.name.isdecimal())
    step = steps[-1] if steps and step is None else step
    if step not in steps:
        wanted = "a checkpoint" if step is None else f"a checkpoint of step {step}"
        raise ValueError(f"{workdir}: expected {wanted}, found {steps or 'none'}")
    path = (workdir / "checkpoints" / str(step)).absolute()
    try:
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
            restored = reader.restore(
                path,
                args=ocp.args.Composite(
                    train=ocp.args.PyTreeRestore(restore_args=orbax_store.as_numpy(path / "train")),
                    ema=ocp.args.PyTreeRestore(restore_args=orbax_store.as_numpy(path / "ema")),
                    run=ocp.args.JsonRestore(),
                ),
            )
    # Orbax and its storage library raise many kinds of error for damaged files.
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        raise ValueError(f"{path}: cannot be restored ({reason})") from error
    return {name: restored[name] for name in ("train", "ema", "run")}


def _write_released(
    out: Path, run: dict[str, Any] | None, ema: dict[str, Any], config: dict[str, Any]
) -> None:
    network = network_of(config)
    if not isinstance(network, ResidualMLP):
        raise ValueError(
            f"{out}: the released code has no {type(network).__name__}, only the paper's denoiser; "
            "choose .npz, .safetensors or no suffix"
        )
    config = signed(checked(config))
    if run is None:
        released = released_checkpoint(ema, ema, config=config)
    else:
        train = run["train"]
        released = released_checkpoint(
            train["params"],
            ema,
            step=int(np.asarray(train["step"])),
            moments=(_find(train["opt_state"], "mu"), _find(train["opt_state"], "nu")),
            learning_rate=run["run"]["config"]["learning_rate"],
            config=config,
        )
    beside = out.with_name("betas_stats.npz")
    new = bool(config.get("betas_range")) and _write_statistics(beside, config["betas_range"])
    try:
        save_torch(out, released)
    except BaseException:
        if new:
            beside.unlink(missing_ok=True)
        raise


def _write_statistics(path: Path, betas_range: Any) -> bool:
    """Writes the range of shape numbers as the released code has it, where it is not there yet.

    Returns:
        Whether it was written.
    Raises:
        ValueError: if there is something else of that name, such as another prior's statistics.
    """
    low, high = np.asarray(betas_range, np.float32)
    new = {"betas_min": low, "betas_max": high}
    if not path.exists():
        write_npz(path, new)
        return True
    old = read_npz(path)
    if old.keys() != new.keys() or not all(np.array_equal(old[key], new[key]) for key in new):
        raise ValueError(
            f"{path}: expected betas_min and betas_max of this prior, or no such file; found "
            "others. It belongs to another prior: choose another folder for --out"
        )
    return False


def _find(tree: Any, name: str) -> Any:
    """Finds the part of that name in an optimiser's state."""
    if isinstance(tree, dict) and name in tree:
        return tree[name]
    children = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return next((found for child in children if (found := _find(child, name)) is not None), None)


def _description(run: dict[str, Any]) -> dict[str, Any]:
    """Describes the prior of a run, from what `RunStore` keeps beside the weights."""
    config = run["config"]
    found: dict[str, Any] = {"schedule": COSINE, "condition_on": None}
    for prefix in ("denoiser.", "network."):  # the former is that of earlier versions
        found |= {k.removeprefix(prefix): v for k, v in config.items() if k.startswith(prefix)}
    found |= {k: config[k] for k in ("network", "condition_on", "betas_range") if k in config}
    return found | {k: run[k] for k in ("written_by",) if k in run}
