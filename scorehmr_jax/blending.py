"""The way back: a result between the first estimate and its refinement, safer than either.

The errors of an estimate and of its refinement are partly independent. A pose between the two is
therefore often nearer to the truth than both, and seldom much farther off than the estimate.
"""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from body_model import Skeleton
from body_model.joints import NUM_JOINTS
from body_model.procrustes import similarity
from body_model.pytree import pytree
from scorehmr_jax.camera import for_samples, reach_along_view
from scorehmr_jax.diffusion import single_at_least
from scorehmr_jax.guidance import keypoint_terms
from scorehmr_jax.prior import rotations_to_x, x_to_rotations
from scorehmr_jax.screening import as_hypothesis, as_refined, choose
from scorehmr_jax.terms import Term, misfit
from scorehmr_jax.types import Array, Estimate, Refined
from scorehmr_jax.windows import windowed_curve, windowed_mean

# A body that moved by less, metres, or a misfit below this, counts as this much.
_LEAST = 1e-9
# Metres that bones reach along the view in usual poses, in the mean.
_USUAL_DEPTH = 0.06
# Beyond this, logarithms of what a frame of a video tells its neighbours are cut off.
_FAR = 2.0


@pytree
class Change:
    """The difference that a refinement made to each sample: what a rule decides by."""

    moved: Float[Array, "*N"]  # of the 24 joints, best aligned; root mean square, metres
    misfit: Float[Array, "*N"]  # to the measurements, over that of the estimate; 1: none to judge
    # Mean reach of the refinement's bones along the view, metres; 0.06 where no camera is known.
    depth: Float[Array, "*N"]


@pytree
class Shares:
    """Shares of a refinement that are kept, each between 0 and 1; the rest is the anchor's."""

    body: Float[Array, "*N"]  # of the rotations of all joints but the root
    root: Float[Array, "*N"]
    translation: Float[Array, "*N"]


@dataclass(frozen=True)
class FirstEstimate:
    """The estimate itself as the anchor. The base of the other anchors."""

    def __call__(self, estimate: Estimate, mask: Bool[Array, "*N"]) -> Estimate:
        """Makes the anchor of each sample.

        Args:
            estimate: [..., N] the first.
            mask: True for the samples that are refined.
        """
        return estimate


@dataclass(frozen=True)
class SmoothedEstimate(FirstEstimate):
    """The estimates of a video under a Gaussian window."""

    frames: float = 2.0  # standard deviation of the window
    curved: bool = True  # follows fast motion by a parabola in the window; False: its mean

    def __post_init__(self) -> None:
        if not self.frames > 0:
            raise ValueError(f"frames: expected a number above 0, found {self.frames}")

    def __call__(self, estimate: Estimate, mask: Bool[Array, "*N"]) -> Estimate:
        x = rotations_to_x(estimate.pose)
        smoothed = (windowed_curve if self.curved else windowed_mean)(x, mask, self.frames)
        return replace(estimate, pose=x_to_rotations(jnp.where(mask[..., None], smoothed, x)))


@dataclass(frozen=True)
class MeanOfViews(FirstEstimate):
    """The mean body pose of all views of a person, under each view's own root."""

    def __call__(self, estimate: Estimate, mask: Bool[Array, "*N"]) -> Estimate:
        x, there = rotations_to_x(estimate.pose), mask[..., None]
        count = jnp.maximum(there.sum(-2, keepdims=True), 1).astype(x.dtype)
        mean = jnp.where(there, x, 0).sum(-2, keepdims=True) / count
        mean = jnp.where(there, mean, x)
        own = jnp.concatenate([x[..., :6], mean[..., 6:]], -1)
        return replace(estimate, pose=x_to_rotations(own))


@dataclass(frozen=True)
class KeepAll:
    """Keeps the whole refinement, as the paper does. The base of the other rules.

    A rule of your own is a frozen dataclass derived from this one, with `blends = True`, an
    `anchor` and `shares`. It is static: another rule, or another number in it, compiles anew.
    """

    blends: ClassVar[bool] = False  # whether anything is to be done
    anchor: FirstEstimate = field(default_factory=FirstEstimate, kw_only=True)

    def shares(self, change: Change, mask: Bool[Array, "*N"]) -> Shares:
        """Decides how much of each sample's refinement is kept.

        Args:
            change: that the refinement made, [..., N].
            mask: True for the samples that were refined.
        """
        whole = jnp.ones_like(change.moved)
        return Shares(whole, whole, whole)


