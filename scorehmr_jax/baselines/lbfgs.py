"""L-BFGS for many small problems at once, each with a memory and a step length of its own.

A library's L-BFGS over a batch has one line search for all, so that the hardest sample decides how
far the others go; and a line search of its own for each, under `vmap`, waits for the slowest. Here
every round evaluates all problems once: those whose trial step is good take it and choose a new
direction, the others try a shorter one.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from scorehmr_jax.types import Array

_SUFFICIENT = 1e-4  # share of the slope that a step must gain (Armijo, 1966)
_SHORTER = 0.4  # times the trial step, when it is not good
_PATIENCE = 12  # steps that are not good, after which the memory is forgotten


class _State(NamedTuple):
    x: Float[Array, "P D"]
    value: Float[Array, " P"]
    slope: Float[Array, "P D"]
    direction: Float[Array, "P D"]
    length: Float[Array, " P"]  # of the trial step, in directions
    tried: Int[Array, " P"]  # trial steps in this direction
    moves: Float[Array, "M P D"]  # the newest first
    changes: Float[Array, "M P D"]  # of the slope with them
    curvature: Float[Array, "M P"]  # their product; 0: nothing there


def minimize(
    value_and_slope: Callable[[Float[Array, "P D"]], tuple[Float[Array, " P"], Array, Array]],
    x: Float[Array, "P D"],
    rounds: int,
    memory: int = 10,
) -> tuple[Float[Array, "P D"], Float[Array, " S ..."]]:
    """Makes the values of many problems small (Nocedal and Wright, Algorithm 7.5).

    Args:
        value_and_slope: gives for each problem its value, the value's slope, and what to record.
        x: where to start.
        rounds: evaluations.
        memory: moves that the curvature is estimated from.
    Returns:
        The best point of each problem, and what was recorded of all that were tried.
    """
    value, slope, record = value_and_slope(x)
    history = jnp.zeros((memory, *x.shape), x.dtype)
    first = _first_length(slope)
    state = _State(
        x,
        value,
        slope,
        -slope,
        first,
        jnp.zeros(value.shape, jnp.int32),
        history,
        history,
        history[..., 0],
    )

    def once(state: _State, _: None) -> tuple[_State, Array]:
        trial = state.x + state.length[:, None] * state.direction
        value, slope, record = value_and_slope(trial)
        gain = state.length * _dot(state.slope, state.direction)
        finite = jnp.isfinite(value) & jnp.isfinite(slope).all(-1)
        good = finite & (value <= state.value + _SUFFICIENT * gain)
        return _after(state, good, trial, value, slope), record

    state, records = jax.lax.scan(once, state, None, length=rounds - 1)
    return state.x, jnp.concatenate([record[None], records])


def _after(state: _State, good: Bool[Array, " P"], x: Array, value: Array, slope: Array) -> _State:
    """The state after a trial step, taken where it was good."""
    row = good[:, None]
    move, change = x - state.x, slope - state.slope
    # Where it was not good, a number that is not finite must not come into the memory.
    move, change = jnp.where(row, move, 0), jnp.where(row, change, 0)
    curvature = _dot(move, change)
    bent = good & (curvature > 1e-10 * jnp.maximum(_dot(change, change), 1e-30))

    def pushed(old: Array, new: Array) -> Array:
        kept = jnp.concatenate([new[None], old[:-1]])
        return jnp.where(bent.reshape(1, -1, *(1,) * (old.ndim - 2)), kept, old)

    lost = ~good & (state.tried + 1 >= _PATIENCE)
    moves, changes = pushed(state.moves, move), pushed(state.changes, change)
    curvatures = jnp.where(lost, 0, pushed(state.curvature, curvature))
    at = jnp.where(row, slope, state.slope)
    direction = _direction(at, moves, changes, curvatures)
    downhill = _dot(direction, at) < 0
    direction = jnp.where(downhill[:, None], direction, -at)
    renewed = good | lost
    blind = (curvatures[0] == 0) | ~downhill
    length = jnp.where(blind, _first_length(at), 1)
    return _State(
        x=jnp.where(row, x, state.x),
        value=jnp.where(good, value, state.value),
        slope=at,
        direction=jnp.where(renewed[:, None], direction, state.direction),
        length=jnp.where(renewed, length, _SHORTER * state.length),
        tried=jnp.where(renewed, 0, state.tried + 1),
        moves=moves,
        changes=changes,
        curvature=curvatures,
    )


def _direction(slope: Array, moves: Array, changes: Array, curvature: Array) -> Array:
    """Minus the slope times the estimated inverse curvature (the two loops)."""
    known = curvature > 0
    scale = jnp.where(known, 1 / jnp.where(known, curvature, 1), 0)

    def back(q: Any, row: Any) -> tuple[Any, Any]:
        move, change, scale = row
        share = scale * _dot(move, q)
        return q - share[:, None] * change, share

    def forth(r: Any, row: Any) -> tuple[Any, None]:
        move, change, scale, share = row
        return r + (share - scale * _dot(change, r))[:, None] * move, None

    q, shares = jax.lax.scan(back, slope, (moves, changes, scale))
    square = _dot(changes[0], changes[0])
    usual = jnp.where(known[0], curvature[0] / jnp.where(square > 0, square, 1), 1)
    r, _ = jax.lax.scan(forth, usual[:, None] * q, (moves, changes, scale, shares), reverse=True)
    return -r


def _first_length(slope: Array) -> Array:
    """Of a step whose largest number is a hundredth, as nothing is known of the curvature."""
    largest = jnp.abs(slope).max(-1)
    return 0.01 / jnp.where(largest > 0, largest, 1)


def _dot(a: Array, b: Array) -> Array:
    return jnp.sum(a * b, axis=-1)
