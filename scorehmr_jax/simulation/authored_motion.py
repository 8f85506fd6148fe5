"""A short motion made of hand-set keys: walk, stop, knee bend, wave. Four seconds, 120 frames.

The legs follow footsteps by two-bone inverse kinematics, so that planted feet stay planted; all
other joints follow a few anatomical angles, each keyed in time and smoothed. Frame: metres, y up,
floor at y = 0, walking along +z, the left side towards +x. Numpy only.
"""

import numpy as np
from jaxtyping import Float

from body_model.joints import JOINT_NAMES, NUM_JOINTS

FPS = 30
FRAMES = 120

# Rest geometry of an average body in SMPL's T-pose, in metres; left leg (mirror x for the right).
PELVIS = np.array([0.0, -0.22, 0.02])
HIP = np.array([0.085, -0.07, -0.005])  # from the pelvis
THIGH = np.array([0.02, -0.398, 0.032])
SHIN = np.array([0.009, -0.415, -0.019])
ANKLE_HEIGHT = 0.070
HEEL = np.array([0.0, -ANKLE_HEIGHT, -0.05])  # from the ankle, the points a foot rolls over
BALL = np.array([0.0, -ANKLE_HEIGHT, 0.125])

# Footsteps: when the foot lands and leaves (s), and where its ankle stands (x, z).
STEPS = {
    "left": ((0.0, 0.62, 0.075, 0.0), (1.0, 9.0, 0.105, 1.14)),
    "right": ((-0.5, 0.12, -0.075, -0.58), (0.5, 1.12, -0.075, 0.58), (1.56, 9.0, -0.105, 1.17)),
}
# Pitch of the foot (degrees, toes down positive) by phase: stance 0..1, then swing 1..2.
ROLL = {
    "phase": (0.0, 0.16, 0.52, 0.80, 1.0, 1.30, 1.75, 2.0),
    "pitch": (-16, 0, 0, 20, 56, 34, -8, -16),
}

# Keys of each angle: {time in s: degrees}. Flexion and forward lean are positive.
KEYS: dict[str, dict[float, float]] = {
    "pelvis_yaw": {0: 5, 0.5: -5, 1.0: 5, 1.55: 0, 3.0: 0, 3.4: -4, 4.0: -4},
    "pelvis_pitch": {0: 4, 1.4: 4, 1.9: 2, 2.30: 20, 2.45: 20, 2.85: 1, 4.0: 0},
    "pelvis_roll": {0.05: 0, 0.25: -3, 0.5: 0, 0.75: 3, 1.0: 0, 1.3: -2, 1.6: 0, 3.0: 0, 3.4: 2},
    "spine_yaw": {0: -9, 0.5: 9, 1.0: -9, 1.6: 0, 2.9: 0, 3.4: 6, 4.0: 6},
    "spine_pitch": {0: 2, 1.7: 2, 2.35: 15, 2.9: 0, 4.0: -2},
    "spine_roll": {0: 0, 2.9: 0, 3.3: -5, 4.0: -5},
    "head_yaw": {0: 0, 2.8: 0, 3.2: -14, 4.0: -12},
    "head_pitch": {0: 2, 1.8: 3, 2.35: -18, 2.85: 0, 4.0: -2},
    "head_roll": {0: 0, 2.9: 0, 3.3: 6, 4.0: 6},
    "left_swing": {-0.02: -24, 0.5: 26, 1.0: -20, 1.5: 4, 1.8: 6, 2.35: 72, 2.9: 4, 4.0: 2},
    "left_drop": {0: 76, 1.6: 74, 2.35: 76, 2.9: 72, 3.4: 70, 4.0: 70},
    "left_twist": {0: 0, 1.8: 0, 2.35: -10, 2.9: 0, 4.0: 10},
    "left_elbow": {0: 16, 0.5: 34, 1.0: 16, 1.5: 20, 2.35: 22, 2.9: 20, 4.0: 26},
    "right_swing": {-0.02: 26, 0.5: -24, 1.0: 24, 1.5: 4, 1.8: 6, 2.35: 72, 2.85: 16, 3.2: 0},
    "right_drop": {0: 76, 1.8: 74, 2.5: 76, 2.7: 66, 3.1: 4, 3.3: -8, 4.0: -8},
    "right_twist": {0: 0, 1.8: 0, 2.35: -10, 2.6: -14, 3.1: -76, 4.0: -76},
    "right_elbow": {0: 34.0, 0.5: 16, 1.0: 32, 1.5: 20, 2.35: 22, 2.65: 40, 2.95: 92}
    | {3.14: 100.0, 3.34: 58, 3.54: 100, 3.74: 58, 3.94: 98, 4.14: 60},
    "right_wrist": {0: 0, 2.9: 0, 3.14: -14, 3.34: 14, 3.54: -14, 3.74: 14, 3.94: -14},
}
# Path of the pelvis: {time in s: metres}.
PELVIS_PATH: dict[str, dict[float, float]] = {
    "x": {0.05: -0.01, 0.25: 0.022, 0.5: 0, 0.75: -0.022, 1.0: 0, 1.3: 0.03, 1.7: 0.0}
    | {3.0: 0.0, 3.4: 0.02},
    "y": {-0.22: 0.94, 0.02: 0.9, 0.28: 0.94, 0.52: 0.9, 0.78: 0.94, 1.02: 0.9, 1.3: 0.932}
    | {1.6: 0.944, 1.9: 0.938, 2.30: 0.62, 2.45: 0.62, 2.9: 0.946, 4.0: 0.944},
    "z": {-0.1: -0.406, 0.0: -0.29, 0.5: 0.29, 1.0: 0.86, 1.3: 1.08, 1.6: 1.155, 1.9: 1.16}
    | {2.30: 1.05, 2.45: 1.05, 2.9: 1.165, 4.0: 1.165},
}


