"""Training samples from AMASS as it is given out, or from one .npz of poses: no images."""

import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from body_model.files import warn_of_unread
from scorehmr_jax.datasets.amass_clips import Clips
from scorehmr_jax.datasets.npz_folders import OddFile, leaving_out, npz_files, summary
from scorehmr_jax.datasets.samples import (
    SampleReader,
    Samples,
    axis_angle_to_x,
    bad_rows,
)
from scorehmr_jax.formats.npz_rows import read_shapes
from scorehmr_jax.formats.tables import Table, read_tables
from scorehmr_jax.units import check_axis_angle, check_betas, check_frame_rates

_POSES = ("poses", "pose_body", "body_pose")  # the first two are of a clip, with a frame rate
# That a file of poses holds one for each frame of a clip.
_OF_CLIPS = ("trans", "transl", "root_orient", "global_orient", "pose_hand")
_PER_FRAME = (*_POSES, *_OF_CLIPS, "pose_jaw", "pose_eye", "dmpls", "expression")
# Of bodies, markers and how a clip was made.
_NOT_READ = frozenset(
    [
        *_PER_FRAME,
        "cfg",
        "gender",
        "genders",
        "labels",
        "labels_obs",
        "latent_labels",
        "marker_data",
        "marker_labels",
        "markers",
        "markers_latent",
        "markers_latent_vids",
        "markers_obs",
        "mocap_time_length",
        "model_type",
        "num_betas",
        "num_dmpls",
        "num_expressions",
        "subject_id",
        "surface_model_type",
        "v_template",
    ]
)
_RATES = {"fps", "framerate", "mocapfps", "mocapframerate"}  # without case, _ and -
_BODY_JOINTS = 22  # SMPL-H and SMPL-X share SMPL's joints up to the wrists
# Joints of a row by its width, and the number of its first joint.
_JOINTS = {63: (21, 1), 66: (22, 0), 69: (23, 1), 72: (24, 0), 156: (52, 0), 165: (55, 0)}


