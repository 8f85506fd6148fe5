"""The released algorithm written down as it reads: every step in full, no shortcut.

It measures what the library's shortcuts gain, and is a second opinion on its results.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from body_model import SMPL
from body_model.joints import OPENPOSE_25, PARENTS, SMPL_45
from scorehmr_jax.guidance import KEYPOINT_WEIGHT
from scorehmr_jax.prior import Prior, rotations_to_x, x_to_rotations
from scorehmr_jax.refine import RefineConfig
from scorehmr_jax.types import Array, Camera, Estimate, Keypoints2D

_SIGMA = 100.0  # of the robust error, pixels


class _State(NamedTuple):
    x: Float[Array, "N 144"]
    x_0: Float[Array, "N 144"]
    camera: Float[Array, "N 3"]  # translation
    first_moment: Float[Array, "N 3"]
    second_moment: Float[Array, "N 3"]
    steps: Int[Array, ""]  # guided so far


def refine(
    prior: Prior,
    body: SMPL,
    regressor: Float[Array, "19 V"],
    estimate: Estimate,
    features: Float[Array, "N F"],
    keypoints: Keypoints2D,
    camera: Camera,
    config: RefineConfig,
) -> tuple[Float[Array, "N 24 3 3"], Float[Array, "N 3"]]:
    """Refines N images on 2D keypoints, without early stopping.

    Args:
        prior: without shape.
        body: with SMPL's landmarks.
        regressor: [19, V] the keypoints after OpenPose's 25.
        estimate, camera: [N].
        features: [N, F].
        keypoints: [N, 44].
        config: its iterations, start, step and camera_rate count.
    Returns:
        Pose [N, 24, 3, 3] and translation [N, 3].
    """
    table = jax.tree.map(jnp.asarray, prior.schedule)
    times = jnp.arange(0, config.start + 1, config.step)

    def predict_noise(x: Array, t: Array) -> Array:
        return prior.network.noise(prior.params, x, jnp.full(len(x), t), features)

    def predict_x_0(x: Array, t: Array, noise: Array) -> Array:
        return table.sqrt_recip[t] * x - table.sqrt_recip_minus_one[t] * noise

    def move(x_0: Array, noise: Array, t: Array) -> Array:
        a = table.alphas_cumprod[t]
        return jnp.sqrt(a) * x_0 + jnp.sqrt(1 - a) * noise

    def invert(x: Array, pair: tuple[Array, Array]) -> tuple[Array, None]:
        noise = predict_noise(x, pair[0])
        return move(predict_x_0(x, pair[0], noise), noise, pair[1]), None

    def guide(state: _State, pair: tuple[Array, Array]) -> tuple[_State, None]:
        t, target = pair
        noise = predict_noise(state.x, t)

        def loss(x: Array, translation: Array) -> Array:
            pose = x_to_rotations(predict_x_0(x, t, noise))
            joints = keypoints_44(body, regressor, pose, estimate.betas) + translation[:, None]
            pixels = joints[..., :2] / joints[..., 2:] * camera.focal[:, None]
            squared = (pixels + camera.center[:, None] - keypoints.xy) ** 2
            robust = _SIGMA**2 * squared / (_SIGMA**2 + squared)
            scale = 1000 / camera.image_size.max(-1)
            return jnp.sum(scale**2 * (keypoints.confidence[..., None] ** 2 * robust).sum((1, 2)))

        slope, camera_slope = jax.grad(loss, (0, 1))(state.x, state.camera)
        steps = state.steps + 1
        first = 0.9 * state.first_moment + 0.1 * camera_slope
        second = 0.999 * state.second_moment + 0.001 * camera_slope**2
        size = jnp.sqrt(second / (1 - 0.999**steps)) + 1e-8
        moved = state.camera - config.camera_rate * first / (1 - 0.9**steps) / size
        noise = noise + table.sqrt_one_minus[t] * KEYPOINT_WEIGHT * slope
        x_0 = predict_x_0(state.x, t, noise)
        return _State(move(x_0, noise, target), x_0, moved, first, second, steps), None

    def one_round(state: _State, _: None) -> tuple[_State, None]:
        x, _ = jax.lax.scan(invert, state.x, (times[:-1], times[1:]))
        return jax.lax.scan(guide, state._replace(x=x), (times[:0:-1], times[-2::-1]))

    x, still = rotations_to_x(estimate.pose), jnp.zeros_like(estimate.translation)
    state = _State(x, x, estimate.translation, still, still, jnp.zeros((), jnp.int32))
    state, _ = jax.lax.scan(one_round, state, None, config.iterations)
    return x_to_rotations(state.x_0), state.camera


def keypoints_44(
    body: SMPL,
    regressor: Float[Array, "19 V"],
    pose: Float[Array, "N 24 3 3"],
    betas: Float[Array, "N 10"],
) -> Float[Array, "N 44 3"]:
    """Works the 44 keypoints out by way of the whole mesh, metres."""
    n, vertices = len(pose), len(body.template)
    directions = body.shape_directions.reshape(vertices * 3, -1)
    shaped = body.template + (betas @ directions.T).reshape(n, vertices, 3)
    rest = body.joint_regressor @ shaped
    changes = (pose[:, 1:] - jnp.eye(3)).reshape(n, -1)
    directions = body.pose_directions.reshape(vertices * 3, -1)
    posed = shaped + (changes @ directions.T).reshape(n, vertices, 3)

    offsets = rest - rest[:, PARENTS, :].at[:, 0].set(0)
    top = jnp.concatenate([pose, offsets[..., None]], axis=-1)
    bottom = jnp.broadcast_to(jnp.array([0.0, 0, 0, 1]), (n, 24, 1, 4))
    local = jnp.concatenate([top, bottom], axis=-2)
    world = [local[:, 0]]
    for joint, parent in list(enumerate(PARENTS))[1:]:
        world.append(world[parent] @ local[:, joint])
    frames = jnp.stack(world, axis=1)
    rotations, joints = frames[..., :3, :3], frames[..., :3, 3]
    shifts = joints - jnp.einsum("njrc,njc->njr", rotations, rest)
    bones = jnp.concatenate([rotations, shifts[..., None]], axis=-1)
    blended = (body.skin_weights @ bones.reshape(n, 24, 12)).reshape(n, vertices, 3, 4)
    mesh = jnp.einsum("nvrc,nvc->nvr", blended[..., :3], posed) + blended[..., 3]

    landmarks = np.array([vertex for _, vertex in body.landmarks])
    joints_45 = jnp.concatenate([joints, mesh[:, landmarks]], axis=1)
    openpose = joints_45[:, np.array([SMPL_45.index(name) for name in OPENPOSE_25])]
    return jnp.concatenate([openpose, regressor @ mesh], axis=1)
