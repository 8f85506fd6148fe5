"""ProHMR's fitting: the pose moves in the latent space of a conditional flow.

What is made small is the evidence, minus the log-density of the pose given the image, and the size
of the shape numbers. With views of a person the evidence holds ProHMR's term of agreement, with the
frames of a video the term of smoothness that ScoreHMR's authors added to it.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from body_model import SMPL, Skeleton
from body_model.pytree import pytree
from scorehmr_jax.baselines.fitting import Fitting, descend, solve
from scorehmr_jax.guidance import KEYPOINT_WEIGHT
from scorehmr_jax.networks.flow import ConditionalFlow, normal_log_prob
from scorehmr_jax.networks.protocol import POSE_DIM
from scorehmr_jax.prior import rotations_to_x, x_to_rotations
from scorehmr_jax.types import Array, Estimate, Info, Number, Refined


@pytree
class ProhmrWeights:
    """What the fitting adds to the evidence, in units of squared pixels: ProHMR's by default."""

    pose: Number = 2 * 4.0**2  # of minus the log-density, of which |z|^2 / 2 is a part
    shape: Number = 6.0**2  # of the squared shape numbers
    all: Number = 1.0  # times both


@dataclass(frozen=True)
class ProhmrConfig:
    """The schedule. All static: another configuration compiles anew."""

    steps: int = 150
    solver: str = "adam"  # or "lbfgs", as the released has it, of which `steps` counts evaluations
    rate: float = 0.02  # Adam's step for every number
    start: str = "mode"  # where the pose starts: the latent 0, as ProHMR does; or "estimate"

    def __post_init__(self) -> None:
        if self.solver not in ("adam", "lbfgs"):
            raise ValueError(f"solver: expected adam or lbfgs, found {self.solver!r}")
        if self.start not in ("estimate", "mode"):
            raise ValueError(f"start: expected estimate or mode, found {self.start!r}")
        if self.steps < 1 or not self.rate > 0:
            raise ValueError(
                f"expected steps >= 1 and rate > 0, found {self.steps} and {self.rate}"
            )


_RELEASED = ProhmrWeights()


def prohmr_fitting(
    flow: tuple[ConditionalFlow, Any],
    body: SMPL | Skeleton,
    estimate: Estimate,
    features: Float[Array, "... F"] | None,
    terms: Any,
    config: ProhmrConfig = ProhmrConfig(),
    mask: Array | None = None,
    *,
    weights: ProhmrWeights = _RELEASED,
) -> tuple[Refined, Info]:
    """Fits bodies to the evidence in the latent space of a conditional flow.

    Args:
        flow: sizes and weights, from `load_flow`.
        body, estimate, terms, mask: as for `refine`.
        features: [..., N, F] that the flow is conditioned on; None: the estimate's pose in 6D, as
            the shipped flow wants it.
        config: steps, solver and start.
        weights: of the priors.
    Returns:
        As `refine`. Derivatives by the flow's weights exist, too.
    Raises:
        ValueError: if shapes do not fit, or features have another width than the flow's.
    """
    sizes, params = flow
    with jax.default_matmul_precision("float32"):
        fitting = Fitting.of(body, estimate, terms, mask)
        first = rotations_to_x(fitting.clean.pose)
        told = _told(sizes, features, first)
        folded = sizes.fold(params, told)
        latent = folded.encode(first)[0] if config.start == "estimate" else jnp.zeros_like(first)
        parts = latent, fitting.clean.betas, fitting.clean.translation
        unit = KEYPOINT_WEIGHT * weights.all
        # Views' agreement says nothing of the shape, which would be pulled to the mean unopposed.
        shape = weights.shape if any(term.measures for term in fitting.terms) else 0.0

        def objective(numbers: Array) -> tuple[Array, Array]:
            z, betas = numbers[..., :POSE_DIM], numbers[..., POSE_DIM:-3]
            x, log_det = folded.decode(z)
            values, losses, counted = fitting.losses(x_to_rotations(x), betas, numbers[..., -3:], x)
            unlikely = -normal_log_prob(z, -log_det)
            priors = weights.pose * unlikely + shape * (betas**2).sum(-1)
            return values + jnp.where(counted, unit * priors, 0), losses

        numbers: Array = jnp.concatenate(parts, axis=-1)
        if config.solver == "adam":
            rates = jnp.full(numbers.shape[-1], config.rate, numbers.dtype)
            numbers, losses = descend(objective, numbers, rates, config.steps)
        else:
            numbers, losses = solve(objective, numbers, config.steps, fitting.coupled)
        x = folded.decode(numbers[..., :POSE_DIM])[0]
        found = Refined(x_to_rotations(x), numbers[..., POSE_DIM:-3], numbers[..., -3:], x)
        return fitting.settled(found, losses)


def _told(sizes: ConditionalFlow, features: Array | None, first: Array) -> Array:
    """The features, with harmless numbers where they are not finite; or the estimate itself."""
    if features is None:
        if sizes.features != first.shape[-1]:
            raise ValueError(
                f"features: this flow needs those of the image [..., {sizes.features}]; found none"
            )
        return first
    if features.shape[-1] != sizes.features:
        raise ValueError(f"features: expected [..., {sizes.features}], found {jnp.shape(features)}")
    features = jnp.asarray(features, first.dtype)
    return jnp.where(jnp.isfinite(features), features, 0)
