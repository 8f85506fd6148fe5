"""What a network is worth on poses it has not seen.

Loss by noise level, DDIM inversion, and for a conditioned one how near its samples come.
"""

import jax
import jax.numpy as jnp

from body_model.skeleton import Skeleton
from scorehmr_jax.datasets.batch import Batch
from scorehmr_jax.diffusion import Schedule
from scorehmr_jax.evaluation.metrics import mpjpe, pa_mpjpe
from scorehmr_jax.networks.protocol import Network
from scorehmr_jax.prior import Prior, x_to_rotations
from scorehmr_jax.training.ema import Params
from scorehmr_jax.training.step import Noised, noise_loss
from scorehmr_jax.types import Array

# Refinement runs at levels up to 50 or 100; beyond are whole samples and coarse energies.
BANDS = ((0, 10), (10, 50), (50, 100), (100, 300), (300, 1000))


def band_losses(
    network: Network, schedule: Schedule, params: Params, batch: Batch, key: Array
) -> Array:
    """Mean noise-prediction loss in each of BANDS, [5]; every pose at one level of each band."""
    size = len(batch.x_0)

    def one(key: Array, low: Array, high: Array) -> Array:
        key_t, key_noise = jax.random.split(key)
        # Evenly spread and shuffled: the same levels for every model that is compared.
        t = jax.random.permutation(key_t, low + (jnp.arange(size) * (high - low)) // size)
        noise = jax.random.normal(key_noise, batch.x_0.shape, batch.x_0.dtype)
        noised = Noised(batch.x_0, batch.features, t, noise)
        return noise_loss(network, schedule, params, noised).mean()

    bands = jnp.asarray(BANDS)
    return jax.lax.map(
        lambda each: one(*each), (jax.random.split(key, len(BANDS)), bands[:, 0], bands[:, 1])
    )


def inversion_error(
    network: Network, schedule: Schedule, params: Params, batch: Batch, top: int = 50,
    stride: int = 2,
) -> Array:  # fmt: skip
    """Mean absolute error per number of x_0 after DDIM inversion and unguided sampling back.

    Levels 0, stride, ..., top and down again to the latent at level 0 (paper, Algorithm 1 without
    guidance).

    Returns:
        [].
    """
    prior = Prior(params, schedule, None, network)
    latent = prior.encode(batch.x_0, batch.features, start=top, step=stride)
    x_0 = prior.decode(latent, batch.features, start=top, step=stride)
    return jnp.abs(x_0 - batch.x_0).mean()


def sample_errors(
    network: Network, schedule: Schedule, skeleton: Skeleton, samples: int, params: Params,
    batch: Batch, key: Array,
) -> dict[str, Array]:  # fmt: skip
    """How near DDIM samples come to the poses whose features they are given.

    Joints of the mean shape, relative to the root, in millimetres, averaged over the poses.

    Args:
        skeleton: of the body whose joints are compared; its first is the root.
        samples: drawn for each pose.
    Returns:
        `sample_mpjpe` and `sample_pa_mpjpe` of one sample; `best_mpjpe` and `best_pa_mpjpe` of
        each pose's best of `samples`.
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
