"""Checks of shapes and dtypes that several parts share."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from body_model.arithmetic import native, result_dtype
from body_model.pytree import Array

Shape = tuple[int, ...]


def fits(rows: Shape, batch: Shape) -> bool:
    """True if an array with these leading axes can be repeated to the batch.

    Stricter than NumPy's broadcasting of a pair: the batch itself never grows.

    Args:
        rows: leading axes of the array.
        batch: leading axes of what it goes with.
    """
    pairs = zip(rows[::-1], batch[::-1], strict=False)
    return len(rows) <= len(batch) and all(n in (1, wanted) for n, wanted in pairs)


def fits_plainly(rows: Shape, batch: Shape) -> bool:
    """True if an array with these leading axes can be repeated to the batch in one way only.

    One number for each of G groups looks like one for each of their N samples where G and N are
    the same: what has fewer axes than the batch, and matches its first axes as well, does not fit.

    Args:
        rows: leading axes of the array.
        batch: leading axes of what it goes with.
    """
    return fits(rows, batch) and not is_ambiguous(rows, batch)


def is_ambiguous(rows: Shape, batch: Shape) -> bool:
    """True if fewer axes than the batch has match both its last and its first ones."""
    if not 0 < len(rows) < len(batch) or rows == (1,) * len(rows):
        return False
    return fits(rows, batch) and fits(rows, batch[: len(rows)])


def in_one_way(rows: Shape, batch: Shape) -> str:
    """What to do about an array that fits in two ways; empty for one that does not."""
    if not is_ambiguous(rows, batch):
        return ""
    groups, samples = (*rows, *(1,) * (len(batch) - len(rows))), (1,) * (len(batch) - len(rows))
    return (
        f"; {rows} could be one for each sample or one for each group: give shape "
        f"{(*samples, *rows)} or {groups}"
    )


def rows_of(name: str, array: Any, tail: Shape, batch: Shape) -> Array:
    """An array of one row for each element of a batch, or for all of them.

    Args:
        name: of the argument, for the message.
        array: [*rows, *tail] where rows can be repeated to the batch.
        tail: axes of one row.
        batch: leading axes that the result has.
    Returns:
        [*batch, *tail], floating point.
    Raises:
        ValueError: naming the argument, if it has another shape.
    """
    array = floating(array, name)
    rows = array.shape[: array.ndim - len(tail)]
    if array.ndim < len(tail) or array.shape[len(rows) :] != tail or not fits_plainly(rows, batch):
        raise ValueError(
            f"{name}: expected {(*batch, *tail)}, or {tail} for all, found {array.shape}"
            f"{in_one_way(rows, batch)}"
        )
    return jnp.broadcast_to(array, (*batch, *tail))


def floating(array: Any, name: str = "array") -> Array:
    """An array of floating point numbers, of at least 32 bits.

    Whole numbers become float32 even where 64 bits are enabled: they say nothing of the precision
    that is wanted.

    Args:
        array: of numbers, a list of them, or one number.
        name: of the argument, for the message.
    Raises:
        ValueError: if it holds no real numbers.
    """
    array = jnp.asarray(native(name, array) if isinstance(array, np.ndarray) else array)
    wide = jnp.issubdtype(array.dtype, jnp.floating) and jnp.finfo(array.dtype).bits >= 32
    return array if wide else array.astype(jnp.float32)


def numbers(name: str, value: Any) -> Array:
    """One number or several, as an array that JAX takes.

    Args:
        name: of the argument, for the message.
        value: a number, a list of them or an array.
    Raises:
        ValueError: if it holds no real numbers.
    """
    return native(name, value if isinstance(value, jax.Array) else np.asarray(value))


def concrete(*arrays: Any) -> list[np.ndarray] | None:
    """The numbers of arrays, on the host.

    Args:
        arrays: of any kind.
    Returns:
        NumPy arrays; None if one is traced, or is in part on the devices of another process.
    """
    for array in arrays:
        if isinstance(array, jax.core.Tracer):
            return None
        if isinstance(array, jax.Array) and not array.is_fully_addressable:
            return None
    return [np.asarray(array) for array in jax.device_get(arrays)]


def same_dtype(*arrays: Array) -> tuple[Array, ...]:
    """Arrays of floating point numbers, all in the widest of their precisions."""
    dtype = result_dtype(*arrays)
    return tuple(array.astype(dtype) for array in arrays)
