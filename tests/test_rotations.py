"""Rotations: values against the released code and against the exponential map, and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bodies import HERE, arrays, close, relative

from body_model import rotations

# Decided by rounding: the released values of parallel and antiparallel columns.
PARALLEL = [3, 4, 7]
ANGLES = [0.0, 1e-12, 1e-8, 1e-6, 0.999e-3, 1.001e-3, 0.1, 1.0, 3.0, np.pi - 1e-7, np.pi]


@pytest.fixture(scope="module")
def geometry():
    return arrays(HERE / "geometry.npz")


def axes(count=8, seed=0):
    v = np.random.default_rng(seed).standard_normal((count, 3))
    v[:3] = np.eye(3)
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def exponential(v):
    """The rotation by its power series: slow, and no angle is special."""
    x, y, z = v
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) / 64
    out, term = np.eye(3), np.eye(3)
    for i in range(1, 20):
        term = term @ cross / i
        out = out + term
    return np.linalg.matrix_power(out, 64)


def test_axis_angle_equals_the_released_code(geometry):
    found = rotations.axis_angle_to_matrix(geometry["aa"])
    known = ~np.isnan(geometry["aa_rotmat"]).any((1, 2))  # the released code has one NaN
    close("aa_rotmat", found[known], geometry["aa_rotmat"][known], atol=1e-6)
    close("aa_rotmat where the released code is NaN", found[~known], np.eye(3)[None], atol=1e-6)


def test_six_d_equals_the_released_code(geometry):
    keep = np.setdiff1d(np.arange(64), PARALLEL)
    close("rot6d_rotmat", rotations.six_d_to_matrix(geometry["rot6d"])[keep],
          geometry["rot6d_rotmat"][keep], atol=1e-6)  # fmt: skip


def test_gradient_of_six_d_equals_the_released_code(geometry):
    gradient = jax.grad(
        lambda x: jnp.sum(geometry["rot6d_grad_weights"] * rotations.six_d_to_matrix(x))
    )(geometry["rot6d"])
    assert np.isfinite(gradient).all()
    for row in (2, 5, *range(8, 64)):
        relative(f"rot6d_grad row {row}", gradient[row], geometry["rot6d_grad"][row], 1e-4)


@pytest.mark.parametrize("angle", ANGLES)
def test_axis_angle_is_the_exponential_map(angle):
    with jax.enable_x64(True):
        for v in angle * axes():
            found = rotations.axis_angle_to_matrix(jnp.asarray(v))
            close("matrix", found, exponential(v), atol=1e-13)


@pytest.mark.parametrize("angle", ANGLES)
def test_ways_there_and_back(angle):
    with jax.enable_x64(True):
        v = jnp.asarray(angle * axes())
        matrix = rotations.axis_angle_to_matrix(v)
        quaternion = rotations.matrix_to_quaternion(matrix)
        close("length", jnp.linalg.norm(quaternion, axis=-1), 1, atol=1e-12)
        close("quaternion's", rotations.quaternion_to_matrix(quaternion), matrix, atol=1e-12)
        close("6D's", rotations.six_d_to_matrix(rotations.matrix_to_6d(matrix)), matrix, atol=1e-12)
        back = rotations.matrix_to_axis_angle(matrix)
        close("axis-angle's", rotations.axis_angle_to_matrix(back), matrix, atol=1e-12)
        assert (jnp.linalg.norm(back, axis=-1) <= np.pi + 1e-12).all()
        if angle < 3.1:
            close("axis-angle", back, v, atol=1e-12)


def test_float32_keeps_its_digits():
    v = np.concatenate([a * axes(64) for a in ANGLES]).astype(np.float32)
    matrix = rotations.axis_angle_to_matrix(v)
    close("matrix", matrix, np.stack([exponential(x) for x in v.astype(float)]), atol=5e-7)
    again = rotations.axis_angle_to_matrix(rotations.matrix_to_axis_angle(matrix))
    close("there and back", again, matrix, atol=2e-6)


def test_quaternions_need_no_unit_length():
    q = jnp.array([[1.0, 2.0, 3.0, 4.0]])
    close("scaled", rotations.quaternion_to_matrix(-7 * q), rotations.quaternion_to_matrix(q),
          atol=1e-6)  # fmt: skip
    close("zero", rotations.quaternion_to_matrix(jnp.zeros(4)), np.eye(3))
    quarter = rotations.quaternion_to_matrix(jnp.array([1.0, 0, 0, 1.0]))  # about z
    close("a quarter turn", quarter @ jnp.array([1.0, 0, 0]), [0, 1, 0], atol=1e-6)


def test_six_d_is_the_first_column_then_the_second():
    matrix = jnp.arange(9.0).reshape(3, 3)
    close("6D", rotations.matrix_to_6d(matrix), [0, 3, 6, 1, 4, 7])


def test_any_leading_axes():
    v = np.random.default_rng(0).standard_normal((2, 3, 4, 3)).astype(np.float32)
    matrix = rotations.axis_angle_to_matrix(v)
    q = rotations.matrix_to_quaternion(matrix)
    six = rotations.matrix_to_6d(matrix)
    assert matrix.shape == (2, 3, 4, 3, 3) and q.shape == (2, 3, 4, 4) and six.shape == (2, 3, 4, 6)
    at = (1, 2, 0)
    one = rotations.axis_angle_to_matrix(v[at])
    close("matrix", one, matrix[at], atol=1e-6)
    close("axis-angle", rotations.matrix_to_axis_angle(one),
          rotations.matrix_to_axis_angle(matrix)[at], atol=1e-6)  # fmt: skip
    close("quaternion", rotations.matrix_to_quaternion(one), q[at], atol=1e-6)
    close("6D", rotations.six_d_to_matrix(six)[at], one, atol=1e-6)


def jacobian_error(function, x, step=1e-6):
    """Largest difference of the Jacobian from central differences, in float64."""
    with jax.enable_x64(True):
        x = jnp.asarray(x, jnp.float64)
        found = jax.jacrev(function)(x)
        columns = []
        for i in range(x.size):
            d = jnp.zeros(x.size).at[i].set(step).reshape(x.shape)
            columns.append((function(x + d) - function(x - d)) / (2 * step))
        wanted = jnp.stack(columns, -1).reshape(found.shape)
        return float(jnp.abs(found - wanted).max())


@pytest.mark.parametrize("angle", [0.0, 1e-8, 0.9e-3, 1.1e-3, 0.5, 3.0, np.pi])
def test_gradient_of_axis_angle_to_matrix(angle):
    assert jacobian_error(rotations.axis_angle_to_matrix, angle * axes()[4]) < 1e-6


@pytest.mark.parametrize("angle", [0.0, 1e-8, 0.9e-3, 1.1e-3, 0.5, 3.0])
def test_gradient_of_matrix_to_axis_angle(angle):
    # The map from axis-angle to itself over the matrix has the identity for its Jacobian.
    with jax.enable_x64(True):
        there = jax.jacrev(
            lambda v: rotations.matrix_to_axis_angle(rotations.axis_angle_to_matrix(v))
        )(jnp.asarray(angle * axes()[4]))
        close("Jacobian", there, np.eye(3), atol=1e-6)


def test_gradients_of_the_rest():
    rng = np.random.default_rng(0)
    assert jacobian_error(rotations.six_d_to_matrix, rng.standard_normal(6)) < 1e-6
    assert jacobian_error(rotations.quaternion_to_matrix, rng.standard_normal(4)) < 1e-6
    turn = np.asarray(rotations.axis_angle_to_matrix(jnp.array([0.3, -2.0, 1.5])))
    assert jacobian_error(rotations.matrix_to_quaternion, turn) < 1e-6


def test_float32_gradient_beside_the_series():
    # Just above the angle at which the series gives way, 1 - cos keeps few digits.
    for angle in (0.9e-3, 1.1e-3, 3e-3, 1e-2):
        v = (angle * axes()[4]).astype(np.float32)
        found = jax.jacrev(rotations.axis_angle_to_matrix)(v)
        with jax.enable_x64(True):
            wanted = jax.jacrev(rotations.axis_angle_to_matrix)(jnp.asarray(v, jnp.float64))
        close(f"Jacobian at {angle}", found, wanted, atol=2e-4)


@pytest.mark.parametrize(
    ("function", "x"),
    [
        ("axis_angle_to_matrix", np.zeros(3)),
        ("axis_angle_to_matrix", np.array([np.pi, 0, 0])),
        ("axis_angle_to_matrix", np.array([0, 2 * np.pi, 0])),
        ("matrix_to_axis_angle", np.eye(3)),
        ("matrix_to_axis_angle", np.diag([1.0, -1, -1])),
        ("matrix_to_axis_angle", np.diag([-1.0, 1, -1])),
        ("matrix_to_axis_angle", np.zeros((3, 3))),
        ("matrix_to_quaternion", np.diag([-1.0, -1, 1])),
        ("matrix_to_quaternion", np.eye(3)),
        ("quaternion_to_matrix", np.zeros(4)),
        ("quaternion_to_matrix", np.array([0, 1.0, 0, 0])),
        ("six_d_to_matrix", np.zeros(6)),
        ("six_d_to_matrix", np.array([1.0, 0, 0, 1, 0, 0])),
        ("six_d_to_matrix", np.array([1.0, 0, 0, -2, 0, 0])),
        ("six_d_to_matrix", np.array([0, 0, 0, 0, 1.0, 0])),
        ("six_d_to_matrix", np.array([1.0, 2, 3, 0, 0, 0])),
        ("six_d_to_matrix", np.full(6, 1e-30)),
    ],
)
def test_singular_points_are_finite(function, x):
    function = getattr(rotations, function)
    x = jnp.asarray(x, jnp.float32)
    value, jacobian = function(x), jax.jacrev(function)(x)
    assert np.isfinite(value).all()
    assert np.isfinite(jacobian).all()
