"""Running average of the weights, which is what is used after training."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Integer

from body_model.pytree import Array

Params = Any


@dataclass(frozen=True)
class Ema:
    """Rule by which the average moves; the defaults are the released ones.

    Every `every` steps it moves towards the weights: all the way up to step `after`, then by
    1 - min(decay, 1 - (1 + n) ** -power) where n counts the steps past `after`.
    """

    decay: float = 0.995
    every: int = 10
    after: int = 100
    power: float = 2 / 3

    def update(self, average: Params, params: Params, step: Integer[Array, ""]) -> Params:
        """Moves the average after a training step.

        Args:
            average: before the step.
            params: weights after the step.
            step: its number, counted from 0.
        """
        past = jnp.maximum(step - self.after, 0)
        decay = jnp.minimum(self.decay, 1 - (1.0 + past) ** -self.power)

        def moved(old: Array, new: Array) -> Array:
            # In the precision of the average, which may be more than that of the weights.
            new, rate = new.astype(old.dtype), decay.astype(old.dtype)
            return new + rate * (old - new)

        return jax.lax.cond(
            step % self.every == 0, lambda: jax.tree.map(moved, average, params), lambda: average
        )
