"""Four views of a person on the open body: what knowing the cameras' places is worth.

    python -m benchmarks.views --data DIR [--quick] [--json FILE]

DIR holds mocap_poses.npz, of which the val split is used: the scenes of `benchmarks.open`, setting
multiview, in which the network and the detector are simulated. `views`: each of the four bodies in
the frame of its own camera, whose places are not known; `calibrated`: one body in the frame of the
first camera, and the others' places are known exactly. Bodies stand alone, not in a video.

A row of the JSON file is one method at one strength of the network; means in mm over SMPL's 24
joints: `mpjpe` (pelvis on pelvis), `pa_mpjpe`, `pelvis_error`. `best_view_mpjpe`: of the view that
is nearest to the truth, chosen for each person by the truth; a calibrated body has one alone.
`worse_2mm_share`: of the bodies whose PA-MPJPE rose by more than 2 mm over the first estimate's.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import body_model
import scorehmr_jax as sh
from benchmarks import machine
from benchmarks.fusion import fused
from benchmarks.scenes import FULL, QUICK, STRENGTHS, scene
from body_model import Skeleton
from scorehmr_jax.baselines.adam import AdamConfig, adam
from scorehmr_jax.evaluation import metrics
from scorehmr_jax.evaluation.tasks import TASKS
from scorehmr_jax.simulation import mocap
from scorehmr_jax.simulation.scene import Scene

PRIOR = "open-cond"
_USUAL = 1.0  # weight of the mean shape where the shape is free
COLUMNS = {
    "mpjpe": "MPJPE",
    "best_view_mpjpe": "best view",
    "pa_mpjpe": "PA",
    "pelvis_error": "pelvis",
    "worse_2mm_share": "worse",
    "milliseconds": "ms",
}
Bodies = sh.Estimate | sh.Refined


def main(arguments: list[str] | None = None) -> int:
    summary, _, rest = __doc__.partition("\n")
    parser = argparse.ArgumentParser(
        "benchmarks.views",
        description=summary,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of mocap_poses.npz")
    parser.add_argument("--quick", action="store_true", help="fewer people")
    parser.add_argument("--json", type=Path, help="where to write the rows")
    options = parser.parse_args(arguments)
    path = options.data / "mocap_poses.npz"
    if not path.is_file():
        parser.error(f"--data {options.data}: no mocap_poses.npz in this folder")
    skeleton = Skeleton.of(body_model.open_body())
    val, size = mocap.read(path).select("val"), QUICK if options.quick else FULL
    rows = []
    print(f"{'strength':9}{'setting':12}{'method':28}", *(f"{t:>9}" for t in COLUMNS.values()))
    for strength in STRENGTHS:
        seen = scene(jax.random.key(1), skeleton, val, "multiview", strength, size)
        for row in (*views(skeleton, seen), *calibrated(skeleton, seen)):
            row["strength"] = strength
            rows.append(row)
            cells = (f"{row[c]:9.1%}" if "share" in c else f"{row[c]:9.1f}" for c in COLUMNS)
            print(f"{strength:9}{row['setting']:12}{row['method']:28}", *cells, flush=True)
    machine.write({"machine": machine.describe(), "prior": PRIOR, "rows": rows}, options.json)
    return 0


def views(skeleton: Skeleton, seen: Scene) -> Iterator[dict[str, Any]]:
    """Cameras whose places are not known: keypoints, consistency, and both; bodies [G, V]."""
    keypoints = sh.keypoints_2d(seen.keypoints, seen.camera)
    both = [keypoints, sh.multiview()]
    prior, single = sh.load_prior(PRIOR), TASKS["keypoints"]
    yield _row("views", "estimate", seen, lambda: seen.estimate)
    for name, config, terms in (
        ("keypoints alone, released", single.config("released"), [keypoints]),
        ("keypoints alone, default", single.config("default"), [keypoints]),
        ("consistency alone", sh.RefineConfig(), [sh.multiview()]),
        ("both, released", sh.RefineConfig(), both),
        ("both, default", sh.RefineConfig.for_views(), both),
    ):
        refiner = sh.make_refiner(prior, skeleton, config)
        yield _row("views", name, seen, lambda r=refiner, t=terms: r(seen.estimate, None, t)[0])
    yield from _plain("views", skeleton, seen, seen.estimate, both)


def calibrated(skeleton: Skeleton, seen: Scene) -> Iterator[dict[str, Any]]:
    """Cameras whose places are known, and one body [G] in the frame of the first."""
    camera = places(skeleton, seen)
    by_view = jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), (seen.estimate, seen.keypoints))
    estimate = fused(skeleton, by_view[0], camera)
    evidence = sh.calibrated_views(by_view[1], camera)
    one = jax.tree.map(lambda a: a[:, :1], seen)
    one = replace(one, estimate=jax.tree.map(lambda a: a[:, None], estimate))

    def row(method: str, run: Callable[[], Bodies]) -> dict[str, Any]:
        return _row("calibrated", method, one, lambda: jax.tree.map(lambda a: a[:, None], run()))

    yield row("median of the views", lambda: estimate)
    prior, usual = sh.load_prior(PRIOR), sh.usual_shape(_USUAL)
    for name, config, terms in (
        ("released", sh.RefineConfig(), [evidence]),
        ("released, half the weight", sh.RefineConfig(), [sh.weighted(0.5, evidence)]),
        ("released, free shape", sh.RefineConfig(shape_rate=0.02), [evidence, usual]),
    ):
        refiner = sh.make_refiner(prior, skeleton, config)
        yield row(name, lambda r=refiner, t=terms: r(estimate, None, t)[0])
    yield from _plain("calibrated", skeleton, one, estimate, [evidence])


def places(skeleton: Skeleton, seen: Scene) -> sh.Camera:
    """The cameras [V, G] from the frame of the first, which the true bodies tell."""
    truth = jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), seen.truth)
    root, rest = truth.pose[:, :, 0], skeleton.rest[:3]
    pelvis = rest[:, 0] + truth.betas @ rest[:, 1:].T + truth.translation
    rotation = root @ jnp.swapaxes(root[:1], -1, -2)
    translation = pelvis - jnp.einsum("vgij,gj->vgi", rotation, pelvis[0])
    camera = jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), seen.camera)
    return replace(camera, rotation=rotation, translation=translation)


def _plain(
    setting: str, skeleton: Skeleton, seen: Scene, estimate: sh.Estimate, terms: list[Any]
) -> Iterator[dict[str, Any]]:
    """Plain optimisation on the same terms: free, and with a pull to the estimate."""
    run = jax.jit(lambda estimate, terms, pull: adam(skeleton, estimate, terms, pull)[0])
    for name, pull in (("Adam", 0.0), ("Adam, pull 10", 10.0)):

        def bodies(pull=pull):
            found = run(estimate, terms, pull)
            if setting == "views":
                return found
            return jax.tree.map(lambda a: a[:, None], found)

        yield _row(setting, name, seen, bodies)
    if setting == "calibrated":
        config = AdamConfig(shape_rate=0.02)
        free = [*terms, sh.usual_shape(_USUAL)]
        fit = jax.jit(lambda e, t: adam(skeleton, e, t, config=config)[0])
        yield _row(
            setting,
            "Adam, free shape",
            seen,
            lambda: jax.tree.map(lambda a: a[:, None], fit(estimate, free)),
        )


def _row(setting: str, method: str, seen: Scene, run: Callable[[], Bodies]) -> dict[str, Any]:
    """Measures bodies [G, V] against the scene's."""
    jax.block_until_ready(run())  # compiles
    start = time.perf_counter()
    bodies = jax.block_until_ready(run())
    seconds = time.perf_counter() - start
    body = body_model.open_body()
    place = jax.jit(body.joints)
    found, first, true = (
        place(b.pose, b.betas, b.translation) for b in (bodies, seen.estimate, seen.truth)
    )
    mpjpe = np.asarray(metrics.mpjpe(*(j - j[..., :1, :] for j in (found, true))))
    aligned = np.asarray(metrics.pa_mpjpe(found, true))
    worse = aligned > np.asarray(metrics.pa_mpjpe(first, true)) + 2
    return {
        "setting": setting,
        "method": method,
        "mpjpe": float(mpjpe.mean()),
        "best_view_mpjpe": float(mpjpe.min(-1).mean()),
        "pa_mpjpe": float(aligned.mean()),
        "pelvis_error": float(metrics.pelvis_error(found[..., 0, :], true[..., 0, :]).mean()),
        "worse_2mm_share": float(worse.mean()),
        "milliseconds": 1000 * seconds / aligned.size,
        "n": aligned.size,
    }


if __name__ == "__main__":
    sys.exit(main())
