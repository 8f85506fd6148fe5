"""ScoreHMR-b of the paper: EFT fits, PARE's pose features.

    python train.py scorehmr-b --workdir runs/scorehmr-b --steps 1000000 --data DIR

The paper's figure with it: 3DPW PA-MPJPE 51.1 mm, refined from HMR 2.0b's 54.3.
The annotations are not connected to train.py yet: it says so and stops.
"""

from configs import TrainConfig
from scorehmr_jax.denoiser import DenoiserConfig

config = TrainConfig(
    denoiser=DenoiserConfig(),
    schedule="constant",
    mixture=(("h36m_train_mosh", 0.5), ("coco_train_eft", 0.3), ("mpi_inf_3dhp_train_eft", 0.2)),
    backbone="pare",
)
