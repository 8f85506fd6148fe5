"""TRAM: the folder of a video, or one person's hps_track_<k>.npy.

Read at: yufu-wang/tram, scripts/estimate_humans.py (hps/hps_track_<k>.npy, a table of tensors),
lib/models/hmr_vimo.py (pred_rotmat [T, 24, 3, 3], pred_shape [T, 10], pred_trans [T, 1, 3] before
the camera of the full image, frame [T]) and scripts/estimate_camera.py (camera.npy with img_focal,
img_center and the camera's path).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scorehmr_jax.formats.bodies.contents import contents, has
from scorehmr_jax.formats.bodies.rows import Rows, key, of_each, rotations, shaped, whole_numbers

READ = ("pred_rotmat", "pred_shape", "pred_trans", "frame")
OTHERS = ("pred_cam", "pred_pose", "img_focal", "img_center")
_TRACKS = "hps_track_*.npy"


def is_file(held: Any) -> bool:
    """True for one person's results, or a list of people's."""
    if isinstance(held, list):
        return len(held) > 0 and all(isinstance(each, Mapping) and is_file(each) for each in held)
    return has(held, "pred_rotmat", "pred_shape", "pred_trans")


def tracks_of(folder: Path) -> list[Path]:
    """The files of people in a folder of a video or in its hps/."""
    found = [*folder.glob(_TRACKS), *folder.glob(f"hps/{_TRACKS}")]
    return sorted(found, key=lambda path: (len(path.name), path.name))


def read(held: Any, where: str, image_size: np.ndarray | None = None) -> Rows:
    """Reads the people of a video, or one of them; the camera's path is left out.

    Args:
        held: one person's table, or a list of tables, one for each person.
        where: the path; camera.npy is beside the file or one folder above.
        image_size: width and height, pixels; without it twice the center of camera.npy.
    Raises:
        ValueError: naming file and key.
    """
    people = [held] if isinstance(held, Mapping) else [*held]
    parts: dict[str, list[np.ndarray]] = {}
    for number, person in enumerate(people):
        at = where if len(people) == 1 else f"{where}, person {number}"
        matrices = key(person, "pred_rotmat", at)
        count = len(matrices)
        row = {
            "pose": rotations(matrices, count, f"{at}: pred_rotmat"),
            "betas": of_each(person["pred_shape"], count, 10, f"{at}: pred_shape"),
            "translation": shaped(key(person, "pred_trans", at), (count, 3), f"{at}: pred_trans"),
            "frames": _frames(person, at),
            "ids": np.full(count, number),
        }
        for part, value in row.items():
            parts.setdefault(part, []).append(value)
    arrays: dict[str, Any] = {part: np.concatenate(values) for part, values in parts.items()}
    count = len(arrays["frames"])
    path = Path(where)
    folders = [path, path.parent] if path.is_dir() else [path.parent, path.parent.parent]
    file = next((f for folder in folders if (f := folder / "camera.npy").is_file()), None)
    if file is None:
        return Rows(**arrays, notes=("no camera: no camera.npy beside the file or above it",))
    camera = contents(file)
    if not has(camera, "img_focal", "img_center"):
        raise ValueError(f"{file}: expected TRAM's camera with img_focal and img_center")
    center = of_each(camera["img_center"], count, 2, f"{file}: img_center")
    size = 2 * center if image_size is None else np.broadcast_to(image_size, (count, 2))
    return Rows(
        **arrays,
        focal=of_each(camera["img_focal"], count, 2, f"{file}: img_focal"),
        center=center,
        image_size=size.astype(np.float32),
    )


def _frames(person: Mapping[str, Any], at: str) -> np.ndarray:
    key(person, "frame", at)  # says so if there is none
    return whole_numbers(person["frame"], f"{at}: frame")
