"""Pictures of a body over its image, without a display or a GPU.

The mesh is drawn by a small z-buffer in numpy with smooth shading, keypoints by matplotlib (the
extra `viz`), imported on first use. Points are in the camera frame (x right, y down, z forward,
metres), pictures are [H, W, 3] uint8.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from body_model.files import writing
from body_model.joints import OPENPOSE_25
from body_model.pytree import Array
from scorehmr_jax.camera import project
from scorehmr_jax.types import Camera, Keypoints2D

BONES = (
    ("nose", "neck"), ("neck", "pelvis"), ("nose", "right_eye"), ("right_eye", "right_ear"),
    ("nose", "left_eye"), ("left_eye", "left_ear"), ("neck", "right_shoulder"),
    ("right_shoulder", "right_elbow"), ("right_elbow", "right_wrist"), ("neck", "left_shoulder"),
    ("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist"), ("pelvis", "right_hip"),
    ("right_hip", "right_knee"), ("right_knee", "right_ankle"), ("pelvis", "left_hip"),
    ("left_hip", "left_knee"), ("left_knee", "left_ankle"), ("right_ankle", "right_heel"),
    ("right_ankle", "right_big_toe"), ("right_big_toe", "right_small_toe"),
    ("left_ankle", "left_heel"), ("left_ankle", "left_big_toe"),
    ("left_big_toe", "left_small_toe"),
)  # fmt: skip
SIDE_COLORS = {"left": "#0a84c6", "right": "#e5552b", "middle": "#3d3d45"}
SKIN = (0.80, 0.76, 0.72)
# Lights as (direction towards the light, strength), camera frame: key, fill and rim light.
LIGHTS = (((-0.45, -0.65, -0.62), 0.62), ((0.80, -0.10, -0.58), 0.24), ((0.10, -0.90, 0.45), 0.16))
AMBIENT = 0.26
NEAR = 0.05  # metres; faces nearer than this, or behind the camera, are not drawn
SAMPLES = 2  # per pixel of the picture, along x and along y


def render(
    vertices: np.ndarray,
    faces: Array,
    camera: Camera,
    *,
    keypoints: Keypoints2D | None = None,
    joints: np.ndarray | None = None,
    background: np.ndarray | None = None,
    crop: tuple[float, float, float, float] | None = None,
    scale: float = 1.0,
    color: tuple[float, float, float] = SKIN,
) -> np.ndarray:
    """A shaded mesh as the camera sees it, with 2D keypoints over it.

    Args:
        vertices: [V, 3] in the camera frame, metres.
        faces: [F, 3] vertex indices, counter-clockwise seen from outside.
        camera: one camera, without leading axes.
        keypoints: detections, drawn as a skeleton; OpenPose-25, or any number as dots.
        joints: [K, 2] projected joints in pixels, drawn as small rings.
        background: image of the camera's size, [H, W, 3] uint8 or in [0, 1]; blank if None.
        crop: (left, top, right, bottom) in pixels; the whole image if None.
        scale: pixels of the picture per pixel of the image.
        color: RGB in [0, 1] of the mesh.
    Returns:
        [H, W, 3] uint8.
    Raises:
        ValueError: if the vertices are not finite or their shape is wrong.
    """
    vertices, faces = np.asarray(vertices, float), np.asarray(faces, np.int64)
    if vertices.ndim != 2 or vertices.shape[1] != 3:
        raise ValueError(f"vertices: expected shape [V, 3], found {list(vertices.shape)}")
    if not np.isfinite(vertices).all():
        raise ValueError("vertices: found NaN or infinity; leave this sample out of the pictures")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width, height = (float(s) for s in np.asarray(camera.image_size))
    left, top, right, bottom = crop or (0.0, 0.0, width, height)
    size = round((right - left) * scale), round((bottom - top) * scale)
    # At 100 dots per inch a size of 1 / 100 inch is a pixel.
    figure = Figure(figsize=(size[0] / 100, size[1] / 100), dpi=100, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set_axis_off()
    if background is not None:
        ax.imshow(background, extent=(0, width, height, 0), interpolation="bilinear")
    mesh = _draw_mesh(vertices, faces, camera, (left, top), scale, size, np.asarray(color))
    ax.imshow(mesh, extent=(left, right, bottom, top), interpolation="none", zorder=2)
    if keypoints is not None:
        _draw_keypoints(ax, np.asarray(keypoints.xy), np.asarray(keypoints.confidence), size[1])
    if joints is not None:
        x, y = np.asarray(joints).T
        ax.scatter(x, y, s=size[1] * 0.02, facecolors="white", edgecolors="#222", lw=0.7,
                   zorder=5)  # fmt: skip
    ax.set_xlim(left, right)
    ax.set_ylim(bottom, top)
    ax.set_aspect("auto")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _draw_mesh(
    vertices: np.ndarray,
    faces: np.ndarray,
    camera: Camera,
    origin: tuple[float, float],
    scale: float,
    size: tuple[int, int],
    color: np.ndarray,
) -> np.ndarray:
    """The shaded mesh as an RGBA picture [H, W, 4] of `size`, in [0, 1]."""
    corners = vertices[faces]
    area = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.stack(
        [
            sum(np.bincount(faces[:, i], area[:, axis], len(vertices)) for i in range(3))
            for axis in range(3)
        ],
        -1,
    )
    facing = np.einsum("fd,fd->f", area, corners[:, 0]) < 0
    visible = facing & (corners[..., 2].min(1) > NEAR)
    corners, faces = corners[visible], faces[visible]
    fine = scale * SAMPLES
    width, height = size[0] * SAMPLES, size[1] * SAMPLES
    pixels = ((np.asarray(project(jnp.asarray(vertices), camera)) - origin) * fine)[faces]
    pixel, face, weights = _rasterize(pixels, corners[..., 2], width, height)

    # The light runs smoothly over the flat faces, as vertex normals are blended at each sample.
    normal = np.einsum("nk,nkd->nd", weights, normals[faces[face]])
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True) + 1e-12
    light = np.full(len(pixel), AMBIENT)
    for direction, strength in LIGHTS:
        towards = np.asarray(direction) / np.linalg.norm(direction)
        light += strength * np.maximum(normal @ towards, 0)
    samples = np.zeros((height * width, 4))
    samples[pixel, :3] = np.clip(color * light[:, None] ** 0.9 * 1.15, 0, 1)
    samples[pixel, 3] = 1
    picture = samples.reshape(size[1], SAMPLES, size[0], SAMPLES, 4).mean((1, 3))
    # Colour is averaged over the samples that the mesh covers, not over the empty ones.
    picture[..., :3] /= np.maximum(picture[..., 3:], 1e-9)
    return np.clip(picture, 0, 1)


def _rasterize(
    corners: np.ndarray, depth: np.ndarray, width: int, height: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The nearest triangle at every pixel centre that one covers.

    Args:
        corners: [F, 3, 2] in pixels.
        depth: [F, 3] positive.
        width, height: of the picture.
    Returns:
        Pixels [P] as y * width + x, their faces [P], and the corners' weights [P, 3].
    """
    limit = np.array([width, height])
    # Every pixel of every triangle's bounding box is a candidate.
    low = np.clip(np.floor(corners.min(1)), 0, limit).astype(int)
    high = np.clip(np.ceil(corners.max(1)), 0, limit).astype(int)
    box = high - low
    count = box.prod(1)
    face = np.repeat(np.arange(len(corners)), count)
    index = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    y, x = np.divmod(index, np.maximum(box[face, 0], 1))
    x, y = x + low[face, 0], y + low[face, 1]

    # Weight k is the area opposite corner k over the triangle's: an affine function of x and y.
    ahead, behind = np.roll(corners, -1, 1), np.roll(corners, -2, 1)
    slope = np.stack([ahead[..., 1] - behind[..., 1], behind[..., 0] - ahead[..., 0]], -1)
    twice_area = np.einsum("fd,fd->f", slope[:, 0], corners[:, 0] - ahead[:, 0])
    slope /= np.where(twice_area == 0, np.inf, twice_area)[:, None, None]
    constant = -np.einsum("fkd,fkd->fk", slope, ahead)
    slope, constant = slope.astype(np.float32), constant.astype(np.float32)
    centre = np.stack([x, y], -1).astype(np.float32) + np.float32(0.5)
    weights = np.einsum("nkd,nd->nk", slope[face], centre) + constant[face]
    inside = np.flatnonzero((weights >= -1e-4).all(1) & (twice_area != 0)[face])

    # One over depth is affine in the picture; the nearest candidate, written last, stays.
    nearness = np.einsum("nk,nk->n", weights[inside], 1 / depth[face[inside]])
    inside = inside[np.argsort(nearness, kind="stable")]
    winner = np.full(width * height, -1)
    winner[y[inside] * width + x[inside]] = inside
    pixel = np.flatnonzero(winner >= 0)
    return pixel, face[winner[pixel]], weights[winner[pixel]]


