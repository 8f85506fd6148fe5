"""A running average of the weights, the ones that are used after training."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from scorehmr_jax.types import Array

Params = Any


@dataclass(frozen=True)
class Ema:
    """How the average moves; the defaults are the released ones.

    Every `every` steps it moves to the weights: all the way up to step `after`, then by
    1 - min(decay, 1 - (1 + n) ** -power) where n counts the steps past `after`.
    """

    decay: float = 0.995
    every: int = 10
    after: int = 100
    power: float = 2 / 3

    def update(self, average: Params, params: Params, step: Array) -> Params:
        """The average after the training step of number `step`, a scalar counted from 0."""
        past = jnp.maximum(step - self.after, 0)
        decay = jnp.minimum(self.decay, 1 - (1.0 + past) ** -self.power)

        def move() -> Params:
            # In the average's own precision, whatever the weights have.
            return jax.tree.map(
                lambda a, p: p.astype(a.dtype) + decay.astype(a.dtype) * (a - p.astype(a.dtype)),
                average, params,
            )  # fmt: skip

        return jax.lax.cond(step % self.every == 0, move, lambda: average)
