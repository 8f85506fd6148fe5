"""Cases out of benchmarks in the released code's format."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import jax
import numpy as np
from jaxtyping import Int
from numpy.typing import DTypeLike

from body_model.joints import OPENPOSE_25
from scorehmr_jax.camera import DEFAULT_FOCAL
from scorehmr_jax.evaluation.bodies import bodies
from scorehmr_jax.evaluation.cases import Case
from scorehmr_jax.evaluation.comparison import Truth
from scorehmr_jax.evaluation.protocol import Files, Protocol
from scorehmr_jax.formats.released import concatenate, read_groups, warn_of_mixed_sequences


def released_case(
    protocol: Protocol,
    files: Files,
    images: Path | None = None,
    dtype: DTypeLike = np.float32,
) -> Case:
    """Reads a benchmark in the released code's format.

    Args:
        protocol: how it is measured.
        files: where it is.
        images: the folder of the images, to read their sizes from.
        dtype: of the arrays.
    Raises:
        ValueError: naming file and key, if something is missing or in other units.
    """
    task = protocol.how
    body, skeleton = bodies(protocol, files, dtype)
    groups = read_groups(
        files.data,
        files.estimates,
        image_folder=images,
        image_sizes=None if images else files.image_sizes,
        share_betas=task.grouped,
        focal=protocol.focal or DEFAULT_FOCAL,
        dtype=dtype,
    )
    if task.is_video:
        warn_of_mixed_sequences(files.data, groups)
    samples = concatenate(groups)
    # Only OpenPose's 25 guide, as in the released code; the other 19 are annotations.
    keypoints = jax.tree.map(lambda a: a[:, : len(OPENPOSE_25)], samples.keypoints)
    if task.needs_keypoints and not (keypoints.confidence > 0).any():
        raise ValueError(f"{files.data}: no image has a keypoint with a confidence above 0")
    lengths = tuple(len(group) for group in groups)
    there = np.isfinite(samples.estimate.pose).all((1, 2, 3))
    seen = (np.asarray(keypoints.confidence) > 0).any(-1)
    return Case(
        protocol,
        samples.names,
        lengths,
        sequences(samples.names, lengths, task.grouped),
        samples.estimate,
        Truth.of(samples, keypoints, protocol),
        body,
        skeleton,
        frames={
            "in the files": len(samples),
            "left out by the protocol": 0,
            "without an estimate": int((~there).sum()),
            "without a detection": int((~seen).sum()),
        },
    )


def sequences(names: Sequence[str], lengths: Sequence[int], grouped: bool) -> Int[np.ndarray, " N"]:
    """Numbers the sequences of samples, for intervals.

    Images are of one sequence if they lie in one folder and their names differ in the last number
    alone; the samples of a group are of the sequence of its first.

    Args:
        names: of N images.
        lengths: of the groups.
        grouped: True if samples of a group belong together.
    """
    told = [_sequence(name) for name in names]
    if grouped:
        firsts = np.cumsum([0, *lengths[:-1]])
        told = [told[first] for first, n in zip(firsts, lengths, strict=True) for _ in range(n)]
    return np.unique(told, return_inverse=True)[1].astype(np.int32)


def _sequence(name: str) -> str:
    path = PurePosixPath(name.replace("\\", "/"))
    return f"{path.parent}/{re.sub(r'[^0-9A-Za-z]*[0-9]+$', '', path.stem)}"
