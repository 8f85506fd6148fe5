"""Mean and standard deviation of image features: computed, saved, and compared with features.

A prior sees standardised features, so features of another backbone, or features standardised with
another's statistics, are noise to it, and nothing downstream would say so.
"""

import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Num

from body_model.files import local_path, npz_keys, warn_of_unread, write_npz
from scorehmr_jax.datasets.own_files import KEYS
from scorehmr_jax.formats.backbones import (
    BACKBONES,
    OWN,
    all_keys,
    all_statistics_keys,
    statistics_keys,
)
from scorehmr_jax.formats.features import feature_keys, feature_statistics
from scorehmr_jax.formats.npz_rows import iterate, read_shapes
from scorehmr_jax.formats.released import ANNOTATION_KEYS, OTHER_ANNOTATIONS, PREDICTION_KEYS
from scorehmr_jax.formats.tables import read_tables

# Largest differences between data sets of one backbone; features of another differ more. Images
# of people indoors and outdoors shift single features by about half a standard deviation.
_MAX_SHIFT = 2.0  # root mean square over features of the mean's shift, in standard deviations
_MAX_SCALE = 4.0  # median over features of the factor between standard deviations
# Backbones number their features in no common order, so that the means of one are no nearer to
# those of another than to the same means shuffled. A shift above _LEAST_SHIFT is refused if its
# square is more than this share of the shuffled one's.
_LEAST_SHIFT = 0.3
_EXPLAINED = 0.5
_ENOUGH = 16  # samples that a judgement needs
_CONSTANT = 1e-6  # standard deviation of a feature that never changes, but for rounding

