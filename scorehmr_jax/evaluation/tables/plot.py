"""Ablations as pictures."""

from collections.abc import Sequence
from pathlib import Path

from body_model.files import writing
from scorehmr_jax.evaluation.metric_table import METRICS
from scorehmr_jax.evaluation.tables.fill import Filled
from scorehmr_jax.evaluation.tables.layout import Table


def draw(path: Path, table: Table, rows: Sequence[Filled]) -> None:
    """Draws an ablation: a figure along its axis, with intervals, beside what was published.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise ImportError(f"{path}: needs matplotlib: pip install 'scorehmr-jax[viz]'") from None
    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for column in table.columns:
        ours = [(r.row.place, r.cells[column].found) for r in rows]
        points = [(x, i) for x, i in ours if i is not None and x is not None]
        if points:
            x = [place for place, _ in points]
            mean = [i.mean for _, i in points]
            below = [i.mean - (i.mean if i.low is None else i.low) for _, i in points]
            above = [(i.mean if i.high is None else i.high) - i.mean for _, i in points]
            axes.errorbar(x, mean, [below, above], marker="o", capsize=3, label=column.title)
        told = [(r.row.place, r.cells[column].published) for r in rows]
        paper = [(x, y) for x, y in told if y is not None and x is not None]
        if paper:
            axes.plot(*zip(*paper, strict=True), "k--", marker="x", label="published")
    axes.set_xlabel(table.axis)
    axes.set_ylabel(f"{METRICS[table.columns[0].metric].title}, mm")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    with writing(path) as file:
        figure.savefig(file, format="png", dpi=150)
