"""The guided loop in parts: inversion, the guided step, a round of both, and all rounds.

Whoever wants another loop puts the parts together in another way:

    sampler = Sampler.of(prior, body, RefineConfig())
    problem = Problem.of(sampler, estimate, features, [keypoints_2d(keypoints, camera)])
    state = first_state(problem)
    state = replace(state, x=invert(problem, state.x))
    state, losses = jax.lax.scan(partial(guided_step, problem), state, descent(problem))
    refined = result(problem, state)
"""

import math
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from body_model import SMPL, Skeleton
from body_model.pytree import pytree
from scorehmr_jax.diffusion import Level, ddim, ddim_step, ddim_times, predict_x_0
from scorehmr_jax.entry import checked_estimate, checked_mask
from scorehmr_jax.networks.protocol import POSE_DIM
from scorehmr_jax.prior import Prior, x_to_rotations
from scorehmr_jax.screening import OK, screen
from scorehmr_jax.stopping import Never, StepStop
from scorehmr_jax.terms import Term, as_terms, total_loss
from scorehmr_jax.types import Array, Estimate, Hypothesis, Refined


@dataclass(frozen=True)
class RefineConfig:
    """The schedule of the loop. All static: another configuration compiles anew."""

    iterations: int = 10  # rounds of inversion and guided sampling
    start: int = 50  # tau, the level to invert to
    step: int = 2  # levels between two evaluations
    stop: Never = field(
        default_factory=Never
    )  # when a sample is done: Never(), StepStop() or RoundStop()
    camera_rate: float = 1e-2  # Adam's step for the camera translation, metres; 0 holds it
    # Of the denoiser's products, as jax.default_matmul_precision names them; all else is float32.
    network_precision: str = "float32"
    # True keeps the estimate of a sample that no term has evidence about; False sends it through
    # the loop unguided, as the released code does.
    keep_without_evidence: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.stop, Never):
            raise ValueError(
                f"stop: expected a rule: Never(), StepStop() or RoundStop(), found {self.stop!r}"
            )
        if self.iterations < 1 or self.step < 1 or self.start < 1 or self.start % self.step:
            raise ValueError(
                "expected iterations >= 1, step >= 1 and start a multiple of step, found "
                f"iterations={self.iterations}, start={self.start}, step={self.step}"
            )

    @classmethod
    def released(cls, **changes: Any) -> "RefineConfig":
        """The released code's behaviour for images, its early stopping included.

        Args:
            changes: fields that are to differ from it.
        """
        return replace(cls(stop=StepStop(), keep_without_evidence=False), **changes)

    @property
    def times(self) -> Int[np.ndarray, " levels"]:
        """The levels that the loop visits: 0, step, ..., start."""
        return ddim_times(self.start, 0, self.step)


DEFAULTS = RefineConfig()


@pytree
class Sampler:
    """A prior and a body, made ready for the loop: all that no estimate is needed for."""

    prior: Prior  # without its weights
    network: Any  # with them, prepared
    modulations: Any  # what the network knows of the levels; leaves [S + 1, ...]
    skeleton: Skeleton
    config: RefineConfig = field(metadata={"static": True})

    @classmethod
    def of(cls, prior: Prior, body: SMPL | Skeleton, config: RefineConfig = DEFAULTS) -> "Sampler":
        """Prepares a prior and a body.

        Args:
            prior: from `load_prior`.
            body: the skeleton whose keypoints the terms speak of; an SMPL body stands for its
                OpenPose-25 skeleton.
            config: the schedule of the loop.
        Raises:
            ValueError: if the prior has fewer levels than the loop starts at.
        """
        if config.start >= prior.schedule.num_steps:
            raise ValueError(
                f"start: this prior has levels below {prior.schedule.num_steps}, "
                f"found {config.start}"
            )
        skeleton = body if isinstance(body, Skeleton) else Skeleton.of(body)
        with jax.default_matmul_precision("float32"):
            network = prior.prepare()
            modulations = network.modulation(jnp.asarray(config.times))
        return cls(replace(prior, params=None), network, modulations, skeleton, config)


