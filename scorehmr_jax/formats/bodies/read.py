"""Estimates of bodies out of other networks' files: which format it is, and its reader."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from body_model import SMPL
from body_model.files import warn_of_unread
from body_model.joints import JOINT_NAMES
from body_model.keypoint_sets import keypoint_set
from scorehmr_jax.formats.bodies import amass, gvhmr, hmr2, nlf, phalp, sam3d, tram, wham
from scorehmr_jax.formats.bodies.contents import SUFFIXES, contents
from scorehmr_jax.formats.bodies.on_body import on_body
from scorehmr_jax.formats.bodies.people import People, assemble
from scorehmr_jax.formats.bodies.rows import Rows
from scorehmr_jax.formats.keypoints.result import numbered


@dataclass(frozen=True)
class BodyFormat:
    """A format of estimates: how it is told from others, and how it is read."""

    name: str
    writers: str  # who writes it
    is_file: Callable[[Any], bool]
    read: Callable[[Any, str, Any], Rows]
    keys: tuple[str, ...]  # that are read of one person, image or frame
    others: tuple[str, ...]  # known keys that are left alone
    folders: bool = False  # a folder may hold one file for each image


def _format(name: str, writers: str, module: Any, folders: bool = False) -> BodyFormat:
    return BodyFormat(
        name, writers, module.is_file, module.read, module.READ, module.OTHERS, folders
    )


BODY_FORMATS: dict[str, BodyFormat] = {
    each.name: each
    for each in (
        _format("phalp", "PHALP, 4D-Humans' `track.py`: `results/demo_<video>.pkl`", phalp),
        _format("wham", "WHAM: `wham_output.pkl` (`--save_pkl`)", wham),
        _format("gvhmr", "GVHMR: `hmr4d_results.pt`", gvhmr),
        _format("tram", "TRAM: the folder of a video, or `hps/hps_track_<k>.npy`", tram),
        _format(
            "hmr2",
            "HMR 2.0 (4D-Humans), CameraHMR: the network's outputs and boxes, as saved by users",
            hmr2,
            folders=True,
        ),
        _format(
            "sam-3d-body",
            "SAM 3D Body: what `process_one_image` gives, as saved by users",
            sam3d,
            folders=True,
        ),
        _format("nlf", "NLF: what `detect_smpl_batched` gives, as saved by users", nlf),
        _format(
            "amass", "AMASS, and many that write its form: motion in a world, no camera", amass
        ),
    )
}


def format_of(held: Any) -> BodyFormat | None:
    """Finds the format of what a file holds."""
    return next((each for each in BODY_FORMATS.values() if each.is_file(held)), None)


def read_people(
    path: Path,
    held: Any,
    format: str | None = None,
    body: SMPL | None = None,
    image_size: Float[np.ndarray, "2"] | None = None,
    keep_shape: bool = False,
) -> People:
    """Reads estimates of any format but our own.

    Args:
        path: of the file or folder.
        held: what it holds, as `contents` or `folder_contents` gives it.
        format: a name of `BODY_FORMATS`, if it is known.
        body: that the estimates are for; SMPL without.
        image_size: width and height, pixels, for files that do not tell.
        keep_shape: True to take shape numbers of another body model as they are.
    Raises:
        ValueError: naming the file: if it is of no known format, or something is wrong with it.
    """
    if format is not None and format not in BODY_FORMATS:
        raise ValueError(
            f"format {format!r} is not known; known are scorehmr, {', '.join(BODY_FORMATS)}"
        )
    chosen = format_of(held) if format is None else BODY_FORMATS[format]
    if isinstance(held, FolderContents) and not (chosen and chosen.folders):
        _refuse_folder(path, held)
    if chosen is None or not chosen.is_file(held):
        raise ValueError(f"{path}: {unknown(held, format)}")
    warn_of_unread(str(path), _keys(held, chosen), chosen.keys, chosen.others)
    rows = _rows(chosen, held, path, image_size)
    if isinstance(held, FolderContents):
        rows = replace(rows, frames=held.numbers[rows.frames], names=held.names)
    if rows.points is not None:
        rows = lifted(rows, body, str(path))
        people = assemble(rows, str(path), chosen.name)
    else:
        people = assemble(rows, str(path), chosen.name)
        estimate, note = on_body(people.estimate, rows.model, body, keep_shape)
        notes = (*people.tracks.notes, note) if note else people.tracks.notes
        people = replace(people, estimate=estimate, tracks=replace(people.tracks, notes=notes))
    if people.tracks.notes:
        warnings.warn(f"{path}: {'; '.join(people.tracks.notes)}", stacklevel=4)
    return _as_openpose(people, rows.convention)


def _refuse_folder(folder: Path, held: "FolderContents") -> None:
    """Refuses a folder of files that hold more than one image each.

    Their frames could not be told from the files' names.

    Raises:
        ValueError: naming the first such file, if there is one.
    """
    for number, each in zip(held.numbers, held, strict=True):
        found = format_of(each)
        if found is not None and not (found.folders and found.is_file([each])):
            known = ", ".join(one.name for one in BODY_FORMATS.values() if one.folders)
            raise ValueError(
                f"{folder / held.names[int(number)]}: {found.name}; expected in a folder one "
                f"image's estimates in each file, of {known}; give the file itself, not its folder"
            )


def _rows(chosen: BodyFormat, held: Any, path: Path, image_size: Any) -> Rows:
    """Reads with a format's reader, whose errors name the file whatever the damage is."""
    try:
        return chosen.read(held, str(path), image_size)
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{path}: {error}") from error
    except (AttributeError, LookupError, TypeError, ArithmeticError) as error:
        raise ValueError(
            f"{path}: not as {chosen.name} has it ({type(error).__name__}: {error}); it may be "
            "damaged, or of another version"
        ) from error


