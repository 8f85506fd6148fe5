"""Damped Gauss-Newton steps (Levenberg, 1944; Marquardt, 1963) that move a body onto points.

The unknowns of each pose are eliminated from the normal equations first, and what is left decides
the shape, so that many poses can share one. Batch axes come last: M samples.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float

from body_model.joints import PARENTS
from body_model.kinematics import multiply
from body_model.pytree import Array, pytree
from scorehmr_jax.lift_points import BodyPoints, Placed, place
from scorehmr_jax.pose_gaussian import PoseGaussian

_LIMIT_WEIGHT = 100.0  # 1 / radians^2: a limit gives way by a tenth of a radian
_FIRST_DAMPING = 1e-2
_DAMPING = (1e-5, 1e3)
_LEAST_CURVATURE = 1e-3  # of unknowns that nothing is known of, which stay where they are
_ROOT = 3  # unknowns of the root's rotation, which the prior leaves alone


@pytree
class Evidence:
    """Points that a body is moved onto."""

    points: Float[Array, "K 3 M"]  # metres
    weight: Float[Array, "K M"]  # 1 / metres^2; 0: not seen
    rays: Float[Array, "K 2 M"] | None  # x / z and y / z in the camera frame, where seen in 2D
    ray_weight: Float[Array, "K M"] | None  # 1 / metres^2 across the ray


@pytree
class Pose:
    """What is sought, except the shape."""

    root: Float[Array, "3 3 M"]  # rotation in the camera frame
    angles: Float[Array, "69 M"]  # axis-angle of the other joints, radians
    origin: Float[Array, "3 M"]  # body to the frame of the points, metres
    translation: Float[Array, "3 M"] | None  # body to camera; None: the same as the origin


@pytree
class Shape:
    """What is known of the shape beside the points: each number is usual around 0 with spread 1."""

    height: Float[Array, " C"]  # of the body, metres: mean, per shape number
    known: Float[Array, " G"]  # height of each group's person, metres
    known_weight: Float[Array, " G"]  # 1 / metres^2; 0: not known
    scale: Float[Array, " G"]  # of the points' evidence, as all may be wrong in the same way

    def change(
        self,
        betas: Float[Array, "B M"],
        hessian: Float[Array, "M B B"],
        gradient: Float[Array, "M B"],
    ) -> Float[Array, "B M"]:
        """Solves for the step of the shape numbers that the samples of each group share.

        Args:
            betas: [B, M], the samples of a group one after the other.
            hessian, gradient: what is left of the normal equations without the pose.
        """
        groups = len(self.scale)
        each = betas.shape[1] // groups  # not left to reshape: there may be no shape numbers
        hessian, gradient = (
            self.scale.reshape(-1, *(1,) * (a.ndim - 1))
            * a.reshape(groups, each, *a.shape[1:]).sum(1)
            for a in (hessian, gradient)
        )
        now = betas.reshape(len(betas), groups, each)[..., 0].T  # [G, B]
        mean, slope = self.height[0], self.height[1:]
        off = mean + now @ slope - self.known
        hessian = hessian + self.known_weight[:, None, None] * slope[:, None] * slope
        hessian = hessian + jnp.eye(len(betas), dtype=betas.dtype)
        gradient = gradient + (self.known_weight * off)[:, None] * slope + now
        change = -jnp.linalg.solve(hessian, gradient[..., None])[..., 0]
        return jnp.repeat(change.T, each, axis=1)


def matrices(pose: Pose) -> Float[Array, "24 3 3 M"]:
    """Gives the rotations of all joints, relative to their parents."""
    turned = _exponential(pose.angles.reshape(23, 3, -1))[0]
    return jnp.concatenate([pose.root[None], turned])


def steps(
    body: BodyPoints,
    prior: PoseGaussian,
    evidence: Evidence,
    shape: Shape,
    pose: Pose,
    count: int,
) -> tuple[Pose, Float[Array, "B M"]]:
    """Makes damped steps from a pose and the mean shape.

    Args:
        body, prior, evidence, shape: what the body is moved by.
        pose: where to start.
        count: of steps.
    Returns:
        The pose and the shape numbers.
    """
    samples = evidence.weight.shape[1]
    betas = jnp.zeros((body.skeleton.num_betas, samples), pose.angles.dtype)
    damping = jnp.full(samples, _FIRST_DAMPING, pose.angles.dtype)

    def once(state: tuple[Pose, jax.Array, jax.Array], _: None) -> tuple[Any, None]:
        return _step(body, prior, evidence, shape, *state), None

    (pose, betas, _), _ = jax.lax.scan(once, (pose, betas, damping), None, length=count)
    return pose, betas


def _step(
    body: BodyPoints,
    prior: PoseGaussian,
    evidence: Evidence,
    shape: Shape,
    pose: Pose,
    betas: Float[Array, "B M"],
    damping: Float[Array, " M"],
) -> tuple[Pose, Float[Array, "B M"], Float[Array, " M"]]:
    """Makes one step; a pose that it would make worse stays where it is."""
    placed = place(body, matrices(pose), betas)
    rows, weight = _rows(pose, placed, evidence)
    products = jnp.einsum("mra,mrb->mab", rows * weight[..., None], rows)
    unknowns = rows.shape[-1] - 1 - len(betas)
    pull, outside, energy = prior.pull(pose.angles, _LIMIT_WEIGHT)
    energy = energy + products[:, -1, -1] / 2

    inner = slice(_ROOT, _ROOT + len(pull))
    hessian = products[:, :unknowns, :unknowns].at[:, inner, inner].add(prior.precision)
    diagonal = damping[:, None] * jnp.diagonal(hessian, axis1=1, axis2=2) + _LEAST_CURVATURE
    diagonal = diagonal.at[:, inner].add(outside.T)
    hessian = hessian + diagonal[..., None] * jnp.eye(unknowns, dtype=pull.dtype)
    right = products[:, :unknowns, unknowns:].at[:, inner, -1].add(pull.T)
    factor = lax.linalg.cholesky(hessian, symmetrize_input=False)
    half = lax.linalg.triangular_solve(factor, right, left_side=True, lower=True)
    left = products[:, unknowns:, unknowns:] - jnp.einsum("mua,mub->mab", half, half)
    change = shape.change(betas, left[:, :-1, :-1], left[:, :-1, -1])
    half_turn = half[..., -1:] + half[..., :-1] @ change.T[..., None]
    turn = lax.linalg.triangular_solve(
        factor, half_turn, left_side=True, lower=True, transpose_a=True
    )[..., 0]

    moved, betas = _moved(pose, -turn.T), betas + change
    better = _energy(body, prior, evidence, moved, betas) < energy
    damping = jnp.clip(jnp.where(better, damping / 10, damping * 10), *_DAMPING)
    pose = jax.tree.map(lambda new, old: jnp.where(better, new, old), moved, pose)
    return pose, betas, damping


def _energy(
    body: BodyPoints,
    prior: PoseGaussian,
    evidence: Evidence,
    pose: Pose,
    betas: Float[Array, "B M"],
) -> Float[Array, " M"]:
    """Works out half the sum of weighted squares that the steps make smaller."""
    placed = place(body, matrices(pose), betas)
    total = prior.pull(pose.angles, _LIMIT_WEIGHT)[2]
    for off, weight in _residuals(pose, placed.points, evidence):
        total = total + (weight * (off**2).sum(1)).sum(0) / 2
    return total


def _rows(
    pose: Pose, placed: Placed, evidence: Evidence
) -> tuple[Float[Array, "M R U"], Float[Array, "M R"]]:
    """Derivatives of all residuals by pose and shape, the residuals as last column; and weights."""
    axes = _axes(pose, placed.rotations)
    x, y, z = (axes[:, i] for i in range(3))
    u, v, w = (placed.arms[:, :, i, None] for i in range(3))
    turned = jnp.stack([y * w - z * v, z * u - x * w, x * v - y * u], 1)  # [K, 3, 24, 3, M]
    count, samples = evidence.weight.shape
    turned = turned.reshape(count, 3, -1, samples)
    moved = jnp.broadcast_to(jnp.eye(3, dtype=turned.dtype)[..., None], (count, 3, 3, samples))
    still = jnp.zeros_like(moved)
    residuals = _residuals(pose, placed.points, evidence)
    off, weight = residuals[0]
    columns = [turned, moved] if evidence.rays is None else [turned, moved, still]
    parts = [jnp.concatenate([*columns, placed.by_shape, off[:, :, None]], 2)]
    weights = [jnp.repeat(weight, 3, axis=0)]
    if evidence.rays is not None:
        across, weight = residuals[1]
        seen = jnp.concatenate([turned, still, moved, placed.by_shape], 2)
        seen = seen[:, :2] - evidence.rays[:, :, None] * seen[:, 2:]
        parts.append(jnp.concatenate([seen, across[:, :, None]], 2))
        weights.append(jnp.repeat(weight, 2, axis=0))
    rows = jnp.concatenate([part.reshape(-1, *part.shape[2:]) for part in parts])
    return jnp.moveaxis(rows, -1, 0), jnp.concatenate(weights).T


def _axes(pose: Pose, rotations: Array) -> Array:
    """World axes of the turns that each unknown of the rotations stands for, [24, 3, 3, M]."""
    jacobian = _exponential(pose.angles.reshape(23, 3, -1))[1]
    identity = jnp.broadcast_to(jnp.eye(3, dtype=jacobian.dtype)[..., None], rotations.shape[1:])
    below = multiply(rotations[np.array(PARENTS[1:])], jacobian)
    return jnp.concatenate([identity[None], below])


def _moved(pose: Pose, change: Array) -> Pose:
    """A pose after a step [U, M]."""
    turn = _exponential(change[None, :_ROOT])[0]
    origin = pose.origin + change[72:75]
    return Pose(
        root=multiply(turn, pose.root[None])[0],
        angles=pose.angles + change[_ROOT:72],
        origin=origin,
        translation=None if pose.translation is None else pose.translation + change[75:78],
    )


def _exponential(a: Array) -> tuple[Array, Array]:
    """Rotations of axis-angles [J, 3, M] and how they turn with them (left Jacobians)."""
    squared = (a**2).sum(1)[:, None, None]
    small = squared < 0.01
    angle = jnp.sqrt(jnp.where(small, 1.0, squared))
    near = jnp.where(small, squared, 0.0)
    sine = jnp.where(small, 1 - near / 6 + near**2 / 120, jnp.sin(angle) / angle)
    cosine = jnp.where(
        small, 0.5 - near / 24 + near**2 / 720, 2 * (jnp.sin(angle / 2) / angle) ** 2
    )
    rest = jnp.where(
        small, 1 / 6 - near / 120 + near**2 / 5040, (1 - sine) / jnp.where(small, 1.0, squared)
    )
    x, y, z = a[:, 0], a[:, 1], a[:, 2]
    o = jnp.zeros_like(x)
    cross = jnp.stack([o, -z, y, z, o, -x, -y, x, o], 1).reshape(len(a), 3, 3, -1)
    outer = a[:, :, None] * a[:, None]
    identity = jnp.eye(3, dtype=a.dtype)[..., None]
    rotation = (1 - squared * cosine) * identity + sine * cross + cosine * outer
    return rotation, sine * identity + cosine * cross + rest * outer


def _residuals(pose: Pose, points: Array, evidence: Evidence) -> list[tuple[Array, Array]]:
    """The distances [K, 3, M] to the points and [K, 2, M] across the rays, with weights [K, M]."""
    off = points + pose.origin - evidence.points
    found = [(off, evidence.weight)]
    if evidence.rays is not None:
        assert evidence.ray_weight is not None and pose.translation is not None
        seen = points + pose.translation
        found.append((seen[:, :2] - evidence.rays * seen[:, 2:], evidence.ray_weight))
    return found
