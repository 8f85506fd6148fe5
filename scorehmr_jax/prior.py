"""The learned prior over pose, as pure functions for other JAX code: all jit, vmap and grad.

A pose is x_0 [..., D]: 24 joint rotations in 6D (`rotations_to_x`), D = 144; a prior with shape
adds ten shape numbers scaled to [-1, 1], D = 154.
"""

from collections.abc import Callable
from dataclasses import field
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Key, Real
from numpy.typing import DTypeLike

from body_model.arithmetic import native
from body_model.pytree import Array, pytree
from body_model.rotations import matrix_to_6d, six_d_to_matrix
from scorehmr_jax import diffusion
from scorehmr_jax.diffusion import Levels, single_at_least
from scorehmr_jax.networks.layers import with_axes
from scorehmr_jax.networks.protocol import (
    POSE_DIM,
    SHAPE_DIM,
    STATIC_NETWORK,
    Network,
    Params,
    Prepared,
)
from scorehmr_jax.shapes import fits

# Levels that `energy` looks at unless told otherwise: below, the density of rotations in 6D is
# singular; above, the noise drowns what tells one pose from another.
_ENERGY_LEVELS = (10, 500)

CONDITIONS = ("features", "estimate", "none")


@pytree
class Prior:
    """A trained network with its noise schedule. Load one with `load_prior`.

    Weights, poses and features may be of half precision. All arithmetic is float32 at least, and
    results have the precision of the poses given.
    """

    params: Params  # the network's weights
    schedule: diffusion.Schedule
    betas_range: Float[Array, "2 10"] | None  # least and greatest shape, of a prior with shape
    network: Network = field(metadata=STATIC_NETWORK)
    # What the network is conditioned on: "features" of the image from an image network, the
    # "estimate": its own 6D pose, or "none": the prior is unconditional.
    condition_on: str = field(default="features", metadata={"static": True})

    def __post_init__(self) -> None:
        if self.condition_on not in CONDITIONS:
            raise ValueError(
                f"condition_on: expected one of {', '.join(CONDITIONS)}, "
                f"found {self.condition_on!r}"
            )

    @property
    def dim(self) -> int:
        """D: 144, or 154 with shape."""
        return self.network.dim

    def noise(
        self,
        x: Real[Array, "*x D"],
        t: Levels,
        features: Real[Array, "*f F"] | None = None,
    ) -> Float[Array, "*out D"]:
        """Predicts the noise in x_t.

        Args:
            x: [..., D] noisy pose.
            t: [...] integer levels; 0 is the cleanest.
            features: [..., F], already standardised; None for an unconditional prior. The leading
                axes of all three broadcast.
        Returns:
            [..., D].
        Raises:
            ValueError: if x or features have another width than the prior's, leading axes do not
                broadcast, or a level is no integer or outside the schedule.
        """
        x, t, dtype = self._together(x, t, features)
        return self._predictor(x.dtype, features)(x, t).astype(dtype)

    def denoise(
        self,
        x: Real[Array, "*x D"],
        t: Levels,
        features: Real[Array, "*f F"] | None = None,
    ) -> Float[Array, "*out D"]:
        """Predicts the mean of x_0 given x_t (Tweedie; paper, Eq. 5).

        Arguments, result and errors are those of `noise`.
        """
        x, t, dtype = self._together(x, t, features)
        level = self.schedule.at(with_axes(t, x.ndim - 1)[..., None], x.dtype)
        noise = self._predictor(x.dtype, features)(x, t).astype(x.dtype)
        return diffusion.predict_x_0(level, x, noise).astype(dtype)

    def score(
        self,
        x: Real[Array, "*x D"],
        t: Levels,
        features: Real[Array, "*f F"] | None = None,
    ) -> Float[Array, "*out D"]:
        """Estimates the gradient of log p(x_t | features) by x_t (paper, Eq. 4).

        Arguments, result and errors are those of `noise`.
        """
        x, t, dtype = self._together(x, t, features)
        level = self.schedule.at(with_axes(t, x.ndim - 1)[..., None], x.dtype)
        noise = self._predictor(x.dtype, features)(x, t).astype(x.dtype)
        return (-noise / level.sqrt_one_minus).astype(dtype)

    def energy(
        self,
        x_0: Real[Array, "*x D"],
        key: Key[Array, ""],
        features: Real[Array, "*f F"] | None = None,
        *,
        draws: int = 16,
        levels: tuple[int, int] = _ENERGY_LEVELS,
    ) -> Float[Array, "*out"]:
        """Estimates how implausible a pose is: -log p, up to a constant, in nats.

        It is the diffusion's variational bound between two levels (Kingma et al., 2021): half the
        integral over log signal-to-noise of the mean squared error of the predicted noise. With
        an exact denoiser that is KL(q(x_low | x_0), p_low) - KL(q(x_high | x_0), p_high): up to a
        constant, -log p smoothed by the noise of the low level, less the same at the high level,
        which hardly depends on the pose. The integral is estimated without bias but for the grid
        of levels: levels are stratified, and noises come in opposite pairs. For one key it is a
        smooth function of the pose with an exact gradient; with a new key at each step it is a
        stochastic objective for an optimiser.

        Args:
            x_0: [..., D] clean pose.
            key: typed PRNG key; all poses share its noises.
            features: [..., F] or None.
            draws: noises to average over, an even number.
            levels: the least and the greatest level looked at.
        Returns:
            [...] nats, float32 at least.
        Raises:
            ValueError: if draws is odd or not positive, or levels are not within the schedule; or
                as `noise`.
        """
        low, high = levels
        if draws < 2 or draws % 2:
            raise ValueError(f"draws: expected an even number of at least 2, found {draws}")
        if not 0 < low < high < self.schedule.num_steps:
            raise ValueError(
                f"levels: expected 0 < low < high < {self.schedule.num_steps}, found {levels}"
            )
        x_0, _, _ = self._together(x_0, 0, features)
        dtype = x_0.dtype
        # Not of a_t itself: 1 - a_t of a float32 a_t keeps four digits.
        ratio = jnp.asarray(self.schedule.sqrt) / jnp.asarray(self.schedule.sqrt_one_minus)
        log_snr = 2 * jnp.log(ratio.astype(dtype))
        level_key, noise_key = jax.random.split(key)
        uniform = jax.random.uniform(level_key, (draws // 2,), dtype)
        strata = (jnp.arange(draws // 2, dtype=dtype) + uniform) * (2 / draws)
        wanted = log_snr[low] + strata * (log_snr[high] - log_snr[low])
        # The first level at or below each; log_snr falls with the level, searchsorted wants it
        # rising.
        t = self.schedule.num_steps - jnp.searchsorted(log_snr[::-1], wanted, side="right")
        t = jnp.repeat(jnp.clip(t, low, high), 2)
        half = jax.random.normal(noise_key, (draws // 2, self.dim), dtype)
        noises = jnp.stack([half, -half], axis=1).reshape(draws, self.dim)
        predict = self._predictor(dtype, features)

        def error(t: Array, noise: Array) -> Array:
            noise = jnp.broadcast_to(with_axes(noise, x_0.ndim), x_0.shape)
            x = diffusion.add_noise(self.schedule, x_0, t, noise)
            return jnp.sum((predict(x, t).astype(dtype) - noise) ** 2, axis=-1)

        mean = jax.vmap(error)(t, noises).mean(0)
        return 0.5 * (log_snr[low] - log_snr[high]) * mean

    def sample(
        self,
        key: Key[Array, ""],
        features: Real[Array, "*f F"] | None = None,
        *,
        shape: tuple[int, ...] = (),
        step: int = 50,
        clip: float | None = 1.0,
    ) -> Float[Array, "*out D"]:
        """Draws poses from the prior by DDIM.

        Args:
            key: typed PRNG key.
            features: [..., F]; None for an unconditional prior.
            shape: leading axes of the result; must broadcast with those of the features. Several
                draws for each of N images: shape (draws, N).
            step: levels between two evaluations.
            clip: x_0 is kept within +- this at every step; the released code's is 1.
        Returns:
            [*shape, D] in the precision of the weights, float32 at least. The columns are not
            orthonormal; `x_to_rotations` makes rotations of them.
        Raises:
            ValueError: if step makes no path, or features have the wrong width or do not fit
                shape.
        """
        self.check_features(features)
        if features is not None:
            shape = _broadcast_rows(features, shape, "shape")
        total = self.schedule.num_steps
        if not 1 <= step <= total // 2:
            raise ValueError(f"step: expected 1 to {total // 2}, found {step}")
        dtype = self._dtype(jnp.float32)
        x = jax.random.normal(key, (*shape, self.dim), dtype)
        times = np.arange(total - step, -1, -step)
        return diffusion.ddim(self._predictor(dtype, features), self.schedule, x, times, clip=clip)[
            1
        ]

    def encode(
        self,
        x_0: Real[Array, "*x D"],
        features: Real[Array, "*f F"] | None = None,
        *,
        start: int = 50,
        step: int = 2,
    ) -> Float[Array, "*out D"]:
        """Inverts a pose by DDIM: finds the latent that `decode` leads back to it.

        Args:
            x_0: [..., D] clean pose, taken for the latent at level 0.
            features: [..., F] or None.
            start: level of the latent, a multiple of step.
            step: levels between two evaluations.
        Returns:
            [..., D].
        Raises:
            ValueError: if start and step do not fit, or x_0 or features have the wrong width.
        """
        return self._along(self._path(start, step), x_0, features)

    def decode(
        self,
        x: Real[Array, "*x D"],
        features: Real[Array, "*f F"] | None = None,
        *,
        start: int = 50,
        step: int = 2,
    ) -> Float[Array, "*out D"]:
        """Samples from a latent down to a pose by DDIM, unguided; undoes `encode`.

        Args:
            x: [..., D] latent at level `start`.
            features, start, step: as in `encode`.
        Returns:
            [..., D] the latent at level 0, which is the pose.
        Raises:
            ValueError: as `encode`.
        """
        return self._along(self._path(start, step)[::-1], x, features)

    def prepare(self) -> Prepared:
        """Works out, once, everything that depends on the weights alone.

        Returns:
            The network with its weights, float32 at least, ready for many evaluations.
        """
        return self._prepared(jnp.float32)

    def features_of(
        self, pose: Float[Array, "*N 24 3 3"], features: Real[Array, "*f F"] | None
    ) -> Real[Array, "*out F"] | None:
        """Chooses the features to condition on: those given, or the estimate's own pose.

        Args:
            pose: [..., 24, 3, 3] the first estimate.
            features: [..., F] or None.
        Raises:
            ValueError: if features are missing, unwanted, of the wrong width, or not one row per
                estimate.
        """
        if self.condition_on == "estimate" and features is None:
            return rotations_to_x(pose)
        self.check_features(features)
        if features is None:
            return None
        features = native("features", features)
        rows, batch = features.shape[:-1], pose.shape[:-3]
        if not fits(rows, batch):
            raise ValueError(
                f"features: expected one row for each estimate {batch}, "
                f"found shape {tuple(features.shape)}"
            )
        return features

    def x_of(
        self, pose: Float[Array, "*N 24 3 3"], betas: Float[Array, "*N B"]
    ) -> Float[Array, "*N D"]:
        """Turns a body into the numbers that are diffused.

        Args:
            pose: [..., 24, 3, 3] rotations.
            betas: [..., 10]; unused by a prior without shape.
        Returns:
            [..., D].
        Raises:
            ValueError: if the prior models shape, and does not know its range or the betas are not
                ten.
        """
        x = rotations_to_x(pose)
        if not self.network.with_shape:
            return x
        if betas.shape[-1] != SHAPE_DIM:
            raise ValueError(
                f"betas: this prior models {SHAPE_DIM} shape numbers, found {betas.shape[-1]}"
            )
        low, high = self._range(betas)
        return jnp.concatenate([x, 2 * (betas - low) / (high - low) - 1], axis=-1)

    def betas_of(
        self, x_0: Float[Array, "*N D"], betas: Float[Array, "*N B"]
    ) -> Float[Array, "*N B"]:
        """Reads the shape numbers [..., 10] of x_0 [..., D]; those given, of a prior without shape.

        Raises:
            ValueError: if the prior models shape and does not know its range.
        """
        if not self.network.with_shape:
            return betas
        low, high = self._range(betas)
        return low + (x_0[..., POSE_DIM:] + 1) / 2 * (high - low)

    def check_features(self, features: Real[Array, "*f F"] | None) -> None:
        """Raises a ValueError unless the features have the width that this prior needs."""
        wanted = self.network.condition_dim
        if features is not None:
            features = native("features", features)
        if features is None and wanted:
            raise ValueError(f"features: this prior needs {wanted} numbers per sample, found none")
        if features is not None and features.shape[-1:] != (wanted,):
            raise ValueError(
                f"features: this prior was trained with width {wanted}, "
                f"found shape {tuple(features.shape)}"
            )

    def _range(self, like: Array) -> tuple[Array, Array]:
        if self.betas_range is None:
            raise ValueError(
                "this prior models shape and needs betas_range: load it with the least and "
                "greatest shape numbers of its training data (betas_min and betas_max)"
            )
        low, high = jnp.asarray(self.betas_range, single_at_least(like.dtype))
        return with_axes(low, like.ndim), with_axes(high, like.ndim)

    def _path(self, start: int, step: int) -> np.ndarray:
        if step < 1 or start % step or not step <= start < self.schedule.num_steps:
            raise ValueError(
                f"expected step >= 1 and start a multiple of it below {self.schedule.num_steps}, "
                f"found start={start}, step={step}"
            )
        return diffusion.ddim_times(start, 0, step)

    def _along(self, times: np.ndarray, x: Array, features: Array | None) -> Array:
        x, _, dtype = self._together(x, 0, features)
        predict = self._predictor(x.dtype, features)
        return diffusion.ddim(predict, self.schedule, x, times)[0].astype(dtype)

    def _together(
        self, x: Array, t: Levels, features: Array | None
    ) -> tuple[Array, Array, np.dtype]:
        """Checks the arguments of a method.

        Returns:
            x with the leading axes of all three and in the precision of the arithmetic, t with as
            many leading axes, and the precision of the result.
        """
        x, t = jnp.asarray(native("x", x)), self._checked_level(t)
        if x.shape[-1:] != (self.dim,):
            raise ValueError(f"x: this prior diffuses {self.dim} numbers, found shape {x.shape}")
        self.check_features(features)
        rows = x.shape[:-1]
        try:
            rows = jnp.broadcast_shapes(rows, t.shape)
        except ValueError:
            raise ValueError(
                f"t: expected levels that broadcast with the rows of x, {rows}, "
                f"found shape {t.shape}"
            ) from None
        if features is not None:
            rows = _broadcast_rows(features, rows, "x")
        given = x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else single_at_least(x.dtype)
        x = jnp.broadcast_to(x, (*rows, self.dim)).astype(self._dtype(x.dtype))
        return x, with_axes(t, len(rows)) if t.ndim else t, given

    def _checked_level(self, t: Levels) -> Array:
        level = jnp.asarray(t)
        if not jnp.issubdtype(level.dtype, jnp.integer):
            raise ValueError(f"t: expected integer levels, found {level.dtype}")
        if not isinstance(t, jax.core.Tracer) and level.size:
            # What was given, by numpy: while a function is traced, all of jax's own is traced too.
            known = np.asarray(t)
            least, greatest = known.min(), known.max()
            if least < 0 or greatest >= self.schedule.num_steps:
                raise ValueError(
                    f"t: this prior has levels 0 to {self.schedule.num_steps - 1}, "
                    f"found {least} to {greatest}"
                )
        return level

    def _dtype(self, of_x: DTypeLike) -> np.dtype:
        """The precision of the arithmetic: the widest of x and the weights, float32 at least."""
        found = [single_at_least(jnp.result_type(leaf)) for leaf in jax.tree.leaves(self.params)]
        return reduce(np.promote_types, found, single_at_least(of_x))

    def _prepared(self, dtype: DTypeLike) -> Prepared:
        least = single_at_least(dtype)

        def widen(leaf: Any) -> Any:
            leaf = jnp.asarray(leaf)
            if not jnp.issubdtype(leaf.dtype, jnp.floating):
                return leaf
            return leaf.astype(np.promote_types(single_at_least(leaf.dtype), least))

        with jax.default_matmul_precision("float32"):
            return self.network.prepare(jax.tree.map(widen, self.params))

    def _predictor(
        self, dtype: np.dtype, features: Array | None
    ) -> Callable[[Array, Array], Array]:
        """The network as a function of x and t alone, with weights and features of one type."""
        network = self._prepared(dtype)
        if features is not None:
            features = jnp.asarray(native("features", features), dtype)
        with jax.default_matmul_precision("float32"):
            condition = network.condition(features)

        def noise(x: Array, t: Array) -> Array:
            with jax.default_matmul_precision("float32"):
                return network(x, network.modulation(t), condition)

        return noise


def _broadcast_rows(features: Array, rows: tuple[int, ...], name: str) -> tuple[int, ...]:
    try:
        return jnp.broadcast_shapes(rows, features.shape[:-1])
    except ValueError:
        raise ValueError(
            f"features: expected rows that broadcast with those of {name}, {rows}, "
            f"found shape {tuple(features.shape)}"
        ) from None


def rotations_to_x(pose: Float[Array, "*N 24 3 3"]) -> Float[Array, "*N 144"]:
    """Turns joint rotations [..., 24, 3, 3] into the numbers that are diffused, [..., 144]."""
    return matrix_to_6d(pose).reshape(*pose.shape[:-3], POSE_DIM)


def x_to_rotations(x: Float[Array, "*N D"]) -> Float[Array, "*N 24 3 3"]:
    """Makes joint rotations [..., 24, 3, 3] of x [..., 144 or more], by Gram-Schmidt."""
    return six_d_to_matrix(x[..., :POSE_DIM].reshape(*x.shape[:-1], -1, 6))
