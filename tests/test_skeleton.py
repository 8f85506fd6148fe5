"""The skeleton equals the mesh at its keypoints."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bodies import arrays, close, compilations, golden_body, golden_skeleton, products, relative

from body_model import Skeleton, stand_in
from body_model.joints import JOINT_NAMES, OPENPOSE_25, SMPL_24, SMPL_45, SMPL_LANDMARKS
from body_model.open.stand_in import stand_in_regressor
from body_model.rotations import axis_angle_to_matrix

compiled = jax.jit(lambda skeleton, pose, betas, translation: skeleton(pose, betas, translation))


def place(skeleton, pose, betas, translation=(0, 0, 0)):
    """The keypoints; most tests take two poses, so that few programs are compiled."""
    translation = np.broadcast_to(np.asarray(translation, pose.dtype), (*betas.shape[:-1], 3))
    return compiled(skeleton, pose, betas, translation)


@pytest.fixture(scope="module")
def body():
    return stand_in()


@pytest.fixture(scope="module")
def regressor(body):
    """Means of vertices from all over the body, of both signs."""
    rng = np.random.default_rng(0)
    rows = np.zeros((3, 6890))
    for row in rows:
        row[rng.choice(6890, 60)] = rng.standard_normal(60)
    return np.concatenate([stand_in_regressor(body), rows / rows.sum(1, keepdims=True)])


def random_pose(*shape):
    pose = 0.5 * np.random.default_rng(0).standard_normal((*shape, 24, 3)).astype(np.float32)
    return np.asarray(axis_angle_to_matrix(pose))


def random_betas(*shape):
    return np.random.default_rng(1).standard_normal((*shape, 10)).astype(np.float32)


def of_mesh(body, names, regressor, pose, betas):
    """The keypoints by way of the mesh."""
    vertices, joints = body.vertices(pose, betas), body.joints(pose, betas)
    landmarks = dict(body.landmarks)
    points = [
        joints[..., JOINT_NAMES.index(n), :] if n in JOINT_NAMES else vertices[..., landmarks[n], :]
        for n in names
    ]
    extra = jnp.einsum("rv,...vc->...rc", regressor.astype(vertices.dtype), vertices)
    return jnp.concatenate([jnp.stack(points, axis=-2), extra], axis=-2)


def test_equals_the_mesh_for_any_leading_axes():
    with jax.enable_x64(True):  # where the two ways may differ by rounding alone
        body = stand_in(np.float64)
        regressor = stand_in_regressor(body)
        skeleton = Skeleton.of(body, SMPL_45, regressor)
        assert skeleton.num_keypoints == 45 + 19
        pose, betas = random_pose(2, 3).astype(float), random_betas(2, 3).astype(float)
        wanted = jax.jit(lambda p, b: of_mesh(body, SMPL_45, regressor, p, b))(pose, betas)
        for at in ((), (1,), (1, 2)):
            found = place(skeleton, pose[at], betas[at])
            assert found.shape == (2, 3, 64, 3)[len(at) :]
            close(f"keypoints of one of {at}", found, wanted[at], atol=1e-12)


def test_float32_and_gradients_equal_the_mesh(body, regressor):
    pose, betas = random_pose(2), random_betas(2)
    skeleton = Skeleton.of(body, SMPL_45, regressor)
    weights = np.random.default_rng(2).standard_normal((45 + len(regressor), 3))

    def run(keypoints):
        def weigh(pose, betas):
            points = keypoints(pose, betas)
            return jnp.sum(weights.astype(np.float32) * points), points

        return jax.jit(jax.value_and_grad(weigh, (0, 1), has_aux=True))(pose, betas)

    (_, found), slopes = run(skeleton)
    (_, wanted), mesh_slopes = run(lambda p, b: of_mesh(body, SMPL_45, regressor, p, b))
    close("keypoints", found[:, :-3], wanted[:, :-3], atol=1e-6)
    close("keypoints of a regressor of both signs", found[:, -3:], wanted[:, -3:], atol=1e-5)
    for name, a, b in zip(("pose", "betas"), slopes, mesh_slopes, strict=True):
        relative(f"gradient by {name}", a, b, 1e-5)


def test_equals_the_released_code(golden):
    g = arrays(golden / "smpl_forward.npz")
    body44, body45 = golden_skeleton(golden), Skeleton.of(golden_body(golden), SMPL_45)
    close("joints44", place(body44, g["rotmats"], g["betas"]), g["joints44"], atol=1e-5)
    close("joints45", place(body45, g["rotmats"], g["betas"]), g["joints45"], atol=1e-5)
    found = jax.jit(jax.grad(lambda p, b: jnp.sum(g["grad_weights"] * body44(p, b)), (0, 1)))(
        g["rotmats"], g["betas"]
    )
    relative("grad_rotmats", found[0], g["grad_rotmats"], 1e-4)
    relative("grad_betas", found[1], g["grad_betas"], 1e-4)


def test_names_choose_and_order(body, regressor):
    pose, betas = random_pose(2), random_betas(2)
    everything = np.asarray(place(Skeleton.of(body, SMPL_45, regressor), pose, betas))
    names = ("right_heel", "head", "nose", "pelvis", "head")
    for chosen, extra, wanted in (
        (names, None, [SMPL_45.index(name) for name in names]),
        (SMPL_24, None, range(24)),
        ((), regressor, range(45, 45 + len(regressor))),
    ):
        found = place(Skeleton.of(body, chosen, extra), pose, betas)
        close(f"keypoints {chosen}", found, everything[:, list(wanted)], atol=1e-6)


def test_axis_angle_and_translation(body):
    skeleton = Skeleton.of(body)
    assert skeleton.num_keypoints == 25
    pose, betas = 0.3 * np.ones((2, 24, 3), np.float32), random_betas(2)
    moved = place(skeleton, pose, betas, np.array([[0, 0, 5], [1, 2, 3]], np.float32))
    still = np.asarray(place(skeleton, np.asarray(axis_angle_to_matrix(pose)), betas))
    close("moved", moved, still + np.array([[[0, 0, 5]], [[1, 2, 3]]]), atol=2e-6)


def test_leading_axes_broadcast(body):
    skeleton = Skeleton.of(body)
    pose, betas, translation = random_pose(2, 1), random_betas(3), np.ones(3, np.float32)
    found = compiled(skeleton, pose, betas, translation)
    assert found.shape == (2, 3, 25, 3)
    wide = place(skeleton, np.repeat(pose[1], 2, axis=0), betas[1:], translation)
    close("keypoints", found[1, 1:], wide, atol=1e-6)


def test_fewer_shape_numbers(body):
    pose, betas = random_pose(2), random_betas(2)
    few = Skeleton.of(body, num_betas=4)
    assert few.num_betas == 4
    padded = betas * (np.arange(10) < 4).astype(np.float32)
    wanted = place(Skeleton.of(body), pose, padded)
    close("keypoints", place(few, pose, betas[:, :4]), wanted, atol=1e-6)


def test_no_shape_numbers_and_no_samples(body):
    none = Skeleton.of(body, num_betas=0)
    pose, betas = random_pose(2), np.zeros((2, 10), np.float32)
    wanted = place(Skeleton.of(body), pose, betas)
    close("keypoints", place(none, pose, betas[:, :0]), wanted, atol=1e-6)
    assert jax.eval_shape(lambda *at: none(*at), pose[:0], betas[:0, :0]).shape == (0, 25, 3)
    assert jax.eval_shape(body.vertices, pose[:0], betas[:0]).shape == (0, 6890, 3)
    assert jax.eval_shape(body.joints, pose, betas[:, :0]).shape == (2, 24, 3)
    with pytest.raises(ValueError, match="num_betas: expected 0 or more, found -1"):
        Skeleton.of(body, num_betas=-1)


def test_new_numbers_need_no_new_program(body):
    names = ("nose", "head", "left_wrist")
    longer = replace(body, template=1.1 * body.template, joint_regressor=body.joint_regressor * 1)
    pose, betas = random_pose(2), random_betas(2)
    first = place(Skeleton.of(body, names), pose, betas)
    with compilations() as programs:
        second = place(Skeleton.of(longer, names), pose, betas)
    assert not programs
    assert np.abs(second - first).max() > 0.01


def test_half_precision_and_whole_numbers(body):
    skeleton = Skeleton.of(body)
    pose, betas = random_pose(2), random_betas(2)
    small = jax.tree.map(lambda a: a.astype(np.float16), (skeleton, pose, betas))
    found = place(*small)
    assert found.dtype == np.float16
    wanted = place(*jax.tree.map(lambda a: a.astype(np.float32), small))
    close("rounded once", found.astype(np.float32), wanted, rtol=1e-3, atol=1e-4)
    turned, units = np.zeros((2, 24, 3), int), np.ones((2, 10), int)
    turned[:, 1, 0] = 1
    found = place(skeleton, turned, units, (1, 2, 3))
    assert found.dtype == np.float32
    wanted = place(skeleton, turned.astype(np.float32), units.astype(np.float32), (1, 2, 3))
    close("whole numbers", found, wanted, atol=1e-6)


def test_a_regressor_of_whole_numbers_or_of_jax_will_do(body):
    rows = np.zeros((2, 6890), int)
    rows[[0, 1], [SMPL_LANDMARKS["nose"], SMPL_LANDMARKS["left_heel"]]] = 1
    pose, betas = random_pose(2), random_betas(2)
    wanted = place(Skeleton.of(body, ("nose", "left_heel")), pose, betas)
    for regressor in (rows, jnp.asarray(rows, jnp.float32)):
        found = place(Skeleton.of(body, (), regressor), pose, betas)
        close("keypoints", found, wanted, atol=1e-6)


def values_and_gradients(body, skeleton, pose, betas, translation):
    """All that a body computes, and the derivatives of it."""

    def everything(pose, betas):
        found = (
            body.vertices(pose, betas, translation),
            body.joints(pose, betas, translation),
            skeleton(pose, betas, translation),
        )
        return sum(jnp.sum(x**2) for x in found), found

    return jax.value_and_grad(everything, (0, 1), has_aux=True)(pose, betas)


run = jax.jit(values_and_gradients)  # traced anew under each switch


def switched(name):
    """The context of one of JAX's switches."""
    return {
        "strict dtypes": lambda: jax.numpy_dtype_promotion("strict"),
        "no rank promotion": lambda: jax.numpy_rank_promotion("raise"),
        # Of one device, the type of a sharding is checked as of many.
        "explicit mesh": lambda: jax.set_mesh(
            jax.make_mesh((1,), ("samples",), axis_types=(jax.sharding.AxisType.Explicit,))
        ),
    }[name]()


