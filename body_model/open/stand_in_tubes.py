"""The measures of the stand-in: its joints, the tubes of its surface, its landmarks."""

from dataclasses import dataclass

import numpy as np

# Rest positions in metres; the right side mirrors the left.
REST = {
    "pelvis": (0, -0.22, 0.02),
    "left_hip": (0.085, -0.29, 0.02),
    "spine1": (0, -0.13, 0.02),
    "left_knee": (0.1, -0.69, 0.03),
    "spine2": (0, -0.03, 0.015),
    "left_ankle": (0.11, -1.1, 0.02),
    "spine3": (0, 0.09, 0.005),
    "left_foot": (0.12, -1.14, 0.15),
    "neck": (0, 0.26, 0.015),
    "left_collar": (0.06, 0.19, 0.02),
    "head": (0, 0.32, 0.03),
    "left_shoulder": (0.18, 0.19, 0.02),
    "left_elbow": (0.43, 0.19, 0.02),
    "left_wrist": (0.67, 0.19, 0.02),
    "left_hand": (0.76, 0.19, 0.02),
}


@dataclass(frozen=True)
class Tube:
    """A closed tube about a bent axis: rings of vertices between two poles.

    `knots` are points of the axis (or joint names), `radii` the two half-widths there, across
    `side` and across the other direction; `joints` is the part of the kinematic chain whose
    joints move it, `blend` the length over which one hands over to the next.
    """

    name: str
    parent: str | None
    knots: tuple
    radii: tuple[tuple[float, float], ...]
    joints: tuple[str, ...]
    segments: int
    rings: int
    side: tuple[float, float, float]
    blend: float = 0.08


FINGERS = {
    "thumb": ((0.70, 0.18, 0.055), (0.752, 0.17, 0.105)),
    "index": ((0.77, 0.19, 0.05), (0.84, 0.185, 0.065)),
    "middle": ((0.77, 0.19, 0.03), (0.85, 0.185, 0.035)),
    "ring": ((0.77, 0.19, 0.01), (0.84, 0.185, 0.005)),
    "pinky": ((0.765, 0.19, -0.01), (0.815, 0.185, -0.025)),
}
_X, _Z = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)

# Ring and segment counts add up to SMPL's 6890 vertices; left tubes count twice.
TUBES = (
    Tube(
        "torso",
        None,
        (
            (0, -0.3, 0.015),
            "pelvis",
            "spine1",
            "spine2",
            "spine3",
            (0, 0.19, 0.01),
            (0, 0.24, 0.015),
        ),
        (
            (0.13, 0.1),
            (0.165, 0.12),
            (0.15, 0.11),
            (0.145, 0.105),
            (0.165, 0.115),
            (0.155, 0.09),
            (0.07, 0.06),
        ),
        ("pelvis", "spine1", "spine2", "spine3", "neck"),
        36,
        53,
        _X,
    ),
    Tube(
        "neck",
        "torso",
        ((0, 0.2, 0.01), "neck", "head"),
        ((0.06, 0.06),) * 3,
        ("spine3", "neck", "head"),
        16,
        8,
        _X,
        0.05,
    ),
    Tube(
        "head",
        "neck",
        ((0, 0.35, 0.055), (0, 0.41, 0.055)),
        ((0.075, 0.1), (0.075, 0.1)),
        ("spine3", "neck", "head"),
        24,
        24,
        _X,
        0.05,
    ),
    Tube(
        "thigh",
        "torso",
        ("left_hip", "left_knee"),
        ((0.085, 0.085), (0.055, 0.055)),
        ("pelvis", "left_hip", "left_knee"),
        16,
        24,
        _X,
        0.12,
    ),
    Tube(
        "shin",
        "thigh",
        ("left_knee", "left_ankle"),
        ((0.055, 0.055), (0.038, 0.038)),
        ("left_hip", "left_knee", "left_ankle"),
        16,
        24,
        _X,
    ),
    Tube(
        "foot",
        "shin",
        ((0.11, -1.135, 0.0), "left_foot", (0.125, -1.155, 0.19)),
        ((0.036, 0.036), (0.045, 0.032), (0.042, 0.018)),
        ("left_ankle", "left_foot"),
        16,
        18,
        _X,
        0.04,
    ),
    Tube(
        "collar",
        "torso",
        ("left_collar", (0.16, 0.19, 0.02)),
        ((0.05, 0.055), (0.055, 0.055)),
        ("spine3", "left_collar", "left_shoulder"),
        12,
        10,
        _Z,
    ),
    Tube(
        "upper_arm",
        "collar",
        ("left_shoulder", "left_elbow"),
        ((0.055, 0.055), (0.04, 0.04)),
        ("left_collar", "left_shoulder", "left_elbow"),
        12,
        24,
        _Z,
    ),
    Tube(
        "forearm",
        "upper_arm",
        ("left_elbow", "left_wrist"),
        ((0.04, 0.04), (0.03, 0.026)),
        ("left_shoulder", "left_elbow", "left_wrist"),
        12,
        24,
        _Z,
        0.06,
    ),
    Tube(
        "palm",
        "forearm",
        ("left_wrist", "left_hand"),
        ((0.03, 0.022), (0.042, 0.015)),
        ("left_elbow", "left_wrist", "left_hand"),
        12,
        10,
        _Z,
        0.05,
    ),
    *(
        Tube(
            finger,
            "palm",
            points,
            ((0.01, 0.01), (0.008, 0.008)),
            ("left_wrist", "left_hand"),
            8,
            6,
            _Z,
            0.03,
        )
        for finger, points in FINGERS.items()
    ),
)
CENTRAL = ("torso", "neck", "head")  # symmetric in themselves; the others have a twin

# Where on which tube a joint lies: the mean of the tube's rings there regresses it.
JOINT_TUBES = {
    "pelvis": "torso",
    "left_hip": "thigh",
    "spine1": "torso",
    "left_knee": "shin",
    "spine2": "torso",
    "left_ankle": "shin",
    "spine3": "torso",
    "left_foot": "foot",
    "neck": "neck",
    "left_collar": "collar",
    "head": "neck",
    "left_shoulder": "upper_arm",
    "left_elbow": "forearm",
    "left_wrist": "palm",
    "left_hand": "palm",
}

# A landmark is the vertex of its tube nearest to this point.
LANDMARK_POINTS = {
    "nose": ("head", (0.0, 0.365, 0.2)),
    "left_eye": ("head", (0.035, 0.4, 0.2)),
    "left_ear": ("head", (0.2, 0.39, 0.05)),
    "left_big_toe": ("foot", (0.098, -1.16, 0.25)),
    "left_small_toe": ("foot", (0.2, -1.16, 0.2)),
    "left_heel": ("foot", (0.11, -1.16, -0.2)),
    **{
        f"left_{finger}": (finger, 2 * np.array(end) - start)
        for finger, (start, end) in FINGERS.items()
    },
}
