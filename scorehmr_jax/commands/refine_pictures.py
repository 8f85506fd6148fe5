"""From a photo, a folder of photos or a video to refined bodies, an .npz and an overlay."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np

from body_model import SMPL
from scorehmr_jax.commands.long_work import Clock, writable
from scorehmr_jax.commands.picture_cameras import Lens
from scorehmr_jax.commands.picture_estimates import (
    PictureEstimates,
    estimate_pictures,
    places,
    target_of,
    without_missing,
)
from scorehmr_jax.commands.picture_networks import Networks, features_wanted
from scorehmr_jax.commands.picture_overlays import draw_overlays
from scorehmr_jax.commands.picture_people import Where
from scorehmr_jax.detectors.protocol import Detections, Detector
from scorehmr_jax.formats.pictures import open_pictures
from scorehmr_jax.prior import Prior
from scorehmr_jax.types import Refined


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
    models: str | Path | None = None,
    where: Where | None = None,
    networks: Networks | None = None,
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
        models: folder with MediaPipe's networks; else they are found or fetched.
        where: files that say who is where; in place of people, detector and models.
        networks: that make the first estimates, and the features of a prior that takes some. By
            default bodies are lifted from the detector's points in 3D.
    Returns:
        The refined bodies [P, T], and what the detector saw.
    Raises:
        ValueError: if there is no picture, nobody is found in any, or the place for the results
            cannot be written.
        ImportError: if a package of the extra `detect` is not installed.
    """
    from body_model import load, open_body
    from scorehmr_jax.formats.estimates import write_estimates
    from scorehmr_jax.load import load_prior
    from scorehmr_jax.screening import PADDING

    clock = Clock()
    pictures = open_pictures(source)
    target = writable(target_of(pictures, out, "refined"))
    loaded, shown = load_prior(prior), networks or Networks()
    shown.check(features_wanted(loaded))
    model = load(body) if body else open_body()
    seen = estimate_pictures(
        pictures,
        model,
        where or Where(detector, people, models),
        lens or Lens(),
        shown,
        features_wanted(loaded),
        bool(video),
        clock,
    )
    present = seen.found.found
    refined, status = _refined(loaded, model, seen)
    clock.lap("refining")
    status = np.where(present, status, PADDING)
    refined = without_missing(refined, present)
    bodies, lenses, keypoints, features, first = jax.tree.map(
        lambda a: np.asarray(a)[seen.rows],
        (refined, seen.camera, seen.keypoints, seen.features, seen.estimate),
    )
    write_estimates(
        target,
        bodies,
        lenses,
        keypoints,
        features,
        status=status[seen.rows],
        fps=pictures.fps,
        first=first,
    )
    written = [target]
    if draw:
        both = (seen.estimate, refined)
        written += draw_overlays(pictures, target, model, both, seen.camera, seen.moving)
        clock.lap("drawing")
    for line in _summary(seen, status, written, clock):
        print(line)
    return refined, seen.found


def _refined(prior: Prior, model: SMPL, seen: PictureEstimates) -> tuple[Refined, np.ndarray]:
    from scorehmr_jax import guidance
    from scorehmr_jax.devices import Devices
    from scorehmr_jax.refine import RefineConfig, make_refiner

    devices, batch = Devices.all(), seen.found.score.shape
    given = (seen.estimate, seen.keypoints, seen.camera, seen.features, seen.found.found)
    (estimate, keypoints, camera, features, found), mask = devices.pad(given, batch)
    terms: list = [guidance.keypoints_2d(keypoints, camera)]
    if seen.moving:
        terms.append(guidance.smooth())
    config = RefineConfig.for_video() if seen.moving else RefineConfig.for_images()
    refiner = make_refiner(prior, model, config)
    refined, info = refiner(*devices.split((estimate, features, terms, mask & found), mask.shape))
    refined, status = devices.cut((refined, info.status), batch)
    return refined, np.asarray(status)


def _summary(
    seen: PictureEstimates, status: np.ndarray, written: Sequence[Path], clock: Clock
) -> Iterator[str]:
    from scorehmr_jax.screening import PADDING, STATUS

    yield from seen.summary()
    yield f"refined: {(status == 0).sum()} of {seen.found.found.sum()}"
    for code in np.unique(status[(status != 0) & (status != PADDING)]):
        for person in range(len(status)):
            if (rows := status[person] == code).any():
                yield f"  person {person + 1}, {places(seen.pictures, rows)}: {STATUS[code]}"
    yield (
        f"time:    {sum(clock.laps.values()):.1f} s ("
        + ", ".join(f"{name} {seconds:.1f}" for name, seconds in clock.laps.items())
        + ")"
    )
    yield f"wrote:   {', '.join(map(str, written))}"
