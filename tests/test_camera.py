"""Projection and the way from a crop to the full image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bodies import HERE, arrays, close, dot, random_like, slope

from scorehmr_jax.camera import crop_to_full, in_front, pinhole, project
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
    close("proj_out_rotation", project(turned, camera_of(g)), g["proj_out_rotation"],
          rtol=1e-5, atol=1e-3)  # fmt: skip


def test_projection_by_one_focal_length_equals_the_released_code(geometry):
    g = geometry
    size = np.zeros((8, 2), np.float32)
    camera = pinhole(size, g["proj_focal"][:, 0])
    found = project(g["proj_points"] + g["proj_translation"][:, None], camera)
    close("proj_out_scalar_focal_no_center", found, g["proj_out_scalar_focal_no_center"],
          rtol=1e-5, atol=1e-3)  # fmt: skip


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
        assert crop_to_full(one.astype(float), one[:2], one[0], one[:2], 5e3).dtype == np.float64


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
