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
from pathlib import Path
from typing import Any

import jax

from body_model import Skeleton
from body_model.files import local_path, read_npz
from body_model.joints import OPENPOSE_25
from scorehmr_jax import cluster
from scorehmr_jax.baselines.methods import LOOP, METHODS, make_method
from scorehmr_jax.compilation_cache import use_compilation_cache
from scorehmr_jax.evaluation import results, summary
from scorehmr_jax.evaluation.benchmarks import BENCHMARKS, Files, Protocol, expectations
from scorehmr_jax.evaluation.cases import Case, features_of, released_case, warn_of_frames
from scorehmr_jax.evaluation.metric_table import METRICS
from scorehmr_jax.evaluation.originals import original_case
from scorehmr_jax.evaluation.runs import run
from scorehmr_jax.evaluation.tables.fill import fill
from scorehmr_jax.evaluation.tables.paper import TABLES
from scorehmr_jax.evaluation.tables.released_source import ReleasedSource
from scorehmr_jax.evaluation.tables.stand_ins import OPEN_TABLES
from scorehmr_jax.evaluation.tables.write import as_text, write_table
from scorehmr_jax.evaluation.tasks import MODES, TASKS
from scorehmr_jax.evaluation.views import views_case
from scorehmr_jax.formats.backbones import backbone_of_width
from scorehmr_jax.formats.released_layout import ReleasedLayout
from scorehmr_jax.load import load_prior
from scorehmr_jax.prior import Prior


def main(argv: list[str] | None = None) -> dict[str, Any]:
    args = arguments(argv)
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


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("protocol", choices=[*TASKS, *BENCHMARKS, *TABLES])
    parser.add_argument("--out", type=Path, metavar="DIR", help="for the results; results/NAME")
    parser.add_argument("--data-root", type=Path, help="the released code's folder `data`")
    for name in Files.names():
        parser.add_argument(f"--{name.replace('_', '-')}", type=Path, metavar="F")
    parser.add_argument("--images", type=Path, metavar="DIR", help="read image sizes from headers")
    parser.add_argument("--precision", choices=["float32", "float64"], default="float32")
    parser.add_argument("--mode", choices=MODES, default="released", help="of the loop")
    parser.add_argument("--method", choices=[m for m in METHODS if m != "default"], default=LOOP)
    parser.add_argument("--batch", type=int, help="samples that a device refines at once")
    parser.add_argument("--fps", type=float, help="frames per second of the videos")
    parser.add_argument("--focal", type=float, help="focal length of every camera, pixels")
    parser.add_argument("--boxes", help="whose boxes the estimates were made with; kept as it is")
    parser.add_argument("--compare", type=Path, metavar="F", help="another run's per_sample.npz")
    parser.add_argument("--open", type=Path, metavar="DIR", help="a table on the open benchmark")
    parser.add_argument("--split", choices=("val", "test", "heldout"), default="test")
    parser.add_argument("--quick", action="store_true", help="fewer frames of the open benchmark")
    cluster.add_arguments(parser)
    args = parser.parse_args(argv)

    args.name = args.protocol
    args.out = local_path(args.out or Path("results", args.name))
    if args.out.exists() and not args.out.is_dir():
        parser.error(f"--out: {args.out} is a file; please give a folder")
    for name in ("batch", "fps", "focal"):
        if (number := getattr(args, name)) is not None and not 0 < number < float("inf"):
            parser.error(f"--{name}: expected a number above 0, found {number}")
    if args.name in TABLES:
        if (args.open is None) == (args.data_root is None):
            parser.error(f"{args.name}: please give --data-root or --open, one of the two")
        return args
    args.protocol = BENCHMARKS.get(args.name) or Protocol(args.name, task=args.name)
    if args.images and args.image_sizes:
        parser.error("--images, --image-sizes: expected one of the two, found both")
    given: dict[str, Any] = {n: getattr(args, n) for n in Files.names() if getattr(args, n)}
    released = args.protocol.source == "released"
    if args.data_root is not None:
        if args.name not in BENCHMARKS:
            parser.error(f"--data-root goes with a benchmark: {', '.join(BENCHMARKS)}")
        args.files = args.protocol.released_files(args.data_root, **given)
    else:
        required = ["data", "estimates"]
        if args.method == LOOP:
            required.append("weights")
        if released:
            required.append("body")
        if args.protocol.needs_regressor:
            required.append("extra_joints")
        missing = [f"--{n.replace('_', '-')}" for n in required if n not in given]
        if missing:
            parser.error(f"without --data-root, please give {', '.join(missing)}")
        nothing = dict.fromkeys(("body", "extra_joints", "weights"))
        args.files = Files(**(nothing | given))
    sized = args.images or args.files.image_sizes or not released
    if args.protocol.how.needs_keypoints and not sized:
        place = None
        if args.data_root:
            place = ReleasedLayout(args.data_root).image_sizes(args.protocol.data)
        parser.error(
            "keypoints need the images' sizes: please give --images or --image-sizes"
            + (f", or put them in {place}" if place else "")
        )
    for name in ("fps", "focal", "boxes"):
        if (value := getattr(args, name)) is not None:
            args.protocol = replace(args.protocol, **{name: value})
    return args


