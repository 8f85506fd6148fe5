"""The making of the open body: MakeHuman's adults -> T-pose -> SMPL's arrays, in numpy."""

from dataclasses import dataclass

import numpy as np

from body_model.joints import JOINT_NAMES, MIRROR, NUM_JOINTS, PARENTS
from body_model.open.adults import FLIP, random_adults
from body_model.open.fit import convex_regression, corrective_maps, principal_directions
from body_model.open.makehuman import MakeHuman

PELVIS = np.array([0.0, -0.22, 0.02])  # where the rest pose has its root, as in SMPL
NUM_BETAS = 10
SMOOTHING = 6  # rounds of averaging skin weights over the edges
CELL, REACH = 0.02, 0.16  # spacing of a joint regressor's vertices, and how far they lie, metres

# The marker vertices of hm08 whose mean is a joint: names of groups, or vertex numbers where
# there is no group (the Mixamo rig's). Right sides mirror these.
_MARKERS = {
    "pelvis": ("joint-pelvis",),
    "left_hip": ("joint-l-upper-leg",),
    "spine1": (16022, 17349),
    "left_knee": ("joint-l-knee",),
    "spine2": (3991, 10651),
    "left_ankle": ("joint-l-ankle",),
    "spine3": ("joint-spine-1",),
    "left_foot": tuple(f"joint-l-toe-{k}-1" for k in range(1, 6)),
    "neck": ("joint-neck",),
    "left_collar": (14055, 18825),
    "head": (823, 7530),
    "left_shoulder": ("joint-l-shoulder",),
    "left_elbow": ("joint-l-elbow",),
    "left_wrist": ("joint-l-hand",),
    "left_hand": tuple(f"joint-l-finger-{k}-1" for k in range(2, 6)),
}
_HIP_WIDTH = 0.82  # anatomical hips lie further in than the rig's
_PELVIS_HEIGHT = 0.45  # of the way from the hips to spine1

# Which joint moves the bones of the default rig whose names start so; the first match counts.
_BONE_JOINTS = (
    ("spine05", "pelvis"),
    ("spine04", "pelvis"),
    ("spine03", "spine1"),
    ("spine02", "spine2"),
    ("spine01", "spine3"),
    ("breast", "spine3"),
    ("root", "pelvis"),
    ("pelvis", "pelvis"),
    ("clavicle", "collar"),
    ("shoulder", "collar"),
    ("upperarm", "shoulder"),
    ("lowerarm", "elbow"),
    ("wrist", "wrist"),
    ("metacarpal", "wrist"),
    ("finger", "hand"),
    ("upperleg", "hip"),
    ("lowerleg", "knee"),
    ("foot", "ankle"),
    ("toe", "foot"),
    ("neck01", "neck"),
    ("neck02", "neck"),
    ("", "head"),
)

# The T-pose: where each left bone points. The legs are a little apart, the soles level.
_T_POSE = {
    "left_collar": ("left_shoulder", (0.933, -0.357, 0.038)),
    "left_shoulder": ("left_elbow", (1.0, 0.0, 0.0)),
    "left_elbow": ("left_wrist", (1.0, 0.0, 0.0)),
    "left_wrist": ("left_hand", (1.0, 0.0, 0.0)),
    "left_hip": ("left_knee", (0.050, -0.996, 0.080)),
    "left_knee": ("left_ankle", (0.022, -0.999, -0.046)),
    "left_ankle": ("left_foot", (0.077, 0.0, 0.997)),  # the heading alone: soles stay level
}


@dataclass(frozen=True)
class _Adults:
    """Random people in the T-pose, pelvis in place."""

    vertices: np.ndarray  # [N, V, 3]
    joints: np.ndarray  # [N, 24, 3]


