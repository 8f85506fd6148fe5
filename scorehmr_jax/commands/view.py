"""`scorehmr view`: bodies over time in the browser, or as a page that opens by itself."""

import argparse
import io
import time
import warnings
import webbrowser
from contextlib import redirect_stdout
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import numpy as np

from body_model import SMPL
from scorehmr_jax.output.people import Person, frame_rate, read_first, read_people
from scorehmr_jax.output.viewer import (
    Joints,
    Scene,
    Shown,
    new_server,
    save_page,
    small_jpeg,
    without_lens,
)
from scorehmr_jax.types import Camera

_HELP = """\
Show the bodies in an .npz, such as `scorehmr refine` makes, in the browser: over
time, with a slider. Blue is the body, orange the first estimate that it was refined
from, or one from another file (--before); joints go from green to red by their
distance from the detections in the image; the pictures that were refined stand
behind (--pictures).

With --export a page is written instead, which needs no network and no program but a
browser. Needs viser: pip install 'scorehmr-jax[view]'.
"""
_WORST = 0.02  # distance from a detection that is shown in full red, in the image's diagonal


def add_parser(commands: Any) -> None:
    """Adds the subcommand to those of a parser."""
    parser = commands.add_parser(
        "view",
        help="show bodies in the browser",
        description=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("result", type=Path, help="an .npz that `scorehmr refine` wrote")
    parser.add_argument(
        "--before", type=Path, help="an .npz to compare with; first estimates by default"
    )
    parser.add_argument("--pictures", type=Path, help="the photo, folder or video of the frames")
    parser.add_argument("--export", type=Path, help="an .html to write instead")
    parser.add_argument("--body", type=Path, help="the SMPL file used; the open body by default")
    parser.add_argument("--fps", type=float, help="frames per second; the .npz's by default")
    parser.add_argument("--width", type=int, default=640, help="of pictures shown, pixels; 640")
    parser.add_argument("--port", type=int, help="of the server; any that is free by default")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    shown, fps = _gather(args)
    if args.export is not None:
        save_page(args.export, shown, fps)
        size = args.export.stat().st_size / 1e6
        print(f"wrote {args.export}: {shown.frames} frames at {fps:g} per second, {size:.1f} MB")
        return
    _serve(shown, fps, args.port)


def _gather(args: argparse.Namespace) -> tuple[Shown, float]:
    """All that is shown, and frames per second."""
    from body_model import load, open_body

    people, fps = read_people(args.result)
    frames = len(people[0].present)
    if args.before is None:
        before = read_first(args.result)
    else:
        before, _ = read_people(args.before)
        if len(before[0].present) != frames:
            raise ValueError(
                f"{args.before}: expected the {frames} frames of {args.result}, found "
                f"{len(before[0].present)}"
            )
    body = load(args.body) if args.body else open_body()
    camera, joints = evidence(args.result, body, people)
    pictures: list[bytes] = []
    if args.pictures is not None:
        if camera is None:
            raise ValueError(f"{args.result}: holds no camera, so pictures cannot be put behind it")
        pictures, fps_seen = _pictures(args.pictures, frames, args.width, camera)
        fps = fps or fps_seen
    fps = frame_rate(args.result, args.fps, fps, frames)
    return Shown(body, people, before, joints, camera, pictures), fps


def _pictures(
    source: Path, frames: int, width: int, camera: Camera
) -> tuple[list[bytes], float | None]:
    """The pictures behind the bodies, as JPEG, without the lens's distortion; and their rate."""
    from scorehmr_jax.formats.pictures import open_pictures

    opened = open_pictures(source)
    found = [small_jpeg(without_lens(p, camera), width) for p in islice(opened, frames)]
    if len(found) != frames:
        raise ValueError(f"{source}: expected {frames} pictures, one a frame, found {len(found)}")
    return found, opened.fps


def evidence(source: Path, body: SMPL, people: list[Person]) -> tuple[Camera | None, list[Joints]]:
    """The first frame's camera, and each person's joints with their residuals, if there are any."""
    from body_model import Skeleton
    from body_model.files import npz_keys
    from scorehmr_jax.camera import project
    from scorehmr_jax.formats.estimates import read_estimates

    if not {"keypoints", "image_size"} <= {*npz_keys(source)}:
        return None, []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not read:")  # of other programs
        try:
            given = read_estimates(source)
        except ValueError as error:
            warnings.warn(f"{error}; so joints are left out", stacklevel=2)
            return None, []
    frames, lead = len(people[0].present), given.estimate.translation.shape[:-1]

    def rows(tree: Any, row: int) -> Any:
        return jax.tree.map(
            lambda a: np.asarray(a).reshape(-1, frames, *a.shape[len(lead) :])[row], tree
        )

    skeleton = Skeleton.of(body, num_betas=300)

    @jax.jit
    def seen(pose: Any, betas: Any, translation: Any, camera: Camera) -> Any:
        places = skeleton(pose, betas, translation)
        return places, project(places, camera)

    joints = []
    for person in people:
        camera, keypoints = rows(given.camera, person.row), rows(given.keypoints, person.row)
        at = (person.pose, person.betas, person.translation)
        places, xy = (
            np.asarray(a, float) for a in seen(*(a.astype(np.float32) for a in at), camera)
        )
        away = np.linalg.norm(xy - keypoints.xy, axis=-1)
        away = np.where(keypoints.confidence > 0, away, np.nan)
        worst = _WORST * float(np.nanmax(np.linalg.norm(camera.image_size, axis=-1)))
        joints.append(Joints(places, away, worst))
    camera = rows(given.camera, people[0].row)
    first = int(np.flatnonzero(people[0].present)[0])
    return jax.tree.map(lambda a: a[first], camera), joints


def _serve(shown: Shown, fps: float, port: int | None) -> None:
    """Shows it until Ctrl-C."""
    server = new_server(port)
    scene = Scene(server, shown)
    scene.show(0)
    frame = server.gui.add_slider("frame", 0, max(shown.frames - 1, 1), 1, 0)
    playing = server.gui.add_checkbox("play", shown.frames > 1)
    rate = server.gui.add_number("frames per second", fps, min=0.1, max=1000)
    given = {
        "refined": True,
        "before": bool(shown.before),
        "joints": bool(shown.joints),
        "picture": bool(shown.pictures),
    }
    for layer, there in given.items():
        if there:
            box = server.gui.add_checkbox(layer, True)
            box.on_update(lambda event, layer=layer: _switch(scene, layer, event.target, frame))
    worst = server.gui.add_markdown("") if shown.joints else None

    @frame.on_update
    def _(_: Any) -> None:
        scene.show(min(frame.value, shown.frames - 1))
        if worst is not None:
            worst.content = _residuals(shown, frame.value)

    url = f"http://localhost:{server.get_port()}"
    print(f"{url}: Ctrl-C ends it")
    webbrowser.open(url)
    try:
        while True:
            time.sleep(1 / max(rate.value, 0.1))
            if playing.value:
                frame.value = (frame.value + 1) % shown.frames
    finally:
        with redirect_stdout(io.StringIO()):
            server.stop()


def _switch(scene: Scene, layer: str, box: Any, frame: Any) -> None:
    scene.layers[layer] = box.value
    scene.show(min(frame.value, scene.shown.frames - 1))


def _residuals(shown: Shown, frame: int) -> str:
    """The three joints that are farthest from their detections, in words."""
    from body_model.joints import OPENPOSE_25

    lines = []
    for number, joints in enumerate(shown.joints, start=1):
        away = np.nan_to_num(joints.residual[min(frame, shown.frames - 1)])
        named = ", ".join(f"{OPENPOSE_25[k]} {away[k]:.0f}" for k in np.argsort(-away)[:3])
        lines.append(f"person {number}, pixels from the detections: {named}")
    return "\n\n".join(lines)
