"""Scenes whose truth is known: what a network and a detector would say of people before cameras.

The demo's scenes are one authored motion, filmed by a camera or seen by four at some moments.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Key

from body_model import SMPL, Skeleton, open_body
from body_model.files import write_npz
from body_model.pytree import pytree
from body_model.rotations import matrix_to_axis_angle
from scorehmr_jax.camera import pinhole, project
from scorehmr_jax.example import FILE
from scorehmr_jax.simulation.authored_motion import authored_motion
from scorehmr_jax.simulation.detector import (
    DETECTOR,
    Detector,
    pixels_per_metre,
    simulate_detections,
)
from scorehmr_jax.simulation.regressor import REGRESSORS, Regressor, simulate_estimates
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
    """People before cameras, and what is known of them. All parts have the same leading axes."""

    truth: Estimate  # the bodies as they are
    camera: Camera
    keypoints: Keypoints2D  # detected
    estimate: Estimate  # of a regression network


def observe(
    keys: tuple[Key[Array, ""], Key[Array, ""]],
    skeleton: Skeleton,
    truth: Estimate,
    camera: Camera,
    regressor: Regressor,
    clip_index: Int[Array, " N"] | None = None,
    detector: Detector = DETECTOR,
    detector_seed: int = 0,
) -> Scene:
    """Simulates a network's estimates and a detector's keypoints of people before cameras.

    Args:
        keys: PRNG keys of the estimates and of the detections.
        skeleton: OPENPOSE_25 of the people's body.
        truth: N true bodies in the camera frame.
        camera: of N samples.
        regressor: the network's errors.
        clip_index: [N] equal for the frames of one clip, which are contiguous and in order; None
            makes the errors of all frames independent.
        detector, detector_seed: the detector's errors, as `simulate_detections` has them.
    Returns:
        The scene of N samples.
    """
    key_estimate, key_detections = keys
    estimate = simulate_estimates(
        key_estimate,
        skeleton,
        truth.pose,
        truth.betas,
        truth.translation,
        camera,
        regressor,
        clip_index,
    )
    keypoints = detect(key_detections, skeleton, truth, camera, clip_index, detector, detector_seed)
    return Scene(truth, camera, keypoints, estimate)


def detect(
    key: Key[Array, ""],
    skeleton: Skeleton,
    truth: Estimate,
    camera: Camera,
    clip_index: Int[Array, " N"] | None = None,
    detector: Detector = DETECTOR,
    detector_seed: int = 0,
) -> Keypoints2D:
    """Simulates a detector's keypoints of people; arguments as `observe` has them."""
    xy, scale = _seen(skeleton, truth, camera)
    return simulate_detections(key, xy, scale, detector, clip_index, detector_seed=detector_seed)


@jax.jit
def _seen(
    skeleton: Skeleton, truth: Estimate, camera: Camera
) -> tuple[Float[Array, "N K 2"], Float[Array, " N"]]:
    """Projects the keypoints, and measures how large the bodies appear."""
    xy = project(skeleton(truth.pose, truth.betas, truth.translation), camera)
    return xy, pixels_per_metre(camera, truth.translation)


def share_shape(scene: Scene) -> Scene:
    """Gives all samples along the last leading axis one estimated shape: their mean."""
    betas = scene.estimate.betas
    betas = jnp.broadcast_to(betas.mean(-2, keepdims=True), betas.shape)
    return replace(scene, estimate=replace(scene.estimate, betas=betas))


def film(key: Key[Array, ""], body: SMPL, skeleton: Skeleton) -> Scene:
    """Simulates the motion as the first camera's video, its errors correlated over time.

    Args:
        key: PRNG key.
        body: the walker's.
        skeleton: OPENPOSE_25 of it.
    Returns:
        A scene of 120 frames [120].
    """
    truth, camera = seen_from(VIEWS[0], body)
    clip = np.zeros(len(truth.betas), np.int32)
    scene = observe(
        tuple(jax.random.split(key)), skeleton, truth, camera, REGRESSORS["medium"], clip
    )
    return share_shape(scene)


def photograph(key: Key[Array, ""], body: SMPL, skeleton: Skeleton) -> Scene:
    """Simulates some moments of the motion seen by all cameras, with independent errors.

    Args:
        key, body, skeleton: as for `film`.
    Returns:
        A scene of 30 moments in four views [30, 4].
    """
    truths, cameras = zip(*(seen_from(angle, body) for angle in VIEWS), strict=True)
    truth, camera = jax.tree.map(
        lambda *views: np.stack([np.asarray(view)[MOMENTS] for view in views], axis=1),
        *zip(truths, cameras, strict=True),
    )
    shape = truth.betas.shape[:2]
    truth, camera = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), (truth, camera))
    count = len(truth.betas)
    # Every sample is a clip of its own: no two share their errors.
    clip = np.arange(count, dtype=np.int32)
    scene = observe(
        tuple(jax.random.split(key)), skeleton, truth, camera, REGRESSORS["medium"], clip
    )
    return share_shape(jax.tree.map(lambda a: a.reshape(*shape, *a.shape[1:]), scene))


def simulated_example(
    body: SMPL | None = None, seed: int = 0
) -> tuple[Estimate, Keypoints2D, Camera]:
    """Takes from `film` what a user would know.

    Args:
        body: the walker's; the open body by default.
        seed: of the errors.
    Returns:
        The estimate, the detections and the camera of 120 frames.
    """
    body = open_body() if body is None else body
    scene = film(jax.random.key(seed), body, Skeleton.of(body))
    return scene.estimate, scene.keypoints, scene.camera


def seen_from(angle: float, body: SMPL) -> tuple[Estimate, Camera]:
    """Turns the true motion into the frame of a camera that stands around the person.

    Args:
        angle: of the camera about the vertical, degrees from the front.
        body: the walker's.
    Returns:
        120 true bodies in the camera frame, and the camera [120].
    """
    poses, translation = authored_motion()
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    turn = np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])
    to_camera = np.diag([1.0, -1.0, -1.0]) @ turn
    dtype = body.template.dtype
    betas = np.array(BETAS, dtype)
    # The body turns about its own pelvis, which is not its origin.
    pelvis = np.asarray(body.rest_joints(betas)[0], float)
    path = (translation + pelvis - AIM) @ to_camera.T + (0, 0, DISTANCE)
    poses[:, 0] = to_camera @ poses[:, 0]
    count = len(poses)
    truth = Estimate(poses.astype(dtype), np.tile(betas, (count, 1)), (path - pelvis).astype(dtype))
    return truth, pinhole(np.tile(np.array(IMAGE_SIZE, dtype), (count, 1)), FOCAL)


def write_example() -> None:
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
    write_example()
