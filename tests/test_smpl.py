"""The body model against the released code's, and what must hold for any body."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bodies import arrays, close, dot, golden_body, random_like, relative, slope

from body_model import SMPL, stand_in
from body_model.joints import JOINT_NAMES, MIRROR, OPENPOSE_25, SMPL_45, SMPL_LANDMARKS
from body_model.rotations import axis_angle_to_matrix

FLIP = np.array([-1, 1, 1], np.float32)


@jax.jit
def mesh(body, pose, betas, translation=None):
    return body.vertices(pose, betas, translation), body.joints(pose, betas, translation)


@pytest.fixture(scope="module")
def body():
    return stand_in()


def random_pose(n, seed=0, size=0.4):
    return size * np.random.default_rng(seed).standard_normal((n, 24, 3)).astype(np.float32)


def random_betas(n, seed=1):
    return np.random.default_rng(seed).standard_normal((n, 10)).astype(np.float32)


@pytest.fixture(scope="module")
def released(golden):
    return arrays(golden / "smpl_forward.npz"), golden_body(golden)


@pytest.fixture(scope="module")
def ours(released):
    g, body = released
    vertices, joints = mesh(body, g["rotmats"], g["betas"])
    return np.asarray(vertices), np.asarray(joints)


def test_vertices_equal_the_released_code(released, ours):
    g, vertices = released[0], ours[0]
    close("vertices_subset", vertices[:, g["vertex_ids"]], g["vertices_subset"], atol=1e-5)
    if "vertices_mean" in g:  # of every vertex: not in the cut set
        close("vertices_mean", vertices.mean(1), g["vertices_mean"], atol=1e-5)
        close("vertices_abs_mean", np.abs(vertices).mean(1), g["vertices_abs_mean"], atol=1e-5)


def test_joints_equal_the_released_code(released, ours, golden):
    (g, body), (vertices, joints) = released, ours
    close("joints24_lbs", joints, g["joints24_lbs"], atol=1e-5)
    close("joints24_from_vertices", body.joint_regressor @ vertices, g["joints24_from_vertices"],
          atol=1e-5)  # fmt: skip
    joints45 = np.concatenate([joints, vertices[:, list(SMPL_LANDMARKS.values())]], axis=1)
    close("joints45", joints45, g["joints45"], atol=1e-5)
    extra = arrays(golden / "smpl_synthetic.npz")["J_regressor_extra"] @ vertices
    order = [SMPL_45.index(name) for name in OPENPOSE_25]
    close("joints44", np.concatenate([joints45[:, order], extra], 1), g["joints44"], atol=1e-5)


def test_axis_angle_equals_the_released_code(released):
    g, body = released
    pose = g["pose_aa"].reshape(-1, 24, 3)
    vertices, joints = map(np.asarray, mesh(body, pose, g["betas"]))
    close("rodrigues", axis_angle_to_matrix(pose), g["rodrigues"], atol=1e-6)
    close("aa_vertices", vertices[:, g["vertex_ids"]], g["aa_vertices_subset"], atol=1e-5)
    close("aa_joints24", joints, g["aa_joints24"], atol=1e-5)


def test_gradients_equal_the_released_code(released, golden):
    g, body = released
    extra = arrays(golden / "smpl_synthetic.npz")["J_regressor_extra"]
    order = [SMPL_45.index(name) for name in OPENPOSE_25]

    def loss(pose, betas):
        vertices, joints = body.vertices(pose, betas), body.joints(pose, betas)
        joints45 = jnp.concatenate([joints, vertices[:, list(SMPL_LANDMARKS.values())]], axis=1)
        return jnp.sum(
            g["grad_weights"] * jnp.concatenate([joints45[:, order], extra @ vertices], axis=1)
        )

    of_pose, of_betas = jax.jit(jax.grad(loss, (0, 1)))(g["rotmats"], g["betas"])
    relative("grad_rotmats", of_pose, g["grad_rotmats"], 1e-4)
    relative("grad_betas", of_betas, g["grad_betas"], 1e-4)


def test_identity_pose_is_the_shaped_template(body):
    pose, betas = np.zeros((1, 24, 3), np.float32), random_betas(1)
    vertices, joints = mesh(body, pose, betas)
    shaped = body.template + body.shape_directions @ betas[0]
    close("vertices", vertices[0], shaped, atol=1e-6)
    close("joints", joints[0], body.joint_regressor @ shaped, atol=1e-6)
    vertices, joints = mesh(body, pose, None)
    close("mean shape", vertices[0], body.template, atol=1e-6)
    close("mean joints", joints[0], body.joint_regressor @ body.template, atol=1e-6)


def test_matrices_and_axis_angle_agree(body):
    pose, betas = random_pose(2), random_betas(2)
    for name, a, b in zip(
        ("vertices", "joints"),
        mesh(body, pose, betas),
        mesh(body, axis_angle_to_matrix(pose), betas),
        strict=True,
    ):
        close(name, a, b, atol=2e-6)


def test_turning_the_root_turns_the_body(body):
    pose, betas = random_pose(2), random_betas(2)
    matrices = axis_angle_to_matrix(pose)
    turn = np.asarray(axis_angle_to_matrix(jnp.array([0.5, -1.0, 2.0])))
    turned = mesh(body, matrices.at[:, 0].set(turn @ matrices[:, 0]), betas)
    for name, a, b in zip(("vertices", "joints"), mesh(body, matrices, betas), turned, strict=True):
        root = np.asarray(mesh(body, matrices, betas)[1])[:, :1]  # the root joint stays
        close(name, b, (np.asarray(a) - root) @ turn.T + root, atol=3e-6)


def test_mirrored_pose_gives_the_mirrored_body(body):
    pose, betas = random_pose(2), random_betas(2)
    mirrored = pose[:, list(MIRROR)] * np.array([1, -1, -1], np.float32)
    joints, twin = mesh(body, pose, betas)[1], mesh(body, mirrored, betas)[1]
    close("joints", np.asarray(twin)[:, list(MIRROR)] * FLIP, joints, atol=2e-6)
    left = [n for n, name in enumerate(JOINT_NAMES) if name.startswith("left")]
    assert np.abs(np.asarray(twin)[:, left] - np.asarray(joints)[:, left]).max() > 0.1


def test_translation_moves_everything(body):
    pose, betas = random_pose(2), random_betas(2)
    translation = np.array([[1, 2, 3], [0, 0, 9]], np.float32)
    moved, still = mesh(body, pose, betas, translation), mesh(body, pose, betas)
    for name, a, b in zip(("vertices", "joints"), moved, still, strict=True):
        close(name, a, b + translation[:, None], atol=2e-6)


def test_one_is_as_many_and_any_leading_axes_do(body):
    pose, betas = random_pose(6), random_betas(6)
    many = mesh(body, pose.reshape(2, 3, 24, 3), betas.reshape(2, 3, 10))
    one = mesh(body, pose[4], betas[4])
    one_shape = mesh(body, pose, betas[4])
    for name, a, b, c in zip(("vertices", "joints"), many, one, one_shape, strict=True):
        assert a.shape[:2] == (2, 3)
        close(name, b, a[1, 1], atol=2e-6)
        close(f"{name}, one shape for all", c[4], b, atol=2e-6)


def test_fewer_shape_numbers_are_the_first(body):
    pose, betas = random_pose(1), random_betas(1)
    padded = betas * (np.arange(10) < 4)
    for name, a, b in zip(
        ("vertices", "joints"),
        mesh(body, pose, betas[:, :4]),
        mesh(body, pose, padded),
        strict=True,
    ):
        close(name, a, b, atol=2e-6)


def test_a_body_of_300_shape_numbers(body):
    rng = np.random.default_rng(0)
    more = 1e-3 * rng.standard_normal((6890, 3, 290)).astype(np.float32)
    wide = replace(body, shape_directions=np.concatenate([body.shape_directions, more], -1))
    betas = rng.standard_normal((1, 300)).astype(np.float32)
    shaped = np.einsum("vcb,b->vc", wide.shape_directions.astype(float), betas[0]) + body.template
    vertices, joints = mesh(wide, np.zeros((1, 24, 3), np.float32), betas)
    close("vertices", vertices[0], shaped, atol=1e-5)
    close("joints", joints[0], body.joint_regressor @ shaped, atol=1e-5)


def test_dtype_follows_the_input():
    pose = random_pose(1)
    assert {x.dtype for x in mesh(stand_in(), pose, random_betas(1))} == {np.dtype(np.float32)}
    with jax.enable_x64(True):
        found = mesh(stand_in(np.float64), pose.astype(float), random_betas(1).astype(float))
        assert {x.dtype for x in found} == {np.dtype(np.float64)}


def test_gradients_equal_finite_differences():
    with jax.enable_x64(True):
        body = jax.tree.map(jnp.asarray, stand_in(np.float64))
        weights = jnp.asarray(np.random.default_rng(0).standard_normal((6890, 3)))

        @jax.jit
        def loss(at):
            return jnp.sum(weights * body.vertices(*at)) + jnp.sum(body.joints(*at) ** 2)

        moved = (
            jnp.asarray(random_pose(1)[0], float),
            jnp.asarray(random_betas(1)[0], float),
            jnp.ones(3),
        )
        gradient = jax.jit(jax.grad(loss))
        # The rest pose is a singular point of axis-angle.
        for at in (moved, (jnp.zeros((24, 3)), *moved[1:])):
            direction = random_like(jax.random.key(0), at)
            found, wanted = dot(gradient(at), direction), slope(loss, at, direction, 1e-6)
            assert abs(found - wanted) < 1e-6 * abs(wanted)


@pytest.mark.parametrize("shape", [(24, 4), (23, 3), (23, 3, 3), (72,), (24, 3, 2)])
def test_a_pose_of_another_shape_is_refused(body, shape):
    for method in (body.vertices, body.joints):
        with pytest.raises(ValueError, match=r"pose: expected .*24, 3, 3.*found shape") as error:
            method(np.zeros(shape, np.float32))
        assert str(shape) in str(error.value)


def test_too_many_shape_numbers_are_refused(body):
    for method in (body.vertices, body.joints):
        with pytest.raises(ValueError, match="this body has 10 shape numbers, found 11"):
            method(np.zeros((24, 3), np.float32), np.zeros(11, np.float32))


def test_is_a_pytree_of_its_arrays(body):
    assert len(jax.tree.leaves(body)) == 6
    assert isinstance(jax.tree.map(lambda x: x, body), SMPL)
    assert hash(jax.tree.structure(body)) == hash(jax.tree.structure(stand_in()))
