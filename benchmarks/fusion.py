"""One body from the estimates of several calibrated views, without any optimisation."""

import jax.numpy as jnp

import scorehmr_jax as sh
from body_model import Skeleton


def fused(skeleton: Skeleton, estimate: sh.Estimate, camera: sh.Camera) -> sh.Estimate:
    """The median of the views' poses and places in the frame that the cameras have in common.

    Args:
        skeleton: of the body.
        estimate: [V, N] each in the frame of its camera.
        camera: [V, N] or [V, 1], from the common frame.
    Returns:
        [N] bodies, of one shape for each [N].
    """
    back = jnp.swapaxes(camera.rotation, -1, -2)
    pose, betas = estimate.pose, estimate.betas
    pose = pose.at[:, :, 0].set(back @ pose[:, :, 0])
    # A rotation turns a body about the frame's origin, and the pelvis is not at the body's.
    rest = skeleton.rest[:3]
    pelvis = rest[:, 0] + betas @ rest[:, 1:].T
    there = pelvis + estimate.translation - camera.translation
    turn = jnp.broadcast_to(back, (*pose.shape[:2], 3, 3))
    moved = jnp.einsum("vnij,vnj->vni", turn, there)
    middle = sh.x_to_rotations(jnp.median(sh.rotations_to_x(pose), axis=0))
    shape = betas.mean(0)
    place = jnp.median(moved, axis=0) - (rest[:, 0] + shape @ rest[:, 1:].T)
    return sh.Estimate(middle, shape, place)
