"""Refinement of a first estimate (paper, Algorithm 1): one pure function, plain or compiled.

The parts of the loop are in sampler.py, what they work on in problem.py, and what becomes of
samples that cannot be refined in screening.py.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Float

from body_model import SMPL, Skeleton
from body_model.arithmetic import native, native_fields
from scorehmr_jax.blending import blend
from scorehmr_jax.checks import check_shapes, check_units, checked_estimate, checked_mask
from scorehmr_jax.confidence import Signs, calibration_of, expect, of_refined, signs_of
from scorehmr_jax.denoised_steps import run_fit
from scorehmr_jax.prior import Prior
from scorehmr_jax.problem import Problem, Setup
from scorehmr_jax.refine_config import DEFAULTS, RefineConfig
from scorehmr_jax.sampler import first_state, result, run
from scorehmr_jax.screening import OK, settle
from scorehmr_jax.terms import Term, as_terms
from scorehmr_jax.types import Array, Estimate, Info, Refined

__all__ = ["Info", "RefineConfig", "Refiner", "make_refiner", "refine"]


@runtime_checkable
class Refiner(Protocol):
    """A compiled refinement, as `make_refiner` gives it."""

    def __call__(
        self,
        estimate: Estimate,
        features: Float[Array, "... F"] | None,
        terms: Any,
        mask: Array | None = None,
    ) -> tuple[Refined, Info]:
        """Refines. Arguments, results and errors are those of `refine`."""


def refine(
    prior: Prior,
    body: SMPL | Skeleton,
    estimate: Estimate,
    features: Float[Array, "... F"] | None,
    terms: Any,
    config: RefineConfig = DEFAULTS,
    mask: Array | None = None,
) -> tuple[Refined, Info]:
    """Refines a first estimate so that it explains the evidence and stays plausible.

    Leading axes [..., N]: N is one group, such as the frames of a video, the views of a person,
    or independent images; the axes before it are many groups of one size, padded if need be.
    A video of any length is one group: memory grows by about 60 kB a frame with the released
    network. Differentiable in reverse mode by everything traced, in bounded memory.

    Compiled once for each set of shapes and kinds of terms. Whoever calls it many times takes
    `make_refiner`, which also prepares the prior and the body only once. Under `vmap` the early
    exit saves no time, as both ways of a branch are taken; leading axes do the same and keep it.

    Args:
        prior: from `load_prior`.
        body: the skeleton whose keypoints the terms speak of; an SMPL body stands for its
            OpenPose-25 skeleton.
        estimate: pose [..., N, 24, 3, 3], betas [..., N, 10], translation [..., N, 3].
        features: [..., N, F], standardised; None for a prior that needs none from outside.
        terms: one or a list of `keypoints_2d`, `multiview`, `smooth`, `weighted`, or functions
            from a `Hypothesis` to a loss per sample.
        config: the schedule of the loop.
        mask: [..., N] False for padding, which changes nothing.
    Returns:
        The refined bodies and what happened to each, in the precision of the estimate's pose.
    Raises:
        ValueError: if shapes do not fit.
    """
    return make_refiner(prior, body, config)(estimate, features, terms, mask)


def make_refiner(prior: Prior, body: SMPL | Skeleton, config: RefineConfig = DEFAULTS) -> Refiner:
    """Prepares and compiles `refine` for one prior, body and configuration.

    One compilation for each set of shapes and kinds of terms, which other refiners of the same
    configuration share; new numbers never recompile.

    Args:
        prior, body, config: as `refine` has them.
    Returns:
        A function (estimate, features, terms, mask=None) -> (Refined, Info).
    Raises:
        ValueError: if the prior has fewer levels than the loop starts at.
    """
    skeleton = body if isinstance(body, Skeleton) else Skeleton.of(body)
    # On the device once, the schedule and the skeleton too.
    setup = _prepared(prior, skeleton, config)

    def refiner(
        estimate: Estimate,
        features: Float[Array, "... F"] | None,
        terms: Any,
        mask: Array | None = None,
    ) -> tuple[Refined, Info]:
        return _compiled(setup, *_checked(setup, estimate, features, terms, mask))

    return refiner


def _checked(
    setup: Setup, estimate: Estimate, features: Array | None, terms: Any, mask: Array | None
) -> tuple[Estimate, Array | None, tuple[Term, ...], Array | None]:
    """The arguments of `refine`, after all checks that need numbers."""
    terms = as_terms(terms)
    batch = check_shapes(estimate, setup.skeleton.num_betas)
    estimate = native_fields("estimate", estimate, Estimate)
    check_units(estimate, terms)
    features = None if features is None else native("features", features)
    return estimate, features, terms, checked_mask(mask, batch)


def refine_with_signs(
    setup: Setup,
    estimate: Estimate,
    features: Array | None,
    terms: tuple[Term, ...],
    mask: Array | None,
) -> tuple[Refined, Info, Callable[[], Signs]]:
    """Refines, and can tell what is to be seen of it: `refine` after its checks, not compiled.

    Args:
        setup: the prior, the body and the loop.
        estimate, features, terms, mask: as `refine` has them, checked.
    Returns:
        As `refine`, without an expectation, and a function that looks for the signs.
    """
    with jax.default_matmul_precision("float32"):
        problem = Problem.of(setup, estimate, features, terms, mask)
        state = first_state(problem)
        parts = []
        if setup.config.denoised_fit is not None:
            state, of_fit = run_fit(problem, state)
            parts.append(of_fit)
        if setup.config.iterations:
            state, of_rounds = run(problem, state)
            parts.append(of_rounds)
        losses = jnp.concatenate(parts)
        estimate = checked_estimate(estimate)
        whole, status = settle(
            setup.skeleton, estimate, result(problem, state), terms, problem.status
        )
        refined, kept = whole, None
        if setup.config.blend.blends:
            # After the diverged ones are out: between an estimate and a body that has left the
            # camera's sight lies one that nobody would find fault with.
            refined, shares = blend(
                setup.config.blend,
                setup.skeleton,
                terms,
                problem.estimate,
                refined,
                status == OK,
                setup.config.share_shape,
            )
            refined, status = settle(setup.skeleton, estimate, refined, terms, status)
            kept = jnp.where(status == OK, shares.body, 0)

    def signs() -> Signs:
        with jax.default_matmul_precision("float32"):
            return signs_of(setup.skeleton, terms, problem.estimate, whole, refined, status == OK)

    info = Info(status, jnp.where(status == OK, state.stop_step, -1), losses, kept)
    return refined, info, signs


def _refine(
    setup: Setup,
    estimate: Estimate,
    features: Array | None,
    terms: tuple[Term, ...],
    mask: Array | None,
) -> tuple[Refined, Info]:
    refined, info, signs = refine_with_signs(setup, estimate, features, terms, mask)
    calibration = calibration_of(setup.config, terms)
    if calibration is not None:
        expected = of_refined(expect(calibration, signs()), info.status == OK)
        info = replace(info, expected=expected)
    return refined, info


_prepared = jax.jit(Setup.of, static_argnums=2)
_compiled = jax.jit(_refine)
