"""Gradients through a whole refinement: right, finite, and in bounded memory."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import refining
from bodies import dot, random_like, scene, slope, small_prior
from refining import CONFIG, N, parts, spoil, tree

from body_model import Skeleton, stand_in
from body_model.joints import SMPL_24
from scorehmr_jax.guidance import keypoints_2d, smooth, total_loss, weighted
from scorehmr_jax.prior import rotations_to_x
from scorehmr_jax.problem import Problem, Setup
from scorehmr_jax.refine import RefineConfig, refine
from scorehmr_jax.sampler import descent, first_state, guided_step
from scorehmr_jax.screening import DIVERGED, OK, as_hypothesis
from scorehmr_jax.types import Keypoints2D


@pytest.fixture(scope="module")
def skeleton():
    return refining.skeleton()


INPUTS = ("estimate", "features", "xy", "confidence", "weights", "network")


def outcome(prior, skeleton, config, camera, mask, counted, at):
    """One number of everything that a refinement is a function of."""
    estimate, features, xy, confidence, weight, params = at
    terms = (
        keypoints_2d(Keypoints2D(xy, confidence), camera, weight=weight[0]),
        smooth(weight=weight[1]),
    )
    prior = replace(prior, params=params)
    found, _ = refine(prior, skeleton, estimate, features, terms, config, mask)
    # Before the skeleton: what is not finite there would come back in the gradient.
    pose, betas, translation = (
        jnp.where(counted.reshape(-1, *(1,) * (a.ndim - 1)), a, 0)
        for a in (found.pose, found.betas, found.translation)
    )
    points = skeleton(pose, betas, translation)
    wave = jnp.sin(jnp.arange(points.size, dtype=points.dtype)).reshape(points.shape)
    return jnp.sum(wave * points)


def differentiable(people, prior):
    weights = jnp.array([0.003, 3.0], people.features.dtype)
    keypoints = people.keypoints
    confidence, params = 0.9 * keypoints.confidence, tree(jnp.asarray, prior.params)
    return people.estimate, people.features, keypoints.xy, confidence, weights, params


@pytest.fixture(scope="module")
def derivative():
    """A refinement of good and bad samples in float64: its value, gradient and input."""
    with jax.enable_x64(True):
        skeleton = Skeleton.of(stand_in(np.float64), SMPL_24)
        prior = small_prior(dtype=np.float64)
        people = scene(skeleton, N, dtype=np.float64)
        # One behind the camera, one that is not finite, one that no keypoint shows, padding.
        # Their slopes of the camera are zero, and must not come back as NaN through Adam's root.
        estimate = replace(
            people.estimate,
            translation=people.estimate.translation.at[1, 2].set(-5.0),
            betas=people.estimate.betas.at[2, 0].set(jnp.nan),
        )
        confidence = people.keypoints.confidence.at[3].set(0.0)
        keypoints = replace(people.keypoints, confidence=confidence)
        bad = replace(
            people, estimate=estimate, keypoints=keypoints, features=spoil(people.features)
        )
        at = differentiable(bad, prior)
        mask = jnp.array([True, True, True, True, True, False])
        run = partial(
            outcome, prior, skeleton, CONFIG, people.camera, mask, mask & (jnp.arange(N) != 2)
        )
        value = jax.jit(run)
        gradient = jax.jit(jax.grad(run))(at)
    return value, gradient, at


@pytest.mark.parametrize("name", [*INPUTS, "all", "all but the network"])
def test_gradient_through_the_loop_equals_finite_differences(derivative, name):
    value, gradient, at = derivative
    with jax.enable_x64(True):
        chosen = {"all": INPUTS, "all but the network": INPUTS[:-1]}.get(name, (name,))
        drawn = dict(zip(INPUTS, random_like(jax.random.key(len(name)), at), strict=True))
        drawn["confidence"] *= at[INPUTS.index("confidence")] > 0  # to be seen or not is a jump
        direction = tuple(d if n in chosen else tree(jnp.zeros_like, d) for n, d in drawn.items())
        found, wanted = dot(gradient, direction), slope(value, at, direction, 1e-6)
    assert abs(found - wanted) < 0.01 * abs(wanted), f"{found} {wanted}"
    assert wanted != 0


def test_gradient_is_finite_whatever_the_samples(derivative):
    for name, part in zip(INPUTS, derivative[1], strict=True):
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(part)), name


def breaks_down(which, hypothesis):
    """A loss that for some samples is without end but at the first estimate."""
    away = jnp.sum((hypothesis.pose_6d - rotations_to_x(hypothesis.first.pose)) ** 2, axis=-1)
    return jnp.exp(jnp.where(which, 1e9, 0) * away)


@pytest.mark.slow
def test_the_gradient_of_others_does_not_break_with_a_sample_that_diverges(skeleton):
    """In the steps before, what comes back to it would come back to its neighbours."""
    prior, people = refining.prior(), refining.people()
    other = jnp.arange(N) != 2

    def of_others(x, which):
        terms = weighted(1e-3, jax.tree_util.Partial(breaks_down, which)), smooth()
        setup = Setup.of(prior, skeleton, replace(CONFIG, start=2))
        problem = Problem.of(setup, people.estimate, people.features, terms)
        state = replace(first_state(problem), x=x)
        state, losses = guided_step(problem, state, tree(lambda a: a[0], descent(problem)))
        return jnp.sum(jnp.where(other[:, None], state.x, 0) ** 2), losses

    slope = jax.jit(jax.grad(of_others, has_aux=True))
    x = rotations_to_x(people.estimate.pose)
    found, losses = slope(x, ~other)
    np.testing.assert_array_equal(np.isfinite(losses), other)
    assert np.isfinite(found).all()
    wanted, _ = slope(x, jnp.zeros(N, bool))
    apart = np.array([0, 4, 5])  # not even beside it
    np.testing.assert_allclose(found[apart], wanted[apart], rtol=1e-4, atol=1e-5)


def test_a_traced_weight_that_is_not_finite_leaves_its_sample_out(skeleton):
    prior, people = refining.prior(), refining.people()

    def run(weight):
        terms = keypoints_2d(people.keypoints, people.camera, weight=weight), smooth()
        setup = Setup.of(prior, skeleton, CONFIG)
        problem = Problem.of(setup, people.estimate, people.features, terms)
        hypothesis = as_hypothesis(skeleton, problem.estimate, problem.active, problem.estimate)
        return total_loss(terms, hypothesis)[0], problem.status

    weight = jnp.full(N, 0.003).at[2].set(jnp.inf).at[4].set(jnp.nan)
    (total, status), slope = jax.jit(jax.value_and_grad(run, has_aux=True))(weight)
    assert status.tolist() == [OK, OK, DIVERGED, OK, DIVERGED, OK]
    assert np.isfinite(total) and np.isfinite(slope).all()
    np.testing.assert_array_equal(slope > 0, status == OK)


@pytest.mark.parametrize("config", [RefineConfig(), RefineConfig.for_images()])
def test_reverse_mode_keeps_its_memory(skeleton, config):
    # All steps, of 8 samples: what reverse mode holds on to.
    prior = small_prior(144, hidden=512, blocks=3)
    people = scene(skeleton, 8, 144)
    at, every = differentiable(people, prior), jnp.ones(8, bool)
    run = partial(outcome, prior, skeleton, config, people.camera, every, every)
    memory = jax.jit(jax.grad(run)).lower(at).compile().memory_analysis()
    held = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
    print(f"reverse mode through all steps holds {held / 2**20:.0f} MiB")
    assert held < 64 * 2**20


def test_a_long_video_fits_in_memory_as_a_whole(skeleton):
    frames = 5000
    prior = small_prior(3072, 1024, 3)
    given = jax.eval_shape(lambda: parts(scene(skeleton, frames, 3072)))

    def run(prior, estimate, features, keypoints, camera):
        terms = keypoints_2d(keypoints, camera), smooth()
        return refine(prior, skeleton, estimate, features, terms)

    memory = jax.jit(run).lower(prior, *given).compile().memory_analysis()
    print(f"{memory.temp_size_in_bytes / frames / 1024:.0f} kB a frame")
    assert memory.temp_size_in_bytes < frames * 150 * 1024
