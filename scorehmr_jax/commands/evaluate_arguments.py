"""The choices of evaluate.py, and what is said of numbers that stand in for others."""

import argparse
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from body_model.files import local_path
from scorehmr_jax import cluster
from scorehmr_jax.baselines.methods import ESTIMATE, LOOP, METHODS
from scorehmr_jax.baselines.registry import BASELINES
from scorehmr_jax.evaluation.benchmarks import BENCHMARKS
from scorehmr_jax.evaluation.originals import READERS
from scorehmr_jax.evaluation.protocol import Files, Protocol
from scorehmr_jax.evaluation.tables.paper import TABLES
from scorehmr_jax.evaluation.tasks import MODES, TASKS
from scorehmr_jax.formats.released_layout import ReleasedLayout


def arguments(argv: list[str] | None, about: str | None = None) -> argparse.Namespace:
    """Reads the command line of evaluate.py.

    Args:
        argv: its words; None for those of this process.
        about: what --help says.
    Returns:
        The options; `name` is what was asked for, and for a benchmark `protocol` how it is measured
        and `files` where it is.
    """
    parser = argparse.ArgumentParser(
        "evaluate.py", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
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
        if args.method != LOOP or args.mode != "released" or args.weights:
            parser.error(f"{args.name}: has methods, modes and weights of its own")
        return args
    if args.open or args.quick or args.split != "test":
        parser.error("--open, --split, --quick: of the tables only")
    if args.method != LOOP:
        if args.mode != "released":
            parser.error(f"--mode: of the loop; {args.method} has none")
        if args.weights and (args.method == ESTIMATE or not BASELINES[args.method].load):
            parser.error(f"--weights: {args.method} has none; found {args.weights}")
    args.protocol = BENCHMARKS.get(args.name) or Protocol(args.name, task=args.name)
    if args.images and args.image_sizes:
        parser.error("--images, --image-sizes: expected one of the two, found both")
    given: dict[str, Any] = {n: getattr(args, n) for n in Files.names() if getattr(args, n)}
    released = args.protocol.source == "released"
    if args.data_root is not None:
        if args.name not in BENCHMARKS:
            parser.error(f"--data-root goes with a benchmark: {', '.join(BENCHMARKS)}")
        if args.method != LOOP and not args.weights:
            given["weights"] = Path("none")  # a prior's would be looked for
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
        nothing: dict[str, Any] = dict.fromkeys(("body", "extra_joints", "weights"))
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
    if args.fps is not None and args.protocol.source in READERS:
        parser.error(f"--fps: recordings of {args.name} know their own; found {args.fps:g}")
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
    if args.protocol.source == "emdb" and args.boxes is None:
        text = "no --boxes: EMDB's own boxes and tight ones differ by 12 mm; say whose these are"
        warnings.warn(text, stacklevel=2)
    if not sized:
        warnings.warn("no image sizes: errors in the image are not measured", stacklevel=2)
