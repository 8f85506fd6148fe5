"""The SMPL body model (Loper et al., SIGGRAPH Asia 2015): shape -> joints -> pose -> skin."""

import math
from dataclasses import field

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Integer, Real

from body_model.arithmetic import computing_dtype, result_dtype, same_batch, same_rank
from body_model.joints import NUM_JOINTS, SMPL_LANDMARKS
from body_model.kinematics import forward_kinematics
from body_model.pytree import Array, pytree
from body_model.rotations import axis_angle_to_matrix

# Takes the numbers of all rotations to those of all but the root's.
_WITHOUT_ROOT = np.eye(9 * NUM_JOINTS, 9 * (NUM_JOINTS - 1), -9)
_IDENTITIES = np.tile(np.eye(3).ravel(), NUM_JOINTS - 1)


@pytree
class SMPL:
    """A body in SMPL's format; a pytree, so it passes through jit, vmap and grad.

    Build one with `body_model.load`, `open_body` or `stand_in`. Body frame: x to the person's
    left, y up, z forward.

    The methods take leading axes of any number, which broadcast against each other. They compute
    in float32 at least; the result has the common dtype of the body and the floating arguments.
    """

    template: Float[Array, "V 3"]  # vertices of the mean shape in the rest pose, metres
    shape_directions: Float[Array, "V 3 B"]  # metres per unit of each shape number
    pose_directions: Float[Array, "V 3 207"]  # metres per entry of (rotations - identity)
    joint_regressor: Float[Array, "24 V"]  # joints from vertices of the shaped rest pose
    skin_weights: Float[Array, "V 24"]  # rows sum to 1
    faces: Integer[Array, "F 3"]  # counter-clockwise from outside
    landmarks: tuple[tuple[str, int], ...] = field(
        default=tuple(SMPL_LANDMARKS.items()), metadata={"static": True}
    )  # name and vertex of each surface keypoint

    def vertices(
        self,
        pose: Real[Array, "*#batch 24 3 3"] | Real[Array, "*#batch 24 3"],
        betas: Real[Array, "*#batch n"] | None = None,
        translation: Real[Array, "*#batch 3"] | None = None,
    ) -> Float[Array, "*batch V 3"]:
        """Places the vertices of the posed mesh (SMPL paper, Eq. 2-10).

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
        dtype = result_dtype(self.template, pose, betas, translation)
        body = self._cast(computing_dtype(dtype))
        pose = pose_matrices(jnp.asarray(pose, body.template.dtype))
        with jax.default_matmul_precision("float32"):
            shaped, rest_joints = body._shaped(betas), body._rest_joints(betas)
            rotations, positions = _kinematics(pose, rest_joints)
            correctives = _combine(body.pose_directions, pose_features(pose))
            # Not a sum: XLA on the CPU would merge the addition into the product of a single pose,
            # and run that on one core.
            posed = jnp.subtract(*same_rank(correctives, -shaped))
            vertices = skin(posed, rotations, positions, rest_joints, body.skin_weights)
        return moved(vertices, translation).astype(dtype)

    def joints(
        self,
        pose: Real[Array, "*#batch 24 3 3"] | Real[Array, "*#batch 24 3"],
        betas: Real[Array, "*#batch n"] | None = None,
        translation: Real[Array, "*#batch 3"] | None = None,
    ) -> Float[Array, "*batch 24 3"]:
        """Places the joints of the kinematic tree, without the mesh.

        Args and errors: as `vertices`.
        Returns:
            [..., 24, 3] metres.
        """
        dtype = result_dtype(self.template, pose, betas, translation)
        body = self._cast(computing_dtype(dtype))
        pose = pose_matrices(jnp.asarray(pose, body.template.dtype))
        with jax.default_matmul_precision("float32"):
            joints = _kinematics(pose, body._rest_joints(betas))[1]
        return moved(joints, translation).astype(dtype)

    def shaped(self, betas: Real[Array, "*batch n"] | None) -> Float[Array, "*batch V 3"]:
        """Gives the mesh of a shape in the rest pose (SMPL paper, Eq. 8).

        Args:
            betas: [..., n] the first n <= B shape numbers; the mean shape without.
        Returns:
            [..., V, 3] metres.
        Raises:
            ValueError: if there are more shape numbers than the body has.
        """
        dtype = result_dtype(self.template, betas)
        with jax.default_matmul_precision("float32"):
            return self._cast(computing_dtype(dtype))._shaped(betas).astype(dtype)

    def rest_joints(self, betas: Real[Array, "*batch n"] | None) -> Float[Array, "*batch 24 3"]:
        """Gives the joints of a shape in the rest pose (SMPL paper, Eq. 10).

        Args and errors: as `shaped`.
        Returns:
            [..., 24, 3] metres.
        """
        dtype = result_dtype(self.template, betas)
        with jax.default_matmul_precision("float32"):
            return self._cast(computing_dtype(dtype))._rest_joints(betas).astype(dtype)

    def _cast(self, dtype: np.dtype) -> "SMPL":
        return SMPL(
            template=jnp.asarray(self.template, dtype),
            shape_directions=jnp.asarray(self.shape_directions, dtype),
            pose_directions=jnp.asarray(self.pose_directions, dtype),
            joint_regressor=jnp.asarray(self.joint_regressor, dtype),
            skin_weights=jnp.asarray(self.skin_weights, dtype),
            faces=self.faces,
            landmarks=self.landmarks,
        )

    def _shaped(self, betas: Array | None) -> Array:
        if betas is None:
            return self.template
        directions = self.shape_directions[..., : self._checked(betas)]
        return jnp.add(*same_rank(self.template, _combine(directions, betas)))

    def _rest_joints(self, betas: Array | None) -> Array:
        if betas is None or math.prod(betas.shape[:-1]) == 1:
            return jnp.einsum("jv,...vc->...jc", self.joint_regressor, self._shaped(betas))
        # The regressor first: no batch ever meets the vertex axis.
        directions = self.shape_directions[..., : self._checked(betas)]
        per_beta = jnp.einsum("jv,vcb->jcb", self.joint_regressor, directions)
        mean = jnp.einsum("jv,vc->jc", self.joint_regressor, self.template)
        return jnp.add(*same_rank(mean, _combine(per_beta, betas)))

    def _checked(self, betas: Array) -> int:
        count, available = betas.shape[-1], self.shape_directions.shape[-1]
        if count > available:
            raise ValueError(f"betas: this body has {available} shape numbers, found {count}")
        return count


def pose_matrices(
    pose: Real[Array, "*batch 24 3 3"] | Real[Array, "*batch 24 3"],
) -> Real[Array, "*batch 24 3 3"]:
    """Gives a pose in rotation matrices, whether it is in matrices or in axis-angle.

    Args:
        pose: [..., 24, 3, 3] rotation matrices, or [..., 24, 3] axis-angle in radians.
    Returns:
        [..., 24, 3, 3].
    Raises:
        ValueError: if pose has another shape.
    """
    pose = jnp.asarray(pose)
    if pose.shape[-3:] == (NUM_JOINTS, 3, 3):
        return pose
    if pose.shape[-2:] == (NUM_JOINTS, 3):
        return axis_angle_to_matrix(pose)
    raise ValueError(
        f"pose: expected [..., {NUM_JOINTS}, 3, 3] matrices or [..., {NUM_JOINTS}, 3] "
        f"axis-angle, found shape {pose.shape}"
    )


def pose_features(pose: Float[Array, "*batch 24 3 3"]) -> Float[Array, "*batch 207"]:
    """Gives the numbers that drive the pose correctives: rotations minus identity, less the root.

    Args:
        pose: [..., 24, 3, 3] rotation matrices.
    Returns:
        [..., 207].
    """
    # A product with ones and zeros, where a slice would do: XLA on the CPU would merge the slice,
    # and what made the rotations, into the product with the directions of a single pose, and
    # compute them again for every vertex (a hundred times slower).
    chosen = jnp.asarray(_WITHOUT_ROOT, pose.dtype)
    numbers = pose.reshape(*pose.shape[:-3], 9 * NUM_JOINTS)
    kept = jnp.matmul(numbers, chosen, precision=jax.lax.Precision.HIGHEST)
    return jnp.subtract(*same_rank(kept, jnp.asarray(_IDENTITIES, pose.dtype)))


def skin(
    posed: Float[Array, "*#batch V 3"],
    rotations: Float[Array, "*#batch 24 3 3"],
    positions: Float[Array, "*#batch 24 3"],
    rest_joints: Float[Array, "*#batch 24 3"],
    weights: Float[Array, "V 24"],
) -> Float[Array, "*batch V 3"]:
    """Moves vertices by linear blend skinning (SMPL paper, Eq. 2-4).

    Args:
        posed: [..., V, 3] rest-pose vertices with shape and pose correctives, metres.
        rotations: [..., 24, 3, 3] world rotations of the joints.
        positions: [..., 24, 3] world positions of the joints, metres.
        rest_joints: [..., 24, 3] positions of the joints in the rest pose, metres.
        weights: [V, 24] share of each joint in each vertex.
    Returns:
        [..., V, 3] metres.
    """
    turned = jnp.einsum("...jrc,...jc->...jr", rotations, rest_joints)
    offsets = jnp.subtract(*same_rank(positions, turned))
    frames = jnp.concatenate([rotations, offsets[..., None]], axis=-1)
    flat = frames.reshape(*frames.shape[:-2], 12)
    blended = jnp.einsum("vj,...jx->...vx", weights, flat)
    blended = blended.reshape(*blended.shape[:-1], 3, 4)
    blended, posed = same_rank(blended, posed[..., None, :])
    return jnp.sum(blended[..., :3] * posed, axis=-1) + blended[..., 3]


def moved(
    points: Float[Array, "*#batch K 3"], translation: Real[Array, "*#batch 3"] | None
) -> Float[Array, "*batch K 3"]:
    """Adds a translation, if there is one, to points.

    Args:
        points: [..., K, 3].
        translation: [..., 3].
    Returns:
        [..., K, 3].
    """
    if translation is None:
        return points
    step = jnp.asarray(translation, points.dtype)[..., None, :]
    return jnp.add(*same_rank(points, step))


def _combine(directions: Array, numbers: Array) -> Array:
    """The sum of directions [N, 3, K], each times its number of [..., K]: [..., N, 3]."""
    rows = directions.reshape(-1, directions.shape[-1])
    numbers = jnp.asarray(numbers, rows.dtype)
    product = jnp.tensordot(numbers, rows, ((-1,), (-1,)))
    return product.reshape(*numbers.shape[:-1], *directions.shape[:-1])


def _kinematics(pose: Array, rest_joints: Array) -> tuple[Array, Array]:
    """`forward_kinematics` with the batch axes first."""
    pose, rest_joints = same_batch((pose, 3), (rest_joints, 2))
    rotations, positions = forward_kinematics(
        jnp.moveaxis(pose, (-3, -2, -1), (0, 1, 2)), jnp.moveaxis(rest_joints, (-2, -1), (0, 1))
    )
    return jnp.moveaxis(rotations, (0, 1, 2), (-3, -2, -1)), jnp.moveaxis(
        positions, (0, 1), (-2, -1)
    )
