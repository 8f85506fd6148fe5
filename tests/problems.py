"""Small refinement problems, by numpy: compiling initialisers takes longer than many a test."""

import jax
import jax.numpy as jnp
import numpy as np

from body_model import Skeleton, stand_in
from body_model.joints import SMPL_24
from scorehmr_jax.camera import pinhole
from scorehmr_jax.denoiser import Denoiser, DenoiserConfig
from scorehmr_jax.diffusion import cosine_betas, schedule
from scorehmr_jax.prior import Prior
from scorehmr_jax.types import Camera, Estimate, Keypoints2D

FEATURES = 8


def random_prior(seed: int = 0) -> Prior:
    """A tiny denoiser with random weights."""
    sizes = DenoiserConfig(features=FEATURES, hidden=16, blocks=1)
    inputs = jnp.zeros((1, sizes.dim)), 0, jnp.zeros((1, FEATURES))
    shapes = jax.eval_shape(Denoiser(sizes).init, jax.random.key(0), *inputs)["params"]
    rng = np.random.default_rng(seed)

    def draw(leaf):
        return jnp.asarray(rng.normal(size=leaf.shape) * leaf.shape[0] ** -0.5, jnp.float32)

    return Prior(jax.tree.map(draw, shapes), schedule(cosine_betas()), None, sizes)


def native_skeleton() -> Skeleton:
    """The stand-in's 24 joints: a small program, which compiles fast."""
    return Skeleton.of(stand_in(), SMPL_24)


def random_samples(n: int, seed: int = 0) -> tuple[Estimate, np.ndarray, Keypoints2D, Camera]:
    """Estimates, features [n, 8], keypoints [n, 24] near them, and cameras."""
    rng = np.random.default_rng(seed)
    # The orthonormal part of nearly the identity is a moderate rotation.
    q, r = np.linalg.qr(np.eye(3) + 0.2 * rng.normal(size=(n, 24, 3, 3)))
    pose = q * np.sign(np.diagonal(r, axis1=-2, axis2=-1))[..., None, :]
    betas, translation = np.zeros((n, 10)), np.tile([0.0, 0.0, 10.0], (n, 1))
    xy, confidence = 500 + 60 * rng.normal(size=(n, 24, 2)), rng.uniform(size=(n, 24))
    numbers = Estimate(pose, betas, translation), Keypoints2D(xy, confidence)
    estimate, keypoints = jax.tree.map(lambda leaf: leaf.astype(np.float32), numbers)
    features = rng.normal(size=(n, FEATURES)).astype(np.float32)
    return estimate, features, keypoints, pinhole(np.full((n, 2), 1000, np.float32), 1500.0)
