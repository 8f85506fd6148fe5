"""The stand-in's surface: tubes about the bones, joined into one closed mesh of SMPL's size."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Integer

from body_model.joints import JOINT_NAMES, MIRROR, SMPL_LANDMARKS
from body_model.open.stand_in_tubes import (
    CENTRAL,
    JOINT_TUBES,
    LANDMARK_POINTS,
    REST,
    TUBES,
    Tube,
)

Face = tuple[int, int, int]

FLIP = np.array([-1.0, 1.0, 1.0])  # the mirror image of a point, left for right


@dataclass(frozen=True)
class Mesh:
    """The finished surface; its vertices stand in SMPL's order as far as landmarks go."""

    vertices: Float[np.ndarray, "V 3"]  # metres
    offsets: Float[np.ndarray, "V 3"]  # from the axis of the vertex's tube, metres
    faces: Integer[np.ndarray, "F 3"]  # counter-clockwise from outside
    weights: Float[np.ndarray, "V 24"]  # skin weights
    regressor: Float[np.ndarray, "24 V"]  # joints from vertices
    mirror: Integer[np.ndarray, " V"]  # left-right partner of each vertex


@dataclass(frozen=True)
class _Part:
    """One tube, or its mirror image: rings of vertices, then the start and the end pole."""

    vertices: np.ndarray
    offsets: np.ndarray
    weights: np.ndarray
    regressor: np.ndarray

    def mirrored(self) -> "_Part":
        return _Part(
            self.vertices * FLIP,
            self.offsets * FLIP,
            self.weights[:, MIRROR],
            self.regressor[list(MIRROR)],
        )


def assemble() -> Mesh:
    """Joins every tube and its mirror image into one closed surface."""
    parts, start, partner = [], {}, []
    count = 0
    for tube in TUBES:
        part = _build(tube)
        size = len(part.vertices)
        start[tube.name] = count
        if tube.name in CENTRAL:
            ring = np.arange(size - 2).reshape(tube.rings, tube.segments)
            ring = ring[:, -np.arange(tube.segments) % tube.segments]
            partner += [count + np.r_[ring.ravel(), size - 2, size - 1]]
            parts += [part]
        else:
            partner += [count + size + np.arange(size), count + np.arange(size)]
            parts += [part, part.mirrored()]
        count = sum(len(p.vertices) for p in parts)
    mirror = np.concatenate(partner)

    vertices = np.concatenate([p.vertices for p in parts])
    # Sines and cosines are symmetric to rounding only; the figure is to the last bit.
    vertices = (vertices + vertices[mirror] * FLIP) / 2
    offsets = np.concatenate([p.offsets for p in parts])
    offsets = (offsets + offsets[mirror] * FLIP) / 2
    weights = np.concatenate([p.weights for p in parts])
    regressor = np.concatenate([p.regressor for p in parts], axis=1)
    faces = _join(vertices, start, mirror)
    order = _landmark_order(vertices, start)
    rank = np.argsort(order)
    return Mesh(
        vertices[order],
        offsets[order],
        rank[faces],
        weights[order],
        regressor[:, order],
        rank[mirror[order]],
    )


def _point(knot: "str | tuple[float, ...]") -> np.ndarray:
    return np.array(REST[knot] if isinstance(knot, str) else knot, float)


