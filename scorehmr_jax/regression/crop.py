"""The square patch around a person, as regression networks see it."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Real, UInt8

from body_model.pytree import Number


def crop(
    image: UInt8[np.ndarray, "H W 3"],
    center: Real[np.ndarray, "2"],
    side: Number,
    size: int = 224,
) -> UInt8[np.ndarray, "S S 3"]:
    """Cuts out a square box and scales it, bilinear and without smoothing, as the released code.

    The middle of the patch's pixel in row i and column j shows the point
    center + (j - S/2, i - S/2) side/S: the box's left and upper edges run through the middles of
    the first column and row, as OpenCV has it. What lies outside the image is black. OpenCV gives
    the same patch, bit for bit; older versions, which round points to 1/32 of a pixel, one that
    differs by up to 4 grey values at edges.

    Args:
        image: red, green and blue.
        center: of the box, x and y, pixels.
        side: of the box, pixels.
        size: S, the side of the patch, pixels.
    Raises:
        ValueError: if the box is not finite or has no size.
    """
    check_box(center, side)
    x, y = (_Axis.of(k, float(center[k]), float(side), size, image.shape[1 - k]) for k in (0, 1))
    rows, place = np.unique(np.concatenate([y.first, y.second]), return_inverse=True)
    lines = image[rows, x.low : x.high]
    left, right = (np.take(lines, index - x.low, axis=1) for index in (x.first, x.second))
    wide = x.blend(left, right, 1)
    upper, lower = place.reshape(2, size)
    patch = y.blend(wide[upper], wide[lower], 0)
    return np.rint(patch, out=patch).astype(np.uint8)


def check_box(center: Real[np.ndarray, "2"], side: Number) -> None:
    """Refuses a box that is not finite or has no size, with a ValueError."""
    if not (np.isfinite(center).all() and 0 < side < np.inf):
        x, y = map(float, center)
        raise ValueError(
            f"box: expected a finite centre and a side above 0 pixels, found centre {x:g}, {y:g} "
            f"and side {float(side):g}"
        )


def to_patch(
    xy: Real[np.ndarray, "*batch K 2"],
    center: Real[np.ndarray, "*batch 2"],
    side: Number,
) -> Float[np.ndarray, "*batch K 2"]:
    """Moves keypoints into the patch of their box, whose edges lie at -0.5 and 0.5.

    Args:
        xy: pixels of the full image.
        center: of the boxes, pixels.
        side: of the boxes [...], pixels.
    """
    return (xy - center[..., None, :]) / np.asarray(side)[..., None, None]


@dataclass(frozen=True)
class _Axis:
    """The two pixels of the image on either side of each of a patch's pixels, along one axis."""

    first: Int[np.ndarray, " S"]  # moved into the image
    second: Int[np.ndarray, " S"]
    has_first: Bool[np.ndarray, " S"]  # False where it lies outside
    has_second: Bool[np.ndarray, " S"]
    share: Float32[np.ndarray, " S"]  # of the second

    @classmethod
    def of(cls, axis: int, center: float, side: float, size: int, length: int) -> "_Axis":
        # Single precision in these very places, as OpenCV has: others decide ties differently.
        middle = np.float32(center)
        scale = size / 2 / (float(middle + np.float32(side) / 2) - float(middle))
        step, start = np.float32(1 / scale), np.float32(float(middle) - size / 2 / scale)
        count = np.arange(size, dtype=np.float32)
        if axis == 0:  # rounded once
            at = (count.astype(float) * step.astype(float) + start.astype(float)).astype(np.float32)
        else:
            at = count * step + start
        below = np.floor(at)
        first = np.clip(below, -2, length).astype(int)
        second = first + 1
        return cls(
            first=np.clip(first, 0, length - 1),
            second=np.clip(second, 0, length - 1),
            has_first=(first >= 0) & (first < length),
            has_second=(second >= 0) & (second < length),
            share=at - below,
        )

    @property
    def low(self) -> int:
        return int(self.first[0])

    @property
    def high(self) -> int:
        return int(self.second[-1]) + 1

    def blend(
        self, first: Real[np.ndarray, "_ _ 3"], second: Real[np.ndarray, "_ _ 3"], axis: int
    ) -> Float32[np.ndarray, "_ _ 3"]:
        """Goes from the first pixels to the second ones by their share; black outside."""
        shape = [1, 1, 1]
        shape[axis] = -1
        start, step = first.astype(np.float32), second.astype(np.float32)
        for pixels, inside in ((start, self.has_first), (step, self.has_second)):
            if not inside.all():
                pixels *= inside.reshape(shape)
        step -= start
        step *= self.share.reshape(shape)
        step += start
        return step
