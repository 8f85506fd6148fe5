"""Keypoints of people out of anybody's files: which format it is, and its reader."""

import json
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Real

from body_model.files import damage_named, is_npz, local_path
from body_model.keypoint_sets import KeypointSet, keypoint_set
from body_model.pytree import Array
from scorehmr_jax.formats.conventions import given_set, set_of_count, set_of_names, warn_of_order
from scorehmr_jax.formats.keypoints import alphapose, arrays, coco, mediapipe, mmpose, openpose, trc
from scorehmr_jax.formats.keypoints.result import (
    DetectedPeople,
    Frame,
    Person,
    assemble,
    numbered,
    warn_of_gaps,
)


@dataclass(frozen=True)
class Format:
    """A format of JSON: how it is told from others, and how its frames are read."""

    name: str
    writers: str  # who writes it
    is_file: Callable[[Any], bool] | None = None  # a file of many frames
    frames: Callable[[Any, str], list[Frame]] | None = None
    is_frame: Callable[[Any], bool] | None = None  # a file of one frame, alone or in a folder
    people: Callable[[Any, str], list[Person]] | None = None
    names: Callable[[Any], list[str] | None] = lambda _: None  # of the points, if the file has them
    convention: str = ""  # the set, where it is always the same


FORMATS: dict[str, Format] = {
    each.name: each
    for each in (
        Format(
            "openpose",
            "OpenPose (`--write_json`), Pose2Sim, RTMLib: a folder with a file for each frame",
            is_frame=openpose.is_frame,
            people=openpose.people,
        ),
        Format(
            "alphapose",
            "AlphaPose: its list by image name, and its forms `cmu` and `open`",
            alphapose.is_file,
            alphapose.frames,
            alphapose.is_frame,
            alphapose.people,
        ),
        Format(
            "coco-results",
            "COCO results: ViTPose, MMPose's evaluation, Detectron2 and many others",
            coco.is_results,
            coco.results,
        ),
        Format(
            "coco-annotations",
            "COCO and Halpe-FullBody: data sets with images and annotations",
            coco.is_annotations,
            coco.annotations,
        ),
        Format(
            "mmpose",
            "MMPose, RTMPose, ViTPose: demos and inferencer, an image, a video or a folder",
            mmpose.is_file,
            mmpose.frames,
            mmpose.is_frame,
            mmpose.people,
            mmpose.names,
        ),
        Format(
            "easy-vitpose",
            "easy_ViTPose (`--save-json`)",
            mmpose.is_easy_vitpose,
            mmpose.easy_vitpose_frames,
            names=mmpose.easy_vitpose_names,
        ),
        Format(
            "mediapipe",
            "MediaPipe Pose: results of its Python or JavaScript packages dumped as JSON",
            mediapipe.is_file,
            mediapipe.frames,
            mediapipe.is_frame,
            convention="mediapipe-33",
        ),
    )
}
NPZ, TRC = "npz", "trc"


def read_keypoints(
    path: str | os.PathLike[str],
    format: str | None = None,
    convention: str | os.PathLike[str] | KeypointSet | Sequence[str] | None = None,
    image_size: Real[Array, "..."] | Sequence[float] | None = None,
) -> DetectedPeople:
    """Reads people's keypoints from a file or folder of any known format.

    The format is told from the content; the keypoint set from the points' names, where the file has
    them, else from their number (17: COCO's; Human3.6M's 17 have to be named). Nothing is guessed:
    frames without people stay empty, frames that are missing are missing, and who is who is left to
    the tracker's ids.

    Args:
        path: a .json, .npz or .trc, or a folder of .json files, one for each frame.
        format: a name of `FORMATS`, "npz" or "trc", if it is known.
        convention: the keypoint set, if it is known: a name of `KEYPOINT_SETS`, names of points,
            or a .toml or .json that describes it.
        image_size: width and height, pixels, [2] or [T, 2]; needed for MediaPipe's landmarks, which
            are parts of the image, and good for checks elsewhere.
    Returns:
        Everybody in every frame.
    Raises:
        ValueError: naming the file, if it is missing, damaged or of no known format; if the set is
            not known; if nobody is in it and no convention is given; and for wrong units.
    """
    where = local_path(path)
    if format is not None and format not in (*FORMATS, NPZ, TRC):
        known = ", ".join((*FORMATS, NPZ, TRC))
        raise ValueError(f"format {format!r} is not known; known are {known}")
    wanted = None if convention is None else given_set(convention)
    if where.is_dir():
        found = _folder(where, format, image_size)
    elif is_npz(where):
        if format not in (None, NPZ):
            raise ValueError(f"{where}: is an .npz; expected {format}")
        frames, said = arrays.frames(where, image_size)
        found = _Read(frames, NPZ, *((None, said) if isinstance(said, str) else (said, "")))
    else:
        found = _file(where, format, image_size)
    of = wanted or _set_of(found, str(where))
    people = assemble(found.frames, of, str(where), found.format, image_size)
    warn_of_order(people.xy, people.confidence, of, str(where))
    return people


@dataclass(frozen=True)
class _Read:
    """What a reader found."""

    frames: list[Frame]
    format: str
    names: list[str] | None  # of the points, if the file has them
    convention: str  # the set's name, if the file or its format says


