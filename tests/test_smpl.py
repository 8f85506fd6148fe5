"""The body model against the released code's, and what must hold for any body."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bodies import arrays, close, dot, golden_body, random_like, relative, slope

from body_model import SMPL, stand_in
from body_model.joints import (
    JOINT_NAMES,
    MIRROR,
    OPENPOSE_25,
    PARENTS,
    SMPL_45,
    SMPL_LANDMARKS,
)
from body_model.kinematics import forward_kinematics
from body_model.rotations import axis_angle_to_matrix

FLIP = np.array([-1, 1, 1], np.float32)


@jax.jit
def compiled_mesh(body, pose, betas, translation):
    return body.vertices(pose, betas, translation), body.joints(pose, betas, translation)


def mesh(body, pose, betas, translation=(0, 0, 0)):
    """Vertices and joints; most tests take two poses, so that few programs are compiled."""
    translation = np.broadcast_to(np.asarray(translation, np.float32), (len(pose), 3))
    return compiled_mesh(body, pose, betas, translation)


@pytest.fixture(scope="module")
def body():
    return jax.tree.map(jnp.asarray, stand_in())


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
    close(
        "joints24_from_vertices",
        body.joint_regressor @ vertices,
        g["joints24_from_vertices"],
        atol=1e-5,
    )
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
    pose, betas = np.zeros((2, 24, 3), np.float32), random_betas(2)
    vertices, joints = mesh(body, pose, betas)
    shaped = body.template + np.einsum("vcb,nb->nvc", body.shape_directions, betas)
    close("vertices", vertices, shaped, atol=1e-6)
    close("joints", joints, body.joint_regressor @ shaped, atol=1e-6)


def test_without_shape_numbers_the_shape_is_the_mean(body):
    pose = random_pose(2)
    for name, a, b in zip(
        ("vertices", "joints"),
        compiled_mesh(body, pose, None, None),
        mesh(body, pose, np.zeros((2, 10), np.float32)),
        strict=True,
    ):
        close(name, a, b, atol=1e-6)


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
    before = mesh(body, matrices, betas)
    after = mesh(body, matrices.at[:, 0].set(turn @ matrices[:, 0]), betas)
    root = np.asarray(before[1])[:, :1]  # the root joint stays
    for name, a, b in zip(("vertices", "joints"), before, after, strict=True):
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
    many = compiled_mesh(body, pose.reshape(2, 3, 24, 3), betas.reshape(2, 3, 10), None)
    one = compiled_mesh(body, pose[4], betas[4], None)
    one_shape = compiled_mesh(body, pose, betas[4], np.zeros(3, np.float32))
    for name, a, b, c in zip(("vertices", "joints"), many, one, one_shape, strict=True):
        assert a.shape[:2] == (2, 3)
        close(name, b, a[1, 1], atol=2e-6)
        close(f"{name}, one shape for all", c[4], b, atol=2e-6)


def test_one_pose_has_many_shapes_and_places(body):
    pose, betas = random_pose(1)[0], random_betas(3)
    translation = np.array([[[1, 2, 3]], [[0, 0, 9]]], np.float32)  # [2, 1, 3]
    found = compiled_mesh(body, pose, betas, translation)
    wide = mesh(body, np.stack([pose] * 2), betas[1:], translation[1])
    for name, a, b in zip(("vertices", "joints"), found, wide, strict=True):
        assert a.shape[:2] == (2, 3)
        close(name, a[1, 1:], b, atol=2e-6)


def test_vmap_gives_what_leading_axes_give(body):
    pose, betas = random_pose(2), random_betas(2)
    found = jax.jit(jax.vmap(lambda p, b: (body.vertices(p, b), body.joints(p, b))))(pose, betas)
    for name, a, b in zip(("vertices", "joints"), found, mesh(body, pose, betas), strict=True):
        close(name, a, b, atol=2e-6)


def test_fewer_shape_numbers_are_the_first(body):
    pose, betas = random_pose(2), random_betas(2)
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


def test_dtype_is_the_common_one(body):
    pose, betas = random_pose(2), random_betas(2)
    for body_type, pose_type, wanted in (
        (jnp.float16, jnp.float16, jnp.float16),
        (jnp.float32, jnp.bfloat16, jnp.float32),
        (jnp.float32, jnp.int32, jnp.float32),
    ):
        found = jax.eval_shape(
            compiled_mesh,
            jax.tree.map(lambda a, t=body_type: a.astype(t) if a.dtype == np.float32 else a, body),
            jnp.asarray(pose, pose_type),
            jnp.asarray(betas, pose_type),
            None,
        )
        assert {x.dtype for x in found} == {jnp.dtype(wanted)}
    with jax.enable_x64(True):
        found = jax.eval_shape(
            compiled_mesh, stand_in(np.float64), pose.astype(float), betas.astype(float), None
        )
        assert {x.dtype for x in found} == {np.dtype(np.float64)}


def test_half_precision_is_computed_in_float32(body):
    small = jax.tree.map(lambda a: a.astype(jnp.float16) if a.dtype == np.float32 else a, body)
    pose, betas = random_pose(2).astype(np.float16), random_betas(2).astype(np.float16)
    found = compiled_mesh(small, pose, betas, None)
    exact = jax.tree.map(lambda a: a.astype(np.float32) if a.dtype == np.float16 else a, small)
    wanted = mesh(exact, pose.astype(np.float32), betas.astype(np.float32))
    for name, a, b in zip(("vertices", "joints"), found, wanted, strict=True):
        close(name, np.asarray(a, np.float32), b, rtol=1e-3, atol=1e-4)  # rounded once
    gradient = jax.jit(jax.grad(lambda q: jnp.sum(small.joints(q))))
    still = gradient(jnp.full((24, 3), 3e-3, jnp.float16))
    exact_still = jax.jit(jax.grad(lambda q: jnp.sum(exact.joints(q))))(jnp.full((24, 3), 3e-3))
    close("gradient", np.asarray(still, np.float32), exact_still, rtol=1e-2, atol=2e-3)


def test_whole_numbers_are_numbers(body):
    pose, betas = np.zeros((2, 24, 3), int), np.arange(20).reshape(2, 10) % 3
    pose[:, 1, 0] = 1
    found = mesh(body, pose, betas, (1, 2, 3))
    wanted = mesh(body, pose.astype(np.float32), betas.astype(np.float32), (1, 2, 3))
    for name, a, b in zip(("vertices", "joints"), found, wanted, strict=True):
        close(name, a, b, atol=1e-6)


@jax.jit
def loss(at, body, weights):
    return jnp.sum(weights * body.vertices(*at)) + jnp.sum(body.joints(*at) ** 2)


def test_gradients_equal_finite_differences():
    with jax.enable_x64(True):
        body = jax.tree.map(jnp.asarray, stand_in(np.float64))
        weights = jnp.asarray(np.random.default_rng(0).standard_normal((6890, 3)))
        moved = (
            jnp.asarray(random_pose(1)[0], float),
            jnp.asarray(random_betas(1)[0], float),
            jnp.ones(3),
        )
        gradient = jax.jit(jax.grad(loss))
        # The rest pose is a singular point of axis-angle.
        for at in (moved, (jnp.zeros((24, 3)), *moved[1:])):
            direction = random_like(jax.random.key(0), at)
            found = dot(gradient(at, body, weights), direction)
            wanted = slope(lambda x: loss(x, body, weights), at, direction, 1e-6)
            assert abs(found - wanted) < 1e-6 * abs(wanted)


def walk(pose, rest_joints):
    """Kinematics joint by joint, with JAX's own derivatives."""
    rotations, positions = [pose[0]], [rest_joints[0]]
    for joint, parent in enumerate(PARENTS[1:], start=1):
        positions.append(
            positions[parent] + rotations[parent] @ (rest_joints[joint] - rest_joints[parent])
        )
        rotations.append(rotations[parent] @ pose[joint])
    return jnp.stack(rotations), jnp.stack(positions)


