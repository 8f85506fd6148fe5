"""SMPL bodies in JAX, usable alone: `load` one, or take `open_body()`, which needs no licence."""

from body_model.conversion import convert_body, fit_shape, from_smpl_pose, to_smpl_pose
from body_model.frames import move
from body_model.io import load, load_regressor, save
from body_model.keypoint_conversion import convert_keypoints, swap_sides
from body_model.keypoint_sets import KEYPOINT_SETS, KeypointSet, keypoint_set
from body_model.measures import measure
from body_model.open.open_body import open_body
from body_model.open.stand_in import stand_in
from body_model.skeleton import Skeleton
from body_model.smpl import SMPL

__all__ = [
    "KEYPOINT_SETS",
    "SMPL",
    "KeypointSet",
    "Skeleton",
    "convert_body",
    "convert_keypoints",
    "fit_shape",
    "from_smpl_pose",
    "keypoint_set",
    "load",
    "load_regressor",
    "measure",
    "move",
    "open_body",
    "save",
    "stand_in",
    "swap_sides",
    "to_smpl_pose",
]
