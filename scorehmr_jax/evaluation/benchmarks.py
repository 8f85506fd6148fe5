"""Benchmarks, in one table: a data set, the task on it, and how it is measured there.

Another benchmark is one more entry of BENCHMARKS: `evaluate.py NAME --data-root DIR` runs it. What
an entry says of its protocol is printed with every result: two figures of one data set that were
measured in two ways are no comparison.
"""

from typing import Any

from body_model.joints import EVAL_17, EXTRA_19, OPENPOSE_25, SMPL_24
from scorehmr_jax.evaluation.protocol import Protocol

_GENDERED = "truth of the subject's gender, estimates neutral"
_3DPW = "https://virtualhumans.mpi-inf.mpg.de/3DPW (licence: research alone)"
_RELEASED = "download_data.sh of https://github.com/statho/ScoreHMR; images from their makers"
_LIMBS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
# OpenPose's limbs, and the same of the 19 joints.
_OPENPOSE_LIMBS = tuple(
    OPENPOSE_25.index(f"{side}_{joint}") for side in ("right", "left") for joint in _LIMBS
)
_EXTRA_LIMBS = tuple(
    len(OPENPOSE_25) + EXTRA_19.index(f"{side}_{joint}")
    for side in ("right", "left")
    for joint in _LIMBS
)
_SMPL_JOINTS = tuple(range(len(OPENPOSE_25), len(OPENPOSE_25) + len(SMPL_24)))


def _of_3dpw(name: str, task: str, data: str, **changes: Any) -> Protocol:
    same: dict[str, Any] = {
        "neutral_truth": False,
        "gender": f"{_GENDERED}: joints are in the file",
        "obtain": _RELEASED,
    }
    return Protocol(name, task, data, **(same | changes))


def _of_sequences(name: str, task: str) -> Protocol:
    return _of_3dpw(
        name,
        task,
        "3DPW/sequenceFiles",
        focal=None,
        source="3dpw",
        split="test",
        gender=f"{_GENDERED}: joints are those of SMPL_MALE and SMPL_FEMALE",
        frames="campose_valid of each person",
        samples=35515,
        obtain=_3DPW,
    )


def _of_emdb(name: str, task: str) -> Protocol:
    return Protocol(
        name,
        task,
        "EMDB",
        joints=_SMPL_JOINTS,
        pelvis=_SMPL_JOINTS[0],
        focal=None,
        neutral_truth=False,
        source="emdb",
        split="1",
        after_openpose=SMPL_24,
        regressor="none: SMPL's own 24 joints",
        gender=_GENDERED,
        frames="good_frames_mask",
        boxes="those of the estimates, not EMDB's own (12 mm of a network's error lie between "
        "EMDB's boxes and tight ones): say which with --boxes",
        whole=24117,
        obtain="https://emdb.ait.ethz.ch (application form; licence: research alone)",
    )


def _of_pose2sim(name: str, task: str) -> Protocol:
    return Protocol(
        name,
        task,
        joints=_OPENPOSE_LIMBS,
        pelvis=tuple(OPENPOSE_25.index(f"{side}_hip") for side in ("left", "right")),
        fps=60,
        focal=None,
        source="pose2sim",
        after_openpose=(),
        regressor="none: the body's own joints of the limbs",
        gender="estimates neutral; the truth has no body",
        frames="those with all 12 joints of the limbs",
        obtain="the package pose2sim, Demo_SinglePerson (BSD-3-Clause)",
    )


BENCHMARKS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        _of_3dpw("3dpw", "keypoints", "3dpw_test.npz", samples=35515),
        _of_3dpw("3dpw-video", "video", "3dpw_test_video.pkl"),
        Protocol("h36m", "keypoints", "h36m_val_p2.npz", fps=50, obtain=_RELEASED),
        Protocol("h36m-multiview", "multiview", "h36m_val_multiview.pkl", fps=50, obtain=_RELEASED),
        Protocol("mannequin", "multiview", "mannequin.pkl", joints=EVAL_17, obtain=_RELEASED),
        _of_sequences("3dpw-original", "keypoints"),
        _of_sequences("3dpw-original-video", "video"),
        _of_emdb("emdb1", "keypoints"),
        _of_emdb("emdb1-video", "video"),
        Protocol(
            "aspset",
            "keypoints",
            "ASPset-510",
            joints=_EXTRA_LIMBS,
            fps=50,
            focal=None,
            source="aspset",
            split="test",
            regressor="SMPL_to_J19.pkl, from posed vertices; the truth has joints alone",
            gender="estimates neutral; the truth has no body",
            frames="every fifth of the test split, as its makers evaluate; every one of the others",
            alignment="MPJPE: pelvis on pelvis; PA-MPJPE: similarity over 12 joints of the limbs, "
            "as a body's head, neck and spine are other points than ASPset's",
            obtain="https://archive.org/details/aspset510 (CC0)",
        ),
        _of_pose2sim("pose2sim", "multiview"),
        _of_pose2sim("pose2sim-single", "keypoints"),
        _of_pose2sim("pose2sim-video", "video"),
    )
}


def open_protocol(setting: str, strength: str) -> Protocol:
    """Gives the protocol of a setting of the open benchmark.

    Args:
        setting: a task.
        strength: of the simulated network: weak, medium or strong.
    """
    return Protocol(
        f"open-{setting}-{strength}",
        setting,
        joints=_SMPL_JOINTS,
        pelvis=_SMPL_JOINTS[0],
        focal=None,
        source="open",
        after_openpose=SMPL_24,
        regressor="none: SMPL's own 24 joints",
        gender="one body for truth and estimates",
        frames="every frame",
        boxes="none: estimates are simulated",
        obtain="motion capture, CMU (docs/training.md)",
    )
