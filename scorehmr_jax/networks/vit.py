"""The vision transformer of ViTPose, which HMR 2.0 sees with.

Dosovitskiy et al., "An Image Is Worth 16x16 Words", ICLR 2021; Xu et al., "ViTPose", NeurIPS 2022.
"""

import flax.linen as nn
import jax
from jaxtyping import Float

from scorehmr_jax.networks.attention import MLP, SelfAttention, norm

PATCH = 16  # pixels on a side
BORDER = 2  # pixels of zeros around the picture, before it is cut into patches
EPSILON = 1e-6  # of its layer norms


class ViT(nn.Module):
    """Pictures [N, H, W, 3] to a token for each patch, row after row [N, H W / 256, width]."""

    width: int
    depth: int
    heads: int

    @nn.compact
    def __call__(self, images: Float[jax.Array, "N H W 3"]) -> Float[jax.Array, "N T D"]:
        x = nn.Conv(self.width, (PATCH, PATCH), PATCH, [(BORDER, BORDER)] * 2, name="patches")(
            images
        )
        x = x.reshape(len(x), x.shape[1] * x.shape[2], self.width)
        places = self.param("places", nn.initializers.normal(0.02), (1, x.shape[1] + 1, self.width))
        # The first is of a token for the whole picture, which was there when ViT was pretrained.
        x = x + (places[:, 1:] + places[:, :1]).astype(x.dtype)
        for i in range(self.depth):
            x = Block(self.heads, name=f"block{i}")(x)
        return norm(EPSILON, "norm")(x)


class Block(nn.Module):
    """Tokens ask each other, and then each thinks for itself."""

    heads: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width = x.shape[-1]
        x = x + SelfAttention(self.heads, width, name="attention")(norm(EPSILON, "norm1")(x))
        return x + MLP(4 * width, name="mlp")(norm(EPSILON, "norm2")(x))
