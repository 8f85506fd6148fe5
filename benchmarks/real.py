"""Refinement from a detector's keypoints on real video, against joints from four cameras.

    python -m benchmarks.real --data DIR [--json FILE] [--quick]

DIR holds the numbers of one man before four calibrated cameras, 100 frames: detections, first
estimates, cameras, triangulated joints (single_*.npz; its README.md tells of them). The true joints
come from the same detector as the keypoints and are good to about 10 mm.

A row of the JSON file is one method in one setting: `single` frames, `video` (100 frames a view),
`multiview` (four views of a frame, uncalibrated), `calibrated` (one body in the frame of the first
camera, levelled, as video). Means over frames with sound joints and, but for `calibrated`, views:
`pa_mpjpe`, `mpjpe` (hips on hips) and `pelvis_mm` over the 12 limb joints, mm;
`pa_mpjpe_unswapped`: without the frames in which the detector exchanged left and right (of a
calibrated body no frame is left out); `reprojection_px` to the detections, by their confidence;
`acceleration`: error in mm/frame^2; `worse_2mm_share`: frames whose PA-MPJPE rose by more than
2 mm; `kept`: frames that could not be refined; `seconds_per_frame` once compiled. The pull of Adam
is chosen on these very frames, to its advantage.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import body_model
import scorehmr_jax as sh
from benchmarks import machine
from body_model import Skeleton
from body_model.joints import OPENPOSE_25
from scorehmr_jax.baselines.adam import adam
from scorehmr_jax.camera import to_camera_frame
from scorehmr_jax.evaluation import metrics
from scorehmr_jax.evaluation.tasks import TASKS
from scorehmr_jax.screening import OK

FILES = tuple(
    f"single_{name}.npz"
    for name in ("cameras", "detections_track", "first_estimates", "triangulated")
)
PRIOR = "open-uncond"
PULLS = (1.0, 3.0, 10.0, 30.0)
# A shape that is refined, and how strongly it is held near the mean.
_FREE = sh.RefineConfig(shape_rate=0.02, share_shape=True)
_USUAL = 0.03
# The detector's landmarks that are joints of the limbs, in the order of OpenPose-25.
LIMBS = {
    "right_shoulder": 12,
    "right_elbow": 14,
    "right_wrist": 16,
    "left_shoulder": 11,
    "left_elbow": 13,
    "left_wrist": 15,
    "right_hip": 24,
    "right_knee": 26,
    "right_ankle": 28,
    "left_hip": 23,
    "left_knee": 25,
    "left_ankle": 27,
}
_OF_BODY = np.array([OPENPOSE_25.index(name) for name in LIMBS])
_OF_DETECTOR = np.array([*LIMBS.values()])
_HIPS = np.array([[*LIMBS].index(name) for name in ("left_hip", "right_hip")])
# Means of landmarks that lie far from the joints whose names they have.
_FAR_OFF = np.array([OPENPOSE_25.index(name) for name in ("neck", "pelvis")])

COLUMNS = {
    "mpjpe": ("MPJPE", "8.1f"),
    "pa_mpjpe": ("PA", "8.1f"),
    "pa_mpjpe_unswapped": ("PA, sides", "9.1f"),
    "pelvis_mm": ("pelvis mm", "9.0f"),
    "reprojection_px": ("2D px", "7.1f"),
    "acceleration": ("accel", "7.1f"),
    "worse_2mm_share": ("worse 2mm", "9.1%"),
    "seconds_per_frame": ("s/frame", "8.4f"),
}


@dataclass(frozen=True)
class Video:
    """One person before V cameras for N frames."""

    skeleton: Skeleton
    camera: sh.Camera  # [V] with poses, from the world
    estimate: sh.Estimate  # [V, N] in the frames of the cameras
    keypoints: sh.Keypoints2D  # [V, N, 25], pinhole pixels
    joints: np.ndarray  # [N, 12, 3] true, in the world
    good: np.ndarray  # [N] frames with sound joints
    swapped: np.ndarray  # [V, N] detections with sides exchanged


def main(arguments: list[str] | None = None) -> int:
    summary, _, rest = __doc__.partition("\n")
    parser = argparse.ArgumentParser(
        "benchmarks.real",
        description=summary,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of single_*.npz")
    parser.add_argument("--json", type=Path, help="where to write the rows")
    parser.add_argument("--quick", action="store_true", help="every fourth frame")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=[*SETTINGS])
    options = parser.parse_args(arguments)
    lacking = [name for name in FILES if not (options.data / name).is_file()]
    if lacking:
        parser.error(f"--data {options.data}: no {', '.join(lacking)} in this folder")
    rows = []
    print(f"{'setting':11}{'method':28}", *(f"{t:>{_width(f)}}" for t, f in COLUMNS.values()))
    for row in benchmark(read(options.data, 4 if options.quick else 1), options.settings):
        cells = (
            f"{'-':>{_width(form)}}" if row[name] is None else f"{row[name]:{form}}"
            for name, (_, form) in COLUMNS.items()
        )
        print(f"{row['setting']:11}{row['method']:28}", *cells, flush=True)
        rows.append(row)
    machine.write({"machine": machine.describe(), "rows": rows}, options.json)
    return 0


def read(folder: Path, stride: int = 1) -> Video:
    """Reads the video's numbers, every `stride`-th frame."""
    cameras, _, first, true = (dict(np.load(folder / name)) for name in FILES)
    frames = slice(None, None, stride)
    first = {name: value[:, frames] for name, value in first.items()}
    number = jnp.float32
    return Video(
        skeleton=Skeleton.of(body_model.open_body()),
        # The keypoints are those of a pinhole already.
        camera=sh.calibrated_camera(
            *(jnp.asarray(cameras[key], number) for key in ("K", "image_size", "R", "t"))
        ),
        estimate=sh.Estimate(*(jnp.asarray(first[k]) for k in ("pose", "betas", "translation"))),
        keypoints=sh.Keypoints2D(
            jnp.asarray(first["keypoints"][..., :2]), jnp.asarray(first["keypoints"][..., 2])
        ),
        joints=true["joints"][frames][:, _OF_DETECTOR],
        good=true["good"][frames],
        swapped=true["swapped_track"][:, frames],
    )