# What files of features hold besides: features that were not chosen, fits, estimates.
_BESIDE = {*all_keys(), *KEYS, *ANNOTATION_KEYS, *OTHER_ANNOTATIONS, *PREDICTION_KEYS}


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of every feature, as flattened for the prior."""

    mean: Float[np.ndarray, " F"]
    std: Float[np.ndarray, " F"]  # above 0
    where: str = "computed"  # their name for messages

    def standardise(self, features: Num[np.ndarray, "N F"]) -> Float32[np.ndarray, "N F"]:
        """Computes (features - mean) / std."""
        return ((features - self.mean) / self.std).astype(np.float32)

    @property
    def digest(self) -> str:
        """Short name that is the same for the same numbers."""
        numbers = np.concatenate([self.mean, self.std]).astype("<f4")
        return hashlib.sha256(numbers.tobytes()).hexdigest()[:16]


@dataclass
class Moments:
    """Mean and spread of rows that come in parts, without cancellation (Chan et al., 1983)."""

    count: int = 0
    mean: Float[np.ndarray, " F"] = field(default_factory=lambda: np.zeros(1))
    squares: Float[np.ndarray, " F"] = field(default_factory=lambda: np.zeros(1))

    def add(self, rows: Num[np.ndarray, "n F"]) -> None:
        """Takes rows into account."""
        n = len(rows)
        if n == 0:
            return
        mean = rows.mean(0, dtype=np.float64)
        gap, total = mean - self.mean, self.count + n
        own = np.square(rows - mean).sum(0)
        self.squares = self.squares + own + gap**2 * (self.count * n / total)
        self.mean, self.count = self.mean + gap * (n / total), total

    @property
    def std(self) -> Float[np.ndarray, " F"]:
        """Standard deviation of all rows so far."""
        return np.sqrt(self.squares / max(self.count, 1))

    def statistics(self, where: str) -> Statistics:
        """Makes statistics to standardise with.

        Args:
            where: their name, for messages.
        Raises:
            ValueError: if there are fewer than two rows, or all rows are the same: nothing says
                then how far features spread.
        """
        if not (self.std > _CONSTANT).any():
            found = "all alike" if self.count > 1 else self.count or "none"
            raise ValueError(
                f"{where}: expected features of two or more different images, found {found}; take "
                "the files of a whole training set, or give the statistics of the backbone"
            )
        return Statistics(self.mean, _positive(self.std), where)


def read_statistics(path: str | Path, shapes: Mapping[str, tuple[int, ...]]) -> Statistics:
    """Reads statistics from a file in the released layout.

    Args:
        path: .npz with `<key>_mean` and `<key>_std`, or `mean` and `std` where the key is
            img_feats or features.
        shapes: shapes of one image's features by key, in the order in which they are flattened.
    Raises:
        ValueError: naming file and key, if they are missing or of another shape.
    """
    table = read_tables(path, all_statistics_keys(), ())[0]
    parts = [feature_statistics(table, key, shape) for key, shape in shapes.items()]
    mean, std = (np.concatenate([np.ravel(p[i]) for p in parts]) for i in range(2))
    return Statistics(mean, std, str(path))


def compute_statistics(
    paths: Sequence[str | Path],
    out: str | Path,
    backbone: str | None = None,
    *,
    overwrite: bool = False,
) -> Statistics:
    """Computes statistics of all features in some files, and saves them in the released layout.

    Args:
        paths: .npz files of raw features.
        out: the .npz to write.
        backbone: one of BACKBONES, or own: files with features [N, F]. By default the one whose
            keys all files have. Rows that has_body_pose of an own file marks with 0 are left out.
        overwrite: replace a file that is there.
    Raises:
        ValueError: naming the file, if it holds other features, those of two backbones, rows of
            which a part is NaN, or too few rows; or if `out` is there already.
    """
    out = local_path(out)
    if out.resolve() in [Path(path).resolve() for path in paths]:
        raise ValueError(f"{out}: is one of the files to read too; choose another --out")
    if out.exists() and not overwrite:
        raise ValueError(f"{out}: there is a file already; choose another --out, or --overwrite")
    places = [Path(path).resolve() for path in paths]
    twice = [
        str(path) for path, place in zip(paths, places, strict=True) if places.count(place) > 1
    ]
    if twice:
        raise ValueError(f"{', '.join(twice)}: the same file; give each once")
    moments = Moments()
    shapes = _common_shapes(paths, backbone)
    for path in paths:
        unreadable = 0
        for rows in fitted_features(path, list(shapes)):
            absent = np.isnan(rows).all(axis=1)
            unreadable += int(absent.sum())
            rows = rows[~absent]
            if not np.isfinite(rows).all():
                bad = np.sum(~np.isfinite(rows).all(axis=1))
                raise ValueError(
                    f"{path}: features of {bad} or more images are NaN or infinite; leave these "
                    "images out"
                )
            moments.add(rows)
        if unreadable:
            warnings.warn(
                f"{path}: {unreadable} rows are NaN, as `scorehmr features` leaves images that "
                "cannot be read; they are left out",
                stacklevel=2,
            )
    found = replace(moments.statistics(", ".join(map(str, paths))), where=str(out))
    save_statistics(out, found, shapes)
    return found


def fitted_features(path: str | Path, keys: Sequence[str]) -> Iterator[Num[np.ndarray, "n F"]]:
    """Yields the features of a file, some rows at a time, but for rows that are marked as no fit.

    Args:
        path: an .npz.
        keys: of its features. The key has_body_pose [N], 0 where a row is not trained on, is read
            too if it is there.
    Raises:
        ValueError: naming file and key, if the file is damaged or lengths differ.
    """
    marked = ["has_body_pose"] if "has_body_pose" in npz_keys(path) else []
    for columns in iterate(path, [*keys, *marked]):
        rows = np.concatenate([_flat(each) for each in columns[: len(keys)]], axis=1)
        yield rows[columns[-1].reshape(len(rows)) > 0] if marked else rows


def _flat(rows: np.ndarray) -> np.ndarray:
    return rows.reshape(len(rows), int(np.prod(rows.shape[1:])))


def _common_shapes(paths: Sequence[str | Path], backbone: str | None) -> dict[str, tuple[int, ...]]:
    """Finds the features that all files hold."""
    tables = [read_shapes(path) for path in paths]
    layouts = {name: known.columns for name, known in BACKBONES.items()} | {"own": {OWN: ()}}
    if backbone is None:
        # Those with more keys first, as they may have all the keys of others.
        order = sorted(layouts, key=lambda name: len(layouts[name]), reverse=True)
        fitting = [n for n in order if all(key in t for key in layouts[n] for t in tables)]
        apart = [n for n in fitting if not layouts[n].keys() <= layouts[fitting[0]].keys()]
        if apart:
            raise ValueError(
                f"{', '.join(map(str, paths))}: expected features of one backbone, found those of "
                f"{fitting[0]} and {', '.join(apart)}; choose one with --backbone"
            )
        backbone = next(iter(fitting), None)
    if backbone is None:
        known = "; ".join(" with ".join(columns) for columns in layouts.values())
        raise ValueError(
            f"{', '.join(map(str, paths))}: expected features that every file has, {known}; "
            f"found {'; '.join(str(sorted(table.columns)) for table in tables)}"
        )
    found = []
    for path, table in zip(paths, tables, strict=True):
        if backbone == "own":
            shape = table.numbers("features").shape
            if len(shape) != 2:
                raise ValueError(f"{path}: features has shape {shape}; expected [N, F]")
            found.append({"features": shape[1:]})
        else:
            found.append(shapes_of(path, BACKBONES[backbone].width))
        if found[-1] != found[0]:
            raise ValueError(
                f"{path}: features of an image have shape {found[-1]}, but {found[0]} in {paths[0]}"
            )
        warn_of_unread(str(path), table.columns, [*found[0]], _BESIDE)
    return found[0]


def save_statistics(
    path: str | Path, found: Statistics, shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Writes statistics as `read_statistics` reads them."""
    arrays, start = {}, 0
    for key, shape in shapes.items():
        mean_key, std_key = statistics_keys(key)
        part = slice(start, start := start + int(np.prod(shape)))
        arrays[mean_key] = found.mean[part].reshape(shape).astype(np.float32)
        arrays[std_key] = found.std[part].reshape(shape).astype(np.float32)
    write_npz(path, arrays)


