"""Refinement from a detector's keypoints on real video, against joints from four cameras.

    python -m benchmarks.real --data DIR [--videos WHEEL [--kept FOLDER]] [--json FILE] [--quick]

One man before four calibrated cameras, 100 frames. DIR holds his triangulated joints, with
detections and first estimates of another making (single_*.npz; its README.md tells of them). With
`--videos` all but the true joints is made of the videos themselves (real_videos.py), and the
calibration is the demo's, in which camera 3 is 28 pixels off. The joints come from the same
detector as the keypoints and are good to about 10 mm.

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
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import body_model
import scorehmr_jax as sh
from benchmarks import machine, real_videos
from benchmarks.fusion import fused
from benchmarks.real_metrics import OF_DETECTOR, Measure, Video, alone, in_one_frame, in_views
from body_model import Skeleton
from body_model.joints import OPENPOSE_25
from scorehmr_jax.baselines.adam import AdamConfig, adam
from scorehmr_jax.evaluation.tasks import TASKS

FILES = tuple(
    f"single_{name}.npz"
    for name in ("cameras", "detections_track", "first_estimates", "triangulated")
)
PRIOR = "open-uncond"
PULLS = (1.0, 3.0, 10.0, 30.0)
# A shape that is refined, and how strongly it is held near the mean.
_FREE = sh.RefineConfig(shape_rate=0.02, share_shape=True)
_FREE_ADAM = AdamConfig(shape_rate=0.02, share_shape=True)
_USUAL = 0.3
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


def main(arguments: list[str] | None = None) -> int:
    summary, _, rest = __doc__.partition("\n")
    parser = argparse.ArgumentParser(
        "benchmarks.real",
        description=summary,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of single_*.npz")
    parser.add_argument("--videos", type=Path, help="the wheel of pose2sim, or its demo's folder")
    parser.add_argument("--kept", type=Path, help="folder that keeps what the detector found")
    parser.add_argument("--json", type=Path, help="where to write the rows")
    parser.add_argument("--quick", action="store_true", help="every fourth frame")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=[*SETTINGS])
    options = parser.parse_args(arguments)
    lacking = [name for name in FILES if not (options.data / name).is_file()]
    if lacking:
        parser.error(f"--data {options.data}: no {', '.join(lacking)} in this folder")
    video, told = read(options.data), {"machine": machine.describe()}
    if options.videos:
        seen = real_videos.see(options.videos, body_model.open_body(), options.kept)
        video = of_videos(video, seen)
        told |= {"seconds_per_frame": seen.seconds}
        print(", ".join(f"{name} {1000 * s:.1f} ms a frame" for name, s in seen.seconds.items()))
    if options.quick:
        video = every_so_many(video, 4)
    rows = []
    print(f"{'setting':11}{'method':28}", *(f"{t:>{_width(f)}}" for t, f in COLUMNS.values()))
    for row in benchmark(video, options.settings):
        cells = (
            f"{'-':>{_width(form)}}" if row[name] is None else f"{row[name]:{form}}"
            for name, (_, form) in COLUMNS.items()
        )
        print(f"{row['setting']:11}{row['method']:28}", *cells, flush=True)
        rows.append(row | {"prior": PRIOR})
    machine.write(told | {"rows": rows}, options.json)
    return 0


def read(folder: Path) -> Video:
    """Reads the video's numbers."""
    cameras, _, first, true = (dict(np.load(folder / name)) for name in FILES)
    number = jnp.float32
    # The keypoints are those of a pinhole already.
    camera = sh.calibrated_camera(
        *(jnp.asarray(cameras[key], number) for key in ("K", "image_size", "R", "t"))
    )
    return Video(
        skeleton=Skeleton.of(body_model.open_body()),
        camera=camera,
        calibration=camera,
        estimate=sh.Estimate(*(jnp.asarray(first[k]) for k in ("pose", "betas", "translation"))),
        keypoints=sh.Keypoints2D(
            jnp.asarray(first["keypoints"][..., :2]), jnp.asarray(first["keypoints"][..., 2])
        ),
        joints=true["joints"][:, OF_DETECTOR],
        good=true["good"],
        swapped=true["swapped_track"],
    )


def of_videos(video: Video, seen: real_videos.Seen) -> Video:
    """The same man with the numbers that were made of his videos here."""
    return replace(
        video,
        calibration=seen.camera,
        estimate=seen.estimate,
        keypoints=sh.Keypoints2D(*(jnp.asarray(a) for a in vars(seen.keypoints).values())),
    )


def every_so_many(video: Video, stride: int) -> Video:
    """Leaves frames out."""
    frames = slice(None, None, stride)
    estimate, keypoints = jax.tree.map(lambda a: a[:, frames], (video.estimate, video.keypoints))
    return replace(
        video,
        estimate=estimate,
        keypoints=keypoints,
        joints=video.joints[frames],
        good=video.good[frames],
        swapped=video.swapped[:, frames],
    )


