"""Pictures of a body over its image, without a display or a GPU.

Keypoints are drawn by matplotlib (the extra `viz`), imported on first use. Points are in the camera
frame (x right, y down, z forward, metres), pictures are [H, W, 3] uint8.
"""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import jax
import numpy as np
from jaxtyping import Int, Real, Shaped

from body_model.joints import OPENPOSE_25
from body_model.pytree import Array
from scorehmr_jax.camera import FIELD_AXES, to_camera_frame
from scorehmr_jax.output.pictures import Picture
from scorehmr_jax.output.rasterize import draw_mesh
from scorehmr_jax.types import Camera, Keypoints2D

# Of OpenPose-25, from the middle of the body outwards.
CHAINS = (
    ("nose", "neck", "pelvis"),
    ("nose", "right_eye", "right_ear"),
    ("nose", "left_eye", "left_ear"),
    ("neck", "right_shoulder", "right_elbow", "right_wrist"),
    ("neck", "left_shoulder", "left_elbow", "left_wrist"),
    ("pelvis", "right_hip", "right_knee", "right_ankle", "right_heel"),
    ("pelvis", "left_hip", "left_knee", "left_ankle", "left_heel"),
    ("right_ankle", "right_big_toe", "right_small_toe"),
    ("left_ankle", "left_big_toe", "left_small_toe"),
)
BONES = tuple(pair for chain in CHAINS for pair in pairwise(chain))
SIDE_COLORS = {"left": "#0a84c6", "right": "#e5552b", "middle": "#3d3d45"}
SKIN = (0.80, 0.76, 0.72)
MAX_SIDE = 16384  # pixels of a picture


def render(
    vertices: Real[Array, "V 3"],
    faces: Int[Array, "F 3"],
    camera: Camera,
    *,
    keypoints: Keypoints2D | None = None,
    joints: Real[Array, "K 2"] | None = None,
    background: Shaped[Array, "..."] | None = None,
    crop: tuple[float, float, float, float] | None = None,
    scale: float = 1.0,
    color: tuple[float, float, float] = SKIN,
) -> Picture:
    """Draws a shaded mesh as the camera sees it, with 2D keypoints over it.

    Args:
        vertices: [V, 3] metres, in the camera frame; of a camera with a pose, in the frame from
            which that leads to the camera's. What is behind the camera is not drawn.
        faces: [F, 3] vertex indices, counter-clockwise seen from outside.
        camera: one camera, without leading axes.
        keypoints: detections [K], drawn as a skeleton if they are OpenPose-25, else as dots. Those
            without confidence or a finite place are left out.
        joints: [K, 2] projected joints in pixels, drawn as small rings.
        background: the image, [H, W, 3] or grey [H, W], uint8 or fractions in [0, 1]; blank if
            None.
        crop: (left, top, right, bottom) in pixels; the whole image if None.
        scale: pixels of the picture per pixel of the image.
        color: RGB in [0, 1] of the mesh.
    Returns:
        [H, W, 3] uint8.
    Raises:
        ValueError: naming the argument, if its shape or its numbers are not as told above, the
            picture would have no pixel or too many, or the mesh lies around the camera.
    """
    points, indices = _mesh(vertices, faces)
    camera = _one_camera(camera)
    if camera.rotation is not None or camera.translation is not None:
        points = np.asarray(to_camera_frame(points, camera), float)
        camera = replace(camera, rotation=None, translation=None)
    width, height = camera.image_size
    left, top, right, bottom = crop or (0.0, 0.0, width, height)
    size = _picture_size(left, top, right, bottom, scale)
    rgb = np.asarray(color, float)
    if rgb.shape != (3,) or not ((rgb >= 0) & (rgb <= 1)).all():
        raise ValueError(f"color: expected red, green and blue in [0, 1], found {color}")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # At 100 dots per inch a size of 1 / 100 inch is a pixel.
    figure = Figure(figsize=(size[0] / 100, size[1] / 100), dpi=100, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set_axis_off()
    if background is not None:
        image = _as_rgb(background, round(width), round(height))
        ax.imshow(image, extent=(0, width, height, 0), interpolation="bilinear")
    mesh = draw_mesh(points, indices, camera, (left, top), scale, size, rgb)
    ax.imshow(mesh, extent=(left, right, bottom, top), interpolation="none", zorder=2)
    if keypoints is not None:
        _draw_keypoints(ax, keypoints, size[1])
    if joints is not None:
        x, y = _points(joints, "joints").T
        ring: dict[str, Any] = {"facecolors": "white", "edgecolors": "#222", "lw": 0.7, "zorder": 5}
        ax.scatter(x, y, s=size[1] * 0.02, **ring)
    ax.set_xlim(left, right)
    ax.set_ylim(bottom, top)
    ax.set_aspect("auto")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def crop_around(xy: Real[Array, "*N 2"], margin: float = 0.18) -> tuple[float, float, float, float]:
    """Finds a box around points.

    Args:
        xy: [..., 2] pixels. Those that are not finite have no say.
        margin: around them, as a part of their height.
    Returns:
        (left, top, right, bottom), pixels.
    Raises:
        ValueError: if no point is finite.
    """
    points = np.asarray(xy, float).reshape(-1, 2)
    points = points[np.isfinite(points).all(1)]
    if not len(points):
        raise ValueError("xy: expected points to put a box around, found none that is finite")
    low, high = points.min(0), points.max(0)
    pad = margin * (high[1] - low[1])
    left, top, right, bottom = (float(edge) for edge in (*(low - pad), *(high + pad)))
    return left, top, right, bottom


def _mesh(vertices: Any, faces: Any) -> tuple[np.ndarray, np.ndarray]:
    points, indices = np.asarray(vertices, float), np.asarray(faces)
    for name, array in (("vertices", points), ("faces", indices)):
        if array.ndim != 2 or array.shape[1] != 3:
            letter = name[0].upper()
            raise ValueError(f"{name}: expected shape [{letter}, 3], found {list(array.shape)}")
    if not np.isfinite(points).all():
        raise ValueError("vertices: found NaN or infinity; leave this sample out of the pictures")
    if indices.size and not (indices.min() >= 0 and indices.max() < len(points)):
        raise ValueError(
            f"faces: expected indices of {len(points)} vertices, found {indices.min()} to "
            f"{indices.max()}; they are of another mesh"
        )
    return points, indices.astype(np.int64)


def _one_camera(camera: Camera) -> Camera:
    """The camera in numpy's numbers, checked."""
    camera = jax.tree.map(lambda number: np.asarray(number, float), camera)
    for name, value in vars(camera).items():
        if value is None:
            continue
        if value.shape != FIELD_AXES[name]:
            raise ValueError(
                f"camera.{name}: expected the {math.prod(FIELD_AXES[name])} numbers of one camera, "
                f"found shape {list(value.shape)}; pick a frame: "
                "jax.tree.map(lambda a: a[i], camera)"
            )
        sized = name in ("focal", "image_size")
        if not np.isfinite(value).all() or (sized and not (value > 0).all()):
            raise ValueError(f"camera.{name}: expected pixels above 0, found {value.tolist()}")
    return camera


def _picture_size(
    left: float, top: float, right: float, bottom: float, scale: float
) -> tuple[int, int]:
    sides = np.array([right - left, bottom - top], float) * scale
    if not ((sides >= 0.5) & (sides <= MAX_SIDE)).all():
        raise ValueError(
            f"crop, scale: expected a picture of 1 to {MAX_SIDE} pixels a side, found "
            f"{sides[0]:g} x {sides[1]:g}, of the image from ({left:g}, {top:g}) to ({right:g}, "
            f"{bottom:g}) at scale {scale:g}"
        )
    return max(round(sides[0]), 1), max(round(sides[1]), 1)


def _as_rgb(image: Any, width: int, height: int) -> np.ndarray:
    """An image [H, W, 3] as matplotlib shows it without guessing."""
    image = np.asarray(image)
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    if image.ndim != 3 or image.shape[:2] != (height, width) or image.shape[2] not in (3, 4):
        raise ValueError(
            f"background: expected the camera's image, [{height}, {width}, 3], found "
            f"{list(image.shape)}; give the camera of this image"
        )
    if image.dtype == np.uint8:
        return image[..., :3]
    fractions = image[..., :3].astype(np.float32)
    if not ((fractions >= 0) & (fractions <= 1)).all():
        raise ValueError(
            f"background: expected uint8, or fractions in [0, 1]; found {image.dtype} from "
            f"{np.min(fractions):g} to {np.max(fractions):g}"
        )
    return fractions


def _points(xy: Any, name: str) -> np.ndarray:
    points = np.asarray(xy, float)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"{name}: expected shape [K, 2], found {list(points.shape)}")
    return points


