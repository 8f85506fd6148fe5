"""Mean and standard deviation of image features: computed, saved, and compared with features.

A prior sees standardised features, so features of another backbone, or features standardised with
another's statistics, are noise to it, and nothing downstream would say so.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from body_model.io import write_npz
from scorehmr_jax.data.npz_rows import iterate, read_shapes
from scorehmr_jax.data.released import feature_keys, feature_statistics
from scorehmr_jax.data.tables import read_tables

# What each backbone gives for an image, by key, in the order in which it is flattened.
SHAPES: dict[str, Mapping[str, tuple[int, ...]]] = {
    "pare": {"pose_feats": (128, 24)},
    "pare-shape": {"pose_feats": (128, 24), "cam_shape_feats": (64, 24)},
    "prohmr": {"img_feats": (2048,)},
}
WIDTHS = {name: sum(map(math.prod, shapes.values())) for name, shapes in SHAPES.items()}

# What another data set of the same backbone may differ by, and other features do not. Images of
# people indoors and outdoors shift single features by about half a standard deviation.
_MAX_SHIFT = 2.0  # root mean square over features of the mean's shift, in standard deviations
_MAX_SCALE = 4.0  # typical factor between standard deviations
# Backbones number their features in no common order: the means of one say nothing of another's.
_LEAST_SHIFT = 0.3
_EXPLAINED = 0.5
_ENOUGH = 16  # samples, for a judgement


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of every feature, as flattened for the prior."""

    mean: np.ndarray  # [F]
    std: np.ndarray  # [F] above 0
    where: str = "computed"

    def standardise(self, features: np.ndarray) -> np.ndarray:
        """(features - mean) / std, [N, F] float32."""
        return ((features - self.mean) / self.std).astype(np.float32)

    @property
    def digest(self) -> str:
        """A short name that is the same for the same numbers."""
        numbers = np.concatenate([self.mean, self.std]).astype("<f4")
        return hashlib.sha256(numbers.tobytes()).hexdigest()[:16]


@dataclass
class Moments:
    """Mean and spread of rows that come in parts, without cancellation (Chan et al., 1983)."""

    count: int = 0
    mean: np.ndarray = field(default_factory=lambda: np.zeros(1))
    squares: np.ndarray = field(default_factory=lambda: np.zeros(1))

    def add(self, rows: np.ndarray) -> None:
        """Rows [n, F]."""
        n = len(rows)
        if n == 0:
            return
        mean = rows.mean(0, dtype=np.float64)
        gap, total = mean - self.mean, self.count + n
        own = np.square(rows - mean).sum(0)
        self.squares = self.squares + own + gap**2 * (self.count * n / total)
        self.mean, self.count = self.mean + gap * (n / total), total

    @property
    def std(self) -> np.ndarray:
        return np.sqrt(self.squares / max(self.count, 1))


def read_statistics(path: str | Path, shapes: Mapping[str, tuple[int, ...]]) -> Statistics:
    """Statistics from a file in the released layout.

    Args:
        path: .npz with `<key>_mean` and `<key>_std`, or `mean` and `std` where the key is
            img_feats or features.
        shapes: of one image's features by key, in the order in which they are flattened.
    Raises:
        ValueError: naming file and key, if they are missing or of another shape.
    """
    table = read_tables(path)[0]
    parts = [feature_statistics(table, key, shape) for key, shape in shapes.items()]
    mean, std = (np.concatenate([np.ravel(p[i]) for p in parts]) for i in range(2))
    return Statistics(mean, std, str(path))


def compute_statistics(paths: Iterable[str | Path], backbone: str, out: str | Path) -> Statistics:
    """Statistics of all features in some files, saved in the released layout.

    Args:
        paths: .npz of raw features.
        backbone: one of WIDTHS; a pare file gets its camera and shape features' statistics too
            with pare-shape.
        out: the .npz to write.
    Raises:
        ValueError: naming the file, if it holds other features, or NaN.
    """
    moments = Moments()
    shapes: Mapping[str, tuple[int, ...]] = {}
    for path in paths:
        shapes = shapes_of(path, WIDTHS[backbone])
        for parts in iterate(path, list(shapes)):
            rows = np.concatenate([p.reshape(len(p), -1) for p in parts], axis=1)
            if not np.isfinite(rows).all():
                bad = np.sum(~np.isfinite(rows).all(axis=1))
                raise ValueError(
                    f"{path}: features of {bad} or more images are NaN or infinite; leave these "
                    "images out"
                )
            moments.add(rows)
    found = Statistics(moments.mean, _positive(moments.std), str(out))
    save_statistics(out, found, shapes)
    return found


def save_statistics(
    path: str | Path, found: Statistics, shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Writes statistics as `read_statistics` reads them."""
    arrays, start = {}, 0
    for key, shape in shapes.items():
        prefix = "" if key in ("img_feats", "features") else f"{key}_"
        part = slice(start, start := start + int(np.prod(shape)))
        arrays[f"{prefix}mean"] = found.mean[part].reshape(shape).astype(np.float32)
        arrays[f"{prefix}std"] = found.std[part].reshape(shape).astype(np.float32)
    write_npz(path, arrays)


def shapes_of(path: str | Path, width: int) -> dict[str, tuple[int, ...]]:
    """The columns of a file of features that make up `width` numbers, and their shapes."""
    table = read_shapes(path)
    return {key: table[key].shape[1:] for key in feature_keys(table, width)}


def check_features(found: Moments, saved: Statistics, where: str) -> None:
    """Refuses features that are plainly not those that statistics were made of.

    Args:
        found: of the raw features.
        saved: what they are about to be standardised with.
        where: a name of the features for the message.
    Raises:
        ValueError: saying how far they are apart.
    """
    if found.count < _ENOUGH:
        return
    apart = (found.mean - saved.mean) / saved.std
    # Without what the mean of so few samples is off by.
    shift = float(np.sqrt(max(np.mean(apart**2) - 1 / found.count, 0)))
    ratio = _positive(found.std) / saved.std
    scale = float(np.exp(np.median(np.abs(np.log(ratio)))))
    # How far apart they would be if features were paired at random.
    m, s, w = found.mean, saved.mean, 1 / saved.std**2
    chance = (np.mean(m**2) - 2 * m.mean() * s + s**2) @ w / len(s)
    unrelated = shift > _LEAST_SHIFT and shift**2 > _EXPLAINED * chance
    if shift > _MAX_SHIFT or scale > _MAX_SCALE or unrelated:
        raise ValueError(
            f"{where}: these features are not those of {saved.where}: their means lie "
            f"{shift:.2g} standard deviations away (root mean square), their spread differs by a "
            f"factor of {scale:.2g}. They may be of another backbone, or standardised already. "
            "Give the statistics of this backbone, or compute them: scorehmr feature-stats"
        )


def _positive(std: np.ndarray) -> np.ndarray:
    # A feature that never changes is left as it is.
    return np.where(std > 1e-6, std, 1.0)
