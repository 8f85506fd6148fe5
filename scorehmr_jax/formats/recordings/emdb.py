"""EMDB's own files: EMDB/P*/SEQUENCE/P*_SEQUENCE_data.pkl.

Read at: dataset.md of https://github.com/eth-ait/emdb. One person each: gender, name, emdb1, emdb2,
n_frames, good_frames_mask [N]; camera: intrinsics, extrinsics [N, 4, 4] from the world to the
camera, width, height; smpl: poses_root [N, 3] in the world, poses_body [N, 69], trans [N, 3], betas
[10]. Its kp2d are the true joints in the image and no detections: they are not read, as whoever is
guided by them has seen the truth.
"""

from pathlib import Path
from typing import Any

import numpy as np

from body_model.files import local_path
from body_model.pickles import load_pickle
from scorehmr_jax import units
from scorehmr_jax.formats.recordings.recording import (
    Recording,
    TrueMotion,
    array,
    camera_of,
    gender,
    key,
    ten_betas,
)

_FPS = 30.0


def read_emdb(path: str | Path, part: int = 1) -> list[Recording]:
    """Reads the sequences of a part, or one file.

    Args:
        path: the folder with P0 to P9, or a file.
        part: 1 for EMDB 1, 2 for EMDB 2; a sequence may be of both.
    Returns:
        A recording for each sequence, by name. A frame counts where good_frames_mask says so.
    Raises:
        ValueError: naming the file and key, if one is missing, has another shape or other units,
            or if no sequence is of this part.
    """
    root = local_path(path)
    files = [root] if root.is_file() else sorted(root.glob("P*/*/*_data.pkl"))
    if not files:
        raise ValueError(f"{root}: no P*/*/*_data.pkl in it; give EMDB's folder with P0 to P9")
    if part not in (1, 2):
        raise ValueError(f"part: expected 1 or 2, found {part}")
    found = []
    for file in files:
        held = load_pickle(file)
        if bool(key(held, f"emdb{part}", str(file))):
            found.append(_recording(held, file))
    if not found:
        raise ValueError(f"{root}: none of {len(files)} sequences is of EMDB {part}")
    return found


def _recording(held: Any, file: Path) -> Recording:
    where = str(file)
    count = int(key(held, "n_frames", where))
    smpl, camera = key(held, "smpl", where), key(held, "camera", where)
    root = array(smpl, "poses_root", (count, 3), f"{where}, smpl")
    body = array(smpl, "poses_body", (count, 69), f"{where}, smpl")
    pose = np.concatenate([root, body], axis=1).reshape(count, 24, 3)
    counts = array(held, "good_frames_mask", (count,), where) > 0
    units.check_axis_angle(pose[counts], f"{where}, smpl: poses")
    betas, note = ten_betas(key(smpl, "betas", where), count, f"{where}, smpl: betas")
    truth = TrueMotion(
        pose,
        betas,
        array(smpl, "trans", (count, 3), f"{where}, smpl"),
        gender(key(held, "gender", where), f"{where}: gender"),
    )
    at = f"{where}, camera"
    size = np.array([float(key(camera, side, at)) for side in ("width", "height")])
    folder = "/".join(file.parent.parts[-2:])
    return Recording(
        str(key(held, "name", where)),
        tuple(f"{folder}/images/{i:05}.jpg" for i in range(count)),
        0,
        _FPS,
        camera_of(
            array(camera, "intrinsics", (3, 3), at),
            array(camera, "extrinsics", (count, 4, 4), at),
            size,
            where,
        ),
        truth,
        counts,
        notes=(note,) if note else (),
    )
