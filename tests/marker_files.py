"""A body in motion, and the markers on it."""

from functools import cache

import numpy as np

import body_model
from body_model.rotations import axis_angle_to_matrix
from scorehmr_jax.marker_places import PLUG_IN_GAIT, normals_of, vertices_of

T = 8
PLACE = np.array([0.3, 0.9, -0.2], np.float32)


@cache
def standing():
    """Markers [T, K, 3] on the stand-in body, which moves its arms, and its pose; metres, y up."""
    body = body_model.stand_in()
    vertices = vertices_of(body, [*PLUG_IN_GAIT.values()])
    angles = np.zeros((T, 24, 3), np.float32)
    angles[:, 0, 1] = np.linspace(0, 1, T)
    angles[:, (16, 17), 2] = np.linspace(-0.8, 0.8, T)[:, None]
    pose = np.asarray(axis_angle_to_matrix(angles))
    skin = np.asarray(body.vertices(pose, None, PLACE))
    return skin[:, vertices] + 0.01 * (normals_of(body)[vertices] @ pose[:, 0].mT), pose
