"""Several hypotheses per image, and the choice between them."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bodies import scene, small_prior

from body_model import Skeleton, stand_in
from body_model.joints import SMPL_24
from scorehmr_jax.guidance import keypoints_2d
from scorehmr_jax.refine import RefineConfig, make_refiner
from scorehmr_jax.screening import NOT_FINITE, OK
from scorehmr_jax.types import Info, Refined
from scorehmr_jax.variations import best_of, varied_estimates

COUNT, N = 3, 2


@pytest.fixture(scope="module")
def prior():
    return small_prior()


@pytest.fixture(scope="module")
def skeleton():
    return Skeleton.of(stand_in(), SMPL_24)


@pytest.fixture(scope="module")
def images(skeleton):
    people = scene(skeleton, N)
    return people.estimate, people.features, people.keypoints, people.camera


@pytest.fixture(scope="module")
def several(prior, images):
    return varied_estimates(jax.random.key(0), prior, *images[:2], COUNT)


def test_the_first_is_the_estimate_and_the_others_vary(images, several):
    estimate = images[0]
    assert several.pose.shape == (COUNT, N, 24, 3, 3)
    np.testing.assert_array_equal(several.pose[0], estimate.pose)
    np.testing.assert_array_equal(several.betas, np.stack([estimate.betas] * COUNT))
    np.testing.assert_array_equal(several.translation, np.stack([estimate.translation] * COUNT))
    gram = several.pose @ several.pose.mT
    np.testing.assert_allclose(gram, np.broadcast_to(np.eye(3), gram.shape), atol=1e-5)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(several.pose[i] - several.pose[j]).max((1, 2, 3)).min() > 0.1


def test_higher_levels_vary_more_and_keys_decide(prior, images, several):
    close = varied_estimates(jax.random.key(0), prior, *images[:2], COUNT, start=20)
    spread = [np.abs(h.pose[1:] - h.pose[:1]).mean() for h in (close, several)]
    assert spread[0] < 0.5 * spread[1]
    other = varied_estimates(jax.random.key(1), prior, *images[:2], COUNT, start=20)
    assert np.abs(other.pose[1:] - close.pose[1:]).mean() > 0.01


@pytest.mark.slow
def test_refined_with_the_features_and_observations_of_the_images(prior, skeleton, images, several):
    """Every hypothesis ends as if it were refined by itself, and the best has the least loss."""
    _, features, keypoints, camera = images
    terms = keypoints_2d(keypoints, camera)
    refiner = make_refiner(prior, skeleton, RefineConfig(iterations=2, start=6))
    refined, info = refiner(several, features, terms)
    assert refined.pose.shape == several.pose.shape and (info.status == OK).all()
    for i in range(COUNT):
        # Of the same shape, which is compiled already.
        same = jax.tree.map(lambda leaf, i=i: leaf[np.full(COUNT, i)], several)
        alone = jax.tree.map(lambda leaf: leaf[0], refiner(same, features, terms)[0])
        np.testing.assert_allclose(refined.pose[i], alone.pose, atol=1e-5)
        np.testing.assert_allclose(refined.translation[i], alone.translation, atol=1e-5)
    chosen, index = best_of(refined, info)
    np.testing.assert_array_equal(index, info.losses[-1].argmin(0))
    for n in range(N):
        np.testing.assert_array_equal(chosen.pose[n], refined.pose[index[n], n])


def test_the_best_is_judged_where_it_stopped_and_only_if_refined():
    nan = jnp.nan
    losses = jnp.array(
        [  # [S, H, N]
            [[5.0, 1.0, 1.0, nan], [4.0, 2.0, 1.0, nan]],
            [[3.0, 9.0, 1.0, nan], [6.0, 4.0, 2.0, nan]],
            [[3.0, 9.0, 1.0, nan], [6.0, 4.0, 2.0, nan]],
        ]
    )
    status = jnp.array([[OK, OK, NOT_FINITE, NOT_FINITE], [OK, OK, OK, NOT_FINITE]])
    stop_step = jnp.array([[-1, 0, -1, -1], [0, -1, -1, -1]])
    each = jnp.arange(8.0).reshape(2, 4)
    tails = (24, 3, 3), (10,), (3,), (144,)
    body = Refined(
        *(jnp.broadcast_to(each.reshape(2, 4, *(1,) * len(t)), (2, 4, *t)) for t in tails)
    )
    chosen, index = best_of(body, Info(status, stop_step, losses))
    np.testing.assert_array_equal(index, [0, 0, 1, 0])
    np.testing.assert_array_equal(chosen.pose[:, 0, 0, 0], [0, 1, 6, 3])
    assert chosen.betas.shape == (4, 10)
    images = jax.tree.map(lambda leaf: leaf[0], body)
    with pytest.raises(ValueError, match=r"hypotheses before the samples .* found .*\(4,\)"):
        best_of(images, Info(status[0], stop_step[0], losses[:, 0]))


def test_one_hypothesis_is_the_estimate_and_none_is_refused(prior, images):
    estimate, features = images[:2]
    one = varied_estimates(jax.random.key(0), prior, estimate, features, 1)
    np.testing.assert_array_equal(one.pose, estimate.pose[None])
    with pytest.raises(ValueError, match="count: expected at least 1, found 0"):
        varied_estimates(jax.random.key(0), prior, estimate, features, 0)
    with pytest.raises(ValueError, match=r"estimate.betas: expected \[..., N, 10\]"):
        varied_estimates(
            jax.random.key(0), prior, replace(estimate, betas=estimate.betas[0]), features, 2
        )
    with pytest.raises(ValueError, match="features: this prior needs 8"):
        varied_estimates(jax.random.key(0), prior, estimate, None, 2)
