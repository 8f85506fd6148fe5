"""Weights of a network as nested dicts, and as one dict with paths."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def flatten(params: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """Turns nested dicts of arrays into one, with paths like pose/blocks_0/linear1/kernel."""
    flat: dict[str, np.ndarray] = {}
    for name, node in params.items():
        if isinstance(node, Mapping):
            flat |= flatten(node, f"{prefix}{name}/")
        else:
            flat[f"{prefix}{name}"] = np.asarray(node)
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Undoes `flatten`."""
    params: dict[str, Any] = {}
    for path, array in flat.items():
        *modules, leaf = path.split("/")
        node = params
        for module in modules:
            node = node.setdefault(module, {})
        node[leaf] = array
    return params


def is_float(array: np.ndarray) -> bool:
    """Tells if the numbers are floats, numpy's own or bfloat16."""
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"
