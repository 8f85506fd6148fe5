"""Images and boxes of a data set in the released layout: what a network is shown, row by row."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from body_model.files import is_npz, local_path
from scorehmr_jax import units
from scorehmr_jax.formats.released import ANNOTATION_KEYS, OTHER_ANNOTATIONS
from scorehmr_jax.formats.tables import Table, read_tables

_READ = ("imgname", "center", "scale", "body_keypoints_2d")
_BESIDE = (*(key for key in ANNOTATION_KEYS if key not in _READ), *OTHER_ANNOTATIONS)


@dataclass(frozen=True)
class ImageRows:
    """The images of a data set, those of all groups one after another."""

    names: tuple[str, ...]  # N paths inside the folder of images
    center: Float64[np.ndarray, "N 2"] | None  # of the boxes, pixels; None: the file has none
    size: Float64[np.ndarray, "N 2"] | None  # width and height of the boxes, pixels
    keypoints: Float64[np.ndarray, "N 25 3"] | None  # OpenPose-25: x, y, confidence
    counts: tuple[int, ...]  # images of each group
    grouped: bool  # a list of dicts, one per sequence or set of views; False: one .npz

    def groups(self) -> list[slice]:
        """The rows of each group."""
        ends = np.cumsum(self.counts)
        return [slice(int(end) - n, int(end)) for n, end in zip(self.counts, ends, strict=True)]


def read_image_rows(path: str | Path) -> ImageRows:
    """Reads names, boxes and OpenPose's keypoints of a data set's images, and nothing else of it.

    Args:
        path: .npz of images, or .pkl with a list of groups. `imgname` [N]; `center` [N, 2] and
            `scale` [N] the side of a square box or [N, 2] width and height, pixels; or
            `body_keypoints_2d` [N, 25, 3] in place of boxes or beside them.
    Raises:
        ValueError: naming file, key, expected and found, if images are missing, or boxes and
            keypoints both are, or something has another shape or is in other units.
    """
    tables = read_tables(path, _READ, _BESIDE)
    parts = [_rows(table) for table in tables]
    for key in ("center", "body_keypoints_2d"):
        held = [key in table for table in tables]
        if any(held) and not all(held):
            table = tables[held.index(False)]
            raise ValueError(f"{table.where}: no key {key!r}, which other groups have")

    def whole(index: int) -> np.ndarray | None:
        each = [part[index] for part in parts]
        return None if each[0] is None else np.concatenate(each)

    names = tuple(name for part in parts for name in part[0])
    center, size, keypoints = map(whole, (1, 2, 3))
    if center is None and keypoints is None:
        raise ValueError(
            f"{tables[0].where}: no boxes: expected center [N, 2] and scale [N] in pixels, or "
            f"body_keypoints_2d [N, 25, 3]; found {sorted(tables[0].columns)}"
        )
    if center is not None and size is not None:
        units.check_boxes(center, size.max(-1), f"{path}: ")
    where = local_path(path)
    grouped = not (is_npz(where) or where.suffix == ".npz")
    return ImageRows(names, center, size, keypoints, tuple(len(part[0]) for part in parts), grouped)


def _rows(table: Table) -> tuple:
    """Names, centres, sizes and keypoints of one group."""
    names = [n.decode() if isinstance(n, bytes) else str(n) for n in table["imgname"].reshape(-1)]
    n = len(names)
    if n == 0:
        raise ValueError(f"{table.where}: imgname is empty; remove this group or add its images")
    keypoints = None
    if "body_keypoints_2d" in table:
        where = f"{table.where}: body_keypoints_2d"
        keypoints = table.unchecked("body_keypoints_2d", (n, 25, 3), np.float64)
        keypoints[..., 2] = units.checked_confidence(keypoints[..., 2], where)
    if "center" not in table and "scale" not in table:
        return names, None, None, keypoints
    center = table.unchecked("center", (n, 2), np.float64)
    scale = table.numbers("scale")
    if scale.shape not in ((n,), (n, 1), (n, 2)):
        raise ValueError(
            f"{table.where}: scale has shape {scale.shape}; expected the box's side [{n}] or its "
            f"width and height [{n}, 2] in pixels"
        )
    size = np.broadcast_to(scale.reshape(n, -1), (n, 2)).astype(np.float64)
    return names, center, size, keypoints