def benchmark(video: Video, settings: list[str]) -> Iterator[dict[str, Any]]:
    """Runs every method in every setting."""
    for setting in settings:
        yield from SETTINGS[setting](video)


def single(video: Video, setting: str = "single") -> Iterator[dict[str, Any]]:
    """Frames alone, or as a video with smoothness: the terms and loops of the paper's tasks."""
    task = TASKS["keypoints" if setting == "single" else setting]
    plain = _alone(video.camera, video.swapped.shape)
    terms = task.terms(video.keypoints, plain)
    measure = _in_views(video)
    yield measure.row(setting, "estimate", lambda: (video.estimate, None))
    prior = sh.load_prior(PRIOR)
    default = task.config("default")
    methods = [("released", task.config("released"), terms), ("default", default, terms)]
    if setting == "video":
        steady = [*terms, sh.smooth_camera()]
        methods += [
            ("default, steady place", default, steady),
            ("same, one free shape a view", _FREE, [*steady, sh.usual_shape(_USUAL)]),
        ]
    for name, config, evidence in methods:
        refiner = sh.make_refiner(prior, video.skeleton, config)
        yield measure.row(setting, name, lambda r=refiner, e=evidence: r(video.estimate, None, e))
    yield from _plain(measure, setting, video.estimate, terms)


def multiview(video: Video) -> Iterator[dict[str, Any]]:
    """Four views of a frame whose places are not known."""

    def by_frame(tree: Any) -> Any:
        return jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), tree)

    estimate, keypoints = by_frame((video.estimate, video.keypoints))
    camera = by_frame(_alone(video.camera, video.swapped.shape))
    together = [sh.keypoints_2d(keypoints, camera), sh.multiview()]
    measure = _in_views(video)
    refiner = sh.make_refiner(sh.load_prior(PRIOR), video.skeleton)
    for name, terms in (
        ("consistency alone", [sh.multiview()]),
        ("keypoints and consistency", together),
    ):

        def run(terms=terms):
            refined, info = refiner(estimate, None, terms)
            return by_frame(refined), replace(info, losses=None, status=info.status.T)

        yield measure.row("multiview", name, run)


