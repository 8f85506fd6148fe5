"""What a run reports: one JSON object per line, on request also for TensorBoard."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from scorehmr_jax import cluster


class Log:
    """The log of a run, whether interrupted or not: every step at most once, in order.

    Args:
        workdir: the run's folder. Lines of its log.jsonl beyond `done`, and broken ones, are
            dropped.
        done: steps that the run has behind it.
        total: steps in all; a progress bar shows them where somebody watches.
        tensorboard: also write for TensorBoard, which needs tensorboardX.
    Raises:
        ValueError: if tensorboardX is wanted and absent.
    """

    def __init__(
        self, workdir: Path, done: int = 0, total: int | None = None, tensorboard: bool = False
    ) -> None:
        self._main = cluster.is_main()
        self._path = workdir / "log.jsonl"
        self._board: Any = None
        self._bar: Any = None
        if not self._main:
            return
        kept = [line for line in _lines(self._path) if _step(line) <= done]
        part = self._path.with_name(f"{self._path.name}.part")
        part.write_text("".join(f"{line}\n" for line in kept))
        os.replace(part, self._path)
        if tensorboard:
            self._board = _board(workdir / "tensorboard", done)
        if total is not None:
            self._bar = _bar(done, total)

    def __enter__(self) -> "Log":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        if self._board is not None:
            self._board.close()
        if self._bar is not None:
            self._bar.close()

    def write(self, record: Mapping[str, float]) -> None:
        """Adds a record, which has a `step`; of several processes, only the first one's."""
        if not self._main:
            return
        line = json.dumps(dict(record))
        with self._path.open("a") as file:
            file.write(line + "\n")
        if self._bar is None:
            print(line, flush=True)
        else:
            self._bar.write(line)
            self._bar.set_postfix(loss=f"{record['loss']:.4f}", refresh=False)
            self._bar.update(int(record["step"]) - self._bar.n)
        if self._board is not None:
            for name, value in record.items():
                if name != "step":
                    self._board.add_scalar(_tag(name), value, int(record["step"]))


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _step(line: str) -> float:
    try:
        return json.loads(line)["step"]
    # A killed process leaves half a line.
    except (ValueError, KeyError, TypeError):
        return float("inf")


def _tag(name: str) -> str:
    """TensorBoard groups by what stands before the slash."""
    return name.replace("val_", "val/", 1) if name.startswith("val_") else f"train/{name}"


def _bar(done: int, total: int) -> Any:
    """On a terminal, and where tqdm is installed."""
    if not sys.stderr.isatty():
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(initial=done, total=total, unit=" steps", dynamic_ncols=True)


def _board(folder: Path, done: int) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise ValueError(
            "TensorBoard's files need tensorboardX: pip install 'scorehmr-jax[train]'"
        ) from None
    # A resumed run hides what an earlier one logged beyond its checkpoint.
    return SummaryWriter(str(folder), purge_step=done + 1 if done else None)
