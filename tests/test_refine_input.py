"""Input that does not fit: refused with the name of what is wrong. And what precision it has."""

from collections import Counter
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import refining
from bodies import products, small_prior
from refining import CONFIG, N, double, evidence, tree

from body_model import stand_in
from body_model.arithmetic import native
from scorehmr_jax.baselines.adam import adam
from scorehmr_jax.formats.estimates import RefineInput
from scorehmr_jax.guidance import keypoints_2d, multiview, smooth, weighted
from scorehmr_jax.problem import Problem, Setup
from scorehmr_jax.refine import RefineConfig, make_refiner, refine
from scorehmr_jax.screening import (
    DIVERGED,
    NO_EVIDENCE,
    NOT_FINITE,
    NOT_IN_FRONT,
    NOT_ROTATION,
    OK,
    PADDING,
    STATUS,
)
from scorehmr_jax.types import Estimate, Keypoints2D
from scorehmr_jax.variations import varied_estimates


@pytest.fixture(scope="module")
def skeleton():
    return refining.skeleton()


@pytest.fixture(scope="module")
def prior():
    return refining.prior()


@pytest.fixture(scope="module")
def people():
    return refining.people()


def shapes_of(prior, skeleton, people, **changes):
    """Everything but the arithmetic."""
    given = {
        "estimate": people.estimate,
        "features": people.features,
        "terms": keypoints_2d(people.keypoints, people.camera),
        "mask": None,
    } | changes
    return jax.eval_shape(lambda: refine(prior, skeleton, config=CONFIG, **given))


@pytest.mark.parametrize(
    ("field", "shape"),
    [
        ("pose", (N, 23, 3, 3)),
        ("pose", (24, 3, 3)),
        ("pose", (N, 24, 3)),
        ("betas", (N, 11)),
        ("betas", (10,)),
        ("translation", (N, 2)),
        ("translation", (3,)),
    ],
)
def test_an_estimate_of_wrong_shape_is_refused(prior, skeleton, people, field, shape):
    with pytest.raises(ValueError, match=rf"estimate.{field}: expected \[..., N, ") as error:
        wrong = replace(people.estimate, **{field: jnp.zeros(shape)})
        shapes_of(prior, skeleton, people, estimate=wrong)
    assert str(shape) in str(error.value)


@pytest.mark.parametrize(
    ("field", "shape"),
    [
        ("translation", (N, 1, 3)),  # would broadcast to N x N samples
        ("betas", (N, 1, 10)),
        ("betas", (2, N, 10)),
        ("translation", (N - 1, 3)),
        ("pose", (2, 24, 3, 3)),
    ],
)
def test_an_estimate_whose_parts_disagree_is_refused(prior, skeleton, people, field, shape):
    with pytest.raises(ValueError, match="pose, betas and translation disagree on the samples"):
        wrong = replace(people.estimate, **{field: jnp.zeros(shape)})
        shapes_of(prior, skeleton, people, estimate=wrong)


def test_a_mask_of_places_is_refused(prior, skeleton, people):
    for mask in (np.arange(N), np.linspace(0, 1, N)):
        with pytest.raises(ValueError, match="mask: expected True or False for each sample"):
            shapes_of(prior, skeleton, people, mask=mask)


@pytest.mark.parametrize("shape", [(N, 1), (N - 1,), (2, N)])
def test_weights_that_do_not_fit_are_refused(prior, skeleton, people, shape):
    keypoints = people.keypoints, people.camera
    for term in (
        keypoints_2d(*keypoints, weight=np.ones(shape)),
        smooth(weight=np.ones(shape)),
        weighted(np.ones(shape), multiview()),
        weighted(np.ones(shape), lambda hypothesis: hypothesis.betas.sum(-1)),
    ):
        with pytest.raises(ValueError, match=r"weight: expected one number, or one for each"):
            shapes_of(prior, skeleton, people, terms=term)
    with pytest.raises(ValueError, match=r"sigma: expected one number, or one for each"):
        shapes_of(prior, skeleton, people, terms=keypoints_2d(*keypoints, sigma=np.ones(shape)))


