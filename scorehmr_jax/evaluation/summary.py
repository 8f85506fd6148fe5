"""The results of an evaluation in few figures: for JSON, for print, beside another run's."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Int

from scorehmr_jax.evaluation.intervals import Interval, mean_interval, paired_difference
from scorehmr_jax.evaluation.metric_table import Metric
from scorehmr_jax.evaluation.results import Results
from scorehmr_jax.provenance import versions
from scorehmr_jax.screening import STATUS

_LISTED = 20  # samples named in print; all are in the files
WORSE = 2.0  # mm of PA-MPJPE by which a sample has to rise to count as made worse


def summarize(
    results: Results,
    names: Sequence[str],
    metrics: Mapping[str, Metric],
    run: Mapping[str, Any],
    sequence: Int[np.ndarray, " N"],
) -> dict[str, Any]:
    """Sums an evaluation up in means, intervals and counts, as JSON has them.

    Args:
        results: with the metrics before (`reg_NAME`) and after (`opt_NAME`), status and stop_step.
        names: of all samples.
        metrics: METRICS.
        run: whatever else describes the run; kept as it is.
        sequence: of each sample, which are drawn together for intervals.
    """
    measured = {
        f"{prefix}_{name}": metric
        for name, metric in metrics.items()
        for prefix in ("reg", "opt")
        if f"{prefix}_{name}" in results
    }
    parts = {key: results.sequences(key) for key in measured}
    whole = {key: np.concatenate(arrays) for key, arrays in parts.items()}
    counts = {key: int(np.isfinite(array).sum()) for key, array in whole.items()}
    where = {key: _kept(results, sequence, key) for key in measured}
    intervals = {key: mean_interval(whole[key], where[key]) for key in measured}
    changes = {
        name: paired_difference(whole[f"opt_{name}"], whole[f"reg_{name}"], where[f"opt_{name}"])
        for name in metrics
        if f"opt_{name}" in whole and f"reg_{name}" in whole
    }
    worse = worse_share(whole, where)
    by_sequence = [key for key, metric in measured.items() if metric.by_sequence]
    firsts = np.cumsum([0, *results.lengths[:-1]])
    sequences = [
        {
            "sequence": str(PurePosixPath(names[int(first)]).parent),
            "frames": results.lengths[i],
            **{key: _mean(parts[key][i]) for key in by_sequence},
        }
        for i, first in enumerate(firsts)
        if by_sequence
    ]
    status, stop = results["status"], results["stop_step"]
    return {
        **run,
        "samples": results.count,
        "groups": len(results.lengths),
        "dropped": results.count - counts["opt_mpjpe"],
        "status": {text: int(np.sum(status == i)) for i, text in enumerate(STATUS)},
        "means": {key: _mean(array) for key, array in whole.items()},
        "counts": counts,
        "intervals_95": {key: _json(interval) for key, interval in intervals.items()},
        "changes_95": {name: _json(change) for name, change in changes.items()},
        "worse_2mm_share": _json(worse),
        "units": {name: metric.unit for name, metric in metrics.items()},
        "sequences": sequences,
        "stopped_early": [
            {"sample": i, "image": names[i], "step": int(stop[i])}
            for i in map(int, np.flatnonzero(stop >= 0))
        ],
        "versions": versions(),
    }


def worse_share(
    figures: Mapping[str, np.ndarray], sequence: Mapping[str, np.ndarray]
) -> Interval | None:
    """Gives the share of samples whose PA-MPJPE rose by more than 2 mm; None if it is not known.

    Args:
        figures: with `reg_re` and `opt_re` [N].
        sequence: by name, of each sample.
    """
    if "opt_re" not in figures or "reg_re" not in figures:
        return None
    rise = figures["opt_re"] - figures["reg_re"]
    return mean_interval(np.where(np.isfinite(rise), rise > WORSE, np.nan), sequence["opt_re"])


def table(summary: Mapping[str, Any], metrics: Mapping[str, Metric]) -> str:
    """Prints the figures before and after, and what was left out.

    Args:
        summary: from `summarize`.
        metrics: METRICS.
    """
    means, counts = summary["means"], summary["counts"]
    lines = [f"protocol {summary['protocol']['name']}"]
    lines += [f"  {key}: {text}" for key, text in summary["protocol"]["described"].items()]
    head = f"{'unit':>12}{'before':>10}{'after':>10}{'samples':>9}"
    lines.append(f"{'':28}{head}   95% interval after; of the change")
    for name, metric in metrics.items():
        before, after = (means.get(f"{prefix}_{name}") for prefix in ("reg", "opt"))
        if before is not None and after is not None:
            figures = f"{before:10.2f}{after:10.2f}{counts[f'opt_{name}']:9}"
            ranges = (summary["intervals_95"][f"opt_{name}"], summary["changes_95"][name])
            lines.append(f"{metric.title:28}{metric.unit:>12}{figures}   {_ranges(ranges)}")
    if worse := summary["worse_2mm_share"]:
        title = "made worse by over 2 mm PA"
        share, places = f"{100 * worse['mean']:20.1f}", f"{worse['samples']:9}"
        percent = {k: None if worse[k] is None else 100 * worse[k] for k in ("low", "high")}
        lines.append(f"{title:28}{'%':>12}{share}{places}   {_ranges([percent])}")
    for entry in summary["sequences"]:
        changes: dict[str, list[str]] = {}
        for name, metric in metrics.items():
            before, after = (entry.get(f"{prefix}_{name}") for prefix in ("reg", "opt"))
            if before is not None and after is not None:
                change = f"{before:.2f} -> {after:.2f} {metric.unit}"
                changes.setdefault(metric.title, []).append(change)
        for title, texts in changes.items():
            about = f"{entry['sequence']} ({entry['frames']} frames)"
            lines.append(f"  {about}: {title} {', '.join(texts)}")
    lines.append(
        f"{summary['samples']} samples in {summary['groups']} group(s); "
        f"{summary['dropped']} dropped: no true joints, or numbers that are not finite"
    )
    frames = summary.get("frames", {})
    if frames:
        lines.append("frames: " + ", ".join(f"{n} {what}" for what, n in frames.items()))
    lines += [f"  {note}" for note in summary.get("notes", ())]
    lines += [f"  {n} {text}" for text, n in summary["status"].items() if n]
    stopped = summary["stopped_early"]
    if stopped:
        lines.append(f"{len(stopped)} stopped early, at guided step:")
        lines += [f"  #{s['sample']} {s['image']}: {s['step']}" for s in stopped[:_LISTED]]
        if len(stopped) > _LISTED:
            lines.append("  ... (all in metrics.json)")
    return "\n".join(lines)


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
            change = paired_difference(ours[name], other[name], _kept(results, sequence, name))
            if change is not None:
                mean = f"  {name:12} mean difference {change.mean:+.3f}"
                lines.append(f"{mean} {_ranges([change.as_json()])}, {change.samples} samples")
        if len(difference) == results.count:
            for i in map(int, np.flatnonzero(difference > tolerance)):
                far[i] = max(far.get(i, 0.0), float(difference[i]))
    for i, largest in sorted(far.items()):
        step = int(results["stop_step"][i])
        stopped = f"stopped here at step {step}" if step >= 0 else "did not stop here"
        gap = f"differs by {largest:.3f}" if np.isfinite(largest) else "is known in one alone"
        lines.append(f"  #{i} {names[i]} {gap}: {stopped}")
    return "\n".join(lines)


def _kept(results: Results, sequence: np.ndarray, name: str) -> np.ndarray:
    """The sequence of each value of a figure, of which a group may have fewer than samples."""
    ends = np.cumsum(results.lengths)[:-1]
    parts = zip(np.split(sequence, ends), results.sequences(name), strict=True)
    return np.concatenate([numbers[: len(values)] for numbers, values in parts])


def _json(interval: Interval | None) -> dict[str, Any] | None:
    return None if interval is None else interval.as_json()


def _ranges(intervals: Sequence[Mapping[str, Any] | None]) -> str:
    known = [
        "-" if not i or i["low"] is None else f"[{i['low']:.2f}, {i['high']:.2f}]"
        for i in intervals
    ]
    return "; ".join(known)


def _mean(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean(dtype=np.float64)) if len(known) else None
