"""`scorehmr fit-markers`: bodies in motion from the optical markers of C3D files."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from body_model.files import local_path
from scorehmr_jax.output.amass import Y_UP_TO_Z_UP

_HELP = """\
Fit a body to the markers of C3D files and write its motion with AMASS's keys.

All files must be of one person who wears the markers of Vicon's Plug-in Gait (39 of the whole body,
or some of them). Where they sit exactly, and the person's shape, is found from all files together;
the best is one in which much moves. Of PERSON:LFHD, LFHD is taken. Files of `scorehmr fit-markers`
are read by `scorehmr view`, `scorehmr refine` and `scorehmr build-data`.
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
    parser.add_argument("--up", choices=[*_AXES], default="z", help="the axis that points up; z")
    parser.add_argument(
        "--joints", type=int, choices=(24, 52), default=52, help="of the .npz; 52, as AMASS has"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    fit_marker_files(args.takes, args.out, body=args.body, up=args.up, joints=args.joints)


def fit_marker_files(
    takes: Sequence[str | Path],
    out: str | Path,
    *,
    body: str | Path | None = None,
    up: str = "z",
    joints: int = 52,
) -> list[Path]:
    """Fits a body to the markers of files and writes its motion; prints how far markers are off.

    Args:
        takes: .c3d files of one person.
        out: the folder to write in; each file keeps its name.
        body: an SMPL file; the open body by default.
        up: the axis of the files that points up, z or y.
        joints: of the .npz, 52 or 24.
    Returns:
        The files written.
    Raises:
        ValueError: naming the file, if it is no C3D file, or has no marker with a known place; or
            if two would be written to one name.
        OSError: if a file cannot be written.
    """
    import body_model
    from body_model.paths import make_folder
    from scorehmr_jax.formats.bodies.people import nearest
    from scorehmr_jax.formats.c3d import read_c3d
    from scorehmr_jax.marker_places import PLUG_IN_GAIT
    from scorehmr_jax.markers import attach_markers, fit_markers
    from scorehmr_jax.output.amass import save_amass

    files = [local_path(take) for take in takes]
    names = [file.stem for file in files]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)}: several files of this name; give them other names")
    person = body_model.load(body) if body else body_model.open_body()
    motions = [read_c3d(file) for file in files]
    columns = []
    for file, motion in zip(files, motions, strict=True):
        plain = [name.rpartition(":")[2].strip().upper() for name in motion.names]
        known = {name: k for k, name in enumerate(plain) if name in PLUG_IN_GAIT}
        if not known:
            raise ValueError(
                f"{file}: expected markers of Plug-in Gait ({', '.join([*PLUG_IN_GAIT][:4])} and "
                f"others), found {', '.join(motion.names[:8]) or 'none'}"
            )
        columns.append(known)
    worn = [name for name in PLUG_IN_GAIT if any(name in known for known in columns)]
    points, seen = [], []
    for motion, known in zip(motions, columns, strict=True):
        place = [known.get(name, 0) for name in worn]
        there = np.array([name in known for name in worn])
        points.append((motion.points[:, place] @ _AXES[up].T).astype(np.float32))
        seen.append(motion.seen[:, place] & there)
    attached = attach_markers(person, worn, np.concatenate(points), np.concatenate(seen))
    folder, written = make_folder(local_path(out)), []
    for name, motion, xyz, visible in zip(names, motions, points, seen, strict=True):
        fit = fit_markers(attached, xyz, visible)
        if not fit.found.any():
            raise ValueError(f"{name}.c3d: expected frames with three markers, found none")
        # Frames without markers keep their time, and take the body of the nearest other one.
        near = nearest(np.asarray(fit.found)[None])[0]
        path = folder / f"{name}.npz"
        save_amass(
            path,
            person,
            fit.pose[near],
            fit.betas,
            fit.translation[near],
            fps=motion.fps,
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
