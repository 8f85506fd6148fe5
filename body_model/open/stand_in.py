"""A plain capsule figure in SMPL's exact format, made by formula: for tests, and without files."""

import numpy as np
from jaxtyping import Float
from numpy.typing import DTypeLike

from body_model.joints import EXTRA_19, JOINT_NAMES, MIRROR
from body_model.open.stand_in_mesh import FLIP, Mesh, assemble, smoothstep
from body_model.precision import checked_dtype
from body_model.smpl import SMPL


def stand_in(dtype: DTypeLike = np.float32) -> SMPL:
    """Makes a capsule figure with SMPL's 6890 vertices, 13776 faces, 24 joints and landmarks.

    T-pose, y up, facing z, 1.7 m tall, exactly mirror symmetric. The closed surface of tubes is
    no likeness of a person, but every part of SMPL's format is there and moves sensibly: smooth
    skin weights (at most 4 bones), ring-mean joint regressors, 10 shape directions (stature,
    girth, limbs, ...; metres per unit) and millimetre-sized pose correctives.

    Args:
        dtype: floating-point type of all arrays but the faces.
    Returns:
        The body, in numpy arrays.
    Raises:
        ValueError: if the type is no floating-point type.
    """
    dtype = checked_dtype(dtype)
    mesh = assemble()
    joints = mesh.regressor @ mesh.vertices
    return SMPL(
        template=mesh.vertices.astype(dtype),
        shape_directions=_shape_directions(mesh, joints).astype(dtype),
        pose_directions=_pose_directions(mesh, joints).astype(dtype),
        joint_regressor=mesh.regressor.astype(dtype),
        skin_weights=mesh.weights.astype(dtype),
        faces=mesh.faces.astype(np.int32),
    )


def stand_in_regressor(body: SMPL) -> Float[np.ndarray, "19 V"]:
    """Makes a regressor of the 19 extra joints for a body whose own file has none.

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


def _shape_directions(mesh: Mesh, joints: np.ndarray) -> np.ndarray:
    """Displacements [V, 3, 10] by one unit of each shape number, in metres."""
    j = dict(zip(JOINT_NAMES, joints, strict=True))
    v, out = mesh.vertices, mesh.offsets
    x, y, z = v.T
    aside, side = np.abs(x), np.sign(x)
    left, up, forward = np.eye(3)
    arm = np.clip(aside - j["left_shoulder"][0], 0, None) * (y > 0.1)
    below, above = (np.clip(s * (y - j["left_hip"][1]), 0, None) for s in (-1, 1))
    waist = np.exp(-(((y - j["spine1"][1]) / 0.15) ** 2)) * (aside < 0.2)
    shoulder = smoothstep(aside / 0.18) * smoothstep((y - j["spine2"][1]) / 0.15)
    hip = smoothstep(aside / 0.1) * smoothstep((j["spine2"][1] - y) / 0.2)
    head = smoothstep((y - j["neck"][1]) / 0.1)
    limb = smoothstep((np.maximum(arm, below) - 0.05) / 0.1)
    trunk = np.minimum(above, j["neck"][1] - j["left_hip"][1])
    fields = [
        0.055 * (v - j["pelvis"]),  # stature
        0.12 * out,  # girth
        np.outer(-0.05 * below, up),  # leg length
        np.outer(0.05 * side * arm, left),  # arm length
        np.outer(0.05 * trunk, up),  # trunk length
        np.outer(0.012 * side * shoulder, left),  # shoulder width
        np.outer(0.008 * side * hip, left),  # hip width
        np.outer(0.25 * waist * np.clip(z - j["spine1"][2], 0, None), forward),  # belly
        0.05 * head[:, None] * (v - j["head"]),  # head size
        0.1 * limb[:, None] * out,  # limb girth
    ]
    return np.stack(fields, -1)


def _pose_directions(mesh: Mesh, joints: np.ndarray) -> np.ndarray:
    """Pose correctives [V, 3, 207]: arbitrary, but smooth, small and mirror symmetric."""
    rng = np.random.default_rng(0)
    mixing = 0.004 * rng.standard_normal((len(JOINT_NAMES) - 1, 3, 3, 3))  # j, out, row, column
    near = np.exp(-((mesh.vertices[:, None] - joints[1:]) ** 2).sum(-1) / 0.08**2)
    # A mirrored pose has its rotations' x row and column negated; so must its correctives be.
    sign = FLIP[:, None, None] * FLIP[:, None] * FLIP
    swap = np.array(MIRROR[1:]) - 1
    mixing = (mixing + sign * mixing[swap]) / 2
    near = (near + near[mesh.mirror][:, swap]) / 2
    return np.einsum("vj,jcab->vcjab", near, mixing).reshape(len(near), 3, -1)
