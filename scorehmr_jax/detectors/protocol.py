"""What a detector is: a function from frames to named keypoints of people."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, UInt8

from body_model.joints import OPENPOSE_25
from scorehmr_jax.types import Keypoints2D

Frame: TypeAlias = UInt8[np.ndarray, "_ _ 3"]  # red, green, blue, as the picture is shown


@dataclass(frozen=True)
class Detections:
    """Keypoints of P people in T frames; K points for each.

    A person is a row of the first axis: in a video the same one in all frames, in pictures that
    have nothing to do with each other the first, second, ... of each. Where somebody is not in a
    frame, score and confidence are 0 and the numbers are NaN.
    """

    names: tuple[str, ...]  # of the points, as in `body_model.joints` where SMPL has them
    xy: Float[np.ndarray, "P T K 2"]  # pixels of the full image
    confidence: Float[np.ndarray, "P T K"]  # in [0, 1]
    points: Float[np.ndarray, "P T K 3"] | None  # metres about the hips; x right, y down, z forward
    box: Float[np.ndarray, "P T 4"]  # left, top, right, bottom, pixels
    score: Float[np.ndarray, "P T"]  # in [0, 1], of the person as a whole
    image_size: Float[np.ndarray, "T 2"]  # width and height, pixels

    @property
    def found(self) -> Bool[np.ndarray, "P T"]:
        """True where a person is in a frame."""
        return self.score > 0

    def as_openpose(self) -> Keypoints2D:
        """Arranges the points in the order of OpenPose-25; what the detector lacks is not seen.

        Neck and mid-hip are left out even where two points surround them: the means of shoulders
        and hips lie centimetres beside SMPL's joints.
        """
        shape = (*self.score.shape, len(OPENPOSE_25))
        xy, confidence = np.zeros((*shape, 2), np.float32), np.zeros(shape, np.float32)
        for k, name in enumerate(OPENPOSE_25):
            if name in self.names:
                i = self.names.index(name)
                xy[..., k, :], confidence[..., k] = self.xy[..., i, :], self.confidence[..., i]
        seen = np.asarray(np.isfinite(xy).all(-1))
        return Keypoints2D(np.where(seen[..., None], xy, 0), np.where(seen, confidence, 0))


@runtime_checkable
class Detector(Protocol):
    """A function from frames to people; `MediaPipePose` is the one that comes with the package."""

    def __call__(self, frames: Iterable[Frame]) -> Detections:
        """Finds people.

        Args:
            frames: one after another, of any size; read once, so that a video need not fit in
                memory.
        Returns:
            The people of every frame that was given, in order; P is 0 if there is nobody.
        """
