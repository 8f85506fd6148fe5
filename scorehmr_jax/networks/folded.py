"""The denoiser for many evaluations: what repeats is worked out once. Equal to its definition.

Each block normalises and multiplies [h, c]: 144 numbers h that change with every step, beside
thousands c that do not. LayerNorm is affine in [h, c] once mean and variance are known, and both
are sums over the two parts. So the part of c is worked out once per image (`condition`), the part
of t once per level (`modulation`), and the norms' scales and shifts are multiplied into the
weights once (`fold`).
"""

from collections.abc import Mapping
from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float, Integer

from body_model.pytree import Array, pytree
from scorehmr_jax.networks.layers import EPSILON, gelu, linear, row_sum, sinusoid, with_axes
from scorehmr_jax.networks.protocol import POSE_DIM, Prepared


@pytree
class BlockCondition:
    """All that a block needs to know of an image's features c."""

    product: Float[Array, "*f H"]  # (c - mean) through the norm's scale and the kernel
    mean: Float[Array, "*f 1"]
    spread: Float[Array, "*f 1"]  # sum of squares about the mean


Linear = tuple[Array, Array]  # kernel [I, O], bias [O]
Condition = tuple[tuple[BlockCondition, ...] | None, ...]  # per stream, per block
Modulation = tuple[tuple[tuple[Array, Array], ...], ...]  # scale and shift per stream and block


@pytree
class _FoldedBlock:
    """A block's weights with both norms' scales and shifts multiplied in."""

    inner: Float[Array, "w H"]  # on h
    inner_bias: Float[Array, " H"]
    outer: Float[Array, "H w"]
    outer_bias: Float[Array, " w"]
    outer_sum: Float[Array, " w"]  # column sums
    features_kernel: Float[Array, "F H"]  # on c, before the norm's scale
    features_scale: Float[Array, " F"]
    features_sum: Float[Array, " H"]  # column sums with the scale
    time: Linear

    def condition(self, features: Array) -> BlockCondition:
        mean = features.mean(-1, keepdims=True)
        # About the mean: the plain sum of squares would lose digits of the variance.
        centred = features - mean
        scaled = centred * with_axes(self.features_scale, centred.ndim)
        spread = (centred**2).sum(-1, keepdims=True)
        return BlockCondition(scaled @ self.features_kernel, mean, spread)

    def modulation(self, embedding: Array) -> tuple[Array, Array]:
        scale, shift = jnp.split(linear(jax.nn.silu(embedding), *self.time), 2, axis=-1)
        return scale + 1, shift

    def __call__(self, h: Array, condition: BlockCondition | None) -> Array:
        width, count = h.shape[-1], self.features_scale.shape[0]
        row = lambda vector: with_axes(vector, h.ndim)  # noqa: E731
        h_mean = row_sum(h) / width
        centred = h - h_mean
        variance = row_sum(centred**2) / width
        if condition is None:
            inner = centred @ self.inner
        else:
            # Mean and variance of [h, c] from those of its parts.
            total = width + count
            gap = row(condition.mean) - h_mean
            to_mean = count / total * gap
            variance = (width * variance + row(condition.spread)) / total
            variance = variance + width * count / total**2 * gap**2
            inner = (centred - to_mean) @ self.inner + row(condition.product)
            inner = inner + (gap - to_mean) * row(self.features_sum)
        hidden = gelu(inner * jax.lax.rsqrt(variance + EPSILON) + row(self.inner_bias))
        mean = row_sum(hidden) / hidden.shape[-1]
        variance = jnp.maximum(row_sum(hidden**2) / hidden.shape[-1] - mean**2, 0)
        outer = hidden @ self.outer - mean * row(self.outer_sum)
        return gelu(outer * jax.lax.rsqrt(variance + EPSILON) + row(self.outer_bias))


