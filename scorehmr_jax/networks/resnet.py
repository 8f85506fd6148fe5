"""ProHMR's encoder: ResNet-50, whose last map is averaged over the picture.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; Kolotouros et al.,
"Probabilistic Modeling for Human Mesh Recovery", ICCV 2021 (its encoder, in Fig. 2).
"""

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp

from scorehmr_jax.networks.convolution import Bottleneck, Conv, max_pool
from scorehmr_jax.networks.image_network import Crop, ImageArchitecture, Outputs
from scorehmr_jax.networks.layers import single


@dataclass(frozen=True)
class ProHMREncoder(ImageArchitecture):
    """ProHMR's ResNet-50: 2048 features of a square of 224 pixels."""

    width: int = 64  # channels of the first stage's middle convolutions
    blocks: tuple[int, ...] = (3, 4, 6, 3)  # of each stage

    crop = Crop(224)
    features = ("img_feats",)
    gives_estimate = False

    @property
    def module(self) -> nn.Module:
        return ResNet(self.width, self.blocks)


class ResNet(nn.Module):
    """ResNet with bottleneck blocks, of which the first of a stage halves the picture."""

    width: int
    blocks: tuple[int, ...]

    @nn.compact
    def __call__(self, images: jax.Array) -> Outputs:
        x = max_pool(nn.relu(Conv(self.width, 7, 2, name="conv1")(images)))
        for stage, blocks in enumerate(self.blocks):
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                name = f"layer{stage + 1}_{block}"
                x = Bottleneck(self.width * 2**stage, stride, name=name)(x)
        return {"img_feats": jnp.mean(single(x), axis=(1, 2))}
