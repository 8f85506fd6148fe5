"""Overlays of a result made before: bodies over the pictures that they were found in."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from body_model import SMPL
from scorehmr_jax.commands.picture_overlays import draw_overlays
from scorehmr_jax.output.people import Person, read_first, read_people
from scorehmr_jax.types import Camera, Estimate

SUFFIXES = (".mp4", ".png")


def export_overlay(
    source: Path,
    out: Path,
    pictures: str | Path | None,
    model: SMPL,
    people: list[Person],
    before: str | Path | None = None,
    no_before: bool = False,
) -> Path:
    """Draws bodies over their pictures, beside those of another result, and from the side.

    Args:
        source: the .npz that the people are of, with cameras and keypoints.
        out: an .mp4 for a video, a .png for photos: of several, a folder of that name without
            suffix.
        pictures: the photo, the folder of photos or the video.
        model: the body.
        people: those to draw.
        before: an .npz of the same frames, drawn on the left; else the source's first estimates,
            or where it has none the picture alone.
        no_before: draws `people` alone.
    Returns:
        The file or folder written.
    Raises:
        ValueError: naming the file, if pictures are missing, of another kind or number, or the
            source has no cameras.
        ImportError: if a package of the extra `detect` is not installed.
    """
    from scorehmr_jax.formats.pictures import open_pictures

    if pictures is None:
        raise ValueError(f"{out}: bodies are drawn over pictures; give them as --pictures")
    opened = open_pictures(pictures)
    wanted = ".mp4" if opened.is_video else ".png"
    if out.suffix.lower() != wanted:
        kind = "a video" if opened.is_video else "photos"
        raise ValueError(f"{pictures}: is {kind}; expected the name of a {wanted}, found {out}")
    frames = len(people[0].present)
    if not opened.is_video and len(opened.files) != frames:
        raise ValueError(
            f"{pictures}: expected {frames} pictures, one a frame, found {len(opened.files)}"
        )
    after = _stacked(people)
    first: Estimate | None = jax.tree.map(lambda array: np.full_like(array, np.nan), after)
    if no_before:
        first = None
    elif before is not None:
        others, _ = read_people(before)
        if len(others[0].present) != frames:
            raise ValueError(
                f"{before}: expected the {frames} frames of {source}, found "
                f"{len(others[0].present)}"
            )
        first = _stacked(others)
    elif others := first_of(source, people):
        first = _stacked(others)
    camera = _camera(source, frames)
    (written,) = draw_overlays(opened, out, model, (first, after), camera, opened.is_video)
    return written


def first_of(source: Path, people: list[Person]) -> list[Person]:
    """First estimates in the same file of some of its people; none if it holds none."""
    rows = {person.row for person in people}
    return [person for person in read_first(source) if person.row in rows]


def _stacked(people: list[Person]) -> Estimate:
    """The bodies of people [P, T], NaN where there is none."""

    def masked(name: str) -> np.ndarray:
        rows = [getattr(person, name) for person in people]
        seen = [person.present.reshape(-1, *[1] * (rows[0].ndim - 1)) for person in people]
        return np.where(np.stack(seen), np.stack(rows), np.nan).astype(np.float32)

    return Estimate(masked("pose"), masked("betas"), masked("translation"))


def _camera(source: Path, frames: int) -> Camera:
    """The camera of every frame, [1, T]: all people are seen by one."""
    from scorehmr_jax.formats.estimates import read_estimates

    given: Any = read_estimates(source)
    lead = given.estimate.translation.ndim - 1
    return jax.tree.map(
        lambda a: np.asarray(a).reshape(-1, frames, *a.shape[lead:])[:1], given.camera
    )
