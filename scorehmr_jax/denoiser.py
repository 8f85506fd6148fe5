"""The denoiser: residual MLP blocks on the pose, modulated by time, told of image features.

Each block normalises and multiplies [h, c], 144 numbers that change with every step beside
thousands that do not. LayerNorm is affine in [h, c] once mean and variance are known, and both
are sums over the two parts. So the part of c is worked out once per image (`condition`), the
part of t once per level (`modulation`), the weights are folded once (`fold`), and `denoise`
does the rest. Training runs the same code.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from scorehmr_jax.types import Array, pytree

POSE_DIM = 144
SHAPE_DIM = 10
_EPSILON = 1e-5  # of LayerNorm


@dataclass(frozen=True)
class DenoiserConfig:
    """Sizes of a denoiser. The defaults are the paper's, with PARE's features."""

    features: int = 3072  # width of the condition; 0 for an unconditional prior
    hidden: int = 1024
    blocks: int = 3
    shape_features: int = 0  # width of the shape stream's condition; 0: no shape stream
    shape_blocks: int = 2

    @property
    def with_shape(self) -> bool:
        return self.shape_features > 0

    @property
    def dim(self) -> int:
        """Numbers diffused: 144 of pose, and 10 of shape where they are modelled."""
        return POSE_DIM + SHAPE_DIM * self.with_shape

    @property
    def condition_dim(self) -> int:
        return self.features + self.shape_features


@pytree
@dataclass(frozen=True)
class FoldedBlock:
    """A block's weights with both norms' affine maps multiplied in."""

    inner: Array  # [w, hidden] on h
    outer: Array  # [hidden, w]
    inner_bias: Array  # [hidden]
    outer_bias: Array  # [w]
    features_sum: Array  # [hidden] column sums of the part on c
    outer_sum: Array  # [w] column sums


@pytree
@dataclass(frozen=True)
class BlockCondition:
    """What a block needs to know of an image's features."""

    product: Array  # [..., hidden]
    mean: Array  # [..., 1]
    spread: Array  # [..., 1] sum of squares about the mean
    count: int = field(metadata={"static": True})  # width of the features


@pytree
@dataclass(frozen=True)
class FoldedStream:
    blocks: tuple[FoldedBlock, ...]
    input: tuple[Array, Array]  # kernel, bias
    output: tuple[Array, Array]


class _Linear(nn.Module):
    """Kernel and bias of a linear map, initialised as PyTorch does."""

    inputs: int
    outputs: int

    @nn.compact
    def __call__(self) -> tuple[Array, Array]:
        bound = self.inputs**-0.5

        def uniform(key: Array, shape: tuple[int, ...]) -> Array:
            return jax.random.uniform(key, shape, minval=-bound, maxval=bound)

        kernel = self.param("kernel", uniform, (self.inputs, self.outputs))
        return kernel, self.param("bias", uniform, (self.outputs,))


class _Norm(nn.Module):
    """Scale and bias of a LayerNorm."""

    width: int

    @nn.compact
    def __call__(self) -> tuple[Array, Array]:
        scale = self.param("scale", nn.initializers.ones, (self.width,))
        return scale, self.param("bias", nn.initializers.zeros, (self.width,))


class _Block(nn.Module):
    width: int
    features: int
    hidden: int

    def setup(self) -> None:
        both = self.width + self.features
        self.time = _Linear(4 * self.width, 2 * self.width)
        self.norm1, self.linear1 = _Norm(both), _Linear(both, self.hidden)
        self.norm2, self.linear2 = _Norm(self.hidden), _Linear(self.hidden, self.width)

    def fold(self) -> FoldedBlock:
        (scale1, shift1), (kernel1, bias1) = self.norm1(), self.linear1()
        (scale2, shift2), (kernel2, bias2) = self.norm2(), self.linear2()
        scaled1, scaled2 = scale1[:, None] * kernel1, scale2[:, None] * kernel2
        return FoldedBlock(
            inner=scaled1[: self.width],
            outer=scaled2,
            inner_bias=shift1 @ kernel1 + bias1,
            outer_bias=shift2 @ kernel2 + bias2,
            features_sum=scaled1[self.width :].sum(0),
            outer_sum=scaled2.sum(0),
        )

    def condition(self, features: Array) -> BlockCondition:
        mean = features.mean(-1, keepdims=True)
        # About the mean: the plain sum of squares would lose digits of the variance.
        centred = features - mean
        kernel = self.norm1()[0][self.width :, None] * self.linear1()[0][self.width :]
        return BlockCondition(
            product=centred @ kernel,
            mean=mean,
            spread=(centred**2).sum(-1, keepdims=True),
            count=self.features,
        )

    def modulation(self, embedding: Array) -> tuple[Array, Array]:
        kernel, bias = self.time()
        scale, shift = jnp.split(nn.silu(embedding) @ kernel + bias, 2, axis=-1)
        return scale + 1, shift


