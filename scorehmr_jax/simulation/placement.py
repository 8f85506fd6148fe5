"""Plausible cameras (y down) before captured motions (y up)."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Key

from body_model.skeleton import Skeleton
from scorehmr_jax.simulation.clip_noise import clip_starts, per_clip
from scorehmr_jax.simulation.mocap import turn_about
from scorehmr_jax.types import Array, Camera

# Image sizes that cameras and phones record, (width, height) in pixels.
_IMAGE_SIZES = np.array([[1920, 1080], [1080, 1920], [1280, 720]])
_PERSON_HEIGHT = 1.7
# From y up and z towards the viewer to y down and z forward.
_Y_DOWN = np.diag([1.0, -1.0, -1.0])


@dataclass(frozen=True)
class Placement:
    """The places of cameras. Ranges are uniform."""

    focal: tuple[float, float] = (1.0, 1.5)  # over the image's longer side
    size: tuple[float, float] = (0.4, 0.65)  # a standing person over sqrt(width * height)
    pitch: tuple[float, float] = (-8.0, 25.0)  # degrees; a positive one looks down on the person
    roll: float = 3.0  # standard deviation, degrees
    shift: tuple[float, float] = (0.12, 0.04)  # of the person off centre: sd over width, height


@partial(jax.jit, static_argnames=("config",))
def place_before_camera(
    key: Key[Array, ""],
    skeleton: Skeleton,
    pose: Float[Array, "N 24 3 3"],
    betas: Float[Array, "N B"],
    translation: Float[Array, "N 3"],
    clip_index: Int[Array, " N"] | None = None,
    yaw: Float[Array, " N"] | None = None,
    config: Placement = Placement(),
) -> tuple[Float[Array, "N 24 3 3"], Float[Array, "N 3"], Camera]:
    """Puts people before cameras: random yaw, pitch, a small roll, focal length and distance.

    The camera stands still during a clip, looks about at the middle of the path, and is so far
    away that the person stays before it.

    Args:
        key: PRNG key.
        skeleton: any skeleton of the body (it says where the pelvis is).
        pose: [N, 24, 3, 3] rotations; the root's in a world with y up.
        betas: [N, 10].
        translation: [N, 3] metres, in that world.
        clip_index: [N] equal for the frames of one clip, which are contiguous and in order; None
            gives every frame its own camera.
        yaw: [N] radians about the world's y, instead of a random one.
        config: the ranges to draw from.
    Returns:
        Pose [N, 24, 3, 3] with the root in the camera frame, translation [N, 3] to the camera
        frame, and the camera [N].
    """
    count, dtype = pose.shape[0], pose.dtype
    keys = jax.random.split(key, 7)

    pitches = np.deg2rad(config.pitch)
    bounds = jnp.asarray([config.focal, config.size, pitches, (-np.pi, np.pi)], dtype)
    focal, person, pitch, random_yaw = (
        per_clip(drawn, clip_index)
        for drawn in uniform_each(keys[jnp.array([1, 2, 3, 6])], count, bounds)
    )
    yaw = random_yaw if yaw is None else yaw
    sizes = jax.random.choice(keys[0], jnp.asarray(_IMAGE_SIZES, dtype), (count,))
    size = per_clip(sizes, clip_index)
    focal *= size.max(-1)
    person *= jnp.sqrt(size.prod(-1))
    roll = np.deg2rad(config.roll) * jax.random.normal(keys[4], (count,), dtype)
    shift = jax.random.normal(keys[5], (count, 2), dtype) * jnp.asarray([config.shift], dtype)
    aim = per_clip(shift, clip_index) * size / focal[:, None]
    with jax.default_matmul_precision("float32"):
        tip, tilt = turn_about(2, per_clip(roll, clip_index)), turn_about(0, pitch)
        rotation = tip @ tilt @ jnp.asarray(_Y_DOWN[None], dtype) @ turn_about(1, yaw)
        root = rotation @ pose[:, 0]
        rest_pelvis = skeleton.rest[None, :3, 0] + betas @ skeleton.rest[:3, 1:].T
        pelvis = rest_pelvis + translation
        middle, extent = _path(pelvis, clip_index)
        moved = jnp.einsum("nij,nj->ni", rotation, pelvis - middle)
    distance = focal * _PERSON_HEIGHT / person + extent
    target = distance[:, None] * jnp.concatenate([aim, jnp.ones((count, 1), dtype)], axis=-1)
    camera = Camera(jnp.stack([focal, focal], -1), size / 2, size)
    return jnp.asarray(pose).at[:, 0].set(root), moved + target - rest_pelvis, camera


def place_before_cameras(
    key: Key[Array, ""],
    skeleton: Skeleton,
    pose: Float[Array, "N 24 3 3"],
    betas: Float[Array, "N B"],
    translation: Float[Array, "N 3"],
    views: int = 4,
    config: Placement = Placement(),
) -> tuple[Float[Array, "M 24 3 3"], Float[Array, "M B"], Float[Array, "M 3"], Camera]:
    """Puts each person before several cameras around, about equally spaced.

    Args:
        key, skeleton, pose, betas, translation, config: as for `place_before_camera`.
        views: cameras for each sample.
    Returns:
        Pose [N * views, 24, 3, 3], betas [N * views, 10], translation [N * views, 3] and camera;
        the views of one sample are neighbours.
    """
    key_camera, key_first, key_spread = jax.random.split(key, 3)
    count = pose.shape[0]
    first = jax.random.uniform(key_first, (count, 1), pose.dtype, -np.pi, np.pi)
    spacing = 2 * np.pi / views
    yaw = first + spacing * jnp.arange(views, dtype=pose.dtype)[None]
    yaw = yaw + spacing * jax.random.uniform(key_spread, yaw.shape, pose.dtype, -0.2, 0.2)
    pose, betas, translation = (jnp.repeat(a, views, axis=0) for a in (pose, betas, translation))
    pose, translation, camera = place_before_camera(
        key_camera, skeleton, pose, betas, translation, yaw=yaw.reshape(-1), config=config
    )
    return pose, betas, translation, camera


def uniform_each(
    keys: Key[Array, " B"], count: int, bounds: Float[Array, "B 2"]
) -> Float[Array, "B {count}"]:
    """Draws uniform numbers between several bounds at once, as the compiler takes long over each.

    Args:
        keys: [B] PRNG keys.
        count: numbers between each two bounds.
        bounds: [B, 2] least and greatest.
    Returns:
        [B, count].
    """

    def draw(key: Array, low: Array, high: Array) -> Array:
        return jax.random.uniform(key, (count,), bounds.dtype, low, high)

    return jax.vmap(draw)(keys, bounds[:, 0], bounds[:, 1])


def _path(
    points: Float[Array, "N 3"], clip_index: Int[Array, " N"] | None
) -> tuple[Float[Array, "N 3"], Float[Array, " N"]]:
    """Finds the middle of each clip's points, and the distance of the farthest from it."""
    if clip_index is None:
        return points, jnp.zeros(points.shape[0], points.dtype)
    clip = clip_starts(clip_index)
    segments = len(clip)
    total = jax.ops.segment_sum(points, clip, segments)[clip]
    length = jax.ops.segment_sum(jnp.ones_like(points[:, :1]), clip, segments)[clip]
    middle = total / length
    # The vertical drop counts too: under pitch it changes the depth.
    away = jnp.sqrt(jnp.square(points - middle).sum(-1))
    return middle, jax.ops.segment_max(away, clip, segments)[clip]
