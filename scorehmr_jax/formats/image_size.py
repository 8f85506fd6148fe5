"""Width and height of images, from their headers or from a file; no pixel is decoded."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from body_model.files import is_npy, is_npz, local_path, read_npy, read_npz
from body_model.pickles import load_pickle
from scorehmr_jax.formats.tables import warn_of_unread

_EXIF_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)  # orientations that swap width and height when the image is shown


def from_headers(folder: str | Path, names: Sequence[str]) -> np.ndarray:
    """Sizes of image files as they are shown, that is with EXIF rotation applied.

    Args:
        folder: where the names start.
        names: N paths inside the folder.
    Returns:
        [N, 2] float64, width and height in pixels.
    Raises:
        ValueError: if a file is missing or is no image.
        ImportError: if Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            "reading image sizes needs Pillow: pip install pillow, or give the sizes in a file"
        ) from error

    def size(name: str) -> tuple[int, int]:
        path = Path(folder) / name
        try:
            with Image.open(path) as image:
                width, height = image.size
                # Of a PNG this would decode the picture; JPEGs are what cameras turn.
                turned = image.format in ("JPEG", "MPO")
                sideways = turned and image.getexif().get(_EXIF_ORIENTATION) in _SIDEWAYS
        except (OSError, SyntaxError) as error:
            raise ValueError(
                f"{path}: expected an image, to read its width and height ({error}); check the "
                "folder of images, or give the sizes in a file"
            ) from error
        return (height, width) if sideways else (width, height)

    # Views and frames repeat names rarely; a data set of people in crowds repeats them often.
    known = {name: size(name) for name in dict.fromkeys(names)}
    return np.array([known[name] for name in names], np.float64).reshape(-1, 2)


def from_file(path: str | Path, names: Sequence[Sequence[str]]) -> list[np.ndarray]:
    """Sizes of the images of groups, from a file that lists them.

    The file is an .npz with `img_size_wh` (or one array of any name), an .npy, .json or .pkl. It
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


def _read(path: Path) -> Any:
    if path.suffix == ".json":
        try:
            return json.loads(path.read_text())
        except ValueError as error:
            raise ValueError(f"{path}: not valid JSON ({error})") from error
    if is_npy(path):
        return read_npy(path)
    if is_npz(path):
        arrays = read_npz(path)
        key = min(arrays) if len(arrays) == 1 else "img_size_wh"
        if key in arrays:
            warn_of_unread(str(path), {*arrays, *arrays.objects}, (key,))
        if key not in arrays:
            raise ValueError(
                f"{path}: expected the key 'img_size_wh' [N, 2], found {sorted(arrays)}"
            )
        return arrays[key]
    return load_pickle(path)
