"""The stand-in's surface: tubes about the bones, joined into one closed mesh of SMPL's size."""

from dataclasses import dataclass

import numpy as np

from body_model.joints import JOINT_NAMES, MIRROR, SMPL_LANDMARKS

Face = tuple[int, int, int]

FLIP = np.array([-1.0, 1.0, 1.0])  # the mirror image of a point, left for right

# Rest positions in metres; the right side mirrors the left.
_REST = {
    "pelvis": (0, -0.22, 0.02), "left_hip": (0.085, -0.29, 0.02), "spine1": (0, -0.13, 0.02),
    "left_knee": (0.1, -0.69, 0.03), "spine2": (0, -0.03, 0.015), "left_ankle": (0.11, -1.1, 0.02),
    "spine3": (0, 0.09, 0.005), "left_foot": (0.12, -1.14, 0.15), "neck": (0, 0.26, 0.015),
    "left_collar": (0.06, 0.19, 0.02), "head": (0, 0.32, 0.03), "left_shoulder": (0.18, 0.19, 0.02),
    "left_elbow": (0.43, 0.19, 0.02), "left_wrist": (0.67, 0.19, 0.02),
    "left_hand": (0.76, 0.19, 0.02),
}  # fmt: skip


@dataclass(frozen=True)
class _Tube:
    """A closed tube about a bent axis: rings of vertices between two poles.

    `knots` are points of the axis (or joint names), `radii` the two half-widths there, across
    `side` and across the other direction; `joints` is the part of the kinematic chain whose
    joints move it, `blend` the length over which one hands over to the next.
    """

    name: str
    parent: str | None
    knots: tuple
    radii: tuple[tuple[float, float], ...]
    joints: tuple[str, ...]
    segments: int
    rings: int
    side: tuple[float, float, float]
    blend: float = 0.08


_FINGERS = {
    "thumb": ((0.70, 0.18, 0.055), (0.752, 0.17, 0.105)),
    "index": ((0.77, 0.19, 0.05), (0.84, 0.185, 0.065)),
    "middle": ((0.77, 0.19, 0.03), (0.85, 0.185, 0.035)),
    "ring": ((0.77, 0.19, 0.01), (0.84, 0.185, 0.005)),
    "pinky": ((0.765, 0.19, -0.01), (0.815, 0.185, -0.025)),
}
_X, _Z = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)

# Ring and segment counts add up to SMPL's 6890 vertices; left tubes count twice.
_TUBES = (
    _Tube("torso", None, ((0, -0.3, 0.015), "pelvis", "spine1", "spine2", "spine3", (0, 0.19, 0.01),
          (0, 0.24, 0.015)), ((0.13, 0.1), (0.165, 0.12), (0.15, 0.11), (0.145, 0.105),
          (0.165, 0.115), (0.155, 0.09), (0.07, 0.06)),
          ("pelvis", "spine1", "spine2", "spine3", "neck"), 36, 53, _X),
    _Tube("neck", "torso", ((0, 0.2, 0.01), "neck", "head"), ((0.06, 0.06),) * 3,
          ("spine3", "neck", "head"), 16, 8, _X, 0.05),
    _Tube("head", "neck", ((0, 0.35, 0.055), (0, 0.41, 0.055)), ((0.075, 0.1), (0.075, 0.1)),
          ("spine3", "neck", "head"), 24, 24, _X, 0.05),
    _Tube("thigh", "torso", ("left_hip", "left_knee"), ((0.085, 0.085), (0.055, 0.055)),
          ("pelvis", "left_hip", "left_knee"), 16, 24, _X, 0.12),
    _Tube("shin", "thigh", ("left_knee", "left_ankle"), ((0.055, 0.055), (0.038, 0.038)),
          ("left_hip", "left_knee", "left_ankle"), 16, 24, _X),
    _Tube("foot", "shin", ((0.11, -1.135, 0.0), "left_foot", (0.125, -1.155, 0.19)),
          ((0.036, 0.036), (0.045, 0.032), (0.042, 0.018)),
          ("left_ankle", "left_foot"), 16, 18, _X, 0.04),
    _Tube("collar", "torso", ("left_collar", (0.16, 0.19, 0.02)), ((0.05, 0.055), (0.055, 0.055)),
          ("spine3", "left_collar", "left_shoulder"), 12, 10, _Z),
    _Tube("upper_arm", "collar", ("left_shoulder", "left_elbow"), ((0.055, 0.055), (0.04, 0.04)),
          ("left_collar", "left_shoulder", "left_elbow"), 12, 24, _Z),
    _Tube("forearm", "upper_arm", ("left_elbow", "left_wrist"), ((0.04, 0.04), (0.03, 0.026)),
          ("left_shoulder", "left_elbow", "left_wrist"), 12, 24, _Z, 0.06),
    _Tube("palm", "forearm", ("left_wrist", "left_hand"), ((0.03, 0.022), (0.042, 0.015)),
          ("left_elbow", "left_wrist", "left_hand"), 12, 10, _Z, 0.05),
    *(_Tube(finger, "palm", points, ((0.01, 0.01), (0.008, 0.008)),
            ("left_wrist", "left_hand"), 8, 6, _Z, 0.03) for finger, points in _FINGERS.items()),
)  # fmt: skip
_CENTRAL = ("torso", "neck", "head")  # symmetric in themselves; the others have a twin

