"""ScoreHMR-a of the paper: SPIN fits, ProHMR's image features.

    python train.py scorehmr-a --workdir runs/scorehmr-a --steps 1000000 --data DIR

The paper's figure with it: 3DPW PA-MPJPE 52.4 mm, refined from HMR 2.0b's 54.3.
DIR holds the sets that `scorehmr build-data scorehmr-a --data-root data --out DIR` builds.
"""

from dataclasses import replace

from configs.scorehmr_b import config as b
from scorehmr_jax.datasets.mixtures import MIXTURES
from scorehmr_jax.formats.backbones import BACKBONES
from scorehmr_jax.networks.denoiser import ResidualMLP

config = replace(
    b,
    network=ResidualMLP(features=BACKBONES["prohmr"].width),
    mixture=tuple(MIXTURES["scorehmr-a"].items()),
)
