"""Seconds of a whole refinement on 2D keypoints, beside a plain transcription in JAX.

    python -m benchmarks.refine --batch 1 32 256 --json FILE
    python -m benchmarks.refine --batch 1 256 --mode released default

float32, a denoiser of the size for PARE's features with random weights, a synthetic body and
people. Best of several runs. Mode `released`: the paper's settings (10 rounds of 25 + 25 steps, no
early stop). Mode `default`: this library's own loop for images, without a plain transcription.
"""

import argparse
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from benchmarks import machine, plain
from body_model import SMPL, Skeleton, stand_in
from body_model.joints import OPENPOSE_25
from body_model.open.stand_in import stand_in_regressor
from body_model.rotations import axis_angle_to_matrix
from scorehmr_jax.camera import pinhole, project
from scorehmr_jax.diffusion import cosine_betas, schedule
from scorehmr_jax.guidance import keypoints_2d
from scorehmr_jax.networks.denoiser import ResidualMLP
from scorehmr_jax.prior import Prior
from scorehmr_jax.refine import RefineConfig, make_refiner
from scorehmr_jax.types import Array, Camera, Estimate, Keypoints2D

# The released PyTorch code on two CPU cores, by batch.
RELEASED_SECONDS = {1: 6.0, 32: 20.0, 256: 179.0}
MODES: dict[str, Callable[[], RefineConfig]] = {
    "released": lambda: RefineConfig(),
    "default": RefineConfig.for_images,
}
_TRANSCRIBED = ("released",)  # modes that the plain loop knows
_LARGE = 64  # from this batch on, the plain loop runs few rounds


@dataclass(frozen=True)
class Workload:
    """People to refine: the arguments of both loops."""

    prior: Prior
    body: SMPL
    regressor: Float[Array, "19 V"]  # of the keypoints after OpenPose's 25
    estimate: Estimate  # [N]
    features: Float[Array, "N F"]
    keypoints: Keypoints2D  # [N, 44]; those after OpenPose's 25 have no confidence
    camera: Camera  # [N]


def workload(batch: int, sizes: ResidualMLP) -> Workload:
    """Makes N people of the stand-in body, 10 m away, estimated some 9 degrees off per joint.

    Args:
        batch: N.
        sizes: of the denoiser, which gets random weights.
    """
    rng = np.random.default_rng(0)
    prior = Prior(_random_params(sizes, rng), schedule(cosine_betas()), None, sizes)
    body = stand_in()
    regressor = stand_in_regressor(body)
    skeleton = Skeleton.of(body, OPENPOSE_25, regressor)
    angles = 0.2 * rng.normal(size=(batch, 24, 3))
    angles[:, 0] = [np.pi, 0, 0]
    wrong = angles + 0.15 * rng.normal(size=angles.shape)
    betas = jnp.zeros((batch, 10))
    translation = jnp.tile(jnp.array([0.0, 0, 10]), (batch, 1))
    camera = pinhole(jnp.full((batch, 2), 1000.0), 1500.0)

    @jax.jit
    def observe(both: Array) -> tuple[Array, Array]:
        pose, guess = axis_angle_to_matrix(both)
        return guess, project(skeleton(pose, betas, translation), camera)

    guess, xy = observe(jnp.asarray(np.stack([angles, wrong]), jnp.float32))
    confidence = np.tile(np.arange(44) < len(OPENPOSE_25), (batch, 1))
    return Workload(
        prior,
        jax.tree.map(jnp.asarray, body),
        jnp.asarray(regressor, jnp.float32),
        Estimate(guess, betas, translation + 0.05),
        jnp.asarray(rng.normal(size=(batch, sizes.features)), jnp.float32),
        Keypoints2D(xy, jnp.asarray(confidence, jnp.float32)),
        camera,
    )


