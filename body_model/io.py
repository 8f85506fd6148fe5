"""Body models and joint regressors from files; bodies to .npz."""

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import DTypeLike

from body_model.files import (
    Npz,
    is_npy,
    is_npz,
    local_path,
    read_npy,
    read_npz,
    warn_of_unread,
    write_npz,
)
from body_model.joints import NUM_JOINTS, PARENTS, SMPL_LANDMARKS
from body_model.model_checks import check_numbers, check_shapes
from body_model.pickles import load_pickle
from body_model.placeholders import Placeholder
from body_model.precision import checked_dtype
from body_model.smpl import SMPL

KEYS = ("v_template", "f", "weights", "J_regressor", "shapedirs", "posedirs", "kintree_table")

_LANDMARK_KEYS = ("landmark_names", "landmark_vertices")
# Of the files of SMPL, SMPL-H and SMPL-X: how they were made, their textures, faces and fingers.
_NOT_READ = frozenset(
    [
        "J",
        "J_regressor_prior",
        "allow_pickle",
        "bs_style",
        "bs_type",
        "dynamic_lmk_bary_coords",
        "dynamic_lmk_faces_idx",
        "ft",
        "gender",
        "hands_coeffsl",
        "hands_coeffsr",
        "hands_componentsl",
        "hands_componentsr",
        "hands_meanl",
        "hands_meanr",
        "joint2num",
        "lmk_bary_coords",
        "lmk_faces_idx",
        "part2num",
        "pose_training_info",
        "vert_sym_idxs",
        "vt",
        "weights_prior",
    ]
)

# SMPL-X has its own mesh: where the landmarks of SMPL_LANDMARKS lie on it.
SMPLX_LANDMARKS = {
    "nose": 9120, "right_eye": 9929, "left_eye": 9448, "right_ear": 616, "left_ear": 6,
    "left_big_toe": 5770, "left_small_toe": 5780, "left_heel": 8846,
    "right_big_toe": 8463, "right_small_toe": 8474, "right_heel": 8635,
    "left_thumb": 5361, "left_index": 4933, "left_middle": 5058, "left_ring": 5169,
    "left_pinky": 5286, "right_thumb": 8079, "right_index": 7669, "right_middle": 7794,
    "right_ring": 7905, "right_pinky": 8022,
}  # fmt: skip
_LANDMARKS = {6890: SMPL_LANDMARKS, 10475: SMPLX_LANDMARKS}

# SMPL-H and SMPL-X share SMPL's joints up to the wrists; fingers (and jaw, eyes) follow. SMPL's
# hand joints sit where these have the first joint of the middle finger: left, right.
_BODY_JOINTS = 22
_WRISTS = (20, 21)
_MIDDLE_FINGERS = {52: (25, 40), 55: (28, 43)}
_MODEL_NAMES = {24: "SMPL", 52: "SMPL-H", 55: "SMPL-X"}
_MAX_SHAPES = 300


def load(path: str | Path, dtype: DTypeLike = np.float32) -> SMPL:
    """Reads a body model: SMPL, or SMPL-H and SMPL-X as far as SMPL's joints go.

    Pickles are read without chumpy or scipy, and nothing they name is run. SMPL-H and SMPL-X give
    the body that they are with hands and face at rest: fingers follow the wrists, jaw and eyes
    the head. The joints left_hand and right_hand sit at the base of the middle finger and turn no
    vertex. A warning says what is left out, and names keys that no such file is known to have.

    Args:
        path: .npz or .pkl in SMPL's format, also .gz or .xz.
        dtype: floating-point type of all arrays but the faces; these are numpy arrays.
    Raises:
        ValueError: naming the file, the key, what was expected and what was found, if the file is
            missing, truncated, of another kind, not an SMPL model or not in metres; or if the type
            is no floating-point type.
    """
    path, dtype = local_path(path), checked_dtype(dtype)
    data = _read(path)
    if not isinstance(data, Mapping):
        raise ValueError(f"{path}: expected the keys {', '.join(KEYS)}; found one array")
    warn_of_unread(str(path), _held(data), (*KEYS, *_LANDMARK_KEYS), _NOT_READ)
    model = {key: _array(path, data, key) for key in KEYS}
    parents = _parents(path, model["kintree_table"])
    check_shapes(path, model, len(parents))
    check_numbers(path, model)
    if len(parents) == NUM_JOINTS:
        shapes = min(model["shapedirs"].shape[-1], _MAX_SHAPES)
    else:
        shapes = _cut_to_smpl(path, model, parents)
    count = len(model["v_template"])
    return SMPL(
        template=np.ascontiguousarray(model["v_template"], dtype),
        shape_directions=np.ascontiguousarray(model["shapedirs"][..., :shapes], dtype),
        pose_directions=np.ascontiguousarray(model["posedirs"], dtype),
        joint_regressor=np.ascontiguousarray(model["J_regressor"], dtype),
        skin_weights=np.ascontiguousarray(model["weights"], dtype),
        faces=np.ascontiguousarray(model["f"], np.int32),
        landmarks=_landmarks(path, data, count),
    )


