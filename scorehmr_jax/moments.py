"""Adam's step (Kingma and Ba, 2015), for variables of which each sample has its own."""

import math

import jax.numpy as jnp
from jaxtyping import Float, Int

from body_model.pytree import pytree
from scorehmr_jax.types import Array


@pytree
class Moments:
    """Adam's memory of the slopes of one variable."""

    first: Float[Array, "*N M"]
    second: Float[Array, "*N M"]

    @classmethod
    def at_rest(cls, variable: Float[Array, "*N M"]) -> "Moments":
        """Makes the memory of a variable that nothing has moved yet."""
        return cls(jnp.zeros_like(variable), jnp.zeros_like(variable))


def adam_step(
    variable: Float[Array, "*N M"],
    moments: Moments,
    slope: Float[Array, "*N M"],
    taken: Int[Array, ""],
    rate: float | Float[Array, " M"],
) -> tuple[Float[Array, "*N M"], Moments]:
    """Takes one step down a slope.

    Its gradient is finite also where nothing has pulled, as on a sample without evidence.

    Args:
        variable: [..., N, M].
        moments: of the slopes before.
        slope: of the loss by the variable.
        taken: steps so far, this one included.
        rate: the size of a step, one number or one for each of a sample's numbers.
    Returns:
        The variable and the moments after it.
    """
    count = taken.astype(slope.dtype)
    # 1 - decay**count, which in float32 would lose most of its digits at first.
    first_bias, second_bias = (-jnp.expm1(count * math.log(decay)) for decay in (0.9, 0.999))
    first = 0.9 * moments.first + 0.1 * slope
    second = 0.999 * moments.second + 0.001 * slope**2
    # Where nothing has pulled yet, the root's gradient would be infinite.
    unmoved = second == 0
    size = jnp.sqrt(jnp.where(unmoved, 1, second) / second_bias)
    size = jnp.where(unmoved, 0, size) + 1e-8
    return variable - rate * first / first_bias / size, Moments(first, second)
