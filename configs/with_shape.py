"""ScoreHMR-b with ten shape numbers beside the pose (the paper's Table 5).

    python train.py with-shape --workdir runs/with-shape --steps 1000000 --data DIR

The pose stream is that of scorehmr-b, and so is the figure to expect of the pose. Refining the
shape as well is the paper's Table 5.
DIR holds the sets that `scorehmr build-data scorehmr-b-shape --data-root data --out DIR` builds.
"""

from dataclasses import replace

from configs.scorehmr_b import config as b
from scorehmr_jax.datasets.mixtures import MIXTURES
from scorehmr_jax.formats.backbones import BACKBONES
from scorehmr_jax.networks.denoiser import ResidualMLP

POSE = BACKBONES["pare"].width  # features that the pose stream sees

config = replace(
    b,
    network=ResidualMLP(features=POSE, shape_features=BACKBONES["pare-shape"].width - POSE),
    mixture=tuple(MIXTURES["scorehmr-b-shape"].items()),
)
