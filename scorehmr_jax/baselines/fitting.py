"""What every baseline that fits a body has in common: its inputs, its losses, its result, descent.

What is fitted is one vector of numbers for each sample, [..., N, D]; a method says how a body is
made of it and what it adds to the evidence.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from body_model import SMPL, Skeleton
from body_model.pytree import pytree
from scorehmr_jax.baselines.lbfgs import minimize
from scorehmr_jax.checks import check_units, checked_estimate, checked_mask
from scorehmr_jax.guidance import KeypointTerm
from scorehmr_jax.moments import Moments, adam_step
from scorehmr_jax.prior import rotations_to_x
from scorehmr_jax.screening import OK, screen, settle
from scorehmr_jax.terms import Term, WeightedTerm, as_terms, total_loss
from scorehmr_jax.types import Array, Estimate, Hypothesis, Info, Refined

# From the numbers [..., N, D] to what is made small for each sample [..., N], and to the
# unweighted loss of its evidence.
Objective = Callable[[Array], tuple[Array, Array]]


@pytree
class Fitting:
    """Samples to fit and the evidence, screened as `refine` does."""

    skeleton: Skeleton
    given: Estimate  # [..., N]
    clean: Estimate  # [..., N] with harmless numbers where there is nothing to fit
    terms: tuple[Term, ...]
    status: Int[Array, "*N"]  # index into STATUS; those that are not 0 are not fitted

    @classmethod
    def of(
        cls, body: SMPL | Skeleton, estimate: Estimate, terms: Any, mask: Array | None = None
    ) -> "Fitting":
        """Checks and screens the samples. Arguments and errors are those of `refine`."""
        skeleton = body if isinstance(body, Skeleton) else Skeleton.of(body)
        terms, estimate = as_terms(terms), checked_estimate(estimate, skeleton.num_betas)
        check_units(estimate, terms)
        batch = estimate.pose.shape[:-3]
        mask = checked_mask(mask, batch)
        mask = jnp.ones(batch, bool) if mask is None else jnp.broadcast_to(mask, batch)
        clean, _, status = screen(skeleton, estimate, None, terms, mask)
        return cls(skeleton, estimate, clean, terms, status)

    @property
    def active(self) -> Bool[Array, "*N"]:
        """True for the samples that are fitted."""
        return self.status == OK

    @property
    def coupled(self) -> bool:
        """Whether a sample's loss may depend on the others of its group."""
        return not all(map(_is_of_one_sample, self.terms))

    def losses(
        self,
        pose: Float[Array, "*N 24 3 3"],
        betas: Float[Array, "*N B"],
        translation: Float[Array, "*N 3"],
        pose_6d: Float[Array, "*N 144"] | None = None,
        terms: tuple[Term, ...] | None = None,
    ) -> tuple[Float[Array, "*N"], Float[Array, "*N"], Bool[Array, "*N"]]:
        """Works out the evidence's losses.

        Args:
            pose, betas, translation: of bodies.
            pose_6d: as a method has it, if it is not that of the pose.
            terms: in place of those that were given.
        Returns:
            The weighted and the unweighted sum over the terms, 0 for what is not fitted; and
            True where a sample counts. One that has diverged is taken out of its group, or its
            neighbours would follow.
        """
        x = rotations_to_x(pose) if pose_6d is None else pose_6d
        first = self.clean
        sane = jnp.isfinite(x).all(-1) & jnp.isfinite(pose).all((-3, -2, -1))
        sane &= jnp.isfinite(betas).all(-1) & jnp.isfinite(translation).all(-1)
        pose = jnp.where(sane[..., None, None, None], pose, first.pose)
        betas = jnp.where(sane[..., None], betas, first.betas)
        hypothesis = Hypothesis(
            pose_6d=jnp.where(sane[..., None], x, rotations_to_x(first.pose)),
            pose=pose,
            betas=betas,
            joints=self.skeleton(pose, betas),
            translation=jnp.where(sane[..., None], translation, first.translation),
            mask=self.active & sane,
            noise_std=jnp.zeros((), x.dtype),
            first=first,
        )
        weighted = unweighted = jnp.zeros_like(x[..., 0])
        for term in self.terms if terms is None else terms:
            _, each = total_loss((term,), hypothesis)
            weight = jnp.where(hypothesis.mask, jnp.asarray(term.weight, each.dtype), 0)
            weighted, unweighted = weighted + weight * each, unweighted + each
        return weighted, unweighted, hypothesis.mask

    def settled(self, found: Refined, losses: Float[Array, " S *N"]) -> tuple[Refined, Info]:
        """Puts the estimate back where nothing better was found; gives what `refine` returns."""
        refined, status = settle(self.skeleton, self.given, found, self.terms, self.status)
        return refined, Info(status, jnp.full_like(status, -1), losses)


def descend(
    objective: Objective,
    numbers: Float[Array, "*N D"],
    rates: Float[Array, " D"],
    steps: int,
) -> tuple[Float[Array, "*N D"], Float[Array, " S *N"]]:
    """Goes down an objective by Adam.

    Args:
        objective: what is made small.
        numbers: where to start.
        rates: Adam's step for each number.
        steps: so many.
    Returns:
        The numbers after the last step, and the evidence's unweighted losses before each.
    """

    def total(numbers: Array) -> tuple[Array, Array]:
        values, losses = objective(numbers)
        return values.sum(), losses

    def step(state: tuple[Array, Moments], taken: Array) -> tuple[tuple[Array, Moments], Array]:
        slope, losses = jax.grad(total, has_aux=True)(state[0])
        return adam_step(*state, slope, taken, rates), losses

    state = numbers, Moments.at_rest(numbers)
    (numbers, _), losses = jax.lax.scan(step, state, jnp.arange(1, steps + 1))
    return numbers, losses


def solve(
    objective: Objective, numbers: Float[Array, "*N D"], rounds: int, together: bool
) -> tuple[Float[Array, "*N D"], Float[Array, " S *N"]]:
    """Goes down an objective by L-BFGS.

    Args:
        objective: as `descend` has it.
        numbers: where to start.
        rounds: evaluations.
        together: True if the samples of a group depend on each other, and are one problem.
    Returns:
        As `descend`.
    """
    shape, width = numbers.shape, numbers.shape[-1] * (numbers.shape[-2] if together else 1)

    def value_and_slope(x: Array) -> tuple[Array, Array, Array]:
        def total(x: Array) -> tuple[Array, tuple[Array, Array]]:
            values, losses = objective(x.reshape(shape))
            return values.sum(), (values, losses)

        slope, (values, losses) = jax.grad(total, has_aux=True)(x)
        return values.reshape(len(x), -1).sum(-1), slope, losses

    found, losses = minimize(value_and_slope, numbers.reshape(-1, width), rounds)
    return found.reshape(shape), losses


def _is_of_one_sample(term: Term) -> bool:
    while isinstance(term, WeightedTerm):
        term = term.term
    return isinstance(term, KeypointTerm)
