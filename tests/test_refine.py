"""The promises of `refine` beside the released code's results."""

import itertools
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import refining
from bodies import Scene, close, compilations, plain_denoiser, scene, small_prior
from refining import (
    CONFIG,
    N,
    evidence,
    is_estimate,
    parts,
    rows,
    same,
    spoil,
    tree,
)

from body_model import Skeleton, stand_in
from body_model.joints import SMPL_24
from body_model.rotations import six_d_to_matrix
from scorehmr_jax import sampler
from scorehmr_jax.groups import stack_groups, unstack_groups
from scorehmr_jax.guidance import keypoints_2d, multiview, smooth, weighted
from scorehmr_jax.prior import rotations_to_x
from scorehmr_jax.problem import Problem, Setup
from scorehmr_jax.refine import make_refiner, refine
from scorehmr_jax.screening import (
    DIVERGED,
    NO_EVIDENCE,
    NOT_FINITE,
    NOT_IN_FRONT,
    NOT_ROTATION,
    OK,
    PADDING,
    settle,
)
from scorehmr_jax.stopping import Never, RoundStop, StepStop
from scorehmr_jax.types import Keypoints2D


@pytest.fixture(scope="module")
def skeleton():
    return refining.skeleton()


@pytest.fixture(scope="module")
def prior():
    return refining.prior()


@pytest.fixture(scope="module")
def people():
    return refining.people()


@pytest.fixture(scope="module")
def refiner(prior, skeleton):
    run = make_refiner(prior, skeleton, CONFIG)

    def with_numpy(estimate, features, terms, mask=None):
        mask = jnp.ones(estimate.betas.shape[:-1], bool) if mask is None else jnp.asarray(mask)
        return tree(np.asarray, run(estimate, features, terms, mask))

    return with_numpy


@pytest.fixture(scope="module")
def alone(refiner, people):
    """Every sample for itself."""
    return refiner(people.estimate, people.features, evidence(people))


@pytest.fixture(scope="module")
def video(refiner, people):
    return refiner(people.estimate, people.features, evidence(people, 30.0))


@pytest.fixture(scope="module")
def gap(refiner, people):
    """The video without its third frame."""
    return refiner(people.estimate, people.features, evidence(people, 30.0), OTHERS)


OTHERS = np.arange(N) != 2

# The algorithm.


NAMES = ("nose", "pelvis", "left_wrist", "right_heel", "head", "left_ear")


@pytest.fixture(scope="module")
def exact():
    """A body, a prior and people in float64, and the losses by way of the whole mesh."""
    with jax.enable_x64(True):
        body = stand_in(np.float64)
        prior = small_prior(8, 16, 2, dtype=np.float64)
        people = scene(Skeleton.of(body, NAMES), 5, dtype=np.float64)
    landmarks = dict(body.landmarks)
    keypoints, camera, betas = people.keypoints, people.camera, people.estimate.betas

    def losses(x, translation):
        pose = six_d_to_matrix(x.reshape(-1, 24, 6))
        joints, vertices = body.joints(pose, betas), body.vertices(pose, betas)
        points = [
            joints[:, SMPL_24.index(n)] if n in SMPL_24 else vertices[:, landmarks[n]]
            for n in NAMES
        ]
        points = jnp.stack(points, 1) + translation[:, None]
        pixels = points[..., :2] / points[..., 2:] * camera.focal[:, None] + camera.center[:, None]
        square = (pixels - keypoints.xy) ** 2
        robust = 100.0**2 * square / (100.0**2 + square)
        scale = 1000 / camera.image_size.max(-1)
        reprojection = scale**2 * (keypoints.confidence[..., None] ** 2 * robust).sum((1, 2))
        jumps = jnp.append(0, ((x[1:] - x[:-1]) ** 2).sum(1))
        return reprojection, jumps

    @jax.jit
    def everything(x, translation):
        value, back = jax.vjp(losses, x, translation)
        ones, none = jnp.ones(len(x)), jnp.zeros(len(x))
        return value, back((ones, none)), back((none, ones))[0]

    return body, prior, people, everything


