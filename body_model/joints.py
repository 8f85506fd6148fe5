"""Names, the kinematic tree and keypoint sets of SMPL. Static data, in numpy."""

import numpy as np
from jaxtyping import Float, Real

from body_model.pytree import Array

JOINT_NAMES = (
    "pelvis",
    "left_hip",
    "right_hip",
    "spine1",
    "left_knee",
    "right_knee",
    "spine2",
    "left_ankle",
    "right_ankle",
    "spine3",
    "left_foot",
    "right_foot",
    "neck",
    "left_collar",
    "right_collar",
    "head",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hand",
    "right_hand",
)
NUM_JOINTS = len(JOINT_NAMES)

PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)


def _depth(joint: int) -> int:
    return 0 if joint == 0 else 1 + _depth(PARENTS[joint])


# The joints at each depth of the tree: kinematics walks nine levels, not 24 joints.
LEVELS = tuple(
    tuple(j for j in range(NUM_JOINTS) if _depth(j) == depth)
    for depth in range(1 + max(_depth(j) for j in range(NUM_JOINTS)))
)

# Which joint takes whose place when a person is mirrored left to right.
MIRROR = tuple(
    JOINT_NAMES.index(name.replace("left", "#").replace("right", "left").replace("#", "right"))
    for name in JOINT_NAMES
)

# Surface points that stand for keypoints, by the vertex they have in SMPL's mesh.
SMPL_LANDMARKS = {
    "nose": 332,
    "right_eye": 6260,
    "left_eye": 2800,
    "right_ear": 4071,
    "left_ear": 583,
    "left_big_toe": 3216,
    "left_small_toe": 3226,
    "left_heel": 3387,
    "right_big_toe": 6617,
    "right_small_toe": 6624,
    "right_heel": 6787,
    "left_thumb": 2746,
    "left_index": 2319,
    "left_middle": 2445,
    "left_ring": 2556,
    "left_pinky": 2673,
    "right_thumb": 6191,
    "right_index": 5782,
    "right_middle": 5905,
    "right_ring": 6016,
    "right_pinky": 6133,
}

# A keypoint set is a tuple of names, each of a native joint or of a landmark.
SMPL_24 = JOINT_NAMES
SMPL_45 = JOINT_NAMES + tuple(SMPL_LANDMARKS)[:21]  # as the smplx package lists them
OPENPOSE_25 = (
    "nose",
    "neck",
    "right_shoulder",
    "right_elbow",
    "right_wrist",
    "left_shoulder",
    "left_elbow",
    "left_wrist",
    "pelvis",
    "right_hip",
    "right_knee",
    "right_ankle",
    "left_hip",
    "left_knee",
    "left_ankle",
    "right_eye",
    "left_eye",
    "right_ear",
    "left_ear",
    "left_big_toe",
    "left_small_toe",
    "left_heel",
    "right_big_toe",
    "right_small_toe",
    "right_heel",
)

# The 19 regressed joints of SMPL_to_J19.pkl; 44 keypoints = OpenPose-25, then these.
EXTRA_19 = (
    "right_ankle",
    "right_knee",
    "right_hip",
    "left_hip",
    "left_knee",
    "left_ankle",
    "right_wrist",
    "right_elbow",
    "right_shoulder",
    "left_shoulder",
    "left_elbow",
    "left_wrist",
    "neck_lsp",
    "head_top_lsp",
    "pelvis_mpii",
    "thorax_mpii",
    "spine_h36m",
    "jaw_h36m",
    "head_h36m",
)

# Indices into the 44 keypoints used by the evaluation protocols.
EVAL_PELVIS = 39
EVAL_14 = (*range(25, 38), 43)
EVAL_17 = (*range(25, 38), 39, 41, 42, 43)

# The joints of which EMDB reports rotation errors and jitter: neither the root nor what lies beyond
# knees, elbows and head.
EMDB_15 = tuple(
    name
    for name in JOINT_NAMES
    if name != "pelvis" and not name.endswith(("ankle", "foot", "wrist", "hand"))
)

COCO_17 = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)


def coco_to_openpose(keypoints: Real[Array, "*batch 17 3"]) -> Float[np.ndarray, "*batch 25 3"]:
    """Arranges COCO-17 (or ViTPose) detections in OpenPose-25 order.

    Neck and mid-hip are the means of the shoulders and hips, with the smaller of the two
    confidences; feet, which COCO lacks, get confidence 0.

    Args:
        keypoints: [..., 17, 3], x and y in pixels, confidence.
    Returns:
        [..., 25, 3], of the dtype of the keypoints; float64 for whole numbers, whose means are
        halves.
    Raises:
        ValueError: if the last two axes are not (17, 3).
    """
    keypoints = np.asarray(keypoints)
    if keypoints.shape[-2:] != (17, 3):
        raise ValueError(f"COCO keypoints: expected shape [..., 17, 3], found {keypoints.shape}")
    if keypoints.dtype.kind in "biu":
        keypoints = keypoints.astype(np.float64)
    out = np.zeros((*keypoints.shape[:-2], 25, 3), keypoints.dtype)
    for i, name in enumerate(OPENPOSE_25):
        if name in COCO_17:
            out[..., i, :] = keypoints[..., COCO_17.index(name), :]
    for target, side in (("neck", "shoulder"), ("pelvis", "hip")):
        left, right = (keypoints[..., COCO_17.index(f"{s}_{side}"), :] for s in ("left", "right"))
        # Each halved before they are added: a sum of large numbers may leave half precision.
        out[..., OPENPOSE_25.index(target), :2] = left[..., :2] / 2 + right[..., :2] / 2
        out[..., OPENPOSE_25.index(target), 2] = np.minimum(left[..., 2], right[..., 2])
    return out
