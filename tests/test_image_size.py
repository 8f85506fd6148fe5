"""Sizes of images, from their headers or from a file."""

import json
import pickle
import struct
import warnings
import zlib

import numpy as np
import pytest

from scorehmr_jax.formats import image_size

pytestmark = pytest.mark.filterwarnings("error::UserWarning")


def save(path, data):
    np.savez(path, **data)
    return path


def png(path, width, height):
    """The shortest file that has a PNG's header; its pixels are missing."""
    header = b"IHDR" + struct.pack(">II5B", width, height, 8, 2, 0, 0, 0)
    check = struct.pack(">I", zlib.crc32(header))
    data = struct.pack(">I", 99) + b"IDAT"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + check + data)


def test_sizes_come_from_headers_alone(tmp_path):
    pytest.importorskip("PIL")
    png(tmp_path / "0.png", 640, 480)
    png(tmp_path / "1.png", 20000, 10)
    found = image_size.from_headers(tmp_path, ["1.png", "0.png", "1.png"])
    np.testing.assert_array_equal(found, [[20000, 10], [640, 480], [20000, 10]])
    (tmp_path / "2.png").write_text("no image")
    for name in ("2.png", "3.png"):
        with pytest.raises(ValueError, match=rf"{name}: expected an image"):
            image_size.from_headers(tmp_path, [name])


@pytest.mark.parametrize("orientation", [None, *range(1, 9)])
@pytest.mark.parametrize("kind", ["JPEG", "MPO", "PNG", "WEBP", "TIFF", "AVIF"])
def test_a_picture_has_the_size_it_is_shown_with(tmp_path, kind, orientation):
    image = pytest.importorskip("PIL.Image")
    exif = image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    try:
        image.new("RGB", (40, 30)).save(tmp_path / "0", format=kind, exif=exif)
    except (KeyError, OSError):
        pytest.skip(f"this Pillow has no {kind}")
    shown = [30, 40] if (orientation or 1) > 4 else [40, 30]
    np.testing.assert_array_equal(image_size.from_headers(tmp_path, ["0"]), [shown])


def _chunk(kind, content):
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


def test_exif_data_after_the_pixels_count_too(tmp_path):
    image = pytest.importorskip("PIL.Image")
    exif = image.Exif()
    exif[0x0112] = 6
    image.new("RGB", (40, 30)).save(tmp_path / "0.png")
    whole = (tmp_path / "0.png").read_bytes()
    end = whole.index(b"IEND") - 4
    late = whole[:end] + _chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")) + whole[end:]
    (tmp_path / "0.png").write_bytes(late)
    np.testing.assert_array_equal(image_size.from_headers(tmp_path, ["0.png"]), [[30, 40]])


def test_damaged_exif_data_turn_nothing(tmp_path):
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (40, 30)).save(tmp_path / "0.png", exif=b"Exif\0\0nonsense")
    image.new("RGB", (40, 30)).save(tmp_path / "0.jpg", exif=b"Exif\0\0nonsense")
    found = image_size.from_headers(tmp_path, ["0.png", "0.jpg"])
    np.testing.assert_array_equal(found, [[40, 30]] * 2)


def test_huge_pictures_have_a_size_too(tmp_path):
    image = pytest.importorskip("PIL.Image")
    png(tmp_path / "0.png", 40000, 30000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = image_size.from_headers(tmp_path, ["0.png"])
    np.testing.assert_array_equal(found, [[40000, 30000]])
    assert image.MAX_IMAGE_PIXELS is not None


NAMES = [["a", "b"], ["c"]]
SIZES = [[10, 20], [30, 40], [50, 60]]


@pytest.mark.parametrize("name", ["sizes.json", "S.JSON", "sizes", "sizes.txt"])
@pytest.mark.parametrize(
    "content",
    [
        SIZES,
        dict(zip("abc", SIZES, strict=True)),
        [SIZES[:2], SIZES[2:]],
    ],
)
def test_sizes_may_be_listed_in_a_file(tmp_path, content, name):
    path = tmp_path / name
    path.write_text(json.dumps(content), "utf-8-sig" if name == "sizes.json" else "utf-8")
    found = image_size.from_file(path, NAMES)
    np.testing.assert_array_equal(np.concatenate(found), SIZES)
    assert [len(part) for part in found] == [2, 1]


@pytest.mark.parametrize("name", ["sizes", "S.NPZ", "S.NPY", "S.PKL", "sizes.dat"])
def test_arrays_of_sizes_are_known_under_any_name(tmp_path, name):
    path = tmp_path / name
    with path.open("wb") as file:
        if name.endswith("NPY"):
            np.save(file, SIZES)
        elif name.endswith("PKL"):
            pickle.dump(np.array(SIZES), file)
        else:
            np.savez(file, img_size_wh=SIZES)
    np.testing.assert_array_equal(np.concatenate(image_size.from_file(path, NAMES)), SIZES)


def test_one_size_may_stand_for_all_or_for_a_group(tmp_path):
    one, two = save(tmp_path / "1.npz", {"s": [8, 9]}), save(tmp_path / "2.npz", {"s": SIZES[:2]})
    np.testing.assert_array_equal(np.concatenate(image_size.from_file(one, NAMES)), [[8, 9]] * 3)
    np.testing.assert_array_equal(
        np.concatenate(image_size.from_file(two, NAMES)), [SIZES[0], SIZES[0], SIZES[1]]
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"img_size_wh": [[1, 2]] * 4}, r"3 images.*found \(4, 2\)"),
        ({"img_size_wh": [[1, 2]] * 2 + [[0, 5]]}, "not a positive number"),
        ({"img_size_hw": SIZES}, "img_size_hw seems to hold height and width"),
        ({"sizes": SIZES, "other": SIZES}, r"'img_size_wh' .* found \['other', 'sizes'\]"),
    ],
)
def test_wrong_lists_of_sizes_are_named(tmp_path, content, message):
    with pytest.raises(ValueError, match=r"sizes.npz: .*" + message):
        image_size.from_file(save(tmp_path / "sizes.npz", content), NAMES)


def test_keys_beside_the_sizes_are_named(tmp_path):
    path = save(tmp_path / "s.npz", {"img_size_wh": SIZES, "img_size_hw": SIZES})
    with pytest.warns(UserWarning, match=r"s.npz: not read: img_size_hw \(img_size_wh\?\)"):
        image_size.from_file(path, NAMES)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.json", "no such file"),
        ("gone.npz", "no such file"),
        ("odd.json", "not valid JSON"),
        ("odd.JSON", "not valid JSON"),
        ("odd.npz", "begins with b'<html>', so it is no .npz"),
        ("odd.npy", "is no .npy"),
        ("folder.npz", "is a folder"),
    ],
)
def test_what_is_wrong_with_a_file_of_sizes_is_said_truly(tmp_path, name, message):
    (tmp_path / "folder.npz").mkdir()
    if name.startswith("odd"):
        (tmp_path / name).write_text("<html></html>")
    with pytest.raises(ValueError, match=rf"{name}: {message}"):
        image_size.from_file(tmp_path / name, NAMES)


def test_python_objects_are_no_sizes(tmp_path):
    path = save(tmp_path / "s.npz", {"img_size_wh": np.array([{}, {}])})
    with pytest.raises(ValueError, match=r"s.npz: key img_size_wh holds Python objects"):
        image_size.from_file(path, NAMES)
