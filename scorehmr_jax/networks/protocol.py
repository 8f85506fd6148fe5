"""The contract of a network that predicts noise: all that the prior, the loop and training ask."""

from abc import ABC, abstractmethod
from dataclasses import field
from typing import Any

import jax.numpy as jnp
from jaxtyping import Float, Integer, Key

from body_model.pytree import Array, pytree
from scorehmr_jax.networks.parameters import shapes_of

POSE_DIM = 144  # numbers of a pose: 24 joint rotations, two columns of each matrix
SHAPE_DIM = 10  # numbers of a body's shape

Params = Any  # nested dicts of arrays


class Network(ABC):
    """A network that predicts the noise in a pose, without its weights.

    A subclass is a frozen dataclass. Its fields are what JSON can hold (numbers, text, tuples of
    them), as a checkpoint keeps them beside the weights. It needs `dim`, `condition_dim`, `init`
    and `noise`, and a line in `networks/registry.py`; the other methods are there to be made
    faster. docs/extending.md has one in full.
    """

    @property
    @abstractmethod
    def dim(self) -> int:
        """Numbers diffused: 144 of a pose, or 154 with those of the shape after them."""

    @property
    @abstractmethod
    def condition_dim(self) -> int:
        """Width of the features that the noise is predicted from; 0: the network sees none."""

    @property
    def with_shape(self) -> bool:
        """True if the body's shape is diffused together with the pose."""
        return self.dim > POSE_DIM

    @abstractmethod
    def init(self, key: Key[Array, ""]) -> Params:
        """Draws first weights.

        Args:
            key: typed PRNG key.
        Returns:
            Nested dicts of arrays.
        """

    @abstractmethod
    def noise(
        self,
        params: Params,
        x: Float[Array, "*x D"],
        t: Integer[Array, "*t"],
        features: Float[Array, "*f F"] | None,
    ) -> Float[Array, "*out D"]:
        """Predicts the noise in x_t: the definition of the network.

        Args:
            params: as `init` gives them.
            x: [..., dim] noisy pose.
            t: [...] integer noise levels, 0 the cleanest.
            features: [..., condition_dim], or None for a network without a condition. The leading
                axes of all three broadcast.
        Returns:
            [..., dim].
        """

    def training_noise(
        self,
        params: Params,
        x: Float[Array, "*x D"],
        t: Integer[Array, "*t"],
        features: Float[Array, "*f F"] | None,
    ) -> Float[Array, "*out D"]:
        """Predicts the noise as `noise` does, in the form that is fastest to train.

        Only its gradient by params and x is asked for, once and in reverse mode.
        """
        return self.noise(params, x, t, features)

    def prepare(self, params: Params) -> "Prepared":
        """Works out, once, everything that depends on the weights alone.

        The loop evaluates the result some hundred times; a network that has nothing to work out
        needs no `prepare` of its own.
        """
        return AsDefined(params, self)

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Tells the shape of every array that `init` gives, by its path, like pose/input/kernel."""
        return shapes_of(self.init)


class Prepared(ABC):
    """A network together with its weights, ready for many evaluations: a pytree.

    What depends on an image alone, and what depends on a noise level alone, is worked out ahead:

        condition = prepared.condition(features)  # once per image
        modulation = prepared.modulation(t)  # once per level; a table, if t holds many levels
        noise = prepared(x, modulation, condition)  # at every step
    """

    @abstractmethod
    def condition(self, features: Float[Array, "*f F"] | None) -> Any:
        """Works out what the network needs to know of features [..., condition_dim]."""

    @abstractmethod
    def modulation(self, t: Integer[Array, "*t"]) -> Any:
        """Works out what the network needs to know of noise levels t [...].

        Returns:
            A pytree whose leaves have the axes of t first, so that `lax.scan` can walk along them.
        """

    @abstractmethod
    def __call__(
        self, x: Float[Array, "*x D"], modulation: Any, condition: Any
    ) -> Float[Array, "*out D"]:
        """Predicts the noise in x [..., dim]."""


def _described(network: Network) -> dict[str, Any]:
    from scorehmr_jax.networks.registry import describe

    return describe(network)


def _from_description(description: dict[str, Any]) -> Network:
    from scorehmr_jax.networks.registry import network_of

    return network_of(description)


# The metadata of a pytree's field that holds a network: static, and written to files by its name.
STATIC_NETWORK = {"static": True, "to_json": _described, "from_json": _from_description}


@pytree
class AsDefined(Prepared):
    """A prepared network that does at every step what its definition says."""

    params: Params
    network: Network = field(metadata=STATIC_NETWORK)

    def condition(self, features: Float[Array, "*f F"] | None) -> Any:
        return features

    def modulation(self, t: Integer[Array, "*t"]) -> Any:
        return jnp.asarray(t)

    def __call__(
        self, x: Float[Array, "*x D"], modulation: Any, condition: Any
    ) -> Float[Array, "*out D"]:
        return self.network.noise(self.params, x, modulation, condition)