def test_derivatives_of_kinematics_are_those_of_a_plain_walk():
    """Of first and second order, by all nine numbers of each rotation, not by turns alone."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((24, 3, 3)), rng.standard_normal((24, 3))

    def derivatives(kinematics):
        def total(at):
            rotations, positions = kinematics(*at)
            return jnp.sum(weights[0] * rotations) + jnp.sum(weights[1] * positions**2)

        def both(at, direction):
            return jax.jvp(jax.grad(total), (at,), (direction,))

        return jax.jit(both)

    with jax.enable_x64(True):
        at = (axis_angle_to_matrix(random_pose(1)[0].astype(float)), rng.standard_normal((24, 3)))
        direction = rng.standard_normal((24, 3, 3)), rng.standard_normal((24, 3))
        found = derivatives(forward_kinematics)(at, direction)
        wanted = derivatives(walk)(at, direction)
    for order, ours, theirs in zip(("first", "second"), found, wanted, strict=True):
        for name, a, b in zip(("pose", "rest joints"), ours, theirs, strict=True):
            relative(f"{order} derivative by {name}", a, b, 1e-12)


@pytest.mark.parametrize("shape", [(24, 4), (23, 3), (23, 3, 3), (72,), (24, 3, 2)])
def test_a_pose_of_another_shape_is_refused(body, shape):
    for method in (body.vertices, body.joints):
        with pytest.raises(ValueError, match=r"pose: expected .*24, 3, 3.*found shape") as error:
            method(np.zeros(shape, np.float32))
        assert str(shape) in str(error.value)


def test_other_arguments_of_another_shape_are_refused(body):
    pose = np.zeros((2, 24, 3, 3), np.float32)
    for method in (body.vertices, body.joints):
        for betas in (np.zeros(11, np.float32), np.zeros((), np.float32)):
            with pytest.raises(ValueError, match=r"this body has 10 shape numbers, found shape"):
                method(pose, betas)
        with pytest.raises(ValueError, match=r"leading axes: .*\(2, 24, 3, 3\), \(3, 24, 3\)"):
            jax.eval_shape(method, pose, np.zeros((3, 10), np.float32))
        for translation in (np.zeros(1, np.float32), np.zeros((2, 4), np.float32)):
            with pytest.raises(ValueError, match=r"translation: expected \[..., 3\], found shape"):
                jax.eval_shape(method, pose, None, translation)


def test_is_a_pytree_of_its_arrays(body):
    assert len(jax.tree.leaves(body)) == 6
    assert isinstance(jax.tree.map(lambda x: x, body), SMPL)
    assert hash(jax.tree.structure(body)) == hash(jax.tree.structure(stand_in()))
