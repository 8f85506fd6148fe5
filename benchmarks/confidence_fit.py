"""Fits of what errors follow from the signs of a refinement, and figures of how well they hold."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from benchmarks.confidence_scenes import HALVES, Observed
from body_model.joints import NUM_JOINTS
from scorehmr_jax.confidence import SIGNS, Calibration, expect
from scorehmr_jax.types import Expectation

BINS = 10  # of equally many samples
_RIDGE = 1e-3
_ITERATIONS = 50
_OUTERMOST = 0.005  # share of the samples beyond the range of a sign, at each end
# The expected error never falls with these.
RISING = ("moved", "residual", "oddness")
# Signs that mean nothing in a setting: images have nothing to do with each other, views no order.
_WITHOUT = {"keypoints": ("around", "motion"), "multiview": ("motion",), "video": ()}


def fit(rows: Observed, setting: str) -> Calibration:
    """Fits the numbers of a loop.

    The error by a gamma distribution with a logarithmic link, whose mean is what is wanted however
    the errors scatter; the probability by logistic regression; both with a light ridge.

    Args:
        rows: refined samples with their truth.
        setting: what the samples of a group are, as benchmarks/scenes.py has it.
    """
    numbers = np.asarray(rows.signs.numbers(), np.float64)
    low, high = np.quantile(numbers, [_OUTERMOST, 1 - _OUTERMOST], axis=0)
    held = np.clip(numbers, low, high)
    meaning = [name not in _WITHOUT[setting] for name in SIGNS]
    used, error = meaning, np.asarray(rows.error, np.float64)
    weights = regress(held, error, GAMMA, used)
    while falling := [n for n in RISING if weights[1 + SIGNS.index(n)] < 0]:
        used = [use and name not in falling for use, name in zip(used, SIGNS, strict=True)]
        weights = regress(held, error, GAMMA, used)
    worse = regress(held, np.asarray(rows.worse, np.float64), LOGISTIC, meaning)
    joints, moved = _fit_joints(rows, np.exp(weights[0] + held @ weights[1:]))
    return Calibration(
        error=_rounded(weights),
        worse=_rounded(worse),
        joints=_rounded(joints),
        joint_moved=moved,
        low=_rounded(low),
        high=_rounded(high),
    )


def _fit_joints(rows: Observed, error: np.ndarray) -> tuple[np.ndarray, float]:
    """Fits each joint's share of an expected error, and how it grows with the joint's way."""
    moved = np.asarray(rows.signs.moved, np.float64)
    way = np.log(moved + 1e-3) - np.log(np.sqrt((moved**2).mean(-1, keepdims=True)) + 1e-3)
    share = np.asarray(rows.joint_error, np.float64) / error[:, None]
    # A gamma regression again, by Newton's method for the power: given it, the rest is closed.
    power, joints = 0.0, np.zeros(NUM_JOINTS)
    for _ in range(_ITERATIONS):
        ratio = share * np.exp(-power * way)
        joints = np.log(ratio.mean(0))
        ratio = ratio / np.exp(joints)
        middle = (ratio * way).mean(0)
        step = ((ratio - 1) * way).sum() / (ratio * (way - middle) ** 2).sum()
        power += step
        if abs(step) < 1e-6:
            break
    return joints - joints.mean(), round(float(power), 4)


# A generalised linear model: of the linear sum the mean, the score and the curvature by it.
Family = tuple[
    Callable[[np.ndarray], np.ndarray],
    Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
]
GAMMA: Family = (np.exp, lambda y, mean: (y / mean - 1, y / mean))
LOGISTIC: Family = (
    lambda linear: 1 / (1 + np.exp(-linear)),
    lambda y, mean: (y - mean, mean * (1 - mean)),
)


def regress(
    numbers: np.ndarray,
    y: np.ndarray,
    family: Family,
    used: Sequence[bool] | None = None,
    ridge: float = _RIDGE,
) -> np.ndarray:
    """Fits a generalised linear model by Newton's method.

    Args:
        numbers: [N, S].
        y: [N] what is expected.
        family: GAMMA or LOGISTIC.
        used: [S] False for numbers whose weight is to be 0.
        ridge: of the weights of numbers with variance 1.
    Returns:
        [1 + S] the constant and the weights.
    """
    middle, spread = numbers.mean(0), numbers.std(0)
    sound = spread > 1e-9
    if used is not None:
        sound &= np.asarray(used)
    x = (numbers[:, sound] - middle[sound]) / spread[sound]
    x = np.concatenate([np.ones((len(x), 1)), x], -1)
    mean_of, slopes = family
    weights = np.zeros(x.shape[1])
    start = np.clip(y.mean(), 1e-4, None)
    weights[0] = np.log(start) if family is GAMMA else np.log(start / max(1 - start, 1e-4))
    penalty = ridge * len(x) * (np.arange(x.shape[1]) > 0)
    for _ in range(_ITERATIONS):
        score, curve = slopes(y, mean_of(x @ weights))
        hessian = x.T @ (x * curve[:, None]) + np.diag(penalty)
        step = np.linalg.solve(hessian, x.T @ score - penalty * weights)
        weights = weights + step
        if np.abs(step).max() < 1e-8:
            break
    out = np.zeros(1 + numbers.shape[1])
    out[1:][sound] = weights[1:] / spread[sound]
    out[0] = weights[0] - out[1:] @ middle
    return out


def _rounded(values: np.ndarray) -> tuple[float, ...]:
    return tuple(round(float(v), 4) for v in values)


def crossed(rows: Observed, setting: str, trained: np.ndarray | None = None) -> Expectation:
    """Expects each sample's error by a fit to the other half of the clips.

    Args:
        rows: all samples.
        setting: as `fit` has it.
        trained: [N] False for samples that no fit sees.
    Returns:
        Of each sample, numpy's.
    """
    found: Any = None
    seen = np.ones(len(rows.half), bool) if trained is None else trained
    for half in range(HALVES):
        inside = rows.half == half
        own = expected(fit(rows.rows(~inside & seen), setting), rows)
        found = own if found is None else found
        for whole, part in zip(vars(found).values(), vars(own).values(), strict=True):
            whole[inside] = part[inside]
    return found


def expected(calibration: Calibration, rows: Observed) -> Expectation:
    """What a calibration expects of samples, as numpy's arrays."""
    signs = type(rows.signs)(**{k: jnp.asarray(v) for k, v in vars(rows.signs).items()})
    found = expect(calibration, signs)
    return Expectation(*(np.array(v, np.float64) for v in vars(found).values()))


