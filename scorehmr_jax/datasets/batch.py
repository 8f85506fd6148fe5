"""Batches of training steps."""

from jaxtyping import Float

from body_model.pytree import Array, pytree


@pytree
class TrainingBatch:
    """Poses to learn, and what they are conditioned on."""

    x_0: Float[Array, "B D"]  # 144 of pose in 6D, then 10 of shape in [-1, 1] where it is modelled
    # Standardised condition, in any precision: as it lies in memory. None without one.
    features: Float[Array, "B F"] | None
