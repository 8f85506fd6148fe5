"""Training pairs: a pose, and a simulated regression network's estimate of it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Key

from body_model.rotations import axis_angle_to_matrix
from body_model.skeleton import Skeleton
from scorehmr_jax.prior import rotations_to_x
from scorehmr_jax.simulation.mocap import mirror
from scorehmr_jax.simulation.placement import place_before_camera, uniform_each
from scorehmr_jax.simulation.regressor import Regressor, simulate_estimates
from scorehmr_jax.types import Array

_CHUNK = 512  # frames simulated at a time


def random_regressors(key: Key[Array, ""], count: int) -> Regressor:
    """Draws networks of many strengths, from nearly perfect to about 60 mm of PA-MPJPE.

    Their reprojection errors vary too, so that conditioning on an estimate does not rely on one
    network's habits.

    Args:
        key: PRNG key.
        count: of networks.
    Returns:
        One whose numbers are arrays [count].
    """
    # Of the strength, and of what the numbers below are made of.
    bounds = [(0.0, 1.0), (0.7, 1.3), (0.4, 0.8), (0.2, 1.0), (np.log(0.5), np.log(2.0))]
    strength, image, correlation, betas, log_pull = uniform_each(
        jax.random.split(key, 5), count, jnp.array(bounds)
    )
    return Regressor(
        rotation=0.01 + 0.3 * strength,
        image_rotation=(0.012 + 0.03 * strength) * image,
        limb_correlation=correlation,
        jitter=jnp.zeros(count),  # frames are independent here
        betas=betas,
        depth=jnp.full(count, 0.05),
        pull=jnp.exp(log_pull),
    )


def simulate_pairs(
    key: Key[Array, ""], skeleton: Skeleton, poses: Float[np.ndarray, "N 24 3"], per_frame: int
) -> tuple[Float[np.ndarray, "M 144"], Float[np.ndarray, "M 144"]]:
    """Puts poses before random cameras and simulates estimates of them by random networks.

    Args:
        key: PRNG key.
        skeleton: OPENPOSE_25 of a body.
        poses: [N, 24, 3] axis-angle, radians, y up.
        per_frame: estimates of each pose, each by a camera and a network of its own.
    Returns:
        True and estimated poses in 6D, camera frame, [N * per_frame, 144] each.
    """
    every = np.repeat(poses, per_frame, axis=0)
    padded = np.resize(every, (-(-len(every) // _CHUNK) * _CHUNK, *every.shape[1:]))
    parts = [
        jax.device_get(_simulate(jax.random.fold_in(key, start), skeleton, jnp.asarray(chunk)))
        for start, chunk in enumerate(padded.reshape(-1, _CHUNK, *every.shape[1:]))
    ]
    true, estimated = (np.concatenate(each)[: len(every)] for each in zip(*parts, strict=True))
    return true, estimated


@jax.jit
def _simulate(key: Array, skeleton: Skeleton, poses: Array) -> tuple[Array, Array]:
    count = len(poses)
    key_shape, key_camera, key_network, key_estimate = jax.random.split(key, 4)
    betas = jax.random.normal(key_shape, (count, 10), poses.dtype)
    pose, translation, camera = place_before_camera(
        key_camera, skeleton, axis_angle_to_matrix(poses), betas, jnp.zeros((count, 3))
    )
    one = partial(jax.tree.map, lambda x: x[:, None])
    estimate = jax.vmap(simulate_estimates, in_axes=(0, None, 0, 0, 0, 0, 0))(
        jax.random.split(key_estimate, count),
        skeleton,
        *one((pose, betas, translation, camera)),
        random_regressors(key_network, count),
    )
    return rotations_to_x(pose), rotations_to_x(estimate.pose[:, 0])


def augment_pairs(
    key: Key[Array, ""], true: Float[Array, "N 144"], estimated: Float[Array, "N 144"]
) -> tuple[Float[Array, "N 144"], Float[Array, "N 144"]]:
    """Mirrors half of the pairs, the person and the camera together.

    Args:
        key: PRNG key.
        true, estimated: [N, 144] poses in 6D.
    Returns:
        The same two, mirrored in some rows.
    """
    flip = jax.random.bernoulli(key, shape=(len(true), 1))
    return jnp.where(flip, mirror(true), true), jnp.where(flip, mirror(estimated), estimated)
