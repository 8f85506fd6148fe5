"""ProHMR's conditional normalising flow over poses (Kolotouros et al., 2021).

Layers of activation norm, a linear map kept as L U, and a coupling whose network is told of the
image features, lead from a pose x in 6D to a latent z that is standard normal. The Flax module
below is the definition, by which it is trained; `FoldedFlow` computes the same, both ways, with all
that the image alone decides worked out once.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Key

from body_model.pytree import Array, pytree
from scorehmr_jax.networks.layers import linear, with_axes
from scorehmr_jax.networks.protocol import POSE_DIM, Params

COUPLINGS = ("additive", "affine")
_LEAST_DIAGONAL = 1e-3  # of U, as nflows has it
_LEAST_SCALE = 1e-3  # of an affine coupling


@dataclass(frozen=True)
class ConditionalFlow:
    """The flow by its sizes. The defaults are the released ProHMR's."""

    features: int = 2048  # width of the condition
    hidden: int = 1024
    layers: int = 4
    blocks: int = 2  # residual blocks of a coupling's network
    coupling: str = "additive"  # or "affine", which scales too
    # Whether blocks hold the released network's batch norms, of which the statistics of its
    # training are left: a scale and a bias.
    normed: bool = True

    dim = POSE_DIM

    def __post_init__(self) -> None:
        for name in ("features", "hidden", "layers", "blocks"):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= 100_000:
                raise ValueError(f"{name}: expected a whole number of at least 1, found {value!r}")
        if self.coupling not in COUPLINGS:
            raise ValueError(
                f"coupling: expected {' or '.join(COUPLINGS)}, found {self.coupling!r}"
            )

    def init(self, key: Key[Array, ""]) -> Params:
        """Makes first weights, with which the flow is nearly the identity."""
        x, features = jnp.zeros((1, self.dim)), jnp.zeros((1, self.features))
        return _Flow(self).init(jnp.asarray(key), x, features)["params"]

    def encode(
        self, params: Params, x: Float[Array, "*N 144"], features: Float[Array, "*N F"]
    ) -> tuple[Float[Array, "*N 144"], Float[Array, "*N"]]:
        """Finds the latent of poses.

        Args:
            params: weights.
            x: [..., 144] poses in 6D.
            features: [..., F], standardised as the weights expect.
        Returns:
            z [..., 144], and log |det dz/dx| [...].
        """
        return _Flow(self).apply({"params": params}, x, features)  # type: ignore[return-value]

    def log_prob(
        self, params: Params, x: Float[Array, "*N 144"], features: Float[Array, "*N F"]
    ) -> Float[Array, "*N"]:
        """Works out the log-density of poses in nats. Arguments as `encode`."""
        return normal_log_prob(*self.encode(params, x, features))

    def fold(self, params: Params, features: Float[Array, "*N F"]) -> "FoldedFlow":
        """Works out all that features alone decide. Arguments as `encode`."""
        with jax.default_matmul_precision("float32"):
            layers = tuple(
                _fold_layer(params[f"layers_{i}"], self, features) for i in range(self.layers)
            )
        return FoldedFlow(layers)


def normal_log_prob(z: Float[Array, "*N 144"], log_det: Float[Array, "*N"]) -> Float[Array, "*N"]:
    """The log-density of what a flow encodes as z: the standard normal's, plus the log-determinant.

    Args:
        z, log_det: as `encode` gives them.
    """
    return log_det - 0.5 * (z**2).sum(-1) - 0.5 * z.shape[-1] * math.log(2 * math.pi)


