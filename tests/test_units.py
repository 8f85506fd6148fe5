"""Units and conventions: what is refused, what is warned of, and what must pass in silence."""

import warnings
from functools import partial

import numpy as np
import pytest

from scorehmr_jax import units

N, K = 8, 25
RNG = np.random.default_rng(0)
SIZE = np.tile([1920.0, 1080.0], (N, 1))
FOCAL = np.full((N, 2), 1500.0)
TRANSLATION = np.tile([0.1, 0.2, 4.0], (N, 1))
SEEN = np.ones((N, K))
BODY = RNG.uniform([-0.4, -0.9], [0.4, 0.9], (N, K, 2))  # metres
XY = (BODY + TRANSLATION[:, None, :2]) * 1500 / 4 + SIZE[:, None] / 2
GUESSED = XY + np.where(np.arange(K) < 10, 0, 3000)[:, None] * np.array([0.0, 1])
GUESSES = np.where(np.arange(K) < 10, SEEN, 0.03)
TURNS = np.eye(3)[None].repeat(24 * N, 0).reshape(N, 24, 3, 3)
ANGLES = RNG.normal(0, 0.4, (N, 24, 3))


def one_odd(array, value):
    changed = np.array(array, float)
    changed[0] = value
    return changed


@pytest.mark.parametrize(
    ("check", "arguments"),
    [
        (units.check_axis_angle, (ANGLES,)),
        (units.check_axis_angle, (ANGLES.reshape(N, 72).astype(np.float16),)),
        (units.check_axis_angle, (one_odd(ANGLES, 90.0),)),
        (units.check_axis_angle, (np.full((3, 24, 3), np.nan),)),
        (units.check_axis_angle, (np.zeros((0, 72)),)),
        (units.check_rotations, (TURNS,)),
        (units.check_rotations, (TURNS.astype(np.float16),)),
        (units.check_rotations, (one_odd(TURNS, np.nan),)),
        (units.check_keypoints, (XY, SEEN, SIZE)),
        (units.check_keypoints, (XY, SEEN, None)),
        (units.check_keypoints, (XY * 0, SEEN * 0, SIZE)),  # nobody is seen
        (units.check_keypoints, (one_odd(XY, 0.5), SEEN, SIZE)),
        (units.check_keypoints, (one_odd(XY, -9000.0), SEEN, SIZE)),
        # A portrait, under which a detector guesses legs.
        (units.check_keypoints, (GUESSED, GUESSES, SIZE)),
        (units.check_person_size, (GUESSED, GUESSES, TRANSLATION, FOCAL)),
        (units.check_keypoints, (XY.reshape(2, 4, K, 2), SEEN.reshape(2, 4, K), SIZE[0])),
        (units.check_camera, (FOCAL, SIZE / 2, SIZE)),
        (units.check_camera, (5000.0 + 0 * FOCAL, np.full((N, 2), 112), np.full((N, 2), 224))),
        (units.check_camera, (one_odd(FOCAL, 0.0), one_odd(SIZE / 2, np.nan), SIZE)),
        (units.check_camera, (FOCAL[0], SIZE[0] * 0.7, SIZE[0])),
        (units.check_translation, (TRANSLATION,)),
        (units.check_translation, (one_odd(TRANSLATION, np.inf),)),
        (units.check_person_size, (XY, SEEN, TRANSLATION, FOCAL)),
        (units.check_person_size, (XY, SEEN, one_odd(TRANSLATION, 0.0), FOCAL)),
        (units.check_person_size, (XY, SEEN, -TRANSLATION, FOCAL)),
        (units.check_person_size, (XY, SEEN, TRANSLATION * 3, FOCAL * 3)),
        (units.check_betas, (RNG.normal(0, 3, (N, 10)),)),
        (units.check_betas, (one_odd(np.zeros((N, 10)), 1e6),)),
        (units.check_betas, (np.zeros((N, 0)),)),
        (units.check_boxes, (SIZE[:5] / 3, np.array([20, 300, 9, np.nan, 0]))),
        (units.check_boxes, (one_odd(SIZE, 0), np.full(N, 30))),
        (units.check_boxes, (SIZE, np.full(N, 20))),
        (partial(units.check_boxes, image_size=SIZE), (SIZE / 2, np.full(N, 20))),
        (partial(units.check_boxes, image_size=SIZE * np.nan), (SIZE / 2, np.full(N, 20))),
        (partial(units.check_boxes, image_size=SIZE * 13), (SIZE / 2, np.full(N, 40))),
        # A face alone, and a child.
        (units.check_person_size, (XY, SEEN * (np.arange(K) < 5), TRANSLATION / 8, FOCAL)),
        (units.check_person_size, (XY, SEEN, TRANSLATION * 0.5, FOCAL)),
        (units.check_joints, (np.concatenate([BODY, BODY[..., :1]], -1), SEEN)),
        (units.check_joints, (np.zeros((N, K, 3)), SEEN * 0)),
    ],
)
def test_what_is_sound_passes_in_silence(check, arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(*arguments, "f.npz: key")


@pytest.mark.parametrize(
    ("check", "arguments", "message"),
    [
        (units.check_axis_angle, (np.rad2deg(ANGLES),), "more than 4 pi in 8 of 8 .* degrees"),
        (units.check_axis_angle, (np.rad2deg(ANGLES[:1]).reshape(1, 72),), "found degrees"),
        (units.check_rotations, (TURNS * 0,), r"row 0 \(8 of 8 in all\) holds matrices that are"),
        (units.check_rotations, (TURNS * [1, 1, -1],), "no rotations"),
        (units.check_rotations, (one_odd(TURNS * 2, np.nan),), "row 1 .* no rotations"),
        (units.check_keypoints, (XY / SIZE[:, None], SEEN, SIZE), "as if they were normalised"),
        (units.check_keypoints, (XY / 960 - 1, SEEN, None), "as if they were normalised"),
        (units.check_keypoints, (one_odd(XY, 500) / 1080, SEEN, SIZE), "multiply by the image's"),
        (units.check_camera, (FOCAL / 1920, SIZE / 2, SIZE), r"\.focal: expected pixels, found"),
        (
            units.check_camera,
            (FOCAL * 0 + 35, SIZE / 2, SIZE),
            "found 35 x 35 for an image of 1920",
        ),
        (units.check_camera, (FOCAL, SIZE / SIZE / 2, SIZE), r"\.center: .*, found 0.5 x 0.5"),
        (
            units.check_camera,
            (FOCAL, SIZE / 2, SIZE / SIZE),
            r"image_size: expected .* found 1 x 1",
        ),
        (units.check_person_size, (XY, SEEN, TRANSLATION * 1000, FOCAL), "found millimetres"),
        (units.check_person_size, (XY, SEEN, TRANSLATION * 100, FOCAL), "keypoints span 1.. m"),
        (units.check_person_size, (XY, SEEN, TRANSLATION, FOCAL * 0 + 35), "focal length in other"),
        (units.check_person_size, (XY / 1920, SEEN, TRANSLATION, FOCAL), "keypoints span 0.0008"),
        (units.check_betas, (np.full((N, 10), 170.0),), "shape numbers.*, found up to 170"),
        (
            units.check_boxes,
            (SIZE / 2, np.full(N, 1.5)),
            "scale: .* multiply sides over 200 by 200",
        ),
        (units.check_boxes, (SIZE / 2, np.full(N, 0.4)), r"found 0.4.*\(8 of 8 rows\)"),
        (units.check_boxes, (SIZE / 2, np.full(N, -400)), r"found -400.*\(8 of 8 rows\)"),
        (
            partial(units.check_boxes, image_size=np.array([6000, 4000])),
            (SIZE / 2, np.full(N, 15)),
            r"found 15.*over 200 by 200",
        ),
        (units.check_boxes, (SIZE / SIZE / 2, np.full(N, 90)), "center: expected the box's center"),
        (
            units.check_joints,
            (1000 * np.concatenate([BODY, BODY[..., :1]], -1), SEEN),
            "divide by 1000",
        ),
    ],
)
def test_another_unit_is_refused_by_name(check, arguments, message):
    with pytest.raises(ValueError, match=f"^f.npz: key.*{message}"):
        check(*arguments, "f.npz: key")


@pytest.mark.parametrize(
    ("check", "arguments", "message"),
    [
        (units.check_rotations, (one_odd(TURNS, 0),), "row 0 .1 of 8 in all.*keep their first"),
        (
            units.check_keypoints,
            (XY + np.array([700, 0]), SEEN, SIZE[:, ::-1]),
            r"as \(width, height\)",
        ),
        (units.check_keypoints, (XY * 3, SEEN, SIZE), "of the keypoints lie outside the image;"),
        (units.check_camera, (FOCAL / 4, SIZE / 2, SIZE), "a view of more than 126 degrees"),
        (units.check_camera, (FOCAL, SIZE * 2, SIZE), "point 3840 x 2160 lies outside the image"),
        (units.check_translation, (TRANSLATION * 1000,), "4006 m from the camera.*millimetres"),
        (units.check_person_size, (XY, SEEN, TRANSLATION * 5, FOCAL), "for another focal length"),
        (
            units.check_person_size,
            (XY / SIZE[:, None] * 100, SEEN, TRANSLATION, FOCAL),
            "in percent",
        ),
        (units.check_betas, (np.full((N, 10), -17.0),), "found up to 17"),
    ],
)
def test_what_may_be_meant_is_warned_of(check, arguments, message):
    with pytest.warns(UserWarning, match=f"^f.npz: key.*{message}"):
        check(*arguments, "f.npz: key")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64, bool])
