"""The released denoiser's weights under our names, and back."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from scorehmr_jax.networks.denoiser import ResidualMLP
from scorehmr_jax.networks.parameters import flatten, is_float, unflatten

# The one table: our module -> the released one's name. {s} is the stream, {i} the block.
_STREAMS = {"pose": "", "shape": "_betas"}
_WIDTHS = {"pose": 144, "shape": 10}
_LINEARS = {
    "time1": "time_mlp{s}.1",
    "time2": "time_mlp{s}.3",
    "input": "init_mlp{s}",
    "output": "final_mlp{s}",
    "blocks_{i}/time": "blocks{s}.{i}.mlp.1",
    "blocks_{i}/linear1": "blocks{s}.{i}.block.linear_layer1",
    "blocks_{i}/linear2": "blocks{s}.{i}.block.linear_layer2",
}
_NORMS = {
    "blocks_{i}/norm1": "blocks{s}.{i}.block.layer_norm1",
    "blocks_{i}/norm2": "blocks{s}.{i}.block.layer_norm2",
}

# Where a checkpoint keeps the denoiser: the averaged weights are the ones to use.
_PREFIXES = ("ema_model.model.", "model.", "")


def released_denoiser(
    state: Mapping[str, Any], name: str = "checkpoint"
) -> tuple[dict[str, Any], dict[str, int]]:
    """Turns the released denoiser's weights into our parameters and sizes.

    Args:
        state: a whole checkpoint {step, model, opt, ema}, of which the EMA weights are taken, or
            a state_dict of the diffusion (`model.*`) or of the denoiser alone.
        name: of the file, for messages.
    Returns:
        Nested dicts of numpy arrays, float32 (float64 where they were), as
        `ResidualMLP(**config).init` gives; and the fields of `ResidualMLP`.
    Raises:
        ValueError: naming a key that is missing or not expected, or a shape that does not fit.
    """
    weights = _select(state)
    if not weights:
        found = _listed([key for key in state if isinstance(key, str)])
        raise ValueError(f"{name}: no weights of a denoiser (init_mlp.weight); found keys {found}")
    config = _config(weights, name)
    try:
        shapes = ResidualMLP(**config).parameter_shapes()
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    keys = {key: (path, transpose) for path, key, transpose in _table(config)}
    missing, unexpected = sorted(keys.keys() - weights), sorted(weights.keys() - keys)
    if missing or unexpected:
        raise ValueError(
            f"{name}: not the released denoiser's keys; missing: {_listed(missing)}; "
            f"not expected: {_listed(unexpected)}"
        )
    flat = {}
    for key, (path, transpose) in keys.items():
        array = weights[key]
        if not isinstance(array, np.ndarray):
            kind = type(array).__name__
            raise ValueError(f"{name}: key '{key}': expected an array, found a {kind}")
        expected = shapes[path][::-1] if transpose else shapes[path]
        if array.shape != expected:
            raise ValueError(
                f"{name}: key '{key}': expected shape {list(expected)}, found {list(array.shape)}"
            )
        if not is_float(array) or not np.isfinite(array.astype(np.float64)).all():
            raise ValueError(
                f"{name}: key '{key}': expected finite numbers of a floating-point type, found "
                f"{array.dtype}{', of them NaN or infinite ones' if is_float(array) else ''}"
            )
        array = array.astype(np.promote_types(array.dtype.newbyteorder("="), np.float32))
        flat[path] = np.ascontiguousarray(array.T if transpose else array)
    return unflatten(flat), config


def to_released(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Turns our parameters into the released denoiser's state_dict; undoes `released_denoiser`."""
    config = {
        "blocks": _count_blocks(params["pose"], "blocks_"),
        "shape_blocks": _count_blocks(params.get("shape", {}), "blocks_"),
        "shape_features": int("shape" in params),
    }
    flat = flatten(params)
    return {
        key: flat[path].T if transpose else flat[path] for path, key, transpose in _table(config)
    }


def _select(state: Mapping[str, Any]) -> dict[str, Any]:
    for part in ("ema", "model"):
        if isinstance(state.get(part), Mapping):
            state = state[part]
            break
    for prefix in _PREFIXES:
        if f"{prefix}init_mlp.weight" in state:
            return {
                key.removeprefix(prefix): value
                for key, value in state.items()
                if isinstance(key, str) and key.startswith(prefix)
            }
    return {}


def _count_blocks(names: Mapping[str, Any], prefix: str) -> int:
    numbers = {m[1] for n in names if (m := re.match(re.escape(prefix) + r"(\d+)", n))}
    return len(numbers)


def _config(weights: Mapping[str, Any], name: str) -> dict[str, int]:
    def length(key: str, least: int = 0) -> int:
        vector = weights.get(key)
        if not isinstance(vector, np.ndarray) or vector.ndim != 1:
            found = f"shape {list(vector.shape)}" if isinstance(vector, np.ndarray) else "none"
            raise ValueError(f"{name}: key '{key}': expected a vector, found {found}")
        if len(vector) < least:
            raise ValueError(
                f"{name}: key '{key}': expected at least {least} numbers, found {len(vector)}"
            )
        return len(vector) - least

    with_shape = any("_betas." in key for key in weights)
    norm = "blocks{s}.0.block.layer_norm1.weight"
    return {
        "features": length(norm.format(s=""), _WIDTHS["pose"]),
        "hidden": length("blocks.0.block.linear_layer1.bias"),
        "blocks": _count_blocks(weights, "blocks."),
        "shape_features": length(norm.format(s="_betas"), _WIDTHS["shape"]) if with_shape else 0,
        "shape_blocks": _count_blocks(weights, "blocks_betas."),
    }


def _listed(keys: list[str]) -> str:
    return ", ".join(keys[:6]) + (f" and {len(keys) - 6} more" if len(keys) > 6 else "") or "none"


def _table(config: Mapping[str, int]) -> Iterator[tuple[str, str, bool]]:
    """Lists our path, the released key, and True where the matrix is transposed."""
    for stream, suffix in _STREAMS.items():
        if stream == "shape" and not config["shape_features"]:
            continue
        blocks = config["shape_blocks" if stream == "shape" else "blocks"]
        for table, weight in ((_LINEARS, "kernel"), (_NORMS, "scale")):
            for ours, theirs in table.items():
                for i in range(blocks if "{i}" in ours else 1):
                    path = f"{stream}/{ours.format(i=i)}"
                    key = theirs.format(s=suffix, i=i)
                    yield f"{path}/{weight}", f"{key}.weight", weight == "kernel"
                    yield f"{path}/bias", f"{key}.bias", False
