"""Estimates and detections matched to the frames of a data set, whatever was found in them."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from scorehmr_jax.evaluation.protocol import Files
from scorehmr_jax.formats.estimates import read_estimates
from scorehmr_jax.formats.recordings import image_rows
from scorehmr_jax.formats.recordings.recording import Recording
from scorehmr_jax.types import Camera, Estimate, Keypoints2D


def estimates_of(
    files: Files, recordings: Sequence[Recording], kept: Sequence[np.ndarray], camera: Camera
) -> tuple[Estimate, np.ndarray | None, int]:
    """Reads the first estimates of all samples.

    Args:
        files: `estimates` is an .npz of one row for each person found in an image, or a folder with
            a file for each recording, named so, of any format that `read_estimates` reads.
        recordings: of the data set.
        kept: of each recording, the frames that are samples.
        camera: [N] of the samples.
    Returns:
        The estimates [N], NaN where there is none; and, of an .npz, the row of each sample and the
        number of rows.
    Raises:
        ValueError: naming file and key.
    """
    if Path(files.estimates).is_dir():
        return _of_recordings(Path(files.estimates), recordings, kept), None, 0
    table = image_rows.read_rows(files.estimates, image_rows.ESTIMATES)
    rows = image_rows.match(table, samples_of(recordings, kept))
    return image_rows.estimates(table, rows, camera), rows, len(table["imgname"].ravel())


def _of_recordings(
    folder: Path, recordings: Sequence[Recording], kept: Sequence[np.ndarray]
) -> Estimate:
    """Estimates out of a file for each recording, NaN in frames that it does not have."""
    parts, missing = [], []
    for recording, rows in zip(recordings, kept, strict=True):
        files = [f for f in sorted(folder.iterdir()) if f.name.split(".")[0] == recording.name]
        count = len(recording)
        pose, betas = np.full((count, 24, 3, 3), np.nan), np.full((count, 10), np.nan)
        translation = np.full((count, 3), np.nan)
        if not files:
            missing.append(recording.name)
        else:
            held = read_estimates(files[0])
            frames = np.arange(len(held.estimate.pose))
            estimate = jax.tree.map(np.asarray, held.estimate)
            if held.tracks is not None:
                if len(held.tracks.ids) != 1:
                    raise ValueError(
                        f"{files[0]}: expected one person, found {len(held.tracks.ids)}; write "
                        "each person's into a file of the recording's name"
                    )
                frames = np.asarray(held.tracks.frame_numbers)
                estimate = jax.tree.map(lambda a: a[0], estimate)
            inside = (frames >= 0) & (frames < count)
            if not inside.any():
                raise ValueError(
                    f"{files[0]}: expected frames 0 to {count - 1}, found {frames[0]} to "
                    f"{frames[-1]}"
                )
            at = frames[inside]
            pose[at], translation[at] = estimate.pose[inside], estimate.translation[inside]
            betas[at] = np.asarray(estimate.betas)[inside, :10]
        parts.append((pose[rows], betas[rows], translation[rows]))
    if len(missing) == len(recordings):
        raise ValueError(f"{folder}: no file for any recording; expected {missing[0]}.npz, ...")
    if missing:
        warnings.warn(f"{folder}: no file for {', '.join(missing)}", stacklevel=4)
    return Estimate(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def detections_of(
    files: Files, recordings: Sequence[Recording], kept: Sequence[np.ndarray], camera: Camera
) -> Keypoints2D:
    """Reads the detections of all samples: of a file, else what the data set has.

    Args:
        files: `keypoints` is an .npz of one row for each person found in an image, or None.
        recordings, kept, camera: as `estimates_of` has them.
    Returns:
        [N, 25] of OpenPose, confidence 0 where there is none.
    Raises:
        ValueError: naming file and key.
    """
    if files.keypoints is not None:
        table = image_rows.read_rows(files.keypoints, image_rows.DETECTIONS)
        rows = image_rows.match(table, samples_of(recordings, kept))
        return image_rows.detections(table, rows, camera)
    parts = []
    for recording, rows in zip(recordings, kept, strict=True):
        count = int(rows.sum())
        none = Keypoints2D(np.zeros((count, 25, 2)), np.zeros((count, 25)))
        own = recording.keypoints
        parts.append(
            none if own is None else jax.tree.map(lambda a, rows=rows: np.asarray(a)[rows], own)
        )
    return jax.tree.map(lambda *a: np.concatenate(a), *parts)


def samples_of(
    recordings: Sequence[Recording], kept: Sequence[np.ndarray]
) -> list[image_rows.Sample]:
    """Lists the samples: image and person of every frame that is kept, recording by recording."""
    return [
        image_rows.Sample(recording.images[i], recording.person)
        for recording, rows in zip(recordings, kept, strict=True)
        for i in np.flatnonzero(rows)
    ]
