"""Where a run's arrays lie: on one mesh of all devices of all processes, which share each batch.

The program is the same on one device and on many; the compiler adds the sums over devices.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from scorehmr_jax.training.step import TrainState
from scorehmr_jax.types import Array

_AXIS = "data"
# Below this many numbers an array is not worth gathering from many devices.
_SMALL = 2**14


@dataclass(frozen=True)
class Layout:
    """The devices of a run, and how its arrays lie on them."""

    mesh: Mesh
    # Weights, their average and the optimiser's moments in parts, one per device, rather than
    # whole on each: less memory, more communication.
    shard_parameters: bool = False

    @classmethod
    def of(cls, devices: Any = None, shard_parameters: bool = False) -> "Layout":
        """On given devices, or on all that there are."""
        devices = jax.devices() if devices is None else devices
        auto = (jax.sharding.AxisType.Auto,)
        mesh = jax.make_mesh((len(devices),), (_AXIS,), axis_types=auto, devices=devices)
        return cls(mesh, shard_parameters)

    @property
    def devices(self) -> int:
        return self.mesh.size

    @property
    def whole(self) -> NamedSharding:
        """A copy on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    def rows(self, axis: int = 0) -> NamedSharding:
        """Equal parts along the axis of the batch."""
        return NamedSharding(self.mesh, PartitionSpec(*[None] * axis, _AXIS))

    def state(self, shapes: TrainState) -> TrainState:
        """A sharding for every array of a state."""
        return jax.tree.map(self._of_parameter, shapes)

    def _of_parameter(self, leaf: Any) -> NamedSharding:
        if not self.shard_parameters or leaf.size < _SMALL:
            return self.whole
        # The longest axis that splits evenly.
        fits = [axis for axis, length in enumerate(leaf.shape) if length % self.devices == 0]
        return self.rows(max(fits, key=lambda axis: leaf.shape[axis])) if fits else self.whole

    def make(self, init: Callable[..., TrainState], *args: Any) -> TrainState:
        """What `init(*args)` gives, made where it shall lie."""
        shardings = self.state(jax.eval_shape(init, *args))
        return jax.jit(init, out_shardings=shardings)(*args)

    def put(self, tree: Any) -> Any:
        """Arrays that every process has, as copies on every device."""
        return jax.tree.map(lambda x: self._global(self.whole, x, np.shape(x)), tree)

    def put_rows(self, tree: Any, axis: int = 0) -> Any:
        """This process's rows of a batch, which together make up the batch in order of process.

        Args:
            tree: arrays with rows along `axis`.
            axis: 1 for batches of many steps, [S, B, ...].
        """
        return jax.tree.map(lambda x: self._global(self.rows(axis), x, None), tree)

    def gather(self, tree: Any) -> Any:
        """Arrays from wherever they lie, whole, as numpy's; every process has to ask."""
        return jax.device_get(jax.jit(lambda x: x, out_shardings=self.whole)(tree))

    @staticmethod
    def _global(sharding: NamedSharding, x: Any, shape: tuple[int, ...] | None) -> Array:
        # What lies there already may be too large to come back to the host.
        if isinstance(x, jax.Array) and x.sharding == sharding:
            return x
        return jax.make_array_from_process_local_data(sharding, np.asarray(x), shape)

    def check_batch(self, size: int, share_level: int = 1) -> None:
        """Raises a ValueError unless a batch splits into equal parts of whole level groups."""
        unit = self.devices * share_level
        if size % unit:
            raise ValueError(
                f"batch: expected a multiple of {unit} ({self.devices} devices x share_level "
                f"{share_level}), found {size}"
            )
