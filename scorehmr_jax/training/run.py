"""Runs many training steps as one program, on one device or on all of a `Placement`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import jax
import numpy as np
from jaxtyping import Int, Key

from body_model.pytree import Array
from scorehmr_jax.datasets.batch import TrainingBatch
from scorehmr_jax.training.sharding import Placement
from scorehmr_jax.training.step import Metrics, TrainState

_AT_ONCE = 16  # batches of a stream that go to the devices together, at most

# (state, data or batches, key) -> (state, metrics of every step)
Run = Callable[[TrainState, Any, Key[Array, ""]], tuple[TrainState, Metrics]]
# (key, number of the step, data) -> batch
Draw = Callable[[Key[Array, ""], Int[Array, ""], Any], TrainingBatch]


@dataclass(frozen=True)
class Resident:
    """Data that lies on the devices, the same for every process."""

    data: Any  # arrays
    draw: Draw  # the whole batch


@dataclass(frozen=True)
class Stream:
    """Data that comes batch by batch."""

    # Yields this process's rows of each batch, as numpy arrays, from a number of batches on. They
    # must depend on that number alone, for it is all that a checkpoint keeps of a stream.
    batches: Callable[[int], Iterator[TrainingBatch]]


def make_run(
    step: Callable[[TrainState, TrainingBatch, Key[Array, ""]], tuple[TrainState, Metrics]],
    draw: Draw,
    length: int,
    placement: Placement | None = None,
) -> Run:
    """Makes a program of steps on data that stays on the devices.

    Args:
        step: from `make_step`.
        draw: takes a batch from the data; its key is another in every step.
        length: steps per call.
        placement: of the state and the batches; None: all on one device.
    Returns:
        A jitted function (state, data, key) -> (state, metrics [length]); it takes over the
        state's buffers. It draws from the key and the number of the step alone, so that a run
        that is resumed goes on as if it had not been interrupted.
    """

    def run(state: TrainState, data: Any, key: Array) -> tuple[TrainState, Metrics]:
        def body(state: TrainState, _: None) -> tuple[TrainState, Metrics]:
            key_data, key_step = _keys(key, state)
            batch = draw(key_data, state.step, data)
            return _placed(step, placement)(state, batch, key_step)

        return jax.lax.scan(body, state, None, length)

    return jax.jit(run, donate_argnums=0)


def make_stream_run(
    step: Callable[[TrainState, Any, Key[Array, ""]], tuple[TrainState, Metrics]],
    placement: Placement | None = None,
) -> Run:
    """Makes a program of steps on batches that come from outside.

    Args:
        step: from `make_step`, or a function of another kind of batch.
        placement: as for `make_run`.
    Returns:
        A jitted function (state, batches, key) -> (state, metrics [S]), of batches whose arrays
        have a leading axis of S steps. It takes over the state's buffers. From one key, a step
        gets the same noise as by `make_run`.
    """

    def run(state: TrainState, batches: Any, key: Array) -> tuple[TrainState, Metrics]:
        def body(state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
            return _placed(step, placement)(state, batch, _keys(key, state)[1])

        return jax.lax.scan(body, state, batches)

    return jax.jit(run, donate_argnums=0)


def make_advance(
    source: Resident | Stream, step: Callable[..., tuple[TrainState, Metrics]], placement: Placement
) -> Callable[[TrainState, Key[Array, ""], int], tuple[TrainState, Metrics]]:
    """Makes a function (state, key, length) -> (state, metrics [length]) that trains on data.

    Args:
        source: of the data.
        step: from `make_step`.
        placement: of the run.
    """
    if isinstance(source, Resident):
        data, programs = placement.put(source.data), {}

        def advance(state: TrainState, key: Array, length: int) -> tuple[TrainState, Metrics]:
            if length not in programs:
                programs[length] = make_run(step, source.draw, length, placement)
            return programs[length](state, data, key)

        return advance
    run = make_stream_run(step, placement)
    batches: Iterator[TrainingBatch] | None = None

    def advance_stream(state: TrainState, key: Array, length: int) -> tuple[TrainState, Metrics]:
        nonlocal batches
        done = int(state.step)
        batches = source.batches(done) if batches is None else batches
        at_once = max(n for n in range(1, _AT_ONCE + 1) if length % n == 0)
        parts: list[Metrics] = []
        for first in range(0, length, at_once):
            taken = [*islice(batches, at_once)]
            if len(taken) < at_once:
                found = first + len(taken)
                raise ValueError(
                    f"the stream ended at step {done + found}: expected {length - found} more"
                )
            stack = jax.tree.map(lambda *rows: np.stack(rows), *taken)
            # While one part is worked on, the next is read, but no more: the host must not run
            # ahead and fill the memory.
            jax.block_until_ready(parts[-2:-1])
            state, metrics = run(state, placement.put_rows(stack, axis=1), key)
            parts.append(metrics)
        return state, jax.tree.map(lambda *each: np.concatenate(each), *parts)

    return advance_stream


def _keys(key: Array, state: TrainState) -> tuple[Array, Array]:
    """Keys from which the step of this state draws its data and its noise."""
    key_data, key_step = jax.random.split(jax.random.fold_in(key, state.step))
    return key_data, key_step


def _placed(step: Callable[..., Any], placement: Placement | None) -> Callable[..., Any]:
    """Splits the batch of a step over the devices, and keeps the state in its place."""
    if placement is None:
        return step

    def placed(state: TrainState, batch: Any, key: Array) -> tuple[TrainState, Metrics]:
        batch = jax.lax.with_sharding_constraint(batch, placement.rows())
        state, metrics = step(state, batch, key)
        places = placement.state(state), jax.tree.map(lambda _: placement.whole, metrics)
        return jax.lax.with_sharding_constraint((state, metrics), places)

    return placed
