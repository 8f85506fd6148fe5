"""A prior on disk: the weights of a network, and the description that they belong to.

Three forms hold the same: an Orbax directory, an .npz and a .safetensors file. `write` chooses by
the name, `read` takes each of them and the released model's files. What is written appears whole
under its name or not at all.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from body_model.files import read_npz, write_npz
from body_model.folders import standing
from body_model.paths import followed, local_path
from scorehmr_jax import orbax_store
from scorehmr_jax.convert.denoiser import released_denoiser
from scorehmr_jax.convert.safetensors import is_safetensors, load_safetensors, save_safetensors
from scorehmr_jax.convert.torch_file import torch_weights
from scorehmr_jax.convert.write_released import CONFIG_KEY
from scorehmr_jax.description import COSINE, Config, checked, description, signed
from scorehmr_jax.networks.parameters import flatten, unflatten
from scorehmr_jax.networks.registry import network_of

__all__ = [
    "description",
    "load",
    "load_npz",
    "read",
    "save",
    "save_npz",
    "write",
]

Params = dict[str, Any]

SUFFIXES = (".npz", ".safetensors", "")
_FLOATS = ("float16", "bfloat16", "float32", "float64")
_KINDS = (
    "an Orbax directory, .npz or .safetensors written by scorehmr_jax, or the released "
    "model-<n>.pt or its weights as .npz"
)


def write(path: str | Path, params: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Writes a prior in the form that the name asks for, in place of one of that name.

    Args:
        path: .npz, .safetensors, or without a suffix an Orbax directory.
        params: nested dicts of arrays of float16, bfloat16, float32 or float64, which they stay.
        config: as `description` gives it, and anything else that JSON can hold.
    Raises:
        ValueError: if the suffix is another, or as `save`.
    """
    writers = {".npz": save_npz, ".safetensors": _save_safetensors, "": save}
    suffix = local_path(path).suffix
    if suffix not in writers:
        raise ValueError(f"{path}: expected .npz, .safetensors or no suffix, found {suffix}")
    writers[suffix](path, params, config)


def read(path: str | Path) -> tuple[Params, Config]:
    """Reads a prior from any kind of file there is.

    Args:
        path: what `write` wrote, the released model-<n>.pt (also .xz), or the released denoiser's
            state_dict as .npz or .safetensors. The content decides, not the suffix.
    Returns:
        Nested dicts of numpy arrays in the precision that the file has (the released model's in
        float32 at least), and the description with whatever else was saved beside them.
    Raises:
        ValueError: naming the file and the reason, if it is missing, truncated or anything else.
    """
    path = local_path(path)
    if standing(path).is_dir():
        return load(path)
    loaded, start = torch_weights(path, _KINDS)
    if loaded is not None:
        return _from_released(path, loaded, loaded.get(CONFIG_KEY))
    if start[:2] == b"PK":
        arrays = dict(read_npz(path))
        return _from_npz(path, arrays) if "config" in arrays else _from_released(path, arrays)
    if path.suffix == ".safetensors" or is_safetensors(path):
        arrays, metadata = load_safetensors(path)
        if "config" not in metadata:
            return _from_released(path, arrays)
        return _checked(path, arrays, _json(path, metadata["config"]))
    raise ValueError(f"{path}: not a checkpoint; expected {_KINDS}")


