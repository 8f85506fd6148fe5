"""A prior on disk: parameters and sizes of a denoiser, as an Orbax directory or one .npz.

`read` takes either, and the released model's files. What is given to `save` appears whole under
its name or not at all.
"""

import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from body_model.io import read_npz, write_npz
from scorehmr_jax.convert.denoiser import (
    flatten,
    is_float,
    parameter_shapes,
    released_denoiser,
    unflatten,
)
from scorehmr_jax.convert.torch_file import load_torch

Params = dict[str, Any]
Config = dict[str, Any]

_SIZES = ("features", "hidden", "blocks", "shape_features", "shape_blocks")
MARK = "_CHECKPOINT_METADATA"  # Orbax writes it into every directory it has finished
_KINDS = (
    "an Orbax directory or .npz written by scorehmr_jax, or the released model-<n>.pt or its "
    "weights as .npz"
)


def read(path: str | Path) -> tuple[Params, Config]:
    """Read a prior from any kind of file there is.

    Args:
        path: a directory of `save`, an .npz of `save_npz`, the released model-<n>.pt (also .xz),
            or an .npz of the released denoiser's state_dict.
    Returns:
        Nested dicts of numpy arrays, and the sizes (`DenoiserConfig`'s fields) with whatever else
        was saved beside them.
    Raises:
        ValueError: naming the file and the reason, if it is missing, truncated or anything else.
    """
    path = Path(path)
    if path.is_dir():
        return load(path)
    try:
        with path.open("rb") as file:
            start = file.read(6)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); expected {_KINDS}") from None
    if _is_torch(path, start):
        return released_denoiser(_mapping(path, load_torch(path)), str(path))
    if start[:2] == b"PK":
        arrays = read_npz(path)
        if "config" in arrays:
            return _from_arrays(path, arrays)
        return released_denoiser(arrays, str(path))
    raise ValueError(f"{path}: not a checkpoint; expected {_KINDS}")


def save(directory: str | Path, params: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Write a prior as an Orbax directory, replacing a checkpoint of that name.

    Args:
        directory: new, empty, or an earlier checkpoint.
        params: nested dicts of arrays, as under "params" of the denoiser's variables.
        config: fields of `DenoiserConfig`, and anything else that JSON can hold.
    Raises:
        ValueError: if params and config do not belong together, or the directory holds
            something else.
    """
    import orbax.checkpoint as ocp

    target = Path(directory).absolute()
    _check(target, params, config)
    if target.exists() and not (target / MARK).exists():
        if not target.is_dir() or any(target.iterdir()):
            raise ValueError(f"{target}: exists and is no checkpoint; choose another name")
        target.rmdir()
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, so that the last step is a rename.
    work = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
            checkpointer.save(
                work / "new",
                args=ocp.args.Composite(
                    params=ocp.args.PyTreeSave(unflatten(flatten(params))),
                    config=ocp.args.JsonSave(dict(config)),
                ),
            )
        _replace(work / "new", target, aside=work / "old")
    finally:
        # After an error Orbax's threads may still be writing there.
        shutil.rmtree(work, ignore_errors=True)


def _replace(new: Path, target: Path, aside: Path) -> None:
    if target.exists():
        os.rename(target, aside)
    try:
        os.rename(new, target)
    except OSError:
        if aside.exists():
            os.rename(aside, target)
        raise


def load(directory: str | Path) -> tuple[Params, Config]:
    """Read what `save` wrote, on any number of devices; arrays come as numpy's.

    Raises:
        ValueError: if it is no whole checkpoint of a prior.
    """
    import orbax.checkpoint as ocp

    path = Path(directory).absolute()
    absent = [n for n in (MARK, "params", "config") if not (path / n).exists()]
    if absent:
        raise ValueError(
            f"{path}: not a whole checkpoint of a prior ({', '.join(absent)} absent); "
            f"expected {_KINDS}"
        )
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
            f"{path}: damaged checkpoint ({type(error).__name__}: {str(error)[:200]})"
        ) from error
    params, config = restored["params"], restored["config"]
    _check(path, params, config)
    return params, config


def save_npz(path: str | Path, params: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Write a prior as one .npz: paths like pose/blocks_0/linear1/kernel, and config as JSON.

    Args and errors: as `save`. float16 parameters stay so in the file.
    """
    _check(Path(path), params, config)
    write_npz(path, {**flatten(params), "config": np.array(json.dumps(dict(config)))})


def load_npz(path: str | Path) -> tuple[Params, Config]:
    """Read what `save_npz` wrote; float16 comes as float32.

    Raises:
        ValueError: if it is missing, truncated or of another kind.
    """
    return _from_arrays(Path(path), read_npz(path))


def _from_arrays(path: Path, arrays: dict[str, np.ndarray]) -> tuple[Params, Config]:
    try:
        config = json.loads(str(arrays.pop("config")))
    except (KeyError, ValueError):
        raise ValueError(f"{path}: no key 'config' with JSON; expected {_KINDS}") from None
    flat = {k: a.astype(np.float32) if a.dtype == np.float16 else a for k, a in arrays.items()}
    _check(path, flat, config)
    return unflatten(flat), config


def _check(path: Path, params: Mapping[str, Any], config: Any) -> None:
    """That the parameters, nested or flat, are finite and a denoiser's of the stated sizes."""
    sizes = [config.get(k) for k in _SIZES] if isinstance(config, Mapping) else [None]
    if not all(isinstance(n, int) and n >= 0 for n in sizes):
        raise ValueError(f"{path}: config: expected whole numbers for {', '.join(_SIZES)}")
    try:
        json.dumps(config)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: config: expected what JSON can hold ({error})") from None
    flat = flatten(params)
    if max(config["blocks"], config["shape_blocks"]) > len(flat):
        raise ValueError(
            f"{path}: config: {config['blocks']} and {config['shape_blocks']} blocks of only "
            f"{len(flat)} parameters"
        )
    expected = parameter_shapes(config)
    found = {k: a.shape for k, a in flat.items()}
    for key in sorted(expected.keys() | found.keys()):
        if expected.get(key) != found.get(key):
            wanted, got = expected.get(key), found.get(key)
            raise ValueError(
                f"{path}: parameter '{key}': expected {_shape(wanted)}, found {_shape(got)} "
                f"(config {dict(zip(_SIZES, sizes, strict=True))})"
            )
    for key, array in flat.items():
        if not is_float(array):
            raise ValueError(f"{path}: parameter '{key}': expected floats, found {array.dtype}")
        if not np.isfinite(array).all():
            raise ValueError(f"{path}: parameter '{key}' holds values that are NaN or infinite")


def _shape(shape: tuple[int, ...] | None) -> str:
    return "none" if shape is None else f"shape {list(shape)}"


def as_numpy(directory: Path) -> Any:
    """Restore arguments that make every array of a saved tree numpy's."""
    import jax
    import orbax.checkpoint as ocp

    tree = ocp.PyTreeCheckpointHandler().metadata(directory).tree
    return jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)


def _is_torch(path: Path, start: bytes) -> bool:
    if path.suffix in (".pt", ".pth", ".ckpt") or start == b"\xfd7zXZ\x00":
        return True
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist())
    # A damaged archive can fail in any way; read as .npz, it says what is wrong.
    except Exception:
        return False


def _mapping(path: Path, loaded: Any) -> Mapping[str, Any]:
    if not isinstance(loaded, Mapping):
        raise ValueError(f"{path}: expected a dict of weights, found {type(loaded).__name__}")
    return loaded
