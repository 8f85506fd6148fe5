"""Options of the commands that show the people in pictures to networks."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scorehmr_jax.commands import network_options

if TYPE_CHECKING:
    from scorehmr_jax.commands.picture_networks import Networks
    from scorehmr_jax.commands.picture_people import Where

# What is given when nothing is.
NETWORKS: dict[str, Any] = {
    **dict.fromkeys(("network", "features", "feature_stats", "boxes")),
    "precision": "float32",
}


def add_networks(parser: Any) -> None:
    """Adds the networks that pictures are shown to, and the boxes of the people in them."""
    parser.add_argument(
        "--network",
        metavar="NAME=FILE",
        help="that makes first estimates: hmr2, pare or prohmr, and its weights",
    )
    parser.add_argument(
        "--features",
        metavar="NAME=FILE",
        help="whose features the prior takes; those of --network by default",
    )
    parser.add_argument("--feature-stats", type=Path, help=".npz of the features' statistics")
    parser.add_argument("--boxes", type=Path, help="a data set's .npz with boxes of people")
    network_options.add_precision(parser)


def networks(args: argparse.Namespace) -> "Networks":
    """Loads the networks that are asked for."""
    from scorehmr_jax.commands.picture_networks import Networks

    estimates, features = (
        network_options.load(f"--{name}", text, args.precision)
        if (text := getattr(args, name))
        else None
        for name in ("network", "features")
    )
    return Networks(estimates, features, args.feature_stats)


def where(args: argparse.Namespace, keypoints: bool = True) -> "Where":
    """How people are found, as it is asked for.

    Args:
        args: the options.
        keypoints: True if keypoints are needed, and not boxes alone.
    Raises:
        ValueError: if a detector's options and files are given at once.
    """
    from scorehmr_jax.commands.picture_people import Where

    if (args.keypoints or args.boxes) and args.people != 1:
        raise ValueError("--people: of a detector; the files say how many people there are")
    if args.convention and not args.keypoints:
        raise ValueError("--convention: of --keypoints FILE, which is not given")
    files = (args.keypoints, args.convention, args.boxes)
    return Where(None, args.people, args.models, *files, keypoints_needed=keypoints)
