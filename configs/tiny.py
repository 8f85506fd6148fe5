"""A toy on motion capture, to see that everything runs.

    python train.py tiny --workdir runs/tiny --steps 400 --data DIR

Ten seconds on two cores; val_loss falls from 1 to about 0.5.
"""

from configs import RunConfig, TrainConfig
from scorehmr_jax.networks.denoiser import ResidualMLP

config = TrainConfig(
    network=ResidualMLP(features=0, hidden=32, blocks=1),
    batch=32,
    level_group=4,
    low_share=0.5,
    learning_rate=3e-3,
    run=RunConfig(steps_per_call=20, save_every=100),
)