def plain_refine(prior, people, everything, tolerance, smoothness):
    """The loop as the released code runs it: the whole mesh, no shortcut, one step at a time."""
    estimate, config = people.estimate, CONFIG
    s = prior.schedule
    recip, recip_minus, one_minus = (
        t.astype(float) for t in (s.sqrt_recip, s.sqrt_recip_minus_one, s.sqrt_one_minus)
    )
    a = s.alphas_cumprod.astype(float)
    x = np.asarray(rotations_to_x(estimate.pose))
    translation = np.asarray(estimate.translation)
    first = second = np.zeros_like(translation)
    before, stops = np.full(len(x), np.inf), np.full(len(x), -1)
    result, moved, history = x.copy(), translation.copy(), []

    def noise(x, t):
        return plain_denoiser(prior.params["pose"], x, np.full(len(x), t), people.features)

    times = list(range(0, config.start + 1, config.step))
    for _ in range(config.iterations):
        for t, above in itertools.pairwise(times):
            eps = noise(x, t)
            x_0 = recip[t] * x - recip_minus[t] * eps
            x = np.sqrt(a[above]) * x_0 + np.sqrt(1 - a[above]) * eps
        for t, below in zip(times[:0:-1], times[-2::-1], strict=True):
            eps = noise(x, t)
            x_0 = recip[t] * x - recip_minus[t] * eps
            (reprojection, jumps), (slopes, camera_slopes), jump_slopes = tree(
                np.asarray, everything(x_0, translation)
            )
            now = reprojection + (jumps if smoothness else 0)
            history.append(now)
            known = np.isfinite(before)
            before = np.where(known, before, 0)
            change = np.abs(before - now) / np.maximum(np.maximum(before, now), 1)
            fresh = known & (change < tolerance) & (stops < 0)
            running, before = stops < 0, now
            stops = np.where(fresh, len(history) - 1, stops)
            guided = (stops < 0)[:, None]
            slopes = np.where(guided, 0.003 * slopes + smoothness * jump_slopes, 0)
            camera_slopes = np.where(guided, camera_slopes, 0)
            eps = eps + one_minus[t] * recip[t] * slopes
            x_0 = recip[t] * x - recip_minus[t] * eps
            x = np.sqrt(a[below]) * x_0 + np.sqrt(1 - a[below]) * eps
            first = 0.9 * first + 0.1 * camera_slopes
            second = 0.999 * second + 0.001 * camera_slopes**2
            n = len(history)
            step = first / (1 - 0.9**n) / (np.sqrt(second / (1 - 0.999**n)) + 1e-8)
            translation = np.where(running[:, None], translation - 0.01 * step, translation)
            result = np.where(running[:, None], x_0, result)
            moved = np.where(running[:, None], translation, moved)
    return result, moved, np.stack(history), stops


@pytest.mark.parametrize(("stop", "smoothness"), [(Never(), 30.0), (StepStop(0.05), 0.0)])
def test_equals_a_plain_transcription(exact, stop, smoothness):
    body, prior, people, everything = exact
    config = replace(CONFIG, stop=stop)
    with jax.enable_x64(True):
        terms = (keypoints_2d(people.keypoints, people.camera),)
        terms += (smooth(weight=smoothness),) if smoothness else ()
        found, info = make_refiner(prior, Skeleton.of(body, NAMES), config)(
            people.estimate, people.features, terms
        )
        tolerance = getattr(stop, "tolerance", 0.0)
        x_0, translation, losses, stops = plain_refine(
            prior, people, everything, tolerance, smoothness
        )
    if stop.stops:
        assert len(np.unique(stops)) > 2, stops  # some go on, some stop, at several steps
    np.testing.assert_array_equal(info.stop_step, stops)
    close("x_0", found.pose_6d, x_0, atol=1e-9)
    close("translation", found.translation, translation, atol=1e-6)
    for sample, end in enumerate(stops):
        until = end + 1 if end >= 0 else None
        each = info.losses[:until, sample], losses[:until, sample]
        close(f"losses of sample {sample}", *each, rtol=1e-6)


def test_improves_what_it_is_asked_to(alone, video, people, skeleton):
    for refined, info in (alone, video):
        assert (info.status == OK).all() and (info.stop_step == -1).all()
        assert info.losses.shape == (6, N) and np.isfinite(info.losses).all()
        assert (info.losses[-1] < info.losses[0]).all()
        close("shape stays", refined.betas, people.estimate.betas)
        identity = np.broadcast_to(np.eye(3), (N, 24, 3, 3))
        close("rotations", refined.pose @ refined.pose.swapaxes(-1, -2), identity, atol=1e-5)
        close("pose", refined.pose, six_d_to_matrix(refined.pose_6d.reshape(N, 24, 6)), atol=1e-6)

    def jumps(refined):
        return np.square(np.diff(refined.pose_6d, axis=0)).sum()

    assert jumps(video[0]) < jumps(alone[0])