def _random_params(sizes: ResidualMLP, rng: np.random.Generator) -> Any:
    """Weights of ordinary size; by numpy, since compiling the initialisers takes seconds."""
    shapes = jax.eval_shape(sizes.init, jax.random.key(0))

    def draw(path: Any, leaf: Any) -> Array:
        values = rng.normal(size=leaf.shape) * leaf.shape[0] ** -0.5
        return jnp.asarray(values + (path[-1].key == "scale"), jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def fast_loop(p: Workload, config: RefineConfig) -> Callable[[], Any]:
    """Prepares the library's refinement; a call gives pose and translation."""
    guides = jax.tree.map(lambda a: a[:, : len(OPENPOSE_25)], p.keypoints)
    refiner = make_refiner(p.prior, Skeleton.of(p.body, OPENPOSE_25), config)
    terms = keypoints_2d(guides, p.camera)

    def run() -> tuple[Array, Array]:
        refined, _ = refiner(p.estimate, p.features, terms)
        return refined.pose, refined.translation

    return run


def plain_loop(p: Workload, config: RefineConfig) -> Callable[[], Any]:
    """Prepares the plain transcription; a call gives pose and translation."""

    # The body is a constant of the program: as an argument, the mesh takes seven times as long in
    # a scan on one CPU image, and the comparison would flatter the library.
    @jax.jit
    def compiled(prior: Prior, images: tuple[Any, ...]) -> tuple[Array, Array]:
        estimate, features, keypoints, camera = images
        return plain.refine(
            prior, p.body, p.regressor, estimate, features, keypoints, camera, config
        )

    images = p.estimate, p.features, p.keypoints, p.camera
    return lambda: compiled(p.prior, images)


def measure(
    batches: Sequence[int], sizes: ResidualMLP, configs: dict[str, RefineConfig]
) -> list[dict]:
    """Measures the library's loops, by mode, and the plain one; a row for each batch and mode.

    The fast loops come first, small batches before large: the peak of memory only ever rises.
    """
    rows: list[dict[str, Any]] = []
    results = {}
    for batch in sorted(set(batches)):
        p = workload(batch, sizes)
        for mode, config in configs.items():
            start = time.perf_counter()
            run = fast_loop(p, config)
            prepared = time.perf_counter() - start
            repeats = 100 if batch == 1 else 10 if batch < _LARGE else 5
            cold, best, cpu, results[batch, mode] = _time(run, repeats)
            rows.append(
                {
                    "batch": batch,
                    "mode": mode,
                    "seconds": best,
                    "cpu_seconds": cpu,
                    "cold_seconds": prepared + cold,
                    "peak_mb": _peak_mb(),
                }
            )
    for row in rows:
        batch, config = row["batch"], configs[row["mode"]]
        if row["mode"] not in _TRANSCRIBED:
            continue
        p = workload(batch, sizes)
        rounds = config.iterations if batch < _LARGE else min(2, config.iterations)
        run = plain_loop(p, replace(config, iterations=rounds))
        _, best, cpu, result = _time(run, repeats=3 if batch == 1 else 2)
        whole = rounds == config.iterations
        share = config.iterations / rounds
        row |= {
            "plain_seconds": best * share,
            "plain_cpu_seconds": cpu * share,
            "plain_iterations": rounds,
            "plain_peak_mb": _peak_mb(),
            "ratio": best * share / row["seconds"],
            "difference_mm": (
                _difference_mm(p, results[batch, row["mode"]], result) if whole else None
            ),
            "released_seconds": RELEASED_SECONDS.get(batch),
        }
    return rows


def _difference_mm(p: Workload, *results: tuple[Array, Array]) -> float:
    """Largest distance between the keypoints, in the camera frame, of two results."""
    skeleton = Skeleton.of(p.body, OPENPOSE_25, np.asarray(p.regressor))
    place = jax.jit(lambda result: skeleton(result[0], p.estimate.betas, result[1]))
    first, second = (np.asarray(place(result)) for result in results)
    return float(np.linalg.norm(first - second, axis=-1).max() * 1000)


def main() -> None:
    parser = argparse.ArgumentParser("benchmarks.refine", description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 32, 256], metavar="N")
    parser.add_argument("--mode", nargs="+", choices=[*MODES], default=["released"])
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures")
    options = parser.parse_args()
    if min(options.batch) < 1:
        parser.error("--batch: expected positive numbers")

    sizes, configs = ResidualMLP(), {mode: MODES[mode]() for mode in options.mode}
    # Others' work on the machine counts against the seconds; the load tells how much there is.
    load = os.getloadavg()[0]
    rows = measure(options.batch, sizes, configs)
    setting = {
        "load_before": load,
        "load_after": os.getloadavg()[0],
        "dtype": "float32",
        "numpy": np.__version__,
        **machine.describe(),
    }
    print(table(rows))
    apart = [row["difference_mm"] for row in rows if row.get("difference_mm") is not None]
    if apart:
        print(f"\nfast and plain keypoints differ by at most {max(apart):.5f} mm")
    print(f"load of the machine before and after: {load:.1f}, {setting['load_after']:.1f}")
    machine.write([row | setting for row in rows], options.json)


def table(rows: list[dict]) -> str:
    """Lays rows of `measure` out for print."""
    heads = ("batch", "seconds", "(CPU)", "first call", "peak MB", "plain", "ratio", "peak MB")
    lines = [f"{'mode':9}" + "".join(f"{head:>11}" for head in (*heads, "released"))]
    for row in rows:
        seconds = f"{row['seconds']:11.4f}{row['cpu_seconds']:11.4f}{row['cold_seconds']:11.1f}"
        own = f"{row['mode']:9}{row['batch']:11d}{seconds}{row['peak_mb']:11.0f}"
        if "ratio" not in row:
            lines.append(own)
            continue
        plain_ = f"{row['plain_seconds']:11.2f}{row['ratio']:11.1f}{row['plain_peak_mb']:11.0f}"
        released = row["released_seconds"] or "-"
        lines.append(f"{own}{plain_}{released:>11}")
    scaled = {
        row["batch"]: row["plain_iterations"]
        for row in rows
        if "ratio" in row and row["difference_mm"] is None
    }
    lines += [f"plain at batch {n}: {rounds} rounds, scaled" for n, rounds in scaled.items()]
    return "\n".join(lines)


def _time(run: Callable[[], Any], repeats: int) -> tuple[float, float, float, Any]:
    """Seconds of the first call, of the best later, least CPU seconds of one, and the result."""
    start = time.perf_counter()
    result = jax.block_until_ready(run())
    cold = time.perf_counter() - start
    walls, cpus = [], []
    for _ in range(repeats):
        start, cpu = time.perf_counter(), time.process_time()
        jax.block_until_ready(run())
        walls.append(time.perf_counter() - start)
        cpus.append(time.process_time() - cpu)
    return cold, min(walls), min(cpus), result


def _peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


if __name__ == "__main__":
    main()
