"""Released weights of the networks that look at pictures, under our names.

`image_tables.py` has a table for each network: the released names of the layers that are ours. The
tensors and shapes that a checkpoint must have follow from it and from our own shapes.
"""

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scorehmr_jax.networks.parameters import is_float

Tensors = dict[str, np.ndarray]
Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

_EPSILON = 1e-5  # of batch norm in PyTorch
_FLOW_EPSILON = 1e-3  # of those that stand alone: nflows' own
# What training and compilation put before the names of a model's tensors.
_WRAPPERS = ("module.", "_orig_mod.", "model.")
# Where a checkpoint may keep the weights.
_STATES = ("state_dict", "model_state_dict", "model")
_STATISTICS = ("weight", "bias", "running_mean", "running_var")
# PyTorch counts the batches that a norm has seen; no result depends on it, and old files lack it.
_COUNTER = ".num_batches_tracked"


@dataclass(frozen=True)
class Table:
    """The released names of a network's weights."""

    parts: tuple[str, ...]  # of a checkpoint, that are the network: what its names begin with
    beside: tuple[str, ...]  # parts that are known not to belong to it
    layers: Mapping[str, tuple[str, ...]]  # our layer -> its name, and that of the norm after it
    arrays: Mapping[str, tuple[str, Shape]] = field(default_factory=dict)  # ours -> name, shape
    unused: Shapes = field(default_factory=dict)  # no result depends on them
    # Norms that no convolution is before: ours, a scale and a bias, -> the released name.
    norms: Mapping[str, str] = field(default_factory=dict)
    # Tensors of which the network knows the values, by their released names.
    known: Mapping[str, np.ndarray] = field(default_factory=dict)

    def released_shapes(self, ours: Shapes) -> dict[str, Shape]:
        """Tells the released tensors and their shapes, given the shapes of our arrays by path."""
        shapes = dict(self.unused) | dict(self.arrays.values())
        shapes |= {key: value.shape for key, value in self.known.items()}
        for path, (key, *norms) in self.layers.items():
            kernel = ours.get(f"{path}/kernel") or ours[f"{path}/scale"]
            *size, outputs = kernel
            # Ours is [K, K, I, O] or [I, O], theirs [O, I, K, K] or [O, I].
            shapes[f"{key}.weight"] = (outputs, *size[-1:], *size[:-1])
            if not norms and f"{path}/bias" in ours:
                shapes[f"{key}.bias"] = (outputs,)
            for norm in norms:
                shapes |= _norm_shapes(norm, outputs)
        for path, norm in self.norms.items():
            shapes |= _norm_shapes(norm, ours[f"{path}/scale"][0])
        return shapes

    def converted(self, tensors: Tensors, ours: Shapes) -> Iterator[tuple[str, np.ndarray]]:
        """Makes our arrays of the released tensors: their paths and numbers, one by one."""
        for path, (key, _) in self.arrays.items():
            yield path, tensors[key].reshape(ours[path])
        for path, (key, *norms) in self.layers.items():
            weight, bias = tensors[f"{key}.weight"], tensors.get(f"{key}.bias")
            for norm in norms:
                scale, shift = _scale_and_shift(tensors, norm, _EPSILON)
                weight, bias = weight.astype(np.float64) * scale[:, None, None, None], shift
            if weight.ndim > 1:
                yield f"{path}/kernel", weight.transpose(*range(2, weight.ndim), 1, 0)
            else:
                yield f"{path}/scale", weight
            if bias is not None:
                yield f"{path}/bias", bias
        for path, norm in self.norms.items():
            scale, shift = _scale_and_shift(tensors, norm, _FLOW_EPSILON)
            yield f"{path}/scale", scale
            yield f"{path}/bias", shift

    def differing(self, tensors: Tensors) -> list[str]:
        """Lists the tensors that have other values than the network takes for granted."""
        return [
            f"{key}: expected {value if value.ndim == 0 else f'{value[:4].tolist()} and so on'}"
            for key, value in self.known.items()
            if not np.array_equal(tensors[key], value)
        ]


def _norm_shapes(norm: str, width: int) -> dict[str, Shape]:
    return {f"{norm}.{leaf}": (width,) for leaf in _STATISTICS} | {norm + _COUNTER: ()}


