"""`scorehmr demo`: a motion is estimated badly, refined three ways, measured and drawn.

The estimates and detections are simulated, so that the truth is known.
"""

import argparse
import importlib.util
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from body_model import SMPL, Skeleton
from body_model.files import local_path
from scorehmr_jax.camera import project
from scorehmr_jax.evaluation import metrics
from scorehmr_jax.guidance import keypoints_2d, multiview, smooth
from scorehmr_jax.load import load_prior
from scorehmr_jax.output.html_report import Figure, Row, format_table, save_report
from scorehmr_jax.prior import Prior
from scorehmr_jax.refine import Info, RefineConfig, make_refiner
from scorehmr_jax.simulation.authored_motion import FPS
from scorehmr_jax.simulation.scene import Scene, film, photograph
from scorehmr_jax.types import Array, Camera, Estimate, Refined

SHOWN = (8, 72, 114)  # frames of the pictures: a step, the knee bend, the wave
SHOWN_MOMENT = 26  # of MOMENTS, in the picture of the four views
STRIP = range(6, 120, 12)
PICTURE_COLORS = 256  # of a file: half the size, and no difference to be seen

COLUMNS = {
    "MPJPE": "mm",
    "PA-MPJPE": "mm",
    "acceleration": "mm/frame²",
    "2D error": "px",
    "time": "s per frame",
}


def add_parser(commands: Any) -> None:
    """Adds the subcommand to those of a parser."""
    parser = commands.add_parser("demo", help="refine a built-in motion; write a report")
    parser.add_argument("--out", type=Path, default=Path("demo_out"), help="folder for the files")
    parser.add_argument("--prior", default="open-cond", help="a shipped prior or a checkpoint")
    parser.add_argument("--seed", type=int, default=0, help="of the simulated errors")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    run(args.out, args.seed, args.prior)


