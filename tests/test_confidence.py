"""What is expected of a result: the signs of a refinement, and what follows from them."""

import importlib
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import refining
from refining import CONFIG, evidence, people, prior, skeleton

from scorehmr_jax.commands.estimate_summary import expectation
from scorehmr_jax.confidence import (
    SIGNS,
    Calibration,
    Signs,
    calibration_of,
    expect,
    fits,
    nobody_knows,
    of_refined,
    signs_of,
)
from scorehmr_jax.evaluation.metrics import similarity_align
from scorehmr_jax.evaluation.tasks import TASKS
from scorehmr_jax.formats.estimates import write_estimates
from scorehmr_jax.groups import unstack_groups
from scorehmr_jax.guidance import keypoints_2d, multiview, smooth
from scorehmr_jax.refine import RefineConfig, refine
from scorehmr_jax.screening import OK, as_refined
from scorehmr_jax.terms import weighted
from scorehmr_jax.types import Expectation, Info, Keypoints2D

N = refining.N
S = len(SIGNS)
ONES = jnp.ones(N, bool)
# The module; the package has a function of this name.
loop = importlib.import_module("scorehmr_jax.refine")


def calibration(**changes) -> Calibration:
    """Weights of signs by name; everything else 0."""

    def row(first: float, weights: dict[str, float]) -> tuple[float, ...]:
        return (first, *(weights.get(name, 0.0) for name in SIGNS))

    given = {"error": {}, "worse": {}, "joint_moved": 0.0, "low": -9.0, "high": 9.0} | changes
    return Calibration(
        row(4.0, given["error"]),
        row(-3.0, given["worse"]),
        tuple(np.linspace(-1, 1, 24)),
        given["joint_moved"],
        (given["low"],) * S,
        (given["high"],) * S,
    )


def some_signs(seed: int = 0, count: int = N) -> Signs:
    draw = np.random.default_rng(seed).uniform
    lengths = [draw(0.01, 0.1, count).astype(np.float32) for _ in range(8)]
    moved = draw(0.01, 0.1, (count, 24)).astype(np.float32)
    kept, residual, before, unseen, oddness, depth, around, motion = lengths
    return Signs(moved, kept, residual, before, unseen, 1000 * oddness, depth, around, motion)


def refined(seed: int = 3):
    """The people, turned a little."""
    given = people().estimate
    other = np.random.default_rng(seed).normal(size=(N, 24, 3)) * 0.1
    from body_model.rotations import axis_angle_to_matrix

    pose = axis_angle_to_matrix(jnp.asarray(other, jnp.float32)) @ given.pose
    return as_refined(replace(given, pose=pose))


def look(whole, result=None, mask=ONES, terms=None, given=None) -> Signs:
    given = people() if given is None else given
    terms = evidence(given) if terms is None else terms
    return signs_of(skeleton(), terms, given.estimate, whole, result or whole, mask)


def close(found, wanted, which=slice(None), rtol=1e-4):
    for name, value in vars(wanted).items():
        a, b = (np.asarray(x)[which] for x in (getattr(found, name), value))
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-5, err_msg=name)


def test_signs_are_what_they_say():
    given, whole = people(), refined()
    found = look(whole, as_refined(given.estimate))
    joints = [skeleton().joints(b.pose, given.estimate.betas) for b in (whole, given.estimate)]
    off = np.linalg.norm(similarity_align(*joints) - joints[1], axis=-1)
    np.testing.assert_allclose(found.moved, off, atol=1e-3)
    assert found.moved.mean() > 0.01 > 2e-3 > found.kept.max()
    np.testing.assert_allclose(found.residual, found.residual_before, rtol=1e-5)
    np.testing.assert_allclose(found.around, np.sqrt(np.square(off).mean()), rtol=0.02, atol=1e-3)
    assert (np.asarray(look(whole).residual) != np.asarray(found.residual_before)).all()


def test_a_residual_is_a_length_at_the_persons_distance():
    given = people()
    place = given.estimate.translation
    points = skeleton()(given.estimate.pose, given.estimate.betas) + place[:, None]
    aside = points + jnp.array([0.03, 0, 0])

    def seen(points, camera):
        xy = points[..., :2] / points[..., 2:] * camera.focal[:, None] + camera.center[:, None]
        return Keypoints2D(xy, jnp.full(xy.shape[:-1], 0.8).at[:, 4:7].set(0))

    for scale in (1, 4):
        camera = replace(
            given.camera,
            **{n: scale * getattr(given.camera, n) for n in ("focal", "center", "image_size")},
        )
        terms = (keypoints_2d(seen(aside, camera), camera),)
        found = look(as_refined(given.estimate), terms=terms).residual
        np.testing.assert_allclose(found, 0.03, rtol=0.05)


