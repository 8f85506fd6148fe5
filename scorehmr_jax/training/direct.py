"""The denoiser as training wants it: the same function of the same weights, not folded.

Folding pays where weights stay and are used again. In training they change with every step, and
what costs time is the large kernel on [h, c]: it is read as it lies in memory, and no gradient by
the features c is worked out, which would be a third of all products. The sums over [h, c] that the
norm's own derivative needs come from products that are made anyway.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from scorehmr_jax.networks.denoiser import (
    EPSILON,
    POSE_DIM,
    DenoiserConfig,
    gelu,
    row_sum,
    sinusoid,
)
from scorehmr_jax.types import Array

Weights = Mapping[str, Any]


@dataclass(frozen=True)
class DirectDenoiser:
    """`Denoiser` for `make_update`, with its weights. Features are data: no gradient reaches them.

    It has reverse-mode derivatives by weights and x alone, of first order.
    """

    config: DenoiserConfig

    def apply(self, variables: Weights, x: Array, t: Array, features: Array | None = None) -> Array:
        """Noise in x [..., dim]; arguments as those of `Denoiser`."""
        params, c = variables["params"], self.config
        if not c.condition_dim:
            features = None
        if not c.with_shape:
            return _stream(params["pose"], c.blocks, x, t, features)
        assert features is not None  # of the shape stream
        pose = _stream(
            params["pose"], c.blocks, x[..., :POSE_DIM], t,
            features[..., : c.features] if c.features else None,
        )  # fmt: skip
        of_shape = features[..., c.features :]
        shape = _stream(params["shape"], c.shape_blocks, x[..., POSE_DIM:], t, of_shape)
        return jnp.concatenate([pose, shape], axis=-1)


def _stream(p: Weights, blocks: int, x: Array, t: Array, features: Array | None) -> Array:
    code = sinusoid(t, x.shape[-1]).astype(x.dtype)
    code = jax.nn.silu(_linear(p["time2"], gelu(_linear(p["time1"], code))))
    h = _linear(p["input"], x)
    for i in range(blocks):
        block = p[f"blocks_{i}"]
        scale, shift = jnp.split(_linear(block["time"], code), 2, axis=-1)
        h = h * (scale + 1) + shift
        norm, linear = block["norm1"], block["linear1"]
        precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
        inner = gelu(
            normed_linear(
                precision, h, features, norm["scale"], norm["bias"], linear["kernel"],
                linear["bias"],
            )
        )  # fmt: skip
        normed, _ = _normed(inner)
        norm = block["norm2"]
        h = h + gelu(_linear(block["linear2"], normed * norm["scale"] + norm["bias"]))
    return _linear(p["output"], h)


def _linear(p: Weights, x: Array) -> Array:
    return x @ p["kernel"] + p["bias"]


def _normed(x: Array) -> tuple[Array, Array]:
    """LayerNorm without its affine map, and what it was multiplied by."""
    centred = x - row_sum(x) / x.shape[-1]
    rate = jax.lax.rsqrt(row_sum(centred**2) / x.shape[-1] + EPSILON)
    return centred * rate, rate


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def normed_linear(
    precision: Any, h: Array, c: Array | None, scale: Array, shift: Array, kernel: Array,
    bias: Array,
) -> Array:  # fmt: skip
    """LayerNorm and a linear map of [h, c], with derivatives by all but c.

    Args:
        precision: of the products, as `jax.default_matmul_precision` names it; given, because
            derivatives are traced where that setting no longer holds.
        h: [..., w] what is learned about.
        c: [..., F] with the same leading axes, or None.
        scale, shift: [w + F] of the norm.
        kernel, bias: [w + F, m], [m].
    Returns:
        [..., m].
    """
    return _forward(precision, h, c, scale, shift, kernel, bias)[0]


def _forward(
    precision: Any, h: Array, c: Array | None, scale: Array, shift: Array, kernel: Array,
    bias: Array,
) -> tuple[Array, Any]:  # fmt: skip
    x = h if c is None else jnp.concatenate([h, c], axis=-1)
    normed, rate = _normed(x.reshape(-1, x.shape[-1]))
    # Two more rows than the batch has, for the derivative: scale and shift through the kernel.
    rows = jnp.concatenate([normed * scale + shift, scale[None], shift[None]])
    with jax.default_matmul_precision(precision):
        product = rows @ kernel
    out = (product[:-2] + bias).reshape(*h.shape[:-1], -1)
    return out, (normed, rate, scale, shift, kernel, product, h)


def _backward(precision: Any, saved: Any, gradient: Array) -> tuple[Array | None, ...]:
    normed, rate, scale, shift, kernel, product, h = saved
    count, width = normed.shape[-1], h.shape[-1]
    gradient = gradient.reshape(-1, gradient.shape[-1])
    with jax.default_matmul_precision(precision):
        of_normed = normed.T @ gradient
        of_bias = gradient.sum(0)
        of_shift = kernel @ of_bias
        of_h = scale[:width] * (gradient @ kernel[:width].T)
        # Sums over all of [h, c] of what reaches the norm's output, plain and times the output.
        total = gradient @ product[-2][:, None]
    of_output = row_sum(gradient * (product[:-2] - product[-1]))
    of_h = rate * (of_h - total / count - normed[:, :width] * of_output / count)
    return (
        of_h.reshape(h.shape),
        None,
        (of_normed * kernel).sum(1),
        of_shift,
        scale[:, None] * of_normed + shift[:, None] * of_bias,
        of_bias,
    )


normed_linear.defvjp(_forward, _backward)