def authored_motion() -> tuple[Float[np.ndarray, "T 24 3 3"], Float[np.ndarray, "T 3"]]:
    """Lets a person walk three steps, stop, bend the knees and wave.

    Returns:
        poses [120, 24, 3, 3]: joint rotations, the root's in a y-up world; 30 frames per second.
        translation [120, 3]: added to the posed body, metres; puts the feet on the floor y = 0.
    """
    time = np.arange(FRAMES) / FPS
    angle = {name: np.radians(_curve(time, keys)) for name, keys in KEYS.items()}
    pelvis = np.stack([_curve(time, keys) for keys in PELVIS_PATH.values()], -1)

    local = {name: np.broadcast_to(np.eye(3), (FRAMES, 3, 3)) for name in JOINT_NAMES}
    local["pelvis"] = _euler(angle, "pelvis", 1.0)
    # Three spine joints share the bend, neck and head share the turn of the head.
    for name in ("spine1", "spine2", "spine3"):
        local[name] = _euler(angle, "spine", 1 / 3)
    for name in ("neck", "head"):
        local[name] = _euler(angle, "head", 1 / 2)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        local.update(_arm(angle, side, sign))
        local.update(_leg(time, pelvis, local["pelvis"], side, sign))
    poses = np.stack([local[name] for name in JOINT_NAMES], 1)
    assert poses.shape == (FRAMES, NUM_JOINTS, 3, 3)
    return poses, pelvis - PELVIS


def _curve(time: np.ndarray, keys: dict[float, float], width: float = 0.055) -> np.ndarray:
    """The keys joined by lines, smoothed by a Gaussian of `width` seconds."""
    offsets = np.linspace(-3, 3, 61) * width
    weights = np.exp(-0.5 * (offsets / width) ** 2)
    at = time[:, None] + offsets
    return np.interp(at, list(keys), list(keys.values())) @ weights / weights.sum()


def _turn(axis: str, angle: np.ndarray) -> np.ndarray:
    """Rotations [..., 3, 3] about x, y or z."""
    cos, sin = np.cos(angle), np.sin(angle)
    out = np.zeros((*np.shape(angle), 3, 3))
    i = "xyz".index(axis)
    j, k = (i + 1) % 3, (i + 2) % 3
    out[..., i, i] = 1
    out[..., j, j] = out[..., k, k] = cos
    out[..., k, j], out[..., j, k] = sin, -sin
    return out


def _euler(angle: dict[str, np.ndarray], part: str, share: float) -> np.ndarray:
    """Rotations [T, 3, 3] by a share of a part's yaw, pitch and roll."""
    yaw, pitch, roll = (share * angle[f"{part}_{name}"] for name in ("yaw", "pitch", "roll"))
    return _turn("y", yaw) @ _turn("x", pitch) @ _turn("z", roll)


def _arm(angle: dict[str, np.ndarray], side: str, sign: float) -> dict[str, np.ndarray]:
    """Shoulder girdle, elbow and wrist; `drop` is the angle below the T-pose's horizontal arm."""
    drop, swing = angle[f"{side}_drop"], angle[f"{side}_swing"]
    # The girdle takes a share of the lift: a shoulder alone cannot raise an arm this far.
    girdle = 0.22 * (drop - np.radians(76)) + np.radians(6)
    shoulder = (
        _turn("x", -swing)
        @ _turn("z", -sign * (drop - girdle))
        @ _turn("x", angle[f"{side}_twist"])
    )
    out = {
        f"{side}_collar": _turn("z", -sign * girdle),
        f"{side}_shoulder": shoulder,
        f"{side}_elbow": _turn("y", -sign * angle[f"{side}_elbow"]),
    }
    if f"{side}_wrist" in angle:
        out[f"{side}_wrist"] = _turn("y", angle[f"{side}_wrist"])
    return out


