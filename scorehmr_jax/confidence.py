"""What a result can be expected to be off, told from what can be seen of its refinement.

The numbers come from `python -m benchmarks.confidence`, which compares what was seen of many
refinements with their truth: docs/confidence.md.
"""

import json
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from body_model import Skeleton
from body_model.joints import NUM_JOINTS
from body_model.procrustes import similarity
from body_model.pytree import pytree
from body_model.rotations import matrix_to_axis_angle
from scorehmr_jax.camera import for_samples, project, reach_along_view, to_camera_frame
from scorehmr_jax.diffusion import single_at_least
from scorehmr_jax.guidance import KeypointTerm, keypoint_terms
from scorehmr_jax.pose_gaussian import PoseGaussian
from scorehmr_jax.refine_config import RefineConfig
from scorehmr_jax.screening import as_refined, choose
from scorehmr_jax.terms import Term, plain
from scorehmr_jax.types import Array, Camera, Estimate, Expectation, Refined

FILE = Path(__file__).with_suffix(".json")
# The numbers that the expectation of a sample is made of, in the order of their weights.
SIGNS = (
    "moved",
    "kept",
    "residual",
    "residual_before",
    "unseen",
    "oddness",
    "depth",
    "around",
    "motion",
)

_LEAST = 1e-3  # metres: shorter ways and distances are all alike
_FAR = 0.2  # metres: keypoints farther off than this count no more
_SEEN = 0.3  # confidence of a keypoint that was seen
_BLIND = 1 - 1e-4  # share unseen that is all: a mean of ones may be a digit less
_MM = 1000.0
_ERRORS = ((), (NUM_JOINTS,))  # axes of the errors of a sample, beside its own
# Fields of a loop that change nothing in what can be expected of its results.
_OF_NO_MATTER = ("network_precision", "keep_without_evidence")


@pytree
class Signs:
    """What can be seen of a refinement without its truth."""

    moved: Float[Array, "*N 24"]  # how far the loop moved each joint, aligned; metres
    kept: Float[Array, "*N"]  # root mean square of the same, from the estimate to the result
    residual: Float[Array, "*N"]  # of the result to the keypoints, metres at its distance
    residual_before: Float[Array, "*N"]  # of the estimate
    unseen: Float[Array, "*N"]  # share of the keypoints that were hardly seen
    oddness: Float[Array, "*N"]  # of the result's pose: energy under a Gaussian over poses
    depth: Float[Array, "*N"]  # mean extent of the result's bones along the view, metres
    around: Float[Array, "*N"]  # how far all of the group moved; root mean square, metres
    motion: Float[Array, "*N"]  # of the group's joints: root mean square, metres / frame^2

    def numbers(self) -> Float[Array, "*N S"]:
        """Makes the numbers that are weighed, in the order of SIGNS; logarithms of all but one."""
        lengths = (_rms(self.moved), self.kept, self.residual, self.residual_before)
        columns = [jnp.log(length + _LEAST) for length in lengths]
        columns += [jnp.asarray(self.unseen), jnp.log(self.oddness + 1)]
        rest = (self.depth, self.around, self.motion)
        columns += [jnp.log(length + _LEAST) for length in rest]
        return jnp.stack(columns, -1)


@dataclass(frozen=True)
class Calibration:
    """How the errors of a loop's results follow from the signs: a few numbers of a loop.

    The expected error is exp(e_0 + e . s), the probability that a sample was made worse is
    1 / (1 + exp(-w_0 - w . s)), and joint j's share of the error is in proportion to
    exp(joints_j) (its way / that of all)^joint_moved; the signs s are held within what was seen
    when the numbers were fitted.
    """

    error: tuple[float, ...]  # 1 + S: of the logarithm of millimetres
    worse: tuple[float, ...]  # 1 + S: of log odds
    joints: tuple[float, ...]  # 24
    joint_moved: float
    low: tuple[float, ...]  # S: the least of each sign
    high: tuple[float, ...]  # S: the largest

    def __post_init__(self) -> None:
        count = len(SIGNS)
        wanted = {"error": 1 + count, "worse": 1 + count, "joints": NUM_JOINTS}
        for name, length in (wanted | {"low": count, "high": count}).items():
            if len(getattr(self, name)) != length:
                found = len(getattr(self, name))
                raise ValueError(f"{name}: expected {length} numbers, found {found}")