def calibrated(video: Video) -> Iterator[dict[str, Any]]:
    """One body in four views whose places are known, over all frames."""
    frame = sh.levelled(jax.tree.map(lambda a: a[0], video.camera), jnp.array([0.0, 0, 1]))
    cameras = sh.relative_to(video.camera, frame)
    estimate = fused(video, cameras)
    keypoints = replace(
        video.keypoints, confidence=video.keypoints.confidence.at[..., _FAR_OFF].set(0)
    )
    views = sh.calibrated_views(keypoints, cameras)
    terms = [views, sh.smooth(), sh.smooth_camera()]
    measure = _in_one_frame(video, frame, cameras, estimate)
    yield measure.row("calibrated", "median of the views", lambda: (estimate, None))
    prior = sh.load_prior(PRIOR)
    for name, config, evidence in (
        ("frames alone", sh.RefineConfig(), [views]),
        ("video", sh.RefineConfig(), terms),
        (
            "video, one free shape",
            _FREE,
            [*terms, sh.usual_shape(_USUAL)],
        ),
    ):
        refiner = sh.make_refiner(prior, video.skeleton, config)
        yield measure.row("calibrated", name, lambda r=refiner, e=evidence: r(estimate, None, e))
    yield from _plain(measure, "calibrated", estimate, terms)


SETTINGS: dict[str, Callable[..., Iterator[dict[str, Any]]]] = {
    "single": single,
    "video": lambda video: single(video, "video"),
    "multiview": multiview,
    "calibrated": calibrated,
}


def fused(video: Video, cameras: sh.Camera) -> sh.Estimate:
    """One estimate [N] from those of all views: the median of their poses in the common frame.

    Args:
        video: its estimates [V, N] are each in the frame of their camera.
        cameras: [V] from the common frame.
    """
    pose, betas, translation = vars(video.estimate).values()
    back = jnp.swapaxes(cameras.rotation, -1, -2)[:, None]
    pose = pose.at[:, :, 0].set(back @ pose[:, :, 0])
    # A rotation turns a body about the frame's origin, and the pelvis is not at the body's.
    rest = video.skeleton.rest[:3]
    pelvis = rest[:, 0] + betas @ rest[:, 1:].T
    there = pelvis + translation - cameras.translation[:, None]
    moved = jnp.einsum("vnij,vnj->vni", jnp.broadcast_to(back, (*pose.shape[:2], 3, 3)), there)
    middle = sh.x_to_rotations(jnp.median(sh.rotations_to_x(pose), axis=0))
    shape = jnp.broadcast_to(betas.mean((0, 1)), betas.shape[1:])
    place = jnp.median(moved, axis=0) - (rest[:, 0] + shape @ rest[:, 1:].T)
    return sh.Estimate(middle, shape, place)


@dataclass(frozen=True)
class _Measure:
    """The metrics of bodies, and their means over frames that count."""

    of: Callable[[Any], dict[str, jax.Array]]  # each [..., N]
    first: dict[str, np.ndarray]
    good: np.ndarray  # [..., N]
    swapped: np.ndarray

    def row(self, setting: str, method: str, run: Callable[[], Any]) -> dict[str, Any]:
        """Measures a method: run() gives bodies, and their Info or None."""
        jax.block_until_ready(run())  # compiles
        start = time.perf_counter()
        bodies, info = jax.block_until_ready(run())
        seconds = time.perf_counter() - start
        found = {name: np.asarray(value) for name, value in self.of(bodies).items()}
        row: dict[str, Any] = {"setting": setting, "method": method, "prior": PRIOR}
        for name, values in found.items():
            every = name in ("acceleration", "reprojection_px")
            row[name] = float(values.mean() if every else values[self.good].mean())
        kept = self.good & ~self.swapped
        row["pa_mpjpe_unswapped"] = float(found["pa_mpjpe"][kept].mean())
        worse = found["pa_mpjpe"] > self.first["pa_mpjpe"] + 2
        row["worse_2mm_share"] = float(worse[self.good].mean())
        row["n"] = int(self.good.sum())
        row["kept"] = 0 if info is None else int((info.status != OK).sum())
        row["seconds_per_frame"] = None if info is None else seconds / self.good.size
        return row


