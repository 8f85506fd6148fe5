"""The demo: a motion is estimated badly, refined three ways, measured and drawn.

The estimates and detections are simulated, so that the truth is known.
"""

import importlib.util
import time
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from body_model import SMPL, Skeleton
from scorehmr_jax.camera import project
from scorehmr_jax.evaluation import metrics
from scorehmr_jax.guidance import keypoints_2d, multiview, smooth
from scorehmr_jax.load import load_prior
from scorehmr_jax.prior import Prior
from scorehmr_jax.refine import make_refiner
from scorehmr_jax.simulation.authored_motion import FPS
from scorehmr_jax.simulation.scene import Scene, film, photograph
from scorehmr_jax.types import Array, Estimate, Refined

SHOWN = (8, 72, 114)  # frames of the pictures: a step, the knee bend, the wave
SHOWN_MOMENT = 26  # of MOMENTS, in the picture of the four views
STRIP = range(6, 120, 12)

COLUMNS = {
    "MPJPE": "mm", "PA-MPJPE": "mm", "acceleration": "mm/frame²", "2D error": "px",
    "time": "s per frame",
}  # fmt: skip


def add_parser(commands: Any) -> None:
    """Adds the subcommand to those of a parser."""
    parser = commands.add_parser("demo", help="refine a built-in motion; write a report")
    parser.add_argument("--out", type=Path, default=Path("demo_out"))
    parser.add_argument("--prior", default="open-cond", help="a shipped prior or a checkpoint")
    parser.add_argument("--seed", type=int, default=0, help="of the simulated errors")
    parser.set_defaults(run=lambda args: run(args.out, args.seed, args.prior))


def run(
    out_dir: str | Path = "demo_out", seed: int = 0, prior: str | Path | Prior = "open-cond"
) -> list:
    """Refine an authored motion as single frames, as a video and as four views.

    Prints the table and writes report.html, the pictures, refined.npz and animation.glb.

    Args:
        out_dir: folder for the files, made if need be.
        seed: of the simulated errors.
        prior: a prior, or what `load_prior` takes.
    Returns:
        The rows of the table, `output.report.Row`.
    """
    _need("matplotlib", "jinja2", "pygltflib")
    from scorehmr_jax.formats.estimates import write_estimates
    from scorehmr_jax.output.demo_pictures import draw_moments, draw_strip, draw_views
    from scorehmr_jax.output.export import save_glb
    from scorehmr_jax.output.render import save_png
    from scorehmr_jax.output.report import Figure, Row, format_table, save_report

    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    prior = prior if isinstance(prior, Prior) else load_prior(prior)
    body = default_body()
    skeleton = Skeleton.of(body)
    key_video, key_views = jax.random.split(jax.random.key(seed))
    video = film(key_video, body, skeleton)
    views = photograph(key_views, body, skeleton)

    seen = keypoints_2d(video.keypoints, video.camera)
    agree = (keypoints_2d(views.keypoints, views.camera), multiview(weight=100.0))
    refiner = make_refiner(prior, skeleton)
    settings: dict[str, tuple] = {
        # Weights are traced: with smoothness at 0 the video's program does single frames too.
        "single frames": (video, (seen, smooth(weight=0.0))),
        "video": (video, (seen, smooth())),
        "four views": (views, agree),
    }
    rows, refined = [], {}
    for name, (scene, terms) in settings.items():
        print(f"refining: {name} ...", flush=True)
        refined[name], seconds = timed(refiner, scene, terms)
        before = measure(body, skeleton, scene, scene.estimate)
        after = measure(body, skeleton, scene, refined[name])
        rows.append(Row(name, before, after | {"time": seconds}))
    print("\n" + format_table(COLUMNS, rows) + "\n")

    print("drawing ...", flush=True)
    figures = [
        Figure("Before and after", CAPTIONS[0], draw_moments(body, video, refined["video"], SHOWN)),
        Figure(
            "Four views", CAPTIONS[1], draw_views(body, views, refined["four views"], SHOWN_MOMENT)
        ),
        Figure("The motion", CAPTIONS[2], draw_strip(body, video, refined["video"], STRIP)),
    ]
    pictures = ("before_after.png", "four_views.png", "motion.png")
    for name, figure in zip(pictures, figures, strict=True):
        save_png(out_dir / name, figure.picture)
    save_report(
        out_dir / "report.html", "ScoreHMR in JAX: a demonstration", LEAD, COLUMNS, rows, figures,
        NOTES,
    )  # fmt: skip
    result = refined["video"]
    write_estimates(out_dir / "refined.npz", result, video.camera, video.keypoints)
    save_glb(
        out_dir / "animation.glb", body, result.pose, result.betas.mean(0), result.translation, FPS
    )
    written = ("report.html", *pictures, "refined.npz", "animation.glb")
    print(f"wrote {', '.join(written)} to {out_dir}/")
    return rows


