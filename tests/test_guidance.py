"""The terms: values and gradients against the released code, masks, and bad observations."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bodies import HERE, arrays, close, dot, random_like, relative, slope

from scorehmr_jax.camera import pinhole
from scorehmr_jax.guidance import (
    MULTIVIEW_WEIGHT,
    as_terms,
    geman_mcclure,
    keypoints_2d,
    multiview,
    smooth,
    total_loss,
    weighted,
)
from scorehmr_jax.types import Camera, Estimate, Hypothesis, Keypoints2D

N, K = 4, 6
evaluate = jax.jit(lambda term, hypothesis: term(hypothesis))


@pytest.fixture(scope="module")
def geometry():
    return arrays(HERE / "geometry.npz")


def hypothesis(joints=None, translation=None, pose_6d=None, mask=None, n=N):
    pose_6d = np.zeros((n, 144), np.float32) if pose_6d is None else pose_6d
    rows = pose_6d.shape[:-1]
    joints = np.zeros((*rows, K, 3), np.float32) if joints is None else joints
    translation = np.zeros((*rows, 3), np.float32) if translation is None else translation
    pose = np.broadcast_to(np.eye(3, dtype=np.float32), (*pose_6d.shape[:-1], 24, 3, 3))
    mask = np.ones(pose_6d.shape[:-1], bool) if mask is None else np.asarray(mask)
    betas = np.zeros((*pose_6d.shape[:-1], 10), np.float32)
    first = Estimate(pose, betas, translation)
    numbers = (pose_6d, pose, betas, joints, translation, mask, np.float32(0))
    return Hypothesis(*map(jnp.asarray, numbers), jax.tree.map(jnp.asarray, first))


def people(seed=0, dtype=np.float32):
    """Bodies five metres away, and detections near where they project."""
    rng = np.random.default_rng(seed)
    joints = rng.uniform(-0.5, 0.5, (N, K, 3)).astype(dtype)
    translation = np.tile(np.array([0, 0, 5], dtype), (N, 1))
    camera = pinhole(np.full((N, 2), 1000, dtype), 1000.0)
    xy = 500 + 200 * joints[..., :2] + rng.normal(0, 5, (N, K, 2)).astype(dtype)
    seen = Keypoints2D(xy, rng.uniform(0.2, 1, (N, K)).astype(dtype))
    return hypothesis(joints, translation), seen, camera


def released_keypoints(g):
    camera = Camera(g["proj_focal"], g["proj_center"], g["kp_img_size"])
    term = keypoints_2d(Keypoints2D(g["kp_joints_2d"], g["kp_joints_conf"][..., 0]), camera)
    return term, hypothesis(g["proj_points"], g["proj_translation"], n=8)


def test_keypoint_loss_equals_the_released_code(geometry):
    term, body = released_keypoints(geometry)
    close("kp_loss", evaluate(term, body), geometry["kp_loss"], rtol=1e-5)


def test_keypoint_gradients_equal_the_released_code(geometry):
    term, body = released_keypoints(geometry)

    def loss(joints, translation):
        return jnp.sum(term(replace(body, joints=joints, translation=translation)))

    found = jax.jit(jax.grad(loss, (0, 1)))(body.joints, body.translation)
    relative("kp_grad_joints", found[0], geometry["kp_grad_joints"], 1e-4)
    relative("kp_grad_cam", found[1], geometry["kp_grad_cam"], 1e-4)


def test_geman_mcclure_equals_the_released_code(geometry):
    found = geman_mcclure(geometry["gmof_x"], 100.0)
    close("gmof_sigma100", found, geometry["gmof_sigma100"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.int16, np.float16, ">f4"])
def test_geman_mcclure_of_whole_and_half_numbers_is_that_of_the_numbers(dtype):
    found = geman_mcclure(np.array([300, 1000]).astype(dtype), 100)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, [9000, 9900.99], rtol=1e-6)


def test_multiview_equals_the_released_code(geometry):
    pose = geometry["mv_pose"].reshape(4, -1)
    pose = np.concatenate([np.full((4, 6), 9, np.float32), pose], axis=1)  # the root is not asked

    def loss(pose_6d):
        return 300.0**2 * jnp.sum(multiview()(hypothesis(pose_6d=pose_6d)))

    value, gradient = jax.jit(jax.value_and_grad(loss))(jnp.asarray(pose))
    close("mv_loss", value, geometry["mv_loss"], rtol=1e-5)
    relative("mv_grad", gradient[:, 6:].reshape(4, 23, 6), geometry["mv_grad"], 1e-4)
    close("gradient by the root", gradient[:, :6], np.zeros((4, 6)))
    assert float(multiview().weight) == pytest.approx(0.005 * 300**2) == MULTIVIEW_WEIGHT


def test_smooth_equals_the_released_code(geometry):
    def loss(pose_6d):
        losses = smooth()(hypothesis(pose_6d=pose_6d, n=24))
        return jnp.sum(losses), losses

    run = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (_, losses), gradient = run(jnp.asarray(geometry["smooth_pose"]))
    close("smooth_loss", losses[1:], geometry["smooth_loss"], rtol=1e-5)
    close("the first frame has no pair", losses[0], 0)
    relative("smooth_grad", gradient, geometry["smooth_grad"], 1e-4)


def test_known_values():
    body, _, camera = people()
    there = np.ones((N, K), np.float32)
    depth = body.joints[..., 2:] + 5
    exact = Keypoints2D(500 + 1000 * body.joints[..., :2] / depth, there)
    close("nothing is wrong", evaluate(keypoints_2d(exact, camera), body), np.zeros(N), atol=1e-6)
    off = Keypoints2D(exact.xy + np.array([100.0, 0]), there)
    # At an error of sigma the robust error is half of sigma squared.
    close(
        "100 px off in x",
        evaluate(keypoints_2d(off, camera), body),
        np.full(N, K * 5000.0),
        rtol=1e-4,
    )
    large = replace(camera, image_size=np.full((N, 2), [1500.0, 2000.0], np.float32))
    close(
        "in a larger image",
        evaluate(keypoints_2d(off, large), body),
        np.full(N, K * 1250.0),
        rtol=1e-4,
    )
    wide = keypoints_2d(off, camera, sigma=1e4)
    close("with a wide sigma", evaluate(wide, body), np.full(N, K * 1e4), rtol=1e-3)
    half = Keypoints2D(off.xy, there / 2)
    close(
        "half confidence",
        evaluate(keypoints_2d(half, camera), body),
        np.full(N, K * 1250.0),
        rtol=1e-4,
    )


def test_padding_says_nothing():
    pose = np.random.default_rng(0).standard_normal((N, 144)).astype(np.float32)
    mask = np.array([True, True, True, False])
    padded = hypothesis(pose_6d=pose, mask=mask)
    alone = hypothesis(pose_6d=pose[:3])
    for term in (multiview(), smooth()):
        close(f"{term}", evaluate(term, padded), np.append(evaluate(term, alone), 0), rtol=1e-4)
        slopes = jax.grad(lambda x, term=term: jnp.sum(term(hypothesis(pose_6d=x, mask=mask))))(
            jnp.asarray(pose)
        )
        close("gradient of padding", slopes[3], np.zeros(144))


def test_what_is_not_finite_in_padding_comes_back_in_no_gradient():
    rng = np.random.default_rng(0)
    pose = rng.standard_normal((N, 144)).astype(np.float32)
    mask = np.array([True, True, False, True])
    for junk in (np.nan, np.inf, 1e30):
        bad = pose.copy()
        bad[2] = junk
        for term in (multiview(), smooth()):

            def loss(x, term=term):
                return jnp.sum(term(hypothesis(pose_6d=x, mask=mask)))

            found, slopes = jax.value_and_grad(loss)(jnp.asarray(bad))
            wanted, wanted_slopes = jax.value_and_grad(loss)(jnp.asarray(pose))
            close(f"{term}", found, wanted, rtol=1e-6)
            close("gradient", slopes, wanted_slopes, rtol=1e-6)


def test_the_total_leaves_out_what_is_masked_and_weighs_each_sample():
    body, seen, camera = people()
    terms = [keypoints_2d(seen, camera, weight=np.arange(N)), weighted(2.0, broken)]
    total, losses = total_loss(terms, replace(body, mask=jnp.arange(N) != 1))
    wanted = np.asarray(evaluate(terms[0], body))
    close("losses", losses, np.where(np.arange(N) == 1, 0, wanted + 5.0), rtol=1e-6)
    weighty = np.arange(N) * wanted + 10.0
    close("total", total, np.delete(weighty, 1).sum(), rtol=1e-6)


def broken(hypothesis):
    return jnp.where(jnp.arange(N) == 1, jnp.nan, 5.0)


def test_smoothness_does_not_bridge_a_gap():
    pose = np.random.default_rng(0).standard_normal((N, 144)).astype(np.float32)
    losses = evaluate(smooth(), hypothesis(pose_6d=pose, mask=[True, False, True, True]))
    np.testing.assert_array_equal(np.asarray(losses) > 0, [False, False, False, True])


def test_groups_do_not_mix():
    pose = np.random.default_rng(0).standard_normal((2, N, 144)).astype(np.float32)
    for term in (multiview(), smooth()):
        together = evaluate(term, hypothesis(pose_6d=pose))
        for group in range(2):
            close(
                f"{term}",
                together[group],
                evaluate(term, hypothesis(pose_6d=pose[group])),
                rtol=1e-4,
            )


def test_who_is_informed():
    body, seen, camera = people()
    confidence = np.array(seen.confidence)
    confidence[1] = 0
    term = keypoints_2d(Keypoints2D(seen.xy, confidence), camera)
    np.testing.assert_array_equal(term.informs(body), [True, False, True, True])
    alone = replace(body, mask=jnp.array([True, False, False, True]))
    np.testing.assert_array_equal(smooth().informs(alone), [False] * 4)
    np.testing.assert_array_equal(smooth().informs(body), [True] * 4)
    np.testing.assert_array_equal(multiview().informs(alone), [True, False, False, True])
    single = replace(body, mask=jnp.array([True, False, False, False]))
    np.testing.assert_array_equal(multiview().informs(single), [False] * 4)
    assert weighted(2.0, term).informs(body).tolist() == term.informs(body).tolist()
    assert weighted(2.0, lambda h: h.betas.sum(-1)).informs(body).all()


def test_who_is_usable():
    body, seen, camera = people()
    behind = replace(body, translation=body.translation.at[2, 2].set(-5.0).at[3, 2].set(0.0))
    for term in (keypoints_2d(seen, camera), weighted(2.0, keypoints_2d(seen, camera))):
        np.testing.assert_array_equal(term.usable(behind), [True, True, False, False])
    assert smooth().usable(behind).all() and multiview().usable(behind).all()
    # A close-up: what is behind the camera is not seen.
    near = replace(body, joints=body.joints.at[2, 4, 2].set(-6.0))
    confidence = np.array(seen.confidence)
    np.testing.assert_array_equal(keypoints_2d(seen, camera).usable(near), [1, 1, 0, 1])
    confidence[2, 4] = 0
    assert keypoints_2d(Keypoints2D(seen.xy, confidence), camera).usable(near).all()


def test_gradients_equal_finite_differences():
    with jax.enable_x64(True):
        body, seen, camera = people(dtype=np.float64)
        pose_6d = jnp.asarray(np.random.default_rng(1).standard_normal((N, 144)))
        at = (
            pose_6d,
            body.joints,
            body.translation,
            jnp.asarray(seen.xy),
            jnp.asarray(seen.confidence) * 0.9,
            jnp.asarray(100.0),
        )

        @jax.jit
        def loss(at):
            pose_6d, joints, translation, xy, confidence, sigma = at
            moved = replace(body, pose_6d=pose_6d, joints=joints, translation=translation)
            terms = (
                keypoints_2d(Keypoints2D(xy, confidence), camera, sigma=sigma),
                multiview(),
                smooth(),
            )
            return sum(jnp.sum(term.weight * term(moved)) for term in terms)

        gradient = jax.jit(jax.grad(loss))(at)
        for i, name in enumerate(("pose", "joints", "translation", "xy", "confidence", "sigma")):
            pick = tuple((1.0 if i == j else 0.0) * a for j, a in enumerate(at))
            direction = jax.tree.map(
                lambda d, p: d * (p != 0), random_like(jax.random.key(i), at), pick
            )
            found, wanted = dot(gradient, direction), slope(loss, at, direction, 1e-5)
            assert abs(found - wanted) < 1e-5 * max(1.0, abs(wanted)), name


def test_gradients_are_finite_where_nothing_is_seen_and_behind_the_camera():
    body, seen, camera = people()
    depth = jnp.array([-5.0, 0.0, 1e-7, 1e-30])
    translation = body.translation.at[:, 2].set(depth)
    body = replace(body, joints=jnp.zeros((N, K, 3)), translation=translation)
    unseen = Keypoints2D(seen.xy, np.zeros((N, K), np.float32))
    for observed in (seen, unseen):

        def loss(joints, translation, xy, confidence, observed=observed):
            term = keypoints_2d(Keypoints2D(xy, confidence), camera)
            return jnp.sum(term(replace(body, joints=joints, translation=translation)))

        found = jax.jit(jax.grad(loss, (0, 1, 2, 3)))(
            body.joints,
            body.translation,
            jnp.asarray(observed.xy),
            jnp.asarray(observed.confidence),
        )
        assert all(np.isfinite(leaf).all() for leaf in found)


def test_gradient_by_a_full_confidence_is_not_cut():
    body, seen, camera = people()

    @jax.jit
    @jax.grad
    def slopes(confidence):
        return jnp.sum(keypoints_2d(Keypoints2D(seen.xy, confidence), camera)(body))

    # The loss has the square of the confidence.
    half = slopes(jnp.full((N, K), 0.5))
    close("at 1", slopes(jnp.ones((N, K))), 2 * half, rtol=1e-5)
    close("above 1", slopes(jnp.full((N, K), 1.5)), np.zeros((N, K)))


def test_useless_observations_count_as_not_seen():
    body, seen, camera = people()
    xy, confidence = np.array(seen.xy), np.array(seen.confidence)
    xy[0, 0, 1], xy[1, 2] = np.nan, np.inf
    confidence[2, 3] = np.nan
    term = keypoints_2d(Keypoints2D(xy, confidence), camera)
    unseen = np.array(seen.confidence)
    unseen[0, 0] = unseen[1, 2] = unseen[2, 3] = 0
    wanted = keypoints_2d(Keypoints2D(seen.xy, unseen), camera)
    close("loss", evaluate(term, body), evaluate(wanted, body), rtol=1e-6)


@pytest.mark.parametrize(
    ("field", "value"),
    # A principal point may be 0.
    [(f, v) for f in ("focal", "image_size", "center") for v in (np.nan, np.inf, 0.0)][:-1],
)
def test_a_useless_camera_sees_nothing(field, value):
    body, seen, camera = people()
    wrong = np.array(getattr(camera, field))
    wrong[1] = value
    broken = keypoints_2d(seen, replace(camera, **{field: wrong}))
    fine = np.asarray(evaluate(keypoints_2d(seen, camera), body))
    close("loss", evaluate(broken, body), fine * (np.arange(N) != 1), rtol=1e-6)
    np.testing.assert_array_equal(broken.informs(body), np.arange(N) != 1)


def test_whole_pixels_do():
    body, seen, camera = people()
    xy = np.round(seen.xy)
    ones = np.ones((N, K))
    whole = keypoints_2d(
        Keypoints2D(xy.astype(np.int32), ones.astype(bool)),
        Camera(*(np.asarray(leaf).astype(np.int64) for leaf in jax.tree.leaves(camera))),
    )
    wanted = keypoints_2d(Keypoints2D(xy, ones.astype(np.float32)), camera)
    close("loss", evaluate(whole, body), evaluate(wanted, body), rtol=1e-6)
    close("weight", whole.weight, 0.003, rtol=1e-6)


def test_weights_multiply():
    _, seen, camera = people()
    term = keypoints_2d(seen, camera, weight=0.5)
    close("weight", weighted(3, weighted(2.0, term)).weight, 3.0)
    close("a function's", weighted(4, jnp.sum).weight, 4.0)
    body = people()[0]
    close("loss is unweighted", evaluate(weighted(3.0, term), body), evaluate(term, body))


def test_a_weight_is_one_kind_of_number():
    # Another dtype would compile anew.
    for make in (
        lambda w: smooth(weight=w),
        lambda w: multiview(weight=w),
        lambda w: weighted(w, smooth()),
        lambda w: weighted(w, np.sum),
    ):
        kinds = {
            (leaf.dtype, leaf.weak_type)
            for w in (1, 1.0, np.float64(2), np.int32(3), jnp.asarray(2.0), jnp.float32(3))
            for leaf in jax.tree.leaves(make(w))
        }
        assert len(kinds) == 1, kinds


def test_data_of_a_function_that_is_a_pytree_is_traced():
    def toward(target, hypothesis):
        return jnp.sum((hypothesis.translation - target) ** 2, axis=-1)

    body = people()[0]
    run = jax.jit(lambda term: term(body))
    for depth in (5.0, 6.0, 7.0):
        target = jnp.array([0, 0, depth])
        found = run(weighted(depth, jax.tree_util.Partial(toward, target)))
        close("loss", found, np.full(N, (depth - 5) ** 2))
    assert run._cache_size() == 1


def test_a_function_that_cannot_be_told_from_another_is_refused():
    class Toward:
        __hash__ = None

        def __call__(self, hypothesis):
            return hypothesis.betas.sum(-1)

    with pytest.raises(ValueError, match="term: Toward can neither be traced nor hashed"):
        weighted(1.0, Toward())


def test_terms_come_alone_or_in_lists():
    def own(hypothesis):
        return hypothesis.betas.sum(-1)

    assert as_terms(smooth()) == (smooth(),)
    assert len(as_terms([smooth(), own, multiview()])) == 3
    close("a function's weight", as_terms(own)[0].weight, 1.0)


def test_no_terms_are_refused():
    for nothing in ((), []):
        with pytest.raises(ValueError, match="terms: expected at least one"):
            as_terms(nothing)


def test_what_is_no_term_is_refused():
    _, seen, _ = people()
    with pytest.raises(ValueError, match="keypoints_2d, multiview, smooth; found Keypoints2D"):
        as_terms(seen)
    with pytest.raises(ValueError, match="found float"):
        weighted(1.0, 2.0)


def test_a_term_must_give_a_loss_per_sample():
    def total(hypothesis):
        return hypothesis.betas.sum()

    with pytest.raises(ValueError, match=r"term total: expected .* shape \(4,\), found \(\)"):
        weighted(1.0, total)(hypothesis())


@pytest.mark.parametrize("worst", [2.5, -0.1, np.inf, -np.inf])
def test_confidence_outside_its_range_is_refused(worst):
    _, seen, camera = people()
    confidence = np.array(seen.confidence)
    confidence[2, 1] = worst
    message = r"keypoints.confidence: expected confidences from 0 \(not seen\) to 1, found"
    with pytest.raises(ValueError, match=message) as error:
        keypoints_2d(Keypoints2D(seen.xy, confidence), camera)
    assert f"{worst:g}" in str(error.value)


def test_confidence_a_little_above_1_counts_as_1():
    body, seen, camera = people()
    above, full = np.array(seen.confidence), np.array(seen.confidence)
    above[2, 1], full[2, 1] = 1.4, 1
    with pytest.warns(UserWarning, match="up to 1.4; they are taken as 1"):
        found = keypoints_2d(Keypoints2D(seen.xy, above), camera)
    wanted = keypoints_2d(Keypoints2D(seen.xy, full), camera)
    close("loss", evaluate(found, body), evaluate(wanted, body))


WRONG_UNITS = {
    "normalised keypoints": lambda k, c: (replace(k, xy=k.xy / 1000), c, "normalised"),
    "a normalised center": lambda k, c: (k, replace(c, center=c.center / 1000), "camera.center"),
    "a focal length in mm": lambda k, c: (k, replace(c, focal=c.focal / 40), "camera.focal"),
    "no image size": lambda k, c: (k, replace(c, image_size=c.image_size / 1000), "image_size"),
}


@pytest.mark.parametrize("kind", WRONG_UNITS)
def test_other_units_are_refused(kind):
    _, seen, camera = people()
    keypoints, camera, message = WRONG_UNITS[kind](seen, camera)
    for form in (np.asarray, jnp.asarray):
        with pytest.raises(ValueError, match=message):
            keypoints_2d(*jax.tree.map(form, (keypoints, camera)))
    jax.jit(keypoints_2d)(keypoints, camera)  # numbers that are traced cannot be seen


@pytest.mark.parametrize("sigma", [0.0, -1.0, np.nan])
def test_a_sigma_that_is_not_above_0_is_refused(sigma):
    _, seen, camera = people()
    with pytest.raises(ValueError, match="sigma: expected pixels above 0"):
        keypoints_2d(seen, camera, sigma=sigma)


def test_a_sigma_for_each_sample():
    # Two samples: the numbers are not those of x and y.
    body, seen, camera = jax.tree.map(lambda a: a[:2] if a.ndim else a, people())
    found = evaluate(keypoints_2d(seen, camera, sigma=np.array([50.0, 200.0])), body)
    for n, sigma in enumerate((50.0, 200.0)):
        wanted = evaluate(keypoints_2d(seen, camera, sigma=sigma), body)
        close("loss", found[n], wanted[n], rtol=1e-6)


def test_traced_confidence_is_clipped():
    body, seen, camera = people()

    @jax.jit
    def loss(confidence):
        return keypoints_2d(Keypoints2D(seen.xy, confidence), camera)(body)

    close("above 1", loss(np.full((N, K), 7.0, np.float32)), loss(np.ones((N, K), np.float32)))
    close("below 0", loss(np.full((N, K), -7.0, np.float32)), np.zeros(N))


def test_constant_observations_inside_jit():
    body, seen, camera = people()
    inside = jax.jit(lambda body: keypoints_2d(seen, camera)(body))(body)
    close("loss", inside, evaluate(keypoints_2d(seen, camera), body), rtol=1e-6)


@pytest.mark.parametrize(
    ("xy", "confidence"),
    [((N, K, 3), (N, K)), ((N, K, 2), (N, K, 1)), ((N, K, 2), (N, K + 1)), ((2,), ())],
)
def test_keypoints_of_wrong_shape_are_refused(xy, confidence):
    camera = people()[2]
    with pytest.raises(ValueError, match=r"keypoints: expected xy \[..., N, K, 2\]") as error:
        keypoints_2d(Keypoints2D(np.zeros(xy), np.zeros(confidence)), camera)
    assert str(xy) in str(error.value)


@pytest.mark.parametrize("field", ["focal", "center", "image_size"])
def test_a_camera_of_wrong_shape_is_refused(field):
    _, seen, camera = people()
    with pytest.raises(ValueError, match=rf"camera.{field}: expected \[..., N, 2\], found \(4,\)"):
        keypoints_2d(seen, replace(camera, **{field: np.ones(4)}))


def test_a_camera_whose_parts_disagree_is_refused():
    _, seen, camera = people()
    message = r"camera: focal, .* disagree on the samples: \(3, 2\), \(4, 2\) and \(4, 2\)"
    with pytest.raises(ValueError, match=message):
        keypoints_2d(seen, replace(camera, focal=np.ones((3, 2))))


def test_keypoints_of_another_skeleton_are_refused():
    body, seen, camera = people()
    term = keypoints_2d(Keypoints2D(seen.xy[:, :5], seen.confidence[:, :5]), camera)
    with pytest.raises(ValueError, match="the skeleton has 6 keypoints, found xy for 5"):
        term(body)


def test_rows_that_match_no_estimate_are_refused():
    body, seen, camera = people()
    fewer = Keypoints2D(seen.xy[:3], seen.confidence[:3])
    cameras = jax.tree.map(lambda a: a[:3], camera)
    with pytest.raises(ValueError, match=r"one row and one camera for each estimate \(4,\)"):
        keypoints_2d(fewer, cameras)(body)
    with pytest.raises(ValueError, match=r"one for each row \(4,\) of keypoints, found \(3,\)"):
        keypoints_2d(seen, cameras)
    one = jax.tree.map(lambda a: a[0], camera)
    close(
        "one camera for all",
        keypoints_2d(seen, one)(body),
        keypoints_2d(seen, camera)(body),
        rtol=1e-6,
    )


@pytest.mark.parametrize("weight", [-0.003, np.nan, np.inf, np.array([1.0, -1.0])])
@pytest.mark.parametrize("kind", ["keypoints", "views", "frames", "a function of your own"])
def test_a_weight_is_finite_and_the_papers_terms_have_none_below_0(weight, kind):
    _, seen, camera = people()
    terms = {
        "keypoints": lambda w: keypoints_2d(seen, camera, weight=w),
        "views": lambda w: multiview(weight=w),
        "frames": lambda w: smooth(weight=w),
        "a function of your own": lambda w: weighted(w, broken),
    }
    if kind == "a function of your own" and np.isfinite(weight).all():
        terms[kind](weight)  # a reward
    else:
        with pytest.raises(ValueError, match=r"^weight: expected finite numbers"):
            terms[kind](weight)
    terms[kind](0.0)
    terms[kind](jnp.zeros(N))


def test_one_for_each_group_is_not_taken_for_one_for_each_sample():
    # As many groups as samples.
    one, two = (
        jax.tree.map(lambda a: jnp.stack([a] * N) if a.ndim else a, people()[i]) for i in (0, 1)
    )
    camera = jax.tree.map(lambda a: jnp.stack([a] * N), people()[2])
    each = np.arange(1.0, N + 1)
    with pytest.raises(ValueError, match=r"camera: .*\(4,\) could be one for each sample or one"):
        keypoints_2d(two, people()[2])
    with pytest.raises(ValueError, match=r"sigma: .* give shape \(1, 4\) or \(4, 1\)"):
        keypoints_2d(two, camera, sigma=each)(one)
    with pytest.raises(ValueError, match=r"weight: .* give shape \(1, 4\) or \(4, 1\)"):
        total_loss([keypoints_2d(two, camera, weight=each)], one)
    for shape in ((1, N), (N, 1)):
        total, losses = total_loss([keypoints_2d(two, camera, weight=each.reshape(shape))], one)
        close("total", total, np.sum(each.reshape(shape) * losses), rtol=1e-6)
    # Of fewer groups there is no doubt, nor of one row for every group.
    few = jax.tree.map(lambda a: a[:2] if a.ndim else a, (one, two, camera))
    total_loss([keypoints_2d(*few[1:], weight=each, sigma=100 * each)], few[0])
    keypoints_2d(*people()[1:])(one)


@pytest.mark.parametrize("field", ["xy", "confidence", "focal", "center", "image_size"])
def test_lists_of_numbers_are_named(field):
    _, seen, camera = people()
    parts = {"keypoints": seen, "camera": camera}
    name = "keypoints" if hasattr(seen, field) else "camera"
    numbers = np.asarray(getattr(parts[name], field)).tolist()
    with pytest.raises(ValueError, match=rf"{name}.{field}: expected an array, found list; np.as"):
        parts[name] = replace(parts[name], **{field: numbers})
        keypoints_2d(**parts)


@pytest.mark.parametrize("sentinel", [1e12, 1e19, 3e38, -1e30])
def test_a_keypoint_that_is_not_seen_may_be_anywhere(sentinel):
    bodies, seen, camera = people()
    xy, confidence = seen.xy.copy(), seen.confidence.copy()
    confidence[1, 2] = 0
    at_zero, far = xy.copy(), xy.copy()
    at_zero[1, 2], far[1, 2] = 0, sentinel

    @jax.jit
    def both(term):
        return jax.value_and_grad(
            lambda t: jnp.sum(term(replace(bodies, translation=t))), has_aux=False
        )(bodies.translation)

    found, wanted = (
        both(keypoints_2d(Keypoints2D(where, confidence), camera)) for where in (far, at_zero)
    )
    close("loss", found[0], wanted[0])
    close("gradient", found[1], wanted[1])


@pytest.mark.parametrize("sigma", [0, -1, np.inf, np.nan, 1e20])
def test_a_sigma_that_no_arithmetic_stands_is_refused(sigma):
    _, seen, camera = people()
    with pytest.raises(ValueError, match="sigma: expected pixels above 0"):
        keypoints_2d(seen, camera, sigma=sigma)
