"""Gaussian mixtures, fitted by expectation maximisation: densities that have a closed form."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from jaxtyping import Float, Int, Key

from scorehmr_jax.diffusion import Schedule
from scorehmr_jax.types import Array, Number

STEPS = 12  # of expectation and maximisation
FLOOR = 1e-4  # least variance in any direction: joints of some rigs never turn


class Mixture(NamedTuple):
    """A mixture of K normal distributions."""

    share: Float[Array, " K"]
    mean: Float[Array, "K D"]
    covariance: Float[Array, "K D D"]

    def widened(self, variance: Number) -> "Mixture":
        """Adds a variance in all directions."""
        return self._replace(covariance=self.covariance + variance * jnp.eye(self.mean.shape[-1]))

    def at(self, schedule: Schedule, t: Int[Array, ""] | int) -> "Mixture":
        """Gives the density of x_t where this is that of x_0."""
        signal, spread = (jnp.asarray(c)[t] for c in (schedule.sqrt, schedule.sqrt_one_minus))
        shrunk = Mixture(self.share, signal * self.mean, signal**2 * self.covariance)
        return shrunk.widened(spread**2)

    @jax.jit
    def log_parts(self, x: Float[Array, "N D"]) -> Float[Array, "K N"]:
        """Computes the log of every component's share times its density."""

        def one(part: Mixture) -> Array:
            root = jnp.linalg.cholesky(part.covariance)
            whiten = jax.scipy.linalg.solve_triangular(root, jnp.eye(len(root)), lower=True)
            normal = norm.logpdf((x - part.mean) @ whiten.T).sum(-1)
            return jnp.log(part.share) + normal - jnp.log(jnp.diagonal(root)).sum()

        return jax.lax.map(one, self)

    def log_density(self, x: Float[Array, "N D"]) -> Float[Array, " N"]:
        """Computes the log-density in nats."""
        return jax.nn.logsumexp(self.log_parts(x), axis=0)

    @partial(jax.jit, static_argnames="count")
    def sample(self, key: Key[Array, ""], count: int) -> Float[Array, "N D"]:
        """Draws samples."""
        key_part, key_noise = jax.random.split(key)
        part = jax.random.categorical(key_part, jnp.log(self.share), shape=(count,))
        noise = jax.random.normal(key_noise, (count, self.mean.shape[-1]))
        root = jnp.linalg.cholesky(self.covariance)
        return self.mean[part] + jnp.einsum("nij,nj->ni", root[part], noise)


def fit(seed: int, poses: Float[Array, "N D"], count: int) -> Mixture:
    """Fits a mixture of so many components, starting from k-means++ seeds.

    Args:
        seed: of the components' first places.
        poses: [N, D] what to fit.
        count: of components.
    """
    rng, x = np.random.default_rng(seed), np.asarray(poses)
    square, owner = np.full(len(x), 1e9), np.zeros(len(x), int)
    for i in range(count):
        away = ((x - x[rng.choice(len(x), p=square / square.sum())]) ** 2).sum(1)
        owner, square = np.where(away < square, i, owner), np.minimum(square, away)
    mixture = maximise(x, np.eye(count, dtype=x.dtype)[:, owner])
    for _ in range(STEPS):
        mixture = maximise(x, np.asarray(jax.nn.softmax(mixture.log_parts(poses), axis=0)))
    return mixture


def maximise(x: Float[np.ndarray, "N D"], owned: Float[np.ndarray, "K N"]) -> Mixture:
    """Finds the likeliest mixture for poses of which each component owns these parts."""
    total, mean, covariance = [], [], []
    for weight in owned:
        near = weight > 1e-6  # of a hundred components, one or two own a pose
        weight, mine = weight[near, None], x[near]
        total.append(weight.sum() + 1e-9)
        mean.append((weight * mine).sum(0) / total[-1])
        away = np.sqrt(weight) * (mine - mean[-1])
        covariance.append(away.T @ away / total[-1])
    parts = (np.array(total) / np.sum(total), np.array(mean), np.array(covariance))
    return Mixture(*(jnp.asarray(part, x.dtype) for part in parts)).widened(FLOOR)
