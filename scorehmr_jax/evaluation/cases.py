"""What methods are measured on: samples with first estimates, evidence and truth, of any source."""

import hashlib
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import jax
import numpy as np
from jaxtyping import Int
from numpy.typing import DTypeLike

import body_model
from body_model import SMPL, Skeleton
from body_model.io import load, load_regressor
from body_model.joints import EXTRA_19, OPENPOSE_25
from scorehmr_jax.camera import DEFAULT_FOCAL
from scorehmr_jax.evaluation.comparison import Truth
from scorehmr_jax.evaluation.protocol import Files, Protocol
from scorehmr_jax.formats.features import read_features
from scorehmr_jax.formats.released import concatenate, read_groups, warn_of_mixed_sequences
from scorehmr_jax.prior import Prior
from scorehmr_jax.types import Array, Estimate


@dataclass(frozen=True)
class Case:
    """N samples on which methods are compared; groups lie one after another."""

    protocol: Protocol
    names: tuple[str, ...]  # of the samples
    lengths: tuple[int, ...]  # of the groups, which are refined together if the task says so
    sequence: Int[np.ndarray, " N"]  # who is drawn together when intervals are worked out
    estimate: Estimate  # [N] first estimates; NaN where there is none
    truth: Truth  # [N], with the keypoints and cameras that guide
    body: SMPL  # of the estimates
    skeleton: Skeleton  # of the protocol's keypoints
    others: tuple[SMPL, ...] = ()  # more bodies, of the truth alone
    # Frames by what became of them before any was refined.
    frames: Mapping[str, int] = field(default_factory=dict)
    # Rows of the files of estimates and features, by sample, and the number of rows these files
    # have; None: as the samples.
    rows: Int[np.ndarray, " N"] | None = None
    rows_of_file: int = 0
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def fingerprint(self) -> str:
        """Tells these numbers from all others: a short hash of all that is measured."""
        told = hashlib.blake2b(digest_size=8)
        for leaf in jax.tree.leaves(
            (self.estimate, self.truth, self.body, self.skeleton, self.others)
        ):
            array = np.ascontiguousarray(leaf)
            told.update(f"{array.dtype}{array.shape}".encode())
            told.update(array.tobytes())
        told.update("\n".join(self.names).encode())
        told.update(repr((self.lengths, self.sequence.tolist())).encode())
        return told.hexdigest()


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


def bodies(
    protocol: Protocol, files: Files, dtype: DTypeLike = np.float32
) -> tuple[SMPL, Skeleton]:
    """Loads the body of the estimates, and its reduction to the protocol's keypoints.

    Raises:
        ValueError: naming the file, if one is missing or another.
    """
    body = body_model.open_body() if files.body is None else load(files.body, dtype=dtype)
    return body, skeleton_of(body, protocol, files)


def skeleton_of(body: SMPL, protocol: Protocol, files: Files) -> Skeleton:
    """Reduces a body to the keypoints of a protocol.

    Raises:
        ValueError: if the regressor is missing or another.
    """
    if not protocol.needs_regressor:
        return Skeleton.of(body, protocol.keypoints)
    if files.extra_joints is None:
        raise ValueError(f"{protocol.name}: needs the regressor SMPL_to_J19.pkl: --extra-joints")
    extra = load_regressor(files.extra_joints, vertices=len(body.template))
    if len(extra) != len(EXTRA_19):
        raise ValueError(
            f"{files.extra_joints}: expected {len(EXTRA_19)} rows, one for each keypoint after "
            f"OpenPose's {len(OPENPOSE_25)}; found shape {extra.shape}. Give SMPL_to_J19.pkl"
        )
    return Skeleton.of(body, OPENPOSE_25, regressor=extra)


def features_of(
    prior: Prior, files: Files, case: Case, dtype: DTypeLike = np.float32
) -> Array | None:
    """Reads the image features that a prior takes; None for one that takes none.

    Args:
        prior: decides whether, and of which width.
        files: with the features and their statistics.
        case: whose samples they are of.
        dtype: of the result.
    Raises:
        ValueError: if the files are missing or of another backbone.
    """
    if prior.condition_on != "features":
        return None
    if files.features is None or files.feature_stats is None:
        raise ValueError(
            f"{files.weights} needs image features: please give --features and --feature-stats"
        )
    lengths = list(case.lengths) if case.rows is None else [case.rows_of_file]
    width = prior.network.condition_dim
    parts: Any = read_features(files.features, files.feature_stats, width, lengths, dtype)
    features = np.concatenate(parts)
    if case.rows is None:
        return features
    return np.where(case.rows[:, None] >= 0, features[np.maximum(case.rows, 0)], np.nan)


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


def warn_of_frames(case: Case) -> None:
    """Warns of frames that nothing is known of, so that none is dropped in silence."""
    for what in ("without an estimate", "without a detection"):
        if count := case.frames.get(what, 0):
            warnings.warn(f"{case.protocol.name}: {count} frames {what}", stacklevel=2)
