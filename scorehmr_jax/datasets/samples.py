"""Training samples, as they are read from files before they become a set."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from body_model.pytree import Array
from body_model.rotations import axis_angle_to_matrix
from scorehmr_jax.prior import rotations_to_x

ROWS = 1024  # samples in a part
# No fit in radians turns a joint by more than two full circles, but for a few that went astray.
_FAR = 4 * np.pi
_FEW = 0.05


@dataclass(frozen=True)
class Samples:
    """Some samples, side by side."""

    names: np.ndarray  # [N] of images or clips, text
    pose: np.ndarray  # [N, 144] in 6D, float32
    betas: np.ndarray  # [N, 10] SMPL shape, float32; zero where it is not known
    features: np.ndarray | None = None  # [N, F] standardised, float32
    estimate: np.ndarray | None = None  # [N, 144] a regression network's pose in 6D, float32

    def __len__(self) -> int:
        return len(self.pose)


class SampleReader(ABC):
    """Files that hold training samples."""

    dropped: Counter[str]  # counts of samples, clips or files that were dropped so far, by reason
    left_out: dict[str, str]  # files that were left out so far, and why
    statistics: Any = None  # `Statistics` that the features were standardised with

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


def axis_angle_to_x(pose: np.ndarray) -> np.ndarray:
    """Axis-angle [N, 24, 3] in radians as the diffusion has it, [N, 144] float32."""
    return _padded(_axis_angle_to_x, pose.reshape(len(pose), 24, 3))


def matrices_to_x(pose: np.ndarray) -> np.ndarray:
    """Rotation matrices [N, 24, 3, 3] as the diffusion has them, [N, 144] float32."""
    return _padded(_matrices_to_x, pose.reshape(len(pose), 24, 3, 3))


def _padded(function: Any, pose: np.ndarray) -> np.ndarray:
    # In parts of one size, so that it compiles once.
    pose = np.asarray(pose, np.float32)
    parts = []
    for start in range(0, len(pose), ROWS):
        part = pose[start : start + ROWS]
        full = np.zeros((ROWS, *pose.shape[1:]), np.float32)
        full[: len(part)] = part
        parts.append(np.asarray(function(full))[: len(part)])
    return np.concatenate(parts) if parts else np.zeros((0, 144), np.float32)


@jax.jit
def _axis_angle_to_x(pose: Array) -> Array:
    return rotations_to_x(axis_angle_to_matrix(pose))


_matrices_to_x = jax.jit(lambda pose: rotations_to_x(jnp.asarray(pose)))


def bad_rows(*columns: np.ndarray) -> np.ndarray:
    """A mask [N] of rows that hold NaN or infinity in some column [N, ...]."""
    finite = [np.isfinite(c).reshape(len(c), -1).all(axis=1) for c in columns]
    return ~np.logical_and.reduce(finite)


def as_float32(values: np.ndarray) -> np.ndarray:
    """Numbers as they are kept. What is too large for that is infinite, so look afterwards."""
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float32)


def as_text(names: np.ndarray) -> np.ndarray:
    """Names [N] as text, also where a file has them as bytes."""
    return np.array([n.decode() if isinstance(n, bytes) else str(n) for n in names], str)


def turned_far(pose: np.ndarray) -> np.ndarray:
    """A mask [N] of axis-angle rows [N, 72] or [N, 24, 3] that can hardly be in radians."""
    angles = np.linalg.norm(pose.reshape(len(pose), 24, 3), axis=-1)
    return ((angles > _FAR) & np.isfinite(angles)).any(axis=1)


def refuse_degrees(far: int, rows: int, where: str) -> None:
    """Refuses poses of which too many are `turned_far`.

    Raises:
        ValueError: naming the file.
    """
    if far > _FEW * rows:
        raise ValueError(
            f"{where}: a joint turns by more than 4 pi in {far} of {rows} poses; expected "
            "axis-angle in radians, found degrees or no axis-angle"
        )
