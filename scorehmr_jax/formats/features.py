"""Files of image features and of their statistics."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import DTypeLike

from scorehmr_jax.formats.backbones import (
    BACKBONES,
    OWN,
    all_keys,
    all_statistics_keys,
    backbone_of_width,
    known_backbones,
    statistics_keys,
)
from scorehmr_jax.formats.tables import Table, read_tables

# Estimates of the same network, which its files may hold too.
_BESIDE = ("pred_pose", "pred_betas", "pred_cam", "pred_cam_t")


def feature_keys(table: Table, width: int) -> tuple[str, ...]:
    """Returns the columns that make up features of this width, in order.

    Raises:
        ValueError: naming the file and the features it holds, if none do.
    """
    for keys in (*(tuple(backbone.columns) for backbone in BACKBONES.values()), (OWN,)):
        if all(key in table for key in keys):
            found = sum(math.prod(table[key].shape[1:]) for key in keys)
            if found == width:
                return keys
    held = [f"{key} {table[key].shape[1:]}" for key in all_keys() if key in table]
    raise ValueError(
        f"{table.where}: the prior takes {width} features per image; found "
        f"{', '.join(held) or 'no key of ' + ', '.join(all_keys())}. Take the features that the "
        f"checkpoint was trained with; known are {known_backbones()}"
    )


def feature_statistics(table: Table, key: str, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Reads mean and standard deviation of one column of features, each of `shape`.

    Raises:
        ValueError: naming file and key, if they are missing, of another shape or no statistics.
    """
    mean_key, std_key = statistics_keys(key)
    mean, std = (table.numbers(each).astype(np.float32) for each in (mean_key, std_key))
    if mean.shape != shape or std.shape != shape:
        raise ValueError(
            f"{table.where}: expected {mean_key} and {std_key} of shape {shape}, as the features "
            f"have, found {mean.shape} and {std.shape}"
        )
    if not (np.isfinite(mean).all() and (std > 0).all()):
        raise ValueError(f"{table.where}: {std_key} must be above 0 and {mean_key} finite")
    return mean, std


def flattened(
    columns: Mapping[str, Float[np.ndarray, "..."]],
    statistics: str | Path | None,
    width: int,
    where: str,
) -> Float[np.ndarray, "*N F"]:
    """Standardises what a network gives, and flattens it as a prior wants it.

    Args:
        columns: by their keys in BACKBONES, [*N, ...].
        statistics: .npz with mean and standard deviation of each feature.
        width: how many features the prior takes.
        where: begins messages: who gave the features.
    Raises:
        ValueError: if the columns do not make up so many features, or there are no statistics of
            them.
    """
    backbone = backbone_of_width(width)
    absent = [key for key in backbone.columns if key not in columns]
    if absent:
        raise ValueError(
            f"{where}: the prior takes {width} features per image, {backbone.name}'s "
            f"{', '.join(backbone.columns)}; found {', '.join(columns) or 'none'}"
        )
    if statistics is None:
        raise ValueError(
            f"{where}: expected statistics of {', '.join(backbone.columns)} to standardise them "
            f"with: --feature-stats, the {backbone.folder}_feat_stats.npz of the prior's training"
        )
    table = read_tables(statistics, all_statistics_keys(), ())[0]
    parts = []
    for key, shape in backbone.columns.items():
        mean, std = feature_statistics(table, key, shape)
        rows = columns[key]
        lead = rows.shape[: rows.ndim - len(shape)]
        parts.append(((rows - mean) / std).astype(np.float32).reshape(*lead, -1))
    return np.concatenate(parts, axis=-1)


def read_features(
    path: str | Path,
    statistics: str | Path | None,
    width: int,
    counts: Sequence[int],
    dtype: DTypeLike = np.float32,
) -> list[Float[np.ndarray, "N F"]]:
    """Reads image features of every group, as a checkpoint wants them.

    Args:
        path: .npz or .pkl, in the annotations' layout, with the keys of one of BACKBONES, or
            `features` [N, F] of your own.
        statistics: .npz with mean and standard deviation of each feature; None if the features
            are standardised already.
        width: how many features the checkpoint takes.
        counts: images in each group.
        dtype: of the arrays.
    Returns:
        One [N, width] array per group.
    Raises:
        ValueError: if file, statistics, counts and checkpoint do not belong together.
    """
    tables = read_tables(path, all_keys(), _BESIDE)
    if len(tables) != len(counts):
        raise ValueError(
            f"{path}: expected features of {len(counts)} group(s), found {len(tables)}; features "
            "and annotations must be of one data set"
        )
    keys = feature_keys(tables[0], width)
    standardise: dict[str, tuple[Any, Any]] = dict.fromkeys(keys, (0.0, 1.0))
    if statistics is not None:
        table = read_tables(statistics, all_statistics_keys(), ())[0]
        standardise = {
            key: feature_statistics(table, key, tables[0][key].shape[1:]) for key in keys
        }
    groups = []
    for table, count in zip(tables, counts, strict=True):
        parts = []
        for key in keys:
            raw = table.array(key, (count, *tables[0][key].shape[1:]), dtype)
            mean, std = standardise[key]
            parts.append(((raw - mean) / std).astype(dtype, copy=False).reshape(count, -1))
        groups.append(parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1))
    return groups
