"""From files to a `Prior` or an `ImageNetwork`: shipped weights by name, ours, the released."""

import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import DTypeLike

from body_model.files import local_path, read_npz
from body_model.folders import standing
from body_model.precision import checked_dtype
from scorehmr_jax import checkpoint, image_checkpoint
from scorehmr_jax.description import schedule_of
from scorehmr_jax.diffusion import single_at_least
from scorehmr_jax.networks.image_network import ImageNetwork
from scorehmr_jax.networks.parameters import change_leaves
from scorehmr_jax.networks.protocol import Network
from scorehmr_jax.networks.registry import network_of
from scorehmr_jax.prior import Prior

_SHIPPED = Path(__file__).parent / "weights"


def shipped_priors() -> tuple[str, ...]:
    """Names of the priors that come with the package."""
    return tuple(sorted(path.stem for path in _SHIPPED.glob("*.npz")))


def load_prior(
    source: str | Path,
    *,
    betas_stats: str | Path | None = None,
    dtype: DTypeLike = "float32",
) -> Prior:
    """Loads a trained prior.

    Args:
        source: the name of a shipped prior (`shipped_priors()`); a directory, .npz, .safetensors
            or .pt that this package wrote; or the released model-<n>.pt.
        betas_stats: for a prior with shape that does not carry it, the .npz with betas_min and
            betas_max [10] of its training data. A range that the prior carries comes first.
        dtype: floating-point type of the weights, whatever it is in the file; float64 needs jax's
            x64 mode. Half precision saves memory; the arithmetic stays float32 at least.
    Returns:
        A prior with the network and the noise schedule that the file names. A file that names
        none is older than the names, or the released code's: the paper's denoiser, and the cosine
        schedule of 1000 levels.
    Raises:
        ValueError: if the file is missing, foreign or damaged, statistics are missing, or the type
            is no floating-point type that jax has at present.
    """
    dtype = _dtype_of_jax(dtype)
    shipped = str(source) in shipped_priors()
    path = _SHIPPED / f"{source}.npz" if shipped else local_path(source)
    if not standing(path).exists():
        names = ", ".join(shipped_priors()) or "none"
        raise ValueError(f"{source}: no such file, and no shipped prior (these are: {names})")
    params, config = checkpoint.read(path)
    network = network_of(config)
    return Prior(
        params=jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, dtype)), params),
        schedule=jax.tree.map(jnp.asarray, schedule_of(config)),
        betas_range=_betas_range(path, network, config.get("betas_range"), betas_stats, dtype),
        network=network,
        condition_on=config["condition_on"],
    )


def load_image_network(
    source: str | Path, name: str | None = None, *, dtype: DTypeLike = "float32"
) -> ImageNetwork:
    """Loads a network that makes features or first estimates of pictures.

    Args:
        source: the released PyTorch checkpoint of ProHMR, PARE or HMR 2.0 (.pt, .pth, .ckpt), or
            the directory or .safetensors that `scorehmr convert` wrote.
        name: "prohmr", "pare" or "hmr2", which it must be; None: the file tells.
        dtype: floating-point type of the weights and of the network's arithmetic: float32, or
            bfloat16, which is faster where the hardware has it.
    Returns:
        The network, ready for pictures.
    Raises:
        ValueError: naming the file, if it is missing, damaged or another network (with the tensors
            that are missing, not expected or of another shape), or the type is none that jax has.
    """
    dtype = _dtype_of_jax(dtype)
    params, architecture = image_checkpoint.read(source, name)
    # Copied, as the file may be written over.
    weights = change_leaves(params, lambda leaf: jnp.array(np.asarray(leaf, dtype)))
    return ImageNetwork(weights, architecture)


def _dtype_of_jax(dtype: DTypeLike) -> np.dtype:
    found = checked_dtype(dtype)
    if jax.dtypes.canonicalize_dtype(found) != found:
        raise ValueError(
            f"dtype: {found.name} needs jax's x64 mode: jax.config.update('jax_enable_x64', True)"
        )
    return found


def _betas_range(
    path: Path,
    network: Network,
    own: Any,
    betas_stats: str | Path | None,
    dtype: np.dtype,
) -> jax.Array | None:
    if betas_stats is not None and (not network.with_shape or own is not None):
        reason = "carries its own" if network.with_shape else "models no shape"
        warnings.warn(f"{betas_stats}: not read: {path} {reason}", stacklevel=3)
    if not network.with_shape:
        return None
    least = single_at_least(dtype)
    if own is not None:
        return jnp.asarray(own, least)
    if betas_stats is None:
        raise ValueError(
            f"{path}: this prior models shape; give betas_stats, the .npz with betas_min and "
            "betas_max of its training data"
        )
    arrays = read_npz(betas_stats)
    for key in ("betas_min", "betas_max"):
        if key not in arrays:
            raise ValueError(f"{betas_stats}: no key {key}; found {sorted(arrays)}")
        if arrays[key].shape != (10,) or arrays[key].dtype.kind not in "fiu":
            found = f"{arrays[key].dtype} {arrays[key].shape}"
            raise ValueError(f"{betas_stats}: {key}: expected numbers (10,), found {found}")
    # An empty range would turn every shape into NaN. Of unsigned numbers a difference wraps.
    low, high = (arrays[key].astype(np.float64) for key in ("betas_min", "betas_max"))
    span = high - low
    if not (np.isfinite(span) & (span > 0)).all():
        raise ValueError(f"{betas_stats}: expected betas_min below betas_max, all finite")
    return jnp.asarray(np.stack([low, high]), least)
