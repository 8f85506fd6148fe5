"""Pictures of a body over its image, without a display: matplotlib's Agg and a painter's order.

Points are in the camera frame (x right, y down, z forward, metres), pictures are [H, W, 3] uint8.
Needs matplotlib (the extra `viz`), imported on first use.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from body_model.joints import OPENPOSE_25
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


def render(
    vertices: np.ndarray,
    faces: np.ndarray,
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
    from matplotlib.collections import PolyCollection
    from matplotlib.figure import Figure

    width, height = (float(s) for s in np.asarray(camera.image_size))
    left, top, right, bottom = crop or (0.0, 0.0, width, height)
    size = round((right - left) * scale), round((bottom - top) * scale)
    # At 100 dots per inch one point is 100 / 72 dots; a size of 1 / 100 inch is a pixel.
    figure = Figure(figsize=(size[0] / 100, size[1] / 100), dpi=100, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set_axis_off()
    if background is not None:
        ax.imshow(background, extent=(0, width, height, 0), interpolation="bilinear")
    polygons, colors = _shade(vertices, faces, camera, np.asarray(color))
    # An edge as wide as a fraction of a pixel closes the seams that antialiasing leaves.
    ax.add_collection(
        PolyCollection(polygons, facecolors=colors, edgecolors=colors, linewidths=0.35)
    )
    if keypoints is not None:
        _draw_keypoints(ax, np.asarray(keypoints.xy), np.asarray(keypoints.confidence), size[1])
    if joints is not None:
        joints = np.asarray(joints)
        ax.scatter(*joints.T, s=size[1] * 0.02, facecolors="white", edgecolors="#222", lw=0.7,
                   zorder=5)  # fmt: skip
    ax.set_xlim(left, right)
    ax.set_ylim(bottom, top)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def project(points: np.ndarray, camera: Camera) -> np.ndarray:
    """Pixels [..., 2] of points [..., 3] in the camera frame, for one camera; numpy."""
    depth = np.maximum(points[..., 2:], NEAR)
    return points[..., :2] / depth * np.asarray(camera.focal) + np.asarray(camera.center)


def _shade(
    vertices: np.ndarray, faces: np.ndarray, camera: Camera, color: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The visible faces from back to front: corners [F, 3, 2] in pixels and colours [F, 3]."""
    corners = vertices[faces]
    area = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    # Vertex normals weighted by area make the light run smoothly over the flat faces.
    normals = np.stack(
        [
            sum(np.bincount(faces[:, i], area[:, axis], len(vertices)) for i in range(3))
            for axis in range(3)
        ],
        -1,
    )
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True) + 1e-12
    facing = np.einsum("fd,fd->f", area, corners[:, 0]) < 0
    visible = np.flatnonzero(facing & (corners[..., 2].min(1) > NEAR))
    visible = visible[np.argsort(-corners[visible, :, 2].mean(1))]
    normal = normals[faces[visible]].mean(1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True) + 1e-12
    light = np.full(len(visible), AMBIENT)
    for direction, strength in LIGHTS:
        towards = np.asarray(direction) / np.linalg.norm(direction)
        light += strength * np.maximum(normal @ towards, 0)
    colors = np.clip(color * light[:, None] ** 0.9 * 1.15, 0, 1)
    return project(corners[visible], camera), colors


def _draw_keypoints(ax, xy: np.ndarray, confidence: np.ndarray, height: int) -> None:
    from matplotlib.collections import LineCollection

    seen = confidence > 0
    named = len(xy) >= len(OPENPOSE_25)
    width = max(height / 280, 1.0)
    if named:
        index = {name: i for i, name in enumerate(OPENPOSE_25)}
        bones = [(index[a], index[b], _side(b)) for a, b in BONES]
        bones = [bone for bone in bones if seen[bone[0]] and seen[bone[1]]]
        lines = [(xy[a], xy[b]) for a, b, _ in bones]
        # Unsure detections fade.
        alpha = [0.25 + 0.7 * min(confidence[a], confidence[b]) for a, b, _ in bones]
        for extra, color in ((1.0, ["white"] * len(bones)), (0.0, [c for *_, c in bones])):
            ax.add_collection(
                LineCollection(lines, colors=color, linewidths=width + extra, alpha=alpha,
                               capstyle="round", zorder=3)
            )  # fmt: skip
    color = [_side(name) for name in OPENPOSE_25] if named else []
    color += [SIDE_COLORS["middle"]] * (len(xy) - len(color))
    ax.scatter(*xy[seen].T, s=(1.9 * width) ** 2, c=np.array(color)[seen], lw=0.5,
               edgecolors="white", alpha=0.25 + 0.7 * confidence[seen].clip(0, 1), zorder=4)  # fmt: skip


def _side(name: str) -> str:
    return SIDE_COLORS.get(name.split("_")[0], SIDE_COLORS["middle"])


def crop_around(xy: np.ndarray, margin: float = 0.12) -> tuple[float, float, float, float]:
    """A box (left, top, right, bottom) around points [..., 2], wider by a share of its height."""
    low, high = xy.reshape(-1, 2).min(0), xy.reshape(-1, 2).max(0)
    pad = margin * (high[1] - low[1])
    return (
        float(low[0] - pad), float(low[1] - pad), float(high[0] + pad), float(high[1] + pad)
    )  # fmt: skip


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
    style = {"ha": "center", "va": "center", "fontsize": 11, "color": "#333"}
    for j, title in enumerate(columns):
        x = side + j * (cell_w + gap) + cell_w / 2
        figure.text(x / width, 1 - head / 2 / height, title, **style)
    for i, title in enumerate(rows):
        y = head + i * (cell_h + gap) + cell_h / 2
        figure.text(side / 2 / width, 1 - y / height, title, rotation=90, **style)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def save_png(path: str | Path, picture: np.ndarray) -> None:
    """Write a picture [H, W, 3] uint8; a file of that name is replaced whole or not at all."""
    from matplotlib.image import imsave

    path = Path(path)
    beside = path.with_name(f".{path.name}.part")
    imsave(beside, picture, format="png")
    os.replace(beside, path)
