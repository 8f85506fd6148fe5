"""Left and right exchanged by a detector in some frames of a video: found and put right.

Seen from behind a person looks much as from the front with the sides exchanged, and detectors take
one for the other from frame to frame. A person does not turn in a thirtieth of a second; so the
sides are chosen for all frames together such that the points move least.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float

from body_model.keypoint_sets import mirrored_name
from scorehmr_jax.detectors.protocol import Detections

_LIMBS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
_FAR = 1.0  # of the size of the trunk: a point that jumps more than this counts no more
_BELIEF = 0.01  # what it costs to doubt the detector in a frame, in sizes of the trunk


def mirrored(names: Sequence[str]) -> tuple[int, ...]:
    """The index of each name's other side; its own for names that have none among them."""
    index = {name: i for i, name in enumerate(names)}
    return tuple(index.get(mirrored_name(name), i) for name, i in index.items())


def exchanged_sides(
    names: Sequence[str],
    xy: Float[np.ndarray, "T K 2"],
    points: Float[np.ndarray, "T K 3"] | None = None,
) -> Bool[np.ndarray, " T"]:
    """Finds the frames of a video in which left and right are exchanged.

    The path of least movement through both readings of each frame, by dynamic programming. In
    most frames the detector is believed to be right.

    Args:
        names: of the points; those of limbs with a left and a right are looked at.
        xy: one person, pixels; NaN where not seen.
        points: metres; with depth, people seen from the side can be told too.
    Returns:
        True for frames to be exchanged; False where nobody is seen.
    """
    pairs = [i for i, name in enumerate(names) if name.split("_", 1)[-1] in _LIMBS]
    swap = np.array(mirrored(names))[pairs]
    parts = [_in_trunks(names, xy)]
    if points is not None:
        parts.append(_in_trunks(names, points))
    both = [(part[:, pairs], part[:, swap]) for part in parts]  # as seen, and exchanged
    seen = np.flatnonzero(np.all([np.isfinite(p).any((1, 2)) for p, _ in both], axis=0))
    if not len(seen):
        return np.zeros(len(xy), bool)
    cost = np.array([0.0, _BELIEF])
    came_from = []
    for before, after in pairwise(seen):
        same = sum(_movement(p[before], p[after]) for p, _ in both)
        cross = sum(_movement(p[before], q[after]) for p, q in both)
        step = cost[:, None] + np.array([[same, cross], [cross, same]])
        came_from.append(step.argmin(0))
        cost = step.min(0) + np.array([0.0, _BELIEF])
    state = int(cost.argmin())
    states = [state]
    for back in reversed(came_from):
        state = int(back[state])
        states.append(state)
    result = np.zeros(len(xy), bool)
    result[seen] = np.array(states[::-1], bool)
    return result


def _in_trunks(names: Sequence[str], points: np.ndarray) -> np.ndarray:
    """Points in units of the trunk's size, which is the video's median."""
    index = {name: i for i, name in enumerate(names)}

    def middle(part: str) -> np.ndarray:
        return (points[:, index[f"left_{part}"]] + points[:, index[f"right_{part}"]]) / 2

    sizes = np.linalg.norm(middle("shoulder") - middle("hip"), axis=-1)
    sizes = sizes[np.isfinite(sizes)]
    return points / max(float(np.median(sizes)) if len(sizes) else 1.0, 1e-6)


def _movement(before: np.ndarray, after: np.ndarray) -> float:
    """Mean distance of points seen in both frames."""
    distance = np.linalg.norm(after - before, axis=-1)
    distance = distance[np.isfinite(distance)]
    return float(np.minimum(distance, _FAR).mean()) if len(distance) else 0.0


def with_sides_put_right(
    detections: Detections,
) -> tuple[Detections, Bool[np.ndarray, "P T"]]:
    """Exchanges left and right in the frames of a video where the detector had them wrong.

    Args:
        detections: people of a video.
    Returns:
        The detections, and True for each person and frame that was exchanged.
    """
    swap = np.array(mirrored(detections.names))
    points = detections.points
    exchanged = np.zeros(detections.score.shape, bool)
    for person in range(len(exchanged)):
        exchanged[person] = exchanged_sides(
            detections.names, detections.xy[person], None if points is None else points[person]
        )

    def put_right(array: np.ndarray) -> np.ndarray:
        rows = exchanged.reshape(*exchanged.shape, *(1,) * (array.ndim - 2))
        return np.where(rows, array[:, :, swap], array)

    return (
        replace(
            detections,
            xy=put_right(detections.xy),
            confidence=put_right(detections.confidence),
            points=None if points is None else put_right(points),
        ),
        exchanged,
    )
