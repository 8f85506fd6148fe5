"""Intervals of means by the bootstrap over sequences (Efron and Tibshirani, 1993, chapter 8).

Frames of one sequence are alike, so whole sequences are drawn, not frames: an interval over frames
would be several times too narrow. Two methods are compared on the same draws, frame by frame.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Real

LEVEL = 0.95
# As many as ten million sequences make, but 500 at least: of many sequences fewer draws are enough.
_DRAWS, _MOST = 4000, 10_000_000
_SEED = 0  # the same draws for every method, so that figures are the same whenever they are made


@dataclass(frozen=True)
class Interval:
    """A mean over samples and the interval that it lies in."""

    mean: float
    low: float | None  # None: there is one sequence, which says nothing of others
    high: float | None
    samples: int  # that are known
    sequences: int  # that these are of

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.mean:.1f}"
        return f"{self.mean:.1f} [{self.low:.1f}, {self.high:.1f}]"

    def as_json(self) -> dict[str, float | int | None]:
        """Gives the fields as JSON has them."""
        return asdict(self)


def mean_interval(
    values: Real[np.ndarray, " N"], sequence: Int[np.ndarray, " N"]
) -> Interval | None:
    """Gives the mean of what is known, with its 95% percentile interval.

    Args:
        values: a figure of each sample; NaN where it is not known.
        sequence: the number of the sequence that each sample is of.
    Returns:
        None if nothing is known.
    Raises:
        ValueError: if the shapes differ.
    """
    values = np.asarray(values, np.float64)
    if values.shape != np.shape(sequence) or values.ndim != 1:
        raise ValueError(
            f"values: expected one for each sample {np.shape(sequence)}, found {values.shape}"
        )
    known = np.isfinite(values)
    if not known.any():
        return None
    _, rows = np.unique(sequence[known], return_inverse=True)
    counts = np.bincount(rows).astype(np.float64)
    sums = np.bincount(rows, values[known])
    mean = float(sums.sum() / counts.sum())
    if len(counts) == 1:
        return Interval(mean, None, None, int(known.sum()), 1)
    means = _drawn(sums, counts)
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return Interval(mean, float(low), float(high), int(known.sum()), len(counts))


def paired_difference(
    values: Real[np.ndarray, " N"],
    others: Real[np.ndarray, " N"],
    sequence: Int[np.ndarray, " N"],
) -> Interval | None:
    """Gives the mean of values - others over the samples that both know.

    Args:
        values: of one method.
        others: of another, for the same samples.
        sequence: the number of the sequence that each sample is of.
    Returns:
        None if no sample is known to both. Below 0 throughout: the first one's figures are lower.
    Raises:
        ValueError: if the shapes differ.
    """
    values, others = (np.asarray(v, np.float64) for v in (values, others))
    if values.shape != others.shape:
        raise ValueError(
            f"others: expected the same samples {values.shape}, found {others.shape}; methods are "
            "compared on the same samples only"
        )
    return mean_interval(values - others, sequence)


def brackets(interval: Mapping[str, Any] | None) -> str:
    """Prints the ends of an interval that is as JSON has it; "-" where there is none."""
    if not interval or interval["low"] is None:
        return "-"
    return f"[{interval['low']:.2f}, {interval['high']:.2f}]"


def _drawn(sums: Float[np.ndarray, " S"], counts: Float[np.ndarray, " S"]) -> np.ndarray:
    """Means of as many sequences as there are, drawn with replacement."""
    random, number = np.random.default_rng(_SEED), len(counts)
    # Some draws at a time: data sets of single images have thousands of sequences.
    block = max(1, 2_000_000 // number)
    draws = max(500, min(_DRAWS, _MOST // number))
    means = []
    for start in range(0, draws, block):
        size = min(block, draws - start)
        times = random.multinomial(number, np.full(number, 1 / number), size=size)
        means.append((times @ sums) / (times @ counts))
    return np.concatenate(means)