def run(
    out_dir: str | Path = "demo_out", seed: int = 0, prior: str | Path | Prior = "open-cond"
) -> list[Row]:
    """Refines an authored motion as single frames, as a video and as four views.

    Prints the table and writes report.html, the pictures, refined.npz and animation.glb.

    Args:
        out_dir: folder for the files, made if need be.
        seed: of the simulated errors.
        prior: a prior, or what `load_prior` takes.
    Returns:
        The rows of the table.
    Raises:
        ModuleNotFoundError: if a package of the extra `viz` is not installed.
    """
    _need("matplotlib", "jinja2", "pygltflib")
    from scorehmr_jax.formats.estimates import write_estimates
    from scorehmr_jax.output.demo_pictures import draw_moments, draw_strip, draw_views
    from scorehmr_jax.output.gltf import save_glb
    from scorehmr_jax.output.pictures import save_png

    out_dir = local_path(out_dir)
    prior = prior if isinstance(prior, Prior) else load_prior(prior)
    body = default_body()
    skeleton = Skeleton.of(body)
    key_video, key_views = jax.random.split(jax.random.key(seed))
    video = film(key_video, body, skeleton)
    views = photograph(key_views, body, skeleton)

    seen = keypoints_2d(video.keypoints, video.camera)
    agree = (keypoints_2d(views.keypoints, views.camera), multiview())
    settings: dict[str, tuple] = {
        "single frames": (RefineConfig.for_images(), video, (seen,)),
        "video": (RefineConfig.for_video(), video, (seen, smooth())),
        "four views": (RefineConfig.for_views(), views, agree),
    }
    rows, refined, status = [], {}, {}
    for name, (config, scene, terms) in settings.items():
        print(f"refining: {name} ...", flush=True)
        refiner = make_refiner(prior, skeleton, config)
        refined[name], info, seconds = timed(refiner, scene, terms)
        status[name] = info.status
        before = measure(body, skeleton, scene, scene.estimate)
        after = measure(body, skeleton, scene, refined[name])
        rows.append(Row(name, before, after | {"time": seconds}))
    print("\n" + format_table(COLUMNS, rows) + "\n")

    print("drawing ...", flush=True)
    found = refined["video"]
    figures = [
        Figure("Before and after", CAPTIONS[0], draw_moments(body, video, found, SHOWN)),
        Figure(
            "Four views", CAPTIONS[1], draw_views(body, views, refined["four views"], SHOWN_MOMENT)
        ),
        Figure("The motion", CAPTIONS[2], draw_strip(body, video, found, STRIP)),
    ]
    pictures = ("before_after.png", "four_views.png", "motion.png")
    for name, figure in zip(pictures, figures, strict=True):
        save_png(out_dir / name, figure.picture, PICTURE_COLORS)
    title = "ScoreHMR in JAX: a demonstration"
    save_report(out_dir / "report.html", title, LEAD, COLUMNS, rows, figures, NOTES)
    write_estimates(
        out_dir / "refined.npz",
        found,
        video.camera,
        video.keypoints,
        status=status["video"],
        fps=FPS,
        first=video.estimate,
    )
    save_glb(
        out_dir / "animation.glb", body, found.pose, found.betas.mean(0), found.translation, FPS
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
    """Loads the open body, or where its data are not installed, the capsule figure."""
    from body_model.open.open_body import open_body
    from body_model.open.stand_in import stand_in

    try:
        return open_body()
    except ModuleNotFoundError as error:
        warnings.warn(f"{error}\nThe demo goes on with a plain capsule figure.", stacklevel=2)
        return stand_in()


def timed(
    refiner: Callable[..., tuple[Refined, Info]], scene: Scene, terms: tuple
) -> tuple[Refined, Info, float]:
    """Refines the estimate of a scene, twice.

    Args:
        refiner: of `make_refiner`.
        scene: of any leading axes.
        terms: what guides.
    Returns:
        The refined bodies, what became of them, and seconds per frame once all is compiled.
    """
    jax.block_until_ready(refiner(scene.estimate, None, terms))
    start = time.perf_counter()
    refined, info = jax.block_until_ready(refiner(scene.estimate, None, terms))
    return refined, info, (time.perf_counter() - start) / info.status.size


def measure(
    body: SMPL, skeleton: Skeleton, scene: Scene, found: Estimate | Refined
) -> dict[str, float]:
    """Measures bodies of a scene.

    Args:
        body, skeleton: of the scene's people.
        scene: of a video's frames [N], or of moments and views [M, V].
        found: bodies of the same leading axes.
    Returns:
        The columns of the table, averaged; acceleration only of a video.
    """
    person = Estimate(found.pose, found.betas, found.translation)
    axes = person.betas.ndim - 1
    # One shape for all settings: what is compiled for one serves the others.
    flat = jax.tree.map(
        lambda a: a.reshape(-1, *a.shape[axes:]), (person, scene.truth, scene.camera)
    )
    figures = jax.device_get(_measured(body, skeleton, *flat))
    if axes > 1:
        del figures["acceleration"]
    return {name: float(value.mean()) for name, value in figures.items()}


@jax.jit
def _measured(
    body: SMPL, skeleton: Skeleton, found: Estimate, truth: Estimate, camera: Camera
) -> dict[str, Float[Array, " _"]]:
    def joints(person: Estimate) -> Array:
        joints = body.joints(person.pose, person.betas)
        return joints - joints[..., :1, :]

    def pixels(person: Estimate) -> Array:
        return project(skeleton(person.pose, person.betas, person.translation), camera)

    a, b = joints(found), joints(truth)
    all_seen = jnp.ones((len(a), skeleton.num_keypoints))
    return {
        "MPJPE": metrics.mpjpe(a, b),
        "PA-MPJPE": metrics.pa_mpjpe(a, b),
        "2D error": metrics.keypoint_error(pixels(found), pixels(truth), all_seen),
        "acceleration": metrics.acceleration_error(a, b),
    }
