"""PHALP's tracks, also with HMR 2.0 as 4D-Humans' track.py runs it.

Read at: brjathu/PHALP, phalp/trackers/PHALP.py (`joblib.dump(final_visuals_dic, ..., compress=3)`)
and phalp/models/hmar/hmar.py, get_3d_parameters: a table by frame, in which `tid`, `smpl`,
`camera`, `size` and `tracked_time` are lists of one for each person. `camera` is a translation
before a camera of 5000 pixels that sees the image, made square by bars, in 256 pixels
(cfg.render.res).
"""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np

from scorehmr_jax.formats.bodies.contents import has, table
from scorehmr_jax.formats.bodies.rows import (
    Rows,
    key,
    numbers,
    rotations,
    shaped,
    smpl_pose,
    whole_numbers,
)

READ = ("tid", "smpl", "camera", "size", "tracked_time", "time", "img_name", "img_path")
OTHERS = (
    *("tracked_ids", "tracked_bbox", "bbox", "shot", "frame_path", "center", "scale", "mask_name"),
    *("class_name", "conf", "annotations", "camera_bbox", "3d_joints", "2d_joints", "mask"),
    *("embedding", "appe", "loca", "pose", "uv", "label", "ava_action", "ground_truth"),
)
_FOCAL, _RENDERED = 5000.0, 256.0


def is_file(held: Any) -> bool:
    """True for a table of frames with tracks."""
    frames = table(held)
    return (
        frames is not None
        and len(frames) > 0
        and all(has(each, "tid", "smpl", "camera") for each in frames.values())
    )


def read(held: Mapping[str, Any], where: str, image_size: np.ndarray | None = None) -> Rows:
    """Reads the tracks; what PHALP predicts while a person is not seen is left out.

    Args:
        held: frames by name.
        where: begins messages.
        image_size: width and height, pixels, for files without `size`.
    Raises:
        ValueError: naming file, frame and key.
    """
    bodies: dict[str, list[Any]] = {}
    names, lost = {}, 0
    for place, (name, frame) in enumerate(held.items()):
        at = f"{where}, {name}"
        number = int(whole_numbers(frame.get("time", place), f"{at}: time")[0])
        names[number] = PurePath(str(name)).name
        for each in ("tid", "smpl", "camera"):
            if not hasattr(frame[each], "__len__"):
                raise ValueError(f"{at}: {each}: expected a list, found {str(frame[each])[:60]!r}")
        people = len(frame["tid"])
        for each in ("smpl", "camera"):
            if len(frame[each]) != people:
                raise ValueError(
                    f"{at}: {each}: expected {people}, as tid, found {len(frame[each])}"
                )
        for i in range(people):
            if whole_numbers(_of(frame, "tracked_time", i, 0), f"{at}: tracked_time")[0] > 0:
                lost += 1
                continue
            smpl = frame["smpl"][i]
            size = _of(frame, "size", i, None)
            if size is None and image_size is None:
                raise ValueError(f"{at}: no key size; give image_size=(width, height)")
            wide = np.asarray(image_size) if size is None else np.asarray(size, float).ravel()[::-1]
            row = {
                "orient": key(smpl, "global_orient", f"{at}: smpl"),
                "body": key(smpl, "body_pose", f"{at}: smpl"),
                "betas": key(smpl, "betas", f"{at}: smpl").ravel(),
                "camera": shaped(
                    numbers(frame["camera"][i], f"{at}: camera"), (3,), f"{at}: camera"
                ),
                "size": shaped(wide, (2,), f"{at}: size"),
                "frame": number,
                "id": int(whole_numbers(frame["tid"][i], f"{at}: tid")[0]),
            }
            for part, value in row.items():
                bodies.setdefault(part, []).append(value)
    if not bodies:
        raise ValueError(f"{where}: nobody is followed in any of {len(held)} frames")
    made = {part: np.stack(values) for part, values in bodies.items()}
    count = len(made["frame"])
    joints = rotations([made["orient"], made["body"]], count, f"{where}: smpl")
    pose, left = smpl_pose(joints, f"{where}: smpl")
    size = made["size"].astype(np.float32)
    side = size.max(-1, keepdims=True)
    # The bars are whole pixels: half a pixel more on one side where the difference is odd.
    center = side / 2 - (side - size) // 2
    notes = ["focal length as PHALP has it: 5000 / 256 of the image's longer side"]
    if lost:
        notes.append(f"{lost} poses that PHALP predicted for people it did not see are left out")
    return Rows(
        pose,
        made["betas"],
        made["camera"].astype(np.float32),
        made["frame"],
        made["id"],
        np.repeat(_FOCAL / _RENDERED * side, 2, 1),
        center,
        size,
        names,
        notes=tuple([*notes, *([left] if left else [])]),
    )


def _of(frame: Mapping[str, Any], name: str, i: int, default: Any) -> Any:
    """The i-th person's value of a key that a frame may lack."""
    values = frame.get(name)
    return default if values is None or len(values) <= i else values[i]
