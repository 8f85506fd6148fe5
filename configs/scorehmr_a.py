"""ScoreHMR-a of the paper: SPIN fits, ProHMR's image features.

    python train.py scorehmr-a --workdir runs/scorehmr-a --steps 1000000 --data DIR

The paper's figure with it: 3DPW PA-MPJPE 52.4 mm, refined from HMR 2.0b's 54.3.
The annotations are not connected to train.py yet: it says so and stops.
"""

from dataclasses import replace

from configs.scorehmr_b import config as b
from scorehmr_jax.denoiser import DenoiserConfig

config = replace(
    b,
    denoiser=DenoiserConfig(features=2048),
    mixture=(("h36m_train_mosh", 0.5), ("coco_train_spin", 0.3), ("mpi_inf_3dhp_train_spin", 0.2)),
    backbone="prohmr",
)
