"""A shaded mesh as an array of colours, by a z-buffer in numpy.

Every pixel has one sample or several. Each takes the nearest triangle over it, and the light of
that triangle's corners, blended. Only the part of the picture that holds the mesh is worked on.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from scorehmr_jax.camera import project
from scorehmr_jax.types import Camera

# Lights as (direction towards the light, strength), camera frame: key, fill and rim light.
LIGHTS = (((-0.45, -0.65, -0.62), 0.62), ((0.80, -0.10, -0.58), 0.24), ((0.10, -0.90, 0.45), 0.16))
AMBIENT = 0.26
NEAR = 0.05  # metres; faces nearer than this, or behind the camera, are not drawn
SAMPLES = 2  # per pixel of the picture, along x and along y, where nothing else is said
_AT_ONCE = 4_000_000  # pairs of a triangle and a sample, looked at together
_MOST = 400_000_000  # in all: half a minute


def draw_mesh(
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    camera: Camera,
    origin: tuple[float, float],
    scale: float,
    size: tuple[int, int],
    color: Float[np.ndarray, " 3"],
    samples: int = SAMPLES,
) -> Float[np.ndarray, "H W 4"]:
    """Shades a mesh.

    Args:
        vertices: [V, 3] camera frame, metres.
        faces: [F, 3] vertices of each, counter-clockwise seen from outside; no inside is drawn.
        camera: one camera.
        origin: the point of the image at the picture's upper left corner, pixels.
        scale: pixels of the picture per pixel of the image.
        size: width and height of the picture.
        color: red, green and blue in [0, 1].
        samples: per pixel, along x and along y; 1 draws fast, with hard edges.
    Returns:
        [H, W, 4] red, green, blue and coverage in [0, 1].
    Raises:
        ValueError: if the mesh lies around the camera, so that its faces fill the picture
            thousands of times.
    """
    picture = np.zeros((size[1], size[0], 4))
    patch, (left, top) = draw_patch(
        vertices, faces, camera, origin, scale, size, color, samples=samples
    )
    picture[top : top + patch.shape[0], left : left + patch.shape[1]] = patch
    return picture


def draw_patch(
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    camera: Camera,
    origin: tuple[float, float],
    scale: float,
    size: tuple[int, int],
    color: Float[np.ndarray, " 3"],
    samples: int = SAMPLES,
) -> tuple[Float[np.ndarray, "h w 4"], tuple[int, int]]:
    """Shades a mesh, and gives the part of the picture that holds it alone.

    Args:
        vertices, faces, camera, origin, scale, size, color, samples: as `draw_mesh` has them.
    Returns:
        The part as `draw_mesh` gives the whole, without rows and columns if nothing is seen; and
        the pixel of the picture at its upper left corner.
    Raises:
        ValueError: as `draw_mesh`.
    """
    corners = vertices[faces]
    # A hand-written cross product: np.cross takes three times as long.
    (ax, ay, az), (bx, by, bz) = (corners[:, k].T - corners[:, 0].T for k in (1, 2))
    area = np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], -1)
    facing = np.einsum("fd,fd->f", area, corners[:, 0]) < 0
    visible = np.flatnonzero(facing & (corners[..., 2].min(1) > NEAR))
    points = (np.asarray(project(jnp.asarray(vertices), camera), float) - origin) * scale
    seen = points[faces[visible]]
    if not len(seen):
        return np.zeros((0, 0, 4)), (0, 0)
    low = np.clip(np.floor(seen.min((0, 1))), 0, size).astype(int)
    high = np.clip(np.ceil(seen.max((0, 1))), 0, size).astype(int)
    width, height = (high - low) * samples
    shade = _light(vertices, faces, area)
    pixel, face, weights = rasterize(
        (seen - low) * samples, corners[visible][..., 2], int(width), int(height)
    )
    light = np.einsum("nk,nk->n", weights, shade[faces[visible[face]]])
    patch = np.zeros((height * width, 4))
    patch[pixel, :3] = np.minimum(color * light[:, None], 1)
    patch[pixel, 3] = 1
    if samples > 1:
        tall, wide = height // samples, width // samples
        patch = patch.reshape(tall, samples, wide, samples, 4).mean((1, 3))
        # Colour is averaged over the samples that the mesh covers, not over the empty ones.
        patch[..., :3] /= np.maximum(patch[..., 3:], 1e-9)
        patch = np.minimum(patch, 1)
    return patch.reshape(*(high - low)[::-1], 4), (int(low[0]), int(low[1]))


def _light(vertices: np.ndarray, faces: np.ndarray, area: np.ndarray) -> np.ndarray:
    """Light on each vertex [V], by the mean of the normals of its faces."""
    flat = faces.ravel()
    normal = np.stack(
        [np.bincount(flat, np.repeat(area[:, axis], 3), len(vertices)) for axis in range(3)], -1
    )
    normal = normal / (np.linalg.norm(normal, axis=-1, keepdims=True) + 1e-12)
    light = np.full(len(vertices), AMBIENT)
    for direction, strength in LIGHTS:
        towards = np.asarray(direction) / np.linalg.norm(direction)
        light += strength * np.maximum(normal @ towards, 0)
    return light**0.9 * 1.15


def rasterize(
    corners: Float[np.ndarray, "F 3 2"], depth: Float[np.ndarray, "F 3"], width: int, height: int
) -> tuple[Int[np.ndarray, " P"], Int[np.ndarray, " P"], Float[np.ndarray, "P 3"]]:
    """Finds the nearest triangle at every pixel centre that one covers.

    Args:
        corners: [F, 3, 2] pixels.
        depth: [F, 3] positive.
        width, height: of the picture.
    Returns:
        Pixels [P] as y * width + x, their triangles [P], and the corners' weights [P, 3].
    Raises:
        ValueError: if the triangles fill the picture thousands of times.
    """
    # Every pixel of a triangle's bounding box is a candidate.
    limit = np.array([width, height])
    low = np.clip(np.floor(corners.min(1)), 0, limit).astype(int)
    box = np.clip(np.ceil(corners.max(1)), 0, limit).astype(int) - low
    ends = np.cumsum(box.prod(1))
    total = int(ends[-1]) if len(ends) else 0
    if total > _MOST:
        raise ValueError(
            f"vertices: the mesh fills the picture {total // (width * height)} times over, as it "
            "lies around the camera; expected a translation that puts it before the camera, metres"
        )
    weights, nearness = _affine(corners, depth)
    nearest = np.zeros(width * height, np.float32)  # one over depth; infinity is the far end
    owner = np.full(width * height, -1)
    first = 0
    while first < len(corners):
        done = ends[first - 1] if first else 0
        last = max(int(np.searchsorted(ends, done + _AT_ONCE, "right")), first + 1)
        pixel, face, near = _covered(np.arange(first, last), low, box, weights, nearness, width)
        np.maximum.at(nearest, pixel, near)
        kept = near == nearest[pixel]
        owner[pixel[kept]] = face[kept]
        first = last
    seen = np.flatnonzero(owner >= 0)
    face = owner[seen]
    shares = _at(weights[face], seen % width, seen // width)
    return seen, face, shares


def _affine(corners: np.ndarray, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Functions a x + b y + c of the pixel: the corners' weights [F, 3, 3], one over depth [F, 3].

    Weight k is the area opposite corner k over the triangle's. Triangles without area have NaN.
    """
    ahead, behind = np.roll(corners, -1, 1), np.roll(corners, -2, 1)
    slope = np.stack([ahead[..., 1] - behind[..., 1], behind[..., 0] - ahead[..., 0]], -1)
    twice_area = np.einsum("fd,fd->f", slope[:, 0], corners[:, 0] - ahead[:, 0])
    slope /= np.where(twice_area == 0, np.nan, twice_area)[:, None, None]
    # At the middle of pixel (0, 0), and relative to a corner until the end: far from the origin
    # float32 would round the difference away.
    constant = np.einsum("fkd,fkd->fk", slope, 0.5 - ahead)
    weights = np.concatenate([slope, constant[..., None]], -1)
    nearness = np.einsum("fk,fkc->fc", 1 / depth, weights)
    return weights.astype(np.float32), nearness.astype(np.float32)


def _at(functions: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Values [N, ...] of functions [N, ..., 3] at pixels x [N] and y [N]."""
    more = (1,) * (functions.ndim - 2)
    x, y = (each.astype(np.float32).reshape(-1, *more) for each in (x, y))
    return functions[..., 0] * x + functions[..., 1] * y + functions[..., 2]


def _covered(
    faces: np.ndarray,
    low: np.ndarray,
    box: np.ndarray,
    weights: np.ndarray,
    nearness: np.ndarray,
    width: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pixels that some triangles cover, with the triangle and one over its depth there."""
    count = box[faces].prod(1)
    face = np.repeat(faces, count)
    index = np.arange(len(face)) - np.repeat(np.cumsum(count) - count, count)
    y, x = np.divmod(index, np.repeat(np.maximum(box[faces, 0], 1), count))
    x, y = x + np.repeat(low[faces, 0], count), y + np.repeat(low[faces, 1], count)
    inside = np.ones(len(face), bool)
    for corner in range(3):  # NaN is nowhere inside
        inside &= _at(np.repeat(weights[faces, corner], count, axis=0), x, y) >= -1e-4
    x, y, face = x[inside], y[inside], face[inside]
    return y * width + x, face, _at(nearness[face], x, y)
