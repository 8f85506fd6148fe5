"""Tables as pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from body_model.files import writing
from scorehmr_jax.evaluation.metric_table import METRICS
from scorehmr_jax.evaluation.tables.fill import Filled
from scorehmr_jax.evaluation.tables.layout import Table


def draw(path: Path, table: Table, rows: Sequence[Filled]) -> None:
    """Draws an ablation: a figure along its axis, with intervals, beside what was published.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    figure = _figure(path, (5.5, 3.6))
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


# A method's mean with the ends of its interval, None where there are none.
Point = tuple[float, float | None, float | None]


def draw_methods(
    path: Path, panels: Mapping[str, Mapping[str, Mapping[str, Point]]], label: str
) -> None:
    """Draws a figure of every method, one below the other, with intervals.

    Args:
        path: of the .png.
        panels: by title, the points of each method by series; one panel beside the other.
        label: of the figure.
    Raises:
        ImportError: if matplotlib is not installed.
    """
    rows = max(len(methods) for methods in panels.values())
    figure = _figure(path, (1 + 4.5 * len(panels), 1.4 + 0.28 * rows))
    for number, (title, methods) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(1, len(panels), number)
        series = list(dict.fromkeys(name for points in methods.values() for name in points))
        for place, name in enumerate(series):
            every = enumerate(methods.values())
            rows_of = [(y, points[name]) for y, points in every if name in points]
            x = [point[0] for _, point in rows_of]
            below = [m - (m if low is None else low) for _, (m, low, _) in rows_of]
            above = [(m if high is None else high) - m for _, (m, _, high) in rows_of]
            y = [y + 0.2 * (place - (len(series) - 1) / 2) for y, _ in rows_of]
            axes.errorbar(x, y, xerr=[below, above], fmt="o", ms=4, capsize=2, label=name)
        axes.set_yticks(range(len(methods)), methods)
        axes.invert_yaxis()
        axes.set_xlim(left=0)
        axes.set_title(title)
        axes.set_xlabel(label)
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if number == 1:
            figure.legend(frameon=False, loc="outside lower center", ncols=len(series))
    with writing(path) as file:
        figure.savefig(file, format="png", dpi=110)


def _figure(path: Path, size: tuple[float, float]) -> Any:
    try:
        import matplotlib
    except ImportError:
        raise ImportError(f"{path}: needs matplotlib: pip install 'scorehmr-jax[viz]'") from None
    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained")
