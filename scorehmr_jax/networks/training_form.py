"""The denoiser in the form that is fastest to train. Equal to its definition.

Folding pays where weights stay and are used again. In training they change with every step, and
what costs time is the large kernel on [h, c]: it is read as it lies in memory, and no gradient by
the features c is worked out, which would be a third of all products. The sums over [h, c] that the
norm's own derivative needs come from products that are made anyway.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float, Integer

from body_model.pytree import Array
from scorehmr_jax.networks.layers import EPSILON, gelu, linear, row_sum, sinusoid, with_axes
from scorehmr_jax.networks.protocol import POSE_DIM

Weights = Mapping[str, Any]


def training_noise(
    params: Weights,
    widths: tuple[int, ...],
    x: Float[Array, "*x D"],
    t: Integer[Array, "*t"],
    features: Float[Array, "*f F"] | None,
) -> Float[Array, "*x D"]:
    """Predicts the noise in x [..., dim]. Features are data: no gradient reaches them.

    It has reverse-mode derivatives by weights and x alone, of first order.

    Args:
        params: of `ResidualMLP`.
        widths: features that the pose's stream sees, and the shape's where it is modelled.
        x: [..., dim] noisy pose.
        t: [...] levels that broadcast with the rows of x.
        features: [..., F] one row for each of x, or None.
    """
    t = with_axes(jnp.asarray(t), x.ndim - 1)
    ends = [sum(widths[: i + 1]) for i in range(len(widths))]
    parts = [
        features[..., end - width : end] if features is not None and width else None
        for end, width in zip(ends, widths, strict=True)
    ]
    noise = _stream(params["pose"], x[..., :POSE_DIM], t, parts[0])
    if len(widths) == 1:
        return noise
    shape = _stream(params["shape"], x[..., POSE_DIM:], t, parts[1])
    return jnp.concatenate([noise, shape], axis=-1)


def _stream(p: Weights, x: Array, t: Array, features: Array | None) -> Array:
    code = sinusoid(t, x.shape[-1]).astype(x.dtype)
    code = jax.nn.silu(linear(gelu(linear(code, **p["time1"])), **p["time2"]))
    h = linear(x, **p["input"])
    for i in range(sum(name.startswith("blocks_") for name in p)):
        block = p[f"blocks_{i}"]
        scale, shift = jnp.split(linear(code, **block["time"]), 2, axis=-1)
        h = h * (scale + 1) + shift
        norm, layer = block["norm1"], block["linear1"]
        precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
        weights = norm["scale"], norm["bias"], layer["kernel"], layer["bias"]
        normed, _ = _normed(gelu(normed_linear(precision, h, features, *weights)))
        norm = {name: with_axes(row, h.ndim) for name, row in block["norm2"].items()}
        h = h + gelu(linear(normed * norm["scale"] + norm["bias"], **block["linear2"]))
    return linear(h, **p["output"])


def _normed(x: Array) -> tuple[Array, Array]:
    """LayerNorm without its affine map, and what it was multiplied by."""
    centred = x - row_sum(x) / x.shape[-1]
    rate = jax.lax.rsqrt(row_sum(centred**2) / x.shape[-1] + EPSILON)
    return centred * rate, rate


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def normed_linear(
    precision: Any,
    h: Float[Array, "*h w"],
    c: Float[Array, "*h F"] | None,
    scale: Float[Array, " wF"],
    shift: Float[Array, " wF"],
    kernel: Float[Array, "wF m"],
    bias: Float[Array, " m"],
) -> Float[Array, "*h m"]:
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
    precision: Any,
    h: Array,
    c: Array | None,
    scale: Array,
    shift: Array,
    kernel: Array,
    bias: Array,
) -> tuple[Array, Any]:
    x = h if c is None else jnp.concatenate([h, c], axis=-1)
    normed, rate = _normed(x.reshape(-1, x.shape[-1]))
    # Two more rows than the batch has, for the derivative: scale and shift through the kernel.
    scale, shift = scale[None], shift[None]
    rows = jnp.concatenate([normed * scale + shift, scale, shift])
    with jax.default_matmul_precision(precision):
        product = rows @ kernel
    out = (product[:-2] + bias[None]).reshape(*h.shape[:-1], -1)
    return out, (normed, rate, scale, shift, kernel, product, h)


def _backward(precision: Any, saved: Any, gradient: Array) -> tuple[Array | None, ...]:
    normed, rate, scale, shift, kernel, product, h = saved
    count, width = normed.shape[-1], h.shape[-1]
    gradient = gradient.reshape(-1, gradient.shape[-1])
    with jax.default_matmul_precision(precision):
        of_normed = normed.T @ gradient
        of_bias = gradient.sum(0)
        of_shift = kernel @ of_bias
        of_h = scale[:, :width] * (gradient @ kernel[:width].T)
        # Sums over all of [h, c] of what reaches the norm's output, plain and times the output.
        total = gradient @ product[-2][:, None]
    of_output = row_sum(gradient * (product[:-2] - product[-1:]))
    of_h = rate * (of_h - total / count - normed[:, :width] * of_output / count)
    return (
        of_h.reshape(h.shape),
        None,
        (of_normed * kernel).sum(1),
        of_shift,
        scale.T * of_normed + shift.T * of_bias[None],
        of_bias,
    )


normed_linear.defvjp(_forward, _backward)
