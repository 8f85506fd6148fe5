"""The scenes of the benchmark: real poses before cameras, simulated estimates and detections."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from body_model import Skeleton
from body_model.rotations import axis_angle_to_matrix
from scorehmr_jax.simulation.mocap import Mocap
from scorehmr_jax.simulation.placement import place_before_camera, place_before_cameras
from scorehmr_jax.simulation.regressor import REGRESSORS
from scorehmr_jax.simulation.scene import Scene, observe, share_shape
from scorehmr_jax.types import Array, Camera, Estimate

SETTINGS = ("keypoints", "video", "multiview")
STRENGTHS = tuple(REGRESSORS)
VIEWS = 4


@dataclass(frozen=True)
class Size:
    """The number of frames of a setting."""

    frames: int  # in all, the same in every setting
    length: int  # frames of a video


FULL = Size(frames=512, length=64)
QUICK = Size(frames=96, length=32)


def scene(
    key: Array, skeleton: Skeleton, mocap: Mocap, setting: str, strength: str, size: Size
) -> Scene:
    """Simulates a setting of the benchmark.

    The frames are spread evenly over the clips; the people have several shapes. Groups share the
    mean of their estimated shapes, as in the released evaluation.

    Args:
        key: PRNG key. The truth and the detections do not depend on the strength.
        skeleton: of the keypoints that are detected, OPENPOSE_25.
        mocap: clips of one split.
        setting: one of SETTINGS.
        strength: one of STRENGTHS.
        size: how many frames.
    Returns:
        A scene [G, N] of groups: videos, or views of one person; single frames are one group.
    """
    key_truth, key_estimate, key_detections = jax.random.split(key, 3)
    truth, camera, clip = people(key_truth, skeleton, mocap, setting, size)
    keys = key_estimate, key_detections
    flat = observe(keys, skeleton, truth, camera, REGRESSORS[strength], clip)
    return grouped(flat, setting, size)


def grouped(flat: Scene, setting: str, size: Size) -> Scene:
    """Puts the samples of a scene into groups [G, N]; those of a person share their shape."""
    group = {"keypoints": size.frames, "video": size.length, "multiview": VIEWS}[setting]
    scene = jax.tree.map(lambda a: a.reshape(-1, group, *a.shape[1:]), flat)
    return scene if setting == "keypoints" else share_shape(scene)


def people(
    key: Array, skeleton: Skeleton, mocap: Mocap, setting: str, size: Size
) -> tuple[Estimate, Camera, Array]:
    """Makes true bodies in the camera frame, their cameras, and the clip of each frame."""
    key_betas, key_camera = jax.random.split(key)
    if setting == "video":
        frames = windows(mocap.clip, size.frames // size.length, size.length)
        people = np.repeat(np.arange(len(frames)), size.length)
    else:
        count = size.frames // (VIEWS if setting == "multiview" else 1)
        frames = np.linspace(0, len(mocap.clip) - 1, count).round().astype(int)
        people = np.arange(count)
    pose = axis_angle_to_matrix(jnp.asarray(mocap.poses[frames.ravel()]))
    translation = jnp.asarray(mocap.translations[frames.ravel()])
    betas = jax.random.normal(key_betas, (people[-1] + 1, 10))[people]
    if setting == "multiview":
        pose, betas, translation, camera = place_before_cameras(
            key_camera, skeleton, pose, betas, translation, VIEWS
        )
        people = np.arange(size.frames)
    else:
        pose, translation, camera = place_before_camera(
            key_camera, skeleton, pose, betas, translation, jnp.asarray(people)
        )
    return Estimate(pose, betas, translation), camera, jnp.asarray(people)


def windows(clip: np.ndarray, count: int, length: int) -> np.ndarray:
    """Chooses windows without overlap, spread evenly over the clips.

    Args:
        clip: [N] the clip of each frame.
        count: of windows.
        length: of a window, frames.
    Returns:
        [count, length] frames.
    Raises:
        ValueError: if there are fewer windows.
    """
    starts = np.flatnonzero(np.diff(clip, prepend=-1))
    ends = np.append(starts[1:], len(clip))
    first = np.concatenate(
        [np.arange(s, e - length + 1, length) for s, e in zip(starts, ends, strict=True)]
    )
    if len(first) < count:
        raise ValueError(f"expected {count} windows of {length} frames, found {len(first)}")
    chosen = first[np.linspace(0, len(first) - 1, count).round().astype(int)]
    return chosen[:, None] + np.arange(length)
