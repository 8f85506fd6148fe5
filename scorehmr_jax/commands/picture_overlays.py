"""Overlays of refined bodies beside the .npz: a picture, a folder of pictures or a video."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import jax
import numpy as np

from body_model import SMPL
from scorehmr_jax.commands.long_work import progress
from scorehmr_jax.formats.pictures import Pictures
from scorehmr_jax.types import Camera, Estimate, Refined

Bodies: TypeAlias = tuple[Estimate | None, Estimate | Refined]  # before, if wanted, and after

_AT_ONCE = 16  # frames whose meshes are made together


def draw_overlays(
    pictures: Pictures,
    target: Path,
    model: SMPL,
    bodies: Bodies,
    camera: Camera,
    moving: bool,
    fps: float | None = None,
) -> list[Path]:
    """Writes the overlay beside the .npz: a video, a picture, or a folder of pictures.

    Args:
        pictures: what is drawn over.
        target: the .npz.
        model: the body.
        bodies: before and after, [P, T]; without a first one those panels are left out.
        camera: [P, T].
        moving: the pictures are frames of one video.
        fps: frames per second, in place of the video's.
    """
    from scorehmr_jax.output.overlay import save_video
    from scorehmr_jax.output.pictures import save_png

    frames = progress(
        _overlays(pictures, model, bodies, camera, moving), "drawing", bodies[1].pose.shape[1]
    )
    if pictures.is_video:
        path = target.with_suffix(".mp4")
        save_video(path, frames, fps or pictures.fps or 30)
        return [path]
    if len(pictures.files) == 1:
        path = target.with_suffix(".png")
        save_png(path, next(iter(frames)))
        return [path]
    folder = target.with_suffix("")
    for file, frame in zip(pictures.files, frames, strict=True):
        save_png(folder / f"{file.name}.png", frame)
    return [folder]


def _overlays(
    pictures: Pictures,
    model: SMPL,
    bodies: Bodies,
    camera: Camera,
    moving: bool,
) -> Iterator[np.ndarray]:
    faces = np.asarray(model.faces)
    window: dict[str, Any] = {"samples": 1 if moving else 2}
    if moving:
        window |= _side_window(bodies)
    pose = jax.jit(model.vertices)
    frames, start, count = iter(pictures), 0, bodies[1].pose.shape[1]
    with ThreadPoolExecutor() as pool:
        while some := list(islice(frames, _AT_ONCE)):
            rows = np.arange(start, start + (_AT_ONCE if moving else len(some)))
            rows = np.minimum(rows, count - 1)  # of a video one program serves the last part too
            before, after = (
                [None] * len(rows)
                if b is None
                else np.asarray(
                    pose(*(np.asarray(a)[:, rows] for a in (b.pose, b.betas, b.translation)))
                ).swapaxes(0, 1)
                for b in bodies
            )
            lenses = [jax.tree.map(lambda a, t=t: np.asarray(a)[0, t], camera) for t in rows]
            draw = partial(_one, faces, window)
            yield from pool.map(draw, some, before, after, lenses)
            start += len(some)


def _one(
    faces: np.ndarray,
    window: dict[str, Any],
    frame: np.ndarray,
    before: np.ndarray | None,
    after: np.ndarray,
    camera: Camera,
) -> np.ndarray:
    from scorehmr_jax.output.overlay import before_and_after

    return before_and_after(
        frame, None if before is None else [*before], [*after], faces, camera, **window
    )


def _side_window(bodies: Bodies) -> dict[str, Any]:
    """One window for all frames of a video, so that movement in depth is seen."""
    places = np.concatenate(
        [np.asarray(b.translation).reshape(-1, 3) for b in bodies if b is not None]
    )
    places = places[np.isfinite(places).all(-1)]
    low, high = np.percentile(places, [2, 98], axis=0)
    reach = 1.2 + max(float((high - low)[1]) / 2, float((high - low)[2]))
    return {"middle": (low + high) / 2, "reach": reach}
