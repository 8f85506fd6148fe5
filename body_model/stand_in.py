"""A plain capsule figure in SMPL's exact format, made by formula: for tests, and without files."""

from dataclasses import dataclass

import numpy as np

from .joints import EXTRA_19, JOINT_NAMES, MIRROR, SMPL_LANDMARKS
from .smpl import SMPL

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


def stand_in(dtype: np.typing.DTypeLike = np.float32) -> SMPL:
    """A capsule figure with SMPL's 6890 vertices, 13776 faces, 24 joints and landmark vertices.

    T-pose, y up, facing z, 1.7 m tall, exactly mirror symmetric. The closed surface of tubes is
    no likeness of a person, but every part of SMPL's format is there and moves sensibly: smooth
    skin weights (at most 4 bones), ring-mean joint regressors, 10 shape directions (stature,
    girth, limbs, ...; metres per unit) and millimetre-sized pose correctives.

    Args:
        dtype: of all arrays but the faces.
    """
    mesh = _assemble()
    joints = mesh.regressor @ mesh.vertices
    cast = lambda x: np.ascontiguousarray(x, dtype)  # noqa: E731
    return SMPL(
        template=cast(mesh.vertices),
        shape_directions=cast(_shape_directions(mesh, joints)),
        pose_directions=cast(_pose_directions(mesh, joints)),
        joint_regressor=cast(mesh.regressor),
        skin_weights=cast(mesh.weights),
        faces=mesh.faces.astype(np.int32),
    )


def stand_in_regressor(body: SMPL) -> np.ndarray:
    """A regressor of the 19 extra joints for a body whose own file has none.

    Limb joints are the body's own; the trunk and head joints are means of its joints and of the
    crown, so they only resemble those that data sets label.

    Args:
        body: with V vertices, its rest pose upright along y.
    Returns:
        [19, V], rows of `joints.EXTRA_19`, each non-negative with sum 1.
    """
    rows = dict(zip(JOINT_NAMES, np.asarray(body.joint_regressor), strict=True))
    crown = np.zeros_like(rows["head"])
    crown[np.argmax(np.asarray(body.template)[:, 1])] = 1.0
    rows |= {
        "neck_lsp": rows["neck"],
        "head_top_lsp": crown,
        "pelvis_mpii": (rows["left_hip"] + rows["right_hip"]) / 2,
        "thorax_mpii": (rows["left_shoulder"] + rows["right_shoulder"]) / 4 + rows["neck"] / 2,
        "spine_h36m": rows["spine2"],
        "jaw_h36m": rows["head"],
        "head_h36m": (rows["head"] + crown) / 2,
    }
    return np.stack([rows[name] for name in EXTRA_19])


@dataclass(frozen=True)
class _Mesh:
    vertices: np.ndarray  # [V, 3]
    offsets: np.ndarray  # [V, 3] from the axis of the vertex's tube
    faces: np.ndarray  # [F, 3]
    weights: np.ndarray  # [V, 24]
    regressor: np.ndarray  # [24, V]
    mirror: np.ndarray  # [V] the partner of each vertex


def _point(knot) -> np.ndarray:
    return np.array(_REST[knot] if isinstance(knot, str) else knot, float)


