"""HRNet-W32, as PARE has it: four resolutions side by side, brought to the finest in the end.

Sun et al., "Deep High-Resolution Representation Learning for Human Pose Estimation", CVPR 2019; the
up-sampling is that of Kocabas et al., "PARE: Part Attention Regressor for 3D Human Body
Estimation", ICCV 2021.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from scorehmr_jax.networks.convolution import BasicBlock, Bottleneck, Conv

BLOCKS = 4  # residual blocks of a resolution between two exchanges

Maps = list[jax.Array]  # [N, H, W, C] of each resolution: 1/4, 1/8, ... of the picture


class HRNet(nn.Module):
    """Pictures [N, S, S, 3] to features [N, S / 4, S / 4, 15 width]."""

    width: int  # channels of the finest resolution; each coarser one has twice as many
    exchanges: tuple[int, ...]  # of the stages with two, three and four resolutions

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        x = nn.relu(Conv(64, stride=2, name="conv1")(images))
        x = nn.relu(Conv(64, stride=2, name="conv2")(x))
        for block in range(BLOCKS):
            x = Bottleneck(64, name=f"layer1_{block}")(x)

        maps = [x]
        for stage, exchanges in enumerate(self.exchanges, start=2):
            maps = AddResolution(self.width, name=f"transition{stage - 1}")(maps)
            for i in range(exchanges):
                maps = Exchange(name=f"stage{stage}_{i}")(maps)
        return UpSampling(name="upsample")(maps)


class AddResolution(nn.Module):
    """Makes a coarser map of the coarsest one; the first of all is narrowed too."""

    width: int

    @nn.compact
    def __call__(self, maps: Maps) -> Maps:
        coarsest, level = maps[-1], len(maps)
        coarser = nn.relu(Conv(self.width * 2**level, stride=2, name="coarser")(coarsest))
        if level == 1:
            maps = [nn.relu(Conv(self.width, name="narrowed")(coarsest))]
        return [*maps, coarser]


class Exchange(nn.Module):
    """Residual blocks at each resolution; then each becomes the sum of what all tell it."""

    @nn.compact
    def __call__(self, maps: Maps) -> Maps:
        maps = list(maps)
        for i in range(len(maps)):
            for block in range(BLOCKS):
                maps[i] = BasicBlock(name=f"branch{i}_{block}")(maps[i])
        return [
            nn.relu(sum(self.told(x, i, j) for j, x in enumerate(maps))) for i in range(len(maps))
        ]

    def told(self, x: jax.Array, i: int, j: int) -> jax.Array:
        """Brings the map of resolution j to the size and channels of resolution i."""
        channels = x.shape[-1] // 2 ** (j - i) if j > i else x.shape[-1] * 2 ** (i - j)
        if j > i:
            return repeated(Conv(channels, 1, name=f"fuse{i}_{j}")(x), 2 ** (j - i))
        for step in range(i - j):
            last = step == i - j - 1
            width = channels if last else x.shape[-1]
            x = Conv(width, stride=2, name=f"fuse{i}_{j}_{step}")(x)
            x = x if last else nn.relu(x)
        return x


class UpSampling(nn.Module):
    """Brings every map to the finest resolution, in steps of two, and puts them side by side."""

    @nn.compact
    def __call__(self, maps: Maps) -> jax.Array:
        fine = []
        for level, x in enumerate(maps):
            for step in range(level):
                x = nn.relu(Conv(x.shape[-1], name=f"level{level}_{step}")(doubled(x)))
            fine.append(x)
        return jnp.concatenate(fine, axis=-1)


def repeated(x: Float[jax.Array, "N H W C"], times: int) -> Float[jax.Array, "N H2 W2 C"]:
    """Enlarges pictures by repeating every pixel."""
    return jnp.repeat(jnp.repeat(x, times, axis=1), times, axis=2)


def doubled(x: Float[jax.Array, "N H W C"]) -> Float[jax.Array, "N H2 W2 C"]:
    """Doubles pictures bilinearly, corner pixels kept in the corners."""
    count, height, width, channels = x.shape
    # Rows by a product, not picked as columns are: XLA on CPUs fuses what is picked with all that
    # it is made of, a chain of residual blocks, and works that out for every pixel four times.
    before, share = _between(height)
    rows = np.zeros((2 * height, height))
    rows[np.arange(2 * height), before] = 1 - share
    rows[np.arange(2 * height), before + 1] += share
    x = jnp.matmul(
        jnp.broadcast_to(jnp.asarray(rows, x.dtype), (count, *rows.shape)),
        x.reshape(count, height, width * channels),
        precision=jax.lax.Precision.HIGHEST,
    ).reshape(count, 2 * height, width, channels)
    before, share = _between(width)
    low, high = jnp.take(x, before, 2), jnp.take(x, before + 1, 2)
    return low + jnp.asarray(share, x.dtype).reshape(1, 1, -1, 1) * (high - low)


def _between(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Where 2 S pixels lie among S: the pixel before each, and how far beyond it, from 0 to 1."""
    place = np.linspace(0, size - 1, 2 * size)
    before = np.clip(place.astype(int), 0, size - 2)
    return before, place - before
