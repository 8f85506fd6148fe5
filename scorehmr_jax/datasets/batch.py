"""What a training step is given."""

from dataclasses import dataclass

from scorehmr_jax.types import Array, pytree


@pytree
@dataclass(frozen=True)
class Batch:
    """Poses to learn."""

    x_0: Array  # [B, D] 144 of pose in 6D, then 10 of shape in [-1, 1] where it is modelled
    # [B, F] standardised condition; None without one. Of any precision, as it lies in memory.
    features: Array | None