def warn_of_numbers(args: argparse.Namespace) -> None:
    """Warns of numbers that stand in for what nobody has stated, and of those without a use."""
    sized = args.images or args.files.image_sizes or args.protocol.source != "released"
    stated = args.name in BENCHMARKS
    for name, used, meaning in (
        ("focal", sized, "pixels, as in the released code, for every camera"),
        ("fps", args.protocol.how.is_video, "frames per second for every video"),
    ):
        if used and getattr(args, name) is None and not stated:
            default = getattr(args.protocol, name)
            warnings.warn(f"no --{name}: {default:g} {meaning}", stacklevel=2)
        if getattr(args, name) is not None and not used:
            lacking = "are no videos" if name == "fps" else "are no image sizes"
            warnings.warn(f"--{name} is not used: there {lacking}", stacklevel=2)
    if not sized:
        warnings.warn("no image sizes: errors in the image are not measured", stacklevel=2)


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


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
    protocol, files, task = args.protocol, args.files, args.protocol.how
    warn_of_numbers(args)

    # What we know: body, prior, images, first estimates, truth.
    other = None if args.compare is None else read_npz(args.compare)
    if other is not None:
        summary.check_comparable(args.compare, other)
    prior = read_prior(args)
    case = read_case(args)
    features = None
    if prior is not None and prior.condition_on == "features":
        if args.data_root and not (files.features and files.feature_stats):
            backbone = backbone_of_width(prior.network.condition_dim)
            files = protocol.with_features(files, args.data_root, backbone)
        features = features_of(prior, files, case, args.precision)
    elif args.features or args.feature_stats:
        text = f"--features, --feature-stats are not used: {files.weights} takes no image features"
        warnings.warn(text, stacklevel=1)
    counts = {"recordings": len(case.lengths)}
    counts["samples"] = case.frames["in the files"] - case.frames["left out by the protocol"]
    for line in expectations(protocol, counts):
        warnings.warn(line, stacklevel=1)

    # Refine and measure.
    name = "default" if (args.method, args.mode) == (LOOP, "default") else args.method
    start = time.perf_counter()
    method = make_method(name, Skeleton.of(case.body, OPENPOSE_25), task, prior)
    found = run(case, method.refiner, features, method.mode, args.batch, METRICS)

    # Report.
    about = {
        "protocol": asdict(case.protocol) | {"described": case.protocol.described()},
        "method": args.method,
        "refinement": method.config,
        "mode": args.mode,
        "precision": args.precision,
        "files": {k: str(v) for k, v in vars(files).items() if v is not None},
        "frames": dict(case.frames),
        "notes": list(case.notes),
        "devices": {
            "kind": jax.devices()[0].device_kind,
            "count": jax.device_count(),
            "processes": jax.process_count(),
        },
        "seconds": time.perf_counter() - start,
    }
    report = summary.summarize(found, case.names, METRICS, about, case.sequence)
    if cluster.is_main():
        results.write(args.out, report, found, case.names, case.sequence)
        print(summary.table(report, METRICS))
        if other is not None:
            print(summary.difference_from(found, args.compare, other, case.names))
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
        return make_method(name, skeleton, case.protocol.how, prior, changes)

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
