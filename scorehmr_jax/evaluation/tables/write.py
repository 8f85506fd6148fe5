"""Filled tables as text, Markdown, LaTeX and JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from body_model.files import local_path, write_json, write_text
from scorehmr_jax.evaluation.intervals import Interval
from scorehmr_jax.evaluation.metric_table import METRICS
from scorehmr_jax.evaluation.tables.fill import Filled, reference_of
from scorehmr_jax.evaluation.tables.layout import PAPER, Column, Table
from scorehmr_jax.evaluation.tables.plot import draw
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
    told = _published(table)
    titles = ["", *(["published"] if told else [])]
    for protocol in table.protocols:
        for column in _of(table, protocol):
            titles.append(f"{column.title} {METRICS[column.metric].title} [95%]")
            titles += ["published"] if told else []
            titles.append("against reference [95%]")
        titles += [f"{_of(table, protocol)[0].title} {title}" for title in _BESIDE]
    return titles


def cells(table: Table, filled: Filled) -> list[str]:
    """The cells of a row, as all forms have them."""
    row, told = filled.row, _published(table)
    by = "in the paper" if row.source == PAPER else row.source
    named = any(figure is not None for figure in row.published)
    out = [row.title, *([by if named else ""] if told else [])]
    for protocol in table.protocols:
        for column in _of(table, protocol):
            cell = filled.cells[column]
            absent = "absent" if protocol in filled.missing else _NONE
            out.append(absent if cell.found is None else str(cell.found))
            if told:
                out.append(_NONE if cell.published is None else f"{cell.published:.1f}")
            out.append(_NONE if cell.against is None else _signed(cell.against))
        out += _beside(filled, protocol)
    return out


def as_text(
    table: Table, rows: Sequence[Filled], protocols: Mapping[str, Mapping[str, Any]]
) -> str:
    """The table in columns of one width, with notes below."""
    grid = [header(table), *(cells(table, row) for row in rows)]
    first = 2 if _published(table) else 1
    blocks = []
    # One block for each benchmark: all in one row would be wider than a screen.
    for title, columns in _blocks(table):
        part = [[line[i] for i in columns] for line in grid]
        widths = [max(len(line[i]) for line in part) for i in range(len(columns))]
        lines = [
            "  ".join(
                cell.ljust(width) if i < first else cell.rjust(width)
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
        part = [[line[i] for i in columns] for line in grid]
        lines = markdown_lines(part, left=2 if _published(table) else 1)
        out.append("\n".join([f"**{title}**", "", *lines]))
    notes = [f"{note}" for note in _notes(table, rows, protocols)]
    return "\n\n".join([*out, *("\n".join(f"- {x}" for x in n.splitlines()) for n in notes)])


def markdown_lines(grid: Sequence[Sequence[str]], left: int) -> list[str]:
    """Writes cells as a table in Markdown.

    Args:
        grid: the titles, then the rows.
        left: so many first columns hold words, the others numbers.
    """
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in grid]
    lines = [f"| {' | '.join(line)} |" for line in escaped]
    rule = "|" + "---|" * left + "---:|" * (len(grid[0]) - left)
    return [lines[0], rule, *lines[1:]]


def as_latex(table: Table, rows: Sequence[Filled]) -> str:
    """The table in LaTeX, for the package booktabs: ours and what was published, side by side."""
    told = _published(table)
    titles = []
    for protocol in table.protocols:
        for column in _of(table, protocol):
            titles.append(f"{_tex(column.title)} {_tex(METRICS[column.metric].title)}")
            titles += ["publ."] if told else []
        titles += [_tex(f"{_of(table, protocol)[0].title} {title}") for title in _BESIDE]
    lines = [
        f"% {table.name}: {table.title}",
        rf"\begin{{tabular}}{{l{'r' * len(titles)}}}",
        r"\toprule",
        f"& {' & '.join(titles)} \\\\",
        r"\midrule",
    ]
    for filled in rows:
        by = "" if filled.row.source == PAPER else f" ({filled.row.source})"
        line = [_tex(filled.row.title + by)]
        for protocol in table.protocols:
            for column in _of(table, protocol):
                cell = filled.cells[column]
                line.append("--" if cell.found is None else _tex_interval(cell.found))
                if told:
                    line.append("--" if cell.published is None else f"{cell.published:.1f}")
            line += [_tex(text.replace(_NONE, "--")) for text in _beside(filled, protocol)]
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
        for name, reasons in filled.missing.items():
            for reason in reasons.splitlines():
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


def _published(table: Table) -> bool:
    """True if anything was published of any row."""
    return any(figure is not None for row in table.rows for figure in row.published)


def _beside(filled: Filled, protocol: str) -> list[str]:
    """The cells after the figures of a benchmark."""
    beside = filled.beside.get(protocol)
    pelvis, worse = (None, None) if beside is None else (beside.pelvis, beside.worse)
    return [
        _NONE if pelvis is None else f"{pelvis.mean:.0f}",
        _NONE if worse is None else f"{100 * worse.mean:.1f}%",
    ]


def _blocks(table: Table) -> list[tuple[str, list[int]]]:
    """The columns of each benchmark, after the title and who published."""
    told = _published(table)
    first, each = ([0, 1], 3) if told else ([0], 2)
    blocks, at = [], len(first)
    for protocol in table.protocols:
        width = each * len(_of(table, protocol)) + len(_BESIDE)
        blocks.append((protocol, [*first, *range(at, at + width)]))
        at += width
    return blocks


def _tex_interval(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return f"{interval.mean:.1f}"
    return rf"{interval.mean:.1f} {{\scriptsize [{interval.low:.1f}, {interval.high:.1f}]}}"


def _signed(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return f"{interval.mean:+.1f}"
    return f"{interval.mean:+.1f} [{interval.low:+.1f}, {interval.high:+.1f}]"


def _tex(text: str) -> str:
    for mark in "&%_#":
        text = text.replace(mark, f"\\{mark}")
    return text
