"""Simulated estimates and detections: how far off they are, and in which way."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scorehmr_jax as sh
from body_model import Skeleton, open_body
from body_model.joints import OPENPOSE_25, SMPL_24
from body_model.open.stand_in import stand_in
from scorehmr_jax.baselines.adam import adam
from scorehmr_jax.camera import in_front, project
from scorehmr_jax.evaluation.metrics import pa_mpjpe
from scorehmr_jax.guidance import keypoints_2d
from scorehmr_jax.prior import rotations_to_x
from scorehmr_jax.simulation import mocap
from scorehmr_jax.simulation.authored_motion import authored_motion
from scorehmr_jax.simulation.clip_noise import clip_starts, smooth_noise
from scorehmr_jax.simulation.detector import Detector, pixels_per_metre, simulate_detections
from scorehmr_jax.simulation.pairs import augment_pairs
from scorehmr_jax.simulation.placement import place_before_camera, place_before_cameras
from scorehmr_jax.simulation.regressor import REGRESSORS, box_size, simulate_estimates
from scorehmr_jax.simulation.scene import observe, photograph, simulated_example
from scorehmr_jax.types import Camera, Estimate

# As many samples as the demo has, so that its programs and those of the tests are the same.
CLIPS = np.repeat(np.arange(3, dtype=np.int32), (40, 50, 30))
COUNT = len(CLIPS)


@pytest.fixture(scope="module")
def body():
    return stand_in()


@pytest.fixture(scope="module")
def skeleton(body):
    return Skeleton.of(body, OPENPOSE_25)


@pytest.fixture(scope="module")
def motion():
    pose, translation = authored_motion()
    pose, translation = (jnp.asarray(a, jnp.float32) for a in (pose, translation))
    betas = jnp.repeat(jax.random.normal(jax.random.key(3), (3, 10)), np.bincount(CLIPS), axis=0)
    return pose, betas, translation


@pytest.fixture(scope="module")
def placed(skeleton, motion):
    pose, betas, translation = motion
    pose, translation, camera = place_before_camera(
        jax.random.key(0), skeleton, pose, betas, translation, jnp.asarray(CLIPS)
    )
    return pose, betas, translation, camera


@pytest.fixture(scope="module")
def scene(skeleton, placed):
    """A medium network's and a detector's, with errors of its own in each frame."""
    pose, betas, translation, camera = placed
    keys = jax.random.key(1), jax.random.key(2)
    truth, clips = Estimate(pose, betas, translation), jnp.arange(COUNT)
    return observe(keys, skeleton, truth, camera, REGRESSORS["medium"], clips)


@jax.jit
def keypoints_of(skeleton, pose, betas, translation, camera):
    points = skeleton(pose, betas, translation)
    return points, project(points, camera)


@jax.jit
def joints_of(body, pose, betas, translation):
    return body.joints(pose, betas, translation)


def correlation(a, b):
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


def test_noise_is_smooth_within_a_clip_and_independent_between():
    clip = jnp.repeat(jnp.arange(20), 40)
    noise = np.asarray(smooth_noise(jax.random.key(0), (800, 50), clip, frames=6))
    # Ends of clips have fewer neighbours and yet the same variance.
    assert abs(noise.std() - 1) < 0.05
    assert abs(noise[::40].std() - 1) < 0.1
    assert correlation(noise[:39], noise[1:40]) > 0.95
    assert abs(correlation(noise[39::40], noise[(np.arange(20) * 40 + 40) % 800])) < 0.1
    jittery = np.asarray(smooth_noise(jax.random.key(0), (800, 50), clip, 6, jitter=0.5))
    assert 0.3 < correlation(jittery[:39], jittery[1:40]) < 0.7


def test_noise_without_clips_is_independent():
    noise = np.asarray(smooth_noise(jax.random.key(1), (400, 50), None))
    assert abs(correlation(noise[:-1], noise[1:])) < 0.05


def test_clip_starts():
    assert clip_starts(jnp.array([7, 7, 2, 2, 2, 9])).tolist() == [0, 0, 2, 2, 2, 5]


def test_placing_moves_the_body_rigidly(body, motion, placed):
    pose, betas, translation = motion
    before = np.asarray(joints_of(body, pose, betas, translation))
    after = np.asarray(joints_of(body, placed[0], betas, placed[2]))

    def distances(joints):
        return np.linalg.norm(joints[:, :, None] - joints[:, None], axis=-1)

    np.testing.assert_allclose(distances(after), distances(before), atol=2e-5)
    for clip in range(3):
        inside = clip == CLIPS
        np.testing.assert_allclose(
            distances(after[inside].swapaxes(0, 1)),
            distances(before[inside].swapaxes(0, 1)),
            atol=2e-5,
        )
    np.testing.assert_allclose(np.linalg.det(placed[0][:, 0]), 1, atol=1e-5)


def test_placed_people_stand_upright_before_a_camera_that_stands_still(body, skeleton, placed):
    pose, betas, translation, camera = placed
    joints = joints_of(body, pose, betas, translation)
    head, foot = SMPL_24.index("head"), SMPL_24.index("left_ankle")
    assert jnp.all(joints[:, head, 1] < joints[:, foot, 1] - 0.5)
    points, xy = keypoints_of(skeleton, pose, betas, translation, camera)
    assert jnp.all(in_front(points))
    inside = ((xy > 0) & (xy < camera.image_size[:, None])).all(-1)
    assert inside.mean() > 0.95
    for leaf in map(np.asarray, jax.tree.leaves(camera)):
        for clip in range(3):
            assert np.all(leaf[clip == CLIPS] == leaf[clip == CLIPS][0])


def test_cameras_around_see_one_body_from_all_sides(skeleton, motion):
    pose, betas, translation = (a[::30] for a in motion)
    many, shapes, _, camera = place_before_cameras(
        jax.random.key(0), skeleton, pose, betas, translation, views=4
    )
    many = many.reshape(-1, 4, 24, 3, 3)
    np.testing.assert_array_equal(many[:, :, 1:], jnp.repeat(pose[:, None, 1:], 4, axis=1))
    np.testing.assert_array_equal(shapes[::4], betas)
    assert camera.focal.shape == (len(pose) * 4, 2)
    # Opposite cameras see the body's own forward axis point opposite ways.
    forward = many[:, :, 0, ::2, 2]
    assert jnp.all((forward[:, 0] * forward[:, 2]).sum(-1) < 0)


def errors(body, skeleton, placed, estimate):
    pose, betas, translation, camera = placed
    truth = joints_of(body, pose, betas, translation)
    guess = joints_of(body, estimate.pose, estimate.betas, estimate.translation)
    _, xy = keypoints_of(skeleton, pose, betas, translation, camera)
    _, seen = keypoints_of(skeleton, estimate.pose, estimate.betas, estimate.translation, camera)
    pixels = np.linalg.norm(seen - xy, axis=-1).mean(-1) / np.asarray(box_size(xy))
    return np.asarray(jax.jit(pa_mpjpe)(guess, truth)), pixels, np.asarray(guess - truth)


@pytest.mark.slow
def test_estimates_are_as_wrong_as_they_say_and_agree_with_the_image(body, skeleton, placed):
    mean_errors = []
    for name, low, high in (("weak", 60, 110), ("medium", 40, 75), ("strong", 25, 50)):
        estimate = simulate_estimates(
            jax.random.key(1), skeleton, *placed, REGRESSORS[name], jnp.arange(COUNT)
        )
        error, pixels, offset = errors(body, skeleton, placed, estimate)
        assert low < error.mean() < high, name
        assert 0.005 < pixels.mean() < 0.03, name
        relative = offset - offset[:, :1]
        # Hidden in depth: the error along z is far larger than across.
        assert relative[..., 2].std() > 1.8 * relative[..., :2].std(), name
        mean_errors.append(float(error.mean()))
    assert mean_errors == sorted(mean_errors, reverse=True)


@pytest.mark.slow
def test_free_optimisation_on_detections_makes_estimates_worse(body, skeleton, placed, scene):
    before, _, _ = errors(body, skeleton, placed, scene.estimate)
    term = keypoints_2d(scene.keypoints, scene.camera)
    run = jax.jit(lambda pull: adam(skeleton, scene.estimate, term, pull)[0])
    free, _, _ = errors(body, skeleton, placed, run(0.0))
    pulled, _, _ = errors(body, skeleton, placed, run(30.0))
    assert free.mean() > 1.2 * before.mean()
    assert 0.9 * before.mean() < pulled.mean() < 1.05 * before.mean()


def test_errors_of_a_video_persist(body, skeleton, placed):
    args = (jax.random.key(1), skeleton, *placed, REGRESSORS["medium"])
    offsets = []
    for clips in (CLIPS, np.arange(COUNT)):
        offset = errors(body, skeleton, placed, simulate_estimates(*args, jnp.asarray(clips)))[2]
        offset = offset - offset[:, :1]
        change = np.linalg.norm(offset[41:89] - offset[40:88], axis=-1).mean()
        offsets.append(float(change / np.linalg.norm(offset, axis=-1).mean()))
    assert offsets[0] < 0.5 and offsets[1] > 0.8


def test_another_strength_does_not_recompile(skeleton, placed):
    def run(regressor):
        clips = jnp.asarray(CLIPS)
        simulate_estimates(jax.random.key(1), skeleton, *placed, regressor, clips)
        return simulate_estimates._cache_size()

    assert run(REGRESSORS["weak"]) == run(replace(REGRESSORS["weak"], rotation=0.01))


def detect(detector, clip_index=None, seed=0, key=0, dtype=float):
    xy = jnp.broadcast_to(jnp.arange(50.0).reshape(25, 2) * 10, (400, 25, 2))
    scale = jnp.full(400, 400.0)
    if clip_index is None:
        clip_index = jnp.arange(400)
    found = simulate_detections(
        jax.random.key(key), xy.astype(dtype), scale, detector, clip_index, detector_seed=seed
    )
    return np.asarray(xy), jax.tree.map(np.asarray, found)


CLEAN = Detector(noise=0.0, outliers=0.0, missing=0.0, hidden=0.0, swapped=0.0)


def test_offsets_belong_to_the_detector():
    xy, found = detect(CLEAN)
    offset = found.xy - xy
    length = np.linalg.norm(offset, axis=-1) / 400
    assert length.min() + 1e-6 >= 0.02 and length.max() <= 0.035 + 1e-6
    np.testing.assert_allclose(offset, np.broadcast_to(offset[:1], offset.shape), atol=1e-3)
    np.testing.assert_allclose(detect(CLEAN, key=5)[1].xy, found.xy, atol=1e-3)
    assert not np.allclose(detect(CLEAN, seed=1)[1].xy, found.xy, atol=1.0)


def test_confidence_is_low_where_the_detector_is_wrong():
    xy, found = detect(Detector(offset=(0.0, 0.0), swapped=0.0))
    wrong = np.linalg.norm(found.xy - xy, axis=-1) / 400
    seen = found.confidence > 0
    assert found.confidence[seen & (wrong > 0.15)].mean() < 0.35
    assert found.confidence[seen & (wrong < 0.03)].mean() > 0.75
    assert np.all((found.confidence >= 0) & (found.confidence <= 1))


def test_missing_keypoints_and_hidden_limbs():
    _, found = detect(replace(CLEAN, missing=0.1))
    missing = found.confidence == 0
    assert 0.08 < missing.mean() < 0.12
    assert np.all(found.xy[missing] == 0)
    gone = detect(replace(CLEAN, hidden=0.2))[1].confidence == 0
    knee, ankle, elbow = (OPENPOSE_25.index(f"left_{n}") for n in ("knee", "ankle", "elbow"))
    assert np.all(gone[:, knee] == gone[:, ankle])
    assert np.any(gone[:, knee] != gone[:, elbow])
    assert 0.15 < gone[:, knee].mean() < 0.25


def test_swapped_limbs_take_each_others_place():
    xy, found = detect(replace(CLEAN, offset=(0.0, 0.0), swapped=0.2))
    left, right = OPENPOSE_25.index("left_wrist"), OPENPOSE_25.index("right_wrist")
    swapped = np.abs(found.xy[:, left] - xy[:, right]).max(-1) < 1e-3
    assert 0.14 < swapped.mean() < 0.26
    back = np.abs(found.xy[:, right] - xy[:, left]).max(-1) < 1e-3
    np.testing.assert_array_equal(swapped, back)
    certain = found.confidence[:, left]
    assert certain[swapped].mean() < certain[~swapped].mean()


def test_what_is_missing_stays_missing_for_a_while():
    def changes(clip_index):
        gone = detect(replace(CLEAN, missing=0.2), clip_index)[1].confidence == 0
        return float((gone[1:] != gone[:-1]).mean())

    assert changes(jnp.zeros(400, int)) < 0.3 * changes(None)


def test_detections_of_whole_pixels_are_those_of_the_numbers():
    wanted = detect(Detector())[1]
    found = detect(Detector(), dtype=int)[1]
    np.testing.assert_array_equal(found.confidence, wanted.confidence)
    np.testing.assert_allclose(found.xy, wanted.xy, atol=1e-3)


def test_detections_need_a_name_for_each_keypoint():
    with pytest.raises(ValueError, match="25 keypoints, found 24"):
        simulate_detections(
            jax.random.key(0), jnp.zeros((2, 25, 2)), jnp.ones(2), names=OPENPOSE_25[:24]
        )


def test_pixels_per_metre():
    camera = Camera(jnp.full((1, 2), 1000.0), jnp.zeros((1, 2)), jnp.ones((1, 2)))
    assert pixels_per_metre(camera, jnp.array([[3.0, 1.0, 5.0]])).tolist() == [200.0]


@pytest.mark.parametrize(
    "switch",
    [
        partial(jax.numpy_rank_promotion, "raise"),
        partial(jax.numpy_dtype_promotion, "strict"),
    ],
)
def test_it_runs_under_jaxs_strictest_switches(skeleton, motion, switch):
    def everything(key, pose, betas, translation, clips):
        pose, translation, camera = place_before_camera(
            key, skeleton, pose, betas, translation, clips
        )
        truth = Estimate(pose, betas, translation)
        around = place_before_cameras(key, skeleton, pose, betas, translation)
        x = mocap.jitter(key, mocap.augment(key, rotations_to_x(pose)), 0.1)
        pairs = augment_pairs(key, x, x)
        return observe((key, key), skeleton, truth, camera, REGRESSORS["weak"]), around, pairs

    with switch():
        scene, *_ = jax.eval_shape(everything, jax.random.key(0), *motion, jnp.asarray(CLIPS))
    assert scene.estimate.pose.shape == (COUNT, 24, 3, 3)


@pytest.mark.slow
def test_the_shipped_example_is_what_its_recipe_makes():
    try:
        open_body()
    except ModuleNotFoundError as error:
        pytest.skip(f"needs the open body: {error}")
    # `python -m scorehmr_jax.simulation.scene` writes what is shipped.
    for made, shipped in zip(simulated_example(), sh.example(), strict=True):
        for name, array in vars(made).items():
            wanted = getattr(shipped, name)
            if array is None:  # a camera without a pose and a lens
                assert wanted is None
                continue
            limit = 0.02 if name == "xy" else 1e-3  # pixels; metres, radians, no unit
            np.testing.assert_allclose(array, wanted, rtol=0, atol=limit, err_msg=name)


def test_views_of_a_moment_share_the_estimated_shape_and_nothing_else(body, skeleton):
    scene = photograph(jax.random.key(0), body, skeleton)
    assert scene.keypoints.xy.shape == (30, 4, 25, 2)
    betas, pose = np.asarray(scene.estimate.betas), np.asarray(scene.estimate.pose)
    np.testing.assert_array_equal(betas, np.broadcast_to(betas[:, :1], betas.shape))
    assert np.abs(betas[1:] - betas[:-1]).max(-1).min() > 0.01
    # One body posed as it was at the moment, seen from four sides, estimated four times.
    np.testing.assert_allclose(
        scene.truth.pose[:, :, 1:], scene.truth.pose[:, :1, 1:] + 0 * pose[:, :, 1:]
    )
    assert np.abs(pose[:, 1:, 1:] - pose[:, :-1, 1:]).max((-3, -2, -1)).min() > 0.05
