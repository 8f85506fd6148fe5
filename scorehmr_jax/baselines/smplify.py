"""SMPLify in one stage, as SPIN fits (Bogo et al., 2016; Kolotouros et al., 2019).

The root and the camera come first, from the keypoints of the torso alone; then pose, shape, root
and camera together. With the frames of a video it is what is called temporal SMPLify or VIBE-opt:
the evidence then holds a term of smoothness, and one person has one shape.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from body_model import SMPL, Skeleton
from body_model.joints import JOINT_NAMES, OPENPOSE_25
from body_model.pytree import pytree
from body_model.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from scorehmr_jax.baselines.fitting import Fitting, descend, solve
from scorehmr_jax.baselines.pose_mixture import PoseMixture
from scorehmr_jax.groups import mean_of_group
from scorehmr_jax.guidance import KEYPOINT_WEIGHT, KeypointTerm
from scorehmr_jax.prior import rotations_to_x
from scorehmr_jax.terms import Term, WeightedTerm
from scorehmr_jax.types import Array, Estimate, Info, Number, Refined

_TORSO = tuple(
    OPENPOSE_25.index(f"{side}_{joint}")
    for joint in ("hip", "shoulder")
    for side in ("left", "right")
)
# The body's angles at which elbows and knees bend, and the sign with which each bends backwards.
_HINGES = {
    3 * JOINT_NAMES.index(name) - 3 + axis: sign
    for name, axis, sign in (
        ("left_elbow", 1, 1.0),
        ("right_elbow", 1, -1.0),
        ("left_knee", 0, -1.0),
        ("right_knee", 0, -1.0),
    )
}
_TURN, _POSE = slice(0, 3), slice(3, 72)  # of a sample's numbers; then shape and translation


@pytree
class SmplifyWeights:
    """What SMPLify adds to the evidence, in units of squared pixels; SPIN's by default."""

    pose: Number = 4.78**2  # of the mixture's energy
    angle: Number = 15.2**2  # of knees and elbows that bend backwards
    shape: Number = 5.0**2  # of the squared shape numbers
    depth: Number = 100.0**2  # of the camera's change of distance while the torso is placed, 1/m^2
    # Times those but depth. Pixels are those of an image of 1000; SPIN's of a crop of 224. Chosen
    # on the val split of the open benchmark.
    all: Number = 3.0


@dataclass(frozen=True)
class SmplifyConfig:
    """The schedule. All static: another configuration compiles anew."""

    camera_steps: int = 100
    steps: int = 100
    rate: float = 0.01  # Adam's step for every number, radians and metres
    solver: str = "adam"  # or "lbfgs", of which `steps` counts the evaluations
    share_shape: bool = False  # True gives one shape to all samples of a group
    torso: tuple[int, ...] = _TORSO  # keypoints of the skeleton that place root and camera

    def __post_init__(self) -> None:
        if self.solver not in ("adam", "lbfgs"):
            raise ValueError(f"solver: expected adam or lbfgs, found {self.solver!r}")
        if self.camera_steps < 0 or self.steps < 1 or not self.rate > 0:
            raise ValueError(
                "expected camera_steps >= 0, steps >= 1 and rate > 0, found "
                f"{self.camera_steps}, {self.steps} and {self.rate}"
            )


_SPIN = SmplifyWeights()


def smplify(
    body: SMPL | Skeleton,
    estimate: Estimate,
    terms: Any,
    config: SmplifyConfig = SmplifyConfig(),
    mask: Array | None = None,
    *,
    mixture: PoseMixture | None = None,
    weights: SmplifyWeights = _SPIN,
) -> tuple[Refined, Info]:
    """Fits bodies to the evidence by SMPLify, from a first estimate.

    The evidence counts with its own weights, of which that of keypoints in the paper is the unit
    of SMPLify's: a keypoint term of that weight is a sum of squared pixels, as SMPLify has it.

    Args:
        body, estimate, terms, mask: as for `refine`.
        config: stages, steps and solver.
        mixture: the prior over poses; the shipped one by default.
        weights: of the priors.
    Returns:
        As `refine`; the losses are those of the second stage.
    Raises:
        ValueError: if shapes do not fit.
    """
    mixture = PoseMixture.shipped() if mixture is None else mixture
    with jax.default_matmul_precision("float32"):
        fitting = Fitting.of(body, estimate, terms, mask)
        numbers = _start(fitting)
        if config.camera_steps:
            numbers = _placed(fitting, numbers, config, weights)
        objective = partial(_objective, fitting, mixture, weights, config.share_shape)
        if config.solver == "adam":
            rates = jnp.full(numbers.shape[-1], config.rate, numbers.dtype)
            numbers, losses = descend(objective, numbers, rates, config.steps)
        else:
            numbers, losses = solve(
                objective, numbers, config.steps, fitting.coupled or config.share_shape
            )
        pose, betas, translation = _body(fitting, numbers, config.share_shape)
        return fitting.settled(Refined(pose, betas, translation, rotations_to_x(pose)), losses)