def test_its_parts_can_be_put_together_by_hand(prior, skeleton, people, video):
    terms = evidence(people, 30.0)

    @jax.jit
    def by_hand(prior, estimate, features):
        setup = Setup.of(prior, skeleton, CONFIG)
        problem = Problem.of(setup, estimate, features, terms)
        state = sampler.first_state(problem)
        history = []
        for _ in range(2):
            state = replace(state, x=sampler.invert(problem, state.x))
            step = partial(sampler.guided_step, problem)
            state, losses = jax.lax.scan(step, state, sampler.descent(problem))
            history.append(losses)
        return sampler.result(problem, state), jnp.concatenate(history)

    found, losses = by_hand(prior, people.estimate, people.features)
    same(found, video[0])
    close("losses", losses, video[1].losses, rtol=1e-4)


def test_a_term_sees_the_noise_level_and_the_first_estimate(prior, skeleton, people):
    seen = []

    def look(hypothesis):
        seen.append(hypothesis.first)
        return jnp.ones(N) * hypothesis.noise_std + 0 * hypothesis.pose_6d.sum(-1)

    _, info = make_refiner(prior, skeleton, replace(CONFIG, iterations=1))(
        people.estimate, people.features, look
    )
    # The paper's levels, downwards.
    stds = prior.schedule.sqrt_one_minus[[6, 4, 2]]
    close("noise", info.losses, np.repeat(stds[:, None], N, 1), rtol=1e-6)
    assert all(first.pose.shape == (N, 24, 3, 3) for first in seen)


# One sample does not touch another.

SPOILT = {
    "pose": lambda p: replace(p, estimate=replace(p.estimate, pose=spoil(p.estimate.pose))),
    "betas": lambda p: replace(p, estimate=replace(p.estimate, betas=spoil(p.estimate.betas))),
    "translation": lambda p: replace(
        p, estimate=replace(p.estimate, translation=spoil(p.estimate.translation))
    ),
    "features": lambda p: replace(p, features=spoil(p.features)),
}


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("what", SPOILT)
def test_a_sample_that_is_not_finite(refiner, people, alone, video, gap, what, value):
    bad = SPOILT[what](people)
    estimate, features = tree(
        lambda a: jnp.where(jnp.isnan(a), value, a), (bad.estimate, bad.features)
    )
    found, info = refiner(estimate, features, evidence(bad))
    assert info.status.tolist() == [OK, OK, NOT_FINITE, OK, OK, OK]
    is_estimate(found, estimate, 2)
    same(found, alone[0], atol=1e-6, among=OTHERS)
    assert np.isfinite(info.losses).all()
    # In a video its neighbours are as if the frame were missing.
    found, info = refiner(estimate, features, evidence(bad, 30.0))
    same(found, gap[0], atol=1e-6, among=OTHERS)
    assert np.abs(gap[0].pose_6d[3] - video[0].pose_6d[3]).max() > 1e-5


NO_ROTATION = {
    "zeros": lambda pose: 0 * pose,
    "mirrored": lambda pose: pose * jnp.array([1, 1, -1]),
    "one joint mirrored": lambda pose: pose.at[7, :, 0].multiply(-1),
    "scaled": lambda pose: 1.05 * pose,
    "a shear": lambda pose: pose.at[3].set(jnp.array([[1, 0.05, 0], [0, 1, 0], [0, 0, 1]])),
    "huge": lambda pose: 1e20 * pose,
}


@pytest.mark.parametrize("kind", NO_ROTATION)
def test_a_pose_that_is_no_rotation(refiner, people, gap, kind):
    pose = people.estimate.pose
    bad = replace(people.estimate, pose=pose.at[2].set(NO_ROTATION[kind](pose[2])))
    found, info = refiner(bad, people.features, evidence(people, 30.0))
    assert info.status.tolist() == [OK, OK, NOT_ROTATION, OK, OK, OK]
    is_estimate(found, bad, 2)
    same(found, gap[0], atol=1e-6, among=OTHERS)
    assert np.isfinite(info.losses).all()


def test_a_rotation_of_few_digits_is_one(refiner, people):
    rounded = replace(people.estimate, pose=jnp.round(people.estimate.pose, 2))
    assert (refiner(rounded, people.features, evidence(people))[1].status == OK).all()


