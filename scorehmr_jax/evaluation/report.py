"""The results of an evaluation: collected, summed up, written whole or not at all, printed."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from body_model.files import local_path, write_json, write_npz
from scorehmr_jax.provenance import versions
from scorehmr_jax.screening import STATUS

UNITS = {
    "mpjpe": "mm",
    "re": "mm",
    "pve": "mm",
    "pelvis": "mm",
    "2d": "px",
    "accel": "mm/frame^2",
    "accel_m_s2": "m/s^2",
    "jitter": "10 m/s^3",
}
_TITLES = {
    "mpjpe": "MPJPE",
    "re": "PA-MPJPE",
    "pve": "PVE",
    "pelvis": "pelvis error",
    "2d": "2D error",
    "accel": "acceleration error",
    "accel_m_s2": "acceleration error",
    "jitter": "jitter (WHAM, camera frame)",
}
# Figures of a few frames at once: how many fewer of them there are than frames.
_SHORTER = {"accel": 2, "jitter": 3}
_LISTED = 20  # samples named in print; all are in the files


class Results:
    """Arrays over all samples of a data set, filled batch by batch."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.lengths = list(lengths)
        self.count = sum(lengths)
        self._arrays: dict[str, np.ndarray] = {}

    def add(self, rows: np.ndarray, mask: np.ndarray, values: Mapping[str, Any]) -> None:
        """Stores values of samples: those of a batch [*rows.shape, ...] that are not padding.

        A figure of the frames t, t + 1, ... is stored at t.
        """
        for name, value in values.items():
            value = np.asarray(value)
            missing = rows.shape[-1] - value.shape[rows.ndim - 1]
            if missing:
                fill = [(0, 0)] * (rows.ndim - 1) + [(0, missing)]
                value = np.pad(value, fill, constant_values=np.nan)
            if name not in self._arrays:
                empty = np.nan if value.dtype.kind == "f" else 0
                shape = (self.count, *value.shape[rows.ndim :])
                self._arrays[name] = np.full(shape, empty, value.dtype)
            self._arrays[name][rows[mask]] = value[mask]

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def __getitem__(self, name: str) -> np.ndarray:
        return self._arrays[name]

    def sequences(self, name: str) -> list[np.ndarray]:
        """An array by group, as long as the figure is defined."""
        parts = np.split(self._arrays[name], np.cumsum(self.lengths)[:-1])
        shorter = _SHORTER.get(name.partition("_")[2], 0)
        return [part[: max(len(part) - shorter, 0)] for part in parts]

    def arrays(self) -> dict[str, np.ndarray]:
        """Every array, groups one after another."""
        return {name: np.concatenate(self.sequences(name)) for name in self._arrays}


def summary(
    results: Results, names: Sequence[str], run: Mapping[str, Any], fps: float | None = None
) -> dict[str, Any]:
    """Means and counts of an evaluation, for JSON.

    Args:
        results: with reg_* (before) and opt_* (after) figures, status and stop_step.
        names: of all samples.
        run: whatever else describes the run; kept as it is.
        fps: frames per second, where the groups are sequences.
    """
    figures = [n for n in results.arrays() if n.partition("_")[0] in ("reg", "opt")]
    arrays = {name: np.concatenate(results.sequences(name)) for name in figures}
    means = {name: _mean(array) for name, array in arrays.items()}
    counts = {name: int(np.isfinite(array).sum()) for name, array in arrays.items()}
    sequences = []
    if "opt_accel" in results and fps is not None:
        means |= {f"{p}_accel_m_s2": _physical(means[f"{p}_accel"], fps) for p in ("reg", "opt")}
        firsts = np.concatenate([[0], np.cumsum(results.lengths)[:-1]]).astype(int)
        by_name = {p: results.sequences(f"{p}_accel") for p in ("reg", "opt")}
        for i, first in enumerate(firsts):
            entry: dict[str, Any] = {
                "sequence": str(PurePosixPath(names[int(first)]).parent),
                "frames": results.lengths[i],
            }
            for prefix, parts in by_name.items():
                entry[f"{prefix}_accel"] = _mean(parts[i])
                entry[f"{prefix}_accel_m_s2"] = _physical(_mean(parts[i]), fps)
            sequences.append(entry)
    status, stop = results["status"], results["stop_step"]
    return {
        **run,
        "samples": results.count,
        "groups": len(results.lengths),
        "dropped": results.count - counts["opt_mpjpe"],
        "status": {text: int(np.sum(status == i)) for i, text in enumerate(STATUS)},
        "means": means,
        "counts": counts,
        "units": UNITS,
        "sequences": sequences,
        "stopped_early": [
            {"sample": i, "image": names[i], "step": int(stop[i])}
            for i in map(int, np.flatnonzero(stop >= 0))
        ],
        "versions": versions(),
    }


