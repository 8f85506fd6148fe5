"""The guided loop (paper, Algorithm 1): invert to a noise level, sample back under guidance.

`refine` is one pure function; `make_refiner` compiles it. What becomes of samples that cannot be
refined is in screening.py.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from body_model import SMPL, Skeleton
from body_model.pytree import pytree
from scorehmr_jax.diffusion import Level, ddim_step, predict_x_0
from scorehmr_jax.guidance import Term, as_terms
from scorehmr_jax.networks.protocol import POSE_DIM, Prepared
from scorehmr_jax.prior import Prior, x_to_rotations
from scorehmr_jax.screening import (
    OK,
    checked_estimate,
    checked_mask,
    hypothesis,
    screen,
    settle,
)
from scorehmr_jax.types import Array, Estimate, Refined


@dataclass(frozen=True)
class RefineConfig:
    """How to refine. All static: another configuration compiles anew."""

    iterations: int = 10  # rounds of inversion and guided sampling
    start: int = 50  # tau, the level to invert to
    step: int = 2  # levels between two evaluations
    # When a sample is done. "never"; "step": its loss changed by less than the tolerance over
    # one guided step, which is the released rule and often fires at a turning point; "round":
    # over a whole round.
    stop: str = "never"
    tolerance: float = 1e-5  # relative change of the loss
    camera_rate: float = 1e-2  # Adam's step for the camera translation, metres; 0 holds it
    # Of the denoiser's products, as jax.default_matmul_precision names them; all else is float32.
    network_precision: str = "float32"
    # The released code returns a sample without keypoints after an unguided round trip.
    keep_without_evidence: bool = True

    def __post_init__(self) -> None:
        if self.stop not in ("never", "step", "round"):
            raise ValueError(f"stop: expected never, step or round, found {self.stop!r}")
        if self.iterations < 1 or self.step < 1 or self.start < 1 or self.start % self.step:
            raise ValueError(
                "expected iterations >= 1, step >= 1 and start a multiple of step, found "
                f"iterations={self.iterations}, start={self.start}, step={self.step}"
            )

    @classmethod
    def released(cls, **changes: Any) -> "RefineConfig":
        """The released code's behaviour for images, its early stopping included."""
        return replace(cls(stop="step", keep_without_evidence=False), **changes)


@pytree
class Info:
    """What happened to each sample."""

    status: Array  # [..., N] index into STATUS; 0: refined
    stop_step: Array  # [..., N] guided step at which the sample stopped; -1: it did not
    losses: Array  # [S, ..., N] unweighted loss before each guided step; NaN once all stopped


class _State(NamedTuple):
    """What a guided step carries."""

    x: Array  # [..., N, D]
    x_0: Array  # [..., N, D] the last prediction
    camera: Array  # [..., N, 3] translation
    first_moment: Array  # [..., N, 3] Adam's, of the camera
    second_moment: Array
    taken: Array  # guided steps so far
    loss: Array  # [..., N] of the step before
    stopped: Array  # [..., N]
    stop_step: Array  # [..., N]


