"""Every method that the library is compared with, in one table.

Another baseline is one more entry of BASELINES: `evaluate.py --method NAME` and the benchmarks run
it. What all have in common is the call: a `Refiner`, as `make_refiner` gives it for the loop.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from body_model import SMPL, Skeleton
from scorehmr_jax.baselines.adam import adam
from scorehmr_jax.refine import Refiner
from scorehmr_jax.types import Array, Estimate, Info, Refined

EVERY_TASK = ("keypoints", "multiview", "video")


@dataclass(frozen=True)
class Baseline:
    """A method beside the loop, made ready for one body and one task."""

    name: str
    label: str  # as tables print it
    source: str  # the paper
    tasks: tuple[str, ...]  # keys of `evaluation.tasks.TASKS` that it is for
    # From the skeleton and the task's name to a compiled call with the arguments of `refine`.
    prepare: Callable[[Skeleton, str], Refiner]


def make_baseline(name: str, body: SMPL | Skeleton, task: str) -> Refiner:
    """Prepares and compiles a baseline for one body and task.

    Args:
        name: key of BASELINES.
        body: as `refine` has it.
        task: key of `evaluation.tasks.TASKS`.
    Returns:
        A function (estimate, features, terms, mask=None) -> (Refined, Info), as `make_refiner`
        gives. The terms are the evidence, those that the released loop has; a method adds its own
        losses, and weighs the evidence by its own measure.
    Raises:
        ValueError: if there is no such baseline, or it is not for this task.
    """
    if name not in BASELINES:
        raise ValueError(f"method: expected one of {', '.join(BASELINES)}, found {name!r}")
    baseline = BASELINES[name]
    if task not in baseline.tasks:
        raise ValueError(
            f"method {name}: it is for {', '.join(baseline.tasks)}; found the task {task!r}"
        )
    return baseline.prepare(body if isinstance(body, Skeleton) else Skeleton.of(body), task)


def for_task(task: str) -> tuple[str, ...]:
    """Lists the names of the baselines for a task."""
    return tuple(name for name, baseline in BASELINES.items() if task in baseline.tasks)


# The pull to the estimate that left the least mean PA-MPJPE over all strengths of the open
# benchmark's val split.
_PULLS = {"keypoints": 100.0, "multiview": 100.0, "video": 100.0}


def _adam(skeleton: Skeleton, task: str, pulls: dict[str, float]) -> Refiner:
    # One compiled program serves every pull.
    run = partial(_compiled_adam, skeleton, jnp.asarray(pulls.get(task, 0.0), jnp.float32))

    def refiner(
        estimate: Estimate, features: Array | None, terms: Any, mask: Array | None = None
    ) -> tuple[Refined, Info]:
        return run(estimate, terms, mask)

    return refiner


@jax.jit
def _compiled_adam(
    skeleton: Skeleton, pull: Array, estimate: Estimate, terms: Any, mask: Array | None
) -> tuple[Refined, Info]:
    return adam(skeleton, estimate, terms, pull, mask=mask)


BASELINES = {
    baseline.name: baseline
    for baseline in (
        Baseline(
            "adam-free",
            "Adam",
            "Kingma and Ba, 2015",
            EVERY_TASK,
            partial(_adam, pulls={}),
        ),
        Baseline(
            "adam-pull",
            "Adam + pull to the estimate",
            "Kingma and Ba, 2015",
            EVERY_TASK,
            partial(_adam, pulls=_PULLS),
        ),
    )
}
