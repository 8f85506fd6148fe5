"""`scorehmr fit-markers`: bodies in motion from the optical markers of C3D files."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from body_model.files import local_path
from scorehmr_jax.formats.c3d import C3D, read_c3d
from scorehmr_jax.output.amass import Y_UP_TO_Z_UP

_HELP = """\
Fit a body to the markers of C3D files and write its motion with AMASS's keys.

All files must be of one person who wears the markers of Vicon's Plug-in Gait (39 of the whole body,
or some of them). Where they sit exactly, and the person's shape, is found from all files together;
the best is one in which much moves. Of PERSON:LFHD, LFHD is taken; where a file holds several
people, --subject PERSON says who. What is written is read by `scorehmr build-data`, by
`sh.read_estimates`, and by `scorehmr refine` beside keypoints and a camera that has a place.
"""
# From the files' axes to y up.
_AXES = {"z": Y_UP_TO_Z_UP.T, "y": np.eye(3)}


def add_parser(commands: Any) -> None:
    """Adds the subcommand to those of a parser."""
    parser = commands.add_parser(
        "fit-markers",
        help="bodies in motion from the optical markers of C3D files",
        description=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("takes", type=Path, nargs="+", help=".c3d files of one person")
    parser.add_argument("--out", type=Path, required=True, help="folder of an .npz for each file")
    parser.add_argument("--body", type=Path, help="an SMPL file; the open body by default")
    parser.add_argument("--subject", help="whose markers: what stands before the : of their names")
    parser.add_argument("--up", choices=[*_AXES], default="z", help="the axis that points up; z")
    parser.add_argument(
        "--joints", type=int, choices=(24, 52), default=52, help="of the .npz; 52, as AMASS has"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    fit_marker_files(
        args.takes,
        args.out,
        body=args.body,
        subject=args.subject,
        up=args.up,
        joints=args.joints,
    )


@dataclass(frozen=True)
class _Take:
    """The markers of one file that have a place."""

    file: Path
    motion: C3D
    columns: dict[str, int]  # of the markers, by their plain names


def fit_marker_files(
    takes: Sequence[str | Path],
    out: str | Path,
    *,
    body: str | Path | None = None,
    subject: str | None = None,
    up: str = "z",
    joints: int = 52,
) -> list[Path]:
    """Fits a body to the markers of files and writes its motion; prints how far markers are off.

    All files are looked at before anything is fitted or written. Markers that are left out are
    named in print.

    Args:
        takes: .c3d files of one person.
        out: the folder to write in; each file keeps its name.
        body: an SMPL file; the open body by default.
        subject: whose markers are taken, of files with several people: what stands before the `:`.
        up: the axis of the files that points up, z or y.
        joints: of the .npz, 52 or 24.
    Returns:
        The files written.
    Raises:
        ValueError: naming the file, if it is no C3D file, has no marker with a known place, has one
            twice, has no frame with three of them, or is not in metres; or if two would be written
            to one name.
        OSError: if a file cannot be written.
    """
    import body_model
    from body_model.paths import make_folder
    from scorehmr_jax.formats.bodies.people import nearest
    from scorehmr_jax.marker_places import PLUG_IN_GAIT
    from scorehmr_jax.markers import attach_markers, check_markers, fit_markers
    from scorehmr_jax.output.amass import save_amass

    files = [local_path(take) for take in takes]
    names = [file.stem for file in files]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)}: several files of this name; give them other names")
    person = body_model.load(body) if body else body_model.open_body()
    read = [_read(file, subject) for file in files]
    worn = [name for name in PLUG_IN_GAIT if any(name in take.columns for take in read)]
    points, seen = [], []
    for take in read:
        place = [take.columns.get(name, 0) for name in worn]
        there = np.array([name in take.columns for name in worn])
        points.append((take.motion.points[:, place] @ _AXES[up].T).astype(np.float32))
        seen.append(take.motion.seen[:, place] & there)
        check_markers(points[-1], seen[-1], str(take.file))
    attached = attach_markers(person, worn, np.concatenate(points), np.concatenate(seen))
    folder, written = make_folder(local_path(out)), []
    for take, xyz, visible in zip(read, points, seen, strict=True):
        fit = fit_markers(attached, xyz, visible)
        # Frames without markers keep their time, and take the body of the nearest other one.
        near = nearest(np.asarray(fit.found)[None])[0]
        path = folder / f"{take.file.stem}.npz"
        save_amass(
            path,
            person,
            fit.pose[near],
            fit.betas,
            fit.translation[near],
            fps=take.motion.fps,
            camera_frame=False,
            joints=joints,
            present=fit.found,
        )
        written.append(path)
        off = 1000 * fit.distance[visible & fit.found[:, None]]
        print(
            f"{path}: {len(xyz)} frames, {int((~fit.found).sum())} without enough markers; half of "
            f"the markers within {np.median(off):.1f} mm, nine in ten within "
            f"{np.quantile(off, 0.9):.1f} mm",
            flush=True,
        )
    return written


def _read(file: Path, subject: str | None) -> _Take:
    """Reads a file and finds the markers of one person that have a place; names the others.

    Raises:
        ValueError: naming the file, if there are none, or a marker is there twice.
    """
    from scorehmr_jax.marker_places import PLUG_IN_GAIT

    motion = read_c3d(file)
    columns: dict[str, int] = {}
    left = []
    for column, label in enumerate(motion.names):
        before, _, name = label.rpartition(":")
        plain = name.strip().upper()
        theirs = subject is not None and before.strip().upper() != subject.strip().upper()
        if theirs or plain not in PLUG_IN_GAIT:
            left.append(label)
        elif plain in columns:
            raise ValueError(
                f"{file}: {plain} is there twice, as {motion.names[columns[plain]]} and {label}; "
                "expected one person: say whose markers to take, --subject NAME (what stands "
                "before the :), or give the markers other names"
            )
        else:
            columns[plain] = column
    if not columns:
        whose = f" of {subject}" if subject is not None else ""
        raise ValueError(
            f"{file}: expected markers of Plug-in Gait ({', '.join([*PLUG_IN_GAIT][:4])} and "
            f"others){whose}, found {', '.join(motion.names[:8]) or 'none'}"
        )
    if left:
        print(f"{file}: left out {len(left)} markers: {', '.join(left)}", flush=True)
    return _Take(file, motion, columns)
