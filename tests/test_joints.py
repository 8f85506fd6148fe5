"""Keypoint sets: names, and COCO's detections in OpenPose's order."""

import jax.numpy as jnp
import numpy as np
import pytest

from body_model.joints import COCO_17, OPENPOSE_25, coco_to_openpose


def detections(dtype):
    """Shoulders at odd distances: their mean lies on a half."""
    keypoints = np.zeros((17, 3), dtype)
    keypoints[COCO_17.index("left_shoulder")] = 101, 50, 1
    keypoints[COCO_17.index("right_shoulder")] = 202, 51, 0
    keypoints[COCO_17.index("left_hip")] = 7, 8, 1
    keypoints[COCO_17.index("right_hip")] = 8, 9, 1
    return keypoints


@pytest.mark.parametrize(
    ("dtype", "result"),
    [
        (np.int64, np.float64),
        (np.int32, np.float64),
        (np.uint8, np.float64),
        (np.float16, np.float16),
        (np.float32, np.float32),
        (np.float64, np.float64),
    ],
)
def test_neck_and_hips_are_means_of_both_sides(dtype, result):
    found = coco_to_openpose(detections(dtype))
    assert found.dtype == result
    np.testing.assert_array_equal(found[OPENPOSE_25.index("neck")], [151.5, 50.5, 0])
    np.testing.assert_array_equal(found[OPENPOSE_25.index("pelvis")], [7.5, 8.5, 1])


def test_large_numbers_of_half_precision_are_averaged():
    keypoints = np.full((17, 3), 40000, np.float16)  # two of them add up to infinity
    found = coco_to_openpose(keypoints)
    np.testing.assert_array_equal(found[OPENPOSE_25.index("neck")], keypoints[0])


def test_the_others_keep_their_names_and_feet_are_unknown():
    keypoints = np.random.default_rng(0).uniform(1, 100, (2, 4, 17, 3))
    found = coco_to_openpose(keypoints)
    assert found.shape == (2, 4, 25, 3)
    for index, name in enumerate(OPENPOSE_25):
        if name in COCO_17:
            np.testing.assert_array_equal(
                found[..., index, :], keypoints[..., COCO_17.index(name), :]
            )
        elif name not in ("neck", "pelvis"):
            assert (found[..., index, :] == 0).all()


def test_arrays_of_jax_will_do():
    found = coco_to_openpose(jnp.asarray(detections(np.int32)))
    np.testing.assert_array_equal(found, coco_to_openpose(detections(np.int32)))


def test_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"expected shape \[..., 17, 3\], found \(25, 3\)"):
        coco_to_openpose(np.zeros((25, 3)))
