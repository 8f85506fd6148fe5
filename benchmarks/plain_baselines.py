"""The fitting baselines written down as they read: every step in full, no shortcut.

The whole mesh is made at every step, the flow inverts its triangles and multiplies by the features
each time, and the optimiser is optax's. Adam on keypoints alone, as all of them have it by default.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.linalg import solve_triangular
from jaxtyping import Float

from benchmarks.plain import keypoints_44
from body_model import SMPL
from body_model.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from scorehmr_jax.baselines.registry import DPOSER
from scorehmr_jax.baselines.smplify import SmplifyConfig, SmplifyWeights
from scorehmr_jax.denoised_steps import noises_of
from scorehmr_jax.guidance import KEYPOINT_WEIGHT, SMOOTH_WEIGHT
from scorehmr_jax.networks.flow import ConditionalFlow
from scorehmr_jax.prior import Prior, rotations_to_x, x_to_rotations
from scorehmr_jax.refine_config import RefineConfig
from scorehmr_jax.types import Array, Camera, Estimate, Keypoints2D

_SIGMA = 100.0  # of the robust error, pixels
_TORSO = np.array([2, 5, 9, 12])  # of OpenPose's 25

Bodies = tuple[Float[Array, "N 24 3 3"], Float[Array, "N 3"]]


class Plain:
    """The evidence of N images, by way of the whole mesh."""

    def __init__(
        self,
        body: SMPL,
        regressor: Float[Array, "19 V"],
        estimate: Estimate,
        keypoints: Keypoints2D,
        camera: Camera,
    ) -> None:
        self.body, self.regressor, self.estimate = body, regressor, estimate
        self.keypoints, self.camera = keypoints, camera

    def evidence(self, pose: Array, betas: Array, translation: Array, torso: bool = False) -> Array:
        """The sum of robust squared pixels, unweighted."""
        joints = keypoints_44(self.body, self.regressor, pose, betas) + translation[:, None]
        pixels = joints[..., :2] / joints[..., 2:] * self.camera.focal[:, None]
        squared = (pixels + self.camera.center[:, None] - self.keypoints.xy) ** 2
        robust = _SIGMA**2 * squared / (_SIGMA**2 + squared)
        confidence = self.keypoints.confidence
        if torso:
            confidence = confidence * np.isin(np.arange(44), _TORSO)
        scale = 1000 / self.camera.image_size.max(-1)
        return jnp.sum(scale**2 * (confidence[..., None] ** 2 * robust).sum((1, 2)))


def descend(
    loss: Callable[..., Array], free: Any, rates: dict[str, float], steps: int, *rows: Array
) -> Any:
    """Goes down a loss by optax's Adam, a rate for each part of what is free."""
    makers = {name: optax.adam(rate) for name, rate in rates.items()}
    optimizer = optax.multi_transform(makers, {name: name for name in free})

    def step(state: Any, row: Any) -> tuple[Any, None]:
        free, memory = state
        slope = jax.grad(loss)(free, *row)
        change, memory = optimizer.update(slope, memory)
        return (optax.apply_updates(free, change), memory), None

    state = free, optimizer.init(free)
    return jax.lax.scan(step, state, rows, length=steps)[0][0]


def adam(plain: Plain, pull: float, part: float = 1) -> Bodies:
    """Adam with a pull to the estimate; `part` of its steps, here and below."""
    steps = round(part * 150)
    estimate = plain.estimate
    start = rotations_to_x(estimate.pose)

    def loss(free: dict[str, Array]) -> Array:
        seen = plain.evidence(x_to_rotations(free["x"]), estimate.betas, free["place"])
        return KEYPOINT_WEIGHT * seen + pull * jnp.square(free["x"] - start).sum()

    free = descend(
        loss, {"x": start, "place": estimate.translation}, {"x": 0.02, "place": 0.01}, steps
    )
    return x_to_rotations(free["x"]), free["place"]


