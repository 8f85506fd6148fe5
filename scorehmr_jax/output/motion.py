"""Checks of a motion before it is written in a form of other programs."""

import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Real

from body_model.files import local_path
from body_model.smpl import pose_matrices
from scorehmr_jax.types import Array
from scorehmr_jax.units import not_rotations


def checked_motion(
    path: str | os.PathLike[str],
    suffix: str,
    poses: Real[Array, "T 24 3 3"] | Real[Array, "T 24 3"],
    betas: Real[Array, " B"],
    translation: Real[Array, "T 3"],
    fps: float,
) -> tuple[Path, Float[np.ndarray, "T 24 3 3"], Float[np.ndarray, "T 3"]]:
    """Checks that a motion can be written as it is.

    Args:
        path: the file to write.
        suffix: that its name must have, such as .bvh.
        poses: [T, 24, 3, 3] rotations or [T, 24, 3] axis-angle.
        betas: [B] one shape for the whole motion.
        translation: [T, 3] metres.
        fps: frames per second.
    Returns:
        The path, the rotations and the translation, as float64 that may be changed.
    Raises:
        ValueError: naming the file, if there is no frame, if the numbers of frames or shapes do
            not fit, if a number is not finite or a matrix no rotation, if fps is not above 0, or
            if the suffix is another.
    """
    path = local_path(path)
    if path.suffix.lower() != suffix:
        raise ValueError(f"{path}: expected the suffix {suffix}, found {path.suffix or 'none'}")
    if not 0 < fps < np.inf:
        raise ValueError(f"{path}: expected fps, frames per second, above 0; found {fps}")
    rotations = np.array(pose_matrices(jnp.asarray(poses)), float)
    places, frames = np.array(translation, float), len(rotations)
    if rotations.ndim != 4 or frames == 0 or places.shape != (frames, 3):
        raise ValueError(
            f"{path}: expected poses [T, 24, 3, 3] and translation [T, 3] with T > 0, found "
            f"{list(np.shape(poses))} and {list(places.shape)}"
        )
    if np.ndim(betas) != 1:
        raise ValueError(
            f"{path}: expected betas [B], one shape for all frames, found {np.shape(betas)}; "
            "average them over the motion"
        )
    if not np.isfinite(np.asarray(betas, float)).all():
        raise ValueError(f"{path}: betas: expected finite numbers, found {np.asarray(betas)}")
    turned = not_rotations(rotations) | ~np.isfinite(rotations).all((-3, -2, -1))
    for name, bad in (("poses", turned), ("translation", ~np.isfinite(places).all(-1))):
        if bad.any():
            raise ValueError(
                f"{path}: {name}: expected rotations and places of finite numbers, found others in "
                f"frame {np.flatnonzero(bad)[0]} ({bad.sum()} of {len(bad)} frames); fill these in "
                "from their neighbours, or write the stretches between them as files of their own"
            )
    return path, rotations, places
