"""Pictures of bodies: what is drawn is where it should be, and what cannot be drawn is named."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from body_model.joints import OPENPOSE_25
from scorehmr_jax.output import rasterize
from scorehmr_jax.output.pictures import contact_sheet, png_bytes, save_png
from scorehmr_jax.output.render import crop_around, render
from scorehmr_jax.types import Camera, Keypoints2D

pytest.importorskip("matplotlib")


@pytest.fixture
def camera():
    return Camera(np.array([500.0, 500.0]), np.array([160.0, 120.0]), np.array([320.0, 240.0]))


def square(depth: float, flip: bool = False):
    """A 0.4 m square before the camera, seen from its front unless flipped."""
    vertices = np.array(
        [[-0.2, -0.2, depth], [0.2, -0.2, depth], [0.2, 0.2, depth], [-0.2, 0.2, depth]]
    )
    faces = np.array([[0, 2, 1], [0, 3, 2]])
    return vertices, faces[:, ::-1] if flip else faces


def drawn_box(picture):
    ys, xs = np.nonzero((picture < 250).any(-1))
    return xs.min(), ys.min(), xs.max() + 1, ys.max() + 1


def test_render_puts_a_face_where_the_camera_projects_it(camera):
    vertices, faces = square(2.0)
    picture = render(vertices + np.array([0.1, 0, 0]), faces, camera)
    assert picture.shape == (240, 320, 3) and picture.dtype == np.uint8
    # x: 160 + 500 * (0.1 -+ 0.2) / 2; y: 120 +- 500 * 0.2 / 2
    np.testing.assert_allclose(drawn_box(picture), (135, 70, 235, 170), atol=1)


def test_render_crop_and_scale(camera):
    vertices, faces = square(2.0)
    picture = render(vertices, faces, camera, crop=(100, 60, 220, 180), scale=2)
    assert picture.shape == (240, 240, 3)
    np.testing.assert_allclose(drawn_box(picture), (20, 20, 220, 220), atol=2)


def test_render_culls_back_faces_and_what_is_behind_the_camera(camera):
    for vertices, faces in (square(2.0, flip=True), square(-2.0), square(-2.0, flip=True)):
        assert (render(vertices, faces, camera) == 255).all()


def test_render_near_hides_far(camera):
    far, faces = square(3.0)
    far = far + np.array([0.0, 0.0, 0.5]) * np.sign(far[:, :1])  # tilted: another shade
    near = square(2.0)[0] * [0.5, 0.5, 1.0]
    near_alone = render(near, faces, camera)[100:140, 140:180].astype(int)
    far_alone = render(far, faces, camera)[100:140, 140:180].astype(int)
    assert np.abs(near_alone - far_alone).min() > 10
    for order in ((near, far), (far, near)):
        both = np.concatenate(order)
        picture = render(both, np.concatenate([faces, faces + 4]), camera)
        np.testing.assert_allclose(picture[100:140, 140:180], near_alone, atol=9)


def test_render_draws_keypoints_that_were_seen_and_no_others(camera):
    xy = np.full((25, 2), 60.0)
    confidence = np.zeros(25)
    right, left = OPENPOSE_25.index("right_wrist"), OPENPOSE_25.index("left_wrist")
    xy[right], xy[left] = (50, 200), (280, 40)
    confidence[[right, left]] = 1
    vertices, faces = square(2.0, flip=True)
    picture = render(vertices, faces, camera, keypoints=Keypoints2D(xy, confidence)).astype(int)
    red, _, blue = picture[200, 50]
    assert red > blue + 60
    red, _, blue = picture[40, 280]
    assert blue > red + 60
    assert (picture[55:65, 55:65] == 255).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "int32"])
def test_render_takes_numbers_of_any_type(camera, dtype):
    vertices, faces = square(2.0)
    vertices = np.round(vertices * [5, 5, 1])  # whole metres
    expected = render(vertices, faces, camera)
    kind = jnp.dtype(dtype)  # bfloat16 too, as JAX's arrays come to numpy
    cast = jax.tree.map(lambda a: a.astype(kind), (vertices, camera))
    np.testing.assert_array_equal(render(cast[0], jnp.asarray(faces), cast[1]), expected)


def test_render_leaves_out_keypoints_without_a_place(camera):
    blank = square(2.0, flip=True)
    xy, confidence = np.full((25, 2), 60.0), np.ones(25, int)
    xy[0] = np.nan
    confidence[1:] = 0
    picture = render(*blank, camera, keypoints=Keypoints2D(xy, confidence))
    assert (picture == 255).all()


@pytest.mark.parametrize("shown", [np.uint8, np.float16, np.float64])
def test_render_over_an_image(camera, shown):
    background = np.full((240, 320, 3), (10, 200, 10), np.uint8)
    if shown != np.uint8:
        background = (background / 255).astype(shown)
    picture = render(*square(2.0), camera, background=background)
    np.testing.assert_allclose(picture[5, 5], (10, 200, 10), atol=2)
    assert picture[120, 160, 0] > 60
    # Grey is grey, in no false colours.
    picture = render(*square(2.0), camera, background=background[..., 0])
    np.testing.assert_allclose(picture[5, 5], 10, atol=2)


def frames(camera, number):
    return jax.tree.map(lambda a: np.stack([a] * number), camera)


NAMED = {
    "vertices: expected shape": lambda v, f, c: render(v[None], f, c),
    "vertices: found NaN": lambda v, f, c: render(np.where(v < 0, np.nan, v), f, c),
    "faces: expected shape": lambda v, f, c: render(v, f[:, :2], c),
    "faces: expected indices of 4 vertices, found 1 to 4": lambda v, f, c: render(v, f + 1, c),
    r"camera.focal: expected the 2 numbers of one": lambda v, f, c: render(v, f, frames(c, 3)),
    "camera.image_size: expected pixels above 0": lambda v, f, c: render(
        v, f, replace(c, image_size=np.zeros(2))
    ),
    "camera.center: expected pixels": lambda v, f, c: render(
        v, f, replace(c, center=np.full(2, np.nan))
    ),
    "color: expected": lambda v, f, c: render(v, f, c, color=(200, 180, 160)),
    "crop, scale: .* found -10 x 20": lambda v, f, c: render(v, f, c, crop=(20, 0, 10, 20)),
    "crop, scale: .* found 3.2e": lambda v, f, c: render(v, f, c, scale=1e5),
    "crop, scale: .* found nan": lambda v, f, c: render(v, f, c, crop=(np.nan, 0, 9, 9)),
    "joints: expected shape": lambda v, f, c: render(v, f, c, joints=np.zeros((4, 3))),
    r"keypoints.confidence: expected shape \[25\]": lambda v, f, c: render(
        v, f, c, keypoints=Keypoints2D(np.zeros((25, 2)), np.ones((25, 1)))
    ),
    r"background: expected the camera's image, \[240, 320, 3\]": lambda v, f, c: render(
        v, f, c, background=np.zeros((320, 240, 3), np.uint8)
    ),
    r"background: expected uint8, or fractions .* to 255": lambda v, f, c: render(
        v, f, c, background=np.full((240, 320, 3), 255.0)
    ),
    "xy: expected points": lambda v, f, c: crop_around(np.full((3, 2), np.nan)),
    "picture: expected": lambda v, f, c: png_bytes(np.zeros((4, 4))),
    "a.jpg: expected the name of a .png": lambda v, f, c: save_png(
        "a.jpg", np.zeros((4, 4, 3), np.uint8)
    ),
    "pictures: expected one or more": lambda v, f, c: contact_sheet([[], []]),
    "columns: expected 1 titles or none, found 2": lambda v, f, c: contact_sheet(
        [[np.zeros((4, 4, 3), np.uint8)]], columns=("a", "b")
    ),
}


@pytest.mark.parametrize("message", NAMED)
def test_what_cannot_be_drawn_is_named(camera, message):
    with pytest.raises(ValueError, match=message):
        NAMED[message](*square(2.0), camera)


def test_a_mesh_around_the_camera_is_drawn_in_parts_or_refused(camera, monkeypatch):
    # A hundred layers, each all over the picture; the nearest one, drawn first, is tilted.
    square_, face = square(1.0)
    flat = square_ * [5, 5, 1]
    nearest = flat + [0, 0, 0.3] * np.sign(flat[:, :1])
    layers = np.concatenate([nearest, *(flat * (2 + i) for i in range(99))])
    faces = np.concatenate([face + 4 * i for i in range(100)])
    expected = render(nearest, face, camera, scale=0.25)
    monkeypatch.setattr(rasterize, "_AT_ONCE", 100_000)
    np.testing.assert_array_equal(render(layers, faces, camera, scale=0.25), expected)
    monkeypatch.setattr(rasterize, "_MOST", 1_000_000)
    with pytest.raises(ValueError, match="fills the picture 200 times over"):
        render(layers, faces, camera, scale=0.25)


def test_contact_sheet_and_png(tmp_path):
    from matplotlib.image import imread

    red, blue = np.zeros((2, 20, 30, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    sheet = contact_sheet([[red, blue], [blue]], gap=0)
    np.testing.assert_array_equal(sheet[:20, 30:], blue)
    assert (sheet[20:, 30:] == 255).all()
    titled = contact_sheet([[red, blue]], columns=("a", "b"), rows=("c",))
    assert titled.shape[0] > 20 and titled.shape[1] > 60
    for colors in (None, 8):
        save_png(tmp_path / "sheet.png", sheet, colors)
        found = imread(tmp_path / "sheet.png")[..., :3]
        np.testing.assert_array_equal(np.round(255 * found), sheet)
    assert [p.name for p in tmp_path.iterdir()] == ["sheet.png"]


def test_every_pixel_has_the_nearest_triangle_over_its_middle():
    rng = np.random.default_rng(0)
    sizes = np.repeat([1.0, 4, 15], 60)[:, None, None]
    corners = rng.uniform(-2, 34, (180, 1, 2)) + sizes * rng.normal(size=(180, 3, 2))
    depth = rng.uniform(1, 5, (180, 3))
    pixel, face, weights = rasterize.rasterize(corners, depth, 32, 24)
    x, y = np.meshgrid(np.arange(32) + 0.5, np.arange(24) + 0.5)
    points = np.stack([x.ravel(), y.ravel()], -1)
    edges = np.concatenate([corners.swapaxes(1, 2), np.ones((180, 1, 3))], axis=1)
    shares = np.einsum("fkc,pc->fpk", np.linalg.inv(edges), np.c_[points, np.ones(len(points))])
    near = np.where((shares >= 0).all(-1), np.sum(shares / depth[:, None], -1), 0)
    wanted = np.argmax(near, axis=0)
    covered = near.max(0) > 0
    # On an edge either side will do.
    on_edge = (np.abs(shares) < 1e-3).any((0, 2))
    found = np.full(len(points), -1)
    found[pixel] = face
    sure = ~on_edge
    assert sure.mean() > 0.8 and (covered & sure).sum() > 500
    np.testing.assert_array_equal((found >= 0)[sure], covered[sure])
    np.testing.assert_array_equal(found[sure & covered], wanted[sure & covered])
    rows = np.flatnonzero((sure & covered)[pixel])
    np.testing.assert_allclose(weights[rows], shares[face[rows], pixel[rows]], atol=1e-3)
