"""Evaluates refinement, and fills the paper's tables.

    python evaluate.py 3dpw --data-root data --images DIR
    python evaluate.py emdb1 --data EMDB --estimates F --keypoints F --weights F --body F ...
    python evaluate.py keypoints|multiview|video --data F --estimates F --features F
        --feature-stats F --weights F --body F --extra-joints F --image-sizes F --out DIR
    python evaluate.py table1 ... table5, ablation-noise, ablation-step --data-root data
    python evaluate.py table2 --open DIR [--split val] [--quick]

A benchmark writes metrics.json and per_sample.npz into DIR (results/NAME by default), a table
NAME.txt, .md, .tex and .json; what a table has computed is kept in results/runs and not computed
again. Every device is used, and with several processes (scorehmr_jax/cluster.py) those of all; each
process reads the files, the first one writes. The page docs/evaluation.md says more.
"""

import argparse
import re
import sys
import time
import warnings
from dataclasses import asdict, replace
from typing import Any

import jax

from body_model import Skeleton
from body_model.files import read_npz
from body_model.joints import OPENPOSE_25
from scorehmr_jax import cluster
from scorehmr_jax.baselines.methods import LOOP, Method, make_method
from scorehmr_jax.commands.evaluate_arguments import arguments, warn_of_numbers
from scorehmr_jax.compilation_cache import use_compilation_cache
from scorehmr_jax.evaluation import compared, printed, results
from scorehmr_jax.evaluation.cases import Case, warn_of_frames
from scorehmr_jax.evaluation.features import features_of
from scorehmr_jax.evaluation.metric_table import METRICS
from scorehmr_jax.evaluation.originals import original_case
from scorehmr_jax.evaluation.protocol import expectations
from scorehmr_jax.evaluation.released import released_case
from scorehmr_jax.evaluation.runs import run
from scorehmr_jax.evaluation.summary import summarize
from scorehmr_jax.evaluation.tables.fill import fill
from scorehmr_jax.evaluation.tables.paper import TABLES
from scorehmr_jax.evaluation.tables.released_source import ReleasedSource
from scorehmr_jax.evaluation.tables.stand_ins import OPEN_TABLES
from scorehmr_jax.evaluation.tables.write import as_text, write_table
from scorehmr_jax.evaluation.views import views_case
from scorehmr_jax.formats.backbones import backbone_of_width
from scorehmr_jax.load import load_prior
from scorehmr_jax.prior import Prior
from scorehmr_jax.types import Array


def main(argv: list[str] | None = None) -> dict[str, Any]:
    args = arguments(argv, __doc__)
    cluster.start(args.coordinator, args.processes, args.process_id)
    if argv is None:
        use_compilation_cache()
        warnings.showwarning = show_warning
    with jax.enable_x64(args.precision == "float64"):
        return fill_table(args) if args.name in TABLES else evaluate(args)


def show_warning(message: Warning | str, *_: Any) -> None:
    """Prints a warning in one line; of several processes, in the first alone."""
    if cluster.is_main():
        print(f"evaluate.py: {message}", file=sys.stderr)


def read_case(args: argparse.Namespace) -> Case:
    """Reads what is measured, in the format of its source."""
    protocol, files = args.protocol, args.files
    if protocol.source == "released":
        return released_case(protocol, files, args.images, args.precision)
    read = views_case if protocol.source == "pose2sim" else original_case
    case = read(protocol, files, args.precision)
    warn_of_frames(case)
    return case


def read_prior(args: argparse.Namespace) -> Prior | None:
    """Loads the weights of the loop; None for a method without."""
    if args.method != LOOP:
        return None
    files = args.files
    with warnings.catch_warnings():
        if args.betas_stats is None:  # of --data-root, whether the prior has a use for it or not
            warnings.filterwarnings("ignore", f"{re.escape(str(files.betas_stats))}: not read")
        return load_prior(str(files.weights), betas_stats=files.betas_stats, dtype=args.precision)


