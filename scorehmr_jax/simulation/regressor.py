"""A simulated regression network, which gives first estimates.

A network is trained to agree with the image, so its error hides in depth: its body reprojects to
within one to three per cent of the person's box while its joints are centimetres off. A true pose
is therefore first corrupted by rotation errors, correlated along limbs and over time, with a
wrong shape and distance, and then fitted to the projection of a slightly wrong body, with a pull
towards the corrupted pose.
"""

from dataclasses import field
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Key, Real

from body_model.joints import JOINT_NAMES
from body_model.pytree import pytree
from body_model.rotations import axis_angle_to_matrix, matrix_to_6d, six_d_to_matrix
from body_model.skeleton import Skeleton
from scorehmr_jax.camera import project
from scorehmr_jax.simulation.clip_noise import smooth_noise
from scorehmr_jax.types import Array, Camera, Estimate, Number

# The joints of each limb, and how much a network errs at them, relative to a hip.
_MOBILITY = {
    "trunk": {"pelvis": 0.5, "spine1": 0.4, "spine2": 0.4, "spine3": 0.4, "neck": 0.6, "head": 0.7},
    "leg": {"hip": 1.0, "knee": 1.0, "ankle": 0.9, "foot": 0.4},
    "arm": {"collar": 0.5, "shoulder": 1.2, "elbow": 1.3, "wrist": 0.9, "hand": 0.2},
}
_LIMBS = ("left_leg", "right_leg", "trunk", "left_arm", "right_arm")


def _limb_and_mobility(joint: str) -> tuple[int, float]:
    """Looks up the number of a joint's limb, and its mobility."""
    side, _, part = joint.rpartition("_")
    kind = next(kind for kind, parts in _MOBILITY.items() if part in parts)
    return _LIMBS.index(f"{side}_{kind}" if side else kind), _MOBILITY[kind][part]


_LIMB_OF_JOINT, _MOBILITY_OF_JOINT = map(
    np.array, zip(*map(_limb_and_mobility, JOINT_NAMES), strict=True)
)


@pytree
class Regressor:
    """The errors of a simulated network. All but the integers may be traced."""

    # Standard deviation of joint rotations before the fit, radians about each axis at a hip,
    rotation: Number
    image_rotation: Number  # and of those of the body whose projection is fitted
    limb_correlation: Number = 0.7  # share of the variance that a limb's joints have in common
    jitter: Number = 0.01  # share of the variance that is new in every frame
    betas: Number = 0.7  # standard deviation of each shape number's error
    depth: Number = 0.05  # of the distance's error before the fit, over the distance
    pull: Number = 1.0  # weight of the corrupted pose in the fit
    # Frames over which errors persist: standard deviation of a Gaussian window.
    correlation_frames: int = field(default=10, metadata={"static": True})
    steps: int = field(default=60, metadata={"static": True})  # of Adam


# By mean PA-MPJPE over the 24 joints: about 85, 55 and 35 mm; they reproject to about 2.4, 1.5 and
# 1.2% of the box side. Checked by `python -m benchmarks.open --check-realism`.
REGRESSORS = {
    "weak": Regressor(rotation=0.425, image_rotation=0.045, jitter=0.025),
    "medium": Regressor(rotation=0.26, image_rotation=0.03, jitter=0.07),
    "strong": Regressor(rotation=0.13, image_rotation=0.025, jitter=0.11),
}
_LEARNING_RATE = 0.03


