"""Image features of the samples of a case."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from scorehmr_jax.evaluation.cases import Case
from scorehmr_jax.evaluation.protocol import Files
from scorehmr_jax.formats.features import read_features
from scorehmr_jax.types import Array


def features_of(
    width: int,
    files: Files,
    case: Case,
    dtype: DTypeLike = np.float32,
    standardised: bool = True,
) -> Array | None:
    """Reads the image features that a method's weights want; None of none.

    Args:
        width: of the features; 0: none.
        files: with the features and their statistics.
        case: whose samples they are of.
        dtype: of the result.
        standardised: False for features as their network gives them, which need no statistics.
    Returns:
        [N, width]; NaN where a sample has none.
    Raises:
        ValueError: if the files are missing or of another backbone.
    """
    if not width:
        return None
    if files.features is None or (standardised and files.feature_stats is None):
        options = "--features and --feature-stats" if standardised else "--features"
        raise ValueError(f"{files.weights} needs image features: please give {options}")
    statistics = files.feature_stats if standardised else None
    lengths = list(case.lengths) if case.rows is None else [case.rows_of_file]
    parts: Any = read_features(files.features, statistics, width, lengths, dtype)
    features = np.concatenate(parts)
    if case.rows is None:
        return features
    return np.where(case.rows[:, None] >= 0, features[np.maximum(case.rows, 0)], np.nan)
