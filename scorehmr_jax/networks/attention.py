"""Attention and what goes with it in transformers, [N, tokens, width]."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from scorehmr_jax.networks.layers import gelu, single


class SelfAttention(nn.Module):
    """Every token asks all of them."""

    heads: int
    inner: int  # numbers of all heads together
    bias: bool = True  # of queries, keys and values

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        query, key, value = jnp.split(
            nn.Dense(3 * self.inner, self.bias, name="qkv")(x), 3, axis=-1
        )
        answers = attended(query, key, value, self.heads)
        return nn.Dense(x.shape[-1], name="out")(answers)


class CrossAttention(nn.Module):
    """Every token asks those of a context [N, others, any width]."""

    heads: int
    inner: int

    @nn.compact
    def __call__(self, x: jax.Array, context: jax.Array) -> jax.Array:
        query = nn.Dense(self.inner, False, name="query")(x)
        both = nn.Dense(2 * self.inner, False, name="key_value")(context)
        key, value = jnp.split(both, 2, axis=-1)
        answers = attended(query, key, value, self.heads)
        return nn.Dense(x.shape[-1], name="out")(answers)


class MLP(nn.Module):
    """Two linear maps with a GELU between them."""

    hidden: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(x.shape[-1], name="out")(gelu(nn.Dense(self.hidden, name="hidden")(x)))


def attended(
    query: Float[jax.Array, "N Q D"],
    key: Float[jax.Array, "N K D"],
    value: Float[jax.Array, "N K D"],
    heads: int,
) -> Float[jax.Array, "N Q D"]:
    """Scaled dot-product attention, the softmax in float32 at least."""

    width = query.shape[-1] // heads

    def split(x: jax.Array) -> jax.Array:
        return x.reshape(*x.shape[:2], heads, width)

    match = single(jnp.einsum("nqhd,nkhd->nhqk", split(query) * width**-0.5, split(key)))
    share = jax.nn.softmax(match, axis=-1).astype(value.dtype)
    return jnp.einsum("nhqk,nkhd->nqhd", share, split(value)).reshape(query.shape)


def norm(epsilon: float, name: str) -> Any:
    """A layer norm, its mean and variance in float32 at least."""
    return nn.LayerNorm(epsilon, use_fast_variance=False, name=name)
