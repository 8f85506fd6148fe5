"""Filled tables as text, Markdown, LaTeX and JSON; ablations as pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from body_model.files import local_path, write_json, write_text, writing
from scorehmr_jax.evaluation.intervals import Interval
from scorehmr_jax.evaluation.metric_table import METRICS
from scorehmr_jax.evaluation.tables.fill import Filled, reference_of
from scorehmr_jax.evaluation.tables.layout import PAPER, Column, Table
from scorehmr_jax.provenance import versions

_NONE = "-"
# Beside the figures of each benchmark.
_BESIDE = ("pelvis, mm", "worse by 2 mm")


def write_table(
    folder: Path, table: Table, rows: Sequence[Filled], protocols: Mapping[str, Mapping[str, Any]]
) -> list[Path]:
    """Writes NAME.txt, .md, .tex and .json, and of an ablation NAME.png, into a folder.

    Args:
        folder: it is made if need be.
        table: what the rows are of.
        rows: with their figures.
        protocols: what each benchmark's protocol says, for those that were measured.
    Returns:
        The files.
    Raises:
        ImportError: if an ablation is to be drawn and matplotlib is not installed.
    """
    folder = local_path(folder)
    texts = {
        "txt": as_text(table, rows, protocols),
        "md": as_markdown(table, rows, protocols),
        "tex": as_latex(table, rows),
    }
    files = []
    for suffix, text in texts.items():
        files.append(folder / f"{table.name}.{suffix}")
        write_text(files[-1], text + "\n")
    files.append(folder / f"{table.name}.json")
    write_json(files[-1], as_json(table, rows, protocols))
    if table.axis:
        files.append(folder / f"{table.name}.png")
        draw(files[-1], table, rows)
    return files


def header(table: Table) -> list[str]:
    """The titles of the columns, as all forms have them."""
    titles = ["", "published"]
    for protocol in table.protocols:
        for column in _of(table, protocol):
            name = METRICS[column.metric].title
            titles += [f"{column.title} {name} [95%]", "published", "against reference [95%]"]
        titles += [f"{_of(table, protocol)[0].title} {title}" for title in _BESIDE]
    return titles


def cells(table: Table, filled: Filled) -> list[str]:
    """The cells of a row, as all forms have them."""
    row = filled.row
    by = "" if not any(v is not None for v in row.published) else f"by {row.source}"
    if row.source == PAPER and by:
        by = "in the paper"
    out = [row.title, by]
    for protocol in table.protocols:
        for column in _of(table, protocol):
            cell = filled.cells[column]
            absent = "absent" if protocol in filled.missing else _NONE
            out.append(absent if cell.found is None else str(cell.found))
            out.append(_NONE if cell.published is None else f"{cell.published:.1f}")
            out.append(_NONE if cell.against is None else _signed(cell.against))
        beside = filled.beside.get(protocol)
        pelvis, worse = (None, None) if beside is None else (beside.pelvis, beside.worse)
        out.append(_NONE if pelvis is None else f"{pelvis.mean:.0f}")
        out.append(_NONE if worse is None else f"{100 * worse.mean:.1f}%")
    return out


def as_text(
    table: Table, rows: Sequence[Filled], protocols: Mapping[str, Mapping[str, Any]]
) -> str:
    """The table in columns of one width, with notes below."""
    grid = [header(table), *(cells(table, row) for row in rows)]
    blocks = []
    # One block for each benchmark: all in one row would be wider than a screen.
    for title, columns in _blocks(table):
        part = [[line[i] for i in columns] for line in grid]
        widths = [max(len(line[i]) for line in part) for i in range(len(columns))]
        lines = [
            "  ".join(
                cell.ljust(width) if i < 2 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in part
        ]
        blocks.append("\n".join([title, *lines]))
    return "\n\n".join([f"{table.name}: {table.title}", *blocks, *_notes(table, rows, protocols)])


def as_markdown(
    table: Table, rows: Sequence[Filled], protocols: Mapping[str, Mapping[str, Any]]
) -> str:
    """The table in Markdown."""
    out = [f"### {table.name}: {table.title}"]
    grid = [header(table), *(cells(table, row) for row in rows)]
    for title, columns in _blocks(table):
        part = [[line[i].replace("|", "\\|") for i in columns] for line in grid]
        lines = [f"| {' | '.join(line)} |" for line in part]
        rule = "|---|---|" + "---:|" * (len(columns) - 2)
        out.append("\n".join([f"**{title}**", "", lines[0], rule, *lines[1:]]))
    notes = [f"{note}" for note in _notes(table, rows, protocols)]
    return "\n\n".join([*out, *("\n".join(f"- {x}" for x in n.splitlines()) for n in notes)])


def as_latex(table: Table, rows: Sequence[Filled]) -> str:
    """The table in LaTeX, for the package booktabs: ours and what was published, side by side."""
    columns = [c for protocol in table.protocols for c in _of(table, protocol)]
    titles = [f"{_tex(c.title)} {_tex(METRICS[c.metric].title)} & publ." for c in columns]
    lines = [
        rf"\begin{{tabular}}{{l{'rr' * len(columns)}}}",
        r"\toprule",
        f"& {' & '.join(titles)} \\\\",
        r"\midrule",
    ]
    for filled in rows:
        line = [_tex(filled.row.title)]
        for column in columns:
            cell = filled.cells[column]
            found = cell.found
            ours = "--" if found is None else f"{found.mean:.1f}"
            if found is not None and found.low is not None and found.high is not None:
                ours += rf" {{\scriptsize [{found.low:.1f}, {found.high:.1f}]}}"
            line += [ours, "--" if cell.published is None else f"{cell.published:.1f}"]
        lines.append(" & ".join(line) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def as_json(
    table: Table, rows: Sequence[Filled], protocols: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """All that a table holds, as JSON has it."""
    return {
        "table": table.name,
        "title": table.title,
        "protocols": protocols,
        "notes": table.notes,
        "rows": [
            {
                "title": filled.row.title,
                "start": filled.row.start,
                "method": filled.row.method,
                "prior": filled.row.prior,
                "changes": dict(filled.row.changes),
                "source": filled.row.source,
                "missing": filled.missing,
                "frames": filled.frames,
                "cells": [
                    {"protocol": column.protocol, "metric": column.metric}
                    | {k: v for k, v in asdict(filled.cells[column]).items()}
                    for column in table.columns
                ],
                "beside": {name: asdict(beside) for name, beside in filled.beside.items()},
            }
            for filled in rows
        ],
        "versions": versions(),
    }


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


def _notes(
    table: Table, rows: Sequence[Filled], protocols: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """What is to be known beside the figures, each a block of lines."""
    notes = list(table.notes)
    notes.append(
        "95% intervals: bootstrap over sequences. Published figures are copied, not measured here. "
        "'against reference': the difference to the reference row on the same samples, "
        "below 0 where this row is better."
    )
    references = {
        table.rows[i].title: None
        for number in range(len(rows))
        if (i := reference_of(table, number)) is not None
    }
    if references:
        notes.append(f"Reference: {', '.join(references)}, from the same estimates.")
    for names, lines in _alike({n: _lines(d) for n, d in protocols.items()}):
        notes.append("\n".join([f"protocol {names}", *lines]))
    told: dict[str, Any] = {}
    for filled in rows:
        told |= {name: (f"  {text}",) for name, text in filled.frames.items()}
    for names, lines in _alike(told):
        notes.append("\n".join([f"frames of {names}", *lines]))
    absent: dict[str, dict[str, None]] = {}
    for filled in rows:
        for name, reason in filled.missing.items():
            absent.setdefault(reason, {})[name] = None
    if absent:
        whys = (f"  {', '.join(names)}: {why}" for why, names in absent.items())
        notes.append("\n".join(["absent", *whys]))
    return notes


def _lines(described: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"  {key}: {text}" for key, text in described.items())


def _alike(told: Mapping[str, tuple[str, ...]]) -> list[tuple[str, tuple[str, ...]]]:
    """What is told, each once, with the names that it is told of."""
    names: dict[tuple[str, ...], list[str]] = {}
    for name, lines in told.items():
        names.setdefault(lines, []).append(name)
    return [(", ".join(of), lines) for lines, of in names.items()]


def _of(table: Table, protocol: str) -> list[Column]:
    return [column for column in table.columns if column.protocol == protocol]


def _blocks(table: Table) -> list[tuple[str, list[int]]]:
    """The columns of each benchmark, after the title and who published."""
    blocks, at = [], 2
    for protocol in table.protocols:
        width = 3 * len(_of(table, protocol)) + len(_BESIDE)
        blocks.append((protocol, [0, 1, *range(at, at + width)]))
        at += width
    return blocks


def _signed(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return f"{interval.mean:+.1f}"
    return f"{interval.mean:+.1f} [{interval.low:+.1f}, {interval.high:+.1f}]"


def _tex(text: str) -> str:
    for mark in "&%_#":
        text = text.replace(mark, f"\\{mark}")
    return text
