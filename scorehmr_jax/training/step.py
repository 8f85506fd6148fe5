"""The training step: noise a pose, predict the noise, step the weights and their average."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from body_model.pytree import pytree
from scorehmr_jax.datasets.batch import Batch
from scorehmr_jax.diffusion import Schedule, add_noise
from scorehmr_jax.networks.layers import row_sum
from scorehmr_jax.networks.protocol import POSE_DIM, Network
from scorehmr_jax.training.ema import Ema, Params
from scorehmr_jax.types import Array

Metrics = dict[str, Array]


@pytree
class Noised:
    """Poses with the noise drawn for them. The leading axes of t broadcast to those of x_0."""

    x_0: Array  # [..., D]
    features: Array | None  # [..., F]
    t: Array  # [...] noise levels
    noise: Array  # [..., D] standard normal


@pytree
class TrainState:
    """All that a step changes."""

    params: Params
    ema: Params  # running average of params
    opt_state: Any
    step: Array  # [] steps taken


def init_state(network: Network, optimizer: optax.GradientTransformation, key: Array) -> TrainState:
    """A fresh state with PyTorch's initial distribution of weights."""
    return start_state(network.init(key), optimizer)


def start_state(params: Params, optimizer: optax.GradientTransformation) -> TrainState:
    """A state at step 0 with given weights."""

    def averaged(leaf: Array) -> Array:
        # A copy: a buffer that is donated must not appear twice. And never less than float32:
        # each move is a small part of the number that it changes.
        return jnp.array(leaf, jnp.promote_types(leaf.dtype, jnp.float32), copy=True)

    return TrainState(
        params, jax.tree.map(averaged, params), optimizer.init(params), jnp.zeros((), jnp.int32)
    )


def released_optimizer(
    learning_rate: optax.ScalarOrSchedule = 1e-4,
) -> optax.GradientTransformation:
    """Adam (0.9, 0.99) on gradients clipped to a global norm of 1."""

    def clip(gradient: Any, params: Any) -> Any:
        del params
        norm = gradient_norm(gradient)
        return jax.tree.map(lambda g: g * jnp.where(norm < 1, 1, 1 / norm), gradient)

    return optax.chain(optax.stateless(clip), optax.adam(learning_rate, 0.9, 0.99))


def gradient_norm(tree: Any) -> Array:
    """Square root of the sum of all squares."""

    def squares(x: Array) -> Array:
        # XLA's CPU backend sums in one thread, but multiplies in all.
        return jax.lax.platform_dependent(
            jnp.atleast_2d(x),
            cpu=lambda x: row_sum(x**2).sum(),
            default=lambda x: (x**2).sum(),
        )

    return jnp.sqrt(sum(map(squares, jax.tree.leaves(tree))))


def uniform_levels(quantile: Array, num_steps: int) -> Array:
    """Every level equally often; quantiles [...] in [0, 1) to levels [...]."""
    return (quantile * num_steps).astype(jnp.int32)


def low_levels(quantile: Array, num_steps: int, *, below: int = 100, share: float = 0.5) -> Array:
    """A given share of all draws uniformly on [0, below), the rest on what lies above.

    Refinement lives at low levels, where a uniform draw seldom goes.
    """
    low = quantile / share * below
    high = below + (quantile - share) / (1 - share) * (num_steps - below)
    return jnp.where(quantile < share, low, high).astype(jnp.int32)