def save(directory: str | Path, params: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Writes a prior as an Orbax directory, in place of a checkpoint of that name.

    Args:
        directory: new, empty, or an earlier checkpoint.
        params, config: as `write`.
    Raises:
        ValueError: if params and config do not belong together, the directory holds something
            else, or the name is an address.
    """
    target = followed(local_path(directory).absolute())
    flat, complete = _prepared(target, params, config)
    orbax_store.save(target, unflatten(flat), complete)


def load(directory: str | Path) -> tuple[Params, Config]:
    """Reads what `save` wrote, on any number of devices; arrays come as numpy's.

    Raises:
        ValueError: if it is no whole checkpoint of a prior.
    """
    path = standing(local_path(directory).absolute())
    if (path / "checkpoints").is_dir():
        raise ValueError(
            f"{path}: the folder of a training run; its weights are in {path / 'weights.npz'}, "
            f"and `scorehmr export-prior {path} --out F` writes those of any of its checkpoints"
        )
    if absent := orbax_store.missing(path):
        raise ValueError(
            f"{path}: not a whole checkpoint of a prior ({', '.join(absent)} absent); "
            f"expected {_KINDS}"
        )
    return _checked(path, *orbax_store.load(path))


def save_npz(path: str | Path, params: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Writes a prior as one .npz: paths like pose/blocks_0/linear1/kernel, and config as JSON.

    Args and errors: as `save`. bfloat16, which numpy's files cannot hold, is written as the bits
    of it, and named in the config.
    """
    flat, complete = _prepared(Path(path), params, config)
    if "config" in flat:
        raise ValueError(f"{path}: parameter 'config': an .npz keeps the description there")
    narrow = [name for name, array in flat.items() if array.dtype.name == "bfloat16"]
    if narrow:
        flat |= {name: flat[name].view(np.uint16) for name in narrow}
        complete["bfloat16"] = narrow
    write_npz(path, {**flat, "config": np.array(json.dumps(complete))})


def load_npz(path: str | Path) -> tuple[Params, Config]:
    """Reads what `save_npz` wrote.

    Raises:
        ValueError: if it is missing, truncated or of another kind.
    """
    return _from_npz(Path(path), dict(read_npz(path)))


def _save_safetensors(
    path: str | Path, params: Mapping[str, Any], config: Mapping[str, Any]
) -> None:
    flat, complete = _prepared(Path(path), params, config)
    save_safetensors(path, flat, {"config": json.dumps(complete)})


def _from_npz(path: Path, arrays: dict[str, np.ndarray]) -> tuple[Params, Config]:
    if "config" not in arrays:
        raise ValueError(f"{path}: no key 'config'; expected {_KINDS}")
    config = _json(path, str(arrays.pop("config")))
    narrow = config.pop("bfloat16", [])
    for name in narrow if isinstance(narrow, list) else [narrow]:
        if not isinstance(name, str) or name not in arrays or arrays[name].dtype != np.uint16:
            raise ValueError(f"{path}: parameter '{name}': expected the bits of bfloat16 as uint16")
        arrays[name] = arrays[name].view(ml_dtypes.bfloat16)
    return _checked(path, arrays, config)


def _from_released(
    path: Path, weights: Mapping[str, Any], own: Any = None
) -> tuple[Params, Config]:
    """Weights under the released names, with the description that our own export adds."""
    params, sizes = released_denoiser(weights, str(path))
    config = {} if own is None else _json(path, own)
    # Earlier exports name the network, and nothing that the released code has no other of.
    released = {"schedule": COSINE, "condition_on": None}
    return _checked(path, flatten(params), {**released, **sizes, **config})


def _json(path: Path, text: Any) -> Config:
    try:
        config = json.loads(text)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: config: expected JSON ({error})") from None
    if not isinstance(config, dict):
        raise ValueError(f"{path}: config: expected names and values, found {config!r}"[:300])
    return config


def _prepared(
    path: Path, params: Mapping[str, Any], config: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], Config]:
    """Checks what to write.

    Returns:
        Parameters by their paths, and the whole description.
    """
    nested, complete = _checked(path, flatten(params), config)
    return flatten(nested), signed(complete)


def _checked(path: Path, flat: Mapping[str, np.ndarray], config: Any) -> tuple[Params, Config]:
    """Checks that the parameters are finite floats, and those of the network described.

    Returns:
        The parameters as nested dicts, in the byte order of this machine, and the whole
        description.
    """
    try:
        config = checked(config)
        network = network_of(config)
    except ValueError as error:
        raise ValueError(f"{path}: config: {error}") from None
    expected = network.parameter_shapes()
    found = {name: array.shape for name, array in flat.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise ValueError(
                f"{path}: parameter '{name}': expected {_shape(expected.get(name))}, "
                f"found {_shape(found.get(name))} ({network})"
            )
    for name, array in flat.items():
        if array.dtype.name not in _FLOATS:
            raise ValueError(
                f"{path}: parameter '{name}': expected one of {', '.join(_FLOATS)}, "
                f"found {array.dtype}"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"{path}: parameter '{name}' holds values that are NaN or infinite")
    native = {k: a.astype(a.dtype.newbyteorder("="), copy=False) for k, a in flat.items()}
    return unflatten(native), config


def _shape(shape: tuple[int, ...] | None) -> str:
    return "none" if shape is None else f"shape {list(shape)}"
