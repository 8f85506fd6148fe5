"""`scorehmr features`: what a network makes of a data set's images, as the released caches do."""

import argparse
from pathlib import Path
from typing import Any

from scorehmr_jax.commands import network_options

_HELP = """\
Shows every image of a data set to a network, and writes what it makes of them as the released
caches have it, row by row: pose_feats and cam_shape_feats of PARE, img_feats of ProHMR, and of a
network that estimates bodies pred_pose, pred_betas, pred_cam and pred_cam_t (for a focal length
of 5000 pixels). evaluate.py and `scorehmr build-data` read the file.

DATA is an .npz with imgname, center and scale (or body_keypoints_2d, around which boxes are
made), for which an .npz is written; or a .pkl with a list of such dicts, one for each sequence or
set of views, for which a .pkl is.

What is done is kept: after Ctrl-C, or when the machine stopped, the same command goes on, and
writes the same file. Rows of images that cannot be shown are NaN, so that the rows stay those of
DATA; they are listed here, and in OUT.unreadable.txt. When they are mended, the same command makes
these parts anew.
"""


def add_parser(commands: Any) -> None:
    """Adds the subcommand to those of a parser."""
    parser = commands.add_parser(
        "features",
        help="cache a network's features of a data set's images",
        description=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", type=Path, help="annotations in the released layout")
    parser.add_argument(
        "--images", type=Path, required=True, metavar="DIR", help="where imgname starts"
    )
    parser.add_argument(
        "--network",
        required=True,
        metavar="NAME=FILE",
        help=f"{network_options.NAMES}, and the file with its weights",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="F", help="the file to write")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    network_options.add_precision(parser)
    network_options.add_reading(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    from body_model.files import local_path
    from scorehmr_jax.commands.feature_cache import (
        cache_features,
        refuse_existing,
        unreadable_list,
    )
    from scorehmr_jax.commands.long_work import writable
    from scorehmr_jax.formats.image_rows import read_image_rows

    network_options.check(args)
    rows = read_image_rows(args.data)
    target, wanted = local_path(args.out), ".pkl" if rows.grouped else ".npz"
    if target.suffix != wanted:
        kind = "a list of groups" if rows.grouped else "one table of images"
        raise ValueError(f"--out: {target}: expected a {wanted} to write, as DATA is {kind}")
    refuse_existing(writable(target), args.overwrite)
    network = network_options.load("--network", args.network, args.precision)
    unreadable = cache_features(
        rows, args.images, network, target, args.batch, args.threads, not args.as_stored
    )
    count, kind = len(rows.names), ", ".join(network.feature_keys) or "estimates"
    print(f"{kind} of {count - len(unreadable)} of {count} images, written to {target}")
    for line in unreadable_list(unreadable, target):
        print(line)