def test_keypoints_that_are_not_seen_change_nothing_but_their_share():
    given, whole = people(), refined()
    confidence = jnp.asarray(given.keypoints.confidence).at[:, :6].set(0)
    near, far = (
        Keypoints2D(jnp.asarray(given.keypoints.xy).at[:, :6].set(value), confidence)
        for value in (0.0, jnp.nan)
    )
    found, wanted = (look(whole, terms=(keypoints_2d(k, given.camera),)) for k in (far, near))
    close(found, wanted, rtol=0)
    assert np.isfinite(found.numbers()).all()
    np.testing.assert_allclose(found.unseen, 6 / 24)
    nothing = replace(near, confidence=0 * confidence)
    blind = look(whole, terms=(keypoints_2d(nothing, given.camera),))
    assert np.isfinite(blind.numbers()).all()
    unknown = expect(calibration(), blind)
    assert np.isinf(unknown.error).all() and (unknown.worse == 0.5).all()


def test_a_masked_sample_tells_its_neighbours_nothing():
    whole = refined()
    mask = jnp.arange(N) != 2
    broken = jax.tree.map(refining.spoil, whole)
    found, wanted = (look(w, mask=mask) for w in (broken, whole))
    close(found, wanted, rtol=0)
    assert np.isfinite(found.numbers()).all()

    def total(pose):
        signs = look(replace(broken, pose=pose), mask=mask)
        return jnp.where(mask, expect(calibration(error={"moved": 1.0}), signs).error, 0).sum()

    slope = jax.grad(total)(broken.pose)
    assert np.isfinite(slope).all() and not slope[2].any() and slope[1].any()


def test_expectation_by_hand():
    signs = some_signs()
    fitted = calibration(error={"moved": 0.3, "unseen": 2.0}, worse={"kept": 1.5}, joint_moved=0.7)
    found = expect(fitted, signs)
    moved = np.sqrt(np.square(signs.moved).mean(-1) + 1e-6)
    error = np.exp(4 + 0.3 * np.log(moved + 1e-3) + 2 * signs.unseen)
    np.testing.assert_allclose(found.error, error, rtol=1e-5)
    odds = np.exp(-3 + 1.5 * np.log(signs.kept + 1e-3))
    np.testing.assert_allclose(found.worse, odds / (1 + odds), rtol=1e-5)
    share = np.exp(np.linspace(-1, 1, 24)) * ((signs.moved + 1e-3) / (moved + 1e-3)[:, None]) ** 0.7
    wanted = error[:, None] * share / share.mean(-1, keepdims=True)
    np.testing.assert_allclose(found.joint_error, wanted, rtol=1e-4)
    np.testing.assert_allclose(found.joint_error.mean(-1), found.error, rtol=1e-5)


def test_signs_beyond_what_was_seen_count_as_the_outermost():
    fitted = calibration(error={"residual": 1.0}, low=-4.0, high=-3.0)
    signs = replace(some_signs(), residual=jnp.array([0.0, 1e-4, 0.02, 0.03, 0.5, 1e4]))
    error = np.log(expect(fitted, signs).error)
    np.testing.assert_allclose(error, 4 + np.clip(np.log(signs.residual + 1e-3), -4, -3), rtol=1e-5)


def test_one_by_one_and_all_at_once():
    signs = some_signs()
    fitted = calibration(error={"moved": 0.3, "depth": 0.2}, worse={"around": 0.4}, joint_moved=0.2)
    wanted = expect(fitted, signs)
    close(jax.jit(lambda s: expect(fitted, s))(signs), wanted, rtol=1e-5)
    close(jax.vmap(lambda s: expect(fitted, s))(signs), wanted, rtol=1e-5)
    groups = jax.tree.map(lambda a: a.reshape(2, 3, *a.shape[1:]), signs)
    both = expect(fitted, groups)
    assert both.joint_error.shape == (2, 3, 24)
    np.testing.assert_allclose(both.error.reshape(-1), wanted.error, rtol=1e-5)