def _draw_keypoints(ax, xy: np.ndarray, confidence: np.ndarray, height: int) -> None:
    from matplotlib.collections import LineCollection
    from matplotlib.colors import to_rgba

    seen = confidence > 0
    # Unsure detections fade.
    alpha = 0.25 + 0.7 * np.clip(confidence, 0, 1)
    width = max(height / 280, 1.0)
    names = OPENPOSE_25 if len(xy) >= len(OPENPOSE_25) else ()
    bones = [(names.index(a), names.index(b)) for a, b in BONES] if names else []
    bones = [(a, b) for a, b in bones if seen[a] and seen[b]]
    lines = [xy[[a, b]] for a, b in bones]
    fade = [min(alpha[a], alpha[b]) for a, b in bones]
    colors = [to_rgba(_side(names[b]), f) for (_, b), f in zip(bones, fade, strict=True)]
    halo = [to_rgba("white", f) for f in fade]
    for extra, color in ((1.2, halo), (0.0, colors)):
        ax.add_collection(
            LineCollection(lines, colors=color, linewidths=width + extra, capstyle="round",
                           zorder=3)
        )  # fmt: skip
    sides = [_side(name) for name in names] + [SIDE_COLORS["middle"]] * (len(xy) - len(names))
    dots = [to_rgba(side, a) for side, a in zip(sides, alpha, strict=True)]
    ax.scatter(xy[seen, 0], xy[seen, 1], s=(1.9 * width) ** 2, c=np.array(dots)[seen], lw=0.5,
               edgecolors="white", zorder=4)  # fmt: skip


