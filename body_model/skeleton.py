"""The body reduced exactly to a set of keypoints: joints without the mesh.

A surface keypoint is a weighted sum of vertices, and a vertex a weighted sum over bones of a
rotated corrected template. Summing over the vertices first leaves, for each keypoint and each
bone that reaches it, one linear map from (1, betas, pose features) to a point in that bone's
frame. The result equals the mesh's to rounding, pose correctives included.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from body_model.joints import JOINT_NAMES, NUM_JOINTS, OPENPOSE_25
from body_model.kinematics import forward_kinematics, rotate
from body_model.smpl import SMPL, ArrayLike, pose_features, pose_matrices

Array = jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Skeleton:
    """A body that knows K keypoints and no mesh. Build one with `Skeleton.of`."""

    rest: ArrayLike  # [1 + B, 24 * 3] rest joints: mean, then per shape number
    local: ArrayLike  # [1 + B + 207, P * 3] each pair's point, in its bone's frame
    weight: ArrayLike  # [P] how much of the keypoint the bone carries
    # One pair is a surface keypoint and a bone that reaches it.
    bones: tuple[int, ...] = field(metadata={"static": True})  # [P]
    owners: tuple[int, ...] = field(metadata={"static": True})  # [P] which surface keypoint
    # Where keypoint k comes from: joint j, or surface keypoint 24 + i.
    sources: tuple[int, ...] = field(metadata={"static": True})  # [K]

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
        local, weight, bones, owners = [], [], [], []
        skin_weights = np.asarray(body.skin_weights, np.float64)
        for owner, row in enumerate(rows):
            near = np.flatnonzero(row)
            shares = row[near, None] * skin_weights[near]
            for bone in np.flatnonzero(np.abs(shares).sum(0) > 0):
                point = np.einsum("v,vcx->cx", shares[:, bone], columns[near])
                # A bone turns about its own rest joint.
                total = shares[:, bone].sum()
                point[:, : rest.shape[-1]] -= total * rest[bone]
                local.append(point)
                weight.append(total)
                bones.append(int(bone))
                owners.append(owner)
        dtype = np.asarray(body.template).dtype
        points = np.stack(local) if local else np.zeros((0, 3, columns.shape[-1]))
        of_surface = iter(range(NUM_JOINTS, NUM_JOINTS + len(rows)))
        sources = [JOINT_NAMES.index(n) if n in JOINT_NAMES else next(of_surface) for n in names]
        return cls(
            rest=np.ascontiguousarray(rest.reshape(NUM_JOINTS * 3, -1).T, dtype),
            local=np.ascontiguousarray(points.reshape(-1, columns.shape[-1]).T, dtype),
            weight=np.asarray(weight, dtype),
            bones=tuple(bones),
            owners=tuple(owners),
            sources=(*sources, *of_surface),
        )

    @property
    def num_keypoints(self) -> int:
        return len(self.sources)

    @property
    def num_betas(self) -> int:
        return self.rest.shape[0] - 1

    def __call__(self, pose: Array, betas: Array, translation: Array | None = None) -> Array:
        """The keypoints of a pose and shape.

        Args:
            pose: [..., 24, 3, 3] rotation matrices or [..., 24, 3] axis-angle, radians.
            betas: [..., num_betas].
            translation: [..., 3] added to every keypoint, metres.
        Returns:
            [..., K, 3] metres.
        """
        pose = pose_matrices(pose)
        with jax.default_matmul_precision("float32"):
            rest = self.rest[0] + betas @ self.rest[1:]
            rotations, joints = forward_kinematics(pose, rest.reshape(*rest.shape[:-1], -1, 3))
            keypoints = self._surface(pose, betas, rotations, joints)
        if translation is not None:
            keypoints = keypoints + translation[..., None, :]
        return keypoints

    def _surface(self, pose: Array, betas: Array, rotations: Array, joints: Array) -> Array:
        batch = joints.shape[:-2]
        shaped = 1 + self.num_betas
        points = (
            self.local[0] + betas @ self.local[1:shaped] + pose_features(pose) @ self.local[shaped:]
        )
        points = points.reshape(*batch, len(self.bones), 3)
        bones = np.asarray(self.bones, np.int32)
        moved = rotate(rotations[..., bones, :, :], points)
        moved = moved + self.weight[:, None] * joints[..., bones, :]
        gather = np.zeros((max(self.owners, default=-1) + 1, len(self.bones)))
        gather[np.asarray(self.owners, np.int32), np.arange(len(self.bones))] = 1
        surface = jnp.einsum("op,...pc->...oc", gather.astype(joints.dtype), moved)
        everything = jnp.concatenate([joints, surface], axis=-2)
        return everything[..., np.asarray(self.sources, np.int32), :]
