"""Keypoint sets by name: the order of each detector's points, and where they lie on the body.

A point has the name of the SMPL joint or landmark that it marks; one that SMPL does not have has a
name of its own, such as `mid_hip`, the middle between the hips, which lies well below SMPL's
`pelvis`. `left_` and `right_` are the person's sides, so the mirrored set follows from the names.
"""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from body_model.joints import COCO_17, OPENPOSE_25, SMPL_24, SMPL_45

UNKNOWN = math.nan  # an offset that nobody has measured


@dataclass(frozen=True)
class KeypointSet:
    """An order of keypoints, and where they do not lie where SMPL's do."""

    name: str
    source: str  # who writes keypoints in this order
    names: tuple[str, ...]
    # Points that are the mean of others; they may be points of the set, or made from it.
    means: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    # How far a point lies from SMPL's of the same name, mm; UNKNOWN if it differs.
    offsets: Mapping[str, float] = field(default_factory=dict, hash=False)
    # The names that its files use, where they are not ours.
    aliases: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def mirror(self) -> tuple[int, ...]:
        """The point that takes each point's place when left and right are exchanged."""
        return tuple(self.names.index(mirrored_name(name)) for name in self.names)

    @property
    def on_body(self) -> tuple[str | tuple[str, ...] | None, ...]:
        """What marks each point on a body: a joint or landmark, several for their mean, or None."""
        return tuple(name if name in SMPL_45 else _exact_parts(name) for name in self.names)

    def parts(self, name: str) -> tuple[tuple[int, ...], float]:
        """Finds the points whose mean is a point of another set.

        Args:
            name: of the point that is wanted.
        Returns:
            Indices into `names`, none if the set has nothing to make it of; and how far that lies
            from SMPL's point of this name, mm, `UNKNOWN` if it differs by an unknown distance.
        """
        own = self.offsets.get(name)
        if name in self.names:
            return (self.names.index(name),), 0.0 if own is None else own
        made = ((self.means[name], 0.0),) if name in self.means else ()
        for others, offset in (*made, *STAND_INS.get(name, ())):
            if all(other in self.names for other in others):
                indices = tuple(self.names.index(other) for other in others)
                return indices, offset if own is None else own
        return (), 0.0


# What may stand in for a point that a set lacks, the best first; and how far it lies from the point
# on the open body at rest, mm.
_HIPS, _SHOULDERS = (tuple(f"{s}_{j}" for s in ("left", "right")) for j in ("hip", "shoulder"))
STAND_INS: Mapping[str, tuple[tuple[tuple[str, ...], float], ...]] = {
    "mid_hip": ((_HIPS, 0.0),),
    "mid_shoulder": ((_SHOULDERS, 0.0),),
    "pelvis": ((("mid_hip",), 70.0), (_HIPS, 70.0), (("pelvis_mpii",), UNKNOWN)),
    "neck": (
        (("mid_shoulder",), 77.0),
        (("thorax_h36m",), UNKNOWN),
        (("thorax_mpii",), UNKNOWN),
        (_SHOULDERS, 77.0),
    ),
}


def _exact_parts(name: str) -> tuple[str, ...] | None:
    """The points whose mean it is, where it is exactly that."""
    return next((parts for parts, offset in STAND_INS.get(name, ()) if offset == 0), None)


def mirrored_name(name: str) -> str:
    """Returns the name of the point on the other side; of one in the middle, its own."""
    for side, other in (("left_", "right_"), ("right_", "left_")):
        if name.startswith(side):
            return other + name.removeprefix(side)
    return name


def _both(*names: str) -> tuple[str, ...]:
    return tuple(f"{side}_{name}" for name in names for side in ("left", "right"))


def _face() -> tuple[str, ...]:
    """Names the 68 points of a face so that both points of a pair share a number."""
    pairs = {
        **{i: 16 - i for i in range(8)},  # jaw
        **{i: 43 - i for i in range(17, 22)},  # brows
        **{31: 35, 32: 34},  # nostrils
        **{36: 45, 37: 44, 38: 43, 39: 42, 40: 47, 41: 46},  # eyes
        **{48: 54, 49: 53, 50: 52, 58: 56, 59: 55},  # outer lips
        **{60: 64, 61: 63, 67: 65},  # inner lips
    }
    names = [f"face_{i}" for i in range(68)]
    for right, left in pairs.items():  # the lower numbers are on the person's right
        names[right], names[left] = f"right_face_{right}", f"left_face_{right}"
    return tuple(names)


_FINGERS = ("thumb", "index", "middle", "ring", "pinky")


def _hand(side: str) -> tuple[str, ...]:
    """Names the 21 points of a hand; the tips are landmarks of SMPL."""
    return (
        f"{side}_hand_root",
        *(f"{side}_{finger}{joint}" for finger in _FINGERS for joint in ("_1", "_2", "_3", "")),
    )


