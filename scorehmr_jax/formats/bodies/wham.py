"""WHAM's wham_output.pkl.

Read at: yohanshin/WHAM, demo.py (`joblib.dump(results, ...)`): a table by person with pose [T, 72],
trans [T, 3] (SMPL's translation, body to camera), betas [T, 10] and frame_ids [T]; and
lib/utils/imutils.py, compute_cam_intrinsics: the focal length is the diagonal of the image, which
the file does not tell.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from scorehmr_jax.formats.bodies.contents import has
from scorehmr_jax.formats.bodies.rows import (
    Rows,
    key,
    of_each,
    rotations,
    shaped,
    smpl_pose,
    whole_numbers,
)

READ = ("pose", "trans", "betas", "frame_ids")
OTHERS = ("pose_world", "trans_world", "verts")


def is_file(held: Any) -> bool:
    """True for a table of people."""
    if not isinstance(held, Mapping) or not held:
        return False
    return all(has(each, "pose", "trans", "betas", "frame_ids") for each in held.values())


def read(held: Mapping[Any, Any], where: str, image_size: np.ndarray | None = None) -> Rows:
    """Reads the people in the camera's frame; WHAM's world is left out.

    Args:
        held: people by number.
        where: begins messages.
        image_size: width and height, pixels; without it there is no camera.
    Raises:
        ValueError: naming file, person and key.
    """
    parts: dict[str, list[np.ndarray]] = {}
    for place, (name, person) in enumerate(held.items()):
        at = f"{where}, person {name}"
        frames = whole_numbers(person["frame_ids"], f"{at}: frame_ids")
        count = len(frames)
        ids = int(name) if str(name).lstrip("-").isdigit() else place
        pose, _ = smpl_pose(rotations(key(person, "pose", at), count, f"{at}: pose"), f"{at}: pose")
        row = {
            "pose": pose,
            "betas": of_each(person["betas"], count, 10, f"{at}: betas"),
            "translation": shaped(key(person, "trans", at), (count, 3), f"{at}: trans"),
            "frames": frames,
            "ids": np.full(count, ids),
        }
        for part, value in row.items():
            parts.setdefault(part, []).append(value)
    arrays: dict[str, Any] = {part: np.concatenate(values) for part, values in parts.items()}
    count = len(arrays["frames"])
    if image_size is None:
        return Rows(
            **arrays, notes=("no camera: the file does not tell the image's size; give image_size",)
        )
    size = np.broadcast_to(image_size, (count, 2)).astype(np.float32)
    focal = np.repeat(np.linalg.norm(size, axis=-1, keepdims=True), 2, 1)
    note = "focal length as WHAM has it without a calibration: the image's diagonal"
    return Rows(**arrays, focal=focal, center=size / 2, image_size=size, notes=(note,))
