"""A network that looks at pictures, on disk: its weights, and which network they belong to.

`read` takes the released PyTorch checkpoints and what `write` wrote: an Orbax directory or a
.safetensors file. What is written appears whole under its name or not at all.
"""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from body_model.folders import standing
from body_model.paths import local_path
from scorehmr_jax import orbax_store
from scorehmr_jax.convert.image_tables import TABLES
from scorehmr_jax.convert.image_weights import converted, listed, matching, weights_of
from scorehmr_jax.convert.safetensors import is_safetensors, load_safetensors, save_safetensors
from scorehmr_jax.convert.torch_file import torch_weights
from scorehmr_jax.networks.image_network import ImageArchitecture, Params
from scorehmr_jax.networks.image_registry import (
    IMAGE_NETWORKS,
    describe_image_network,
    image_network_of,
)
from scorehmr_jax.networks.parameters import flatten, is_float, unflatten

_KINDS = (
    "a released PyTorch checkpoint (.pt, .pth, .ckpt), or an Orbax directory or .safetensors that "
    "`scorehmr convert` wrote"
)


def write(path: str | Path, params: Params, architecture: ImageArchitecture) -> None:
    """Writes a network in the form that the name asks for, in place of one of that name.

    Args:
        path: .safetensors, or without a suffix an Orbax directory.
        params: nested dicts of arrays of floats, which keep their type.
        architecture: the network that they belong to.
    Raises:
        ValueError: if the suffix is another, the weights are not the network's, or the place
            cannot be written to.
    """
    target = local_path(path)
    flat = _checked(target, flatten(params), architecture)
    description = describe_image_network(architecture)
    if target.suffix == ".safetensors":
        save_safetensors(target, flat, {"config": json.dumps(description)})
    elif not target.suffix:
        orbax_store.save(target, unflatten(flat), description)
    else:
        raise ValueError(f"{path}: expected .safetensors or no suffix, found {target.suffix}")


def read(path: str | Path, name: str | None = None) -> tuple[Params, ImageArchitecture]:
    """Reads a network from a released checkpoint or from what `write` wrote.

    Args:
        path: the content decides what it is, not the suffix.
        name: of IMAGE_NETWORKS, that it must be; None: the file tells.
    Returns:
        Nested dicts of numpy arrays, and the network that they belong to.
    Raises:
        ValueError: naming the file and the reason, if it is missing, truncated, another network,
            or anything else.
    """
    if name is not None and name not in IMAGE_NETWORKS:
        raise ValueError(f"network: expected one of {', '.join(IMAGE_NETWORKS)}, found {name!r}")
    path = local_path(path)
    if standing(path).is_dir():
        return _own(path, *orbax_store.load(path), name)
    loaded, _ = torch_weights(path, _KINDS, mapped=True)
    if loaded is not None:
        return _released(path, loaded, name)
    if path.suffix == ".safetensors" or is_safetensors(path):
        arrays, metadata = load_safetensors(path)
        if "config" not in metadata:
            return _released(path, arrays, name)
        try:
            description = json.loads(metadata["config"])
        except ValueError as error:
            raise ValueError(f"{path}: config: expected JSON ({error})") from None
        return _own(path, arrays, description, name)
    raise ValueError(f"{path}: no network's file; expected {_KINDS}")


def _own(
    path: Path, flat: Mapping[str, np.ndarray], description: Any, name: str | None
) -> tuple[Params, ImageArchitecture]:
    try:
        architecture = image_network_of(description if isinstance(description, Mapping) else {})
    except ValueError as error:
        raise ValueError(f"{path}: config: {error}") from None
    if name not in (None, description["network"]):
        raise ValueError(f"{path}: expected the network {name}, found {description['network']}")
    return unflatten(_checked(path, flat, architecture)), architecture


def _released(
    path: Path, loaded: Mapping[str, Any], name: str | None
) -> tuple[Params, ImageArchitecture]:
    weights = weights_of(loaded, str(path))
    forms = [
        (each, form)
        for each, kind in IMAGE_NETWORKS.items()
        if each in TABLES
        for form in kind.released()
    ]
    shapes = [_shapes(form) for _, form in forms]
    tables = [TABLES[each](form) for each, form in forms]
    alike = [matching(weights, *each) for each in zip(tables, shapes, strict=True)]
    counts = [len(table.released_shapes(of)) for table, of in zip(tables, shapes, strict=True)]
    # Of those with the most tensors that are there, the one with the fewest that are not.
    best = max(range(len(forms)), key=lambda i: (alike[i], -counts[i]))
    # Half of the names is more than any two of the networks share.
    if alike[best] < counts[best] / 2:
        raise ValueError(
            f"{path}: no weights of {', '.join(TABLES)}; it holds tensors called {listed(weights)}"
        )
    found, form = forms[best]
    if name not in (None, found):
        raise ValueError(f"{path}: expected the network {name}; these are the weights of {found}")
    flat = converted(weights, tables[best], shapes[best], f"{path} ({found})")
    return unflatten(flat), form


def _checked(
    path: Path, flat: Mapping[str, np.ndarray], architecture: ImageArchitecture
) -> dict[str, np.ndarray]:
    """Arrays by path, found to be those of the network, in this machine's order of bytes."""
    expected = _shapes(architecture)
    found = {key: array.shape for key, array in flat.items()}
    wrong = [
        f"{key}: expected {_shape(expected, key)}, found {_shape(found, key)}"
        for key in expected.keys() | found.keys()
        if expected.get(key) != found.get(key)
    ]
    wrong += [
        f"{key}: expected finite floats, found {array.dtype}"
        for key, array in flat.items()
        if not is_float(array) or not np.isfinite(array).all()
    ]
    if wrong:
        raise ValueError(f"{path}: not the weights of {architecture}: {listed(wrong)}")
    native = {key: array.dtype.newbyteorder("=") for key, array in flat.items()}
    return {key: array.astype(native[key], copy=False) for key, array in flat.items()}


@functools.lru_cache(maxsize=16)
def _shapes(architecture: ImageArchitecture) -> Mapping[str, tuple[int, ...]]:
    """Shapes of an architecture's arrays, which take a second to find out."""
    return architecture.parameter_shapes()


def _shape(shapes: Mapping[str, tuple[int, ...]], key: str) -> str:
    return str(list(shapes[key])) if key in shapes else "none"
