"""Many training steps as one program, on one device or on all of a `Layout`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import jax
import numpy as np

from scorehmr_jax.datasets.batch import Batch
from scorehmr_jax.training.layout import Layout
from scorehmr_jax.training.step import Metrics, TrainState
from scorehmr_jax.types import Array

_AT_ONCE = 16  # batches of a stream that go to the devices together, at most

Run = Callable[[TrainState, Any, Array], tuple[TrainState, Metrics]]


@dataclass(frozen=True)
class Resident:
    """Data that lies on the devices, the same for every process."""

    data: Any  # arrays
    draw: Callable[[Array, Array, Any], Batch]  # (key, step, data) -> the whole batch


@dataclass(frozen=True)
class Stream:
    """Data that comes batch by batch."""

    # From so many batches on: this process's rows of each, as numpy arrays. Its first batch
    # depends on that number alone, which is all that a checkpoint holds of a stream.
    batches: Callable[[int], Iterator[Batch]]


def make_run(
    step: Callable[[TrainState, Batch, Array], tuple[TrainState, Metrics]],
    draw: Callable[[Array, Array, Any], Batch],
    length: int,
    layout: Layout | None = None,
) -> Run:
    """Steps on data that stays on the devices.

    Args:
        step: from `make_step`.
        draw: (key, step, data) -> Batch, of a key of its own in every step, and the step's number.
        length: steps per call.
        layout: where the state lies and how batches are split; None: all on one device.
    Returns:
        A jitted function (state, data, key) -> (state, metrics [length]); it takes over the
        state's buffers. What it draws depends on the key and on the number of the step alone,
        so a run that is resumed goes on as if it had not been interrupted.
    """

    def run(state: TrainState, data: Any, key: Array) -> tuple[TrainState, Metrics]:
        def body(state: TrainState, _: None) -> tuple[TrainState, Metrics]:
            key_data, key_step = _keys(key, state)
            return _laid(step, layout)(state, draw(key_data, state.step, data), key_step)

        return jax.lax.scan(body, state, None, length)

    return jax.jit(run, donate_argnums=0)


def make_stream_run(
    step: Callable[[TrainState, Any, Array], tuple[TrainState, Metrics]],
    layout: Layout | None = None,
) -> Run:
    """Steps on batches that come from outside.

    Args:
        step: from `make_step`, or a function of another kind of batch.
        layout: as for `make_run`.
    Returns:
        A jitted function (state, batches, key) -> (state, metrics [S]), of batches whose arrays
        have a leading axis of S steps. It takes over the state's buffers. From one key, a step
        gets the same noise as by `make_run`.
    """

    def run(state: TrainState, batches: Any, key: Array) -> tuple[TrainState, Metrics]:
        def body(state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
            return _laid(step, layout)(state, batch, _keys(key, state)[1])

        return jax.lax.scan(body, state, batches)

    return jax.jit(run, donate_argnums=0)


def make_advance(
    source: Resident | Stream, step: Callable[..., tuple[TrainState, Metrics]], layout: Layout
) -> Callable[[TrainState, Array, int], tuple[TrainState, Metrics]]:
    """A function (state, key, length) -> (state, metrics [length]) that trains on a source."""
    if isinstance(source, Resident):
        data, programs = layout.put(source.data), {}

        def advance(state: TrainState, key: Array, length: int) -> tuple[TrainState, Metrics]:
            if length not in programs:
                programs[length] = make_run(step, source.draw, length, layout)
            return programs[length](state, data, key)

        return advance
    run = make_stream_run(step, layout)
    batches: Iterator[Batch] | None = None

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
            # The devices have one part to work on while the next is read, and no more: a host
            # that ran ahead would fill the memory.
            jax.block_until_ready(parts[-2:-1])
            state, metrics = run(state, layout.put_rows(stack, axis=1), key)
            parts.append(metrics)
        return state, jax.tree.map(lambda *each: np.concatenate(each), *parts)

    return advance_stream


def _keys(key: Array, state: TrainState) -> tuple[Array, Array]:
    """What the step of this state draws data and noise from."""
    key_data, key_step = jax.random.split(jax.random.fold_in(key, state.step))
    return key_data, key_step


def _laid(step: Callable[..., Any], layout: Layout | None) -> Callable[..., Any]:
    """The step, its batch split over the devices and its state left where it lies."""
    if layout is None:
        return step

    def laid(state: TrainState, batch: Any, key: Array) -> tuple[TrainState, Metrics]:
        batch = jax.lax.with_sharding_constraint(batch, layout.rows())
        state, metrics = step(state, batch, key)
        return jax.lax.with_sharding_constraint(
            (state, metrics), (layout.state(state), jax.tree.map(lambda _: layout.whole, metrics))
        )

    return laid
