"""Width and height of images, from their headers or from a file; no pixel is decoded."""

import codecs
import json
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from body_model.files import is_npy, is_npz, local_path, read_npy, read_npz, warn_of_unread
from body_model.pickles import load_pickle

_EXIF_ORIENTATION = 0x0112
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257
_SIDEWAYS = (5, 6, 7, 8)  # orientations that swap width and height when the image is shown


def from_headers(folder: str | Path, names: Sequence[str]) -> Float[np.ndarray, "N 2"]:
    """Reads the sizes of image files as they are shown, that is turned as their EXIF data say.

    Args:
        folder: where the names start.
        names: N paths inside the folder.
    Returns:
        Width and height in pixels, float64.
    Raises:
        ValueError: if a file is missing or is no image.
        ImportError: if Pillow is not installed.
    """
    root = local_path(folder)
    # Views and frames repeat names rarely; a data set of people in crowds repeats them often.
    known = {name: _shown_size(root / name) for name in dict.fromkeys(names)}
    return np.array([known[name] for name in names], np.float64).reshape(-1, 2)


def _shown_size(path: Path) -> tuple[int, int]:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            "reading image sizes needs Pillow: pip install pillow, or give the sizes in a file"
        ) from error
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # none of them is decoded
    try:
        with Image.open(path) as image:
            width, height = image.size
            # Pillow exchanges a TIFF's sides itself, but not in every version.
            if hasattr(image, "tag_v2"):
                width, height = image.tag_v2[_TIFF_WIDTH], image.tag_v2[_TIFF_HEIGHT]
            sideways = _orientation(image, path) in _SIDEWAYS
    # A damaged file can fail in any way.
    except Exception as error:
        raise ValueError(
            f"{path}: expected an image that Pillow reads ({error}); check the folder of images, "
            "or give the sizes in a file"
        ) from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    return (height, width) if sideways else (width, height)


def _orientation(image: Any, path: Path) -> int:
    """Reads the EXIF number of how a picture is to be turned when it is shown; 1 is as it is."""
    from PIL import Image

    try:
        if image.format == "PNG" and "exif" not in image.info:
            image.info["exif"] = _exif_after_pixels(path)
        # Not image.getexif(): of a PNG it would decode the pixels.
        return Image.Image.getexif(image).get(_EXIF_ORIENTATION, 1)
    except Exception:  # viewers, too, show a picture with damaged EXIF data as it is
        return 1


def _exif_after_pixels(path: Path) -> bytes | None:
    """Reads the EXIF data of a PNG, wherever in the file they are."""
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"eXIf":
                return file.read(length)
            file.seek(length + 4, os.SEEK_CUR)  # with the check sum
    return None


def from_file(path: str | Path, names: Sequence[Sequence[str]]) -> list[Float[np.ndarray, "N 2"]]:
    """Reads the sizes of the images of groups from a file that lists them.

    The file is an .npz with `img_size_wh` (or one array of any name), an .npy, .json or .pkl; its
    content decides, not its suffix. It
    holds one (width, height) for all, one for each group, one for each image in order, or a
    list of such arrays by group; a .json may also map image names to sizes.

    Args:
        path: the file.
        names: the image names of every group.
    Returns:
        One [N, 2] float64 array per group, pixels.
    Raises:
        ValueError: naming the file, what was expected and what was found.
    """
    content = _read(local_path(path))
    if isinstance(content, Mapping):
        missing = [n for group in names for n in group if n not in content]
        if missing:
            raise ValueError(f"{path}: {len(missing)} images have no size, first {missing[0]!r}")
        content = [content[name] for group in names for name in group]
    counts = [len(group) for group in names]
    try:
        parts = [np.asarray(part, np.float64) for part in content]
    except (TypeError, ValueError):
        parts = []
    if parts and all(part.ndim == 2 for part in parts):
        sizes = parts
    else:
        try:
            table = np.asarray(content, np.float64)
        except (TypeError, ValueError):
            table = np.zeros(0)
        if table.shape == (2,):
            sizes = [np.tile(table, (count, 1)) for count in counts]
        elif table.shape == (sum(counts), 2):
            sizes = np.split(table, np.cumsum(counts)[:-1])
        elif table.shape == (len(counts), 2):
            sizes = [np.tile(one, (n, 1)) for one, n in zip(table, counts, strict=True)]
        else:
            sizes = [table]
    if [part.shape for part in sizes] != [(count, 2) for count in counts]:
        raise ValueError(
            f"{path}: expected width and height of {sum(counts)} images, shape "
            f"({sum(counts)}, 2), in {len(counts)} group(s); found "
            f"{', '.join(str(part.shape) for part in sizes[:4])}"
        )
    if not all((np.isfinite(part) & (part > 0)).all() for part in sizes):
        raise ValueError(f"{path}: a width or height is not a positive number of pixels")
    return sizes


def _is_json(path: Path) -> bool:
    """Tells a list or a dict of JSON by its beginning, with which no pickle begins."""
    with path.open("rb") as file:
        return file.read(64).removeprefix(codecs.BOM_UTF8).lstrip()[:1] in (b"[", b"{")


def _read(path: Path) -> Any:
    suffix = path.suffix.lower()
    if is_npy(path) or suffix == ".npy":
        return read_npy(path)
    if suffix == ".json" or _is_json(path):
        try:
            return json.loads(path.read_text("utf-8-sig"))
        except ValueError as error:
            raise ValueError(f"{path}: not valid JSON ({error})") from error
    if is_npz(path) or suffix == ".npz":
        arrays = read_npz(path)
        key = min(arrays) if len(arrays) == 1 and not arrays.objects else "img_size_wh"
        if key.lower().endswith("hw"):
            raise ValueError(
                f"{path}: {key} seems to hold height and width; expected img_size_wh, width and "
                "height: exchange the columns"
            )
        if key in arrays:
            warn_of_unread(str(path), {*arrays, *arrays.objects}, (key,))
        if key not in arrays:
            raise ValueError(
                f"{path}: expected the key 'img_size_wh' [N, 2], found {sorted(arrays)}"
            )
        return arrays[key]
    return load_pickle(path)
