"""Rotations: values against the released code and against the exponential map, and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bodies import HERE, arrays, close, relative

from body_model import rotations

# Decided by rounding: the released values of parallel and antiparallel columns.
PARALLEL = [3, 4, 7]
to_matrix = jax.jit(rotations.axis_angle_to_matrix)
to_six_d = jax.jit(rotations.six_d_to_matrix)
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
    found = np.asarray(to_matrix(geometry["aa"]))
    known = ~np.isnan(geometry["aa_rotmat"]).any((1, 2))  # the released code has one NaN
    close("aa_rotmat", found[known], geometry["aa_rotmat"][known], atol=1e-6)
    close("aa_rotmat where the released code is NaN", found[~known], np.eye(3)[None], atol=1e-6)


def test_six_d_equals_the_released_code(geometry):
    keep = np.setdiff1d(np.arange(64), PARALLEL)
    found = np.asarray(to_six_d(geometry["rot6d"]))
    close("rot6d_rotmat", found[keep], geometry["rot6d_rotmat"][keep], atol=1e-6)


def test_gradient_of_six_d_equals_the_released_code(geometry):
    gradient = np.asarray(
        jax.jit(jax.grad(lambda x, w: jnp.sum(w * rotations.six_d_to_matrix(x))))(
            geometry["rot6d"], geometry["rot6d_grad_weights"]
        )
    )
    assert np.isfinite(gradient).all()
    for row in (2, 5, *range(8, 64)):
        relative(f"rot6d_grad row {row}", gradient[row], geometry["rot6d_grad"][row], 1e-4)


def at_every_angle(dtype=np.float64):
    return (np.array(ANGLES)[:, None, None] * axes()).reshape(-1, 3).astype(dtype)


def names(prefix, rows):
    """Which of the angles a failing row belongs to."""
    return f"{prefix} (rows are {len(axes())} axes for each angle of {ANGLES}), {len(rows)} rows"


def test_axis_angle_is_the_exponential_map():
    v = at_every_angle()
    with jax.enable_x64(True):
        found = to_matrix(v)
    close(names("matrix", v), found, np.stack([exponential(x) for x in v]), atol=1e-13)


@jax.jit
def ways(v):
    matrix = rotations.axis_angle_to_matrix(v)
    quaternion = rotations.matrix_to_quaternion(matrix)
    back = rotations.matrix_to_axis_angle(matrix)
    return {
        "axis-angle": back,
        "quaternion": quaternion,
        "matrix": matrix,
        "matrix of the axis-angle": rotations.axis_angle_to_matrix(back),
        "matrix of the quaternion": rotations.quaternion_to_matrix(quaternion),
        "matrix of the 6D": rotations.six_d_to_matrix(rotations.matrix_to_6d(matrix)),
    }


@pytest.mark.parametrize(("dtype", "atol"), [(np.float32, 2e-6), (np.float64, 1e-12)])
def test_ways_there_and_back(dtype, atol):
    v = at_every_angle(dtype)
    with jax.enable_x64(dtype == np.float64):
        found = {name: np.asarray(value) for name, value in ways(v).items()}
    assert all(value.dtype == dtype for value in found.values())
    for name in ("axis-angle", "quaternion", "6D"):
        close(names(name, v), found[f"matrix of the {name}"], found["matrix"], atol=atol)
    close("length", np.linalg.norm(found["quaternion"], axis=-1), 1, atol=atol)
    assert (found["quaternion"][:, 0] >= 0).all()
    back = found["axis-angle"]
    assert (np.linalg.norm(back, axis=-1) <= np.pi + atol).all()
    turned = np.linalg.norm(v, axis=-1) < 3.1  # at pi an axis is as good as its opposite
    close(names("axis-angle", v), back[turned], v[turned], atol=10 * atol)


def test_quaternions_need_no_unit_length():
    q = jnp.array([[1.0, 2, 3, 4], [-7.0, -14, -21, -28], [0, 0, 0, 0], [2, 0, 0, 2],
                   [1e-25, 2e-25, 3e-25, 4e-25], [1e25, 2e25, 3e25, 4e25]])  # fmt: skip
    matrix = jax.jit(rotations.quaternion_to_matrix)(q)
    for row in (1, 4, 5):
        close(f"scaled, row {row}", matrix[row], matrix[0], atol=1e-6)
    close("zero", matrix[2], np.eye(3))
    close("a quarter turn about z", matrix[3], [[0, -1, 0], [1, 0, 0], [0, 0, 1]], atol=1e-6)


def test_six_d_is_the_first_column_then_the_second():
    matrix = jnp.arange(9.0).reshape(3, 3)
    close("6D", rotations.matrix_to_6d(matrix), [0, 3, 6, 1, 4, 7])


def test_any_leading_axes():
    v = np.random.default_rng(0).standard_normal((2, 3, 4, 3)).astype(np.float32)
    many, one = ways(v), ways(v[1, 2, 0])
    for name in many:
        assert many[name].shape[:3] == (2, 3, 4)
        close(name, many[name][1, 2, 0], one[name], atol=1e-6)


def regular_points(name):
    rng = np.random.default_rng(0)
    turns = rng.standard_normal((4, 3))
    if name == "axis_angle_to_matrix":
        angles = np.array([0.0, 1e-8, 0.9e-3, 1.1e-3, 0.5, 3.0, np.pi])
        return angles[:, None] * axes()[4]
    if name == "matrix_to_quaternion":
        return np.stack([exponential(x) for x in np.pi * turns])
    return rng.standard_normal((4, {"six_d_to_matrix": 6, "quaternion_to_matrix": 4}[name]))


@pytest.mark.parametrize(
    "name",
    ["axis_angle_to_matrix", "six_d_to_matrix", "quaternion_to_matrix", "matrix_to_quaternion"],
)
def test_gradients_equal_finite_differences(name):
    function, points, step = getattr(rotations, name), regular_points(name), 1e-6

    @jax.jit
    def both(x):
        moves = step * jnp.eye(x.size).reshape(-1, *x.shape)
        change = jax.vmap(lambda d: function(x + d) - function(x - d))(moves)
        found = jax.jacrev(function)(x)
        return found.reshape(-1, x.size), change.reshape(x.size, -1).T / (2 * step)

    with jax.enable_x64(True):
        for x in points:
            close(f"Jacobian at {x}", *both(x), atol=1e-6)


def test_gradient_through_both_ways_is_the_identity():
    def there_and_back(v):
        return rotations.matrix_to_axis_angle(rotations.axis_angle_to_matrix(v))

    angles = np.array([0.0, 1e-8, 0.9e-4, 1.1e-4, 0.9e-3, 1.1e-3, 0.5, 3.0])
    with jax.enable_x64(True):
        found = jax.jit(jax.vmap(jax.jacrev(there_and_back)))(angles[:, None] * axes()[4])
    for angle, jacobian in zip(angles, found, strict=True):
        close(f"Jacobian at {angle}", jacobian, np.eye(3), atol=1e-6)


def test_float32_gradient_beside_the_series():
    # Just above the angle at which the series gives way, 1 - cos keeps few digits.
    v = np.array([0.9e-3, 1.1e-3, 3e-3, 1e-2])[:, None] * axes()[4]
    jacobian = jax.jit(jax.vmap(jax.jacrev(rotations.axis_angle_to_matrix)))
    found = np.asarray(jacobian(v.astype(np.float32)))
    with jax.enable_x64(True):
        close("Jacobian", found, jacobian(v), atol=2e-4)


SINGULAR = {
    "axis_angle_to_matrix": [np.zeros(3), [np.pi, 0, 0], [0, 2 * np.pi, 0], np.full(3, 1e-30)],
    "matrix_to_axis_angle": [np.eye(3), np.diag([1, -1, -1]), np.diag([-1, 1, -1]),
                             np.diag([-1, -1, 1]), np.zeros((3, 3))],
    "matrix_to_quaternion": [np.eye(3), np.diag([-1, -1, 1]), np.zeros((3, 3))],
    "quaternion_to_matrix": [np.zeros(4), [0, 1, 0, 0], np.full(4, 1e-30), np.full(4, 1e-19),
                             np.full(4, 1e-38), np.full(4, 1e30)],
    "six_d_to_matrix": [np.zeros(6), [1, 0, 0, 1, 0, 0], [1, 0, 0, -2, 0, 0], [0, 0, 0, 0, 1, 0],
                        [1, 2, 3, 0, 0, 0], np.full(6, 1e-30)],
}  # fmt: skip


@pytest.mark.parametrize("name", SINGULAR)
def test_singular_points_are_finite(name):
    function = getattr(rotations, name)
    both = jax.jit(jax.vmap(lambda x: (function(x), jax.jacrev(function)(x))))
    for x, value, jacobian in zip(
        SINGULAR[name], *both(np.array(SINGULAR[name], np.float32)), strict=True
    ):
        assert np.isfinite(value).all(), f"value at {x}"
        assert np.isfinite(jacobian).all(), f"gradient at {x}"
