"""The shipped unconditional prior.

    python -m scorehmr_jax.datasets.ui_prmd UI-PRMD --out DIR/ui_prmd_poses.npz
    python train.py open-uncond --workdir runs/open-uncond --steps 30000 --data DIR

docs/training.md says where UI-PRMD comes from. Shipped is step 10,000 with `--seed 1`. Validation
losses by band of levels to expect there: 0.60, 0.34, 0.22, 0.12, 0.04.
"""

from configs import TrainConfig
from scorehmr_jax.networks.denoiser import ResidualMLP
from scorehmr_jax.training.ema import Ema

config = TrainConfig(
    network=ResidualMLP(features=0, hidden=512),
    batch=128,
    level_group=4,
    low_share=0.5,
    learning_rate=1e-3,
    warmup=500,
    ema=Ema(decay=0.99),
    # A few exercises, many times each, by ten people.
    more_mocap=(("ui_prmd_poses.npz", 0.12),),
    roll=14.0,
    # Their origin is unclear, and these weights are given away.
    leave_out=("deepmimic",),
)