def _leg(
    time: np.ndarray, pelvis: np.ndarray, pelvis_rotation: np.ndarray, side: str, sign: float
) -> dict[str, np.ndarray]:
    """Hip, knee, ankle and toe rotations that put the foot on its footsteps."""
    mirror = np.array([sign, 1.0, 1.0])
    ankle, pitch, heel_up = _foot(time, STEPS[side])
    hip = pelvis + pelvis_rotation @ (HIP * mirror)
    toe_out = _turn("y", np.full_like(time, sign * np.radians(7)))

    # The knee angle that gives the leg the length from hip to ankle: |a + Rx(k) b| = length.
    a, b = THIGH * mirror, SHIN * mirror
    to_ankle = ankle - hip
    length = np.linalg.norm(to_ankle, axis=-1)
    wanted = (length**2 - a @ a - b @ b) / 2 - a[0] * b[0]
    along, across = a[1] * b[1] + a[2] * b[2], a[2] * b[1] - a[1] * b[2]
    # A soft limit short of the straight leg: there the knee angle has no bounded derivative.
    straight = wanted / np.hypot(along, across)
    straight = 0.994 - 0.012 * np.logaddexp(0, (0.994 - straight) / 0.012)
    knee = np.arctan2(across, along) + np.arccos(np.maximum(straight, -1))
    knee_rotation = _turn("x", knee)

    # The hip aims the bent leg at the ankle and keeps the hinge square to the foot's heading.
    rest = _frame(a + knee_rotation @ b, np.broadcast_to([1.0, 0, 0], to_ankle.shape))
    thigh = _frame(to_ankle, toe_out[..., :, 0]) @ np.swapaxes(rest, -1, -2)
    foot = toe_out @ _turn("x", pitch)
    return {
        f"{side}_hip": np.swapaxes(pelvis_rotation, -1, -2) @ thigh,
        f"{side}_knee": knee_rotation,
        f"{side}_ankle": np.swapaxes(thigh @ knee_rotation, -1, -2) @ foot,
        f"{side}_foot": _turn("x", -heel_up),
    }


def _frame(down: np.ndarray, lateral: np.ndarray) -> np.ndarray:
    """Frames [..., 3, 3] with the second axis along `down`, the first near `lateral`."""
    y = down / np.linalg.norm(down, axis=-1, keepdims=True)
    x = lateral - np.sum(lateral * y, -1, keepdims=True) * y
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    return np.stack([x, y, np.cross(x, y)], -1)


def _foot(
    time: np.ndarray, steps: tuple[tuple[float, float, float, float], ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ankle positions [T, 3], foot pitch [T] and toe bend [T] (radians) along footsteps."""
    ankle, pitch, bend = np.zeros((len(time), 3)), np.zeros(len(time)), np.zeros(len(time))
    for i, t in enumerate(time):
        current = max(n for n, step in enumerate(steps) if step[0] <= t or n == 0)
        land, leave, x, z = steps[current]
        last = leave > time[-1]
        # The last step never rolls off; it only comes down from the heel.
        phase = min((t - land) / 0.64, 0.4) if last else (t - land) / (leave - land)
        if phase <= 1:
            pitch[i] = _roll(phase)
            ankle[i] = _standing(x, z, pitch[i])
            bend[i] = max(pitch[i], 0.0)
            continue
        land_next, _, x_next, z_next = steps[current + 1]
        swing = (t - leave) / (land_next - leave)
        pitch[i] = _roll(1 + swing)
        start, end = _standing(x, z, _roll(1.0)), _standing(x_next, z_next, _roll(0.0))
        ease = swing**2 * (3 - 2 * swing)
        ankle[i] = start + (end - start) * ease
        ankle[i, 1] += 0.055 * np.sin(np.pi * swing) ** 2
        bend[i] = _roll(1.0) * (1 - swing) ** 2
    return ankle, pitch, bend


def _roll(phase: float) -> float:
    """Pitch of the foot at a phase of ROLL, radians."""
    return float(np.radians(_curve(np.array([phase]), dict(zip(*ROLL.values(), strict=True)))[0]))


def _standing(x: float, z: float, pitch: float) -> np.ndarray:
    """The ankle of a foot that rolled over its ball (pitch > 0) or stands on its heel."""
    pivot = BALL if pitch > 0 else HEEL
    flat = np.array([x, ANKLE_HEIGHT, z])
    return flat + pivot - _turn("x", np.array(pitch)) @ pivot
