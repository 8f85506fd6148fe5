"""The SMPL body model (Loper et al., SIGGRAPH Asia 2015): shape -> joints -> pose -> skin."""

import math
from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Integer, Real

from body_model.arithmetic import computing_dtype, native, result_dtype, same_batch, same_rank
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
            ValueError: if an argument has another shape.
        """
        return _vertices(self, *native_arguments(pose, betas, translation))

    def _vertices(self, pose: Array, betas: Array | None, translation: Array | None) -> Array:
        self._check(betas)
        result = result_dtype(self.template, pose, betas, translation)
        dtype = computing_dtype(result)
        pose = pose_matrices(jnp.asarray(pose, dtype))
        with jax.default_matmul_precision("float32"):
            shaped, rest_joints = self._shaped(betas, dtype), self._rest_joints(betas, dtype)
            rotations, positions = _kinematics(pose, rest_joints)
            correctives = _combine(jnp.asarray(self.pose_directions, dtype), pose_features(pose))
            # Not a sum: XLA on the CPU would merge the addition into the product of a single pose,
            # and run that on one core.
            posed = jnp.subtract(*same_rank(correctives, -shaped))
            weights = jnp.asarray(self.skin_weights, dtype)
            vertices = skin(posed, rotations, positions, rest_joints, weights)
        return moved(vertices, translation).astype(result)

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
        return _joints(self, *native_arguments(pose, betas, translation))

    def _joints(self, pose: Array, betas: Array | None, translation: Array | None) -> Array:
        self._check(betas)
        result = result_dtype(self.template, pose, betas, translation)
        dtype = computing_dtype(result)
        pose = pose_matrices(jnp.asarray(pose, dtype))
        with jax.default_matmul_precision("float32"):
            joints = _kinematics(pose, self._rest_joints(betas, dtype))[1]
        return moved(joints, translation).astype(result)

    def shaped(self, betas: Real[Array, "*batch n"] | None) -> Float[Array, "*batch V 3"]:
        """Gives the mesh of a shape in the rest pose (SMPL paper, Eq. 8).

        Args:
            betas: [..., n] the first n <= B shape numbers; the mean shape without.
        Returns:
            [..., V, 3] metres.
        Raises:
            ValueError: if there are more shape numbers than the body has.
        """
        betas = None if betas is None else native("betas", betas)
        self._check(betas)
        result = result_dtype(self.template, betas)
        with jax.default_matmul_precision("float32"):
            return self._shaped(betas, computing_dtype(result)).astype(result)

    def rest_joints(self, betas: Real[Array, "*batch n"] | None) -> Float[Array, "*batch 24 3"]:
        """Gives the joints of a shape in the rest pose (SMPL paper, Eq. 10).

        Args and errors: as `shaped`.
        Returns:
            [..., 24, 3] metres.
        """
        betas = None if betas is None else native("betas", betas)
        self._check(betas)
        result = result_dtype(self.template, betas)
        with jax.default_matmul_precision("float32"):
            return self._rest_joints(betas, computing_dtype(result)).astype(result)

    def _shaped(self, betas: Array | None, dtype: np.dtype) -> jax.Array:
        template = jnp.asarray(self.template, dtype)
        if betas is None:
            return template
        directions = jnp.asarray(self.shape_directions, dtype)[..., : betas.shape[-1]]
        return jnp.add(*same_rank(template, _combine(directions, betas)))

    def _rest_joints(self, betas: Array | None, dtype: np.dtype) -> jax.Array:
        regressor = jnp.asarray(self.joint_regressor, dtype)
        if betas is None or math.prod(betas.shape[:-1]) == 1:
            return jnp.einsum("jv,...vc->...jc", regressor, self._shaped(betas, dtype))
        # The regressor first: no batch ever meets the vertex axis.
        directions = jnp.asarray(self.shape_directions, dtype)[..., : betas.shape[-1]]
        per_beta = jnp.einsum("jv,vcb->jcb", regressor, directions)
        mean = jnp.einsum("jv,vc->jc", regressor, jnp.asarray(self.template, dtype))
        return jnp.add(*same_rank(mean, _combine(per_beta, betas)))

    def _check(self, betas: Array | None) -> None:
        available = self.shape_directions.shape[-1]
        if betas is not None and (np.ndim(betas) < 1 or np.shape(betas)[-1] > available):
            raise ValueError(
                f"betas: this body has {available} shape numbers, found shape {np.shape(betas)}"
            )


# One program each: outside of a jit, every operation would be compiled by itself, which takes
# seconds for a mesh.
_vertices, _joints = (jax.jit(f, inline=True) for f in (SMPL._vertices, SMPL._joints))
_matrices = jax.jit(axis_angle_to_matrix, inline=True)


def native_arguments(
    pose: Any, betas: Any, translation: Any
) -> tuple[Array, Array | None, Array | None]:
    """Gives the arguments of a body as arrays that JAX takes.

    Args:
        pose, betas, translation: as `SMPL.vertices` has them.
    Raises:
        ValueError: naming what is no array of numbers.
    """
    return (
        native("pose", pose),
        None if betas is None else native("betas", betas),
        None if translation is None else native("translation", translation),
    )


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
        return _matrices(pose)
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
    Raises:
        ValueError: if translation has another shape.
    """
    if translation is None:
        return points
    if np.shape(translation)[-1:] != (3,):
        raise ValueError(f"translation: expected [..., 3], found shape {np.shape(translation)}")
    return jnp.add(*same_rank(points, jnp.asarray(translation, points.dtype)[..., None, :]))


def _combine(directions: Array, numbers: Array) -> Array:
    """The sum of directions [N, 3, K], each times its number of [..., K]: [..., N, 3]."""
    rows = directions.reshape(math.prod(directions.shape[:-1]), directions.shape[-1])
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
