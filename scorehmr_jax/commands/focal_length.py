"""The focal length of pictures: as given, of their EXIF data, or assumed."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from scorehmr_jax.formats.pictures import Pictures


@dataclass(frozen=True)
class Lens:
    """What is known of the focal length; pixels before degrees."""

    focal: float | None = None  # pixels
    fov: float | None = None  # degrees across the width of the picture

    def __post_init__(self) -> None:
        if self.focal is not None and self.fov is not None:
            raise ValueError("--focal and --fov: expected one of them, found both")
        if self.focal is not None and not self.focal >= 10:
            raise ValueError(f"--focal: expected pixels, 10 or more, found {self.focal:g}")
        if self.fov is not None and not 1 <= self.fov < 179:
            raise ValueError(f"--fov: expected degrees, 1 to 179, found {self.fov:g}")

    def focals(
        self, pictures: Pictures, image_size: Float[np.ndarray, "T 2"]
    ) -> tuple[Float[np.ndarray, " T"], str]:
        """Finds the focal length of every frame.

        Returns:
            Pixels, and a sentence on where they come from.
        """
        width, diagonal = image_size[:, 0], np.hypot(*image_size.T)
        if self.focal is not None:
            return np.full(len(width), float(self.focal)), f"{self.focal:g} pixels, as given"
        if self.fov is not None:
            focal = width / 2 / math.tan(math.radians(self.fov) / 2)
            return focal, f"{_span(focal)} pixels, from the {self.fov:g} degrees given"
        known = np.array([f or np.nan for f in pictures.focals] or [np.nan] * len(width), float)
        focal = np.where(np.isfinite(known), known, diagonal)
        assumed = np.isnan(known)
        if not assumed.any():
            return focal, f"{_span(focal)} pixels, of the EXIF data"
        where = "" if assumed.all() else f" for {assumed.sum()} of {len(known)} pictures"
        return focal, (
            f"{_span(focal)} pixels; the image's diagonal is assumed{where}: depth follows it, so "
            "give --focal (pixels) or --fov (degrees) if you know it"
        )


def _span(numbers: np.ndarray) -> str:
    low, high = np.nanmin(numbers), np.nanmax(numbers)
    return f"{low:.0f}" if round(low) == round(high) else f"{low:.0f} to {high:.0f}"
