"""The networks that look at pictures, by name. A new one is a file beside this and a line here."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from scorehmr_jax.networks.hmr2 import HMR2
from scorehmr_jax.networks.image_network import ImageArchitecture
from scorehmr_jax.networks.pare import PARE
from scorehmr_jax.networks.prohmr import ProHMR

IMAGE_NETWORKS: dict[str, type[ImageArchitecture]] = {
    "prohmr": ProHMR,
    "pare": PARE,
    "hmr2": HMR2,
}


def describe_image_network(architecture: ImageArchitecture) -> dict[str, Any]:
    """Describes an architecture in what JSON can hold: its name under "network", and its sizes.

    Raises:
        ValueError: if its class is not in IMAGE_NETWORKS.
    """
    kind = type(architecture)
    for name, registered in IMAGE_NETWORKS.items():
        if registered is kind:
            return {"network": name, **dataclasses.asdict(architecture)}  # type: ignore[call-overload]
    raise ValueError(f"{kind.__name__}: expected a class of IMAGE_NETWORKS; register it there")


def image_network_of(description: Mapping[str, Any]) -> ImageArchitecture:
    """Makes the architecture that a description names.

    Raises:
        ValueError: if there is none of that name, or a size is missing or not possible.
    """
    name = description.get("network")
    if not isinstance(name, str) or name not in IMAGE_NETWORKS:
        raise ValueError(f"network: expected one of {', '.join(IMAGE_NETWORKS)}, found {name!r}")
    kind = IMAGE_NETWORKS[name]
    names = [f.name for f in dataclasses.fields(kind)]  # type: ignore[arg-type]
    description = {**kind.unsaid, **description}
    absent = [size for size in names if size not in description]
    if absent:
        raise ValueError(f"network {name}: expected {', '.join(names)}; absent: {absent}")
    sizes = {size: description[size] for size in names}
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in sizes.items()})