def benchmark(video: Video, settings: list[str]) -> Iterator[dict[str, Any]]:
    """Runs every method in every setting."""
    for setting in settings:
        yield from SETTINGS[setting](video)


def single(video: Video, setting: str = "single") -> Iterator[dict[str, Any]]:
    """Frames alone, or as a video with smoothness: the terms and loops of the paper's tasks."""
    task = TASKS["keypoints" if setting == "single" else setting]
    terms = task.terms(video.keypoints, alone(video.camera, video.swapped.shape))
    measure = in_views(video)
    yield measure.row(setting, "estimate", lambda: (video.estimate, None))
    prior = sh.load_prior(PRIOR)
    ours = sh.RefineConfig.for_images if setting == "single" else sh.RefineConfig.for_video
    methods = [
        ("released", task.config("released"), terms),
        ("default, of networks", task.config("default"), terms),
        ("default, of lifted bodies", ours(lifted=True), terms),
    ]
    if setting == "video":
        steady = [*terms, sh.smooth_camera()]
        methods += [
            ("released, steady place", sh.RefineConfig(), steady),
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

    def by_view(found: Any) -> Any:
        refined, info = found
        return by_frame(refined), replace(
            info,
            losses=None,
            status=info.status.T,
            kept_share=None,
            expected=None,
            stop_step=info.stop_step.T,
        )

    estimate, keypoints = by_frame((video.estimate, video.keypoints))
    camera = by_frame(alone(video.camera, video.swapped.shape))
    together = [sh.keypoints_2d(keypoints, camera), sh.multiview()]
    measure = in_views(video)
    yield measure.row("multiview", "estimate", lambda: (video.estimate, None))
    prior = sh.load_prior(PRIOR)
    for name, config, terms in (
        ("consistency alone", sh.RefineConfig(), [sh.multiview()]),
        ("keypoints and consistency", sh.RefineConfig(), together),
        ("default", sh.RefineConfig.for_views(), together),
    ):
        refiner = sh.make_refiner(prior, video.skeleton, config)

        def run(refiner=refiner, terms=terms):
            return by_view(refiner(estimate, None, terms))

        yield measure.row("multiview", name, run)
    yield from _plain(measure, "multiview", estimate, together, by_view)


def calibrated(video: Video) -> Iterator[dict[str, Any]]:
    """One body in four views whose places are known, over all frames."""
    frame = sh.levelled(jax.tree.map(lambda a: a[0], video.camera), jnp.array([0.0, 0, 1]))
    cameras = sh.relative_to(video.calibration, frame)
    estimate = fused(video.skeleton, video.estimate, jax.tree.map(lambda a: a[:, None], cameras))
    keypoints = replace(
        video.keypoints, confidence=video.keypoints.confidence.at[..., _FAR_OFF].set(0)
    )
    views = sh.calibrated_views(keypoints, cameras)
    terms = [views, sh.smooth(), sh.smooth_camera()]
    measure = in_one_frame(video, frame, cameras, estimate)
    yield measure.row("calibrated", "median of the views", lambda: (estimate, None))
    prior = sh.load_prior(PRIOR)
    usual = sh.usual_shape(_USUAL)
    for name, config, evidence in (
        ("released, frames alone", sh.RefineConfig(), [views]),
        ("released", sh.RefineConfig(), terms),
        ("default for video", sh.RefineConfig.for_video(), terms),
        ("released, one free shape", _FREE, [*terms, usual]),
        ("same, keypoints' weight x3", _FREE, [sh.weighted(3.0, views), *terms[1:], usual]),
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


def _plain(
    measure: Measure,
    setting: str,
    estimate: sh.Estimate,
    terms: Any,
    arranged: Callable[[Any], Any] = lambda found: found,
) -> Iterator[dict[str, Any]]:
    """Plain optimisation on the same terms: free, at its best pull, and with a free shape."""
    skeleton = Skeleton.of(body_model.open_body())
    free = [*terms, sh.usual_shape(_USUAL)]
    for name, config, evidence in (
        ("Adam", AdamConfig(), terms),
        ("Adam, free shape", _FREE_ADAM, free),
    ):
        if setting == "single" and config.share_shape:
            config = replace(config, share_shape=False)
        run = jax.jit(
            lambda estimate, terms, pull, c=config: adam(skeleton, estimate, terms, pull, c)
        )
        rows = [
            measure.row(
                setting,
                f"{name}, {f'pull {pull:g}' if pull else 'no pull'}",
                lambda r=run, e=evidence, p=pull: arranged(r(estimate, e, p)),
            )
            for pull in (0.0, *PULLS)
        ]
        best = min(rows, key=lambda row: row["pa_mpjpe"])
        yield from [rows[0], best] if best is not rows[0] else [best]


def _width(form: str) -> int:
    return int(form.partition(".")[0])


if __name__ == "__main__":
    sys.exit(main())