@pytree
class Problem:
    """Samples to refine and what guides them: all that a guided step reads and never changes."""

    sampler: Sampler
    estimate: Estimate  # [..., N] the first; harmless numbers where there is nothing to refine
    first_x: Float[Array, "*N D"]  # the estimate as the diffusion has it
    condition: Any  # what the network knows of the features
    terms: tuple[Term, ...]
    status: Int[Array, "*N"]  # index into STATUS; those that are not 0 are not refined

    @classmethod
    def of(
        cls,
        sampler: Sampler,
        estimate: Estimate,
        features: Float[Array, "... F"] | None,
        terms: Any,
        mask: Array | None = None,
    ) -> "Problem":
        """Checks and screens the samples. Arguments and errors are those of `refine`."""
        prior, skeleton = sampler.prior, sampler.skeleton
        terms, estimate = as_terms(terms), checked_estimate(estimate, skeleton.num_betas)
        features = prior.features_of(estimate.pose, features)
        mask = checked_mask(mask, estimate.pose.shape[:-3])
        # Derived from the samples, it is spread over devices as they are.
        everyone = jnp.ones_like(estimate.betas[..., 0], bool)
        mask = everyone if mask is None else jnp.broadcast_to(mask, everyone.shape)
        keep = sampler.config.keep_without_evidence
        with jax.default_matmul_precision("float32"):
            estimate, features, status = screen(skeleton, estimate, features, terms, mask, keep)
            condition = sampler.network.condition(features)
        return cls(
            sampler, estimate, prior.x_of(estimate.pose, estimate.betas), condition, terms, status
        )

    @property
    def active(self) -> Bool[Array, "*N"]:
        """True for the samples that are refined."""
        return self.status == OK


@pytree
class State:
    """What a guided step carries."""

    x: Float[Array, "*N D"]  # the latent
    x_0: Float[Array, "*N D"]  # the last prediction
    translation: Float[Array, "*N 3"]  # of the body, metres
    first_moment: Float[Array, "*N 3"]  # Adam's, of the translation
    second_moment: Float[Array, "*N 3"]
    taken: Int[Array, ""]  # guided steps so far
    loss: Float[Array, "*N"]  # unweighted, of the step before; infinite at first
    stopped: Bool[Array, "*N"]
    stop_step: Int[Array, "*N"]  # guided step at which the sample stopped; -1: it did not


@pytree
class Move:
    """A step down from one noise level to the next."""

    here: Level
    there: Level
    modulation: Any  # what the network knows of the level it starts from


def first_state(problem: Problem) -> State:
    """The state before the first round: the estimate, at rest."""
    x, translation = problem.first_x, problem.estimate.translation
    at_rest = jnp.zeros_like(translation)
    return State(
        x=x,
        x_0=x,
        translation=translation,
        first_moment=at_rest,
        second_moment=at_rest,
        taken=jnp.zeros((), jnp.int32),
        loss=jnp.full_like(x[..., 0], jnp.inf),
        stopped=jnp.zeros_like(problem.status, bool),
        stop_step=jnp.full_like(problem.status, -1),
    )


def descent(problem: Problem) -> Move:
    """The steps from the highest level down to 0, leaves [S, ...], to scan over."""
    sampler = problem.sampler
    levels = sampler.prior.schedule.at(jnp.asarray(sampler.config.times), problem.first_x.dtype)

    def rows(tree: Any, which: slice) -> Any:
        return jax.tree.map(lambda leaf: leaf[which], tree)

    down = slice(None, 0, -1)
    return Move(
        rows(levels, down), rows(levels, slice(-2, None, -1)), rows(sampler.modulations, down)
    )


def invert(problem: Problem, x: Float[Array, "*N D"]) -> Float[Array, "*N D"]:
    """DDIM inversion: the latent at the highest level that leads back to a pose.

    Args:
        problem: whose prior it is.
        x: [..., N, D] the latent at level 0.
    """
    sampler = problem.sampler
    modulations = jax.tree.map(lambda leaf: leaf[:-1], sampler.modulations)
    noise = partial(_noise, problem)
    return ddim(noise, sampler.prior.schedule, x, sampler.config.times, inputs=modulations)[0]


def guided_step(problem: Problem, state: State, move: Move) -> tuple[State, Float[Array, "*N"]]:
    """One step of DDIM, its noise moved down the gradient of the terms (paper, Eq. 9 and 10).

    The translation takes a step of Adam on the same gradient.

    Args:
        problem: what is refined and what guides it.
        state: of the step before; of `first_state` at first, with x at the highest level.
        move: one row of `descent`.
    Returns:
        The state after it, and the unweighted loss of each sample before it.
    """
    config, here = problem.sampler.config, move.here
    noise = _noise(problem, state.x, move.modulation)
    x_0 = predict_x_0(here, state.x, noise)
    loss = partial(_loss, problem, here.sqrt_one_minus)
    slopes, losses = jax.grad(loss, (0, 1), has_aux=True)(x_0, state.translation)
    stopped = state.stopped | config.stop.after_step(state.loss, losses)
    # A sample that stops takes this step unguided, and its result is frozen after it.
    slope, translation_slope = (jnp.where(stopped[..., None], 0, slope) for slope in slopes)
    # The noise counts as a constant here: no gradient flows through the denoiser.
    guided = noise + here.sqrt_one_minus * here.sqrt_recip * slope
    x_0 = predict_x_0(here, state.x, guided)
    frozen = state.stopped[..., None]
    moved = _move_camera(state, translation_slope, config.camera_rate)
    after = replace(
        moved,
        x=ddim_step(move.there, x_0, guided),
        x_0=jnp.where(frozen, state.x_0, x_0),
        translation=jnp.where(frozen, state.translation, moved.translation),
        loss=losses,
        stopped=stopped,
        stop_step=jnp.where(stopped & ~state.stopped, state.taken, state.stop_step),
    )
    return after, losses


