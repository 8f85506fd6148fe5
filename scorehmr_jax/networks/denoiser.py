"""The denoiser: residual MLP blocks on the pose, modulated by time, told of image features.

Each block normalises and multiplies [h, c], 144 numbers that change with every step beside
thousands that do not. LayerNorm is affine in [h, c] once mean and variance are known, and both
are sums over the two parts. So the part of c is worked out once per image (`condition`), the
part of t once per level (`modulation`), the weights are folded once (`fold`), and calling the
`FoldedDenoiser` does the rest. Training runs the same code.
"""

import math
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from body_model.pytree import pytree
from scorehmr_jax.types import Array

POSE_DIM = 144
SHAPE_DIM = 10
EPSILON = 1e-5  # of LayerNorm


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
class BlockCondition:
    """What a block needs to know of an image's features."""

    product: Array  # [..., hidden]
    mean: Array  # [..., 1]
    spread: Array  # [..., 1] sum of squares about the mean


Condition = tuple[tuple[BlockCondition, ...], ...]  # per stream, per block
Modulation = tuple[tuple[tuple[Array, Array], ...], ...]  # scale and shift per stream and block


@pytree
class _FoldedBlock:
    """A block's weights with both norms' affine maps multiplied in."""

    inner: Array  # [w, hidden] on h
    inner_bias: Array  # [hidden]
    outer: Array  # [hidden, w]
    outer_bias: Array  # [w]
    outer_sum: Array  # [w] column sums
    features_kernel: Array  # [F, hidden] on c, before the norm's scale
    features_scale: Array  # [F]
    features_sum: Array  # [hidden] column sums with the scale
    time: tuple[Array, Array]

    def condition(self, features: Array) -> BlockCondition:
        mean = features.mean(-1, keepdims=True)
        # About the mean: the plain sum of squares would lose digits of the variance.
        centred = features - mean
        product = (centred * self.features_scale) @ self.features_kernel
        return BlockCondition(product, mean, (centred**2).sum(-1, keepdims=True))

    def modulation(self, embedding: Array) -> tuple[Array, Array]:
        kernel, bias = self.time
        scale, shift = jnp.split(nn.silu(embedding) @ kernel + bias, 2, axis=-1)
        return scale + 1, shift

    def __call__(self, h: Array, condition: BlockCondition | None) -> Array:
        width, count = h.shape[-1], self.features_scale.shape[0]
        h_mean = row_sum(h) / width
        centred = h - h_mean
        variance = row_sum(centred**2) / width
        if condition is None:
            inner = centred @ self.inner
        else:
            # Mean and variance of [h, c] from those of its parts.
            total = width + count
            gap = condition.mean - h_mean
            to_mean = count / total * gap
            variance = (width * variance + condition.spread) / total
            variance = variance + width * count / total**2 * gap**2
            inner = (centred - to_mean) @ self.inner + condition.product
            inner = inner + (gap - to_mean) * self.features_sum
        hidden = gelu(inner * jax.lax.rsqrt(variance + EPSILON) + self.inner_bias)
        mean = row_sum(hidden) / hidden.shape[-1]
        variance = jnp.maximum(row_sum(hidden**2) / hidden.shape[-1] - mean**2, 0)
        outer = hidden @ self.outer - mean * self.outer_sum
        return gelu(outer * jax.lax.rsqrt(variance + EPSILON) + self.outer_bias)


@pytree
class _FoldedStream:
    blocks: tuple[_FoldedBlock, ...]
    input: tuple[Array, Array]  # kernel, bias
    output: tuple[Array, Array]
    time1: tuple[Array, Array]
    time2: tuple[Array, Array]

    def embedding(self, t: Array) -> Array:
        (kernel1, bias1), (kernel2, bias2) = self.time1, self.time2
        code = sinusoid(t, kernel1.shape[0]).astype(kernel1.dtype)
        return gelu(code @ kernel1 + bias1) @ kernel2 + bias2

    def __call__(
        self,
        x: Array,
        modulation: tuple[tuple[Array, Array], ...],
        condition: tuple[BlockCondition, ...] | None,
    ) -> Array:
        kernel, bias = self.input
        h = x @ kernel + bias
        for i, block in enumerate(self.blocks):
            scale, shift = modulation[i]
            h = h * scale + shift
            h = h + block(h, condition[i] if condition is not None else None)
        kernel, bias = self.output
        return h @ kernel + bias


