"""A body in another frame of reference."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Float, Real

from body_model.arithmetic import computing_dtype, result_dtype, same_batch
from body_model.pytree import Array
from body_model.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from body_model.smpl import SMPL, pose_matrices


def move(
    body: SMPL,
    pose: Real[Array, "*#batch 24 3 3"] | Real[Array, "*#batch 24 3"],
    betas: Real[Array, "*#batch n"] | None,
    translation: Real[Array, "*#batch 3"],
    rotation: Real[Array, "*#batch 3 3"],
    offset: Real[Array, "*#batch 3"] | None = None,
) -> tuple[Float[Array, "*batch 24 3 3"] | Float[Array, "*batch 24 3"], Float[Array, "*batch 3"]]:
    """Gives the same body in another frame: every vertex x becomes R x + t.

    The root turns about the pelvis J of the shaped rest pose, not about the origin, so that the
    translation is not merely turned and shifted:

        R' = R R_root,    translation' = R (J + translation) + t - J

    Args:
        body: the body that pose and shape are of.
        pose: [..., 24, 3, 3] rotation matrices, or [..., 24, 3] axis-angle in radians.
        betas: [..., n] shape numbers, which stay as they are; the mean shape without.
        translation: [..., 3] metres.
        rotation: R [..., 3, 3]. It may not mirror.
        offset: t [..., 3] metres; 0 without.
    Returns:
        The pose, in the form that it was given in, and the translation [..., 3], in the new frame.
    Raises:
        ValueError: if an argument has another shape.
    """
    if jnp.shape(rotation)[-2:] != (3, 3):
        raise ValueError(f"rotation: expected [..., 3, 3], found shape {jnp.shape(rotation)}")
    return _moved(body, pose, betas, translation, rotation, offset)


# One program: outside of a jit, every operation would be compiled by itself.
@partial(jax.jit, inline=True)
def _moved(
    body: SMPL,
    pose: Array,
    betas: Array | None,
    translation: Array,
    rotation: Array,
    offset: Array | None,
) -> tuple[Array, Array]:
    result = result_dtype(pose, translation, rotation, offset)
    dtype = computing_dtype(result)
    in_matrices = pose_matrices(pose).ndim == jnp.ndim(pose)
    own = 2 if in_matrices else 1  # axes of one joint
    turn, shift, joints, pelvis, translation = same_batch(
        (jnp.asarray(rotation, dtype), 2),
        (jnp.zeros(3, dtype) if offset is None else jnp.asarray(offset, dtype), 1),
        (jnp.asarray(pose, dtype), own + 1),
        (body.rest_joints(betas)[..., 0, :].astype(dtype), 1),
        (jnp.asarray(translation, dtype), 1),
    )
    root = joints[(..., 0, *[slice(None)] * own)]
    with jax.default_matmul_precision("float32"):
        turned = turn @ (root if in_matrices else axis_angle_to_matrix(root))
        placed = jnp.einsum("...rc,...c->...r", turn, pelvis + translation) + shift - pelvis
    new_root = turned if in_matrices else matrix_to_axis_angle(turned)
    rest = joints[(..., slice(1, None), *[slice(None)] * own)]
    moved_pose = jnp.concatenate([jnp.expand_dims(new_root, -own - 1), rest], axis=-own - 1)
    return moved_pose.astype(result), placed.astype(result)
