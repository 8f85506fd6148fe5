"""ScoreHMR-b of the paper: EFT fits, PARE's pose features.

    python train.py scorehmr-b --workdir runs/scorehmr-b --steps 1000000 --data DIR

The paper's figure with it: 3DPW PA-MPJPE 51.1 mm, refined from HMR 2.0b's 54.3.
DIR holds the sets that `scorehmr build-data scorehmr-b --data-root data --out DIR` builds.
"""

from configs import TrainConfig
from scorehmr_jax.datasets.mixtures import MIXTURES
from scorehmr_jax.formats.backbones import BACKBONES
from scorehmr_jax.networks.denoiser import ResidualMLP

config = TrainConfig(
    network=ResidualMLP(features=BACKBONES["pare"].width),
    schedule="constant",
    mixture=tuple(MIXTURES["scorehmr-b"].items()),
    condition_on="features",
)
