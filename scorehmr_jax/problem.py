"""The prior and body made ready for a refinement, and its samples."""

from dataclasses import field, replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from body_model import SMPL, Skeleton
from body_model.pytree import pytree
from scorehmr_jax.checks import check_units, checked_estimate, checked_mask
from scorehmr_jax.diffusion import single_at_least
from scorehmr_jax.prior import Prior
from scorehmr_jax.refine_config import DEFAULTS, RefineConfig
from scorehmr_jax.screening import OK, screen
from scorehmr_jax.terms import Term, as_terms
from scorehmr_jax.types import Array, Estimate


@pytree
class Setup:
    """A prior and a body, made ready for the loop: all that no estimate is needed for."""

    prior: Prior  # without its weights
    network: Any  # with them, prepared
    modulations: Any  # what the network knows of the levels; leaves [S + 1, ...]
    fit_modulations: Any  # of those of the denoised fit; None: there is none
    skeleton: Skeleton
    config: RefineConfig = field(metadata={"static": True})

    @classmethod
    def of(cls, prior: Prior, body: SMPL | Skeleton, config: RefineConfig = DEFAULTS) -> "Setup":
        """Prepares a prior and a body.

        Args:
            prior: from `load_prior`.
            body: the skeleton whose keypoints the terms speak of; an SMPL body stands for its
                OpenPose-25 skeleton.
            config: the schedule of the loop.
        Raises:
            ValueError: if the prior has fewer levels than the loop starts at, or a shape of its
                own beside the loop's shape_rate.
        """
        fit = config.denoised_fit
        highest = {"start": config.start} if config.iterations else {}
        if fit is not None:
            highest["denoised_fit.highest"] = fit.highest
        for name, level in highest.items():
            if level >= prior.schedule.num_steps:
                raise ValueError(
                    f"{name}: this prior has levels below {prior.schedule.num_steps}, found {level}"
                )
        if config.shape_rate and prior.network.with_shape:
            raise ValueError("shape_rate: this prior refines the shape itself; expected 0")
        skeleton = body if isinstance(body, Skeleton) else Skeleton.of(body)
        with jax.default_matmul_precision("float32"):
            network = prior.prepare()
            modulations = network.modulation(jnp.asarray(config.times))
            of_fit = None if fit is None else network.modulation(jnp.asarray(fit.times))
        return cls(replace(prior, params=None), network, modulations, of_fit, skeleton, config)


@pytree
class Problem:
    """Samples to refine and what guides them: all that a guided step reads and never changes."""

    setup: Setup
    estimate: Estimate  # [..., N] the first; harmless numbers where there is nothing to refine
    first_x: Float[Array, "*N D"]  # the estimate as the diffusion has it
    condition: Any  # what the network knows of the features
    terms: tuple[Term, ...]
    status: Int[Array, "*N"]  # index into STATUS; those that are not 0 are not refined

    @classmethod
    def of(
        cls,
        setup: Setup,
        estimate: Estimate,
        features: Float[Array, "... F"] | None,
        terms: Any,
        mask: Array | None = None,
    ) -> "Problem":
        """Checks and screens the samples. Arguments and errors are those of `refine`."""
        prior, skeleton = setup.prior, setup.skeleton
        terms, estimate = as_terms(terms), checked_estimate(estimate, skeleton.num_betas)
        check_units(estimate, terms)
        features = prior.features_of(estimate.pose, features)
        if features is not None:  # a network sums their squares, too many for half precision
            features = features.astype(single_at_least(estimate.pose.dtype))
        mask = checked_mask(mask, estimate.pose.shape[:-3])
        # Derived from the samples, it is spread over devices as they are.
        everyone = jnp.ones_like(estimate.betas[..., 0], bool)
        mask = everyone if mask is None else jnp.broadcast_to(mask, everyone.shape)
        keep = setup.config.keep_without_evidence
        with jax.default_matmul_precision("float32"):
            estimate, features, status = screen(skeleton, estimate, features, terms, mask, keep)
            condition = setup.network.condition(features)
        if setup.config.largest_person is not None:
            terms = tuple(t.tempered(estimate, setup.config.largest_person) for t in terms)
        return cls(
            setup, estimate, prior.x_of(estimate.pose, estimate.betas), condition, terms, status
        )

    @property
    def active(self) -> Bool[Array, "*N"]:
        """True for the samples that are refined."""
        return self.status == OK

    def noise(self, x: Float[Array, "*N D"], modulation: Any) -> Float[Array, "*N D"]:
        """Predicts the noise in latents.

        Args:
            x: the latents.
            modulation: what the network knows of their level, a row of `Setup.modulations`.
        """
        setup = self.setup
        with jax.default_matmul_precision(setup.config.network_precision):
            return setup.network(x, modulation, self.condition).astype(x.dtype)