# Where on which tube a joint lies: the mean of the tube's rings there regresses it.
_JOINT_TUBES = {
    "pelvis": "torso", "left_hip": "thigh", "spine1": "torso", "left_knee": "shin",
    "spine2": "torso", "left_ankle": "shin", "spine3": "torso", "left_foot": "foot",
    "neck": "neck", "left_collar": "collar", "head": "neck", "left_shoulder": "upper_arm",
    "left_elbow": "forearm", "left_wrist": "palm", "left_hand": "palm",
}  # fmt: skip

# A landmark is the vertex of its tube nearest to this point.
_LANDMARK_POINTS = {
    "nose": ("head", (0.0, 0.365, 0.2)), "left_eye": ("head", (0.035, 0.4, 0.2)),
    "left_ear": ("head", (0.2, 0.39, 0.05)), "left_big_toe": ("foot", (0.098, -1.16, 0.25)),
    "left_small_toe": ("foot", (0.2, -1.16, 0.2)), "left_heel": ("foot", (0.11, -1.16, -0.2)),
    **{f"left_{finger}": (finger, 2 * np.array(end) - start)
       for finger, (start, end) in _FINGERS.items()},
}  # fmt: skip


@dataclass(frozen=True)
class Mesh:
    """The finished surface; its vertices stand in SMPL's order as far as landmarks go."""

    vertices: np.ndarray  # [V, 3] metres
    offsets: np.ndarray  # [V, 3] from the axis of the vertex's tube
    faces: np.ndarray  # [F, 3]
    weights: np.ndarray  # [V, 24] skin weights
    regressor: np.ndarray  # [24, V]
    mirror: np.ndarray  # [V] left-right partner of each vertex


@dataclass(frozen=True)
class _Part:
    """One tube, or its mirror image: rings of vertices, then the start and the end pole."""

    vertices: np.ndarray
    offsets: np.ndarray
    weights: np.ndarray
    regressor: np.ndarray

    def mirrored(self) -> "_Part":
        return _Part(self.vertices * FLIP, self.offsets * FLIP, self.weights[:, MIRROR],
                     self.regressor[list(MIRROR)])  # fmt: skip


def assemble() -> Mesh:
    """Every tube and its mirror image as one closed surface."""
    parts, start, partner = [], {}, []
    count = 0
    for tube in _TUBES:
        part = _build(tube)
        size = len(part.vertices)
        start[tube.name] = count
        if tube.name in _CENTRAL:
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
    return Mesh(vertices[order], offsets[order], rank[faces], weights[order], regressor[:, order],
                rank[mirror[order]])  # fmt: skip


def _point(knot: "str | tuple[float, ...]") -> np.ndarray:
    return np.array(_REST[knot] if isinstance(knot, str) else knot, float)


