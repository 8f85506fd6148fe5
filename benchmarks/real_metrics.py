"""What the benchmark on real video measures: bodies before cameras against joints in the world."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import scorehmr_jax as sh
from body_model import Skeleton
from body_model.joints import OPENPOSE_25
from scorehmr_jax.camera import to_camera_frame
from scorehmr_jax.evaluation import metrics
from scorehmr_jax.screening import OK

# The detector's landmarks that are joints of the limbs, in the order of OpenPose-25.
LIMBS = {
    "right_shoulder": 12,
    "right_elbow": 14,
    "right_wrist": 16,
    "left_shoulder": 11,
    "left_elbow": 13,
    "left_wrist": 15,
    "right_hip": 24,
    "right_knee": 26,
    "right_ankle": 28,
    "left_hip": 23,
    "left_knee": 25,
    "left_ankle": 27,
}
OF_BODY = np.array([OPENPOSE_25.index(name) for name in LIMBS])
OF_DETECTOR = np.array([*LIMBS.values()])
_HIPS = np.array([[*LIMBS].index(name) for name in ("left_hip", "right_hip")])


@dataclass(frozen=True)
class Video:
    """One person before V cameras for N frames."""

    skeleton: Skeleton
    camera: sh.Camera  # [V] with poses, from the world, as the joints were triangulated
    estimate: sh.Estimate  # [V, N] in the frames of the cameras
    keypoints: sh.Keypoints2D  # [V, N, 25], pinhole pixels
    calibration: sh.Camera  # [V] as the methods know them, which may not be as they were
    joints: np.ndarray  # [N, 12, 3] true, in the world
    good: np.ndarray  # [N] frames with sound joints
    swapped: np.ndarray  # [V, N] detections with sides exchanged


@dataclass(frozen=True)
class Measure:
    """The metrics of bodies, and their means over frames that count."""

    of: Callable[[Any], dict[str, jax.Array]]  # each [..., N]
    first: dict[str, np.ndarray]
    good: np.ndarray  # [..., N]
    swapped: np.ndarray

    def row(self, setting: str, method: str, run: Callable[[], Any]) -> dict[str, Any]:
        """Measures a method: run() gives bodies, and their Info or None."""
        jax.block_until_ready(run())  # compiles
        start = time.perf_counter()
        bodies, info = jax.block_until_ready(run())
        seconds = time.perf_counter() - start
        found = {name: np.asarray(value) for name, value in self.of(bodies).items()}
        row: dict[str, Any] = {"setting": setting, "method": method}
        for name, values in found.items():
            every = name in ("acceleration", "reprojection_px")
            row[name] = float(values.mean() if every else values[self.good].mean())
        kept = self.good & ~self.swapped
        row["pa_mpjpe_unswapped"] = float(found["pa_mpjpe"][kept].mean())
        worse = found["pa_mpjpe"] > self.first["pa_mpjpe"] + 2
        row["worse_2mm_share"] = float(worse[self.good].mean())
        row["n"] = int(self.good.sum())
        row["kept"] = 0 if info is None else int((info.status != OK).sum())
        row["seconds_per_frame"] = None if info is None else seconds / self.good.size
        return row


def in_views(video: Video) -> Measure:
    each = jax.tree.map(lambda a: a[:, None], video.camera)
    world = np.broadcast_to(video.joints, (len(video.swapped), *video.joints.shape))
    placed = to_camera_frame(world, each)
    plain = alone(video.camera, video.swapped.shape)

    @jax.jit
    def of(bodies: Any) -> dict[str, jax.Array]:
        points = video.skeleton(bodies.pose, bodies.betas, bodies.translation)
        off = _pixels_off(points, plain, video.keypoints)
        return _errors(points[..., OF_BODY, :], placed) | {"reprojection_px": off}

    good = np.broadcast_to(video.good, video.swapped.shape)
    return Measure(of, jax.tree.map(np.asarray, of(video.estimate)), good, video.swapped)


def in_one_frame(video: Video, frame: sh.Camera, cameras: sh.Camera, first: sh.Estimate) -> Measure:
    placed = to_camera_frame(jnp.asarray(video.joints), frame)
    each = jax.tree.map(lambda a: a[:, None], cameras)

    @jax.jit
    def of(bodies: Any) -> dict[str, jax.Array]:
        points = video.skeleton(bodies.pose, bodies.betas, bodies.translation)
        seen = jnp.broadcast_to(points, (len(video.swapped), *points.shape))
        off = _pixels_off(seen, each, video.keypoints).mean(0)
        return _errors(points[..., OF_BODY, :], placed) | {"reprojection_px": off}

    none = np.zeros_like(video.good)
    return Measure(of, jax.tree.map(np.asarray, of(first)), video.good, none)


def _errors(found: jax.Array, true: jax.Array) -> dict[str, jax.Array]:
    """Errors of joints [..., N, 12, 3], [..., N]."""
    middle, true_middle = (j[..., _HIPS, :].mean(-2) for j in (found, true))
    centred, true_centred = found - middle[..., None, :], true - true_middle[..., None, :]
    return {
        "pa_mpjpe": metrics.pa_mpjpe(found, true),
        "mpjpe": metrics.mpjpe(centred, true_centred),
        "acceleration": metrics.acceleration_error(centred, true_centred),
        "pelvis_mm": metrics.pelvis_error(middle, true_middle),
    }


def _pixels_off(points: jax.Array, camera: sh.Camera, keypoints: sh.Keypoints2D) -> jax.Array:
    """Distance [..., N] of points from the detections, a mean by their confidence."""
    off = jnp.linalg.norm(sh.project(points, camera) - keypoints.xy, axis=-1)
    # All keypoints of the video count alike.
    share = keypoints.confidence
    return (off * share).sum(-1) / share.sum(-1).mean()


def alone(camera: sh.Camera, shape: tuple[int, ...]) -> sh.Camera:
    """Cameras [V, N], each the frame of its own bodies."""
    alone = replace(camera, rotation=None, translation=None)
    return jax.tree.map(lambda a: jnp.broadcast_to(a[:, None], (*shape, *a.shape[1:])), alone)
