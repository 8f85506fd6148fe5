"""ProHMR: what ResNet-50 saw conditions a flow over poses; the flow's mode is the estimate.

Kolotouros et al., "Probabilistic Modeling for Human Mesh Recovery", ICCV 2021, Fig. 2.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from body_model.rotations import six_d_to_matrix
from scorehmr_jax.networks.flow import ConditionalFlow, normal_log_prob
from scorehmr_jax.networks.image_network import Crop, ImageArchitecture, Outputs
from scorehmr_jax.networks.layers import single
from scorehmr_jax.networks.resnet import resnet

SHAPE, CAMERA = 10, 3  # numbers that the head gives


@dataclass(frozen=True)
class ProHMR(ImageArchitecture):
    """ProHMR: 2048 features of a square of 224 pixels, and the bodies that it may show."""

    width: int = 64  # channels of the first stage's middle convolutions
    blocks: tuple[int, ...] = (3, 4, 6, 3)  # of each stage
    gives_estimate: bool = True  # False: the encoder alone, without flow and head
    flow_hidden: int = 1024
    flow_layers: int = 4
    flow_blocks: int = 2  # residual blocks of each layer's network
    head_hidden: int = 1024

    crop = Crop(224)
    features = ("img_feats",)
    # Files of the encoder that were written before the flow was here say nothing of it.
    unsaid: ClassVar[Mapping[str, Any]] = {
        "gives_estimate": False,
        "flow_hidden": 1024,
        "flow_layers": 4,
        "flow_blocks": 2,
        "head_hidden": 1024,
    }

    @classmethod
    def released(cls) -> tuple["ProHMR", ...]:
        return cls(), cls(gives_estimate=False)

    @property
    def flow(self) -> ConditionalFlow:
        """The flow over poses, conditioned on the features."""
        return ConditionalFlow(
            32 * self.width, self.flow_hidden, self.flow_layers, self.flow_blocks
        )

    @property
    def latent(self) -> int:
        return self.flow.dim if self.gives_estimate else 0

    @property
    def module(self) -> nn.Module:
        return Network(self)


class Network(nn.Module):
    """The encoder, the flow and the head for shape and camera."""

    sizes: ProHMR

    @nn.compact
    def __call__(self, images: jax.Array, latents: jax.Array | None = None) -> Outputs:
        sizes = self.sizes
        seen = resnet(images, sizes.width, sizes.blocks)
        if not sizes.gives_estimate:
            return {"img_feats": seen}
        # The inverse of the flow is sensitive: float32 at least, as in the released code.
        flow = jax.tree.map(single, self.param("flow", sizes.flow.init))
        mode = jnp.zeros((len(seen), 1, sizes.latent), seen.dtype)
        z = mode if latents is None else jnp.concatenate([mode, latents.astype(seen.dtype)], 1)
        x, log_det = jax.vmap(sizes.flow.fold(flow, seen).decode, 1, 1)(z)
        poses = six_d_to_matrix(x.reshape(*x.shape[:2], 24, 6))
        # As the estimate of a picture has one shape and one camera, so have its samples.
        hidden = nn.relu(nn.Dense(sizes.head_hidden, name="head_hidden")(seen))
        body = nn.Dense(SHAPE + CAMERA, name="head")(hidden)
        mean_betas, mean_camera = (
            single(self.param(f"mean_{name}", nn.initializers.zeros, (1, numbers)))
            for name, numbers in (("betas", SHAPE), ("camera", CAMERA))
        )
        outputs = {
            "img_feats": seen,
            "pred_pose": jnp.asarray(poses[:, 0]),
            "pred_betas": body[:, :SHAPE] + mean_betas,
            "pred_cam": body[:, SHAPE:] + mean_camera,
        }
        if latents is not None:
            outputs["pred_pose"] = jnp.asarray(poses)
            outputs["log_prob"] = jnp.asarray(normal_log_prob(z, -log_det))
        return outputs