def test_confidences_between_0_and_1_stay(dtype):
    given = np.array([[0, 1, 1], [0, 0, 1]], dtype)
    assert units.checked_confidence(given, "key") is given
    if np.dtype(dtype).kind == "f":
        given[0, 0] = np.nan
        assert units.checked_confidence(given, "key") is given


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
def test_confidences_that_overshoot_become_1(dtype):
    with pytest.warns(UserWarning, match="key: 1 confidences are above 1, up to 2; they are taken"):
        found = units.checked_confidence(np.array([0, 1, 2], dtype), "key")
    assert found.dtype == dtype and found.tolist() == [0, 1, 1]


@pytest.mark.parametrize("value", [-0.1, -1.0, 2.5, 87.0, np.inf])
def test_scores_of_another_kind_are_refused(value):
    given = np.zeros((3, 4))
    given[1, 2] = value
    with pytest.raises(ValueError, match=rf"key: expected .* found {value:g} at \[1, 2\] \(1 such"):
        units.checked_confidence(given, "key")


@pytest.mark.parametrize(
    ("rows", "far", "fine"),
    [
        (1, 1, False),
        (2, 1, True),
        (4, 2, True),
        (4, 3, False),
        (100, 10, True),
        (100, 11, False),
        (1000, 50, True),
        (1000, 51, False),
    ],
)
def test_a_few_poses_may_have_gone_astray(rows, far, fine):
    if fine:
        units.refuse_degrees(far, rows, "key")
    else:
        with pytest.raises(ValueError, match=f"in {far} of {rows} poses"):
            units.refuse_degrees(far, rows, "key")