def _build(tube: Tube) -> _Part:
    knots = np.array([_point(k) for k in tube.knots])
    radii = np.array(tube.radii)
    steps = np.r_[0, np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))]
    along = (knots[-1] - knots[0]) / np.linalg.norm(knots[-1] - knots[0])
    across = np.array(tube.side) - np.dot(tube.side, along) * along
    across /= np.linalg.norm(across)

    # Rings of equal spacing along the axis, then ever smaller ones that round off each end.
    cap = min(3, tube.rings // 2 - 1)
    straight = np.linspace(0, steps[-1], tube.rings - 2 * cap)
    axis = np.stack([np.interp(straight, steps, knots[:, i]) for i in range(3)], -1)
    width = np.stack([np.interp(straight, steps, radii[:, i]) for i in range(2)], -1)
    out = [knots[0] - knots[1], knots[-1] - knots[-2]]
    first, last = (
        axis[i] + width[i].mean() * d / np.linalg.norm(d) for i, d in zip((0, -1), out, strict=True)
    )
    rise = np.pi / 2 * np.arange(1, cap + 1)[:, None] / (cap + 1)
    centres = np.concatenate(
        [
            (axis[0] + np.sin(rise) * (first - axis[0]))[::-1],
            axis,
            axis[-1] + np.sin(rise) * (last - axis[-1]),
        ]
    )
    widths = np.concatenate([(np.cos(rise) * width[0])[::-1], width, np.cos(rise) * width[-1]])
    # On the central tubes vertex k of a ring mirrors vertex -k.
    angle = 2 * np.pi * np.arange(tube.segments) / tube.segments - np.pi / 2
    circle = np.stack([np.cos(angle), np.sin(angle)], -1) * widths[:, None]
    rings = centres[:, None] + circle @ np.stack([across, np.cross(along, across)])
    vertices = np.concatenate([rings.reshape(-1, 3), [first, last]])
    # Offsets are from the axis proper, so that girth swells the rounded ends too.
    base = axis[np.clip(np.arange(-cap, len(axis) + cap), 0, len(axis) - 1)]
    base = np.concatenate([np.repeat(base, tube.segments, axis=0), axis[[0, -1]]])

    regressor = np.zeros((len(JOINT_NAMES), len(vertices)))
    for joint in (j for j, name in JOINT_TUBES.items() if name == tube.name):
        at = np.interp(_point(joint) @ along, centres @ along, np.arange(tube.rings))
        share = np.maximum(1 - np.abs(np.arange(tube.rings) - at), 0) / tube.segments
        regressor[JOINT_NAMES.index(joint), :-2] = np.repeat(share, tube.segments)
    return _Part(vertices, vertices - base, _chain_weights(tube, vertices, along), regressor)


def _chain_weights(tube: Tube, vertices: np.ndarray, along: np.ndarray) -> np.ndarray:
    """[n, 24]: each joint of the tube's chain hands over to the next around its own plane."""
    joints = np.array([_point(joint) for joint in tube.joints[1:]])
    height = vertices @ along - (joints @ along)[:, None]
    reached = np.cumprod(smoothstep(height / tube.blend + 0.5), axis=0)
    shares = np.concatenate([np.ones_like(reached[:1]), reached])
    shares[:-1] -= reached
    weights = np.zeros((len(vertices), len(JOINT_NAMES)))
    weights[:, [JOINT_NAMES.index(joint) for joint in tube.joints]] = shares.T
    return weights


def smoothstep(x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Rises smoothly from 0 at 0 to 1 at 1; constant outside."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _tube_faces(tube: Tube) -> np.ndarray:
    """[F, 3] of one tube; the first face is at the start pole."""
    k = np.arange(tube.segments)
    following = (k + 1) % tube.segments
    size = tube.rings * tube.segments
    last = size - tube.segments
    rows = np.arange(tube.rings - 1)[:, None] * tube.segments
    a, b = rows + k, rows + following
    d, c = a + tube.segments, b + tube.segments
    # Quads of one half are cut along the other diagonal, so that faces mirror onto faces.
    half = (k < tube.segments // 2)[:, None]
    lower = np.where(half, np.stack([a, b, c], -1), np.stack([a, b, d], -1))
    upper = np.where(half, np.stack([a, c, d], -1), np.stack([b, c, d], -1))
    return np.concatenate(
        [
            np.stack([np.full_like(k, size), following, k], -1),
            np.stack([np.full_like(k, size + 1), last + k, last + following], -1),
            lower.reshape(-1, 3),
            upper.reshape(-1, 3),
        ]
    )


def _join(vertices: np.ndarray, start: dict[str, int], mirror: np.ndarray) -> np.ndarray:
    """All faces [F, 3], each tube joined to its parent through a hole hidden inside."""
    own = {tube.name: [_face(f) for f in start[tube.name] + _tube_faces(tube)] for tube in TUBES}
    cut: set[Face] = set()
    bridges: dict[str, list[Face]] = {}
    for tube in TUBES[1:]:
        pole = own[tube.name][0]
        free = [f for f in own[tube.parent or ""] if f not in cut]
        gap = vertices[np.array(free)].mean(1) - vertices[list(pole)].mean(0)
        hole = free[np.argmin((gap**2).sum(-1))]
        bridges[tube.name] = _bridge(vertices, pole, hole)
        cut |= {pole, hole}
        if tube.name not in CENTRAL and tube.parent in CENTRAL:
            twin = set(mirror[list(hole)].tolist())
            cut.add(next(f for f in own[tube.parent] if set(f) == twin))
    faces = []
    for tube in TUBES:
        one = [f for f in own[tube.name] if f not in cut] + bridges.get(tube.name, [])
        faces += [np.array(one)]
        if tube.name not in CENTRAL:
            faces += [mirror[np.array(one)][:, ::-1]]
    return np.concatenate(faces)


def _face(corners: np.ndarray) -> Face:
    a, b, c = corners.tolist()
    return a, b, c


def _bridge(vertices: np.ndarray, a: Face, b: Face) -> list[Face]:
    """The six faces that join two surfaces where the faces `a` and `b` were cut out."""
    turns = [(b[k], b[k - 1], b[k - 2]) for k in range(3)]
    b = min(turns, key=lambda t: ((vertices[list(a)] - vertices[list(t)]) ** 2).sum())
    sides = ((0, 1), (1, 2), (2, 0))
    return [f for i, k in sides for f in ((a[i], a[k], b[k]), (a[i], b[k], b[i]))]


def _landmark_order(vertices: np.ndarray, start: dict[str, int]) -> np.ndarray:
    """The order of vertices that puts the landmarks at SMPL's numbers."""
    sizes = {tube.name: tube.rings * tube.segments + 2 for tube in TUBES}
    order = np.arange(len(vertices))
    for landmark, number in SMPL_LANDMARKS.items():
        tube, point = LANDMARK_POINTS[landmark.replace("right", "left")]
        first, target = start[tube], np.array(point, float)
        if landmark.startswith("right"):
            first += 0 if tube in CENTRAL else sizes[tube]
            target *= FLIP
        distances = ((vertices[first : first + sizes[tube]] - target) ** 2).sum(-1)
        at = np.flatnonzero(order == first + distances.argmin())[0]
        order[[number, at]] = order[[at, number]]
    return order
