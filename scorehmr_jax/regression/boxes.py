"""Boxes of people: around keypoints, and as the square that a network is shown."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Real

# Sides of a box around keypoints over those of the points: hair, hands and shoes stand out.
MARGIN = 1.2
# Confidence that a point needs to be taken for a box.
SURE = 0.2


@dataclass(frozen=True)
class Boxes:
    """Boxes of any leading axes, pixels of the full image; NaN where there is none."""

    center: Float[np.ndarray, "*N 2"]  # x, y
    size: Float[np.ndarray, "*N 2"]  # width, height

    @classmethod
    def around(
        cls,
        xy: Real[np.ndarray, "*N K 2"],
        confidence: Real[np.ndarray, "*N K"],
        margin: float = MARGIN,
        sure: float = SURE,
    ) -> "Boxes":
        """The boxes around keypoints; of less than two points that are seen there is none.

        Args:
            xy: pixels of the full image.
            confidence: in [0, 1].
            margin: sides of the box over those of the points.
            sure: points of less confidence are left out.
        """
        seen = ((confidence >= sure) & (confidence > 0) & np.isfinite(xy).all(-1))[..., None]
        low = np.where(seen, xy, np.inf).min(-2)
        high = np.where(seen, xy, -np.inf).max(-2)
        known = (high > low).any(-1, keepdims=True)
        low, high = (np.where(known, each, np.nan) for each in (low, high))
        return cls((low + high) / 2, (high - low) * margin)

    @classmethod
    def of_corners(cls, corners: Real[np.ndarray, "*N 4"]) -> "Boxes":
        """Boxes of left, top, right and bottom, pixels."""
        low, high = np.asarray(corners[..., :2], float), np.asarray(corners[..., 2:], float)
        return cls((low + high) / 2, high - low)

    def side(self, shown: float = 1.0) -> Float[np.ndarray, "*N"]:
        """The side of the least square about the same centre that shows the whole box, pixels.

        Args:
            shown: the part of the square's width that the network looks at: 3/4 for HMR 2.0,
                which takes the middle 192 of 256 columns.
        """
        return np.asarray(np.maximum(self.size[..., 1], self.size[..., 0] / shown))
