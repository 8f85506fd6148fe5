"""From a photo, a folder of photos or a video to refined bodies, an .npz and an overlay."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from body_model import SMPL
from body_model.files import local_path
from body_model.joints import JOINT_NAMES
from scorehmr_jax.commands.focal_length import Lens
from scorehmr_jax.commands.gaps import fill_gaps
from scorehmr_jax.commands.long_work import Clock, progress, writable
from scorehmr_jax.commands.picture_overlays import draw_overlays
from scorehmr_jax.commands.refine_parts import Outcome
from scorehmr_jax.detectors.protocol import Detections, Detector
from scorehmr_jax.formats.pictures import PHOTOS, VIDEOS, Pictures, open_pictures
from scorehmr_jax.types import Camera, Estimate, Keypoints2D, Refined

T = TypeVar("T")

_SHOWN = 12  # frames or pictures that the summary names, at most


def refine_pictures(
    source: str | Path,
    out: str | Path | None = None,
    *,
    prior: str = "open-cond",
    body: str | Path | None = None,
    people: int = 1,
    lens: Lens | None = None,
    detector: Detector | None = None,
    video: bool | None = None,
    draw: bool = True,
    draw_before: bool = True,
    fps: float | None = None,
    longest_gap: int = 30,
    models: str | Path | None = None,
) -> tuple[Refined, Detections]:
    """Finds people in pictures, and refines their bodies.

    Args:
        source: a photo, a folder of photos or a video.
        out: the .npz to write, with the overlay beside it; or a folder for both, named after the
            source by default.
        prior: a shipped prior or a checkpoint.
        body: an SMPL file; the open body by default.
        people: at most so many in each frame.
        lens: what is known of the focal length.
        detector: any; MediaPipe's by default.
        video: True if the photos of a folder are frames of one video, in order.
        draw: False leaves the overlay out.
        draw_before: False leaves the first estimates out of it.
        fps: frames per second of a video, in place of what it says itself.
        longest_gap: frames of a video in which a person is lost, up to so many, are filled.
        models: folder with MediaPipe's networks; else they are found or fetched.
    Returns:
        The refined bodies [P, T], and what the detector saw.
    Raises:
        ValueError: if there is no picture, nobody is found in any, the place for the results
            cannot be written, or fps is given for pictures that are no video.
        ImportError: if a package of the extra `detect` is not installed.
    """
    from body_model import load, open_body
    from scorehmr_jax.formats.estimates import write_estimates
    from scorehmr_jax.screening import PADDING

    clock = Clock()
    pictures = open_pictures(source)
    moving = pictures.is_video or bool(video)
    if fps is not None and not (moving and 0 < fps < math.inf):
        raise ValueError(
            f"--fps: expected frames per second of a video, above 0 (a folder's with --video), "
            f"found {fps:g}"
        )
    fps = fps or pictures.fps
    target = writable(_target(pictures, out))
    found, exchanged = _detected(pictures, detector, moving, people, models)
    clock.lap("finding people")
    model = load(body) if body else open_body()
    focals, lens_note = (lens or Lens()).focals(pictures, found.image_size)
    camera = _cameras(focals, found)
    estimate = _first_estimate(model, found, camera, moving)
    estimate, filled = fill_gaps(estimate, found.found, longest_gap if moving else 0)
    present = found.found | filled
    clock.lap("first estimate")
    keypoints = found.as_openpose()
    outcome = _refined(prior, model, estimate, keypoints, camera, present, moving)
    clock.lap("refining")
    status = np.where(present, outcome.status, PADDING)
    refined = _without_missing(outcome.refined, present)
    first = _without_missing(estimate, present)
    rows = slice(None) if len(status) > 1 else 0
    result, lenses, seen, start = jax.tree.map(
        lambda a: np.asarray(a)[rows], (refined, camera, keypoints, first)
    )
    write_estimates(
        target,
        result,
        lenses,
        seen,
        status=status[rows],
        kept_share=outcome.kept_share[rows],
        filled=filled[rows] if moving else None,
        fps=fps,
        first=start,
    )
    written = [target]
    if draw:
        bodies = (first if draw_before else None, refined)
        written += draw_overlays(pictures, target, model, bodies, camera, moving, fps)
        clock.lap("drawing")
    for line in _summary(
        pictures, fps, found, exchanged, filled, lens_note, status, written, clock
    ):
        print(line)
    return refined, found


def _target(pictures: Pictures, out: str | Path | None) -> Path:
    """The .npz to write."""
    path = local_path(out) if out is not None else Path(f"{pictures.source.stem}_refined")
    if path.suffix == ".npz":
        return path
    if path.suffix.lower() in (*PHOTOS, *VIDEOS, ".glb", ".json", ".pkl") and not path.is_dir():
        raise ValueError(f"{path}: ends in {path.suffix}; expected a folder, or the .npz to write")
    return path / "refined.npz"


def _detected(
    pictures: Pictures,
    detector: Detector | None,
    moving: bool,
    people: int,
    models: str | Path | None,
) -> tuple[Detections, np.ndarray]:
    from scorehmr_jax.detectors.mediapipe import MediaPipePose
    from scorehmr_jax.detectors.sides import with_sides_put_right

    if detector is None:
        detector = MediaPipePose(track=moving, people=people, models=models)
    found = detector(progress(pictures, "finding people", len(pictures.files)))
    if not found.found.any():
        raise ValueError(
            f"{pictures.source}: nobody was found in {len(found.image_size)} pictures; people "
            "should be seen from head to hip at least, and fill a tenth of the picture's height"
        )
    if moving:
        return with_sides_put_right(found)
    return found, np.zeros(found.score.shape, bool)


def _cameras(focals: np.ndarray, found: Detections) -> Camera:
    shape = (*found.score.shape, 2)
    size = np.broadcast_to(found.image_size, shape).astype(np.float32)
    focal = np.broadcast_to(focals[:, None], shape).astype(np.float32)
    return Camera(focal, size / 2, size)


def _first_estimate(model: SMPL, found: Detections, camera: Camera, moving: bool) -> Estimate:
    """The body that agrees with the detector's 3D points, placed by its 2D points."""
    from scorehmr_jax.lift import make_lifter

    if found.points is None:
        raise ValueError("detector: expected one with 3D points; of 2D points no body can be made")
    known = {*JOINT_NAMES, *dict(model.landmarks)}
    names = [name if name in known else None for name in found.names]
    xy, points = (np.nan_to_num(a).astype(np.float32) for a in (found.xy, found.points))
    confidence = np.where(found.found[..., None], found.confidence, 0).astype(np.float32)
    estimate, _ = make_lifter(model, names)(
        points,
        confidence,
        keypoints=Keypoints2D(xy, confidence),
        camera=camera,
        shared_shape=moving,
    )
    return estimate


