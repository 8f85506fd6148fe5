"""The command `scorehmr`: the demo, refinement from file to file, and training sets."""

import argparse
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from scorehmr_jax.data import commands as data_commands

_REFINE = """\
Refine first estimates from one .npz into another, with a shipped prior or your own.

The input holds, for N images (with --video: N frames of one video)
  pose [N,24,3,3] rotation matrices or [N,24,3] axis-angle, root in the camera frame
  betas [N,10]    translation [N,3] body to camera, metres
  keypoints [N,25,3] OpenPose-25: x, y in pixels of the full image, confidence
  image_size [N,2] width and height    focal [N,2], [N] or one number, pixels
and, for a prior that needs image features, features [N,F], already standardised.
"""


def main(argv: list[str] | None = None) -> None:
    """Runs the command; a mistake in the input, or Ctrl-C, ends it with one line."""
    parser = argparse.ArgumentParser(prog="scorehmr", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="refine a built-in motion; write a report")
    demo.add_argument("--out", type=Path, default=Path("demo_out"))
    demo.add_argument("--prior", default="open-cond", help="a shipped prior or a checkpoint")
    demo.add_argument("--seed", type=int, default=0, help="of the simulated errors")
    refine = commands.add_parser(
        "refine",
        help="refine estimates in an .npz",
        description=_REFINE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    refine.add_argument("input", type=Path)
    refine.add_argument("--out", type=Path, required=True, help="the .npz to write")
    refine.add_argument("--video", action="store_true", help="the images are frames in order")
    refine.add_argument("--prior", default="open-cond", help="a shipped prior or a checkpoint")
    refine.add_argument("--body", type=Path, help="an SMPL file; the open body by default")
    data_commands.add_parsers(commands)
    args = parser.parse_args(argv)
    name = f"scorehmr {args.command}"
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: print(f"{name}: {message}", file=sys.stderr)
        try:
            if args.command == "demo":
                from scorehmr_jax.demo import run

                run(args.out, args.seed, args.prior)
            elif args.command in data_commands.COMMANDS:
                data_commands.COMMANDS[args.command](args)
            else:
                refine_file(args.input, args.out, args.prior, args.body, args.video)
        except (ValueError, OSError, ImportError) as error:
            sys.exit(f"{name}: {error}")
        except KeyboardInterrupt as stop:
            print(f"{name}: stopped", file=sys.stderr)
            sys.exit(128 + (stop.args[0] if stop.args else signal.SIGINT))  # as shells have it


def refine_file(
    source: Path, target: Path, prior: str = "open-cond", body: Path | None = None,
    video: bool = False,
) -> None:  # fmt: skip
    """Refines the estimates in one .npz into another; `scorehmr refine --help` tells the keys.

    Raises:
        ValueError: naming the file and key, if an array is missing or has another shape.
    """
    import jax.numpy as jnp

    from body_model import load, open_body
    from body_model.io import read_npz
    from body_model.smpl import pose_matrices
    from scorehmr_jax import guidance
    from scorehmr_jax.camera import DEFAULT_FOCAL, pinhole
    from scorehmr_jax.data.tables import not_rotations
    from scorehmr_jax.load import load_prior
    from scorehmr_jax.output.export import save_npz
    from scorehmr_jax.refine import refine
    from scorehmr_jax.screening import STATUS
    from scorehmr_jax.types import Estimate, Keypoints2D

    if target.is_dir():
        raise ValueError(f"{target}: is a folder; expected the .npz to write")
    arrays = read_npz(source)
    betas = _key(source, arrays, "betas", (None, 10))
    count = len(betas)
    keypoints = _key(source, arrays, "keypoints", (count, 25, 3))
    image_size = _positive(source, "image_size", _key(source, arrays, "image_size", (count, 2)))
    translation = _key(source, arrays, "translation", (count, 3))
    pose = _key(source, arrays, "pose", (count, 24, 3), (count, 24, 3, 3))
    if pose.ndim == 4 and len(bad := np.flatnonzero(not_rotations(pose))):
        raise ValueError(
            f"{source}: pose: row {bad[0]} ({len(bad)} in all) holds matrices that are no "
            "rotations; expected R^T R = 1 and det R = 1"
        )
    focal: Any = DEFAULT_FOCAL
    if "focal" in arrays:
        focal = _key(source, arrays, "focal", (), (1,), (count,), (count, 2))
        focal = _positive(source, "focal", focal)
    features = _key(source, arrays, "features", (count, None)) if "features" in arrays else None
    loaded_prior = load_prior(prior)
    model = load(body) if body else open_body()
    try:
        camera = pinhole(jnp.asarray(image_size), jnp.asarray(focal))
        matrices = pose_matrices(jnp.asarray(pose))
        estimate = Estimate(matrices, jnp.asarray(betas), jnp.asarray(translation))
        seen = Keypoints2D(jnp.asarray(keypoints[..., :2]), jnp.asarray(keypoints[..., 2]))
        terms: list = [guidance.keypoints_2d(seen, camera)]
        if video:
            terms.append(guidance.smooth())
        given = None if features is None else jnp.asarray(features)
        refined, info = refine(loaded_prior, model, estimate, given, terms)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    save_npz(target, refined, camera)
    status = np.asarray(info.status)
    print(f"{np.sum(status == 0)} of {count} refined, written to {target}")
    for i in np.flatnonzero(status):
        print(f"  {i}: {STATUS[status[i]]}")


def _key(path: Path, arrays: dict[str, Any], key: str, *shapes: tuple[int | None, ...]) -> Any:
    """The numbers of a key, as floats, of one of the shapes; None stands for any length."""
    if key not in arrays:
        raise ValueError(f"{path}: no key {key}; found {', '.join(sorted(arrays)) or 'none'}")
    array = arrays[key]
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{path}: {key}: expected numbers, found {array.dtype}")
    fits = (
        len(shape) == array.ndim
        and all(want in (None, have) for want, have in zip(shape, array.shape, strict=True))
        for shape in shapes
    )
    if not any(fits):
        wanted = " or ".join(str(shape).replace("None", "N") for shape in shapes)
        raise ValueError(f"{path}: {key}: expected shape {wanted}, found {array.shape}")
    return array.astype(np.promote_types(array.dtype, np.float32))


def _positive(path: Path, key: str, array: Any) -> Any:
    if not (np.isfinite(array) & (array > 0)).all():
        found = array.min()
        raise ValueError(f"{path}: {key}: expected pixels above 0, found {found:g} among them")
    return array
