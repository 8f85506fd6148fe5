"""Placement of a run's arrays on one mesh of all devices of all processes, which share each batch.

The program is the same on one device and on many; the compiler adds the sums over devices.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from body_model.pytree import Array
from scorehmr_jax.devices import AXIS, row_of
from scorehmr_jax.training.step import TrainState

# An array of fewer numbers is not worth gathering from many devices.
_SMALL = 2**14


@dataclass(frozen=True)
class Placement:
    """The devices of a run, and the way its arrays lie on them."""

    mesh: Mesh
    # Split weights, their average and the optimiser's moments over the devices, rather than copy
    # them to each: less memory, more communication.
    shard_parameters: bool = False

    @classmethod
    def of(
        cls, devices: Sequence[jax.Device] | None = None, shard_parameters: bool = False
    ) -> "Placement":
        """Places arrays on given devices, or on all that there are."""
        return cls(row_of(devices), shard_parameters)

    @property
    def devices(self) -> int:
        """Number of devices."""
        return self.mesh.size

    @property
    def whole(self) -> NamedSharding:
        """Sharding of an array that is copied to every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    def rows(self, axis: int = 0) -> NamedSharding:
        """Returns the sharding of an array that is split into equal parts along an axis."""
        return NamedSharding(self.mesh, PartitionSpec(*[None] * axis, AXIS))

    def state(self, shapes: TrainState) -> TrainState:
        """Returns a sharding for every array of a state."""
        return jax.tree.map(self._of_parameter, shapes)

    def _of_parameter(self, leaf: Any) -> NamedSharding:
        if not self.shard_parameters or leaf.size < _SMALL:
            return self.whole
        # The longest axis that splits evenly.
        fits = [axis for axis, length in enumerate(leaf.shape) if length % self.devices == 0]
        return self.rows(max(fits, key=lambda axis: leaf.shape[axis])) if fits else self.whole

    def make(self, init: Callable[..., TrainState], *args: Any) -> TrainState:
        """Computes `init(*args)` on the devices on which the state will lie."""
        shardings = self.state(jax.eval_shape(init, *args))
        return jax.jit(init, out_shardings=shardings)(*args)

    def put(self, tree: Any) -> Any:
        """Copies arrays, which every process has, to every device."""
        return jax.tree.map(lambda x: self._global(self.whole, x, np.shape(x)), tree)

    def put_rows(self, tree: Any, axis: int = 0) -> Any:
        """Splits a batch over the devices.

        Args:
            tree: arrays with this process's rows of the batch; those of all processes, one after
                the other, are the batch.
            axis: of the rows; 1 for batches of many steps, [S, B, ...].
        Returns:
            The arrays of the whole batch.
        """
        return jax.tree.map(lambda x: self._global(self.rows(axis), x, None), tree)

    def gather(self, tree: Any) -> Any:
        """Brings whole arrays to the host, as numpy's. All processes must call it."""
        return jax.device_get(jax.jit(lambda x: x, out_shardings=self.whole)(tree))

    @staticmethod
    def _global(sharding: NamedSharding, x: Any, shape: tuple[int, ...] | None) -> Array:
        # An array that is in its place already may be too large for the host.
        if isinstance(x, jax.Array) and x.sharding == sharding:
            return x
        return jax.make_array_from_process_local_data(sharding, np.asarray(x), shape)

    def check_batch(self, size: int, level_group: int = 1) -> None:
        """Refuses a batch that does not split into equal parts of whole groups.

        Args:
            size: samples in a batch.
            level_group: neighbours in a batch that share a noise level.
        Raises:
            ValueError: saying what the size must be a multiple of.
        """
        unit = self.devices * level_group
        if size % unit:
            raise ValueError(
                f"batch: expected a multiple of {unit} ({self.devices} devices x level_group "
                f"{level_group}), found {size}"
            )
