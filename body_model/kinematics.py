"""Forward kinematics over the levels of SMPL's tree.

Inside, batch axes come last, `[24, 3, 3, ...]`: the arithmetic is on three numbers at a time,
and only across the batch is there anything for a vector unit to do.
"""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np

from body_model.joints import LEVELS, NUM_JOINTS, PARENTS
from body_model.pytree import Array


def _ancestors() -> np.ndarray:
    """[24, 24] 1 where the column's joint is the row's or an ancestor of it."""
    table = np.eye(NUM_JOINTS)
    for joint, parent in enumerate(PARENTS[1:], start=1):
        table[joint] += table[parent]
    return table


_ANCESTORS = _ancestors()
# Joint minus parent, as a product: [24, 24].
_TO_BONES = np.eye(NUM_JOINTS) - np.array(
    [[float(parent == joint) for joint in range(NUM_JOINTS)] for parent in PARENTS]
)


@jax.custom_jvp
def forward_kinematics(pose: Array, rest_joints: Array) -> tuple[Array, Array]:
    """World rotation and position of every joint.

    Its derivatives are exact at rotations, in any direction of the nine numbers of each.

    Args:
        pose: [24, 3, 3, ...] rotation of each joint relative to its parent.
        rest_joints: [24, 3, ...] joint positions in the rest pose, metres.
    Returns:
        Rotations [24, 3, 3, ...] and positions [24, 3, ...].
    """
    rotations, positions = [pose[:1]], [rest_joints[:1]]
    for above, level in pairwise(LEVELS):
        # Joints are numbered level by level, so that a level is a slice.
        joints = slice(level[0], level[-1] + 1)
        parents = [PARENTS[joint] - above[0] for joint in level]
        rest_parents = _rows(rest_joints[above[0] : above[-1] + 1], parents)
        parent, origin = _rows(rotations[-1], parents), _rows(positions[-1], parents)
        rotations.append(multiply(parent, pose[joints]))
        positions.append(origin + rotate(parent, rest_joints[joints] - rest_parents))
    return jnp.concatenate(rotations), jnp.concatenate(positions)


def _derivative(primals: tuple, tangents: tuple) -> tuple:
    """What turning each joint and moving each bone does to all joints below, in world axes.

    One product with the table of ancestors stands for the walk over the tree, whose transpose
    would be a long chain of small steps.
    """
    # Pinned here too: the derivative of a jitted function is traced after its body, outside the
    # callers' pins.
    with jax.default_matmul_precision("float32"):
        return _pinned_derivative(primals, tangents)


def _pinned_derivative(primals: tuple, tangents: tuple) -> tuple:
    pose, rest_joints = primals
    pose_dot, rest_dot = tangents
    rotations, positions = forward_kinematics(pose, rest_joints)
    ancestors = _ANCESTORS.astype(pose.dtype)
    back = _inverse(pose)  # rotations times this are the parents' rotations
    rotations_dot: Array = jnp.zeros_like(rotations)
    positions_dot: Array = jnp.zeros_like(positions)
    if not _is_zero(pose_dot):
        turn = multiply(multiply(rotations, multiply(back, pose_dot)), _inverse(rotations))
        turned = jnp.tensordot(ancestors, turn, 1)
        rotations_dot = multiply(turned, rotations)
        positions_dot = rotate(turned, positions) - jnp.tensordot(
            ancestors, rotate(turn, positions), 1
        )
    if not _is_zero(rest_dot):
        bone_dot = jnp.tensordot(_TO_BONES.astype(rest_dot.dtype), rest_dot, 1)
        moved = rotate(rotations, rotate(back, bone_dot))
        positions_dot = positions_dot + jnp.tensordot(ancestors, moved, 1)
    return (rotations, positions), (rotations_dot, positions_dot)


forward_kinematics.defjvp(_derivative, symbolic_zeros=True)


@jax.custom_jvp
def _inverse(rotations: Array) -> Array:
    """The inverse of rotations [J, 3, 3, ...]: the transpose, which differs in its derivative."""
    return jnp.swapaxes(rotations, 1, 2)


@_inverse.defjvp
def _inverse_derivative(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    inverse = _inverse(*primals)
    return inverse, -multiply(multiply(inverse, tangents[0]), inverse)


def multiply(a: Array, b: Array) -> Array:
    """Products of 3 x 3 matrices, [J, 3, 3, ...]; a batch of library calls would cost more."""
    return sum(a[:, :, k, None] * b[:, None, k] for k in range(3))  # type: ignore[return-value]


def rotate(matrix: Array, vector: Array) -> Array:
    """Matrices [J, 3, 3, ...] times vectors [J, 3, ...]."""
    return sum(matrix[:, :, k] * vector[:, None, k] for k in range(3))  # type: ignore[return-value]


def _rows(level: Array, rows: list[int]) -> Array:
    if rows == list(range(rows[0], rows[0] + len(rows))):
        return level[rows[0] : rows[0] + len(rows)]
    return jnp.stack([level[row] for row in rows])


def _is_zero(tangent: object) -> bool:
    return isinstance(tangent, jax.custom_derivatives.SymbolicZero)