def noise_loss(
    network: Network,
    schedule: Schedule,
    params: Params,
    batch: Noised,
    p2_gamma: float = 0.0,
    precision: str = "float32",
) -> Array:
    """Squared error of the predicted noise (Ho et al., 2020, Eq. 14), one number per sample.

    The mean over the pose's 144 numbers, plus the mean over the shape's 10, weighted by
    (1 / (1 - a_t)) ** -p2_gamma (P2 weighting with k = 1; Choi et al., 2022). The network's
    products have the given precision, as `jax.default_matmul_precision` names it; all else stays
    in the precision of the weights.

    Returns:
        [...] of the leading axes of batch.x_0.
    """
    x_t = add_noise(schedule, batch.x_0, batch.t, batch.noise)
    with jax.default_matmul_precision(precision):
        predicted = network.training_noise(params, x_t, batch.t, batch.features)
    error = (predicted - batch.noise) ** 2
    loss = error[..., :POSE_DIM].mean(-1)
    if network.with_shape:
        loss = loss + error[..., POSE_DIM:].mean(-1)
    if p2_gamma:
        spread = jnp.asarray(schedule.sqrt_one_minus, loss.dtype)[batch.t]
        loss = loss * spread ** (2 * p2_gamma)
    return loss


def make_update(
    network: Network,
    schedule: Schedule,
    optimizer: optax.GradientTransformation,
    ema: Ema = Ema(),  # noqa: B008 (frozen)
    p2_gamma: float = 0.0,
    precision: str = "float32",
) -> Callable[[TrainState, Noised], tuple[TrainState, Metrics]]:
    """The part of a step that is the same for any noise: loss, gradient, weights, average.

    The metrics are scalars: `loss`, and `grad_norm` before clipping.
    """

    def update(state: TrainState, batch: Noised) -> tuple[TrainState, Metrics]:
        def mean_loss(params: Params) -> Array:
            return noise_loss(network, schedule, params, batch, p2_gamma, precision).mean()

        loss, gradient = jax.value_and_grad(mean_loss)(state.params)
        change, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, change)
        average = ema.update(state.ema, params, state.step)
        metrics = {"loss": loss, "grad_norm": gradient_norm(gradient)}
        return TrainState(params, average, opt_state, state.step + 1), metrics

    return update


def make_step(
    update: Callable[[TrainState, Noised], tuple[TrainState, Metrics]],
    num_steps: int,
    levels: Callable[[Array, int], Array] = uniform_levels,
    share_level: int = 1,
    condition_dropout: float = 0.0,
) -> Callable[[TrainState, Batch, Array], tuple[TrainState, Metrics]]:
    """The whole training step, a pure function (state, batch, key) -> (state, metrics).

    Args:
        update: from `make_update`.
        num_steps: T of the schedule.
        levels: which level a quantile in [0, 1) stands for. The quantiles are stratified over
            the batch: one falls into each of its B equal parts of [0, 1).
        share_level: neighbours in the batch that get the same level. In a small denoiser the
            time MLP is most of the work, and this divides it.
        condition_dropout: share of poses whose features are replaced by zeros, so that the same
            network, given zeros, is an unconditional prior.
    Raises:
        ValueError: when tracing, if the batch size is no multiple of share_level.
    """

    def step(state: TrainState, batch: Batch, key: Array) -> tuple[TrainState, Metrics]:
        size = len(batch.x_0)
        if size % share_level:
            raise ValueError(f"batch size {size} is no multiple of share_level {share_level}")
        groups = size // share_level
        grouped = jax.tree.map(lambda x: x.reshape(groups, share_level, -1), batch)
        key_t, key_noise = jax.random.split(key)
        quantile = (jnp.arange(groups) + jax.random.uniform(key_t, (groups,))) / groups
        t = levels(jnp.minimum(quantile, 1 - 1e-7), num_steps)[:, None]
        noise = jax.random.normal(key_noise, grouped.x_0.shape, grouped.x_0.dtype)
        features = grouped.features
        if features is not None:
            features = features.astype(grouped.x_0.dtype)
        if condition_dropout and features is not None:
            # A key beside the two above, which do not change with this option.
            key_drop = jax.random.fold_in(key, 2)
            dropped = jax.random.bernoulli(key_drop, condition_dropout, features.shape[:-1])
            features = jnp.where(dropped[..., None], 0, features)
        return update(state, Noised(grouped.x_0, features, t, noise))

    return step
