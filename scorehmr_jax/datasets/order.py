"""Which samples a training step draws: a pure function of seed, step and place in the batch.

Nothing is carried from step to step, so a run is resumed by its step number alone, and every
process works out its own rows. Each set of the mixture is gone through in a random order of its
own, epoch by epoch; every batch holds the sets by weight, within one sample. Written once, in
32-bit integers, for numpy and for jax.numpy: the two agree to the bit.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from scorehmr_jax.types import Array

# Rounds of the swap-or-not shuffle (Hoang et al., 2012). Security asks for more; an even spread
# without visible patterns does not.
_ROUNDS = 24
_SLOT_ROUNDS = 12  # a batch is small
_GOLDEN = 0x9E3779B9
_SLOT, _OFFSET, _EPOCH, _SWAP = 1, 2, 3, 4  # what a hash is for
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
        """Where each set ends among the slots of a batch, in fractions of a slot."""
        shares = np.cumsum(np.array(self.weights, np.float64))
        total = self.batch << _FRACTION
        return [0, *(round(total * float(s / shares[-1])) for s in shares)]

    @cached_property
    def _table(self) -> dict[str, np.ndarray]:
        """What is fixed for each set."""
        widths = np.diff(np.array(self._bounds))
        most = np.maximum(-(-widths >> _FRACTION), 1)  # samples of a set in one batch
        sizes = np.array(self.sizes)
        columns = {
            "lower": np.array(self._bounds[:-1]),
            "most": most,
            "sizes": sizes,
            "steps": np.maximum(sizes // most, 1),  # steps of an epoch
            "epochs": -(-most // sizes),  # begun in one step, of a set smaller than its share
            "first": np.cumsum(sizes) - sizes,
        }
        return {name: values.astype(np.uint32) for name, values in columns.items()}

    def rows(self, step: Any, places: Any, xp: Any = np) -> Any:
        """Numbers of the samples that a step draws.

        Args:
            step: [...] steps, counted from 0; integers, also traced.
            places: [n] places in the batch, 0 to batch - 1.
            xp: numpy or jax.numpy.
        Returns:
            [..., n] int32, among all sets' samples. A set is gone through once before a sample
            comes again, but for the few left over when its share of a batch does not divide it.
        """
        # uint32 is meant to wrap; numpy warns of it for scalars.
        with np.errstate(over="ignore"):
            return self._rows(step, places, xp)

    def _rows(self, step: Any, places: Any, xp: Any) -> Any:
        step = xp.asarray(step).astype(np.uint32)[..., None]
        places = xp.asarray(places).astype(np.uint32) + xp.zeros_like(step)
        seed = np.uint32(self.seed & 0xFFFFFFFF)
        # Sets lie side by side in the slots; places are shuffled, as noise levels are stratified
        # over the batch and must not go with one set.
        slot = _permuted(xp, _hash(xp, seed, _SLOT, step), places, np.uint32(self.batch),
                         _SLOT_ROUNDS)  # fmt: skip
        offset = _hash(xp, seed, _OFFSET, step) & np.uint32((1 << _FRACTION) - 1)
        position = (slot << np.uint32(_FRACTION)) + offset
        which = xp.zeros_like(slot)
        for bound in self._bounds[1:-1]:
            which = which + (position >= np.uint32(bound)).astype(np.uint32)
        table = {name: xp.asarray(values)[which] for name, values in self._table.items()}
        # The set's first slot in this step, and how many slots past it.
        lower = table["lower"]
        begin = xp.where(lower > offset, lower - offset, np.uint32(0))
        begin = (begin + np.uint32((1 << _FRACTION) - 1)) >> np.uint32(_FRACTION)
        within = step % table["steps"] * table["most"] + (slot - begin)
        epoch = step // table["steps"] * table["epochs"] + within // table["sizes"]
        key = _hash(xp, seed, _EPOCH, which, epoch)
        row = _permuted(xp, key, within % table["sizes"], table["sizes"])
        return (table["first"] + row).astype(np.int32)


def batch_indices(
    order: Order, step: Any, process_index: int = 0, process_count: int = 1
) -> np.ndarray:
    """One process's part of the samples that a step draws, [..., batch / process_count] int32.

    The parts of all processes, one after the other, are the batch of a single process.

    Args:
        order: of the mixture.
        step: [...] numbers of steps.
        process_index, process_count: which part.
    Raises:
        ValueError: if the batch is no multiple of the number of processes.
    """
    if order.batch % process_count or not 0 <= process_index < process_count:
        raise ValueError(
            f"batch size {order.batch} is no multiple of {process_count} processes, or there is no "
            f"process {process_index}"
        )
    size = order.batch // process_count
    return order.rows(step, process_index * size + np.arange(size))


def traced_indices(order: Order, step: Array) -> Array:
    """The whole batch's samples, [batch] int32, on the device: `step` may be traced."""
    import jax.numpy as jnp

    return order.rows(step, jnp.arange(order.batch), jnp)


def _permuted(xp: Any, key: Any, x: Any, n: Any, rounds: int = _ROUNDS) -> Any:
    """Where a random permutation of 0 to n - 1 takes x; key, x and n broadcast."""
    for i in range(rounds):
        turn = _hash(xp, key, i) % n
        # Pairs that add up to the turn are swapped, or not.
        other = turn + n - x
        other = xp.where(other >= n, other - n, other)
        swap = _hash(xp, key ^ np.uint32(_GOLDEN), _SWAP + i, xp.maximum(x, other))
        # The lowest bit of a product is the least mixed one.
        x = xp.where((swap >> np.uint32(31)) > 0, other, x)
    return x


def _hash(xp: Any, *words: Any) -> Any:
    """32 mixed bits of some words."""
    h: Any = np.uint32(_GOLDEN)
    for word in words:
        word = word if hasattr(word, "dtype") else np.uint32(word)
        h = _mixed((h ^ word) * np.uint32(0x85EBCA6B) + np.uint32(_GOLDEN))
    return h


def _mixed(h: Any) -> Any:
    """A bijection of 32 bits with low bias (C. Wellons, 2018)."""
    h = (h ^ (h >> np.uint32(16))) * np.uint32(0x7FEB352D)
    h = (h ^ (h >> np.uint32(15))) * np.uint32(0x846CA68B)
    return h ^ (h >> np.uint32(16))