@dataclass
class Amass(SampleReader):
    """Reads AMASS's folders of .npz (SMPL-H or SMPL-X), or one .npz of poses.

    Body pose only: the root is not turned and the hands are at rest, as AMASS's heading is that of
    a capture room and its fingers are not SMPL's. Clips are thinned to `fps`. Of a clip that is
    there twice, or in the forms of both body models, the first is taken: where names say so and
    the motions agree. Frames that `present` says were filled in are left out. A file that cannot be
    used is left out, counted and named, and ends nothing. Clips without betas are warned of, and
    keys that no such file is known to have.
    """

    folder: Path
    fps: float = 10.0  # frames per second that are taken
    clip_fps: float | None = None  # frame rate of clips that hold none; None leaves these out
    dropped: Counter[str] = field(default_factory=Counter)
    left_out: dict[str, str] = field(default_factory=dict)
    assumed: int = 0  # clips that were taken to have clip_fps
    statistics = None
    widths = {"pose": 144, "betas": 10}  # noqa: RUF012 (read only)

    @property
    def where(self) -> str:
        return str(self.folder)

    @property
    def notes(self) -> dict[str, Any]:
        notes = {"backbone": "none", "root": "not turned", "fps": self.fps}
        if self.assumed:
            notes["assumed"] = f"{self.assumed} clips to have {self.clip_fps:g} frames per second"
        return notes

    @cached_property
    def files(self) -> dict[Path, Table]:
        """The shapes in every file that can be opened."""
        tables = {}
        for path in [self.folder] if self.folder.is_file() else npz_files(self.folder):
            with leaving_out(path, self.dropped, self.left_out):
                tables[path] = read_shapes(path)
        _warn_of_keys(self.folder, tables)
        return tables

    @cached_property
    def total(self) -> int:
        return sum(map(_frames, self.files.values()))

    def parts(self) -> Iterator[tuple[int, Samples]]:
        kept, clips = 0, Clips()
        for path, shapes in self.files.items():
            samples = None
            with leaving_out(path, self.dropped, self.left_out):
                samples = self._samples(path, shapes, clips)
            if samples is not None:
                kept += len(samples)
                yield _frames(shapes), samples
        if not kept:
            raise ValueError(
                f"{self.folder}: none of {len(self.files)} files has poses to train on: "
                f"{dict(self.dropped)}; expected AMASS's .npz with poses [T, 156 or 165], or one "
                f"with body_pose [N, 69 or 72]. {summary(self.left_out)}"
            )

    def _samples(self, path: Path, shapes: Table, clips: Clips) -> Samples:
        """The frames of one file that are taken.

        Raises:
            OddFile: if it is no clip, or one that is there already.
            ValueError: naming file and key, if it cannot be read or something is wrong with it.
        """
        key = _pose_key(shapes)
        if key is None:
            raise _without_poses(path, shapes)
        rate_keys = [name for name in shapes.columns if _is_rate(name)]
        table = read_tables(path, (key, "betas", "present", *rate_keys))[0]
        rows = table.numbers(key)
        _check_width(path, key, rows)
        if not len(rows):
            raise OddFile("clips without frames", f"{path}: {key} has no frames")
        _check_frames(path, key, shapes)
        clip = any(name in shapes for name in _OF_CLIPS)
        rate = self._rate(table, key, rate_keys, clip)
        taken = np.arange(0, len(rows), 1 if rate is None else max(1, round(rate / self.fps)))
        pose = _body_pose(rows[taken].astype(np.float32))
        betas = _betas(table, len(rows))[taken]
        filled, bad = ~_present(table, len(rows))[taken], bad_rows(pose, betas)
        kept = ~(filled | bad)
        pose, betas, good = pose[kept], betas[kept], taken[kept]
        check_axis_angle(pose, f"{path}, {key}")
        check_betas(betas, f"{path}, betas")
        x = axis_angle_to_x(pose)
        if len(pose):
            clips.add(path, pose, x, good / max(len(rows) - 1, 1))
            self.assumed += rate is not None and not rate_keys
        self.dropped += Counter(
            {
                "frames between those that are taken": len(rows) - len(taken),
                "filled in, without a body of their own": int(filled.sum()),
                "with NaN or infinity": int((bad & ~filled).sum()),
            }
        )
        name = str(path.relative_to(self.folder)) if path != self.folder else path.stem
        names = np.array([f"{name}/{row}" for row in good], str)
        return Samples(names, x, betas)

    def _rate(self, table: Table, key: str, rate_keys: list[str], clip: bool) -> float | None:
        """Frames per second of a file; None for poses that are no clip."""
        rates = {name: _rate_of(table, name) for name in rate_keys}
        if len({*rates.values()}) > 1:
            raise ValueError(f"{table.where}: its frame rates differ: {rates}; correct them")
        if rates:
            return next(iter(rates.values()))
        if key == "body_pose" and not clip:
            return None
        if self.clip_fps is None:
            raise OddFile(
                "clips of unknown frame rate",
                f"{table.where}: no frame rate; expected mocap_framerate, mocap_frame_rate, fps or "
                "the like. Give the rate of such clips as --clip-fps",
            )
        return self.clip_fps


def _rate_of(table: Table, key: str) -> float:
    found = table.numbers(key)
    if found.size != 1:
        raise ValueError(
            f"{table.where}: {key} is {found}; expected one number of frames per second"
        )
    check_frame_rates(found, f"{table.where}: {key}")
    return float(found.item())


def holds_poses(path: Path) -> bool:
    """Returns whether a file is an .npz that can be read and holds poses."""
    try:
        return _pose_key(read_shapes(path)) is not None
    except ValueError:
        return False


def _pose_key(shapes: Table) -> str | None:
    return next((key for key in _POSES if key in shapes), None)


def _frames(shapes: Table) -> int:
    key = _pose_key(shapes)
    return shapes[key].shape[0] if key and shapes[key].ndim else 0


def _is_rate(name: str) -> bool:
    return re.sub(r"[\W_]", "", name).lower() in _RATES


