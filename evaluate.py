"""Evaluates refinement on files in the released formats.

    python evaluate.py 3dpw --data-root data --images DIR
    python evaluate.py keypoints|multiview|video --data F --estimates F --features F
        --feature-stats F --weights F --body F --extra-joints F --image-sizes F --out DIR

Writes metrics.json and per_sample.npz into DIR (results/NAME by default) and prints one table.
Every device is used, and with several processes (scorehmr_jax/cluster.py) those of all; each
process reads the files, the first one writes.
"""

import argparse
import re
import sys
import time
import warnings
from collections import deque
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from body_model import Skeleton
from body_model.files import local_path, read_npz
from body_model.io import load, load_regressor
from body_model.joints import EXTRA_19, OPENPOSE_25
from scorehmr_jax import cluster
from scorehmr_jax.compilation_cache import use_compilation_cache
from scorehmr_jax.evaluation import batching, results, summary
from scorehmr_jax.evaluation.benchmarks import BENCHMARKS, Files, Protocol
from scorehmr_jax.evaluation.comparison import Truth
from scorehmr_jax.evaluation.metric_table import METRICS, measure
from scorehmr_jax.evaluation.tasks import MODES, TASKS
from scorehmr_jax.formats.backbones import backbone_of_width
from scorehmr_jax.formats.features import read_features
from scorehmr_jax.formats.released import concatenate, read_groups, warn_of_mixed_sequences
from scorehmr_jax.formats.released_layout import ReleasedLayout
from scorehmr_jax.load import load_prior
from scorehmr_jax.refine import make_refiner
from scorehmr_jax.types import Estimate


def main(argv: list[str] | None = None) -> dict[str, Any]:
    args = arguments(argv)
    cluster.start(args.coordinator, args.processes, args.process_id)
    if argv is None:
        use_compilation_cache()
        warnings.showwarning = show_warning
    with jax.enable_x64(args.precision == "float64"):
        return evaluate(args)


def show_warning(message: Warning | str, *_: Any) -> None:
    """Prints a warning in one line; of several processes, in the first alone."""
    if cluster.is_main():
        print(f"evaluate.py: {message}", file=sys.stderr)


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("protocol", choices=[*TASKS, *BENCHMARKS])
    parser.add_argument("--out", type=Path, metavar="DIR", help="for the results; results/NAME")
    parser.add_argument("--data-root", type=Path, help="the released code's folder `data`")
    for name in Files.names():
        parser.add_argument(f"--{name.replace('_', '-')}", type=Path, metavar="F")
    parser.add_argument("--images", type=Path, metavar="DIR", help="read image sizes from headers")
    parser.add_argument("--precision", choices=["float32", "float64"], default="float32")
    parser.add_argument("--mode", choices=MODES, default="released")
    parser.add_argument("--batch", type=int, help="samples that a device refines at once")
    parser.add_argument("--fps", type=float, help="frames per second of the videos")
    parser.add_argument("--focal", type=float, help="focal length of every camera, pixels")
    parser.add_argument("--compare", type=Path, metavar="F", help="another run's per_sample.npz")
    cluster.add_arguments(parser)
    args = parser.parse_args(argv)

    args.name = args.protocol
    args.protocol = BENCHMARKS.get(args.name) or Protocol(args.name, task=args.name)
    args.out = local_path(args.out or Path("results", args.name))
    if args.out.exists() and not args.out.is_dir():
        parser.error(f"--out: {args.out} is a file; please give a folder")
    for name in ("batch", "fps", "focal"):
        if (number := getattr(args, name)) is not None and not 0 < number < float("inf"):
            parser.error(f"--{name}: expected a number above 0, found {number}")
    if args.images and args.image_sizes:
        parser.error("--images, --image-sizes: expected one of the two, found both")
    given: dict[str, Any] = {n: getattr(args, n) for n in Files.names() if getattr(args, n)}
    if args.data_root is not None:
        if args.name not in BENCHMARKS:
            parser.error(f"--data-root goes with a benchmark: {', '.join(BENCHMARKS)}")
        args.files = args.protocol.released_files(args.data_root, **given)
    else:
        required = ("data", "estimates", "weights", "body", "extra_joints")
        missing = [f"--{n.replace('_', '-')}" for n in required if n not in given]
        if missing:
            parser.error(f"without --data-root, please give {', '.join(missing)}")
        args.files = Files(**given)
    if args.protocol.how.needs_keypoints and not (args.images or args.files.image_sizes):
        place = None
        if args.data_root:
            place = ReleasedLayout(args.data_root).image_sizes(args.protocol.data)
        parser.error(
            "keypoints need the images' sizes: please give --images or --image-sizes"
            + (f", or put them in {place}" if place else "")
        )
    for name in ("fps", "focal"):
        if (number := getattr(args, name)) is not None:
            args.protocol = replace(args.protocol, **{name: number})
    return args


