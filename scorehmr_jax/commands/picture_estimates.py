"""First estimates of the people in pictures: lifted from a detector's points, or by a network."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from jaxtyping import Float

from body_model import SMPL
from body_model.files import local_path
from body_model.joints import JOINT_NAMES
from scorehmr_jax.commands.focal_length import Lens
from scorehmr_jax.commands.long_work import Clock
from scorehmr_jax.commands.picture_cameras import cameras
from scorehmr_jax.commands.picture_networks import Believed, Networks, believe
from scorehmr_jax.commands.picture_people import Where, boxes_of, find_people
from scorehmr_jax.detectors.protocol import Detections
from scorehmr_jax.formats.pictures import PHOTOS, VIDEOS, Pictures
from scorehmr_jax.types import Camera, Estimate, Keypoints2D

T = TypeVar("T")

_SHOWN = 12  # frames or pictures that a line names, at most


@dataclass(frozen=True)
class PictureEstimates:
    """First estimates and evidence of P people in the T frames of pictures."""

    pictures: Pictures
    found: Detections  # [P, T] who is where
    exchanged: np.ndarray  # [P, T] left and right were put right
    camera: Camera  # [P, T]
    estimate: Estimate  # [P, T]
    keypoints: Keypoints2D  # [P, T, 25] OpenPose
    features: Float[np.ndarray, "P T F"] | None  # standardised
    moving: bool  # the frames are those of one video
    fps: float | None  # of it
    lifted: bool  # estimates were made of the detector's points in 3D
    notes: tuple[str, ...]  # on the camera, and what was assumed

    @property
    def rows(self) -> Any:
        """Where a file has its rows: one person's are [T], several people's [P, T]."""
        return slice(None) if len(self.found.score) > 1 else 0

    def summary(self) -> Iterator[str]:
        """Says what was read, found and assumed, line by line."""
        found, pictures = self.found, self.pictures
        count, sizes = len(found.image_size), np.unique(found.image_size, axis=0)
        each = " and ".join(f"{w:.0f} x {h:.0f}" for w, h in sizes[:3])
        rate = f" at {self.fps:g} per second" if self.fps else ""
        yield f"frames:  {count} of {each} pixels{rate}"
        for person, row in enumerate(found.found):
            more = f"; left and right put right in {self.exchanged[person].sum()}"
            missing = f"; not in {places(pictures, ~row)}" if not row.all() and row.any() else ""
            yield (
                f"person {person + 1}: found in {row.sum()} of {count}"
                f"{more if self.exchanged[person].any() else ''}{missing}"
            )
        yield f"camera:  {self.notes[0]}"
        for note in self.notes[1:]:
            yield f"assumed: {note}"


def estimate_pictures(
    pictures: Pictures,
    model: SMPL,
    where: Where,
    lens: Lens,
    networks: Networks,
    width: int,
    video: bool,
    clock: Clock,
) -> PictureEstimates:
    """Finds people in pictures, and makes a body of each.

    Args:
        pictures: that people are in.
        model: the body.
        where: how people are found.
        lens: what is known of the focal length.
        networks: that make first estimates and features; without any the former are lifted from
            the detector's points in 3D.
        width: of the features that the prior takes; 0 for none.
        video: True if the photos of a folder are frames of one video, in order.
        clock: that is told of each part of the work.
    Raises:
        ValueError: if nobody is found, or something that is needed is missing.
        ImportError: if a package of the extra `detect` is not installed.
    """
    moving = pictures.is_video or video
    found, exchanged = find_people(pictures, where, moving)
    clock.lap("finding people")
    focals, lens_note = lens.focals(pictures, found.image_size)
    camera = cameras(focals, found.image_size, len(found.score))
    believed = Believed(None, None)
    if networks.estimates is not None or width:
        boxes = boxes_of(found, where)
        believed = believe(pictures, found, boxes, camera, networks, model, width, moving)
    estimate = believed.estimate
    if estimate is None:
        estimate = _first_estimate(model, found, camera, moving)
    clock.lap("first estimate")
    return PictureEstimates(
        pictures,
        found,
        exchanged,
        camera,
        without_missing(estimate, found.found),
        found.as_openpose(),
        believed.features,
        moving,
        pictures.fps,
        believed.estimate is None,
        (f"focal length {lens_note}", *believed.notes),
    )


def target_of(pictures: Pictures, out: str | Path | None, name: str) -> Path:
    """The .npz to write: `out`, or NAME.npz in it; by default in a folder SOURCE_NAME.

    Raises:
        ValueError: if `out` has the suffix of a file of another kind.
    """
    path = local_path(out) if out is not None else Path(f"{pictures.source.stem}_{name}")
    if path.suffix == ".npz":
        return path
    if path.suffix.lower() in (*PHOTOS, *VIDEOS, ".glb", ".json", ".pkl") and not path.is_dir():
        raise ValueError(f"{path}: ends in {path.suffix}; expected a folder, or the .npz to write")
    return path / f"{name}.npz"


def without_missing(bodies: T, found: np.ndarray) -> T:
    """NaN where nobody was found."""

    def masked(array: Any) -> np.ndarray:
        return np.where(found.reshape(*found.shape, *(1,) * (np.ndim(array) - 2)), array, np.nan)

    return jax.tree.map(masked, bodies)


def places(pictures: Pictures, rows: np.ndarray) -> str:
    """Names frames by number, from 0, or pictures by file."""
    index = np.flatnonzero(rows)
    some = [str(i) if pictures.is_video else pictures.files[i].name for i in index[:_SHOWN]]
    return ", ".join(some) + (f" and {len(index) - _SHOWN} more" if len(index) > _SHOWN else "")


def _first_estimate(model: SMPL, found: Detections, camera: Camera, moving: bool) -> Estimate:
    """The body that agrees with the detector's 3D points, placed by its 2D points."""
    from scorehmr_jax.lift import make_lifter

    if found.points is None:
        raise ValueError(
            "keypoints in 2D alone: give --network NAME=FILE, which makes first estimates, or "
            "refine a file of keypoints without the pictures (scorehmr refine KEYPOINTS)"
        )
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
