"""What a training step is given."""

from body_model.pytree import pytree
from scorehmr_jax.types import Array


@pytree
class Batch:
    """Poses to learn."""

    x_0: Array  # [B, D] 144 of pose in 6D, then 10 of shape in [-1, 1] where it is modelled
    # [B, F] standardised condition; None without one. Of any precision, as it lies in memory.
    features: Array | None
