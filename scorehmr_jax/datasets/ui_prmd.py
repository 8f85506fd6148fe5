"""Motion capture out of the markers of UI-PRMD: ten exercises by ten people.

    python -m scorehmr_jax.datasets.ui_prmd ui_prmd_markers.npz --out ui_prmd_poses.npz

fits the open body to the markers, person by person, and writes clips as simulation/mocap.py reads
them. Subjects 9 and 10 are the val split, the others train. The .npz has `markers` [N, 39, 3] whole
numbers, `unit` metres each, z up; `names` [39] of Plug-in Gait; `subject`, `movement`, `correct`
and `episode` [N]. Frames of an episode are contiguous, 6.25 a second.

Vakanski et al., A data set of human body movements for physical rehabilitation exercises, Data
3(1):2, 2018. Its licence is the Public Domain Dedication of Open Data Commons.
"""

import argparse
from pathlib import Path

import numpy as np
from jaxtyping import Float

from body_model import SMPL, open_body
from body_model.files import read_npz, write_npz
from body_model.rotations import matrix_to_axis_angle
from scorehmr_jax.markers import attach_markers, fit_markers

COLLECTION = "ui_prmd"
FPS = 6.25  # every 16th frame of 100 Hz
VAL = (9, 10)  # subjects
_KEYS = ("markers", "unit", "names", "subject", "movement", "correct", "episode")
# From z up and the person facing x to y up and the person facing z.
_Y_UP = [1, 2, 0]
_MOST_OFF = 0.03  # metres, half of the markers: a frame with markers mixed up


def fitted(
    body: SMPL,
    names: list[str],
    markers: Float[np.ndarray, "N 39 3"],
    subject: np.ndarray,
    takes: np.ndarray,
) -> dict[str, np.ndarray]:
    """Fits a body to the markers of every subject.

    Args:
        body: to fit.
        names: of the markers.
        markers: [N, 39, 3] metres, y up.
        subject: [N] of each frame.
        takes: [N, 3] movement, correct and episode of each frame.
    Returns:
        The arrays of a file of motion capture.
    """
    kept: dict[str, list[np.ndarray]] = {"poses": [], "trans": [], "of": []}
    for person in np.unique(subject):
        rows = np.flatnonzero(subject == person)
        fit = fit_markers(attach_markers(body, names, markers[rows]), markers[rows])
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
    keys = np.column_stack([subject, takes])[of]
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
    parser.add_argument("markers", type=Path, help=".npz of the markers")
    parser.add_argument(
        "--out", type=Path, required=True, help="the .npz of motion capture to write"
    )
    options = parser.parse_args(arguments)
    data = read_npz(options.markers)
    missing = [key for key in _KEYS if key not in data]
    if missing:
        raise SystemExit(
            f"{options.markers}: expected the keys {', '.join(_KEYS)}; missing: {missing}"
        )
    markers = data["markers"].astype(np.float32)[..., _Y_UP] * float(data["unit"])
    takes = np.column_stack([data[key] for key in ("movement", "correct", "episode")])
    names = [str(name) for name in data["names"]]
    write_npz(options.out, fitted(open_body(), names, markers, data["subject"], takes))


if __name__ == "__main__":
    main()
