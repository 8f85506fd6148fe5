"""Training samples from your own files: a folder of .npz with poses.

Their keys, for N samples (the first is needed, and the files of a folder have the same):
  body_pose [N, 72] or [N, 24, 3] axis-angle, radians, SMPL's joints
  betas [N, 10] SMPL shape            features [N, F] of the image, as the backbone gives them
  pred_pose [N, 24, 3, 3] estimate    imgname [N] text
  has_body_pose [N] 0 leaves a row out    has_betas [N] 0 where betas is no fit
Mean and standard deviation of the features, [F] each, are in feature_stats.npz in the folder (keys
mean, std); without it they are computed from the rows of all files that are not left out.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from scorehmr_jax.datasets.npz_folders import leaving_out, npz_files, summary
from scorehmr_jax.datasets.own_files import (
    EMPTY,
    KEYS,
    check_keys,
    check_units,
    own_shapes,
    refuse_copy,
    usual_table,
    warn_of_unread,
)
from scorehmr_jax.datasets.samples import (
    SampleReader,
    Samples,
    as_float32,
    as_text,
    axis_angle_to_x,
    bad_rows,
    matrices_to_x,
)
from scorehmr_jax.datasets.statistics import (
    Moments,
    Statistics,
    check_features,
    fitted_features,
    read_statistics,
)
from scorehmr_jax.formats.npz_rows import iterate
from scorehmr_jax.formats.tables import Table
from scorehmr_jax.units import not_rotations

_STATISTICS = "feature_stats.npz"


@dataclass
class OwnSet(SampleReader):
    """Reads the .npz files of a folder.

    An odd file is an error before anything is built; NaN, or an estimate that is no rotation, where
    it is met. With `drop_bad` such files and samples are left out, counted and named.
    """

    folder: Path
    statistics_file: Path | None = None
    drop_bad: bool = False
    accept_statistics: bool = False  # only warn of statistics that seem to be of other features
    dropped: Counter[str] = field(default_factory=Counter)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def where(self) -> str:
        return str(self.folder)

    @property
    def notes(self) -> dict[str, Any]:
        return {"backbone": "own" if "features" in self.widths else "none"}

    @cached_property
    def files(self) -> dict[Path, Table]:
        """The shapes in every file that is used, checked."""
        paths = [p for p in npz_files(self.folder) if p != self.folder / _STATISTICS]
        if not paths:
            raise ValueError(f"{self.folder}: expected .npz files beside {_STATISTICS}, found none")
        tables: dict[Path, Table] = {}
        odd: dict[str, str] = {}
        for path in paths:
            with leaving_out(path, self.dropped, odd):
                tables[path] = own_shapes(path)
        usual = usual_table(tables)
        good: dict[Path, Table] = {}
        contents: dict[Any, Path] = {}
        for path, table in tables.items():
            with leaving_out(path, self.dropped, odd):
                check_keys(path, table, usual)
                refuse_copy(path, contents)
                check_units(path, table)
                good[path] = table
        if not good:
            raise ValueError(f"{self.folder}: no file can be used: {summary(odd)}")
        if not self.drop_bad and any(kind != EMPTY for kind in self.dropped):
            raise ValueError(f"{summary(odd)}. Correct that, or leave such files out: --drop-bad")
        self.left_out |= odd
        warn_of_unread(self.folder, good)
        return good

    @cached_property
    def total(self) -> int:
        return sum(len(table["body_pose"]) for table in self.files.values())

    @cached_property
    def widths(self) -> dict[str, int]:
        first = next(iter(self.files.values()))
        widths = {"pose": 144, "betas": 10}
        if "features" in first:
            widths["features"] = first["features"].shape[1]
        if "pred_pose" in first:
            widths["estimate"] = 144
        return widths

    @cached_property
    def statistics(self) -> Statistics | None:
        given = self.statistics_file
        if given is not None and "features" not in self.widths:
            raise ValueError(f"{given}: statistics of features, but {self.folder} has no features")
        if given is not None and not given.is_file():
            raise ValueError(f"{given}: no such file; expected mean and std of the features")
        if "features" not in self.widths:
            return None
        path = given or self.folder / _STATISTICS
        if not path.is_file():
            return self._moments.statistics(self.where)
        saved = read_statistics(path, {"features": (self.widths["features"],)})
        check_features(self._moments, saved, self.where, accept=self.accept_statistics)
        return saved

    @cached_property
    def _moments(self) -> Moments:
        moments = Moments()
        for path in self.files:
            with self._forgiving(path):
                for rows in fitted_features(path, ["features"]):
                    moments.add(rows[~bad_rows(as_float32(rows))])
        return moments

    def parts(self) -> Iterator[tuple[int, Samples]]:
        statistics, kept = self.statistics, 0
        for path, table in self.files.items():
            keys = [key for key in KEYS if key in table]
            rows, start = iterate(path, keys), 0
            while start < len(table["body_pose"]):
                columns = None
                with self._forgiving(path):
                    columns = next(rows)
                if columns is None:
                    break
                part = dict(zip(keys, columns, strict=True))
                n = len(part["body_pose"])
                names = part.pop("imgname", None)
                if names is None:
                    names = np.array([f"{path.stem}/{start + i}" for i in range(n)])
                keep = self._kept(path, part, start)
                part = {key: value[keep] for key, value in part.items()}
                start, kept = start + n, kept + int(keep.sum())
                yield n, _samples(as_text(names[keep]), part, statistics)
        if not kept:
            raise ValueError(f"{self.folder}: no sample is left to train on: {dict(self.dropped)}")

    def _kept(self, path: Path, part: dict[str, np.ndarray], start: int) -> Bool[np.ndarray, " n"]:
        """Finds the rows of a part to train on; leaves only columns of samples in it.

        Raises:
            ValueError: naming the first bad row, unless these are to be dropped.
        """
        keep = part.pop("has_body_pose", np.ones(len(part["body_pose"]))) > 0
        self.dropped += Counter({"without a pose fit": int((~keep).sum())})
        with_shape = part.pop("has_betas", None)
        for key, value in part.items():
            part[key] = as_float32(value)
        if with_shape is not None and "betas" in part:
            part["betas"] = np.where(with_shape[:, None] > 0, part["betas"], 0)
        for reason, rows in _mistakes(part).items():
            bad = rows & keep
            if bad.any() and not self.drop_bad:
                raise ValueError(
                    f"{path}: row {start + int(np.flatnonzero(bad)[0])} and maybe others hold "
                    f"{reason}; correct it, or leave such rows out with --drop-bad"
                )
            self.dropped += Counter({f"with {reason}": int(bad.sum())})
            keep &= ~rows
        return keep

    def _forgiving(self, path: Path) -> AbstractContextManager[None]:
        """Leaves out the rest of a file that cannot be read, where that is wanted."""
        return leaving_out(path, self.dropped, self.left_out) if self.drop_bad else nullcontext()


def _mistakes(part: dict[str, np.ndarray]) -> dict[str, Bool[np.ndarray, " n"]]:
    """Masks of rows that cannot be trained on, by reason."""
    mistakes = {f"NaN or infinity in one of {', '.join(part)}": bad_rows(*part.values())}
    if "pred_pose" in part:
        mistakes["an estimate pred_pose that is no rotation"] = not_rotations(part["pred_pose"])
    return mistakes


def _samples(
    names: np.ndarray, part: dict[str, np.ndarray], statistics: Statistics | None
) -> Samples:
    pose = part["body_pose"]
    return Samples(
        names,
        axis_angle_to_x(pose.reshape(len(pose), 24, 3)),
        part.get("betas", np.zeros((len(pose), 10), np.float32)),
        None if statistics is None else statistics.standardise(part["features"]),
        matrices_to_x(part["pred_pose"]) if "pred_pose" in part else None,
    )