def write(
    folder: str | Path, summary: Mapping[str, Any], results: Results, names: Sequence[str]
) -> None:
    """Writes metrics.json and per_sample.npz into a folder; each whole or not at all."""
    folder = local_path(folder)
    write_npz(folder / "per_sample.npz", results.arrays() | {"imgname": np.array(names, "U")})
    write_json(folder / "metrics.json", summary)


def table(summary: Mapping[str, Any]) -> str:
    """The figures before and after, and what was left out."""
    means, counts = summary["means"], summary["counts"]
    lines = [f"{'':28}{'unit':>12}{'before':>10}{'after':>10}{'samples':>9}"]
    for figure, title in _TITLES.items():
        before, after = (means.get(f"{prefix}_{figure}") for prefix in ("reg", "opt"))
        if before is None or after is None:
            continue
        count = counts[f"opt_{figure.removesuffix('_m_s2')}"]
        lines.append(f"{title:28}{UNITS[figure]:>12}{before:10.2f}{after:10.2f}{count:9}")
    for entry in summary["sequences"]:
        if entry["opt_accel"] is not None:
            lines.append(
                f"  {entry['sequence']} ({entry['frames']} frames): acceleration error "
                f"{entry['reg_accel']:.2f} -> {entry['opt_accel']:.2f} mm/frame^2, "
                f"{entry['reg_accel_m_s2']:.2f} -> {entry['opt_accel_m_s2']:.2f} m/s^2"
            )
    lines.append(
        f"{summary['samples']} samples in {summary['groups']} group(s); "
        f"{summary['dropped']} dropped: no true joints, or numbers that are not finite"
    )
    lines += [f"  {n} {text}" for text, n in summary["status"].items() if n]
    stopped = summary["stopped_early"]
    if stopped:
        lines.append(f"{len(stopped)} stopped early, at guided step:")
        lines += [f"  #{s['sample']} {s['image']}: {s['step']}" for s in stopped[:_LISTED]]
        if len(stopped) > _LISTED:
            lines.append("  ... (all in metrics.json)")
    return "\n".join(lines)


def comparison(
    results: Results,
    path: str | Path,
    other: Mapping[str, np.ndarray],
    names: Sequence[str],
    tolerance: float = 0.02,
) -> str:
    """How far the per-sample figures are from another run's, and which samples differ.

    Args:
        results: this run's.
        path: the other run's file.
        other: what it holds: reg_mpjpe, opt_re, ... of the same samples.
        names: of all samples.
        tolerance: differences above are named, and figures that one of the two does not know.
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
    lines = [f"compared with {path}:"]
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
        if len(difference) == results.count:
            for i in map(int, np.flatnonzero(difference > tolerance)):
                far[i] = max(far.get(i, 0.0), float(difference[i]))
    for i, largest in sorted(far.items()):
        step = int(results["stop_step"][i])
        stopped = f"stopped here at step {step}" if step >= 0 else "did not stop here"
        gap = f"differs by {largest:.3f}" if np.isfinite(largest) else "is known in one alone"
        lines.append(f"  #{i} {names[i]} {gap}: {stopped}")
    return "\n".join(lines)


def progress(batches: Sequence[Any]) -> Iterable[Any]:
    """The batches, with a progress bar on a terminal; tqdm's where it is installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        return _counted(batches)
    return tqdm(batches, unit="batch", disable=None)


def _counted(batches: Sequence[Any]) -> Iterator[Any]:
    for done, batch in enumerate(batches, 1):
        yield batch
        if sys.stderr.isatty():
            end = "\n" if done == len(batches) else ""
            print(f"\rbatch {done} of {len(batches)}", end=end, file=sys.stderr, flush=True)


def _mean(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean(dtype=np.float64)) if len(known) else None


def _physical(accel: float | None, fps: float) -> float | None:
    return None if accel is None else accel * fps**2 / 1000
