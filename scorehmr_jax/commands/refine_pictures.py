"""From a photo, a folder of photos or a video to refined bodies, an .npz and an overlay."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from body_model import SMPL
from scorehmr_jax.commands.estimate_summary import expectation
from scorehmr_jax.commands.focal_length import Lens
from scorehmr_jax.commands.gaps import fill_gaps, finite
from scorehmr_jax.commands.long_work import Clock, writable
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
from scorehmr_jax.commands.refine_parts import Outcome
from scorehmr_jax.detectors.protocol import Detections, Detector
from scorehmr_jax.formats.pictures import open_pictures
from scorehmr_jax.prior import Prior
from scorehmr_jax.types import Expectation, Refined


def refine_pictures(
    source: str | Path,
    out: str | Path | None = None,
    *,
    prior: str | None = None,
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
    where: Where | None = None,
    networks: Networks | None = None,
) -> tuple[Refined, Detections]:
    """Finds people in pictures, and refines their bodies.

    Args:
        source: a photo, a folder of photos or a video.
        out: the .npz to write, with the overlay beside it; or a folder for both, named after the
            source by default.
        prior: a shipped prior or a checkpoint; by default the shipped one that suits where the
            first estimates come from.
        body: an SMPL file; the open body by default.
        people: at most so many in each frame.
        lens: what is known of the focal length.
        detector: any; MediaPipe's by default.
        video: True if the photos of a folder are frames of one video, in order.
        draw: False leaves the overlay out.
        draw_before: False leaves the first estimates out of it.
        fps: frames per second of a video, in place of what it says itself.
        longest_gap: frames of a video in which a person is lost, up to so many, are filled; none
            with a prior that takes image features, which such frames do not have.
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
    if fps is not None and not ((pictures.is_video or video) and 0 < fps < math.inf):
        raise ValueError(
            f"--fps: expected frames per second of a video, above 0 (a folder's with --video), "
            f"found {fps:g}"
        )
    target = writable(target_of(pictures, out, "refined"))
    shown = networks or Networks()
    if prior is None:
        prior = "open-uncond" if shown.estimates is None else "open-cond"
    loaded = load_prior(prior)
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
    seen = replace(seen, fps=fps or seen.fps)
    fill = longest_gap if seen.moving and seen.features is None else 0
    # A network may have had nothing to look at where a detector was; that is a gap to it.
    whole = seen.found.found & finite(seen.estimate)
    estimate, filled = fill_gaps(seen.estimate, whole, fill)
    seen, present = replace(seen, estimate=estimate), seen.found.found | filled
    outcome = _refined(loaded, model, seen, present)
    clock.lap("refining")
    status = np.where(present, outcome.status, PADDING)
    refined = without_missing(outcome.refined, present)
    bodies, lenses, keypoints, features, first, expected = jax.tree.map(
        lambda a: np.asarray(a)[seen.rows],
        (refined, seen.camera, seen.keypoints, seen.features, seen.estimate, outcome.expected),
    )
    write_estimates(
        target,
        bodies,
        lenses,
        keypoints,
        features,
        status=status[seen.rows],
        kept_share=outcome.kept_share[seen.rows],
        expected=expected,
        filled=(filled & ~seen.found.found)[seen.rows] if seen.moving else None,
        fps=seen.fps,
        first=first,
    )
    written = [target]
    if draw:
        both = (seen.estimate if draw_before else None, refined)
        written += draw_overlays(pictures, target, model, both, seen.camera, seen.moving, seen.fps)
        clock.lap("drawing")
    for line in _summary(seen, filled, status, expected, written, clock):
        print(line)
    return refined, seen.found


def _refined(prior: Prior, model: SMPL, seen: PictureEstimates, present: np.ndarray) -> Outcome:
    from scorehmr_jax import guidance
    from scorehmr_jax.devices import Devices
    from scorehmr_jax.refine import RefineConfig, make_refiner

    devices, batch = Devices.all(), seen.found.score.shape
    given = (seen.estimate, seen.keypoints, seen.camera, seen.features, present)
    (estimate, keypoints, camera, features, real), mask = devices.pad(given, batch)
    terms: list = [guidance.keypoints_2d(keypoints, camera)]
    if seen.moving:
        terms.append(guidance.smooth())
    loop = RefineConfig.for_video if seen.moving else RefineConfig.for_images
    refiner = make_refiner(prior, model, loop(lifted=seen.lifted))
    refined, info = refiner(*devices.split((estimate, features, terms, mask & real), mask.shape))
    return Outcome.of(refined, info, devices, batch)


def _summary(
    seen: PictureEstimates,
    filled: np.ndarray,
    status: np.ndarray,
    expected: Expectation,
    written: Sequence[Path],
    clock: Clock,
) -> Iterator[str]:
    from scorehmr_jax.screening import PADDING, STATUS

    yield from seen.summary()
    found = seen.found.found
    yield f"refined: {(status[found] == 0).sum()} of {found.sum()}"
    yield from expectation(expected)
    for person, row in enumerate(filled & ~found):
        if row.any():
            where = places(seen.pictures, row)
            yield f"filled:  person {person + 1}: {where}, by the prior and smoothness alone"
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