def build(assets: MakeHuman) -> dict[str, np.ndarray]:
    """Makes the arrays of the open body, by the names of SMPL's fields."""
    weights = _skin_weights(assets)
    adults = _t_posed(assets, random_adults(assets), weights)
    template = adults.vertices.mean(0)
    regressor = _joint_regressor(assets, adults)
    return {
        "template": template,
        "shape_directions": principal_directions(adults.vertices, assets.faces, NUM_BETAS),
        "pose_directions": _pose_directions(assets, template, regressor @ template, weights),
        "joint_regressor": regressor,
        "skin_weights": weights,
        "faces": assets.faces.astype(np.int32),
    }


def _marker_means(assets: MakeHuman) -> np.ndarray:
    """SMPL's joints as means of marker vertices, [24, 19158]."""
    rows = np.zeros((NUM_JOINTS, len(assets.vertices)))
    for joint, markers in _MARKERS.items():
        index = JOINT_NAMES.index(joint)
        marks = np.concatenate([np.atleast_1d(assets.groups.get(m, m)) for m in markers])
        # Adults are symmetric, so the mean of both sides keeps the middle in the middle.
        for side, vertices in ((index, marks), (MIRROR[index], assets.mirror[marks])):
            rows[side, vertices] += 1
    return rows / rows.sum(1, keepdims=True)


def _place_joints(marks: np.ndarray) -> np.ndarray:
    """SMPL's joints [N, 24, 3] from the markers, whose hips lie too wide and pelvis low."""
    joints = marks.copy()
    name = JOINT_NAMES.index
    for side in ("left_hip", "right_hip"):
        joints[:, name(side), 0] *= _HIP_WIDTH
    middle = (joints[:, name("left_hip")] + joints[:, name("right_hip")]) / 2
    joints[:, 0] = middle + _PELVIS_HEIGHT * (joints[:, name("spine1")] - middle)
    return joints


def _skin_weights(assets: MakeHuman) -> np.ndarray:
    """The default rig's weights on SMPL's joints [V, 24], smoothed, at most 4 per vertex."""
    mirror = assets.mirror[: assets.body_size]
    weights = np.zeros((assets.body_size, NUM_JOINTS))
    for bone, weight in assets.skin_weights().items():
        joint = next(joint for start, joint in _BONE_JOINTS if bone.startswith(start))
        side = {"L": "left_", "R": "right_"}.get(bone.rpartition(".")[2], "")
        joint = joint if joint in JOINT_NAMES else side + joint
        weights[:, JOINT_NAMES.index(joint)] += weight
    edges = np.concatenate(
        [assets.faces[:, [0, 1]], assets.faces[:, [1, 2]], assets.faces[:, [2, 0]]]
    )
    degree = np.bincount(edges[:, 0], minlength=len(weights))[:, None]
    for _ in range(SMOOTHING):
        around = np.zeros_like(weights)
        np.add.at(around, edges[:, 0], weights[edges[:, 1]])
        weights = (weights + around / degree) / 2
    weights = (weights + weights[mirror][:, MIRROR]) / 2
    # The four largest stay. Of two equal ones at the limit, of a left and a right side, both go:
    # the weights must stay symmetric.
    weights[weights <= np.sort(weights, axis=1)[:, [-5]]] = 0
    return weights / weights.sum(1, keepdims=True)


def _t_posed(assets: MakeHuman, people: np.ndarray, weights: np.ndarray) -> _Adults:
    rest = _place_joints(np.einsum("jv,nvc->njc", _marker_means(assets), people))
    out = np.empty((len(people), assets.body_size, 3))
    posed_joints = np.empty_like(rest)
    for n, joints in enumerate(rest):
        rotations, posed = _t_pose(joints)
        offsets = posed - np.einsum("jab,jb->ja", rotations, joints)
        blended = np.tensordot(weights, rotations, 1)
        vertices = people[n, : assets.body_size]
        out[n] = np.einsum("vab,vb->va", blended, vertices) + weights @ offsets
        posed_joints[n] = posed
        out[n] += PELVIS - posed[0]
        posed_joints[n] += PELVIS - posed[0]
    return _Adults(out, posed_joints)


