"""Bodies in other frames, of other models, and measured."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import body_model
from body_model.joints import NUM_JOINTS
from body_model.rotations import axis_angle_to_matrix

BODY = body_model.stand_in()


def drawn(*batch, seed=0):
    """Pose in axis-angle, betas, translation, rotation and offset."""
    rng = np.random.default_rng(seed)
    pose = 0.5 * rng.normal(size=(*batch, NUM_JOINTS, 3)).astype(np.float32)
    betas = rng.normal(size=(*batch, 10)).astype(np.float32)
    translation, offset = (
        rng.normal(size=(*batch, 3)).astype(np.float32) * [1, 1, 3] for _ in range(2)
    )
    rotation = np.asarray(axis_angle_to_matrix(2 * rng.normal(size=(*batch, 3))))
    return pose, betas, translation.astype(np.float32), rotation, offset.astype(np.float32)


def moved_vertices(pose, betas, translation, rotation, offset):
    vertices = np.asarray(BODY.vertices(pose, betas, translation))
    return vertices @ np.swapaxes(rotation, -1, -2) + offset[..., None, :]


def test_every_vertex_of_a_moved_body_is_the_moved_vertex():
    pose, betas, translation, rotation, offset = drawn(3)
    wanted = moved_vertices(pose, betas, translation, rotation, offset)
    for given in (pose, np.asarray(axis_angle_to_matrix(pose))):
        new_pose, new_translation = body_model.move(
            BODY, given, betas, translation, rotation, offset
        )
        assert new_pose.shape == given.shape and new_pose.dtype == np.float32
        found = BODY.vertices(new_pose, betas, new_translation)
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    # Turning and shifting the translation alone is wrong by the pelvis' own way.
    naive = np.einsum("nrc,nc->nr", rotation, translation) + offset
    assert np.abs(np.asarray(new_translation) - naive).max() > 0.1


def test_one_frame_for_many_bodies_and_no_offset():
    pose, betas, translation, rotation, _ = drawn(2)
    new_pose, new_translation = body_model.move(BODY, pose, betas, translation, rotation[0])
    found = BODY.vertices(new_pose, betas, new_translation)
    wanted = moved_vertices(pose, betas, translation, rotation[0], np.zeros(3))
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    one, place = body_model.move(BODY, pose[0], None, translation[0], rotation)  # many frames
    assert one.shape == (2, NUM_JOINTS, 3) and place.shape == (2, 3)


def test_a_move_jits_and_has_the_gradient_of_its_formula():
    pose, betas, translation, rotation, offset = drawn()

    @jax.jit
    def placed(translation, offset):
        return body_model.move(BODY, pose, betas, translation, rotation, offset)[1]

    by_translation, by_offset = jax.jacobian(placed, (0, 1))(translation, offset)
    np.testing.assert_allclose(by_translation, rotation, atol=1e-6)
    np.testing.assert_allclose(by_offset, np.eye(3), atol=1e-6)


def test_a_move_refuses_what_is_no_rotation():
    pose, betas, translation, _, _ = drawn()
    with pytest.raises(ValueError, match=r"rotation: expected \[..., 3, 3\]"):
        body_model.move(BODY, pose, betas, translation, np.zeros((4, 4)))


def test_measures_follow_the_shape():
    betas = np.zeros((2, 10), np.float32)
    betas[1, 0] = 2
    found = body_model.measure(BODY, betas)
    template, joints = np.asarray(BODY.template), np.asarray(BODY.rest_joints(None))
    np.testing.assert_allclose(found["height"][0], np.ptp(template[:, 1]), rtol=1e-6)
    np.testing.assert_allclose(found["arm_span"][0], np.ptp(template[:, 0]), rtol=1e-6)
    elbow, wrist = joints[[19, 21]]
    np.testing.assert_allclose(found["right_forearm"][0], np.linalg.norm(elbow - wrist), rtol=1e-5)
    assert found["height"][1] > found["height"][0] + 0.05  # the first shape number is stature
    np.testing.assert_allclose(found["left_thigh"], found["right_thigh"], rtol=1e-5)
    slope = jax.grad(lambda b: body_model.measure(BODY, b)["height"])(jnp.zeros(10))
    np.testing.assert_allclose(2 * slope[0], found["height"][1] - found["height"][0], rtol=0.05)
