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

from body_model.joints import JOINT_NAMES, NUM_JOINTS, OPENPOSE_25
from body_model.kinematics import forward_kinematics, rotate
from body_model.pytree import Array, pytree
from body_model.smpl import SMPL, ArrayLike, pose_matrices


@pytree
class Skeleton:
    """A body that knows K keypoints and no mesh. Build one with `Skeleton.of`."""

    rest: ArrayLike  # [24 * 3, 1 + B] rest joints: mean, then per shape number
    # A pair is a surface keypoint and a bone that reaches it; there are P.
    local: ArrayLike  # [P * 3, 1 + B + 207] each pair's point, about its bone's joint at rest
    bone: ArrayLike  # [P, 24] 1 at the pair's bone
    owner: ArrayLike  # [K, P] 1 at the pair's keypoint
    joint: ArrayLike  # [K, 24] weight of each joint's position in each keypoint

    @classmethod
    def of(
        cls,
        body: SMPL,
        names: Sequence[str] = OPENPOSE_25,
        regressor: np.ndarray | None = None,
        num_betas: int = 10,
    ) -> "Skeleton":
        """Reduces a body.

        Args:
            body: any SMPL body, with concrete arrays.
            names: keypoints by name: joints of the tree or landmarks of the body.
            regressor: [R, V] R more keypoints, each a weighted sum of posed vertices.
            num_betas: shape numbers to keep.
        Returns:
            A skeleton of len(names) + R keypoints, in that order.
        Raises:
            ValueError: for a name that the body does not have, or a regressor of another mesh.
        """
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
            if regressor.ndim != 2 or regressor.shape[1] != vertices:
                raise ValueError(f"regressor: expected [R, {vertices}], found {regressor.shape}")
            rows = np.concatenate([rows, regressor])

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
        dtype = np.asarray(body.template).dtype
        return cls(
            rest=np.ascontiguousarray(rest.reshape(NUM_JOINTS * 3, -1), dtype),
            local=np.asarray(local, dtype).reshape(-1, columns.shape[-1]),
            bone=np.asarray(bone, dtype).reshape(-1, NUM_JOINTS),
            owner=np.asarray(owner, dtype).reshape(-1, count).T.copy(),
            joint=joint.astype(dtype),
        )

    @property
    def num_keypoints(self) -> int:
        return self.joint.shape[0]

    @property
    def num_betas(self) -> int:
        return self.rest.shape[1] - 1

    def __call__(self, pose: Array, betas: Array, translation: Array | None = None) -> Array:
        """The keypoints of a pose and shape.

        Args:
            pose: [..., 24, 3, 3] rotation matrices or [..., 24, 3] axis-angle, radians.
            betas: [..., num_betas].
            translation: [..., 3] added to every keypoint, metres.
        Returns:
            [..., K, 3] metres.
        Raises:
            ValueError: if pose or betas have another shape.
        """
        pose, betas = pose_matrices(pose), jnp.asarray(betas)
        if betas.shape[-1:] != (self.num_betas,):
            raise ValueError(
                f"betas: this skeleton has {self.num_betas} shape numbers, found shape "
                f"{betas.shape}; Skeleton.of(body, num_betas=...) keeps another number"
            )
        batch = jnp.broadcast_shapes(pose.shape[:-3], betas.shape[:-1])
        pose = jnp.broadcast_to(pose, (*batch, *pose.shape[-3:]))
        betas = jnp.broadcast_to(betas, (*batch, betas.shape[-1]))
        with jax.default_matmul_precision("float32"):
            keypoints = self._keypoints(
                jnp.moveaxis(pose, (-3, -2, -1), (0, 1, 2)), jnp.moveaxis(betas, -1, 0)
            )
        keypoints = jnp.moveaxis(keypoints, (0, 1), (-2, -1))
        return keypoints if translation is None else keypoints + translation[..., None, :]

    def _keypoints(self, pose: Array, betas: Array) -> Array:
        """Keypoints [K, 3, ...] of a pose [24, 3, 3, ...] and betas [B, ...]."""
        batch = pose.shape[3:]
        constant = jnp.ones((1, *batch), betas.dtype)
        shape = jnp.concatenate([constant, betas])
        identity = jnp.eye(3, dtype=pose.dtype).reshape(3, 3, *(1,) * len(batch))
        features = jnp.concatenate([shape, (pose[1:] - identity).reshape(-1, *batch)])
        rest = jnp.tensordot(self.rest, shape, 1).reshape(NUM_JOINTS, 3, *batch)
        points = jnp.tensordot(self.local, features, 1).reshape(-1, 3, *batch)
        rotations, joints = forward_kinematics(pose, rest)
        # Products with ones and zeros, where indexing would send gradients through scatters.
        moved = rotate(jnp.tensordot(self.bone, rotations, 1), points)
        return jnp.tensordot(self.owner, moved, 1) + jnp.tensordot(self.joint, joints, 1)