def _build(tube: _Tube) -> _Part:
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
    first, last = (axis[i] + width[i].mean() * d / np.linalg.norm(d)
                   for i, d in zip((0, -1), out, strict=True))  # fmt: skip
    rise = np.pi / 2 * np.arange(1, cap + 1)[:, None] / (cap + 1)
    centres = np.concatenate([(axis[0] + np.sin(rise) * (first - axis[0]))[::-1], axis,
                              axis[-1] + np.sin(rise) * (last - axis[-1])])  # fmt: skip
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
    for joint in (j for j, name in _JOINT_TUBES.items() if name == tube.name):
        at = np.interp(_point(joint) @ along, centres @ along, np.arange(tube.rings))
        share = np.maximum(1 - np.abs(np.arange(tube.rings) - at), 0) / tube.segments
        regressor[JOINT_NAMES.index(joint), :-2] = np.repeat(share, tube.segments)
    return _Part(vertices, vertices - base, _chain_weights(tube, vertices, along), regressor)


def _chain_weights(tube: _Tube, vertices: np.ndarray, along: np.ndarray) -> np.ndarray:
    """[n, 24]: each joint of the tube's chain hands over to the next around its own plane."""
    joints = np.array([_point(joint) for joint in tube.joints[1:]])
    height = vertices @ along - (joints @ along)[:, None]
    reached = np.cumprod(smoothstep(height / tube.blend + 0.5), axis=0)
    shares = np.concatenate([np.ones_like(reached[:1]), reached])
    shares[:-1] -= reached
    weights = np.zeros((len(vertices), len(JOINT_NAMES)))
    weights[:, [JOINT_NAMES.index(joint) for joint in tube.joints]] = shares.T
    return weights


def smoothstep(x: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, and a smooth rise between."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _tube_faces(tube: _Tube) -> np.ndarray:
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
    return np.concatenate([
        np.stack([np.full_like(k, size), following, k], -1),
        np.stack([np.full_like(k, size + 1), last + k, last + following], -1),
        lower.reshape(-1, 3),
        upper.reshape(-1, 3),
    ])  # fmt: skip


def _join(vertices: np.ndarray, start: dict[str, int], mirror: np.ndarray) -> np.ndarray:
    """All faces [F, 3], each tube joined to its parent through a hole hidden inside."""
    own = {tube.name: [_face(f) for f in start[tube.name] + _tube_faces(tube)] for tube in _TUBES}
    cut: set[Face] = set()
    bridges: dict[str, list[Face]] = {}
    for tube in _TUBES[1:]:
        pole = own[tube.name][0]
        free = [f for f in own[tube.parent or ""] if f not in cut]
        gap = vertices[np.array(free)].mean(1) - vertices[list(pole)].mean(0)
        hole = free[np.argmin((gap**2).sum(-1))]
        bridges[tube.name] = _bridge(vertices, pole, hole)
        cut |= {pole, hole}
        if tube.name not in _CENTRAL and tube.parent in _CENTRAL:
            twin = set(mirror[list(hole)].tolist())
            cut.add(next(f for f in own[tube.parent] if set(f) == twin))
    faces = []
    for tube in _TUBES:
        one = [f for f in own[tube.name] if f not in cut] + bridges.get(tube.name, [])
        faces += [np.array(one)]
        if tube.name not in _CENTRAL:
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
    sizes = {tube.name: tube.rings * tube.segments + 2 for tube in _TUBES}
    order = np.arange(len(vertices))
    for landmark, number in SMPL_LANDMARKS.items():
        tube, point = _LANDMARK_POINTS[landmark.replace("right", "left")]
        first, target = start[tube], np.array(point, float)
        if landmark.startswith("right"):
            first += 0 if tube in _CENTRAL else sizes[tube]
            target *= FLIP
        distances = ((vertices[first : first + sizes[tube]] - target) ** 2).sum(-1)
        at = np.flatnonzero(order == first + distances.argmin())[0]
        order[[number, at]] = order[[at, number]]
    return order