def save(path: str | Path, body: SMPL) -> None:
    """Writes a body as .npz with SMPL's keys, and its landmarks; whole or not at all.

    Args:
        path: of the file; no suffix is added.
        body: of numpy's or JAX's arrays; `load` gives the same body.
    Raises:
        ValueError: if the path is an address or a folder, numbers are of a type that numpy's
            files cannot hold (bfloat16), or `load` would refuse the body; naming the key.
    """
    parents = np.array(PARENTS).astype(np.uint32)  # the root's -1 becomes 2^32 - 1, as in SMPL
    model = {
        "v_template": np.asarray(body.template),
        "f": np.asarray(body.faces).astype(np.uint32),
        "weights": np.asarray(body.skin_weights),
        "J_regressor": np.asarray(body.joint_regressor),
        "shapedirs": np.asarray(body.shape_directions),
        "posedirs": np.asarray(body.pose_directions),
        "kintree_table": np.stack([parents, np.arange(NUM_JOINTS, dtype=np.uint32)]),
    }
    target = local_path(path)
    for key in KEYS:
        _array(target, model, key)
    check_shapes(target, model, NUM_JOINTS)
    check_numbers(target, model)
    write_npz(
        target,
        {
            **model,
            "landmark_names": np.array([name for name, _ in body.landmarks], "U"),
            "landmark_vertices": np.array([vertex for _, vertex in body.landmarks], np.int32),
        },
    )


def load_regressor(
    path: str | Path, vertices: int | None = None, dtype: DTypeLike = np.float32
) -> Float[np.ndarray, "R V"]:
    """Reads a matrix that regresses keypoints from vertices, such as SMPL_to_J19.pkl.

    Args:
        path: .npy, .npz or .pkl (dense or scipy.sparse) of one matrix.
        vertices: V of the body it is for, checked if given.
        dtype: floating-point type of the matrix, which is numpy's.
    Returns:
        [R, V].
    Raises:
        ValueError: naming the file, what was expected and what was found, if the file is missing,
            truncated, of another kind or of another shape; or if the type is no floating-point
            type.
    """
    path, dtype = local_path(path), checked_dtype(dtype)
    data = _read(path)
    if isinstance(data, Mapping):
        held = _held(data)
        matrices = [key for key, value in data.items() if _is_numeric(value) and value.ndim == 2]
        if not matrices and isinstance(data, Npz) and data.objects:
            data[min(data.objects)]  # says that it is not read
        if len(matrices) != 1:
            found = _listed(data)
            raise ValueError(f"{path}: expected one matrix [R, V], found the keys {found}")
        warn_of_unread(str(path), held, matrices, ("names",))
        data = data[matrices[0]]
    matrix = _array(path, {"regressor": data}, "regressor")
    expected = "V" if vertices is None else vertices
    if matrix.ndim != 2 or vertices not in (None, matrix.shape[1]):
        raise ValueError(
            f"{path}: expected a regressor of shape [R, {expected}], found {list(matrix.shape)}"
        )
    return np.ascontiguousarray(matrix, dtype)


def _read(path: Path) -> Any:
    """Reads an .npz, .npy or pickle, told apart by how it begins."""
    if is_npz(path) or path.suffix == ".npz":
        return read_npz(path)
    if is_npy(path) or path.suffix == ".npy":
        return read_npy(path)
    return load_pickle(path)


def _held(data: Mapping) -> set:
    return {*data, *(data.objects if isinstance(data, Npz) else ())}


def _listed(keys: Iterable) -> str:
    return ", ".join(sorted(k if isinstance(k, str) else _kind(k) for k in keys)) or "none"


def _kind(x: Any) -> str:
    # Never the text of a container from a file: of lists that share lists it has no end.
    if isinstance(x, np.ndarray):
        return str(x.dtype)
    return repr(x) if isinstance(x, Placeholder) else f"a value of type {type(x).__name__}"