def _file(path: Path, format: str | None, image_size: Any) -> _Read:
    text = _text(path)
    if trc.is_trc(text) and format in (None, TRC):
        frames, names = trc.frames(text, str(path))
        return _Read(frames, TRC, names, "")
    held = _json(path, text)
    for each in _candidates(format):
        if each.is_file is not None and each.is_file(held):
            frames = _frames(each, held, str(path), image_size)
        elif each.is_frame is not None and each.is_frame(held):
            frames = [_one(each, held, path, 0, image_size)]
        else:
            continue
        return _Read(frames, each.name, each.names(held), each.convention)
    raise _unknown(path, held, format)


def _folder(folder: Path, format: str | None, image_size: Any) -> _Read:
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() == ".json")
    if not files:
        raise ValueError(
            f"{folder}: holds no .json files; expected one for each frame, as OpenPose writes them"
        )
    contents, damaged = {}, []
    for file in files:
        try:
            contents[file] = _json(file, _text(file))
        except ValueError as error:
            damaged.append(error)
    if not contents:
        raise damaged[0]
    if damaged:
        warnings.warn(
            f"{damaged[0]}; {len(damaged)} such files of {len(files)} are left out", stacklevel=3
        )
    fitting = [
        each
        for each in _candidates(format)
        if each.is_frame is not None and all(each.is_frame(held) for held in contents.values())
    ]
    if not fitting:
        raise _no_folder_of_frames(folder, contents, format)
    each = fitting[0]
    numbers = numbered([file.stem for file in contents], str(folder))
    warn_of_gaps(numbers, str(folder))
    order = sorted(numbers)
    sizes = {n: _size_of(image_size, place) for place, n in enumerate(order)}
    frames = [
        _one(each, held, file, number, sizes[number])
        for number, (file, held) in zip(numbers, contents.items(), strict=True)
    ]
    names = next((named for held in contents.values() if (named := each.names(held))), None)
    return _Read(frames, each.name, names, each.convention)


def _frames(each: Format, held: Any, where: str, image_size: Any) -> list[Frame]:
    if each.name == "mediapipe":
        return mediapipe.frames(held, where, image_size)
    assert each.frames is not None
    return each.frames(held, where)


def _one(each: Format, held: Any, file: Path, number: int, image_size: Any) -> Frame:
    """Reads a file of one frame."""
    if each.name == "mediapipe":
        (frame,) = mediapipe.frames(held, str(file), image_size)
        return Frame(number, file.stem, frame.people, frame.size)
    assert each.people is not None
    return Frame(number, file.stem, each.people(held, str(file)))


def _size_of(image_size: Any, place: int) -> Any:
    """The size of one frame, where each may have its own."""
    if image_size is None or np.ndim(image_size) < 2:
        return image_size
    return image_size[min(place, len(image_size) - 1)]


def _candidates(format: str | None) -> Iterable[Format]:
    if format in (NPZ, TRC):
        return ()
    return FORMATS.values() if format is None else (FORMATS[format],)


def _text(path: Path) -> str:
    with damage_named(path):
        text = path.read_bytes().decode("utf-8-sig", errors="replace")
    if not text.strip():
        raise ValueError(f"{path}: is empty")
    return text


def _json(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is no JSON, or cut short ({error})") from None


def _set_of(found: _Read, where: str) -> KeypointSet:
    if found.convention:
        try:
            return keypoint_set(found.convention)
        except ValueError as error:
            raise ValueError(f"{where}: convention: {error}") from None
    if found.names:
        return set_of_names(found.names, where)
    for frame in found.frames:
        for person in frame.people:
            if person.points_3d is not None and not person.confidence.any():
                raise ValueError(
                    f"{where}: {len(person.xy)} points in 3D, in an order that it does not name; "
                    "give the convention, such as convention='h36m-17', or put convention in it"
                )
            return set_of_count(len(person.xy), where)
    raise ValueError(
        f"{where}: nobody in any of {len(found.frames)} frames; if that is right, give the "
        "convention, such as convention='coco-17', and empty frames are read"
    )


def _unknown(path: Path, held: Any, format: str | None) -> ValueError:
    kind = (
        f"a table with {', '.join(map(str, list(held)[:5])) or 'nothing'}"
        if isinstance(held, dict)
        else f"a list of {len(held)}"
        if isinstance(held, list)
        else type(held).__name__
    )
    if isinstance(held, list) and held and isinstance(held[0], dict):
        kind += f" tables with {', '.join(list(held[0])[:5])}"
    if format is not None:
        wanted = f"{format} ({FORMATS[format].writers})" if format in FORMATS else f"an .{format}"
        return ValueError(f"{path}: expected {wanted}, found {kind}")
    known = "; ".join(f"{each.name}: {each.writers}" for each in FORMATS.values())
    return ValueError(f"{path}: of no known format, found {kind}; known are {known}; npz; trc")


def _no_folder_of_frames(folder: Path, contents: dict[Path, Any], format: str | None) -> ValueError:
    """Names the first file that does not go with the others."""
    for each in _candidates(format):
        if each.is_frame is None:
            continue
        odd = [file for file, held in contents.items() if not each.is_frame(held)]
        if len(odd) < len(contents):
            return ValueError(
                f"{folder}: {odd[0].name} is no frame of {each.name}, unlike "
                f"{len(contents) - len(odd)} others; "
                "expected one file for each frame and no other .json"
            )
    file, held = next(iter(contents.items()))
    return _unknown(file, held, format)