@jax.jit
def simulate_estimates(
    key: Key[Array, ""],
    skeleton: Skeleton,
    pose: Float[Array, "N 24 3 3"],
    betas: Float[Array, "N B"],
    translation: Float[Array, "N 3"],
    camera: Camera,
    regressor: Regressor,
    clip_index: Int[Array, " N"] | None = None,
) -> Estimate:
    """Simulates a regression network's first estimate of these people.

    Args:
        key: PRNG key.
        skeleton: its keypoints are those that the fit sees; the presets suit OPENPOSE_25.
        pose: [N, 24, 3, 3] true rotations; the root's in the camera frame.
        betas: [N, 10] true shape.
        translation: [N, 3] true translation to the camera frame, metres.
        camera: of N samples.
        regressor: one of `REGRESSORS`, or your own.
        clip_index: [N] equal for the frames of one clip, which are contiguous and in order; None
            makes the errors of all frames independent.
    Returns:
        The estimate of N samples.
    """
    count, dtype = pose.shape[0], pose.dtype
    keys = jax.random.split(key, 4)
    noise = partial(
        smooth_noise,
        clip_index=clip_index,
        frames=regressor.correlation_frames,
        jitter=regressor.jitter,
    )

    mobility = jnp.asarray(_MOBILITY_OF_JOINT, dtype)[None, :, None]

    @jax.vmap  # both at once: the compiler makes half as much code
    def corrupted(key: Array, sigma: Array) -> Array:
        common, own = jnp.split(noise(key, (count, len(_LIMBS) + 24, 3)), [len(_LIMBS)], axis=1)
        share = regressor.limb_correlation
        error = jnp.sqrt(share) * common[:, _LIMB_OF_JOINT] + jnp.sqrt(1 - share) * own
        turn = axis_angle_to_matrix((sigma * mobility * error).astype(dtype))
        with jax.default_matmul_precision("float32"):
            return turn @ pose

    sizes = jnp.stack([regressor.image_rotation, regressor.rotation]).astype(dtype)
    imaged, start = corrupted(keys[:2], sizes)
    seen = project(skeleton(imaged, betas, translation), camera)
    betas = betas + regressor.betas * noise(keys[2], betas.shape).astype(dtype)
    depth = jnp.exp(regressor.depth * noise(keys[3], (count, 1)).astype(dtype))
    pose, translation = _fit(skeleton, start, betas, translation * depth, camera, seen, regressor)
    return Estimate(pose, betas, translation)


def _fit(
    skeleton: Skeleton,
    pose: Float[Array, "N 24 3 3"],
    betas: Float[Array, "N B"],
    translation: Float[Array, "N 3"],
    camera: Camera,
    seen: Float[Array, "N K 2"],
    regressor: Regressor,
) -> tuple[Float[Array, "N 24 3 3"], Float[Array, "N 3"]]:
    """Finds a pose and a translation near a start that project onto given points."""
    size = box_size(seen)
    start = matrix_to_6d(pose), jnp.zeros_like(translation)

    def body(x: tuple[Array, Array]) -> tuple[Array, Array]:
        # Steps in metres suit a person a few metres away; scaled, they suit any distance.
        return six_d_to_matrix(x[0]), translation + x[1] * translation[:, 2:]

    def loss(x: tuple[Array, Array]) -> Array:
        moved, shifted = body(x)
        error = (project(skeleton(moved, betas, shifted), camera) - seen) / size[:, None, None]
        pull = jnp.square(x[0] - start[0]).sum()
        return 1e4 * jnp.square(error).mean(1).sum() + regressor.pull * pull

    def step(state, i: Array):
        x, first, second = state
        gradient = jax.grad(loss)(x)
        rate = _LEARNING_RATE * jnp.minimum(1.0, 2 * (1 - i / regressor.steps))
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradient)
        second = jax.tree.map(lambda v, g: 0.99 * v + 0.01 * g**2, second, gradient)
        scale = rate * jnp.sqrt(1 - 0.99 ** (i + 1)) / (1 - 0.9 ** (i + 1))
        x = jax.tree.map(lambda a, m, v: a - scale * m / (jnp.sqrt(v) + 1e-8), x, first, second)
        return (x, first, second), None

    zeros = jax.tree.map(jnp.zeros_like, start)
    (x, _, _), _ = jax.lax.scan(
        step, (start, zeros, zeros), jnp.arange(regressor.steps, dtype=pose.dtype)
    )
    return body(x)


def box_size(xy: Real[Array, "*N K 2"]) -> Real[Array, "*N"]:
    """Measures a square box around points that is a fifth larger than they are.

    Args:
        xy: [N, K, 2] pixels.
    Returns:
        [N] its side, pixels.
    """
    return 1.2 * (xy.max(-2) - xy.min(-2)).max(-1)
