"""One batch spread over all devices of all processes: `refine` then runs on every one of them.

devices = Devices.all()
padded, mask = devices.pad((estimate, keypoints, camera, features), batch)
...
estimate, features, terms, mask = devices.split((estimate, features, terms, mask), mask.shape)
refined, info = devices.cut(refiner(estimate, features, terms, mask), batch)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Bool

T = TypeVar("T")

AXIS = "samples"


def row_of(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Makes the mesh of one axis of devices; of every device of every process by default."""
    devices = jax.devices() if devices is None else devices
    auto = (jax.sharding.AxisType.Auto,)
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=auto, devices=devices)


@dataclass(frozen=True)
class Devices:
    """Devices in a row, each with an equal part of the samples of a batch [..., N].

    The program is the same on one device and on many: the compiler splits it along the samples,
    and lets neighbours exchange what they need, such as the frames of one video.
    """

    mesh: Mesh

    @classmethod
    def all(cls) -> "Devices":
        """Takes every device of every process."""
        return cls(row_of())

    def pad(self, tree: T, batch: Sequence[int]) -> tuple[T, Bool[np.ndarray, "..."]]:
        """Repeats the last sample until every device has equally many.

        Args:
            tree: arrays [*batch, ...].
            batch: [..., N].
        Returns:
            The arrays, as numpy's, and the mask that `refine` takes: False for what was added.
        """
        *lead, count = batch
        rows = np.arange(-(-count // self.mesh.size) * self.mesh.size)
        axis = len(lead)
        padded = jax.tree.map(
            lambda a: np.take(np.asarray(a), np.minimum(rows, count - 1), axis), tree
        )
        return padded, np.broadcast_to(rows < count, (*lead, len(rows)))

    def split(self, tree: T, batch: Sequence[int]) -> T:
        """Gives every device its part of the samples.

        Args:
            tree: arrays that every process has whole and equal. Those that begin with the axes
                of the batch are split along the last of these; of the others, such as weights,
                every device has a copy.
            batch: [..., N], where N is a multiple of the devices.
        """
        batch = tuple(batch)
        parts = NamedSharding(self.mesh, PartitionSpec(*[None] * (len(batch) - 1), AXIS))
        copies = NamedSharding(self.mesh, PartitionSpec())

        def put(leaf: Any) -> Any:
            whole = np.asarray(leaf)
            sharding = parts if whole.shape[: len(batch)] == batch else copies
            return jax.make_array_from_callback(whole.shape, sharding, whole.__getitem__)

        return tree if self.mesh.size == 1 else jax.tree.map(put, tree)

    def cut(self, tree: T, batch: Sequence[int]) -> T:
        """Brings results [*batch, ...] to every process, as numpy's, without what `pad` added.

        Every process has to call it.
        """
        if jax.process_count() > 1:
            copies = NamedSharding(self.mesh, PartitionSpec())
            tree = jax.jit(lambda x: x, out_shardings=copies)(tree)
        real = tuple(slice(length) for length in batch)
        return jax.tree.map(lambda a: np.asarray(a)[real], tree)
