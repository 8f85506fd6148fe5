"""A shaded mesh as an array of colours, by a z-buffer in numpy.

Every pixel has four samples. Each sample takes the nearest triangle over it, and the light that
falls on the blended normals of that triangle's corners.
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
SAMPLES = 2  # per pixel of the picture, along x and along y
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
    Returns:
        [H, W, 4] red, green, blue and coverage in [0, 1].
    Raises:
        ValueError: if the mesh lies around the camera, so that its faces fill the picture
            thousands of times.
    """
    corners = vertices[faces]
    area = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.stack(
        [
            sum(np.bincount(faces[:, i], area[:, axis], len(vertices)) for i in range(3))
            for axis in range(3)
        ],
        axis=-1,
    )
    facing = np.einsum("fd,fd->f", area, corners[:, 0]) < 0
    visible = facing & (corners[..., 2].min(1) > NEAR)
    corners, faces = corners[visible], faces[visible]
    fine = scale * SAMPLES
    width, height = size[0] * SAMPLES, size[1] * SAMPLES
    points = np.asarray(project(jnp.asarray(vertices), camera), float)
    pixel, face, weights = rasterize(
        ((points - origin) * fine)[faces], corners[..., 2], width, height
    )

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
    edges = _edges(corners)
    nearest = np.zeros(width * height)  # one over depth; the picture's far end is at infinity
    owner = np.full(width * height, -1)
    shares = np.zeros((width * height, 3), np.float32)
    first = 0
    while first < len(corners):
        done = ends[first - 1] if first else 0
        last = max(int(np.searchsorted(ends, done + _AT_ONCE, "right")), first + 1)
        some = np.arange(first, last)
        pixel, face, weights = _covered(some, low, box, edges, width)
        # One over depth is affine in the picture; the nearest candidate, written last, stays.
        nearness = np.einsum("nk,nk->n", weights, 1 / depth[face])
        order = np.argsort(nearness, kind="stable")
        order = order[nearness[order] > nearest[pixel[order]]]
        pixel = pixel[order]
        nearest[pixel], owner[pixel], shares[pixel] = nearness[order], face[order], weights[order]
        first = last
    seen = np.flatnonzero(owner >= 0)
    return seen, owner[seen], shares[seen]


def _edges(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each corner's weight as an affine function of x and y: slopes [F, 3, 2], constants [F, 3].

    Weight k is the area opposite corner k over the triangle's, which is found too [F].
    """
    ahead, behind = np.roll(corners, -1, 1), np.roll(corners, -2, 1)
    slope = np.stack([ahead[..., 1] - behind[..., 1], behind[..., 0] - ahead[..., 0]], -1)
    twice_area = np.einsum("fd,fd->f", slope[:, 0], corners[:, 0] - ahead[:, 0])
    slope /= np.where(twice_area == 0, np.inf, twice_area)[:, None, None]
    constant = -np.einsum("fkd,fkd->fk", slope, ahead)
    return slope.astype(np.float32), constant.astype(np.float32), twice_area


def _covered(
    faces: np.ndarray,
    low: np.ndarray,
    box: np.ndarray,
    edges: tuple[np.ndarray, np.ndarray, np.ndarray],
    width: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pixels that some triangles cover, with the triangle and its corners' weights."""
    slope, constant, twice_area = edges
    count = box[faces].prod(1)
    face = np.repeat(faces, count)
    index = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    y, x = np.divmod(index, np.maximum(box[face, 0], 1))
    x, y = x + low[face, 0], y + low[face, 1]
    centre = np.stack([x, y], -1).astype(np.float32) + np.float32(0.5)
    weights = np.einsum("nkd,nd->nk", slope[face], centre) + constant[face]
    inside = np.flatnonzero((weights >= -1e-4).all(1) & (twice_area != 0)[face])
    return y[inside] * width + x[inside], face[inside], weights[inside]
