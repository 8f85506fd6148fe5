"""Forward kinematics over the levels of SMPL's tree.

Batch axes come last here, [24, 3, 3, ...]: the arithmetic is on three numbers at a time, so that
vector instructions pay only along the batch.
"""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from body_model.joints import LEVELS, NUM_JOINTS, PARENTS
from body_model.pytree import Array


def _ancestors() -> np.ndarray:
    """Table [24, 24]: 1 where the column's joint is the row's or an ancestor of it."""
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
def forward_kinematics(
    pose: Float[Array, "24 3 3 *batch"], rest_joints: Float[Array, "24 3 *batch"]
) -> tuple[Float[Array, "24 3 3 *batch"], Float[Array, "24 3 *batch"]]:
    """Walks the tree and gives the world rotation and position of every joint.

    Derivatives of every order are exact at rotations, in any direction of the nine numbers of
    each; at matrices that are no rotations, they are not.

    Args:
        pose: [24, 3, 3, ...] rotation of each joint relative to its parent.
        rest_joints: [24, 3, ...] joint positions in the rest pose, metres.
    Returns:
        World rotations [24, 3, 3, ...] and positions [24, 3, ...] in metres.
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
    """The derivative: how turning a joint or moving a bone moves all joints below, in world axes.

    One product with the table of ancestors takes the place of the walk over the tree, whose
    transpose would be a long chain of small steps.
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
    """The inverse of rotations [J, 3, 3, ...]: equal to the transpose, but for its derivative."""
    return jnp.swapaxes(rotations, 1, 2)


@_inverse.defjvp
def _inverse_derivative(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    inverse = _inverse(*primals)
    return inverse, -multiply(multiply(inverse, tangents[0]), inverse)


def multiply(
    a: Float[Array, "J 3 3 *batch"], b: Float[Array, "J 3 3 *batch"]
) -> Float[Array, "J 3 3 *batch"]:
    """Multiplies matrices [J, 3, 3, ...], entry by entry: so many library calls would cost more."""
    return sum(a[:, :, k, None] * b[:, None, k] for k in range(3))  # type: ignore[return-value]


def rotate(
    matrix: Float[Array, "J 3 3 *batch"], vector: Float[Array, "J 3 *batch"]
) -> Float[Array, "J 3 *batch"]:
    """Multiplies matrices [J, 3, 3, ...] with vectors [J, 3, ...]."""
    return sum(matrix[:, :, k] * vector[:, None, k] for k in range(3))  # type: ignore[return-value]


def _rows(level: Array, rows: list[int]) -> Array:
    if rows == list(range(rows[0], rows[0] + len(rows))):
        return level[rows[0] : rows[0] + len(rows)]
    return jnp.stack([level[row] for row in rows])


def _is_zero(tangent: object) -> bool:
    return isinstance(tangent, jax.custom_derivatives.SymbolicZero)
