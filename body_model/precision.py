"""Floating-point types that a user asks for."""

import jax.numpy as jnp
import numpy as np
from numpy.typing import DTypeLike


def checked_dtype(dtype: DTypeLike) -> np.dtype:
    """Makes a floating-point type of what a user gave.

    Args:
        dtype: numpy's or JAX's, or a name such as "float32" or "bfloat16".
    Raises:
        ValueError: if it is no floating-point type; as whole numbers or truth values, metres and
            weights would be cut off.
    """
    try:
        found = jnp.dtype(dtype)
    except TypeError:
        raise ValueError(
            f"dtype: expected a floating-point type such as float32, found {dtype!r}"
        ) from None
    if not jnp.issubdtype(found, jnp.floating):
        raise ValueError(
            f"dtype: expected a floating-point type such as float32, found {found.name}"
        )
    return found
