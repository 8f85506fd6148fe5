"""Calibration of what `Info.expected` says, and how well it holds on clips that no fit has seen.

    python -m benchmarks.confidence --data DIR --json FILE [--plot FILE] [--write]

DIR holds mocap_poses.npz. The default loops refine simulated people: the val split's clips and
DeepMimic's, which no shipped prior was trained on; networks of three strengths, whose errors show
more or less in the image; three detectors, each with offsets of its own in every cell. A few
numbers for each loop are fitted to what was seen and what came of it. Half of the clips judge a
fit to the other half; what is written is fitted to all. `--write` writes
scorehmr_jax/confidence.json, which `refine` reads, and `--plot` the picture of docs/confidence.md.
`--real` adds what came on the video of benchmarks/real.py, which no number was fitted to.

A row of the JSON file is one loop, with the figures of `confidence_fit.figures`; `unseen` says what
the fit has not seen: half of the clips, and in most rows a kind of detector, network or clip too.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

import body_model
from benchmarks import machine
from benchmarks.confidence_fit import crossed, figures, fit, reliability
from benchmarks.confidence_real import on_real_video
from benchmarks.confidence_scenes import Observed, Variant, observed, variants
from body_model.files import write_text, writing
from scorehmr_jax.camera import pinhole
from scorehmr_jax.confidence import FILE, kinds_of, loop_of
from scorehmr_jax.simulation import mocap
from scorehmr_jax.simulation.regressor import REGRESSORS
from scorehmr_jax.types import Expectation, Keypoints2D

FRAMES = 256  # of a cell
KNOWN = "clips' half"  # half of the clips alone is unknown to a fit
# Kinds that a fit is made without, to see how it holds for them.
UNSEEN = {
    "detector": ("clean", "usual", "bad"),
    "network": ("shows more", "shows less"),
    "strength": tuple(REGRESSORS),
    "clips": ("val", "DeepMimic"),
}


def main(arguments: list[str] | None = None) -> int:
    summary, _, rest = __doc__.partition("\n")
    parser = argparse.ArgumentParser(
        "benchmarks.confidence",
        description=summary,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of mocap_poses.npz")
    parser.add_argument("--json", type=Path, help="where to write the rows")
    parser.add_argument("--plot", type=Path, help="where to draw the reliability, .png")
    parser.add_argument("--write", action="store_true", help="what `refine` reads")
    parser.add_argument("--real", type=Path, help="folder of benchmarks.real, for figures beside")
    parser.add_argument("--frames", type=int, default=FRAMES, help="of a cell")
    parser.add_argument("--loops", nargs="+", choices=[*variants()], default=[*variants()])
    options = parser.parse_args(arguments)
    if options.write and {*options.loops} != {*variants()}:
        parser.error("--write: expected all loops")
    clips = mocap.read(options.data / "mocap_poses.npz")
    body, sets = body_model.open_body(), {"val": clips.select("val"), "DeepMimic": deepmimic(clips)}
    loops = {name: variants()[name] for name in options.loops}
    rows, fitted, told, start = [], {}, {}, time.perf_counter()
    for name, variant in loops.items():
        seen = observed(body, sets, variant, options.frames)
        fitted[name] = entry(variant, seen)
        told[name] = crossed(seen, variant.setting), seen
        for row in judged(variant, *told[name]):
            rows.append({"loop": name, **row})
            print_row(rows[-1])
    print(f"{time.perf_counter() - start:.0f} s")
    bins = {name: _bins(*both) for name, both in told.items()}
    print_bins(bins)
    if options.plot:
        draw(options.plot, bins)
    if options.write:
        write_text(FILE, json.dumps(fitted, indent=1) + "\n")
    if options.real:
        for row in on_real_video(options.real):
            rows.append(row)
            print_row(row)
    print_tables(rows)
    machine.write({"rows": rows, "bins": bins, "machine": machine.describe()}, options.json)
    return 0


def deepmimic(clips: mocap.Mocap) -> mocap.Mocap:
    """The clips of DeepMimic, which are of the train split and which no prior was trained on."""
    others = tuple({*clips.collection.tolist()} - {"deepmimic"})
    return clips.select("train", without=others)


def entry(variant: Variant, seen: Observed) -> dict[str, Any]:
    """Fits a loop's numbers, and names what they were fitted to."""
    nothing = Keypoints2D(jnp.zeros((1, 25, 2)), jnp.zeros((1, 25)))
    camera = pinhole(jnp.full((1, 2), 1000.0))
    return {
        "loop": loop_of(variant.config),
        "terms": kinds_of(variant.terms(nothing, camera)),
        "samples": len(seen.half),
        "calibration": asdict(fit(seen, variant.setting)),
    }


