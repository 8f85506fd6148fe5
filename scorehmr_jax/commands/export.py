"""`scorehmr export`: bodies from an .npz in the files of other programs."""

import argparse
import dataclasses
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from body_model import SMPL
from body_model.files import local_path
from scorehmr_jax.commands.export_overlay import SUFFIXES, export_overlay
from scorehmr_jax.ground import fit_ground
from scorehmr_jax.output.people import Person

_HELP = """\
Write the bodies in an .npz, such as `scorehmr refine` makes, for other programs.
The name of OUT says what is written:

  .glb        moving, skinned mesh: Blender, game engines, the web
  .bvh        moving skeleton: animation programs
  .npz        AMASS's keys, [T,156] as SMPL-H's, or --joints 24 as SMPL's
  .obj .ply   the mesh of each frame, in a folder of OUT's name; a single one in OUT
  .mp4 .png   bodies drawn over their --pictures, a video or photos, and from the side

Of several people each gets a file, OUT_1, OUT_2 and so on; --person takes one.
Files of bodies are in metres, y up (.npz: z up), and the camera is taken as level, unless
--ground finds the ground that the feet stand on. Frames without a body keep their
time: they are filled in from their neighbours (.obj, .ply: left out).
"""
_SHAPES = 10  # shape numbers that other programs expect
_SHOWN = 12  # frames that a message names, at most


