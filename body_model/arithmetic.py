"""Conversion of arrays to common dtypes, ranks and leading axes.

JAX converts in silence unless it is told not to. Here it is written out, so that the body runs
under `jax_numpy_dtype_promotion=strict`, under `jax_numpy_rank_promotion=raise` and on a mesh with
explicit axes.
"""

from dataclasses import fields, replace
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from body_model.pytree import Array

T = TypeVar("T")


def native(name: str, array: Any) -> Array:
    """Gives an array of numbers in a form that JAX takes.

    NumPy has more dtypes than JAX: another order of bytes becomes the machine's, and numbers wider
    than float64 become float64.

    Args:
        name: of the array, for the message.
        array: of any kind.
    Returns:
        The array itself wherever JAX takes it.
    Raises:
        ValueError: naming it and what it is, if it is no array or holds no real numbers.
    """
    if not hasattr(array, "shape") or not hasattr(array, "dtype"):
        raise ValueError(
            f"{name}: expected an array, found {type(array).__name__}; np.asarray makes one"
        )
    dtype = array.dtype
    if any(jnp.issubdtype(dtype, kind) for kind in (jnp.bool_, jnp.integer, jnp.floating)):
        if isinstance(array, jax.Array):
            return array
        if dtype == np.longdouble:
            return np.asarray(array, np.float64)
        return array if dtype.isnative else np.asarray(array, dtype.newbyteorder("="))
    raise ValueError(f"{name}: expected an array of numbers, found dtype {dtype}")


def native_fields(name: str, part: T, kind: type[T]) -> T:
    """Gives a dataclass of arrays with each of them as `native` gives it.

    Args:
        name: begins the message, before that of the field.
        part: the dataclass; fields that are None stay.
        kind: what it should be. Another with the same fields will do.
    Returns:
        The dataclass itself wherever JAX takes it.
    Raises:
        ValueError: naming the field and what it is.
    """
    wanted = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    if not all(hasattr(part, field) for field in wanted):
        raise ValueError(
            f"{name}: expected {kind.__name__}({', '.join(wanted)}), found {type(part).__name__}"
        )
    given = {field: value for field, value in vars(part).items() if value is not None}
    taken = {field: native(f"{name}.{field}", value) for field, value in given.items()}
    if all(taken[field] is given[field] for field in given):
        return part
    return replace(part, **taken)  # type: ignore[type-var]


def result_dtype(*arrays: Any) -> np.dtype:
    """Finds the floating dtype of a result, by JAX's rules for arrays of different dtypes.

    Args:
        *arrays: arrays, or None for an argument left out.
    Returns:
        The common dtype of the floating arrays; JAX's default float where there is none, so that
        whole numbers are taken as the numbers they are.
    """
    floating = [a for a in arrays if a is not None and jnp.issubdtype(a.dtype, jnp.floating)]
    # JAX's rules also where its own promotion is strict: the conversion is asked for here.
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(*floating) if floating else jnp.result_type(float)


def computing_dtype(result: np.dtype) -> np.dtype:
    """Finds the dtype to compute in for a result of a dtype.

    Args:
        result: a floating dtype.
    Returns:
        float32 for half precision, in which the square of a small angle is 0 and a long sum loses
        its digits; otherwise `result` itself.
    """
    return np.dtype(np.float32) if jnp.finfo(result).bits < 32 else result


def same_rank(*arrays: Array) -> list[jax.Array]:
    """Gives arrays the same number of axes, with leading axes of size 1.

    Args:
        *arrays: arrays whose shapes broadcast against each other.
    Returns:
        The same arrays, none of which has fewer axes than another.
    """
    rank = max(array.ndim for array in arrays)
    return [jnp.expand_dims(array, range(rank - array.ndim)) for array in arrays]


def same_batch(*arrays: tuple[Array, int]) -> list[jax.Array]:
    """Broadcasts the leading axes of arrays against each other.

    Args:
        *arrays: pairs of an array and the number of its own, trailing axes.
    Returns:
        The arrays, with the same leading axes, sharded in the same way.
    Raises:
        ValueError: if their leading axes do not fit each other.
    """
    batches = [array.shape[: array.ndim - own] for array, own in arrays]
    try:
        batch = jnp.broadcast_shapes(*batches)
    except ValueError:
        found = ", ".join(str(array.shape) for array, _ in arrays)
        raise ValueError(
            f"leading axes: expected numbers of samples that are equal or 1, found shapes {found}"
        ) from None
    wide = [
        jnp.broadcast_to(array, (*batch, *array.shape[array.ndim - own :])) for array, own in arrays
    ]
    # A factor of 1 that has the sharding of all of them: on a mesh with explicit axes, arrays of
    # different shardings can be multiplied but not concatenated.
    one = jnp.ones(batch, wide[0].dtype)
    for array, (_, own) in zip(wide, arrays, strict=True):
        if array.size:
            one = one * jnp.ones_like(array[(..., *[0] * own)])
    return [
        array * jnp.expand_dims(one, range(-own, 0))
        for array, (_, own) in zip(wide, arrays, strict=True)
    ]
