"""What methods are measured on: samples with first estimates, evidence and truth, of any source."""

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field

import jax
import numpy as np
from jaxtyping import Int

from body_model import SMPL, Skeleton
from scorehmr_jax.evaluation.comparison import Truth
from scorehmr_jax.evaluation.protocol import Protocol
from scorehmr_jax.types import Estimate


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


def warn_of_frames(case: Case) -> None:
    """Warns of frames that nothing is known of, so that none is dropped in silence."""
    for what in ("without an estimate", "without a detection"):
        if count := case.frames.get(what, 0):
            warnings.warn(f"{case.protocol.name}: {count} frames {what}", stacklevel=2)
