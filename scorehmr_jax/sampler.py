"""The guided loop in parts: inversion, the guided step, a round of both, and all rounds.

Whoever wants another loop puts the parts together in another way:

    setup = Setup.of(prior, body, RefineConfig())
    problem = Problem.of(setup, estimate, features, [keypoints_2d(keypoints, camera)])
    state = first_state(problem)
    # A configuration with a denoised fit begins with it: state, _ = run_fit(problem, state)
    state = replace(state, x=invert(problem, state.x))
    state, losses = jax.lax.scan(partial(guided_step, problem), state, descent(problem))
    refined = result(problem, state)
"""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from body_model.pytree import pytree
from scorehmr_jax.diffusion import Level, ddim, ddim_step, predict_x_0
from scorehmr_jax.groups import mean_of_group
from scorehmr_jax.moments import Moments, adam_step
from scorehmr_jax.networks.protocol import POSE_DIM
from scorehmr_jax.prior import x_to_rotations
from scorehmr_jax.problem import Problem
from scorehmr_jax.slopes import slopes_of
from scorehmr_jax.types import Array, Refined


@pytree
class State:
    """The part of a refinement that changes from step to step."""

    x: Float[Array, "*N D"]  # the latent
    x_0: Float[Array, "*N D"]  # the last prediction
    translation: Float[Array, "*N 3"]  # of the body, metres
    betas: Float[Array, "*N B"] | None  # None: held as they are, or part of x
    translation_moments: Moments
    betas_moments: Moments | None
    taken: Int[Array, ""]  # steps so far, of the fit and guided ones
    loss: Float[Array, "*N"]  # unweighted, of the step before; infinite at first
    stopped: Bool[Array, "*N"]
    stop_step: Int[Array, "*N"]  # step at which the sample stopped; -1: it did not


@pytree
class Move:
    """A step down from one noise level to the next."""

    here: Level
    there: Level
    modulation: Any  # what the network knows of the level it starts from


def first_state(problem: Problem) -> State:
    """Makes the state before the first round: the estimate, with nothing moved yet."""
    x, translation = problem.first_x, problem.estimate.translation
    config = problem.setup.config
    betas = problem.estimate.betas if config.shape_rate else None
    if betas is not None and config.share_shape:
        betas = mean_of_group(betas, problem.active)
    return State(
        x=x,
        x_0=x,
        translation=translation,
        betas=betas,
        translation_moments=Moments.at_rest(translation),
        betas_moments=None if betas is None else Moments.at_rest(betas),
        taken=jnp.zeros((), jnp.int32),
        loss=jnp.full_like(x[..., 0], jnp.inf),
        stopped=jnp.zeros_like(problem.status, bool),
        stop_step=jnp.full_like(problem.status, -1),
    )


def descent(problem: Problem) -> Move:
    """Lists the steps from the highest level down to 0, leaves [S, ...], to scan over."""
    setup = problem.setup
    levels = setup.prior.schedule.at(jnp.asarray(setup.config.times), problem.first_x.dtype)

    def rows(tree: Any, which: slice) -> Any:
        return jax.tree.map(lambda leaf: leaf[which], tree)

    down = slice(None, 0, -1)
    return Move(
        rows(levels, down), rows(levels, slice(-2, None, -1)), rows(setup.modulations, down)
    )


def invert(problem: Problem, x: Float[Array, "*N D"]) -> Float[Array, "*N D"]:
    """Finds the latent at the highest level that leads back to a pose (DDIM inversion).

    Args:
        problem: whose prior it is.
        x: [..., N, D] the latent at level 0.
    """
    setup = problem.setup
    modulations = jax.tree.map(lambda leaf: leaf[:-1], setup.modulations)
    return ddim(problem.noise, setup.prior.schedule, x, setup.config.times, inputs=modulations)[0]