def _is_numeric(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "biuf"


def _array(path: Path, data: Mapping, key: str) -> np.ndarray:
    """Returns data[key], which must be an array of finite numbers."""
    if key not in data:
        raise ValueError(
            f"{path}: no key '{key}'; expected {', '.join(KEYS)}; found {_listed(data)}"
        )
    array = data[key]
    if not _is_numeric(array):
        raise ValueError(f"{path}: key '{key}': expected an array of numbers, found {_kind(array)}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = np.count_nonzero(~np.isfinite(array))
        raise ValueError(f"{path}: key '{key}' holds {bad} values that are NaN or infinite")
    return array


def _parents(path: Path, table: np.ndarray) -> tuple[int, ...]:
    """Returns the parent of every joint, -1 for the root; the tree must begin as SMPL's does."""
    if table.ndim != 2 or table.shape[0] != 2 or table.shape[1] not in _MODEL_NAMES:
        raise ValueError(
            f"{path}: key 'kintree_table': expected shape [2, 24] (SMPL), [2, 52] (SMPL-H) or "
            f"[2, 55] (SMPL-X), found {list(table.shape)}"
        )
    parents = tuple(int(p) for p in table[0].astype(np.int64).astype(np.int32))
    count = NUM_JOINTS if len(parents) == NUM_JOINTS else _BODY_JOINTS
    ordered = all(0 <= p < j for j, p in enumerate(parents) if j)
    hands = [parents[j] for j in _MIDDLE_FINGERS.get(len(parents), ())]
    if parents[:count] != PARENTS[:count] or not ordered or hands not in ([], list(_WRISTS)):
        raise ValueError(
            f"{path}: key 'kintree_table': expected SMPL's tree, parents {PARENTS[:count]}, "
            f"found {parents}"
        )
    return parents


def _cut_to_smpl(path: Path, model: dict[str, np.ndarray], parents: tuple[int, ...]) -> int:
    """Reduces SMPL-H or SMPL-X to SMPL's 24 joints in place; returns how many shape columns stay.

    A joint at rest moves with its parent, so its skin weights pass to the nearest body joint above
    it; pose correctives of joints at rest are zero. Both are exact.
    """
    joints, vertices = len(parents), len(model["v_template"])
    weights = np.zeros((vertices, NUM_JOINTS), model["weights"].dtype)
    for joint in range(joints):
        kept = joint
        while kept >= _BODY_JOINTS:
            kept = parents[kept]
        weights[:, kept] += model["weights"][:, joint]
    model["weights"] = weights
    rows = [*range(_BODY_JOINTS), *_MIDDLE_FINGERS[joints]]
    model["J_regressor"] = model["J_regressor"][rows]
    kept_correctives = 9 * (_BODY_JOINTS - 1)
    posedirs = np.zeros((vertices, 3, 9 * (NUM_JOINTS - 1)), model["posedirs"].dtype)
    posedirs[..., :kept_correctives] = model["posedirs"][..., :kept_correctives]
    model["posedirs"] = posedirs

    columns = model["shapedirs"].shape[-1]
    shapes, left_out = min(columns, _MAX_SHAPES), "fingers"
    if joints == 55:
        # 400 columns are 300 of shape and 100 of expression; the short form has 10 and 10.
        shapes = min(columns, _MAX_SHAPES if columns > _MAX_SHAPES else 10)
        left_out = f"fingers, jaw, eyes and {columns - shapes} columns of expression"
    warnings.warn(
        f"{path}: {_MODEL_NAMES[joints]} with {joints} joints is loaded as SMPL's {NUM_JOINTS}. "
        f"Left out: {left_out}; they stay at rest. Rotations of left_hand and right_hand, which "
        "this model lacks, turn no vertex.",
        stacklevel=3,
    )
    return shapes


def _landmarks(path: Path, data: Mapping, vertices: int) -> tuple[tuple[str, int], ...]:
    if "landmark_names" not in data:
        if "landmark_vertices" in data:
            raise ValueError(
                f"{path}: key 'landmark_vertices': expected 'landmark_names' beside it, found "
                "none; others would stand in their place"
            )
        return tuple(_LANDMARKS.get(vertices, {}).items())
    texts = data["landmark_names"]
    if not isinstance(texts, np.ndarray) or texts.dtype.kind != "U":
        raise ValueError(
            f"{path}: key 'landmark_names': expected an array of text, found {_kind(texts)}"
        )
    names = tuple(str(name) for name in texts.ravel())
    numbers = tuple(int(n) for n in _array(path, data, "landmark_vertices").ravel())
    if len(names) != len(numbers) or not all(0 <= n < vertices for n in numbers):
        raise ValueError(
            f"{path}: keys 'landmark_names', 'landmark_vertices': expected as many vertices below "
            f"{vertices} as names, found {len(names)} names and the vertices {numbers}"
        )
    return tuple(zip(names, numbers, strict=True))
