"""Checks of single files of a folder of your own, before any of them is read."""

import difflib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from body_model.files import open_npz, read_npz
from scorehmr_jax.datasets.npz_folders import OddFile
from scorehmr_jax.datasets.samples import as_float32
from scorehmr_jax.formats.npz_rows import iterate, read_shapes
from scorehmr_jax.formats.tables import Table
from scorehmr_jax.units import check_betas, refuse_degrees, turned_far

SAME = ("betas", "features", "pred_pose")  # either all files of a folder have such a key, or none
KEYS = ("body_pose", *SAME, "has_body_pose", "has_betas", "imgname")
EMPTY = "files without rows"


def own_shapes(path: Path) -> Table:
    """Reads the shapes of a file, and checks what can be told of it alone.

    Raises:
        ValueError: naming file and key, if one is not.
    """
    table = read_shapes(path)
    for key in unread_keys(table):
        meant = difflib.get_close_matches(key.lower(), [k for k in KEYS if k not in table], 1, 0.85)
        if meant:
            raise ValueError(
                f"{path}: holds {key!r}, which is not read; rename it to {meant[0]!r}, or take it "
                "out"
            )
    pose = table.numbers("body_pose")
    if pose.shape[1:] not in ((72,), (24, 3)):
        raise ValueError(
            f"{path}: body_pose has shape {pose.shape}; expected [N, 72] or [N, 24, 3] axis-angle"
        )
    n = len(pose)
    if not n:
        raise OddFile(EMPTY, f"{path}: no rows in body_pose")
    features: tuple[int, ...] = table["features"].shape if "features" in table else ()
    expected: dict[str, tuple[Any, ...]] = {
        "betas": (n, 10),
        "features": (n, features[1] if len(features) == 2 else "F"),
        "pred_pose": (n, 24, 3, 3),
        "has_body_pose": (n,),
        "has_betas": (n,),
        "imgname": (n,),
    }
    for key in (key for key in expected if key in table):
        found = (table[key] if key == "imgname" else table.numbers(key)).shape
        if found != expected[key]:
            raise _wrong_shape(path, key, found, expected[key])
    return table


def _wrong_shape(path: Path, key: str, found: Any, expected: Any) -> ValueError:
    return ValueError(
        f"{path}: {key} has shape {found}; expected {expected}, one row per pose in body_pose"
    )


def usual_table(tables: Mapping[Path, Table]) -> Table:
    """A table with the keys, and the width of features, that most have; of two, the first."""
    kinds: dict[Any, list[Table]] = {}
    for table in tables.values():
        width = table["features"].shape[1] if "features" in table else None
        kinds.setdefault((*(key in table for key in SAME), width), []).append(table)
    return max(kinds.values(), key=len)[0] if kinds else Table("", {})


def check_keys(path: Path, table: Table, usual: Table) -> None:
    """Refuses a file with other keys, or features of another width, than most have.

    Raises:
        ValueError: naming both files.
    """
    for key in SAME:
        if key in usual and key not in table:
            raise ValueError(f"{path}: the key {key!r} is missing, but {usual.where} has it")
        if key in table and key not in usual:
            raise ValueError(f"{path}: holds {key!r}, but {usual.where} does not")
    if "features" in table and table["features"].shape[1:] != usual["features"].shape[1:]:
        found, expected = table["features"].shape, usual["features"].shape
        raise _wrong_shape(path, "features", found, (found[0], *expected[1:]))


def refuse_copy(path: Path, contents: dict[Any, Path]) -> None:
    """Refuses a file with the arrays of another, by their checksums in both archives.

    Args:
        path: an .npz.
        contents: files by checksums, of those that were seen; this one is added.
    Raises:
        OddFile: naming both files.
    """
    with open_npz(path, ()) as archive:
        key = frozenset((each.filename, each.CRC, each.file_size) for each in archive.infolist())
    first = contents.setdefault(key, path)
    if first != path:
        raise OddFile("files that are there twice", f"{path}: holds the arrays of {first}")


def check_units(path: Path, table: Table) -> None:
    """Refuses a file of poses in degrees, or of shape numbers that belong to no person.

    Args:
        path: of the file, which is gone through.
        table: its shapes.
    Raises:
        ValueError: naming it and the key.
    """
    n = len(table["body_pose"])
    marks = [key for key in ("has_body_pose", "has_betas") if key in table]
    given = Table(str(path), {**table.columns, **read_npz(path, marks)})
    fitted = given.known("body_pose", n) if "has_body_pose" in marks else np.ones(n, bool)
    shaped = given.known("betas", n) if "has_betas" in marks else np.ones(n, bool)
    far = rows = start = 0
    for (pose,) in iterate(path, ["body_pose"]):
        # What stands in the place of a fit that there is not may be anything.
        pose = pose[fitted[start : (start := start + len(pose))]]
        far, rows = far + int(turned_far(as_float32(pose)).sum()), rows + len(pose)
    refuse_degrees(far, rows, f"{path}, body_pose")
    if "betas" in table:
        betas = as_float32(read_npz(path, ["betas"])["betas"])
        check_betas(betas[fitted & shaped], f"{path}, betas")


def warn_of_unread(folder: Path, tables: Mapping[Path, Table]) -> None:
    """Warns of keys in files of a folder that nothing is made of."""
    unread = {key: path for path, table in tables.items() for key in unread_keys(table)}
    if unread:
        warnings.warn(
            f"{folder}: not read: {', '.join(sorted(unread))} (in {next(iter(unread.values()))}); "
            f"a set of your own has the keys {', '.join(KEYS)}",
            stacklevel=2,
        )


def unread_keys(table: Table) -> list[str]:
    """Lists the keys of a file that are not those of a set of one's own, in order."""
    held = {*table.columns, *getattr(table.columns, "objects", ())}
    return sorted(held - {*KEYS})