def _start(fitting: Fitting) -> Array:
    """The estimate as the numbers that are fitted; the root's turn is from the estimate's."""
    clean = fitting.clean
    angles = matrix_to_axis_angle(clean.pose[..., 1:, :, :])
    parts = jnp.zeros_like(clean.translation), angles.reshape(*angles.shape[:-2], -1)
    return jnp.concatenate([*parts, clean.betas, clean.translation], axis=-1)


def _body(fitting: Fitting, numbers: Array, share_shape: bool) -> tuple[Array, Array, Array]:
    """Pose, shape and translation of the numbers that are fitted."""
    angles = numbers[..., _POSE].reshape(*numbers.shape[:-1], -1, 3)
    turned = axis_angle_to_matrix(jnp.concatenate([numbers[..., None, _TURN], angles], axis=-2))
    root = turned[..., :1, :, :] @ fitting.clean.pose[..., :1, :, :]
    betas = numbers[..., _POSE.stop : -3]
    if share_shape:
        betas = mean_of_group(betas, fitting.active)
    pose = jnp.concatenate([root, turned[..., 1:, :, :]], axis=-3)
    return pose, betas, numbers[..., -3:]


def _objective(
    fitting: Fitting,
    mixture: PoseMixture,
    weights: SmplifyWeights,
    share_shape: bool,
    numbers: Array,
) -> tuple[Array, Array]:
    """The second stage's sum for each sample, and the evidence's unweighted loss."""
    pose, betas, translation = _body(fitting, numbers, share_shape)
    evidence, losses, counted = fitting.losses(pose, betas, translation)
    angles = jnp.where(counted[..., None], numbers[..., _POSE], 0)
    betas = jnp.where(counted[..., None], betas, 0)
    priors = weights.pose * mixture.energy(angles)
    for angle, sign in _HINGES.items():
        priors += weights.angle * jnp.exp(2 * sign * angles[..., angle])
    # Views' agreement says nothing of the shape, which would be pulled to the mean unopposed.
    if any(term.measures for term in fitting.terms):
        priors += weights.shape * (betas**2).sum(-1)
    unit = KEYPOINT_WEIGHT * jnp.asarray(weights.all, numbers.dtype)
    return evidence + jnp.where(counted, unit * priors, 0), losses


def _placed(
    fitting: Fitting, numbers: Array, config: SmplifyConfig, weights: SmplifyWeights
) -> Array:
    """The first stage: root and translation from the torso."""
    torso = tuple(_of_torso(term, config.torso) for term in fitting.terms)
    depth = fitting.clean.translation[..., 2]

    def objective(numbers: Array) -> tuple[Array, Array]:
        pose, betas, translation = _body(fitting, numbers, config.share_shape)
        evidence, losses, counted = fitting.losses(pose, betas, translation, terms=torso)
        away = jnp.where(counted, translation[..., 2] - depth, 0)
        return evidence + KEYPOINT_WEIGHT * weights.depth * away**2, losses

    moved = np.zeros(numbers.shape[-1])
    moved[_TURN], moved[-3:] = config.rate, config.rate
    return descend(objective, numbers, jnp.asarray(moved, numbers.dtype), config.camera_steps)[0]


def _of_torso(term: Term, torso: tuple[int, ...]) -> Term:
    """A term of keypoints that sees the torso's alone; another term as it is."""
    if isinstance(term, WeightedTerm):
        return replace(term, term=_of_torso(term.term, torso))
    if not isinstance(term, KeypointTerm):
        return term
    confidence = jnp.asarray(term.keypoints.confidence)
    seen = np.isin(np.arange(confidence.shape[-1]), torso)
    keypoints = replace(term.keypoints, confidence=jnp.where(seen, confidence, 0))
    return replace(term, keypoints=keypoints)
