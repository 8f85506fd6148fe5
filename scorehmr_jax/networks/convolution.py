"""Convolutions of the networks that look at pictures: [N, H, W, C], batch norms already in them.

At inference a batch norm is a scale and a shift of each channel. The converter multiplies the scale
into the kernel and keeps the shift as the bias (`convert/image_weights.py`), so that a convolution
and its norm are one layer here.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float


class Conv(nn.Module):
    """A convolution with a bias, padded so that stride 1 keeps the size."""

    channels: int
    size: int = 3  # of the kernel
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.size, self.size, x.shape[-1], self.channels)
        kernel = jnp.asarray(self.param("kernel", nn.initializers.he_normal(), shape))
        bias = self.param("bias", nn.initializers.zeros, (self.channels,))
        return convolve(x, kernel, self.stride) + bias.reshape(1, 1, 1, -1)


def convolve(
    x: Float[jax.Array, "N H W I"], kernel: Float[jax.Array, "K K I O"], stride: int = 1
) -> Float[jax.Array, "N H2 W2 O"]:
    """Convolves pictures, padded by half of the kernel's size with zeros."""
    padding = [(kernel.shape[0] // 2,) * 2] * 2
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=layout
    )


def max_pool(x: Float[jax.Array, "N H W C"]) -> Float[jax.Array, "N H2 W2 C"]:
    """Halves pictures by the greatest of 3 x 3 pixels."""
    return nn.max_pool(x, (3, 3), (2, 2), [(1, 1), (1, 1)])


class Bottleneck(nn.Module):
    """A residual block of three convolutions, the middle one narrow: gives 4 times its channels."""

    channels: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        wide = 4 * self.channels
        y = nn.relu(Conv(self.channels, 1, name="conv1")(x))
        y = nn.relu(Conv(self.channels, 3, self.stride, name="conv2")(y))
        y = Conv(wide, 1, name="conv3")(y)
        if x.shape[-1] != wide or self.stride > 1:
            x = Conv(wide, 1, self.stride, name="shortcut")(x)
        return nn.relu(x + y)


class BasicBlock(nn.Module):
    """A residual block of two convolutions, which keeps size and channels."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.relu(Conv(x.shape[-1], name="conv1")(x))
        return nn.relu(x + Conv(x.shape[-1], name="conv2")(y))