def _t_pose(joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """World rotations [24, 3, 3] and positions [24, 3] that bring one person to the T-pose."""
    rotations = np.broadcast_to(np.eye(3), (NUM_JOINTS, 3, 3)).copy()
    posed = joints.copy()
    for j, name in enumerate(JOINT_NAMES):
        if j == 0:
            continue
        parent = PARENTS[j]
        posed[j] = posed[parent] + rotations[parent] @ (joints[j] - joints[parent])
        rotations[j] = rotations[parent]
        if name.startswith("right_"):
            twin = MIRROR[j]  # numbered just before
            rotations[j] = FLIP[:, None] * rotations[twin] * FLIP
        elif name == "left_ankle":
            end, direction = _T_POSE[name]
            heading = (joints[JOINT_NAMES.index(end)] - joints[j]) * (1, 0, 1)
            rotations[j] = _shortest(heading, np.array(direction))
        elif name in _T_POSE:
            end, direction = _T_POSE[name]
            bone = rotations[parent] @ (joints[JOINT_NAMES.index(end)] - joints[j])
            rotations[j] = _shortest(bone, np.array(direction)) @ rotations[parent]
    return rotations, posed


def _shortest(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The smallest rotation that turns one direction to another."""
    start, end = start / np.linalg.norm(start), end / np.linalg.norm(end)
    axis, cosine = np.cross(start, end), start @ end
    skew = np.cross(axis, np.eye(3)).T
    return np.eye(3) + skew + skew @ skew / (1 + cosine)


def _joint_regressor(assets: MakeHuman, adults: _Adults) -> np.ndarray:
    """Each joint as a weighted mean of surface points around it [24, V], fitted to the adults."""
    mirror = assets.mirror[: assets.body_size]
    template, joints = adults.vertices.mean(0), adults.joints.mean(0)
    rows = np.zeros((NUM_JOINTS, len(template)))
    cells = np.round(template / CELL).astype(int)
    spread = np.zeros(len(template), bool)
    spread[np.unique(cells, axis=0, return_index=True)[1]] = True
    spread &= template[:, 0] >= 0
    spread |= spread[mirror]
    for j, name in enumerate(JOINT_NAMES):
        if name.startswith("right_"):
            continue
        near = np.flatnonzero(spread & (np.linalg.norm(template - joints[j], axis=1) < REACH))
        offsets = adults.vertices[:, near] - adults.joints[:, [j]]
        row = np.zeros(len(template))
        row[near] = convex_regression(offsets.swapaxes(1, 2).reshape(-1, len(near)))
        rows[j] += row
        rows[MIRROR[j]] += row[mirror]
    return rows / rows.sum(1, keepdims=True)


def _pose_directions(
    assets: MakeHuman, template: np.ndarray, joints: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Pose correctives [V, 3, 207]: dual quaternion less linear skinning, joint by joint."""
    mirror = assets.mirror[: assets.body_size]
    out = np.zeros((len(template), 3, NUM_JOINTS - 1, 9))
    for j in range(1, NUM_JOINTS):
        below = [k for k in range(NUM_JOINTS) if j in _ancestors(k)]
        share = weights[:, below].sum(1)
        bent = np.flatnonzero((share > 1e-3) & (share < 1 - 1e-3))
        out[bent, :, j - 1] = np.einsum(
            "vfcd,vd->vcf", corrective_maps(share[bent]), template[bent] - joints[j]
        )
    sign = (FLIP[:, None] * FLIP).ravel()
    twin = np.array(MIRROR[1:]) - 1
    out = (out + FLIP[:, None, None] * out[mirror][:, :, twin] * sign) / 2
    return out.reshape(len(template), 3, -1)


def _ancestors(joint: int) -> set[int]:
    return {joint} | (_ancestors(PARENTS[joint]) if PARENTS[joint] >= 0 else set())
