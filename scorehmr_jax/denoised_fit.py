"""Another way to refine with the same prior: descent on the evidence, held by the denoiser.

The paper samples under guidance. Here the body goes down the losses of the evidence by Adam, and
towards what the denoiser makes of it in one step from a noise level, which falls as the fit goes on
(regularisation by denoising, as in Mardani et al., 2023, and DPoser, Lu et al., 2023). What it
makes of it changes slowly, so the denoiser need not be asked at every step.
A pull to the first estimate weakens with the distance, as that of Student's t does: an estimate
that is a little off is held, one that is far off is let go.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int


@dataclass(frozen=True)
class DenoisedFit:
    """The schedule and the weights. All static: another one compiles anew."""

    steps: int = 100  # of Adam
    denoise_every: int = 2  # steps that go towards one answer of the denoiser
    highest: int = 80  # noise level of the first answer
    lowest: int = 5  # and of the last; in between it falls evenly
    # Weight of the squared distance in 6D to what the denoiser makes of x, times sqrt(a_t).
    prior: float = 30.0
    pull: float = 10.0  # weight of the squared distance in 6D to the first estimate
    # Distance in 6D, of all joints but the root, beyond which they are pulled less; None: nowhere.
    pull_reach: float | None = 0.2
    rate: float = 0.04  # Adam's step for the pose
    seed: int = 0  # of the noise

    def __post_init__(self) -> None:
        if not 0 < self.lowest <= self.highest or self.steps < 1:
            raise ValueError(
                "expected 0 < lowest <= highest and steps >= 1, found "
                f"{self.lowest}, {self.highest} and {self.steps}"
            )
        if self.denoise_every < 1 or self.steps % self.denoise_every:
            raise ValueError(
                f"denoise_every: expected a divisor of the {self.steps} steps, found "
                f"{self.denoise_every}"
            )
        for name in ("prior", "pull"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name}: expected 0 or more, found {getattr(self, name)}")
        if self.pull_reach is not None and not 1e-6 <= self.pull_reach < float("inf"):
            raise ValueError(f"pull_reach: expected 1e-6 or more, found {self.pull_reach}")
        if not 0 < self.rate < float("inf"):
            raise ValueError(f"rate: expected a number above 0, found {self.rate}")

    @property
    def times(self) -> Int[np.ndarray, " answers"]:
        """The noise level of each answer of the denoiser."""
        count = self.steps // self.denoise_every
        return np.linspace(self.highest, self.lowest, count).round().astype(int)
