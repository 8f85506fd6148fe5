"""Training samples from your own files: a folder of .npz with poses.

Their keys, for N samples (the first is needed, and the files of a folder have the same):
  body_pose [N, 72] or [N, 24, 3] axis-angle, radians, SMPL's joints
  betas [N, 10] SMPL shape            features [N, F] of the image, as the backbone gives them
  pred_pose [N, 24, 3, 3] estimate    imgname [N] text    has_body_pose [N] 0 leaves a row out
Mean and standard deviation of the features, [F] each, are in feature_stats.npz in the folder (keys
mean, std); without it they are computed from all files.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from scorehmr_jax.datasets.samples import (
    Samples,
    as_float32,
    as_text,
    axis_angle_to_x,
    bad_rows,
    matrices_to_x,
    refuse_degrees,
    turned_far,
)
from scorehmr_jax.datasets.statistics import Moments, Statistics, check_features, read_statistics
from scorehmr_jax.formats.npz_rows import iterate, npz_files, read_shapes
from scorehmr_jax.formats.tables import Table, not_rotations

_STATISTICS = "feature_stats.npz"
_OPTIONAL = ("betas", "features", "pred_pose")


@dataclass
class OwnSet:
    """A `Source`: the .npz files of a folder.

    NaN, or an estimate that is no rotation, is an error, or is dropped with `drop_bad`.
    """

    folder: Path
    statistics_file: Path | None = None
    drop_bad: bool = False
    accept_statistics: bool = False  # warn of those that are not of these features, no more
    dropped: Counter[str] = field(default_factory=Counter)

    @property
    def where(self) -> str:
        return str(self.folder)

    @property
    def notes(self) -> dict[str, Any]:
        return {"backbone": "own" if "features" in self.layout else "none"}

    @cached_property
    def files(self) -> dict[Path, Table]:
        """The shapes in every file, checked."""
        paths = [p for p in npz_files(self.folder) if p.name != _STATISTICS]
        if not paths:
            raise ValueError(f"{self.folder}: expected .npz files beside {_STATISTICS}, found none")
        tables = {path: read_shapes(path) for path in paths}
        first = tables[paths[0]]
        for path, table in tables.items():
            pose = table.numbers("body_pose")
            if pose.shape[1:] not in ((72,), (24, 3)):
                raise ValueError(
                    f"{path}: body_pose has shape {pose.shape}; expected [N, 72] or [N, 24, 3] "
                    "axis-angle"
                )
            n = len(pose)
            wide = "features" in first and first["features"].ndim == 2
            width = first["features"].shape[1] if wide else "F"
            expected = {"betas": (n, 10), "features": (n, width), "pred_pose": (n, 24, 3, 3)}
            expected |= {"has_body_pose": (n,), "imgname": (n,)}
            for key, shape in expected.items():
                if key in _OPTIONAL and (key in table) != (key in first):
                    has, lacks = (path, paths[0]) if key in table else (paths[0], path)
                    raise ValueError(f"{lacks}: the key {key!r} is missing, but {has} has it")
                if key not in table:
                    continue
                found = table[key] if key == "imgname" else table.numbers(key)
                if found.shape != shape:
                    raise ValueError(
                        f"{path}: {key} has shape {found.shape}; expected {shape}, one row per "
                        "pose in body_pose"
                    )
        return tables

    @cached_property
    def total(self) -> int:
        return sum(len(table["body_pose"]) for table in self.files.values())

    @cached_property
    def layout(self) -> dict[str, int]:
        first = next(iter(self.files.values()))
        layout = {"pose": 144, "betas": 10}
        if "features" in first:
            layout["features"] = first["features"].shape[1]
        if "pred_pose" in first:
            layout["estimate"] = 144
        return layout

    @cached_property
    def statistics(self) -> Statistics | None:
        given = self.statistics_file
        if given is not None and "features" not in self.layout:
            raise ValueError(f"{given}: statistics of features, but {self.folder} has no features")
        if given is not None and not given.is_file():
            raise ValueError(f"{given}: no such file; expected mean and std of the features")
        if "features" not in self.layout:
            return None
        path = given or self.folder / _STATISTICS
        if not path.is_file():
            return self._moments.statistics(self.where)
        saved = read_statistics(path, {"features": (self.layout["features"],)})
        check_features(self._moments, saved, self.where, accept=self.accept_statistics)
        return saved

    @cached_property
    def _moments(self) -> Moments:
        moments = Moments()
        for path in self.files:
            for (rows,) in iterate(path, ["features"]):
                moments.add(rows[~bad_rows(as_float32(rows))])
        return moments

    def parts(self) -> Iterator[tuple[int, Samples]]:
        statistics, kept, far = self.statistics, 0, 0
        for path, table in self.files.items():
            keys = [k for k in ("body_pose", *_OPTIONAL, "has_body_pose", "imgname") if k in table]
            start = 0
            for columns in iterate(path, keys):
                part = dict(zip(keys, columns, strict=True))
                n = len(part["body_pose"])
                keep = part.pop("has_body_pose", np.ones(n)) > 0
                names = part.pop("imgname", None)
                if names is None:
                    names = np.array([f"{path.stem}/{start + i}" for i in range(n)])
                self.dropped += Counter({"without a pose fit": int((~keep).sum())})
                part = {key: as_float32(value) for key, value in part.items()}
                for reason, rows in _mistakes(part).items():
                    self._refuse(path, reason, start, rows & keep)
                    keep &= ~rows
                part = {key: value[keep] for key, value in part.items()}
                far += int(turned_far(part["body_pose"]).sum())
                start, kept = start + n, kept + int(keep.sum())
                yield n, _samples(as_text(names[keep]), part, statistics)
        refuse_degrees(far, kept, f"{self.folder}, body_pose")
        if not kept:
            raise ValueError(f"{self.folder}: no sample is left to train on: {dict(self.dropped)}")

    def _refuse(self, path: Path, reason: str, start: int, rows: np.ndarray) -> None:
        if rows.any() and not self.drop_bad:
            raise ValueError(
                f"{path}: row {start + int(np.flatnonzero(rows)[0])} and maybe others hold "
                f"{reason}; correct it, or leave such rows out with --drop-bad"
            )
        self.dropped += Counter({f"with {reason}": int(rows.sum())})


def _mistakes(part: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Masks [n] of rows that cannot be trained on, by reason."""
    mistakes = {f"NaN or infinity in one of {', '.join(part)}": bad_rows(*part.values())}
    if "pred_pose" in part:
        mistakes["an estimate pred_pose that is no rotation"] = not_rotations(part["pred_pose"])
    return mistakes


def _samples(names: np.ndarray, part: dict[str, np.ndarray], statistics: Any) -> Samples:
    pose = part["body_pose"]
    return Samples(
        names,
        axis_angle_to_x(pose.reshape(len(pose), 24, 3)),
        part.get("betas", np.zeros((len(pose), 10), np.float32)),
        None if statistics is None else statistics.standardise(part["features"]),
        matrices_to_x(part["pred_pose"]) if "pred_pose" in part else None,
    )
