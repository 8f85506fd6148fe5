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
        # NumPy takes None for float64, and knows other orders of bytes than the machine's.
        found = None if dtype is None else jnp.dtype(dtype).newbyteorder("=")
    except TypeError:
        found = None
    if found is None or not jnp.issubdtype(found, jnp.floating):
        name = repr(dtype) if found is None else found.name
        raise ValueError(f"dtype: expected a floating-point type such as float32, found {name}")
    return found
