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

from scorehmr_jax.data.npz_rows import iterate, read_shapes
from scorehmr_jax.data.samples import Samples, axis_angle_to_x, bad_rows, matrices_to_x
from scorehmr_jax.data.statistics import Moments, Statistics, check_features, read_statistics
from scorehmr_jax.data.tables import Table, read_tables

_STATISTICS = "feature_stats.npz"
_OPTIONAL = ("betas", "features", "pred_pose")


@dataclass
class OwnSet:
    """A `Source`: the .npz files of a folder. NaN is an error, or is dropped with `drop_bad`."""

    folder: Path
    statistics_file: Path | None = None
    drop_bad: bool = False
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
        tables = {path: read_shapes(path) for path in paths}
        first = tables[paths[0]]
        for path, table in tables.items():
            n = len(table["body_pose"])
            _check_pose(path, table["body_pose"].shape)
            width = first["features"].shape[-1] if "features" in first else "F"
            expected = {"betas": (n, 10), "features": (n, width), "pred_pose": (n, 24, 3, 3)}
            expected |= {"has_body_pose": (n,), "imgname": (n,)}
            for key, shape in expected.items():
                if key in _OPTIONAL and (key in table) != (key in first):
                    has, lacks = (path, paths[0]) if key in table else (paths[0], path)
                    raise ValueError(f"{lacks}: the key {key!r} is missing, but {has} has it")
                if key in table and table[key].shape != shape:
                    raise ValueError(
                        f"{path}: {key} has shape {table[key].shape}; expected {shape}, one row "
                        "per pose in body_pose"
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
        if "features" not in self.layout:
            return None
        shapes = {"features": (self.layout["features"],)}
        path = self.statistics_file or self.folder / _STATISTICS
        if path.is_file():
            saved = read_statistics(path, shapes)
            check_features(self._moments, saved, self.where)
            return saved
        return Statistics(self._moments.mean, np.maximum(self._moments.std, 1e-6), self.where)

    @cached_property
    def _moments(self) -> Moments:
        moments = Moments()
        for path in self.files:
            for (rows,) in iterate(path, ["features"]):
                moments.add(rows[~bad_rows(rows)])
        return moments

    def parts(self) -> Iterator[tuple[int, Samples]]:
        statistics, kept = self.statistics, 0
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
                bad = bad_rows(*part.values()) & keep
                if bad.any() and not self.drop_bad:
                    row = start + int(np.flatnonzero(bad)[0])
                    raise ValueError(
                        f"{path}: row {row} and maybe others hold NaN or infinity in one of "
                        f"{', '.join(part)}; correct it, or leave such rows out with --drop-bad"
                    )
                self.dropped += Counter(
                    {"without a pose fit": int((~keep).sum()), "with NaN or infinity": bad.sum()}
                )
                keep &= ~bad
                start, kept = start + n, kept + int(keep.sum())
                part = {key: value[keep].astype(np.float32) for key, value in part.items()}
                yield n, _samples(names[keep], part, statistics)
        if not kept:
            raise ValueError(f"{self.folder}: no sample is left to train on: {dict(self.dropped)}")


def _samples(names: np.ndarray, part: dict[str, np.ndarray], statistics: Any) -> Samples:
    pose = part["body_pose"]
    return Samples(
        names,
        axis_angle_to_x(pose.reshape(len(pose), 24, 3)),
        part.get("betas", np.zeros((len(pose), 10), np.float32)),
        None if statistics is None else statistics.standardise(part["features"]),
        matrices_to_x(part["pred_pose"]) if "pred_pose" in part else None,
    )


def _check_pose(path: Path, shape: tuple[int, ...]) -> None:
    if shape[1:] not in ((72,), (24, 3)):
        raise ValueError(
            f"{path}: body_pose has shape {shape}; expected [N, 72] or [N, 24, 3] axis-angle"
        )
