"""The results of an evaluation beside those of another run, sample by sample."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from scorehmr_jax.evaluation.intervals import brackets, paired_difference
from scorehmr_jax.evaluation.results import Results


def check_comparable(path: str | Path, other: Mapping[str, np.ndarray]) -> None:
    """Refuses a file to compare with that is no run's, before anything is evaluated.

    Args:
        path: of the file.
        other: what it holds.
    Raises:
        ValueError: naming the figures that are no numbers, or if there are none.
    """
    held = ", ".join(f"{k} {v.dtype} {v.shape}" for k, v in other.items()) or "nothing"
    figures = {k: v for k, v in other.items() if k.startswith(("reg_", "opt_"))}
    if not figures or any(v.dtype.kind not in "fiub" for v in figures.values()):
        raise ValueError(
            f"{path}: expected numbers reg_mpjpe, opt_re, ... to compare with; found {held}"
        )


def difference_from(
    results: Results,
    path: str | Path,
    other: Mapping[str, np.ndarray],
    names: Sequence[str],
    tolerance: float = 0.02,
    sequence: Int[np.ndarray, " N"] | None = None,
) -> str:
    """Tells how far the figures are from another run's, on the mean and sample by sample.

    Args:
        results: this run's.
        path: the other run's file.
        other: what it holds: reg_mpjpe, opt_re, ... of the same samples.
        names: of all samples.
        tolerance: differences above are named, and figures that one of the two does not know.
        sequence: of each sample; with it the mean difference has its 95% interval.
    Raises:
        ValueError: if the file has no figure of as many samples.
    """
    ours = results.arrays()
    common = [
        name
        for name in ours
        if name.startswith(("reg_", "opt_"))
        and name in other
        and other[name].shape == ours[name].shape
    ]
    if not common:
        raise ValueError(
            f"{path}: expected reg_mpjpe, opt_re, ... of {results.count} samples to compare with; "
            f"found {', '.join(f'{k} {v.shape}' for k, v in other.items()) or 'nothing'}"
        )
    if "imgname" in other and list(map(str, other["imgname"])) != list(map(str, names)):
        raise ValueError(
            f"{path}: other samples, or in another order; runs are compared sample by sample"
        )
    lines = [f"compared with {path}:"]
    others = [n for n in other if n.startswith(("reg_", "opt_")) and n not in common]
    if others:
        lines.append(
            f"  not compared, as not measured here or of other samples: {', '.join(others)}"
        )
    far: dict[int, float] = {}
    for name in common:
        difference = np.abs(ours[name].astype(np.float64) - other[name])
        known = np.isfinite(difference)
        lines.append(
            f"  {name:12} largest difference {np.max(difference, initial=0, where=known):.5f}, "
            f"{int(np.sum(difference > tolerance))} of {len(difference)} above {tolerance}"
        )
        if (alone := np.isfinite(ours[name]) != np.isfinite(other[name])).any():
            lines[-1] += f", {int(alone.sum())} known in one of the two alone"
        difference[alone] = np.inf
        if sequence is not None and name.startswith("opt_"):
            change = paired_difference(ours[name], other[name], results.sequence_of(name, sequence))
            if change is not None:
                mean = f"  {name:12} mean difference {change.mean:+.3f}"
                lines.append(f"{mean} {brackets(change.as_json())}, {change.samples} samples")
        if len(difference) == results.count:
            for i in map(int, np.flatnonzero(difference > tolerance)):
                far[i] = max(far.get(i, 0.0), float(difference[i]))
    for i, largest in sorted(far.items()):
        step = int(results["stop_step"][i])
        stopped = f"stopped here at step {step}" if step >= 0 else "did not stop here"
        gap = f"differs by {largest:.3f}" if np.isfinite(largest) else "is known in one alone"
        lines.append(f"  #{i} {names[i]} {gap}: {stopped}")
    return "\n".join(lines)