@pytree
class FoldedFlow:
    """A flow told of the features of N images: x to z and back."""

    layers: tuple[Any, ...]

    def encode(
        self, x: Float[Array, "*N 144"]
    ) -> tuple[Float[Array, "*N 144"], Float[Array, "*N"]]:
        """Finds the latent of poses; as `ConditionalFlow.encode`."""
        log_det = jnp.zeros_like(x[..., 0])
        with jax.default_matmul_precision("float32"):
            for number, layer in enumerate(self.layers):
                x = linear(x, layer["forth"], layer["forth_bias"])
                kept, moved = _split(x, number)
                shift, scale, log_scale = _coupling(_network(layer, kept), moved.shape[-1])
                x = _join(kept, moved * scale + shift, number)
                log_det = log_det + layer["log_det"] + log_scale
        return x, log_det

    def decode(
        self, z: Float[Array, "*N 144"]
    ) -> tuple[Float[Array, "*N 144"], Float[Array, "*N"]]:
        """Finds the pose of a latent.

        Args:
            z: [..., 144]; 0 is the mode where the couplings are additive.
        Returns:
            x [..., 144] in 6D, not orthonormal, and log |det dx/dz| [...].
        """
        log_det = jnp.zeros_like(z[..., 0])
        with jax.default_matmul_precision("float32"):
            for number, layer in reversed(list(enumerate(self.layers))):
                kept, moved = _split(z, number)
                shift, scale, log_scale = _coupling(_network(layer, kept), moved.shape[-1])
                z = _join(kept, (moved - shift) / scale, number)
                z = linear(z, layer["back"], layer["back_bias"])
                log_det = log_det - layer["log_det"] - log_scale
        return z, log_det


class _Flow(nn.Module):
    sizes: ConditionalFlow

    @nn.compact
    def __call__(self, x: Array, features: Array) -> tuple[Array, Array]:
        log_det = jnp.zeros_like(x[..., 0])
        for number in range(self.sizes.layers):
            x, more = _Layer(self.sizes, number, name=f"layers_{number}")(x, features)
            log_det = log_det + more
        return x, log_det


class _Layer(nn.Module):
    sizes: ConditionalFlow
    number: int

    @nn.compact
    def __call__(self, x: Array, features: Array) -> tuple[Array, Array]:
        width = x.shape[-1]
        log_scale = self.param("log_scale", nn.initializers.zeros, (width,))
        x = _scaled(x, jnp.exp(log_scale), self.param("shift", nn.initializers.zeros, (width,)))
        entries = width * (width - 1) // 2
        lower, upper = _triangles(
            self.param("lower", nn.initializers.zeros, (entries,)),
            self.param("upper", nn.initializers.zeros, (entries,)),
            # softplus(this) + the least is 1.
            self.param(
                "diagonal",
                nn.initializers.constant(math.log(math.expm1(1 - _LEAST_DIAGONAL))),
                (width,),
            ),
        )
        x = linear(x @ upper.T, lower.T, self.param("bias", nn.initializers.zeros, (width,)))
        kept, moved = _split(x, self.number)
        outputs = moved.shape[-1] * (2 if self.sizes.coupling == "affine" else 1)
        found = _Residual(self.sizes, outputs, name="net")(kept, features)
        shift, scale, log_scales = _coupling(found, moved.shape[-1])
        log_det = log_scale.sum() + jnp.log(jnp.diagonal(upper)).sum() + log_scales
        return _join(kept, moved * scale + shift, self.number), log_det


class _Residual(nn.Module):
    """The network of a coupling: residual blocks, gated by the features."""

    sizes: ConditionalFlow
    outputs: int

    @nn.compact
    def __call__(self, x: Array, features: Array) -> Array:
        hidden = self.sizes.hidden
        h = nn.Dense(hidden, name="input")(jnp.concatenate([x, features], axis=-1))
        for i in range(self.sizes.blocks):
            inner = h
            for half in ("1", "2"):
                if self.sizes.normed:
                    inner = _Affine(name=f"blocks_{i}_norm{half}")(inner)
                inner = nn.Dense(hidden, name=f"blocks_{i}_linear{half}")(nn.relu(inner))
            h = h + inner * nn.sigmoid(nn.Dense(hidden, name=f"blocks_{i}_gate")(features))
        small = nn.initializers.normal(1e-3)
        return nn.Dense(self.outputs, kernel_init=small, name="output")(h)


