"""A Gaussian over body poses: what 3D points do not tell, such as the twist of a limb."""

from functools import cache
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from body_model.files import read_npz
from body_model.joints import MIRROR, NUM_JOINTS
from body_model.pytree import Array, pytree

_SHIPPED = Path(__file__).with_suffix(".npz")
# Rotations are about the T-pose; mirrored left to right, x stays and y and z change their signs.
_MIRROR_SIGNS = np.array([1.0, -1.0, -1.0])


@pytree
class PoseGaussian:
    """A Gaussian over the axis-angles of all joints but the root, with limits for each."""

    mean: Float[Array, "23 3"]  # radians
    precision: Float[Array, "69 69"]  # inverse covariance, 1 / radians^2
    low: Float[Array, "23 3"]  # least usual value, radians
    high: Float[Array, "23 3"]  # largest usual value, radians

    @classmethod
    def fit(
        cls, poses: Float[np.ndarray, "N 24 3"], jitter: Float[np.ndarray, " 24"]
    ) -> "PoseGaussian":
        """Learns the Gaussian from poses and their mirror images.

        Args:
            poses: [N, 24, 3] axis-angle, radians.
            jitter: [24] standard deviation that is added to that of each joint, radians. Captured
                joints obey the rig that they were captured with, where hinges bend about one axis
                exactly; people do not.
        Returns:
            The Gaussian; its limits leave out the outermost thousandth of the poses on each side,
            and then give way by the jitter.
        """
        poses = np.asarray(poses, np.float64)
        mirrored = poses[:, list(MIRROR)] * _MIRROR_SIGNS
        angles = np.concatenate([poses, mirrored])[:, 1:].reshape(-1, 3 * (NUM_JOINTS - 1))
        spread = np.repeat(np.asarray(jitter, np.float64)[1:], 3)
        covariance = np.cov(angles.T) + np.diag(spread**2)
        low, high = np.quantile(angles, [0.001, 0.999], axis=0)
        arrays = (angles.mean(0), np.linalg.inv(covariance), low - spread, high + spread)
        mean, precision, low, high = (array.astype(np.float32) for array in arrays)
        return cls(mean.reshape(-1, 3), precision, low.reshape(-1, 3), high.reshape(-1, 3))

    @classmethod
    def shipped(cls) -> "PoseGaussian":
        """Reads the Gaussian of this package, learnt from open motion capture."""
        return _shipped()

    def pull(
        self, angles: Float[Array, " 69 *batch"], limit_weight: float
    ) -> tuple[Float[Array, " 69 *batch"], Float[Array, " 69 *batch"], Float[Array, "*batch"]]:
        """Works out the energy of poses, (a - mean)^T precision (a - mean) / 2 plus the limits'.

        Args:
            angles: [69, ...] axis-angles of the joints, batch axes last, radians.
            limit_weight: of the squared radians beyond the limits.
        Returns:
            The gradient and the limits' second derivative by each angle [69, ...], and the
            energy [...].
        """
        tail = (1,) * (angles.ndim - 1)
        mean, low, high = (
            jnp.asarray(a, angles.dtype).reshape(-1, *tail)
            for a in (self.mean, self.low, self.high)
        )
        off = angles - mean
        pull = jnp.tensordot(jnp.asarray(self.precision, angles.dtype), off, 1)
        beyond = jnp.minimum(angles - low, 0) + jnp.maximum(angles - high, 0)
        outside = jnp.where(beyond != 0, limit_weight, 0.0).astype(angles.dtype)
        energy = ((off * pull).sum(0) + limit_weight * (beyond**2).sum(0)) / 2
        return pull + limit_weight * beyond, outside, energy


@cache
def _shipped() -> PoseGaussian:
    return PoseGaussian(**{key: np.asarray(value) for key, value in read_npz(_SHIPPED).items()})
