"""The paper's denoiser: residual MLP blocks on the pose, modulated by time, told of features.

The Flax modules below are its definition, as the paper draws it (section 4.2 and Fig. 5). Two
other forms compute the same from the same weights: `folded.py` for the loop, which evaluates it
many times, and `training_form.py` for training, where the weights change with every step.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float, Integer, Key

from body_model.pytree import Array
from scorehmr_jax.networks.folded import FoldedMLP, fold
from scorehmr_jax.networks.layers import EPSILON, sinusoid, with_axes
from scorehmr_jax.networks.protocol import POSE_DIM, SHAPE_DIM, Network, Params
from scorehmr_jax.networks.training_form import training_noise


@dataclass(frozen=True)
class ResidualMLP(Network):
    """The paper's denoiser, by its sizes. The defaults are the paper's, with PARE's features."""

    features: int = 3072  # width of the condition; 0 for an unconditional prior
    hidden: int = 1024
    blocks: int = 3
    shape_features: int = 0  # width of the shape stream's condition; 0: no shape stream
    shape_blocks: int = 2

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            least = 1 if name in ("hidden", "blocks") else 0
            # A damaged file must not ask for a million blocks.
            most = 1000 if "blocks" in name else math.inf
            if type(value) is not int or not least <= value <= most:
                raise ValueError(
                    f"{name}: expected a whole number of at least {least}"
                    f"{' and at most 1000' if most == 1000 else ''}, found {value!r}"
                )

    @property
    def dim(self) -> int:
        return POSE_DIM + SHAPE_DIM * (self.shape_features > 0)

    @property
    def condition_dim(self) -> int:
        return self.features + self.shape_features

    def init(self, key: Key[Array, ""]) -> Params:
        features = jnp.zeros((1, self.condition_dim)) if self.condition_dim else None
        x, t = jnp.zeros((1, self.dim)), jnp.zeros(1, int)
        with jax.numpy_dtype_promotion("standard"):  # flax' norms know no other
            return _Denoiser(self).init(jnp.asarray(key), x, t, features)["params"]

    def noise(
        self,
        params: Params,
        x: Float[Array, "*x D"],
        t: Integer[Array, "*t"],
        features: Float[Array, "*f F"] | None,
    ) -> Float[Array, "*out D"]:
        return _Denoiser(self).apply({"params": params}, x, t, features)  # type: ignore[return-value]

    def training_noise(
        self,
        params: Params,
        x: Float[Array, "*x D"],
        t: Integer[Array, "*t"],
        features: Float[Array, "*f F"] | None,
    ) -> Float[Array, "*out D"]:
        return training_noise(params, self._widths, x, t, features)

    def prepare(self, params: Params) -> FoldedMLP:
        return fold(params, self._widths)

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        # The default traces `init`, which takes a quarter of a second.
        streams = {
            "pose": (POSE_DIM, self.features, self.blocks),
            "shape": (SHAPE_DIM, self.shape_features, self.shape_blocks),
        }
        shapes: dict[str, tuple[int, ...]] = {}
        for stream in list(streams)[: len(self._widths)]:
            width, features, blocks = streams[stream]
            linears = {
                "time1": (width, 4 * width),
                "time2": (4 * width, 4 * width),
                "input": (width, width),
                "output": (width, width),
            }
            for i in range(blocks):
                linears[f"blocks_{i}/time"] = (4 * width, 2 * width)
                linears[f"blocks_{i}/linear1"] = (width + features, self.hidden)
                linears[f"blocks_{i}/linear2"] = (self.hidden, width)
                for norm, size in (("norm1", width + features), ("norm2", self.hidden)):
                    for leaf in ("scale", "bias"):
                        shapes[f"{stream}/blocks_{i}/{norm}/{leaf}"] = (size,)
            for name, (inputs, outputs) in linears.items():
                shapes[f"{stream}/{name}/kernel"] = (inputs, outputs)
                shapes[f"{stream}/{name}/bias"] = (outputs,)
        return shapes

    @property
    def _widths(self) -> tuple[int, ...]:
        """Features that each stream sees."""
        return (self.features, self.shape_features) if self.with_shape else (self.features,)


class _Denoiser(nn.Module):
    """The definition: one stream for the pose, and one for the shape where it is modelled."""

    sizes: ResidualMLP

    @nn.compact
    def __call__(self, x: Array, t: Array, features: Array | None) -> Array:
        s = self.sizes
        ndim = max(x.ndim, jnp.ndim(t) + 1, 0 if features is None else features.ndim)
        x, t = with_axes(jnp.asarray(x), ndim), with_axes(jnp.asarray(t), ndim - 1)
        if features is not None:
            features = with_axes(jnp.asarray(features), ndim)
        pose_features, shape_features = features, None
        if features is not None:
            pose_features = features[..., : s.features]
            shape_features = features[..., s.features :]
        noise = _Stream(s.hidden, s.blocks, name="pose")(x[..., :POSE_DIM], t, pose_features)
        if not s.with_shape:
            return noise
        stream = _Stream(s.hidden, s.shape_blocks, name="shape")
        return jnp.concatenate([noise, stream(x[..., POSE_DIM:], t, shape_features)], axis=-1)


class _Stream(nn.Module):
    """One residual MLP: the pose's, or the shape's."""

    hidden: int
    depth: int

    @nn.compact
    def __call__(self, x: Array, t: Array, features: Array | None) -> Array:
        width = x.shape[-1]
        code = sinusoid(t, width).astype(x.dtype)
        time = _dense(width, 4 * width, "time1")(code)
        time = _dense(4 * width, 4 * width, "time2")(nn.gelu(time, approximate=False))
        h = _dense(width, width, "input")(x)
        for i in range(self.depth):
            h = _Block(self.hidden, name=f"blocks_{i}")(h, time, features)
        return _dense(width, width, "output")(h)


class _Block(nn.Module):
    """Modulates h [..., w] by the time, and adds an MLP of [h, features]."""

    hidden: int

    @nn.compact
    def __call__(self, h: Array, time: Array, features: Array | None) -> Array:
        width = h.shape[-1]
        modulation = _dense(4 * width, 2 * width, "time")(nn.silu(time))
        scale, shift = jnp.split(modulation, 2, axis=-1)
        h = h * (scale + 1) + shift
        inputs = h
        if features is not None:
            rows = jnp.broadcast_shapes(h.shape[:-1], features.shape[:-1])
            parts = (jnp.broadcast_to(part, (*rows, part.shape[-1])) for part in (h, features))
            inputs = jnp.concatenate(list(parts), axis=-1)
        inner = _dense(inputs.shape[-1], self.hidden, "linear1")(_norm("norm1")(inputs))
        inner = _norm("norm2")(nn.gelu(inner, approximate=False))
        return h + nn.gelu(_dense(self.hidden, width, "linear2")(inner), approximate=False)


def _dense(inputs: int, outputs: int, name: str) -> nn.Dense:
    """A linear map, with first weights as PyTorch draws them."""
    bound = inputs**-0.5

    def uniform(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    draw: Callable[..., Any] = uniform
    return nn.Dense(
        outputs, kernel_init=draw, bias_init=draw, param_dtype=jnp.result_type(float), name=name
    )


def _norm(name: str) -> nn.LayerNorm:
    return nn.LayerNorm(
        EPSILON, use_fast_variance=False, param_dtype=jnp.result_type(float), name=name
    )