def smplify(
    plain: Plain,
    mixture: dict[str, np.ndarray],
    weights: SmplifyWeights,
    temporal: bool = False,
    part: float = 1,
) -> Bodies:
    """SMPLify in two runs of Adam; `mixture` has the keys of SMPLify's file."""
    estimate, config = plain.estimate, SmplifyConfig()

    def shape(free: dict[str, Array]) -> Array:
        betas = free["betas"]
        return jnp.broadcast_to(betas.mean(0), betas.shape) if temporal else betas

    def smoothness(pose: Array) -> Array:
        return SMOOTH_WEIGHT * jnp.square(jnp.diff(rotations_to_x(pose), axis=0)).sum() * temporal

    precisions = jnp.asarray(np.linalg.inv(mixture["covars"].astype(float)), jnp.float32)
    roots = np.sqrt(np.linalg.det(mixture["covars"].astype(float)))
    share = mixture["weights"] / ((2 * np.pi) ** 34.5 * roots / roots.min())

    def pose_of(free: dict[str, Array]) -> Array:
        angles = jnp.concatenate([free["turn"][:, None], free["angles"].reshape(-1, 23, 3)], 1)
        pose = axis_angle_to_matrix(angles)
        return pose.at[:, 0].set(pose[:, 0] @ estimate.pose[:, 0])

    def placing(free: dict[str, Array]) -> Array:
        seen = plain.evidence(pose_of(free), shape(free), free["place"], torso=True)
        away = free["place"][:, 2] - estimate.translation[:, 2]
        placed = KEYPOINT_WEIGHT * (seen + weights.depth * jnp.square(away).sum())
        return placed + smoothness(pose_of(free))

    def loss(free: dict[str, Array]) -> Array:
        seen = plain.evidence(pose_of(free), shape(free), free["place"])
        off = free["angles"][:, None] - mixture["means"]
        energy = 0.5 * jnp.einsum("nci,cij,ncj->nc", off, precisions, off) - jnp.log(share)
        bent = free["angles"][:, jnp.array([52, 55, 9, 12])] * jnp.array([1.0, -1, -1, -1])
        priors = weights.pose * energy.min(1).sum()
        priors += weights.angle * jnp.square(jnp.exp(bent)).sum()
        priors += weights.shape * jnp.square(shape(free)).sum()
        return KEYPOINT_WEIGHT * (seen + weights.all * priors) + smoothness(pose_of(free))

    free = {
        "turn": jnp.zeros_like(estimate.translation),
        "angles": matrix_to_axis_angle(estimate.pose[:, 1:]).reshape(-1, 69),
        "betas": estimate.betas,
        "place": estimate.translation,
    }
    first = {"turn": config.rate, "angles": 0.0, "betas": 0.0, "place": config.rate}
    free = descend(placing, free, first, round(part * config.camera_steps))
    free = descend(loss, free, dict.fromkeys(first, config.rate), round(part * config.steps))
    return pose_of(free), free["place"]


def prohmr(plain: Plain, sizes: ConditionalFlow, params: Any, part: float = 1) -> Bodies:
    """ProHMR's fitting from the mode of an additive flow, conditioned on the estimate."""
    estimate = plain.estimate
    told = rotations_to_x(estimate.pose)

    def decode(z: Array) -> Array:
        for number in reversed(range(sizes.layers)):
            p = params[f"layers_{number}"]
            kept, moved = (z[:, ::2], z[:, 1::2]) if number % 2 == 0 else (z[:, 1::2], z[:, ::2])
            net = p["net"]

            def dense(name: str, h: Array, net: Any = net) -> Array:
                return h @ net[name]["kernel"] + net[name]["bias"]

            h = dense("input", jnp.concatenate([kept, told], 1))
            for i in range(sizes.blocks):
                inner = dense(f"blocks_{i}_linear1", jax.nn.relu(h))
                inner = dense(f"blocks_{i}_linear2", jax.nn.relu(inner))
                h = h + inner * jax.nn.sigmoid(dense(f"blocks_{i}_gate", told))
            moved = moved - dense("output", h)
            pair = (kept, moved) if number % 2 == 0 else (moved, kept)
            z = jnp.stack(pair, -1).reshape(z.shape) - p["bias"]
            lower = jnp.eye(144).at[np.tril_indices(144, -1)].set(p["lower"])
            upper = jnp.diag(jax.nn.softplus(p["diagonal"]) + 1e-3)
            upper = upper.at[np.triu_indices(144, 1)].set(p["upper"])
            z = solve_triangular(upper, solve_triangular(lower, z.T, lower=True)).T
            z = (z - p["shift"]) / jnp.exp(p["log_scale"])
        return z

    def loss(free: dict[str, Array]) -> Array:
        pose = x_to_rotations(decode(free["z"]))
        seen = plain.evidence(pose, free["betas"], free["place"])
        priors = 4.0**2 * jnp.square(free["z"]).sum() + 6.0**2 * jnp.square(free["betas"]).sum()
        return KEYPOINT_WEIGHT * (seen + priors)

    free = {"z": jnp.zeros_like(told), "betas": estimate.betas, "place": estimate.translation}
    free = descend(loss, free, dict.fromkeys(free, 0.02), round(part * 150))
    return x_to_rotations(decode(free["z"])), free["place"]


def dposer(plain: Plain, prior: Prior, weight: float, part: float = 1) -> Bodies:
    """Diffusion as a regulariser, with a prior that needs no features."""
    estimate, config = plain.estimate, DPOSER
    start, table = rotations_to_x(estimate.pose), jax.tree.map(jnp.asarray, prior.schedule)
    noises = noises_of(config, 144, start.dtype)

    def loss(free: dict[str, Array], noise: Array, t: Array) -> Array:
        seen = plain.evidence(x_to_rotations(free["x"]), estimate.betas, free["place"])
        noisy = table.sqrt[t] * free["x"] + table.sqrt_one_minus[t] * noise
        found = prior.network.noise(prior.params, noisy, jnp.full(len(noisy), t), None)
        target = table.sqrt_recip[t] * noisy - table.sqrt_recip_minus_one[t] * found
        away = free["x"] - jax.lax.stop_gradient(target)
        return KEYPOINT_WEIGHT * seen + weight * table.sqrt[t] * jnp.square(away).sum()

    steps = round(part * config.steps)
    rows = noises[:steps], jnp.asarray(config.times[:steps])
    free = {"x": start, "place": estimate.translation}
    rates = {"x": config.rate, "place": RefineConfig().camera_rate}
    free = descend(loss, free, rates, steps, *rows)
    return x_to_rotations(free["x"]), free["place"]