def add_parser(commands: Any) -> None:
    """Adds the subcommand to those of a parser."""
    parser = commands.add_parser(
        "export",
        help="write bodies as .glb, .bvh, .obj, .ply or AMASS's .npz",
        description=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("result", type=Path, help="an .npz that `scorehmr refine` wrote")
    parser.add_argument("out", type=Path, help="the file to write; its suffix says what")
    parser.add_argument("--body", type=Path, help="the SMPL file used; the open body by default")
    parser.add_argument(
        "--as-body",
        type=Path,
        help="another SMPL file to write bodies of: the pose is kept, the shape fitted",
    )
    parser.add_argument("--fps", type=float, help="frames per second; the .npz's by default")
    parser.add_argument("--person", type=int, help="which one of several, from 1")
    parser.add_argument("--ground", action="store_true", help="put the ground at height 0")
    parser.add_argument(
        "--up", type=float, nargs=3, help="the way up in the camera's frame, for --ground"
    )
    parser.add_argument("--pictures", type=Path, help="what bodies are drawn over")
    parser.add_argument(
        "--before", type=Path, help="an .npz drawn beside them; first estimates by default"
    )
    parser.add_argument("--no-before", action="store_true", help="draw the bodies alone")
    parser.add_argument(
        "--joints", type=int, choices=(24, 52), default=52, help="of an AMASS .npz; 52"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    export_bodies(
        args.result,
        args.out,
        body=args.body,
        as_body=args.as_body,
        fps=args.fps,
        person=args.person,
        ground=args.ground,
        up=args.up,
        pictures=args.pictures,
        before=args.before,
        no_before=args.no_before,
        joints=args.joints,
    )


def export_bodies(
    source: str | Path,
    out: str | Path,
    *,
    body: str | Path | None = None,
    as_body: str | Path | None = None,
    fps: float | None = None,
    person: int | None = None,
    ground: bool = False,
    up: Sequence[float] | None = None,
    pictures: str | Path | None = None,
    before: str | Path | None = None,
    no_before: bool = False,
    joints: int = 52,
) -> list[Path]:
    """Writes the bodies in an .npz in the form that the suffix of a name asks for.

    Args:
        source: what `read_people` reads.
        out: the file to write: .glb, .bvh, .obj, .ply, .npz for AMASS's keys, .mp4 or .png.
        body: the SMPL file that the bodies are of; the open body by default.
        as_body: an SMPL file to write the bodies in: pose and place are kept, ten shape numbers
            fitted.
        fps: frames per second; those of the file by default, 30 with a warning if it has none.
        person: which of several people, from 1; all by default.
        ground: True to put the ground that the feet stand on at height 0, level.
        up: the way up in the camera's frame, [3], if it is known; else it is fitted.
        pictures, before, no_before: as `export_overlay` has them, for .mp4 and .png.
        joints: of an AMASS file, 52 or 24.
    Returns:
        The files written, or the folder of each person's.
    Raises:
        ValueError: naming the file, if the suffix is unknown, the source has no bodies or no such
            person, or fps is not above 0.
        OSError: naming the file, if it cannot be written.
    """
    from body_model import load, open_body
    from scorehmr_jax.output.people import frame_rate, read_people

    out = local_path(out)
    suffix = out.suffix.lower()
    if suffix not in (*WRITERS, *SUFFIXES):
        known = ", ".join((*WRITERS, *SUFFIXES))
        raise ValueError(f"{out}: expected a name that ends in {known}; found {suffix or 'none'}")
    _check_source(local_path(source), out)
    people, known_fps = read_people(source)
    if person is not None and not 1 <= person <= len(people):
        raise ValueError(f"--person: expected 1 to {len(people)}, found {person}")
    model = load(body) if body else open_body()
    if suffix in SUFFIXES:
        drawn = people if person is None else people[person - 1 : person]
        written = [
            export_overlay(local_path(source), out, pictures, model, drawn, before, no_before)
        ]
        print(f"wrote {written[0]}")
        return written
    frames = len(people[0].present)
    timed = suffix not in (".obj", ".ply")
    rate = frame_rate(source, fps, known_fps, frames if timed else 1)
    if as_body is not None:
        people, model = _as_body(people, model, local_path(as_body))
    elif body is None and suffix == ".npz":
        warnings.warn(
            f"{out}: betas are those of the open body, which mean something else to AMASS's "
            "readers; give an SMPL or SMPL-H file as --as-body",
            stacklevel=2,
        )
    people = _upright(people, model, ground or up is not None, up)
    written = []
    for number, each in enumerate(people, start=1):
        if person in (None, number):
            several = len(people) > 1 and person is None
            target = out.with_stem(f"{out.stem}_{number}") if several else out
            written.append(WRITERS[suffix](target, model, each, rate, joints))
            _tell(written[-1], each, filled=timed)
    return written


def _as_body(people: list[Person], model: SMPL, path: Path) -> tuple[list[Person], SMPL]:
    """People in the parameters of the body of another file, and that body."""
    from body_model import load

    target = load(path)
    directions = target.shape_directions[..., :_SHAPES]
    target = dataclasses.replace(target, shape_directions=directions)
    converted = [person.converted(model, target) for person in people]
    apart = ", ".join(f"{1000 * distance:.0f}" for _, distance in converted)
    print(f"shape: fitted in {path}, {apart} mm apart")
    return [person for person, _ in converted], target


def _check_source(source: Path, out: Path) -> None:
    """Refuses a prior, which another command writes, and the source itself."""
    from body_model.files import is_npz, npz_keys

    is_bodies = source.is_file() and is_npz(source)
    if source.exists() and not (is_bodies and "translation" in npz_keys(source)):
        raise ValueError(
            f"{source}: holds no bodies; expected the .npz of `scorehmr refine`, with pose, betas "
            "and translation. Trained priors are written by `scorehmr export-prior`"
        )
    if out.exists() and source.exists() and out.samefile(source):
        raise ValueError(f"{out}: is what is read; expected another name to write")


def _upright(
    people: list[Person], model: SMPL, ground: bool, up: Sequence[float] | None
) -> list[Person]:
    """Turns people from the camera's frame, y down, to y up; with the ground at 0 if asked for."""
    from scorehmr_jax.output.amass import Y_UP_TO_Z_UP
    from scorehmr_jax.output.gltf import CAMERA_TO_GLTF

    if not ground:
        return [person.moved(model, CAMERA_TO_GLTF, np.zeros(3)) for person in people]
    known = None if up is None else np.asarray(up, float)
    found = fit_ground(*_feet_and_up(people, model), up=known)
    tilt = "as given" if found.up_error == 0 else f"known to {found.up_error:.1f} degrees"
    print(f"ground: feet within {1000 * found.residual:.0f} mm of it; its tilt is {tilt}")
    to_y_up = Y_UP_TO_Z_UP.T
    turn, shift = to_y_up @ found.rotation, to_y_up @ found.translation
    return [person.moved(model, turn, shift) for person in people]


def _feet_and_up(people: list[Person], model: SMPL) -> tuple[np.ndarray, np.ndarray]:
    """Heels and toes [T, K, 3] of all people, and the mean way from them to the pelvis."""
    from body_model import Skeleton

    names = [name for name, _ in model.landmarks if name.endswith(("heel", "toe"))]
    if not names:
        raise ValueError("--ground: the body's file names no landmarks of heels and toes")
    skeleton = Skeleton.of(model, (*names, "pelvis"), num_betas=300)
    rows = []
    for person in people:
        seen = person.present
        at = (person.pose[seen], person.betas[seen], person.translation[seen])
        rows.append(
            np.asarray(jax.jit(skeleton.__call__)(*(a.astype(np.float32) for a in at)), float)
        )
    points = np.concatenate(rows)
    feet, pelvis = points[:, :-1], points[:, -1]
    return feet, (pelvis - feet.mean(1)).mean(0)


def _tell(path: Path, person: Person, filled: bool) -> None:
    """Says what was written, and which frames have no body of their own."""
    print(f"wrote {path}: {person.present.sum()} of {len(person.present)} frames have a body")
    missing = np.flatnonzero(~person.present)
    if len(missing):
        named = ", ".join(map(str, missing[:_SHOWN]))
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        done = "filled in from their neighbours" if filled else "left out"
        print(f"{path}: {done}: frames {named}{more}", file=sys.stderr)


def _write_glb(path: Path, model: SMPL, person: Person, fps: float, joints: int) -> Path:
    from scorehmr_jax.output.gltf import save_glb

    whole = person.filled()
    save_glb(path, model, whole.pose, person.shape(), whole.translation, fps, camera_frame=False)
    return path


def _write_bvh(path: Path, model: SMPL, person: Person, fps: float, joints: int) -> Path:
    from scorehmr_jax.output.bvh import save_bvh

    whole = person.filled()
    save_bvh(path, model, whole.pose, person.shape(), whole.translation, fps, camera_frame=False)
    return path


def _write_amass(path: Path, model: SMPL, person: Person, fps: float, joints: int) -> Path:
    from scorehmr_jax.output.amass import save_amass

    whole = person.filled()
    place, shape = whole.translation, person.shape()
    save_amass(
        path, model, whole.pose, shape, place, fps, False, joints=joints, present=person.present
    )
    return path


def _write_meshes(path: Path, model: SMPL, person: Person, fps: float, joints: int) -> Path:
    from scorehmr_jax.output.meshes import save_mesh

    faces = np.asarray(model.faces)
    single = len(person.present) == 1
    for frame in np.flatnonzero(person.present):
        at = (person.pose[frame], person.betas[frame], person.translation[frame])
        vertices = model.vertices(*(a.astype(np.float32) for a in at))
        name = path if single else path.with_suffix("") / f"{frame:06d}{path.suffix.lower()}"
        save_mesh(name, vertices, faces)
    return path if single else path.with_suffix("")


WRITERS: dict[str, Callable[..., Path]] = {
    ".glb": _write_glb,
    ".bvh": _write_bvh,
    ".npz": _write_amass,
    ".obj": _write_meshes,
    ".ply": _write_meshes,
}
