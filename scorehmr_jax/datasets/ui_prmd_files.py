"""The markers of UI-PRMD: its own text files, or an .npz of them."""

import gzip
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from body_model.files import local_path, read_npz

NAMES = (
    *("LFHD", "RFHD", "LBHD", "RBHD", "C7", "T10", "CLAV", "STRN", "RBAK"),
    *("LSHO", "LUPA", "LELB", "LFRM", "LWRA", "LWRB", "LFIN"),
    *("RSHO", "RUPA", "RELB", "RFRM", "RWRA", "RWRB", "RFIN"),
    *("LASI", "RASI", "LPSI", "RPSI"),
    *("LTHI", "LKNE", "LTIB", "LANK", "LHEE", "LTOE"),
    *("RTHI", "RKNE", "RTIB", "RANK", "RHEE", "RTOE"),
)  # in the order of the text files' columns
_EVERY = 16  # frames of 100 Hz
_FILES = "*/Vicon/Positions/m??_s??_e??_positions*"
_FILE = re.compile(r"m(\d\d)_s(\d\d)_e(\d\d)_positions(_inc)?\.txt(\.gz)?")
_OF_FRAMES = ("subject", "movement", "correct", "episode")
_KEYS = ("markers", "unit", "names", *_OF_FRAMES)
# From z up and the person facing x to y up and the person facing z.
_Y_UP = [1, 2, 0]


@dataclass(frozen=True)
class Markers:
    """Markers of many frames, those of an episode one after the other."""

    names: tuple[str, ...]  # K
    points: Float[np.ndarray, "N K 3"]  # metres, y up
    subject: Int[np.ndarray, " N"]
    takes: Int[np.ndarray, "N 3"]  # movement, 1 if done right, episode


def read_markers(path: str | Path) -> Markers:
    """Reads the markers of every 16th frame.

    Args:
        path: UI-PRMD's folder, with text files in `Segmented Movements/Vicon/Positions` and
            `Incorrect Segmented Movements/Vicon/Positions`, or an .npz, of every 16th frame
            already, with `markers` [N, K, 3] numbers, `unit` metres each, z up; `names` [K];
            `subject`, `movement`, `correct` and `episode` [N] whole numbers.
    Raises:
        ValueError: naming the file and key, if one is missing or its shape or type is wrong, an
            episode is there twice or in parts, or there is no frame with all markers.
    """
    path = local_path(path)
    found = _of_folder(path) if path.is_dir() else _of_npz(path)
    if not len(found.points):
        raise ValueError(f"{path}: no frame with all markers")
    keys = np.column_stack([found.subject, found.takes])
    starts = np.append(True, (keys[1:] != keys[:-1]).any(1))
    episodes, counts = np.unique(keys[starts], axis=0, return_counts=True)
    if (counts > 1).any():
        told = ", ".join(map(str, episodes[counts.argmax()]))
        raise ValueError(
            f"{path}: subject, movement, correct, episode: expected the frames of an episode one "
            f"after the other, found those of {told} in {counts.max()} places"
        )
    return found


def _of_folder(folder: Path) -> Markers:
    files: dict[tuple[int, ...], Path] = {}
    for path in sorted(folder.glob(_FILES)):
        match = _FILE.fullmatch(path.name)
        if match is None:
            continue
        movement, subject, episode = (int(match[n]) for n in (1, 2, 3))
        key = (int(match[4] is not None), movement, subject, episode)
        if key in files:
            raise ValueError(f"{path}: the episode is in {files[key]} too; leave one out")
        files[key] = path
    if not files:
        raise ValueError(f"{folder}: expected files {_FILES}.txt or .txt.gz, found none")
    points, of = [], []
    for wrong, movement, subject, episode in sorted(files):
        xyz = _of_text(files[wrong, movement, subject, episode])
        points.append(xyz)
        of += [(subject, movement, 1 - wrong, episode)] * len(xyz)
    keys: np.ndarray = np.array(of, int).reshape(-1, 1 + len(_OF_FRAMES[1:]))
    return Markers(NAMES, np.concatenate(points), keys[:, 0], keys[:, 1:])


def _of_text(path: Path) -> np.ndarray:
    """Every 16th frame [N, 39, 3] of a file, metres, y up, without those that lack a marker."""
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
            # Copies of the data set differ in what separates the numbers.
            lines = [line.replace(",", " ") for line in file]
        rows: np.ndarray = np.loadtxt(lines, np.float32, ndmin=2)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path}: cannot be read as numbers ({error})") from None
    if rows.shape[1] != 3 * len(NAMES):
        raise ValueError(
            f"{path}: expected {3 * len(NAMES)} columns, x, y and z of {len(NAMES)} markers, found "
            f"{rows.shape[1]}"
        )
    xyz = rows[::_EVERY].reshape(-1, len(NAMES), 3)
    empty = (xyz == 0).all(-1) | ~np.isfinite(xyz).all(-1)
    return xyz[~empty.any(1)][..., _Y_UP] / np.float32(1000)  # of millimetres


def _of_npz(path: Path) -> Markers:
    data = read_npz(path)
    missing = [key for key in _KEYS if key not in data]
    if missing:
        raise ValueError(f"{path}: expected the keys {', '.join(_KEYS)}; missing: {missing}")
    names = tuple(str(name) for name in data["names"].ravel())
    frames = data["markers"].shape[:1] or (1,)
    shapes = {"names": (len(names),), "markers": (*frames, len(names), 3), "unit": ()}
    shapes |= dict.fromkeys(_OF_FRAMES, frames)
    for key, shape in shapes.items():
        if data[key].shape != shape:
            raise ValueError(f"{path}: {key}: expected shape {shape}, found {data[key].shape}")
    kinds = {"names": "U", "markers": "fiu", "unit": "fiu"} | dict.fromkeys(_OF_FRAMES, "biu")
    for key, kind in kinds.items():
        if data[key].dtype.kind not in kind:
            expected = "text" if kind == "U" else "numbers" if "f" in kind else "whole numbers"
            raise ValueError(f"{path}: {key}: expected {expected}, found {data[key].dtype}")
    if len(set(names)) < len(names):
        raise ValueError(f"{path}: names: expected every marker once, found {', '.join(names)}")
    points = data["markers"].astype(np.float32)[..., _Y_UP] * np.float32(data["unit"])
    subject, *takes = (data[key].astype(int) for key in _OF_FRAMES)
    return Markers(names, points, subject, np.column_stack(takes))