def _build(tube: _Tube):
    """Vertices [R * S + 2, 3] (rings, then poles), offsets from the axis, weights, joint rows."""
    knots = np.array([_point(k) for k in tube.knots])
    radii = np.array(tube.radii)
    steps = np.r_[0, np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))]
    ends = [(knots[0] - knots[1]) / steps[1], (knots[-1] - knots[-2]) / (steps[-1] - steps[-2])]
    along = (knots[-1] - knots[0]) / np.linalg.norm(knots[-1] - knots[0])
    across = np.array(tube.side) - np.dot(tube.side, along) * along
    across /= np.linalg.norm(across)
    other = np.cross(along, across)
    # Symmetric about x = 0 for the central tubes: angle k mirrors angle -k.
    angle = 2 * np.pi * np.arange(tube.segments) / tube.segments - np.pi / 2

    cap = min(3, tube.rings // 2 - 1)  # rings that round off each end
    straight = np.linspace(0, steps[-1], tube.rings - 2 * cap)
    axis = np.stack([np.interp(straight, steps, knots[:, i]) for i in range(3)], -1)
    width = np.stack([np.interp(straight, steps, radii[:, i]) for i in range(2)], -1)
    rise = np.pi / 2 * np.arange(1, cap + 1)[:, None] / (cap + 1)
    reach = [
        axis[i] + width[i].mean() * direction for i, direction in zip((0, -1), ends, strict=True)
    ]
    centres = np.concatenate([
        (axis[0] + np.sin(rise) * (reach[0] - axis[0]))[::-1],
        axis,
        axis[-1] + np.sin(rise) * (reach[1] - axis[-1]),
    ])  # fmt: skip
    widths = np.concatenate([(np.cos(rise) * width[0])[::-1], width, np.cos(rise) * width[-1]])
    circle = np.stack([np.cos(angle), np.sin(angle)], -1) * widths[:, None]  # [R, S, 2]
    rings = centres[:, None] + circle @ np.stack([across, other])
    vertices = np.concatenate([rings.reshape(-1, 3), *[r[None] for r in reach]])
    # Offsets are from the axis proper, so that girth swells the rounded ends too.
    base = axis[np.clip(np.arange(-cap, len(axis) + cap), 0, len(axis) - 1)]
    base = np.concatenate([np.repeat(base, tube.segments, axis=0), axis[[0, -1]]])

    # Each joint of the chain hands over to the next around the plane through it.
    joints = np.array([_point(joint) for joint in tube.joints])
    height = np.einsum("vi,kvi->vk", np.broadcast_to(along, vertices.shape),
                       vertices - joints[1:, None])  # fmt: skip
    reached = np.cumprod(_smoothstep(height / tube.blend + 0.5), axis=1)
    reached = np.concatenate([np.ones((len(vertices), 1)), reached], axis=1)
    reached[:, :-1] -= reached[:, 1:]
    weights = np.zeros((len(vertices), len(JOINT_NAMES)))
    weights[:, [JOINT_NAMES.index(joint) for joint in tube.joints]] = reached

    rows = {}
    for joint in (j for j, name in _JOINT_TUBES.items() if name == tube.name):
        position = np.interp((_point(joint) - centres[0]) @ along, (centres - centres[0]) @ along,
                             np.arange(tube.rings))  # fmt: skip
        ring = np.maximum(1 - np.abs(np.arange(tube.rings) - position), 0)
        rows[joint] = np.repeat(ring / tube.segments, tube.segments)
    return vertices, vertices - base, weights, rows


def _smoothstep(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _tube_faces(segments: int, rings: int) -> np.ndarray:
    k = np.arange(segments)
    following = (k + 1) % segments
    a = np.arange(rings - 1)[:, None] * segments + k
    b = np.arange(rings - 1)[:, None] * segments + following
    c, d = b + segments, a + segments
    # Quads of one half are cut along the other diagonal, so that faces mirror onto faces.
    first = np.where((k < segments // 2)[:, None], np.stack([a, b, c], -1), np.stack([a, b, d], -1))
    second = np.where(
        (k < segments // 2)[:, None], np.stack([a, c, d], -1), np.stack([b, c, d], -1)
    )
    start, end = rings * segments, rings * segments + 1
    last = (rings - 1) * segments
    poles = [
        np.stack([np.full_like(k, start), following, k], -1),
        np.stack([np.full_like(k, end), last + k, last + following], -1),
    ]
    return np.concatenate([first.reshape(-1, 3), second.reshape(-1, 3), *poles])


def _bridge(vertices: np.ndarray, a: tuple, b: tuple) -> list[tuple]:
    """The six faces that join two surfaces where the faces `a` and `b` were cut out."""
    turned = [tuple(b[(shift - i) % 3] for i in range(3)) for shift in range(3)]
    b = min(
        turned, key=lambda t: np.linalg.norm(vertices[list(a)] - vertices[list(t)], axis=1).sum()
    )
    faces = []
    for i, k in ((0, 1), (1, 2), (2, 0)):
        faces += [(a[i], a[k], b[k]), (a[i], b[k], b[i])]
    return faces


def _assemble() -> _Mesh:
    built = {tube.name: _build(tube) for tube in _TUBES}
    central = {"torso", "neck", "head"}
    start, mirror = {}, []
    count = 0
    for tube in _TUBES:
        start[tube.name] = count
        own = len(built[tube.name][0])
        if tube.name in central:
            ring = np.arange(tube.rings * tube.segments).reshape(tube.rings, tube.segments)
            partner = [
                *ring[:, -np.arange(tube.segments) % tube.segments].ravel(),
                own - 2,
                own - 1,
            ]
            mirror.append(count + np.array(partner))
            count += own
        else:
            mirror += [count + own + np.arange(own), count + np.arange(own)]
            count += 2 * own
    partner = np.concatenate(mirror)

    def both_sides(which: int, flip) -> np.ndarray:
        out = []
        for tube in _TUBES:
            value = built[tube.name][which]
            out += [value] if tube.name in central else [value, flip(value)]
        return np.concatenate(out)

    vertices = both_sides(0, lambda x: x * FLIP)
    vertices = (vertices + vertices[partner] * FLIP) / 2
    offsets = both_sides(1, lambda x: x * FLIP)
    offsets = (offsets + offsets[partner] * FLIP) / 2
    weights = both_sides(2, lambda x: x[:, MIRROR])

    regressor = np.zeros((len(JOINT_NAMES), count))
    for tube in _TUBES:
        for joint, row in built[tube.name][3].items():
            at = start[tube.name] + np.arange(len(row))
            regressor[JOINT_NAMES.index(joint), at] = row
            regressor[MIRROR[JOINT_NAMES.index(joint)], partner[at]] = row

    faces = _join(vertices, start, partner, central)
    order = _landmark_order(vertices, start, built)
    rank = np.argsort(order)
    return _Mesh(vertices[order], offsets[order], rank[faces], weights[order], regressor[:, order],
                 rank[partner[order]])  # fmt: skip


def _join(vertices: np.ndarray, start: dict, partner: np.ndarray, central: set) -> np.ndarray:
    """All faces, each tube joined to its parent through a cut-out face hidden inside."""
    middle: set[tuple] = set()
    left: set[tuple] = set()
    own = {}
    for tube in _TUBES:
        own[tube.name] = list(
            map(tuple, (start[tube.name] + _tube_faces(tube.segments, tube.rings)).tolist())
        )
        (middle if tube.name in central else left).update(own[tube.name])
    reflect = lambda face: tuple(partner[list(face)][::-1].tolist())  # noqa: E731
    for tube in _TUBES[1:]:
        pole = own[tube.name][-2 * tube.segments]
        candidates = np.array([f for f in own[tube.parent] if f in middle or f in left])
        gap = vertices[candidates].mean(1) - vertices[list(pole)].mean(0)
        hole = tuple(candidates[np.argmin((gap**2).sum(-1))].tolist())
        bridge = _bridge(vertices, pole, hole)
        if tube.name in central:
            middle -= {pole, hole}
            middle |= set(bridge)
        else:
            left -= {pole, hole}
            left |= set(bridge)
            middle = {f for f in middle if set(f) not in (set(hole), set(reflect(hole)))}
    return np.array([*sorted(middle), *sorted(left), *sorted(map(reflect, left))])


def _landmark_order(vertices: np.ndarray, start: dict, built: dict) -> np.ndarray:
    """The order of vertices that puts the landmarks at SMPL's numbers."""
    order = np.arange(len(vertices))
    for name, (tube, point) in _LANDMARK_POINTS.items():
        size = len(built[tube][0])
        for side, number in SMPL_LANDMARKS.items():
            if side not in (name, name.replace("left", "right")):
                continue
            mirrored = side != name
            first = start[tube] + (size if mirrored and tube != "head" else 0)
            target = np.asarray(point, float) * (FLIP if mirrored else 1)
            nearest = first + np.argmin(((vertices[first : first + size] - target) ** 2).sum(-1))
            at = np.flatnonzero(order == nearest)[0]
            order[[number, at]] = order[[at, number]]
    return order


def _shape_directions(mesh: _Mesh, joints: np.ndarray) -> np.ndarray:
    """[V, 3, 10]: what one unit of each shape number adds, in metres."""
    j = dict(zip(JOINT_NAMES, joints, strict=True))
    v, out = mesh.vertices, mesh.offsets
    x, y, z = v.T
    aside, zero = np.abs(x), np.zeros_like(x)
    field = lambda dx=zero, dy=zero, dz=zero: np.stack([dx, dy, dz], -1)  # noqa: E731
    arm = np.clip(aside - j["left_shoulder"][0], 0, None) * (y > 0.1)
    below, above = (np.clip(s * (y - j["left_hip"][1]), 0, None) for s in (-1, 1))
    trunk = np.exp(-(((y - j["spine1"][1]) / 0.15) ** 2)) * (aside < 0.2)
    shoulder = np.sign(x) * _smoothstep(aside / 0.18) * _smoothstep((y - j["spine2"][1]) / 0.15)
    hip = np.sign(x) * _smoothstep(aside / 0.1) * _smoothstep((j["spine2"][1] - y) / 0.2)
    head = _smoothstep((y - j["neck"][1]) / 0.1)
    front = np.clip(z - j["spine1"][2], 0, None)
    limb = _smoothstep((np.maximum(arm, below) - 0.05) / 0.1)
    fields = [
        0.055 * (v - j["pelvis"]),  # stature
        0.12 * out,  # girth
        field(dy=-0.05 * below),  # leg length
        field(dx=0.05 * np.sign(x) * arm),  # arm length
        field(dy=0.05 * np.minimum(above, j["neck"][1] - j["left_hip"][1])),  # trunk length
        field(dx=0.012 * shoulder),  # shoulder width
        field(dx=0.008 * hip),  # hip width
        field(dz=0.25 * trunk * front),  # belly
        0.05 * head[:, None] * (v - j["head"]),  # head size
        0.1 * limb[:, None] * out,  # limb girth
    ]
    return np.stack(fields, -1)


def _pose_directions(mesh: _Mesh, joints: np.ndarray) -> np.ndarray:
    """[V, 3, 207]: arbitrary but smooth, small and mirror symmetric correctives."""
    rng = np.random.default_rng(0)
    mixing = 0.004 * rng.standard_normal((len(JOINT_NAMES) - 1, 3, 3, 3))  # j, out, row, column
    near = np.exp(-((mesh.vertices[:, None] - joints[1:]) ** 2).sum(-1) / 0.08**2)
    # A mirrored pose has its rotations' x row and column negated; so must its correctives be.
    sign = FLIP[:, None, None] * FLIP[:, None] * FLIP
    swap = np.array(MIRROR[1:]) - 1
    mixing = (mixing + sign * mixing[swap]) / 2
    near = (near + near[mesh.mirror][:, swap]) / 2
    return np.einsum("vj,jcab->vcjab", near, mixing).reshape(len(near), 3, -1)
