"""Checks of a body's arrays by SMPL's keys, before it is made or written."""

from pathlib import Path

import numpy as np

# Metres. Infants' models are about 0.6 m, an adult's arms span 1.8, which are 5.9 feet.
_LEAST_EXTENT, _MOST_EXTENT = 0.3, 4.0
# Metres by which a vertex moves for one unit of shape, or of a rotation matrix's entry: 0.1 at
# most in real bodies; in centimetres they would be near 10.
_MOST_OFFSET = 1.0
_SUM_TOLERANCE = 0.02  # of rows in half precision


def check_numbers(path: str | Path, model: dict[str, np.ndarray]) -> None:
    """Refuses a body in other units than metres, and weights that are no shares of one.

    Args:
        path: begins the message.
        model: by SMPL's keys, of shapes that fit.
    Raises:
        ValueError: naming the key, the expected and the found.
    """
    extent = float(np.ptp(model["v_template"].astype(np.float64), axis=0).max())
    if not _LEAST_EXTENT <= extent <= _MOST_EXTENT:
        raise ValueError(
            f"{path}: key 'v_template': expected metres, a body of {_LEAST_EXTENT:g} to "
            f"{_MOST_EXTENT:g}; found one of {extent:.4g}; bring v_template, shapedirs and "
            "posedirs to metres: divide by 1000 if these are millimetres"
        )
    for key in ("shapedirs", "posedirs"):
        most = float(np.abs(model[key].astype(np.float64)).max())
        if most > _MOST_OFFSET:
            raise ValueError(
                f"{path}: key '{key}': expected metres, at most {_MOST_OFFSET:g} for a vertex; "
                f"found {most:.4g}, while v_template is in metres; divide {key} by 1000 if it is "
                "in millimetres"
            )
    _check_sums(path, model)


def check_shapes(path: str | Path, model: dict[str, np.ndarray], joints: int) -> None:
    """Refuses arrays whose shapes are not those of one body, and vertex numbers beyond it.

    Args:
        path: begins the message.
        model: by SMPL's keys.
        joints: of the model's own tree.
    Raises:
        ValueError: naming the key, the expected shape and the found one.
    """
    template = model["v_template"]
    if template.ndim != 2 or template.shape[1] != 3 or not len(template):
        raise ValueError(
            f"{path}: key 'v_template': expected shape [V, 3], found {list(template.shape)}"
        )
    vertices = len(template)
    expected: dict[str, tuple] = {
        "f": ("F", 3),
        "weights": (vertices, joints),
        "J_regressor": (joints, vertices),
        "shapedirs": (vertices, 3, "B"),
        "posedirs": (vertices, 3, 9 * (joints - 1)),
    }
    for key, shape in expected.items():
        found = model[key].shape
        fits = len(found) == len(shape) and all(
            n == m or (isinstance(m, str) and n > 0) for n, m in zip(found, shape, strict=True)
        )
        if not fits:
            wanted = ", ".join(map(str, shape))
            raise ValueError(
                f"{path}: key '{key}': expected shape [{wanted}] for {vertices} vertices and "
                f"{joints} joints, found {list(found)}"
            )
    faces = model["f"]
    if faces.min() < 0 or faces.max() >= vertices:
        raise ValueError(
            f"{path}: key 'f': expected vertex numbers from 0 to {vertices - 1}, found "
            f"{faces.min()} to {faces.max()}"
        )


def _check_sums(path: str | Path, model: dict[str, np.ndarray]) -> None:
    """Refuses weights in percent and the like: those of a vertex, or of a joint, sum to 1."""
    for key in ("weights", "J_regressor"):
        sums = model[key].sum(axis=1, dtype=np.float64)
        off = np.flatnonzero(~(np.abs(sums - 1) <= _SUM_TOLERANCE))
        if len(off):
            raise ValueError(
                f"{path}: key '{key}': expected rows that sum to 1, found {sums[off[0]]:.4g} in "
                f"row {off[0]} ({len(off)} such in all)"
            )
