"""Seconds of every baseline on 256 frames, beside the same method's plain transcription.

    python -m benchmarks.baselines [--batch 256] --json FILE

The fitting methods work on 2D keypoints, with all their steps, and their transcriptions
(plain_baselines.py) make the whole mesh at each; at a large batch a tenth of the steps, scaled. The
filters stand beside loops over frames in numpy. Best of three runs, without compilation;
`difference_mm`: of the keypoints, over as many steps as the transcription made.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import machine
from benchmarks import plain_baselines as plain
from benchmarks.refine import Workload, workload
from body_model import Skeleton
from body_model.files import read_npz
from body_model.joints import OPENPOSE_25
from body_model.rotations import matrix_to_6d, six_d_to_matrix
from scorehmr_jax.baselines import pose_mixture
from scorehmr_jax.baselines.flow_weights import load_flow
from scorehmr_jax.baselines.registry import BASELINES, WEIGHTS, make_baseline
from scorehmr_jax.baselines.smplify import SmplifyWeights
from scorehmr_jax.guidance import keypoints_2d, multiview, smooth
from scorehmr_jax.load import load_prior
from scorehmr_jax.networks.denoiser import ResidualMLP
from scorehmr_jax.prior import Prior
from scorehmr_jax.types import Estimate, Refined

VIEWS = 4
_SMALL = 32  # up to this batch, transcriptions make all steps
FITTED = ("adam-free", "adam-pull", "smplify", "flow", "dposer")


def main() -> None:
    """Runs the comparison."""
    parser = argparse.ArgumentParser("benchmarks.baselines", description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, default=256, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures")
    options = parser.parse_args()
    p = workload(options.batch, ResidualMLP(features=8, hidden=8, blocks=1))
    rows = []
    print(f"{'method':18}{'seconds':>10}{'plain':>10}{'ratio':>8}{'mm apart':>10}")
    for name, baseline in BASELINES.items():
        row = {"method": name, **measure(p, name, baseline.tasks[-1])}
        rows.append(row | machine.describe())
        apart = "-" if row["difference_mm"] is None else f"{row['difference_mm']:.3f}"
        numbers = f"{row['seconds']:10.3f}{row['plain_seconds']:10.3f}{row['ratio']:8.1f}"
        print(f"{name:18}{numbers}{apart:>10}", flush=True)
    machine.write(rows, options.json)


def measure(p: Workload, name: str, task: str) -> dict[str, Any]:
    """Measures one baseline and its transcription."""
    skeleton = Skeleton.of(p.body, OPENPOSE_25)
    task = "keypoints" if name in FITTED else task
    run = make_baseline(name, skeleton, task)
    seen = keypoints_2d(jax.tree.map(lambda a: a[:, : len(OPENPOSE_25)], p.keypoints), p.camera)
    terms = {"keypoints": [seen], "video": [seen, smooth()], "multiview": [multiview()]}[task]
    # Frames of one video, or four views of each person.
    grouped = p.estimate
    if task == "multiview":
        grouped = jax.tree.map(lambda a: a.reshape(-1, VIEWS, *a.shape[1:]), p.estimate)
    seconds, found = timed(lambda: run(grouped, None, terms)[0])
    found = jax.tree.map(lambda a, b: a.reshape(b.shape), as_estimate(found), p.estimate)
    if name not in (*FITTED, "smplify-temporal"):
        plain_seconds, (pose, there) = timed(lambda: FILTERS[name](p.estimate))
        part = 1.0
    else:
        part = 1.0 if len(found.pose) <= _SMALL else 0.1
        plain_seconds, (pose, there) = timed(
            transcription(p, name, part), turns=1 if part < 1 else 3
        )
    apart = None
    if part == 1:
        place = jax.jit(lambda pose, there: skeleton(pose, p.estimate.betas, there))
        two = place(found.pose, found.translation), place(jnp.asarray(pose), jnp.asarray(there))
        apart = float(np.linalg.norm(two[0] - two[1], axis=-1).max() * 1000)
    return {
        "seconds": seconds,
        "plain_seconds": plain_seconds / part,
        "plain_part": part,
        "ratio": plain_seconds / part / seconds,
        "difference_mm": apart,
    }


def transcription(p: Workload, name: str, part: float) -> Callable[[], plain.Bodies]:
    """Compiles a fitting method's transcription, for a part of its steps."""
    task = "video" if name == "smplify-temporal" else "keypoints"
    flow, prior = load_flow(), load_prior("open-uncond")
    mixture = dict(read_npz(Path(pose_mixture.__file__).with_suffix(".npz")))
    weights = SmplifyWeights(all=WEIGHTS["smplify"][task])

    # The body is a constant of the program, as in benchmarks/refine.py.
    @jax.jit
    def compiled(images: Any, flow_params: Any, prior: Prior) -> plain.Bodies:
        seen = plain.Plain(p.body, p.regressor, *images)
        if name.startswith("adam"):
            pull = WEIGHTS[name][task] if name in WEIGHTS else 0.0
            return plain.adam(seen, pull, part)
        if name == "flow":
            return plain.prohmr(seen, flow[0], flow_params, part)
        if name == "dposer":
            return plain.dposer(seen, prior, WEIGHTS[name][task], part)
        return plain.smplify(seen, mixture, weights, task == "video", part)

    images = p.estimate, p.keypoints, p.camera
    return lambda: compiled(images, flow[1], prior)


