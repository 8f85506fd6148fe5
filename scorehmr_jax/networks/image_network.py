"""Networks that look at a picture of one person: what they take, and what they give.

The released priors are conditioned on what such a network saw, and refinement starts from what one
believes. An `ImageArchitecture` is the network without weights, an `ImageNetwork` is one with
them. What comes out goes by the names that the released caches have:

    pose_feats [128, 24], cam_shape_feats [64, 24]      PARE's features
    img_feats [2048]                                    ProHMR's features
    pred_pose [24, 3, 3], pred_betas [10], pred_cam [3] a first estimate: rotations, shape, and a
                                                        weak-perspective camera (s, tx, ty)
"""

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float, Key, Real
from numpy.typing import DTypeLike

from body_model.pytree import Array, pytree
from scorehmr_jax.networks.parameters import shapes_of

Params = Any  # nested dicts of arrays
Outputs = dict[str, jax.Array]

# Mean and standard deviation of ImageNet's red, green and blue, as shares of the full value.
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)

ESTIMATE_KEYS = ("pred_pose", "pred_betas", "pred_cam")


@dataclass(frozen=True)
class Crop:
    """The picture that a network takes: a square around a person, in RGB."""

    size: int  # pixels on a side
    mean: tuple[float, ...] = _MEAN  # of red, green and blue, each from 0 to 1
    std: tuple[float, ...] = _STD
    shown: float = 1.0  # part of the square's width that the network looks at

    def normalised(self, pixels: Real[Array, "*batch S S 3"]) -> Float[Array, "*batch S S 3"]:
        """Brings pixels [..., S, S, 3], RGB from 0 to 255, to the range that the network knows."""
        mean, std = (255 * jnp.asarray(each, jnp.float32) for each in (self.mean, self.std))
        pixels = jnp.asarray(pixels, jnp.float32)
        axes = (1,) * (pixels.ndim - 1) + (3,)
        return (pixels - mean.reshape(axes)) / std.reshape(axes)


