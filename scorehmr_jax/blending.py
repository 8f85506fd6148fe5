"""The way back: a result between the first estimate and its refinement, safer than either.

The errors of an estimate and of its refinement are partly independent. A pose between the two is
therefore often nearer to the truth than both, and seldom much farther off than the estimate.
"""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from body_model import Skeleton
from body_model.joints import NUM_JOINTS
from body_model.procrustes import similarity
from body_model.pytree import pytree
from scorehmr_jax.diffusion import single_at_least
from scorehmr_jax.prior import rotations_to_x, x_to_rotations
from scorehmr_jax.screening import as_hypothesis, as_refined, choose
from scorehmr_jax.terms import Term, misfit
from scorehmr_jax.types import Array, Estimate, Refined

# A body that moved by less, metres, or a misfit below this, counts as this much.
_LEAST = 1e-9
# Beyond this, logarithms of what a frame of a video tells its neighbours are cut off.
_FAR = 2.0


@pytree
class Change:
    """The difference that a refinement made to each sample: what a rule decides by."""

    moved: Float[Array, "*N"]  # of the 24 joints, best aligned; root mean square, metres
    misfit: Float[Array, "*N"]  # to the measurements, over that of the estimate; 1: none to judge


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

    frames: float = 1.5  # standard deviation of the window

    def __post_init__(self) -> None:
        if not self.frames > 0:
            raise ValueError(f"frames: expected a number above 0, found {self.frames}")

    def __call__(self, estimate: Estimate, mask: Bool[Array, "*N"]) -> Estimate:
        x = rotations_to_x(estimate.pose)
        mean = jnp.where(mask[..., None], _windowed(x, mask, self.frames), x)
        return replace(estimate, pose=x_to_rotations(mean))


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

    The share of the body is d^p / (d^p + D^p m^q), where d is how far the joints moved and m the
    misfit to the measurements, as a part of that of the estimate. A refinement that hardly moved a
    good estimate gains little and may harm; the farther it moved, the more was wrong before.
    """

    blends: ClassVar[bool] = True
    distance: float = 0.03  # D, metres: half is kept of what moved by it, at the misfit of before
    power: float = 2.0  # p
    misfit_power: float = 0.0  # q
    most: float = 1.0  # largest share
    root_factor: float = 3.0  # the root keeps so many times the share of the body, at most 1
    translation: float = 1.0  # the body's place is what keypoints tell best
    # Standard deviation of the window that log d and log m are averaged over, frames of a video;
    # 0: none. Shares that change from frame to frame would shake the motion.
    frames: float = 0.0

    def __post_init__(self) -> None:
        for name, least in (
            ("distance", 1e-6),
            ("power", 0),
            ("misfit_power", 0),
            ("root_factor", 0),
            ("frames", 0),
        ):
            if not least <= getattr(self, name):
                raise ValueError(f"{name}: expected {least} or more, found {getattr(self, name)}")
        for name in ("most", "translation"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected a share, 0 to 1, found {getattr(self, name)}")

    def shares(self, change: Change, mask: Bool[Array, "*N"]) -> Shares:
        far, worse = jnp.log(change.moved / self.distance), jnp.log(change.misfit)
        if self.frames:
            # One frame that is far off must not decide for those around it.
            both: Any = jnp.clip(jnp.stack([far, worse], -1), -_FAR, _FAR)
            both = _windowed(both, mask, self.frames)
            far, worse = both[..., 0], both[..., 1]
        share = self.most * jax.nn.sigmoid(self.power * far - self.misfit_power * worse)
        root = jnp.minimum(self.root_factor * share, 1)
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
    if first is None or last is None:
        return Change(moved, jnp.ones_like(moved))
    # A loss is a square, in the measurement's own unit.
    first, last = (jnp.asarray(loss, number) + _LEAST for loss in (first, last))
    return Change(moved, jnp.sqrt(last / first))


def _squared_distance(
    moved: Float[Array, "*N J 3"], still: Float[Array, "*N J 3"]
) -> Float[Array, "*N"]:
    """Mean squared distance of points after the similarity transform that makes it least."""
    a, b = (jnp.asarray(p) - p.mean(-2, keepdims=True) for p in (moved, still))
    rotation, scale = similarity(a, b)
    with jax.default_matmul_precision("float32"):
        off = scale[..., None, None] * (a @ rotation) - b
    return jnp.square(off).sum(-1).mean(-1)


def _windowed(
    values: Float[Array, "*N M"], mask: Bool[Array, "*N"], frames: float
) -> Float[Array, "*N M"]:
    """Means under a Gaussian window along N, over the samples of the mask."""
    there = mask[..., None].astype(values.dtype)
    # Together: what is averaged, and how much of it there is.
    both = jnp.concatenate([jnp.where(mask[..., None], values, 0), there], -1)
    count = mask.shape[-1]
    reach = min(int(np.ceil(3 * frames)), count - 1)
    shifts = np.arange(-reach, reach + 1)
    kernel = jnp.asarray(np.exp(-0.5 * (shifts / frames) ** 2)[:, None], values.dtype)
    width = [(0, 0)] * both.ndim
    width[-2] = (reach, reach)
    near = np.arange(count)[:, None] + np.arange(len(shifts))
    windows = jnp.pad(both, width)[..., near, :]  # [..., N, shifts, M + 1]
    total = jnp.sum(windows * kernel.reshape((1,) * (both.ndim - 1) + kernel.shape), axis=-2)
    weight = total[..., -1:]
    return total[..., :-1] / jnp.where(weight == 0, 1, weight)
