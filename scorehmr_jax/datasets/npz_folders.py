"""Folders of .npz files: each file found once, the odd one among many left out by its name."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

UNUSABLE = "files that cannot be used"


class OddFile(ValueError):
    """A file of a folder that cannot be trained on, although the folder can.

    Args:
        kind: such files are counted together under it, as in "clips without frames".
        message: names the file, what was expected and found; empty for files that are expected
            to be there and need no mention.
    """

    def __init__(self, kind: str, message: str = "") -> None:
        super().__init__(message)
        self.kind = kind


@contextmanager
def leaving_out(path: Path, dropped: Counter[str], left_out: dict[str, str]) -> Iterator[None]:
    """Counts and names a file, instead of raising, where it proves to be odd.

    Args:
        path: of the file that is read inside.
        dropped: counts, by kind; one is added.
        left_out: messages by file; this one's is added.
    """
    try:
        yield
    except ValueError as error:
        if str(path) not in left_out:  # of a file that is gone through twice
            dropped[error.kind if isinstance(error, OddFile) else UNUSABLE] += 1
        if str(error):
            left_out[str(path)] = str(error)


def summary(left_out: Mapping[str, str], most: int = 5) -> str:
    """Names of files and why each was left out, in one line; the first few of them."""
    said = [text if path in text else f"{path}: {text}" for path, text in left_out.items()]
    rest = len(said) - most
    return "; ".join(said[:most]) + (f"; and {rest} more" if rest > 0 else "")


def npz_files(folder: Path) -> list[Path]:
    """The .npz files in a folder and below it, in order.

    Links to other folders are followed, once each. Hidden files and folders are passed over: they
    are what operating systems and editors leave (`._clip.npz`), not data.

    Raises:
        ValueError: if there are none.
    """
    found: list[Path] = []
    visited: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(place, name)
            for name in files
            if name.lower().endswith(".npz") and not name.startswith(".")
        ]
    if not found:
        raise ValueError(f"{folder}: expected a folder with .npz files, found none")
    return sorted(found)
