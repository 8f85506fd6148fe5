"""Stopping rules: when a sample is done before the loop is."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Bool, Float

from scorehmr_jax.types import Array


@dataclass(frozen=True)
class Never:
    """Every sample goes through the whole loop. The base of the other rules.

    A rule of your own is a frozen dataclass derived from this one, with `stops = True` and one
    of the two methods in its own way. It is static: another rule, or another number in it,
    compiles anew.
    """

    stops: ClassVar[bool] = False  # whether the loop need look for samples that are done

    def after_step(self, before: Float[Array, "*N"], now: Float[Array, "*N"]) -> Bool[Array, "*N"]:
        """True for the samples that are done after this guided step.

        They take this step without guidance, and their result is frozen after it.

        Args:
            before: loss of the step before; infinite at the first.
            now: loss of this step.
        """
        return jnp.zeros_like(now, bool)

    def after_round(self, before: Float[Array, "*N"], now: Float[Array, "*N"]) -> Bool[Array, "*N"]:
        """True for the samples that are done after this round.

        Args:
            before: loss of the last step of the round before; infinite after the first round.
            now: loss of the last step of this round.
        """
        return jnp.zeros_like(now, bool)


@dataclass(frozen=True)
class StepStop(Never):
    """Stops a sample whose loss hardly changed over one guided step.

    The released code's rule for images. It often fires at a turning point of the loss.
    """

    tolerance: float = 1e-5  # relative change of the loss
    stops: ClassVar[bool] = True

    def after_step(self, before: Float[Array, "*N"], now: Float[Array, "*N"]) -> Bool[Array, "*N"]:
        return _unchanged(before, now, self.tolerance)


@dataclass(frozen=True)
class RoundStop(Never):
    """Stops a sample whose loss hardly changed over a whole round."""

    tolerance: float = 1e-5  # relative change of the loss
    stops: ClassVar[bool] = True

    def after_round(self, before: Float[Array, "*N"], now: Float[Array, "*N"]) -> Bool[Array, "*N"]:
        return _unchanged(before, now, self.tolerance)


def _unchanged(before: Array, now: Array, tolerance: float) -> Array:
    # Before the first step the loss is infinite, and infinity over itself is no answer.
    known = jnp.isfinite(before)
    before = jnp.where(known, before, 0)
    change = jnp.abs(before - now) / jnp.maximum(jnp.maximum(before, now), 1)
    return known & (change < tolerance)