@pytest.mark.parametrize("switch", ["strict dtypes", "no rank promotion", "explicit mesh"])
@pytest.mark.parametrize("shapes", [(2,), ()], ids=["a shape each", "one shape"])
def test_runs_under_the_switches_of_jax(body, switch, shapes):
    body = jax.tree.map(jnp.asarray, body)
    skeleton = jax.tree.map(jnp.asarray, Skeleton.of(body))
    pose = jnp.asarray(0.3 * np.ones((2, 24, 3), np.float32))
    arguments = body, skeleton, pose, random_betas(*shapes), np.ones(3, np.float32)
    wanted = run(*arguments)
    with switched(switch):
        if switch == "explicit mesh":
            along = jax.sharding.PartitionSpec("samples")
            betas = jax.device_put(arguments[3], along) if shapes else arguments[3]
            arguments = body, skeleton, jax.device_put(pose, along), betas, arguments[4]
        found = run(*arguments)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        close("with the switch", a, b, rtol=1e-5, atol=1e-5)


def test_a_joint_comes_before_a_landmark_of_its_name(body):
    named = replace(body, landmarks=(("head", 0), ("nose", 332)))
    pose, betas = random_pose(2), random_betas(2)
    found = place(Skeleton.of(named, ("head", "nose")), pose, betas)
    close("keypoints", found, place(Skeleton.of(body, ("head", "nose")), pose, betas), atol=1e-6)


