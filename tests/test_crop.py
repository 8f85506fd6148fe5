"""Patches of people: as the released code cuts them, out of pictures of every kind."""

import numpy as np
import pytest

from scorehmr_jax.regression.boxes import Boxes
from scorehmr_jax.regression.crop import crop, to_patch
from scorehmr_jax.regression.feed import patches

MEAN = 255 * np.array([0.485, 0.456, 0.406])
STD = 255 * np.array([0.229, 0.224, 0.225])


@pytest.mark.parametrize("case", ["c0", "c1", "c2"])
def test_a_patch_and_its_keypoints_are_the_released_ones(golden, case):
    with np.load(golden / "image_crop.npz") as arrays:
        known = {key[3:]: arrays[key] for key in arrays.files if key.startswith(case)}
        image = np.ascontiguousarray(arrays["image_bgr"][..., ::-1])
    center, side = known["center"], float(known["size"])
    normalised = ((crop(image, center, side) - MEAN) / STD).transpose(2, 0, 1)
    np.testing.assert_allclose(normalised[:, ::7, ::7], known["patch_f32_sub"], atol=1e-6)
    if "patch" in known:  # whole, in half precision; one grey value is 0.017
        np.testing.assert_allclose(normalised, known["patch"].astype(float), atol=2e-3)
    moved = to_patch(known["kp2d_in"][:, :2], center, known["size"])
    np.testing.assert_allclose(224 * moved, 224 * known["kp2d_out"][:, :2], atol=1e-3)


def numbered(height=40, width=60):
    """A picture in which every pixel is another."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 5, columns * 4, rows + columns], -1).astype(np.uint8)


def test_a_box_of_the_patchs_size_is_a_part_of_the_picture():
    image = numbered()
    np.testing.assert_array_equal(crop(image, np.array([30, 20]), 16, 16), image[12:28, 22:38])
    half = crop(image, np.array([30.5, 20]), 16, 16)  # between two columns
    np.testing.assert_array_equal(half[..., 1], image[12:28, 22:38, 1] + 2)


@pytest.mark.parametrize("center", [(0, 20), (60, 20), (30, 0), (30, 40), (-3, -5), (62, 44)])
def test_what_lies_outside_the_picture_is_black(center):
    image, size = np.full((40, 60, 3), 200, np.uint8), 32
    patch = crop(image, np.array(center), 2.0 * size, size)
    at = [c + (np.arange(size) - size / 2) * 2 for c in center]
    inside = [(points >= 0) & (points < n) for points, n in zip(at, (60, 40), strict=True)]
    np.testing.assert_array_equal(patch[..., 0] == 200, inside[1][:, None] & inside[0])
    assert not crop(image, np.array([500, -900]), 30.0, size).any()


def test_boxes_around_keypoints():
    xy = np.array([[[10, 20], [30, 80], [500, 500]], [[1, 1], [2, 2], [3, 3]]], float)
    confidence = np.array([[0.9, 0.3, 0.1], [0.9, 0, 0]])
    boxes = Boxes.around(xy, confidence)
    np.testing.assert_allclose(boxes.center[0], [20, 50])
    np.testing.assert_allclose(boxes.size[0], [24, 72])
    assert np.isnan(boxes.center[1]).all() and np.isnan(boxes.side()[1])
    # HMR 2.0 looks at the middle three quarters of the square's width.
    of_corners = Boxes.of_corners(np.array([[0, 0, 90, 100], [0, 0, 30, 100], [0, 0, 50, 50]]))
    np.testing.assert_allclose(of_corners.side(), [100, 100, 50])
    np.testing.assert_allclose(of_corners.side(0.75), [120, 100, 50 / 0.75])


def test_pictures_of_every_kind_give_the_same_patch(tmp_path):
    image = pytest.importorskip("PIL.Image")
    grey = numbered()[..., 2] * 2
    turned = image.Exif()
    turned[0x0112] = 6  # to be shown a quarter clockwise
    image.fromarray(grey).save(tmp_path / "grey.png")
    image.fromarray(grey.astype(np.uint16) * 256).save(tmp_path / "bits16.png")
    image.fromarray(grey.astype(np.uint16) * 16).save(tmp_path / "bits12.png")
    image.fromarray(grey / np.float32(255)).save(tmp_path / "float.tif")
    image.fromarray(np.dstack([grey] * 3 + [0 * grey + 255])).save(tmp_path / "alpha.png")
    image.fromarray(np.rot90(grey)).save(tmp_path / "turned.png", exif=turned)
    files = sorted(tmp_path.iterdir())
    box = np.tile([30.0, 20.0], (6, 1)), np.full(6, 32.0)
    found = [*patches(files, *box, 32, threads=2)]
    for file, patch in zip(files, found, strict=True):
        assert not patch.problem
        np.testing.assert_array_equal(patch.image_size, [60, 40])
        wanted = np.repeat(grey[4:36, 14:46, None], 3, -1)
        np.testing.assert_allclose(patch.pixels.astype(int), wanted, atol=1, err_msg=file.name)
    (stored,) = patches([tmp_path / "turned.png"], box[0][:1], box[1][:1], 32, turned=False)
    np.testing.assert_array_equal(stored.image_size, [40, 60])


def test_what_cannot_be_cut_is_told_in_its_place(tmp_path):
    image = pytest.importorskip("PIL.Image")
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    for name in ("good", "broken"):
        image.fromarray(noise).save(tmp_path / f"{name}.jpg")
    whole = (tmp_path / "broken.jpg").read_bytes()
    (tmp_path / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("text")
    rows = [
        ("good", 30.0, 20.0, ""),
        ("good", 30.0, 0.0, r"good.jpg: box: .* centre 30, 20 and side 0"),
        ("good", np.nan, 20.0, r"good.jpg: box: .* centre nan, 20"),
        ("broken", 30.0, 20.0, r"broken.jpg: expected a picture that Pillow reads .*truncated"),
        ("none", 30.0, 20.0, r"none.jpg: no such file"),
        ("text", 30.0, 20.0, r"text.jpg: expected a picture that Pillow reads"),
        ("good", 30.0, -5.0, r"side -5"),
        ("good", 30.0, 20.0, ""),
    ]
    files = [tmp_path / f"{name}.jpg" for name, *_ in rows]
    center = np.array([[x, 20] for _, x, _, _ in rows])
    found = [*patches(files, center, np.array([side for _, _, side, _ in rows]), 16)]
    for patch, (_, _, _, message) in zip(found, rows, strict=True):
        assert bool(patch.problem) == bool(message) and patch.pixels.any() == (not message)
        if message:
            with pytest.raises(ValueError, match=message):
                raise ValueError(patch.problem)
    np.testing.assert_array_equal(found[0].pixels, found[-1].pixels)
