"""The description of a prior that a checkpoint keeps beside the weights: a dict for JSON.

    network, features, hidden, ...  name in `networks/registry.py`, and the network's own fields
    schedule                        {"kind": "cosine", "steps": 1000} of the noise
    condition_on                    as `Prior.condition_on`
    betas_range                     [2, 10] least and greatest shape numbers of the training data,
                                    of a prior with shape; absent where it comes from another file
    written_by                      versions of the software and its commit
    exported_from                   those of the file that this one was made of

Older files, and the released code's, name no network and lack some of the rest: the paper's
denoiser and the cosine schedule of 1000 levels are meant. A file that names its network names the
rest too. Anything else that JSON can hold may lie beside them.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from scorehmr_jax.diffusion import Schedule, named_schedule
from scorehmr_jax.networks.protocol import POSE_DIM, SHAPE_DIM, Network
from scorehmr_jax.networks.registry import describe, network_of
from scorehmr_jax.prior import CONDITIONS
from scorehmr_jax.provenance import versions

Config = dict[str, Any]

# Of files that name neither it nor a network, of the released code and of the runs of train.py.
COSINE = {"kind": "cosine", "steps": 1000}
_OLDER_NAMES = {"image": "features"}  # of `condition_on`


def description(
    network: Network,
    *,
    schedule: tuple[str, int] = ("cosine", 1000),
    condition_on: str | None = None,
    betas_range: ArrayLike | None = None,
) -> Config:
    """Describes a prior.

    Args:
        network: of a class in `networks/registry.py`.
        schedule: kind and number of levels of the noise schedule (`diffusion.SCHEDULES`).
        condition_on: as `Prior.condition_on`; by default "features" for a network that takes
            some, else "none".
        betas_range: [2, 10] least and greatest shape numbers of the training data, of a prior
            with shape.
    Returns:
        What JSON can hold.
    Raises:
        ValueError: if the network is not registered, or the rest makes no sense with it.
    """
    kind, steps = schedule
    found: Config = {
        **describe(network),
        "schedule": {"kind": kind, "steps": steps},
        "condition_on": _condition_on(network, condition_on),
    }
    if betas_range is not None:
        found["betas_range"] = np.asarray(betas_range, float).tolist()
    return checked(found)


def checked(config: Any) -> Config:
    """Checks a description and fills in what older files lack, `written_by` excepted.

    Raises:
        ValueError: naming the key that is missing or makes no sense.
    """
    if not isinstance(config, Mapping):
        raise ValueError(f"expected names and values, found {config!r}"[:300])
    try:
        json.dumps(dict(config))
    except (TypeError, ValueError) as error:
        raise ValueError(f"expected what JSON can hold ({error})") from None
    network = network_of(config)
    _refuse_defaults(network, config)
    found = {**describe(network), "schedule": COSINE, **config}
    found["condition_on"] = _condition_on(network, config.get("condition_on"))
    schedule_of(found)
    if config.get("betas_range") is None:
        found.pop("betas_range", None)
    else:
        _check_range(network, config["betas_range"])
    return found


def signed(config: Config) -> Config:
    """Adds the versions of the software that writes a file, and its commit."""
    return {**config, "written_by": versions()}


def schedule_of(config: Mapping[str, Any]) -> Schedule:
    """Makes the noise schedule that a checked description names.

    Raises:
        ValueError: if there is no such schedule.
    """
    given = config["schedule"]
    if not isinstance(given, Mapping) or given.keys() != COSINE.keys():
        raise ValueError(f"schedule: expected kind and steps, found {given!r}")
    return named_schedule(given["kind"], given["steps"])


def _refuse_defaults(network: Network, config: Mapping[str, Any]) -> None:
    """Refuses a file that leaves out what it should name, and is no older one."""
    own = describe(network)
    near = sorted(key for key in config if "schedule" in key and key not in own)
    for key, others in (("schedule", near), ("condition_on", [])):
        if key not in config and ("network" in config or others):
            found = f"found {', '.join(others)}, which is not read" if others else "found none"
            raise ValueError(
                f"{key}: expected it in a file that names more than older files do, {found}; "
                "make the description with scorehmr_jax.checkpoint.description"
            )


def _condition_on(network: Network, given: Any) -> str:
    if given is None:
        return "features" if network.condition_dim else "none"
    condition_on = _OLDER_NAMES.get(given, given) if isinstance(given, str) else given
    if condition_on not in CONDITIONS:
        raise ValueError(
            f"condition_on: expected one of {', '.join(CONDITIONS)}, found {condition_on!r}"
        )
    width = network.condition_dim
    if (condition_on == "none") != (width == 0):
        raise ValueError(
            f"condition_on: the network takes {width} features, found {condition_on!r}"
        )
    if condition_on == "estimate" and width != POSE_DIM:
        raise ValueError(
            f"condition_on: an estimate's pose has {POSE_DIM} numbers, the network takes {width}"
        )
    return condition_on


def _check_range(network: Network, given: Any) -> None:
    expected = f"expected [2, {SHAPE_DIM}] finite numbers, the least below the greatest"
    if not network.with_shape:
        raise ValueError("betas_range: this network models no shape")
    try:
        ends = np.asarray(given, float)
    except (TypeError, ValueError):
        raise ValueError(f"betas_range: {expected}, found {given!r}"[:300]) from None
    if ends.shape != (2, SHAPE_DIM):
        raise ValueError(f"betas_range: {expected}, found shape {list(ends.shape)}")
    # An empty range would turn every shape into NaN.
    if not (np.isfinite(ends).all() and (ends[1] > ends[0]).all()):
        raise ValueError(f"betas_range: {expected}, found others")
