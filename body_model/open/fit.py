"""The fits behind the open body: shape components, joint regressors, pose correctives."""

import functools

import numpy as np
from jaxtyping import Float, Integer

CORRECTED = 0.8  # of the difference between the two ways of skinning: all of it bulges


def principal_directions(
    vertices: Float[np.ndarray, "N V 3"], faces: Integer[np.ndarray, "F 3"], count: int
) -> Float[np.ndarray, "V 3 B"]:
    """Finds the principal components of a population, each scaled by its standard deviation.

    Args:
        vertices: [N, V, 3] metres.
        faces: [F, 3]; a component's sign is such that it enlarges the volume.
        count: components to keep.
    Returns:
        [V, 3, count]: coefficients of the population then have mean 0 and variance 1.
    """
    mean = vertices.mean(0)
    offsets = (vertices - mean).reshape(len(vertices), -1)
    # The small Gram matrix has the same spectrum as the 3V x 3V covariance.
    values, vectors = np.linalg.eigh(offsets @ offsets.T / len(offsets))
    top = np.argsort(values)[::-1][:count]
    # A unit component is offsets^T u / sqrt(N lambda); its standard deviation is sqrt(lambda).
    directions = (offsets.T @ vectors[:, top] / np.sqrt(len(offsets))).reshape(*mean.shape, count)
    corners = mean[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    growth = np.einsum("fc,fkcb->b", normals, directions[faces])
    return directions * np.where(growth < 0, -1, 1)


def convex_regression(
    offsets: Float[np.ndarray, "E M"], ridge: float = 1e-2
) -> Float[np.ndarray, " M"]:
    """Finds the weighted mean of points that stays nearest to a target.

    Least squares over non-negative weights that sum to 1, by the active-set method of Lawson and
    Hanson ("Solving Least Squares Problems", chapter 23).

    Args:
        offsets: [E, M] distance of each of the M points from the target, in each equation.
        ridge: pull towards equal weights, in units of the mean squared offset.
    Returns:
        [M] weights.
    """
    gram = offsets.T @ offsets / len(offsets)
    scale = np.trace(gram) / len(gram)
    gram = gram / scale + ridge * np.eye(len(gram)) + 1.0
    aim = np.ones(len(gram))  # from the row of ones that asks for the sum; rescaled at the end
    weights, active = np.zeros(len(gram)), np.zeros(len(gram), bool)
    for _ in range(10 * len(gram)):
        gain = np.where(active, -np.inf, aim - gram @ weights)
        if gain.max() < 1e-9:
            break
        active[gain.argmax()] = True
        while True:
            trial = np.zeros_like(weights)
            trial[active] = np.linalg.solve(gram[np.ix_(active, active)], aim[active])
            if (trial[active] > 0).all():
                break
            falling = active & (trial <= 0)
            step = (weights[falling] / (weights[falling] - trial[falling])).min()
            weights = weights + step * (trial - weights)
            active &= weights > 1e-12
            weights[~active] = 0
        weights = trial
    return weights / weights.sum()


def corrective_maps(share: Float[np.ndarray, " V"]) -> Float[np.ndarray, "V 9 3 3"]:
    """Finds linear pose correctives that bring linear skinning near dual quaternion skinning.

    Where a joint turns by R about its centre, a vertex whose bones below the joint weigh s moves
    by I + s (R - I) under linear skinning and by the rotation R_s of the blended quaternion under
    dual quaternion skinning. The difference, taken back to the rest pose, is a linear map of the
    vertex's offset from the joint; it is fitted over random R by a linear function of R - I.

    Args:
        share: [V] the weights s.
    Returns:
        [V, 9, 3, 3]: for each entry of R - I, the map from offset to displacement.
    """
    knots = _corrective_table()
    at = np.clip(share, 0, 1) * (len(knots) - 1)
    low = np.minimum(at.astype(int), len(knots) - 2)
    part = (at - low)[:, None, None]
    return ((1 - part) * knots[low] + part * knots[low + 1]).reshape(-1, 9, 3, 3)


@functools.cache
def _corrective_table() -> np.ndarray:
    """The maps for weights from 0 to 1, [41, 9, 9]."""
    rng = np.random.default_rng(0)
    axes = rng.standard_normal((256, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    half = rng.uniform(0.0, 1.1, 256)  # up to 126 degrees
    quaternions = np.concatenate([np.cos(half)[:, None], np.sin(half)[:, None] * axes], axis=1)
    turns = _rotations(quaternions)
    features = (turns - np.eye(3)).reshape(-1, 9)
    normal = features.T @ features + 1e-2 * np.eye(9)
    table = []
    for s in np.linspace(0, 1, 41):
        blended = s * quaternions + (1 - s) * np.array([1.0, 0, 0, 0])
        linear = np.eye(3) + s * (turns - np.eye(3))
        lacking = np.linalg.solve(linear, _rotations(blended)) - np.eye(3)
        table.append(np.linalg.solve(normal, features.T @ (CORRECTED * lacking).reshape(-1, 9)))
    return np.array(table)


def _rotations(quaternions: np.ndarray) -> np.ndarray:
    """[N, 3, 3] rotations of quaternions [N, 4], w first, of any length."""
    w, x, y, z = (quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.array(rows).transpose(2, 0, 1)
