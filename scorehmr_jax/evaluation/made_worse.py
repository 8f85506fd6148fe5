"""How many samples a method harms, which means hide."""

from collections.abc import Mapping

import numpy as np

from scorehmr_jax.evaluation.intervals import Interval, mean_interval

WORSE = 2.0  # mm of PA-MPJPE by which a sample has to rise to count as made worse


def worse_share(
    figures: Mapping[str, np.ndarray], sequence: Mapping[str, np.ndarray]
) -> Interval | None:
    """Gives the share of samples whose PA-MPJPE rose by more than 2 mm; None if it is not known.

    Args:
        figures: with `reg_re` and `opt_re` [N].
        sequence: by name, of each sample.
    """
    if "opt_re" not in figures or "reg_re" not in figures:
        return None
    rise = figures["opt_re"] - figures["reg_re"]
    return mean_interval(np.where(np.isfinite(rise), rise > WORSE, np.nan), sequence["opt_re"])
