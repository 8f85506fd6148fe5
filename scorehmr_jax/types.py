"""What goes into a refinement and what comes out: shapes, units, frames.

Camera frame: x right, y down, z forward. Metres, radians, pixels. `N` counts samples: images,
frames of a video, or views of a person. Every class is a frozen pytree; any leading axes do.
"""

from dataclasses import dataclass
from functools import partial

import jax

Array = jax.Array
pytree = partial(jax.tree_util.register_dataclass)


@pytree
@dataclass(frozen=True)
class Estimate:
    """A first estimate of a body, from any regression network."""

    pose: Array  # [N, 24, 3, 3] joint rotations; the root's is in the camera frame
    betas: Array  # [N, 10] SMPL shape
    translation: Array  # [N, 3] body to camera, metres


@pytree
@dataclass(frozen=True)
class Keypoints2D:
    """2D detections in the full image."""

    xy: Array  # [N, K, 2] pixels
    confidence: Array  # [N, K] in [0, 1]; 0 means: not seen


@pytree
@dataclass(frozen=True)
class Camera:
    """A pinhole camera without distortion."""

    focal: Array  # [N, 2] pixels
    center: Array  # [N, 2] principal point, pixels
    image_size: Array  # [N, 2] width and height, pixels


@pytree
@dataclass(frozen=True)
class Hypothesis:
    """The body that a guidance term judges: the current guess of x_0 in every form."""

    pose_6d: Array  # [N, 144] as the diffusion has it; not orthonormal
    pose: Array  # [N, 24, 3, 3] rotations
    betas: Array  # [N, 10]
    joints: Array  # [N, K, 3] keypoints of the skeleton, body frame (no translation)
    translation: Array  # [N, 3] body to camera
    mask: Array  # [N] False for padding


@pytree
@dataclass(frozen=True)
class Refined:
    """A refined body."""

    pose: Array  # [N, 24, 3, 3] rotations
    betas: Array  # [N, 10]
    translation: Array  # [N, 3] body to camera, metres
    pose_6d: Array  # [N, 144] the diffusion's own x_0, before it is made orthonormal