def figures(told: Expectation, rows: Observed) -> dict[str, float]:
    """Compares what was expected of samples with what came.

    Returns:
        `worse_*`: shares, expected and true, area under the ROC curve, expected calibration error
        and Brier score beside that of the mean alone; `error_*`, `joint_*`: mm, correlation, the
        calibration error; `within_*`: correlation for each joint alone, averaged; `best_half`: mean
        error of the half of which less is expected, mm.
    """
    worse, error, joint = (np.asarray(a, float) for a in (rows.worse, rows.error, rows.joint_error))
    half = np.argsort(told.error)[: len(error) // 2]
    within = [np.corrcoef(told.joint_error[:, j], joint[:, j])[0, 1] for j in range(NUM_JOINTS)]
    return {
        "n": len(error),
        "worse_expected": float(told.worse.mean()),
        "worse_true": float(worse.mean()),
        "worse_auc": auc(told.worse, worse),
        "worse_ece": calibration_error(told.worse, worse),
        "worse_brier": float(np.square(told.worse - worse).mean()),
        "worse_brier_of_mean": float(np.square(worse.mean() - worse).mean()),
        "error_expected": float(told.error.mean()),
        "error_true": float(error.mean()),
        "error_correlation": float(np.corrcoef(told.error, error)[0, 1]),
        "error_ece": calibration_error(told.error, error),
        "joint_correlation": float(np.corrcoef(told.joint_error.ravel(), joint.ravel())[0, 1]),
        "joint_ece": calibration_error(told.joint_error.ravel(), joint.ravel()),
        "within_correlation": float(np.mean(within)),
        "best_half": float(error[half].mean()),
    }


def auc(score: np.ndarray, true: np.ndarray) -> float:
    """Area under the ROC curve: how often a true one has the higher score; NaN without both."""
    order = np.argsort(score, kind="stable")
    _, place, count = np.unique(score[order], return_inverse=True, return_counts=True)
    ranks = np.empty(len(score))
    ranks[order] = (np.cumsum(count) - (count - 1) / 2)[place]
    positive = true > 0
    n = positive.sum()
    if n in (0, len(true)):
        return float("nan")
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(true) - n)))


def reliability(told: np.ndarray, true: np.ndarray, bins: int = BINS) -> list[tuple[float, ...]]:
    """Means of what was expected and of what came, in bins of equally many: (expected, true, n)."""
    parts = np.array_split(np.argsort(told, kind="stable"), bins)
    return [(float(told[p].mean()), float(true[p].mean()), len(p)) for p in parts if len(p)]


def calibration_error(told: np.ndarray, true: np.ndarray) -> float:
    """Expected calibration error: mean distance of the bins' two means."""
    rows = np.array(reliability(told, true))
    return float(np.average(np.abs(rows[:, 0] - rows[:, 1]), weights=rows[:, 2]))
