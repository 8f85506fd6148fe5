"""A clock, a bar and a tried target: what commands that take long have in common."""

import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from body_model.files import writing

T = TypeVar("T")


class Clock:
    """Seconds of each part of the work."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name], self._last = now - self._last, now


def progress(frames: Iterable[T], what: str, total: int | None) -> Iterator[T]:
    """A bar on the terminal, where there is one."""
    try:
        from tqdm import tqdm
    except ImportError:
        return iter(frames)
    return iter(
        tqdm(frames, what, total if (total or 0) > 1 else None, disable=not sys.stderr.isatty())
    )


def writable(target: Path) -> Path:
    """Makes the folder and tries it, before the work and not after it."""
    if target.is_dir():
        raise ValueError(f"{target}: is a folder; expected the .npz to write")
    probe = target.with_name(f".{target.name}.probe")
    with writing(probe):
        pass
    probe.unlink()
    return target
