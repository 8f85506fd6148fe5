"""Training samples as they are read from files, before they become a set."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Float32, Num, Shaped

from body_model.pytree import Array
from body_model.rotations import axis_angle_to_matrix
from scorehmr_jax.prior import rotations_to_x

_ROWS = 1024  # samples that are converted at once


@dataclass(frozen=True)
class Samples:
    """Training samples, one per row."""

    names: Shaped[np.ndarray, " N"]  # of images or frames of clips, text
    pose: Float32[np.ndarray, "N 144"]  # in 6D
    betas: Float32[np.ndarray, "N 10"]  # SMPL shape; zero where it is not known
    features: Float32[np.ndarray, "N F"] | None = None  # standardised
    estimate: Float32[np.ndarray, "N 144"] | None = None  # a regression network's pose in 6D

    def __len__(self) -> int:
        return len(self.pose)


class SampleReader(ABC):
    """Files that hold training samples."""

    dropped: Counter[str]  # counts of samples, clips or files that were dropped so far, by reason
    left_out: dict[str, str]  # files that were left out so far, and why
    statistics: Any = None  # `Statistics` that the features are standardised with, if there are any

    @property
    @abstractmethod
    def where(self) -> str:
        """The files' name for messages."""

    @property
    @abstractmethod
    def total(self) -> int:
        """Samples in the files, with those that will be dropped."""

    @property
    @abstractmethod
    def widths(self) -> dict[str, int]:
        """Numbers in each column of a sample: pose, betas, and features, estimate if it has."""

    @property
    @abstractmethod
    def notes(self) -> dict[str, Any]:
        """Text and numbers that a reader of the set should know as well."""

    @abstractmethod
    def parts(self) -> Iterator[tuple[int, Samples]]:
        """Yields how many samples were read, and those of them that are kept; only once.

        Raises:
            ValueError: naming file, key and fix, if something is wrong with the files.
        """


def axis_angle_to_x(pose: Num[np.ndarray, "N ..."]) -> Float32[np.ndarray, "N 144"]:
    """Converts axis-angle [N, 72] or [N, 24, 3], radians, to the 6D form of the diffusion."""
    return _converted(_axis_angle_to_x, pose.reshape(len(pose), 24, 3))


def matrices_to_x(pose: Num[np.ndarray, "N ..."]) -> Float32[np.ndarray, "N 144"]:
    """Converts rotation matrices [N, 216] or [N, 24, 3, 3] to the 6D form of the diffusion."""
    return _converted(_matrices_to_x, pose.reshape(len(pose), 24, 3, 3))


def _converted(convert: Callable[[Any], Any], pose: np.ndarray) -> np.ndarray:
    # In parts of one size, so that it compiles once.
    pose = np.asarray(pose, np.float32)
    parts = []
    for start in range(0, len(pose), _ROWS):
        part = pose[start : start + _ROWS]
        full = np.zeros((_ROWS, *pose.shape[1:]), np.float32)
        full[: len(part)] = part
        parts.append(np.asarray(convert(full))[: len(part)])
    return np.concatenate(parts) if parts else np.zeros((0, 144), np.float32)


@jax.jit
def _axis_angle_to_x(pose: Float[Array, "N 24 3"]) -> Float[Array, "N 144"]:
    return rotations_to_x(axis_angle_to_matrix(pose))


@jax.jit
def _matrices_to_x(pose: Float[Array, "N 24 3 3"]) -> Float[Array, "N 144"]:
    return rotations_to_x(jnp.asarray(pose))


def bad_rows(*columns: Num[np.ndarray, "N ..."]) -> Bool[np.ndarray, " N"]:
    """Finds the rows that hold NaN or infinity in some column."""
    finite = [np.isfinite(c).all(axis=tuple(range(1, c.ndim))) for c in columns]
    return ~np.logical_and.reduce(finite)


def as_float32(values: Num[np.ndarray, "..."]) -> Float32[np.ndarray, "..."]:
    """Converts to float32, in which numbers are kept; those that are too large become infinite."""
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float32)


def as_text(names: Shaped[np.ndarray, " N"]) -> Shaped[np.ndarray, " N"]:
    """Converts names to text, also where a file has them as bytes."""
    return np.array([n.decode() if isinstance(n, bytes) else str(n) for n in names], str)
