"""NLF's results of detect_smpl_batched, saved by its user.

Read at: isarandi/nlf, demo.ipynb (the keys) and nlf/pt/multiperson/multiperson_model.py: lists of
one entry for each image; pose [P, 72] axis-angle, betas [P, 10], trans [P, 3] metres, joints3d
[P, 24, 3] millimetres in the camera's frame, joints2d [P, 24, 2] pixels, boxes [P, 5]. The camera
is not in the file: it is the one that takes the 3D joints to the 2D joints.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from scorehmr_jax.formats.bodies.contents import has
from scorehmr_jax.formats.bodies.rows import (
    Model,
    Rows,
    no_ids,
    numbers,
    rotations,
    shaped,
    smpl_pose,
)

READ = ("pose", "betas", "trans", "joints3d", "joints2d")
OTHERS = (
    *("boxes", "vertices3d", "vertices2d", "joints3d_nonparam", "joints2d_nonparam"),
    *("vertices3d_nonparam", "vertices2d_nonparam", "joint_uncertainties", "vertex_uncertainties"),
    "vertes_uncertainties",
)
_DEGREES = 55.0  # default_fov_degrees, of the image's longer side


def is_file(held: Any) -> bool:
    """True for the results of a batch of images, or a list of batches."""
    if isinstance(held, list):
        return len(held) > 0 and all(is_file(each) and isinstance(each, Mapping) for each in held)
    return has(held, "pose", "betas", "trans") and any(
        has(held, name) for name in ("joints3d", "joints2d", "joints3d_nonparam")
    )


def read(held: Any, where: str, image_size: np.ndarray | None = None) -> Rows:
    """Reads the people of each image.

    Args:
        held: a batch, or batches one after another.
        where: begins messages.
        image_size: width and height, pixels; without it twice the camera's center.
    Raises:
        ValueError: naming file, image and key.
    """
    batches = [held] if isinstance(held, Mapping) else held
    parts: dict[str, list[np.ndarray]] = {}
    number = 0
    for batch in batches:
        for i in range(len(batch["pose"])):
            at = f"{where}, image {number}"
            _image(batch, i, number, at, parts)
            number += 1
    if not parts:
        raise ValueError(f"{where}: nobody in any of {number} images")
    made: dict[str, Any] = {part: np.concatenate(values) for part, values in parts.items()}
    deep, flat = made.pop("joints3d", None), made.pop("joints2d", None)
    pose, left = smpl_pose(made["pose"], f"{where}: pose")
    made["pose"] = pose
    model: Model = "smplx" if left else "smpl"
    count, notes = len(pose), [left] if left else []
    focal = center = None
    if deep is not None and flat is not None:
        focal, center = camera_between(deep, flat, where)
        size = 2 * center if image_size is None else np.broadcast_to(image_size, (count, 2))
        notes.append("camera found between the file's 3D and 2D joints; size from its center")
    elif image_size is not None:
        size = np.broadcast_to(image_size, (count, 2)).astype(np.float32)
        half = np.tan(np.radians(_DEGREES) / 2)
        focal, center = np.repeat(size.max(-1, keepdims=True) / 2 / half, 2, 1), size / 2
        notes.append("focal length as NLF assumes it: 55 degrees along the longer side")
    else:
        notes.append("no camera: no joints2d and joints3d in the file; give image_size")
        size = None
    return Rows(
        **made,
        ids=no_ids(count),
        focal=focal,
        center=center,
        image_size=None if size is None else np.asarray(size, np.float32),
        model=model,
        video=False,
        notes=tuple(notes),
    )


def camera_between(
    points: np.ndarray, pixels: np.ndarray, where: str
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the one camera that takes points [M, K, 3] of its frame to pixels [M, K, 2].

    Returns:
        Focal length and center, each [M, 2], the same in all rows.
    Raises:
        ValueError: if no camera does, to two pixels.
    """
    plane = (points[..., :2] / points[..., 2:]).reshape(-1, 2).astype(np.float64)
    seen = pixels.reshape(-1, 2).astype(np.float64)
    good = np.isfinite(plane).all(-1) & np.isfinite(seen).all(-1)
    # One focal length for both axes, and a center: three numbers, linear in the pixels.
    rows = np.zeros((2, good.sum(), 3))
    rows[0, :, 0], rows[1, :, 0] = plane[good].T
    rows[0, :, 1] = rows[1, :, 2] = 1
    known = np.concatenate([*seen[good].T])
    (focal, x, y), *_ = np.linalg.lstsq(rows.reshape(-1, 3), known, rcond=None)
    off = np.abs(rows.reshape(-1, 3) @ [focal, x, y] - known)
    if not focal > 0 or np.median(off) > 2:
        raise ValueError(
            f"{where}: no pinhole camera takes its 3D joints to its 2D joints, "
            f"{np.median(off):.3g} pixels off at a focal length of {focal:.4g}; expected both in "
            "the camera's frame"
        )
    shape = (len(points), 2)
    return np.full(shape, focal, np.float32), np.broadcast_to([x, y], shape).astype(np.float32)


def _image(batch: Any, i: int, number: int, at: str, parts: dict[str, list[np.ndarray]]) -> None:
    pose = numbers(batch["pose"][i], f"{at}: pose")
    people = len(pose)
    if not people:
        return
    row = {
        "pose": rotations(pose, people, f"{at}: pose"),
        "betas": _numbers(batch, "betas", i, at, (people, -1)),
        "translation": _numbers(batch, "trans", i, at, (people, 3)),
        "frames": np.full(people, number),
    }
    if "joints3d" in batch and "joints2d" in batch:
        row["joints3d"] = _numbers(batch, "joints3d", i, at, (people, -1, 3))
        row["joints2d"] = _numbers(batch, "joints2d", i, at, (people, -1, 2))
    for part, value in row.items():
        parts.setdefault(part, []).append(value)


def _numbers(batch: Any, name: str, i: int, at: str, shape: tuple[int, ...]) -> np.ndarray:
    """The i-th image's numbers of a key."""
    if len(batch[name]) <= i:
        raise ValueError(
            f"{at}: {name}: expected one entry for each of pose, found {len(batch[name])}"
        )
    return shaped(numbers(batch[name][i], f"{at}: {name}"), shape, f"{at}: {name}")
