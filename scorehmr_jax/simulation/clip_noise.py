"""Gaussian noise that is smooth over the frames of a clip and independent between clips."""

import jax
import jax.numpy as jnp

from scorehmr_jax.types import Array

# Half width of the smoothing window, in standard deviations.
_REACH = 2.5


def smooth_noise(
    key: Array,
    shape: tuple[int, ...],
    clip_index: Array | None = None,
    frames: int = 10,
    jitter: float = 0.0,
) -> Array:
    """Standard normal noise, correlated along the first axis within each clip.

    White noise under a Gaussian window that stops where the clip does, rescaled so that every
    value has variance 1, then mixed with white noise.

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
    white = jax.random.normal(key_white, shape)
    if clip_index is None:
        return white
    count = shape[0]
    source = jax.random.normal(key_smooth, (count, *shape[1:]))
    reach = round(_REACH * frames)

    def accumulate(sums: tuple[Array, Array], offset: Array):
        total, squares = sums
        place = jnp.arange(count) + offset
        inside = (place >= 0) & (place < count)
        place = jnp.clip(place, 0, count - 1)
        weight = jnp.exp(-0.5 * (offset / frames) ** 2)
        weight = jnp.where(inside & (clip_index[place] == clip_index), weight, 0.0)
        weight = weight.reshape(count, *[1] * (len(shape) - 1))
        return (total + weight * source[place], squares + weight**2), None

    start = (jnp.zeros(shape), jnp.zeros((count, *[1] * (len(shape) - 1))))
    (total, squares), _ = jax.lax.scan(accumulate, start, jnp.arange(-reach, reach + 1))
    smooth = total / jnp.sqrt(squares)
    return jnp.sqrt(1 - jitter) * smooth + jnp.sqrt(jitter) * white


def per_clip(values: Array, clip_index: Array | None) -> Array:
    """The value of each clip's first frame, at all its frames.

    Args:
        values: [N, ...].
        clip_index: as for `smooth_noise`.
    Returns:
        [N, ...].
    """
    return values if clip_index is None else values[clip_starts(clip_index)]


def clip_starts(clip_index: Array) -> Array:
    """Where the clip of each frame begins, [N]."""
    place = jnp.arange(len(clip_index))
    begins = jnp.concatenate([jnp.ones(1, bool), clip_index[1:] != clip_index[:-1]])
    return jax.lax.cummax(jnp.where(begins, place, 0))
