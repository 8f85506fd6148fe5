"""Motions as .npz with AMASS's keys, for programs that train on AMASS or show it."""

import os

import jax
import numpy as np
from jaxtyping import Real

from body_model import SMPL, move
from body_model.files import write_npz
from body_model.joints import JOINT_NAMES, NUM_JOINTS
from body_model.rotations import matrix_to_axis_angle
from scorehmr_jax.output.motion import checked_motion
from scorehmr_jax.types import Array

# To AMASS's axes, z up: from the camera's (x right, y down, z forward), and from y up.
CAMERA_TO_Z_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
Y_UP_TO_Z_UP = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
_WRISTS = JOINT_NAMES.index("right_wrist") + 1  # joints that SMPL-H has too
_DYNAMIC = 8  # numbers of soft tissue, which AMASS has and SMPL has not
_NUMBERS = {24: 10, 52: 16}  # shape numbers of each form, by its joints


def save_amass(
    path: str | os.PathLike[str],
    body: SMPL,
    poses: Real[Array, "T 24 3 3"] | Real[Array, "T 24 3"],
    betas: Real[Array, " B"],
    translation: Real[Array, "T 3"],
    fps: float = 30.0,
    camera_frame: bool = True,
    joints: int = 52,
    present: Array | None = None,
) -> None:
    """Writes a motion with AMASS's keys, in AMASS's axes: metres, z up.

    The keys are `poses` [T, 156] axis-angle (SMPL-H, both hands at rest) or [T, 72] (SMPL),
    `trans` [T, 3], `betas`, `dmpls` (zeros), `mocap_framerate` and `gender` (neutral). `trans` is
    that of the turned body, the pelvis' own way included (see `body_model.move`), so that the body
    stands where it stood. What was seen by a camera gets x to the right, y forward and z up, as if
    the camera were level, with the origin in the camera.

    Args:
        path: the .npz to write.
        body: the body that the shape is of. AMASS's readers expect SMPL-H, whose shape numbers
            are nearly SMPL's; those of other bodies mean something else there.
        poses: [T, 24, 3, 3] rotations or [T, 24, 3] axis-angle.
        betas: [B] one shape; zeros are put behind it, to 16 (52 joints) or 10.
        translation: [T, 3] metres.
        fps: frames per second.
        camera_frame: poses and translation are in a camera frame (y down, z forward); with False
            they are y up.
        joints: 52 for SMPL-H's form, 24 for SMPL's.
        present: [T] False for frames that were filled in; written too, if there are any.
    Raises:
        ValueError: if numbers of frames or shapes do not fit, a number is not finite, fps is not
            above 0, or joints is another number.
    """
    if joints not in _NUMBERS:
        raise ValueError(f"{path}: joints: expected 52 (SMPL-H) or 24 (SMPL), found {joints}")
    path, matrices, places = checked_motion(path, ".npz", poses, betas, translation, fps)
    frames = len(matrices)
    turn = CAMERA_TO_Z_UP if camera_frame else Y_UP_TO_Z_UP
    matrices, places, turn = (a.astype(np.float32) for a in (matrices, places, turn))
    turned, trans = move(body, matrices, betas, places, turn)
    angles = np.asarray(jax.jit(matrix_to_axis_angle)(turned)).reshape(frames, -1)
    full = np.zeros((frames, 3 * joints), np.float32)
    kept = 3 * (NUM_JOINTS if joints == NUM_JOINTS else _WRISTS)
    full[:, :kept] = angles[:, :kept]
    shape = np.asarray(betas, np.float32)
    shape = np.concatenate([shape, np.zeros(max(0, _NUMBERS[joints] - len(shape)), np.float32)])
    arrays = {
        "poses": full,
        "trans": np.asarray(trans, np.float32),
        "betas": shape,
        "mocap_framerate": np.array(float(fps)),
        "gender": np.array("neutral"),
    }
    if joints == 52:
        arrays["dmpls"] = np.zeros((frames, _DYNAMIC), np.float32)
    if present is not None and not np.all(present):
        arrays["present"] = np.asarray(present, bool)
    write_npz(path, arrays)
