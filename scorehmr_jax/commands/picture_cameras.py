"""The cameras of pictures."""

import numpy as np
from jaxtyping import Float

from scorehmr_jax.types import Camera


def cameras(
    focals: Float[np.ndarray, " T"], image_size: Float[np.ndarray, "T 2"], people: int
) -> Camera:
    """Cameras [P, T] that look through the middle of each picture.

    Args:
        focals: pixels.
        image_size: width and height, pixels.
        people: P.
    """
    shape = (people, *image_size.shape)
    size = np.broadcast_to(image_size, shape).astype(np.float32)
    focal = np.broadcast_to(focals[:, None], shape).astype(np.float32)
    return Camera(focal, size / 2, size)
