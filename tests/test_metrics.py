"""Metrics against the released code's, and what they promise beyond it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorehmr_jax.evaluation import metrics

pa_mpjpe = jax.jit(metrics.pa_mpjpe)


def pve(x, y, valid):
    return metrics.pve(x, y, x[..., 0, :], y[..., 0, :], valid)


def acceleration_error(x, y, valid):
    return metrics.acceleration_error(x, y, valid, fps=30)


def jitter(x, y, valid):
    return metrics.jitter(x, 25, valid=valid)


def jitter_emdb(x, y, valid):
    return metrics.jitter(x, 25, "emdb", valid)


# Every metric as a function of two arrays of points and a mask; a shape of the points, whose first
# axis the mask speaks of; and rows that do not count in the tests.
METRICS = [
    (metrics.mpjpe, (14, 3), [3, 4]),
    (metrics.pa_mpjpe, (14, 3), [3, 4]),
    (pve, (14, 3), [3, 4]),
    (metrics.keypoint_error, (14, 2), [3, 4]),
    (metrics.pelvis_error, (8, 3), [3, 4]),
    (acceleration_error, (8, 24, 3), [0, 1]),
    (jitter, (8, 24, 3), [0, 7]),
    (jitter_emdb, (8, 24, 3), [0, 7]),
]
each_metric = pytest.mark.parametrize(
    ("metric", "shape", "out"), METRICS, ids=[metric.__name__ for metric, *_ in METRICS]
)


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def points(seed, *shape):
    return jnp.asarray(normal(seed, *shape, 3))


def rotation(seed):
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q))


@pytest.fixture(scope="module")
def released(golden):
    return dict(np.load(golden / "metrics.npz"))


def test_alignment_is_the_released_one_also_for_the_reflection(released):
    found = jax.jit(metrics.similarity_align)(released["S1"], released["S2"])
    np.testing.assert_allclose(found, released["S1_hat"], atol=1e-5)


def test_errors_are_the_released_ones(released):
    s1, s2 = released["S1"], released["S2"]
    np.testing.assert_allclose(metrics.mpjpe(s1, s2), released["mpjpe_mm"], rtol=1e-5)
    np.testing.assert_allclose(pa_mpjpe(s1, s2), released["pa_mpjpe_mm"], atol=0.01)


def test_acceleration_is_the_released_one_also_with_missing_frames(released):
    predicted, target, seen = released["accel_pred"], released["accel_gt"], released["vis"]
    found = metrics.acceleration_error(predicted, target)
    np.testing.assert_allclose(found, 1000 * released["accel"], rtol=1e-4)
    found = metrics.acceleration_error(predicted, target, seen)
    np.testing.assert_allclose(found[~np.isnan(found)], 1000 * released["accel_vis"], rtol=1e-4)


def test_alignment_undoes_a_similarity_but_never_reflects():
    source = points(0, 14)
    target = 1.7 * source @ rotation(1).T + np.array([3.0, -1.0, 2.0])
    assert pa_mpjpe(source, target) < 0.01
    assert pa_mpjpe(source * jnp.array([-1.0, 1, 1]), target) > 100


@each_metric
def test_what_does_not_count_changes_neither_error_nor_gradient(metric, shape, out):
    x, y = normal(0, *shape), normal(1, *shape)
    valid = ~np.isin(np.arange(shape[0]), out)

    @jax.jit
    def everything(x, y):
        def loss(x, y, scale):
            return jnp.nansum(metric(scale * x, y, valid))

        return metric(x, y, valid), *jax.grad(loss, (0, 1, 2))(x, y, 1.0)

    expected = everything(x, y)
    assert np.isfinite(expected[0]).any() and expected[3] != 0
    for junk in np.nan, np.inf:
        for bad_x, bad_y in (True, False), (False, True), (True, True):
            both = x.copy(), y.copy()
            for array, bad in zip(both, (bad_x, bad_y), strict=True):
                array[out] = junk if bad else array[out]
            found = everything(*both)
            np.testing.assert_array_equal(found[0], expected[0])
            for slope, right in zip(found[1:3], expected[1:3], strict=True):
                np.testing.assert_allclose(slope, right, rtol=1e-5, atol=1e-3)
                assert not np.any(slope[np.array(out)])
            if not bad_x:  # else the scale multiplies what is NaN before the metric sees it
                np.testing.assert_allclose(found[3], expected[3], rtol=1e-5)
    if len(shape) == 2 and metric is not metrics.pelvis_error:
        some = metric(x[valid], y[valid], np.ones(valid.sum()))
        np.testing.assert_allclose(expected[0], some, rtol=1e-5)


@each_metric
def test_where_nothing_counts_the_error_is_nan_and_the_gradient_zero(metric, shape, out):
    def loss(x):
        error = metric(x, x, np.zeros(shape[0], bool))
        return jnp.nansum(error), error

    slope, error = jax.jit(jax.grad(loss, has_aux=True))(jnp.full(shape, jnp.nan))
    assert np.isnan(error).all() and not np.any(slope)


@each_metric
def test_half_precision_and_integers_are_summed_in_float32(metric, shape, out):
    valid, both = np.ones(shape[0]), [200 * normal(seed, *shape) for seed in (0, 1)]
    compiled = jax.jit(metric)
    for dtype in (jnp.float16, jnp.int32):  # bfloat16 is in the next test
        low = [jnp.asarray(x).astype(dtype) for x in both]
        found = compiled(*low, valid)
        assert found.dtype == jnp.float32
        expected = compiled(*(x.astype(jnp.float32) for x in low), valid)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@each_metric
def test_ranks_and_dtypes_are_promoted_on_purpose_alone(metric, shape, out):
    x = normal(0, 2, *shape)
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        found = jax.jit(metric)(x, jnp.asarray(x, jnp.bfloat16), np.ones(shape[0], np.int8))
    assert found.shape[0] == 2 and np.isfinite(found).all()


def test_a_nan_sample_touches_no_other():
    source, target = points(0, 4, 14), points(1, 4, 14)
    whole = pa_mpjpe(source, target)
    broken = pa_mpjpe(source.at[1].set(jnp.nan), target)
    assert np.isnan(broken[1])
    np.testing.assert_array_equal(np.delete(broken, 1), np.delete(whole, 1))


def test_a_point_that_is_nan_and_does_not_count_is_aligned_to_nan_alone():
    source, target = points(0, 14), points(1, 14)
    valid = jnp.arange(14) != 3

    @jax.jit
    def kept(source):
        moved = metrics.similarity_align(source, target, valid)
        return jnp.where(valid[:, None], moved, 0).sum(), moved

    (_, moved), slope = jax.value_and_grad(kept, has_aux=True)(source.at[3].set(jnp.nan))
    assert np.isnan(moved[3]).all() and np.isfinite(np.delete(moved, 3, 0)).all()
    assert np.isfinite(slope).all() and not np.any(slope[3])


@pytest.mark.parametrize(
    ("call", "found"),
    [
        (lambda x: metrics.mpjpe(x, x, np.ones((5, 14, 1))), r"\(5, 14, 1\)"),
        (lambda x: metrics.mpjpe(x, x, np.ones(5)), r"\(5,\)"),
        (lambda x: metrics.mpjpe(x, x, np.ones((5, 1))), r"\(5, 1\)"),
        (lambda x: metrics.pa_mpjpe(x[0], x[0], np.ones((5, 14))), r"\(5, 14\)"),
        (lambda x: metrics.pa_mpjpe(x, x[:, None]), r"\(5, 14, 3\) beside \(5, 1, 14, 3\)"),
        (lambda x: metrics.mpjpe(x, x[:4]), r"\(4, 14, 3\)"),
        (lambda x: metrics.mpjpe(x, x[:, :1]), r"\(5, 1, 3\)"),
        (lambda x: metrics.pve(x, x, x[0], x[0]), r"\(14, 3\)"),
        (lambda x: metrics.acceleration_error(x, x, np.ones((5, 14))), r"\(5, 14\)"),
        (lambda x: metrics.acceleration_error(x, x[:1]), r"\(1, 14, 3\)"),
        (lambda x: metrics.jitter(x, 30, valid=np.ones((5, 14))), r"\(5, 14\)"),
        (lambda x: metrics.pelvis_error(x[:, 0], x[:1, 0], np.ones((5, 1))), r"\(5, 1\)"),
        (lambda x: metrics.pelvis_error(x[0, 0], x[0, 0], np.ones(3)), r"\(3,\)"),
        (lambda x: metrics.keypoint_error(x[..., :2], x, np.ones(14)), r"\(5, 14, 3\)"),
    ],
)
def test_shapes_that_could_mean_two_things_are_refused(call, found):
    with pytest.raises(ValueError, match=found):
        call(normal(0, 5, 14, 3))


def test_many_guesses_are_compared_with_one_truth():
    guesses, truth = points(0, 6, 5, 14), points(1, 5, 14)
    mpjpe = jax.jit(metrics.mpjpe)
    expected = [[mpjpe(guesses[h, n], truth[n]) for n in range(2)] for h in range(2)]
    found = mpjpe(guesses, truth, np.ones((5, 14)))
    np.testing.assert_allclose(found[:2, :2], expected, rtol=1e-6)
    by_rank = mpjpe(guesses, truth[None])
    np.testing.assert_allclose(found, by_rank, rtol=1e-6)
    roots = guesses[:, :, 0], truth[:, 0]
    assert metrics.pve(guesses, truth, *roots).shape == (6, 5)


@pytest.mark.parametrize("metric", [metrics.mpjpe, metrics.pa_mpjpe])
def test_gradients_are_finite_where_the_error_is_zero(metric):
    same = points(0, 14)
    assert np.isfinite(jax.jit(jax.grad(metric))(same, same)).all()


# Three equal singular values, two, a plane, a line, one point, and mirror images of the first two.
CUBE = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), -1).reshape(-1, 3).astype(float)
MIRROR = np.array([-1.0, 1, 1])
DEGENERATE = {
    "cube": (CUBE, CUBE),
    "square prism": (CUBE * [1, 1, 2], CUBE * [1, 1, 3]),
    "plane": (CUBE * [1, 1, 0], CUBE * [1, 1, 0]),
    "line": (CUBE * [1, 0, 0], CUBE * [1, 0, 0]),
    "point": (CUBE * 0, CUBE),
    "onto a point": (CUBE, CUBE * 0),
    "mirrored cube": (CUBE * MIRROR, CUBE),
    "mirrored prism": (CUBE * MIRROR * [2, 1, 1], CUBE * [2, 1, 1]),
}


def test_alignment_gradient_is_finite_for_symmetric_points():
    source, target = (np.float32(x) for x in zip(*DEGENERATE.values(), strict=True))
    # Errors of their own, so that no distance is at the kink at 0.
    target = target + np.float32(0.01) * np.float32(MIRROR)
    slope = jax.jit(jax.grad(lambda s: metrics.pa_mpjpe(s, target).sum()))(source)
    assert np.isfinite(slope).all()


def test_alignment_gradient_equals_finite_differences():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        generic = rng.normal(size=(2, 8, 3))
        # The best rotation of these is one alone, though singular values are equal.
        unique = [generic, *(np.array(DEGENERATE[n]) for n in ("cube", "square prism", "plane"))]
        source, target = np.stack(unique, 1)
        target = target + rng.normal(size=8)[:, None] * [0.1, 0.2, 0.3]
        target[1] = CUBE @ rotation(3) + [[0, 0, 0.5], [0, 0, -0.5]] * 4
        step = 1e-6 * rng.normal(size=source.shape)
        found = jnp.sum(jax.grad(lambda s: pa_mpjpe(s, target).sum())(source) * step, (1, 2))
        expected = (pa_mpjpe(source + step, target) - pa_mpjpe(source - step, target)) / 2
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_points_that_coincide_are_only_shifted():
    target = points(1, 14)
    found = metrics.similarity_align(jnp.ones((14, 3)), target)
    np.testing.assert_allclose(found, jnp.broadcast_to(target.mean(0), (14, 3)), atol=1e-6)


def test_leading_axes_and_vmap_agree():
    source, target = points(0, 2, 3, 14), points(1, 2, 3, 14)
    whole = pa_mpjpe(source, target)
    assert whole.shape == (2, 3)
    one_by_one = jax.jit(jax.vmap(jax.vmap(metrics.pa_mpjpe)))(source, target)
    np.testing.assert_allclose(one_by_one, whole, rtol=1e-5)


def test_dtype_follows_the_input():
    with jax.enable_x64(True):
        for dtype in (jnp.float32, jnp.float64):
            source, target = (points(s, 5, 14).astype(dtype) for s in (0, 1))
            assert pa_mpjpe(source, target).dtype == dtype
            assert metrics.acceleration_error(source, target, fps=30).dtype == dtype
        # The finer of the two, as numbers that are exact in one of them would lose digits.
        assert metrics.mpjpe(source, target.astype(jnp.float32)).dtype == jnp.float64


@each_metric
def test_far_from_the_origin_no_digits_of_float64_are_lost(metric, shape, out):
    """What NumPy gives in float64 is subtracted before it is rounded, also beside float32."""
    near = [normal(seed, *shape).astype(np.float64) for seed in (0, 1)]
    far = [x + 2.0**20 for x in near]  # float32 has steps of 12 cm there
    valid = np.arange(shape[0]) > 0
    found = metric(*far, valid)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, metric(*near, valid), rtol=1e-5)
    rounded = np.asarray(far[1], np.float32)
    beside = metric(far[0], jnp.asarray(rounded), valid)
    np.testing.assert_array_equal(beside, metric(far[0], rounded.astype(np.float64), valid))


def test_what_are_no_numbers_is_named_and_other_orders_of_bytes_are_read():
    x = np.asarray(normal(0, 5, 14, 3))
    for dtype in (">f4", ">f8"):
        found, wanted = (metrics.mpjpe(y, 0 * x) for y in (x.astype(dtype), x))
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
    for wrong in (x.astype("U9"), x.astype(object), x.astype(complex)):
        with pytest.raises(ValueError, match="points: expected an array of numbers, found dtype"):
            metrics.mpjpe(wrong, x)
    with pytest.raises(ValueError, match="mpjpe: valid: expected an array of numbers, found dtype"):
        metrics.mpjpe(x, x, np.full(14, "yes"))


def test_acceleration_and_jitter_in_physical_units():
    t = np.arange(8)[:, None, None] / 25  # at 25 frames a second
    falling = 0.5 * 9.81 * t**2 * np.array([0.0, 1, 0]) * np.ones((8, 24, 1))
    rest = np.zeros_like(falling)
    for fps in (25, 25.0, np.float64(25), jnp.asarray(25)):
        found = metrics.acceleration_error(falling, rest, fps=fps)
        np.testing.assert_allclose(found, 9.81, rtol=1e-4)
    np.testing.assert_allclose(metrics.acceleration_error(falling, rest), 9810 / 25**2, rtol=1e-4)
    jerky = t**3 * np.ones((8, 24, 3))  # |jerk| = 6 sqrt(3) m/s^3
    np.testing.assert_allclose(metrics.jitter(jerky, 25), 0.6 * 3**0.5, rtol=1e-3)
    np.testing.assert_allclose(metrics.jitter(jerky, 25, "emdb"), 0.6 * 3**0.5 * 15 / 24, rtol=1e-3)
    with pytest.raises(ValueError, match="convention"):
        metrics.jitter(jerky, 25, "other")
    with pytest.raises(ValueError, match="24 joints"):
        metrics.jitter(jerky[:, :14], 25, "emdb")


def test_pve_puts_pelvis_on_pelvis():
    mesh = points(0, 14)
    shift = jnp.array([0.1, 0.0, 0.0])
    np.testing.assert_allclose(metrics.pve(mesh + shift, mesh), 100, rtol=1e-4)
    assert metrics.pve(mesh + shift, mesh, shift, jnp.zeros(3)) < 0.01
    np.testing.assert_allclose(metrics.pelvis_error(shift, jnp.zeros(3)), 100, rtol=1e-4)
    with pytest.raises(ValueError, match="both roots"):
        metrics.pve(mesh, mesh, shift)


def test_keypoints_that_were_not_seen_do_not_count():
    detected = jnp.zeros((3, 2))
    projected = jnp.array([[3.0, 4.0], [jnp.nan, 0.0], [0.0, 1.0]])
    assert metrics.keypoint_error(projected, detected, jnp.array([0.2, 0.0, 0.9])) == 3.0
    assert np.isnan(metrics.keypoint_error(projected, detected, jnp.zeros(3)))


@pytest.mark.parametrize(
    ("metric", "shape", "width"),
    [
        (metrics.mpjpe, (5, 14, 4), 3),  # a confidence beside the coordinates
        (metrics.mpjpe, (5, 72), 3),  # flattened
        (metrics.mpjpe, (3,), 3),
        (metrics.pa_mpjpe, (5, 14, 2), 3),
        (metrics.similarity_align, (14, 2), 3),
        (metrics.pve, (5, 6890, 4), 3),
        (metrics.pelvis_error, (5, 4), 3),
        (metrics.acceleration_error, (5, 14, 2), 3),
        (metrics.acceleration_error, (14, 3), 3),
        (lambda x, y: metrics.jitter(x, 30), (14, 3), 3),
        (lambda x, y: metrics.jitter(x, 30), (9, 14, 4), 3),
        (lambda x, y: metrics.keypoint_error(x, y, np.ones(14)), (5, 14, 3), 2),
    ],
)
def test_an_axis_that_is_no_coordinate_never_counts_as_one(metric, shape, width):
    with pytest.raises(ValueError, match=rf"expected points \[..., .*{width}\], found shape"):
        metric(np.zeros(shape), np.ones(shape))


@pytest.mark.parametrize(
    ("fps", "message"),
    [
        (np.full(5, 30.0), "one number for all sequences"),
        (0, "above 0"),
        (-30.0, "above 0"),
        (np.nan, "above 0"),
    ],
)
def test_a_frame_rate_is_one_number_above_0(fps, message):
    motion = normal(0, 5, 7, 24, 3)
    for name, metric in (
        ("acceleration_error", lambda: metrics.acceleration_error(motion, motion, fps=fps)),
        ("jitter", lambda: metrics.jitter(motion, fps)),
    ):
        with pytest.raises(ValueError, match=f"{name}: fps: expected .*{message}"):
            metric()
