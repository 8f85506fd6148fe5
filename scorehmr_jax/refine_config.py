"""How a refinement goes: its loop, its weights, and what is kept of it."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Int

from scorehmr_jax.blending import FixedShares, GatedShares, KeepAll, MeanOfViews, SmoothedEstimate
from scorehmr_jax.denoised_fit import DenoisedFit
from scorehmr_jax.diffusion import ddim_times
from scorehmr_jax.stopping import Never, StepStop

# The `largest_person` of our own loops, whose long steps would overshoot on people who fill the
# picture.
_LARGEST = 250.0


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
    # Descent on the evidence before the rounds start.
    denoised_fit: DenoisedFit | None = None

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
        if not isinstance(self.denoised_fit, DenoisedFit | None):
            raise ValueError(f"denoised_fit: expected a DenoisedFit, found {self.denoised_fit!r}")
        least = 1 if self.denoised_fit is None else 0
        if self.iterations < least or self.step < 1 or self.start < 1 or self.start % self.step:
            raise ValueError(
                f"expected iterations >= {least}, step >= 1 and start a multiple of step, found "
                f"iterations={self.iterations}, start={self.start}, step={self.step}"
            )
        if self.stop.stops and not self.iterations:
            raise ValueError(
                f"stop: expected Never() where there are no rounds, found {self.stop!r}"
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

        It is this library's own, for terms of the paper's weights: a fit that the denoiser holds,
        then rounds of longer steps, which let the prior itself correct the pose, and a result that
        stays the nearer to the estimate the less the refinement moved it. The numbers of all our
        loops were chosen on simulated networks, with motion that the shipped priors were not
        trained on (benchmarks/RESULTS.md).

        Args:
            lifted: True for estimates that `lift` made of 3D points, which err in other ways than
                a network that saw the picture: take the prior `open-uncond` with it.
            changes: fields that are to differ from it.
        """
        if lifted:
            own = cls(
                iterations=0,
                denoised_fit=DenoisedFit(prior=10.0, pull=5.0, pull_reach=0.3),
                blend=GatedShares(
                    distance=0.018,
                    power=0.8,
                    misfit_power=12.8,
                    depth_power=3.3,
                    root_least=0.3,
                    root_factor=1.0,
                ),
                largest_person=_LARGEST,
            )
        else:
            own = cls(
                iterations=5,
                step=10,
                guidance_scale=0.5,
                denoised_fit=DenoisedFit(prior=15.0, pull=5.0, pull_reach=0.2),
                blend=GatedShares(
                    distance=0.095,
                    power=2.0,
                    misfit_power=4.0,
                    depth_power=3.0,
                    most=0.95,
                    root_least=0.3,
                    root_factor=1.0,
                ),
                largest_person=_LARGEST,
            )
        return replace(own, **changes)

    @classmethod
    def for_video(cls, *, lifted: bool = False, **changes: Any) -> "RefineConfig":
        """The loop for the frames of a video, with `smooth` among the terms.

        Args:
            lifted, changes: as `for_images` has them.
        """
        anchor = SmoothedEstimate()
        if lifted:
            own = cls(
                iterations=0,
                denoised_fit=DenoisedFit(prior=10.0, pull=3.0, pull_reach=0.5),
                blend=FixedShares(body=0.9, root=1.0, anchor=anchor),
                largest_person=_LARGEST,
            )
        else:
            shares = GatedShares(
                distance=0.08,
                power=1.0,
                misfit_power=3.0,
                depth_power=2.0,
                root_least=0.2,
                root_factor=1.0,
                frames=10.0,
                anchor=anchor,
            )
            own = cls(
                iterations=5,
                step=10,
                denoised_fit=DenoisedFit(prior=20.0, pull=7.0, pull_reach=0.5),
                blend=shares,
                largest_person=_LARGEST,
            )
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
