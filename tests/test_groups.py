"""Groups of unequal size in one padded call."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bodies import scene, small_prior

from body_model import Skeleton, stand_in
from body_model.joints import SMPL_24
from scorehmr_jax.groups import stack_groups, unstack_groups
from scorehmr_jax.guidance import keypoints_2d, smooth
from scorehmr_jax.refine import RefineConfig, make_refiner
from scorehmr_jax.screening import PADDING


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


@pytest.mark.slow
def test_refining_together_is_refining_alone():
    """A short sequence beside a longer one, padded, ends as it does by itself."""
    skeleton = Skeleton.of(stand_in(), SMPL_24)
    people = scene(skeleton, 8)
    samples = people.estimate, people.features, people.keypoints, people.camera
    long, short = (jax.tree.map(lambda leaf, s=s: leaf[s], samples) for s in (np.s_[:5], np.s_[5:]))
    (estimate, features, keypoints, camera), mask = stack_groups([long, short])
    refiner = make_refiner(small_prior(), skeleton, RefineConfig(iterations=2, start=6))
    together, info = refiner(estimate, features, [keypoints_2d(keypoints, camera), smooth()], mask)
    assert (np.asarray(info.status)[~mask] == PADDING).all()
    estimate, features, keypoints, camera = short
    alone, info_alone = refiner(estimate, features, [keypoints_2d(keypoints, camera), smooth()])
    assert_same(unstack_groups(together, mask)[1], alone, atol=1e-5)
    losses = unstack_groups(info.losses, mask, axis=1)[1]
    np.testing.assert_allclose(losses, info_alone.losses, rtol=1e-4)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([], "groups: expected at least one, found none"),
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