def test_keypoints_that_are_not_finite_are_not_seen(refiner, people, alone):
    xy = spoil(people.keypoints.xy)
    confidence = np.array(people.keypoints.confidence)
    found, info = refiner(
        people.estimate,
        people.features,
        evidence(replace(people, keypoints=Keypoints2D(xy, people.keypoints.confidence))),
    )
    assert (info.status == OK).all()
    confidence[2, 0] = 0
    wanted, _ = refiner(
        people.estimate,
        people.features,
        evidence(replace(people, keypoints=Keypoints2D(people.keypoints.xy, confidence))),
    )
    same(found, wanted, atol=1e-6)
    same(found, alone[0], atol=1e-6, among=OTHERS)


def test_without_keypoints(refiner, people, alone):
    confidence = np.array(people.keypoints.confidence)
    confidence[2] = 0
    unseen = replace(people, keypoints=Keypoints2D(people.keypoints.xy, confidence))
    apart = np.array([True, False, True, False, True, False])  # no frame has a neighbour
    found, info = refiner(people.estimate, people.features, evidence(unseen), apart)
    assert info.status.tolist() == [OK, PADDING, NO_EVIDENCE, PADDING, OK, PADDING]
    is_estimate(found, people.estimate, 2)
    same(found, alone[0], atol=1e-6, among=[0, 4])


def test_a_frame_of_a_video_without_keypoints_follows_its_neighbours(refiner, people, video):
    confidence = np.array(people.keypoints.confidence)
    confidence[2] = 0
    unseen = replace(people, keypoints=Keypoints2D(people.keypoints.xy, confidence))
    found, info = refiner(people.estimate, people.features, evidence(unseen, 30.0))
    assert (info.status == OK).all()
    assert np.abs(found.pose_6d[2] - rotations_to_x(people.estimate.pose[2])).max() > 1e-3
    assert np.isfinite(found.pose_6d).all()


def test_behind_the_camera(refiner, people, alone):
    translation = people.estimate.translation.at[2, 2].set(-5.0).at[4, 2].set(0.0)
    behind = replace(people.estimate, translation=translation)
    found, info = refiner(behind, people.features, evidence(people))
    assert info.status.tolist() == [OK, OK, NOT_IN_FRONT, OK, NOT_IN_FRONT, OK]
    for row in (2, 4):
        is_estimate(found, behind, row)
    same(found, alone[0], atol=1e-6, among=np.array([0, 1, 3, 5]))
    assert np.isfinite(info.losses).all()


def test_a_useless_camera(refiner, people, alone):
    broken = replace(people.camera, focal=people.camera.focal.at[2].set(jnp.nan))
    found, info = refiner(
        people.estimate, people.features, evidence(replace(people, camera=broken))
    )
    same(found, alone[0], atol=1e-6, among=OTHERS)
    assert np.isfinite(found.pose_6d).all() and np.isfinite(info.losses).all()


def test_a_sample_that_diverges_keeps_its_estimate(prior, skeleton, people):
    run = make_refiner(prior, skeleton, CONFIG)

    def weighing(weights):
        term = keypoints_2d(people.keypoints, people.camera, weight=jnp.asarray(weights))
        return run(people.estimate, people.features, term)

    wanted, _ = weighing(np.full(N, 0.003))
    found, info = weighing(np.where(np.arange(N) == 2, 1e38, 0.003))
    assert info.status.tolist() == [OK, OK, DIVERGED, OK, OK, OK]
    is_estimate(found, people.estimate, 2)
    same(found, wanted, atol=1e-6, among=OTHERS)


def test_a_camera_that_walks_through_the_body_keeps_the_estimate(people, skeleton, video):
    refined = tree(jnp.asarray, video[0])
    behind = replace(refined, translation=refined.translation.at[2, 2].set(-5.0))
    status = jnp.array([OK, OK, OK, NO_EVIDENCE, OK, OK])
    found, status = settle(skeleton, people.estimate, behind, evidence(people), status)
    assert status.tolist() == [OK, OK, DIVERGED, NO_EVIDENCE, OK, OK]
    for row in (2, 3):
        is_estimate(found, people.estimate, row)
    same(found, video[0], among=np.array([0, 1, 4, 5]))