def guided_step(problem: Problem, state: State, move: Move) -> tuple[State, Float[Array, "*N"]]:
    """Takes one step of DDIM with noise + sqrt(1 - a_t) dL/dx_t (paper, Algorithm 1).

    L is the weighted sum of the terms at the predicted x_0; no gradient flows through the network.
    The translation takes a step of Adam on the same sum, and so does the shape where it is free.

    Args:
        problem: what is refined and what guides it.
        state: of the step before; of `first_state` at first, with x at the highest level.
        move: one row of `descent`.
    Returns:
        The state after it, and the unweighted loss of each sample before it.
    """
    config, here = problem.setup.config, move.here
    noise = problem.noise(state.x, move.modulation)
    x_0 = predict_x_0(here, state.x, noise)
    free = x_0, state.translation, state.betas
    slopes, losses = slopes_of(problem, here.sqrt_one_minus, free)
    stopped = state.stopped | config.stop.after_step(state.loss, losses)
    # A sample that stops takes this step unguided, and its result is frozen after it.
    slope, translation_slope, betas_slope = jax.tree.map(
        lambda slope: jnp.where(stopped[..., None], 0, slope), slopes
    )
    # The noise counts as a constant: dL/dx_t is sqrt(1 / a_t) dL/dx_0.
    guided = noise + config.guidance_scale * here.sqrt_one_minus * here.sqrt_recip * slope
    x_0 = predict_x_0(here, state.x, guided)
    frozen = state.stopped[..., None]
    after = replace(
        placed(problem, state, translation_slope, betas_slope),
        x=ddim_step(move.there, x_0, guided),
        x_0=jnp.where(frozen, state.x_0, x_0),
        loss=losses,
        stopped=stopped,
        stop_step=jnp.where(stopped & ~state.stopped, state.taken, state.stop_step),
    )
    return after, losses


def placed(
    problem: Problem,
    state: State,
    translation_slope: Float[Array, "*N 3"],
    betas_slope: Float[Array, "*N B"] | None,
) -> State:
    """Takes Adam's step of the translation, and of the shape where it is free.

    Args:
        problem: what is refined and what guides it.
        state: of the step before. Samples that have stopped in it stay where they are.
        translation_slope, betas_slope: of the loss.
    Returns:
        The state with these two moved, and one more step counted.
    """
    config, taken, frozen = problem.setup.config, state.taken + 1, state.stopped[..., None]
    translation, moments = adam_step(
        state.translation, state.translation_moments, translation_slope, taken, config.camera_rate
    )
    after = replace(
        state,
        taken=taken,
        translation_moments=moments,
        translation=jnp.where(frozen, state.translation, translation),
    )
    if state.betas is not None and state.betas_moments is not None:
        assert betas_slope is not None
        if config.share_shape:
            betas_slope = mean_of_group(betas_slope, problem.active)
        betas, moments = adam_step(
            state.betas, state.betas_moments, betas_slope, taken, config.shape_rate
        )
        after = replace(after, betas=jnp.where(frozen, state.betas, betas), betas_moments=moments)
    return after


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
    done = problem.setup.config.stop.after_round(before, state.loss) & ~state.stopped
    stop_step = jnp.where(done, state.taken - 1, state.stop_step)
    return replace(state, stopped=state.stopped | done, stop_step=stop_step), losses


def run(problem: Problem, state: State) -> tuple[State, Float[Array, " S *N"]]:
    """Goes through all rounds, until every sample has stopped.

    Args:
        problem: what is refined and what guides it.
        state: of `first_state`, or of a fit before.
    Returns:
        The last state, and the unweighted losses before each guided step; once all have stopped,
        those of the last step stay.
    """
    config = problem.setup.config

    def round_or_nothing(state: State, _: None) -> tuple[State, Array]:
        if not config.stop.stops:
            return guided_round(problem, state)
        # Not NaN, which jax_debug_nans would take for a fault.
        same = jnp.broadcast_to(state.loss, (len(config.times) - 1, *state.loss.shape))
        finished = jnp.all(state.stopped | ~problem.active)
        return jax.lax.cond(
            finished, lambda state: (state, same), partial(guided_round, problem), state
        )

    state, losses = jax.lax.scan(
        jax.checkpoint(round_or_nothing, prevent_cse=False),
        state,
        None,
        config.iterations,
    )
    return state, losses.reshape(losses.shape[0] * losses.shape[1], *losses.shape[2:])


def result(problem: Problem, state: State) -> Refined:
    """Reads the body of a state."""
    betas = problem.estimate.betas if state.betas is None else state.betas
    return Refined(
        pose=x_to_rotations(state.x_0),
        betas=problem.setup.prior.betas_of(state.x_0, betas),
        translation=state.translation,
        pose_6d=state.x_0[..., :POSE_DIM],
    )