def as_estimate(found: Refined) -> Estimate:
    """Takes a result as an estimate."""
    return Estimate(found.pose, found.betas, found.translation)


def timed(run: Callable[[], Any], turns: int = 3) -> tuple[float, Any]:
    """Seconds of the best of several calls after the first, and the result."""
    result, seconds = jax.block_until_ready(run()), []
    for _ in range(turns):
        start = time.perf_counter()
        jax.block_until_ready(run())
        seconds.append(time.perf_counter() - start)
    return min(seconds), result


def _numbers(estimate: Estimate) -> np.ndarray:
    x = np.asarray(matrix_to_6d(estimate.pose)).reshape(len(estimate.pose), -1)
    return np.concatenate([x, np.asarray(estimate.translation)], 1)


def _bodies(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pose = six_d_to_matrix(numbers[:, :-3].reshape(-1, 24, 6))
    return np.asarray(pose), numbers[:, -3:]


def _frame_by_frame(weigh: Callable[[np.ndarray], np.ndarray], reach: int) -> Callable:
    """A filter as a loop over frames: `weigh` makes weights of the distances within reach."""

    def run(estimate: Estimate) -> tuple[np.ndarray, np.ndarray]:
        values = _numbers(estimate)
        made = np.empty_like(values)
        for n in range(len(values)):
            near = np.arange(max(n - reach, 0), min(n + reach + 1, len(values)))
            share = weigh(near - n)
            made[n] = share @ values[near] / share.sum()
        return _bodies(made)

    return run


def _polynomial(away: np.ndarray) -> np.ndarray:
    return np.linalg.pinv((away / 7)[:, None] ** np.arange(3))[0]


def _one_euro(estimate: Estimate) -> tuple[np.ndarray, np.ndarray]:
    def share(cutoff: Any) -> Any:
        return 1 / (1 + 30 / (2 * np.pi * cutoff))

    values = _numbers(estimate)
    made, rate = values.copy(), np.zeros(values.shape[1])
    for n in range(1, len(values)):
        rate = rate + share(1.0) * ((values[n] - made[n - 1]) * 30 - rate)
        part = share(4.0 + 3.0 * np.abs(rate))
        made[n] = made[n - 1] + part * (values[n] - made[n - 1])
    return _bodies(made)


def _of_views(middle: Callable[..., np.ndarray], estimate: Estimate) -> tuple[Any, Any]:
    values = _numbers(estimate)
    for views in values.reshape(-1, VIEWS, values.shape[-1]):
        views[:, 6:-3] = middle(views[:, 6:-3], axis=0)
    return _bodies(values)


FILTERS: dict[str, Callable[[Estimate], tuple[Any, Any]]] = {
    "gaussian": _frame_by_frame(lambda away: np.exp(-0.5 * (away / 2) ** 2), 6),
    "savitzky-golay": _frame_by_frame(_polynomial, 7),
    "one-euro": _one_euro,
    "view-mean": partial(_of_views, np.mean),
    "view-median": partial(_of_views, np.median),
}


if __name__ == "__main__":
    main()
