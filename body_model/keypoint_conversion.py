"""Keypoints of one set in the order of another, and with left and right exchanged."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Real, Shaped

from body_model.joints import OPENPOSE_25
from body_model.keypoint_sets import KeypointSet, keypoint_set
from body_model.pytree import Array


def convert_keypoints(
    points: Real[Array, "*batch K D"],
    confidence: Shaped[Array, "*batch K"],
    source: str | KeypointSet | Sequence[str],
    target: str | KeypointSet | Sequence[str] = OPENPOSE_25,
    max_offset: float = math.inf,
) -> tuple[Float[np.ndarray, "*batch L D"], Float[np.ndarray, "*batch L"]]:
    """Arranges keypoints in the order of another set.

    Points go by name. A point that the source lacks but has the parts of is their mean, with the
    smallest of their confidences: mid-hip and pelvis of the hips, mid-shoulder and neck of the
    shoulders. Any other is 0 with confidence 0.

    Args:
        points: [..., K, D] in the source's order, in 2D or 3D and in any unit.
        confidence: [..., K]; 0 for what is not seen.
        source, target: sets, as `keypoint_set` takes them. By default the target is OpenPose-25
            with SMPL's pelvis and neck in it, as the refinement has it.
        max_offset: mm. What is known to lie farther from SMPL's point of that name gets
            confidence 0: at 50, MediaPipe's mid-hip (91 mm) does not pull at the pelvis.
    Returns:
        Points [..., L, D] and confidence [..., L] in the target's order, floats.
    Raises:
        ValueError: for unknown sets, and if there are not as many points as the source has.
    """
    source, target = keypoint_set(source), keypoint_set(target)
    points, confidence = np.asarray(points), np.asarray(confidence)
    if points.ndim < 2 or points.shape[-2] != len(source) or confidence.shape != points.shape[:-1]:
        raise ValueError(
            f"keypoints of {source.name}: expected points [..., {len(source)}, D] and confidence "
            f"[..., {len(source)}], found {points.shape} and {confidence.shape}"
        )
    points, confidence = (a.astype(np.result_type(a, np.float16)) for a in (points, confidence))
    lead = confidence.shape[:-1]
    found = np.zeros((*lead, len(target), points.shape[-1]), points.dtype)
    known = np.zeros((*lead, len(target)), confidence.dtype)
    for k, name in enumerate(target.names):
        indices, offset = source.parts(name)
        if not indices or offset > max_offset:
            continue
        # Each divided before they are added: a sum of large numbers may leave half precision.
        found[..., k, :] = sum(points[..., i, :] / len(indices) for i in indices)
        known[..., k] = np.min([confidence[..., i] for i in indices], axis=0)
    return found, known


def swap_sides(
    values: Shaped[Array, "..."], of: str | KeypointSet | Sequence[str], axis: int = -2
) -> Shaped[Array, "..."]:
    """Exchanges left and right: each point gets the values of its mirror image's.

    A detector that took a person's back for the front is put right by this; a mirrored picture
    needs its x reversed as well.

    Args:
        values: one for each point, such as [..., K, 2] pixels or [..., K] confidence (axis -1).
        of: the set, as `keypoint_set` takes it.
        axis: of the points.
    Raises:
        ValueError: if there are not as many points as the set has.
    """
    of = keypoint_set(of)
    if np.shape(values)[axis] != len(of):
        raise ValueError(
            f"axis {axis}: expected the {len(of)} points of {of.name}, found {np.shape(values)}"
        )
    return values.take(np.array(of.mirror), axis=axis)
