"""Tables filled with figures: every row that the data at hand allows, the others with a reason."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from scorehmr_jax import cluster
from scorehmr_jax.evaluation.cases import Case
from scorehmr_jax.evaluation.intervals import Interval, mean_interval, paired_difference
from scorehmr_jax.evaluation.made_worse import worse_share
from scorehmr_jax.evaluation.metric_table import METRICS, Metric
from scorehmr_jax.evaluation.runs import run, seconds_per_sample
from scorehmr_jax.evaluation.tables import store
from scorehmr_jax.evaluation.tables.layout import Column, Row, Table
from scorehmr_jax.prior import Prior
from scorehmr_jax.refine import Refiner
from scorehmr_jax.types import Array


class Missing(ValueError):
    """Data that is not there: the message says which file, and where it is to be had."""


@runtime_checkable
class Source(Protocol):
    """Where cases and priors come from. Each raises `Missing` for what is not there."""

    def case(self, start: str, protocol: str) -> Case:
        """Gives the samples of a benchmark with the estimates of a network."""
        ...

    def prior(self, name: str) -> Prior:
        """Loads the weights of the loop."""
        ...

    def features(self, prior: Prior, start: str, protocol: str) -> Array | None:
        """Reads the features that a prior takes; None if it takes none."""
        ...


@runtime_checkable
class Prepared(Protocol):
    """A method made ready: a baseline, or the loop with its prior."""

    refiner: Refiner
    mode: str
    config: dict[str, Any]


# (name, case, prior, changes of the loop) -> the method; ValueError if it is not for this task.
Prepare = Callable[[str, Case, Prior | None, Mapping[str, Any]], Prepared]


@dataclass(frozen=True)
class Cell:
    """A figure of a row, beside what was published and what it hides."""

    found: Interval | None = None
    change: Interval | None = None  # to the first estimates, on the same samples
    against: Interval | None = None  # to the reference row, likewise
    published: float | None = None


@dataclass(frozen=True)
class Beside:
    """What is printed beside the figures of a benchmark, as PA-MPJPE hides it."""

    pelvis: Interval | None = None  # mm
    worse: Interval | None = None  # share of samples
    seconds: float | None = None  # of a sample, once compiled


@dataclass
class Filled:
    """A row with its figures."""

    row: Row
    cells: dict[Column, Cell] = field(default_factory=dict)
    beside: dict[str, Beside] = field(default_factory=dict)  # by protocol
    missing: dict[str, str] = field(default_factory=dict)  # by protocol: why there is no figure
    frames: dict[str, str] = field(default_factory=dict)  # by protocol: what became of them


def fill(
    table: Table,
    source: Source,
    prepare: Prepare,
    folder: Path,
    batch: int | None = None,
    metrics: Mapping[str, Metric] = METRICS,
) -> list[Filled]:
    """Runs every row on every benchmark of a table, or takes what was computed before.

    Args:
        table: what is wanted.
        source: of cases and priors.
        prepare: of methods.
        folder: of results that are kept.
        batch: samples that a device refines at once.
        metrics: what is measured.
    """
    rows: list[Filled] = []
    known: dict[tuple[int, str], store.Figures] = {}
    for row in table.rows:
        filled = Filled(row)
        for protocol in table.protocols if row.start else ():
            try:
                figures = _figures(row, protocol, source, prepare, folder, batch, metrics)
            except Missing as error:
                filled.missing[protocol] = str(error)
                continue
            known[len(rows), protocol] = figures
            filled.beside[protocol] = _beside(figures)
            filled.frames[protocol] = ", ".join(f"{n} {what}" for what, n in figures.frames.items())
        rows.append(filled)
    for number, filled in enumerate(rows):
        reference = reference_of(table, number)
        for place, column in enumerate(table.columns):
            published = filled.row.published[place] if filled.row.published else None
            own = known.get((number, column.protocol))
            other = None if reference is None else known.get((reference, column.protocol))
            filled.cells[column] = _cell(own, other, column.metric, published)
    return rows


def reference_of(table: Table, number: int) -> int | None:
    """The row that a row is compared with: the last loop as released from the same estimates.

    Of an ablation it is the first row, which has the released settings. A table may name another.

    Args:
        table: whose rows these are.
        number: of the row.
    Returns:
        The number of a row; None for the reference itself, and where there is none.
    """
    start = table.rows[number].start
    loops = [
        i
        for i, row in enumerate(table.rows)
        if row.start == start
        and (row.title == table.reference if table.reference else row.method == "scorehmr")
        and start is not None
    ]
    chosen = loops[:1] if table.axis else loops[-1:]
    return chosen[0] if chosen and chosen[0] != number else None


def _figures(
    row: Row,
    protocol: str,
    source: Source,
    prepare: Prepare,
    folder: Path,
    batch: int | None,
    metrics: Mapping[str, Metric],
) -> store.Figures:
    assert row.start is not None
    case, prior = _inputs(row.start, row.prior, protocol, source)
    features = None if prior is None else source.features(prior, row.start, protocol)
    try:
        method = prepare(row.method, case, prior, row.changes)
    except ValueError as error:
        raise Missing(str(error)) from None
    key = {
        "method": row.method,
        "protocol": asdict(case.protocol),
        "configuration": method.config,
        "start": row.start,
        "prior": row.prior,
        "weights": None if prior is None else store.weights_hash(prior),
        "data": case.fingerprint(),
        "features": None if features is None else store.weights_hash(features),
        "metrics": [*metrics],
        "code": store.code(),
    }

    def compute() -> store.Figures:
        if cluster.is_main():
            print(f"{row.title.lstrip('+ ')}, {row.start}, on {protocol}", file=sys.stderr)
        found = run(case, method.refiner, features, method.mode, batch, metrics)
        seconds = seconds_per_sample(case, method.refiner, features, method.mode, batch)
        return store.Figures.of(found, case.sequence, case.frames, seconds)

    return store.kept(folder, key, compute)


def _inputs(
    start: str, prior: str | None, protocol: str, source: Source
) -> tuple[Case, Prior | None]:
    """The case and the prior of a row; what is missing of both is told at once."""
    missing, case, weights = [], None, None
    try:
        case = source.case(start, protocol)
    except Missing as error:
        missing.append(str(error))
    try:
        weights = None if prior is None else source.prior(prior)
    except Missing as error:
        missing.append(str(error))
    if case is None or missing:
        raise Missing("\n".join(missing))
    return case, weights


def _cell(
    figures: store.Figures | None,
    other: store.Figures | None,
    metric: str,
    published: float | None,
) -> Cell:
    if figures is None or f"opt_{metric}" not in figures.values:
        return Cell(published=published)
    after, before = (figures.values[f"{when}_{metric}"] for when in ("opt", "reg"))
    theirs = None if other is None else other.values.get(f"opt_{metric}")
    return Cell(
        mean_interval(after, figures.sequence),
        paired_difference(after, before, figures.sequence),
        None if theirs is None else paired_difference(after, theirs, figures.sequence),
        published,
    )


def _beside(figures: store.Figures) -> Beside:
    pelvis: Any = figures.values.get("opt_pelvis")
    sequence = {"opt_re": np.asarray(figures.sequence)}
    return Beside(
        None if pelvis is None else mean_interval(pelvis, figures.sequence),
        worse_share(figures.values, sequence),
        figures.seconds,
    )
