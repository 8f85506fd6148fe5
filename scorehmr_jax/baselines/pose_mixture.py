"""SMPLify's prior over body poses: a mixture of Gaussians over axis-angles (Bogo et al., 2016)."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from body_model.files import local_path, read_npz
from body_model.joints import MIRROR, NUM_JOINTS
from body_model.pickles import load_pickle
from body_model.pytree import Array, pytree

_SHIPPED = Path(__file__).with_suffix(".npz")
_ANGLES = 3 * (NUM_JOINTS - 1)
_KEYS = ("weights", "means", "covars")
# Rotations are about the T-pose; mirrored left to right, x stays and y and z change their signs.
_MIRROR_SIGNS = np.array([1.0, -1.0, -1.0])


@pytree
class PoseMixture:
    """A mixture of C Gaussians over the axis-angles of all joints but the root."""

    mean: Float[Array, "C 69"]  # radians
    whiten: Float[Array, "C 69 69"]  # W with W^T W the inverse covariance
    constant: Float[Array, " C"]  # -log(share / sqrt(det)), less the least of the last factor

    @classmethod
    def of(
        cls,
        weights: Float[np.ndarray, " C"],
        means: Float[np.ndarray, "C 69"],
        covariances: Float[np.ndarray, "C 69 69"],
    ) -> "PoseMixture":
        """Makes a mixture of its shares, means and covariances.

        Raises:
            ValueError: if a share is not positive or a covariance not positive definite.
        """
        weights, means, covariances = (
            np.asarray(a, np.float64) for a in (weights, means, covariances)
        )
        if not (weights > 0).all():
            raise ValueError(f"weights: expected shares above 0, found {weights.min()}")
        try:
            roots = np.linalg.cholesky(covariances)
        except np.linalg.LinAlgError:
            raise ValueError("covars: expected positive definite matrices") from None
        whiten = np.linalg.inv(roots)
        log_root = np.log(np.diagonal(roots, axis1=1, axis2=2)).sum(-1)
        # SMPLify's constant: with the whole 69-dimensional one, its exponential would underflow.
        full = 0.5 * _ANGLES * np.log(2 * np.pi)
        constant = full + log_root - log_root.min() - np.log(weights)
        return cls(*(a.astype(np.float32) for a in (means, whiten, constant)))

    @classmethod
    def read(cls, path: str | Path) -> "PoseMixture":
        """Reads SMPLify's gmm_08.pkl, or an .npz with the same keys.

        Args:
            path: of a dict with weights [C], means [C, 69] and covars [C, 69, 69].
        Raises:
            UnsafePickle: if a pickle names anything but arrays and plain containers.
            ValueError: naming the file and the key that is missing or of another shape.
        """
        data: Any = read_npz(path) if local_path(path).suffix == ".npz" else load_pickle(path)
        if not isinstance(data, Mapping):
            raise ValueError(f"{path}: expected a dict, found {type(data).__name__}")
        missing = [key for key in _KEYS if key not in data]
        if missing:
            raise ValueError(f"{path}: expected the keys {', '.join(_KEYS)}; missing: {missing}")
        arrays = {key: np.asarray(data[key]) for key in _KEYS}
        count = arrays["weights"].shape[:1] or (1,)
        for key, tail in (("weights", ()), ("means", (_ANGLES,)), ("covars", (_ANGLES, _ANGLES))):
            array, wanted = arrays[key], (*count, *tail)
            if array.shape != wanted or array.dtype.kind not in "fiu":
                found = f"{array.dtype} {array.shape}"
                raise ValueError(f"{path}: {key}: expected numbers {wanted}, found {found}")
            if not np.isfinite(array).all():
                raise ValueError(f"{path}: {key} holds numbers that are not finite")
        try:
            return cls.of(*arrays.values())
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    @classmethod
    def shipped(cls) -> "PoseMixture":
        """Reads the mixture of this package, learnt from open motion capture."""
        return _shipped()

    def energy(self, angles: Float[Array, "*N 69"]) -> Float[Array, "*N"]:
        """Works out how unusual poses are: the least over components of d^T P d / 2 + constant.

        Args:
            angles: [..., 69] axis-angles of the joints, radians.
        """
        mean, whiten, constant = (
            jnp.asarray(a, angles.dtype) for a in (self.mean, self.whiten, self.constant)
        )
        # All components in one product; one at a time it would be many small ones.
        flat = whiten.reshape(-1, _ANGLES)
        off = angles @ flat.T - jnp.einsum("cij,cj->ci", whiten, mean).reshape(-1)
        squares = (off.reshape(*off.shape[:-1], *whiten.shape[:2]) ** 2).sum(-1)
        return (0.5 * squares + constant).min(-1)


def with_mirrored(poses: Float[np.ndarray, "N 24 3"]) -> Float[np.ndarray, "M 69"]:
    """Lists poses and their mirror images as a mixture has them, without the root.

    Args:
        poses: [N, 24, 3] axis-angle, radians.
    """
    mirrored = poses[:, list(MIRROR)] * _MIRROR_SIGNS
    return np.concatenate([poses, mirrored])[:, 1:].reshape(-1, _ANGLES)


@cache
def _shipped() -> PoseMixture:
    return PoseMixture.read(_SHIPPED)
