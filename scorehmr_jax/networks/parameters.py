"""Weights of a network as nested dicts, and as one dict with paths."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.tree_util import keystr


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


def change_leaves(params: dict[str, Any], change: Callable[[np.ndarray], Any]) -> dict[str, Any]:
    """Puts what a function makes of each array of nested dicts in its place, and returns them.

    One by one, so that large networks are not in memory twice.
    """
    for name in params:
        node = params[name]
        params[name] = change_leaves(node, change) if isinstance(node, dict) else change(node)
        del node  # or it would stay while the next one is made
    return params


def shapes_of(init: Callable[[jax.Array], Any]) -> dict[str, tuple[int, ...]]:
    """Tells the shape of every array that a function of a key gives, by its path."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(jax.eval_shape(init, jax.random.key(0)))
    return {keystr(path, simple=True, separator="/"): leaf.shape for path, leaf in leaves}


def is_float(array: np.ndarray) -> bool:
    """Tells if the numbers are floats, numpy's own or bfloat16."""
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"
