"""Bodies in other frames, of other models, and measured."""

import dataclasses

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


@pytest.mark.parametrize(("model", "joints"), [("smplh", 52), ("smplx", 55)])
def test_poses_go_to_other_models_and_back(model, joints):
    pose = drawn(2)[0]
    for given, rest in ((pose, np.zeros(3)), (np.asarray(axis_angle_to_matrix(pose)), np.eye(3))):
        there = np.asarray(body_model.from_smpl_pose(given, model))
        assert there.shape == (2, joints, *given.shape[2:])
        np.testing.assert_array_equal(there[:, :22], given[:, :22])
        np.testing.assert_array_equal(there[:, 22:], np.broadcast_to(rest, there[:, 22:].shape))
        fingers = there + 0.1 * (np.arange(joints) >= 22).reshape(-1, *[1] * rest.ndim)
        back = np.asarray(body_model.to_smpl_pose(fingers))
        np.testing.assert_array_equal(back[:, :22], given[:, :22])
        np.testing.assert_array_equal(back[:, 22:], np.broadcast_to(rest, back[:, 22:].shape))
    np.testing.assert_array_equal(body_model.to_smpl_pose(pose), pose)
    with pytest.raises(ValueError, match="J of 24, 52, 55, 22; found shape"):
        body_model.to_smpl_pose(np.zeros((2, 30, 3)))
    with pytest.raises(ValueError, match="expected 'smplh' or 'smplx', found 'smpl'"):
        body_model.from_smpl_pose(pose, "smpl")


def other_file(seed=0):
    """The same mesh in another place, its shape numbers mixed and one of them missing."""
    rng = np.random.default_rng(seed)
    mix = np.linalg.qr(rng.normal(size=(10, 10)))[0]
    mixed = dataclasses.replace(
        BODY,
        template=BODY.template + np.float32([0.1, 0.3, 0]),
        shape_directions=(BODY.shape_directions @ mix).astype(np.float32),
    )
    return mixed, mix


def test_a_shape_is_found_in_another_file_of_the_same_mesh():
    other, mix = other_file()
    betas = drawn(3)[1]
    found, distance = body_model.fit_shape(BODY, betas, other)
    np.testing.assert_allclose(found, betas @ mix, atol=0.01)
    assert distance.shape == (3,) and distance.max() < 1e-4
    few = dataclasses.replace(other, shape_directions=other.shape_directions[..., :4])
    found, distance = body_model.fit_shape(BODY, betas[0], few)
    assert found.shape == (4,) and distance > 5e-3
    left = BODY.shaped(betas[0]) - few.shaped(found)
    left = np.asarray(left - left.mean(0))
    assert distance == pytest.approx(np.sqrt((left**2).sum(-1).mean()), rel=1e-3)


def test_a_shape_is_found_in_another_mesh_by_joints_and_landmarks():
    turned = dataclasses.replace(
        BODY, faces=BODY.faces[:, [1, 2, 0]]
    )  # not the same, for all it knows
    betas = drawn(2)[1]
    found, distance = body_model.fit_shape(BODY, betas, turned)
    points = [np.asarray(BODY.rest_joints(b)) for b in (betas, found)]
    np.testing.assert_allclose(points[0], points[1], atol=3e-3)
    assert distance.max() < 2e-3


def test_a_converted_body_stands_where_it_stood():
    other, _ = other_file()
    pose, betas, translation, _, _ = drawn(2)
    wide = np.concatenate([pose[:, :22], np.ones((2, 30, 3), np.float32)], axis=1)
    converted = body_model.convert_body(BODY, wide, betas, translation, other)
    new_pose, new_betas, new_translation, distance = converted
    flat = np.array(new_pose)
    found = other.vertices(flat, new_betas, new_translation)
    pose[:, 22:] = 0
    np.testing.assert_allclose(found, BODY.vertices(pose, betas, translation), atol=1e-3)
    assert distance.max() < 1e-4


def test_the_kid_template_is_an_eleventh_shape_number(tmp_path):
    kid = 0.6 * np.asarray(BODY.template, float) + [0.2, 0.5, 0]
    np.save(tmp_path / "kid.npy", kid)
    body_model.save(tmp_path / "body.npz", BODY)
    loaded = body_model.load(tmp_path / "body.npz", kid=tmp_path / "kid.npy")
    assert loaded.shape_directions.shape[-1] == 11
    betas = np.zeros(11, np.float32)
    np.testing.assert_array_equal(loaded.shaped(betas), BODY.template)
    betas[10] = 1
    np.testing.assert_allclose(loaded.shaped(betas), kid - kid.mean(0), atol=1e-6)
    np.save(tmp_path / "small.npy", kid[:100])
    with pytest.raises(ValueError, match=r"small.npy: expected a template of 6890 finite vertices"):
        body_model.load(tmp_path / "body.npz", kid=tmp_path / "small.npy")
