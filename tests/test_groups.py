"""Groups of unequal size in one padded call."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorehmr_jax.groups import mean_of_group, stack_groups, unstack_groups
from scorehmr_jax.types import Camera, Estimate, Info, Keypoints2D


def groups_of(*sizes):
    rng = np.random.default_rng(0)
    return [{"a": rng.normal(size=(n, 2)), "b": (np.arange(n), None)} for n in sizes]


def assert_same(found, expected, **tolerance):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, **tolerance)


@pytest.mark.parametrize(("multiple", "length"), [(1, 5), (4, 8)])
def test_there_and_back(multiple, length):
    groups = groups_of(3, 5, 1)
    tree, mask = stack_groups(groups, multiple=multiple)
    assert tree["a"].shape == (3, length, 2) and mask.shape == (3, length)
    assert isinstance(tree["a"], np.ndarray) and mask.dtype == bool
    np.testing.assert_array_equal(mask.sum(1), [3, 5, 1])
    np.testing.assert_array_equal(tree["b"][0][0, 3:], 2)  # the last sample again
    for sizes in (mask, jnp.asarray(mask), [3, 5, 1]):
        for found, expected in zip(unstack_groups(tree, sizes), groups, strict=True):
            assert_same(found, expected)


def test_the_axis_of_the_groups_may_come_later():
    groups = groups_of(2, 3)
    tree, mask = stack_groups(groups)
    moved = jax.tree.map(lambda leaf: np.stack([leaf, leaf + 1]), tree)
    for found, expected in zip(unstack_groups(moved, mask, axis=1), groups, strict=True):
        assert_same(found, jax.tree.map(lambda leaf: np.stack([leaf, leaf + 1]), expected))


def test_gradients_pass_through():
    def total(first, second):
        tree, mask = stack_groups([first, second])
        return jnp.sum(tree**2 * mask[..., None])

    first, second = jnp.ones((2, 3)), jnp.ones((1, 3))
    np.testing.assert_array_equal(jax.grad(total, 1)(first, second), 2 * second)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([], "groups: expected at least one, found none"),
        (
            [SimpleNamespace(a=np.ones(2))],
            r"groups\[0\]: .* found SimpleNamespace; give its parts as a tuple",
        ),
        (groups_of(2, 0), r"groups\[1\]: expected at least one sample"),
        ([*groups_of(2), (np.ones((2, 2)),)], r"groups\[1\]: expected the structure"),
        ([{"a": np.ones((2, 3))}, {"a": np.ones((2, 4))}], r"groups\[1\]\['a'\]: .*\(3,\).*\(4,\)"),
        ([{"a": np.ones(2), "b": np.ones(3)}], r"groups\[0\]: expected one number .*'a'.*: 2"),
        ([{"a": np.ones(2), "b": 1.0}], r"groups\[0\]\['b'\]: .* found a scalar"),
        ([None], r"groups\[0\]: expected at least one sample"),
    ],
)
def test_what_does_not_fit_is_named(groups, message):
    with pytest.raises(ValueError, match=message):
        stack_groups(groups)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        # Of two samples: the sides of one camera are no cameras.
        (
            Camera(np.ones(2), np.ones(2), np.ones(2)),
            r"Camera.focal: .* 2 axes, found shape \(2,\)",
        ),
        (Keypoints2D(np.ones((2, 2)), np.ones(2)), r"Keypoints2D.xy: .* 3 axes, found .*\(2, 2\)"),
        (
            Estimate(np.ones((2, 24, 3, 3)), np.ones(2), np.ones((2, 3))),
            r"Estimate.betas: .* 2 axes, found shape \(2,\)",
        ),
    ],
)
def test_what_serves_all_samples_is_not_taken_for_samples(part, message):
    with pytest.raises(ValueError, match=rf"groups\[0\]: {message}"):
        stack_groups([(part, np.ones(2))])


@pytest.mark.parametrize(
    "sizes", [[2.5, 3], [True, True], [-1, 3], np.ones((2, 3, 1), int), np.ones((2, 3)), 2]
)
def test_what_are_no_sizes_is_refused(sizes):
    tree, _ = stack_groups(groups_of(2, 3))
    with pytest.raises(ValueError, match=r"sizes: expected the sizes \[G\] of the groups, or"):
        unstack_groups(tree, sizes)


def test_lists_of_numbers_are_named():
    pose, betas, translation = np.zeros((2, 24, 3, 3)), np.zeros((2, 10)), np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"groups\[0\]: Estimate.betas: .* an array, found list"):
        stack_groups([Estimate(pose, betas.tolist(), translation)])


def test_other_wrong_arguments_are_named():
    groups = groups_of(2, 3)
    tree, mask = stack_groups(groups)
    with pytest.raises(ValueError, match="multiple: expected a positive number, found 0"):
        stack_groups(groups, multiple=0)
    with pytest.raises(ValueError, match="padding at the end"):
        unstack_groups(tree, mask[:, ::-1])
    with pytest.raises(ValueError, match=r"tree\['a'\]: expected 3 groups of 3 samples"):
        unstack_groups(tree, [2, 3, 3])
    with pytest.raises(ValueError, match=r"tree\['a'\]: expected 2 groups of 4 samples"):
        unstack_groups(tree, [2, 4])


def test_losses_of_as_many_steps_as_groups_are_never_taken_for_groups():
    losses = np.arange(8.0).reshape(2, 2, 2)  # [S, G, N]
    each = [losses[:, 0], losses[:, 1]]
    with pytest.raises(ValueError, match=r"tree: .* first axis of .* or the second; give axis=0"):
        unstack_groups(losses, [2, 2])
    assert_same(unstack_groups(losses, [2, 2], axis=1), each)
    assert_same(unstack_groups(losses, [2, 2], axis=0), [*losses])
    status, stop = np.arange(4).reshape(2, 2), -np.ones((2, 2), int)
    expected = [Info(status[i], stop[i], each[i]) for i in range(2)]
    assert_same(unstack_groups(Info(status, stop, losses), np.ones((2, 2), bool)), expected)
    # In a pytree of a known kind, an axis of two numbers says nothing of two samples.
    cameras = Camera(losses, losses + 1, losses + 2)
    assert_same(unstack_groups(cameras, [2, 2])[1], jax.tree.map(lambda a: a[1], cameras))


def test_a_groups_mean_is_over_those_that_count():
    numbers = jnp.array([[[1.0], [3.0], [jnp.nan]], [[5.0], [7.0], [9.0]]])
    among = jnp.array([[True, True, False], [False, True, True]])
    found = np.asarray(mean_of_group(numbers, among))[..., 0]
    np.testing.assert_array_equal(found, [[2, 2, np.nan], [5, 8, 8]])
    slope = jax.grad(lambda n: jnp.where(among[..., None], mean_of_group(n, among), 0).sum())
    np.testing.assert_array_equal(slope(numbers)[..., 0], among)