class ImageArchitecture(ABC):
    """A network that looks at pictures, without its weights.

    A subclass is a frozen dataclass whose fields are sizes, and has an entry in
    `networks/image_registry.py`.
    """

    crop: Crop
    features: tuple[str, ...]  # names of the features among the outputs
    gives_estimate: bool  # True if ESTIMATE_KEYS are among the outputs
    # Sizes that files of earlier versions do not name, and what they are there.
    unsaid: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    def released(cls) -> "tuple[ImageArchitecture, ...]":
        """The forms in which the network's weights were released: whole, or a part alone."""
        return (cls(),)

    @property
    def latent(self) -> int:
        """Numbers of a latent, of each of which there is a body; 0 if there is one body only."""
        return 0

    @property
    def as_trained(self) -> "ImageArchitecture":
        """The network whose estimate is what its weights were trained to give.

        Another one than itself where the released code reads the weights in another way.
        """
        return self

    @property
    @abstractmethod
    def module(self) -> nn.Module:
        """The Flax module: normalised pictures [N, S, S, 3] in, the outputs by their names out.

        The arithmetic is in the type of the weights; the results are float32 at least. With
        latents [N, K, L] beside the pictures, if `latent` is not 0, `pred_pose` [N, 1 + K, 24, 3,
        3] holds the body of latent 0 and those of the latents, and `log_prob` [N, 1 + K] is there.
        """

    def init(self, key: Key[Array, ""]) -> Params:
        """Draws first weights, as nested dicts of arrays."""
        images = jnp.zeros((1, self.crop.size, self.crop.size, 3))
        with jax.numpy_dtype_promotion("standard"):  # flax' norms know no other
            return self.module.init(jnp.asarray(key), images)["params"]

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Tells the shape of every array that `init` gives, by its path."""
        return shapes_of(self.init)


def _described(architecture: ImageArchitecture) -> dict[str, Any]:
    from scorehmr_jax.networks.image_registry import describe_image_network

    return describe_image_network(architecture)


def _from_description(description: Mapping[str, Any]) -> ImageArchitecture:
    from scorehmr_jax.networks.image_registry import image_network_of

    return image_network_of(description)


@pytree
class ImageNetwork:
    """A network that looks at pictures, with its weights; `load_image_network` reads one.

    All methods are pure functions of the weights and the pictures, for any leading axes.
    """

    params: Params  # nested dicts of arrays
    architecture: ImageArchitecture = field(
        metadata={"static": True, "to_json": _described, "from_json": _from_description}
    )

    @property
    def name(self) -> str:
        """What it is registered as: prohmr, pare, hmr2."""
        return _described(self.architecture)["network"]

    @property
    def crop(self) -> Crop:
        """The picture that it takes."""
        return self.architecture.crop

    @property
    def feature_keys(self) -> tuple[str, ...]:
        """Names of its features in the released caches; none for a network of estimates alone."""
        return self.architecture.features

    @property
    def gives_estimate(self) -> bool:
        """True if it estimates pose, shape and camera."""
        return self.architecture.gives_estimate

    def outputs(self, images: Float[Array, "*batch S S 3"]) -> Outputs:
        """Gives features and estimate at once, by their names in the released caches.

        Args:
            images: [..., S, S, 3] as `crop.normalised` gives them, S = `crop.size`.
        Returns:
            Arrays with the leading axes of images, float32 at least; see the head of this file.
        Raises:
            ValueError: if the pictures are of another size.
        """
        return self._applied(images, lambda count: ())

    def features(self, images: Float[Array, "*batch S S 3"]) -> Outputs:
        """Gives the features alone: {pose_feats, cam_shape_feats} or {img_feats}.

        Args and errors: as `outputs`; and ValueError if it gives none.
        """
        if not self.feature_keys:
            raise ValueError(f"{self.name}: gives estimates, and no features of a released prior")
        outputs = self.outputs(images)
        return {key: outputs[key] for key in self.feature_keys}

    def regress(
        self, images: Float[Array, "*batch S S 3"]
    ) -> tuple[Float[Array, "*batch 24 3 3"], Float[Array, "*batch 10"], Float[Array, "*batch 3"]]:
        """Estimates pose [..., 24, 3, 3], shape [..., 10] and camera (s, tx, ty) [..., 3].

        `crop_to_full` brings the camera from the crop to the full image. Args and errors: as
        `outputs`; and ValueError if it gives no estimate.
        """
        if not self.gives_estimate:
            raise ValueError(f"{self.name}: gives features, and no estimate")
        trained = dataclasses.replace(self, architecture=self.architecture.as_trained)
        outputs = trained.outputs(images)
        pose, betas, camera = (outputs[key] for key in ESTIMATE_KEYS)
        return pose, betas, camera

    def samples(
        self, images: Float[Array, "*batch S S 3"], key: Key[Array, ""], count: int
    ) -> Outputs:
        """Draws bodies that the pictures may show, from the distribution that the network gives.

        Args:
            images: as `outputs`.
            key: typed PRNG key. What is drawn for a picture depends on the pictures before it in
                number alone.
            count: K, bodies to draw for each picture.
        Returns:
            `pred_pose` [..., 1 + K, 24, 3, 3]: the mode, which `regress` gives, and the samples;
            `log_prob` [..., 1 + K], their log-densities in nats; and what they have in common,
            `pred_betas` [..., 10] and `pred_cam` [..., 3].
        Raises:
            ValueError: as `outputs`; and if the network gives no distribution, or count is below 0.
        """
        if not (latent := self.architecture.latent):
            raise ValueError(f"{self.name}: gives no distribution to draw from, as prohmr does")
        if count < 0:
            raise ValueError(f"count: expected 0 or more, found {count}")

        def latents(pictures: int) -> tuple[Array]:
            keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(pictures))
            return (jax.vmap(lambda each: jax.random.normal(each, (count, latent)))(keys),)

        outputs = self._applied(images, latents)
        return {key: outputs[key] for key in (*ESTIMATE_KEYS, "log_prob")}

    def _applied(self, images: Array, more: Callable[[int], tuple[Array, ...]]) -> Outputs:
        """Applies the module to pictures [..., S, S, 3], and to what `more` gives for N of them."""
        side = self.crop.size
        if images.ndim < 3 or images.shape[-3:] != (side, side, 3):
            raise ValueError(
                f"images: expected [..., {side}, {side}, 3] for {self.name}, "
                f"found {list(images.shape)}"
            )
        batch, dtype = images.shape[:-3], jax.tree.leaves(self.params)[0].dtype
        flat = jnp.asarray(images, dtype).reshape(math.prod(batch), side, side, 3)
        with jax.numpy_dtype_promotion("standard"):
            outputs: Any = self.architecture.module.apply(
                {"params": self.params}, flat, *more(len(flat))
            )
        return {key: value.reshape(*batch, *value.shape[1:]) for key, value in outputs.items()}

    def astype(self, dtype: DTypeLike) -> "ImageNetwork":
        """Gives the network with weights of another floating type, such as bfloat16."""
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.dtype(dtype)), self.params)
        return dataclasses.replace(self, params=params)
