"""Numbers out of JSON, with messages that say where they were."""

import math
from typing import Any

import numpy as np

from scorehmr_jax.formats.keypoints.result import NO_ID


def table(held: Any, columns: int, where: str) -> np.ndarray:
    """Reads points [K, columns] from a flat list x, y, c, x, y, c, ... or a list of lists.

    Raises:
        ValueError: if there are no numbers, or not so many for each point.
    """
    if isinstance(held, dict) and "__ndarray__" in held:  # as json_tricks writes arrays
        held = held["__ndarray__"]
    try:
        array = np.array(held, float)
    except (TypeError, ValueError):
        raise ValueError(f"{where}: expected numbers, found {str(held)[:60]!r}") from None
    if array.ndim == 1 and len(array) and len(array) % columns == 0:
        return array.reshape(-1, columns)
    if array.ndim == 2 and array.shape[1] == columns:
        return array
    raise ValueError(
        f"{where}: expected {columns} numbers for each point, found an array of {array.shape}"
    )


def number(held: Any, default: float = math.nan) -> float:
    """Reads one number, or the first of a list; the default where there is none."""
    while isinstance(held, list | tuple) and held:
        held = held[0]
    if isinstance(held, bool) or not isinstance(held, int | float):
        return default
    return float(held)


def identity(held: Any) -> int:
    """Reads a tracker's id, one number or a list of one; NO_ID where there is none."""
    found = number(held, NO_ID)
    return int(found) if math.isfinite(found) and found >= 0 else NO_ID