def _without_poses(path: Path, shapes: Table) -> OddFile:
    if path.stem.lower().endswith(("shape", "stagei")):
        return OddFile("files without poses (of subjects)")
    return OddFile(
        "files without poses",
        f"{path}: expected one of the keys {', '.join(_POSES)}; found {sorted(shapes.columns)}",
    )


def _check_width(path: Path, key: str, rows: np.ndarray) -> None:
    if rows.ndim != 2 or rows.shape[1] not in _JOINTS:
        raise ValueError(
            f"{path}: {key} has shape {rows.shape}; expected axis-angle [T, 156] (SMPL-H), "
            "[T, 165] (SMPL-X), [N, 72] (SMPL), [N, 69] (SMPL without its root), or [T, 66] and "
            "[T, 63] (no hands)"
        )


def _check_frames(path: Path, key: str, shapes: Table) -> None:
    """Refuses a clip whose keys are of different numbers of frames."""
    names = (key, *(name for name in _PER_FRAME if name != key))
    lengths = {name: len(shapes[name]) for name in names if _is_list(shapes, name)}
    if len({*lengths.values()}) > 1:
        raise ValueError(f"{path}: expected keys of one number of frames, found {lengths}")


def _is_list(shapes: Table, name: str) -> bool:
    return name in shapes.columns and shapes[name].ndim > 1


def _has_betas(shapes: Table) -> bool:
    return "betas" in shapes and shapes["betas"].size > 0


def _warn_of_keys(folder: Path, tables: Mapping[Path, Table]) -> None:
    """Warns of clips without a shape, and of keys that no clip is known to have."""
    clips = {path: table for path, table in tables.items() if _pose_key(table)}
    without = [path for path, table in clips.items() if not _has_betas(table)]
    if without:
        warnings.warn(
            f"{without[0]}: no betas, so that its shape is taken to be zeros; so are those of "
            f"{len(without)} of {len(clips)} files with poses",
            stacklevel=2,
        )
    unread = {
        key: path
        for path, table in clips.items()
        for key in {*table.columns, *getattr(table.columns, "objects", ())}
        if not _is_rate(key) and key not in {"betas", "present", *_NOT_READ}
    }
    if unread:
        where = f"{next(iter(unread.values()))} and maybe others"
        warn_of_unread(where, unread, ("betas", *_POSES))


def _betas(table: Table, count: int) -> Float[np.ndarray, "{count} 10"]:
    """SMPL's ten shape numbers of a clip; AMASS has 16 or 8 of them, once for all frames.

    Raises:
        ValueError: naming the file, if there is neither one row nor one per frame.
    """
    betas = np.zeros((count, 10), np.float32)
    if _has_betas(table):
        found = table.numbers("betas")
        column = found.ndim == 2 and found.shape[1] == 1 < len(found)
        if found.ndim not in (1, 2) or column or (found.ndim == 2 and len(found) not in (1, count)):
            raise ValueError(
                f"{table.where}: betas has shape {found.shape}; expected [B] or [{count}, B]"
            )
        known = min(10, found.shape[-1])
        betas[:, :known] = found[..., :known]
    return betas


def _present(table: Table, count: int) -> Bool[np.ndarray, " n"]:
    """Which frames have a body of their own; all, in files but ours.

    Raises:
        ValueError: naming the file, if there is not one for each frame.
    """
    if "present" not in table:
        return np.ones(count, bool)
    found = table.numbers("present")
    if found.shape != (count,):
        raise ValueError(
            f"{table.where}: present has shape {found.shape}; expected [{count}], one for each "
            "frame"
        )
    return found != 0


def _body_pose(rows: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "n 24 3"]:
    """Axis-angle with the root not turned and the hands at rest."""
    count, first = _JOINTS[rows.shape[1]]
    joints = rows.reshape(len(rows), count, 3)
    last = 24 if count + first == 24 else _BODY_JOINTS
    out = np.zeros((len(rows), 24, 3), np.float32)
    out[:, 1:last] = joints[:, 1 - first : last - first]
    return out
