"""Calibrated views, points in 3D, motion, and what holds a body: right values, and what they do."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bodies import close, scene, small_prior
from refining import CONFIG, N, evidence, people, prior, same, skeleton, spoil

import body_model
import scorehmr_jax as sh
from body_model.joints import OPENPOSE_25, SMPL_24
from body_model.rotations import axis_angle_to_matrix
from scorehmr_jax.baselines.adam import AdamConfig, adam
from scorehmr_jax.calibration import calibrated_camera
from scorehmr_jax.screening import NO_EVIDENCE, NOT_IN_FRONT, OK, as_hypothesis

V, K = 3, 24
# Each as one program: by itself, every operation in them would be compiled alone.
evaluate = jax.jit(lambda term, hypothesis: term(hypothesis))
judged = jax.jit(lambda estimate, mask: as_hypothesis(skeleton(), estimate, mask, estimate))
points_of = jax.jit(lambda body: skeleton()(body.pose, body.betas, body.translation))


def hypothesis(estimate=None, mask=None):
    estimate = people().estimate if estimate is None else estimate
    mask = np.ones(estimate.pose.shape[:-3], bool) if mask is None else np.asarray(mask)
    return judged(estimate, mask)


@jax.jit
def around(turns=(0.0, 1.3, -1.1)):
    """Cameras about a body five metres before the first, which is the frame."""
    rotation = axis_angle_to_matrix(jnp.array([[0, turn, 0] for turn in turns]))
    middle = jnp.array([0, 0, 5.0])
    matrix = jnp.tile(jnp.array([[1200.0, 0, 500], [0, 1200, 500], [0, 0, 1]]), (len(turns), 1, 1))
    distortion = jnp.array([-0.1, 0.05, 0.001, -0.001, 0])
    size = jnp.array([1000.0, 1000])
    return calibrated_camera(matrix, size, rotation, middle - rotation @ middle, distortion)


@jax.jit
def seen_around(truth, cameras):
    """Exact detections of bodies [N] in every view."""
    points = skeleton()(truth.pose, truth.betas, truth.translation)
    each = jax.tree.map(lambda a: a[:, None], cameras)
    rows = jnp.broadcast_to(points, (cameras.focal.shape[0], *points.shape))
    return sh.Keypoints2D(sh.project(rows, each), jnp.ones(rows.shape[:-1]))


@jax.jit
def disturbed(truth):
    noise = axis_angle_to_matrix(0.15 * jax.random.normal(jax.random.key(1), (N, 24, 3)))
    return replace(truth, pose=truth.pose @ noise, translation=truth.translation + 0.1)


@pytest.fixture(scope="module")
def views():
    """True bodies, their detections in three views, and estimates that are off."""
    truth = people().estimate
    cameras = around()
    estimate = disturbed(truth)
    return truth, seen_around(truth, cameras), cameras, estimate


def test_calibrated_views_are_the_sum_of_each(views):
    _, keypoints, cameras, estimate = views
    shares = np.array([1.0, 0.25, 3.0], np.float32)
    found = sh.calibrated_views(keypoints, cameras, view_weight=shares)
    found = evaluate(found, hypothesis(estimate))
    each = [
        sh.keypoints_2d(*jax.tree.map(lambda a, v=v: a[v], (keypoints, cameras))) for v in range(V)
    ]
    wanted = sum(
        share * evaluate(term, hypothesis(estimate))
        for share, term in zip(shares, each, strict=True)
    )
    close("loss", found, wanted, rtol=1e-4)


def test_the_truth_has_no_loss_in_any_view(views):
    truth, keypoints, cameras, _ = views
    term = sh.calibrated_views(keypoints, cameras)
    close("loss", evaluate(term, hypothesis(truth)), 0, atol=1e-3)


def test_several_groups_of_bodies_and_cameras_that_move(views):
    _, keypoints, cameras, estimate = views
    term = sh.calibrated_views(keypoints, cameras)
    wanted = evaluate(term, hypothesis(estimate))
    groups = jax.tree.map(lambda a: a.reshape(2, N // 2, *a.shape[1:]), estimate)
    split = jax.tree.map(
        lambda a: jnp.moveaxis(a.reshape(V, 2, N // 2, *a.shape[2:]), 1, 0), keypoints
    )
    moving = jax.tree.map(lambda a: jnp.repeat(a[:, None], N // 2, 1), cameras)
    for camera in (cameras, moving, jax.tree.map(lambda a: jnp.stack([a, a]), moving)):
        found = evaluate(sh.calibrated_views(split, camera), hypothesis(groups))
        close("loss", found.reshape(N), wanted, rtol=1e-5)


@pytest.mark.slow
def test_calibrated_views_find_the_body(views):
    truth, keypoints, cameras, estimate = views
    one = jax.tree.map(lambda a: a[:1], (keypoints, cameras))

    @jax.jit
    def errors(keypoints, cameras):
        terms = sh.calibrated_views(keypoints, cameras)
        refined, info = adam(skeleton(), estimate, terms, 3.0, AdamConfig(steps=60))
        found, true = (skeleton()(b.pose, b.betas, b.translation) for b in (refined, truth))
        return jnp.linalg.norm(found - true, axis=-1).mean(), info.status

    (alone, _), (together, status) = errors(*one), errors(keypoints, cameras)
    assert (status == OK).all()
    assert float(together) < float(alone) / 2


def test_a_view_that_sees_nothing_has_no_say(views):
    _, keypoints, cameras, estimate = views
    wanted = sh.calibrated_views(*jax.tree.map(lambda a: a[:2], (keypoints, cameras)))
    blind = keypoints.confidence.at[2].set(0)
    unseen = sh.calibrated_views(replace(keypoints, confidence=blind), cameras)
    broken = replace(cameras, focal=spoil(jnp.asarray(cameras.focal)))
    without = sh.calibrated_views(keypoints, broken)
    # A camera behind the body, that does not see it, does no harm.
    behind = replace(cameras, translation=cameras.translation.at[2, 2].add(-50))
    away = sh.calibrated_views(replace(keypoints, confidence=blind), behind)
    for term in (unseen, without, away):
        found = evaluate(term, hypothesis(estimate))
        close("loss", found, evaluate(wanted, hypothesis(estimate)), rtol=1e-5)
        assert term.usable(hypothesis(estimate)).all()
        assert term.informs(hypothesis(estimate)).all()
    seen_behind = sh.calibrated_views(keypoints, behind)
    assert not seen_behind.usable(hypothesis(estimate)).any()


@pytest.mark.slow
def test_a_frame_that_no_view_sees_is_kept(views):
    _, keypoints, cameras, estimate = views
    blind = keypoints.confidence.at[:, 1].set(0)
    broken = replace(estimate, translation=estimate.translation.at[4, 2].set(-30))
    terms = sh.calibrated_views(replace(keypoints, confidence=blind), cameras)
    refined, info = sh.refine(prior(), skeleton(), broken, people().features, terms, CONFIG)
    assert info.status.tolist() == [OK, NO_EVIDENCE, OK, OK, NOT_IN_FRONT, OK]
    np.testing.assert_array_equal(refined.pose[1], estimate.pose[1])


def test_views_that_do_not_fit_are_named(views):
    _, keypoints, cameras, estimate = views
    two = jax.tree.map(lambda a: a[:2], cameras)
    for given, message in (
        ((jax.tree.map(lambda a: a[0], keypoints), cameras), r"expected xy \[..., V, N, K, 2\]"),
        ((keypoints, two), r"camera: expected one for each of the 3 views.*found \(2,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            sh.calibrated_views(*given)
    with pytest.raises(ValueError, match="view_weight: expected one number, or one for each of"):
        sh.calibrated_views(keypoints, cameras, view_weight=np.ones(2))
    with pytest.raises(ValueError, match="sigma: expected pixels above 0"):
        sh.calibrated_views(keypoints, cameras, sigma=0)
    few = jax.tree.map(lambda a: a[:, :4], keypoints)
    with pytest.raises(ValueError, match=r"expected xy of every view and estimate"):
        sh.calibrated_views(few, cameras)(hypothesis(estimate))
    other = sh.Keypoints2D(keypoints.xy[..., :5, :], keypoints.confidence[..., :5])
    with pytest.raises(ValueError, match="the skeleton has 24 keypoints, found xy for 5"):
        sh.calibrated_views(other, cameras)(hypothesis(estimate))


def test_points_in_3d_have_known_losses():
    body = hypothesis()
    xyz = np.array(points_of(people().estimate))
    there = np.ones((N, K), np.float32)
    exact = sh.keypoints_3d(sh.Keypoints3D(xyz, there))
    close("nothing is wrong", evaluate(exact, body), 0, atol=1e-6)
    off = xyz + np.array([0.3, 0, 0.4], np.float32)
    far = sh.keypoints_3d(sh.Keypoints3D(off, there / 2), sigma=0.5)
    # At a distance of sigma, half of sigma squared; confidence counts squared.
    close("half a metre off", evaluate(far, body), K * 0.25 / 2 / 4, rtol=1e-4)
    centred = sh.keypoints_3d(sh.Keypoints3D(off, there), centred=True)
    close("about a centre of their own", evaluate(centred, body), 0, atol=1e-6)
    moved = replace(body, translation=body.translation + 3)
    close("the place does not count", evaluate(centred, moved), 0, atol=1e-5)


def test_points_that_are_not_finite_are_not_seen():
    xyz = points_of(people().estimate) + 0.1
    there = jnp.ones((N, K))
    wanted = sh.keypoints_3d(sh.Keypoints3D(xyz, spoil(there, 0.0)))
    found = sh.keypoints_3d(sh.Keypoints3D(spoil(xyz), there))
    close("loss", evaluate(found, hypothesis()), evaluate(wanted, hypothesis()), rtol=1e-6)
    none = sh.keypoints_3d(sh.Keypoints3D(xyz, there.at[1].set(0)), centred=True)
    assert none.informs(hypothesis()).tolist() == [True, False, True, True, True, True]
    assert np.isfinite(evaluate(none, hypothesis())).all()


def test_points_in_3d_lead_to_the_body(views):
    truth, _, _, estimate = views
    terms = sh.keypoints_3d(sh.Keypoints3D(points_of(truth), np.ones((N, K))))
    refined, info = jax.jit(lambda e: adam(skeleton(), e, terms, 0.1, AdamConfig(steps=60)))(
        estimate
    )
    before, after = (
        float(jnp.linalg.norm(points_of(b) - points_of(truth), axis=-1).mean())
        for b in (estimate, refined)
    )
    assert (info.status == OK).all() and after < before / 5


def test_points_in_other_units_are_refused():
    xyz, there = np.array(points_of(people().estimate)), np.ones((N, K), np.float32)
    with pytest.raises(ValueError, match=r"keypoints.xyz: expected metres"):
        sh.keypoints_3d(sh.Keypoints3D(1000 * xyz, there))
    with pytest.raises(ValueError, match="percent"):
        sh.keypoints_3d(sh.Keypoints3D(xyz, 90 * there))
    with pytest.raises(ValueError, match="sigma: expected metres above 0"):
        sh.keypoints_3d(sh.Keypoints3D(xyz, there), sigma=-1)
    with pytest.raises(ValueError, match=r"expected xyz \[..., N, K, 3\]"):
        sh.keypoints_3d(sh.Keypoints3D(xyz[..., :2], there))
    away = sh.keypoints_3d(sh.Keypoints3D(xyz + 100, there))
    with pytest.raises(ValueError, match=r"the points lie 1.* m from the estimates"):
        away.check_units(people().estimate)
    with pytest.raises(ValueError, match="skeleton has 24 keypoints, found points for 3"):
        sh.keypoints_3d(sh.Keypoints3D(xyz[:, :3], there[:, :3]))(hypothesis())
    with pytest.raises(ValueError, match=r"one row for each estimate \(6,\), found \(4,\)"):
        sh.keypoints_3d(sh.Keypoints3D(xyz[:4], there[:4]))(hypothesis())


def walk(places, mask=None):
    """One body that is shifted from frame to frame."""
    estimate = jax.tree.map(lambda a: jnp.repeat(a[:1], len(places), 0), people().estimate)
    shift = jnp.asarray(places, jnp.float32)
    return hypothesis(replace(estimate, translation=estimate.translation + shift), mask)


def test_an_even_walk_costs_nothing_and_a_jump_does():
    term = sh.smooth_camera()
    close(
        "even",
        evaluate(term, walk([[0.1 * n, 0, 0.2 * n] for n in range(5)])),
        np.zeros(5),
        atol=1e-9,
    )
    jump = walk([[0, 0, z] for z in (0, 0, 0.3, 0, 0)])
    close("jump", evaluate(term, jump), [0, 0.09, 0.36, 0.09, 0], rtol=1e-4)
    padded = walk([[0, 0, z] for z in (0, 0, 0.3, 0, np.nan)], [True] * 4 + [False])
    close("padded", evaluate(term, padded), [0, 0.09, 0.36, 0, 0], rtol=1e-4)
    slope = jax.jit(jax.grad(lambda t: jnp.sum(term(replace(padded, translation=t)))))
    slope = slope(padded.translation)
    assert np.isfinite(slope).all()
    close("two frames", evaluate(term, walk([[0, 0, 0], [1, 0, 0]])), [0, 0])


def test_feet_that_stand_are_held():
    names = ("left_foot", "right_foot")
    places = [[0, 0, 0], [0.003, 0, 0.004], [0.3, 0, 0.4]]  # 5 mm, then half a metre
    body = walk(places)
    held = sh.foot_contact(np.ones((3, 2)), names=SMPL_24, feet=names)
    swing = np.linalg.norm(np.subtract(places[2], places[1])) ** 2
    close("given", evaluate(held, body), [0, 2 * 25e-6, 2 * swing], rtol=1e-3)
    half = sh.foot_contact(np.array([[1, 1], [1, 0], [0, 1]]), names=SMPL_24, feet=names)
    close("one foot", evaluate(half, body), [0, 25e-6, 0], rtol=1e-3)
    by_speed = sh.foot_contact(names=SMPL_24, feet=names, still=0.005)
    close("by its speed", evaluate(by_speed, body), [0, 25e-6, 2 * 25e-6], rtol=1e-3)
    alone = evaluate(by_speed, walk(places, [True, False, True]))
    close("neighbours in the mask only", alone, [0, 0, 0])


def test_feet_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"feet: expected .* found \['left_heel'\]"):
        sh.foot_contact(names=SMPL_24, feet=("left_heel",))
    with pytest.raises(ValueError, match="the skeleton has 24 keypoints, and names has 25"):
        sh.foot_contact(names=OPENPOSE_25)(hypothesis())
    with pytest.raises(ValueError, match="contact: expected numbers from 0"):
        sh.foot_contact(np.full((N, 6), 2.0))
    with pytest.raises(ValueError, match="still: expected metres above 0"):
        sh.foot_contact(still=0)
    wrong = sh.foot_contact(np.ones((N, 5)), names=SMPL_24, feet=("left_foot",))
    with pytest.raises(ValueError, match=r"contact: .* found \(6, 5\)"):
        wrong(hypothesis())


def test_trust_is_the_pull_of_plain_optimisation(views):
    _, _, _, estimate = views
    terms = sh.keypoints_2d(people().keypoints, people().camera)
    config = AdamConfig(steps=5)

    def run(terms, pull):
        return adam(skeleton(), estimate, terms, pull, config)[0]

    found = run([terms, sh.trust(10.0)], 0.0)
    same(found, run([terms], 10.0), atol=1e-4)


def test_trust_by_joints():
    first = people().estimate
    turned = first.pose.at[:, 5].set(first.pose[:, 6])
    body = replace(hypothesis(replace(first, pose=turned)), first=first)
    wanted = jnp.square(turned[:, 5, :, :2] - first.pose[:, 5, :, :2]).sum((-2, -1))
    close("all", evaluate(sh.trust(1.0), body), wanted, rtol=1e-4)
    share = np.ones(24, np.float32)
    share[5] = 0.5
    close("half", evaluate(sh.trust(1.0, joint_weight=share), body), wanted / 2, rtol=1e-4)
    each = np.zeros((N, 24), np.float32)
    each[2] = 1
    close(
        "of one sample",
        evaluate(sh.trust(1.0, joint_weight=each), body),
        wanted * each[:, 0],
        rtol=1e-4,
    )
    for wrong in (np.ones(23), -np.ones(24)):
        with pytest.raises(ValueError, match="joint_weight: expected"):
            sh.trust(1.0, joint_weight=wrong)


def test_a_known_height_is_that_of_the_mesh():
    body = body_model.stand_in()
    betas = 2 * jax.random.normal(jax.random.key(0), (N, 10))
    first = replace(people().estimate, betas=betas)
    y = body.shaped(betas)[..., 1]
    tall = np.asarray(body.template)[:, 1]
    heights = y[:, tall.argmax()] - y[:, tall.argmin()]
    close("right", evaluate(sh.known_height(body, heights), hypothesis(first)), 0, atol=1e-10)
    close(
        "10 cm off",
        evaluate(sh.known_height(body, heights + 0.1), hypothesis(first)),
        0.01,
        rtol=1e-3,
    )
    with pytest.raises(ValueError, match="height: expected metres, found 180"):
        sh.known_height(body, 180)
    close("usual", evaluate(sh.usual_shape(1.0), hypothesis(first)), (betas**2).sum(-1), rtol=1e-5)


def test_what_holds_is_no_evidence():
    terms = [
        sh.trust(1.0),
        sh.known_height(body_model.stand_in(), 1.8),
        sh.usual_shape(1.0),
        sh.smooth_camera(),
        sh.foot_contact(names=SMPL_24, feet=("left_foot",)),
    ]
    _, info = sh.refine(prior(), skeleton(), people().estimate, people().features, terms, CONFIG)
    assert (info.status == NO_EVIDENCE).all()


FREE = replace(CONFIG, shape_rate=0.05)


@pytest.mark.slow
def test_a_free_shape_comes_nearer():
    rest = jnp.broadcast_to(jnp.eye(3), (N, 24, 3, 3))
    truth = replace(people().estimate, betas=4 * people().estimate.betas)
    terms = sh.keypoints_3d(sh.Keypoints3D(points_of(truth), np.ones((N, K))), weight=4000.0)
    start = replace(truth, betas=jnp.zeros((N, 10)))
    held, free = (
        sh.refine(prior(), skeleton(), start, people().features, terms, config)
        for config in (CONFIG, FREE)
    )
    assert (free[1].status == OK).all()
    true, before, after = (skeleton()(rest, b.betas) for b in (truth, held[0], free[0]))
    assert float(jnp.abs(after - true).mean()) < 0.9 * float(jnp.abs(before - true).mean())
    assert (np.asarray(held[0].betas) == 0).all()


@pytest.mark.slow
def test_a_shared_shape_is_one_for_the_group_and_padding_has_no_say():
    config = replace(FREE, share_shape=True)
    terms = evidence(people())
    mask = jnp.arange(N) < 4
    padded = replace(people().estimate, betas=people().estimate.betas.at[5].set(40.0))
    runs = [
        sh.refine(prior(), skeleton(), e, people().features, terms, config, mask)[0]
        for e in (people().estimate, padded)
    ]
    for found in runs:
        close("one shape", found.betas[:4], np.tile(found.betas[:1], (4, 1)), atol=1e-6)
        close("the same", found.betas[:4], runs[0].betas[:4], atol=1e-6)
    assert float(jnp.abs(runs[0].betas[0] - people().estimate.betas[:4].mean(0)).max()) > 0.02


def test_a_free_shape_that_makes_no_sense_is_refused():
    for wrong in ({"shape_rate": -1.0}, {"share_shape": True}):
        with pytest.raises(ValueError, match="shape_rate: expected"):
            sh.RefineConfig(**wrong)
    with pytest.raises(ValueError, match="share_shape: expected stop=Never"):
        sh.RefineConfig(shape_rate=0.1, share_shape=True, stop=sh.StepStop())
    with pytest.raises(ValueError, match="shape_rate: this prior refines the shape itself"):
        sh.Setup.of(small_prior(shape_features=4), skeleton(), FREE)


@pytest.mark.slow
def test_keypoints_and_consistency_together_beat_either_alone():
    body = skeleton()
    shipped = sh.load_prior("open-uncond")
    truth = scene(body, 1).estimate
    # A pose of people, as the prior knows no others.
    usual = axis_angle_to_matrix(jnp.asarray(sh.PoseGaussian.shipped().mean))
    truth = replace(truth, pose=truth.pose.at[:, 1:].set(usual))
    # One person, seen from four sides: the root turns with the camera, the body does not.
    turn = axis_angle_to_matrix(jnp.array([[0, 0.5 * np.pi * v, 0] for v in range(4)]))
    pose = jnp.repeat(truth.pose, 4, 0)
    pose = pose.at[:, 0].set(turn @ pose[:, 0])
    truth = sh.Estimate(pose, jnp.repeat(truth.betas, 4, 0), jnp.repeat(truth.translation, 4, 0))
    noise = axis_angle_to_matrix(0.25 * jax.random.normal(jax.random.key(0), (4, 24, 3)))
    estimate = replace(truth, pose=truth.pose @ noise)
    camera = sh.pinhole(jnp.full((4, 2), 1000.0), 1200.0)
    xy = sh.project(points_of(truth), camera)
    keypoints = sh.Keypoints2D(xy, jnp.ones(xy.shape[:-1]))
    refiner = sh.make_refiner(shipped, body, sh.RefineConfig(iterations=2))

    def error(by_keypoints, by_consistency, refiner=refiner):
        terms = [
            sh.keypoints_2d(keypoints, camera, weight=0.003 * by_keypoints),
            sh.multiview(weight=45.0 * by_consistency),
        ]
        found, info = refiner(estimate, None, terms)
        assert (info.status == OK).all()
        # Of the joints as they stand: the cameras see them, the root included.
        return float(jnp.linalg.norm(points_of(found) - points_of(truth), axis=-1).mean())

    together = error(1, 1)
    assert together < min(error(1, 0), error(0, 1))
    # This library's own loop for views, which has ten rounds, gets nearer still.
    assert error(1, 1, sh.make_refiner(shipped, body, sh.RefineConfig.for_views())) < together
