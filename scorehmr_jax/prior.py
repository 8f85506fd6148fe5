"""The learned prior over pose, as pure functions for other JAX code: all jit, vmap and grad.

A pose is x_0 [..., D]: 24 joint rotations in 6D (`rotations_to_x`), D = 144; a prior with shape
adds ten shape numbers scaled to [-1, 1], D = 154.
"""

from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from body_model.pytree import pytree
from body_model.rotations import matrix_to_6d, six_d_to_matrix
from scorehmr_jax import diffusion
from scorehmr_jax.networks.denoiser import POSE_DIM, Denoiser, DenoiserConfig, FoldedDenoiser, fold
from scorehmr_jax.types import Array

# Levels that `energy` looks at unless told otherwise: below, the density of rotations in 6D is
# singular; above, the noise drowns what tells one pose from another.
_ENERGY_LEVELS = (10, 500)


@pytree
class Prior:
    """A trained denoiser with its noise schedule. Load one with `load_prior`."""

    params: Any  # Flax parameters of `Denoiser`
    schedule: diffusion.Schedule
    betas_range: Array | None  # [2, 10] least and greatest shape numbers, of a prior with shape
    config: DenoiserConfig = field(metadata={"static": True})
    # What the features are: "image" from a network, "estimate": the estimate's own 6D pose,
    # "none": the prior is unconditional.
    condition_on: str = field(default="image", metadata={"static": True})

    @property
    def dim(self) -> int:
        """D: 144, or 154 with shape."""
        return self.config.dim

    def noise(self, x: Array, t: Array, features: Array | None = None) -> Array:
        """The noise that the network sees in x_t.

        Args:
            x: [..., D] noisy pose.
            t: integer levels that broadcast with the leading axes; 0 is the cleanest.
            features: [..., F], already standardised; None for an unconditional prior.
        Returns:
            [..., D].
        Raises:
            ValueError: if x or features have another width than the prior's, or a level is no
                integer or outside the schedule.
        """
        x, t = self._checked(x), self._checked_level(t)
        self.check_features(features)
        t = jnp.broadcast_to(t, x.shape[:-1]) if t.ndim else t
        return Denoiser(self.config).apply({"params": self.params}, x, t, features)  # type: ignore[return-value]

    def denoise(self, x: Array, t: Array, features: Array | None = None) -> Array:
        """The mean of x_0 given x_t, [..., D] (Tweedie; paper, Eq. 5). Arguments as `noise`."""
        x, t = self._checked(x), self._checked_level(t)
        level = self.schedule.at(t[..., None], x.dtype)
        return diffusion.predict_x_0(level, x, self.noise(x, t, features))

    def score(self, x: Array, t: Array, features: Array | None = None) -> Array:
        """Gradient of log p(x_t | features) by x_t, [..., D] (paper, Eq. 4).

        Arguments as `noise`.
        """
        x, t = self._checked(x), self._checked_level(t)
        level = self.schedule.at(t[..., None], x.dtype)
        return -self.noise(x, t, features) / level.sqrt_one_minus

    def energy(
        self,
        x_0: Array,
        key: Array,
        features: Array | None = None,
        *,
        draws: int = 16,
        levels: tuple[int, int] = _ENERGY_LEVELS,
    ) -> Array:
        """How implausible a pose is: an estimate of -log p, up to a constant, in nats.

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
            [...] nats.
        Raises:
            ValueError: if draws is odd or not positive, or levels are not within the schedule.
        """
        low, high = levels
        if draws < 2 or draws % 2:
            raise ValueError(f"draws: expected an even number of at least 2, found {draws}")
        if not 0 < low < high < self.schedule.num_steps:
            raise ValueError(
                f"levels: expected 0 < low < high < {self.schedule.num_steps}, found {levels}"
            )
        x_0 = self._checked(x_0)
        # Not of a_t itself: 1 - a_t of a float32 a_t keeps four digits.
        ratio = jnp.asarray(self.schedule.sqrt) / jnp.asarray(self.schedule.sqrt_one_minus)
        log_snr = 2 * jnp.log(ratio.astype(x_0.dtype))
        level_key, noise_key = jax.random.split(key)
        uniform = jax.random.uniform(level_key, (draws // 2,), x_0.dtype)
        strata = (jnp.arange(draws // 2) + uniform) * (2 / draws)
        wanted = log_snr[low] + strata * (log_snr[high] - log_snr[low])
        # The first level at or below each; log_snr falls with the level, searchsorted wants it
        # rising.
        t = self.schedule.num_steps - jnp.searchsorted(log_snr[::-1], wanted, side="right")
        t = jnp.repeat(jnp.clip(t, low, high), 2)
        half = jax.random.normal(noise_key, (draws // 2, self.dim), x_0.dtype)
        noises = jnp.stack([half, -half], axis=1).reshape(draws, self.dim)

        def error(t: Array, noise: Array) -> Array:
            noise = jnp.broadcast_to(noise, x_0.shape)
            x = diffusion.add_noise(self.schedule, x_0, t, noise)
            return jnp.sum((self.noise(x, t, features) - noise) ** 2, axis=-1)

        mean = jax.vmap(error)(t, noises).mean(0)
        return 0.5 * (log_snr[low] - log_snr[high]) * mean

    def sample(
        self,
        key: Array,
        features: Array | None = None,
        *,
        shape: tuple[int, ...] = (),
        step: int = 50,
        clip: float | None = 1.0,
    ) -> Array:
        """Draws poses from the prior by DDIM.

        Args:
            key: typed PRNG key.
            features: [..., F]; None for an unconditional prior.
            shape: leading axes of the result; must broadcast with those of the features. Several
                hypotheses for N images are `shape=(H, N)`.
            step: levels between two evaluations.
            clip: bound on every x_0 on the way; the released code's is 1.
        Returns:
            [*shape, D], not orthonormal; `x_to_rotations` makes rotations of it.
        Raises:
            ValueError: if features have the wrong width or do not fit the shape, or fewer than
                two levels are left.
        """
        if features is not None:
            shape = _together("shape", tuple(shape), features)
        total = self.schedule.num_steps
        if not 1 <= step <= total // 2:
            raise ValueError(f"step: expected 1 to {total // 2}, found {step}")
        dtype = jax.tree.leaves(self.params)[0].dtype
        x = jax.random.normal(key, (*shape, self.dim), dtype)
        times = np.arange(total - step, -1, -step)
        return diffusion.ddim(self._at_one_level(features), self.schedule, x, times, clip=clip)[1]

    def encode(
        self, x_0: Array, features: Array | None = None, *, start: int = 50, step: int = 2
    ) -> Array:
        """DDIM inversion: the latent at a level that `decode` leads back to a pose.

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
        self, x: Array, features: Array | None = None, *, start: int = 50, step: int = 2
    ) -> Array:
        """Unguided DDIM sampling from a latent down to a pose; undoes `encode`.

        Args:
            x: [..., D] latent at level `start`.
            features, start, step: as in `encode`.
        Returns:
            [..., D] the latent at level 0, which is the pose.
        Raises:
            ValueError: as `encode`.
        """
        return self._along(self._path(start, step)[::-1], x, features)

    def features_of(self, pose: Array, features: Array | None) -> Array | None:
        """The features to condition on: those given, or the estimate's own pose.

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
        rows, batch = features.shape[:-1], pose.shape[:-3]
        pairs = zip(rows[::-1], batch[::-1], strict=False)
        if len(rows) > len(batch) or any(n not in (1, wanted) for n, wanted in pairs):
            raise ValueError(
                f"features: expected one row for each estimate {batch}, "
                f"found shape {tuple(features.shape)}"
            )
        return features

    def x_of(self, pose: Array, betas: Array) -> Array:
        """A body as the diffusion has it.

        Args:
            pose: [..., 24, 3, 3] rotations.
            betas: [..., 10]; of no account to a prior without shape.
        Returns:
            [..., D].
        Raises:
            ValueError: if the prior models shape and does not know its range.
        """
        x = rotations_to_x(pose)
        if not self.config.with_shape:
            return x
        low, high = self._range()
        return jnp.concatenate([x, 2 * (betas - low) / (high - low) - 1], axis=-1)

    def betas_of(self, x_0: Array, betas: Array) -> Array:
        """Shape numbers [..., 10] of x_0 [..., D]; those given, of a prior without shape.

        Raises:
            ValueError: as `x_of`.
        """
        if not self.config.with_shape:
            return betas
        low, high = self._range()
        return low + (x_0[..., POSE_DIM:] + 1) / 2 * (high - low)

    def check_features(self, features: Array | None) -> None:
        """Raises a ValueError unless the features fit this prior."""
        wanted = self.config.condition_dim
        if features is None and wanted:
            raise ValueError(f"features: this prior needs {wanted} numbers per sample, found none")
        if features is not None and features.shape[-1] != wanted:
            raise ValueError(
                f"features: this prior was trained with width {wanted}, "
                f"found shape {tuple(features.shape)}"
            )

    def _range(self) -> Array:
        if self.betas_range is None:
            raise ValueError(
                "this prior models shape and needs betas_range: load it with the least and "
                "greatest shape numbers of its training data (betas_min and betas_max)"
            )
        return self.betas_range

    def _path(self, start: int, step: int) -> np.ndarray:
        if step < 1 or start % step or not step <= start < self.schedule.num_steps:
            raise ValueError(
                f"expected step >= 1 and start a multiple of it below {self.schedule.num_steps}, "
                f"found start={start}, step={step}"
            )
        return diffusion.ddim_times(start, 0, step)

    def _along(self, times: np.ndarray, x: Array, features: Array | None) -> Array:
        x = self._checked(x)
        if features is not None:
            x = jnp.broadcast_to(x, (*_together("x", x.shape[:-1], features), self.dim))
        return diffusion.ddim(self._at_one_level(features), self.schedule, x, times)[0]

    def _checked(self, x: Array) -> Array:
        x = jnp.asarray(x)
        if x.shape[-1:] != (self.dim,):
            raise ValueError(f"x: this prior diffuses {self.dim} numbers, found shape {x.shape}")
        return x

    def _checked_level(self, t: Array) -> Array:
        level = jnp.asarray(t)
        if not jnp.issubdtype(level.dtype, jnp.integer):
            raise ValueError(f"t: expected integer levels, found {level.dtype}")
        if not isinstance(level, jax.core.Tracer) and level.size:
            least, greatest = np.min(level), np.max(level)
            if least < 0 or greatest >= self.schedule.num_steps:
                raise ValueError(
                    f"t: this prior has levels 0 to {self.schedule.num_steps - 1}, "
                    f"found {least} to {greatest}"
                )
        return level

    def _at_one_level(self, features: Array | None) -> Any:
        self.check_features(features)
        network = self.fold()
        condition = network.condition(features)

        def noise(x: Array, t: Array) -> Array:
            return network(x, network.modulation(t), condition)

        return noise

    def fold(self) -> FoldedDenoiser:
        """The network with everything worked out that depends on its weights alone."""
        return fold(self.config, self.params)


def _together(name: str, batch: tuple[int, ...], features: Array) -> tuple[int, ...]:
    try:
        return jnp.broadcast_shapes(batch, features.shape[:-1])
    except ValueError:
        raise ValueError(
            f"features: expected rows that broadcast with those of {name}, {batch}, "
            f"found shape {tuple(features.shape)}"
        ) from None


def rotations_to_x(pose: Array) -> Array:
    """Joint rotations [..., 24, 3, 3] as the diffusion has them, [..., 144]."""
    return matrix_to_6d(pose).reshape(*pose.shape[:-3], POSE_DIM)


def x_to_rotations(x: Array) -> Array:
    """Joint rotations [..., 24, 3, 3] of x [..., 144 or more], by Gram-Schmidt."""
    return six_d_to_matrix(x[..., :POSE_DIM].reshape(*x.shape[:-1], -1, 6))
