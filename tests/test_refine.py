"""What `refine` promises beside the released code's results."""

import itertools
from collections import Counter
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bodies import (
    Scene,
    close,
    compilations,
    dot,
    plain_denoiser,
    products,
    random_like,
    scene,
    slope,
    small_prior,
)

from body_model import Skeleton, stand_in
from body_model.joints import SMPL_24
from body_model.rotations import six_d_to_matrix
from scorehmr_jax.guidance import keypoints_2d, multiview, smooth, weighted
from scorehmr_jax.prior import Prior, rotations_to_x
from scorehmr_jax.refine import RefineConfig, make_refiner, refine
from scorehmr_jax.screening import (
    DIVERGED,
    NO_EVIDENCE,
    NOT_FINITE,
    NOT_IN_FRONT,
    OK,
    PADDING,
    STATUS,
)
from scorehmr_jax.types import Estimate, Keypoints2D, Refined

# Short and small, so that it compiles fast: two rounds of three steps, of the joints alone.
CONFIG = RefineConfig(iterations=2, start=6, step=2)
N = 6


def tree(function, *trees):
    return jax.tree.map(function, *trees)


def parts(people: Scene):
    return people.estimate, people.features, people.keypoints, people.camera


def rows(people: Scene, which) -> Scene:
    return Scene(*(tree(lambda a: a[which], part) for part in parts(people)))


def stack(a, b):
    return jnp.stack([a, b])


def same(found: Refined, wanted: Refined, atol: float = 1e-5, among=slice(None)) -> None:
    for name in ("pose", "betas", "translation", "pose_6d"):
        close(name, getattr(found, name)[among], getattr(wanted, name)[among], atol=atol)


def is_estimate(found: Refined, estimate: Estimate, row: int) -> None:
    for name in ("pose", "betas", "translation"):
        np.testing.assert_array_equal(getattr(found, name)[row], getattr(estimate, name)[row])


def evidence(people: Scene, smoothness: float = 0.0, weight: float = 0.003):
    """Terms of one kind whatever the weights: they compile once."""
    return keypoints_2d(people.keypoints, people.camera, weight=weight), smooth(weight=smoothness)


@pytest.fixture(scope="module")
def skeleton():
    return Skeleton.of(stand_in(), SMPL_24)


@pytest.fixture(scope="module")
def prior():
    return small_prior()


@pytest.fixture(scope="module")
def people(skeleton):
    return scene(skeleton, N)


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


def plain_refine(prior, people, everything, config, smoothness):
    """The loop as the released code runs it: the whole mesh, no shortcut, one step at a time."""
    estimate = people.estimate
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
            fresh = (change < config.tolerance) & (stops < 0) & (config.stop == "step")
            fresh &= known
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


@pytest.mark.parametrize(
    ("stop", "tolerance", "smoothness"), [("never", 1e-5, 30.0), ("step", 0.05, 0.0)]
)
def test_equals_a_plain_transcription(exact, stop, tolerance, smoothness):
    body, prior, people, everything = exact
    config = replace(CONFIG, stop=stop, tolerance=tolerance)
    with jax.enable_x64(True):
        terms = (keypoints_2d(people.keypoints, people.camera),)
        terms += (smooth(weight=smoothness),) if smoothness else ()
        found, info = make_refiner(prior, Skeleton.of(body, NAMES), config)(
            people.estimate, people.features, terms
        )
        x_0, translation, losses, stops = plain_refine(
            prior, people, everything, config, smoothness
        )
    if stop == "step":
        assert len(np.unique(stops)) > 2, stops  # some go on, some stop, at several steps
    np.testing.assert_array_equal(info.stop_step, stops)
    close("x_0", found.pose_6d, x_0, atol=1e-9)
    close("translation", found.translation, translation, atol=1e-6)
    for sample, end in enumerate(stops):
        until = end + 1 if end >= 0 else None
        close(f"losses of sample {sample}", info.losses[:until, sample], losses[:until, sample],
              rtol=1e-6)  # fmt: skip


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


# One sample does not touch another.

SPOILT = {
    "pose": lambda p: replace(p, estimate=replace(p.estimate, pose=spoil(p.estimate.pose))),
    "betas": lambda p: replace(p, estimate=replace(p.estimate, betas=spoil(p.estimate.betas))),
    "translation": lambda p: replace(
        p, estimate=replace(p.estimate, translation=spoil(p.estimate.translation))
    ),
    "features": lambda p: replace(p, features=spoil(p.features)),
}


