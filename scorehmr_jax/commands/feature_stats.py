"""`scorehmr feature-stats`: mean and standard deviation of image features over files."""

import argparse
from pathlib import Path
from typing import Any

from scorehmr_jax.formats.backbones import BACKBONES

_HELP = """\
Mean and standard deviation of image features over files, as `build-data` and training need them.
Files of PARE hold pose_feats [N,128,24] and perhaps cam_shape_feats [N,64,24], of ProHMR img_feats
[N,2048], your own features [N,F]. Take the training sets, all of them; a prior keeps to the
statistics it was trained with.
"""


def add_parser(commands: Any) -> None:
    """Adds the subcommand to those of a parser."""
    parser = commands.add_parser(
        "feature-stats",
        help="compute feature statistics",
        description=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("features", nargs="+", type=Path, metavar="F")
    parser.add_argument(
        "--backbone",
        choices=[*BACKBONES, "own"],
        help="whose keys to read; default: those that all files have",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="F", help="the .npz to write")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    parser.set_defaults(run=feature_stats)


def feature_stats(args: argparse.Namespace) -> None:
    """Computes statistics and writes them."""
    from scorehmr_jax.datasets.statistics import compute_statistics

    found = compute_statistics(args.features, args.out, args.backbone, overwrite=args.overwrite)
    print(f"statistics of {len(found.mean)} features written to {args.out}")
