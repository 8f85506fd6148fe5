"""The configuration of a refinement, the prior and body made ready for it, and its samples."""

from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from body_model import SMPL, Skeleton
from body_model.pytree import pytree
from scorehmr_jax.blending import FixedShares, GatedShares, KeepAll, MeanOfViews, SmoothedEstimate
from scorehmr_jax.checks import check_units, checked_estimate, checked_mask
from scorehmr_jax.diffusion import ddim_times, single_at_least
from scorehmr_jax.prior import Prior
from scorehmr_jax.screening import OK, screen
from scorehmr_jax.stopping import Never, StepStop
from scorehmr_jax.terms import Term, as_terms
from scorehmr_jax.types import Array, Estimate

# The `largest_person` of our own loops, whose long steps would overshoot on people who fill the
# picture.
_LARGEST = 250.0
# Of the loops for lifted estimates, which agree with their keypoints from the start: weights that
# keep it so, and steps from a higher level, as such estimates are farther from likely poses.
_LIFTED: dict[str, Any] = {
    "iterations": 10,
    "start": 80,
    "step": 8,
    "guidance_scale": 0.8,
    "largest_person": _LARGEST,
}
_LIFTED_SHARES: dict[str, Any] = {"distance": 0.025, "power": 2.4, "misfit_power": 2.0}


@dataclass(frozen=True)
class RefineConfig:
    """The schedule of the loop. All static: another configuration compiles anew."""

    iterations: int = 10  # rounds of inversion and guided sampling
    start: int = 50  # tau, the level to invert to
    step: int = 2  # levels between two evaluations
    stop: Never = field(
        default_factory=Never
    )  # when a sample is done: Never(), StepStop() or RoundStop()
    guidance_scale: float = 1.0  # times the weights of all terms
    # Pixels per metre, in an image of 1000, above which a person's keypoints weigh less.
    largest_person: float | None = None
    camera_rate: float = 1e-2  # Adam's step for the camera translation, metres; 0 holds it
    # Adam's step for the shape numbers; 0 holds them, as the paper does.
    shape_rate: float = 0.0
    share_shape: bool = False  # True gives one shape to all samples of a group, from their mean
    # Shares of the refinement that are kept: KeepAll(), FixedShares() or GatedShares().
    blend: KeepAll = field(default_factory=KeepAll)
    # Of the denoiser's products, as jax.default_matmul_precision names them; all else is float32.
    network_precision: str = "float32"
    # True keeps the estimate of a sample that no term has evidence about; False sends it through
    # the loop unguided, as the released code does.
    keep_without_evidence: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.stop, Never):
            raise ValueError(
                f"stop: expected a rule: Never(), StepStop() or RoundStop(), found {self.stop!r}"
            )
        if not isinstance(self.blend, KeepAll):
            raise ValueError(
                "blend: expected a rule: KeepAll(), FixedShares() or GatedShares(), found "
                f"{self.blend!r}"
            )
        if self.iterations < 1 or self.step < 1 or self.start < 1 or self.start % self.step:
            raise ValueError(
                "expected iterations >= 1, step >= 1 and start a multiple of step, found "
                f"iterations={self.iterations}, start={self.start}, step={self.step}"
            )
        if not 0 < self.guidance_scale < float("inf"):
            raise ValueError(
                f"guidance_scale: expected a number above 0, found {self.guidance_scale}"
            )
        if self.largest_person is not None and not self.largest_person > 0:
            raise ValueError(
                f"largest_person: expected a number above 0, found {self.largest_person}"
            )
        if self.shape_rate < 0 or (self.share_shape and not self.shape_rate):
            raise ValueError(
                "shape_rate: expected 0 or more, and above 0 with share_shape, found "
                f"{self.shape_rate}"
            )
        if self.share_shape and self.stop.stops:
            raise ValueError(
                "share_shape: expected stop=Never(), as a sample that stops alone would keep "
                f"another shape, found {self.stop!r}"
            )

    @classmethod
    def released(cls, **changes: Any) -> "RefineConfig":
        """The released code's behaviour for images, its early stopping included.

        Args:
            changes: fields that are to differ from it.
        """
        return replace(cls(stop=StepStop(), keep_without_evidence=False), **changes)

    @classmethod
    def for_images(cls, *, lifted: bool = False, **changes: Any) -> "RefineConfig":
        """The loop for images that have nothing to do with each other.

        It is this library's own, for terms of the paper's weights: steps over more levels, which
        let the prior itself correct the pose, lighter guidance, and a result that stays the nearer
        to the estimate the less the refinement moved it. The numbers of all three loops were chosen
        on simulated networks, with motion that the shipped priors were not trained on
        (benchmarks/RESULTS.md).

        Args:
            lifted: True for estimates that `lift` made of 3D points, which err in other ways than
                a network that saw the picture: take the prior `open-uncond` with it.
            changes: fields that are to differ from it.
        """
        if lifted:
            return replace(cls(**_LIFTED, blend=GatedShares(**_LIFTED_SHARES)), **changes)
        blend = GatedShares(distance=0.08, power=2.0, misfit_power=4.0, most=0.9)
        own = cls(
            iterations=20,
            start=50,
            step=10,
            guidance_scale=0.5,
            largest_person=_LARGEST,
            blend=blend,
        )
        return replace(own, **changes)

    @classmethod
    def for_video(cls, *, lifted: bool = False, **changes: Any) -> "RefineConfig":
        """The loop for the frames of a video, with `smooth` among the terms.

        Args:
            lifted, changes: as `for_images` has them.
        """
        if lifted:
            blend = GatedShares(**_LIFTED_SHARES, frames=10.0, anchor=SmoothedEstimate())
            return replace(cls(**_LIFTED, blend=blend), **changes)
        blend = GatedShares(
            distance=0.06, power=1.5, misfit_power=2.0, frames=10.0, anchor=SmoothedEstimate()
        )
        own = cls(iterations=20, start=50, step=10, largest_person=_LARGEST, blend=blend)
        return replace(own, **changes)

    @classmethod
    def for_views(cls, **changes: Any) -> "RefineConfig":
        """The loop for views of a person, with `multiview` among the terms; see `for_images`.

        Views tell each other's depth, so the evidence is trusted more than in single images.

        Args:
            changes: fields that are to differ from it.
        """
        own = cls(
            iterations=10,
            start=50,
            step=5,
            guidance_scale=2.0,
            largest_person=_LARGEST,
            blend=FixedShares(body=0.85, root=1.0, anchor=MeanOfViews()),
        )
        return replace(own, **changes)

    @property
    def times(self) -> Int[np.ndarray, " levels"]:
        """The levels that the loop visits: 0, step, ..., start."""
        return ddim_times(self.start, 0, self.step)


DEFAULTS = RefineConfig()


@pytree
class Setup:
    """A prior and a body, made ready for the loop: all that no estimate is needed for."""

    prior: Prior  # without its weights
    network: Any  # with them, prepared
    modulations: Any  # what the network knows of the levels; leaves [S + 1, ...]
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
        if config.start >= prior.schedule.num_steps:
            raise ValueError(
                f"start: this prior has levels below {prior.schedule.num_steps}, "
                f"found {config.start}"
            )
        if config.shape_rate and prior.network.with_shape:
            raise ValueError("shape_rate: this prior refines the shape itself; expected 0")
        skeleton = body if isinstance(body, Skeleton) else Skeleton.of(body)
        with jax.default_matmul_precision("float32"):
            network = prior.prepare()
            modulations = network.modulation(jnp.asarray(config.times))
        return cls(replace(prior, params=None), network, modulations, skeleton, config)


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
