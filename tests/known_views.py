"""People before four cameras, whose poses are known and whose keypoints have no noise."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from body_model import Skeleton
from body_model.joints import SMPL_24
from body_model.open.stand_in import stand_in
from body_model.rotations import axis_angle_to_matrix
from scorehmr_jax.camera import pinhole, project
from scorehmr_jax.evaluation.metrics import pa_mpjpe
from scorehmr_jax.types import Camera, Estimate, Keypoints2D

GROUPS, VIEWS = 3, 4
EVERY = jnp.ones((GROUPS, VIEWS), bool)


@cache
def skeleton() -> Skeleton:
    # Native joints alone: a small program compiles fast.
    return Skeleton.of(stand_in(), SMPL_24)


@cache
def views() -> tuple[Estimate, Estimate, Keypoints2D, Camera]:
    """The truth, estimates some 55 mm off, keypoints and cameras, [GROUPS, VIEWS]."""
    rng = np.random.default_rng(0)

    def draw(*shape):
        return rng.normal(size=shape).astype(np.float32)

    turn = np.pi / 2 * np.arange(VIEWS)[:, None] * np.array([0, 1, 0], np.float32)
    camera = pinhole(jnp.full((GROUPS, VIEWS, 2), 1000.0), 1200.0)

    @jax.jit
    def make(angles, turn, betas, translation, off):
        body = axis_angle_to_matrix(angles)
        upright = axis_angle_to_matrix(turn) @ body[:, :, 0]
        root = jnp.diag(jnp.array([1.0, -1, -1])) @ upright
        pose = jnp.broadcast_to(body, (GROUPS, VIEWS, 24, 3, 3)).at[:, :, 0].set(root)
        xy = project(skeleton()(pose, betas, translation), camera)
        return pose, axis_angle_to_matrix(off) @ pose, xy

    betas = np.broadcast_to(0.5 * draw(GROUPS, 1, 10), (GROUPS, VIEWS, 10))
    translation = np.array([0, 0, 4], np.float32) + 0.2 * draw(GROUPS, VIEWS, 3)
    off = 0.09 * draw(GROUPS, VIEWS, 24, 3)
    angles = 0.3 * draw(GROUPS, 1, 24, 3)
    pose, wrong, xy = make(angles, turn.astype(np.float32), betas, translation, off)
    near = jnp.asarray(translation + 0.05 * draw(GROUPS, VIEWS, 3))
    estimate = Estimate(wrong, jnp.asarray(betas), near)
    truth = Estimate(pose, jnp.asarray(betas), jnp.asarray(translation))
    keypoints = Keypoints2D(xy, jnp.ones(xy.shape[:-1]))
    return truth, estimate, keypoints, camera


@jax.jit
def _joints(pose, betas):
    return skeleton().joints(pose, betas)


def error(found, truth) -> np.ndarray:
    """PA-MPJPE, mm."""
    joints, true = (_joints(b.pose, b.betas) for b in (found, truth))
    return np.asarray(jax.jit(pa_mpjpe)(joints, true))