def _need(*packages: str) -> None:
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(
            f"the demo draws and writes with {', '.join(missing)}: "
            f"pip install {' '.join(missing)}, or set everything up with `make demo`"
        )


LEAD = (
    "A motion is seen by a camera. A regression network's first estimate and a detector's 2D "
    "keypoints are simulated, the way real ones err; the estimate is then refined with the prior "
    "shipped in this package, with no image and no retraining."
)
NOTES = (
    "Lower is better everywhere. 3D errors are taken over SMPL's 24 joints, pelvis on pelvis; the "
    "2D error is the distance from the true keypoints in a picture of 1000 pixels, where the "
    "person is about 600 pixels tall; acceleration is that of the video, so four views have none.",
    "Time is that of a whole compiled refinement on this machine, divided by its frames.",
)
CAPTIONS = (
    "The estimate (orange) and the body refined as a video (blue), with the detected keypoints "
    "over them: left side blue, right side red, pale where the detector is unsure. Estimates of "
    "networks agree with the image; their errors hide in depth. Seen from the side they show. At "
    "the left each frame's PA-MPJPE.",
    "One moment in four views that know nothing of each other's cameras: above, each view's "
    "estimate; below, refined together so that all views agree on one pose.",
    "The video's frames from the side: above the estimate, then refined, below the truth.",
)


def default_body() -> SMPL:
    """The open body, or where its data are not installed, the capsule figure."""
    from body_model.open.open_body import open_body
    from body_model.open.stand_in import stand_in

    try:
        return open_body()
    except ModuleNotFoundError as error:
        warnings.warn(f"{error}\nThe demo goes on with a plain capsule figure.", stacklevel=2)
        return stand_in()


def timed(refiner: Any, scene: Scene, terms: tuple) -> tuple[Refined, float]:
    """A refinement, and its seconds per frame once it is compiled."""
    jax.block_until_ready(refiner(scene.estimate, None, terms))
    start = time.perf_counter()
    refined, _ = jax.block_until_ready(refiner(scene.estimate, None, terms))
    return refined, (time.perf_counter() - start) / scene.keypoints.xy[..., 0, 0].size


def measure(
    body: SMPL, skeleton: Skeleton, scene: Scene, found: Estimate | Refined
) -> dict[str, float]:
    """The columns of the table, averaged."""

    is_video = found.betas.ndim == 2
    # One shape for all settings: what is compiled for one serves the others.
    found, true, camera = jax.tree.map(
        lambda array: array.reshape(-1, *array.shape[scene.keypoints.confidence.ndim - 1 :]),
        (found, scene.truth, scene.camera),
    )

    def joints(person: Any) -> Array:
        joints = body.joints(person.pose, person.betas)
        return joints - joints[..., :1, :]

    def pixels(person: Any) -> Array:
        return project(skeleton(person.pose, person.betas, person.translation), camera)

    a, b = joints(found), joints(true)
    figures = {
        "MPJPE": metrics.mpjpe(a, b),
        "PA-MPJPE": metrics.pa_mpjpe(a, b),
        "2D error": metrics.keypoint_error(
            pixels(found), pixels(true), jnp.ones((len(a), skeleton.num_keypoints))
        ),
    }
    if is_video:
        figures["acceleration"] = metrics.acceleration_error(a, b)
    return {name: float(jnp.mean(value)) for name, value in figures.items()}
