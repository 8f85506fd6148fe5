"""One self-contained HTML page: a table of errors before and after, and pictures.

Needs jinja2 and matplotlib (the extra `viz`), imported on first use.
"""

import base64
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

from body_model.files import write_text
from scorehmr_jax.output.pictures import Picture, png_bytes

_COLORS = 256  # of an embedded picture: half the size, and no difference to be seen


@dataclass(frozen=True)
class Figure:
    """A picture of the report."""

    title: str
    caption: str
    picture: Picture  # [H, W, 3] uint8


@dataclass(frozen=True)
class Row:
    """The measurements of one setting, each {name of metric: value}; NaN where there is none."""

    name: str
    before: Mapping[str, float]
    after: Mapping[str, float]


def save_report(
    path: str | os.PathLike[str],
    title: str,
    lead: str,
    metrics: Mapping[str, str],
    rows: Sequence[Row],
    figures: Sequence[Figure] = (),
    notes: Sequence[str] = (),
) -> None:
    """Writes the report; it opens by itself, with no other file and no network.

    Args:
        path: the .html file to write; replaced whole or not at all.
        title, lead: heading and the sentence under it.
        metrics: {name: unit} of the table's columns, in order. Less is better in each.
        rows: one per setting. A metric only in `after` (a time, say) is printed alone.
        figures: pictures under the table, embedded as PNG.
        notes: sentences under the table.
    """
    import jinja2

    text = files("scorehmr_jax.output").joinpath("html_report.html.j2").read_text("utf-8")
    template = jinja2.Environment(autoescape=True).from_string(text)
    html = template.render(
        title=title,
        lead=lead,
        notes=notes,
        columns=[{"name": name, "unit": unit} for name, unit in metrics.items()],
        rows=[{"name": row.name, "cells": [_cell(row, name) for name in metrics]} for row in rows],
        figures=[{"title": f.title, "caption": f.caption, "png": _base64_png(f)} for f in figures],
    )
    write_text(path, html)


def format_table(metrics: Mapping[str, str], rows: Sequence[Row]) -> str:
    """Formats the same table as text for a terminal.

    Args:
        metrics, rows: as for `save_report`.
    Returns:
        Lines of equal length: a header, a rule, and a line for each row.
    """
    header = ["", *(f"{name} ({unit})" for name, unit in metrics.items())]
    lines = [header]
    for row in rows:
        cells = [_cell(row, name) for name in metrics]
        lines.append(
            [row.name, *(" -> ".join(filter(None, (c["from"], c["to"]))) or "-" for c in cells)]
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    text = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    return "\n".join([text[0], "-" * len(text[0]), *text[1:]])


def _cell(row: Row, name: str) -> dict[str, str | None]:
    """Formats a metric before and after, with the change and whether it is for the better."""
    before, after = row.before.get(name, math.nan), row.after.get(name, math.nan)
    cell: dict[str, str | None] = {"from": _number(before), "to": _number(after)}
    if math.isfinite(before) and math.isfinite(after) and before > 0:
        percent = round(100 * (after / before - 1))
        # A minus sign, not a hyphen.
        cell["change"] = f"{percent:+d}%".replace("-", "\u2212")
        cell["verdict"] = "better" if percent < 0 else "worse" if percent > 0 else ""
    return cell


def _number(value: float) -> str | None:
    """Formats two or three significant digits, as people write them."""
    if not math.isfinite(value):
        return None
    if value >= 100:
        return f"{value:.0f}"
    if value >= 1:
        return f"{value:.1f}"
    return f"{value:#.2g}" if value > 0 else f"{value:.1f}"


def _base64_png(figure: Figure) -> str:
    return base64.b64encode(png_bytes(figure.picture, _COLORS)).decode()