def _in_views(video: Video) -> _Measure:
    each = jax.tree.map(lambda a: a[:, None], video.camera)
    world = np.broadcast_to(video.joints, (len(video.swapped), *video.joints.shape))
    placed = to_camera_frame(world, each)
    plain = _alone(video.camera, video.swapped.shape)

    @jax.jit
    def of(bodies: Any) -> dict[str, jax.Array]:
        points = video.skeleton(bodies.pose, bodies.betas, bodies.translation)
        off = _pixels_off(points, plain, video.keypoints)
        return _errors(points[..., _OF_BODY, :], placed) | {"reprojection_px": off}

    good = np.broadcast_to(video.good, video.swapped.shape)
    return _Measure(of, jax.tree.map(np.asarray, of(video.estimate)), good, video.swapped)


def _in_one_frame(
    video: Video, frame: sh.Camera, cameras: sh.Camera, first: sh.Estimate
) -> _Measure:
    placed = to_camera_frame(jnp.asarray(video.joints), frame)
    each = jax.tree.map(lambda a: a[:, None], cameras)

    @jax.jit
    def of(bodies: Any) -> dict[str, jax.Array]:
        points = video.skeleton(bodies.pose, bodies.betas, bodies.translation)
        seen = jnp.broadcast_to(points, (len(video.swapped), *points.shape))
        off = _pixels_off(seen, each, video.keypoints).mean(0)
        return _errors(points[..., _OF_BODY, :], placed) | {"reprojection_px": off}

    none = np.zeros_like(video.good)
    return _Measure(of, jax.tree.map(np.asarray, of(first)), video.good, none)


def _errors(found: jax.Array, true: jax.Array) -> dict[str, jax.Array]:
    """Errors of joints [..., N, 12, 3], [..., N]."""
    middle, true_middle = (j[..., _HIPS, :].mean(-2) for j in (found, true))
    centred, true_centred = found - middle[..., None, :], true - true_middle[..., None, :]
    return {
        "pa_mpjpe": metrics.pa_mpjpe(found, true),
        "mpjpe": metrics.mpjpe(centred, true_centred),
        "acceleration": metrics.acceleration_error(centred, true_centred),
        "pelvis_mm": metrics.pelvis_error(middle, true_middle),
    }


def _pixels_off(points: jax.Array, camera: sh.Camera, keypoints: sh.Keypoints2D) -> jax.Array:
    """Distance [..., N] of points from the detections, a mean by their confidence."""
    off = jnp.linalg.norm(sh.project(points, camera) - keypoints.xy, axis=-1)
    # All keypoints of the video count alike.
    share = keypoints.confidence
    return (off * share).sum(-1) / share.sum(-1).mean()


def _plain(
    measure: _Measure, setting: str, estimate: sh.Estimate, terms: Any
) -> Iterator[dict[str, Any]]:
    """Plain optimisation on the same terms, free and at its best pull."""
    skeleton = Skeleton.of(body_model.open_body())
    run = jax.jit(lambda estimate, terms, pull: adam(skeleton, estimate, terms, pull))
    yield measure.row(setting, "Adam, no pull", lambda: run(estimate, terms, 0.0))
    rows = [
        measure.row(setting, f"Adam, pull {pull:g}", lambda p=pull: run(estimate, terms, p))
        for pull in PULLS
    ]
    yield min(rows, key=lambda row: row["pa_mpjpe"])


def _alone(camera: sh.Camera, shape: tuple[int, ...]) -> sh.Camera:
    """Cameras [V, N], each the frame of its own bodies."""
    alone = replace(camera, rotation=None, translation=None)
    return jax.tree.map(lambda a: jnp.broadcast_to(a[:, None], (*shape, *a.shape[1:])), alone)


def _width(form: str) -> int:
    return int(form.partition(".")[0])


if __name__ == "__main__":
    sys.exit(main())
