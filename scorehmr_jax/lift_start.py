"""A start in closed form: the root from the trunk's points, then the direction of each limb.

Batch axes come last here, as in `body_model.kinematics`.
"""

from itertools import pairwise

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from body_model.joints import JOINT_NAMES, LEVELS, PARENTS
from body_model.kinematics import multiply
from body_model.procrustes import nearest_rotation
from body_model.pytree import Array
from body_model.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from scorehmr_jax.lift_points import BodyPoints, Placed, place
from scorehmr_jax.lift_steps import Evidence, Pose
from scorehmr_jax.pose_gaussian import PoseGaussian

_TRUNK = ("pelvis", "spine1", "spine2", "spine3", "left_collar", "right_collar")
# Metres times metres of confidence: vectors that have no direction.
_SHORT = 1e-7
_OF_TRUNK = np.array([name in _TRUNK for name in JOINT_NAMES], np.float32)
_PARENTS = np.array([0, *PARENTS[1:]])
# What the limbs' points tell of the root, where the trunk's say too little.
_BESIDE_TRUNK = 1e-2


def first_pose(body: BodyPoints, prior: PoseGaussian, evidence: Evidence) -> Pose:
    """Finds a pose from the directions between points, with the mean shape.

    The root is turned so that the trunk's points lie on those given (Kabsch, 1976). Then each limb
    is swung, from the prior's mean pose and without a twist, to the middle of the points that it
    carries.

    Args:
        body, prior, evidence: what the body is moved by.
    Returns:
        The pose; nothing is known of its place before a camera.
    """
    weight, target = evidence.weight, evidence.points
    samples = target.shape[-1]
    mean = jnp.asarray(axis_angle_to_matrix(jnp.asarray(prior.mean, target.dtype)))
    usual = jnp.concatenate([jnp.eye(3, dtype=target.dtype)[None], mean])[..., None]
    rest = place(body, usual, jnp.zeros((body.skeleton.num_betas, 1), target.dtype))

    share = weight * (_BESIDE_TRUNK + jnp.asarray(_OF_TRUNK) @ body.carried)[:, None]
    share = share / jnp.maximum(share.sum(0), jnp.finfo(target.dtype).tiny)
    here = jnp.einsum("km,kxm->xm", share, jnp.broadcast_to(rest.points, target.shape))
    there = jnp.einsum("km,kxm->xm", share, target)
    spread = jnp.einsum("km,kxm,kym->mxy", share, target - there, rest.points - here)
    # Where there are no points at all: upright, with y down.
    upright = jnp.diag(jnp.array([1.0, -1.0, -1.0], target.dtype))
    root = jnp.moveaxis(nearest_rotation(spread + 1e-9 * upright), 0, -1)
    origin = there - jnp.einsum("xym,ym->xm", root, here)

    relative = _swings(body, evidence, rest, root, origin)
    angles = jnp.moveaxis(matrix_to_axis_angle(jnp.moveaxis(relative, -1, 0)), 0, -1)
    return Pose(root, angles.reshape(69, samples), origin, None)


def first_translation(points: Float[Array, "K 3 #M"], evidence: Evidence) -> Float[Array, "3 M"]:
    """Places points before the camera, so that they lie on their rays (linear least squares).

    Args:
        points: of the body, without translation, metres.
        evidence: with rays.
    Returns:
        [3, M] metres.
    """
    assert evidence.rays is not None and evidence.ray_weight is not None
    tiny = jnp.finfo(points.dtype).tiny
    share = evidence.ray_weight / jnp.maximum(evidence.ray_weight.sum(0), tiny)
    middle = jnp.einsum("km,kxm->xm", share, evidence.rays)
    # About the middle ray, the depth and the place across it are independent of each other.
    beside = evidence.rays - middle
    across = points[:, :2] - evidence.rays * points[:, 2:]
    depth = jnp.einsum("km,kxm,kxm->m", share, beside, across)
    spread = jnp.einsum("km,kxm,kxm->m", share, beside, beside)
    depth = depth / jnp.maximum(spread, 1e-12)
    place_ = middle * depth - jnp.einsum("km,kxm->xm", share, across)
    return jnp.concatenate([place_, depth[None]])


def _swings(
    body: BodyPoints, evidence: Evidence, usual: Placed, root: Array, origin: Array
) -> Float[Array, "23 3 3 M"]:
    """Rotations relative to the parents that swing the limbs to the points they carry.

    Args:
        body, evidence: what the body is moved by.
        usual: the body in the prior's mean pose, without a turn of the root.
        root, origin: where the root is.
    """
    weight = evidence.weight
    samples = weight.shape[1]
    world, joints, points = usual.rotations[..., 0], usual.joints[..., 0], usual.points[..., 0]
    carried = body.carried * (1 - _OF_TRUNK)[:, None]
    amount = carried @ weight
    # Where a joint is not seen itself, the usual pose has it.
    seen = body.at_joint @ (weight > 0).astype(weight.dtype)
    known = jnp.einsum("jk,kxm->jxm", body.at_joint, evidence.points)
    guessed = jnp.einsum("xym,jy->jxm", root, joints) + origin
    center = jnp.where(seen[:, None] > 0, known, guessed)
    theirs = jnp.einsum("jk,kxm->jxm", carried, weight[:, None] * evidence.points)
    theirs = theirs - amount[:, None] * center
    ours = jnp.einsum("jk,jkx,km->jxm", carried, points - joints[:, None], weight)
    posed = jnp.einsum("xym,jyz->jxzm", root, world)
    swung = multiply(_swing(jnp.einsum("xym,jym->jxm", root, ours), theirs), posed)

    relative = jnp.einsum("jyx,jyz->jxz", world[_PARENTS], world)
    relative = jnp.broadcast_to(relative[..., None], (*relative.shape, samples))
    rotations, found = root[None], []
    for above, level in pairwise(LEVELS):
        rows = slice(level[0], level[-1] + 1)
        parent = rotations[np.array([PARENTS[joint] - above[0] for joint in level])]
        carries = (amount[rows] > 0)[:, None, None]
        # What carries no points keeps the usual pose relative to its parent.
        rotations = jnp.where(carries, swung[rows], multiply(parent, relative[rows]))
        found.append(multiply(jnp.swapaxes(parent, 1, 2), rotations))
    return jnp.concatenate(found)


def _swing(a: Array, b: Array) -> Array:
    """The least rotations [J, 3, 3, M] that turn vectors a onto the directions of b [J, 3, M]."""
    lengths = jnp.sqrt((a**2).sum(1) * (b**2).sum(1) + _SHORT**2)
    (u, v, w), (p, q, r) = ((c[:, 0], c[:, 1], c[:, 2]) for c in (a, b / lengths[:, None]))
    x, y, z = v * r - w * q, w * p - u * r, u * q - v * p
    # A vector of no length is left alone. Of opposite ones, the steps find a way.
    cosine = jnp.where(lengths > 2 * _SHORT, u * p + v * q + w * r, 1)
    least = jnp.maximum(1 + cosine, 1e-4)
    rows = [
        *(cosine + x * x / least, x * y / least - z, x * z / least + y),
        *(x * y / least + z, cosine + y * y / least, y * z / least - x),
        *(x * z / least - y, y * z / least + x, cosine + z * z / least),
    ]
    return jnp.stack(rows, 1).reshape(len(a), 3, 3, *a.shape[2:])
