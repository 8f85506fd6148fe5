"""`scorehmr build-data`: training sets from annotations, features and motion capture."""

import argparse
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scorehmr_jax.formats.backbones import BACKBONES

_HELP = """\
Build training sets (ArrayRecord, through TFDS) from files in the released layout or your own.

NAME is one or more of
  h36m, coco, mpi_inf_3dhp, mpii   images with body fits: DIR is the released code's folder `data`,
                                   with datasets/ and stats/, and cache/ in it or beside it; also
                                   with whose fits and which features: h36m/mosh_pare,
                                   coco/spin_prohmr (or choose with --fits and --backbone)
  scorehmr-a, scorehmr-b,          the three sets of the paper's models
  scorehmr-b-shape
  amass                            body pose only: DIR has AMASS's .npz, in folders
  own                              DIR has your own .npz, N samples each, with the keys
    body_pose [N,72] or [N,24,3] axis-angle, and perhaps betas [N,10], features [N,F],
    pred_pose [N,24,3,3], imgname [N], has_body_pose [N]; feature_stats.npz has mean and std [F]

Only samples with a pose fit are kept. A set is whole or is not there. Of several sets, those that
are there already are left as they are, so that the same command goes on where it failed.
"""


def add_parser(commands: Any) -> None:
    """Adds the subcommand to those of a parser."""
    parser = commands.add_parser(
        "build-data",
        help="build training sets",
        description=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("--data-root", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where sets go")
    parser.add_argument("--fits", choices=["mosh", "eft", "spin"], help="default: mosh or eft")
    parser.add_argument("--backbone", choices=[*BACKBONES, "none"], help="default: pare")
    files = parser.add_argument_group("files elsewhere than in the released layout")
    files.add_argument("--annotations", type=Path, metavar="F")
    files.add_argument("--features", type=Path, metavar="F", help="of the images, not standardised")
    files.add_argument("--stats", type=Path, metavar="F", help="mean and deviation of the features")
    files.add_argument(
        "--estimates",
        type=Path,
        metavar="F",
        help="a network's predictions, for a prior conditioned on them",
    )
    parser.add_argument("--set-name", help="of an own set")
    parser.add_argument("--fps", type=float, help="frames per second from AMASS; default: 10")
    parser.add_argument(
        "--clip-fps",
        type=float,
        metavar="FPS",
        help="frame rate of AMASS's clips that hold none; else they are left out",
    )
    parser.add_argument(
        "--drop-bad",
        action="store_true",
        help="leave out samples with NaN and, of your own, odd files",
    )
    parser.add_argument(
        "--accept-statistics", action="store_true", help="that seem to be of other features"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace sets that are there")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=build_data)


def build_data(args: argparse.Namespace) -> None:
    """Builds the sets that are asked for, and prints what they hold."""
    from body_model.folders import folder_exists
    from scorehmr_jax.datasets.build import Given, build, describe, expand, plan

    names = expand(args.names)
    elsewhere = ("annotations", "features", "estimates", "set_name")
    given_one = [f"--{key.replace('_', '-')}" for key in elsewhere if getattr(args, key)]
    if len(names) > 1 and given_one:
        raise ValueError(f"{', '.join(given_one)}: expected one NAME with these, found {names}")
    given = Given(
        fits=args.fits,
        backbone=args.backbone,
        annotations=args.annotations,
        features=args.features,
        statistics=args.stats,
        estimates=args.estimates,
        name=args.set_name,
        fps=args.fps,
        clip_fps=args.clip_fps,
        drop_bad=args.drop_bad,
        accept_statistics=args.accept_statistics,
    )
    # All are checked before the first is built, which may take long.
    folders = [plan(name, args.data_root, args.out, given).final for name in names]
    with _stopped_by_sigterm():
        for name, folder in zip(names, folders, strict=True):
            if len(names) > 1 and not args.overwrite and folder_exists(folder):
                print(f"{folder}: there already, left as it is", flush=True)
                continue
            build(name, args.data_root, args.out, given, overwrite=args.overwrite, quiet=args.quiet)
            print(describe(folder), flush=True)


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """Clears up after SIGTERM as after Ctrl-C; a second signal cannot disturb that."""

    def stop(number: int, _: Any) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt(number)

    # Only the main thread may set what a signal does.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:  # ignored by jobs in the background
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
