"""Where markers of motion capture sit on a body, told by its joints, for any mesh in SMPL's format.

A place is looked up in the rest pose (x to the person's left, y up, z forward, palms down): from a
point between joints a ray goes out, and the marker sits where that leaves the skin.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from body_model import SMPL
from body_model.joints import JOINT_NAMES

_BESIDE = 3.0  # metres outwards that a metre beside the ray costs
_FAR = 0.2  # metres: skin farther along the ray is another limb's
_TECHNICAL = 0.03  # metres: markers that labs put anywhere along a limb


@dataclass(frozen=True)
class MarkerPlace:
    """A place on the skin."""

    between: tuple[str, str]  # joints
    share: float  # of the way from the first joint to the second; may be beyond
    direction: tuple[float, float, float]  # from there, any length
    spread: float = 0.015  # metres: how far labs differ
    up: float = 0.0  # metres above the point between the joints
    joint: str | None = None  # that the marker lies beside, if it does

    @property
    def mirrored(self) -> "MarkerPlace":
        """The same place on the right side, of one on the left."""
        first, second = (_right(name) for name in self.between)
        x, y, z = self.direction
        joint = None if self.joint is None else _right(self.joint)
        return replace(self, between=(first, second), direction=(-x, y, z), joint=joint)


def _right(name: str) -> str:
    return name.replace("left", "right")


_LEFT = {
    "FHD": MarkerPlace(("head", "head"), 0, (0.6, 0, 0.9), 0.02, up=0.13),
    "BHD": MarkerPlace(("head", "head"), 0, (1, 0, -0.9), 0.02, up=0.12),
    "SHO": MarkerPlace(
        ("left_collar", "left_shoulder"), 0.8, (0, 1, 0), 0.02, joint="left_shoulder"
    ),
    "UPA": MarkerPlace(("left_shoulder", "left_elbow"), 0.42, (0, 1, 0), _TECHNICAL),
    "ELB": MarkerPlace(("left_elbow", "left_elbow"), 0, (0, 1, 0), joint="left_elbow"),
    "FRM": MarkerPlace(("left_elbow", "left_wrist"), 0.5, (0, 1, 0), _TECHNICAL),
    "WRA": MarkerPlace(("left_wrist", "left_wrist"), 0, (0, 0.5, 1), 0.02, joint="left_wrist"),
    "WRB": MarkerPlace(("left_wrist", "left_wrist"), 0, (0, 0.2, -1), 0.02),
    "FIN": MarkerPlace(("left_wrist", "left_hand"), 0.8, (0, 1, 0.3)),
    "ASI": MarkerPlace(("left_hip", "spine1"), 0.5, (0.7, 0, 1), 0.02),
    "PSI": MarkerPlace(("left_hip", "spine1"), 0.6, (0, 0, -1), 0.02),
    "THI": MarkerPlace(("left_hip", "left_knee"), 0.35, (1, 0, 0), _TECHNICAL),
    "KNE": MarkerPlace(("left_knee", "left_knee"), 0, (1, 0, 0), joint="left_knee"),
    "TIB": MarkerPlace(("left_knee", "left_ankle"), 0.38, (1, 0, 0), _TECHNICAL),
    "ANK": MarkerPlace(("left_ankle", "left_ankle"), 0, (1, 0, 0), joint="left_ankle"),
    "HEE": MarkerPlace(("left_ankle", "left_ankle"), 0, (0, -0.2, -1), up=-0.03),
    "TOE": MarkerPlace(("left_ankle", "left_foot"), 1.0, (0, 1, 0.3)),
}
# Vicon's Plug-in Gait, the whole body, as its guide of marker placement describes it.
PLUG_IN_GAIT: Mapping[str, MarkerPlace] = {
    **{f"L{name}": place for name, place in _LEFT.items()},
    **{f"R{name}": place.mirrored for name, place in _LEFT.items()},
    "C7": MarkerPlace(("neck", "neck"), 0, (0, 0.2, -1)),
    "T10": MarkerPlace(("spine2", "spine3"), 0.3, (0, 0, -1), 0.025),
    "CLAV": MarkerPlace(("left_collar", "right_collar"), 0.5, (0, -0.3, 1), 0.02),
    "STRN": MarkerPlace(("spine2", "spine3"), 0.5, (0, 0, 1), 0.025),
    "RBAK": MarkerPlace(("spine3", "right_shoulder"), 0.65, (0, 0, -1), _TECHNICAL),
}


def vertices_of(body: SMPL, places: Sequence[MarkerPlace]) -> Int[np.ndarray, " K"]:
    """Finds the vertex of the mean shape that is nearest to each place.

    Args:
        body: any SMPL body, with concrete arrays.
        places: K of them.
    """
    template = np.asarray(body.template, np.float64)
    joints = np.asarray(body.joint_regressor, np.float64) @ template
    found = []
    for place in places:
        first, second = (joints[JOINT_NAMES.index(name)] for name in place.between)
        origin = first + place.share * (second - first) + np.array([0, place.up, 0])
        ray = np.array(place.direction) / np.linalg.norm(place.direction)
        along = (template - origin) @ ray
        beside = np.linalg.norm(template - origin - along[:, None] * ray, axis=1)
        fit = np.where(along < _FAR, along - _BESIDE * beside, -np.inf)
        found.append(int(np.argmax(fit)))
    return np.array(found)


def normals_of(body: SMPL) -> Float[np.ndarray, "V 3"]:
    """Works out the outward normals of the mean shape, of unit length."""
    template, faces = np.asarray(body.template, np.float64), np.asarray(body.faces)
    a, b, c = (template[faces[:, i]] for i in range(3))
    normals = np.zeros_like(template)
    for i in range(3):
        np.add.at(normals, faces[:, i], np.cross(b - a, c - a))
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
