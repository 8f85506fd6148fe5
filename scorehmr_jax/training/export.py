"""What a run has learned, or any prior, as a file for others.

    scorehmr export runs/scorehmr-b --out model-100.pt

The name decides what is written: model-<n>.pt for the released PyTorch code, optimiser included
and, of a prior with shape, betas_stats.npz beside it;
.npz for `load_prior`; .safetensors; and without a suffix an Orbax directory.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from body_model.io import write_npz
from scorehmr_jax import checkpoint
from scorehmr_jax.convert.denoiser import flatten
from scorehmr_jax.convert.safetensors import save_safetensors
from scorehmr_jax.convert.torch_write import save_torch
from scorehmr_jax.convert.write_released import released_checkpoint


def export(source: str | Path, out: str | Path, step: int | None = None) -> None:
    """Writes a prior in another form.

    Args:
        source: a run's folder, or any prior that `checkpoint.read` knows.
        out: the file or directory to write.
        step: which of a run's checkpoints; the newest by default.
    Raises:
        ValueError: if there is nothing to read, or the suffix is none of the above.
    """
    source, out = Path(source), Path(out)
    if out.suffix not in (".pt", ".npz", ".safetensors", ""):
        raise ValueError(
            f"{out}: expected .pt, .npz, .safetensors or no suffix, found {out.suffix}"
        )
    run = read_run(source, step) if (source / "checkpoints").is_dir() else None
    if run is not None:
        ema, config = run["ema"], _sizes(run["run"]["config"])
    else:
        ema, config = checkpoint.read(source)
    if out.suffix == ".pt":
        save_torch(out, _released(run, ema))
        if config.get("betas_range"):
            low, high = np.asarray(config["betas_range"], np.float32)
            write_npz(out.with_name("betas_stats.npz"), {"betas_min": low, "betas_max": high})
    elif out.suffix == ".npz":
        checkpoint.save_npz(out, ema, config)
    elif out.suffix == ".safetensors":
        save_safetensors(out, flatten(ema), {"config": json.dumps(config)})
    else:
        checkpoint.save(out, ema, config)


def read_run(workdir: Path, step: int | None = None) -> dict[str, Any]:
    """A run's checkpoint as numpy arrays: `train`, `ema` and `run`, as `RunStore` wrote them.

    Raises:
        ValueError: if the step is not there, or cannot be read.
    """
    import orbax.checkpoint as ocp

    marks = (workdir / "checkpoints").glob(f"*/{checkpoint.MARK}")
    steps = sorted(int(m.parent.name) for m in marks if m.parent.name.isdecimal())
    step = steps[-1] if steps and step is None else step
    if step not in steps:
        raise ValueError(
            f"{workdir}: expected a checkpoint of step {step}, found {steps or 'none'}"
        )
    path = (workdir / "checkpoints" / str(step)).absolute()
    try:
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
            restored = reader.restore(
                path,
                args=ocp.args.Composite(
                    train=ocp.args.PyTreeRestore(restore_args=checkpoint.as_numpy(path / "train")),
                    ema=ocp.args.PyTreeRestore(restore_args=checkpoint.as_numpy(path / "ema")),
                    run=ocp.args.JsonRestore(),
                ),
            )
    # Orbax and its storage library raise many kinds of error for damaged files.
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        raise ValueError(f"{path}: damaged checkpoint ({reason})") from error
    return {name: restored[name] for name in ("train", "ema", "run")}


def _released(run: dict[str, Any] | None, ema: dict[str, Any]) -> dict[str, Any]:
    if run is None:
        return released_checkpoint(ema, ema)
    train = run["train"]
    return released_checkpoint(
        train["params"],
        ema,
        step=int(np.asarray(train["step"])),
        moments=(_find(train["opt_state"], "mu"), _find(train["opt_state"], "nu")),
        learning_rate=run["run"]["config"]["learning_rate"],
    )


def _find(tree: Any, name: str) -> Any:
    """The part of that name in an optimiser's state."""
    if isinstance(tree, dict) and name in tree:
        return tree[name]
    children = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return next((found for child in children if (found := _find(child, name)) is not None), None)


def _sizes(config: dict[str, Any]) -> dict[str, Any]:
    """As beside the weights, of a run's flat configuration."""
    sizes = {k.removeprefix("denoiser."): v for k, v in config.items() if k.startswith("denoiser.")}
    also = {k: config[k] for k in ("condition_on", "betas_range") if k in config}
    return sizes | also
