"""Weights and their description as an Orbax directory; written whole or not at all."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from body_model.folders import building, folder_exists, put_folder, standing
from body_model.paths import followed, local_path
from scorehmr_jax.networks.parameters import flatten

MARK = "_CHECKPOINT_METADATA"  # Orbax writes it into every directory it has finished


def save(directory: str | Path, params: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Writes weights and description, in place of a checkpoint of that name.

    Args:
        directory: new, empty, or an earlier checkpoint.
        params: nested dicts of numpy arrays.
        config: what JSON can hold.
    Raises:
        ValueError: if the directory holds something else, or the name is an address.
    """
    import orbax.checkpoint as ocp

    target = followed(local_path(directory).absolute())
    if folder_exists(target) and not (target / MARK).exists():
        if not target.is_dir() or any(target.iterdir()):
            raise ValueError(f"{target}: exists and is no checkpoint; choose another name")
        target.rmdir()
    with building(target.parent) as work:
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
            checkpointer.save(
                work / "new",
                args=ocp.args.Composite(
                    params=ocp.args.PyTreeSave(params),
                    config=ocp.args.JsonSave(config),
                ),
            )
        put_folder(work / "new", target)


def missing(path: Path) -> list[str]:
    """Lists what a directory lacks to be a whole checkpoint."""
    return [name for name in (MARK, "params", "config") if not (path / name).exists()]


def load(directory: str | Path) -> tuple[dict[str, np.ndarray], Any]:
    """Reads what `save` wrote, on any number of devices.

    Returns:
        Numpy arrays by path, and the description.
    Raises:
        ValueError: if it is no whole checkpoint, or cannot be restored.
    """
    import orbax.checkpoint as ocp

    path = standing(local_path(directory).absolute())
    if absent := missing(path):
        raise ValueError(f"{path}: not a whole checkpoint ({', '.join(absent)} absent)")
    try:
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
            restored = checkpointer.restore(
                path,
                args=ocp.args.Composite(
                    params=ocp.args.PyTreeRestore(restore_args=as_numpy(path / "params")),
                    config=ocp.args.JsonRestore(),
                ),
            )
    # Orbax and its storage library raise many kinds of error for damaged files.
    except Exception as error:
        raise ValueError(
            f"{path}: cannot be restored ({type(error).__name__}: {str(error)[:200]}); if its "
            "files are whole and readable, it was written by another version of Orbax"
        ) from error
    return flatten(restored["params"]), restored["config"]


def as_numpy(directory: Path) -> Any:
    """Restore arguments that make every array of a saved tree numpy's."""
    import jax
    import orbax.checkpoint as ocp

    tree = ocp.PyTreeCheckpointHandler().metadata(directory).tree
    return jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
