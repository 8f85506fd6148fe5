"""Arrays spread over all devices of all processes, so that one program runs on every one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

T = TypeVar("T")

_AXIS = "samples"


@dataclass(frozen=True)
class Devices:
    """Devices in a row, each with an equal part of a batch's samples.

    The program is the same on one device and on many: the compiler splits it along the samples.
    """

    mesh: Mesh

    @classmethod
    def all(cls) -> "Devices":
        """Takes every device of every process."""
        auto = (jax.sharding.AxisType.Auto,)
        return cls(jax.make_mesh((jax.device_count(),), (_AXIS,), axis_types=auto))

    @property
    def count(self) -> int:
        """The number of devices; an axis that is split must be a multiple of it."""
        return self.mesh.size

    def split(self, tree: T, batch: Sequence[int], axis: int = 0) -> T:
        """Gives every device its part of a batch.

        Args:
            tree: arrays that every process has whole and equal. Those that begin with the axes
                of the batch are split; of the others, such as weights, every device has a copy.
            batch: lengths of the batch's axes.
            axis: of these, the one to split.
        Returns:
            The tree on the devices; as it is, where there is one device.
        """
        parts = NamedSharding(self.mesh, PartitionSpec(*[None] * axis, _AXIS))
        copies = NamedSharding(self.mesh, PartitionSpec())
        batch = tuple(batch)

        def put(leaf: Any) -> Any:
            whole = np.asarray(leaf)
            sharding = parts if whole.shape[: len(batch)] == batch else copies
            return jax.make_array_from_callback(whole.shape, sharding, whole.__getitem__)

        return tree if self.count == 1 else jax.tree.map(put, tree)

    def gather(self, tree: T) -> T:
        """Brings arrays from wherever they lie to every process, whole, as numpy's.

        Every process has to call it.
        """
        if jax.process_count() > 1:
            copies = NamedSharding(self.mesh, PartitionSpec())
            tree = jax.jit(lambda x: x, out_shardings=copies)(tree)
        return jax.device_get(tree)
