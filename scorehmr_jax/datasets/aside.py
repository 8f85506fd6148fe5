"""Folders that are built aside and then moved to their place: a whole one is there, or none."""

import fcntl
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_LOCK = "lock"
_REPLACED = ".replaced"


@contextmanager
def building(out: Path) -> Iterator[Path]:
    """An empty folder in `out` to build in, gone afterwards; what killed builds left goes too."""
    # A lock of another host does not show on every network file system.
    prefix = f".building-{socket.gethostname()}-"
    for folder in out.iterdir():
        if folder.name.startswith(prefix) and _left_behind(folder):
            shutil.rmtree(folder, ignore_errors=True)
    aside = Path(tempfile.mkdtemp(dir=out, prefix=prefix))
    try:
        with open(aside / _LOCK, "w") as lock:
            with suppress(OSError):  # of a file system without locks, where nothing is cleared up
                fcntl.flock(lock, fcntl.LOCK_EX)
            inner = aside / "set"
            inner.mkdir()
            yield inner
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _left_behind(folder: Path) -> bool:
    # A lock ends with its process. Before it there is no `set`: that build is about to begin.
    try:
        with open(folder / _LOCK, "r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return (folder / "set").exists()
    except OSError:
        return False


def put(built: Path, final: Path) -> None:
    """Moves a folder to its place, where another may be; both on one file system."""
    final.parent.mkdir(parents=True, exist_ok=True)
    try:
        if present(final):
            os.replace(final, _beside(final))
        os.replace(built, final)
    finally:
        present(final)


def present(final: Path) -> bool:
    """Whether the folder is there, after what a killed `put` left is put right."""
    old = _beside(final)
    if old.exists():
        if final.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(old, final)
    return final.exists()


def superseded(folder: Path) -> bool:
    """Whether a folder is the old one of two, as a killed `put` leaves them."""
    return folder.suffix == _REPLACED and folder.with_suffix("").exists()


def _beside(final: Path) -> Path:
    # In sight: between two renames it is all there is.
    return final.with_name(final.name + _REPLACED)