def expect(calibration: Calibration, signs: Signs) -> Expectation:
    """Works out what samples with these signs were off, on average, when the truth was known.

    Args:
        calibration: of the loop that made the results.
        signs: [..., N] as `signs_of` finds them.
    Returns:
        The expectation [..., N]. Where no keypoint was seen, nobody knows: the error is infinite,
        and the probability one half.
    """
    seen = signs.numbers()
    number = seen.dtype

    def weighed(weights: tuple[float, ...]) -> Array:
        held = jnp.clip(seen, _row(calibration.low, seen), _row(calibration.high, seen))
        return jnp.sum(held * _row(weights[1:], seen), -1) + jnp.asarray(weights[0], number)

    error = jnp.exp(weighed(calibration.error))
    way = jnp.log((signs.moved + _LEAST) / (_rms(signs.moved)[..., None] + _LEAST))
    share = _row(calibration.joints, seen) + jnp.asarray(calibration.joint_moved, number) * way
    each = error[..., None] * NUM_JOINTS * jax.nn.softmax(share, axis=-1)
    worse = jax.nn.sigmoid(weighed(calibration.worse))
    blind = signs.unseen > _BLIND
    return Expectation(
        worse=jnp.where(blind, 0.5, worse),
        error=jnp.where(blind, jnp.inf, error),
        joint_error=jnp.where(blind[..., None], jnp.inf, each),
    )


def of_refined(expected: Expectation, refined: Bool[Array, "*N"]) -> Expectation:
    """Leaves out the samples that kept their first estimate.

    Args:
        expected: [..., N].
        refined: False where the estimate was kept: it is not worse than it was, and its error is
            not known, which counts as infinite.
    """
    return Expectation(
        worse=jnp.where(refined, expected.worse, 0),
        error=jnp.where(refined, expected.error, jnp.inf),
        joint_error=jnp.where(refined[..., None], expected.joint_error, jnp.inf),
    )


def nobody_knows(refined: Bool[np.ndarray, "*N"]) -> Expectation:
    """An expectation by which nothing is expected; numpy's arrays.

    Args:
        refined: False where the first estimate was kept, or nobody is there.
    """
    known = (np.where(refined, 0.5, 0), *(np.full((*refined.shape, *n), np.inf) for n in _ERRORS))
    return Expectation(*(each.astype(np.float32) for each in known))


def signs_of(
    skeleton: Skeleton,
    terms: tuple[Term, ...],
    estimate: Estimate,
    whole: Refined,
    result: Refined,
    mask: Bool[Array, "*N"],
) -> Signs:
    """Looks for the signs of a refinement; all are finite, and none depends on a masked sample.

    Args:
        skeleton, terms: what the samples were refined with; one of the terms is `keypoints_2d`.
        estimate: [..., N] the first; harmless numbers where nothing was refined.
        whole: [..., N] what the loop made of it, before anything was taken back.
        result: [..., N] what is returned.
        mask: True for the samples that were refined.
    Raises:
        ValueError: if there is no term of keypoints, or there are several.
    """
    told = keypoint_terms(terms)
    if len(told) != 1:
        raise ValueError(f"terms: expected one keypoints_2d among them, found {len(told)}")
    term = told[0]
    still = as_refined(estimate)
    bodies: list[Estimate | Refined] = [estimate]
    bodies += [choose(mask, body, still) for body in (whole, result)]
    number = single_at_least(estimate.pose.dtype)
    first, moved, last = (skeleton.joints(b.pose, b.betas).astype(number) for b in bodies)
    ways = [_distance(joints, first) for joints in (moved, last)]
    camera = jax.tree.map(lambda a: jnp.asarray(a, number), term.camera)
    camera = for_samples(camera, mask.shape)
    residuals = [_residual(skeleton, body, term, camera) for body in (bodies[2], estimate)]
    confidence = jnp.broadcast_to(
        jnp.asarray(term.keypoints.confidence, number), (*mask.shape, skeleton.num_keypoints)
    )
    centred = last - last[..., :1, :]
    bent = centred[..., 2:, :, :] - 2 * centred[..., 1:-1, :, :] + centred[..., :-2, :, :]
    three = mask[..., 2:] & mask[..., 1:-1] & mask[..., :-2]
    return Signs(
        moved=ways[0],
        kept=_rms(ways[1]),
        residual=residuals[0],
        residual_before=residuals[1],
        unseen=(confidence < _SEEN).astype(number).mean(-1),
        oddness=_oddness(bodies[2].pose.astype(number)),
        depth=reach_along_view(last, camera),
        around=_of_group(jnp.square(ways[0]).mean(-1), mask, mask.shape),
        motion=_of_group(jnp.square(bent).sum(-1).mean(-1), three, mask.shape),
    )