def _mhr_hand(side: str) -> tuple[str, ...]:
    """Names the 20 points of MHR's fingers, tips first, and the wrist."""
    joints = ("", "_3", "_2", "_third_joint")
    fingers = (f"{side}_{finger}{joint}" for finger in _FINGERS for joint in joints)
    return (*fingers, f"{side}_wrist")


_MIDDLES = {"neck": "mid_shoulder", "pelvis": "mid_hip"}
_OPENPOSE = tuple(_MIDDLES.get(name, name) for name in OPENPOSE_25)
_HALPE_26 = (
    *COCO_17,
    *("head_top", "neck", "mid_hip"),
    *_both("big_toe", "small_toe", "heel"),
)
_FEET = tuple(f"{s}_{p}" for s in ("left", "right") for p in ("big_toe", "small_toe", "heel"))
_BOTH_MEANS = {"mid_shoulder": _SHOULDERS, "mid_hip": _HIPS}
# Hips that people marked in pictures lie beside SMPL's.
_MARKED_HIPS = dict.fromkeys(_HIPS, UNKNOWN)
_HALPE_ALIASES = {"head": "head_top", "hip": "mid_hip"}

_SETS = (
    KeypointSet("smpl-24", "SMPL's joints; NLF, MeTRAbs and others as smpl_24", SMPL_24),
    KeypointSet("smpl-45", "SMPL's joints and landmarks, as the package smplx has them", SMPL_45),
    KeypointSet(
        "openpose-25",
        "OpenPose, BODY_25",
        _OPENPOSE,
        means=_BOTH_MEANS,
        offsets=_MARKED_HIPS,
        aliases=_MIDDLES,
    ),
    KeypointSet(
        "openpose-18",
        "OpenPose, COCO; AlphaPose's forms cmu and open",
        tuple(n for n in _OPENPOSE[:19] if n != "mid_hip"),
        means={"mid_shoulder": _SHOULDERS},
        offsets=_MARKED_HIPS,
        aliases={"neck": "mid_shoulder"},
    ),
    KeypointSet(
        "coco-17",
        "COCO; ViTPose, RTMPose, AlphaPose, YOLO and most others",
        COCO_17,
        offsets=_MARKED_HIPS,
    ),
    KeypointSet(
        "coco-wholebody-133",
        "COCO-WholeBody; MMPose, AlphaPose",
        (*COCO_17, *_FEET, *_face(), *_hand("left"), *_hand("right")),
        offsets=_MARKED_HIPS,
    ),
    KeypointSet(
        "halpe-26",
        "Halpe; RTMPose's body with feet, AlphaPose, Pose2Sim",
        _HALPE_26,
        offsets={**_MARKED_HIPS, "neck": UNKNOWN},
        aliases=_HALPE_ALIASES,
    ),
    KeypointSet(
        "halpe-136",
        "Halpe-FullBody; AlphaPose",
        (*_HALPE_26, *_face(), *_hand("left"), *_hand("right")),
        offsets={**_MARKED_HIPS, "neck": UNKNOWN},
        aliases=_HALPE_ALIASES,
    ),
    KeypointSet(
        "h36m-17",
        "Human3.6M, right leg first; VideoPose3D, MotionBERT and other lifters",
        (
            "mid_hip",
            *("right_hip", "right_knee", "right_ankle"),
            *("left_hip", "left_knee", "left_ankle"),
            *("spine_h36m", "thorax_h36m", "jaw_h36m", "head_h36m"),
            *("left_shoulder", "left_elbow", "left_wrist"),
            *("right_shoulder", "right_elbow", "right_wrist"),
        ),
        means={"mid_hip": _HIPS},
        offsets=dict.fromkeys(_HIPS, UNKNOWN),
        aliases={
            "root": "mid_hip",
            "left_foot": "left_ankle",
            "right_foot": "right_ankle",
            "spine": "spine_h36m",
            "thorax": "thorax_h36m",
            "neck_base": "jaw_h36m",
            "head": "head_h36m",
        },
    ),
    KeypointSet(
        "mpii-16",
        "MPII; MMPose, stacked hourglass",
        (
            *("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle"),
            *("pelvis_mpii", "thorax_mpii", "upper_neck", "head_top"),
            *("right_wrist", "right_elbow", "right_shoulder"),
            *("left_shoulder", "left_elbow", "left_wrist"),
        ),
        offsets=_MARKED_HIPS,
        aliases={"pelvis": "pelvis_mpii", "thorax": "thorax_mpii"},
    ),
    KeypointSet(
        "mediapipe-33",
        "MediaPipe Pose (BlazePose)",
        (
            "nose",
            *("left_eye_inner", "left_eye", "left_eye_outer"),
            *("right_eye_inner", "right_eye", "right_eye_outer"),
            *_both("ear", "mouth", "shoulder", "elbow", "wrist"),
            *_both("pinky_1", "index_1", "thumb_2"),  # knuckles, not SMPL's finger tips
            *_both("hip", "knee", "ankle", "heel", "big_toe"),
        ),
        # Of the open body fitted to one man in four views.
        offsets={
            "nose": 29.0,
            **dict.fromkeys(_both("eye"), 20.0),
            **dict.fromkeys(_both("ear"), 58.0),
            **dict.fromkeys(_both("shoulder"), 30.0),
            **dict.fromkeys(_both("hip", "heel"), 22.0),
            **dict.fromkeys(_both("big_toe"), 24.0),
            "pelvis": 91.0,
            "neck": 62.0,
        },
        aliases={
            "mouth_left": "left_mouth",
            "mouth_right": "right_mouth",
            **{f"{s}_{p}": f"{s}_{p}_1" for s in ("left", "right") for p in ("pinky", "index")},
            **{f"{s}_thumb": f"{s}_thumb_2" for s in ("left", "right")},
            **{f"{s}_foot_index": f"{s}_big_toe" for s in ("left", "right")},
        },
    ),
    KeypointSet(
        "mhr70",
        "SAM 3D Body (MHR)",
        (
            "nose",
            *_both("eye", "ear", "shoulder", "elbow", "hip", "knee", "ankle"),
            *_FEET,
            *_mhr_hand("right"),
            *_mhr_hand("left"),
            *_both("olecranon", "cubital_fossa", "acromion"),
            "neck",
        ),
        offsets={**_MARKED_HIPS, **dict.fromkeys(_SHOULDERS, UNKNOWN), "neck": UNKNOWN},
        aliases={
            f"{s}_{p}_tip": f"{s}_{p}"
            for s in ("left", "right")
            for p in ("big_toe", "small_toe", *_FINGERS)
        },
    ),
)
KEYPOINT_SETS: dict[str, KeypointSet] = {each.name: each for each in _SETS}

