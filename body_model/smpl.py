"""The SMPL body model (Loper et al., SIGGRAPH Asia 2015): shape -> joints -> pose -> skin."""

from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp

from body_model.joints import NUM_JOINTS, SMPL_LANDMARKS
from body_model.kinematics import forward_kinematics
from body_model.pytree import Array, pytree
from body_model.rotations import axis_angle_to_matrix

ArrayLike = Any  # a jax or a numpy array


@pytree
class SMPL:
    """A body in SMPL's format; a pytree, so it passes through jit, vmap and grad.

    Build one with `body_model.load`, `open_body` or `stand_in`. Body frame: x to the person's
    left, y up, z forward.
    """

    template: ArrayLike  # [V, 3] vertices of the mean shape in the rest pose, metres
    shape_directions: ArrayLike  # [V, 3, B] metres per unit of each shape number
    pose_directions: ArrayLike  # [V, 3, 207] metres per entry of (rotations - identity)
    joint_regressor: ArrayLike  # [24, V] joints from vertices of the shaped rest pose
    skin_weights: ArrayLike  # [V, 24] rows sum to 1
    faces: ArrayLike  # [F, 3] int32, counter-clockwise from outside
    landmarks: tuple[tuple[str, int], ...] = field(
        default=tuple(SMPL_LANDMARKS.items()), metadata={"static": True}
    )  # name and vertex of each surface keypoint

    def vertices(
        self, pose: Array, betas: Array | None = None, translation: Array | None = None
    ) -> Array:
        """The posed mesh (SMPL paper, Eq. 2-10).

        Args:
            pose: [..., 24, 3, 3] rotation matrices, or [..., 24, 3] axis-angle in radians; the
                root's first.
            betas: [..., n] the first n <= B shape numbers; the mean shape without.
            translation: [..., 3] added to every vertex, metres.
        Returns:
            [..., V, 3] metres.
        Raises:
            ValueError: if pose or betas have another shape.
        """
        pose = pose_matrices(pose)
        with jax.default_matmul_precision("float32"):
            shaped = self.shaped(betas)
            rest_joints = jnp.einsum("jv,...vc->...jc", self.joint_regressor, shaped)
            rotations, positions = _kinematics(pose, rest_joints)
            posed = shaped + jnp.einsum(
                "vcp,...p->...vc", self.pose_directions, pose_features(pose)
            )
            vertices = skin(posed, rotations, positions, rest_joints, self.skin_weights)
        return vertices if translation is None else vertices + translation[..., None, :]

    def joints(
        self, pose: Array, betas: Array | None = None, translation: Array | None = None
    ) -> Array:
        """The posed joints of the kinematic tree, without the mesh.

        Args and errors: as `vertices`.
        Returns:
            [..., 24, 3] metres.
        """
        pose = pose_matrices(pose)
        with jax.default_matmul_precision("float32"):
            joints = _kinematics(pose, self.rest_joints(betas))[1]
        return joints if translation is None else joints + translation[..., None, :]

    def shaped(self, betas: Array | None) -> Array:
        """The rest-pose mesh of a shape, [..., V, 3] (SMPL paper, Eq. 8)."""
        if betas is None:
            return jnp.asarray(self.template)
        directions = self.shape_directions[..., : self._checked(betas)]
        return self.template + jnp.einsum("vcb,...b->...vc", directions, betas)

    def rest_joints(self, betas: Array | None) -> Array:
        """The rest-pose joints of a shape, [..., 24, 3] (SMPL paper, Eq. 10)."""
        joints = jnp.einsum("jv,vc->jc", self.joint_regressor, self.template)
        if betas is None:
            return joints
        directions = self.shape_directions[..., : self._checked(betas)]
        # The regressor first: no batch ever meets the vertex axis.
        per_beta = jnp.einsum("jv,vcb->jcb", self.joint_regressor, directions)
        return joints + jnp.einsum("jcb,...b->...jc", per_beta, betas)

    def _checked(self, betas: Array) -> int:
        count, available = betas.shape[-1], self.shape_directions.shape[-1]
        if count > available:
            raise ValueError(f"betas: this body has {available} shape numbers, found {count}")
        return count


def pose_matrices(pose: Array) -> Array:
    """Rotation matrices [..., 24, 3, 3] of a pose in matrices or in axis-angle [..., 24, 3]."""
    if pose.shape[-3:] == (NUM_JOINTS, 3, 3):
        return jnp.asarray(pose)
    if pose.shape[-2:] == (NUM_JOINTS, 3):
        return axis_angle_to_matrix(jnp.asarray(pose))
    raise ValueError(
        f"pose: expected [..., {NUM_JOINTS}, 3, 3] matrices or [..., {NUM_JOINTS}, 3] "
        f"axis-angle, found shape {pose.shape}"
    )


def pose_features(pose: Array) -> Array:
    """What drives the pose correctives: [..., 207] entries of (rotations - identity)."""
    features = pose[..., 1:, :, :] - jnp.eye(3, dtype=pose.dtype)
    return features.reshape(*pose.shape[:-3], 9 * (NUM_JOINTS - 1))


def skin(
    posed: Array, rotations: Array, positions: Array, rest_joints: Array, weights: ArrayLike
) -> Array:
    """Linear blend skinning (SMPL paper, Eq. 2-4).

    Args:
        posed: [..., V, 3] rest-pose vertices with shape and pose correctives.
        rotations, positions: [..., 24, 3, 3] and [..., 24, 3] world frames of the joints.
        rest_joints: [..., 24, 3].
        weights: [V, 24].
    Returns:
        [..., V, 3].
    """
    offsets = positions - jnp.einsum("...jrc,...jc->...jr", rotations, rest_joints)
    blended = jnp.einsum("vj,...jrc->...vrc", weights, rotations)
    moved = jnp.einsum("vj,...jc->...vc", weights, offsets)
    return jnp.sum(blended * posed[..., None, :], axis=-1) + moved


def _kinematics(pose: Array, rest_joints: Array) -> tuple[Array, Array]:
    """`forward_kinematics` with the batch axes first."""
    batch = jnp.broadcast_shapes(pose.shape[:-3], rest_joints.shape[:-2])
    pose = jnp.broadcast_to(pose, (*batch, *pose.shape[-3:]))
    rest_joints = jnp.broadcast_to(rest_joints, (*batch, *rest_joints.shape[-2:]))
    rotations, positions = forward_kinematics(
        jnp.moveaxis(pose, (-3, -2, -1), (0, 1, 2)), jnp.moveaxis(rest_joints, (-2, -1), (0, 1))
    )
    return jnp.moveaxis(rotations, (0, 1, 2), (-3, -2, -1)), jnp.moveaxis(
        positions, (0, 1), (-2, -1)
    )
