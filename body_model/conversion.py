"""Parameters of SMPL-H and SMPL-X as SMPL's and back, and shapes of one body file in another."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Real

from body_model.joints import NUM_JOINTS
from body_model.pytree import Array
from body_model.smpl import SMPL

# Joints of a pose by the model's name. All share the first 22, up to the wrists.
MODEL_JOINTS = {"smpl": NUM_JOINTS, "smplh": 52, "smplx": 55}
_BODY_JOINTS = 22
_NOISE = 0.002  # metres, of joints and landmarks that two meshes place a little differently


def to_smpl_pose(
    pose: Real[Array, "*batch J 3 3"] | Real[Array, "*batch J 3"],
) -> Float[Array, "*batch 24 3"] | Float[Array, "*batch 24 3 3"]:
    """Takes SMPL's 24 joints out of a pose of SMPL-H or SMPL-X.

    The 22 joints of the body are copied. SMPL's left_hand and right_hand, which are no joints of
    the others, stay at rest; fingers, jaw and eyes are dropped.

    Args:
        pose: [..., J, 3] axis-angle or [..., J, 3, 3] rotation matrices, with J = 52 (SMPL-H), 55
            (SMPL-X), 24 (SMPL, given back as it is) or 22 (the body alone).
    Returns:
        [..., 24, 3] or [..., 24, 3, 3].
    Raises:
        ValueError: for another number of joints.
    """
    pose, axis = _pose(pose, (*MODEL_JOINTS.values(), _BODY_JOINTS))
    if pose.shape[axis] == NUM_JOINTS:
        return pose
    return _at_rest_behind(pose, axis, NUM_JOINTS)


def from_smpl_pose(
    pose: Real[Array, "*batch 24 3"] | Real[Array, "*batch 24 3 3"], model: str
) -> Float[Array, "*batch J 3"] | Float[Array, "*batch J 3 3"]:
    """Makes a pose of SMPL-H or SMPL-X of SMPL's: the body's joints, everything else at rest.

    At rest is the identity, flat hands: without the mean hand that their programs add unless they
    are told `flat_hand_mean`.

    Args:
        pose: [..., 24, 3] axis-angle or [..., 24, 3, 3] rotation matrices.
        model: "smplh" (52 joints) or "smplx" (55).
    Returns:
        [..., J, 3] or [..., J, 3, 3].
    Raises:
        ValueError: for another model or another number of joints.
    """
    if model not in ("smplh", "smplx"):
        raise ValueError(f"model: expected 'smplh' or 'smplx', found {model!r}")
    pose, axis = _pose(pose, (NUM_JOINTS,))
    return _at_rest_behind(pose, axis, MODEL_JOINTS[model])


def fit_shape(
    source: SMPL, betas: Real[Array, "*batch n"] | None, target: SMPL
) -> tuple[Float[np.ndarray, "*batch m"], Float[np.ndarray, "*batch"]]:
    """Finds the shape of one body that is nearest to a shape of another, by least squares.

    Bodies of one mesh, as SMPL and SMPL-H, are compared at their vertices; others, as SMPL and
    SMPL-X, at the 22 joints and the landmarks that both have, which say little of girth. The one
    body may lie beside the other. Shape numbers are held at what is usual, with 2 mm against one:

        min over b, o of  sum_k |x_k(b) + o - y_k|^2 / (2 mm)^2 + |b|^2

    Args:
        source: the body that the shape is of.
        betas: [..., n] its shape numbers; the mean shape without.
        target: the body to find it in, of concrete arrays.
    Returns:
        The shape numbers [..., m] of the target, all that it has, and the root mean square distance
        [...] of the points, metres: the part that the target cannot have.
    Raises:
        ValueError: if there are more shape numbers than the source has.
    """
    wanted, points, directions = _common_points(source, betas, target)
    count = len(points)
    centred = directions - directions.mean(0)
    offsets = wanted - points
    offsets = offsets - offsets.mean(-2, keepdims=True)
    matrix = centred.reshape(3 * count, -1) / _NOISE
    right = offsets.reshape(*offsets.shape[:-2], 3 * count) / _NOISE
    normal = matrix.T @ matrix + np.eye(matrix.shape[1])
    found = np.linalg.solve(normal, np.moveaxis(right @ matrix, -1, 0).reshape(len(normal), -1))
    found = np.moveaxis(found.reshape(-1, *right.shape[:-1]), 0, -1)
    left = right - found @ matrix.T
    distance = np.asarray(_NOISE * np.sqrt(3 * np.mean(left**2, axis=-1)))
    return found.astype(target.template.dtype), distance


def convert_body(
    source: SMPL,
    pose: Real[Array, "*batch J 3 3"] | Real[Array, "*batch J 3"],
    betas: Real[Array, "*batch n"] | None,
    translation: Real[Array, "*batch 3"],
    target: SMPL,
) -> tuple[Array, Float[np.ndarray, "*batch m"], Float[Array, "*batch 3"], Array]:
    """Gives a body in the parameters of another file: SMPL-H or SMPL-X to SMPL, men's to neutral.

    The pose is copied (`to_smpl_pose`), the shape fitted (`fit_shape`), and the translation changed
    so that the pelvis stays where it is, as rest poses do not lie in the same place.

    Args:
        source: the file's body, as `load` reads it.
        pose, betas, translation: what goes with it.
        target: the body of the other file.
    Returns:
        Pose, betas and translation for the target, and the distance of `fit_shape`, metres.
    Raises:
        ValueError: as `to_smpl_pose` and `fit_shape`.
    """
    shape, distance = fit_shape(source, betas, target)
    before, after = (
        body.rest_joints(numbers)[..., 0, :] for body, numbers in ((source, betas), (target, shape))
    )
    return to_smpl_pose(pose), shape, jnp.asarray(translation) + before - after, distance


def _common_points(
    source: SMPL, betas: Array | None, target: SMPL
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points [..., K, 3] of the source's shape, and the target's [K, 3] with their directions."""
    shaped, template = (np.asarray(a, float) for a in (source.shaped(betas), target.shaped(None)))
    directions = np.asarray(target.shape_directions, float)
    if np.array_equal(source.faces, target.faces):
        return shaped, template, directions
    vertices = [dict(body.landmarks) for body in (source, target)]
    names = [name for name in vertices[0] if name in vertices[1]]
    ours, theirs = ([table[name] for name in names] for table in vertices)
    regressors = [np.asarray(b.joint_regressor, float)[:_BODY_JOINTS] for b in (source, target)]
    return (
        np.concatenate([regressors[0] @ shaped, shaped[..., ours, :]], axis=-2),
        np.concatenate([regressors[1] @ template, template[theirs]]),
        np.concatenate([np.einsum("jv,vcb->jcb", regressors[1], directions), directions[theirs]]),
    )


def _pose(pose: Array, counts: tuple[int, ...]) -> tuple[Array, int]:
    """A pose as floats, and the axis of its joints."""
    pose = jnp.asarray(pose)
    pose = pose.astype(jnp.promote_types(pose.dtype, jnp.float16))
    for axis, own in ((-3, (3, 3)), (-2, (3,))):
        if pose.ndim >= -axis and pose.shape[axis:] in [(count, *own) for count in counts]:
            return pose, axis
    raise ValueError(
        f"pose: expected [..., J, 3] or [..., J, 3, 3] with J of {', '.join(map(str, counts))}; "
        f"found shape {pose.shape}"
    )


def _at_rest_behind(pose: Array, axis: int, count: int) -> Array:
    """The joints of the body, and behind them as many at rest as are missing."""
    body = jnp.take(pose, np.arange(_BODY_JOINTS), axis=axis)
    rest = np.eye(3) if axis == -3 else np.zeros(3)
    shape = (*body.shape[:axis], count - _BODY_JOINTS, *rest.shape)
    return jnp.concatenate(
        [body, jnp.broadcast_to(jnp.asarray(rest, body.dtype), shape)], axis=axis
    )
