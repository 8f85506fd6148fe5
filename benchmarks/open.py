"""Refinement of real poses on an open body, against their truth and against plain optimisation.

    python -m benchmarks.open --data DIR [--quick] --json FILE
    python -m benchmarks.open --data DIR --check-realism

DIR holds mocap_poses.npz; its test split is used, and its val split for everything that is
chosen: the better of the shipped priors and the pull of the Adam baseline. What the other
baselines weigh was chosen on it before (`WEIGHTS` of baselines/registry.py). `--split heldout`
takes mocap_heldout.npz in place of the test split: for final figures, and never to choose by. The
first estimates and the 2D keypoints are simulated (scorehmr_jax/simulation/).

A row of the JSON file is one method in one setting at one strength of the network; means over
its n frames. `pa_mpjpe`, `mpjpe` (pelvis on pelvis) and `pelvis_error` in mm over SMPL's 24
joints; `worse_2mm_share`: frames whose PA-MPJPE rose by more than 2 mm; `acceleration`: error in
mm/frame^2 at 30 fps, of videos only; `reprojection_px`, `reprojection_of_box`: to the true
keypoints in the image, also over the side of the person's box; `kept`: frames that could not be
refined; `seconds_per_frame` once compiled. `released` repeats the row of the better prior.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import body_model
from benchmarks import machine
from benchmarks.scenes import FULL, QUICK, SETTINGS, STRENGTHS, Size, scene
from body_model import SMPL, Skeleton
from scorehmr_jax.baselines.adam import adam
from scorehmr_jax.baselines.registry import for_task, make_baseline
from scorehmr_jax.camera import project
from scorehmr_jax.evaluation import metrics
from scorehmr_jax.evaluation.tasks import TASKS
from scorehmr_jax.load import load_prior, shipped_priors
from scorehmr_jax.refine import make_refiner
from scorehmr_jax.screening import OK
from scorehmr_jax.simulation import mocap
from scorehmr_jax.simulation.regressor import box_size
from scorehmr_jax.simulation.scene import Scene
from scorehmr_jax.types import Array, Estimate, Refined

PRIORS = ("open-uncond", "open-cond")
# Weights of the pull to the estimate that Adam may choose from.
PULLS = (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
# What a benchmark as hard as reality shows (single frames; by strength): the start's mean
# PA-MPJPE in mm, and its reprojection error over the side of the person's box.
EXPECTED_START = {"weak": 85.0, "medium": 55.0, "strong": 35.0}
START_TOLERANCE = 0.1
REPROJECTION = (0.01, 0.03)
# Plain optimisation makes these starts worse when free, and hardly better at its best pull.
HARD = ("weak", "medium")
BEST_GAIN = 0.05

# Of the printed table: title and format.
COLUMNS = {
    "pa_mpjpe": ("PA-MPJPE", "9.1f"),
    "mpjpe": ("MPJPE", "9.1f"),
    "worse_2mm_share": ("worse 2mm", "9.1%"),
    "acceleration": ("accel", "9.1f"),
    "reprojection_px": ("2D px", "9.1f"),
    "pelvis_error": ("pelvis mm", "9.0f"),
    "seconds_per_frame": ("s/frame", "9.4f"),
}

# A function from a scene to bodies [G, N] and the status of each sample.
Method = Callable[[Scene], tuple[Estimate | Refined, Array]]


def main(arguments: list[str] | None = None) -> int:
    summary, _, rest = __doc__.partition("\n")
    parser = argparse.ArgumentParser(
        "benchmarks.open",
        description=summary,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of mocap_poses.npz")
    parser.add_argument("--json", type=Path, help="where to write the rows")
    parser.add_argument("--quick", action="store_true", help="fewer frames, under three minutes")
    parser.add_argument("--split", choices=("test", "val", "heldout"), default="test")
    parser.add_argument("--body", type=Path, help="an SMPL body file; the open body without")
    parser.add_argument(
        "--check-realism",
        action="store_true",
        help="only check, on the val split, that scenes are hard",
    )
    options = parser.parse_args(arguments)
    path = options.data / "mocap_poses.npz"
    if not path.is_file():
        parser.error(f"--data {options.data}: no mocap_poses.npz in this folder")
    clips = mocap.read(path)
    body = body_model.load(options.body) if options.body else body_model.open_body()
    size = QUICK if options.quick else FULL
    if options.check_realism:
        rows = list(check_realism(body, clips.select("val"), size))
    else:
        held_out = options.split == "heldout"
        unseen = (
            mocap.read(options.data / "mocap_heldout.npz")
            if held_out
            else clips.select(options.split)
        )
        rows = list(benchmark(body, clips.select("val"), unseen, size))
    machine.write(rows, options.json)
    return 0 if all(row.get("realistic", True) for row in rows) else 1


def benchmark(
    body: SMPL, val: mocap.Mocap, unseen: mocap.Mocap, size: Size
) -> Iterator[dict[str, Any]]:
    """Runs every method in every setting at every strength; prints each row.

    Args:
        val: the clips that everything is chosen on.
        unseen: the clips of the figures.
    """
    skeleton = Skeleton.of(body)
    measure = make_measure(body, skeleton)
    better = None
    titles = (f"{title:>9}" for title, _ in COLUMNS.values())
    print(f"{'method':16}{'setting':11}{'strength':9}", *titles)
    for setting in SETTINGS:
        known, unknown = (
            {
                strength: scene(jax.random.key(seed), skeleton, motion, setting, strength, size)
                for strength in STRENGTHS
            }
            for seed, motion in ((1, val), (0, unseen))
        )
        optimise = plain_optimiser(skeleton, setting)
        released = {
            name: refiner(name, skeleton, setting, "released")
            for name in PRIORS
            if name in shipped_priors()
        }
        if released and better is None:
            better = better_prior(released, measure, known)
        if better:
            default = refiner(better, skeleton, setting, "default")
        # Adam has rows of its own, with the pull that is best at each strength.
        baselines = {
            name: baseline(name, skeleton, setting)
            for name in for_task(setting)
            if not name.startswith("adam")
        }
        for strength in STRENGTHS:
            pull = best_pull(optimise, measure, known[strength])[0]
            methods: dict[str, tuple[Method, dict[str, Any]]] = {
                "estimate": (lambda s: (s.estimate, jnp.zeros(s.estimate.betas.shape[:-1])), {}),
                **{
                    name.replace("open", "released"): (method, {"prior": name})
                    for name, method in released.items()
                },
                "adam_free": (partial(optimise, pull=0.0), {"pull": 0.0}),
                "adam": (partial(optimise, pull=pull), {"pull": pull}),
            }
            methods |= {name: (method, {}) for name, method in baselines.items()}
            if better:
                methods["default"] = (default, {"prior": better})
            for name, (method, notes) in methods.items():
                row: dict[str, Any] = {"method": name, "setting": setting, "strength": strength}
                if strength == STRENGTHS[0]:
                    method(unknown[strength])  # compiles, so that no time below includes it
                row |= run(method, measure, unknown[strength]) | notes
                if setting != "video":
                    row["acceleration"] = None
                print_row(row)
                yield row
                if better and name == better.replace("open", "released"):
                    row = row | {"method": "released"}
                    print_row(row)
                    yield row


def refiner(name: str, skeleton: Skeleton, setting: str, mode: str) -> Method:
    """Prepares `refine` with a shipped prior, in one of the modes of evaluation/tasks.py."""
    task = TASKS[setting]
    compiled = make_refiner(load_prior(name), skeleton, task.config(mode))

    def method(scene: Scene) -> tuple[Refined, Array]:
        refined, info = compiled(
            scene.estimate, None, task.guidance(mode, scene.keypoints, scene.camera)
        )
        return refined, info.status

    return method


def baseline(name: str, skeleton: Skeleton, setting: str) -> Method:
    """Prepares a method of `baselines/registry.py`."""
    task, compiled = TASKS[setting], make_baseline(name, skeleton, setting)

    def method(scene: Scene) -> tuple[Refined, Array]:
        terms = task.guidance("released", scene.keypoints, scene.camera)
        refined, info = compiled(scene.estimate, None, terms)
        return refined, info.status

    return method


def plain_optimiser(skeleton: Skeleton, setting: str) -> Callable[..., tuple[Refined, Array]]:
    """Prepares Adam on the terms of a setting: (scene, pull) -> bodies and status."""
    task = TASKS[setting]

    @jax.jit
    def compiled(scene: Scene, pull: float) -> tuple[Refined, Array]:
        terms = task.terms(scene.keypoints, scene.camera)
        refined, info = adam(skeleton, scene.estimate, terms, pull)
        return refined, info.status

    return compiled


def make_measure(body: SMPL, skeleton: Skeleton) -> Callable[..., dict[str, Array]]:
    """Prepares the metrics of bodies in a scene: (scene, body) -> by name, [G, N]."""

    @jax.jit
    def measure(scene: Scene, found: Estimate | Refined) -> dict[str, Array]:
        joints, true = (body.joints(b.pose, b.betas, b.translation) for b in (found, scene.truth))
        xy, true_xy = (
            project(skeleton(b.pose, b.betas, b.translation), scene.camera)
            for b in (found, scene.truth)
        )
        centred, true_centred = (j - j[..., :1, :] for j in (joints, true))
        pixels = metrics.keypoint_error(xy, true_xy, jnp.ones(xy.shape[:-1]))
        return {
            "pa_mpjpe": metrics.pa_mpjpe(joints, true),
            "mpjpe": metrics.mpjpe(centred, true_centred),
            "acceleration": metrics.acceleration_error(centred, true_centred),
            "reprojection_px": pixels,
            "reprojection_of_box": pixels / box_size(true_xy),
            "pelvis_error": metrics.pelvis_error(joints[..., 0, :], true[..., 0, :]),
        }

    return measure


def run(method: Method, measure: Callable[..., dict[str, Array]], scene: Scene) -> dict[str, Any]:
    """Measures a method: its means over a scene, and its time."""
    jax.block_until_ready(scene)
    start = time.perf_counter()
    found, status = jax.block_until_ready(method(scene))
    seconds = time.perf_counter() - start
    before, after = measure(scene, scene.estimate), measure(scene, found)
    row: dict[str, Any] = {name: float(values.mean()) for name, values in after.items()}
    row["worse_2mm_share"] = float((after["pa_mpjpe"] > before["pa_mpjpe"] + 2).mean())
    row["n"] = status.size
    row["kept"] = int((status != OK).sum())
    row["seconds_per_frame"] = seconds / status.size
    return row


def better_prior(
    methods: dict[str, Method], measure: Callable[..., dict[str, Array]], scenes: dict[str, Scene]
) -> str:
    """Chooses the prior that leaves the least mean PA-MPJPE over all strengths."""

    def left(name: str) -> float:
        found = [measure(s, methods[name](s)[0])["pa_mpjpe"].mean() for s in scenes.values()]
        return float(np.mean(found))

    return min(methods, key=left)


def best_pull(
    optimise: Callable[..., tuple[Refined, Array]],
    measure: Callable[..., dict[str, Array]],
    scene: Scene,
) -> tuple[float, float]:
    """Chooses the pull that leaves the least mean PA-MPJPE; returns it, and the error in mm."""
    left = {w: float(measure(scene, optimise(scene, w)[0])["pa_mpjpe"].mean()) for w in PULLS}
    best = min(left, key=left.__getitem__)
    return best, left[best]


def check_realism(body: SMPL, clips: mocap.Mocap, size: Size) -> Iterator[dict[str, Any]]:
    """Compares single frames with reality in how hard they are; prints a row per strength."""
    skeleton = Skeleton.of(body)
    measure, optimise = make_measure(body, skeleton), plain_optimiser(skeleton, "keypoints")
    for strength in STRENGTHS:
        hard = scene(jax.random.key(1), skeleton, clips, "keypoints", strength, size)
        start = {name: float(v.mean()) for name, v in measure(hard, hard.estimate).items()}
        error, expected = start["pa_mpjpe"], EXPECTED_START[strength]
        free = float(measure(hard, optimise(hard, 0.0)[0])["pa_mpjpe"].mean())
        pull, best = best_pull(optimise, measure, hard)
        realistic = abs(error / expected - 1) < START_TOLERANCE
        realistic &= REPROJECTION[0] <= start["reprojection_of_box"] <= REPROJECTION[1]
        if strength in HARD:
            realistic &= free > error and best > (1 - BEST_GAIN) * error
        print(
            f"{strength:8} start {error:.1f} mm, reprojects to {start['reprojection_of_box']:.2%} "
            f"of the box; Adam free {free:.1f}, at its best pull ({pull:g}) {best:.1f} "
            f"({best / error - 1:+.1%}): {'as hard as reality' if realistic else 'NOT realistic'}",
            flush=True,
        )
        yield start | {
            "strength": strength,
            "adam_free": free,
            "adam": best,
            "pull": pull,
            "realistic": bool(realistic),
        }


def print_row(row: dict[str, Any]) -> None:
    cells = (
        f"{'-':>9}" if row[name] is None else f"{row[name]:{form}}"
        for name, (_, form) in COLUMNS.items()
    )
    print(f"{row['method']:16}{row['setting']:11}{row['strength']:9}", *cells, flush=True)


if __name__ == "__main__":
    sys.exit(main())
