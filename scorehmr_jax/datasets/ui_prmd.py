"""Motion capture out of the markers of UI-PRMD: ten exercises by ten people.

    python -m scorehmr_jax.datasets.ui_prmd UI-PRMD --out ui_prmd_poses.npz

fits the open body to the markers, person by person, and writes clips as simulation/mocap.py reads
them. UI-PRMD is the folder of its text files, or an .npz of the markers (ui_prmd_files.py). Every
16th frame is taken, 6.25 a second. Subjects 9 and 10 are the val split, the others train.

Vakanski et al., A data set of human body movements for physical rehabilitation exercises, Data
3(1):2, 2018. Its licence is the Public Domain Dedication of Open Data Commons.
"""

import argparse
from pathlib import Path

import numpy as np

from body_model import SMPL, open_body
from body_model.files import write_npz
from body_model.rotations import matrix_to_axis_angle
from scorehmr_jax.datasets.ui_prmd_files import Markers, read_markers
from scorehmr_jax.markers import attach_markers, fit_markers

COLLECTION = "ui_prmd"
FPS = 6.25  # every 16th frame of 100 Hz
VAL = (9, 10)  # subjects
_MOST_OFF = 0.03  # metres, half of the markers: a frame with markers mixed up


def fitted(body: SMPL, markers: Markers) -> dict[str, np.ndarray]:
    """Fits a body to the markers of every subject.

    Returns:
        The arrays of a file of motion capture.
    Raises:
        ValueError: if no place is known for a marker, or numbers are not in metres.
    """
    points, subject = markers.points, markers.subject
    kept: dict[str, list[np.ndarray]] = {"poses": [], "trans": [], "of": []}
    for person in np.unique(subject):
        rows = np.flatnonzero(subject == person)
        fit = fit_markers(attach_markers(body, markers.names, points[rows]), points[rows])
        sound = np.asarray(fit.found) & (np.nanmedian(fit.distance, 1) < _MOST_OFF)
        angles = np.asarray(matrix_to_axis_angle(fit.pose))
        kept["poses"].append(angles.reshape(len(rows), -1)[sound])
        kept["trans"].append(np.asarray(fit.translation)[sound])
        kept["of"].append(rows[sound])
        print(
            f"subject {person}: {len(rows)} frames, {len(rows) - sound.sum()} left out; half of "
            f"the markers within {1e3 * np.nanmedian(fit.distance):.1f} mm",
            flush=True,
        )
    poses, trans, of = (np.concatenate(kept[key]) for key in ("poses", "trans", "of"))
    keys = np.column_stack([subject, markers.takes])[of]
    starts = np.append(True, (keys[1:] != keys[:-1]).any(1))
    first = keys[starts]
    clips = [
        "s{:02d}_m{:02d}_{}_e{:02d}".format(s, m, "right" if c else "wrong", e)
        for s, m, c, e in first.tolist()
    ]
    return {
        "poses": poses.astype(np.float32),
        "trans": trans.astype(np.float32),
        "clip_index": np.cumsum(starts) - 1,
        "clip_names": np.array(clips),
        "clip_fps": np.full(len(first), FPS),
        "clip_split": np.where(np.isin(first[:, 0], VAL), "val", "train"),
        "clip_source": np.full(len(first), COLLECTION),
        "clip_subject": first[:, 0],
    }


def main(arguments: list[str] | None = None) -> None:
    """Reads the arguments, fits and writes."""
    summary = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser("scorehmr_jax.datasets.ui_prmd", description=summary)
    parser.add_argument("markers", type=Path, help="folder of UI-PRMD, or .npz of its markers")
    parser.add_argument(
        "--out", type=Path, required=True, help="the .npz of motion capture to write"
    )
    options = parser.parse_args(arguments)
    try:
        markers = read_markers(options.markers)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    try:
        clips = fitted(open_body(), markers)
    except ValueError as error:
        raise SystemExit(f"{options.markers}: {error}") from None
    write_npz(options.out, clips)


if __name__ == "__main__":
    main()