@pytest.mark.parametrize("count", [0, 9, 11])
def test_another_number_of_shape_numbers_is_refused(body, count):
    with pytest.raises(ValueError, match=r"betas: this skeleton has 10 shape numbers, found"):
        Skeleton.of(body)(np.zeros((2, 24, 3)), np.zeros((2, count)))


def test_no_product_is_rounded_to_tf32(body):
    # An accelerator's default; the precision is in the program, so that a CPU can tell.
    skeleton, at = Skeleton.of(body), (random_pose(2), random_betas(2))
    for function in (
        lambda p, b: skeleton(p, b).sum(),
        lambda p, b: body.vertices(p, b).sum(),
        lambda p, b: body.joints(p, b).sum(),
    ):
        both = (0, 1)
        for way in (
            function,
            jax.grad(function, both),
            jax.grad(jax.jit(function), both),  # differentiated after it was traced
            jax.jacfwd(jax.jit(function), both),
        ):
            found = products(jax.make_jaxpr(way)(*at))
            assert len(found) > 2
            assert set(found) == {(jax.lax.Precision.HIGHEST,) * 2}


def test_unknown_names_are_refused(body):
    with pytest.raises(ValueError, match=r"\['tail'\] are neither joints nor landmarks"):
        Skeleton.of(body, ("nose", "tail"))
    assert "nose" in SMPL_LANDMARKS


@pytest.mark.parametrize("shape", [(19, 100), (6890,), (1, 19, 6890)])
def test_a_regressor_of_another_mesh_is_refused(body, shape):
    with pytest.raises(ValueError, match=r"regressor: expected \[R, 6890\], found") as error:
        Skeleton.of(body, OPENPOSE_25, np.zeros(shape))
    assert str(shape) in str(error.value)