def judged(variant: Variant, told: Expectation, seen: Observed) -> Iterator[dict[str, Any]]:
    """Compares what was expected with what came: of all, and of kinds that no fit has seen."""
    yield {"unseen": KNOWN, **figures(told, seen)}
    for tag, values in UNSEEN.items():
        for value in values:
            of_it = seen.tags[tag] == value
            if of_it.any() and not of_it.all():
                found = crossed(seen, variant.setting, ~of_it)
                part = Expectation(*(a[of_it] for a in vars(found).values()))
                yield {"unseen": f"{tag}: {value}", **figures(part, seen.rows(of_it))}


# What is drawn, with the axes' text.
_PANELS = {
    "worse": "made worse by 2 mm, %",
    "error": "PA error of a sample, mm",
    "joint_error": "PA error of a joint, mm",
}


def _bins(told: Expectation, seen: Observed) -> dict[str, list[tuple[float, ...]]]:
    """Means of what was expected and what came, in bins of equally many."""
    return {
        name: reliability(getattr(told, name).ravel(), np.asarray(getattr(seen, name)).ravel())
        for name in _PANELS
    }


def print_row(row: dict[str, Any]) -> None:
    print(
        f"{row['loop']:15} {row['unseen']:20}"
        f" worse {row['worse_expected']:6.1%} expected, {row['worse_true']:6.1%} came,"
        f" AUC {row['worse_auc']:.2f}, ECE {row['worse_ece']:.3f};"
        f" error {row['error_expected']:5.1f} expected, {row['error_true']:5.1f} came,"
        f" r {row['error_correlation']:.2f}, ECE {row['error_ece']:4.1f},"
        f" best half {row['best_half']:5.1f} mm",
        flush=True,
    )
    if "joint_ece" in row:
        print(
            f"{'':37}joints r {row['joint_correlation']:.2f}, each by itself"
            f" {row['within_correlation']:.2f}, ECE {row['joint_ece']:.1f} mm",
            flush=True,
        )


# Of the table: title, and what stands under it.
_COLUMNS = {
    "worse expected / came": "{worse_expected:.1%} / {worse_true:.1%}",
    "AUC": "{worse_auc:.2f}",
    "its ECE": "{worse_ece:.1%}",
    "error expected / came": "{error_expected:.1f} / {error_true:.1f}",
    "r": "{error_correlation:.2f}",
    "its ECE, mm": "{error_ece:.1f}",
    "of the better half": "{best_half:.1f}",
    "r of joints": "{joint_correlation:.2f}",
    "of each joint": "{within_correlation:.2f}",
    "ECE of joints": "{joint_ece:.1f}",
}
_CELL = (
    "{error_expected:.0f} / {error_true:.0f}, {worse_expected:.1%} / {worse_true:.1%}, "
    "{worse_auc:.2f}"
)


def print_tables(rows: list[dict[str, Any]]) -> None:
    """Prints the figures as the tables of docs/confidence.md and RESULTS.md."""
    print(_line("loop", _COLUMNS))
    print("|---" * (1 + len(_COLUMNS)) + "|")
    for row in rows:
        if row["unseen"] == KNOWN:
            print(_line(row["loop"], [column.format(**row) for column in _COLUMNS.values()]))
    loops = dict.fromkeys(row["loop"] for row in rows)
    cells = {(row["unseen"], row["loop"]): _CELL.format(**row) for row in rows}
    print("\nerror expected / came, worse expected / came, AUC")
    print(_line("no fit has seen", loops))
    print("|---" * (1 + len(loops)) + "|")
    for unseen in dict.fromkeys(row["unseen"] for row in rows if row["unseen"] != KNOWN):
        print(_line(unseen, [cells.get((unseen, loop), "") for loop in loops]))


def _line(title: str, cells: Iterable[str]) -> str:
    return f"| {title} | {' | '.join(cells)} |"


def print_bins(bins: dict[str, dict[str, list[tuple[float, ...]]]]) -> None:
    for loop, panels in bins.items():
        for name, rows in panels.items():
            scale, form = (100, ".1f") if name == "worse" else (1, ".0f")
            pairs = "  ".join(f"{scale * a:{form}}/{scale * b:{form}}" for a, b, _ in rows)
            print(f"{loop:15} {_PANELS[name]:26} expected/came: {pairs}")


def draw(path: Path, bins: dict[str, dict[str, list[tuple[float, ...]]]]) -> None:
    """Draws what was expected against what came."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    for axes, (name, text) in zip(figure.subplots(1, 3), _PANELS.items(), strict=True):
        scale = 100 if name == "worse" else 1
        for loop, panels in bins.items():
            points = scale * np.array(panels[name])[:, :2]
            axes.plot(*points.T, marker=".", label=loop)
        most = axes.get_xlim()[1]
        axes.plot([0, most], [0, most], "k:", linewidth=1)
        axes.set(xlabel=f"expected: {text}", ylabel="came")
        axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    with writing(path) as file:
        figure.savefig(file, format="png", dpi=110)


if __name__ == "__main__":
    sys.exit(main())
