"""A network that looks at pictures in no time, with the interface of the real ones."""

from contextlib import contextmanager
from dataclasses import dataclass, replace

import flax.linen as nn
import jax
import jax.numpy as jnp

from body_model.rotations import axis_angle_to_matrix
from scorehmr_jax import image_checkpoint
from scorehmr_jax.networks.image_network import Crop, ImageArchitecture, ImageNetwork
from scorehmr_jax.networks.image_registry import IMAGE_NETWORKS


class Grid(nn.Module):
    """Linear maps of the colours in a coarse grid."""

    trained: bool

    @nn.compact
    def __call__(self, images):
        grid = images.reshape(-1, 4, 4, 4, 4, 3).mean((2, 4)).reshape(-1, 48)
        seen = nn.Dense(2048 + 72, use_bias=False)(grid)
        # Upright: the root half a turn about x, so that the body's y points up in the picture.
        angles = 0.1 * seen[:, 2048:].reshape(-1, 24, 3)
        angles = angles.at[:, 0].add(jnp.array([jnp.pi, 0, 0]))
        return {
            "img_feats": seen[:, :2048],
            "pred_pose": axis_angle_to_matrix(angles),
            "pred_betas": (0.2 if self.trained else 0.1) * grid[:, :10],
            "pred_cam": jnp.array([0.9, 0, 0]) + 0.01 * grid[:, :3],
        }


@dataclass(frozen=True)
class StandIn(ImageArchitecture):
    """Features of the colours in a coarse grid, and a body that follows them a little."""

    trained: bool = False  # what was trained is read in another way than in the caches

    crop = Crop(16, shown=0.75)
    features = ("img_feats",)
    gives_estimate = True

    @property
    def as_trained(self):
        return replace(self, trained=True)

    @property
    def module(self):
        return Grid(self.trained)


def stand_in_network():
    return ImageNetwork(StandIn().init(jax.random.key(0)), StandIn())


@jax.jit
def outputs_of(pixels):
    """What the stand-in makes of patches [N, 16, 16, 3]."""
    network = stand_in_network()
    return network.outputs(network.crop.normalised(pixels))


@contextmanager
def registered(folder):
    """What --network takes of the stand-in, while it is registered."""
    IMAGE_NETWORKS["stand-in"] = StandIn
    image_checkpoint.write(folder / "net.safetensors", stand_in_network().params, StandIn())
    yield f"stand-in={folder / 'net.safetensors'}"
    del IMAGE_NETWORKS["stand-in"]