def guided_round(problem: Problem, state: State) -> tuple[State, Float[Array, " S *N"]]:
    """Inverts to the highest level, and samples back to level 0 under guidance.

    Args:
        problem: what is refined and what guides it.
        state: of the round before, or of `first_state`.
    Returns:
        The state after it, and the unweighted losses before each guided step.
    """
    before = state.loss
    state = replace(state, x=invert(problem, state.x))
    # Reverse mode works each step out again, so that it need not keep what is inside.
    step = jax.checkpoint(partial(guided_step, problem), prevent_cse=False)
    state, losses = jax.lax.scan(step, state, descent(problem))
    done = problem.sampler.config.stop.after_round(before, state.loss) & ~state.stopped
    stop_step = jnp.where(done, state.taken - 1, state.stop_step)
    return replace(state, stopped=state.stopped | done, stop_step=stop_step), losses


def run(problem: Problem) -> tuple[State, Float[Array, " S *N"]]:
    """All rounds, until every sample has stopped.

    Returns:
        The last state, and the unweighted losses before each guided step; NaN once all have
        stopped.
    """
    config = problem.sampler.config

    def round_or_nothing(state: State, _: None) -> tuple[State, Array]:
        if not config.stop.stops:
            return guided_round(problem, state)
        nothing = jnp.full_like(state.loss, jnp.nan)
        nothing = jnp.broadcast_to(nothing, (len(config.times) - 1, *nothing.shape))
        finished = jnp.all(state.stopped | ~problem.active)
        return jax.lax.cond(
            finished, lambda state: (state, nothing), partial(guided_round, problem), state
        )

    state, losses = jax.lax.scan(
        jax.checkpoint(round_or_nothing, prevent_cse=False),
        first_state(problem),
        None,
        config.iterations,
    )
    return state, losses.reshape(-1, *losses.shape[2:])


def result(problem: Problem, state: State) -> Refined:
    """The body of a state."""
    return Refined(
        pose=x_to_rotations(state.x_0),
        betas=problem.sampler.prior.betas_of(state.x_0, problem.estimate.betas),
        translation=state.translation,
        pose_6d=state.x_0[..., :POSE_DIM],
    )


def _noise(problem: Problem, x: Array, modulation: Any) -> Array:
    sampler = problem.sampler
    with jax.default_matmul_precision(sampler.config.network_precision):
        return sampler.network(x, modulation, problem.condition).astype(x.dtype)


def _loss(
    problem: Problem, noise_std: Array, x_0: Array, translation: Array
) -> tuple[Array, Array]:
    """The weighted sum of the terms, and the unweighted loss of each sample."""
    estimate, sampler = problem.estimate, problem.sampler
    # A sample that has diverged is taken out of its group, or its neighbours would follow.
    sane = jnp.isfinite(x_0).all(-1) & jnp.isfinite(translation).all(-1)
    x_0 = jnp.where(sane[..., None], x_0, problem.first_x)
    pose, betas = x_to_rotations(x_0), sampler.prior.betas_of(x_0, estimate.betas)
    hypothesis = Hypothesis(
        pose_6d=x_0[..., :POSE_DIM],
        pose=pose,
        betas=betas,
        joints=sampler.skeleton(pose, betas),
        translation=jnp.where(sane[..., None], translation, estimate.translation),
        mask=problem.active & sane,
        noise_std=noise_std,
        first=estimate,
    )
    with jax.default_matmul_precision("float32"):
        return total_loss(problem.terms, hypothesis)


def _move_camera(state: State, slope: Array, rate: float) -> State:
    """One step of Adam (Kingma and Ba, 2015) on the translation."""
    taken = state.taken + 1
    count = taken.astype(slope.dtype)
    # 1 - decay**count, which in float32 would lose most of its digits at first.
    first_bias, second_bias = (-jnp.expm1(count * math.log(decay)) for decay in (0.9, 0.999))
    first = 0.9 * state.first_moment + 0.1 * slope
    second = 0.999 * state.second_moment + 0.001 * slope**2
    # Where nothing has pulled yet, the root's gradient would be infinite.
    unmoved = second == 0
    size = jnp.sqrt(jnp.where(unmoved, 1, second) / second_bias)
    size = jnp.where(unmoved, 0, size) + 1e-8
    return replace(
        state,
        translation=state.translation - rate * first / first_bias / size,
        first_moment=first,
        second_moment=second,
        taken=taken,
    )