@pytree
class FoldedDenoiser:
    """A denoiser ready to be evaluated many times. Made by `fold` or `Denoiser.fold`."""

    streams: tuple[_FoldedStream, ...]  # of the pose, and of the shape where it is modelled

    def condition(self, features: Array | None) -> Condition | None:
        """What the streams need to know of features [..., condition_dim]; once per image."""
        if features is None or features.shape[-1] == 0:
            return None
        split = self.streams[0].blocks[0].features_scale.shape[0]
        parts = (features[..., :split], features[..., split:])
        return tuple(
            tuple(block.condition(part) for block in stream.blocks)
            for stream, part in zip(self.streams, parts, strict=False)
        )

    def modulation(self, t: Array) -> Modulation:
        """Scales and shifts of levels t [...]; once per level."""
        out = []
        for stream in self.streams:
            embedding = stream.embedding(t)
            out.append(tuple(block.modulation(embedding) for block in stream.blocks))
        return tuple(out)

    def __call__(self, x: Array, modulation: Modulation, condition: Condition | None) -> Array:
        """Noise in x [..., dim], given what `modulation` and `condition` prepared."""
        parts = (x,) if len(self.streams) == 1 else (x[..., :POSE_DIM], x[..., POSE_DIM:])
        out = [
            stream(parts[i], modulation[i], condition[i] if condition is not None else None)
            for i, stream in enumerate(self.streams)
        ]
        return out[0] if len(out) == 1 else jnp.concatenate(out, axis=-1)


def fold(config: DenoiserConfig, params: Any) -> FoldedDenoiser:
    """The weights as the loop wants them; once per set of weights."""
    return Denoiser(config).apply({"params": params}, method="fold")  # type: ignore[return-value]


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

    def fold(self) -> _FoldedBlock:
        (scale1, shift1), (kernel1, bias1) = self.norm1(), self.linear1()
        (scale2, shift2), (kernel2, bias2) = self.norm2(), self.linear2()
        width = self.width
        # One pass over the large kernel for both sums.
        of_features = jnp.where(jnp.arange(len(scale1)) < width, 0, scale1)
        sums = jnp.stack([shift1, of_features]) @ kernel1
        scaled2 = scale2[:, None] * kernel2
        return _FoldedBlock(
            inner=scale1[:width, None] * kernel1[:width],
            inner_bias=sums[0] + bias1,
            outer=scaled2,
            outer_bias=shift2 @ kernel2 + bias2,
            outer_sum=scaled2.sum(0),
            features_kernel=kernel1[width:],
            features_scale=scale1[width:],
            features_sum=sums[1],
            time=self.time(),
        )


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

    def fold(self) -> _FoldedStream:
        return _FoldedStream(
            blocks=tuple(block.fold() for block in self.blocks),
            input=self.input(),
            output=self.output(),
            time1=self.time1(),
            time2=self.time2(),
        )


class Denoiser(nn.Module):
    """Predicts the noise in x_t (paper, section 4.2 and Fig. 5)."""

    config: DenoiserConfig

    def setup(self) -> None:
        c = self.config
        self.pose = _Stream(POSE_DIM, c.features, c.hidden, c.blocks)
        if c.with_shape:
            self.shape = _Stream(SHAPE_DIM, c.shape_features, c.hidden, c.shape_blocks)

    def fold(self) -> FoldedDenoiser:
        """The weights as a `FoldedDenoiser`."""
        streams = (self.pose, self.shape) if self.config.with_shape else (self.pose,)
        return FoldedDenoiser(tuple(stream.fold() for stream in streams))

    def __call__(self, x: Array, t: Array, features: Array | None = None) -> Array:
        """Noise in x [..., dim] at levels t [...], given features [..., condition_dim]."""
        folded = self.fold()
        return folded(x, folded.modulation(t), folded.condition(features))


def sinusoid(t: Array, width: int) -> Array:
    """Sinusoidal code of levels t [...], [..., width]: sines, then cosines."""
    half = width // 2
    rates = jnp.exp(jnp.arange(half) * (-math.log(10000) / (half - 1)))
    angles = jnp.asarray(t)[..., None] * rates
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def gelu(x: Array) -> Array:
    """Exact GELU by the error function, as PyTorch does; jax.nn.gelu's erfc takes far longer."""
    return 0.5 * x * (1 + jax.lax.erf(x * 0.5**0.5))


def row_sum(x: Array) -> Array:
    """Sums over the last axis, [..., 1]; as a product, which XLA's CPU backend vectorises."""
    ones = jnp.ones((x.shape[-1], 1), x.dtype)
    # Means and variances stay exact whatever the precision of the layers.
    return jnp.matmul(x, ones, precision=jax.lax.Precision.HIGHEST)