def _scale_and_shift(tensors: Tensors, norm: str, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """What a batch norm does to each channel, in float64."""
    scale, shift, mean, variance = (
        tensors[f"{norm}.{leaf}"].astype(np.float64) for leaf in _STATISTICS
    )
    scale = scale / np.sqrt(variance + epsilon)
    return scale, shift - mean * scale


def weights_of(loaded: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Finds the tensors of a model in what a checkpoint holds.

    Args:
        loaded: a state_dict, or a dict that has one under `state_dict` or `model`.
        where: the file, for messages.
    Returns:
        The tensors by their names, without what training and compilation put before them.
    Raises:
        ValueError: if there are none, or two are called the same.
    """
    for state in _STATES:
        if isinstance(loaded.get(state), Mapping):
            loaded = loaded[state]
            break
    weights: dict[str, Any] = {}
    for key, value in loaded.items():
        if not isinstance(key, str) or not isinstance(value, np.ndarray):
            continue
        name = key
        while prefix := next((each for each in _WRAPPERS if name.startswith(each)), ""):
            name = name.removeprefix(prefix)
        if name in weights:
            raise ValueError(f"{where}: key '{key}': a second tensor of the name {name}")
        weights[name] = value
    if not weights:
        raise ValueError(f"{where}: no weights; found the keys {listed(map(str, loaded))}")
    return weights


def matching(weights: Mapping[str, Any], table: Table, ours: Shapes) -> int:
    """Counts the tensors of a network that a checkpoint has, by their names alone."""
    return len(table.released_shapes(ours).keys() & _of_parts(weights, table).keys())


def converted(weights: Mapping[str, Any], table: Table, ours: Shapes, where: str) -> Tensors:
    """Turns a network's released weights into ours.

    Args:
        weights: as `weights_of` gives them.
        table: of the network.
        ours: the shapes of our arrays, by path.
        where: the file, for messages.
    Returns:
        Our arrays by path, float32.
    Raises:
        ValueError: naming the tensors that are missing, not expected, or of another shape, or one
            that is no array of finite floats.
    """
    expected = table.released_shapes(ours)
    mine = _of_parts(weights, table)
    tensors = {key: value for key, value in mine.items() if key.startswith(table.parts)}
    absent = [key for key in expected.keys() - tensors.keys() if not key.endswith(_COUNTER)]
    unknown = tensors.keys() - expected.keys()
    wrong = [
        f"{key}: expected {list(expected[key])}, found {list(tensors[key].shape)}"
        for key in expected.keys() & tensors.keys()
        if tensors[key].shape != expected[key]
    ]
    if absent or unknown or wrong:
        raise ValueError(
            f"{where}: not this network's tensors; missing: {listed(absent)}; not expected: "
            f"{listed(unknown)}; of another shape: {listed(wrong)}"
        )
    if differing := table.differing(tensors):
        raise ValueError(f"{where}: not this network: {listed(differing)}")
    _announce(mine.keys() - tensors.keys(), table, where)
    for key, tensor in tensors.items():
        if key.endswith(_COUNTER) or key in table.unused or key in table.known:
            continue
        if not is_float(tensor) or not np.isfinite(tensor).all():
            found = "NaN or infinite ones" if is_float(tensor) else tensor.dtype
            raise ValueError(f"{where}: key '{key}': expected finite floats, found {found}")
    narrow = sorted({t.dtype.name for t in tensors.values() if is_float(t) and t.itemsize < 4})
    if narrow:
        warnings.warn(
            f"{where}: weights of {' and '.join(narrow)}, read as float32; results differ from "
            "those of the float32 checkpoint from the third digit on",
            stacklevel=3,
        )
    # Copies all: tensors may lie in a file that somebody writes over.
    arrays = table.converted(tensors, ours)
    return {path: np.array(array, np.float32, order="C") for path, array in arrays}


def _of_parts(weights: Mapping[str, Any], table: Table) -> dict[str, Any]:
    """Tensors as a whole checkpoint names them, also where the only part was saved alone."""
    if len(table.parts) == 1 and not any(key.startswith(table.parts) for key in weights):
        return {table.parts[0] + key: value for key, value in weights.items()}
    return dict(weights)


def _announce(others: Iterable[str], table: Table, where: str) -> None:
    """Names the parts of a checkpoint that are not read, unless they are always there."""
    counts = Counter(key.split(".")[0] for key in others)
    unread = [f"{part} ({counts[part]})" for part in counts if part not in table.beside]
    if unread:
        warnings.warn(f"{where}: not read, tensors of: {listed(unread)}", stacklevel=3)


def listed(names: Iterable[str]) -> str:
    """Lists the first of some names, and how many more there are."""
    names = sorted(names)
    return "; ".join(names[:6]) + (f"; and {len(names) - 6} more" * (len(names) > 6)) or "none"
