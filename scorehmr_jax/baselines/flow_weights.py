"""Weights of flows: those that ship, and the released ProHMR's, read without PyTorch."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np

from body_model.files import local_path, read_npz
from scorehmr_jax.convert.torch_file import load_torch
from scorehmr_jax.networks.flow import ConditionalFlow
from scorehmr_jax.networks.parameters import flatten, unflatten

_SHIPPED = Path(__file__).with_name("flow.npz")
_PREFIXES = ("flow.flow.", "flow.", "")  # of the whole network, of its head, of the flow
_BATCH_NORM = 1e-3  # that is added to a variance


def load_flow(path: str | Path | None = None) -> tuple[ConditionalFlow, Any]:
    """Loads a flow: its sizes and weights.

    Args:
        path: an .npz that `training/flow.py` wrote, or the released ProHMR's checkpoint; None: the
            flow of this package, whose condition is the first estimate's pose in 6D.
    Raises:
        UnsafePickle: if a checkpoint names anything but tensors and plain containers.
        ValueError: naming the file and the key that is missing, not expected or of another shape.
    """
    if path is None:
        return _shipped()
    if local_path(path).suffix != ".npz":
        return released_flow(load_torch(path), str(path))
    arrays = dict(read_npz(path))
    if "sizes" not in arrays:
        raise ValueError(f"{path}: no flow: the key 'sizes' is missing; found {sorted(arrays)[:5]}")
    try:
        sizes = ConditionalFlow(**json.loads(str(arrays.pop("sizes"))))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: sizes: {error}") from None
    _check(arrays, sizes, str(path))
    return sizes, unflatten({key: a.astype(np.float32) for key, a in arrays.items()})


def write_flow(sizes: ConditionalFlow, params: Any) -> dict[str, np.ndarray]:
    """Lists the arrays of a flow's file; weights of products in half precision."""
    flat = flatten(params)
    kept = {key: a.astype(np.float16 if a.ndim > 1 else np.float32) for key, a in flat.items()}
    return kept | {"sizes": np.array(json.dumps(asdict(sizes)))}


def released_flow(
    state: Mapping[str, Any], name: str = "checkpoint"
) -> tuple[ConditionalFlow, dict[str, Any]]:
    """Turns the released flow's weights into sizes and parameters.

    Args:
        state: a checkpoint with a `state_dict`, or one; keys `flow.flow._transform...`, or without
            what is before `_transform`. What else it holds, the image network, is not read.
        name: of the file, for messages.
    Raises:
        ValueError: naming a key that is missing or not expected, or a shape that does not fit.
    """
    state = state.get("state_dict", state)
    prefix = next((p for p in _PREFIXES if f"{p}{_key(0)}.log_scale" in state), None)
    if prefix is None:
        raise ValueError(
            f"{name}: no weights of a flow (flow.flow.{_key(0)}.log_scale); found keys "
            f"{sorted(map(str, state))[:5]}"
        )
    weights = {
        key.removeprefix(prefix): np.asarray(value)
        for key, value in state.items()
        if isinstance(key, str) and key.startswith(prefix + "_transform.")
    }
    sizes = _sizes(weights, name)
    wanted = {key: made for i in range(sizes.layers) for key, made in _layer(sizes, i).items()}
    unread = {key for i in range(sizes.layers) for key in _unread(sizes, i)}
    missing = sorted(set(wanted) - set(weights))
    extra = sorted(set(weights) - set(wanted) - unread)
    if missing or extra:
        raise ValueError(
            f"{name}: not the released flow's keys; missing: {missing[:5]}; not expected: "
            f"{extra[:5]}"
        )
    flat: dict[str, np.ndarray] = {}
    for key, (path, transposed) in wanted.items():
        array = weights[key].astype(np.float32)
        flat[path] = np.ascontiguousarray(array.T) if transposed else array
    for i in range(sizes.layers):
        _fold_norms(flat, weights, sizes, i)
    _check(flat, sizes, name)
    return sizes, unflatten(flat)


def _key(number: int) -> str:
    return f"_transform._transforms.{number}"


