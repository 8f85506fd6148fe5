"""Training samples from image data sets with body fits, in the released layout.

Annotations are in data/datasets/NAME.npz, features in cache/BACKBONE/NAME.npz, their statistics in
data/stats/; a row of each belongs to the same image. Only images with a pose fit are kept.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Shaped

from body_model.files import npz_keys, warn_of_unread
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
    read_statistics,
    shapes_of,
)
from scorehmr_jax.formats.backbones import BACKBONES, all_keys
from scorehmr_jax.formats.npz_rows import iterate, read_shapes
from scorehmr_jax.formats.released import (
    ANNOTATION_KEYS,
    OTHER_ANNOTATIONS,
    PREDICTION_KEYS,
)
from scorehmr_jax.formats.released_layout import ReleasedLayout
from scorehmr_jax.formats.tables import Table, read_tables
from scorehmr_jax.units import check_axis_angle, check_betas, not_rotations

# Names of the annotations of each data set in the released layout, by the fits that they hold.
FILES = {
    "h36m": {"mosh": "h36m_train_mosh.npz", "spin": "h36m_train_spin.npz"},
    "mpi_inf_3dhp": {"eft": "mpi_inf_3dhp_train_eft.npz", "spin": "mpi_inf_3dhp_train_spin.npz"},
    "coco": {"eft": "coco_train_eft.npz", "spin": "coco_train_spin.npz"},
    "mpii": {"eft": "mpii_train_eft.npz", "spin": "mpii_train_spin.npz"},
}
_FITS = ("imgname", "body_pose", "has_body_pose", "betas", "has_betas")
_FEATURES = all_keys()
_EARLY = 2048  # images after which features are judged for the first time, long before the last


@dataclass(frozen=True)
class ImageFiles:
    """Paths of the files of a set."""

    annotations: Path
    features: Path | None = None  # None makes a set without features
    statistics: Path | None = None
    backbone: str = "pare"  # one of BACKBONES
    estimates: Path | None = None  # predictions of a regression network

    @classmethod
    def released(cls, root: str | Path, name: str, fits: str, backbone: str) -> "ImageFiles":
        """Takes the paths of the released code.

        Args:
            root: its folder `data`; `cache` is in it or beside it.
            name: one of FILES.
            fits: one of FILES[name].
            backbone: one of BACKBONES, or none.
        """
        layout, file = ReleasedLayout(root), FILES[name][fits]
        annotations = layout.annotations(file)
        if backbone == "none":
            return cls(annotations, backbone="none")
        folder = BACKBONES[backbone].folder
        features = layout.predictions(folder, file)
        return cls(annotations, features, layout.feature_statistics(folder), backbone)


@dataclass
class ImageSet(SampleReader):
    """Reads the images of one data set that have fits.

    NaN, or an estimate that is no rotation, is an error, or is dropped with `drop_bad`.
    """

    files: ImageFiles
    drop_bad: bool = False
    accept_statistics: bool = False  # only warn of statistics that seem to be of other features
    dropped: Counter[str] = field(default_factory=Counter)
    left_out: dict[str, str] = field(default_factory=dict)  # none: it is one file

    @property
    def where(self) -> str:
        return str(self.files.annotations)

    @cached_property
    def fits(self) -> Table:
        """Columns of the annotations that training reads."""
        beside = [key for key in (*ANNOTATION_KEYS, *OTHER_ANNOTATIONS) if key not in _FITS]
        tables = read_tables(self.files.annotations, _FITS, beside)
        if len(tables) > 1:
            raise ValueError(
                f"{self.files.annotations}: {len(tables)} groups; expected one .npz or one group, "
                "of all images"
            )
        return tables[0]

    @cached_property
    def total(self) -> int:
        names = self.fits["imgname"].reshape(-1)
        if not len(names):
            raise ValueError(
                f"{self.where}: imgname: no images; expected the annotations of one or more"
            )
        return len(names)

    @cached_property
    def columns(self) -> dict[str, tuple[int, ...]]:
        """Columns of the features and their shapes, checked against the annotations."""
        if self.files.features is None:
            return {}
        shapes = shapes_of(self.files.features, BACKBONES[self.files.backbone].width)
        held = npz_keys(self.files.features)
        warn_of_unread(str(self.files.features), held, _FEATURES, PREDICTION_KEYS)
        for key, shape in shapes.items():
            self._check_rows(self.files.features, key, shape)
        return shapes

    @cached_property
    def statistics(self) -> Statistics | None:
        if not self.columns:
            return None
        if self.files.statistics is None or not self.files.statistics.is_file():
            raise ValueError(
                f"{self.files.statistics}: no such file; expected the statistics of "
                f"{self.files.features}. Compute them: scorehmr feature-stats"
            )
        return read_statistics(self.files.statistics, self.columns)

    @cached_property
    def widths(self) -> dict[str, int]:
        widths = {"pose": 144, "betas": 10}
        if self.columns:
            widths["features"] = BACKBONES[self.files.backbone].width
        if self.files.estimates is not None:
            self._check_rows(self.files.estimates, "pred_pose", (24, 3, 3))
            held = npz_keys(self.files.estimates)
            others = (*PREDICTION_KEYS, *_FEATURES)
            warn_of_unread(str(self.files.estimates), held, ("pred_pose",), others)
            widths["estimate"] = 144
        return widths

    @property
    def needs_betas(self) -> bool:
        backbone = BACKBONES.get(self.files.backbone)
        return backbone is not None and backbone.with_betas

    @property
    def notes(self) -> dict[str, Any]:
        return {"backbone": self.files.backbone}

    def parts(self) -> Iterator[tuple[int, Samples]]:
        poses, statistics, moments, start = self._poses(), self.statistics, Moments(), 0
        for features, estimate in self._beside():
            part = slice(start, start := start + len(features))
            keep = self._kept(part, poses, features, estimate)
            if statistics is not None:
                before, last = moments.count, part.stop == self.total
                moments.add(features[keep])
                if last or before < _EARLY <= moments.count:
                    check_features(
                        moments,
                        statistics,
                        str(self.files.features),
                        early=not last,
                        accept=self.accept_statistics,
                    )
            yield (
                len(features),
                Samples(
                    poses.names[part][keep],
                    axis_angle_to_x(poses.pose[part][keep]),
                    poses.betas[part][keep],
                    None if statistics is None else statistics.standardise(features[keep]),
                    matrices_to_x(estimate[keep]) if self.files.estimates else None,
                ),
            )
        if sum(self.dropped.values()) >= self.total:
            raise ValueError(
                f"{self.where}: none of {self.total} images is left to train on: "
                f"{dict(self.dropped)}. has_body_pose [N] must be above 0 where body_pose [N, 72] "
                "is a fit"
            )

    def _poses(self) -> "_Poses":
        """Reads the fits of all images.

        Raises:
            ValueError: naming the file, if a key is missing or of another shape or unit.
        """
        n = self.total
        if "betas" in self.fits and "has_betas" not in self.fits:
            raise ValueError(
                f"{self.where}: betas, but no has_betas; expected has_betas [{n}], above 0 where "
                "betas is a fit"
            )
        pose = self.fits.unchecked("body_pose", (n, 72), np.float32)
        has_pose, has_betas = (self.fits.known(key, n) for key in ("body_pose", "betas"))
        betas = np.zeros((n, 10), np.float32)
        if "betas" in self.fits:
            betas = self.fits.unchecked("betas", (n, 10), np.float32)
            betas = np.where(has_betas[:, None], betas, 0)
        check_axis_angle(pose[has_pose], f"{self.where}, body_pose")
        check_betas(betas[has_pose], f"{self.where}, betas")
        names = as_text(self.fits["imgname"].reshape(-1))
        return _Poses(names, pose, betas, has_pose, has_betas)

    def _kept(
        self, part: slice, poses: "_Poses", features: np.ndarray, estimate: np.ndarray
    ) -> Bool[np.ndarray, " n"]:
        """Finds the images of a part to train on, and counts the others.

        Raises:
            ValueError: naming the first bad row, unless these are to be dropped.
        """
        keep = poses.has_pose[part]
        self._drop(~keep, "without a pose fit")
        if self.needs_betas:
            known = poses.has_betas[part]
            self._drop(keep & ~known, "without a shape fit")
            keep = keep & known
        columns = {
            (self.files.annotations, "body_pose"): poses.pose[part],
            (self.files.annotations, "betas"): poses.betas[part],
            (self.files.features, ", ".join(self.columns)): features,
            (self.files.estimates, "pred_pose"): estimate,
        }
        wrong = {where: bad_rows(values) & keep for where, values in columns.items()}
        for (file, key), bad in wrong.items():
            self._refuse(file, f"{key} is NaN or infinite", bad, part)
        bad = np.logical_or.reduce([*wrong.values()])
        self._drop(bad, "with NaN or infinity")
        keep = keep & ~bad
        if self.files.estimates is not None:
            bad = not_rotations(estimate.reshape(-1, 24, 3, 3)) & keep
            self._refuse(self.files.estimates, "pred_pose is no rotation", bad, part)
            self._drop(bad, "with an estimate that is no rotation")
            keep = keep & ~bad
        return keep

    def _beside(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields raw features [n, F] and estimated rotations [n, 216], part by part."""
        n = self.total
        files = self.files
        # One column of zeros where there is no file.
        features = iterate(files.features, [*self.columns]) if files.features else _zeros(n)
        poses = iterate(files.estimates, ["pred_pose"]) if files.estimates else _zeros(n)
        for columns, estimated in zip(features, poses, strict=True):
            flat = [as_float32(c).reshape(len(c), -1) for c in columns]
            yield (
                flat[0] if len(flat) == 1 else np.concatenate(flat, axis=1),
                as_float32(estimated[0]).reshape(len(estimated[0]), -1),
            )

    def _drop(self, rows: np.ndarray, reason: str) -> None:
        if rows.any():
            self.dropped[reason] += int(rows.sum())

    def _refuse(self, file: Path | None, what: str, bad: np.ndarray, part: slice) -> None:
        if bad.any() and not self.drop_bad:
            raise ValueError(
                f"{file}: {what} in row {part.start + int(np.flatnonzero(bad)[0])} and maybe "
                "others; correct it, or leave such images out with --drop-bad"
            )

    def _check_rows(self, path: Path, key: str, shape: tuple[int, ...]) -> None:
        found, expected = read_shapes(path).numbers(key).shape, (self.total, *shape)
        if found != expected:
            raise ValueError(
                f"{path}: {key} has shape {found}; expected {expected}, one row per image of "
                f"{self.files.annotations}, in their order; both must be of one data set"
            )


@dataclass(frozen=True)
class _Poses:
    """Fits of all images of a set."""

    names: Shaped[np.ndarray, " N"]  # of the images
    pose: Float32[np.ndarray, "N 72"]  # axis-angle, radians
    betas: Float32[np.ndarray, "N 10"]  # SMPL shape; zero where it is not known
    has_pose: Bool[np.ndarray, " N"]
    has_betas: Bool[np.ndarray, " N"]


def _zeros(count: int, rows: int = 1024) -> Iterator[tuple[np.ndarray, ...]]:
    for start in range(0, count, rows):
        yield (np.zeros((min(rows, count - start), 1), np.float32),)
