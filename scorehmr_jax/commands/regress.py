"""`scorehmr regress`: first estimates of the people in pictures or of a data set, by a network."""

import argparse
from pathlib import Path
from typing import Any

from scorehmr_jax.commands import network_options, picture_options

_HELP = """\
Shows people to a network and writes its estimates, in the camera of the full image, as the .npz
that `scorehmr refine` reads.

INPUT is a photo, a folder of photos or a video, in which people are found as by `scorehmr refine`:
by MediaPipe, or from --keypoints or --boxes. Or it is a data set in the released layout with
--images DIR: an .npz, of which an .npz is made, or a .pkl with a list of sequences, of which a
folder with an .npz for each. Of a data set what is done is kept, and the same command goes on.

Without --body the estimates are for the open body, whose shape numbers are not SMPL's: then the
shape is the mean. With --prior, and --features and --feature-stats if need be, the file holds the
features that this prior takes.
"""


def add_parser(commands: Any) -> None:
    """Adds the subcommand to those of a parser."""
    parser = commands.add_parser(
        "regress",
        help="first estimates by a network",
        description=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("input", type=Path, help="a photo, folder of photos or video; a data set")
    parser.add_argument("--out", type=Path, help="the .npz to write, or a folder")
    parser.add_argument("--video", action="store_true", help="the images are frames in order")
    parser.add_argument("--body", type=Path, help="an SMPL file; the open body by default")
    parser.add_argument("--prior", help="a checkpoint whose image features are wanted too")
    parser.add_argument("--focal", type=float, help="focal length, pixels")
    parser.add_argument("--fov", type=float, help="degrees seen across the picture's width")
    networks = parser.add_argument_group("networks")
    picture_options.add_networks(networks)
    pictures = parser.add_argument_group("of pictures")
    pictures.add_argument("--people", type=int, default=1, help="at most so many in each; 1")
    pictures.add_argument("--models", type=Path, help="folder with MediaPipe's .tflite files")
    pictures.add_argument("--keypoints", type=Path, help="file or folder of 2D keypoints")
    pictures.add_argument("--convention", help="of the keypoints, such as coco-17, or a .toml")
    data = parser.add_argument_group("of a data set")
    data.add_argument("--images", type=Path, metavar="DIR", help="where its imgname starts")
    network_options.add_reading(data)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    from scorehmr_jax.commands.focal_length import Lens
    from scorehmr_jax.commands.picture_networks import features_wanted
    from scorehmr_jax.load import load_prior

    network_options.check(args)
    if args.network is None:
        raise ValueError("--network: expected NAME=FILE, hmr2, pare or prohmr and its weights")
    lens = Lens(args.focal, args.fov)
    width = features_wanted(load_prior(args.prior)) if args.prior else 0
    if args.images is None:
        from scorehmr_jax.commands.regress_pictures import regress_pictures

        if Path(args.input).suffix.lower() in (".npz", ".pkl"):
            raise ValueError(f"{args.input}: a data set goes with --images DIR")
        if args.as_stored or args.threads is not None or args.batch != network_options.BATCH:
            raise ValueError(
                "--as-stored, --threads, --batch: of a data set only, which goes with --images DIR"
            )
        where = picture_options.where(args, keypoints=False)
        shown = picture_options.networks(args)
        regress_pictures(
            args.input,
            args.out,
            shown,
            where=where,
            lens=lens,
            body=args.body,
            width=width,
            video=args.video,
        )
        return
    from scorehmr_jax.commands.regress_data import regress_data

    for name in ("keypoints", "convention", "boxes"):
        if getattr(args, name) is not None:
            raise ValueError(f"--{name}: of pictures only; the data set holds its own")
    if args.models is not None or args.people != 1:
        raise ValueError("--models, --people: of pictures only; the data set holds its own people")
    if args.out is None:
        raise ValueError("--out: expected the .npz to write, or of sequences the folder")
    regress_data(
        args.input,
        args.images,
        args.out,
        picture_options.networks(args),
        lens=lens,
        body=args.body,
        width=width,
        video=args.video,
        batch=args.batch,
        threads=args.threads,
        turned=not args.as_stored,
    )