def spoil(array, value=np.nan, row=2):
    return array.at[(row, *(0,) * (array.ndim - 1))].set(value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("what", SPOILT)
def test_a_sample_that_is_not_finite(refiner, people, alone, video, what, value):
    bad = SPOILT[what](people)
    bad = replace(bad, **{
        f: tree(lambda a: jnp.where(jnp.isnan(a), value, a), getattr(bad, f))
        for f in ("estimate", "features")
    })  # fmt: skip
    found, info = refiner(bad.estimate, bad.features, evidence(bad))
    assert info.status.tolist() == [OK, OK, NOT_FINITE, OK, OK, OK]
    is_estimate(found, bad.estimate, 2)
    others = np.arange(N) != 2
    same(found, alone[0], atol=1e-6, among=others)
    assert np.isfinite(info.losses).all()
    # In a video its neighbours are as if the frame were missing.
    masked, _ = refiner(people.estimate, people.features, evidence(people, 30.0), others)
    found, info = refiner(bad.estimate, bad.features, evidence(bad, 30.0))
    same(found, masked, atol=1e-6, among=others)
    assert np.abs(masked.pose_6d[3] - video[0].pose_6d[3]).max() > 1e-5


def test_keypoints_that_are_not_finite_are_not_seen(refiner, people, alone):
    xy = spoil(people.keypoints.xy)
    confidence = np.array(people.keypoints.confidence)
    found, info = refiner(
        people.estimate, people.features,
        evidence(replace(people, keypoints=Keypoints2D(xy, people.keypoints.confidence))),
    )  # fmt: skip
    assert (info.status == OK).all()
    confidence[2, 0] = 0
    wanted, _ = refiner(
        people.estimate, people.features,
        evidence(replace(people, keypoints=Keypoints2D(people.keypoints.xy, confidence))),
    )  # fmt: skip
    same(found, wanted, atol=1e-6)
    same(found, alone[0], atol=1e-6, among=np.arange(N) != 2)


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
    same(found, alone[0], atol=1e-6, among=[0, 1, 3, 5])
    assert np.isfinite(info.losses).all()


def test_a_useless_camera(refiner, people, alone):
    broken = replace(people.camera, focal=people.camera.focal.at[2].set(jnp.nan))
    found, info = refiner(
        people.estimate, people.features, evidence(replace(people, camera=broken))
    )
    same(found, alone[0], atol=1e-6, among=np.arange(N) != 2)
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
    same(found, wanted, atol=1e-6, among=np.arange(N) != 2)


def test_a_camera_that_walks_through_the_body_keeps_the_estimate(prior, skeleton, people):
    run = make_refiner(prior, skeleton, replace(CONFIG, camera_rate=30.0))
    found, info = run(people.estimate, people.features, evidence(people))
    lost = np.flatnonzero(info.status == DIVERGED)
    assert lost.size and set(info.status.tolist()) <= {OK, DIVERGED}
    for row in lost:
        is_estimate(found, people.estimate, row)
    assert (found.translation[:, 2] > 0).all()


def test_padding_changes_nothing(refiner, people, prior, skeleton):
    four = rows(people, slice(4))
    wanted, short = make_refiner(prior, skeleton, CONFIG)(
        four.estimate, four.features, evidence(four, 30.0)
    )
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
    both = Scene(*(tree(stack, a, b) for a, b in zip(parts(people), parts(other), strict=True)))
    return other, both, np.array([[True] * 6, [True] * 4 + [False] * 2])


def test_groups_are_as_each_alone(refiner, people, groups):
    other, both, mask = groups
    found, info = refiner(both.estimate, both.features, evidence(both, 30.0), mask)
    for group, alone in enumerate((people, other)):
        wanted, each = refiner(alone.estimate, alone.features, evidence(alone, 30.0), mask[group])
        same(tree(lambda a, g=group: a[g], found), wanted)
        np.testing.assert_array_equal(info.status[group], each.status)
        close("losses", info.losses[:, group], each.losses, rtol=1e-4, atol=1e-3)


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
    found, info = refiner(
        guesses, people.features, evidence(people), np.ones((2, N), bool)
    )  # fmt: skip
    same(tree(lambda a: a[0], found), alone[0])
    assert found.pose.shape == (2, N, 24, 3, 3) and info.losses.shape == (6, 2, N)
    assert np.abs(found.pose[1] - found.pose[0]).max() > 0.01


def test_new_numbers_do_not_compile_again(refiner, people, prior, skeleton):
    refiner(people.estimate, people.features, evidence(people))
    other = scene(skeleton, N, seed=5)
    terms = evidence(other, 3.0, weight=0.1)
    mask = jnp.asarray(np.arange(N) != 1)
    with compilations() as programs:
        refiner(other.estimate, other.features, terms, mask)
    assert not programs
    with compilations() as programs:
        jax.jit(lambda x: x + 12345)(1.0)
    assert programs  # the counting works


def test_other_weights_of_the_network_do_not_compile_again(people, prior, skeleton):
    config = replace(CONFIG, iterations=1)
    term = keypoints_2d(people.keypoints, people.camera)

    @jax.jit
    def run(prior: Prior, skeleton: Skeleton):
        return refine(prior, skeleton, people.estimate, people.features, term, config)[0]

    one = run(prior, skeleton)
    longer = Skeleton.of(tree(lambda a: a, replace(stand_in(), template=1.1 * stand_in().template)),
                         SMPL_24)  # fmt: skip
    with compilations() as programs:
        two = run(small_prior(seed=1), longer)
    assert not programs
    assert np.abs(one.pose_6d - two.pose_6d).max() > 1e-3


# Stopping.


@pytest.mark.parametrize(("stop", "rounds"), [("step", 1), ("round", 2)])
def test_rests_once_every_sample_has_stopped(refiner, prior, skeleton, people, stop, rounds):
    config = replace(CONFIG, iterations=4, stop=stop, tolerance=10.0)
    run = make_refiner(prior, skeleton, config)
    mask = jnp.arange(N) < 5  # padding need not stop
    found, info = run(people.estimate, people.features, evidence(people), mask)
    assert info.losses.shape == (12, N)
    worked = np.isfinite(info.losses).all(1)
    np.testing.assert_array_equal(worked, np.arange(12) < 3 * rounds)
    first = 1 if stop == "step" else 5
    np.testing.assert_array_equal(info.stop_step, [first] * 5 + [-1])
    if stop == "round":  # what is returned is what the last round left
        wanted, _ = refiner(people.estimate, people.features, evidence(people), mask)
        same(found, wanted, atol=1e-6)


def test_some_stop_after_a_round_and_some_go_on(prior, skeleton, people, alone):
    before, after = alone[1].losses[[2, 5]]  # at the ends of both rounds
    change = np.abs(before - after) / np.maximum(np.maximum(before, after), 1)
    config = replace(CONFIG, iterations=3, stop="round", tolerance=float(np.median(change)))
    found, info = make_refiner(prior, skeleton, config)(
        people.estimate, people.features, evidence(people)
    )
    stopped = change < np.median(change)
    assert 0 < stopped.sum() < N
    np.testing.assert_array_equal(info.stop_step == 5, stopped)
    same(found, alone[0], atol=1e-6, among=stopped)
    further = np.abs(found.pose_6d - alone[0].pose_6d).max(-1)
    assert (further[~stopped] > 1e-4).all()
    assert np.isfinite(info.losses).all()


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


# Bad input.


def shapes_of(prior, skeleton, people, **changes):
    """Everything but the arithmetic."""
    given = {
        "estimate": people.estimate,
        "features": people.features,
        "terms": keypoints_2d(people.keypoints, people.camera),
        "mask": None,
    } | changes
    return jax.eval_shape(
        lambda: refine(
            prior, skeleton, given["estimate"], given["features"], given["terms"], CONFIG,
            given["mask"],
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    ("field", "shape"),
    [("pose", (N, 23, 3, 3)), ("pose", (24, 3, 3)), ("pose", (N, 24, 3)), ("betas", (N, 11)),
     ("betas", (10,)), ("translation", (N, 2)), ("translation", (3,))],
)  # fmt: skip
def test_an_estimate_of_wrong_shape_is_refused(prior, skeleton, people, field, shape):
    wrong = replace(people.estimate, **{field: jnp.zeros(shape)})
    with pytest.raises(ValueError, match=rf"estimate.{field}: expected \[..., N, ") as error:
        shapes_of(prior, skeleton, people, estimate=wrong)
    assert str(shape) in str(error.value)


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


@pytest.mark.parametrize("shape", [(N - 1,), (2, N)])
def test_a_mask_that_does_not_fit_is_refused(prior, skeleton, people, shape):
    with pytest.raises(ValueError, match=r"mask: expected one for each estimate \(6,\), found"):
        shapes_of(prior, skeleton, people, mask=np.ones(shape, bool))


def test_a_mask_may_be_of_ones_and_zeros(refiner, people):
    mask = np.array([1, 1, 1, 1, 0, 0])
    _, info = refiner(people.estimate, people.features, evidence(people), mask)
    assert info.status.tolist() == [OK] * 4 + [PADDING] * 2


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
    [{"stop": "early"}, {"iterations": 0}, {"step": 0}, {"start": 1, "step": 2}],
)
def test_a_config_that_makes_no_loop_is_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        RefineConfig(**wrong)


def test_every_status_has_words():
    codes = [OK, NOT_FINITE, NOT_IN_FRONT, NO_EVIDENCE, DIVERGED, PADDING]
    assert sorted(codes) == list(range(len(STATUS)))


def test_a_body_stands_for_its_openpose_skeleton(prior, people):
    k = jnp.zeros((N, 25))
    term = keypoints_2d(Keypoints2D(jnp.zeros((N, 25, 2)), k), people.camera)
    refined, _ = shapes_of(prior, stand_in(), people, terms=term)
    assert refined.pose.shape == (N, 24, 3, 3)


def test_features_of_the_estimate_itself(skeleton, people):
    prior = replace(small_prior(144), condition_on="estimate")
    refined, _ = shapes_of(prior, skeleton, people, features=None)
    assert refined.pose_6d.shape == (N, 144)


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


# Differentiation.


INPUTS = ("estimate", "features", "xy", "confidence", "weights", "network")
# Compiling a gradient through the loop takes XLA longer than running it.
FAST = {"xla_backend_optimization_level": 0}


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
    return (people.estimate, people.features, keypoints.xy, 0.9 * keypoints.confidence, weights,
            tree(jnp.asarray, prior.params))  # fmt: skip


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
        gradient = jax.jit(jax.grad(run), compiler_options=FAST)(at)
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


def test_reverse_mode_keeps_its_memory(skeleton):
    # The released settings, 250 guided steps of 8 samples: what reverse mode holds on to.
    prior = small_prior(144, hidden=512, blocks=3)
    people = scene(skeleton, 8, 144)
    at, every = differentiable(people, prior), jnp.ones(8, bool)
    run = partial(outcome, prior, skeleton, RefineConfig(), people.camera, every, every)
    memory = jax.jit(jax.grad(run)).lower(at).compile(FAST).memory_analysis()
    held = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
    print(f"reverse mode through 250 guided steps holds {held / 2**20:.0f} MiB")
    assert held < 64 * 2**20


def test_a_long_video_fits_in_memory_as_a_whole(skeleton):
    frames = 5000
    prior = small_prior(3072, 1024, 3)
    given = jax.eval_shape(lambda: parts(scene(skeleton, frames, 3072)))

    def run(prior, estimate, features, keypoints, camera):
        terms = keypoints_2d(keypoints, camera), smooth()
        return refine(prior, skeleton, estimate, features, terms)

    memory = jax.jit(run).lower(prior, *given).compile(FAST).memory_analysis()
    print(f"{memory.temp_size_in_bytes / frames / 1024:.0f} kB a frame")
    assert memory.temp_size_in_bytes < frames * 150 * 1024


DOUBLE = {
    "features": lambda p: replace(p, features=np.zeros(p.features.shape)),
    "keypoints": lambda p: replace(p, keypoints=double(p.keypoints)),
    "camera": lambda p: replace(p, camera=double(p.camera)),
    "betas": lambda p: replace(p, estimate=replace(p.estimate, betas=np.zeros((N, 10)))),
    "nothing": lambda p: p,
}


def double(part):
    return tree(lambda a: np.asarray(a, np.float64), part)


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
