"""The body of the estimates, and its keypoints as a protocol measures them."""

import numpy as np
from numpy.typing import DTypeLike

import body_model
from body_model import SMPL, Skeleton
from body_model.io import load, load_regressor
from body_model.joints import EXTRA_19, OPENPOSE_25
from scorehmr_jax.evaluation.protocol import Files, Protocol


def bodies(
    protocol: Protocol, files: Files, dtype: DTypeLike = np.float32
) -> tuple[SMPL, Skeleton]:
    """Loads the body of the estimates, and its reduction to the protocol's keypoints.

    Raises:
        ValueError: naming the file, if one is missing or another.
    """
    body = body_model.open_body() if files.body is None else load(files.body, dtype=dtype)
    return body, skeleton_of(body, protocol, files)


def skeleton_of(body: SMPL, protocol: Protocol, files: Files) -> Skeleton:
    """Reduces a body to the keypoints of a protocol.

    Raises:
        ValueError: if the regressor is missing or another.
    """
    if not protocol.needs_regressor:
        return Skeleton.of(body, protocol.keypoints)
    if files.extra_joints is None:
        raise ValueError(f"{protocol.name}: needs the regressor SMPL_to_J19.pkl: --extra-joints")
    extra = load_regressor(files.extra_joints, vertices=len(body.template))
    if len(extra) != len(EXTRA_19):
        raise ValueError(
            f"{files.extra_joints}: expected {len(EXTRA_19)} rows, one for each keypoint after "
            f"OpenPose's {len(OPENPOSE_25)}; found shape {extra.shape}. Give SMPL_to_J19.pkl"
        )
    return Skeleton.of(body, OPENPOSE_25, regressor=extra)