def read_features(args: argparse.Namespace, method: Method, case: Case) -> Array | None:
    """Reads the image features that a method wants; says which files it has no use for."""
    files, width = args.files, method.features
    used = {"features": width, "feature_stats": width and method.standardised}
    if args.data_root and any(used[name] and getattr(files, name) is None for name in used):
        files = args.protocol.with_features(files, args.data_root, backbone_of_width(width))
    args.files = files = replace(files, **{name: None for name in used if not used[name]})
    unused = [f"--{n.replace('_', '-')}" for n in used if getattr(args, n) and not used[n]]
    if unused:
        taker = files.weights if args.weights or args.method == LOOP else args.method
        takes = "takes features as they are" if width else "takes no image features"
        text = f"{', '.join(unused)} are not used: {taker} {takes}"
        warnings.warn(text, stacklevel=1)
    return features_of(width, files, case, args.precision, method.standardised)


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
    protocol, task = args.protocol, args.protocol.how
    warn_of_numbers(args)

    # What we know: body, prior, images, first estimates, truth.
    other = None if args.compare is None else read_npz(args.compare)
    if other is not None:
        compared.check_comparable(args.compare, other)
    prior = read_prior(args)
    case = read_case(args)
    name = "default" if (args.method, args.mode) == (LOOP, "default") else args.method
    weights = None if args.method == LOOP else args.weights
    skeleton, fps = Skeleton.of(case.body, OPENPOSE_25), case.protocol.fps
    method = make_method(name, skeleton, task, prior, weights=weights, fps=fps)
    features = read_features(args, method, case)
    for line in expectations(protocol, case.frames):
        warnings.warn(line, stacklevel=1)

    # Refine and measure.
    start = time.perf_counter()
    found = run(case, method.refiner, features, method.mode, args.batch, METRICS)

    # Report.
    about = {
        "protocol": asdict(case.protocol) | {"described": case.protocol.described()},
        "method": args.method,
        "refinement": method.config,
        "mode": method.mode,
        "precision": args.precision,
        "files": {
            k: str(v)
            for k, v in vars(args.files).items()
            if v is not None and (k != "weights" or args.weights or prior is not None)
        },
        "frames": dict(case.frames),
        "notes": list(case.notes),
        "devices": {
            "kind": jax.devices()[0].device_kind,
            "count": jax.device_count(),
            "processes": jax.process_count(),
        },
        "seconds": time.perf_counter() - start,
    }
    report = summarize(found, case.names, METRICS, about, case.sequence)
    if cluster.is_main():
        results.write(args.out, report, found, case.names, case.sequence)
        print(printed.table(report, METRICS))
        if other is not None:
            print(
                compared.difference_from(
                    found, args.compare, other, case.names, sequence=case.sequence
                )
            )
    return report


def fill_table(args: argparse.Namespace) -> dict[str, Any]:
    """Fills one of the paper's tables as far as the data at hand allows."""
    if args.open is not None:
        from benchmarks.open_tables import OpenSource

        table, source = OPEN_TABLES[args.name], OpenSource(args.open, args.split, args.quick)
    else:
        table = TABLES[args.name]
        source = ReleasedSource(args.data_root, args.images, args.precision)

    def prepare(name: str, case: Case, prior: Prior | None, changes: Any) -> Any:
        skeleton = Skeleton.of(case.body, OPENPOSE_25)
        protocol = case.protocol
        return make_method(name, skeleton, protocol.how, prior, changes, fps=protocol.fps)

    rows = fill(table, source, prepare, args.out.parent / "runs", args.batch)
    measured = [name for name in table.protocols if any(name in row.beside for row in rows)]
    starts = {name: row.row.start for row in rows for name in row.beside}
    protocols = {name: source.case(starts[name], name).protocol for name in measured}
    described = {name: protocol.described() for name, protocol in protocols.items()}
    if cluster.is_main():
        print(as_text(table, rows, described))
        for path in write_table(args.out, table, rows, described):
            print(f"wrote {path}", file=sys.stderr)
    return described


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"evaluate.py: {error}")
