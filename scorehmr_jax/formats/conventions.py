"""Keypoint sets as files name them: by their points' names, by their number, or in a small file."""

import json
import math
import os
import re
import tomllib
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Real, Shaped

from body_model.files import local_path, warn_of_unread
from body_model.joints import COCO_17
from body_model.keypoint_sets import (
    KEYPOINT_SETS,
    UNKNOWN,
    KeypointSet,
    check_names,
    keypoint_set,
)

# The set that so many points in two dimensions are taken for, where a file does not say.
BY_COUNT = {
    len(KEYPOINT_SETS[name]): name
    for name in (
        *("coco-17", "openpose-18", "openpose-25", "halpe-26", "mpii-16"),
        *("mediapipe-33", "mhr70", "coco-wholebody-133", "halpe-136"),
    )
}
# The bones that a person's limb joints make. Together they are 2.4 to 2.5 diagonals long of the box
# around these joints, and 3.1 at most, on five real videos; 3.7 and more where Human3.6M's points
# are taken for COCO's, 4.2 and more in random order.
_LIMBS = (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"))
_BONES = (
    *(
        (f"{s}_{a}", f"{s}_{b}")
        for s in ("left", "right")
        for a, b in (*_LIMBS, ("shoulder", "hip"))
    ),
    *(("left_hip", "right_hip"), ("left_shoulder", "right_shoulder")),
)
_LONG = 3.3
_READ = ("name", "source", "names", "means", "offsets")


def given_set(of: str | os.PathLike[str] | KeypointSet | Sequence[str]) -> KeypointSet:
    """Finds a keypoint set by name, by the names of its points, or in a file that describes it.

    Args:
        of: as `keypoint_set` takes it, or the path of a .toml or .json for `read_keypoint_set`.
    Raises:
        ValueError: as these two.
    """
    if isinstance(of, os.PathLike) or (isinstance(of, str) and of.endswith((".toml", ".json"))):
        return read_keypoint_set(of)
    return keypoint_set(of)


def read_keypoint_set(path: str | os.PathLike[str]) -> KeypointSet:
    """Reads the description of a keypoint set that is not in the table.

    A .toml or .json with

    - `names`: the points in the detector's order, SMPL's names where they are SMPL's joints or
      landmarks, any other name elsewhere; `left_` and `right_` for the person's sides
    - `means`, if wanted: points to make as the mean of others, `pelvis = ["left_hip", "right_hip"]`
    - `offsets`, if known: how far a point lies from SMPL's of that name, mm; -1: it does differ, by
      an unknown distance
    - `name` and `source`, if wanted: for messages

    Args:
        path: of the file.
    Raises:
        ValueError: naming the file and key.
    """
    where = local_path(path)
    try:
        text = where.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{where}: cannot be read ({reason})") from None
    toml = where.suffix.lower() == ".toml"
    try:
        held: Any = tomllib.loads(text) if toml else json.loads(text)
    except ValueError as error:
        raise ValueError(f"{where}: is no {'TOML' if toml else 'JSON'} ({error})") from None
    if not isinstance(held, dict) or "names" not in held:
        raise ValueError(
            f"{where}: no key names; expected names = [...], the points in their order"
        )
    warn_of_unread(str(where), held, _READ)
    names = held["names"]
    if not isinstance(names, list):
        raise ValueError(f"{where}: names: expected a list of names, found {names!r}")
    check_names(names, f"{where}: names")
    return KeypointSet(
        str(held.get("name", where.stem)),
        str(held.get("source", where)),
        tuple(names),
        means=_means(held.get("means", {}), names, f"{where}: means"),
        offsets=_offsets(held.get("offsets", {}), f"{where}: offsets"),
    )


def set_of_names(names: Sequence[str], where: str) -> KeypointSet:
    """Finds the keypoint set whose points have these names, in the words of other packages.

    Args:
        names: in their order, such as MMPose writes them.
        where: begins messages.
    Returns:
        An entry of the table if names and order are its own, else a set of these points.
    Raises:
        ValueError: for names that come twice or lack their other side.
    """
    plain = [_plain(name) for name in names]
    for each in KEYPOINT_SETS.values():
        ours = tuple(each.aliases.get(name, name) for name in plain)
        if ours == each.names:
            return each
        if set(ours) == set(each.names) and len(ours) == len(each):
            # The same points in another order.
            return KeypointSet(
                f"{each.name} in the order of {where}",
                each.source,
                ours,
                means=each.means,
                offsets=each.offsets,
            )
    # Of faces and hands every package has its own names; the count says which set it is.
    if tuple(plain[: len(COCO_17)]) == COCO_17 and len(plain) in (133, 136):
        return KEYPOINT_SETS[BY_COUNT[len(plain)]]
    common = {**dict.fromkeys(("hip", "chip", "c_hip", "root"), "mid_hip"), "head": "head_top"}
    names = [common.get(name, name) for name in plain]
    check_names(names, where)
    return KeypointSet("own", where, tuple(names))


def set_of_count(count: int, where: str) -> KeypointSet:
    """Finds the keypoint set that so many points usually belong to.

    Args:
        count: of points.
        where: begins the message.
    Raises:
        ValueError: if there is none.
    """
    if count not in BY_COUNT:
        known = ", ".join(f"{n} ({BY_COUNT[n]})" for n in sorted(BY_COUNT))
        raise ValueError(
            f"{where}: {count} points per person, of a set that is not known; known are {known}. "
            "Give the convention: a name, or a .toml with names = [...]"
        )
    return KEYPOINT_SETS[BY_COUNT[count]]


def warn_of_order(
    xy: Real[np.ndarray, "... K 2"],
    confidence: Shaped[np.ndarray, "... K"],
    of: KeypointSet,
    where: str,
) -> None:
    """Warns of points that lie about as those of another set do: bones run across the person.

    Args:
        xy: pixels.
        confidence: only people of whom all limb joints are seen count.
        of: the set that the points are taken for; nothing is said of one that lacks limb joints.
        where: begins the message.
    """
    joints = {name for bone in _BONES for name in bone}
    if not joints <= {*of.names}:
        return
    at = [of.names.index(name) for name in joints]
    rows = xy[(confidence[..., at] > 0).all(-1)]
    size = np.linalg.norm(np.ptp(rows[:, at], axis=1), axis=-1)
    rows, size = rows[size > 0], size[size > 0]
    if not len(rows):
        return
    ends = [[of.names.index(name) for name in bone] for bone in _BONES]
    length = sum(np.linalg.norm(rows[:, a] - rows[:, b], axis=-1) for a, b in ends)
    if np.median(length / size) > _LONG:
        warnings.warn(
            f"{where}: the points do not lie as those of {of.name} do: bones run across the "
            "person. Is it another convention, such as h36m-17 where coco-17 is assumed?",
            stacklevel=3,
        )


def _plain(name: str) -> str:
    """A name in small letters with "_" between words; "RBigToe" becomes right_big_toe."""
    name = name.strip()
    if side := re.match(r"([LR])_?(?=[A-Z])(?!IGHT|EFT)", name):
        name = f"{'left' if side[1] == 'L' else 'right'}_{name[side.end() :]}"
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"[-\s_]+", "_", words).lower()


def _means(held: Any, names: list[str], where: str) -> dict[str, tuple[str, ...]]:
    if not isinstance(held, dict):
        raise ValueError(f"{where}: expected a table, pelvis = [...], found {held!r}")
    for name, parts in held.items():
        if not (isinstance(parts, list) and parts):
            raise ValueError(f"{where}: {name}: expected a list of names, found {parts!r}")
        unknown = [part for part in parts if part not in names]
        if unknown:
            raise ValueError(f"{where}: {name}: {unknown[0]!r} is not among the names")
    return {name: tuple(parts) for name, parts in held.items()}


def _offsets(held: Any, where: str) -> dict[str, float]:
    if not isinstance(held, dict):
        raise ValueError(f"{where}: expected a table, pelvis = 91, found {held!r}")
    for name, offset in held.items():
        if isinstance(offset, bool) or not isinstance(offset, int | float):
            raise ValueError(f"{where}: {name}: expected millimetres, found {offset!r}")
    return {
        name: float(offset) if offset >= 0 or math.isnan(offset) else UNKNOWN
        for name, offset in held.items()
    }
