"""From estimates or 3D points of another network, and keypoints, to refined bodies."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from body_model import SMPL, Skeleton
from body_model.files import local_path
from scorehmr_jax.commands.estimate_cameras import Given, choose_camera
from scorehmr_jax.commands.estimate_summary import summary
from scorehmr_jax.commands.gaps import fill_gaps
from scorehmr_jax.commands.lift_keypoints import lifted
from scorehmr_jax.commands.long_work import Clock, progress, writable
from scorehmr_jax.commands.matching import match
from scorehmr_jax.commands.refine_parts import (
    Outcome,
    Part,
    empty_outcome,
    parts_of,
    put,
    refine_parts,
    remove_parts,
    settings_of,
    taken,
)
from scorehmr_jax.formats.bodies.people import Tracks
from scorehmr_jax.formats.keypoints.result import NO_ID, DetectedPeople
from scorehmr_jax.formats.own_estimates import RefineInput
from scorehmr_jax.types import Array, Camera, Estimate, Refined

_REFINED_AGAIN = (
    "the file's bodies as first estimates; what they were refined from before is left out"
)


@dataclass(frozen=True)
class Files:
    """What a person gives."""

    source: Path  # estimates, or keypoints in 3D
    keypoints: Path | None = None
    convention: str | None = None  # of the keypoints
    out: Path | None = None
    image_size: tuple[float, float] | None = None
    format: str | None = None  # of the estimates


def refine_estimates(
    files: Files,
    camera: Given | None = None,
    prior: str | None = None,
    body: str | Path | None = None,
    video: bool | None = None,
    longest_gap: int = 30,
    fps: float | None = None,
) -> tuple[Refined, RefineInput]:
    """Refines estimates of another network by keypoints, and writes an .npz.

    People are refined one by one, and each is kept: a run that was stopped goes on where it was.

    Args:
        files: what is read and written.
        camera: in place of the file's own.
        prior: a shipped prior or a checkpoint; by default the shipped one that suits where the
            estimates come from.
        body: an SMPL file; the open body by default.
        video: True if images are frames of one video; as the file has it without.
        longest_gap: frames of a video in which a person is lost, up to so many, are filled.
        fps: frames per second, in place of the file's.
    Returns:
        The refined bodies [P, T], and what was read, with the camera and keypoints that were used.
    Raises:
        ValueError: if a file cannot be read, there are no keypoints, or nothing is known of the
            camera.
    """
    from body_model import load, open_body
    from scorehmr_jax.formats.estimates import is_keypoints, write_estimates

    if fps is not None and not 0 < fps < math.inf:
        raise ValueError(f"--fps: expected frames per second of a video, above 0, found {fps:g}")
    said = camera or Given()
    clock = Clock()
    target = writable(_target(files.source, files.out))
    model = load(body) if body else open_body()
    found = _keypoints(files)
    given, size = _read(files, model, found, said, video)
    clock.lap("reading")
    tracks = given.tracks
    assert tracks is not None
    estimate, lens, camera_note = choose_camera(
        given.estimate, model, given.camera, tracks.in_world, said, size
    )
    matched = None
    if found is not None:
        matched = match(_seen(model, estimate, lens), tracks, found, str(files.keypoints))
        given = replace(given, keypoints=matched.keypoints)
    if given.keypoints is None:
        raise ValueError(
            f"{files.source}: holds no keypoints, so there is nothing to refine by; give "
            "--keypoints FILE (OpenPose, COCO, MMPose, AlphaPose, Halpe, MediaPipe, .npz)"
        )
    given = replace(given, estimate=estimate, camera=lens)
    clock.lap("matching")
    moving = tracks.video if video is None else video
    if fps is not None and not moving:
        raise ValueError("--fps: of videos only, and these are images")
    # Frames that are filled have no image features.
    fill = longest_gap if moving and given.features is None else 0
    estimate, filled = fill_gaps(estimate, tracks.present, fill)
    parts = parts_of(tracks.present | filled, moving)
    if not parts:
        raise ValueError(f"{files.source}: none of its bodies is finite; expected at least one")
    result = empty_outcome(estimate)
    folder = target.with_suffix(".parts")
    arrays = (estimate, given.keypoints, lens, given.features)
    are_lifted = is_keypoints(files.source)
    prior = prior or ("open-uncond" if are_lifted else "open-cond")
    config = _config(moving, are_lifted)
    settings = settings_of(config, [prior, *([body] if body else [])])
    earlier, done = 0, 0
    refine = _refiner(prior, model, arrays, moving, config)
    work = refine_parts(parts, arrays, settings, folder, refine)
    try:
        for part, outcome, again in progress(work, "refining", len(parts)):
            put(result, part, outcome)
            earlier, done = earlier + again, done + 1
    except KeyboardInterrupt:
        print(
            f"stopped: {done} of {len(parts)} parts are done and kept in {folder}; the same "
            "command goes on from there"
        )
        raise
    clock.lap("refining")
    rows: Any = slice(None) if len(result.status) > 1 else 0
    bodies, cameras, seen, features, start, expected = jax.tree.map(
        lambda a: np.asarray(a)[rows],
        (result.refined, lens, given.keypoints, given.features, estimate, result.expected),
    )
    write_estimates(
        target,
        bodies,
        cameras,
        seen,
        features,
        status=result.status[rows],
        kept_share=result.kept_share[rows],
        expected=expected,
        tracks=tracks,
        filled=filled[rows],
        fps=given.fps if fps is None else fps,
        first=start,
    )
    remove_parts(folder)
    found_out = (result.status, result.expected, filled)
    for line in summary(tracks, camera_note, matched, *found_out, earlier, target, clock.laps):
        print(line)
    return result.refined, given


def _target(source: Path, out: Path | None) -> Path:
    path = local_path(out) if out is not None else Path(f"{source.stem}_refined")
    return path if path.suffix == ".npz" else path / "refined.npz"


def _keypoints(files: Files) -> DetectedPeople | None:
    from scorehmr_jax.formats.keypoints.read import read_keypoints

    if files.keypoints is None:
        return None
    return read_keypoints(
        files.keypoints, convention=files.convention, image_size=files.image_size
    ).to(max_offset=50)


def _read(
    files: Files, model: SMPL, found: DetectedPeople | None, camera: Given, video: bool | None
) -> tuple[RefineInput, np.ndarray | None]:
    """Reads the estimates, or lifts 3D points; and the size of the images, if it is known."""
    from scorehmr_jax.formats.estimates import is_keypoints, read_estimates
    from scorehmr_jax.formats.keypoints.read import read_keypoints

    size = None if files.image_size is None else np.array(files.image_size, np.float32)
    if size is None and found is not None and found.image_size is not None:
        sizes = np.unique(found.image_size, axis=0)
        size = sizes[0] if len(sizes) == 1 else None
    if is_keypoints(files.source):
        points = read_keypoints(files.source, convention=files.convention, image_size=size)
        if size is None and points.image_size is not None:
            size = points.image_size[0]
        given = lifted(points, model, camera, size, str(files.source), video)
        return replace(given, fps=_rate_of(files.source)), size
    given = read_estimates(files.source, files.format, body=model, image_size=size)
    if given.tracks is None:
        given = _as_tracks(given, bool(video))
    return given, size


def _rate_of(source: Path) -> float | None:
    """Frames per second of keypoints, where their .npz says it."""
    from body_model.files import is_npz, read_npz
    from scorehmr_jax.formats.own_estimates import read_fps

    return None if source.is_dir() or not is_npz(source) else read_fps(read_npz(source))


def _as_tracks(given: RefineInput, video: bool) -> RefineInput:
    """Our own .npz as people in frames: [N] is one person, [P, T] several."""
    lead = np.shape(given.estimate.betas)[:-1]
    if len(lead) > 2:
        raise ValueError(f"expected estimates [N] or [P, T], found axes {lead}")
    if len(lead) == 1:
        names = ("estimate", "keypoints", "camera", "features")
        held = {name: getattr(given, name) for name in names}
        given = replace(given, **jax.tree.map(lambda a: jnp.asarray(a)[None], held))
    people, frames = np.shape(given.estimate.betas)[:-1]
    present = np.isfinite(np.asarray(given.estimate.pose)).all((-3, -2, -1))
    ids = np.full(people, NO_ID)
    notes = (_REFINED_AGAIN,) if given.first is not None else ()
    tracks = Tracks(present, ids, np.arange(frames), ("",) * frames, video, "scorehmr", notes)
    return replace(given, tracks=tracks, first=None)


def _seen(model: SMPL, estimate: Estimate, camera: Camera) -> np.ndarray:
    """Where the OpenPose-25 joints of the estimates are seen."""
    from scorehmr_jax.camera import project

    @jax.jit
    def seen(skeleton: Skeleton, of: Estimate, camera: Camera) -> Array:
        joints = skeleton(jnp.nan_to_num(of.pose), jnp.nan_to_num(of.betas))
        return project(joints + of.translation[..., None, :], camera)

    return np.asarray(seen(Skeleton.of(model), estimate, camera))


def _config(moving: bool, are_lifted: bool) -> Any:
    from scorehmr_jax.refine import RefineConfig

    loop = RefineConfig.for_video if moving else RefineConfig.for_images
    return loop(lifted=are_lifted)


def _refiner(prior: str, model: SMPL, arrays: tuple, moving: bool, config: Any) -> Any:
    """A function from a part to its outcome."""
    from scorehmr_jax import guidance
    from scorehmr_jax.devices import Devices
    from scorehmr_jax.load import load_prior
    from scorehmr_jax.refine import make_refiner

    devices, refiner = Devices.all(), None

    def refine(part: Part) -> Outcome:
        nonlocal refiner
        # Loaded for the first part that is not done yet.
        refiner = refiner or make_refiner(load_prior(prior), model, config)
        estimate, keypoints, camera, features = taken(arrays, part)
        batch = part.mask.shape
        (estimate, keypoints, camera, features, real), mask = devices.pad(
            (estimate, keypoints, camera, features, part.mask), batch
        )
        terms: list = [guidance.keypoints_2d(keypoints, camera)]
        if moving:
            terms.append(guidance.smooth())
        arguments = (estimate, features, terms, mask & real)
        refined, info = refiner(*devices.split(arguments, mask.shape))
        return Outcome.of(refined, info, devices, batch)

    return refine
