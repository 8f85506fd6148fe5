"""From files to a `Prior`: shipped weights by name, our checkpoints, the released ones."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from body_model.io import read_npz
from scorehmr_jax import checkpoint, diffusion
from scorehmr_jax.networks.denoiser import DenoiserConfig
from scorehmr_jax.prior import Prior

_SHIPPED = Path(__file__).parent / "weights"
_CONDITIONS = ("image", "estimate", "none")


def shipped_priors() -> tuple[str, ...]:
    """Names of the priors that come with the package."""
    return tuple(sorted(path.stem for path in _SHIPPED.glob("*.npz")))


def load_prior(
    source: str | Path, *, betas_stats: str | Path | None = None, dtype: str = "float32"
) -> Prior:
    """Loads a trained prior.

    Args:
        source: the name of a shipped prior (`shipped_priors()`), a directory or .npz of ours,
            or the released model-<n>.pt.
        betas_stats: for a prior with shape that does not carry it, the .npz with betas_min and
            betas_max [10] of its training data. A range that the prior carries comes first.
        dtype: of the parameters; float64 needs jax's x64 mode.
    Returns:
        A prior with the cosine schedule of 1000 levels that all of these were trained on.
    Raises:
        ValueError: if the file is missing, foreign or damaged, or statistics are missing.
    """
    path = _SHIPPED / f"{source}.npz" if str(source) in shipped_priors() else Path(source)
    if not path.exists():
        names = ", ".join(shipped_priors()) or "none"
        raise ValueError(f"{source}: no such file, and no shipped prior (these are: {names})")
    params, config = checkpoint.read(path)
    sizes = DenoiserConfig(**{f.name: config[f.name] for f in fields(DenoiserConfig)})
    condition_on = config.get("condition_on", "image" if sizes.condition_dim else "none")
    if condition_on not in _CONDITIONS:
        raise ValueError(
            f"{path}: condition_on: expected one of {_CONDITIONS}, found {condition_on}"
        )
    return Prior(
        params=jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), params),
        schedule=diffusion.schedule(diffusion.cosine_betas()),
        betas_range=_betas_range(path, sizes, config.get("betas_range"), betas_stats, dtype),
        config=sizes,
        condition_on=condition_on,
    )


def _betas_range(
    path: Path, sizes: DenoiserConfig, own: Any, betas_stats: str | Path | None, dtype: str
) -> jax.Array | None:
    if not sizes.with_shape:
        return None
    if own is not None:
        carried = np.asarray(own, float)
        if carried.shape != (2, 10) or not (carried[1] > carried[0]).all():
            raise ValueError(f"{path}: betas_range: expected [2, 10], the least below the greatest")
        return jnp.asarray(carried, dtype)
    if betas_stats is None:
        raise ValueError(f"{path}: this prior models shape; give betas_stats, the .npz with "
                         "betas_min and betas_max of its training data")  # fmt: skip
    arrays = read_npz(betas_stats)
    for key in ("betas_min", "betas_max"):
        if key not in arrays:
            raise ValueError(f"{betas_stats}: no key {key}; found {sorted(arrays)}")
        if arrays[key].shape != (10,):
            raise ValueError(f"{betas_stats}: {key}: expected (10,), found {arrays[key].shape}")
    # An empty range would turn every shape into NaN.
    span = arrays["betas_max"] - arrays["betas_min"]
    if not (np.isfinite(span) & (span > 0)).all():
        raise ValueError(f"{betas_stats}: expected betas_min below betas_max, all finite")
    return jnp.asarray(np.stack([arrays["betas_min"], arrays["betas_max"]]), dtype)
