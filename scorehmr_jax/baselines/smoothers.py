"""The humble baselines: filters over the frames of a video, and the middle of several views.

None looks at the image. They show how much of a gain is mere averaging. Rotations are filtered in
6D and made orthonormal again; the translation is filtered alike, the shape is left as it is.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from body_model import SMPL, Skeleton
from scorehmr_jax.baselines.fitting import Fitting
from scorehmr_jax.blending import MeanOfViews
from scorehmr_jax.prior import rotations_to_x, x_to_rotations
from scorehmr_jax.screening import as_refined
from scorehmr_jax.types import Array, Estimate, Info, Refined

# From estimates [..., N] and True for those that count to bodies of the same samples.
Filter = Callable[[Estimate, Bool[Array, "*N"]], Estimate]


def filtered(
    body: SMPL | Skeleton,
    estimate: Estimate,
    terms: Any,
    rule: Filter,
    mask: Array | None = None,
) -> tuple[Refined, Info]:
    """Replaces first estimates by what a filter makes of them and of their neighbours.

    Args:
        body, estimate, mask: as for `refine`.
        terms: as for `refine`, to find samples that cannot be judged; their losses are reported.
        rule: `one_euro(...)`, `savitzky_golay(...)`, `gaussian(...)`, `mean_of_views` or
            `median_of_views`.
    Returns:
        As `refine`.
    Raises:
        ValueError: if shapes do not fit.
    """
    fitting = Fitting.of(body, estimate, terms, mask)
    found = as_refined(rule(fitting.clean, fitting.active))
    _, losses, _ = fitting.losses(found.pose, found.betas, found.translation)
    return fitting.settled(found, losses[None])


def gaussian(frames: float = 2.0) -> Filter:
    """A Gaussian window over frames.

    Args:
        frames: its standard deviation. By default the best on the val split of the open benchmark.
    """

    def shares(near: Array) -> Array:
        shifts = np.arange(near.shape[-1]) - near.shape[-1] // 2
        return near * jnp.asarray(np.exp(-0.5 * (shifts / frames) ** 2), near.dtype)

    return _windowed(shares, int(np.ceil(3 * frames)))


def savitzky_golay(reach: int = 7, degree: int = 2) -> Filter:
    """A polynomial fitted to the frames around each one (Savitzky and Golay, 1964).

    Frames that do not count are left out of the fit, and so is what lies beyond the ends.

    Args:
        reach: frames on each side.
        degree: of the polynomial.
    """
    powers = (np.arange(-reach, reach + 1) / max(reach, 1))[:, None] ** np.arange(degree + 1)

    def shares(near: Array) -> Array:
        basis = jnp.asarray(powers, near.dtype)
        normal = jnp.einsum("...ns,sp,sq->...npq", near, basis, basis)
        # Fewer frames than the polynomial has numbers: the least of it then.
        normal = normal + 1e-6 * jnp.eye(degree + 1, dtype=near.dtype)
        at_middle = jnp.zeros_like(normal[..., :1]).at[..., 0, 0].set(1)
        solved = jnp.linalg.solve(normal, at_middle)[..., 0]
        return near * jnp.einsum("...np,sp->...ns", solved, basis)

    return _windowed(shares, reach)


def one_euro(
    cutoff: float = 4.0, speed: float = 3.0, cutoff_of_speed: float = 1.0, fps: float = 30.0
) -> Filter:
    """The one-euro filter (Casiez et al., 2012): the slower a number changes, the smoother.

    It looks only back, as a filter in real time must. A frame that does not count is skipped.

    Args:
        cutoff: Hz, of what stands still.
        speed: added to the cutoff for each unit that a number changes in a second.
        cutoff_of_speed: Hz, of the filter of the speed.
        fps: frames per second.
    """

    def share(cutoff: Any) -> Any:
        turn = 2 * jnp.pi * cutoff / fps
        return turn / (1 + turn)

    def rule(estimate: Estimate, mask: Array) -> Estimate:
        values = _numbers(estimate)

        def step(state: Any, now: tuple[Array, Array]) -> tuple[Any, Array]:
            (last, rate, begun), (value, counts) = state, now
            new_rate = rate + share(cutoff_of_speed) * ((value - last) * fps - rate)
            made = last + share(cutoff + speed * jnp.abs(new_rate)) * (value - last)
            made = jnp.where(begun, made, value)
            new_rate = jnp.where(begun, new_rate, 0)
            state = (
                jnp.where(counts, made, last),
                jnp.where(counts, new_rate, rate),
                begun | counts,
            )
            return state, jnp.where(counts, made, value)

        start = values[..., 0, :], jnp.zeros_like(values[..., 0, :]), jnp.zeros_like(mask[..., :1])
        rows = jnp.moveaxis(values, -2, 0), jnp.moveaxis(mask[..., None], -2, 0)
        return _estimate(jnp.moveaxis(jax.lax.scan(step, start, rows)[1], 0, -2), estimate)

    return rule


mean_of_views: Filter = MeanOfViews()


def median_of_views(estimate: Estimate, mask: Bool[Array, "*N"]) -> Estimate:
    """The median body pose of all views of a person in each number of its 6D, under each own root.

    Args:
        estimate: [..., N] of the views.
        mask: True for those that count.
    """
    x = rotations_to_x(estimate.pose)
    there, number = mask[..., None], jnp.arange(mask.shape[-1])[:, None]
    # By rank, as a compiled sort of so few is slow: how many views come before each one.
    a, b = x[..., :, None, :], x[..., None, :, :]
    before = (b < a) | ((b == a) & (number > number.T)[..., None])
    rank = jnp.where(before & there[..., None, :, :], 1, 0).sum(-2)
    count = mask.sum(-1)[..., None, None]
    middle = [
        jnp.where(there & (rank == place), x, 0).sum(-2, keepdims=True)
        for place in ((count - 1) // 2, count // 2)
    ]
    made = jnp.where(there, (middle[0] + middle[1]) / 2, x)
    own = jnp.concatenate([x[..., :6], made[..., 6:]], -1)
    return Estimate(x_to_rotations(own), estimate.betas, estimate.translation)


def _windowed(shares: Callable[[Array], Array], reach: int) -> Filter:
    """A filter whose result is a weighted mean of the frames within reach.

    Args:
        shares: from 1 where a frame around each one counts [..., N, 2 reach + 1] to weights.
        reach: frames on each side.
    """

    def rule(estimate: Estimate, mask: Array) -> Estimate:
        values, count = _numbers(estimate), mask.shape[-1]
        near = np.arange(count)[:, None] + np.arange(-reach, reach + 1)
        inside, near = (near >= 0) & (near < count), np.clip(near, 0, count - 1)
        with jax.default_matmul_precision("float32"):
            share = shares((mask[..., near] & inside).astype(values.dtype))
            made = jnp.einsum("...ns,...nsd->...nd", share, values[..., near, :])
        total = share.sum(-1, keepdims=True)
        made = made / jnp.where(total == 0, 1, total)
        return _estimate(jnp.where(mask[..., None], made, values), estimate)

    return rule


def _numbers(estimate: Estimate) -> Float[Array, "*N 147"]:
    return jnp.concatenate([rotations_to_x(estimate.pose), estimate.translation], -1)


def _estimate(numbers: Float[Array, "*N 147"], like: Estimate) -> Estimate:
    return Estimate(x_to_rotations(numbers[..., :-3]), like.betas, numbers[..., -3:])
