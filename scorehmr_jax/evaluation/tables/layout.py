"""Tables as data: columns are figures of a benchmark, rows are methods from a start."""

from collections.abc import Mapping
from dataclasses import dataclass, field

PAPER = "the paper"  # Stathopoulos et al., CVPR 2024, arXiv 2403.09623
ESTIMATE = "estimate"  # the method that leaves the first estimates as they are


@dataclass(frozen=True)
class Column:
    """A figure on a benchmark."""

    protocol: (
        str  # what the source of data calls it: a key of BENCHMARKS, or a setting and strength
    )
    metric: str  # key of METRICS
    title: str


@dataclass(frozen=True)
class Row:
    """A method, and the figures that others have published of it."""

    title: str
    start: str | None = None  # network of the first estimates; None: published figures alone
    method: str = ESTIMATE  # of baselines/methods.py
    prior: str | None = None  # weights of the loop, as the source of data names them
    # By column, in order; None: nobody has published it.
    published: tuple[float | None, ...] = ()
    source: str = PAPER  # of what is published
    changes: Mapping[str, float | int] = field(default_factory=dict)  # of the loop
    place: float | None = None  # on the axis of an ablation


@dataclass(frozen=True)
class Table:
    """A table; an ablation has an axis, along which it is drawn."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    axis: str = ""
    reference: str = ""  # title of the row that others are compared with

    def __post_init__(self) -> None:
        for row in self.rows:
            if row.published and len(row.published) != len(self.columns):
                raise ValueError(
                    f"{self.name}, {row.title}: published: expected {len(self.columns)} figures, "
                    f"one for each column, found {len(row.published)}"
                )

    @property
    def protocols(self) -> tuple[str, ...]:
        """The benchmarks of the columns, each once."""
        return tuple(dict.fromkeys(column.protocol for column in self.columns))
