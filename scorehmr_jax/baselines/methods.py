"""Every method by name, ready to run: the estimate itself, the loop in two modes, baselines."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from body_model import Skeleton
from scorehmr_jax.baselines.registry import BASELINES, learned, make_baseline
from scorehmr_jax.evaluation.protocol import DEFAULT_FPS
from scorehmr_jax.evaluation.tasks import Task
from scorehmr_jax.prior import Prior, rotations_to_x
from scorehmr_jax.refine import Info, Refiner, make_refiner
from scorehmr_jax.types import Array, Estimate, Refined

ESTIMATE, LOOP, DEFAULT = "estimate", "scorehmr", "default"
METHODS = (ESTIMATE, LOOP, DEFAULT, *BASELINES)


@dataclass(frozen=True)
class Method:
    """A method made ready for one body and task."""

    refiner: Refiner
    mode: str  # of the terms that guide it
    config: dict[str, Any]  # what it was made with, as JSON has it
    features: int = 0  # width of the image features that it wants; 0: none
    standardised: bool = True  # False: features as their network gives them


def make_method(
    name: str,
    skeleton: Skeleton,
    task: Task,
    prior: Prior | None = None,
    changes: Mapping[str, Any] | None = None,
    weights: str | Path | None = None,
    fps: float = DEFAULT_FPS,
) -> Method:
    """Prepares a method.

    Args:
        name: one of METHODS: "estimate", "scorehmr" (the loop as released), "default" (our own
            loop) or a baseline.
        skeleton: OPENPOSE_25 of the body.
        task: what it is for.
        prior: of the loop; others have no use for it.
        changes: fields of the loop's configuration that are to differ.
        weights: file of what a baseline was trained with; None: what ships.
        fps: frames per second of the videos.
    Raises:
        ValueError: if there is no such method, it is not for this task, it has no such
            configuration or weights, or the loop has no prior.
    """
    if weights is not None and name not in BASELINES:
        raise ValueError(f"method {name}: it has no weights of its own; found {weights}")
    if name == ESTIMATE:
        return Method(_unchanged, "released", {})
    if name in (LOOP, DEFAULT):
        if prior is None:
            raise ValueError(f"method {name}: expected a prior: its weights")
        mode = "default" if name == DEFAULT else "released"
        config = replace(task.config(mode), **(changes or {}))
        said = asdict(config) | {"stop": str(config.stop), "blend": str(config.blend)}
        width = prior.network.condition_dim if prior.condition_on == "features" else 0
        return Method(make_refiner(prior, skeleton, config), mode, said, width)
    if changes:
        raise ValueError(f"method {name}: has no {', '.join(changes)} to change")
    held = learned(name, weights)
    refiner = make_baseline(name, skeleton, task.name, held, fps)
    return Method(refiner, "released", {}, held.features, held.standardised)


def _unchanged(
    estimate: Estimate, features: Array | None, terms: Any, mask: Array | None = None
) -> tuple[Refined, Info]:
    """Returns the estimate as it is, with status 0: refined."""
    return _as_refined(estimate)


@jax.jit
def _as_refined(estimate: Estimate) -> tuple[Refined, Info]:
    pose = jnp.asarray(estimate.pose)
    status = jnp.zeros(pose.shape[:-3], jnp.int32)
    refined = Refined(pose, estimate.betas, estimate.translation, rotations_to_x(pose))
    return refined, Info(status, status - 1, jnp.zeros((1, *status.shape)))
