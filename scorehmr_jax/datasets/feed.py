"""Opens built sets as a feed of batches, resident on the device or streamed from disk.

Both ways give the same batches:

feed = open_feed({"sets/h36m/mosh_pare": 0.5, "sets/coco/eft_pare": 0.5}, features=3072)
if feed.choose() == "resident":
    data, draw = feed.resident(seed, batch=128)  # draw(step, data) inside the scanned step
else:
    batches = feed.stream(seed, batch=128, start=step)

Image features are bfloat16 at rest and on the way; the training step makes float32 of them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from scorehmr_jax.datasets.mixture_feed import MixtureFeed
from scorehmr_jax.datasets.records import RecordSet
from scorehmr_jax.datasets.statistics import read_statistics
from scorehmr_jax.formats.backbones import BACKBONES, OWN
from scorehmr_jax.formats.tables import read_tables

CONDITIONS = ("features", "estimate", "none")
HELD_OUT = 0.01  # share of every set, at its end, that is kept for validation
_MOST_HELD_OUT = 1000


def open_feed(
    sets: Mapping[Any, float],
    *,
    condition: str = "features",
    features: int | None = None,
    statistics: str | Path | None = None,
    with_shape: bool = False,
    betas_stats: str | Path | None = None,
    part: Literal["all", "train", "validation"] = "all",
) -> MixtureFeed:
    """Opens built sets that belong together.

    Args:
        sets: folders of sets and how often each is drawn.
        condition: contents of a batch's features: "features" of the image, a network's
            "estimate", or "none".
        features: numbers per sample that the network expects; checked if given.
        statistics: .npz that the features must have been standardised with; checked if given.
        with_shape: append the shape, in [-1, 1], to the pose.
        betas_stats: .npz with betas_min and betas_max [10]; by default the sets' own range.
        part: of every set. Validation has the last hundredth of it, at least one sample and at
            most a thousand; train has the rest.
    Raises:
        ValueError: naming the sets, if they differ in what they hold, or are not what is expected.
    """
    if condition not in CONDITIONS:
        raise ValueError(f"condition: expected one of {', '.join(CONDITIONS)}, found {condition!r}")
    opened = tuple(_open(folder, part) for folder in sets)
    feed = MixtureFeed(opened, tuple(sets.values()), condition)
    feed.order(0, 1)  # refuses weights and sizes that make no sense
    for records in opened:
        _check(records, opened[0], condition, features)
        root, first = (r.notes.get("root", "in the camera frame") for r in (records, opened[0]))
        if root != first:
            raise ValueError(
                f"{records.folder}: its poses have a root that is {root}, those of "
                f"{opened[0].folder} one that is {first}; they cannot be mixed"
            )
    if statistics is not None and condition == "features":
        first = opened[0]
        known = BACKBONES.get(first.notes["backbone"])
        columns = known.columns if known else {OWN: (first.widths["features"],)}
        expected = read_statistics(statistics, columns)
        if expected.digest != first.notes["statistics"]:
            raise ValueError(
                f"{first.folder}: its features were standardised with other statistics than "
                f"{statistics}; build it again with these: scorehmr build-data --stats"
            )
    if not with_shape:
        return feed
    return MixtureFeed(opened, feed.weights, condition, _range(opened, betas_stats))


def _open(folder: str | Path, part: str) -> RecordSet:
    whole = RecordSet.open(folder)
    if part == "all":
        return whole
    held_out = min(max(1, round(HELD_OUT * len(whole))), _MOST_HELD_OUT)
    cut = len(whole) - held_out
    if cut < 1:
        raise ValueError(f"{whole.folder}: expected 2 samples or more, found {len(whole)}")
    split = f"train[:{cut}]" if part == "train" else f"train[{cut}:]"
    return RecordSet.open(folder, split)


def _check(records: RecordSet, first: RecordSet, condition: str, width: int | None) -> None:
    """Refuses a set that lacks the condition, or has it in another form than the first."""
    if condition == "none":
        return
    if condition not in records.widths:
        raise ValueError(
            f"{records.folder}: expected a set with {condition}; it holds "
            f"{', '.join(records.widths)}. Build it with them: scorehmr build-data --help"
        )
    found = records.widths[condition]
    if found != (width or found) or found != first.widths[condition]:
        raise ValueError(
            f"{records.folder}: expected {width or first.widths[condition]} numbers of {condition} "
            f"per sample, found {found}; build it with the backbone that the network was made for"
        )
    if condition == "features" and records.notes["statistics"] != first.notes["statistics"]:
        raise ValueError(
            f"{records.folder}: its features were standardised with other statistics than those of "
            f"{first.folder}; build both with the same: scorehmr build-data --stats"
        )


def _range(sets: tuple[RecordSet, ...], path: str | Path | None) -> tuple[np.ndarray, np.ndarray]:
    if path is not None:
        table = read_tables(path)[0]
        low, high = (table.array(f"betas_{end}", (10,), np.float32) for end in ("min", "max"))
        where = str(path)
    else:
        ranges = [records.notes["betas_range"] for records in sets]
        low = np.min([r["low"] for r in ranges], axis=0)
        high = np.max([r["high"] for r in ranges], axis=0)
        where = ", ".join(str(records.folder) for records in sets)
    if not (high > low).all():
        raise ValueError(f"{where}: the shape numbers do not vary; these fits have no shape")
    return low, high