def test_a_group_is_told_of_by_what_moved_and_how_alone():
    given, whole = people(), refined()
    alone = jax.tree.map(lambda a: a[1:2], whole)
    one = refining.rows(given, slice(1, 2))
    found = look(alone, mask=ONES[:1], given=one)
    wanted = jax.tree.map(lambda a: a[1:2], look(whole))
    own = {"around": np.sqrt(np.square(found.moved).mean(-1)), "motion": 1e-3}
    close(found, replace(wanted, **{k: np.broadcast_to(v, 1) for k, v in own.items()}), rtol=1e-3)
    joints = np.asarray(skeleton().joints(whole.pose, whole.betas))
    bent = np.diff(joints - joints[:, :1], n=2, axis=0)
    motion = np.sqrt(np.square(bent).sum(-1).mean())
    np.testing.assert_allclose(look(whole).motion, motion, rtol=1e-3)
    some = np.arange(N) != 2
    masked = look(whole, mask=jnp.asarray(some))
    around = np.sqrt(np.square(np.asarray(look(whole).moved)[some]).mean())
    np.testing.assert_allclose(masked.around, around, rtol=1e-3)
    # Of five frames in order only the last three are neighbours.
    bent = np.diff(joints - joints[:, :1], n=2, axis=0)[3]
    np.testing.assert_allclose(masked.motion, np.sqrt(np.square(bent).sum(-1).mean()), rtol=1e-3)


def test_derivatives_are_finite_where_nothing_moved():
    given = people()
    still = as_refined(given.estimate)
    weights = dict.fromkeys(SIGNS, 0.3)

    def total(x):
        whole = replace(still, pose=x)
        told = expect(calibration(error=weights, worse=weights, joint_moved=0.2), look(whole))
        return told.joint_error.sum() + told.worse.sum()

    value, slope = jax.jit(jax.value_and_grad(total))(given.estimate.pose)
    assert np.isfinite(value) and np.isfinite(slope).all()


def test_who_was_not_refined_is_not_worse_and_not_known():
    found = of_refined(expect(calibration(), some_signs()), jnp.arange(N) != 1)
    assert found.worse[1] == 0 and np.isinf(found.error[1]) and np.isinf(found.joint_error[1]).all()
    assert np.isfinite(np.delete(found.joint_error, 1, 0)).all()


@pytest.mark.parametrize("count", [24, 25, 41, 55])
def test_whoever_was_not_seen_at_all_is_not_known(count):
    # A mean of so many ones is not always one.
    unseen = jax.jit(lambda c: (c < 0.3).astype(jnp.float32).mean(-1))(jnp.zeros((N, count)))
    found = expect(calibration(), replace(some_signs(), unseen=unseen))
    assert np.isinf(found.error).all() and (found.worse == 0.5).all()


def test_of_a_loop_that_is_not_calibrated_nothing_is_expected():
    told = nobody_knows(np.array([True, False]))
    assert told.worse.tolist() == [0.5, 0.0] and np.isinf(told.joint_error).all()


def shipped() -> dict[str, RefineConfig]:
    return {
        "images": RefineConfig.for_images(),
        "video": RefineConfig.for_video(),
        "views": RefineConfig.for_views(),
        "images, lifted": RefineConfig.for_images(lifted=True),
        "video, lifted": RefineConfig.for_video(lifted=True),
    }


def terms_of(name: str) -> tuple:
    task = {"images": "keypoints", "video": "video", "views": "multiview"}[name.split(",")[0]]
    return TASKS[task].guidance("default", people().keypoints, people().camera)


@pytest.mark.parametrize("name", [*shipped()])
def test_every_loop_of_ours_is_calibrated_as_it_is_today(name):
    fitted = calibration_of(shipped()[name], terms_of(name))
    assert fitted is not None, (
        f"the loop for {name} changed: run python -m benchmarks.confidence --data DIR --write "
        "--plot docs/images/confidence.png"
    )
    assert fitted.joints == tuple(fits()[name]["calibration"]["joints"])
    # What docs/confidence.md promises.
    signs = some_signs(count=200)
    less = expect(fitted, signs)
    for sign in ("moved", "residual", "oddness"):
        more = expect(fitted, replace(signs, **{sign: 1.3 * getattr(signs, sign)}))
        assert (more.error >= less.error * (1 - 1e-5)).all(), sign
    assert ((less.worse > 0) & (less.worse < 1)).all()
    assert ((less.error > 3) & (less.error < 300)).all()


