"""The networks that a checkpoint can name. A new one is a file in this folder and a line here."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from scorehmr_jax.networks.denoiser import ResidualMLP
from scorehmr_jax.networks.protocol import Network

# What a checkpoint calls it -> the class. A network of your own, outside of this package:
# NETWORKS["my-network"] = MyNetwork, before a checkpoint of it is written or read.
NETWORKS: dict[str, type[Network]] = {
    "residual-mlp": ResidualMLP,
}

DEFAULT = "residual-mlp"  # of checkpoints that name none: they are older than the names


def describe(network: Network) -> dict[str, Any]:
    """Describes a network in what JSON can hold.

    Args:
        network: of a registered class.
    Returns:
        Its registered name under "network", and its fields. `network_of` undoes it.
    Raises:
        ValueError: if its class is not registered, or no dataclass.
    """
    kind = type(network)
    names = [name for name, registered in NETWORKS.items() if registered is kind]
    if not names or not dataclasses.is_dataclass(network):
        raise ValueError(
            f"{kind.__name__}: a checkpoint can only name a dataclass that is registered: "
            f"scorehmr_jax.networks.registry.NETWORKS['a-name'] = {kind.__name__}"
        )
    return {"network": names[0], **dataclasses.asdict(network)}


def network_of(description: Mapping[str, Any]) -> Network:
    """Makes the network that a description names.

    Args:
        description: the registered name under "network" (the paper's denoiser without it), and the
            fields of the network. Other keys are left alone.
    Raises:
        ValueError: if no network of that name is registered, a field is missing, or the network
            refuses a value.
    """
    name = description.get("network", DEFAULT)
    if not isinstance(name, str) or name not in NETWORKS:
        raise ValueError(
            f"network: expected one of {', '.join(NETWORKS)}, found {name!r}; a network of your "
            "own must be registered in scorehmr_jax.networks.registry.NETWORKS first"
        )
    kind = NETWORKS[name]
    names = [f.name for f in dataclasses.fields(kind)]  # type: ignore[arg-type]
    absent = [name for name in names if name not in description]
    if absent:
        raise ValueError(f"network {name}: expected {', '.join(names)}; absent: {absent}")
    return kind(**{name: _hashable(description[name]) for name in names})


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, list) else value