@pytree
class _FoldedStream:
    blocks: tuple[_FoldedBlock, ...]
    input: Linear
    output: Linear
    time1: Linear
    time2: Linear

    def embedding(self, t: Array) -> Array:
        kernel = self.time1[0]
        code = sinusoid(t, kernel.shape[0]).astype(kernel.dtype)
        return linear(gelu(linear(code, *self.time1)), *self.time2)

    def __call__(
        self,
        x: Array,
        modulation: tuple[tuple[Array, Array], ...],
        condition: tuple[BlockCondition, ...] | None,
    ) -> Array:
        h = linear(x, *self.input)
        for i, block in enumerate(self.blocks):
            scale, shift = (with_axes(each, h.ndim) for each in modulation[i])
            h = h * scale + shift
            h = h + block(h, condition[i] if condition is not None else None)
        return linear(h, *self.output)


@pytree
class FoldedMLP(Prepared):
    """A denoiser prepared for many evaluations. Made by `fold`."""

    streams: tuple[_FoldedStream, ...]  # of the pose, and of the shape where it is modelled
    # Of the features, how many each stream sees.
    widths: tuple[int, ...] = field(metadata={"static": True})

    def condition(self, features: Float[Array, "*f F"] | None) -> Condition | None:
        if features is None or not sum(self.widths):
            return None
        ends = [sum(self.widths[: i + 1]) for i in range(len(self.widths))]
        parts = [
            features[..., end - width : end] for end, width in zip(ends, self.widths, strict=True)
        ]
        return tuple(
            tuple(block.condition(part) for block in stream.blocks) if width else None
            for stream, part, width in zip(self.streams, parts, self.widths, strict=True)
        )

    def modulation(self, t: Integer[Array, "*t"]) -> Modulation:
        out = []
        for stream in self.streams:
            embedding = stream.embedding(t)
            out.append(tuple(block.modulation(embedding) for block in stream.blocks))
        return tuple(out)

    def __call__(
        self, x: Float[Array, "*x D"], modulation: Modulation, condition: Condition | None
    ) -> Float[Array, "*out D"]:
        # Levels or features of more axes than x has broadcast it.
        x = with_axes(x, max(leaf.ndim for leaf in (x, *jax.tree.leaves((modulation, condition)))))
        parts = (x,) if len(self.streams) == 1 else (x[..., :POSE_DIM], x[..., POSE_DIM:])
        out = [
            stream(parts[i], modulation[i], condition[i] if condition is not None else None)
            for i, stream in enumerate(self.streams)
        ]
        return out[0] if len(out) == 1 else jnp.concatenate(out, axis=-1)


def fold(params: Mapping[str, Any], widths: tuple[int, ...]) -> FoldedMLP:
    """Multiplies the norms into the weights; once per set of weights.

    Args:
        params: of `ResidualMLP`.
        widths: features that the pose's stream sees, and the shape's where it is modelled.
    """
    streams = [params[name] for name in ("pose", "shape")[: len(widths)]]
    return FoldedMLP(tuple(map(_folded_stream, streams)), widths)


def _folded_stream(params: Mapping[str, Any]) -> _FoldedStream:
    depth = sum(name.startswith("blocks_") for name in params)
    return _FoldedStream(
        blocks=tuple(_folded_block(params[f"blocks_{i}"]) for i in range(depth)),
        **{name: _linear(params[name]) for name in ("input", "output", "time1", "time2")},
    )


def _folded_block(params: Mapping[str, Any]) -> _FoldedBlock:
    (kernel1, bias1), (kernel2, bias2) = _linear(params["linear1"]), _linear(params["linear2"])
    scale1, shift1 = (jnp.asarray(params["norm1"][name]) for name in ("scale", "bias"))
    scale2, shift2 = (jnp.asarray(params["norm2"][name]) for name in ("scale", "bias"))
    width = kernel2.shape[1]
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
        time=_linear(params["time"]),
    )


def _linear(params: Mapping[str, Any]) -> Linear:
    return jnp.asarray(params["kernel"]), jnp.asarray(params["bias"])
