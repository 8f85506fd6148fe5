"""Rotations: values against the released code and against the exponential map, and gradients."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bodies import HERE, arrays, close, relative
from compiling import AS_USERS

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


@partial(jax.jit, compiler_options=AS_USERS)
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
    q = jnp.array(
        [
            [1.0, 2, 3, 4],
            [-7.0, -14, -21, -28],
            [0, 0, 0, 0],
            [2, 0, 0, 2],
            [1e-25, 2e-25, 3e-25, 4e-25],
            [1e25, 2e25, 3e25, 4e25],
        ]
    )
    matrix = jax.jit(rotations.quaternion_to_matrix)(q)
    for row in (1, 4, 5):
        close(f"scaled, row {row}", matrix[row], matrix[0], atol=1e-6)
    close("zero", matrix[2], np.eye(3))
    close("a quarter turn about z", matrix[3], [[0, -1, 0], [1, 0, 0], [0, 0, 1]], atol=1e-6)


def test_six_d_is_the_first_column_then_the_second():
    matrix = jnp.arange(9.0).reshape(3, 3)
    close("6D", rotations.matrix_to_6d(matrix), [0, 3, 6, 1, 4, 7])


def test_any_leading_axes():
    flat = at_every_angle(np.float32)  # as of the ways there and back: a program less to compile
    many, few = ways(flat.reshape(2, 4, 11, 3)), ways(flat)
    for name in many:
        close(name, np.reshape(many[name], few[name].shape), few[name], atol=1e-6)


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


def to_quaternion(v):
    return rotations.matrix_to_quaternion(rotations.axis_angle_to_matrix(v))


THROUGH = {
    "axis_angle_to_matrix": rotations.axis_angle_to_matrix,
    "matrix_to_quaternion": to_quaternion,
    "quaternion_to_matrix": lambda v: rotations.quaternion_to_matrix(to_quaternion(v)),
    "six_d_to_matrix": lambda v: rotations.six_d_to_matrix(
        rotations.matrix_to_6d(rotations.axis_angle_to_matrix(v))
    ),
    "matrix_to_axis_angle": lambda v: rotations.matrix_to_axis_angle(
        rotations.axis_angle_to_matrix(v)
    ),
}
# At 0, on both sides of where a series ends, and near pi.
BORDERS = [
    0,
    1e-20,
    1e-8,
    1e-4,
    1e-3,
    1.1e-3,
    1e-2,
    0.199,
    0.201,
    0.499,
    0.501,
    1,
    2,
    3.1,
    np.pi - 1e-4,
]


@pytest.mark.parametrize("name", THROUGH)
def test_first_and_second_derivatives_keep_their_digits(name):
    function = THROUGH[name]
    v = (np.array(BORDERS)[:, None] * np.array([0.6, -0.48, 0.64])).astype(np.float32)
    derivatives = jax.vmap(lambda x: (jax.jacrev(function)(x), jax.hessian(function)(x)))
    # Digits depend on which products and sums are fused.
    slope, curvature = jax.jit(derivatives, compiler_options=AS_USERS)(v)
    with jax.enable_x64(True):
        exact_slope, exact_curvature = jax.jit(derivatives)(v.astype(float))
        close(f"slope; rows are angles {BORDERS}", slope, exact_slope, atol=1e-6)
        close(f"curvature; rows are angles {BORDERS}", curvature, exact_curvature, atol=2e-6)
        if name == "matrix_to_axis_angle":  # there and back: the identity
            close("slope", exact_slope, np.broadcast_to(np.eye(3), (len(v), 3, 3)), atol=1e-12)
            close("curvature", exact_curvature, np.zeros((len(v), 3, 3, 3)), atol=1e-12)
        if name == "axis_angle_to_matrix":
            step = 1e-4 * np.eye(3)
            moved = jax.jit(jax.vmap(jax.vmap(jax.jacrev(function))))
            x = v.astype(float)[:, None]
            change = (np.asarray(moved(x + step)) - moved(x - step)) / 2e-4
            close("differences of slopes", np.moveaxis(change, 1, -1), exact_curvature, atol=1e-7)


SINGULAR = {
    "axis_angle_to_matrix": [np.zeros(3), [np.pi, 0, 0], [0, 2 * np.pi, 0], np.full(3, 1e-30)],
    "matrix_to_axis_angle": [
        np.eye(3),
        np.diag([1, -1, -1]),
        np.diag([-1, 1, -1]),
        np.diag([-1, -1, 1]),
        np.zeros((3, 3)),
    ],
    "matrix_to_quaternion": [np.eye(3), np.diag([-1, -1, 1]), np.zeros((3, 3))],
    "quaternion_to_matrix": [
        np.zeros(4),
        [0, 1, 0, 0],
        np.full(4, 1e-30),
        np.full(4, 1e-19),
        np.full(4, 1e-38),
        np.full(4, 1e30),
    ],
    "six_d_to_matrix": [
        np.zeros(6),
        [1, 0, 0, 1, 0, 0],
        [1, 0, 0, -2, 0, 0],
        [0, 0, 0, 0, 1, 0],
        [1, 2, 3, 0, 0, 0],
        np.full(6, 1e-30),
    ],
}


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("name", SINGULAR)
def test_singular_points_are_finite(name, dtype):
    function = getattr(rotations, name)
    # Of a column or quaternion of length e the second derivative is about 1 / e^2.
    curved = dtype == jnp.float32 and name not in ("six_d_to_matrix", "quaternion_to_matrix")

    def everything(x):
        found = [function(x), jax.jacrev(function)(x)]
        return [*found, jax.hessian(function)(x)] if curved else found

    points = np.array(SINGULAR[name], np.float32)
    points = points[np.abs(points.reshape(len(points), -1)).max(1) < float(jnp.finfo(dtype).max)]
    points = jnp.asarray(points, dtype)
    for kind, values in zip(
        ("value", "gradient", "second derivative"),
        jax.jit(jax.vmap(everything))(points),
        strict=False,
    ):
        assert values.dtype == dtype
        for x, value in zip(points, values, strict=True):
            assert np.isfinite(np.asarray(value, np.float32)).all(), f"{kind} at {x}"


HALF = {jnp.float16: 1e-3, jnp.bfloat16: 8e-3}  # the spacing of its numbers from 1 on


@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_is_the_rounded_result(dtype):
    v = jnp.asarray(at_every_angle(np.float32), dtype)
    matrix = jnp.asarray(to_matrix(v), dtype)
    inputs = {
        "axis_angle_to_matrix": v,
        "matrix_to_axis_angle": matrix,
        "matrix_to_quaternion": matrix,
        "quaternion_to_matrix": rotations.matrix_to_quaternion(matrix),
        "six_d_to_matrix": rotations.matrix_to_6d(matrix),
        "matrix_to_6d": matrix,
    }
    for name, x in inputs.items():
        function = jax.jit(getattr(rotations, name))
        found, wanted = function(x), function(x.astype(jnp.float32))
        assert found.dtype == dtype
        close(name, found.astype(jnp.float32), wanted, rtol=HALF[dtype], atol=1e-6)


def test_half_precision_has_gradients_at_small_angles():
    # The square of an angle under 2e-4 is 0 in float16.
    weights = jnp.arange(9, dtype=jnp.float16).reshape(3, 3)
    gradient = jax.jit(
        jax.vmap(jax.grad(lambda v: jnp.sum(weights * rotations.axis_angle_to_matrix(v))))
    )
    v = (np.geomspace(1e-5, 3e-3, 40)[:, None] * [1, 0, 0]).astype(np.float16)
    found = gradient(v)
    assert found.dtype == np.float16
    close("gradient", found, np.broadcast_to([2, -4, 2], found.shape), atol=0.05)


def test_whole_numbers_are_numbers():
    for name, x in {
        "axis_angle_to_matrix": [0, 0, 2],
        "quaternion_to_matrix": [7, 1, 2, 3],
        "six_d_to_matrix": [3, 1, 0, 0, 2, 5],
        "matrix_to_axis_angle": [[0, -1, 0], [1, 0, 0], [0, 0, 1]],
        "matrix_to_quaternion": [[0, -1, 0], [1, 0, 0], [0, 0, 1]],
        "matrix_to_6d": [[0, -1, 0], [1, 0, 0], [0, 0, 1]],
    }.items():
        function = getattr(rotations, name)
        found = function(np.array(x))
        assert found.dtype == jnp.result_type(float)
        close(name, found, function(np.array(x, np.float32)))