def test_a_result_that_is_no_rotation_keeps_the_estimate(people, skeleton, video):
    refined = tree(jnp.asarray, video[0])
    stretched = replace(refined, pose=refined.pose.at[2, 5].multiply(1.5))
    status = jnp.zeros(N, int)
    found, status = settle(skeleton, people.estimate, stretched, evidence(people), status)
    assert status.tolist() == [OK, OK, DIVERGED, OK, OK, OK]
    is_estimate(found, people.estimate, 2)


@pytest.fixture(scope="module")
def four(people, prior, skeleton):
    """The first four frames by themselves."""
    first = rows(people, slice(4))
    run = make_refiner(prior, skeleton, CONFIG)
    return run(first.estimate, first.features, evidence(first, 30.0), jnp.ones(4, bool))


def test_padding_changes_nothing(refiner, people, four):
    wanted, short = four
    mask = np.arange(N) < 4
    junk = tree(lambda a: a.at[4:].set(1e20), people.estimate)
    for padded in (
        people,
        replace(people, features=people.features.at[4:].set(np.nan)),
        replace(people, estimate=junk, camera=tree(lambda a: a.at[4:].set(0), people.camera)),
    ):
        found, info = refiner(padded.estimate, padded.features, evidence(padded, 30.0), mask)
        same(found, wanted, among=slice(4))
        close("losses", info.losses[:, :4], short.losses, rtol=1e-4, atol=1e-3)
        assert info.status.tolist() == [OK] * 4 + [PADDING] * 2
        for row in (4, 5):
            is_estimate(found, padded.estimate, row)


@pytest.fixture(scope="module")
def groups(people, skeleton):
    """Six frames of one video and four of another, padded, [2, N]."""
    other = scene(skeleton, N, seed=1)
    both, mask = stack_groups([parts(other), parts(rows(people, slice(4)))])
    return other, Scene(*both), mask


def test_groups_are_as_each_alone(refiner, groups, four):
    other, both, mask = groups
    found, info = refiner(both.estimate, both.features, evidence(both, 30.0), mask)
    np.testing.assert_array_equal(info.status == PADDING, ~mask)
    whole = refiner(other.estimate, other.features, evidence(other, 30.0))
    losses = unstack_groups(info.losses, mask, axis=1)
    pairs = zip(unstack_groups(found, mask), losses, (whole, four), strict=True)
    for each, their_losses, (wanted, alone) in pairs:
        same(each, wanted)
        close("losses", their_losses, alone.losses, rtol=1e-4, atol=1e-3)


def test_vmap_is_as_leading_axes(refiner, groups, prior, skeleton):
    _, both, mask = groups
    wanted, _ = refiner(both.estimate, both.features, evidence(both, 30.0), mask)

    @jax.jit
    @jax.vmap
    def run(estimate, features, keypoints, camera, mask):
        terms = keypoints_2d(keypoints, camera), smooth()
        return refine(prior, skeleton, estimate, features, terms, CONFIG, mask)

    found, info = run(*parts(both), jnp.asarray(mask))
    same(found, wanted)
    np.testing.assert_array_equal(info.status == PADDING, ~mask)


def test_hypotheses_share_their_evidence(refiner, people, alone):
    # Two guesses for each image, [H, N]: features, keypoints and cameras are given once.
    noisy = people.estimate.pose @ jax.scipy.linalg.expm(
        jnp.array([[0, -0.1, 0], [0.1, 0, 0], [0, 0, 0]])
    )
    poses = jnp.stack([people.estimate.pose, noisy])
    guesses = replace(people.estimate, pose=poses)
    found, info = refiner(guesses, people.features, evidence(people), np.ones((2, N), bool))
    same(tree(lambda a: a[0], found), alone[0])
    assert found.pose.shape == (2, N, 24, 3, 3) and info.losses.shape == (6, 2, N)
    assert np.abs(found.pose[1] - found.pose[0]).max() > 0.01


def test_new_numbers_do_not_compile_again(refiner, people, skeleton, alone):
    refiner(people.estimate, people.features, evidence(people))
    other = scene(skeleton, N, seed=5)
    terms = evidence(other, 3.0, weight=0.1)
    mask = jnp.asarray(np.arange(N) != 1)
    with compilations() as programs:
        refiner(other.estimate, other.features, terms, mask)
    assert not programs
    # Nor does another network or another body.
    longer = Skeleton.of(replace(stand_in(), template=1.1 * stand_in().template), SMPL_24)
    mask = jnp.ones(N, bool)
    with compilations() as programs:
        run = make_refiner(small_prior(seed=1), longer, CONFIG)
        found, _ = run(people.estimate, people.features, evidence(people), mask)
    assert not programs
    assert np.abs(found.pose_6d - alone[0].pose_6d).max() > 1e-3
    with compilations() as programs:
        jax.jit(lambda x: x + 12345)(1.0)
    assert programs  # the counting works


