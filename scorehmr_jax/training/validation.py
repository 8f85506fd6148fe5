"""Figures of a network on poses that it was not trained on.

They are the loss by noise level, the error of DDIM inversion and, for a prior with a condition, the
distance of its samples.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Key

from body_model.pytree import Array
from body_model.skeleton import Skeleton
from scorehmr_jax.datasets.batch import TrainingBatch
from scorehmr_jax.diffusion import Schedule
from scorehmr_jax.evaluation.metrics import mpjpe, pa_mpjpe
from scorehmr_jax.networks.protocol import Network
from scorehmr_jax.prior import Prior, x_to_rotations
from scorehmr_jax.training.ema import Params
from scorehmr_jax.training.step import Noised, noise_loss

# Refinement runs at levels up to 50 or 100; sampling and energies use those above as well.
BANDS = ((0, 10), (10, 50), (50, 100), (100, 300), (300, 1000))


def band_losses(
    network: Network,
    schedule: Schedule,
    params: Params,
    batch: TrainingBatch,
    key: Key[Array, ""],
) -> Float[Array, " bands"]:
    """Computes the mean noise-prediction loss in each of BANDS.

    Args:
        network, schedule, params: of the prior.
        batch: poses; each is noised to one level of every band.
        key: of levels and noise.
    """
    size = len(batch.x_0)

    def one(key: Array, low: Array, high: Array) -> Array:
        key_t, key_noise = jax.random.split(key)
        # Evenly spread and shuffled, so that all networks are compared at the same levels.
        t = jax.random.permutation(key_t, low + (jnp.arange(size) * (high - low)) // size)
        noise = jax.random.normal(key_noise, batch.x_0.shape, batch.x_0.dtype)
        noised = Noised(batch.x_0, batch.features, t, noise)
        return noise_loss(network, schedule, params, noised).mean()

    bands = jnp.asarray(BANDS)
    return jax.lax.map(
        lambda each: one(*each), (jax.random.split(key, len(BANDS)), bands[:, 0], bands[:, 1])
    )


def inversion_error(
    network: Network,
    schedule: Schedule,
    params: Params,
    batch: TrainingBatch,
    top: int = 50,
    stride: int = 2,
) -> Float[Array, ""]:
    """Computes the error of DDIM inversion followed by unguided sampling (paper, Algorithm 1).

    Args:
        network, schedule, params: of the prior.
        batch: poses.
        top: highest level; levels are 0, stride, ..., top, and back to 0.
        stride: between two levels.
    Returns:
        Mean absolute difference of a number of x_0.
    """
    prior = Prior(params, schedule, None, network)
    latent = prior.encode(batch.x_0, batch.features, start=top, step=stride)
    x_0 = prior.decode(latent, batch.features, start=top, step=stride)
    return jnp.abs(x_0 - batch.x_0).mean()


def sample_errors(
    network: Network,
    schedule: Schedule,
    skeleton: Skeleton,
    samples: int,
    params: Params,
    batch: TrainingBatch,
    key: Key[Array, ""],
) -> dict[str, Float[Array, ""]]:
    """Computes the distance of DDIM samples from the poses whose features they are given.

    Args:
        network, schedule, params: of the prior.
        skeleton: of the body whose joints are compared; its first joint is the root.
        samples: drawn for each pose.
        batch: poses with features.
        key: of the samples.
    Returns:
        Errors of the joints of the mean shape, relative to the root, in millimetres, averaged over
        the poses: `sample_mpjpe` and `sample_pa_mpjpe` of one sample, `best_mpjpe` and
        `best_pa_mpjpe` of each pose's best one.
    """
    prior = Prior(params, schedule, None, network)
    drawn = prior.sample(key, batch.features, shape=(samples, len(batch.x_0)))

    def joints(x: Array) -> Array:
        found = skeleton(x_to_rotations(x), jnp.zeros((*x.shape[:-1], 10), x.dtype))
        return found - found[..., :1, :]

    guess, truth = joints(drawn), joints(batch.x_0)
    out: dict[str, Array] = {}
    for name, errors in (("mpjpe", mpjpe(guess, truth)), ("pa_mpjpe", pa_mpjpe(guess, truth))):
        out |= {f"sample_{name}": errors.mean(), f"best_{name}": errors.min(0).mean()}
    return out
