"""The ground that people stand on, and the world frame that it makes of a camera's."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Real

from scorehmr_jax.types import Array

CAMERA_UP = (0.0, -1.0, 0.0)  # of a level camera
_START_ERROR = np.radians(10.0)  # how far people lean, and cameras are rolled, as a rule
# Feet that a network has placed are off by as much for many frames on end: on real video they are
# worth no more than a few frames with this noise.
_LEAST_NOISE = 0.05  # metres
_INDEPENDENT = 5
_ROUNDS = 30


@dataclass(frozen=True)
class Ground:
    """The level ground in a camera's frame: x lies at R x + t in a world with z up, ground at 0.

    The world's y is the horizontal part of the camera's forward, and its origin is below the feet
    of the first frame.
    """

    rotation: Float[np.ndarray, "3 3"]  # R
    translation: Float[np.ndarray, " 3"]  # t, metres
    residual: float  # metres; root mean square height of the feet that stand on it
    up_error: float  # degrees, one standard deviation, of the fitted direction; 0 if it was given


def fit_ground(
    feet: Real[Array, "T K 3"],
    start_up: Real[Array, " 3"] | None = None,
    up: Real[Array, " 3"] | None = None,
) -> Ground:
    """Finds the ground under feet that stand on it in most frames.

    The lowest point of every frame is taken to touch the ground; frames in which it does not, such
    as jumps, lose their say (Tukey's weights). Without a known `up` it is the unit vector n that
    minimises, over frames t with heights p_t n - d,

        sum_t w_t (p_t n - d)^2 / s^2  +  |n - start_up|^2 / (10 degrees)^2

    so that a person who walks about turns it, and one who stands in one place leaves it as it was;
    `up_error` says which. The ground is flat and level: stairs and slopes are not.

    Args:
        feet: [T, K, 3] points of the soles (heels and toes) in the camera's frame, metres. Rows
            that are not finite have no say.
        start_up: where up is expected, such as the mean way from feet to pelvis; by default a
            level camera's, (0, -1, 0).
        up: the direction, if it is known, such as from a calibration.
    Returns:
        The ground, and the world frame on it.
    Raises:
        ValueError: if no frame is finite, or a direction is zero or not finite.
    """
    points = np.asarray(feet, float)
    if points.ndim != 3 or points.shape[-1] != 3:
        raise ValueError(f"feet: expected [T, K, 3], found {list(points.shape)}")
    points = points[np.isfinite(points).all((-1, -2))]
    if not len(points):
        raise ValueError("feet: expected a frame with finite points, found none")
    start = _unit("start_up", CAMERA_UP if start_up is None else start_up)
    normal = start if up is None else _unit("up", up)
    for _ in range(_ROUNDS):
        lowest = points[np.arange(len(points)), np.argmin(points @ normal, axis=1)]
        weights, height, noise = _standing(lowest @ normal)
        if up is not None:
            error = 0.0
            break
        centred = lowest - np.average(lowest, axis=0, weights=weights)
        share = min(len(points), _INDEPENDENT) / len(points)
        spread = share * (weights * centred.T) @ centred / max(noise, _LEAST_NOISE) ** 2
        information = spread + np.eye(3) / _START_ERROR**2
        normal = _unit("up", np.linalg.solve(information, start))
        flat = np.linalg.svd(normal[None])[2][1:]  # two directions across it
        error = float(np.degrees(np.linalg.eigvalsh(flat @ information @ flat.T)[0] ** -0.5))
    heights = lowest @ normal
    weights, height, _ = _standing(heights)
    residual = float(np.sqrt(np.average((heights - height) ** 2, weights=weights)))
    rotation = _axes(normal)
    below = points[0].mean(0)
    below = below - (below @ normal - height) * normal
    return Ground(rotation, -rotation @ below, residual, error)


def _standing(heights: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Weights of the frames that stand on the ground, its height, and the noise about it."""
    height = float(np.median(heights))
    for _ in range(5):
        noise = max(1.4826 * float(np.median(np.abs(heights - height))), 1e-3)
        away = np.minimum(np.abs(heights - height) / (4 * noise), 1)
        weights = (1 - away**2) ** 2
        height = float(np.average(heights, weights=weights))
    return weights, height, noise


def _axes(up: np.ndarray) -> np.ndarray:
    """Rows x, y, z of a world with z up, whose y is the camera's forward as far as it is level."""
    forward = np.array([0.0, 0, 1]) - up[2] * up
    if np.linalg.norm(forward) < 1e-3:  # the camera looks straight down
        forward = np.array([0.0, -1, 0]) + up[1] * up
    forward /= np.linalg.norm(forward)
    return np.stack([np.cross(forward, up), forward, up])


def _unit(name: str, vector: Array | tuple[float, ...]) -> np.ndarray:
    given = np.asarray(vector, float)
    length = np.linalg.norm(given) if given.shape == (3,) else np.nan
    if not 1e-9 < length < np.inf:
        raise ValueError(f"{name}: expected a direction [3], found {given}")
    return given / length
