"""The way back from a refinement to its estimate."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import refining
from refining import CONFIG, evidence, people, prior, rows, same, skeleton

from body_model.joints import PARENTS
from body_model.rotations import axis_angle_to_matrix
from scorehmr_jax.blending import (
    Change,
    FixedShares,
    GatedShares,
    KeepAll,
    MeanOfViews,
    Shares,
    SmoothedEstimate,
    blend,
)
from scorehmr_jax.evaluation.metrics import similarity_align
from scorehmr_jax.groups import stack_groups, unstack_groups
from scorehmr_jax.guidance import keypoints_2d
from scorehmr_jax.prior import rotations_to_x, x_to_rotations
from scorehmr_jax.refine import RefineConfig, refine
from scorehmr_jax.screening import DIVERGED, as_refined
from scorehmr_jax.terms import weighted
from scorehmr_jax.types import Estimate, Refined

N = 5


def bodies(seed: int, count: int = N) -> Estimate:
    draw = np.random.default_rng(seed).normal
    pose = axis_angle_to_matrix(jnp.asarray(0.3 * draw(size=(count, 24, 3)), jnp.float32))
    place = jnp.asarray([0, 0, 5] + 0.2 * draw(size=(count, 3)), jnp.float32)
    return Estimate(pose, jnp.asarray(draw(size=(count, 10)), jnp.float32), place)


def change(moved, misfit=None, depth=None) -> Change:
    """A change of usual misfit and depth."""
    ones = jnp.ones_like(moved)
    return Change(
        moved, ones if misfit is None else misfit, 0.06 * ones if depth is None else depth
    )


def blended(rule, estimate, refined, mask=None, terms=()):
    """`blend`, outside a loop."""
    mask = jnp.ones(len(estimate.pose), bool) if mask is None else mask
    return blend(rule, skeleton(), terms, estimate, refined, mask)


@pytest.fixture(scope="module")
def before() -> Estimate:
    return bodies(0)


@pytest.fixture(scope="module")
def after(before) -> Refined:
    return as_refined(replace(bodies(1), betas=before.betas))


def test_nothing_kept_is_the_estimate_and_all_of_it_the_refinement(before, after):
    same(blended(FixedShares(0.0, 0.0, 0.0), before, after)[0], as_refined(before), atol=1e-6)
    same(blended(FixedShares(1.0, 1.0, 1.0), before, after)[0], after, atol=1e-6)
    same(blended(KeepAll(), before, after)[0], after, atol=1e-6)
    taller = replace(after, betas=after.betas + 3)
    none, whole = FixedShares(0.0, 0.0, 0.0), FixedShares(1.0, 1.0, 1.0)
    np.testing.assert_allclose(blended(none, before, taller)[0].betas, before.betas, atol=1e-6)
    np.testing.assert_allclose(blended(whole, before, taller)[0].betas, taller.betas, atol=1e-6)


def test_each_part_goes_its_own_share_of_the_way(before):
    turn = axis_angle_to_matrix(jnp.array([0.0, 0.0, 0.8]))
    start = replace(before, pose=jnp.broadcast_to(jnp.eye(3), before.pose.shape))
    end = replace(start, pose=jnp.broadcast_to(turn, before.pose.shape))
    end = replace(end, translation=start.translation + 1)
    found, _ = blended(FixedShares(body=0.5, root=1.0, translation=0.25), start, as_refined(end))
    half = axis_angle_to_matrix(jnp.array([0.0, 0.0, 0.4]))
    np.testing.assert_allclose(found.pose[:, 0], end.pose[:, 0], atol=1e-6)
    np.testing.assert_allclose(found.pose[:, 1:], jnp.broadcast_to(half, (N, 23, 3, 3)), atol=1e-6)
    np.testing.assert_allclose(found.translation, start.translation + 0.25, atol=1e-6)


def test_the_gate_opens_with_the_distance_and_closes_with_the_misfit():
    rule = GatedShares(distance=0.08, power=3.5, misfit_power=4.0, root_factor=1.5)
    moved = jnp.array([1e-9, 0.04, 0.08, 0.16, 0.08, 0.08])
    misfit = jnp.array([1.0, 1.0, 1.0, 1.0, 0.5, 2.0])
    shares = rule.shares(change(moved, misfit), jnp.ones(6, bool))
    wanted = moved**3.5 / (moved**3.5 + 0.08**3.5 * misfit**4)
    np.testing.assert_allclose(shares.body, wanted, rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(shares.root, np.minimum(1.5 * wanted, 1), rtol=1e-4, atol=1e-9)
    least = replace(rule, root_least=0.3).shares(change(moved, misfit), jnp.ones(6, bool))
    np.testing.assert_allclose(least.root, np.minimum(0.3 + 1.5 * wanted, 1), rtol=1e-4)
    np.testing.assert_array_equal(shares.translation, 1)
    assert (
        float(shares.body[2]) == pytest.approx(0.5) and shares.body[4] > 0.9 > 0.1 > shares.body[5]
    )


def test_shares_of_a_video_follow_the_mean_of_a_window():
    rule = GatedShares(distance=0.05, frames=2.0)
    shaken = jnp.where(jnp.arange(40) % 2 == 0, 0.05 / 1.4, 0.05 * 1.4)
    ones = jnp.ones(40, bool)
    steady = rule.shares(change(shaken), jnp.ones(40, bool)).body[8:-8]
    assert np.ptp(steady) < 0.01 and np.abs(steady - 0.5).max() < 0.01
    assert np.ptp(replace(rule, frames=0.0).shares(change(shaken), jnp.ones(40, bool)).body) > 0.3
    # What is not refined tells nothing.
    odd = jnp.where(jnp.arange(40) == 20, 1e3, 0.05)
    near = replace(rule, misfit_power=2.0).shares(change(0 * odd + 0.05, odd / 0.05), ones)
    assert np.abs(np.delete(near.body, slice(12, 29)) - 0.5).max() < 0.01 < near.body[17] - 0.1
    masked = rule.shares(change(odd), jnp.arange(40) != 20).body
    np.testing.assert_allclose(np.delete(masked, 20), 0.5, atol=1e-5)


def test_of_bones_along_the_view_less_is_kept():
    rule = GatedShares(distance=0.08, power=2.0, depth_power=3.0)
    depth = jnp.array([0.03, 0.06, 0.12])
    shares = rule.shares(change(jnp.full(3, 0.08), depth=depth), jnp.ones(3, bool))
    np.testing.assert_allclose(shares.body, 1 / (1 + (depth / 0.06) ** 3), rtol=1e-4)


def test_how_far_bones_reach_along_the_view_is_the_cameras_to_say(before, after):
    given = people()
    still = as_refined(given.estimate)
    blended(Seen(), given.estimate, still, terms=evidence(given))
    joints = np.asarray(skeleton().joints(given.estimate.pose, given.estimate.betas))
    bones = joints[:, 1:] - joints[:, np.asarray(PARENTS[1:])]
    np.testing.assert_allclose(Seen.change.depth, np.abs(bones[..., 2]).mean(-1), rtol=1e-4)
    # From the left, what was across is along the view.
    left = np.array([[0.0, 0, -1], [0, 1, 0], [1, 0, 0]], np.float32)
    side = replace(given.camera, rotation=np.broadcast_to(left, (refining.N, 3, 3)))
    terms = (weighted(2.0, keypoints_2d(given.keypoints, side)),)
    blended(Seen(), given.estimate, still, terms=terms)
    np.testing.assert_allclose(Seen.change.depth, np.abs(bones[..., 0]).mean(-1), rtol=1e-4)
    blended(Seen(), given.estimate, still)
    np.testing.assert_allclose(Seen.change.depth, 0.06, rtol=1e-6)


class Seen(GatedShares):
    """Remembers what it was asked about."""

    def shares(self, change, mask):
        Seen.change = change
        return super().shares(change, mask)


def test_what_moved_is_measured_after_the_best_similarity(before, after):
    blended(Seen(), before, after)
    moved, still = (skeleton().joints(b.pose, before.betas) for b in (after, before))
    off = similarity_align(moved, still) - still
    np.testing.assert_allclose(Seen.change.moved, np.sqrt((off**2).sum(-1).mean(-1)), rtol=1e-4)
    np.testing.assert_array_equal(Seen.change.misfit, 1)
    turned = before.pose.at[:, 0].set(after.pose[:, 0])
    blended(Seen(), before, as_refined(replace(before, pose=turned)))
    assert Seen.change.moved.max() < 1e-6


def test_misfit_is_of_the_terms_that_measure():
    given, terms = people(), evidence(people(), smoothness=5.0)
    there = replace(given.estimate, translation=given.estimate.translation + 0.1)
    blended(Seen(), given.estimate, as_refined(there), terms=terms)
    of_keypoints = Seen.change.misfit
    assert (of_keypoints > 1).all()
    blended(Seen(), given.estimate, as_refined(there), terms=(weighted(7.0, terms[0]),))
    np.testing.assert_allclose(Seen.change.misfit, of_keypoints, rtol=1e-5)
    silent = evidence(people(), weight=0.0)[0]
    blended(Seen(), given.estimate, as_refined(there), terms=(silent,))
    np.testing.assert_array_equal(Seen.change.misfit, 1)
    blended(Seen(), given.estimate, as_refined(there), terms=terms[1:])
    np.testing.assert_array_equal(Seen.change.misfit, 1)


def test_joints_of_a_skeleton_are_those_of_the_body():
    from body_model import Skeleton, stand_in

    pose, betas = bodies(3).pose, bodies(3).betas
    few = Skeleton.of(stand_in(), ("left_wrist", "head"))
    np.testing.assert_allclose(few.joints(pose, betas), stand_in().joints(pose, betas), atol=2e-6)


def test_a_smoothed_anchor_is_the_windows_mean_of_refined_frames(before):
    mask = jnp.array([True, True, False, True, True])
    found = rotations_to_x(SmoothedEstimate(frames=1.0, curved=False)(before, mask).pose)
    x = np.asarray(rotations_to_x(before.pose))
    for n in (0, 1, 3, 4):
        weight = np.exp(-0.5 * (np.arange(N) - n) ** 2) * (np.abs(np.arange(N) - n) <= 3) * mask
        mean = np.tensordot(weight / weight.sum(), x, 1)
        np.testing.assert_allclose(found[n], rotations_to_x(x_to_rotations(mean)), atol=1e-5)
    np.testing.assert_allclose(found[2], x[2], atol=1e-6)


def test_a_curved_anchor_follows_what_bends_and_smooths_what_shakes():
    count, turn = 41, np.linspace(-1, 1, 41)
    draw = np.random.default_rng(0).normal(scale=0.05, size=(count, 24, 3))

    def turned(angles):
        pose = axis_angle_to_matrix(jnp.asarray(angles, jnp.float32))
        return Estimate(pose, jnp.zeros((count, 10)), jnp.zeros((count, 3)))

    bent = np.zeros((count, 24, 3))
    bent[..., 0] = 1.5 * turn[:, None] ** 2
    everyone = jnp.ones(count, bool)

    def off(anchor, given, true):
        return np.abs(np.asarray(anchor(given, everyone).pose - true.pose)).mean()

    mean, curve = SmoothedEstimate(2.0, curved=False), SmoothedEstimate(2.0)
    assert off(curve, turned(bent), turned(bent)) < 0.1 * off(mean, turned(bent), turned(bent))
    still = turned(0 * bent)
    left = (
        off(curve, turned(draw), still),
        np.abs(np.asarray(turned(draw).pose - still.pose)).mean(),
    )
    assert left[0] < 0.6 * left[1]


def test_the_mean_of_views_leaves_each_its_own_root(before):
    mask = jnp.array([True, True, False, True, True])
    found = MeanOfViews()(before, mask).pose
    mean = np.asarray(rotations_to_x(before.pose))[np.asarray(mask)].mean(0)
    body = x_to_rotations(jnp.asarray(mean))[1:]
    np.testing.assert_allclose(found[:, 0], before.pose[:, 0], atol=1e-6)
    np.testing.assert_allclose(found[0, 1:], body, atol=1e-5)
    np.testing.assert_allclose(found[4, 1:], body, atol=1e-5)
    np.testing.assert_allclose(found[2], before.pose[2], atol=1e-6)


def test_what_is_not_refined_stays_so_and_reaches_no_neighbour(before, after):
    rule = GatedShares(frames=2.0, anchor=SmoothedEstimate())
    mask = jnp.arange(N) != 2
    broken = replace(
        after,
        pose_6d=after.pose_6d.at[2].set(jnp.nan),
        translation=after.translation.at[2].set(jnp.nan),
    )
    found, wanted = (blended(rule, before, b, mask)[0] for b in (broken, after))
    assert np.isnan(found.translation[2]).all()
    same(found, wanted, atol=1e-7, among=np.asarray(mask))

    def total(pose):
        out = blended(rule, before, replace(broken, pose=pose), mask)[0]
        return jnp.sum(jnp.where(mask, out.pose.sum((-3, -2, -1)), 0))

    slope = jax.jit(jax.grad(total))(broken.pose)
    assert np.isfinite(slope).all() and not slope[2].any() and slope[1].any()


def behind(hypothesis):
    """Draws the third sample through the camera."""
    third = jnp.arange(refining.N) == 2
    return jnp.where(third, hypothesis.translation[..., 2] * 1e3, 0)


def test_a_body_that_left_the_sight_is_not_averaged_back():
    config = replace(CONFIG, camera_rate=5.0, blend=FixedShares(0.5, 0.5, 0.5))
    given = people()
    terms = (evidence(given)[0], weighted(1.0, behind))
    found, info = refine(prior(), skeleton(), given.estimate, given.features, terms, config)
    assert info.status[2] == DIVERGED and info.kept_share[2] == 0
    refining.is_estimate(found, given.estimate, 2)


def test_gradient_is_finite_where_nothing_moved_and_right_elsewhere(before, after):
    rule = GatedShares(distance=0.1, power=2.0)

    def total(x, still):
        refined = Refined(x_to_rotations(x), before.betas, before.translation, x)
        found = blended(rule, still, refined)[0]
        return jnp.sum(found.pose * jnp.arange(3.0)) + found.translation.sum()

    value, slope = jax.jit(total), jax.jit(jax.grad(total, (0, 1)))
    still = jax.tree.leaves(slope(rotations_to_x(before.pose), before))
    assert all(np.isfinite(leaf).all() for leaf in still)
    x = after.pose_6d
    away = jnp.asarray(np.random.default_rng(5).normal(size=x.shape), jnp.float32)
    step = 1e-2
    slopes = [
        (value(x + s * away, before) - value(x - s * away, before)) / (2 * s) for s in (step,)
    ]
    np.testing.assert_allclose((slope(x, before)[0] * away).sum(), slopes[0], rtol=2e-2)


def test_a_loop_keeps_shares_and_says_which():
    config = replace(CONFIG, blend=GatedShares(distance=0.01))
    given, terms = people(), evidence(people())
    whole, info = refine(prior(), skeleton(), given.estimate, given.features, terms, config)
    assert info.kept_share.shape == info.status.shape
    assert ((info.kept_share > 0) & (info.kept_share < 1)).all()
    one = rows(given, slice(1, 2))
    alone, own = refine(prior(), skeleton(), one.estimate, one.features, evidence(one), config)
    same(alone, refining.tree(lambda a: a[1:2], whole))
    np.testing.assert_allclose(own.kept_share, info.kept_share[1:2], atol=1e-5)
    (stacked,), mask = stack_groups([(info.kept_share,)])
    assert stacked.shape == (1, *info.kept_share.shape)
    group = replace(
        info,
        status=info.status[None],
        stop_step=info.stop_step[None],
        losses=info.losses[:, None],
        kept_share=info.kept_share[None],
    )
    back = unstack_groups(group, mask)[0]
    np.testing.assert_array_equal(back.kept_share, info.kept_share)
    np.testing.assert_array_equal(back.losses, info.losses)


def test_a_guidance_scale_is_a_factor_of_all_weights():
    given = people()
    half = replace(CONFIG, guidance_scale=0.5)
    args = prior(), skeleton(), given.estimate, given.features
    found = refine(*args, evidence(given, smoothness=10.0), half)[0]
    same(found, refine(*args, evidence(given, smoothness=5.0, weight=0.0015), CONFIG)[0])


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: FixedShares(body=1.5), "body: expected a share, 0 to 1, found 1.5"),
        (lambda: GatedShares(distance=0.0), "distance: expected 1e-06 or more, found 0.0"),
        (lambda: GatedShares(most=2.0), "most: expected a share"),
        (lambda: GatedShares(root_least=-0.1), "root_least: expected a share"),
        (lambda: GatedShares(depth_power=-1.0), "depth_power: expected 0 or more"),
        (lambda: SmoothedEstimate(frames=0.0), "frames: expected a number above 0, found 0.0"),
        (lambda: RefineConfig(blend=0.5), "blend: expected a rule"),
        (lambda: RefineConfig(guidance_scale=0.0), "guidance_scale: expected a number above 0"),
    ],
)
def test_shares_that_are_none_are_refused(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_a_rule_of_the_users_own_decides(before, after):
    class BodyAlone(KeepAll):
        blends = True

        def shares(self, change, mask):
            one = jnp.ones_like(change.moved)
            return Shares(one, 0 * one, 0 * one)

    found = blended(BodyAlone(), before, after)[0]
    np.testing.assert_allclose(found.pose[:, 0], before.pose[:, 0], atol=1e-6)
    np.testing.assert_allclose(found.pose[:, 1:], after.pose[:, 1:], atol=1e-6)
    np.testing.assert_array_equal(found.translation, before.translation)


@pytest.mark.parametrize(
    "anchor", [SmoothedEstimate(), SmoothedEstimate(curved=False), MeanOfViews()]
)
def test_under_jaxs_strictest_switches(before, after, anchor):
    given, terms = people(), evidence(people())
    there = as_refined(replace(given.estimate, translation=given.estimate.translation + 0.1))
    rule = GatedShares(misfit_power=2.0, frames=3.0, anchor=anchor)
    with (
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
        jax.debug_nans(True),
    ):
        found, shares = blended(rule, given.estimate, there, terms=terms)
    assert jnp.isfinite(found.pose).all() and shares.body.dtype == found.pose.dtype


def test_keypoints_of_a_large_person_weigh_as_those_of_a_smaller_one():
    given = people()
    term = weighted(2.0, evidence(given)[0])
    camera, depth = given.camera, np.asarray(given.estimate.translation)[:, 2]
    metre = 1000 * np.mean(camera.focal, -1) / np.max(camera.image_size, -1) / depth
    largest = float(np.median(metre))
    found = term.tempered(given.estimate, largest).weight
    wanted = 2 * 0.003 * np.minimum(1, largest / metre) ** 2
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert found.min() < found.max()
    # In the frame of another camera, who is near to it may be anywhere.
    half = np.array([[-1.0, 0, 0], [0, 1, 0], [0, 0, -1]], np.float32)
    halves = np.broadcast_to(half, (refining.N, 3, 3))
    turned = replace(camera, rotation=halves, translation=np.zeros_like(halves[..., 0]))
    there = replace(given.estimate, translation=given.estimate.translation @ half)
    term = keypoints_2d(given.keypoints, turned)
    np.testing.assert_allclose(term.tempered(there, largest).weight, wanted / 2, rtol=1e-5)
    with pytest.raises(ValueError, match="largest_person: expected a number above 0"):
        RefineConfig(largest_person=0.0)
    loops = [RefineConfig.for_images(), RefineConfig.for_video(), RefineConfig.for_views()]
    loops += [RefineConfig.for_images(lifted=True), RefineConfig.for_video(lifted=True)]
    assert (
        all(loop.largest_person < 300 for loop in loops) and RefineConfig().largest_person is None
    )


@pytest.mark.slow
def test_a_bad_estimate_harms_no_derivative_of_its_neighbours():
    blending = GatedShares(frames=2.0, anchor=SmoothedEstimate())
    config = replace(CONFIG, iterations=1, start=2, blend=blending)
    given, terms = people(), evidence(people(), smoothness=1.0)
    others = jnp.arange(refining.N) != 2

    def total(pose):
        estimate = replace(given.estimate, pose=pose)
        found, info = refine(prior(), skeleton(), estimate, given.features, terms, config)
        return jnp.where(others, found.pose.sum((-3, -2, -1)), 0).sum(), info.status

    spoilt = refining.spoil(given.estimate.pose)
    slope, status = jax.jit(jax.grad(total, has_aux=True))(spoilt)
    assert status[2] and not status[others].any()
    assert np.isfinite(slope).all() and slope[1].any()
