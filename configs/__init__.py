"""One file per experiment; its docstring names the command and the figure to expect."""

import importlib
import pkgutil
from dataclasses import dataclass, field

from scorehmr_jax.denoiser import DenoiserConfig
from scorehmr_jax.training.ema import Ema


@dataclass(frozen=True)
class TrainConfig:
    """A training run, but for its data folder, its length and where it writes."""

    denoiser: DenoiserConfig
    batch: int = 128
    share_level: int = 1  # neighbours in the batch with the same noise level
    low_share: float = 0.0  # share of levels drawn below 100; 0 draws all levels equally
    learning_rate: float = 1e-4  # at the top of a cosine that ends at 0
    warmup: int = 0  # steps in which the rate rises from 0
    ema: Ema = field(default_factory=Ema)
    leave_out: tuple[str, ...] = ()  # sources of clips that are not trained on
    jitter: float = 0.0  # random turns of every joint, standard deviation per axis, radians
    estimates_per_frame: int = 0  # simulated regressor outputs to condition on
    seed: int = 0


def get(name: str) -> TrainConfig:
    """The experiment of that name, with - and _ alike.

    Raises:
        ValueError: if there is none.
    """
    names = sorted(m.name.replace("_", "-") for m in pkgutil.iter_modules(__path__))
    if name.replace("_", "-") not in names:
        raise ValueError(f"no experiment {name!r} in configs/; there are: {', '.join(names)}")
    module = importlib.import_module(f"configs.{name.replace('-', '_')}")
    config = module.config
    assert isinstance(config, TrainConfig)
    return config