def _side(name: str) -> str:
    return SIDE_COLORS.get(name.split("_")[0], SIDE_COLORS["middle"])


def crop_around(xy: np.ndarray, margin: float = 0.18) -> tuple[float, float, float, float]:
    """A box (left, top, right, bottom) around points [..., 2], wider by a share of its height."""
    low, high = xy.reshape(-1, 2).min(0), xy.reshape(-1, 2).max(0)
    pad = margin * (high[1] - low[1])
    left, top, right, bottom = (float(edge) for edge in (*(low - pad), *(high + pad)))
    return left, top, right, bottom


def contact_sheet(
    pictures: Sequence[Sequence[np.ndarray]],
    columns: Sequence[str] = (),
    rows: Sequence[str] = (),
    gap: int = 6,
) -> np.ndarray:
    """Pictures in a grid with titles.

    Args:
        pictures: rows of pictures [H, W, 3] uint8; a smaller picture is centred in its cell.
        columns: a title over each column, or none.
        rows: a title beside each row, or none.
        gap: white pixels between cells.
    Returns:
        [H, W, 3] uint8.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    cell_h = max(p.shape[0] for row in pictures for p in row)
    cell_w = max(p.shape[1] for row in pictures for p in row)
    head, side = 28 if columns else 0, 28 if rows else 0
    count = max(len(row) for row in pictures)
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


def save_png(path: str | Path, picture: np.ndarray) -> None:
    """Writes a picture [H, W, 3] uint8; a file of that name is replaced whole or not at all."""
    from matplotlib.image import imsave

    with writing(path) as file:
        imsave(file, picture, format="png")
