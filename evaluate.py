"""Evaluate refinement on files in the released formats.

    python evaluate.py 3dpw --data-root data --images DIR
    python evaluate.py keypoints|multiview|video --data F --estimates F --features F
        --feature-stats F --weights F --body F --extra-joints F --image-sizes F --out DIR

Writes metrics.json and per_sample.npz into DIR (results/NAME by default) and prints one table.
"""

import argparse
import sys
import time
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from body_model import Skeleton
from body_model.io import load, load_regressor, read_npz
from body_model.joints import EXTRA_19, OPENPOSE_25
from scorehmr_jax.commands.compilation_cache import use_compilation_cache
from scorehmr_jax.evaluation import batching, report
from scorehmr_jax.evaluation.measure import Truth, measure, vertex_error
from scorehmr_jax.evaluation.protocols import BENCHMARKS, TASKS, Files
from scorehmr_jax.formats.features import read_features
from scorehmr_jax.formats.released import concatenate, read_groups, warn_of_mixed_sequences
from scorehmr_jax.formats.released_layout import ReleasedLayout
from scorehmr_jax.load import load_prior
from scorehmr_jax.refine import make_refiner
from scorehmr_jax.types import Estimate


def main(argv: list[str] | None = None) -> dict[str, Any]:
    args = arguments(argv)
    if argv is None:
        use_compilation_cache()
    with jax.enable_x64(args.precision == "float64"):
        return evaluate(args)


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
    parser.add_argument("--mode", choices=["released", "default"], default="released")
    parser.add_argument("--batch", type=int, default=256, help="samples refined at once")
    parser.add_argument("--fps", type=float, help="frames per second of the videos")
    parser.add_argument("--compare", type=Path, metavar="F", help="another run's per_sample.npz")
    args = parser.parse_args(argv)

    args.name = args.protocol
    args.protocol = (TASKS | BENCHMARKS)[args.name]
    args.out = args.out or Path("results", args.name)
    if args.out.exists() and not args.out.is_dir():
        parser.error(f"--out: {args.out} is a file; please give a folder")
    for name in ("batch", "fps"):
        if (number := getattr(args, name)) is not None and not number > 0:
            parser.error(f"--{name}: expected a number above 0, found {number}")
    if args.fps:
        args.protocol = replace(args.protocol, fps=args.fps)
    given: dict[str, Any] = {n: getattr(args, n) for n in Files.names() if getattr(args, n)}
    if args.data_root is not None:
        if args.name in TASKS:
            parser.error(f"--data-root goes with a benchmark: {', '.join(BENCHMARKS)}")
        args.files = args.protocol.released_files(args.data_root, **given)
    else:
        required = ("data", "estimates", "weights", "body", "extra_joints")
        missing = [f"--{n.replace('_', '-')}" for n in required if n not in given]
        if missing:
            parser.error(f"without --data-root, please give {', '.join(missing)}")
        args.files = Files(**given)
    if args.protocol.uses_keypoints and not (args.images or args.files.image_sizes):
        place = None
        if args.data_root:
            place = ReleasedLayout(args.data_root).image_sizes(args.protocol.data)
        parser.error(
            "keypoints need the images' sizes: please give --images or --image-sizes"
            + (f", or put them in {place}" if place else "")
        )
    return args


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
    protocol, files = args.protocol, args.files

    # What we know: body, prior, images, first estimates.
    other = None if args.compare is None else read_npz(args.compare)
    body = load(files.body, dtype=args.precision)
    extra = load_regressor(files.extra_joints, vertices=len(body.template))
    if len(extra) != len(EXTRA_19):
        raise ValueError(
            f"{files.extra_joints}: expected {len(EXTRA_19)} rows, one for each keypoint after "
            f"OpenPose's {len(OPENPOSE_25)}; found shape {extra.shape}. Give SMPL_to_J19.pkl"
        )
    all_44 = Skeleton.of(body, OPENPOSE_25, regressor=extra)
    prior = load_prior(files.weights, betas_stats=files.betas_stats, dtype=args.precision)
    groups = read_groups(
        files.data,
        files.estimates,
        image_folder=args.images,
        image_sizes=None if args.images else files.image_sizes,
        share_betas=protocol.grouped,
        dtype=args.precision,
    )
    lengths = [len(group) for group in groups]
    if protocol.task == "video":
        warn_of_mixed_sequences(files.data, groups)
    features = None
    if prior.condition_on == "image":
        if files.features is None or files.feature_stats is None:
            raise ValueError(
                f"{files.weights} needs image features: please give --features and --feature-stats"
            )
        width = prior.network.condition_dim
        parts = read_features(files.features, files.feature_stats, width, lengths, args.precision)
        features = np.concatenate(parts)
    samples = concatenate(groups)
    # Only OpenPose's 25 guide, as in the released code; the other 19 are annotations.
    keypoints = jax.tree.map(lambda a: a[:, : len(OPENPOSE_25)], samples.keypoints)
    if protocol.uses_keypoints and not (keypoints.confidence > 0).any():
        raise ValueError(f"{files.data}: no image has a keypoint with a confidence above 0")
    known = (samples.confidence_3d[:, list(protocol.joints)] > 0).any(axis=-1)
    truth = Truth(samples.joints_3d, known, keypoints, samples.camera)

    # Refine and measure, batch by batch, in few shapes.
    config = protocol.config(args.mode)
    refiner = make_refiner(prior, Skeleton.of(body, OPENPOSE_25), config)
    measured = jax.jit(measure, static_argnames="protocol")
    with_vertices = protocol.neutral_truth and samples.has_body.any()
    vertices = jax.jit(vertex_error)
    if protocol.grouped:
        batches = list(batching.grouped(lengths, args.batch))
    else:
        batches = list(batching.independent(len(samples.names), args.batch))
    results = report.Results(lengths)
    start = time.perf_counter()
    for rows, mask in report.progress(batches):
        estimate, true = jax.tree.map(lambda a, rows=rows: a[rows], (samples.estimate, truth))
        inputs = None if features is None else features[rows]
        terms = protocol.terms(true.keypoints, true.camera)
        refined, info = refiner(estimate, inputs, terms, mask)
        after = Estimate(refined.pose, refined.betas, refined.translation)
        for prefix, found in (("reg", estimate), ("opt", after)):
            figures = measured(all_44, protocol, found, true, mask)
            if with_vertices:
                true_body = samples.pose[rows], samples.betas[rows], samples.has_body[rows]
                figures["pve"] = vertices(body, found, *true_body)
            results.add(rows, mask, {f"{prefix}_{name}": v for name, v in figures.items()})
        rest = {"pose": refined.pose, "camera_translation": refined.translation}
        rest |= {"betas": refined.betas, "status": info.status, "stop_step": info.stop_step}
        results.add(rows, mask, rest)

    # Report.
    run = {
        "protocol": {"name": args.name} | asdict(protocol),
        "refinement": asdict(config),
        "mode": args.mode,
        "precision": args.precision,
        "files": {k: str(v) for k, v in vars(files).items() if v is not None},
        "seconds": time.perf_counter() - start,
    }
    fps = protocol.fps if protocol.task == "video" else None
    summary = report.summary(results, samples.names, run, fps)
    report.write(args.out, summary, results, samples.names)
    print(report.table(summary))
    if other is not None:
        print(report.comparison(results, args.compare, other, samples.names))
    return summary


if __name__ == "__main__":
    warnings.showwarning = lambda message, *_: print(f"evaluate.py: {message}", file=sys.stderr)
    try:
        main()
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"evaluate.py: {error}")
