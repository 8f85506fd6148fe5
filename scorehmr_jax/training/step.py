"""Training step: add noise to poses, predict it, and change the weights and their average."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float, Int, Integer, Key, Real

from body_model.pytree import Array, pytree
from scorehmr_jax.datasets.batch import TrainingBatch
from scorehmr_jax.diffusion import Schedule, add_noise
from scorehmr_jax.networks.layers import row_sum
from scorehmr_jax.networks.protocol import POSE_DIM, Network
from scorehmr_jax.training.ema import Ema, Params

Metrics = dict[str, Float[Array, "..."]]


@pytree
class Noised:
    """Poses with the levels and the noise that were drawn for them."""

    x_0: Float[Array, "*batch D"]
    features: Float[Array, "*batch F"] | None
    t: Integer[Array, "*#batch"]  # noise levels
    noise: Float[Array, "*batch D"]  # standard normal


@pytree
class TrainState:
    """Everything that a step changes."""

    params: Params
    ema: Params  # running average of params
    opt_state: Any
    step: Int[Array, ""]  # number of steps taken


def init_state(
    network: Network, optimizer: optax.GradientTransformation, key: Key[Array, ""]
) -> TrainState:
    """Makes a state at step 0 with first weights of a network."""
    return start_state(network.init(key), optimizer)


def start_state(params: Params, optimizer: optax.GradientTransformation) -> TrainState:
    """Makes a state at step 0 with given weights."""

    def averaged(leaf: Array) -> Array:
        # A copy, as a buffer that is donated must not appear twice; and float32 at least, as the
        # average moves by small parts of itself.
        return jnp.array(leaf, jnp.promote_types(leaf.dtype, jnp.float32), copy=True)

    return TrainState(
        params, jax.tree.map(averaged, params), optimizer.init(params), jnp.zeros((), jnp.int32)
    )


def released_optimizer(
    learning_rate: optax.ScalarOrSchedule = 1e-4,
) -> optax.GradientTransformation:
    """Makes Adam (0.9, 0.99) on gradients clipped to a global norm of 1.

    Args:
        learning_rate: constant, or a function of the step.
    """

    def clip(gradient: Any, params: Any) -> Any:
        del params
        norm = gradient_norm(gradient)
        factor = jnp.where(norm < 1, 1, 1 / norm)
        return jax.tree.map(lambda g: (g * factor).astype(g.dtype), gradient)

    return optax.chain(optax.stateless(clip), optax.adam(learning_rate, 0.9, 0.99))


def gradient_norm(tree: Any) -> Float[Array, ""]:
    """Computes the square root of the sum of all squares."""

    def squares(x: Array) -> Array:
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        # XLA's CPU backend sums in one thread, but multiplies matrices in all.
        return jax.lax.platform_dependent(
            jnp.atleast_2d(x),
            cpu=lambda x: row_sum(x**2).sum(),
            default=lambda x: (x**2).sum(),
        )

    return jnp.sqrt(sum(map(squares, jax.tree.leaves(tree))))


def uniform_levels(quantile: Real[Array, "*batch"], num_steps: int) -> Int[Array, "*batch"]:
    """Maps quantiles in [0, 1) to noise levels, every level equally often."""
    return jnp.asarray(quantile * num_steps).astype(jnp.int32)


def low_levels(
    quantile: Real[Array, "*batch"], num_steps: int, *, below: int = 100, share: float = 0.5
) -> Int[Array, "*batch"]:
    """Maps quantiles in [0, 1) to noise levels, with a given share of them below some level.

    Refinement uses low levels, which a uniform draw seldom hits.

    Args:
        quantile: in [0, 1).
        num_steps: T of the schedule.
        below: the level; draws are uniform below it, and from it on.
        share: of the draws that are below it.
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
) -> Float[Array, "*batch"]:
    """Computes the squared error of the predicted noise (Ho et al., 2020, Eq. 14).

    Args:
        network, schedule, params: of the prior.
        batch: noised poses.
        p2_gamma: weights the loss by (1 / (1 - a_t)) ** -p2_gamma (P2 weighting with k = 1; Choi
            et al., 2022).
        precision: of the network's products, as `jax.default_matmul_precision` names it; all else
            has the precision of the weights.
    Returns:
        For each pose, the mean over its 144 numbers, plus the mean over the shape's 10.
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
    """Makes the part of a step after the noise is drawn: loss, gradient, weights, average.

    Args:
        network, schedule: of the prior.
        optimizer: for example `released_optimizer`.
        ema: rule by which the average of the weights moves.
        p2_gamma, precision: as for `noise_loss`.
    Returns:
        A pure function (state, noised poses) -> (state, metrics). The metrics are scalars: `loss`,
        and `grad_norm` before clipping.
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
    level_group: int = 1,
    condition_dropout: float = 0.0,
) -> Callable[[TrainState, TrainingBatch, Key[Array, ""]], tuple[TrainState, Metrics]]:
    """Makes the whole training step.

    Args:
        update: from `make_update`.
        num_steps: T of the schedule.
        levels: maps quantiles in [0, 1) to noise levels. The quantiles are stratified: one falls
            into each of as many equal parts of [0, 1) as the batch has groups.
        level_group: neighbours in the batch that get the same level. In a small network the time
            MLP is most of the work, and this divides it.
        condition_dropout: share of poses whose features are replaced by zeros, so that the same
            network, given zeros, is an unconditional prior.
    Returns:
        A pure function (state, batch, key) -> (state, metrics). It raises a ValueError when it is
        traced if the batch is no multiple of level_group.
    """

    def step(state: TrainState, batch: TrainingBatch, key: Array) -> tuple[TrainState, Metrics]:
        size = len(batch.x_0)
        if size % level_group:
            raise ValueError(
                f"batch: expected a multiple of level_group {level_group}, found {size}"
            )
        groups = size // level_group
        grouped = jax.tree.map(lambda x: x.reshape(groups, level_group, -1), batch)
        key_t, key_noise = jax.random.split(key)
        quantile = (jnp.arange(groups) + jax.random.uniform(key_t, (groups,))) / groups
        t = levels(jnp.minimum(quantile, 1 - 1e-7), num_steps)[:, None]
        noise = jax.random.normal(key_noise, grouped.x_0.shape, grouped.x_0.dtype)
        features = grouped.features
        if features is not None:
            features = features.astype(grouped.x_0.dtype)
        if condition_dropout and features is not None:
            # A key of its own, so that level and noise are the same without this option.
            key_drop = jax.random.fold_in(key, 2)
            dropped = jax.random.bernoulli(key_drop, condition_dropout, features.shape[:-1])
            features = jnp.where(dropped[..., None], 0, features)
        return update(state, Noised(grouped.x_0, features, t, noise))

    return step
