"""Order of training samples, as a pure function of seed, step and place in the batch.

Nothing is carried from step to step: a run is resumed by its step number alone, and every process
computes its own rows. Each set of the mixture is gone through in a random order of its own, epoch
by epoch; every batch holds the sets by weight, within one sample. One program in 32-bit integers
serves numpy and jax.numpy, which agree to the bit.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Int, Int32

from body_model.pytree import Array

Steps = int | np.integer | Int[Array, "*steps"]

# Rounds of the swap-or-not shuffle (Hoang et al., 2012). Encryption needs more rounds; an even
# spread without visible patterns does not.
_ROUNDS = 24
_SLOT_ROUNDS = 12  # enough for a batch, which is small
_GOLDEN = 0x9E3779B9
_SLOT, _OFFSET, _EPOCH, _SWAP = 1, 2, 3, 4  # first words of hashes that must not be equal
_FRACTION = 16  # bits of a slot's fraction
_MAX_BATCH = 1 << 15


@dataclass(frozen=True)
class Order:
    """The order of a mixture of sets, whose samples are numbered one set after the other."""

    sizes: tuple[int, ...]  # samples in each set, at least one
    weights: tuple[float, ...]  # each set's share of draws, up to a factor; above 0
    batch: int  # samples in a step, over all processes
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.sizes or len(self.sizes) != len(self.weights):
            raise ValueError(
                f"expected a weight for each of the sets, found {len(self.weights)} weights and "
                f"{len(self.sizes)} sets"
            )
        if min(self.sizes) < 1 or sum(self.sizes) >= 2**31:
            raise ValueError(f"expected sets of 1 to 2^31 samples in all, found {self.sizes}")
        if not all(0 < w < float("inf") for w in self.weights):
            raise ValueError(f"expected weights above 0, found {self.weights}")
        if not 1 <= self.batch <= _MAX_BATCH:
            raise ValueError(f"batch: expected 1 to {_MAX_BATCH}, found {self.batch}")

    @cached_property
    def _bounds(self) -> list[int]:
        """End of each set among the slots of a batch, in fractions of a slot, after a 0."""
        shares = np.cumsum(np.array(self.weights, np.float64))
        total = self.batch << _FRACTION
        return [0, *(round(total * float(s / shares[-1])) for s in shares)]

    @cached_property
    def _table(self) -> dict[str, np.ndarray]:
        """Numbers that are fixed for each set."""
        widths = np.diff(np.array(self._bounds))
        most = np.maximum(-(-widths >> _FRACTION), 1)  # samples of a set in one batch
        sizes = np.array(self.sizes)
        columns = {
            "lower": np.array(self._bounds[:-1]),
            "most": most,
            "sizes": sizes,
            "steps": np.maximum(sizes // most, 1),  # steps of an epoch
            "epochs": -(-most // sizes),  # that a step begins: several of a small set
            "first": np.cumsum(sizes) - sizes,
        }
        return {name: values.astype(np.uint32) for name, values in columns.items()}

    def rows(self, step: Steps, places: Int[Array, " n"], xp: Any = np) -> Int32[Array, "*steps n"]:
        """Computes which samples a step draws.

        Args:
            step: numbers of steps, counted from 0; also traced.
            places: in the batch, 0 to batch - 1.
            xp: numpy or jax.numpy.
        Returns:
            Numbers among all sets' samples. A set is gone through once before a sample comes
            again, but for the few left over when its share of a batch does not divide it.
        """
        # uint32 wraps around on purpose, of which numpy warns for scalars.
        with np.errstate(over="ignore"):
            return self._rows(step, places, xp)

    def _rows(self, step: Any, places: Any, xp: Any) -> Any:
        step = xp.asarray(step).astype(np.uint32)[..., None]
        places = xp.asarray(places).astype(np.uint32) + xp.zeros_like(step)
        seed = np.uint32(self.seed & 0xFFFFFFFF)
        # Sets lie side by side in the slots. Places are shuffled among them: noise levels are
        # stratified over the batch, and no set may get the same levels again and again.
        key = _hash(xp, seed, _SLOT, step)
        slot = _permuted(xp, key, places, np.uint32(self.batch), _SLOT_ROUNDS)
        offset = _hash(xp, seed, _OFFSET, step) & np.uint32((1 << _FRACTION) - 1)
        position = (slot << np.uint32(_FRACTION)) + offset
        which = xp.zeros_like(slot)
        for bound in self._bounds[1:-1]:
            which = which + (position >= np.uint32(bound)).astype(np.uint32)
        table = {name: xp.asarray(values)[which] for name, values in self._table.items()}
        # First slot of the sample's set in this step.
        lower = table["lower"]
        begin = xp.where(lower > offset, lower - offset, np.uint32(0))
        begin = (begin + np.uint32((1 << _FRACTION) - 1)) >> np.uint32(_FRACTION)
        within = step % table["steps"] * table["most"] + (slot - begin)
        epoch = step // table["steps"] * table["epochs"] + within // table["sizes"]
        key = _hash(xp, seed, _EPOCH, which, epoch)
        row = _permuted(xp, key, within % table["sizes"], table["sizes"])
        return (table["first"] + row).astype(np.int32)


def batch_indices(
    order: Order, step: Steps, process_index: int = 0, process_count: int = 1
) -> Int32[np.ndarray, "*steps n"]:
    """Computes which samples one process draws in a step.

    The parts of all processes, one after the other, are the batch of a single process.

    Args:
        order: of the mixture.
        step: numbers of steps.
        process_index: of the process, counted from 0.
        process_count: of all of them.
    Returns:
        Numbers of samples, batch / process_count of them for each step.
    Raises:
        ValueError: if the batch is no multiple of the number of processes, or there is no process
            of that index.
    """
    if process_count < 1 or order.batch % process_count:
        raise ValueError(
            f"batch: expected a multiple of {process_count} processes, found {order.batch}"
        )
    if not 0 <= process_index < process_count:
        raise ValueError(f"process_index: expected 0 to {process_count - 1}, found {process_index}")
    size = order.batch // process_count
    return np.asarray(order.rows(step, process_index * size + np.arange(size)))


def traced_indices(order: Order, step: Int[Array, ""]) -> Int32[Array, " batch"]:
    """Computes on the device which samples a step draws; `step` may be traced."""
    import jax.numpy as jnp

    return order.rows(step, jnp.arange(order.batch), jnp)


def _permuted(xp: Any, key: Any, x: Any, n: Any, rounds: int = _ROUNDS) -> Any:
    """Applies a random permutation of 0 to n - 1 to x; key, x and n broadcast."""
    for i in range(rounds):
        turn = _hash(xp, key, i) % n
        # Numbers that add up to `turn` are a pair, which is swapped or not.
        other = turn + n - x
        other = xp.where(other >= n, other - n, other)
        swap = _hash(xp, key ^ np.uint32(_GOLDEN), _SWAP + i, xp.maximum(x, other))
        # The lowest bit of a product is the least mixed one.
        x = xp.where((swap >> np.uint32(31)) > 0, other, x)
    return x


def _hash(xp: Any, *words: Any) -> Any:
    """Mixes some words into 32 bits."""
    h: Any = np.uint32(_GOLDEN)
    for word in words:
        word = word if hasattr(word, "dtype") else np.uint32(word)
        h = _mixed((h ^ word) * np.uint32(0x85EBCA6B) + np.uint32(_GOLDEN))
    return h


def _mixed(h: Any) -> Any:
    """Applies a bijection of 32 bits with low bias (C. Wellons, 2018)."""
    h = (h ^ (h >> np.uint32(16))) * np.uint32(0x7FEB352D)
    h = (h ^ (h >> np.uint32(15))) * np.uint32(0x846CA68B)
    return h ^ (h >> np.uint32(16))
