"""Projection and the way from a crop to the full image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bodies import HERE, arrays, close, dot, random_like, slope

from scorehmr_jax.calibration import undistort
from scorehmr_jax.camera import crop_to_full, in_front, pinhole, project, to_camera_frame
from scorehmr_jax.types import Camera

project = jax.jit(project)


@pytest.fixture(scope="module")
def geometry():
    return arrays(HERE / "geometry.npz")


def camera_of(g):
    return Camera(g["proj_focal"], g["proj_center"], 2 * g["proj_center"])


def test_projection_equals_the_released_code(geometry):
    g = geometry
    translation = g["proj_translation"][:, None]
    found = project(g["proj_points"] + translation, camera_of(g))
    close("proj_out", found, g["proj_out"], rtol=1e-5)
    turned = np.einsum("bij,bkj->bki", g["proj_rotation"], g["proj_points"]) + translation
    close(
        "proj_out_rotation",
        project(turned, camera_of(g)),
        g["proj_out_rotation"],
        rtol=1e-5,
        atol=1e-3,
    )


def test_projection_by_one_focal_length_equals_the_released_code(geometry):
    g = geometry
    size = np.zeros((8, 2), np.float32)
    camera = pinhole(size, g["proj_focal"][:, 0])
    found = project(g["proj_points"] + g["proj_translation"][:, None], camera)
    close(
        "proj_out_scalar_focal_no_center",
        found,
        g["proj_out_scalar_focal_no_center"],
        rtol=1e-5,
        atol=1e-3,
    )


def test_crop_to_full_equals_the_released_code(geometry):
    g = geometry
    found = crop_to_full(
        g["crop_cam"], g["crop_box_center"], g["crop_box_size"], g["crop_img_size"], 5000.0
    )
    close("crop_full_cam", found, g["crop_full_cam"], rtol=1e-5, atol=1e-5)


def test_crop_to_full_keeps_the_box_where_it_was():
    # A body at the origin lands where the weak-perspective camera put it in its box.
    scale, x, y, side = 0.9, 0.1, -0.2, 300.0
    center, size = np.array([420.0, 250.0]), np.array([1280.0, 720.0])
    translation = crop_to_full(np.array([scale, x, y]), center, side, size, 5000.0)
    pixel = project(translation[None], pinhole(size))[0]
    close("pixel", pixel, center + side / 2 * scale * np.array([x, y]), rtol=1e-5)
    assert np.isfinite(crop_to_full(np.zeros(3), center, side, size, 5000.0)).all()


def test_crop_to_full_keeps_the_precision_of_the_camera():
    with jax.enable_x64(True):
        one = np.ones(3, np.float32)
        found = crop_to_full(one, np.array([420, 250]), np.array(300), np.array([1280, 720]), 5e3)
        assert found.dtype == np.float32
        double = crop_to_full(one.astype(float), 90 * one[:2], 90 * one[0], 900 * one[:2], 5e3)
        assert double.dtype == np.float64


def test_known_pixels():
    camera = Camera(jnp.array([100.0, 200]), jnp.array([50.0, 60]), jnp.array([100.0, 120]))
    points = jnp.array([[0, 0, 2.0], [1, 0, 2], [0, 1, 2], [1, 1, 4]])
    close("pixels", project(points, camera), [[50, 60], [100, 60], [50, 160], [75, 110]])


def test_pinhole_broadcasts_the_focal_length():
    size = np.array([[640, 480], [1280, 720.0]], np.float32)
    for focal in (1000.0, np.array([1000.0, 1000]), np.full((2, 2), 1000.0)):
        camera = pinhole(size, focal)
        close("focal", camera.focal, np.full((2, 2), 1000.0))
        close("center", camera.center, size / 2)
    close("per image", pinhole(size, np.array([1.0, 2])).focal, [[1, 1], [2, 2]])
    close("default", pinhole(size).focal, np.full((2, 2), 5000.0))


def test_a_focal_length_for_each_person():
    camera, center = np.array([[0.9, 0, 0]] * 2), np.array([[960.0, 540]] * 2)
    size = np.array([[1920.0, 1080]] * 2)
    # The depth is 2 f / (s b): of two people as of three.
    wanted = 2 * np.array([1000.0, 2000]) / (0.9 * 250)
    both = np.array([[1000.0, 500], [2000, 500]])
    for focal in (both[:, 0], both[:, :1], both):
        found = crop_to_full(camera, center, np.full(2, 250.0), size, focal)
        close("depth", found[:, 2], wanted, rtol=1e-6)
        close("the same as pinhole's", pinhole(size, focal).focal[:, 0], focal.reshape(2, -1)[:, 0])
    three = (np.concatenate([a, a[:1]]) for a in (camera, center, np.full(2, 250.0), size, both))
    close("three people", crop_to_full(*three)[:, 2], np.append(wanted, wanted[0]), rtol=1e-6)
    one = crop_to_full(camera[0], center[0], 250.0, size[0], both[1])
    close("x and y of one person", one[2], wanted[1], rtol=1e-6)
    for focal in (
        np.array([[1.0, 2.0, 3.0]] * 2),
        np.ones(3),
        np.ones((2, 2, 2)),
        np.ones((1, 2, 1)),
    ):
        for make in (
            lambda f: pinhole(size, f),
            lambda f: crop_to_full(camera, center, 99.0, size, f),
        ):
            with pytest.raises(
                ValueError, match=r"focal: expected one number, one for each .*found"
            ):
                make(focal)
    with pytest.raises(ValueError, match=r"focal: .* found \(2,\)"):
        pinhole(np.ones((3, 2)), np.array([1000.0, 1100.0]))


N = 3
FULL = {
    "weak_camera": np.tile([0.9, 0.1, -0.2], (N, 1)),
    "box_center": np.tile([300.0, 400.0], (N, 1)),
    "box_size": np.full(N, 250.0),
    "image_size": np.tile([1920.0, 1080.0], (N, 1)),
    "focal": 5000.0,
}


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("box_size", (N, 1)),
        ("box_size", (1, N)),
        ("box_size", (N + 1,)),
        ("box_center", (N,)),
        ("box_center", (N, 1)),
        ("box_center", (N, 1, 2)),
        ("image_size", (N,)),
        ("image_size", (2, 1)),
        ("image_size", (2, N, 2)),
        ("weak_camera", (N, 4)),
        ("weak_camera", ()),
    ],
)
def test_a_shape_that_does_not_fit_is_named(name, shape):
    with pytest.raises(ValueError, match=f"{name}: expected") as error:
        crop_to_full(**FULL | {name: np.full(shape, 99.0)})
    assert str(shape) in str(error.value)


def test_sides_over_200_are_refused():
    with pytest.raises(ValueError, match="scale: expected the box's side in pixels"):
        crop_to_full(**FULL | {"box_size": FULL["box_size"] / 200})
    jax.jit(crop_to_full)(**FULL | {"box_size": FULL["box_size"] / 200})  # it cannot be seen there


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"focal": 35.0}, "camera.focal: expected pixels, found 35 x 35"),
        ({"focal": 0.9}, "camera.focal: expected pixels, found 0.9"),
        ({"image_size": np.ones(2)}, "camera.image_size: expected .* found 1 x 1"),
        ({"box_size": -400.0}, "box's scale: expected the box's side in pixels, found -400"),
        ({"box_size": 15.0, "image_size": np.array([6000, 4000])}, "over 200 by 200"),
    ],
)
def test_other_units_of_a_crop_are_refused(changes, message):
    with pytest.raises(ValueError, match=f"^crop_to_full: .*{message}"):
        crop_to_full(**FULL | changes)


def test_one_of_each_for_all():
    wanted = crop_to_full(**FULL)
    for name in ("box_center", "box_size", "image_size"):
        close(name, crop_to_full(**FULL | {name: FULL[name][0]}), wanted)
        close(name, crop_to_full(**FULL | {name: FULL[name][:1]}), wanted)


def test_cameras_that_do_not_fit_the_points_are_refused():
    points, camera = np.ones((N, 5, 3)), pinhole(FULL["image_size"])
    with pytest.raises(ValueError, match=r"camera: expected one for .* \(\), found \(3,\)"):
        project(points[0], camera)  # one person's points, or a position for each person
    with pytest.raises(ValueError, match=r"camera: expected one for .* \(2,\), found \(3,\)"):
        project(points[:2], camera)
    for shape in ((3,), (N, 5, 2)):
        with pytest.raises(ValueError, match=r"points: expected \[..., K, 3\], found"):
            project(np.ones(shape), camera)
    with pytest.raises(ValueError, match=r"disagree on the samples: \(2,\), \(2, 2\)"):
        project(points[:2], Camera(np.array([1000.0, 2000]), np.ones((2, 2)), np.ones((2, 2))))
    with pytest.raises(ValueError, match=r"camera.focal: expected \[..., N, 2\], found \(3,\)"):
        project(points, Camera(np.ones(N), camera.center, camera.image_size))
    one = jax.tree.map(lambda a: a[0], camera)
    close("one camera for all", project(points, one), project(points, camera))
    for size in (np.float32(640), np.ones((N, 3))):
        with pytest.raises(ValueError, match=r"image_size: expected \[..., 2\], found"):
            pinhole(size)


@pytest.mark.parametrize("call", [project, to_camera_frame, undistort])
def test_one_camera_for_each_group_is_not_taken_for_one_for_each_sample(call):
    points = np.ones((N, N, 5, 2 if call is undistort else 3), np.float32)
    camera = pinhole(FULL["image_size"] * np.arange(1, N + 1)[:, None])
    with pytest.raises(ValueError, match=r"\(3,\) could be .* give shape \(1, 3\) or \(3, 1\)"):
        call(points, camera)
    for axis in (0, 1):
        found = call(points, jax.tree.map(lambda a, axis=axis: np.expand_dims(a, axis), camera))
        each = call(points[0, :, None], jax.tree.map(lambda a: a[:, None], camera))[:, 0]
        close("each", found, np.broadcast_to(np.expand_dims(each, axis), found.shape))
    # Of fewer groups there is no doubt.
    assert call(points[:2], camera).shape[:2] == (2, N)


def test_points_beside_and_behind_the_camera_are_finite():
    depth = np.array([0, 1e-9, -1e-9, 1e-6, -1, -1e-30, 1e30], np.float32)
    points = np.stack([np.ones_like(depth), -np.ones_like(depth), depth], -1)
    camera = pinhole(np.array([640, 480.0], np.float32))
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(jnp.tanh(project(p, camera)))))(points)
    assert np.isfinite(project(points, camera)).all()
    assert np.isfinite(gradient).all()


def test_in_front():
    points = np.ones((3, 2, 3), np.float32)
    points[1, 0, 2], points[2, 1, 2] = 0, -1
    np.testing.assert_array_equal(in_front(points), [True, False, False])


def test_gradients_equal_finite_differences():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        camera = pinhole(jnp.array([[640.0, 480]]), 900.0)
        at = (jnp.asarray(rng.standard_normal((1, 5, 3)) + np.array([0, 0, 5.0])), camera)
        weights = jnp.asarray(rng.standard_normal((1, 5, 2)))

        def loss(at):
            return jnp.sum(weights * project(*at))

        direction = random_like(jax.random.key(0), at)
        found, wanted = dot(jax.grad(loss)(at), direction), slope(loss, at, direction, 1e-6)
        assert abs(found - wanted) < 1e-7 * abs(wanted)
