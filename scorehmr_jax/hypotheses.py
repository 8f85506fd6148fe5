"""Several hypotheses per image: other poses near the first estimate that the prior holds likely."""

import jax
import jax.numpy as jnp

from scorehmr_jax.diffusion import add_noise
from scorehmr_jax.prior import Prior, x_to_rotations
from scorehmr_jax.refine import Info
from scorehmr_jax.screening import OK
from scorehmr_jax.types import Array, Estimate, Refined


def hypotheses(
    key: Array,
    prior: Prior,
    estimate: Estimate,
    features: Array | None,
    count: int,
    *,
    start: int = 200,
    step: int = 10,
) -> Estimate:
    """Starting points for `refine`: the estimate, and variations of it by the prior.

    A variation is the estimate's pose noised to a level and led back by unguided DDIM. `refine`
    takes the result with the same features and terms, whose rows serve every hypothesis; a prior
    conditioned on the estimate wants `rotations_to_x(estimate.pose)` as features there, or each
    hypothesis is conditioned on itself.

    Args:
        key: typed PRNG key.
        prior: any prior.
        estimate: [..., N].
        features: [..., N, F], as for `refine`.
        count: hypotheses, the estimate among them.
        start: level to noise to, a multiple of step; the higher, the more they differ.
        step: levels between two evaluations.
    Returns:
        [count, ..., N]; the first is the estimate. Shape and translation are the estimate's.
    Raises:
        ValueError: if count is not positive, start and step do not fit, or features do not.
    """
    if count < 1:
        raise ValueError(f"count: expected at least 1, found {count}")
    pose = jnp.asarray(estimate.pose)
    features = prior.features_of(pose, features)
    x = prior.x_of(pose, estimate.betas)
    poses = pose[None]
    if count > 1:
        noise = jax.random.normal(key, (count - 1, *x.shape), x.dtype)
        noisy = add_noise(prior.schedule, x, jnp.asarray(start), noise)
        varied = x_to_rotations(prior.decode(noisy, features, start=start, step=step))
        poses = jnp.concatenate([poses, varied])

    def repeat(array: Array) -> Array:
        return jnp.broadcast_to(array, (count, *jnp.shape(array)))

    return Estimate(poses, repeat(estimate.betas), repeat(estimate.translation))


def best_of(refined: Refined, info: Info) -> tuple[Refined, Array]:
    """The hypothesis of each sample whose last loss is the least.

    The loss is the unweighted sum of the terms. Hypotheses that were not refined lose; where none
    was, the first is taken. Samples choose on their own, so a video's frames may choose
    differently.

    Args:
        refined: [H, ..., N] hypotheses.
        info: what `refine` returned beside it.
    Returns:
        The chosen bodies, [..., N], and which hypothesis each was, [..., N].
    """
    # A stopped sample's result is of the step at which it stopped; losses after it are of the
    # loop that goes on, and NaN once no sample is left.
    known = jnp.isfinite(info.losses)
    steps = jnp.arange(len(info.losses)).reshape(-1, *(1,) * info.status.ndim)
    last = jnp.max(jnp.where(known, steps, 0), axis=0)
    last = jnp.where(info.stop_step >= 0, info.stop_step, last)
    loss = jnp.take_along_axis(info.losses, last[None], axis=0)[0]
    best = jnp.argmin(jnp.where((info.status == OK) & jnp.isfinite(loss), loss, jnp.inf), axis=0)

    def choose(array: Array) -> Array:
        index = best.reshape(1, *best.shape, *(1,) * (array.ndim - info.status.ndim))
        return jnp.take_along_axis(array, index, axis=0)[0]

    return jax.tree.map(choose, refined), best
