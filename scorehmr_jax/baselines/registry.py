"""Every method that the library is compared with, in one table.

Another baseline is one more entry of BASELINES: `evaluate.py --method NAME` and the benchmarks run
it. What all have in common is the call: a `Refiner`, as `make_refiner` gives it for the loop.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax

from body_model import SMPL, Skeleton
from scorehmr_jax.baselines import smoothers
from scorehmr_jax.baselines.adam import adam
from scorehmr_jax.baselines.dposer import dposer
from scorehmr_jax.baselines.flow_weights import load_flow
from scorehmr_jax.baselines.pose_mixture import PoseMixture
from scorehmr_jax.baselines.prohmr import ProhmrWeights, prohmr_fitting
from scorehmr_jax.baselines.smplify import SmplifyConfig, SmplifyWeights, smplify
from scorehmr_jax.load import load_prior
from scorehmr_jax.refine import Refiner
from scorehmr_jax.terms import as_terms
from scorehmr_jax.types import Array, Estimate, Info, Refined

EVERY_TASK = ("keypoints", "multiview", "video")
# The weights of what a method adds to the evidence that left the least mean PA-MPJPE over all
# strengths of the open benchmark's val split, by task.
WEIGHTS = {
    "adam-pull": {"keypoints": 30.0, "multiview": 30.0, "video": 30.0},
    "smplify": {"keypoints": 3.0, "multiview": 0.1, "video": 3.0},
    "flow": {"keypoints": 1.0, "multiview": 10.0, "video": 1.0},
    "dposer": {"keypoints": 30.0, "multiview": 0.3, "video": 30.0},
}

# A method: (skeleton, what it was loaded with, estimate, features, terms, mask) to a result.
Run = Callable[..., tuple[Refined, Info]]


@dataclass(frozen=True)
class Baseline:
    """A method beside the loop."""

    name: str
    label: str  # as tables print it
    source: str  # who described it
    tasks: tuple[str, ...]  # keys of `evaluation.tasks.TASKS` that it is for
    # From the task to the method.
    method: Callable[[str], Run]
    # Reads what it was trained with, from a file or, of None, from the package; None: nothing.
    load: Callable[[str | Path | None], Any] | None = None


def make_baseline(
    name: str, body: SMPL | Skeleton, task: str, weights: str | Path | None = None
) -> Refiner:
    """Prepares and compiles a baseline for one body and task.

    Args:
        name: key of BASELINES.
        body: as `refine` has it.
        task: key of `evaluation.tasks.TASKS`.
        weights: file of what the method was trained with: SMPLify's gmm_08.pkl, a diffusion prior,
            ProHMR's checkpoint; by default what ships, which needs no image features.
    Returns:
        A function (estimate, features, terms, mask=None) -> (Refined, Info), as `make_refiner`
        gives. The terms are the evidence, those that the released loop has; a method adds its own
        losses. Features are used only with weights that are given.
    Raises:
        ValueError: if there is no such baseline, it is not for this task, or has no weights.
    """
    if name not in BASELINES:
        raise ValueError(f"method: expected one of {', '.join(BASELINES)}, found {name!r}")
    baseline = BASELINES[name]
    if task not in baseline.tasks:
        raise ValueError(
            f"method {name}: it is for {', '.join(baseline.tasks)}; found the task {task!r}"
        )
    if weights is not None and baseline.load is None:
        raise ValueError(f"method {name}: it has no weights; found {weights}")
    skeleton = body if isinstance(body, Skeleton) else Skeleton.of(body)
    loaded = None if baseline.load is None else baseline.load(weights)
    static, traced = _parted(loaded)
    method = baseline.method(task)

    @jax.jit
    def compiled(
        skeleton: Skeleton, traced: Any, estimate: Estimate, features: Any, terms: Any, mask: Any
    ) -> tuple[Refined, Info]:
        loaded = traced if static is None else (static, traced)
        return method(skeleton, loaded, estimate, features, terms, mask)

    def refiner(
        estimate: Estimate, features: Array | None, terms: Any, mask: Array | None = None
    ) -> tuple[Refined, Info]:
        told = None if weights is None else features
        return compiled(skeleton, traced, estimate, told, as_terms(terms), mask)

    return refiner


def for_task(task: str) -> tuple[str, ...]:
    """Lists the names of the baselines for a task."""
    return tuple(name for name, baseline in BASELINES.items() if task in baseline.tasks)


def _parted(loaded: Any) -> tuple[Any, Any]:
    """What decides the program, and the numbers in it."""
    return loaded if isinstance(loaded, tuple) else (None, loaded)


def _adam(task: str, pulled: bool) -> Run:
    pull = WEIGHTS["adam-pull"][task] if pulled else 0.0

    def run(skeleton, loaded, estimate, features, terms, mask):
        return adam(skeleton, estimate, terms, pull, mask=mask)

    return run


def _smplify(task: str, temporal: bool) -> Run:
    config = SmplifyConfig(share_shape=temporal)
    weights = SmplifyWeights(all=WEIGHTS["smplify"][task])

    def run(skeleton, mixture, estimate, features, terms, mask):
        if task == "video" and not temporal:
            # Frame by frame: what a term says of the neighbours is left out.
            terms = tuple(term for term in terms if term.measures)
        return smplify(skeleton, estimate, terms, config, mask, mixture=mixture, weights=weights)

    return run


def _dposer(task: str) -> Run:
    weight = WEIGHTS["dposer"][task]

    def run(skeleton, prior, estimate, features, terms, mask):
        return dposer(prior, skeleton, estimate, features, terms, weight, mask=mask)

    return run


def _flow(task: str) -> Run:
    weights = ProhmrWeights(all=WEIGHTS["flow"][task])

    def run(skeleton, flow, estimate, features, terms, mask):
        return prohmr_fitting(flow, skeleton, estimate, features, terms, mask=mask, weights=weights)

    return run


def _filter(task: str, rule: smoothers.Filter) -> Run:
    def run(skeleton, loaded, estimate, features, terms, mask):
        return smoothers.filtered(skeleton, estimate, terms, rule, mask)

    return run


def _mixture(path: str | Path | None) -> PoseMixture:
    return PoseMixture.shipped() if path is None else PoseMixture.read(path)


def _prior(path: str | Path | None) -> Any:
    return load_prior("open-uncond" if path is None else path)


_VIDEO, _VIEWS = ("video",), ("multiview",)
BASELINES = {
    baseline.name: baseline
    for baseline in (
        Baseline(
            "adam-free",
            "Adam",
            "Kingma and Ba, 2015",
            EVERY_TASK,
            partial(_adam, pulled=False),
        ),
        Baseline(
            "adam-pull",
            "Adam + pull to the estimate",
            "Kingma and Ba, 2015",
            EVERY_TASK,
            partial(_adam, pulled=True),
        ),
        Baseline(
            "smplify",
            "SMPLify",
            "Bogo et al., 2016; in one stage: Kolotouros et al., 2019",
            EVERY_TASK,
            partial(_smplify, temporal=False),
            _mixture,
        ),
        Baseline(
            "smplify-temporal",
            "temporal SMPLify",
            "Kocabas et al., 2020 (VIBE-opt)",
            _VIDEO,
            partial(_smplify, temporal=True),
            _mixture,
        ),
        Baseline(
            "flow",
            "ProHMR-fitting",
            "Kolotouros et al., 2021",
            EVERY_TASK,
            _flow,
            load_flow,
        ),
        Baseline(
            "dposer",
            "DPoser",
            "Lu et al., 2023",
            EVERY_TASK,
            _dposer,
            _prior,
        ),
        Baseline(
            "one-euro",
            "one-euro filter",
            "Casiez et al., 2012",
            _VIDEO,
            partial(_filter, rule=smoothers.one_euro()),
        ),
        Baseline(
            "savitzky-golay",
            "Savitzky-Golay filter",
            "Savitzky and Golay, 1964",
            _VIDEO,
            partial(_filter, rule=smoothers.savitzky_golay()),
        ),
        Baseline(
            "gaussian",
            "Gaussian filter",
            "of rotations in 6D",
            _VIDEO,
            partial(_filter, rule=smoothers.gaussian()),
        ),
        Baseline(
            "view-mean",
            "mean of the views",
            "of rotations in 6D",
            _VIEWS,
            partial(_filter, rule=smoothers.mean_of_views),
        ),
        Baseline(
            "view-median",
            "median of the views",
            "of rotations in 6D",
            _VIEWS,
            partial(_filter, rule=smoothers.median_of_views),
        ),
    )
}
