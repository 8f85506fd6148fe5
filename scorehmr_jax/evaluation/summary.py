"""The results of an evaluation in few figures, as JSON has them."""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Int

from scorehmr_jax.evaluation.intervals import Interval, mean_interval, paired_difference
from scorehmr_jax.evaluation.made_worse import worse_share
from scorehmr_jax.evaluation.metric_table import Metric
from scorehmr_jax.evaluation.results import Results
from scorehmr_jax.provenance import versions
from scorehmr_jax.screening import STATUS


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
    where = {key: results.sequence_of(key, sequence) for key in measured}
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


def _json(interval: Interval | None) -> dict[str, Any] | None:
    return None if interval is None else interval.as_json()


def _mean(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean(dtype=np.float64)) if len(known) else None
