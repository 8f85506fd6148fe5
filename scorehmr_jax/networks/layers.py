"""Small functions that the forms of the denoiser are made of."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Float, Integer, Shaped

from body_model.pytree import Array

EPSILON = 1e-5  # of LayerNorm


def sinusoid(t: Integer[Array, "*t"], width: int) -> Float[Array, "*t W"]:
    """Encodes levels t [...] as sines and then cosines of rising wavelength, [..., width]."""
    half = width // 2
    rates = jnp.exp(jnp.arange(half, dtype=float) * (-math.log(10000) / (half - 1)))
    angles = jnp.asarray(t, rates.dtype)[..., None] * with_axes(rates, jnp.ndim(t) + 1)
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def gelu(x: Float[Array, "*x"]) -> Float[Array, "*x"]:
    """Exact GELU by the error function, as PyTorch does; jax.nn.gelu's erfc takes far longer."""
    return 0.5 * x * (1 + jax.lax.erf(x * 0.5**0.5))


def single(x: Float[Array, "*x"]) -> Float[jax.Array, "*x"]:
    """Gives numbers in float32 at least."""
    return jnp.asarray(x, jnp.promote_types(x.dtype, jnp.float32))


def row_sum(x: Float[Array, "*x W"]) -> Float[Array, "*x 1"]:
    """Sums over the last axis, [..., 1]; as a product, which XLA's CPU backend vectorises."""
    ones = jnp.ones((x.shape[-1], 1), x.dtype)
    # Means and variances stay exact whatever the precision of the layers.
    return jnp.matmul(x, ones, precision=jax.lax.Precision.HIGHEST)


def linear(
    x: Float[Array, "*x I"], kernel: Float[Array, "I O"], bias: Float[Array, " O"]
) -> Float[Array, "*x O"]:
    """Multiplies x [..., I] by a kernel [I, O] and adds a bias [O]."""
    return x @ kernel + with_axes(bias, x.ndim)


def with_axes(x: Shaped[Array, "*x"], ndim: int) -> Shaped[Array, "*out"]:
    """Gives x axes of length 1 in front, until it has as many as `ndim` says.

    NumPy's broadcasting does that unasked; jax_numpy_rank_promotion="raise" forbids it.
    """
    return x.reshape((1,) * (ndim - x.ndim) + x.shape)