def test_nothing_to_refine_is_refused(prior, skeleton, people):
    for which in (lambda a: a[:0], lambda a: a[None][:0]):  # no samples; no groups of them
        nobody = tree(which, people.estimate)
        with pytest.raises(ValueError, match="no samples"):
            shapes_of(prior, skeleton, people, estimate=nobody, terms=smooth())


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (None, "this prior needs 8 numbers per sample, found none"),
        (np.zeros((N, 7)), r"was trained with width 8, found shape \(6, 7\)"),
        (np.zeros((N - 1, 8)), r"one row for each estimate \(6,\), found shape \(5, 8\)"),
        (np.zeros((2, N, 8)), r"one row for each estimate \(6,\), found shape \(2, 6, 8\)"),
    ],
)
def test_features_that_do_not_fit_are_refused(prior, skeleton, people, features, message):
    with pytest.raises(ValueError, match=message):
        shapes_of(prior, skeleton, people, features=features)


@pytest.mark.parametrize("shape", [(N - 1,), (2, N), (N, 1)])
def test_a_mask_that_does_not_fit_is_refused(prior, skeleton, people, shape):
    with pytest.raises(ValueError, match=r"mask: expected one for each estimate \(6,\), found"):
        shapes_of(prior, skeleton, people, mask=np.ones(shape, bool))


@pytest.mark.parametrize("name", ["betas", "translation", "mask"])
def test_one_for_each_group_is_not_taken_for_one_for_each_sample(prior, skeleton, people, name):
    pose = jnp.stack([people.estimate.pose] * N)  # as many groups as samples
    whole = Estimate(pose, jnp.zeros((N, N, 10)), jnp.ones((N, N, 3)))
    fields = {"betas": (10,), "translation": (3,), "mask": ()}
    for rows, fine in (((N,), False), ((N, 1), True), ((1, N), True)):
        array = jnp.ones((*rows, *fields[name]), bool if name == "mask" else jnp.float32)
        changes = {name: array} if name == "mask" else {}
        estimate = whole if changes else replace(whole, **{name: array})
        terms = smooth()
        if fine:
            shapes_of(prior, skeleton, people, estimate=estimate, terms=terms, **changes)
            continue
        with pytest.raises(ValueError, match=r"\(6,\) could be .* give shape \(1, 6\) or \(6, 1\)"):
            shapes_of(prior, skeleton, people, estimate=estimate, terms=terms, **changes)


def test_what_is_no_estimate_or_no_array_is_named(prior, skeleton, people):
    estimate = people.estimate
    for wrong, message in (
        (RefineInput(estimate, people.keypoints, people.camera, None), "give its field estimate"),
        (dict(vars(estimate)), "found dict; build an Estimate"),
        ((estimate.pose, estimate.betas, estimate.translation), "found tuple; build an Estimate"),
    ):
        with pytest.raises(ValueError, match=message):
            refine(prior, skeleton, wrong, None, smooth())
    with pytest.raises(ValueError, match=r"estimate.betas: expected an array, found list"):
        wrong = replace(estimate, betas=np.zeros((N, 10)).tolist())
        refine(prior, skeleton, wrong, None, smooth())
    with pytest.raises(ValueError, match="mask: expected an array, found list"):
        refine(prior, skeleton, estimate, people.features, smooth(), mask=[True] * N)


def converted(part, dtype):
    return tree(lambda a: np.asarray(a).astype(dtype), part)


