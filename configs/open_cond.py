"""The shipped prior that is conditioned on the estimate itself: on its pose in 6D.

    python train.py open-cond --workdir runs/open-cond --steps 6000 --data DIR

Validation losses by band of levels to expect: 0.70, 0.32, 0.14, 0.045, 0.013.
"""

from dataclasses import replace

from configs.open_uncond import config as unconditional
from scorehmr_jax.networks.denoiser import ResidualMLP

config = replace(
    unconditional,
    network=ResidualMLP(features=144, hidden=256),
    condition_on="estimate",
    estimates_per_frame=2,
    # Tried with, and behind on val and DeepMimic's clips (benchmarks/RESULTS.md).
    more_mocap=(),
    roll=0.0,
)
