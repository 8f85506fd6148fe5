"""Diffusion as a regulariser, in the manner of DPoser (Lu et al., 2023).

The pose goes down the evidence's losses, and at each step towards what the denoiser makes of it in
one step from a noise level that falls as the fit goes on. It is the nearest relative of the loop:
the same network says the same things, but nothing is ever sampled.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from body_model import SMPL, Skeleton
from scorehmr_jax.baselines.fitting import Fitting
from scorehmr_jax.diffusion import add_noise
from scorehmr_jax.moments import Moments, adam_step
from scorehmr_jax.networks.protocol import POSE_DIM
from scorehmr_jax.prior import Prior, rotations_to_x, x_to_rotations
from scorehmr_jax.types import Array, Estimate, Info, Number, Refined


@dataclass(frozen=True)
class DposerConfig:
    """The schedule. All static: another configuration compiles anew."""

    steps: int = 150
    pose_rate: float = 0.02  # Adam's step for the 6D pose
    camera_rate: float = 0.01  # Adam's step for the camera translation, metres
    highest: int = 80  # noise level of the first step
    lowest: int = 10  # and of the last; in between it falls evenly
    seed: int = 0  # of the noise

    def __post_init__(self) -> None:
        if not 0 < self.lowest <= self.highest or self.steps < 1:
            raise ValueError(
                "expected 0 < lowest <= highest and steps >= 1, found "
                f"{self.lowest}, {self.highest} and {self.steps}"
            )


def dposer(
    prior: Prior,
    body: SMPL | Skeleton,
    estimate: Estimate,
    features: Array | None,
    terms: Any,
    weight: Number = 30.0,
    config: DposerConfig = DposerConfig(),
    mask: Array | None = None,
) -> tuple[Refined, Info]:
    """Fits bodies to the evidence with a diffusion prior as regulariser.

    Minimises the weighted terms plus weight * w_t |x - x_0(x_t)|^2 over the pose x in 6D and the
    camera translation, where x_t is x with the noise of level t, x_0(x_t) the denoiser's mean of
    x_0, which counts as a constant, and w_t = sqrt(a_t), which trusts high levels less.

    Args:
        prior: without shape; nothing is known of the shape.
        body, estimate, features, terms, mask: as for `refine`.
        weight: of the regulariser. By default the best on the val split of the open benchmark.
        config: steps and noise levels.
    Returns:
        As `refine`.
    Raises:
        ValueError: if shapes do not fit, or the prior has a shape or fewer levels.
    """
    if prior.dim != POSE_DIM:
        raise ValueError(f"prior: expected one of the pose alone, found {prior.dim} numbers")
    if config.highest >= prior.schedule.num_steps:
        raise ValueError(
            f"highest: this prior has levels below {prior.schedule.num_steps}, found "
            f"{config.highest}"
        )
    levels = np.linspace(config.highest, config.lowest, config.steps).round().astype(int)
    key = jax.random.key(config.seed)
    with jax.default_matmul_precision("float32"):
        fitting = Fitting.of(body, estimate, terms, mask)
        features = prior.features_of(fitting.clean.pose, features)
        start = rotations_to_x(fitting.clean.pose)

        def loss(numbers: Array, target: Array, share: Array) -> tuple[Array, Array]:
            x, translation = numbers[..., :POSE_DIM], numbers[..., POSE_DIM:]
            pose = x_to_rotations(x)
            values, losses, counted = fitting.losses(pose, fitting.clean.betas, translation, x)
            away = jnp.where(counted[..., None], x - target, 0)
            return values.sum() + weight * share * jnp.square(away).sum(), losses

        def step(state: Any, now: tuple[Array, Array]) -> tuple[Any, Array]:
            numbers, moments = state
            taken, t = now
            x = numbers[..., :POSE_DIM]
            # One noise for all, so that a sample's result does not depend on its place in a batch.
            noise = jax.random.normal(jax.random.fold_in(key, taken), (POSE_DIM,), x.dtype)
            noisy = add_noise(prior.schedule, x, t, jnp.broadcast_to(noise, x.shape))
            target = jax.lax.stop_gradient(prior.denoise(noisy, t, features))
            share = jnp.asarray(prior.schedule.sqrt, x.dtype)[t]
            slope, losses = jax.grad(loss, has_aux=True)(numbers, target, share)
            return adam_step(numbers, moments, slope, taken, rates), losses

        rates = jnp.asarray([config.pose_rate] * POSE_DIM + [config.camera_rate] * 3, start.dtype)
        numbers = jnp.concatenate([start, fitting.clean.translation], axis=-1)
        rows = jnp.arange(1, config.steps + 1), jnp.asarray(levels)
        state = numbers, Moments.at_rest(numbers)
        (numbers, _), losses = jax.lax.scan(step, state, rows)
        x = numbers[..., :POSE_DIM]
        found = Refined(x_to_rotations(x), fitting.clean.betas, numbers[..., POSE_DIM:], x)
        return fitting.settled(found, losses)
