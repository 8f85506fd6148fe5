"""The body reduced exactly to a set of keypoints: joints without the mesh.

A surface keypoint is a weighted sum of vertices, and a vertex a weighted sum over bones of a
rotated corrected template. Summing over the vertices first leaves, for each keypoint and each
bone that reaches it, one linear map from (1, betas, pose features) to a point in that bone's
frame. The result equals the mesh's to rounding, pose correctives included.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Real

from body_model.arithmetic import computing_dtype, native, result_dtype, same_batch
from body_model.joints import JOINT_NAMES, NUM_JOINTS, OPENPOSE_25
from body_model.kinematics import forward_kinematics, rotate
from body_model.pytree import Array, pytree
from body_model.smpl import SMPL, moved, native_arguments, pose_matrices


@pytree
class Skeleton:
    """A body that knows K keypoints and no mesh. Build one with `Skeleton.of`.

    A pair is a surface keypoint and a bone that reaches it; there are P.
    """

    rest: Float[Array, "72 C"]  # rest joints, metres: the mean, then per shape number (C = 1 + B)
    local: Float[Array, "X D"]  # each pair's point, about its bone's joint (X = 3 P, D = C + 207)
    bone: Float[Array, "P 24"]  # 1 at the pair's bone
    owner: Float[Array, "K P"]  # 1 at the pair's keypoint
    joint: Float[Array, "K 24"]  # weight of each joint's position in each keypoint

    @classmethod
    def of(
        cls,
        body: SMPL,
        names: Sequence[str] = OPENPOSE_25,
        regressor: Real[Array, "R V"] | None = None,
        num_betas: int = 10,
    ) -> "Skeleton":
        """Reduces a body to keypoints.

        Args:
            body: any SMPL body, with concrete arrays.
            names: keypoints by name: joints of the tree or landmarks of the body.
            regressor: [R, V] R more keypoints, each a weighted sum of posed vertices.
            num_betas: shape numbers to keep; all, if the body has no more.
        Returns:
            A skeleton of len(names) + R keypoints, in that order.
        Raises:
            ValueError: for a name that the body does not have, a regressor of another mesh, or a
                negative number of shape numbers.
        """
        if num_betas < 0:
            raise ValueError(f"num_betas: expected 0 or more, found {num_betas}")
        template = np.asarray(body.template, np.float64)
        vertices = len(template)
        landmarks = dict(body.landmarks)
        unknown = [n for n in names if n not in landmarks and n not in JOINT_NAMES]
        if unknown:
            raise ValueError(f"keypoints {unknown} are neither joints nor landmarks of this body")
        surface = [landmarks[n] for n in names if n not in JOINT_NAMES]
        rows = np.zeros((len(surface), vertices))
        rows[np.arange(len(surface)), surface] = 1
        if regressor is not None:
            extra = np.asarray(regressor, np.float64)
            if extra.ndim != 2 or extra.shape[1] != vertices:
                raise ValueError(f"regressor: expected [R, {vertices}], found {extra.shape}")
            rows = np.concatenate([rows, extra])

        shape = np.asarray(body.shape_directions, np.float64)[..., :num_betas]
        columns = np.concatenate(
            [template[..., None], shape, np.asarray(body.pose_directions, np.float64)], axis=-1
        )
        joint_regressor = np.asarray(body.joint_regressor, np.float64)
        rest = np.einsum("jv,vcx->jcx", joint_regressor, columns[..., : 1 + shape.shape[-1]])
        count = len(names) + len(rows) - len(surface)
        # A joint of the tree comes before a landmark of the same name.
        of_surface = [k for k in range(count) if k >= len(names) or names[k] not in JOINT_NAMES]
        joint = np.zeros((count, NUM_JOINTS))
        for k, name in enumerate(names):
            if name in JOINT_NAMES:
                joint[k, JOINT_NAMES.index(name)] = 1
        local, bone, owner = [], [], []
        skin_weights = np.asarray(body.skin_weights, np.float64)
        for k, row in zip(of_surface, rows, strict=True):
            near = np.flatnonzero(row)
            shares = row[near, None] * skin_weights[near]
            joint[k] = shares.sum(0)
            for j in np.flatnonzero(np.abs(shares).sum(0) > 0):
                point = np.einsum("v,vcx->cx", shares[:, j], columns[near])
                point[:, : rest.shape[-1]] -= joint[k, j] * rest[j]
                local.append(point)
                bone.append(np.arange(NUM_JOINTS) == j)
                owner.append(np.arange(count) == k)
        dtype = body.template.dtype
        return cls(
            rest=np.ascontiguousarray(rest.reshape(NUM_JOINTS * 3, -1), dtype),
            local=np.asarray(local, dtype).reshape(-1, columns.shape[-1]),
            bone=np.asarray(bone, dtype).reshape(-1, NUM_JOINTS),
            owner=np.asarray(owner, dtype).reshape(-1, count).T.copy(),
            joint=joint.astype(dtype),
        )

    @property
    def num_keypoints(self) -> int:
        """The number of keypoints, K."""
        return self.joint.shape[0]

    @property
    def num_betas(self) -> int:
        """The number of shape numbers, B."""
        return self.rest.shape[1] - 1

    def __call__(
        self,
        pose: Real[Array, "*#batch 24 3 3"] | Real[Array, "*#batch 24 3"],
        betas: Real[Array, "*#batch n"],
        translation: Real[Array, "*#batch 3"] | None = None,
    ) -> Float[Array, "*batch K 3"]:
        """Places the keypoints of a pose and shape.

        Leading axes of the arguments broadcast against each other. The result has the common
        dtype of the skeleton and the floating arguments; it is computed in float32 at least.

        Args:
            pose: [..., 24, 3, 3] rotation matrices or [..., 24, 3] axis-angle, radians.
            betas: [..., num_betas].
            translation: [..., 3] added to every keypoint, metres.
        Returns:
            [..., K, 3] metres.
        Raises:
            ValueError: if an argument has another shape.
        """
        betas = native("betas", betas)
        pose, _, translation = native_arguments(pose, None, translation)
        if np.shape(betas)[-1:] != (self.num_betas,):
            raise ValueError(
                f"betas: this skeleton has {self.num_betas} shape numbers, found shape "
                f"{np.shape(betas)}; Skeleton.of(body, num_betas=...) keeps another number"
            )
        dtype = result_dtype(self.rest, pose, betas, translation)
        computing = computing_dtype(dtype)
        skeleton = jax.tree.map(lambda a: jnp.asarray(a, computing), self)
        pose, betas = same_batch(
            (pose_matrices(jnp.asarray(pose, computing)), 3), (jnp.asarray(betas, computing), 1)
        )
        with jax.default_matmul_precision("float32"):
            keypoints = skeleton._keypoints(
                jnp.moveaxis(pose, (-3, -2, -1), (0, 1, 2)), jnp.moveaxis(betas, -1, 0)
            )
        return moved(jnp.moveaxis(keypoints, (0, 1), (-2, -1)), translation).astype(dtype)

    def joints(
        self,
        pose: Real[Array, "*#batch 24 3 3"] | Real[Array, "*#batch 24 3"],
        betas: Real[Array, "*#batch n"],
    ) -> Float[Array, "*batch 24 3"]:
        """Places the joints of the tree, whatever the keypoints are. As `__call__`, metres."""
        dtype = result_dtype(self.rest, pose, betas)
        computing = computing_dtype(dtype)
        pose, betas = same_batch(
            (pose_matrices(jnp.asarray(pose, computing)), 3), (jnp.asarray(betas, computing), 1)
        )
        betas = jnp.moveaxis(betas, -1, 0)
        shape = jnp.concatenate([jnp.ones_like(betas[:1]), betas])
        with jax.default_matmul_precision("float32"):
            rest = jnp.tensordot(jnp.asarray(self.rest, computing), shape, 1)
            rest = rest.reshape(NUM_JOINTS, 3, *shape.shape[1:])
            joints = forward_kinematics(jnp.moveaxis(pose, (-3, -2, -1), (0, 1, 2)), rest)[1]
        return jnp.moveaxis(joints, (0, 1), (-2, -1)).astype(dtype)

    def _keypoints(self, pose: Array, betas: Array) -> Array:
        """Keypoints [K, 3, ...] of a pose [24, 3, 3, ...] and betas [B, ...]."""
        batch = pose.shape[3:]
        shape = jnp.concatenate([jnp.ones_like(pose[0, 0, :1]), betas])
        identity = jnp.eye(3, dtype=pose.dtype).reshape(1, 3, 3, *(1,) * len(batch))
        turned = (pose[1:] - identity).reshape(9 * (NUM_JOINTS - 1), *batch)
        features = jnp.concatenate([shape, turned])
        rest = jnp.tensordot(self.rest, shape, 1).reshape(NUM_JOINTS, 3, *batch)
        points = jnp.tensordot(self.local, features, 1).reshape(len(self.bone), 3, *batch)
        rotations, joints = forward_kinematics(pose, rest)
        # Products with ones and zeros, where indexing would send gradients through scatters.
        posed = rotate(jnp.tensordot(self.bone, rotations, 1), points)
        return jnp.tensordot(self.owner, posed, 1) + jnp.tensordot(self.joint, joints, 1)