class _Stream(nn.Module):
    """One residual MLP: the pose's, or the shape's."""

    width: int
    features: int
    hidden: int
    depth: int

    def setup(self) -> None:
        self.time1 = _Linear(self.width, 4 * self.width)
        self.time2 = _Linear(4 * self.width, 4 * self.width)
        self.input = _Linear(self.width, self.width)
        self.output = _Linear(self.width, self.width)
        self.blocks = [_Block(self.width, self.features, self.hidden) for _ in range(self.depth)]

    def fold(self) -> FoldedStream:
        return FoldedStream(tuple(b.fold() for b in self.blocks), self.input(), self.output())

    def condition(self, features: Array) -> tuple[BlockCondition, ...]:
        return tuple(block.condition(features) for block in self.blocks)

    def modulation(self, t: Array) -> tuple[tuple[Array, Array], ...]:
        return tuple(block.modulation(self.embedding(t)) for block in self.blocks)

    def embedding(self, t: Array) -> Array:
        (kernel1, bias1), (kernel2, bias2) = self.time1(), self.time2()
        code = sinusoid(t, self.width).astype(kernel1.dtype)
        return _gelu(code @ kernel1 + bias1) @ kernel2 + bias2


class Denoiser(nn.Module):
    """Predicts the noise in x_t (paper, section 4.2 and Fig. 5)."""

    config: DenoiserConfig

    def setup(self) -> None:
        c = self.config
        self.pose = _Stream(POSE_DIM, c.features, c.hidden, c.blocks)
        if c.with_shape:
            self.shape = _Stream(SHAPE_DIM, c.shape_features, c.hidden, c.shape_blocks)

    def _streams(self) -> tuple[Any, ...]:
        return (self.pose, self.shape) if self.config.with_shape else (self.pose,)

    def fold(self) -> tuple[FoldedStream, ...]:
        """The weights as `denoise` wants them; once per set of weights."""
        return tuple(stream.fold() for stream in self._streams())

    def condition(self, features: Array) -> tuple[tuple[BlockCondition, ...], ...] | None:
        """What the streams need to know of features [..., condition_dim]; once per image."""
        if self.config.condition_dim == 0:
            return None
        split = self.config.features
        parts = (features[..., :split], features[..., split:])
        return tuple(s.condition(part) for s, part in zip(self._streams(), parts, strict=False))

    def modulation(self, t: Array) -> tuple[tuple[tuple[Array, Array], ...], ...]:
        """Scales and shifts of levels t [...]; once per level."""
        return tuple(stream.modulation(t) for stream in self._streams())

    def __call__(self, x: Array, t: Array, features: Array | None = None) -> Array:
        """Noise in x [..., dim] at levels t [...], given features [..., condition_dim]."""
        return denoise(self.fold(), x, self.modulation(t), self.condition(features))


def denoise(
    weights: tuple[FoldedStream, ...],
    x: Array,
    modulation: tuple[tuple[tuple[Array, Array], ...], ...],
    condition: tuple[tuple[BlockCondition, ...], ...] | None,
) -> Array:
    """Noise in x [..., dim], from what `fold`, `modulation` and `condition` prepared."""
    parts = (x,) if len(weights) == 1 else (x[..., :POSE_DIM], x[..., POSE_DIM:])
    conditions = condition if condition is not None else (None,) * len(weights)
    out = [
        _denoise_stream(*each) for each in zip(weights, parts, modulation, conditions, strict=True)
    ]
    return out[0] if len(out) == 1 else jnp.concatenate(out, axis=-1)


def _denoise_stream(
    weights: FoldedStream,
    x: Array,
    modulation: tuple[tuple[Array, Array], ...],
    condition: tuple[BlockCondition, ...] | None,
) -> Array:
    kernel, bias = weights.input
    h = x @ kernel + bias
    for i, block in enumerate(weights.blocks):
        scale, shift = modulation[i]
        h = h * scale + shift
        h = h + _block(block, h, condition[i] if condition is not None else None)
    kernel, bias = weights.output
    return h @ kernel + bias


def _block(block: FoldedBlock, h: Array, condition: BlockCondition | None) -> Array:
    width = h.shape[-1]
    h_mean = h.mean(-1, keepdims=True)
    h_spread = ((h - h_mean) ** 2).sum(-1, keepdims=True)
    if condition is None:
        inner = (h - h_mean) @ block.inner
        variance = h_spread / width
    else:
        # Mean and variance of [h, c] from those of its parts.
        total = width + condition.count
        mean = (width * h_mean + condition.count * condition.mean) / total
        between = width * condition.count / total**2 * (h_mean - condition.mean) ** 2
        variance = (h_spread + condition.spread) / total + between
        inner = (h - mean) @ block.inner + condition.product
        inner = inner + (condition.mean - mean) * block.features_sum
    hidden = _gelu(inner * jax.lax.rsqrt(variance + _EPSILON) + block.inner_bias)
    mean = hidden.mean(-1, keepdims=True)
    variance = (hidden**2).mean(-1, keepdims=True) - mean**2
    outer = (hidden @ block.outer - mean * block.outer_sum) * jax.lax.rsqrt(variance + _EPSILON)
    return _gelu(outer + block.outer_bias)


def sinusoid(t: Array, width: int) -> Array:
    """Sinusoidal code of levels t [...], [..., width]: sines, then cosines."""
    half = width // 2
    rates = jnp.exp(jnp.arange(half) * (-math.log(10000) / (half - 1)))
    angles = jnp.asarray(t)[..., None] * rates
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def _gelu(x: Array) -> Array:
    return jax.nn.gelu(x, approximate=False)
