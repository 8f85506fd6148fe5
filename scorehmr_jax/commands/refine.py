"""`scorehmr refine`: first estimates in one file, refined bodies in another."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from scorehmr_jax import cluster

_HELP = """\
Refine first estimates from one .npz into another, with a shipped prior or your own.

The input holds, for N images (with --video: N frames of one video)
  pose [N,24,3,3] rotation matrices or [N,24,3] axis-angle in radians, or
  pose_axis_angle [N,72]; the root's is in the camera frame
  betas [N,10]    translation [N,3] body to camera, metres
  keypoints [N,25,3] OpenPose-25: x, y in pixels of the full image, confidence
  image_size [N,2] or [2] width and height, pixels
  focal [N,2], [N] or one number, pixels; else 5000 is assumed
  center [N,2] or [2] principal point, pixels; else the image's middle
and, for a prior that needs image features, features [N,F], already standardised.
The output holds the same keys with the refined bodies, and status [N]: 0 is
refined, others are listed. It can be refined again.

All devices are used; of several processes each reads the input and the first
writes the output.
"""


def add_parser(commands: Any) -> None:
    """Adds the subcommand to those of a parser."""
    parser = commands.add_parser(
        "refine",
        help="refine estimates in an .npz",
        description=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("input", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="the .npz to write")
    parser.add_argument("--video", action="store_true", help="the images are frames in order")
    parser.add_argument("--prior", default="open-cond", help="a shipped prior or a checkpoint")
    parser.add_argument("--body", type=Path, help="an SMPL file; the open body by default")
    cluster.add_arguments(parser)

    def run(args: argparse.Namespace) -> None:
        cluster.start(args.coordinator, args.processes, args.process_id)
        refine_file(args.input, args.out, args.prior, args.body, args.video)

    parser.set_defaults(run=run)


def refine_file(
    source: Path,
    target: Path,
    prior: str = "open-cond",
    body: Path | None = None,
    video: bool = False,
) -> None:
    """Refines the estimates in one .npz into another.

    Args:
        source: what `read_estimates` reads.
        target: the .npz to write, as `write_estimates` writes it.
        prior: a shipped prior or a checkpoint.
        body: an SMPL file; the open body by default.
        video: the images are frames of one video, in order.
    Raises:
        ValueError: naming the file and key, if an array is missing, has another shape or is in
            other units.
    """
    from body_model import load, open_body
    from body_model.files import local_path
    from scorehmr_jax import guidance
    from scorehmr_jax.devices import Devices
    from scorehmr_jax.formats.estimates import read_estimates, write_estimates
    from scorehmr_jax.load import load_prior
    from scorehmr_jax.refine import make_refiner
    from scorehmr_jax.screening import STATUS

    # Before the work, not after it.
    target = local_path(target)
    if target.is_dir() or target.suffix != ".npz":
        kind = "is a folder" if target.is_dir() else f"ends in {target.suffix or 'no suffix'}"
        raise ValueError(f"{target}: {kind}; expected the .npz to write")
    given = read_estimates(source)
    loaded_prior = load_prior(prior)
    model = load(body) if body else open_body()
    devices, batch = Devices.all(), given.estimate.betas.shape[:-1]
    try:
        (estimate, features, keypoints, camera), mask = devices.pad(
            (given.estimate, given.features, given.keypoints, given.camera), batch
        )
        terms: list = [guidance.keypoints_2d(keypoints, camera)]
        if video:
            terms.append(guidance.smooth())
        refiner = make_refiner(loaded_prior, model)
        refined, info = refiner(*devices.split((estimate, features, terms, mask), mask.shape))
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    refined, status = devices.cut((refined, info.status), batch)
    if not cluster.is_main():
        return
    write_estimates(target, refined, given.camera, given.keypoints, given.features, status)
    print(f"{np.sum(status == 0)} of {status.size} refined, written to {target}")
    for index in map(tuple, np.argwhere(status)):
        print(f"  {', '.join(map(str, index))}: {STATUS[status[index]]}")
