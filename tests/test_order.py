"""Order of training samples: even, without repeats, and the same wherever it is computed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorehmr_jax.datasets.order import Order, batch_indices, traced_indices

MIXED = Order((3000, 700, 900), (0.5, 0.3, 0.2), batch=128, seed=7)


def set_of(rows, order):
    return np.searchsorted(np.cumsum(order.sizes), rows, side="right")


def test_numpy_and_jax_draw_the_same():
    traced = jax.jit(lambda step: traced_indices(MIXED, step))
    steps = np.array([0, 1, 2, 50, 99_999, 2_000_000_000])
    expected = batch_indices(MIXED, steps)
    for step, rows in zip(steps, expected, strict=True):
        np.testing.assert_array_equal(traced(jnp.int32(step)), rows)
        np.testing.assert_array_equal(batch_indices(MIXED, step), rows)


def test_processes_share_the_batch_of_one():
    whole = batch_indices(MIXED, np.arange(5))
    parts = [batch_indices(MIXED, np.arange(5), i, 4) for i in range(4)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
    assert all(len(np.unique(rows)) == 128 for rows in whole)
    with pytest.raises(ValueError, match="batch: expected a multiple of 3 processes, found 128"):
        batch_indices(MIXED, 0, 0, 3)
    for index in (-1, 4):
        with pytest.raises(ValueError, match=f"process_index: expected 0 to 3, found {index}"):
            batch_indices(MIXED, 0, index, 4)


def test_every_batch_holds_the_sets_by_weight():
    which = set_of(batch_indices(MIXED, np.arange(2000)), MIXED)
    counts = np.stack([(which == i).sum(1) for i in range(3)], axis=1)
    assert np.abs(counts - 128 * np.array(MIXED.weights)).max() < 1
    np.testing.assert_allclose(counts.mean(0) / 128, MIXED.weights, atol=3e-4)
    # No place in the batch belongs to a set.
    share = (which == 0).mean(0)
    assert share.min() > 0.42 and share.max() < 0.58


def test_a_set_is_gone_through_before_a_sample_comes_again():
    order = Order((640, 1000), (0.5, 0.5), batch=128)
    rows = batch_indices(order, np.arange(20)).reshape(2, -1)  # two epochs of the first set
    first, second = (epoch[epoch < 640] for epoch in rows)
    assert len(first) == 640
    np.testing.assert_array_equal(np.sort(first), np.arange(640))
    np.testing.assert_array_equal(np.sort(second), np.arange(640))
    assert (first != second).mean() > 0.9


def test_a_set_smaller_than_its_share_is_repeated_evenly():
    order = Order((7, 1000), (0.5, 0.5), batch=128)
    rows = batch_indices(order, np.arange(50))
    counts = np.stack([np.bincount(r[r < 7], minlength=7) for r in rows])
    assert counts.min() == 9 and counts.max() == 10  # 64 of 7


def test_seeds_and_epochs_are_unrelated():
    rows = [batch_indices(Order((1000,), (1.0,), 100, seed), np.arange(200)) for seed in (0, 1)]
    assert abs(np.mean(rows[0] == rows[1]) - 1e-3) < 1e-3
    # Where a sample comes in its epoch is even, and says nothing of its neighbour's place.
    place = np.argsort(np.concatenate([*rows]).reshape(40, 1000), axis=1)
    early = (place < 500).mean(0)  # of 40 fair throws each
    assert abs(early.mean() - 0.5) < 1e-9 and 0.06 < early.std() < 0.1
    a, b = place[:, :-1].ravel(), place[:, 1:].ravel()
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.02


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((10, 0), (1, 1), 4), "expected sets of 1"),
        (((10,), (1, 1), 4), "found 2 weights and 1 sets"),
        (((10, 5), (1, 0), 4), "expected weights above 0"),
        (((10, 5), (1, float("nan")), 4), "expected weights above 0"),
        (((10,), (1,), 0), "batch: expected 1 to 32768, found 0"),
    ],
)
def test_orders_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Order(*arguments)
