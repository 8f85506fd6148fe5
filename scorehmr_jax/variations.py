"""Several hypotheses per image: other poses near the first estimate that the prior holds likely."""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int, Key

from scorehmr_jax.checks import check_units, checked_estimate
from scorehmr_jax.diffusion import add_noise
from scorehmr_jax.prior import Prior, x_to_rotations
from scorehmr_jax.screening import OK
from scorehmr_jax.types import Array, Estimate, Info, Refined


def varied_estimates(
    key: Key[Array, ""],
    prior: Prior,
    estimate: Estimate,
    features: Float[Array, "... F"] | None,
    count: int,
    *,
    start: int = 200,
    step: int = 10,
) -> Estimate:
    """Draws starting points for `refine`: the estimate, and variations of it by the prior.

    A variation is the estimate's pose noised to a level and led back by unguided DDIM. `refine`
    takes the result with the same features and terms, whose rows serve every variation; a prior
    conditioned on the estimate wants `rotations_to_x(estimate.pose)` as features there, or each
    variation is conditioned on itself.

    Args:
        key: typed PRNG key.
        prior: any prior.
        estimate: [..., N].
        features: [..., N, F], as for `refine`.
        count: estimates in all, the first among them.
        start: level to noise to, a multiple of step; the higher, the more they differ.
        step: levels between two evaluations.
    Returns:
        [count, ..., N]; the first is the estimate. Shape and translation are the estimate's.
    Raises:
        ValueError: if count is not positive, start and step do not fit, shapes do not, or
            the estimate is in other units.
    """
    if count < 1:
        raise ValueError(f"count: expected at least 1, found {count}")
    estimate = checked_estimate(estimate)
    check_units(estimate, ())
    features = prior.features_of(estimate.pose, features)
    poses = estimate.pose[None]
    if count > 1:
        x = prior.x_of(estimate.pose, estimate.betas)
        x = jnp.broadcast_to(x, (count - 1, *x.shape))
        noise = jax.random.normal(key, x.shape, x.dtype)
        noisy = add_noise(prior.schedule, x, jnp.asarray(start), noise)
        varied = x_to_rotations(prior.decode(noisy, features, start=start, step=step))
        poses = jnp.concatenate([poses, varied])

    def repeat(array: Array) -> Array:
        return jnp.broadcast_to(array, (count, *array.shape))

    return Estimate(poses, repeat(estimate.betas), repeat(estimate.translation))


def best_of(refined: Refined, info: Info) -> tuple[Refined, Int[Array, "*N"]]:
    """Chooses for each sample the hypothesis whose last loss is the least.

    The loss is the unweighted sum of the terms. Hypotheses that were not refined lose; where none
    was, the first is taken. Samples choose on their own, so a video's frames may choose
    differently.

    Args:
        refined: [H, ..., N] hypotheses.
        info: as `refine` returned it beside them.
    Returns:
        The chosen bodies, [..., N], and the number of each one's hypothesis, [..., N].
    Raises:
        ValueError: if there is no axis of hypotheses before that of the samples.
    """
    if not isinstance(info, Info):
        raise ValueError(
            f"info: expected the Info that `refine` returns, found {type(info).__name__}"
        )
    if info.status.ndim < 2:
        raise ValueError(
            "info: expected hypotheses before the samples [H, ..., N], as `varied_estimates` makes "
            f"them, found shape {info.status.shape}; several hypotheses of one image are [H, 1]"
        )
    # A stopped sample's result is of the step at which it stopped; losses after it are of the
    # loop that goes on.
    last = jnp.where(info.stop_step >= 0, info.stop_step, len(info.losses) - 1)
    loss = jnp.take_along_axis(info.losses, last[None], axis=0)[0]
    best = jnp.argmin(jnp.where((info.status == OK) & jnp.isfinite(loss), loss, jnp.inf), axis=0)

    def choose(array: Array) -> Array:
        index = best.reshape(1, *best.shape, *(1,) * (array.ndim - info.status.ndim))
        return jnp.take_along_axis(array, index, axis=0)[0]

    return jax.tree.map(choose, refined), best
