"""Training samples from AMASS as it is given out, or from one .npz of poses: no images."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from scorehmr_jax.datasets.folders import OddFile, npz_files, summary
from scorehmr_jax.datasets.samples import (
    Samples,
    axis_angle_to_x,
    bad_rows,
    refuse_degrees,
    turned_far,
)
from scorehmr_jax.formats.npz_rows import read_shapes
from scorehmr_jax.formats.tables import Table, read_tables

_POSES = ("poses", "pose_body", "body_pose")  # the first two are of a clip, with a frame rate
_RATES = {"fps", "framerate", "mocapfps", "mocapframerate"}  # without case, _ and -
_LEAST_RATE, _MOST_RATE = 1.0, 10_000.0  # below is a period in seconds, above one in nanoseconds
_BODY_JOINTS = 22  # SMPL-H and SMPL-X share SMPL's joints up to the wrists
# Joints of a row by its width, and the number of its first joint.
_JOINTS = {63: (21, 1), 66: (22, 0), 69: (23, 1), 72: (24, 0), 156: (52, 0), 165: (55, 0)}
_FORM = re.compile(r"_(poses|stageii)$")  # of SMPL-H and of SMPL-X


@dataclass
class Amass:
    """A `Source`: AMASS's folders of .npz (SMPL-H or SMPL-X), or one .npz of poses.

    Body pose only: the root is not turned and the hands are at rest, as AMASS's heading is that of
    a capture room and its fingers are not SMPL's. Clips are thinned to `fps`. Of a clip that is
    there twice, or in the forms of both body models, the first is taken. A file that cannot be
    used is left out, counted and named; the others are not touched by it.
    """

    folder: Path
    fps: float = 10.0  # frames per second that are taken
    clip_fps: float | None = None  # frame rate of clips that hold none; None leaves them out
    dropped: Counter[str] = field(default_factory=Counter)
    left_out: dict[str, str] = field(default_factory=dict)  # file, and why
    statistics = None
    layout = {"pose": 144, "betas": 10}  # noqa: RUF012 (read only)

    @property
    def where(self) -> str:
        return str(self.folder)

    @property
    def notes(self) -> dict[str, Any]:
        notes = {"backbone": "none", "root": "not turned", "fps": self.fps}
        if self.clip_fps is not None:
            notes["clip_fps"] = self.clip_fps
        return notes | {"left_out": self.left_out}

    @cached_property
    def files(self) -> dict[Path, Table]:
        """The shapes in every file that can be opened."""
        tables = {}
        for path in [self.folder] if self.folder.is_file() else npz_files(self.folder):
            with self._leaving_out(path):
                tables[path] = read_shapes(path)
        return tables

    @cached_property
    def total(self) -> int:
        keys = {path: _pose_key(shapes) for path, shapes in self.files.items()}
        return sum(_length(self.files[path][key]) for path, key in keys.items() if key)

    def parts(self) -> Iterator[tuple[int, Samples]]:
        kept, taken = 0, _Taken()
        for path, shapes in self.files.items():
            key = _pose_key(shapes)
            read, samples = _length(shapes[key]) if key else 0, None
            with self._leaving_out(path):
                samples = self._samples(path, shapes, key, taken)
            if samples is not None:
                kept += len(samples)
                yield read, samples
        if not kept:
            raise ValueError(
                f"{self.folder}: none of {len(self.files) + len(self.left_out)} files has poses to "
                "train on; expected AMASS's .npz with poses [T, 156 or 165], or one with body_pose "
                f"[N, 69 or 72]. {summary(self.left_out)}"
            )
