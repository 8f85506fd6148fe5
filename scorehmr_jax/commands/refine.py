"""`scorehmr refine`: from pictures, or from first estimates in a file, to refined bodies."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scorehmr_jax import cluster
from scorehmr_jax.commands import picture_options
from scorehmr_jax.commands.picture_options import NETWORKS
from scorehmr_jax.formats.bodies.contents import SUFFIXES
from scorehmr_jax.formats.bodies.tram import tracks_of
from scorehmr_jax.formats.estimates import is_keypoints, is_own
from scorehmr_jax.formats.pictures import PHOTOS, VIDEOS

if TYPE_CHECKING:
    from scorehmr_jax.formats.own_estimates import RefineInput

_HELP = """\
Find people in a photo, a folder of photos or a video and refine their bodies; or
refine first estimates from a file. With a shipped prior or your own.

Of pictures, the results are an .npz and an overlay, a picture or an .mp4: the body
over the person before and after, and from the side. People are found by MediaPipe's
pose networks (pip install 'scorehmr-jax[detect]'), which are fetched once.

With --network hmr2=FILE (or pare=, prohmr=) that network makes the first estimates, and with
--features pare=FILE another one the features of a prior that takes some, standardised with
--feature-stats. Then --keypoints FILE, in any of the formats below, or --boxes FILE, a data set's
.npz with imgname, center, scale and body_keypoints_2d, may take the place of MediaPipe.

Estimates are the results of HMR 2.0, CameraHMR, PHALP, WHAM, GVHMR, TRAM, NLF or
SAM 3D Body, motion in AMASS's form, or keypoints, in 2D alone or with 3D; with
--keypoints FILE of OpenPose, COCO, MMPose, AlphaPose, Halpe, MediaPipe or an .npz.
People are matched frame by frame. Results are written person by person: what was
stopped goes on where it was.

An .npz of our own estimates holds, for N images (with --video: N frames of one video)
  pose [N,24,3,3] rotation matrices or [N,24,3] axis-angle in radians, or
  pose_axis_angle [N,72]; the root's is in the camera frame
  betas [N,10]    translation [N,3] body to camera, metres
  keypoints [N,25,3] OpenPose-25: x, y in pixels of the full image, confidence
  image_size [N,2] or [2] width and height, pixels
  focal [N,2], [N] or one number, pixels; else 5000 is assumed
  center [N,2] or [2] principal point, pixels; else the image's middle
and, for a prior that needs image features, features [N,F], already standardised;
of a video fps, frames per second, which is kept.
The output holds the same keys with the refined bodies, status [N]: 0 is refined,
others are listed; kept_share [N]; and how far off each is expected to be: expected_error [N] and
expected_joint_error [N,24] in mm, expected_worse [N], the probability that it is worse than it
was. What they were refined from is in first_pose, first_betas and first_translation. It can be
refined again: then its bodies are the first ones.

