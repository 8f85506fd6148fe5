"""ResNet, whose last map is averaged over the picture.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from scorehmr_jax.networks.convolution import Bottleneck, Conv, max_pool
from scorehmr_jax.networks.layers import single


def resnet(
    images: Float[jax.Array, "N S S 3"], width: int, blocks: Sequence[int]
) -> Float[jax.Array, "N F"]:
    """Looks at pictures with bottleneck blocks, of which the first of a stage halves the picture.

    To be called within a module, whose layers these become.

    Args:
        images: normalised.
        width: channels of the first stage's middle convolutions.
        blocks: of each stage.
    Returns:
        [N, F] features, float32 at least; F = 32 width, of four stages.
    """
    x = max_pool(nn.relu(Conv(width, 7, 2, name="conv1")(images)))
    for stage, count in enumerate(blocks):
        for block in range(count):
            stride = 2 if stage and not block else 1
            x = Bottleneck(width * 2**stage, stride, name=f"layer{stage + 1}_{block}")(x)
    return jnp.mean(single(x), axis=(1, 2))
