"""The demo's scenes: one authored motion, filmed by a camera or seen by four at some moments.

The estimates and detections are simulated, so that the truth is known.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from body_model import SMPL, Skeleton, open_body
from body_model.io import write_npz
from body_model.pytree import pytree
from body_model.rotations import matrix_to_axis_angle
from scorehmr_jax.camera import pinhole, project
from scorehmr_jax.example import FILE
from scorehmr_jax.simulation.authored_motion import demo_motion
from scorehmr_jax.simulation.regressor import (
    REGRESSORS,
    pixels_per_metre,
    simulate_detections,
    simulate_estimates,
)
from scorehmr_jax.types import Array, Camera, Estimate, Keypoints2D

# Four cameras stand around the walker, at breast height; the first sees the video.
VIEWS = (35.0, 125.0, 215.0, 305.0)  # degrees about the vertical, from the front
IMAGE_SIZE = (1000.0, 1000.0)
FOCAL = 1500.0
DISTANCE = 4.3  # metres: a standing person is about 600 pixels tall
AIM = (0.0, 0.9, 0.75)  # the point that all cameras look at, metres
MOMENTS = slice(2, None, 4)  # frames seen by all four cameras
BETAS = (0.4, 0.6, -0.3, 0.3, 0.0, 0.2, 0.0, 0.0, 0.0, 0.0)


@pytree
class Scene:
    """What was seen and what is true; N frames of a video, or moments and views [M, 4]."""

    truth: Estimate
    estimate: Estimate
    keypoints: Keypoints2D
    camera: Camera


def film(key: Array, body: SMPL, skeleton: Skeleton) -> Scene:
    """The motion as the first camera's video: N frames, errors correlated over time."""
    truth, camera = seen_from(VIEWS[0], body)
    scene = _simulated(key, skeleton, truth, camera, np.zeros(len(truth.betas), np.int32))
    return _with_one_shape(scene)


def simulated_example(
    body: SMPL | None = None, seed: int = 0
) -> tuple[Estimate, Keypoints2D, Camera]:
    """The estimate, the detections and the camera of `film`; of the open body by default."""
    body = open_body() if body is None else body
    scene = film(jax.random.key(seed), body, Skeleton.of(body))
    return scene.estimate, scene.keypoints, scene.camera


def photograph(key: Array, body: SMPL, skeleton: Skeleton) -> Scene:
    """Some moments seen by all cameras: [M, 4], errors independent."""
    truths, cameras = zip(*(seen_from(angle, body) for angle in VIEWS), strict=True)
    truth, camera = jax.tree.map(
        lambda *views: jnp.stack([view[MOMENTS] for view in views], 1),
        *zip(truths, cameras, strict=True),
    )
    batch = truth.betas.shape[:2]
    truth, camera = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), (truth, camera))
    # Every sample a clip of its own: no two share their errors.
    scene = _simulated(key, skeleton, truth, camera, np.arange(len(truth.betas), dtype=np.int32))
    return _with_one_shape(jax.tree.map(lambda a: a.reshape(*batch, *a.shape[1:]), scene))


def seen_from(angle: float, body: SMPL) -> tuple[Estimate, Camera]:
    """The true motion in the frame of a camera that stands `angle` degrees around the person."""
    poses, translation = (jnp.asarray(a, jnp.float32) for a in demo_motion())
    betas = jnp.broadcast_to(jnp.asarray(BETAS), (len(poses), len(BETAS)))
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    turn = np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])
    to_camera = jnp.asarray(np.diag([1.0, -1.0, -1.0]) @ turn, jnp.float32)
    # The body turns about its own pelvis, which is not its origin.
    pelvis = body.rest_joints(betas)[:, 0]
    path = (translation + pelvis - jnp.asarray(AIM)) @ to_camera.T + jnp.array([0, 0, DISTANCE])
    poses = poses.at[:, 0].set(to_camera @ poses[:, 0])
    camera = pinhole(jnp.broadcast_to(jnp.asarray(IMAGE_SIZE), (len(poses), 2)), FOCAL)
    return Estimate(poses, betas, path - pelvis), camera


def _simulated(
    key: Array, skeleton: Skeleton, truth: Estimate, camera: Camera, clip_index: np.ndarray
) -> Scene:
    """What a regression network and a 2D detector would say of N samples."""
    key_estimate, key_detections = jax.random.split(key)
    estimate = simulate_estimates(
        key_estimate, skeleton, truth.pose, truth.betas, truth.translation, camera,
        REGRESSORS["medium"], clip_index,
    )  # fmt: skip
    xy = project(skeleton(truth.pose, truth.betas, truth.translation), camera)
    scale = pixels_per_metre(camera, truth.translation)
    detections = simulate_detections(key_detections, xy, scale, clip_index=clip_index)
    return Scene(truth, estimate, detections, camera)


def _with_one_shape(scene: Scene) -> Scene:
    """One shape for all frames of the video, or for all views of a moment: their mean."""
    betas = scene.estimate.betas
    betas = jnp.broadcast_to(betas.mean(-2, keepdims=True), betas.shape)
    return replace(scene, estimate=replace(scene.estimate, betas=betas))


def _write_example() -> None:
    """Writes the numbers that `scorehmr_jax.example` gives."""
    estimate, keypoints, camera = simulated_example()
    write_npz(
        FILE,
        {
            "pose": np.asarray(matrix_to_axis_angle(estimate.pose)),
            "betas": np.asarray(estimate.betas),
            "translation": np.asarray(estimate.translation),
            "keypoints": np.concatenate([keypoints.xy, keypoints.confidence[..., None]], axis=-1),
            "image_size": np.asarray(camera.image_size),
            "focal": np.asarray(camera.focal),
            "center": np.asarray(camera.center),
        },
    )


if __name__ == "__main__":
    _write_example()
