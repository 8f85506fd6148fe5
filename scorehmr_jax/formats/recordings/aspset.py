"""ASPset-510's own files: splits.csv, and in trainval/ and test/ cameras, joints_3d and boxes.

Read at: https://github.com/anibali/aspset-510 (src/aspset510). splits.csv has no header: subject,
clip, split and, in the second version, the camera that the clip is to be evaluated with ("all" for
all three). cameras/S/S-CAMERA.json: intrinsic_matrix [3, 4] and extrinsic_matrix [4, 4] from the
world to the camera, in millimetres, both as flat lists. joints_3d/S/S-CLIP.c3d: 17 joints at 50 Hz.
boxes/ is not read. The images are 3840 x 2160. The joints of the test split were published in 2024.
"""

import csv
import json
from pathlib import Path

import numpy as np

from body_model.files import damage_named, local_path
from scorehmr_jax.formats.c3d import read_c3d
from scorehmr_jax.formats.recordings.recording import Recording, TrueJoints, array, camera_of

CAMERAS = ("left", "mid", "right")
# ASPset's joints, by the name that the body has nearest to each.
_JOINTS = {
    **{f"{side}_{joint}": f"{side}_{joint}"
       for side in ("right", "left")
       for joint in ("ankle", "knee", "hip", "wrist", "elbow", "shoulder")},
    "head_top": "head_top_lsp",
    "head": "head_h36m",
    "neck": "neck_lsp",
    "spine": "spine_h36m",
    "pelvis": "pelvis_mpii",
}  # fmt: skip
_SIZE = np.array([3840.0, 2160.0])
_MM = 1e-3
# Its makers evaluate every fifth frame of the test split, 10 in a second.
_TEST_STRIDE = 5


def read_aspset(path: str | Path, split: str = "test") -> list[Recording]:
    """Reads the clips of a split, seen by each camera that it names.

    Args:
        path: the folder ASPset-510, with splits.csv.
        split: train, val or test.
    Returns:
        A recording for each clip and camera. Of the test split, every fifth frame counts.
    Raises:
        ValueError: naming the file, if one is missing or damaged, or no clip is of this split.
    """
    root = local_path(path)
    file = root / "splits.csv"
    with damage_named(file):
        rows = [row for row in csv.reader(file.read_text().splitlines()) if row]
    found, splits = [], set()
    for row in rows:
        if len(row) not in (3, 4):
            raise ValueError(
                f"{file}: expected subject, clip, split and perhaps a camera, found {','.join(row)}"
            )
        subject, clip, of = (cell.strip() for cell in row[:3])
        splits.add(of)
        if of != split:
            continue
        camera = row[3].strip() if len(row) == 4 else "all"
        if camera not in (*CAMERAS, "all"):
            raise ValueError(f"{file}: expected a camera {', '.join(CAMERAS)} or all: {row}")
        folder = root / ("test" if split == "test" else "trainval")
        cameras = CAMERAS if camera == "all" else (camera,)
        found += [_recording(folder, subject, clip, of_three, split) for of_three in cameras]
    if not found:
        raise ValueError(f"{file}: no clip in split {split!r}; found {', '.join(sorted(splits))}")
    return found


def _recording(folder: Path, subject: str, clip: str, camera: str, split: str) -> Recording:
    file = folder / "joints_3d" / subject / f"{subject}-{clip}.c3d"
    motion = read_c3d(file)
    names = [name.lower() for name in motion.names]
    if set(names) != set(_JOINTS):
        raise ValueError(
            f"{file}: expected the joints {', '.join(_JOINTS)}, found {', '.join(motion.names)}"
        )
    count = len(motion.points)
    where = folder / "cameras" / subject / f"{subject}-{camera}.json"
    with damage_named(where):
        text = where.read_text()
    try:
        held = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{where}: is no JSON, or cut short ({error})") from None
    intrinsics = array(held, "intrinsic_matrix", (12,), str(where)).reshape(3, 4)[:, :3]
    extrinsics = array(held, "extrinsic_matrix", (16,), str(where)).reshape(4, 4)
    extrinsics[:3, 3] *= _MM
    name = f"{subject}-{clip}-{camera}"
    counts = np.arange(count) % (_TEST_STRIDE if split == "test" else 1) == 0
    return Recording(
        name,
        tuple(f"{name}/{i:05}" for i in range(count)),
        0,
        motion.fps,
        camera_of(intrinsics, np.tile(extrinsics, (count, 1, 1)), _SIZE, str(where)),
        TrueJoints(motion.points, motion.seen, tuple(_JOINTS[name] for name in names)),
        counts,
    )