DOORS = {
    "refine": lambda prior, skeleton, estimate: refine(prior, skeleton, estimate, None, smooth()),
    "a refiner": lambda prior, skeleton, estimate: make_refiner(prior, skeleton, CONFIG)(
        estimate, None, smooth()
    ),
    "Problem": lambda prior, skeleton, estimate: Problem.of(
        Setup.of(prior, skeleton), estimate, None, smooth()
    ),
    "varied_estimates": lambda prior, skeleton, estimate: varied_estimates(
        jax.random.key(0), prior, estimate, None, 2
    ),
    "adam": lambda prior, skeleton, estimate: adam(skeleton, estimate, smooth()),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("dtype", [object, "U9", complex])
def test_what_are_no_numbers_is_named_at_every_door(prior, skeleton, people, door, dtype):
    betas = np.zeros((N, 10)).astype(dtype)
    with pytest.raises(ValueError, match=r"estimate.betas: expected an array of numbers") as error:
        DOORS[door](prior, skeleton, replace(people.estimate, betas=betas))
    assert f"found dtype {betas.dtype}" in str(error.value)


def test_no_numbers_of_others_are_named(prior, skeleton, people):
    keypoints, camera = people.keypoints, people.camera
    text = {"dtype": "U9"}
    for call, name in (
        (lambda: keypoints_2d(converted(keypoints, **text), camera), "keypoints.xy"),
        (lambda: keypoints_2d(keypoints, converted(camera, **text)), "camera.focal"),
        (lambda: keypoints_2d(keypoints, camera, weight="a"), "weight"),
        (lambda: keypoints_2d(keypoints, camera, sigma=np.array([None])), "sigma"),
        (lambda: prior.denoise(np.zeros(144, object), 5, people.features), "x"),
        (lambda: prior.denoise(np.zeros(144), 5, np.zeros(8, "U3")), "features"),
        (lambda: stand_in().joints(np.zeros((24, 3), "U3")), "pose"),
        (lambda: skeleton(np.zeros((24, 3)), np.zeros(10, object)), "betas"),
    ):
        with pytest.raises(ValueError, match=f"{name}: expected an array of numbers, found dtype"):
            call()


def test_numbers_in_another_order_of_bytes_or_wider_than_jax_has_are_read(prior, skeleton, people):
    """As files have them."""
    given = people.estimate, people.features, people.keypoints, people.camera
    wide = [converted(part, ">f4") for part in given]
    everyone = np.ones(N, ">i2")

    def problem(estimate, features, keypoints, camera):
        term = keypoints_2d(keypoints, camera, weight=np.full(N, 0.003, ">f4"))
        setup = Setup.of(prior, skeleton, CONFIG)
        return jax.eval_shape(lambda: Problem.of(setup, estimate, features, term, everyone)), term

    found, term = problem(*wide)
    body = skeleton(wide[0].pose, wide[0].betas)
    wanted, same_term = problem(*given)
    assert tree(lambda a: (a.shape, a.dtype), found) == tree(lambda a: (a.shape, a.dtype), wanted)
    tree(np.testing.assert_array_equal, term, same_term)
    np.testing.assert_array_equal(body, skeleton(people.estimate.pose, people.estimate.betas))
    longest = native("x", np.full(2, 0.5, np.longdouble))  # which jaxtyping does not know
    assert longest.dtype == np.float64 and longest.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("door", ["refine", "Problem", "varied_estimates"])
def test_units_are_checked_at_every_door(prior, skeleton, people, door):
    wrong = replace(people.estimate, betas=people.estimate.betas + 100)
    with pytest.raises(ValueError, match=r"estimate.betas: expected SMPL's shape numbers"):
        if door == "refine":
            refine(prior, skeleton, wrong, None, smooth())
        elif door == "Problem":
            Problem.of(Setup.of(prior, skeleton), wrong, None, smooth())
        else:
            varied_estimates(jax.random.key(0), prior, wrong, None, 2)


def test_features_for_a_prior_without_are_refused(skeleton, people):
    with pytest.raises(ValueError, match="was trained with width 0"):
        shapes_of(small_prior(0), skeleton, people)


def test_no_terms_are_refused(prior, skeleton, people):
    with pytest.raises(ValueError, match="terms: expected at least one"):
        shapes_of(prior, skeleton, people, terms=[])


def test_keypoints_of_another_skeleton_are_refused(prior, people):
    with pytest.raises(ValueError, match="the skeleton has 25 keypoints, found xy for 24"):
        shapes_of(prior, stand_in(), people)


@pytest.mark.parametrize(
    "wrong",
    [{"stop": "step"}, {"iterations": 0}, {"step": 0}, {"start": 1, "step": 2}],
)
def test_a_config_that_makes_no_loop_is_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        RefineConfig(**wrong)


def test_every_status_has_words():
    codes = [OK, NOT_FINITE, NOT_IN_FRONT, NO_EVIDENCE, DIVERGED, PADDING, NOT_ROTATION]
    assert sorted(codes) == list(range(len(STATUS)))
    # What was kept tells what to do about it.
    for code in set(codes) - {OK, PADDING}:
        assert STATUS[code].startswith("kept: ") and "; " in STATUS[code]


def test_a_loop_that_starts_above_the_prior_is_refused(prior, skeleton):
    with pytest.raises(ValueError, match="start: this prior has levels below 1000, found 1000"):
        make_refiner(prior, skeleton, RefineConfig(start=1000))


def test_a_body_stands_for_its_openpose_skeleton(prior, people):
    k = jnp.zeros((N, 25))
    term = keypoints_2d(Keypoints2D(jnp.zeros((N, 25, 2)), k), people.camera)
    refined, _ = shapes_of(prior, stand_in(), people, terms=term)
    assert refined.pose.shape == (N, 24, 3, 3)


def test_features_of_the_estimate_itself(skeleton, people):
    prior = replace(small_prior(144), condition_on="estimate")
    refined, _ = shapes_of(prior, skeleton, people, features=None)
    assert refined.pose_6d.shape == (N, 144)


# Precision.


def test_only_the_network_may_be_less_precise(prior, skeleton, people):
    def precisions(name):
        config = replace(CONFIG, network_precision=name)
        run = partial(refine, prior, skeleton, config=config)
        terms = keypoints_2d(people.keypoints, people.camera)
        program = jax.make_jaxpr(run)(people.estimate, people.features, terms)
        return Counter(map(str, products(program)))

    exact, fast = precisions("float32"), precisions("bfloat16")
    assert len(exact) == 1  # every product, of the body and of the network
    (pinned,) = exact
    lowered = sum(fast.values()) - fast[pinned]
    # Each block's two products, the first and the last layer, on the way up and on the way down.
    assert lowered == 2 * (2 * prior.network.blocks + 2)


DOUBLE = {
    "features": lambda p: replace(p, features=np.zeros(p.features.shape)),
    "keypoints": lambda p: replace(p, keypoints=double(p.keypoints)),
    "camera": lambda p: replace(p, camera=double(p.camera)),
    "betas": lambda p: replace(p, estimate=replace(p.estimate, betas=np.zeros((N, 10)))),
    "nothing": lambda p: p,
}


@pytest.mark.parametrize("what", DOUBLE)
def test_float32_under_x64_stays_float32(skeleton, people, prior, what):
    def own(hypothesis):
        return hypothesis.betas.sum(-1) * np.float64(2) + jnp.ones(N, float)

    with jax.enable_x64(True):
        mixed = DOUBLE[what](people)
        terms = [*evidence(mixed, 30.0), multiview(), own]
        refined, info = shapes_of(
            prior, skeleton, people, estimate=mixed.estimate, features=mixed.features, terms=terms
        )
    assert {leaf.dtype for leaf in jax.tree.leaves(refined)} == {np.dtype(np.float32)}
    assert info.losses.dtype == np.float32


def test_features_in_half_precision_are_those_numbers_in_single(prior, skeleton, people):
    features = (100 * people.features).astype(np.float16)  # their squares add up to infinity
    setup = Setup.of(prior, skeleton, CONFIG)

    def condition(features):
        return Problem.of(setup, people.estimate, features, evidence(people)).condition

    found, wanted = condition(features), condition(features.astype(np.float32))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.isfinite(a).all()
