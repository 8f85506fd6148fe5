"""HMR 2.0: a transformer's one token asks what a ViT saw, and says how it differs from the mean.

Goel et al., "Humans in 4D: Reconstructing and Tracking Humans with Transformers", ICCV 2023, Fig.
2. The released checkpoints a and b are the same network, trained for fewer and for more steps.
"""

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp

from body_model.rotations import six_d_to_matrix
from scorehmr_jax.networks.attention import MLP, CrossAttention, SelfAttention, norm
from scorehmr_jax.networks.image_network import Crop, ImageArchitecture, Outputs
from scorehmr_jax.networks.layers import single
from scorehmr_jax.networks.vit import ViT

SIDES = 32  # pixels of the square that the network does not look at, left and right
EPSILON = 1e-5  # of the decoder's layer norms


@dataclass(frozen=True)
class HMR2(ImageArchitecture):
    """HMR 2.0 with ViT-H/16: an estimate of a square of 256 pixels, of which it sees 256 x 192."""

    width: int = 1280  # of the ViT
    depth: int = 32
    heads: int = 16
    decoder_width: int = 1024
    decoder_depth: int = 6
    decoder_heads: int = 8
    decoder_inner: int = 512  # numbers of all heads together
    decoder_hidden: int = 1024

    crop = Crop(256, shown=1 - 2 * SIDES / 256)
    features = ()
    gives_estimate = True

    @property
    def module(self) -> nn.Module:
        return Network(self)


class Network(nn.Module):
    """The backbone and the head."""

    sizes: HMR2

    @nn.compact
    def __call__(self, images: jax.Array) -> Outputs:
        sizes = self.sizes
        vit = ViT(sizes.width, sizes.depth, sizes.heads, name="backbone")
        return Head(sizes, name="head")(vit(images[:, :, SIDES:-SIDES]))


class Head(nn.Module):
    """One token, asked of all patches; three linear maps of it are added to the mean body."""

    sizes: HMR2

    @nn.compact
    def __call__(self, seen: jax.Array) -> Outputs:
        sizes = self.sizes
        # The released network is told nothing at the start: a zero.
        token = nn.Dense(sizes.decoder_width, name="token")(jnp.zeros_like(seen[:, :1, :1]))
        place = self.param("place", nn.initializers.normal(0.02), (1, 1, sizes.decoder_width))
        token = token + place.astype(token.dtype)
        for i in range(sizes.decoder_depth):
            token = DecoderLayer(sizes, name=f"layer{i}")(token, seen)
        token = token[:, 0]
        rotations = self.from_mean("pose", token, 144).reshape(len(token), 24, 6)
        return {
            "pred_pose": jnp.asarray(six_d_to_matrix(rotations)),
            "pred_betas": self.from_mean("betas", token, 10),
            "pred_cam": self.from_mean("camera", token, 3),
        }

    def from_mean(self, name: str, token: jax.Array, numbers: int) -> jax.Array:
        mean = self.param(f"mean_{name}", nn.initializers.zeros, (1, numbers))
        return single(nn.Dense(numbers, name=name)(token)) + single(mean)


class DecoderLayer(nn.Module):
    """The token asks itself, then the picture, and thinks."""

    sizes: HMR2

    @nn.compact
    def __call__(self, token: jax.Array, seen: jax.Array) -> jax.Array:
        heads, inner = self.sizes.decoder_heads, self.sizes.decoder_inner
        itself = SelfAttention(heads, inner, bias=False, name="self_attention")
        picture = CrossAttention(heads, inner, name="cross_attention")
        token = token + itself(norm(EPSILON, "norm1")(token))
        token = token + picture(norm(EPSILON, "norm2")(token), seen)
        return token + MLP(self.sizes.decoder_hidden, name="mlp")(norm(EPSILON, "norm3")(token))
