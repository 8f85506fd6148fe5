"""Forward kinematics over the levels of SMPL's tree."""

import itertools

import jax
import jax.numpy as jnp

from body_model.joints import LEVELS, PARENTS

Array = jax.Array

# Joints are numbered level by level, so every level and its parents are slices, not gathers.
_PARENT_IN_LEVEL = tuple(
    tuple(PARENTS[j] - above[0] for j in level)
    for above, level in itertools.pairwise(LEVELS)
)


def forward_kinematics(pose: Array, rest_joints: Array) -> tuple[Array, Array]:
    """World rotation and position of every joint.

    Args:
        pose: [..., 24, 3, 3] rotation of each joint relative to its parent.
        rest_joints: [..., 24, 3] joint positions in the rest pose, metres.
    Returns:
        Rotations [..., 24, 3, 3] and positions [..., 24, 3].
    """
    batch = jnp.broadcast_shapes(pose.shape[:-3], rest_joints.shape[:-2])
    pose = jnp.broadcast_to(pose, (*batch, *pose.shape[-3:]))
    rotations = [pose[..., :1, :, :]]
    positions = [jnp.broadcast_to(rest_joints[..., :1, :], (*batch, 1, 3))]
    for above, level, parents in zip(LEVELS[:-1], LEVELS[1:], _PARENT_IN_LEVEL, strict=True):
        parent = jnp.stack([rotations[-1][..., p, :, :] for p in parents], axis=-3)
        origin = jnp.stack([positions[-1][..., p, :] for p in parents], axis=-2)
        inside = slice(level[0], level[-1] + 1)
        rest_parents = jnp.stack([rest_joints[..., above[0] + p, :] for p in parents], axis=-2)
        bone = rest_joints[..., inside, :] - rest_parents
        rotations.append(matmul3(parent, pose[..., inside, :, :]))
        positions.append(origin + rotate(parent, bone))
    return jnp.concatenate(rotations, axis=-3), jnp.concatenate(positions, axis=-2)


def matmul3(a: Array, b: Array) -> Array:
    """Products of 3 x 3 matrices, [..., 3, 3]; a batch of library calls would cost more."""
    return (
        a[..., :, 0:1] * b[..., 0:1, :]
        + a[..., :, 1:2] * b[..., 1:2, :]
        + a[..., :, 2:3] * b[..., 2:3, :]
    )


def rotate(matrix: Array, vector: Array) -> Array:
    """Matrices [..., 3, 3] times vectors [..., 3]."""
    return (
        matrix[..., :, 0] * vector[..., 0:1]
        + matrix[..., :, 1] * vector[..., 1:2]
        + matrix[..., :, 2] * vector[..., 2:3]
    )
