"""Bodies over real pictures: where they are drawn, and what is written."""

from dataclasses import replace

import numpy as np
import pytest

from scorehmr_jax import Camera, project
from scorehmr_jax.output.overlay import before_and_after, overlay, save_video, side_view

CAMERA = Camera(np.array([300.0, 280]), np.array([150.0, 110]), np.array([320.0, 240]))
PICTURE = np.random.default_rng(0).integers(0, 100, (240, 320, 3), dtype=np.uint8)
FACES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])


def tetrahedron(x, y, z, size=0.05):
    """A body of four vertices around a point."""
    corners = np.array([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    return size * corners + [x, y, z]


def changed(drawn, picture=PICTURE):
    return np.argwhere((drawn != picture).any(-1))[:, ::-1]


@pytest.mark.parametrize("point", [(0, 0, 3), (0.8, -0.5, 3), (-0.9, 0.6, 2.5)])
@pytest.mark.parametrize("samples", [1, 2])
def test_a_body_is_drawn_within_a_pixel_of_its_projection(point, samples):
    drawn = overlay(PICTURE, [tetrahedron(*point)], FACES, CAMERA, samples=samples)
    x, y, z = point
    where = changed(drawn)
    np.testing.assert_allclose(
        (where.min(0) + where.max(0) + 1) / 2, [300 * x / z + 150, 280 * y / z + 110], atol=1
    )
    half = overlay(PICTURE, [tetrahedron(*point)], FACES, CAMERA, scale=0.5, opacity=1)
    assert half.shape == (120, 160, 3)
    where = np.argwhere(half.max(-1) > 120)[:, ::-1]
    np.testing.assert_allclose(where.mean(0) + 0.5, [150 * x / z + 75, 140 * y / z + 55], atol=1.5)


@pytest.mark.parametrize("point", [(0.0, 0, 3), (0.8, -0.5, 3), (-0.9, 0.6, 2.5)])
def test_a_lens_bends_what_is_drawn_as_it_bends_the_picture(point):
    camera = replace(CAMERA, distortion=np.array([-0.3, 0.1, 0.002, -0.001, 0]))
    where = changed(overlay(PICTURE, [tetrahedron(*point, size=0.02)], FACES, camera))
    wanted = project(np.array([point], np.float32), camera)[0]
    np.testing.assert_allclose((where.min(0) + where.max(0) + 1) / 2, wanted, atol=1)
    plain = project(np.array([point], np.float32), CAMERA)[0]
    assert point[0] == 0 or np.linalg.norm(wanted - plain) > 2


def test_the_nearer_body_hides_the_farther_and_bad_ones_are_left_out():
    near, far = tetrahedron(0, 0, 3), tetrahedron(0, 0, 6, size=0.2)
    expected = overlay(PICTURE, [far, near], FACES, CAMERA, opacity=1)
    np.testing.assert_array_equal(overlay(PICTURE, [near, far], FACES, CAMERA, opacity=1), expected)
    lost = np.full((4, 3), np.nan)
    behind = tetrahedron(0, 0, -3)
    np.testing.assert_array_equal(
        overlay(PICTURE, [lost, far, near, behind], FACES, CAMERA, opacity=1), expected
    )
    np.testing.assert_array_equal(overlay(PICTURE, [], FACES, CAMERA), PICTURE)
    np.testing.assert_array_equal(overlay(PICTURE, [lost], FACES, CAMERA), PICTURE)
    outside = tetrahedron(50, 0, 3)
    np.testing.assert_array_equal(overlay(PICTURE, [outside], FACES, CAMERA), PICTURE)


def test_the_picture_must_be_the_cameras():
    with pytest.raises(ValueError, match="picture: expected the camera's, 320 x 240 pixels, found"):
        overlay(PICTURE.swapaxes(0, 1), [], FACES, CAMERA)


def test_the_side_view_shows_depth_to_the_left():
    window = {"middle": np.zeros(3), "reach": 1.0}
    far_and_low = side_view([tetrahedron(0, 0.5, 0.3)], FACES, (200, 200), **window)
    where = changed(far_and_low, np.full((200, 200, 3), 255, np.uint8)).mean(0)
    np.testing.assert_allclose(where, [100 - 30, 100 + 50], atol=2)
    # By itself it finds a window with everything in it.
    found = side_view([tetrahedron(3, 1, 9), tetrahedron(2, 2, 4)], FACES, (200, 300))
    where = changed(found, np.full((300, 200, 3), 255, np.uint8))
    assert where.min() > 5 and (where.max(0) < [195, 295]).all()
    assert (side_view([], FACES, (20, 30)) == 255).all()


def test_before_and_after_side_by_side():
    before, after = [tetrahedron(0, 0, 3)], [tetrahedron(0.5, 0, 3)]
    drawn = before_and_after(PICTURE, before, after, FACES, CAMERA, height=120)
    assert drawn.shape == (120, 2 * 160 + 2 * 60, 3)
    red, blue = drawn[:, :160].astype(int), drawn[:, 160:320].astype(int)
    assert np.argwhere(red[..., 0] > red[..., 2] + 60)[:, 1].mean() == pytest.approx(75, abs=1.5)
    assert np.argwhere(blue[..., 2] > blue[..., 0] + 60)[:, 1].mean() == pytest.approx(100, abs=1.5)
    whole = before_and_after(PICTURE, [], [], FACES, CAMERA)  # never enlarged
    assert whole.shape[0] == 240


def test_a_video_is_written_whole_or_not_at_all(tmp_path):
    av = pytest.importorskip("av")
    frames = [np.full((41, 63, 3), 10 * t, np.uint8) for t in range(20)]
    path = tmp_path / "new" / "vidéo.mp4"
    assert save_video(path, iter(frames), 23.976) == 20
    with av.open(str(path)) as container:
        assert float(container.streams.video[0].average_rate) == pytest.approx(23.976, abs=1e-3)
        found = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(found) == 20 and found[0].shape == (40, 62, 3)
    np.testing.assert_allclose([f.mean() for f in found], 10 * np.arange(20), atol=4)
    kept = path.read_bytes()
    for wrong, message in (
        ([], "expected pictures to write, found none"),
        ([frames[0], frames[0][:20]], "of one size, found 62 x 40 and 62 x 20"),
    ):
        with pytest.raises(ValueError, match=message):
            save_video(path, wrong, 25)
        assert path.read_bytes() == kept and len([*path.parent.iterdir()]) == 1
    with pytest.raises(ValueError, match=r"a.avi: expected the name of an .mp4"):
        save_video(tmp_path / "a.avi", frames, 25)
