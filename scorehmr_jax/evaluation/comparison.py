"""Bodies beside the truth, in the forms that metrics ask for."""

from dataclasses import dataclass
from functools import cached_property

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Integer, Real

from body_model import SMPL, Skeleton
from body_model.pytree import pytree
from scorehmr_jax.camera import project
from scorehmr_jax.evaluation.protocol import Protocol
from scorehmr_jax.formats.released import Group
from scorehmr_jax.types import Array, Camera, Estimate, Keypoints2D

# What not every evaluation has. A metric names those that it needs.
CAMERA = "camera"  # the images' sizes were given
BODY = "body"  # there are true bodies of the body model that is given
VIDEO = "video"  # samples are frames of one video, in order
NEEDS = frozenset({CAMERA, BODY, VIDEO})


@pytree
class TrueBody:
    """True parameters of body models that are given."""

    pose: Real[Array, "*N 24 3"]  # axis-angle, radians; the root's in the camera frame
    betas: Real[Array, "*N B"]
    known: Bool[Array, "*N"]  # True where there are any
    # Of which body: 0 is that of the estimates, then follow those of Comparison.others.
    model: Integer[Array, "*N"]


@pytree
class Truth:
    """The annotations that samples are measured against."""

    joints: Real[Array, "*N K 3"]  # metres; place and frame as annotated
    known: Bool[Array, "*N"]  # True where there are any
    keypoints: Keypoints2D  # [*N, 25] detections, those that guide
    camera: Camera | None  # [*N]
    body: TrueBody | None

    @classmethod
    def of(cls, samples: Group, keypoints: Keypoints2D, protocol: Protocol) -> "Truth":
        """Takes what a protocol measures from the annotations.

        Args:
            samples: N of them.
            keypoints: [N, 25] OpenPose.
            protocol: decides which joints count, and whether true bodies do.
        """
        known = np.any(samples.confidence_3d[:, list(protocol.joints)] > 0, axis=-1)
        body = None
        if protocol.neutral_truth and samples.has_body.any():
            models = np.zeros(len(samples), np.int32)
            body = TrueBody(samples.pose, samples.betas, samples.has_body, models)
        return cls(samples.joints_3d, known, keypoints, samples.camera, body)


@dataclass(frozen=True)
class Comparison:
    """A batch of bodies [..., N] and its truth. What metrics ask for is worked out once."""

    protocol: Protocol
    skeleton: Skeleton  # of the protocol's keypoints
    model: SMPL
    body: Estimate
    truth: Truth
    mask: Array  # [..., N] False for padding, which follows the samples of a group
    others: tuple[SMPL, ...] = ()  # more body models, of the truth alone

    @property
    def offers(self) -> frozenset[str]:
        """Those of CAMERA, BODY and VIDEO that there are."""
        there = {
            CAMERA: self.truth.camera is not None,
            BODY: self.truth.body is not None,
            VIDEO: self.protocol.how.is_video,
        }
        return frozenset(name for name, yes in there.items() if yes)

    @cached_property
    def placed(self) -> Float[Array, "*N K 3"]:
        """The keypoints in the camera frame, metres."""
        return self.skeleton(self.body.pose, self.body.betas, self.body.translation)

    @cached_property
    def found(self) -> Float[Array, "*N J 3"]:
        """The joints that the protocol measures, about the pelvis, metres."""
        return self._about_pelvis(self.skeleton(self.body.pose, self.body.betas))

    @cached_property
    def true(self) -> Float[Array, "*N J 3"]:
        """The true joints, likewise."""
        return self._about_pelvis(jnp.asarray(self.truth.joints))

    @cached_property
    def known(self) -> Bool[Array, "*N"]:
        """True where there is a sample with true joints."""
        return self.truth.known & self.mask

    @cached_property
    def known_joints(self) -> Bool[Array, "*N J"]:
        """True for all joints of these samples: as released, all count or none."""
        return jnp.broadcast_to(self.known[..., None], self.found.shape[:-1])

    @cached_property
    def pelvis(self) -> tuple[Float[Array, "*N 3"], Float[Array, "*N 3"]]:
        """The pelvis and the true one, in the camera frame, metres."""
        return self._pelvis(self.placed), self._pelvis(jnp.asarray(self.truth.joints))

    @cached_property
    def projected(self) -> Float[Array, "*N 25 2"]:
        """OpenPose's keypoints in the image, pixels."""
        assert self.truth.camera is not None
        return project(self.openpose, self.truth.camera)

    @property
    def openpose(self) -> Float[Array, "*N 25 3"]:
        """OpenPose's keypoints in the camera frame, metres."""
        return self.placed[..., : self.truth.keypoints.xy.shape[-2], :]

    @cached_property
    def meshes(self) -> tuple[Float[Array, "*N V 3"], Float[Array, "*N V 3"]]:
        """Vertices of the body and of the true one, about SMPL's own pelvis, metres."""
        assert self.truth.body is not None
        true = self.truth.body

        def mesh(model: SMPL, pose: Array, betas: Array) -> Array:
            return model.vertices(pose, betas) - model.joints(pose, betas)[..., :1, :]

        found = mesh(self.model, self.body.pose, self.body.betas)
        wanted = mesh(self.model, true.pose, true.betas)
        for number, model in enumerate(self.others, 1):
            of_this = (jnp.asarray(true.model) == number)[..., None, None]
            wanted = jnp.where(of_this, mesh(model, true.pose, true.betas), wanted)
        return found, wanted

    def _pelvis(self, points: Array) -> Array:
        if isinstance(self.protocol.pelvis, int):
            return points[..., self.protocol.pelvis, :]
        return points[..., np.asarray(self.protocol.pelvis), :].mean(-2)

    def _about_pelvis(self, points: Array) -> Array:
        joints = points[..., np.asarray(self.protocol.joints), :]
        return joints - self._pelvis(points)[..., None, :]