def test_other_loops_and_terms_are_not():
    given = people()
    points = keypoints_2d(given.keypoints, given.camera)
    known = RefineConfig.for_images()
    assert calibration_of(known, (points,)) is not None
    assert calibration_of(known, (weighted(1.0, points),)) is not None
    careful = replace(known, network_precision="bfloat16", keep_without_evidence=False)
    assert calibration_of(careful, (points,)) is not None
    for config, terms in (
        (RefineConfig(), (points,)),
        (RefineConfig.released(), (points,)),
        (RefineConfig.for_images(iterations=3), (points,)),
        (known, (points, smooth())),
        (known, (points, points)),
        (known, (weighted(1.0, lambda h: h.pose_6d[..., 0]),)),
        (RefineConfig.for_views(), (multiview(),)),
    ):
        assert calibration_of(config, terms) is None


@pytest.fixture
def calibrated(monkeypatch):
    """Every loop is, by numbers that the test knows."""
    fitted = calibration(error={"moved": 0.3, "residual": 0.4}, worse={"kept": 0.5})
    monkeypatch.setattr(loop, "calibration_of", lambda config, terms: fitted)
    jax.clear_caches()
    yield fitted
    jax.clear_caches()


def refine_people(given, terms=None):
    config = replace(CONFIG, camera_rate=0.012)
    terms = evidence(given)[:1] if terms is None else terms
    return refine(prior(), skeleton(), given.estimate, given.features, terms, config)


def test_a_loop_says_what_to_expect_and_a_bad_sample_harms_nobody(calibrated):
    given = people()
    whole, info = refine_people(given)
    assert info.expected.error.shape == (N,) and info.expected.joint_error.shape == (N, 24)
    wanted = expect(calibrated, look(whole, terms=evidence(given)[:1]))
    close(info.expected, wanted, rtol=1e-3)
    estimate = replace(given.estimate, pose=refining.spoil(given.estimate.pose))
    again, spoilt = refine_people(replace(given, estimate=estimate))
    others = np.arange(N) != 2
    assert spoilt.status[2] != OK and spoilt.expected.worse[2] == 0
    assert np.isinf(spoilt.expected.error[2])
    close(spoilt.expected, info.expected, others, rtol=1e-4)
    refining.same(again, whole, among=others)


def test_the_papers_loop_expects_nothing():
    assert refine_people(people())[1].expected is None


def test_groups_are_taken_apart():
    told = jax.tree.map(
        lambda a: a.reshape(2, 3, *a.shape[1:]), expect(calibration(), some_signs())
    )
    info = Info(np.zeros((2, 3), int), np.zeros((2, 3), int), np.zeros((4, 2, 3)), None, told)
    first, second = unstack_groups(info, [3, 2])
    np.testing.assert_array_equal(first.expected.joint_error, told.joint_error[0])
    np.testing.assert_array_equal(second.expected.worse, told.worse[1, :2])


def test_files_carry_it(tmp_path):
    given = people()
    told = expect(calibration(), some_signs())
    file = tmp_path / "refined.npz"
    write_estimates(file, given.estimate, given.camera, expected=told)
    with np.load(file) as held:
        np.testing.assert_array_equal(held["expected_error"], told.error)
        np.testing.assert_array_equal(held["expected_worse"], told.worse)
        assert held["expected_joint_error"].shape == (N, 24)
    with pytest.raises(ValueError, match=r"expected.worse: expected shape \(6,\), found \(5,\)"):
        write_estimates(file, given.estimate, expected=jax.tree.map(lambda a: a[:5], told))


def test_commands_say_it_in_a_line():
    told = Expectation(
        np.array([0.0, 0.1, 0.3]), np.array([np.inf, 40.0, 50.0]), np.full((3, 24), 45.0)
    )
    (line,) = expectation(told)
    assert "45 mm from the truth (41 to 49 in most), were these" in line
    assert not [*expectation(nobody_knows(np.ones(3, bool)))]


def test_under_jaxs_strictest_switches():
    weights = dict.fromkeys(SIGNS, 0.3)
    fitted = calibration(error=weights, worse=weights, joint_moved=0.2)
    whole = refined()
    terms = evidence(people())
    with (
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
        jax.debug_nans(True),
    ):
        found = expect(fitted, look(whole, terms=terms))
    assert np.isfinite(found.joint_error).all() and found.error.dtype == np.float32


def test_numbers_of_a_calibration_are_counted():
    with pytest.raises(ValueError, match=f"worse: expected {1 + S} numbers, found 2"):
        replace(calibration(), worse=(0.0, 1.0))
    with pytest.raises(ValueError, match="expected one keypoints_2d among them, found 0"):
        look(refined(), terms=(smooth(),))
