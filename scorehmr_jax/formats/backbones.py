"""The backbones that image features come from, in one table: name, keys, width, statistics.

Another backbone is one more entry of BACKBONES.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

OWN = "features"  # the key [N, F] of features from a backbone that is not in the table


@dataclass(frozen=True)
class Backbone:
    """A network whose features of an image a prior is conditioned on."""

    name: str  # of `scorehmr build-data --backbone` and of the sets built with it
    columns: Mapping[str, tuple[int, ...]]  # shape of one image's features by key, in order
    folder: str  # in `cache`; its statistics are FOLDER_feat_stats.npz
    with_betas: bool = False  # a prior on these features refines the shape too

    @property
    def width(self) -> int:
        """Numbers per image, all columns flattened one after another."""
        return sum(map(math.prod, self.columns.values()))


BACKBONES = {
    backbone.name: backbone
    for backbone in (
        Backbone("pare", {"pose_feats": (128, 24)}, "pare"),
        Backbone(
            "pare-shape",
            {"pose_feats": (128, 24), "cam_shape_feats": (64, 24)},
            "pare",
            with_betas=True,
        ),
        Backbone("prohmr", {"img_feats": (2048,)}, "prohmr"),
    )
}

# Keys whose statistics are called `mean` and `std`, without the key before them.
_PLAIN_STATISTICS = ("img_feats", OWN)


def all_keys() -> tuple[str, ...]:
    """Returns every key under which a file may hold features."""
    keys = [key for backbone in BACKBONES.values() for key in backbone.columns]
    return tuple(dict.fromkeys([*keys, OWN]))


def backbone_of_width(width: int) -> Backbone:
    """Returns the backbone whose features a prior takes, told by their number.

    Raises:
        ValueError: if none has so many, or several have; lists those there are.
    """
    found = [backbone for backbone in BACKBONES.values() if backbone.width == width]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(backbone.name for backbone in found)
        raise ValueError(
            f"{width} features per image may come from any of {names}: please give --features "
            "and --feature-stats"
        )
    raise ValueError(
        f"expected features of a known backbone ({known_backbones()}), found {width} per image"
    )


def statistics_keys(key: str) -> tuple[str, str]:
    """Returns the keys of a column's mean and standard deviation in a file of statistics."""
    prefix = "" if key in _PLAIN_STATISTICS else f"{key}_"
    return f"{prefix}mean", f"{prefix}std"


def all_statistics_keys() -> tuple[str, ...]:
    """Returns every key under which a file may hold statistics of features."""
    return tuple(dict.fromkeys(each for key in all_keys() for each in statistics_keys(key)))


def known_backbones() -> str:
    """Lists the backbones with the keys and widths of their features."""
    return "; ".join(
        f"{backbone.name}: "
        + " with ".join(f"{key} {list(shape)}" for key, shape in backbone.columns.items())
        + f", {backbone.width}"
        for backbone in BACKBONES.values()
    )
