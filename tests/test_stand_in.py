"""The capsule figure is SMPL in every respect but likeness."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from body_model.joints import EXTRA_19, JOINT_NAMES, MIRROR, SMPL_45, SMPL_LANDMARKS
from body_model.open.stand_in import stand_in, stand_in_regressor
from body_model.skeleton import Skeleton

FLIP = np.array([-1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def body():
    return stand_in(np.float64)


def swap_sides(name):
    return name.replace("left", "#").replace("right", "left").replace("#", "right")


def mirrored(pose):
    """The axis-angle pose of the person in the mirror."""
    return pose[..., list(MIRROR), :] * np.array([1.0, -1.0, -1.0], pose.dtype)


def test_has_the_sizes_and_dtypes_of_smpl():
    body = stand_in()
    assert body.template.shape == (6890, 3)
    assert body.faces.shape == (13776, 3)
    assert body.shape_directions.shape == (6890, 3, 10)
    assert body.pose_directions.shape == (6890, 3, 207)
    assert body.joint_regressor.shape == body.skin_weights.T.shape == (24, 6890)
    assert dict(body.landmarks) == SMPL_LANDMARKS
    assert body.faces.dtype == np.int32
    assert {x.dtype for x in jax.tree.leaves(body)} == {np.dtype(np.float32), np.dtype(np.int32)}


def test_surface_is_closed_and_faces_outward(body):
    edges = body.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    assert len(np.unique(edges, axis=0)) == len(edges)  # each direction once
    assert len(np.unique(np.sort(edges, axis=1), axis=0)) * 2 == len(edges)
    assert len(np.unique(body.faces)) == 6890
    corners = body.template[body.faces]
    volume = np.linalg.det(corners).sum() / 6
    assert 0.04 < volume < 0.1  # cubic metres


def test_weights_and_regressor_are_convex(body):
    assert (body.skin_weights >= 0).all()
    assert (np.count_nonzero(body.skin_weights, axis=1) <= 4).all()
    np.testing.assert_allclose(body.skin_weights.sum(1), 1, atol=1e-12)
    for regressor in (body.joint_regressor, stand_in_regressor(body)):
        assert (regressor >= 0).all()
        np.testing.assert_allclose(regressor.sum(1), 1, atol=1e-12)


def test_stands_as_smpl_stands(body):
    joints = dict(zip(JOINT_NAMES, body.joint_regressor @ body.template, strict=True))
    np.testing.assert_allclose(joints["pelvis"], (0, -0.22, 0.02), atol=0.005)
    assert 1.6 < np.ptp(body.template[:, 1]) < 1.8
    wrist, shoulder = joints["left_wrist"], joints["left_shoulder"]
    assert wrist[0] - shoulder[0] > 0.4 and abs(wrist[1] - shoulder[1]) < 0.01
    assert joints["left_ankle"][1] < joints["left_knee"][1] < joints["left_hip"][1]


def test_landmarks_lie_where_their_names_say(body):
    at = {name: body.template[index] for name, index in body.landmarks}
    joints = dict(zip(JOINT_NAMES, body.joint_regressor @ body.template, strict=True))
    head = joints["head"]
    assert abs(at["nose"][0]) < 1e-9 and at["nose"][2] - head[2] > 0.1
    assert at["left_eye"][1] > at["nose"][1] > head[1]
    assert at["left_ear"][0] > 0.06 > at["left_eye"][0] > 0.01
    assert at["left_heel"][2] < joints["left_ankle"][2] < at["left_small_toe"][2]
    assert at["left_big_toe"][0] < joints["left_foot"][0] < at["left_small_toe"][0]
    fingers = [at[f"left_{f}"] for f in ("thumb", "index", "middle", "ring", "pinky")]
    assert all(np.linalg.norm(f - joints["left_hand"]) < 0.13 for f in fingers)
    assert (np.diff([f[2] for f in fingers]) < 0).all()  # palms down, thumbs forward
    for name in at:
        np.testing.assert_array_equal(at[name] * FLIP, at[swap_sides(name)])


def test_mirrored_pose_gives_the_mirrored_figure():
    body = stand_in()
    skeleton = Skeleton.of(body, SMPL_45, stand_in_regressor(body))
    keypoints = jax.jit(lambda pose, betas: skeleton(pose, betas))
    rng = np.random.default_rng(0)
    pose = 0.5 * rng.standard_normal((4, 24, 3)).astype(np.float32)
    betas = rng.standard_normal((4, 10)).astype(np.float32)
    order = [SMPL_45.index(swap_sides(name)) for name in SMPL_45]
    order += [45 + EXTRA_19.index(swap_sides(name)) for name in EXTRA_19]
    points = np.asarray(keypoints(pose, betas))
    twins = np.asarray(keypoints(mirrored(pose), betas))
    np.testing.assert_allclose(twins[:, order] * FLIP, points, atol=2e-6)


def test_shape_numbers_mean_something(body):
    def joints(index):
        shaped = body.template + 2 * body.shape_directions[..., index]
        return dict(zip(JOINT_NAMES, body.joint_regressor @ shaped, strict=True))

    rest = dict(zip(JOINT_NAMES, body.joint_regressor @ body.template, strict=True))

    def length(j, a, b):
        return np.linalg.norm(j[f"left_{a}"] - j[f"left_{b}"])

    assert (
        0.1
        < np.ptp((body.template + 2 * body.shape_directions[..., 0])[:, 1])
        - np.ptp(body.template[:, 1])
        < 0.3
    )
    girth, legs, arms = joints(1), joints(2), joints(3)
    np.testing.assert_allclose(list(girth.values()), list(rest.values()), atol=1e-3)
    assert length(legs, "hip", "ankle") > 1.05 * length(rest, "hip", "ankle")
    assert length(arms, "shoulder", "wrist") > 1.05 * length(rest, "shoulder", "wrist")
    assert np.isclose(length(arms, "hip", "ankle"), length(rest, "hip", "ankle"))


def test_pose_correctives_are_there_and_small():
    body = stand_in()
    pose = 0.5 * np.random.default_rng(1).standard_normal((24, 3)).astype(np.float32)
    plain = replace(body, pose_directions=np.zeros_like(body.pose_directions))
    posed = jax.jit(lambda body: body.vertices(pose))
    moved = np.linalg.norm(posed(body) - posed(plain), axis=-1)
    assert 1e-3 < moved.max() < 0.05


def test_is_the_same_every_time():
    for one, other in zip(jax.tree.leaves(stand_in()), jax.tree.leaves(stand_in()), strict=True):
        np.testing.assert_array_equal(one, other)
