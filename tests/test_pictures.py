"""Photos, folders and videos: what comes out as frames, and what is said of broken ones."""

import struct

import numpy as np
import pytest

from scorehmr_jax.formats.pictures import exif_focal, open_pictures

image = pytest.importorskip("PIL.Image")


def corner(height=40, width=64):
    """A picture whose upper left corner is white."""
    frame = np.zeros((height, width, 3), np.uint8)
    frame[: height // 4, : width // 4] = 255
    return frame


def where_white(frame):
    """Rows and columns of the middle of what is white, as a part of the picture."""
    return np.argwhere(frame.mean(-1) > 128).mean(0) / frame.shape[:2] > 0.5


def save(path, frame, **exif):
    data = image.Exif()
    for number, value in exif.get("exif", {}).items():
        data[number] = value
    for number, value in exif.get("camera", {}).items():
        data.get_ifd(0x8769)[number] = value
    image.fromarray(frame).save(path, exif=data)


@pytest.mark.parametrize(
    ("orientation", "corner_at"), [(1, (0, 0)), (3, (1, 1)), (6, (0, 1)), (8, (1, 0))]
)
def test_a_photo_is_turned_as_its_camera_was(tmp_path, orientation, corner_at):
    path = tmp_path / "fóto ü.jpg"
    save(path, corner(), exif={0x0112: orientation})
    pictures = open_pictures(path)
    (frame,) = pictures
    assert frame.shape == ((40, 64, 3) if orientation in (1, 3) else (64, 40, 3))
    np.testing.assert_array_equal(where_white(frame), corner_at)
    assert frame.dtype == np.uint8 and not pictures.is_video and pictures.focals == (None,)
    assert len([*pictures]) == 1  # again


@pytest.mark.parametrize(
    ("camera", "focal"),
    [
        ({0xA405: 26}, 26 / np.hypot(36, 24) * np.hypot(64, 40)),
        # 5 mm on a sensor of 1000 pixels per centimetre, of which every second is left.
        ({0x920A: 5.0, 0xA20E: 1000.0, 0xA210: 3, 0xA002: 128}, 250),
        ({0x920A: 5.0}, None),
        ({0xA405: 0}, None),
        ({}, None),
    ],
)
def test_the_focal_length_of_a_photo(tmp_path, camera, focal):
    save(tmp_path / "a.jpg", corner(), camera=camera)
    (found,) = open_pictures(tmp_path / "a.jpg").focals
    assert found == (None if focal is None else pytest.approx(focal))
    assert exif_focal("no EXIF data", 64, 40) is None


def test_a_folder_in_natural_order_without_what_is_no_picture(tmp_path):
    for name in ("frame10.png", "frame2.png", "frame1.PNG"):
        frame = corner()
        frame[-1, -1] = int("".join(filter(str.isdigit, name)))
        save(tmp_path / name, frame)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "frame3.png").write_bytes(b"no picture either")
    with pytest.warns(UserWarning, match=r"frame3.png: expected a picture .* left out"):
        pictures = open_pictures(tmp_path)
    assert [frame[-1, -1, 0] for frame in pictures] == [1, 2, 10]
    assert [file.name for file in pictures.files] == ["frame1.PNG", "frame2.png", "frame10.png"]


def test_pictures_of_all_kinds_become_red_green_and_blue(tmp_path):
    grey = corner()[..., 0]
    image.fromarray(grey).save(tmp_path / "1.png")
    image.fromarray(grey.astype(np.uint16) * 256).save(tmp_path / "2.png")
    alpha = np.dstack([np.zeros_like(grey)] * 3 + [255 - grey])
    image.fromarray(alpha, "RGBA").save(tmp_path / "3.png")  # the corner shows white paper
    for frame in open_pictures(tmp_path):
        assert frame.shape == (40, 64, 3)
        np.testing.assert_array_equal(where_white(frame), (0, 0))
        assert frame[0, 0].min() > 250 and frame[-1, -1].max() == 0


def test_a_photo_that_breaks_off_harms_no_other(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8)
    for name in "abc":
        save(tmp_path / f"{name}.jpg", noise)
    whole = (tmp_path / "b.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes(whole[: len(whole) // 2])
    first, broken, last = open_pictures(tmp_path)
    np.testing.assert_array_equal(first, last)
    assert broken.shape == first.shape


def test_what_is_no_picture_is_named(tmp_path):
    (tmp_path / "a.jpg").write_text("text")
    (tmp_path / "a.heic").write_text("text")
    (tmp_path / "empty").mkdir()
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_text("text")
    for name, message in (
        ("none.jpg", "none.jpg: no such file or folder"),
        ("a.jpg", "a.jpg: expected a picture that Pillow reads"),
        ("a.heic", r"a.heic: expected a picture .* or a video .* found .heic; convert it"),
        ("empty", "empty: expected pictures .* found none$"),
        ("videos", "videos: expected pictures .* give one of its videos, such as a.mp4"),
    ):
        with pytest.raises(ValueError, match=message):
            open_pictures(tmp_path / name)


def film(path, count=20, noisy=False, **options):
    """Writes a video of 25 frames per second."""
    av = pytest.importorskip("av")
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", **options) as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "4"})
        stream.width, stream.height, stream.pix_fmt = 64, 40, "yuv420p"
        for _ in range(count):
            frame = rng.integers(0, 256, (40, 64, 3), dtype=np.uint8) if noisy else corner()
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_a_video_keeps_its_rate_and_may_be_read_twice(tmp_path):
    pictures = open_pictures(film(tmp_path / "fïlm.mp4"))
    assert pictures.is_video and pictures.fps == 25
    for _ in range(2):
        frames = [*pictures]
        assert len(frames) == 20 and frames[0].shape == (40, 64, 3)
        np.testing.assert_array_equal(where_white(frames[-1]), (0, 0))


@pytest.mark.parametrize(
    ("matrix", "corner_at"),
    [
        ((0, 1, 0, -1, 0, 0, 0, 0), (0, 1)),  # a quarter clockwise
        ((-1, 0, 0, 0, -1, 0, 0, 0), (1, 1)),
        ((0, -1, 0, 1, 0, 0, 0, 0), (1, 0)),
    ],
)
def test_a_video_is_turned_as_the_telephone_was(tmp_path, matrix, corner_at):
    path = film(tmp_path / "a.mp4", count=2)
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 44  # of the display matrix in the track's header
    data[place : place + 36] = struct.pack(">9i", *(65536 * m for m in matrix), 1 << 30)
    path.write_bytes(data)
    frame = next(iter(open_pictures(path)))
    np.testing.assert_array_equal(where_white(frame), corner_at)


def test_a_video_that_breaks_off_gives_what_it_has(tmp_path):
    path = film(tmp_path / "a.mp4", noisy=True, options={"movflags": "faststart"})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.warns(UserWarning, match=r"a.mp4: breaks off after \d+ of 20 frames"):
        frames = [*open_pictures(path)]
    assert 0 < len(frames) < 20
    # The index of this one is at its end, and gone.
    path = film(tmp_path / "b.mp4")
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(ValueError, match=r"b.mp4: expected a video that FFmpeg reads"):
        open_pictures(path)