def _draw_keypoints(ax: Any, keypoints: Keypoints2D, height: int) -> None:
    from matplotlib.collections import LineCollection
    from matplotlib.colors import to_rgba

    xy = _points(keypoints.xy, "keypoints.xy")
    confidence = np.asarray(keypoints.confidence, float)
    if confidence.shape != xy.shape[:1]:
        raise ValueError(
            f"keypoints.confidence: expected shape [{len(xy)}], found {list(confidence.shape)}"
        )
    seen = (confidence > 0) & np.isfinite(xy).all(1)
    # Unsure detections fade.
    alpha = 0.25 + 0.7 * np.clip(np.nan_to_num(confidence), 0, 1)
    width = max(height / 280, 1.0)
    names = OPENPOSE_25 if len(xy) >= len(OPENPOSE_25) else ()
    bones = [(names.index(a), names.index(b)) for a, b in BONES] if names else []
    bones = [(a, b) for a, b in bones if seen[a] and seen[b]]
    lines = [xy[[a, b]] for a, b in bones]
    fade = [min(alpha[a], alpha[b]) for a, b in bones]
    colors = [to_rgba(_side(names[b]), f) for (_, b), f in zip(bones, fade, strict=True)]
    halo = [to_rgba("white", f) for f in fade]
    for extra, color in ((1.2, halo), (0.0, colors)):
        style: dict[str, Any] = {"linewidths": width + extra, "capstyle": "round", "zorder": 3}
        ax.add_collection(LineCollection(lines, colors=color, **style))
    sides = [_side(name) for name in names] + [SIDE_COLORS["middle"]] * (len(xy) - len(names))
    dots = np.array([to_rgba(side, a) for side, a in zip(sides, alpha, strict=True)])
    x, y = xy[seen].T
    size = (1.9 * width) ** 2
    ax.scatter(x, y, s=size, c=dots[seen], lw=0.5, edgecolors="white", zorder=4)


def _side(name: str) -> str:
    return SIDE_COLORS.get(name.split("_")[0], SIDE_COLORS["middle"])
