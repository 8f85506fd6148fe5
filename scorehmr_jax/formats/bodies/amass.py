"""Motion as AMASS gives it out, and what is written in its form: a world with z up, no camera.

The keys: poses [T, 156] (SMPL-H), [T, 165] (SMPL-X), [T, 72] or [T, 66]; or root_orient [T, 3] and
pose_body [T, 63]; trans [T, 3], betas [16 or 10], mocap_framerate, gender; of our own files also
present [T], False for frames that were filled in. See https://amass.is.tue.mpg.de.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from scorehmr_jax.formats.bodies.contents import has
from scorehmr_jax.formats.bodies.rows import Rows, key, numbers, rotations, shaped, smpl_pose

READ = (
    *("poses", "root_orient", "pose_body", "trans", "betas", "gender", "surface_model_type"),
    *("mocap_framerate", "mocap_frame_rate", "fps", "present"),
)
OTHERS = (
    *("dmpls", "pose_hand", "pose_jaw", "pose_eye", "num_betas", "markers_latent", "latent_labels"),
    *("markers_latent_vids", "mocap_time_length", "markers", "labels", "markers_obs", "labels_obs"),
    "marker_meta",
)
_SHAPES = 10


def is_file(held: Any) -> bool:
    """True for a table with poses and translations."""
    return has(held, "trans") and (has(held, "poses") or has(held, "root_orient", "pose_body"))


def read(held: Mapping[str, Any], where: str, image_size: np.ndarray | None = None) -> Rows:
    """Reads the motion of one person, in the file's own world.

    Args:
        held: as the file has it.
        where: begins messages.
        image_size: not used: there is no camera.
    Returns:
        A row for each frame but those that `present` says were filled in.
    Raises:
        ValueError: naming file and key.
    """
    translation = key(held, "trans", where)
    count = len(translation)
    if "poses" in held:
        joints = rotations(key(held, "poses", where), count, f"{where}: poses")
    else:
        parts = [key(held, name, where) for name in ("root_orient", "pose_body")]
        joints = rotations(parts, count, where)
    pose, left = smpl_pose(joints, f"{where}: poses")
    betas = numbers(held.get("betas", np.zeros(_SHAPES)), f"{where}: betas")
    betas = np.atleast_2d(betas)
    if betas.ndim != 2 or len(betas) not in (1, count):
        raise ValueError(f"{where}: betas: expected [10] or [{count}, 10], found {[*betas.shape]}")
    betas = np.broadcast_to(betas, (count, betas.shape[1]))
    kind = _text(held, "surface_model_type")
    gender = _text(held, "gender")
    notes = [left] if left else []
    if betas.shape[1] > _SHAPES:
        notes.append(f"the first 10 of {betas.shape[1]} shape numbers are taken")
    if gender and gender != "neutral":
        notes.append(f"shape numbers of the {gender} body, not of the neutral one")
    held_in = _present(held, count, where)
    if len(held_in) < count:
        notes.append(f"{count - len(held_in)} frames that were filled in are taken as missing")
    notes.append("no camera: the motion is in a world of the file's own, z up")
    return Rows(
        pose[held_in],
        betas[held_in, :_SHAPES],
        shaped(translation, (count, 3), f"{where}: trans")[held_in],
        held_in,
        np.zeros(len(held_in), int),
        model="smplx" if kind == "smplx" or joints.shape[1] == 55 else "smpl",
        in_world=True,
        notes=tuple(notes),
        fps=_rate(held),
    )


def _present(held: Mapping[str, Any], count: int, where: str) -> np.ndarray:
    """The numbers of the frames that have a body of their own."""
    if "present" not in held:
        return np.arange(count)
    found = np.flatnonzero(shaped(key(held, "present", where), (count,), f"{where}: present"))
    if not len(found):
        raise ValueError(f"{where}: present: expected frames with a body, found {count} filled in")
    return found


def _rate(held: Mapping[str, Any]) -> float | None:
    """Frames per second, if the file says it in one number."""
    for name in ("mocap_framerate", "mocap_frame_rate", "fps"):
        found = np.ravel(np.asarray(held.get(name, np.nan)))
        if found.size == 1 and found.dtype.kind in "fiu" and 0 < found[0] < np.inf:
            return float(found[0])
    return None


def _text(held: Mapping[str, Any], name: str) -> str:
    value = np.ravel(np.asarray(held.get(name, ""), object))[0]
    return (value.decode() if isinstance(value, bytes) else str(value)).lower()
