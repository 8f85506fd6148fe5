"""One file per experiment; its docstring names the command and the figure to expect."""

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from scorehmr_jax.networks.protocol import Network
from scorehmr_jax.networks.registry import DEFAULT, describe
from scorehmr_jax.training.ema import Ema


@dataclass(frozen=True)
class RunConfig:
    """Choices that do not change what is learned."""

    steps_per_call: int = 500  # steps between two lines of the log, one program
    save_every: int = 2500  # steps between two validations and checkpoints
    keep: int = 3  # last checkpoints kept, beside the best
    shard_parameters: bool = False  # split weights over many devices, to save memory
    # Training sets: whole on every device, read as training goes, or as memory allows.
    feed: Literal["auto", "resident", "stream"] = "auto"
    samples: int = 8  # drawn per validation pose, by a conditioned prior; 0: none


@dataclass(frozen=True)
class TrainConfig:
    """A training run, but for its data folder, its length and its work folder."""

    network: Network
    batch: int = 128
    level_group: int = 1  # neighbours in the batch with the same noise level
    low_share: float = 0.0  # share of levels drawn below 100; 0 draws all levels equally
    learning_rate: float = 1e-4  # at the top
    schedule: Literal["cosine", "constant"] = "cosine"  # of the rate: down to 0, or as it is
    warmup: int = 0  # steps in which the rate rises from 0
    ema: Ema = field(default_factory=Ema)
    p2_gamma: float = 0.0  # weighs the loss by (1 / (1 - a_t)) ** -p2_gamma
    condition_dropout: float = 0.0  # share of poses learned without their features
    # Of the network's products, as jax.default_matmul_precision names them: BF16_BF16_F32 is
    # bfloat16 with sums in float32. All else is float32.
    precision: str = "float32"
    leave_out: tuple[str, ...] = ()  # sources of clips that are not trained on
    # More files of motion capture beside mocap_poses.npz, and the share of a batch that each is.
    more_mocap: tuple[tuple[str, float], ...] = ()
    roll: float = 0.0  # of cameras, in half of the samples: standard deviation, degrees
    jitter: float = 0.0  # random turns of every joint, standard deviation per axis, radians
    estimates_per_frame: int = 0  # simulated regressor outputs to condition on
    # Sets that `scorehmr build-data` builds, and their shares of a batch; none: motion capture.
    mixture: tuple[tuple[str, float], ...] = ()
    # Image features, an estimate's own pose, or nothing: as `Prior.condition_on`.
    condition_on: Literal["none", "estimate", "features"] = "none"
    seed: int = 0  # of weights, noise and the order of samples
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.condition_dropout < 1:
            raise ValueError(f"condition_dropout: expected [0, 1), found {self.condition_dropout}")
        names = [name for name, _ in self.mixture]
        if len(set(names)) < len(names):
            raise ValueError(f"mixture: expected every set once, found {', '.join(names)}")
        width = self.network.condition_dim
        if (self.condition_on == "none") != (width == 0):
            expected = "features or estimate" if width else "none"
            raise ValueError(
                f"condition_on: expected {expected}, as the network takes {width} features; found "
                f"{self.condition_on!r}"
            )
        if self.condition_on == "features" and not self.mixture:
            raise ValueError("condition_on: motion capture has no images; give a mixture of sets")
        files = [file for file, _ in self.more_mocap]
        if len({"mocap_poses.npz", *files}) <= len(files):
            raise ValueError(
                "more_mocap: expected every file once, and not mocap_poses.npz, which is there "
                f"already; found {', '.join(files)}"
            )
        shares = [share for _, share in self.more_mocap]
        if shares and (self.mixture or min(shares) <= 0 or sum(shares) >= 1):
            raise ValueError(
                "more_mocap: expected shares above 0 that leave some to mocap_poses.npz, and no "
                f"mixture; found {shares}, mixture {self.mixture}"
            )
        if self.roll and self.mixture:
            raise ValueError(
                "roll: only cameras that are placed before motion capture roll; found "
                f"{self.roll}, mixture {self.mixture}"
            )
        if self.estimates_per_frame and (self.condition_on != "estimate" or self.mixture):
            raise ValueError(
                "estimates_per_frame: estimates are simulated for motion capture alone, to be "
                f"conditioned on; found condition_on {self.condition_on!r}, mixture {self.mixture}"
            )
        if self.run.steps_per_call < 1 or self.run.save_every % self.run.steps_per_call:
            raise ValueError(
                f"run.save_every: expected a multiple of run.steps_per_call "
                f"{self.run.steps_per_call}, found {self.run.save_every}"
            )


def get(name: str, overrides: Sequence[str] = ()) -> TrainConfig:
    """Finds the experiment of a name.

    Args:
        name: of a file in this folder, with - and _ alike.
        overrides: fields as on a command line: --learning-rate 3e-4 --ema.decay 0.999. They need
            tyro.
    Raises:
        ValueError: if there is no such experiment, a value makes no sense, or tyro is absent.
        SystemExit: with tyro's message, if an override is no field.
    """
    names = sorted(m.name.replace("_", "-") for m in pkgutil.iter_modules(__path__))
    if name.replace("_", "-") not in names:
        raise ValueError(f"no experiment {name!r} in configs/; there are: {', '.join(names)}")
    module = importlib.import_module(f"configs.{name.replace('-', '_')}")
    config = module.config
    assert isinstance(config, TrainConfig)
    return _overridden(config, overrides) if overrides else config


def _overridden(config: TrainConfig, overrides: Sequence[str]) -> TrainConfig:
    try:
        import tyro
    except ImportError:
        raise ValueError(
            f"{' '.join(overrides)}: fields of a configuration on the command line need tyro: "
            "pip install 'scorehmr-jax[train]'"
        ) from None
    return tyro.cli(TrainConfig, default=config, args=list(overrides), prog="train.py NAME ...")


def flat(config: TrainConfig) -> dict[str, Any]:
    """Lists the fields that decide the result of a run, with names like ema.decay.

    The network's name in the registry is called `network`, and its fields network.hidden and so on.
    """
    fields = asdict(config)
    del fields["run"]
    fields["network"] = describe(config.network)
    found = _flat(fields, "")
    return {"network": found.pop("network.network"), **found}


def renamed(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Gives fields of a configuration that an earlier version has saved the names of today."""
    found: dict[str, Any] = {"network": DEFAULT, "more_mocap": [], "roll": 0.0}
    for name, value in saved.items():
        if name.startswith("denoiser."):
            name = name.replace("denoiser.", "network.", 1)
        found["level_group" if name == "share_level" else name] = value
    if found.get("condition_on") == "image":
        found["condition_on"] = "features"
    return found


def _flat(tree: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found
