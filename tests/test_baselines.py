"""The table of baselines, the humble filters, and diffusion as a regulariser."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from refining import N, people, skeleton

from body_model.rotations import matrix_to_6d
from scorehmr_jax.baselines.registry import BASELINES, for_task, make_baseline
from scorehmr_jax.baselines.smoothers import (
    filtered,
    gaussian,
    mean_of_views,
    median_of_views,
    one_euro,
    savitzky_golay,
)
from scorehmr_jax.blending import SmoothedEstimate
from scorehmr_jax.evaluation.tasks import TASKS
from scorehmr_jax.guidance import keypoints_2d, smooth
from scorehmr_jax.screening import NOT_FINITE, OK, PADDING
from scorehmr_jax.types import Estimate

EVERY = jnp.ones(N, bool)


def test_every_baseline_is_called_as_the_loop_is():
    p = people()
    # Of those that one function makes, one.
    each = {getattr(b.method, "func", b.method): b for b in BASELINES.values()}
    for name, baseline in ((b.name, b) for b in each.values()):
        task = baseline.tasks[-1]
        run = make_baseline(name, skeleton(), task)
        terms = TASKS[task].guidance("released", p.keypoints, p.camera)
        with jax.numpy_dtype_promotion("strict"):
            refined, info = jax.eval_shape(run, p.estimate, p.features, terms, EVERY)
        assert refined.pose.shape == (N, 24, 3, 3), name
        assert refined.betas.shape == (N, 10) and refined.translation.shape == (N, 3), name
        assert info.status.shape == (N,) and info.losses.shape[1:] == (N,), name


def test_the_table_tells_what_is_for_what():
    assert all(b.name == name and set(b.tasks) <= set(TASKS) for name, b in BASELINES.items())
    assert {"smplify", "flow", "dposer", "adam-pull"} < set(for_task("keypoints"))
    assert "one-euro" in for_task("video") and "one-euro" not in for_task("keypoints")
    with pytest.raises(ValueError, match=r"method: expected one of adam-free, .*, found 'spin'"):
        make_baseline("spin", skeleton(), "keypoints")
    with pytest.raises(ValueError, match=r"method gaussian: it is for video; found .* 'multiview'"):
        make_baseline("gaussian", skeleton(), "multiview")
    with pytest.raises(ValueError, match=r"method one-euro: it has no weights; found f.pt"):
        make_baseline("one-euro", skeleton(), "video", "f.pt")


@pytest.fixture(scope="module")
def motion():
    """Smooth motion with noise on it, and a mask that leaves out two frames in the middle."""
    rng = np.random.default_rng(0)
    frames = 40
    from body_model.rotations import axis_angle_to_matrix

    slow = np.sin(np.arange(frames) / 8)[:, None, None] * rng.normal(size=(24, 3)) * 0.3
    pose = axis_angle_to_matrix(jnp.asarray(slow, jnp.float32))
    noisy = axis_angle_to_matrix(
        jnp.asarray(slow + 0.05 * rng.normal(size=slow.shape), jnp.float32)
    )
    translation = jnp.asarray(rng.normal(size=(frames, 3)), jnp.float32)
    mask = jnp.ones(frames, bool).at[20:22].set(False)
    return pose, Estimate(noisy, jnp.zeros((frames, 10)), translation), mask


def six(pose):
    return np.asarray(matrix_to_6d(pose)).reshape(len(pose), -1)


def test_savitzky_golay_is_scipys_away_from_the_ends(motion):
    _, estimate, _ = motion
    found = jax.jit(savitzky_golay(5, 2))(estimate, jnp.ones(40, bool)).translation
    wanted = scipy.signal.savgol_filter(np.asarray(estimate.translation), 11, 2, axis=0)
    np.testing.assert_allclose(found[5:-5], wanted[5:-5], atol=1e-4)


def test_the_gaussian_is_that_of_the_default_mode(motion):
    _, estimate, mask = motion
    found = jax.jit(gaussian(2.0))(estimate, mask)
    wanted = jax.jit(SmoothedEstimate(2.0, curved=False))(estimate, mask)
    np.testing.assert_allclose(found.pose, wanted.pose, atol=1e-5)


def test_the_one_euro_filter_does_as_its_paper_says(motion):
    _, estimate, mask = motion
    found = jax.jit(one_euro(1.0, 0.5, 1.0, fps=30.0))(estimate, mask).translation

    def share(cutoff):
        return 1 / (1 + 30 / (2 * np.pi * cutoff))

    last, rate = np.asarray(estimate.translation[0]), np.zeros(3)
    for n in range(1, 40):
        if mask[n]:
            value = np.asarray(estimate.translation[n])
            rate = share(1.0) * (value - last) * 30 + (1 - share(1.0)) * rate
            part = share(1.0 + 0.5 * abs(rate))
            last = part * value + (1 - part) * last
            np.testing.assert_allclose(found[n], last, atol=1e-4)


@pytest.mark.parametrize("rule", [one_euro(8.0, 3.0), savitzky_golay(), gaussian()])
def test_filters_calm_a_motion_and_leave_out_what_does_not_count(motion, rule):
    pose, estimate, mask = motion
    run = jax.jit(rule)
    found = run(estimate, mask)
    off = {
        k: np.square(six(p) - six(pose))[3:-3].mean()
        for k, p in (("before", estimate.pose), ("after", found.pose))
    }
    assert off["after"] < 0.8 * off["before"]
    np.testing.assert_array_equal(found.translation[20:22], estimate.translation[20:22])
    away = jax.tree.map(lambda a: a.at[20:22].set(0.7), estimate)
    others = np.asarray(mask)
    np.testing.assert_allclose(run(away, mask).pose[others], found.pose[others], atol=1e-6)


def test_the_middle_of_the_views():
    estimate = people().estimate
    mask = EVERY.at[1].set(False)
    body = six(estimate.pose)[np.asarray(mask), 6:]
    for rule, wanted in ((median_of_views, np.median(body, 0)), (mean_of_views, body.mean(0))):
        found = jax.jit(rule)(estimate, mask)
        columns = np.asarray(found.pose[:, 1:, :, 0]).reshape(N, -1)
        first = wanted.reshape(23, 6)[:, :3]
        first /= np.linalg.norm(first, axis=-1, keepdims=True)
        np.testing.assert_allclose(columns[2], first.ravel(), atol=1e-5)
        np.testing.assert_allclose(found.pose[:, 0], estimate.pose[:, 0], atol=1e-6)
        np.testing.assert_allclose(found.pose[1], estimate.pose[1], atol=1e-6)


def test_a_bad_frame_keeps_its_estimate_and_is_left_out_of_the_filter():
    p = people()
    bad = p.estimate.__class__(
        p.estimate.pose.at[2].set(jnp.nan), p.estimate.betas, p.estimate.translation
    )
    run = jax.jit(partial(filtered, skeleton(), rule=gaussian()))
    terms = [keypoints_2d(p.keypoints, p.camera), smooth()]
    refined, info = run(bad, terms, mask=EVERY.at[4].set(False))
    assert info.status.tolist() == [OK, OK, NOT_FINITE, OK, PADDING, OK]
    assert np.isnan(refined.pose[2]).all() and np.isfinite(refined.pose[3]).all()
    assert info.losses.shape == (1, N)
