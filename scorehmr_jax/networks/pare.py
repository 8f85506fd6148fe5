"""PARE: what HRNet sees, gathered for each body part where the network finds that part.

Kocabas et al., "PARE: Part Attention Regressor for 3D Human Body Estimation", ICCV 2021, Fig. 4.

PARE was trained to give the two columns of a rotation row by row. The released code of ScoreHMR,
which asks it for features, reads its rotations column by column: so are they in its caches. Here
both can be had: `by_rows`.
"""

from dataclasses import dataclass, replace

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from body_model.rotations import six_d_to_matrix
from scorehmr_jax.networks.convolution import Conv
from scorehmr_jax.networks.hrnet import HRNet
from scorehmr_jax.networks.image_network import Crop, ImageArchitecture, Outputs
from scorehmr_jax.networks.layers import single

PARTS = 24  # joints of SMPL, each with a part of the body


@dataclass(frozen=True)
class PARE(ImageArchitecture):
    """PARE on HRNet-W32: features and an estimate of a square of 224 pixels."""

    width: int = 32  # channels of HRNet's finest resolution
    exchanges: tuple[int, ...] = (1, 4, 3)  # of HRNet's stages
    channels: int = 128  # of the head
    by_rows: bool = False  # rotations as PARE gives them; False: as ScoreHMR's caches have them

    crop = Crop(224)
    features = ("pose_feats", "cam_shape_feats")
    gives_estimate = True

    @property
    def as_trained(self) -> "PARE":
        return replace(self, by_rows=True)

    @property
    def module(self) -> nn.Module:
        return Network(self)


class Network(nn.Module):
    """The backbone and the head."""

    sizes: PARE

    @nn.compact
    def __call__(self, images: jax.Array) -> Outputs:
        seen = HRNet(self.sizes.width, self.sizes.exchanges, name="backbone")(images)
        return Head(self.sizes.channels, self.sizes.by_rows, name="head")(seen)


class Head(nn.Module):
    """Two branches on the same features: where each part is, and what is to be seen there."""

    channels: int
    by_rows: bool

    @nn.compact
    def __call__(self, seen: jax.Array) -> Outputs:
        parts = Conv(PARTS + 1, 1, name="parts")(self.branch("parts", seen))
        attention = attention_of(parts[..., 1:])  # the first map is that of the background
        body = self.branch("body", seen)
        pose_feats = gathered(body, attention)
        cam_shape_feats = gathered(Conv(self.channels // 2, 1, name="cam_shape")(body), attention)

        every = cam_shape_feats.reshape(len(seen), self.channels // 2 * PARTS)
        # Each joint has a linear map of its own.
        kernel = self.param("pose", nn.initializers.lecun_normal(), (6, self.channels, PARTS))
        rotations = jnp.einsum("ncj,kcj->njk", pose_feats, kernel.astype(pose_feats.dtype))
        if self.by_rows:
            rows = rotations.reshape(len(seen), PARTS, 3, 2)
            rotations = jnp.swapaxes(rows, -1, -2).reshape(rotations.shape)
        return {
            "pose_feats": pose_feats,
            "cam_shape_feats": cam_shape_feats,
            "pred_pose": jnp.asarray(six_d_to_matrix(rotations)),
            "pred_betas": nn.Dense(10, name="shape")(every),
            "pred_cam": nn.Dense(3, name="camera")(every),
        }

    def branch(self, name: str, x: jax.Array) -> jax.Array:
        for i in range(2):
            x = nn.relu(Conv(self.channels, name=f"{name}_{i}")(x))
        return x


def attention_of(maps: Float[jax.Array, "N H W J"]) -> Float[jax.Array, "N HW J"]:
    """Gives each part's share of attention at every place: a softmax over the picture."""
    n, height, width, parts = maps.shape
    return jax.nn.softmax(single(maps).reshape(n, height * width, parts), axis=1)


def gathered(
    maps: Float[jax.Array, "N H W C"], attention: Float[jax.Array, "N HW J"]
) -> Float[jax.Array, "N C J"]:
    """Averages features over the picture, for each part by its attention."""
    flat = single(maps).reshape(len(maps), attention.shape[1], maps.shape[-1])
    return jnp.einsum("npc,npj->ncj", flat, attention)
