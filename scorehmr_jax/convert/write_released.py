"""Our training state as the released code's checkpoint {step, model, opt, ema}."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from scorehmr_jax.convert.denoiser import to_released
from scorehmr_jax.diffusion import cosine_betas

CONFIG_KEY = "scorehmr_jax"  # our description in JSON; the released code passes it over

# The order of parameters() in the released denoiser, by which its optimiser numbers them.
_FIRST = ("time_mlp", "init_mlp", "blocks", "final_mlp")
_IN_BLOCK = ("mlp", "layer_norm1", "linear_layer1", "layer_norm2", "linear_layer2")


def released_checkpoint(
    params: Mapping[str, Any],
    ema: Mapping[str, Any],
    *,
    step: int = 0,
    moments: tuple[Mapping[str, Any], Mapping[str, Any]] | None = None,
    learning_rate: float = 1e-4,
    config: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Makes what the released code reads, to evaluate or to train on.

    Args:
        params: the weights, nested dicts of arrays.
        ema: their average, the weights that are used.
        step: steps taken.
        moments: Adam's first and second, as trees like params; zeros by default.
        learning_rate: written beside them.
        config: our own description of the prior, kept for `checkpoint.read`.
    Returns:
        Nested dicts of numpy arrays and numbers, for `save_torch`.
    """
    online, average = _weights(params), _weights(ema)
    constants = _constants()
    model = constants | {f"model.{key}": array for key, array in online.items()}
    averaged = constants | {f"model.{key}": array for key, array in average.items()}
    zeros = {key: np.zeros_like(array) for key, array in online.items()}
    first, second = (zeros, zeros) if moments is None else map(_weights, moments)
    optimizer = {
        "state": {
            i: {"step": np.float32(step), "exp_avg": first[key], "exp_avg_sq": second[key]}
            for i, key in enumerate(online)
        },
        "param_groups": [
            {
                "lr": learning_rate,
                "betas": (0.9, 0.99),
                "eps": 1e-8,
                "weight_decay": 0,
                "amsgrad": False,
                "maximize": False,
                "foreach": None,
                "capturable": False,
                "differentiable": False,
                "fused": None,
                "decoupled_weight_decay": False,
                "params": list(range(len(online))),
            }
        ],
    }
    counters = {"initted": np.bool_(True), "step": np.int64(step)}
    described = {} if config is None else {CONFIG_KEY: json.dumps(dict(config))}
    return {
        "step": step,
        **described,
        "model": model,
        "opt": optimizer,
        "ema": counters
        | {f"online_model.{key}": array for key, array in model.items()}
        | {f"ema_model.{key}": array for key, array in averaged.items()},
    }


def _weights(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Weights by the released names, in the released order, in float32."""
    released = to_released(params)
    return {key: np.asarray(released[key], np.float32) for key in sorted(released, key=_place)}


def _place(key: str) -> tuple[Any, ...]:
    module, *rest, leaf = key.split(".")
    place: list[Any] = [module.endswith("_betas"), _FIRST.index(module.removesuffix("_betas"))]
    if module.startswith("blocks"):
        names = [name for name in rest if name in _IN_BLOCK]
        place += [int(rest[0]), _IN_BLOCK.index(names[0])]
    elif rest:
        place += [int(rest[0]), 0]
    return (*place, leaf == "bias")


def _constants() -> dict[str, np.ndarray]:
    """The noise schedule as the released module keeps it, [1000] each."""
    betas = cosine_betas()
    a = np.cumprod(1 - betas)
    before = np.append(1.0, a[:-1])
    variance = betas * (1 - before) / (1 - a)
    tables = {
        "betas": betas,
        "alphas_cumprod": a,
        "alphas_cumprod_prev": before,
        "sqrt_alphas_cumprod": np.sqrt(a),
        "sqrt_one_minus_alphas_cumprod": np.sqrt(1 - a),
        "log_one_minus_alphas_cumprod": np.log(1 - a),
        "sqrt_recip_alphas_cumprod": np.sqrt(1 / a),
        "sqrt_recipm1_alphas_cumprod": np.sqrt(1 / a - 1),
        "posterior_variance": variance,
        "posterior_log_variance_clipped": np.log(np.maximum(variance, 1e-20)),
        "posterior_mean_coef1": betas * np.sqrt(before) / (1 - a),
        "posterior_mean_coef2": (1 - before) * np.sqrt(1 - betas) / (1 - a),
        "p2_loss_weight": np.ones_like(a),
    }
    return {name: table.astype(np.float32) for name, table in tables.items()}
