"""Cases out of data sets in the files of their makers, with estimates matched to them by name."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np
from numpy.typing import DTypeLike

from scorehmr_jax.evaluation.bodies import bodies
from scorehmr_jax.evaluation.cases import Case
from scorehmr_jax.evaluation.comparison import Truth
from scorehmr_jax.evaluation.matched import detections_of, estimates_of, samples_of
from scorehmr_jax.evaluation.protocol import Files, Protocol
from scorehmr_jax.evaluation.true_bodies import true_bodies, truths
from scorehmr_jax.formats.recordings.aspset import read_aspset
from scorehmr_jax.formats.recordings.emdb import read_emdb
from scorehmr_jax.formats.recordings.recording import Recording
from scorehmr_jax.formats.recordings.threedpw import read_3dpw
from scorehmr_jax.types import Camera, Estimate

READERS = {
    "3dpw": lambda path, split: read_3dpw(path, split),
    "emdb": lambda path, split: read_emdb(path, int(split)),
    "aspset": lambda path, split: read_aspset(path, split),
}


def original_case(protocol: Protocol, files: Files, dtype: DTypeLike = np.float32) -> Case:
    """Reads a data set in the files of its makers.

    Args:
        protocol: its source is 3dpw, emdb or aspset.
        files: `estimates` is an .npz of one row for each person found (image_rows.py), or a folder
            with a file for each recording, of any format that `read_estimates` reads; `keypoints`
            likewise an .npz, and comes before what the data set has.
        dtype: of the arrays.
    Raises:
        ValueError: naming file and key, if something is missing or in other units, or if there are
            no detections for a task that needs them.
    """
    recordings = READERS[protocol.source](files.data, protocol.split)
    body, skeleton = bodies(protocol, files, dtype)
    task, whole = protocol.how, sum(len(r) for r in recordings)
    # Frames that do not count stay in a video: those beside them are not neighbours.
    kept = [np.ones(len(r), bool) if task.is_video else r.counts for r in recordings]
    recordings = [r for r, k in zip(recordings, kept, strict=True) if k.any()]
    kept = [k for k in kept if k.any()]
    joined = partial(_joined, recordings, kept)
    lengths = [int(k.sum()) for k in kept]
    names = tuple(f"{s.image}, person {s.person}" for s in samples_of(recordings, kept))
    counts = joined(lambda r: r.counts)
    camera = _without_pose(joined(lambda r: r.camera))
    if protocol.focal is not None:
        focal = np.full(np.shape(camera.focal), protocol.focal)
        camera = replace(camera, focal=focal, center=np.asarray(camera.image_size) / 2)
    estimate, rows, rows_of_file = estimates_of(files, recordings, kept, camera)
    if task.grouped:
        estimate = _one_shape(estimate, lengths)
    keypoints = detections_of(files, recordings, kept, camera)
    if task.needs_keypoints and not (keypoints.confidence > 0).any():
        raise ValueError(
            f"{protocol.name}: the data set has no detections: give --keypoints, an .npz with "
            "imgname [M] and keypoints [M, 25, 3] of OpenPose"
        )
    of_gender = true_bodies(protocol, files, recordings, body, dtype)
    others = tuple(model for model, _ in of_gender.values() if model is not body)
    known, joints, true_body = truths(protocol, recordings, kept, of_gender, (body, *others))
    known &= counts
    if true_body is not None:
        true_body = replace(true_body, known=np.asarray(true_body.known) & counts)
    there = np.isfinite(estimate.pose).all((1, 2, 3))
    seen = (keypoints.confidence > 0).any(-1)
    # People of one video and views of one motion are alike, and drawn together for intervals.
    number = np.unique([_motion(r, protocol) for r in recordings], return_inverse=True)[1]
    truth = Truth(joints, known, keypoints, camera, true_body)
    return Case(
        protocol if not task.is_video else replace(protocol, fps=_one_rate(recordings)),
        names,
        tuple(lengths),
        np.repeat(number, lengths).astype(np.int32),
        _cast(estimate, dtype),
        _cast(truth, dtype),
        body,
        skeleton,
        others,
        frames={
            "in the files": whole,
            "left out by the protocol": whole - int(counts.sum()),
            "without an estimate": int((counts & ~there).sum()),
            "without a detection": int((counts & ~seen).sum()),
        },
        rows=rows,
        rows_of_file=rows_of_file,
        notes=tuple(dict.fromkeys(note for r in recordings for note in r.notes)),
    )


def _joined(recordings: Sequence[Recording], kept: Sequence[np.ndarray], of: Any) -> Any:
    """What is kept of each recording, one after another."""
    parts = [
        jax.tree.map(lambda a, rows=rows: np.asarray(a)[rows], of(recording))
        for recording, rows in zip(recordings, kept, strict=True)
    ]
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)


def _without_pose(camera: Camera) -> Camera:
    return Camera(camera.focal, camera.center, camera.image_size)


def _motion(recording: Recording, protocol: Protocol) -> str:
    """What recordings have in common whose frames are alike."""
    if protocol.source == "aspset":
        return recording.name.rsplit("-", 1)[0]  # without the camera
    return recording.images[0]


def _one_shape(estimate: Estimate, lengths: Sequence[int]) -> Estimate:
    """Gives each group the mean of its known shapes."""
    betas, start = np.array(estimate.betas), 0
    for length in lengths:
        rows = slice(start, start + length)
        known = np.asarray(np.isfinite(betas[rows]).all(-1))
        if known.any():
            betas[rows] = np.where(known[:, None], betas[rows][known].mean(0), np.nan)
        start += length
    return replace(estimate, betas=betas)


def _one_rate(recordings: Sequence[Recording]) -> float:
    rates = sorted({recording.fps for recording in recordings})
    if len(rates) > 1:
        raise ValueError(
            f"videos of {', '.join(f'{rate:g}' for rate in rates)} frames per second; measure "
            "those of one rate at a time"
        )
    return rates[0]


def _cast(tree: Any, dtype: DTypeLike) -> Any:
    return jax.tree.map(
        lambda a: np.asarray(a, dtype) if np.asarray(a).dtype.kind == "f" else np.asarray(a), tree
    )