def test_a_mask_may_be_of_ones_and_zeros(refiner, people):
    mask = np.array([1, 1, 1, 1, 0, 0])
    _, info = refiner(people.estimate, people.features, evidence(people), mask)
    assert info.status.tolist() == [OK] * 4 + [PADDING] * 2


# Stopping.


def test_the_loop_ends_once_every_sample_has_stopped(prior, skeleton, people):
    config = replace(CONFIG, iterations=4, stop=StepStop(10.0))
    mask = jnp.arange(N) < 5  # padding need not stop
    run = make_refiner(prior, skeleton, config)
    with jax.debug_nans(True):  # steps that are not taken are no fault
        _, info = run(people.estimate, people.features, evidence(people), mask)
    assert info.losses.shape == (12, N)
    assert (info.losses[0] != info.losses[2])[:5].all()
    np.testing.assert_array_equal(info.losses[3:], np.stack([info.losses[2]] * 9))
    np.testing.assert_array_equal(info.stop_step, [1] * 5 + [-1])


def test_some_stop_after_a_round_and_some_go_on(prior, skeleton, people, alone):
    before, after = alone[1].losses[[2, 5]]  # at the ends of both rounds
    change = np.abs(before - after) / np.maximum(np.maximum(before, after), 1)
    config = replace(CONFIG, iterations=4, stop=RoundStop(float(np.median(change))))
    run = make_refiner(prior, skeleton, config)
    everyone = jnp.ones(N, bool)
    found, info = run(people.estimate, people.features, evidence(people), everyone)
    stopped = change < np.median(change)
    assert 0 < stopped.sum() < N
    np.testing.assert_array_equal(info.stop_step == 5, stopped)
    # Theirs is what the second round left.
    same(found, alone[0], atol=1e-6, among=stopped)
    further = np.abs(found.pose_6d - alone[0].pose_6d).max(-1)
    assert (further[~stopped] > 1e-4).all()
    assert np.isfinite(info.losses).all()
    # Without the others, nothing is left to do.
    found, info = run(people.estimate, people.features, evidence(people), jnp.asarray(stopped))
    np.testing.assert_array_equal(info.losses[6:], np.stack([info.losses[5]] * 6))
    same(found, alone[0], atol=1e-6, among=stopped)


# Terms.


def test_a_term_of_the_users_own(prior, skeleton, people):
    target = skeleton(people.estimate.pose, people.estimate.betas) + jnp.array([0.0, 0.05, 0.0])

    def toward(hypothesis):
        return jnp.sum((hypothesis.joints - target)[:, 15] ** 2, axis=-1)  # the head

    run = make_refiner(prior, skeleton, CONFIG)
    found, info = run(people.estimate, people.features, [weighted(3000.0, toward)])
    assert (info.status == OK).all()
    close("a camera that no term asks for stays", found.translation, people.estimate.translation)
    with compilations() as programs:
        _, idle = run(people.estimate, people.features, [weighted(0.0, toward)])
    assert not programs
    assert (info.losses[-1] < idle.losses[-1]).all()


def test_views_agree_better(prior, skeleton, people):
    views = rows(people, slice(3))
    one_pose = jnp.broadcast_to(views.estimate.pose[:1], (3, 24, 3, 3))
    noise = jax.scipy.linalg.expm(0.1 * np.random.default_rng(0).standard_normal((3, 24, 3, 3)))
    q, _ = jnp.linalg.qr(noise)
    estimate = replace(views.estimate, pose=one_pose @ q)
    run = make_refiner(prior, skeleton, CONFIG)
    _, info = run(estimate, views.features, multiview(), jnp.ones(3, bool))
    assert info.losses[-1].sum() < 0.7 * info.losses[0].sum()
    assert (info.status == OK).all()
    # A view that is not finite is as if it were missing.
    others = jnp.array([True, False, True])
    wanted, _ = run(estimate, views.features, multiview(), others)
    bad = replace(estimate, pose=spoil(estimate.pose, row=1))
    found, info = run(bad, views.features, multiview(), jnp.ones(3, bool))
    assert info.status.tolist() == [OK, NOT_FINITE, OK]
    same(found, wanted, atol=1e-6, among=others)
