"""The open benchmark's own page: every method, in every setting, at every strength.

    python -m benchmarks.open_page FILE.json --data DIR [--setting video] [--split val] [--quick]
    python -m benchmarks.open_page FILE.json

The first form runs every method; DIR holds mocap_poses.npz. Each cell is kept in the folder `runs`
beside the file, by all that it depends on: whoever interrupts it loses one cell, and what is there
is not computed again. Both forms write the page and its picture, docs/open_benchmark.md and
docs/images/open_benchmark.png.

A row of the file is one method in one setting at one strength; each figure is a mean with the ends
of its 95% interval over clips, null where there are none.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.open_methods import OPEN_METRICS, prepare, table_of
from benchmarks.open_page_text import PICTURE, page_of, panels_of
from benchmarks.open_tables import OpenSource
from benchmarks.scenes import FULL, QUICK, SETTINGS
from body_model.files import write_text
from scorehmr_jax.compilation_cache import use_compilation_cache
from scorehmr_jax.evaluation.cases import Case
from scorehmr_jax.evaluation.intervals import Interval
from scorehmr_jax.evaluation.tables.fill import Filled, Prepare, Prepared, fill
from scorehmr_jax.evaluation.tables.layout import Table
from scorehmr_jax.evaluation.tables.plot import draw_methods
from scorehmr_jax.prior import Prior
from scorehmr_jax.provenance import commit

BATCH = 128  # frames that are refined at once


def main(arguments: list[str] | None = None) -> int:
    summary, _, rest = __doc__.partition("\n")
    parser = argparse.ArgumentParser(
        "benchmarks.open_page",
        description=summary,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, metavar="FILE.json", help="of all rows")
    parser.add_argument("--data", type=Path, metavar="DIR", help="run the methods on it")
    parser.add_argument("--setting", choices=SETTINGS, help="this one alone")
    parser.add_argument("--split", choices=("test", "val", "heldout"), default="test")
    parser.add_argument("--quick", action="store_true", help="fewer frames")
    parser.add_argument("--docs", type=Path, default=Path("docs"), metavar="DIR")
    options = parser.parse_args(arguments)
    if options.data is not None:
        use_compilation_cache()
        samples = (QUICK if options.quick else FULL).frames
        for setting in [options.setting] if options.setting else SETTINGS:
            others = others_of(read(options.file), setting, options.split, samples)
            found = run(setting, options.data, options.split, options.quick, options.file.parent)
            rows = sorted([*others, *found], key=lambda row: SETTINGS.index(row["setting"]))
            machine.write(rows, options.file)
    rows = read(options.file)
    if not rows:
        parser.error(f"{options.file}: no such file; please give --data to make it")
    write_text(options.docs / "open_benchmark.md", page_of(rows))
    draw_methods(options.docs / PICTURE, panels_of(rows), "PA-MPJPE, mm")
    return 0


def read(path: Path) -> list[dict[str, Any]]:
    """Reads the rows of a file; none if there is no file."""
    return json.loads(path.read_text()) if path.is_file() else []


def others_of(
    rows: Sequence[dict[str, Any]], setting: str, split: str, samples: int
) -> list[dict[str, Any]]:
    """Lists the rows of other settings, beside which those of a setting will stand.

    Raises:
        ValueError: if they are of another split or of other sizes.
    """
    others = [row for row in rows if row["setting"] != setting]
    for row in others:
        if (found := (row["split"], row["samples"])) != (split, samples):
            raise ValueError(
                f"expected {samples} samples of {split} in each cell, as asked for, found "
                f"{found[1]} of {found[0]} in {row['setting']}: please take another file"
            )
    return others


def run(setting: str, data: Path, split: str, quick: bool, folder: Path) -> list[dict[str, Any]]:
    """Runs every method of a setting that is not kept, and lists their rows."""
    source, table = OpenSource(data, split, quick), table_of(setting)
    filled = fill(table, source, once_for_all(), folder / "runs", BATCH, OPEN_METRICS)
    about = machine.describe() | {"commit": commit(), "split": split, "batch": BATCH}
    about["samples"] = (QUICK if quick else FULL).frames
    return [about | row for row in rows_of(table, filled)]


def once_for_all() -> Prepare:
    """Makes each method of a table ready once, as it is the same program at every strength."""
    known: dict[tuple[str, int], Prepared] = {}

    def once(name: str, case: Case, prior: Prior | None, changes: Mapping[str, Any]) -> Prepared:
        key = name, id(prior)
        if key not in known:
            known[key] = prepare(name, case, prior, changes)
        return known[key]

    return once


def rows_of(table: Table, filled: Sequence[Filled]) -> Iterator[dict[str, Any]]:
    """Lists what a table was filled with, a row for each method at each strength."""
    for protocol in table.protocols:
        _, setting, strength = protocol.split("-")
        for row in filled:
            beside = row.beside[protocol]
            cells = {c.metric: row.cells[c] for c in table.columns if c.protocol == protocol}
            yield {
                "setting": setting,
                "strength": strength,
                "method": row.row.method,
                "title": row.row.title,
                **{name: _ends(cell.found) for name, cell in cells.items()},
                "pelvis": _ends(beside.pelvis),
                "worse": _ends(beside.worse),
                "against_default": _ends(cells["re"].against),
                "seconds": beside.seconds,
            }


def _ends(interval: Interval | None) -> list[float | None] | None:
    return None if interval is None else [interval.mean, interval.low, interval.high]


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ValueError as error:
        sys.exit(f"benchmarks.open_page: {error}")