def warn_of_numbers(args: argparse.Namespace) -> None:
    """Warns of numbers that stand in for what nobody has stated, and of those without a use."""
    sized = args.images or args.files.image_sizes
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


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
    protocol, files, task = args.protocol, args.files, args.protocol.how
    warn_of_numbers(args)

    # What we know: body, prior, images, first estimates.
    other = None if args.compare is None else read_npz(args.compare)
    if other is not None:
        summary.check_comparable(args.compare, other)
    body = load(files.body, dtype=args.precision)
    extra = load_regressor(files.extra_joints, vertices=len(body.template))
    if len(extra) != len(EXTRA_19):
        raise ValueError(
            f"{files.extra_joints}: expected {len(EXTRA_19)} rows, one for each keypoint after "
            f"OpenPose's {len(OPENPOSE_25)}; found shape {extra.shape}. Give SMPL_to_J19.pkl"
        )
    all_44 = Skeleton.of(body, OPENPOSE_25, regressor=extra)
    with warnings.catch_warnings():
        if args.betas_stats is None:  # of --data-root, whether the prior has a use for it or not
            warnings.filterwarnings("ignore", f"{re.escape(str(files.betas_stats))}: not read")
        prior = load_prior(files.weights, betas_stats=files.betas_stats, dtype=args.precision)
    groups = read_groups(
        files.data,
        files.estimates,
        image_folder=args.images,
        image_sizes=None if args.images else files.image_sizes,
        share_betas=task.grouped,
        focal=protocol.focal,
        dtype=args.precision,
    )
    lengths = [len(group) for group in groups]
    if task.is_video:
        warn_of_mixed_sequences(files.data, groups)
    features = None
    if prior.condition_on == "features":
        width = prior.network.condition_dim
        if args.data_root and not (files.features and files.feature_stats):
            files = protocol.with_features(files, args.data_root, backbone_of_width(width))
        if files.features is None or files.feature_stats is None:
            raise ValueError(
                f"{files.weights} needs image features: please give --features and --feature-stats"
            )
        parts = read_features(files.features, files.feature_stats, width, lengths, args.precision)
        features = np.concatenate(parts)
    elif args.features or args.feature_stats:
        text = f"--features, --feature-stats are not used: {files.weights} takes no image features"
        warnings.warn(text, stacklevel=1)
    samples = concatenate(groups)
    # Only OpenPose's 25 guide, as in the released code; the other 19 are annotations.
    keypoints = jax.tree.map(lambda a: a[:, : len(OPENPOSE_25)], samples.keypoints)
    if task.needs_keypoints and not (keypoints.confidence > 0).any():
        raise ValueError(f"{files.data}: no image has a keypoint with a confidence above 0")
    truth = Truth.of(samples, keypoints, protocol)

    # Refine and measure, in few shapes. A batch is the work of one device, by the same program
    # whatever their number, so that the figures do not depend on it.
    config = task.config(args.mode)
    refiner = make_refiner(prior, Skeleton.of(body, OPENPOSE_25), config)
    metrics = tuple(METRICS.values())
    measured = jax.jit(measure, static_argnames=("table", "protocol"))
    size = args.batch or (32 if jax.default_backend() == "cpu" else 256)
    if task.grouped:
        batches = list(batching.grouped(lengths, size))
    else:
        batches = list(batching.independent(len(samples.names), size))
    found = results.Results(
        lengths, {f"{when}_{m.name}": m.fewer for when in ("reg", "opt") for m in metrics}
    )
    models = [jax.device_put((all_44, body), device) for device in jax.local_devices()]
    under_way: deque[tuple[batching.Rows, dict[str, Any]]] = deque()
    start = time.perf_counter()
    process, processes = jax.process_index(), jax.process_count()
    # A process without a batch works on the first one, too, to have the arrays that all share.
    own = batches[process::processes] or batches[:1]
    for number, batch in enumerate(results.progress(own, shown=cluster.is_main())):
        rows, mask = batch
        estimate, true = jax.tree.map(lambda a, rows=rows: a[rows], (samples.estimate, truth))
        inputs = None if features is None else features[rows]
        terms = task.guidance(args.mode, true.keypoints, true.camera)
        turn = number % len(models)
        estimate, true, inputs, terms, mask = jax.device_put(
            (estimate, true, inputs, terms, mask), jax.local_devices()[turn]
        )
        refined, info = refiner(estimate, inputs, terms, mask)
        after = Estimate(refined.pose, refined.betas, refined.translation)
        arrays = {"pose": refined.pose, "camera_translation": refined.translation}
        arrays |= {"betas": refined.betas, "status": info.status, "stop_step": info.stop_step}
        for when, one in (("reg", estimate), ("opt", after)):
            figures = measured(metrics, protocol, *models[turn], one, true, mask)
            arrays |= {f"{when}_{name}": figure for name, figure in figures.items()}
        under_way.append((batch, arrays))
        if len(under_way) == len(models):
            found.add(*under_way.popleft())
    for batch, arrays in under_way:
        found.add(batch, arrays)
    owner = np.zeros(len(samples.names), int)
    for number, (rows, mask) in enumerate(batches):
        owner[rows[mask]] = number % processes
    found.share(owner)

    # Report.
    run = {
        "protocol": asdict(protocol),
        "refinement": asdict(config) | {"stop": str(config.stop), "blend": str(config.blend)},
        "mode": args.mode,
        "precision": args.precision,
        "files": {k: str(v) for k, v in vars(files).items() if v is not None},
        "devices": {
            "kind": jax.devices()[0].device_kind,
            "count": jax.device_count(),
            "processes": processes,
        },
        "seconds": time.perf_counter() - start,
    }
    report = summary.summarize(found, samples.names, METRICS, run)
    if cluster.is_main():
        results.write(args.out, report, found, samples.names)
        print(summary.table(report, METRICS))
        if other is not None:
            print(summary.difference_from(found, args.compare, other, samples.names))
    return report


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"evaluate.py: {error}")
