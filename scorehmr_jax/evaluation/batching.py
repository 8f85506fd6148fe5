"""Batches of samples and of groups of any length, in few shapes: each shape compiles once."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int


class Rows(NamedTuple):
    """The samples of one batch."""

    rows: Int[np.ndarray, "..."]  # [n] or [g, n] numbers of the samples
    mask: Bool[np.ndarray, "..."]  # False for padding, which comes last


def independent(count: int, size: int) -> Iterator[Rows]:
    """Makes batches of one size over samples that have nothing to do with each other.

    Args:
        count: samples.
        size: of a batch, at most.
    Yields:
        rows and mask [n].
    """
    size = min(size, count)
    for start in range(0, count, size):
        rows = np.arange(start, start + size)
        yield Rows(np.minimum(rows, count - 1), rows < count)


def grouped(lengths: Sequence[int], size: int) -> Iterator[Rows]:
    """Makes batches of whole groups, those of about one length together.

    Lengths are rounded up to 1, 1.5, 2, 3, 4, 6, 8, 12, ... so that a data set of videos of any
    length compiles a few times, and at most half of a group is padding.

    Args:
        lengths: samples of each group; groups lie one after another.
        size: samples of a batch, at most; a longer group is a batch of its own.
    Yields:
        rows and mask [g, n].
    """
    starts = np.cumsum([0, *lengths[:-1]])
    longest = max(lengths)
    padded = np.array([min(_round_up(n), longest) for n in lengths])
    for length in np.unique(padded):
        groups = np.flatnonzero(padded == length)
        together = min(max(1, size // length), len(groups))
        for first in range(0, len(groups), together):
            chosen = groups[first : first + together]
            fill = np.full(together - len(chosen), chosen[-1])
            ids = np.concatenate([chosen, fill]).astype(int)
            count = np.asarray(lengths)[ids, None]
            column = np.arange(length)
            rows = starts[ids, None] + np.minimum(column, count - 1)
            real = np.arange(together)[:, None] < len(chosen)
            yield Rows(rows, (column < count) & real)


def _round_up(n: int) -> int:
    power = 1 << (n - 1).bit_length()
    return power * 3 // 4 if power >= 4 and n <= power * 3 // 4 else power
