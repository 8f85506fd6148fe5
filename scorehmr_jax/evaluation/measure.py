"""What an evaluation reports of each sample, before and after refinement."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from body_model import SMPL, Skeleton
from body_model.pytree import pytree
from scorehmr_jax.camera import in_front, project
from scorehmr_jax.evaluation import metrics
from scorehmr_jax.evaluation.protocols import Protocol
from scorehmr_jax.types import Array, Camera, Estimate, Keypoints2D


@pytree
class Truth:
    """What samples are measured against."""

    joints: Any  # [..., N, 44, 3] metres
    known: Any  # [..., N] whether there are any
    keypoints: Keypoints2D  # [..., N, 25]
    camera: Camera | None  # [..., N]


def measure(
    skeleton: Skeleton, protocol: Protocol, body: Estimate, truth: Truth, mask: Array
) -> dict[str, Array]:
    """The figures of a body against the truth.

    Args:
        skeleton: of the 44 keypoints.
        protocol: which of them count.
        body: pose [..., N, 24, 3, 3], betas and translation.
        truth: for the same samples.
        mask: [..., N] False for padding; N is one sequence where the task is video.
    Returns:
        mpjpe, re (PA-MPJPE), 2d and pelvis of each sample [..., N]; for a video also accel
        [..., N-2] and jitter [..., N-3]. NaN is what cannot be known.
    """
    joints = skeleton(body.pose, body.betas)
    chosen = np.asarray(protocol.joints)

    def centred(points: Array) -> Array:
        return points[..., chosen, :] - points[..., protocol.pelvis, None, :]

    found, true = centred(joints), centred(jnp.asarray(truth.joints))
    known = truth.known & mask
    out = {"mpjpe": metrics.mpjpe(found, true), "re": metrics.pa_mpjpe(found, true)}
    placed = joints + body.translation[..., None, :]
    pelvis = truth.joints[..., protocol.pelvis, :]
    # Many data sets give joints about the pelvis, not where they are.
    absolute = pelvis[..., 2] > 0.5
    out["pelvis"] = jnp.where(
        absolute, metrics.pelvis_error(placed[..., protocol.pelvis, :], pelvis), jnp.nan
    )
    out = {name: jnp.where(known, value, jnp.nan) for name, value in out.items()}
    if truth.camera is not None:
        openpose = placed[..., : truth.keypoints.xy.shape[-2], :]
        pixels = project(openpose, truth.camera)
        error = metrics.keypoint_error(pixels, truth.keypoints.xy, truth.keypoints.confidence)
        out["2d"] = jnp.where(mask & in_front(openpose), error, jnp.nan)
    if protocol.task == "video":
        if joints.shape[-3] > 2:
            out["accel"] = metrics.acceleration_error(found, true, known)
        if joints.shape[-3] > 3:
            jerk = metrics.jitter(placed, protocol.fps)
            # Frames of padding follow the real ones, so the last of the four decides.
            out["jitter"] = jnp.where(mask[..., 3:], jerk, jnp.nan)
    return out


def vertex_error(model: SMPL, body: Estimate, pose: Array, betas: Array, known: Array) -> Array:
    """PVE against a true body of the same model, both centred on SMPL's own pelvis.

    Args:
        model: SMPL.
        body: pose [..., 24, 3, 3] and betas [..., 10].
        pose: [..., 24, 3] true axis-angle, radians.
        betas: [..., 10] true shape.
        known: [...] whether there is a true body.
    Returns:
        [...] millimetres; NaN where it is not known.
    """
    with jax.default_matmul_precision("float32"):
        roots = (model.joints(p, b)[..., 0, :] for p, b in ((body.pose, body.betas), (pose, betas)))
        found, true = model.vertices(body.pose, body.betas), model.vertices(pose, betas)
    return jnp.where(known, metrics.pve(found, true, *roots), jnp.nan)
