"""Named points on a body: where they are, and how they move with pose and shape.

Batch axes come last here, as in `body_model.kinematics`.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from body_model import SMPL, Skeleton
from body_model.joints import JOINT_NAMES, NUM_JOINTS, PARENTS
from body_model.kinematics import forward_kinematics, rotate
from body_model.pytree import Array, pytree

# A joint or landmark, several for their mean, or None for a point that bodies do not have.
Name = str | tuple[str, ...] | None

# 1 where the column's joint is the row's or an ancestor of it.
ANCESTORS = np.eye(NUM_JOINTS)
for _joint, _parent in enumerate(PARENTS[1:], start=1):
    ANCESTORS[_joint] += ANCESTORS[_parent]
_PARENTS = np.array([0, *PARENTS[1:]])


@pytree
class BodyPoints:
    """A body reduced to K named points, ready to be fitted. Build one with `BodyPoints.of`."""

    skeleton: Skeleton  # of the K points
    arms: Float[
        Array, "A X"
    ]  # point and joint (A = 24 K), from placed pairs and joints (X = P + 24)
    height: Float[Array, " C"]  # of the body that stands upright, metres: mean, per shape number
    at_joint: Float[Array, "24 K"]  # 1 where a point is a joint
    carried: Float[Array, "24 K"]  # 1 at the joint that turns a point

    @classmethod
    def of(cls, body: SMPL, names: Sequence[Name], num_betas: int = 10) -> "BodyPoints":
        """Reduces a body to named points.

        Args:
            body: any SMPL body, with concrete arrays.
            names: of each point: a joint, a landmark of the body, several for their mean, or None.
            num_betas: shape numbers to keep.
        Raises:
            ValueError: for a name that the body does not have.
        """
        parts = [(name,) if isinstance(name, str) else tuple(name or ()) for name in names]
        single = list(dict.fromkeys(name for part in parts for name in part))
        skeleton = Skeleton.of(body, single, num_betas=num_betas)
        mean = np.zeros((len(parts), len(single)), skeleton.joint.dtype)
        for row, part in zip(mean, parts, strict=True):
            for name in part:
                row[single.index(name)] += 1 / len(part)
        skeleton = Skeleton(
            skeleton.rest,
            skeleton.local,
            skeleton.bone,
            mean @ skeleton.owner,
            mean @ skeleton.joint,
        )
        below = np.asarray(skeleton.bone) @ ANCESTORS  # [P, 24]
        pairs = np.einsum("kp,pj->kjp", skeleton.owner, below)
        joints = np.einsum("kb,bj->kjb", skeleton.joint, ANCESTORS)
        # An arm is measured from the joint that turns.
        joints -= np.einsum("kj,jb->kjb", joints.sum(-1), np.eye(NUM_JOINTS))
        arms = np.concatenate([pairs, joints], -1).reshape(len(parts) * NUM_JOINTS, -1)
        template = np.asarray(body.template)
        top, sole = np.argmax(template[:, 1]), np.argmin(template[:, 1])
        directions = np.asarray(body.shape_directions)[..., : skeleton.num_betas]
        height = np.append(
            template[top, 1] - template[sole, 1], directions[top, 1] - directions[sole, 1]
        )
        at_joint, carried = np.zeros((2, NUM_JOINTS, len(parts)))
        for k, (part, row) in enumerate(zip(parts, skeleton.joint, strict=True)):
            is_joint = len(part) == 1 and part[0] in JOINT_NAMES
            joint = JOINT_NAMES.index(part[0]) if is_joint else int(np.argmax(row))
            at_joint[joint, k] = is_joint
            carried[max(PARENTS[joint], 0) if is_joint else joint, k] = 1
        arrays = (arms, height, at_joint, carried)
        return cls(skeleton, *(array.astype(skeleton.joint.dtype) for array in arrays))

    @property
    def named(self) -> Bool[Array, " K"]:
        """True for points that the body has."""
        return self.skeleton.joint.sum(-1) > 0.5


@pytree
class Placed:
    """Points of a posed body, and what their derivatives are made of."""

    points: Float[Array, "K 3 *batch"]  # metres, without translation
    arms: Float[Array, "K 24 3 *batch"]  # turn by w about a joint moves a point by w x arm
    by_shape: Float[Array, "K 3 B *batch"]  # metres per unit of each shape number
    rotations: Float[Array, "24 3 3 *batch"]  # of the joints, world
    joints: Float[Array, "24 3 *batch"]  # metres


def place(
    body: BodyPoints, pose: Float[Array, "24 3 3 *batch"], betas: Float[Array, " B *batch"]
) -> Placed:
    """Places the points of a pose and shape.

    Args:
        body: the points.
        pose: [24, 3, 3, ...] rotations relative to the parents.
        betas: [B, ...].
    Returns:
        The points and their derivatives, [..., *batch].
    """
    skeleton, batch = body.skeleton, pose.shape[3:]
    numbers = skeleton.num_betas
    shape = jnp.concatenate([jnp.ones_like(pose[0, 0, :1]), betas])
    identity = jnp.eye(3, dtype=pose.dtype).reshape(1, 3, 3, *(1,) * len(batch))
    features = jnp.concatenate([shape, (pose[1:] - identity).reshape(-1, *batch)])
    rest = jnp.tensordot(skeleton.rest, shape, 1).reshape(NUM_JOINTS, 3, *batch)
    rotations, joints = forward_kinematics(pose, rest)

    bones = skeleton.rest.reshape(NUM_JOINTS, 3, 1 + numbers)[..., 1:]
    bones = bones - jnp.where((np.arange(NUM_JOINTS) > 0)[:, None, None], bones[_PARENTS], 0)
    parents = rotations[_PARENTS]
    parents = jnp.concatenate([jnp.broadcast_to(identity, parents[:1].shape), parents[1:]])
    moved = jnp.einsum("jxy...,jyb->jxb...", parents, bones)
    joints_by_shape = jnp.tensordot(jnp.asarray(ANCESTORS, pose.dtype), moved, 1)
    by_shape = jnp.tensordot(skeleton.joint, joints_by_shape, 1)
    points = jnp.tensordot(skeleton.joint, joints, 1)
    pairs = len(skeleton.bone)
    posed = joints[:0]
    if pairs:
        local = jnp.tensordot(skeleton.local, features, 1).reshape(pairs, 3, *batch)
        turn = jnp.tensordot(skeleton.bone, rotations, 1)
        posed = rotate(turn, local)
        points = points + jnp.tensordot(skeleton.owner, posed, 1)
        local_shape = skeleton.local.reshape(pairs, 3, -1)[..., 1 : 1 + numbers]
        turned = jnp.einsum("pxy...,pyb->pxb...", turn, local_shape)
        by_shape = by_shape + jnp.tensordot(skeleton.owner, turned, 1)
    arms = jnp.tensordot(body.arms, jnp.concatenate([posed, joints]), 1)
    return Placed(points, arms.reshape(-1, NUM_JOINTS, 3, *batch), by_shape, rotations, joints)
