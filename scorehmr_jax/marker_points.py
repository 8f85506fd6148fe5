"""Markers as points of a body: on its skin, free to sit elsewhere, and held where they were found.

A marker moves as the skin does below it. Its offset in the rest pose is like a shape number:
linear, and the same in all frames.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from body_model import SMPL
from body_model.joints import JOINT_NAMES
from scorehmr_jax.lift_points import BodyPoints
from scorehmr_jax.marker_places import MarkerPlace, normals_of, vertices_of


def on_skin(
    body: SMPL, places: Sequence[MarkerPlace], off_skin: float
) -> tuple[BodyPoints, Float[np.ndarray, "K 3"]]:
    """Puts markers on the skin of a body.

    Args:
        body: any SMPL body, with concrete arrays.
        places: of the K markers.
        off_skin: from the skin to the middle of a marker, metres.
    Returns:
        The markers, and how far each is from its vertex in the rest pose, metres.
    """
    vertices = vertices_of(body, places)
    names = [f"marker {k}" for k in range(len(places))]
    marked = replace(body, landmarks=tuple(zip(names, map(int, vertices), strict=True)))
    points = BodyPoints.of(marked, names)
    skeleton = points.skeleton
    off = off_skin * normals_of(body)[vertices]
    local = np.array(skeleton.local).reshape(len(skeleton.bone), 3, -1)
    local[:, :, 0] += _shares(points) @ off
    # The first swing of a limb goes from the marker beside its joint.
    at_joint = np.zeros_like(points.at_joint)
    for k, each in enumerate(places):
        if each.joint is not None:
            at_joint[JOINT_NAMES.index(each.joint), k] = 1
    skeleton = replace(skeleton, local=local.reshape(-1, local.shape[-1]))
    return replace(points, skeleton=skeleton, at_joint=at_joint), off


def with_free_places(points: BodyPoints, spread: Float[np.ndarray, " K"]) -> BodyPoints:
    """Makes the markers' offsets shape numbers: three more for each, usual around 0 with spread 1.

    Args:
        points: K markers.
        spread: what a unit of these numbers is, metres.
    """
    skeleton, columns = points.skeleton, 1 + points.skeleton.num_betas
    by_place = np.einsum("pk,xy->pxky", _shares(points) * spread, np.eye(3))
    by_place = by_place.reshape(len(skeleton.local), -1)
    local = np.asarray(skeleton.local)
    local = np.concatenate([local[:, :columns], by_place, local[:, columns:]], axis=1)
    rest = np.pad(skeleton.rest, [(0, 0), (0, by_place.shape[1])])
    height = np.pad(points.height, (0, by_place.shape[1]))
    skeleton = replace(skeleton, rest=rest, local=local.astype(rest.dtype))
    return replace(points, skeleton=skeleton, height=height)


def held(points: BodyPoints, numbers: Float[np.ndarray, " B"]) -> BodyPoints:
    """Makes a shape the mean one of points that have no shape numbers any more.

    Args:
        points: any.
        numbers: their shape numbers.
    """
    skeleton, mean = points.skeleton, np.append(1, numbers)
    local, rest = np.asarray(skeleton.local), np.asarray(skeleton.rest)
    local = np.concatenate([(local[:, : len(mean)] @ mean)[:, None], local[:, len(mean) :]], axis=1)
    rest = (rest @ mean)[:, None]
    height = (np.asarray(points.height) @ mean)[None]
    arrays = (each.astype(skeleton.rest.dtype) for each in (rest, local, height))
    rest, local, height = arrays
    return replace(points, skeleton=replace(skeleton, rest=rest, local=local), height=height)


def _shares(points: BodyPoints) -> Float[np.ndarray, "P K"]:
    """Skin weight with which each pair's bone moves its marker."""
    skeleton = points.skeleton
    return np.einsum("kp,kj,pj->pk", skeleton.owner, skeleton.joint, skeleton.bone)
