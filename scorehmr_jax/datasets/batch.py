"""Batches of training steps."""

from jaxtyping import Float

from body_model.pytree import Array, pytree


@pytree
class TrainingBatch:
    """Poses to learn, and what they are conditioned on."""

    x_0: Float[Array, "B D"]  # 144 of pose in 6D, then 10 of shape in [-1, 1] where it is modelled
    # Standardised, in the precision in which they lie in memory; None without a condition.
    features: Float[Array, "B F"] | None
