"""A shaded mesh as an array of colours, by a z-buffer in numpy.

Every pixel has one sample or several. Each takes the nearest triangle over it, and the light of
that triangle's corners, blended. Only the part of the picture that holds the mesh is worked on.
"""

import jax
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
_SLACK = 1e-3  # pixels beside a triangle that are looked at
_AT_ONCE = 4_000_000  # pairs of a triangle and a sample, looked at together
_MOST = 400_000_000  # in all: half a minute

_project = jax.jit(project)


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
    # One array for each axis of each corner: numpy is slow along axes of three.
    corner = np.ascontiguousarray(faces.T)
    axes = np.ascontiguousarray(vertices.T)
    first, second, third = (axes[:, index] for index in corner)
    (ax, ay, az), (bx, by, bz) = second - first, third - first
    area = (ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx)
    towards = sum(normal * place for normal, place in zip(area, first, strict=True)) < 0
    nearest = np.minimum(np.minimum(first[2], second[2]), third[2])
    visible = np.flatnonzero(towards & (nearest > NEAR))
    if not len(visible):
        return np.zeros((0, 0, 4)), (0, 0)
    points = (np.asarray(_project(jnp.asarray(vertices), camera), float) - origin) * scale
    seen = points[corner[:, visible]]
    low = np.clip(np.floor(seen.min((0, 1))), 0, size).astype(int)
    high = np.clip(np.ceil(seen.max((0, 1))), 0, size).astype(int)
    width, height = (high - low) * samples
    shade = _light(len(vertices), corner, area)
    pixel, face, weights = rasterize(
        ((seen - low) * samples).swapaxes(0, 1),
        axes[2, corner[:, visible]].T,
        int(width),
        int(height),
    )
    lights = shade[corner[:, visible.take(face)]]
    light = sum(weights[:, k] * lights[k] for k in range(3))
    patch = np.zeros((height * width, 4), np.float32)
    patch[pixel] = np.stack([*(np.minimum(part * light, 1) for part in color), light * 0 + 1], -1)
    if samples > 1:
        tall, wide = height // samples, width // samples
        patch = patch.reshape(tall, samples, wide, samples, 4).mean((1, 3))
        # Colour is averaged over the samples that the mesh covers, not over the empty ones.
        patch[..., :3] /= np.maximum(patch[..., 3:], 1e-9)
        patch = np.minimum(patch, 1)
    return patch.reshape(*(high - low)[::-1], 4), (int(low[0]), int(low[1]))


def _light(count: int, corner: np.ndarray, area: tuple[np.ndarray, ...]) -> np.ndarray:
    """Light on each vertex, by the mean of the normals of its faces, whose corners are [3, F]."""
    normal = np.stack([sum(np.bincount(index, along, count) for index in corner) for along in area])
    normal = normal / (np.sqrt(sum(along**2 for along in normal)) + 1e-12)
    light = np.full(count, AMBIENT)
    for direction, strength in LIGHTS:
        towards = np.asarray(direction) / np.linalg.norm(direction)
        light += strength * np.maximum(towards @ normal, 0)
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
    # Every pixel whose middle is in a triangle's bounding box is a candidate.
    limit = np.array([width, height])
    one, two, three = corners[:, 0], corners[:, 1], corners[:, 2]
    least, most = (f(f(one, two), three) for f in (np.minimum, np.maximum))
    low = np.clip(np.ceil(least - 0.5 - _SLACK), 0, limit).astype(np.int32)
    high = np.clip(np.floor(most + 0.5 + _SLACK), low, limit).astype(np.int32)
    box = high - low
    ends = np.cumsum(box[:, 0].astype(np.int64) * box[:, 1])
    total = int(ends[-1]) if len(ends) else 0
    if total > _MOST:
        raise ValueError(
            f"vertices: the mesh fills the picture {total // (width * height)} times over, as it "
            "lies around the camera; expected a translation that puts it before the camera, metres"
        )
    weights, nearness = _affine(corners, depth)
    nearest = np.zeros(width * height, np.float32)  # one over depth; infinity is the far end
    owner = np.full(width * height, -1, np.int32)
    first = 0
    while first < len(corners):
        done = ends[first - 1] if first else 0
        last = max(int(np.searchsorted(ends, done + _AT_ONCE, "right")), first + 1)
        pixel, face, near = _covered(
            np.arange(first, last, dtype=np.int32), low, box, weights, nearness, width
        )
        np.maximum.at(nearest, pixel, near)
        kept = np.flatnonzero(near == nearest.take(pixel))
        owner[pixel.take(kept)] = face.take(kept)
        first = last
    seen = np.flatnonzero(owner >= 0)
    face = owner.take(seen)
    y, x = np.divmod(seen, width)
    shares = np.stack([_at(function, face, x, y) for function in weights], axis=-1)
    return seen, face.astype(int), shares


def _affine(corners: np.ndarray, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Functions a x + b y + c of the pixel: the corners' weights [3, 3, F], one over depth [3, F].

    Weight k is the area opposite corner k over the triangle's. Triangles without area have NaN.
    """
    x, y = np.ascontiguousarray(corners.T)  # [3, F] each
    ahead, behind = [1, 2, 0], [2, 0, 1]
    across, along = y[ahead] - y[behind], x[behind] - x[ahead]
    twice_area = across[0] * (x[0] - x[1]) + along[0] * (y[0] - y[1])
    twice_area = np.where(twice_area == 0, np.nan, twice_area)
    across, along = across / twice_area, along / twice_area
    # At the middle of pixel (0, 0), and relative to a corner until the end: far from the origin
    # float32 would round the difference away.
    constant = across * (0.5 - x[ahead]) + along * (0.5 - y[ahead])
    weights = np.stack([across, along, constant], axis=1)
    nearness = np.sum(weights / depth.T[:, None], axis=0)
    return weights.astype(np.float32), nearness.astype(np.float32)


def _at(function: np.ndarray, face: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Values [N] of the functions [3, F] of faces [N] at pixels x [N] and y [N]."""
    a, b, c = (part.take(face) for part in function)
    return a * x.astype(np.float32) + b * y.astype(np.float32) + c


def _covered(
    faces: np.ndarray,
    low: np.ndarray,
    box: np.ndarray,
    weights: np.ndarray,
    nearness: np.ndarray,
    width: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pixels that some triangles cover, with the triangle and one over its depth there."""
    wide, tall = box[faces].T
    # First the rows of the boxes, then the pixels of the rows.
    row_face = np.repeat(faces, tall)
    row_y = np.repeat(low[faces, 1], tall) + _counted(tall)
    across = np.repeat(wide, tall)
    face, y = np.repeat(row_face, across), np.repeat(row_y, across)
    x = np.repeat(np.repeat(low[faces, 0], tall), across) + _counted(across)
    for function in weights:  # NaN is nowhere inside
        inside = np.flatnonzero(_at(function, face, x, y) >= -1e-4)
        face, x, y = face.take(inside), x.take(inside), y.take(inside)
    return y * width + x, face, _at(nearness, face, x, y)


def _counted(lengths: np.ndarray) -> np.ndarray:
    """0, 1, ... up to each length, one after another."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total, dtype=np.int32) - np.repeat((ends - lengths).astype(np.int32), lengths)