@dataclass(frozen=True)
class FixedShares(KeepAll):
    """Keeps the same shares of every refinement."""

    blends: ClassVar[bool] = True
    body: float = 0.5
    root: float = 0.75
    translation: float = 1.0

    def __post_init__(self) -> None:
        for name in ("body", "root", "translation"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected a share, 0 to 1, found {getattr(self, name)}")

    def shares(self, change: Change, mask: Bool[Array, "*N"]) -> Shares:
        one = jnp.ones_like(change.moved)
        return Shares(self.body * one, self.root * one, self.translation * one)


@dataclass(frozen=True)
class GatedShares(KeepAll):
    """Keeps more of a refinement the farther it moved the body and the better it explains it.

    The share of the body is d^p / (d^p + D^p m^q z^r), where d is how far the joints moved, m the
    misfit to the measurements, as a part of that of the estimate, and z the mean extent of the
    refinement's bones along the view, over its usual 6 cm. A refinement that hardly moved a good
    estimate gains little and may harm; the farther it moved, the more was wrong before. Of bones
    that point at the camera keypoints tell little.
    """

    blends: ClassVar[bool] = True
    distance: float = 0.03  # D, metres: half is kept of what moved by it, at the misfit of before
    power: float = 2.0  # p
    misfit_power: float = 0.0  # q
    depth_power: float = 0.0  # r
    most: float = 1.0  # largest share
    # The root keeps root_least, and root_factor times the share of the body; at most 1.
    root_least: float = 0.0
    root_factor: float = 3.0
    translation: float = 1.0  # the body's place is what keypoints tell best
    # Standard deviation of the window that logarithms of d, m and z are averaged over, frames of a
    # video; 0: none. Shares that change from frame to frame would shake the motion.
    frames: float = 0.0

    def __post_init__(self) -> None:
        for name, least in (
            ("distance", 1e-6),
            ("power", 0),
            ("misfit_power", 0),
            ("depth_power", 0),
            ("root_factor", 0),
            ("frames", 0),
        ):
            if not least <= getattr(self, name):
                raise ValueError(f"{name}: expected {least} or more, found {getattr(self, name)}")
        for name in ("most", "root_least", "translation"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected a share, 0 to 1, found {getattr(self, name)}")

    def shares(self, change: Change, mask: Bool[Array, "*N"]) -> Shares:
        seen = [change.moved / self.distance, change.misfit, (change.depth + _LEAST) / _USUAL_DEPTH]
        logs: Any = jnp.log(jnp.stack(seen, -1))
        if self.frames:
            # One frame that is far off must not decide for those around it.
            logs = windowed_mean(jnp.clip(logs, -_FAR, _FAR), mask, self.frames)
        powers = jnp.asarray([self.power, -self.misfit_power, -self.depth_power], logs.dtype)
        powers = powers.reshape((1,) * (logs.ndim - 1) + powers.shape)
        share = self.most * jax.nn.sigmoid(jnp.sum(powers * logs, -1))
        root = jnp.minimum(self.root_least + self.root_factor * share, 1)
        return Shares(share, root, jnp.full_like(share, self.translation))


def blend(
    rule: KeepAll,
    skeleton: Skeleton,
    terms: tuple[Term, ...],
    estimate: Estimate,
    refined: Refined,
    mask: Bool[Array, "*N"],
    one_shape: bool = False,
) -> tuple[Refined, Shares]:
    """Takes refinements back towards their estimates, as a rule says.

    Rotations are blended in 6D and made orthonormal again; the shape goes with the translation,
    as the one was found for the other.

    Args:
        rule: how much is kept, and what the rest is.
        skeleton, terms: what the samples were refined with.
        estimate: [..., N] the first; harmless numbers where nothing was refined.
        refined: [..., N] what came of it.
        mask: True for the samples that were refined; the others stay as they are and reach nobody.
        one_shape: the samples of a group have one shape, and are to keep one.
    Returns:
        The blended bodies, and the shares that were kept.
    """
    tame = choose(mask, refined, as_refined(estimate))
    shares = rule.shares(_change(skeleton, terms, estimate, tame, mask), mask)
    anchor = rule.anchor(estimate, mask)
    start, end = (rotations_to_x(pose) for pose in (anchor.pose, tame.pose))
    body = jnp.broadcast_to(shares.body[..., None], (*mask.shape, NUM_JOINTS - 1))
    each = jnp.repeat(jnp.concatenate([shares.root[..., None], body], -1), 6, axis=-1)
    x = start + each.astype(start.dtype) * (end - start)
    place = shares.translation[..., None].astype(start.dtype)
    shape = place
    if one_shape:
        count = jnp.maximum(mask.sum(-1, keepdims=True), 1).astype(place.dtype)
        shape = jnp.where(mask, place[..., 0], 0).sum(-1, keepdims=True) / count
        shape = jnp.broadcast_to(shape, mask.shape)[..., None]
    blended = Refined(
        pose=x_to_rotations(x),
        betas=anchor.betas + shape * (tame.betas - anchor.betas),
        translation=anchor.translation + place * (tame.translation - anchor.translation),
        pose_6d=x,
    )
    return choose(mask, blended, refined), shares


def _change(
    skeleton: Skeleton,
    terms: tuple[Term, ...],
    estimate: Estimate,
    refined: Refined,
    mask: Bool[Array, "*N"],
) -> Change:
    number = single_at_least(refined.pose.dtype)
    before, after = (skeleton.joints(b.pose, estimate.betas) for b in (estimate, refined))
    squared = _squared_distance(after.astype(number), before.astype(number))
    bodies = (as_hypothesis(skeleton, body, mask, estimate) for body in (estimate, refined))
    first, last = (misfit(terms, body) for body in bodies)
    moved = jnp.sqrt(jnp.maximum(squared, _LEAST**2))
    told = keypoint_terms(terms)
    depth: Array = jnp.full_like(moved, _USUAL_DEPTH)
    if told:
        camera = jax.tree.map(lambda a: jnp.asarray(a, number), told[0].camera)
        depth = reach_along_view(after.astype(number), for_samples(camera, mask.shape))
    if first is None or last is None:
        return Change(moved, jnp.ones_like(moved), depth)
    # A loss is a square, in the measurement's own unit.
    first, last = (jnp.asarray(loss, number) + _LEAST for loss in (first, last))
    return Change(moved, jnp.sqrt(last / first), depth)


def _squared_distance(
    moved: Float[Array, "*N J 3"], still: Float[Array, "*N J 3"]
) -> Float[Array, "*N"]:
    """Mean squared distance of points after the similarity transform that makes it least."""
    a, b = (jnp.asarray(p) - p.mean(-2, keepdims=True) for p in (moved, still))
    rotation, scale = similarity(a, b)
    with jax.default_matmul_precision("float32"):
        off = scale[..., None, None] * (a @ rotation) - b
    return jnp.square(off).sum(-1).mean(-1)
