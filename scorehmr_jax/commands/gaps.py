"""Frames in which somebody was lost, between frames in which they were not."""

import itertools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from scorehmr_jax.types import Estimate


def fill_gaps(
    estimate: Estimate, present: Bool[np.ndarray, "P T"], longest: int
) -> tuple[Estimate, Bool[np.ndarray, "P T"]]:
    """Gives a start to the frames of short gaps: what lies between the frames around them.

    From there the prior and the smoothness of the motion refine them; there is no other evidence.

    Args:
        estimate: [P, T], the frames of a video.
        present: where there is an estimate.
        longest: gaps of more frames are left as they are; 0 leaves all.
    Returns:
        The estimate, and which frames were filled.
    """
    filled = np.zeros(present.shape, bool)
    pose, betas, translation = (np.array(a) for a in vars(estimate).values())
    for person, row in enumerate(present):
        held = np.flatnonzero(row)
        for before, after in itertools.pairwise(held):
            if not 1 < after - before <= longest + 1:
                continue
            gap = np.arange(before + 1, after)
            share = ((gap - before) / (after - before)).astype(np.float32)
            filled[person, gap] = True
            for array in (pose, betas, translation):
                first, last = array[person, before], array[person, after]
                part = share.reshape(-1, *(1,) * first.ndim)
                array[person, gap] = (1 - part) * first + part * last
            pose[person, gap] = _nearest_rotations(pose[person, gap])
    return Estimate(*map(jnp.asarray, (pose, betas, translation))), filled


def finite(estimate: Estimate) -> Bool[np.ndarray, "P T"]:
    """Where an estimate [P, T] is a body."""
    pose, betas, translation = (np.isfinite(np.asarray(a)) for a in vars(estimate).values())
    return pose.all((-3, -2, -1)) & betas.all(-1) & translation.all(-1)


def _nearest_rotations(matrices: Float[np.ndarray, "... 3 3"]) -> Float[np.ndarray, "... 3 3"]:
    """The rotations that lie nearest to matrices."""
    left, _, right = np.linalg.svd(matrices)
    mirrored = np.linalg.det(left @ right)[..., None]
    left = np.concatenate([left[..., :2], left[..., 2:] * mirrored[..., None]], -1)
    return left @ right