def _layer(sizes: ConditionalFlow, i: int) -> dict[str, tuple[str, bool]]:
    """The released name of each array of a layer: ours, and whether it is transposed."""
    norm, lu, net = _key(3 * i), _key(3 * i + 1), _key(3 * i + 2) + ".transform_net"
    table = {
        f"{norm}.log_scale": "log_scale",
        f"{norm}.shift": "shift",
        f"{lu}.lower_entries": "lower",
        f"{lu}.upper_entries": "upper",
        f"{lu}.unconstrained_upper_diag": "diagonal",
        f"{lu}.bias": "bias",
    }
    found = {key: (f"layers_{i}/{path}", False) for key, path in table.items()}
    linears = {"initial_layer": "input", "final_layer": "output"}
    for b in range(sizes.blocks):
        linears[f"blocks.{b}.context_layer"] = f"blocks_{b}_gate"
        for half in (0, 1):
            linears[f"blocks.{b}.linear_layers.{half}"] = f"blocks_{b}_linear{half + 1}"
    for key, path in linears.items():
        found[f"{net}.{key}.weight"] = f"layers_{i}/net/{path}/kernel", True
        found[f"{net}.{key}.bias"] = f"layers_{i}/net/{path}/bias", False
    return found


def _norms(sizes: ConditionalFlow, i: int) -> dict[str, str]:
    if not sizes.normed:
        return {}
    net = _key(3 * i + 2) + ".transform_net"
    return {
        f"{net}.blocks.{b}.batch_norm_layers.{half}": f"layers_{i}/net/blocks_{b}_norm{half + 1}"
        for b in range(sizes.blocks)
        for half in (0, 1)
    }


def _unread(sizes: ConditionalFlow, i: int) -> set[str]:
    """Keys that say nothing that is not known, or are folded afterwards."""
    coupling = _key(3 * i + 2)
    known = {f"{_key(3 * i)}.initialized"}
    known |= {f"{coupling}.{part}_features" for part in ("identity", "transform")}
    leaves = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    return known | {f"{norm}.{leaf}" for norm in _norms(sizes, i) for leaf in leaves}


def _fold_norms(
    flat: dict[str, np.ndarray], weights: Mapping[str, Any], sizes: ConditionalFlow, i: int
) -> None:
    """Makes a scale and a bias of each batch norm's four vectors."""
    for key, path in _norms(sizes, i).items():
        weight, bias, mean, variance = (
            weights[f"{key}.{leaf}"].astype(np.float64)
            for leaf in ("weight", "bias", "running_mean", "running_var")
        )
        scale = weight / np.sqrt(variance + _BATCH_NORM)
        flat[f"{path}/scale"] = scale.astype(np.float32)
        flat[f"{path}/bias"] = (bias - mean * scale).astype(np.float32)


def _sizes(weights: Mapping[str, np.ndarray], name: str) -> ConditionalFlow:
    numbers = [
        int(m[1]) for key in weights if (m := re.match(r"_transform\._transforms\.(\d+)\.", key))
    ]
    net = _key(2) + ".transform_net"
    blocks = [
        int(m[1]) for key in weights if (m := re.match(re.escape(net) + r"\.blocks\.(\d+)\.", key))
    ]
    first, last = (
        weights.get(f"{net}.initial_layer.weight"),
        weights.get(f"{net}.final_layer.weight"),
    )
    if not blocks or first is None or last is None or first.ndim != 2 or last.ndim != 2:
        raise ValueError(f"{name}: no network of a coupling at {net}")
    half = ConditionalFlow.dim // 2
    return ConditionalFlow(
        features=first.shape[1] - half,
        hidden=first.shape[0],
        layers=(max(numbers) + 1) // 3,
        blocks=max(blocks) + 1,
        coupling="additive" if last.shape[0] == half else "affine",
        normed=f"{net}.blocks.0.batch_norm_layers.0.weight" in weights,
    )


def _check(flat: Mapping[str, np.ndarray], sizes: ConditionalFlow, name: str) -> None:
    shapes = {
        key: leaf.shape
        for key, leaf in flatten_shapes(jax.eval_shape(sizes.init, jax.random.key(0))).items()
    }
    if set(shapes) != set(flat):
        odd = sorted(set(shapes) ^ set(flat))
        raise ValueError(f"{name}: keys that are missing or not expected: {odd[:5]}")
    for key, shape in shapes.items():
        if flat[key].shape != shape or flat[key].dtype.kind != "f":
            found = f"{flat[key].dtype} {flat[key].shape}"
            raise ValueError(f"{name}: {key}: expected numbers {shape}, found {found}")
        if not np.isfinite(flat[key]).all():
            raise ValueError(f"{name}: {key} holds numbers that are not finite")


def flatten_shapes(params: Any, prefix: str = "") -> dict[str, Any]:
    """Lists the leaves of nested dicts by their paths."""
    if not isinstance(params, Mapping):
        return {prefix: params}
    found: dict[str, Any] = {}
    for name, node in params.items():
        found |= flatten_shapes(node, f"{prefix}/{name}" if prefix else name)
    return found


@cache
def _shipped() -> tuple[ConditionalFlow, Any]:
    return load_flow(_SHIPPED)
