"""Weights of flows: those that ship, and the released ProHMR's, read without PyTorch."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from body_model.files import local_path, read_npz
from scorehmr_jax.convert.flow_table import flow_table
from scorehmr_jax.convert.image_weights import converted, weights_of
from scorehmr_jax.convert.torch_file import load_torch
from scorehmr_jax.networks.flow import ConditionalFlow
from scorehmr_jax.networks.parameters import flatten, shapes_of, unflatten

_SHIPPED = Path(__file__).with_name("flow.npz")
_PREFIXES = ("flow.flow.", "flow.", "")  # of the whole network, of its head, of the flow
_FIRST = "_transform._transforms.0"


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
    named = weights_of(state, name)
    prefix = next((p for p in _PREFIXES if f"{p}{_FIRST}.log_scale" in named), None)
    if prefix is None:
        raise ValueError(
            f"{name}: no weights of a flow (flow.flow.{_FIRST}.log_scale); found keys "
            f"{sorted(named)[:5]}"
        )
    weights = {
        key.removeprefix(prefix): value
        for key, value in named.items()
        if key.startswith(prefix + "_transform.")
    }
    sizes = _sizes(weights, name)
    flat = converted(weights, flow_table(sizes), shapes_of(sizes.init), name)
    return sizes, unflatten(flat)


def _sizes(weights: Mapping[str, np.ndarray], name: str) -> ConditionalFlow:
    numbers = [
        int(m[1]) for key in weights if (m := re.match(r"_transform\._transforms\.(\d+)\.", key))
    ]
    net = "_transform._transforms.2.transform_net"
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
    shapes = shapes_of(sizes.init)
    if set(shapes) != set(flat):
        odd = sorted(set(shapes) ^ set(flat))
        raise ValueError(f"{name}: keys that are missing or not expected: {odd[:5]}")
    for key, shape in shapes.items():
        if flat[key].shape != shape or flat[key].dtype.kind != "f":
            found = f"{flat[key].dtype} {flat[key].shape}"
            raise ValueError(f"{name}: {key}: expected numbers {shape}, found {found}")
        if not np.isfinite(flat[key]).all():
            raise ValueError(f"{name}: {key} holds numbers that are not finite")


@cache
def _shipped() -> tuple[ConditionalFlow, Any]:
    return load_flow(_SHIPPED)
