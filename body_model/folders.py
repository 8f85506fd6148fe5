"""Folders written whole or not at all: built aside, then moved to their place."""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from body_model.paths import followed, make_folder

try:
    import fcntl
except ImportError:  # Windows, where what killed builds left is not cleared up
    fcntl = None  # type: ignore[assignment]

_LOCK = "lock"
_REPLACED = ".replaced"
_MARK = ".replaced-by-a-newer-one"


@contextmanager
def building(parent: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives an empty folder in `parent` to build in, which is gone afterwards unless it was moved.

    A folder is written whole or not at all by building it there and then moving it to its place:

        with building(target.parent) as built:
            ...  # write into `built`
            put_folder(built, target)

    What builds on this host left in `parent` when they were killed is removed too.

    Args:
        parent: a folder on the file system of the place where the result is to be; made if need be.
    Raises:
        ValueError: if it is an address, or a file.
    """
    parent = make_folder(parent)
    # A lock of another host does not show on every network file system.
    prefix = f".building-{socket.gethostname()}-"
    for folder in parent.iterdir():
        if folder.name.startswith(prefix) and _left_behind(folder):
            shutil.rmtree(folder, ignore_errors=True)
    aside = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
    try:
        with open(aside / _LOCK, "w") as lock:
            if fcntl is not None:
                with suppress(OSError):  # a file system without locks
                    fcntl.flock(lock, fcntl.LOCK_EX)
            built = aside / "built"
            built.mkdir()
            yield built
    finally:
        # After an error, threads of a library may still be writing there.
        shutil.rmtree(aside, ignore_errors=True)


def _left_behind(folder: Path) -> bool:
    # A lock ends with its process. Before it there is no `built`: that build is about to begin.
    if fcntl is None:
        return False
    try:
        with open(folder / _LOCK, "r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return (folder / "built").exists()
    except OSError:
        return False


def put_folder(built: Path, final: Path) -> None:
    """Moves a folder to its place, where another may be; both on one file system.

    Whether an existing one may be replaced is for the caller to decide beforehand. A link is
    followed, not replaced. Killed between
    its two renames, it leaves the old folder hidden beside the place, with a mark in it that tells
    it from a user's own; `folder_exists` puts that right and `standing` reads it.
    """
    final = followed(final)
    make_folder(final.parent)
    try:
        if folder_exists(final):
            (final / _MARK).touch()
            os.replace(final, _beside(final))
        os.replace(built, final)
    finally:
        if folder_exists(final):
            (final / _MARK).unlink(missing_ok=True)


def folder_exists(final: Path) -> bool:
    """Returns whether the folder is there, after putting right what a killed `put_folder` left.

    For those who are about to write it; readers ask `standing`, which changes nothing.
    """
    final = followed(final)
    old = _beside(final)
    if (old / _MARK).exists():
        if final.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(old, final)
            (final / _MARK).unlink(missing_ok=True)
    return final.exists()


def standing(final: Path) -> Path:
    """Returns where to read the folder: its place, or where a kill has left the old one."""
    final = followed(final)
    old = _beside(final)
    return old if not final.exists() and (old / _MARK).exists() else final


def is_left_over(folder: Path) -> bool:
    """Returns whether a folder is the old one that a killed `put_folder` has left."""
    return folder.name.endswith(_REPLACED) and (folder / _MARK).exists()


def is_superseded(folder: Path) -> bool:
    """Returns whether a folder is such an old one whose new one is at its place."""
    new = folder.name.removeprefix(".").removesuffix(_REPLACED)
    return is_left_over(folder) and folder.with_name(new).exists()


def _beside(final: Path) -> Path:
    return final.with_name(f".{final.name}{_REPLACED}")