# Other names that people have for a set.
_ALSO = {
    "body_25": "openpose-25",
    "body25": "openpose-25",
    "openpose": "openpose-25",
    "openpose_coco": "openpose-18",
    "coco": "coco-17",
    "vitpose": "coco-17",
    "coco-18": "openpose-18",
    "coco_wholebody": "coco-wholebody-133",
    "wholebody": "coco-wholebody-133",
    "mpii": "mpii-16",
    "h36m": "h36m-17",
    "halpe": "halpe-26",
    "mediapipe": "mediapipe-33",
    "blazepose": "mediapipe-33",
    "smpl": "smpl-24",
    "mhr": "mhr70",
}


def keypoint_set(of: str | KeypointSet | Sequence[str]) -> KeypointSet:
    """Finds a keypoint set by its name, or makes one of the names of its points.

    Args:
        of: the name of an entry of `KEYPOINT_SETS`, such as "coco-17" (capitals, "_" and what
            people call it, as "BODY_25", will do); or names of points in their order, SMPL's where
            they are SMPL's; or a set, which is returned.
    Raises:
        ValueError: for a name that is not known, and for names that come twice or lack their other
            side.
    """
    if isinstance(of, KeypointSet):
        return of
    if isinstance(of, str):
        plain = of.strip().lower()
        for name in (plain, plain.replace("_", "-"), _ALSO.get(plain, ""), _squeezed(plain)):
            if name in KEYPOINT_SETS:
                return KEYPOINT_SETS[name]
        close = difflib.get_close_matches(plain, KEYPOINT_SETS, 1, cutoff=0.5)
        meant = f" (did you mean {close[0]}?)" if close else ""
        raise ValueError(
            f"keypoint set {of!r} is not known{meant}; known are {', '.join(KEYPOINT_SETS)}. "
            "Describe another in a .toml or .json: names = [...]"
        )
    names = tuple(of)
    check_names(names, "names of keypoints")
    return KeypointSet("own", "names that were given", names)


def check_names(names: Sequence[str], where: str) -> None:
    """Refuses names of keypoints that come twice, or whose other side is missing.

    Args:
        names: in their order.
        where: begins the message.
    Raises:
        ValueError: naming them.
    """
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"{where}: expected names of points in their order, found {names!r}")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{where}: {', '.join(twice)} given more than once; expected each once")
    alone = sorted(name for name in names if mirrored_name(name) not in names)
    if alone:
        raise ValueError(
            f"{where}: {', '.join(alone)} without the point of the other side, "
            f"{mirrored_name(alone[0])}; expected both, begun with left_ and right_"
        )


def _squeezed(name: str) -> str:
    """The known name that has the same letters and digits, if there is one."""
    for known in KEYPOINT_SETS:
        if known.replace("-", "") == name.replace("-", "").replace("_", "").replace(" ", ""):
            return known
    return ""
