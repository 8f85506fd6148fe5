"""Weights and pictures of the networks that look at pictures, as golden/README.md has them."""

import json
import zlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorehmr_jax.convert.image_tables import TABLES
from scorehmr_jax.convert.image_weights import converted
from scorehmr_jax.networks.image_network import ImageArchitecture, ImageNetwork
from scorehmr_jax.networks.image_registry import describe_image_network
from scorehmr_jax.networks.parameters import unflatten

Shapes = dict[str, tuple[int, ...]]


def folder(golden: Path) -> Path:
    """The part of the golden set that is about networks; not in the cut set."""
    if not isinstance(golden, Path) or not (golden / "nets").is_dir():
        pytest.skip("needs the folder shared/golden beside the repository")
    return golden / "nets"


def listed(path: Path) -> dict[str, Shapes]:
    """Shapes of the released tensors by name, of each part of a network; one part is called ''."""
    content = json.loads(path.read_text())
    parts = content if all(len(v) > 2 for v in content.values()) else {"": content}
    return {
        part: {key: tuple(v["shape"] if isinstance(v, dict) else v) for key, v in keys.items()}
        for part, keys in parts.items()
    }


def released(parts: dict[str, Shapes], names: dict[str, str], **loaded: Any) -> dict[str, Any]:
    """A state_dict: `names` puts a checkpoint's name before each part's tensors.

    Args:
        loaded: values of `init_*`, which the recipe leaves as they are.
    """
    state = {}
    for part, keys in parts.items():
        for key, shape in keys.items():
            last = key.split(".")[-1]
            given = np.broadcast_to(loaded[last], shape) if last in loaded else weight(key, shape)
            state[names[part] + key] = np.array(given)
    return state


def drawn_from(key: str) -> np.random.Generator:
    """The random numbers of a tensor, which its name decides."""
    return np.random.default_rng(zlib.crc32(key.encode()))


def weight(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """A tensor computed from its name and shape alone."""
    r, last = drawn_from(key), key.split(".")[-1]
    if last == "num_batches_tracked":
        return np.array(7)
    if last == "running_var" or (last == "weight" and len(shape) == 1):
        return r.uniform(0.5, 1.5, shape).astype(np.float32)
    normal = r.normal(size=shape)
    if last in ("pos_embed", "pos_embedding"):
        normal = 0.02 * r.normal(size=shape)  # the second that is drawn
    elif len(shape) > 1:
        fan_in = shape[2] if len(shape) == 6 else np.prod(shape[1:])
        normal *= np.sqrt(1 / fan_in) * (0.7 if len(shape) == 4 else 1)
    else:
        normal = 0.1 * normal
    return np.asarray(normal, np.float32)


def pictures(seed: Any, count: int, size: int) -> np.ndarray:
    """Normalised pictures [N, S, S, 3] of squares of 8 pixels."""
    r = np.random.default_rng(int(seed))
    coarse = r.normal(size=(count, 3, size // 8, size // 8)).astype(np.float32)
    return coarse.repeat(8, 2).repeat(8, 3).transpose(0, 2, 3, 1)


def network(architecture: ImageArchitecture, state: dict[str, np.ndarray]) -> ImageNetwork:
    table = TABLES[describe_image_network(architecture)["network"]](architecture)
    flat = converted(state, table, architecture.parameter_shapes(), "golden")
    return ImageNetwork(jax.tree.map(jnp.asarray, unflatten(flat)), architecture)


def released_shapes(architecture: ImageArchitecture) -> Shapes:
    table = TABLES[describe_image_network(architecture)["network"]](architecture)
    return table.released_shapes(architecture.parameter_shapes())


def assert_close(found: Any, expected: np.ndarray, tolerance: float = 1e-4) -> None:
    """The largest difference, relative to the largest number."""
    found = np.asarray(found, np.float32)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < tolerance * np.abs(expected).max()


def drawn(architecture: ImageArchitecture) -> ImageNetwork:
    """A network with weights of its own, without compiling what draws first weights."""
    r = np.random.default_rng(0)
    flat = {}
    for key, shape in architecture.parameter_shapes().items():
        width = np.prod(shape[:-1]) if shape[-1:] else 1
        small = ("bias", "places", "place", "lower", "upper")
        scale = 0.02 if key.endswith(small) else width**-0.5
        flat[key] = (scale * r.normal(size=shape)).astype(np.float32)
        if key.endswith("scale"):
            flat[key] += 1
        if key.endswith("mean_pose"):
            flat[key] = np.tile([1, 0, 0, 0, 1, 0], 24)[None].astype(np.float32)
    return ImageNetwork(unflatten(flat), architecture)