def refine(
    prior: Prior,
    body: SMPL | Skeleton,
    estimate: Estimate,
    features: Array | None,
    terms: Any,
    config: RefineConfig = RefineConfig(),
    mask: Array | None = None,
) -> tuple[Refined, Info]:
    """Refines a first estimate so that it explains the evidence and stays plausible.

    Leading axes [..., N]: N is one group, such as the frames of a video, the views of a person,
    or independent images; the axes before it are many groups of one size, padded if need be.
    A video of any length is one group: memory grows by about 60 kB a frame with the released
    network. Differentiable in reverse mode by everything traced, in bounded memory.

    Call it inside your own `jit`, or through `make_refiner`: by itself it compiles at every call.
    Under `vmap` the early exit saves no time, as both ways of a branch are taken; leading axes do
    the same and keep it.

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
    skeleton = body if isinstance(body, Skeleton) else Skeleton.of(body)
    with jax.default_matmul_precision("float32"):
        network = prior.prepare()
        return _refine(prior, network, skeleton, estimate, features, as_terms(terms), config, mask)


def make_refiner(
    prior: Prior, body: SMPL | Skeleton, config: RefineConfig = RefineConfig()
) -> Callable[..., tuple[Refined, Info]]:
    """`refine` compiled: (estimate, features, terms, mask=None) -> (Refined, Info).

    One compilation for each set of shapes and kinds of terms; new numbers never recompile.
    """
    skeleton = body if isinstance(body, Skeleton) else Skeleton.of(body)

    with jax.default_matmul_precision("float32"):
        network = jax.jit(prior.prepare)()
    rest = replace(prior, params=None)

    @jax.jit
    def compiled(
        prior: Prior,
        network: Prepared,
        skeleton: Skeleton,
        estimate: Estimate,
        features: Array | None,
        terms: tuple[Term, ...],
        mask: Array | None,
    ) -> tuple[Refined, Info]:
        with jax.default_matmul_precision("float32"):
            return _refine(prior, network, skeleton, estimate, features, terms, config, mask)

    def refiner(
        estimate: Estimate, features: Array | None, terms: Any, mask: Array | None = None
    ) -> tuple[Refined, Info]:
        return compiled(rest, network, skeleton, estimate, features, as_terms(terms), mask)

    return refiner


def _refine(
    prior: Prior,
    network: Prepared,
    skeleton: Skeleton,
    estimate: Estimate,
    features: Array | None,
    terms: tuple[Term, ...],
    config: RefineConfig,
    mask: Array | None,
) -> tuple[Refined, Info]:
    if config.start >= prior.schedule.num_steps:
        raise ValueError(
            f"start: this prior has levels below {prior.schedule.num_steps}, found {config.start}"
        )
    estimate = checked_estimate(estimate, skeleton)
    features = prior.features_of(estimate.pose, features)
    batch = estimate.betas.shape[:-1]
    mask = checked_mask(mask, batch)
    clean, features, status = screen(
        prior, skeleton, estimate, features, terms, mask, config.keep_without_evidence
    )
    refined, stop_step, losses = _loop(
        prior, network, skeleton, clean, features, terms, config, status == OK
    )
    refined, status = settle(skeleton, estimate, refined, terms, status)
    return refined, Info(status, jnp.where(status == OK, stop_step, -1), losses)


def _loop(
    prior: Prior,
    network: Prepared,
    skeleton: Skeleton,
    estimate: Estimate,
    features: Array | None,
    terms: tuple[Term, ...],
    config: RefineConfig,
    active: Array,
) -> tuple[Refined, Array, Array]:
    condition = network.condition(features)
    x = prior.x_of(estimate.pose, estimate.betas)

    def rows(here: np.ndarray, there: np.ndarray) -> tuple[Level, Level, Any]:
        source, target = (prior.schedule.at(jnp.asarray(t), x.dtype) for t in (here, there))
        return source, target, network.modulation(jnp.asarray(here))

    times = np.arange(0, config.start + 1, config.step)
    upward, downward = rows(times[:-1], times[1:]), rows(times[:0:-1], times[-2::-1])

    start = x

    def loss(x_0: Array, camera: Array) -> tuple[Array, Array]:
        # A sample that has diverged is taken out of its group, or its neighbours would follow.
        sane = jnp.isfinite(x_0).all(-1) & jnp.isfinite(camera).all(-1)
        x_0 = jnp.where(sane[..., None], x_0, start)
        camera = jnp.where(sane[..., None], camera, estimate.translation)
        body = hypothesis(prior, skeleton, x_0, estimate.betas, camera, active & sane)
        # Observations of another precision than the pose's must not change what the loop carries.
        losses = [jnp.where(active & sane, term(body), 0).astype(x.dtype) for term in terms]
        total = sum(jnp.sum(term.weight * each) for term, each in zip(terms, losses, strict=True))
        return total, sum(losses)  # type: ignore[return-value]

    def predict_noise(x: Array, modulation: Any) -> Array:
        with jax.default_matmul_precision(config.network_precision):
            return network(x, modulation, condition).astype(x.dtype)

    def invert(x: Array, row: tuple[Level, Level, Any]) -> tuple[Array, None]:
        here, there, modulation = row
        noise = predict_noise(x, modulation)
        return ddim_step(there, predict_x_0(here, x, noise), noise), None

    def guide(state: _State, row: tuple[Level, Level, Any]) -> tuple[_State, Array]:
        here, there, modulation = row
        noise = predict_noise(state.x, modulation)
        x_0 = predict_x_0(here, state.x, noise)
        (_, losses), (slope, camera_slope) = jax.value_and_grad(loss, (0, 1), has_aux=True)(
            x_0, state.camera
        )
        stopped = state.stopped
        if config.stop == "step":
            stopped |= _unchanged(state.loss, losses, config.tolerance)
        if config.stop != "never":
            # A sample that stops takes this step unguided, and its result is frozen after it.
            slope = jnp.where(stopped[..., None], 0, slope)
            camera_slope = jnp.where(stopped[..., None], 0, camera_slope)
        # The noise counts as a constant here: no gradient flows through the denoiser.
        guided = noise + here.sqrt_one_minus * here.sqrt_recip * slope
        x_0 = predict_x_0(here, state.x, guided)
        after = _move_camera(state, camera_slope, config.camera_rate)._replace(
            x=ddim_step(there, x_0, guided),
            x_0=x_0,
            loss=losses,
            stopped=stopped,
            stop_step=jnp.where(stopped & ~state.stopped, state.taken, state.stop_step),
        )
        if config.stop != "never":
            frozen = state.stopped[..., None]
            after = after._replace(
                x_0=jnp.where(frozen, state.x_0, after.x_0),
                camera=jnp.where(frozen, state.camera, after.camera),
            )
        return after, losses

    def one_round(state: _State) -> tuple[_State, Array]:
        before = state.loss
        x, _ = jax.lax.scan(jax.checkpoint(invert, prevent_cse=False), state.x, upward)
        state, losses = jax.lax.scan(
            jax.checkpoint(guide, prevent_cse=False), state._replace(x=x), downward
        )
        if config.stop == "round":
            still = _unchanged(before, state.loss, config.tolerance) & ~state.stopped
            state = state._replace(
                stopped=state.stopped | still,
                stop_step=jnp.where(still, state.taken - 1, state.stop_step),
            )
        return state, losses

    def round_or_rest(state: _State, _: None) -> tuple[_State, Array]:
        if config.stop == "never":
            return one_round(state)
        rest = jnp.full((len(times) - 1, *active.shape), jnp.nan, state.loss.dtype)
        return jax.lax.cond(jnp.all(state.stopped | ~active), lambda s: (s, rest), one_round, state)

    still = jnp.zeros_like(estimate.translation)
    state = _State(
        x=x,
        x_0=x,
        camera=estimate.translation,
        first_moment=still,
        second_moment=still,
        taken=jnp.zeros((), jnp.int32),
        loss=jnp.full(active.shape, jnp.inf, x.dtype),
        stopped=jnp.zeros(active.shape, bool),
        stop_step=jnp.full(active.shape, -1, jnp.int32),
    )
    state, losses = jax.lax.scan(
        jax.checkpoint(round_or_rest, prevent_cse=False), state, None, config.iterations
    )
    refined = Refined(
        pose=x_to_rotations(state.x_0),
        betas=prior.betas_of(state.x_0, estimate.betas),
        translation=state.camera,
        pose_6d=state.x_0[..., :POSE_DIM],
    )
    return refined, state.stop_step, losses.reshape(-1, *active.shape)


def _move_camera(state: _State, slope: Array, rate: float) -> _State:
    """One step of Adam (Kingma and Ba, 2015) on the camera translation."""
    taken = state.taken + 1
    count = taken.astype(slope.dtype)
    # 1 - decay**count, which in float32 would lose most of its digits at first.
    first_bias, second_bias = (-jnp.expm1(count * math.log(decay)) for decay in (0.9, 0.999))
    first = 0.9 * state.first_moment + 0.1 * slope
    second = 0.999 * state.second_moment + 0.001 * slope**2
    # Where nothing has pulled yet, the root's gradient would be infinite.
    still = second == 0
    size = jnp.sqrt(jnp.where(still, 1, second) / second_bias)
    size = jnp.where(still, 0, size) + 1e-8
    camera = state.camera - rate * first / first_bias / size
    return state._replace(camera=camera, first_moment=first, second_moment=second, taken=taken)


def _unchanged(before: Array, now: Array, tolerance: float) -> Array:
    # Before the first step the loss is infinite, and infinity over itself is no answer.
    known = jnp.isfinite(before)
    before = jnp.where(known, before, 0)
    change = jnp.abs(before - now) / jnp.maximum(jnp.maximum(before, now), 1)
    return known & (change < tolerance)
