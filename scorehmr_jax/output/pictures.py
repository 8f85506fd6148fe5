"""Pictures [H, W, 3] uint8 side by side, and as PNG. Needs matplotlib, imported on first use."""

import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from body_model.files import local_path, writing

Picture = UInt8[np.ndarray, "H W 3"]


def contact_sheet(
    pictures: Sequence[Sequence[np.ndarray]],
    columns: Sequence[str] = (),
    rows: Sequence[str] = (),
    gap: int = 6,
) -> Picture:
    """Lays out pictures in a grid with titles.

    Args:
        pictures: rows of pictures [H, W, 3] uint8; a smaller picture is centred in its cell.
        columns: a title over each column, or none.
        rows: a title beside each row, or none.
        gap: white pixels between cells.
    Returns:
        [H, W, 3] uint8.
    Raises:
        ValueError: if there is no picture, or not one title for each row or column.
    """
    count = max(map(len, pictures), default=0)
    if not count:
        raise ValueError("pictures: expected one or more, found none")
    for name, titles, number in (("columns", columns, count), ("rows", rows, len(pictures))):
        if titles and len(titles) != number:
            raise ValueError(f"{name}: expected {number} titles or none, found {len(titles)}")
    cell_h = max(p.shape[0] for row in pictures for p in row)
    cell_w = max(p.shape[1] for row in pictures for p in row)
    head, side = 28 if columns else 0, 28 if rows else 0
    height = head + len(pictures) * (cell_h + gap)
    width = side + count * (cell_w + gap)
    sheet = np.full((height, width, 3), 255, np.uint8)
    for i, row in enumerate(pictures):
        for j, picture in enumerate(row):
            h, w = picture.shape[:2]
            y = head + i * (cell_h + gap) + (cell_h - h) // 2
            x = side + j * (cell_w + gap) + (cell_w - w) // 2
            sheet[y : y + h, x : x + w] = picture
    if not (columns or rows):
        return sheet
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    canvas = FigureCanvasAgg(figure)
    figure.figimage(sheet)
    style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 11, "color": "#333"}
    for j, title in enumerate(columns):
        x = side + j * (cell_w + gap) + cell_w / 2
        figure.text(x / width, 1 - head / 2 / height, title, **style)
    for i, title in enumerate(rows):
        y = head + i * (cell_h + gap) + cell_h / 2
        figure.text(side / 2 / width, 1 - y / height, title, rotation=90, **style)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def png_bytes(picture: Picture, colors: int | None = None) -> bytes:
    """Encodes a picture as PNG.

    Args:
        picture: [H, W, 3] uint8.
        colors: at most so many, up to 256, for half the size; all by default.
    Raises:
        ValueError: for an array of another shape or type.
    """
    from PIL import Image  # matplotlib brings it along

    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ValueError(
            f"picture: expected [H, W, 3] uint8, found {list(picture.shape)} {picture.dtype}"
        )
    image = Image.fromarray(picture)
    if colors is not None:
        image = image.quantize(colors, dither=Image.Dither.NONE)
    stream = io.BytesIO()
    image.save(stream, format="png", optimize=True)
    return stream.getvalue()


def save_png(path: str | os.PathLike[str], picture: Picture, colors: int | None = None) -> None:
    """Writes a picture as PNG; a file of that name is replaced whole or not at all.

    Args:
        path: of the file, which ends in .png.
        picture: [H, W, 3] uint8.
        colors: as for `png_bytes`.
    Raises:
        ValueError: for a path with another suffix, or an array that is no such picture.
    """
    if local_path(path).suffix.lower() != ".png":
        raise ValueError(f"{path}: expected the name of a .png to write")
    data = png_bytes(picture, colors)
    with writing(path) as file:
        file.write(data)
