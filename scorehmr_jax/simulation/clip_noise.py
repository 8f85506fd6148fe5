"""Gaussian noise that is smooth over the frames of a clip and independent between clips."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int, Key, Shaped

from scorehmr_jax.types import Array, Number

# Half width of the smoothing window, in standard deviations.
_REACH = 2.5


def smooth_noise(
    key: Key[Array, ""],
    shape: tuple[int, ...],
    clip_index: Int[Array, " N"] | None = None,
    frames: int = 10,
    jitter: Number = 0.0,
) -> Float[Array, "N ..."]:
    """Draws standard normal noise that is correlated along the first axis within each clip.

    It is white noise under a Gaussian window that stops where the clip does, rescaled so that
    every value has variance 1, then mixed with white noise.

    Args:
        key: PRNG key.
        shape: (N, ...) of the result.
        clip_index: [N] equal for the frames of one clip, which are contiguous and in order;
            None makes every frame its own clip.
        frames: standard deviation of the window.
        jitter: share of the variance, in [0, 1], that is new in every frame.
    Returns:
        [N, ...].
    """
    key_smooth, key_white = jax.random.split(key)
    if clip_index is None:
        return jax.random.normal(key_white, shape)
    count = shape[0]
    # Both at once, as the compiler takes long over each.
    keys = jnp.stack([key_smooth, key_white])
    independent, white = jax.vmap(partial(jax.random.normal, shape=shape))(keys)
    reach = round(_REACH * frames)

    def accumulate(sums: tuple[Array, Array], offset: Array):
        total, squares = sums
        place = jnp.arange(count) + offset
        inside = (place >= 0) & (place < count)
        place = jnp.clip(place, 0, count - 1)
        weight = jnp.exp(-0.5 * (offset / frames) ** 2)
        weight = jnp.where(inside & (clip_index[place] == clip_index), weight, 0.0)
        weight = weight.reshape(count, *[1] * (len(shape) - 1))
        return (total + weight * independent[place], squares + weight**2), None

    start = (jnp.zeros(shape), jnp.zeros((count, *[1] * (len(shape) - 1))))
    (total, squares), _ = jax.lax.scan(accumulate, start, jnp.arange(-reach, reach + 1))
    smooth = total / jnp.sqrt(squares)
    return jnp.sqrt(1 - jitter) * smooth + jnp.sqrt(jitter) * white


def per_clip(
    values: Shaped[Array, "N ..."], clip_index: Int[Array, " N"] | None
) -> Shaped[Array, "N ..."]:
    """Gives all frames of a clip the value of its first frame.

    Args:
        values: [N, ...].
        clip_index: as for `smooth_noise`.
    Returns:
        [N, ...].
    """
    return values if clip_index is None else values[clip_starts(clip_index)]


def clip_starts(clip_index: Int[Array, " N"]) -> Int[Array, " N"]:
    """Finds the first frame of each frame's clip.

    Args:
        clip_index: [N] as for `smooth_noise`.
    Returns:
        [N] indices of frames.
    """
    place = jnp.arange(len(clip_index))
    begins = jnp.concatenate([jnp.ones(1, bool), clip_index[1:] != clip_index[:-1]])
    return jax.lax.cummax(jnp.where(begins, place, 0))