def calibration_of(config: RefineConfig, terms: tuple[Term, ...]) -> Calibration | None:
    """Finds the numbers of a loop; None if they were fitted to another one, or to other terms."""
    loop, kinds = loop_of(config), kinds_of(terms)
    for fitted in fits().values():
        if fitted["loop"] == loop and fitted["terms"] == kinds:
            told = fitted["calibration"].items()
            numbers: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in told}
            return Calibration(**numbers)
    return None


def loop_of(config: RefineConfig) -> dict[str, str]:
    """Describes a loop by all that differs from the paper's and matters to its results."""
    paper = RefineConfig()
    own = {f.name: getattr(config, f.name) for f in fields(config) if f.name not in _OF_NO_MATTER}
    return {name: repr(value) for name, value in own.items() if value != getattr(paper, name)}


def kinds_of(terms: tuple[Term, ...]) -> list[str]:
    """Names the kinds of terms, whatever they weigh."""
    return sorted(type(plain(term)).__name__ for term in terms)


@cache
def fits() -> dict[str, dict[str, Any]]:
    """Reads what `python -m benchmarks.confidence --write` wrote: loops and their numbers."""
    return json.loads(FILE.read_text(encoding="utf-8"))


def _row(values: tuple[float, ...] | Array, like: Array) -> Array:
    """Numbers as a row with as many axes as another array."""
    row = jnp.asarray(values, like.dtype)
    return row.reshape((1,) * (like.ndim - 1) + row.shape)


def _rms(ways: Float[Array, "*N J"]) -> Float[Array, "*N"]:
    return jnp.sqrt(jnp.square(ways).mean(-1) + _LEAST**2)


def _of_group(
    squared: Float[Array, "*M"], mask: Bool[Array, "*M"], shape: tuple[int, ...]
) -> Float[Array, "*N"]:
    """The root of a group's mean, for each of its samples."""
    count = jnp.maximum(mask.sum(-1, keepdims=True), 1).astype(squared.dtype)
    mean = jnp.where(mask, squared, 0).sum(-1, keepdims=True) / count
    return jnp.broadcast_to(jnp.sqrt(mean + _LEAST**2), shape)


def _distance(moved: Float[Array, "*N J 3"], still: Float[Array, "*N J 3"]) -> Array:
    """Distances of points [*N J] after the similarity transform that makes them least."""
    a, b = (jnp.asarray(p) - p.mean(-2, keepdims=True) for p in (moved, still))
    rotation, scale = similarity(a, b)
    with jax.default_matmul_precision("float32"):
        off = scale[..., None, None] * (a @ rotation) - b
    return jnp.sqrt(jnp.square(off).sum(-1) + _LEAST**2)


def _residual(
    skeleton: Skeleton, body: Estimate | Refined, term: KeypointTerm, camera: Camera
) -> Float[Array, "*N"]:
    """How far keypoints lie from a body's own, at its distance: root of a robust mean, metres."""
    number = camera.focal.dtype
    joints = skeleton(body.pose, body.betas).astype(number)
    points = joints + body.translation[..., None, :].astype(number)
    pixels, depth = project(points, camera), to_camera_frame(points, camera)[..., 2:]
    xy = jnp.broadcast_to(jnp.asarray(term.keypoints.xy, number), pixels.shape)
    off = (pixels - xy) * depth / jnp.broadcast_to(camera.focal[..., None, :], pixels.shape)
    squared = jnp.square(off).sum(-1)
    confidence = jnp.asarray(term.keypoints.confidence, number)
    weight = jnp.square(jnp.broadcast_to(confidence, squared.shape))
    robust = (weight * _FAR**2 * squared / (_FAR**2 + squared)).sum(-1)
    total = weight.sum(-1)
    return jnp.sqrt(robust / jnp.where(total > 0, total, 1) + _LEAST**2)


def _oddness(pose: Float[Array, "*N 24 3 3"]) -> Float[Array, "*N"]:
    """The energy of poses under the shipped Gaussian: high for what people seldom do."""
    gaussian = PoseGaussian.shipped()
    angles = matrix_to_axis_angle(pose[..., 1:, :, :])
    angles = angles.reshape(*angles.shape[:-2], -1)
    off = angles - _row(gaussian.mean.ravel(), angles)
    precision = jnp.asarray(gaussian.precision, off.dtype)
    with jax.default_matmul_precision("float32"):
        return jnp.maximum(jnp.sum((off @ precision) * off, -1), 0)