class FolderContents(list):
    """What the files of a folder hold, one for each image, with the images' numbers and names."""

    def __init__(self, held: list[Any], numbers: np.ndarray, names: dict[int, str]) -> None:
        super().__init__(held)
        self.numbers, self.names = numbers, names


def folder_contents(folder: Path) -> Any:
    """Reads a folder: TRAM's, or one with a file for each image.

    Raises:
        ValueError: naming the folder, if it holds nothing that is read.
    """
    if tracks := tram.tracks_of(folder):
        return [contents(file) for file in tracks]
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)
    if not files:
        raise ValueError(
            f"{folder}: no file of estimates; expected TRAM's folder, or one file for each image "
            f"({', '.join(SUFFIXES)})"
        )
    held = [contents(file) for file in files]
    # A list of people would be one image's.
    held = [[each] if sam3d.is_person(each) else each for each in held]
    numbers = np.array(numbered([file.stem for file in files], str(folder)))
    names = {int(n): file.name for n, file in zip(numbers, files, strict=True)}
    return FolderContents(held, numbers, names)


def lifted(rows: Rows, body: SMPL | None, where: str) -> Rows:
    """Makes bodies of points in 3D.

    Raises:
        ValueError: without a body, as this takes its joints and landmarks.
    """
    from scorehmr_jax.lift import lift

    assert rows.points is not None
    if body is None:
        raise ValueError(
            f"{where}: holds points and no SMPL pose; give body=, such as body_model.open_body(), "
            "to which they are lifted"
        )
    known = {*JOINT_NAMES, *dict(body.landmarks)}
    of = keypoint_set(rows.convention)
    names = [name if name in known else None for name in of.names]
    estimate, info = lift(body, names, jnp.asarray(rows.points, jnp.float32))
    found = np.asarray(info.found)
    pose, betas, translation = (
        np.where(found.reshape(-1, *(1,) * (np.ndim(a) - 1)), np.asarray(a), np.nan)
        for a in (estimate.pose, estimate.betas, estimate.translation)
    )
    return replace(rows, pose=pose, betas=betas, translation=translation)


def unknown(held: Any, format: str | None) -> str:
    """A sentence on what a file holds that is not in the format, or in none."""
    kind = type(held).__name__
    if isinstance(held, Mapping):
        kind = f"a table with {', '.join(map(str, [*held][:6])) or 'nothing'}"
        first = next(iter(held.values()), None)
        if isinstance(first, Mapping):
            kind += f", of tables with {', '.join(map(str, [*first][:6]))}"
    elif isinstance(held, list):
        kind = f"a list of {len(held)}"
        if held and isinstance(held[0], Mapping):
            kind += f" tables with {', '.join(map(str, [*held[0]][:6]))}"
    elif isinstance(held, np.ndarray):
        kind = f"one array {list(held.shape)}"
    if format is not None:
        return f"expected {format} ({BODY_FORMATS[format].writers}), found {kind}"
    tried = "; ".join(f"{each.name}: {each.writers}" for each in BODY_FORMATS.values())
    return f"of no known format, found {kind}; tried scorehmr: our own .npz; {tried}"


def _keys(held: Any, chosen: BodyFormat) -> set[str]:
    """The keys of a person, image or frame; those of all that the file holds."""
    if isinstance(held, Mapping):
        if {*map(str, held)} & {*chosen.keys}:
            return {*map(str, held)}
        held = [*held.values()]
    if isinstance(held, list):
        return {name for each in held for name in _keys(each, chosen)}
    return set()


def _as_openpose(people: People, convention: str) -> People:
    """The network's own keypoints in the order of OpenPose-25."""
    from body_model.keypoint_conversion import convert_keypoints

    if people.keypoints is None:
        return people
    xy, confidence = convert_keypoints(
        people.keypoints[..., :2], people.keypoints[..., 2], convention
    )
    both = np.concatenate([xy, confidence[..., None]], -1).astype(np.float32)
    return replace(people, keypoints=both)
