"""Every method that the library is compared with, in one table.

Another baseline is one more entry of BASELINES: `evaluate.py --method NAME` and the benchmarks run
it. What all have in common is the call: a `Refiner`, as `make_refiner` gives it for the loop.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax

from body_model import SMPL, Skeleton
from scorehmr_jax.baselines import smoothers
from scorehmr_jax.baselines.adam import adam
from scorehmr_jax.baselines.flow_weights import load_flow
from scorehmr_jax.baselines.pose_mixture import PoseMixture
from scorehmr_jax.baselines.prohmr import ProhmrWeights, prohmr_fitting
from scorehmr_jax.baselines.smplify import SmplifyConfig, SmplifyWeights, smplify
from scorehmr_jax.denoised_fit import DenoisedFit
from scorehmr_jax.evaluation.protocol import DEFAULT_FPS
from scorehmr_jax.load import load_prior
from scorehmr_jax.networks.protocol import POSE_DIM
from scorehmr_jax.refine import Refiner, refine
from scorehmr_jax.refine_config import RefineConfig
from scorehmr_jax.terms import Term, as_terms
from scorehmr_jax.types import Array, Estimate, Info, Refined

EVERY_TASK = ("keypoints", "multiview", "video")
# Views of a person whose agreement guides together with the keypoints.
SEEN_VIEWS = "multiview, keypoints"
# The weights of what a method adds to the evidence that left the least mean PA-MPJPE over all
# strengths of the open benchmark's val split, by task.
WEIGHTS = {
    "adam-pull": {"keypoints": 30.0, "multiview": 30.0, SEEN_VIEWS: 3.0, "video": 30.0},
    "smplify": {"keypoints": 3.0, "multiview": 0.03, SEEN_VIEWS: 1.0, "video": 3.0},
    "flow": {"keypoints": 1.0, "multiview": 30.0, SEEN_VIEWS: 1.0, "video": 1.0},
    "dposer": {"keypoints": 30.0, "multiview": 0.3, SEEN_VIEWS: 10.0, "video": 30.0},
}

# A method: (skeleton, weights, estimate, features, terms, mask) to a result.
# DPoser's manner: no part of our own loops, so that what they take does not change it.
DPOSER = DenoisedFit(steps=150, denoise_every=1, highest=80, lowest=10, pull=0.0, rate=0.02)

Run = Callable[..., tuple[Refined, Info]]


@dataclass(frozen=True)
class Learned:
    """What a method was trained with."""

    weights: Any = None  # as the method takes them: a pytree, or (sizes, pytree)
    features: int = 0  # width of the image features that these want; 0: none
    standardised: bool = True  # False: features as their network gives them


@dataclass(frozen=True)
class Baseline:
    """A method beside the loop."""

    name: str
    label: str  # as tables print it
    source: str  # who described it
    tasks: tuple[str, ...]  # keys of `evaluation.tasks.TASKS` that it is for
    # From the task, and the frames per second of its videos, to the method.
    method: Callable[[str, float], Run]
    # Reads what it was trained with, from a file or, of None, from the package; None: nothing.
    load: Callable[[str | Path | None], Learned] | None = None


def learned(name: str, weights: str | Path | None = None) -> Learned:
    """Reads what a baseline was trained with.

    Args:
        name: key of BASELINES.
        weights: a file: SMPLify's gmm_08.pkl, a flow of `training/flow.py`, the released ProHMR's
            checkpoint, a diffusion prior; None: what ships, which wants no image features.
    Raises:
        ValueError: if there is no such baseline, it has no weights, or the file holds others.
    """
    if name not in BASELINES:
        raise ValueError(f"method: expected one of {', '.join(BASELINES)}, found {name!r}")
    load = BASELINES[name].load
    if load is None:
        if weights is not None:
            raise ValueError(f"method {name}: it has no weights; found {weights}")
        return Learned()
    return load(weights)


def make_baseline(
    name: str,
    body: SMPL | Skeleton,
    task: str,
    weights: str | Path | Learned | None = None,
    fps: float = DEFAULT_FPS,
) -> Refiner:
    """Prepares and compiles a baseline for one body and task.

    Args:
        name: key of BASELINES.
        body: as `refine` has it.
        task: key of `evaluation.tasks.TASKS`.
        weights: what `learned` gave, or reads.
        fps: frames per second of the videos.
    Returns:
        A function (estimate, features, terms, mask=None) -> (Refined, Info), as `make_refiner`
        gives. The terms are the evidence, those that the released loop has; a method adds its own
        losses. Features are used only with weights that want them.
    Raises:
        ValueError: if there is no such baseline, it is not for this task, or has no weights.
    """
    held = weights if isinstance(weights, Learned) else learned(name, weights)
    baseline = BASELINES[name]
    if task not in baseline.tasks:
        raise ValueError(
            f"method {name}: it is for {', '.join(baseline.tasks)}; found the task {task!r}"
        )
    skeleton = body if isinstance(body, Skeleton) else Skeleton.of(body)
    static, traced = _parted(held.weights)
    method = baseline.method(task, fps)

    @jax.jit
    def compiled(
        skeleton: Skeleton, traced: Any, estimate: Estimate, features: Any, terms: Any, mask: Any
    ) -> tuple[Refined, Info]:
        loaded = traced if static is None else (static, traced)
        return method(skeleton, loaded, estimate, features, terms, mask)

    def refiner(
        estimate: Estimate, features: Array | None, terms: Any, mask: Array | None = None
    ) -> tuple[Refined, Info]:
        told = features if held.features else None
        return compiled(skeleton, traced, estimate, told, as_terms(terms), mask)

    return refiner


def for_task(task: str) -> tuple[str, ...]:
    """Lists the names of the baselines for a task."""
    return tuple(name for name, baseline in BASELINES.items() if task in baseline.tasks)


def _parted(loaded: Any) -> tuple[Any, Any]:
    """What decides the program, and the numbers in it."""
    return loaded if isinstance(loaded, tuple) else (None, loaded)


def _weight(method: str, task: str, terms: tuple[Term, ...]) -> float:
    """The weight that was chosen for this evidence."""
    seen = task == "multiview" and any(term.measures for term in terms)
    return WEIGHTS[method][SEEN_VIEWS if seen else task]


def _adam(task: str, fps: float, pulled: bool) -> Run:
    def run(skeleton, loaded, estimate, features, terms, mask):
        pull = _weight("adam-pull", task, terms) if pulled else 0.0
        return adam(skeleton, estimate, terms, pull, mask=mask)

    return run


def _smplify(task: str, fps: float, temporal: bool) -> Run:
    config = SmplifyConfig(share_shape=temporal)

    def run(skeleton, mixture, estimate, features, terms, mask):
        weights = SmplifyWeights(all=_weight("smplify", task, terms))
        if task == "video" and not temporal:
            # Frame by frame: what a term says of the neighbours is left out.
            terms = tuple(term for term in terms if term.measures)
        return smplify(skeleton, estimate, terms, config, mask, mixture=mixture, weights=weights)

    return run


def _dposer(task: str, fps: float) -> Run:
    def run(skeleton, prior, estimate, features, terms, mask):
        weight = _weight("dposer", task, terms)
        config = RefineConfig(iterations=0, denoised_fit=replace(DPOSER, prior=weight))
        return refine(prior, skeleton, estimate, features, terms, config, mask)

    return run


def _flow(task: str, fps: float) -> Run:
    def run(skeleton, flow, estimate, features, terms, mask):
        weights = ProhmrWeights(all=_weight("flow", task, terms))
        return prohmr_fitting(flow, skeleton, estimate, features, terms, mask=mask, weights=weights)

    return run


def _filter(task: str, fps: float, rule: smoothers.Filter) -> Run:
    def run(skeleton, loaded, estimate, features, terms, mask):
        return smoothers.filtered(skeleton, estimate, terms, rule, mask)

    return run


def _one_euro(task: str, fps: float) -> Run:
    return _filter(task, fps, smoothers.one_euro(fps=fps))


def _mixture(path: str | Path | None) -> Learned:
    return Learned(PoseMixture.shipped() if path is None else PoseMixture.read(path))


def _flow_weights(path: str | Path | None) -> Learned:
    sizes, params = load_flow(path)
    # A condition as wide as a pose is the first estimate's; another is ProHMR's, whose network's
    # features go into the flow as they are.
    of_image = 0 if sizes.features == POSE_DIM else sizes.features
    return Learned((sizes, params), of_image, standardised=False)


def _prior(path: str | Path | None) -> Learned:
    prior = load_prior("open-uncond" if path is None else path)
    return Learned(prior, prior.network.condition_dim if prior.condition_on == "features" else 0)


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
            _flow_weights,
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
            _one_euro,
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