Of such an .npz all devices are used; of several processes each reads the input and
the first writes the output.
"""


def add_parser(commands: Any) -> None:
    """Adds the subcommand to those of a parser."""
    parser = commands.add_parser(
        "refine",
        help="from a photo, a video or estimates to refined bodies",
        description=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "input",
        type=Path,
        nargs="?",
        help="a photo, folder of photos or video; estimates; keypoints in 3D, or in 2D alone",
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="the .npz to write, or a folder; INPUT_refined by default, but for our own .npz",
    )
    parser.add_argument("--video", action="store_true", help="the images are frames in order")
    parser.add_argument(
        "--prior",
        help="a shipped prior or a checkpoint; by default open-uncond for bodies that are lifted "
        "from keypoints, and open-cond for those of networks",
    )
    parser.add_argument("--body", type=Path, help="an SMPL file; the open body by default")
    both = parser.add_argument_group("of pictures and of others' estimates")
    both.add_argument("--focal", type=float, help="focal length, pixels")
    both.add_argument("--fov", type=float, help="degrees seen across the picture's width")
    both.add_argument("--keypoints", type=Path, help="file or folder of 2D keypoints")
    both.add_argument("--convention", help="of the keypoints, such as coco-17, or a .toml")
    both.add_argument("--fps", type=float, help="frames per second of a video; its own by default")
    both.add_argument(
        "--fill",
        type=int,
        help="fill gaps of up to so many frames of a video; 30, but none in our own .npz unless "
        "asked, nor with a prior that takes image features",
    )
    pictures = parser.add_argument_group("of pictures")
    pictures.add_argument("--people", type=int, default=1, help="at most so many in each; 1")
    pictures.add_argument("--no-overlay", action="store_true", help="write the .npz alone")
    pictures.add_argument("--no-before", action="store_true", help="draw the refined bodies alone")
    pictures.add_argument("--models", type=Path, help="folder with MediaPipe's .tflite files")
    picture_options.add_networks(pictures)
    others = parser.add_argument_group("of estimates and 3D keypoints")
    others.add_argument("--format", help="of the estimates, such as wham; told from the content")
    others.add_argument("--camera", type=Path, help="a calibration: .toml, .yml, .json, .txt, ...")
    others.add_argument("--camera-name", help="of one camera in it")
    others.add_argument(
        "--image-size", type=float, nargs=2, metavar=("WIDTH", "HEIGHT"), help="pixels"
    )
    others.add_argument("--images", action="store_true", help="frames are no video")
    cluster.add_arguments(parser)
    parser.set_defaults(run=_run)


_FILL = 30  # frames
# Options by the kind of input, with the values that they have when they are not given.
_OF_PICTURES = {
    "people": 1,
    "no_overlay": False,
    "no_before": False,
    "models": None,
    **NETWORKS,
}
_KEYPOINTS = dict.fromkeys(("keypoints", "convention"))
_OF_ESTIMATES = {
    **dict.fromkeys(("format", "camera", "camera_name", "image_size")),
    "images": False,
}
_OF_PROCESSES = dict.fromkeys(("coordinator", "processes", "process_id"))
_OF_OTHERS = {"focal": None, "fov": None, "fps": None, "fill": None}


def _run(args: argparse.Namespace) -> None:
    if args.input is None:
        if args.keypoints is None:
            raise ValueError("expected a photo, video, estimates or keypoints to refine")
        args.input, args.keypoints = args.keypoints, None
    kind = _kind(args)
    if kind != "own":
        _refuse(args, _OF_PROCESSES, "of our own .npz only")
    if kind == "pictures":
        if args.network is None:
            _refuse(args, _KEYPOINTS, "of estimates only, or beside --network NAME=FILE")
        _refuse(args, _OF_ESTIMATES, "of estimates only")
        _refine_pictures(args)
        return
    _refuse(args, _OF_PICTURES, "of pictures only")
    if kind == "estimates":
        _refine_estimates(args)
        return
    _refuse(args, _OF_OTHERS, "not of our own .npz, which says it itself")
    if args.out is None:
        raise ValueError("--out: expected the .npz to write")
    cluster.start(args.coordinator, args.processes, args.process_id)
    refine_file(args.input, args.out, args.prior or "open-cond", args.body, args.video)


def _kind(args: argparse.Namespace) -> str:
    """What the input is: "pictures", "estimates" of others, or our "own" .npz and nothing else."""
    from body_model.files import local_path

    source = local_path(args.input)
    suffix = source.suffix.lower()
    if _given(args, NETWORKS) and (source.is_dir() or suffix not in (*SUFFIXES, ".trc")):
        return "pictures"
    asked = bool(_given(args, {**_OF_ESTIMATES, **_KEYPOINTS}))
    if source.is_dir():
        # TRAM draws a video into the folder of its results, and HMR 2.0 pictures.
        if asked or tracks_of(source):
            return "estimates"
        held = {file.suffix.lower() for file in source.iterdir()}
        return "pictures" if held & {*PHOTOS, *VIDEOS} or not held & {*SUFFIXES} else "estimates"
    if suffix in (*SUFFIXES, ".trc") and suffix != ".npz":
        return "estimates"
    if suffix != ".npz":
        return "pictures"
    if not source.is_file():
        return "own"  # whose reader says so
    asked |= args.fps is not None or args.fill is not None
    return "estimates" if asked or is_keypoints(source) or not is_own(source) else "own"


def _refuse(args: argparse.Namespace, options: dict[str, Any], why: str) -> None:
    if given := _given(args, options):
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ValueError(f"{args.input}: {names}: {why}")


def _gap(args: argparse.Namespace) -> int:
    """The longest gap that is filled."""
    if args.fill is None:
        return _FILL
    if args.fill < 0:
        raise ValueError(f"--fill: expected frames, 0 or more, found {args.fill}")
    return int(args.fill)


def _given(args: argparse.Namespace, options: dict[str, Any]) -> list[str]:
    return [name for name, value in options.items() if getattr(args, name) != value]


def _refine_pictures(args: argparse.Namespace) -> None:
    from scorehmr_jax.commands.focal_length import Lens
    from scorehmr_jax.commands.refine_pictures import refine_pictures

    refine_pictures(
        args.input,
        args.out,
        prior=args.prior,
        body=args.body,
        lens=Lens(args.focal, args.fov),
        video=args.video,
        draw=not args.no_overlay,
        draw_before=not args.no_before,
        fps=args.fps,
        longest_gap=_gap(args),
        where=picture_options.where(args),
        networks=picture_options.networks(args),
    )


def _refine_estimates(args: argparse.Namespace) -> None:
    from scorehmr_jax.commands.estimate_cameras import Given
    from scorehmr_jax.commands.focal_length import Lens
    from scorehmr_jax.commands.refine_estimates import Files, refine_estimates

    if args.video and args.images:
        raise ValueError("--video and --images: expected one of them")
    Lens(args.focal, args.fov)  # refuses what is no focal length
    refine_estimates(
        Files(
            args.input,
            args.keypoints,
            args.convention,
            args.out,
            tuple(args.image_size) if args.image_size else None,
            args.format,
        ),
        Given(args.camera, args.camera_name, args.focal, args.fov),
        prior=args.prior,
        body=args.body,
        video=True if args.video else False if args.images else None,
        longest_gap=_gap(args),
        fps=args.fps,
    )


def refine_file(
    source: Path,
    target: Path,
    prior: str = "open-cond",
    body: Path | None = None,
    video: bool = False,
) -> None:
    """Refines the estimates in one .npz into another.

    Args:
        source: our own .npz, as `read_estimates` has it.
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
    from scorehmr_jax.commands.estimate_summary import expectation
    from scorehmr_jax.commands.long_work import writable
    from scorehmr_jax.commands.refine_parts import Outcome
    from scorehmr_jax.devices import Devices
    from scorehmr_jax.formats.estimates import write_estimates
    from scorehmr_jax.formats.own_estimates import read_own
    from scorehmr_jax.load import load_prior
    from scorehmr_jax.refine import RefineConfig, make_refiner
    from scorehmr_jax.screening import STATUS

    target = local_path(target)
    if target.suffix != ".npz":
        kind = f"ends in {target.suffix or 'no suffix'}"
        raise ValueError(f"{target}: {kind}; expected the .npz to write")
    if cluster.is_main():
        writable(target)
    given = read_own(source)
    assert given.keypoints is not None and given.camera is not None
    loaded_prior = load_prior(prior)
    model = load(body) if body else open_body()
    devices, batch = Devices.all(), given.estimate.betas.shape[:-1]
    there = _there(given)
    try:
        (estimate, features, keypoints, camera, real), mask = devices.pad(
            (given.estimate, given.features, given.keypoints, given.camera, there), batch
        )
        terms: list = [guidance.keypoints_2d(keypoints, camera)]
        if video:
            terms.append(guidance.smooth())
        config = RefineConfig.for_video() if video else RefineConfig.for_images()
        refiner = make_refiner(loaded_prior, model, config)
        arguments = (estimate, features, terms, mask & real)
        refined, info = refiner(*devices.split(arguments, mask.shape))
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    outcome = Outcome.of(refined, info, devices, batch)
    status = outcome.status
    if not cluster.is_main():
        return
    write_estimates(
        target,
        outcome.refined,
        given.camera,
        given.keypoints,
        given.features,
        status,
        kept_share=outcome.kept_share,
        expected=outcome.expected,
        fps=given.fps,
        first=given.estimate,
    )
    print(f"{np.sum(status == 0)} of {there.sum()} refined, written to {target}")
    for line in expectation(outcome.expected):
        print(line)
    if given.first is not None:
        print(f"first estimate: the bodies of {source}; what they were refined from is left out")
    for index in map(tuple, np.argwhere((status != 0) & there)):
        print(f"  {', '.join(map(str, index))}: {STATUS[status[index]]}")


def _there(given: "RefineInput") -> np.ndarray:
    """Where somebody is: neither a body nor a keypoint says that nobody was found."""
    held = [np.isfinite(np.asarray(a)) for a in vars(given.estimate).values()]
    body = np.logical_or.reduce([a.any(tuple(range(held[1].ndim - 1, a.ndim))) for a in held])
    assert given.keypoints is not None
    return body | (np.asarray(given.keypoints.confidence) > 0).any(-1)
