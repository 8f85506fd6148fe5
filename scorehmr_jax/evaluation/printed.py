"""The results of an evaluation in print."""

from collections.abc import Mapping
from typing import Any

from scorehmr_jax.evaluation.intervals import brackets
from scorehmr_jax.evaluation.metric_table import Metric

_LISTED = 20  # samples named in print; all are in the files


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
            told = "; ".join(map(brackets, ranges))
            lines.append(f"{metric.title:28}{metric.unit:>12}{figures}   {told}")
    if worse := summary["worse_2mm_share"]:
        title = "made worse by over 2 mm PA"
        share, places = f"{100 * worse['mean']:20.1f}", f"{worse['samples']:9}"
        percent = {k: None if worse[k] is None else 100 * worse[k] for k in ("low", "high")}
        lines.append(f"{title:28}{'%':>12}{share}{places}   {brackets(percent)}")
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
