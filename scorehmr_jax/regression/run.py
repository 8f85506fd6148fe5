"""Patches through a network, batch by batch."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from scorehmr_jax.devices import Devices
from scorehmr_jax.networks.image_network import ImageNetwork, Outputs
from scorehmr_jax.regression.feed import Patch


@dataclass(frozen=True)
class Batch:
    """What a network made of some patches, one row each."""

    outputs: dict[str, np.ndarray]  # by name, [n, ...] float32; NaN where there was a problem
    image_size: Float[np.ndarray, "n 2"]  # width and height, pixels; NaN where not known
    problems: tuple[str, ...]  # "" where there was none

    @property
    def good(self) -> Bool[np.ndarray, " n"]:
        """True where there was no problem."""
        return np.array([not problem for problem in self.problems], bool)


@jax.jit
def _outputs(network: ImageNetwork, pixels: jax.Array) -> Outputs:
    # Of bfloat16 weights it makes no difference; float32 would be rounded on GPUs and TPUs.
    with jax.default_matmul_precision("float32"):
        return network.outputs(network.crop.normalised(pixels))


def run(network: ImageNetwork, patches: Iterable[Patch], batch: int) -> Iterator[Batch]:
    """Shows patches to a network on all devices.

    All batches have the same size, the last one is filled up, so that one program serves them.
    While devices work on one batch, the next is decoded.

    Args:
        network: with its weights.
        patches: of `network.crop.size` pixels on a side.
        batch: patches at once, over all devices; as `whole_batch` makes it.
    """
    devices = Devices.all()
    source, waiting = iter(patches), None
    # Once, or every batch would bring the weights to the devices. No weight has this leading axis:
    # every device gets a copy of all.
    network = devices.split(jax.tree.map(jnp.asarray, network), (-1,))
    while some := list(islice(source, batch)):
        pixels = np.zeros((batch, *some[0].pixels.shape), np.uint8)
        pixels[: len(some)] = [patch.pixels for patch in some]
        outputs = _outputs(network, devices.split(pixels, (batch,)))
        if waiting is not None:
            yield _finished(*waiting)
        waiting = (some, outputs)
    if waiting is not None:
        yield _finished(*waiting)


def whole_batch(batch: int) -> int:
    """The next number of patches that every device has an equal part of."""
    count = Devices.all().mesh.size
    return -(-batch // count) * count


def _finished(patches: list[Patch], outputs: Outputs) -> Batch:
    problems = tuple(patch.problem for patch in patches)
    bad = np.array([bool(problem) for problem in problems])
    held = {}
    for key, value in outputs.items():
        held[key] = np.array(value[: len(patches)], np.float32)
        held[key][bad] = np.nan
    return Batch(held, np.stack([patch.image_size for patch in patches]), problems)