class _Affine(nn.Module):
    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
        return _scaled(x, scale, self.param("bias", nn.initializers.zeros, x.shape[-1:]))


def _fold_layer(params: Params, sizes: ConditionalFlow, features: Array) -> dict[str, Any]:
    lower, upper = _triangles(params["lower"], params["upper"], params["diagonal"])
    size = jnp.exp(params["log_scale"])
    solve = partial(jax.scipy.linalg.solve_triangular)
    identity = jnp.eye(len(upper), dtype=upper.dtype)
    inverse = solve(upper, solve(lower, identity, lower=True, unit_diagonal=True))
    bias = lower @ (upper @ params["shift"]) + params["bias"]
    inverse = inverse / size[:, None]
    net = params["net"]
    kept = net["input"]["kernel"].shape[0] - sizes.features
    told = linear(features, net["input"]["kernel"][kept:], net["input"]["bias"])
    gates = [
        jax.nn.sigmoid(linear(features, **net[f"blocks_{i}_gate"])) for i in range(sizes.blocks)
    ]
    return {
        "forth": (lower @ (upper * size[None])).T,
        "forth_bias": bias,
        "back": inverse.T,
        "back_bias": -(inverse @ bias),
        "log_det": params["log_scale"].sum() + jnp.log(jnp.diagonal(upper)).sum(),
        "input": net["input"]["kernel"][:kept],
        "told": told,
        "blocks": [_fold_block(net, i, gate) for i, gate in enumerate(gates)],
        "output": net["output"],
    }


def _fold_block(net: Params, i: int, gate: Array) -> dict[str, Any]:
    block = {"gate": gate}
    for half in ("1", "2"):
        block["linear" + half] = net[f"blocks_{i}_linear{half}"]
        if f"blocks_{i}_norm{half}" in net:
            block["norm" + half] = net[f"blocks_{i}_norm{half}"]
    return block


def _network(layer: dict[str, Any], kept: Array) -> Array:
    """What `_Residual` gives, of a folded layer."""
    h = kept @ layer["input"] + layer["told"]
    for block in layer["blocks"]:
        inner = h
        for half in ("1", "2"):
            if "norm" + half in block:
                inner = _scaled(inner, **block["norm" + half])
            inner = linear(jax.nn.relu(inner), **block["linear" + half])
        h = h + inner * block["gate"]
    return linear(h, **layer["output"])


def _coupling(found: Array, width: int) -> tuple[Array, Array, Array]:
    """Shift and scale of what is moved, and the sum of the scale's logarithms."""
    shift = found[..., :width]
    if found.shape[-1] == width:
        return shift, jnp.ones_like(shift), jnp.zeros_like(shift[..., 0])
    scale = jax.nn.sigmoid(found[..., width:] + 2) + _LEAST_SCALE
    return shift, scale, jnp.log(scale).sum(-1)


def _split(x: Array, number: int) -> tuple[Array, Array]:
    """What a layer keeps and what it moves: the odd numbers in the first layer, then the even."""
    even, odd = x[..., ::2], x[..., 1::2]
    return (even, odd) if number % 2 == 0 else (odd, even)


def _join(kept: Array, moved: Array, number: int) -> Array:
    """Undoes `_split`."""
    pair = (kept, moved) if number % 2 == 0 else (moved, kept)
    return jnp.stack(pair, axis=-1).reshape(*kept.shape[:-1], 2 * kept.shape[-1])


def _scaled(x: Array, scale: Array, bias: Array) -> Array:
    return x * with_axes(scale, x.ndim) + with_axes(bias, x.ndim)


def _triangles(lower: Array, upper: Array, diagonal: Array) -> tuple[Array, Array]:
    """L with a diagonal of ones and U, of their entries row by row."""
    width = len(diagonal)
    full = jnp.eye(width, dtype=lower.dtype)
    positive = jax.nn.softplus(diagonal) + _LEAST_DIAGONAL
    return (
        full.at[np.tril_indices(width, -1)].set(lower),
        jnp.diag(positive).at[np.triu_indices(width, 1)].set(upper),
    )
