"""Descent on the evidence that the denoiser holds, and the rounds after it."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import refining
from bodies import Scene, slope, small_prior
from refining import CONFIG, evidence, is_estimate, people, prior, rows, same, skeleton, spoil

from scorehmr_jax.denoised_fit import DenoisedFit
from scorehmr_jax.diffusion import add_noise
from scorehmr_jax.guidance import keypoints_2d, reprojection, smooth
from scorehmr_jax.prior import rotations_to_x, x_to_rotations
from scorehmr_jax.refine import RefineConfig, refine
from scorehmr_jax.screening import DIVERGED, OK
from scorehmr_jax.stopping import StepStop
from scorehmr_jax.types import Estimate

FIT = DenoisedFit(
    steps=6, denoise_every=2, highest=8, lowest=2, prior=3.0, pull=2.0, pull_reach=0.3, rate=0.02
)
ALONE = RefineConfig(iterations=0, denoised_fit=FIT, guidance_scale=2.0)


def refined(config=ALONE, given=None, terms=None, mask=None):
    given = people() if given is None else given
    terms = evidence(given) if terms is None else terms
    return refine(prior(), skeleton(), given.estimate, given.features, terms, config, mask)


@pytest.mark.parametrize(("reach", "every"), [(0.3, 2), (None, 1), (None, 6)])
def test_it_is_adam_on_evidence_likely_pose_and_estimate(reach, every):
    given, fit = people(), replace(FIT, pull_reach=reach, denoise_every=every)
    first = rotations_to_x(given.estimate.pose)
    drawn = jax.random.normal(jax.random.key(fit.seed), (-(-6 // every // 2), 1, 144))
    answers = zip(
        [sign * noise for noise in drawn for sign in (1, -1)],
        np.linspace(8, 2, 6 // every).round().astype(int),
        strict=False,  # of an odd number the last has no counterpart
    )

    def loss(free, likely, trust):
        x, place = free
        points = skeleton()(x_to_rotations(x), given.estimate.betas) + place[:, None]
        seen = reprojection(points, given.keypoints, given.camera, jnp.asarray(100.0)).sum()
        root, body = jnp.split(jnp.square(x - first), [6], -1)
        body = body.sum(-1)
        if reach:  # the log-density of Student's t
            body = reach**2 * jnp.log(1 + body / reach**2)
        held = fit.pull * (root.sum() + body.sum())
        return 2 * 0.003 * seen + fit.prior * trust * jnp.square(x - likely).sum() + held

    free = first, given.estimate.translation
    makers = optax.adam(fit.rate), optax.adam(ALONE.camera_rate)
    memories = [maker.init(part) for maker, part in zip(makers, free, strict=True)]
    for noise, t in answers:
        noisy = add_noise(prior().schedule, free[0], t, jnp.broadcast_to(noise, first.shape))
        likely = prior().denoise(noisy, t, given.features)
        for _ in range(every):
            slopes = jax.grad(loss)(free, likely, float(prior().schedule.sqrt[t]))
            for i, (maker, part) in enumerate(zip(makers, slopes, strict=True)):
                change, memories[i] = maker.update(part, memories[i])
                free = tuple(a + change if i == j else a for j, a in enumerate(free))
    found, info = refined(replace(ALONE, denoised_fit=fit))
    assert (info.status == OK).all() and info.losses.shape == (fit.steps, refining.N)
    # Adam's first steps go by the sign of a slope, whose last digits decide near 0.
    np.testing.assert_allclose(found.pose, x_to_rotations(free[0]), atol=2e-4)
    np.testing.assert_allclose(found.translation, free[1], atol=2e-4)
    assert np.abs(np.asarray(found.pose_6d - first)).max() > 0.05


def test_the_rounds_go_on_from_where_it_ends():
    given = people()
    # The place goes on with Adam's memory, so that here it is held.
    still = replace(CONFIG, guidance_scale=2.0, camera_rate=0.0)
    fitted, _ = refined(replace(ALONE, camera_rate=0.0))
    both, info = refined(replace(still, denoised_fit=FIT))
    assert info.losses.shape == (FIT.steps + 2 * 3, refining.N)
    start = Estimate(fitted.pose, fitted.betas, fitted.translation)
    after, _ = refine(prior(), skeleton(), start, given.features, evidence(given), still)
    same(both, after, atol=1e-4)


def test_without_evidence_only_the_denoiser_moves_a_pose():
    still = replace(FIT, prior=0.0)
    nothing = evidence(people(), weight=0.0)
    config = replace(ALONE, denoised_fit=still)
    found, _ = refined(config, terms=nothing)
    np.testing.assert_allclose(found.pose, people().estimate.pose, atol=1e-5)
    pulled, _ = refined(ALONE, terms=nothing)
    assert np.abs(np.asarray(pulled.pose) - np.asarray(found.pose)).max() > 0.01


def test_a_stronger_pull_stays_nearer():
    def moved(**changes):
        found, _ = refined(replace(ALONE, denoised_fit=replace(FIT, steps=30, **changes)))
        return float(np.abs(found.pose_6d - rotations_to_x(people().estimate.pose)).mean())

    assert moved(pull=1000.0, pull_reach=None) < 0.5 * moved() < 0.5 * moved(pull=0.0)
    # What is beyond the reach is let go.
    assert moved(pull=1000.0, pull_reach=1e-3) > 2 * moved(pull=1000.0, pull_reach=None)


def test_the_noise_hardly_decides():
    def found(seed, fit):
        pose = refined(replace(ALONE, denoised_fit=replace(fit, seed=seed)))[0].pose_6d
        return np.asarray(pose - rotations_to_x(people().estimate.pose))

    # Levels at which noise matters; an odd answer has no counterpart that would cancel it.
    paired = replace(FIT, steps=30, highest=60, lowest=40, prior=30.0)
    single = replace(paired, denoise_every=30)
    spread = [np.abs(found(0, fit) - found(1, fit)).mean() for fit in (paired, single)]
    assert spread[0] < 0.5 * spread[1]


def test_one_is_as_many_and_padding_changes_nothing():
    whole, _ = refined()
    one, _ = refined(given=rows(people(), slice(2, 3)))
    same(one, refining.tree(lambda a: a[2:3], whole), atol=1e-4)
    mask = np.arange(refining.N) != 3
    most, info = refined(mask=mask)
    same(most, whole, among=mask)
    is_estimate(most, people().estimate, 3)
    assert info.status[3] != OK


def test_a_bad_sample_harms_no_neighbour():
    given = people()
    bad = replace(given, estimate=replace(given.estimate, pose=spoil(given.estimate.pose)))
    whole, _ = refined()
    found, info = refined(given=bad)
    others = np.arange(refining.N) != 2
    same(found, whole, among=others)
    assert info.status[2] != OK and (np.asarray(info.status)[others] == OK).all()


def test_derivatives_are_those_of_the_result():
    given = people()
    config = replace(ALONE, denoised_fit=replace(FIT, steps=4))

    def total(xy):
        terms = evidence(replace(given, keypoints=replace(given.keypoints, xy=xy)))
        return refined(config, given, terms)[0].pose[..., 0].sum()

    with jax.enable_x64(True):
        given = Scene(*map(refining.double, refining.parts(given)))
        xy = jnp.asarray(given.keypoints.xy)
        direction = jnp.asarray(np.random.default_rng(0).normal(size=xy.shape))
        found = float(jnp.vdot(jax.grad(total)(xy), direction))
        wanted = slope(total, xy, direction, 1e-3)
    assert abs(found - wanted) < 1e-3 * abs(wanted)


def test_samples_stop_in_the_rounds_and_by_their_losses_alone():
    given, tolerance = people(), 0.3
    config = replace(CONFIG, denoised_fit=FIT, stop=StepStop(tolerance))
    _, info = refined(config, terms=[evidence(given)[0]])
    losses, stopped = np.asarray(info.losses), np.asarray(info.stop_step)
    assert (stopped > FIT.steps).any()
    for row, step in zip(losses.T, stopped, strict=True):
        rounds = row[FIT.steps :]
        changes = np.abs(np.diff(rounds)) / np.abs(rounds[:-1])
        small = np.flatnonzero(changes < tolerance)
        # The loss of the fit's last step is of another thing, and not compared with.
        assert step == (FIT.steps + 1 + small[0] if len(small) else -1)


def test_a_sample_that_diverges_in_the_fit_harms_no_neighbour():
    given = people()
    weight = np.full(refining.N, 0.003, np.float32)
    heavy = weight.copy()
    heavy[2] = 1e38
    far = replace(ALONE, guidance_scale=1e3)
    terms = [
        (keypoints_2d(given.keypoints, given.camera, weight=w), smooth(weight=0.0))
        for w in (weight, heavy)
    ]
    whole, _ = refined(far, terms=terms[0])
    found, info = refined(far, terms=terms[1])
    others = np.arange(refining.N) != 2
    assert info.status[2] == DIVERGED and (np.asarray(info.status)[others] == OK).all()
    same(found, whole, among=others)


def test_a_prior_with_shape_is_fitted_with_its_shape():
    model, given = small_prior(8, shape_features=4), people()
    wide = (refining.N, model.network.condition_dim)
    features = jnp.asarray(np.random.default_rng(0).normal(size=wide), jnp.float32)
    found, info = refine(model, skeleton(), given.estimate, features, evidence(given), ALONE)
    assert (info.status == OK).all() and jnp.isfinite(found.betas).all()
    assert np.abs(np.asarray(found.betas - given.estimate.betas)).max() > 1e-3


@pytest.mark.parametrize("share", [False, True])
def test_a_free_shape_moves_and_is_shared_if_asked(share):
    found, _ = refined(replace(ALONE, shape_rate=0.02, share_shape=share))
    moved = np.asarray(found.betas - people().estimate.betas)
    assert np.abs(moved).max() > 1e-3
    assert (np.ptp(np.asarray(found.betas), axis=0).max() < 1e-6) == share


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DenoisedFit(steps=0), "steps >= 1"),
        (lambda: DenoisedFit(highest=5, lowest=10), "lowest <= highest"),
        (lambda: DenoisedFit(steps=10, denoise_every=4), "denoise_every: expected a divisor of"),
        (lambda: DenoisedFit(denoise_every=0), "denoise_every: expected a divisor of the 100"),
        (lambda: DenoisedFit(prior=-1.0), "prior: expected 0 or more, found -1"),
        (lambda: DenoisedFit(pull_reach=1e-25), "pull_reach: expected 1e-6 or more"),
        (lambda: DenoisedFit(rate=float("nan")), "rate: expected a number above 0"),
        (lambda: RefineConfig(iterations=0), "iterations >= 1"),
        (
            lambda: replace(ALONE, stop=StepStop()),
            "stop: expected Never\\(\\) where there are no rounds",
        ),
        (lambda: RefineConfig(denoised_fit=3), "denoised_fit: expected a DenoisedFit"),
        (
            lambda: refined(replace(ALONE, denoised_fit=replace(FIT, highest=5000))),
            "denoised_fit.highest: this prior has levels below",
        ),
    ],
)
def test_nonsense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