def _refined(
    prior: str,
    model: SMPL,
    estimate: Estimate,
    keypoints: Keypoints2D,
    camera: Camera,
    found: np.ndarray,
    moving: bool,
) -> Outcome:
    from scorehmr_jax import guidance
    from scorehmr_jax.devices import Devices
    from scorehmr_jax.load import load_prior
    from scorehmr_jax.refine import RefineConfig, make_refiner

    devices = Devices.all()
    (estimate, keypoints, camera, found_), mask = devices.pad(
        (estimate, keypoints, camera, found), found.shape
    )
    terms: list = [guidance.keypoints_2d(keypoints, camera)]
    if moving:
        terms.append(guidance.smooth())
    config = RefineConfig.for_video() if moving else RefineConfig.for_images()
    refiner = make_refiner(load_prior(prior), model, config)
    given = devices.split((estimate, None, terms, mask & found_), mask.shape)
    refined, info = refiner(*given)
    return Outcome.of(refined, info, devices, found.shape)


def _without_missing(bodies: T, found: np.ndarray) -> T:
    """NaN where nobody was found."""

    def masked(array: Any) -> np.ndarray:
        return np.where(found.reshape(*found.shape, *(1,) * (np.ndim(array) - 2)), array, np.nan)

    return jax.tree.map(masked, bodies)


def _summary(
    pictures: Pictures,
    fps: float | None,
    found: Detections,
    exchanged: np.ndarray,
    filled: np.ndarray,
    lens_note: str,
    status: np.ndarray,
    written: Sequence[Path],
    clock: Clock,
) -> Iterator[str]:
    from scorehmr_jax.screening import PADDING, STATUS

    count = len(found.image_size)
    sizes = " and ".join(f"{w:.0f} x {h:.0f}" for w, h in np.unique(found.image_size, axis=0)[:3])
    rate = f" at {fps:g} per second" if fps else ""
    yield f"frames:  {count} of {sizes} pixels{rate}"
    for person, row in enumerate(found.found):
        more = f"; left and right put right in {exchanged[person].sum()}"
        missing = f"; not in {_places(pictures, ~row)}" if not row.all() and row.any() else ""
        yield (
            f"person {person + 1}: found in {row.sum()} of {count}"
            f"{more if exchanged[person].any() else ''}{missing}"
        )
    yield f"camera:  focal length {lens_note}"
    yield f"refined: {(status[found.found] == 0).sum()} of {found.found.sum()}"
    for person, row in enumerate(filled):
        if row.any():
            where = _places(pictures, row)
            yield f"filled:  person {person + 1}: {where}, by the prior and smoothness alone"
    for code in np.unique(status[(status != 0) & (status != PADDING)]):
        for person in range(len(status)):
            if (rows := status[person] == code).any():
                yield f"  person {person + 1}, {_places(pictures, rows)}: {STATUS[code]}"
    yield (
        f"time:    {sum(clock.laps.values()):.1f} s ("
        + ", ".join(f"{name} {seconds:.1f}" for name, seconds in clock.laps.items())
        + ")"
    )
    yield f"wrote:   {', '.join(map(str, written))}"


def _places(pictures: Pictures, rows: np.ndarray) -> str:
    """Names frames by number, from 0, or pictures by file."""
    index = np.flatnonzero(rows)
    some = [str(i) if pictures.is_video else pictures.files[i].name for i in index[:_SHOWN]]
    return ", ".join(some) + (f" and {len(index) - _SHOWN} more" if len(index) > _SHOWN else "")