def shapes_of(path: str | Path, width: int) -> dict[str, tuple[int, ...]]:
    """Finds the columns of a file of features that make up `width` numbers, and their shapes."""
    table = read_shapes(path)
    return {key: table.numbers(key).shape[1:] for key in feature_keys(table, width)}


def check_features(
    found: Moments, saved: Statistics, where: str, *, early: bool = False, accept: bool = False
) -> None:
    """Refuses features that are plainly not those that statistics were made of.

    Args:
        found: moments of the raw features.
        saved: statistics that they are about to be standardised with.
        where: a name of the features for the message.
        early: these are the first rows, perhaps of one person; only differences that no selection
            of images explains are refused.
        accept: warn instead.
    Raises:
        ValueError: saying how far they are apart.
    """
    if found.count < _ENOUGH or (early and accept):
        return
    apart = (found.mean - saved.mean) / saved.std
    # The mean of n samples has a variance of 1 / n by itself, which is taken off.
    shift = float(np.sqrt(max(np.mean(apart**2) - 1 / found.count, 0)))
    spread = np.log(_positive(found.std) / saved.std)
    if early:  # images of one person may differ less among each other, but not more
        spread = np.where(found.std > saved.std, spread, 0)
    scale = float(np.exp(np.median(np.abs(spread))))
    # Mean square of `apart` that would be expected if features were paired at random.
    m, s, w = found.mean, saved.mean, 1 / saved.std**2
    chance = (np.mean(m**2) - 2 * m.mean() * s + s**2) @ w / len(s)
    unrelated = shift > _LEAST_SHIFT and shift**2 > _EXPLAINED * chance and not early
    if shift > _MAX_SHIFT or scale > _MAX_SCALE or unrelated:
        message = (
            f"{where}: these features are not those of {saved.where}: their means lie "
            f"{shift:.2g} standard deviations away (root mean square), their spread differs by a "
            f"factor of {scale:.2g}. They may be of another backbone, or standardised already."
        )
        if not accept:
            raise ValueError(
                f"{message} Give the statistics of this backbone, or compute them: scorehmr "
                "feature-stats. If they are the right ones all the same: --accept-statistics"
            )
        warnings.warn(message, stacklevel=2)


def _positive(std: np.ndarray) -> np.ndarray:
    # A feature that never changes is not scaled.
    return np.where(std > _CONSTANT, std, 1.0)
