"""Log of a run: one JSON object per line, on request also for TensorBoard."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from body_model.files import write_text
from scorehmr_jax import cluster


class Log:
    """Writes the log of a run, with every step once and in order, also if it is interrupted.

    Args:
        workdir: the run's folder. Lines of its log.jsonl of later steps than `done`, and broken
            ones, are removed.
        done: steps that the run has behind it.
        total: steps in all, for a progress bar on terminals.
        tensorboard: write for TensorBoard as well, which needs tensorboardX.
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
        write_text(self._path, "".join(f"{line}\n" for line in kept))
        if tensorboard:
            self._board = _board(workdir / "tensorboard", done)
        if total is not None:
            self._bar = _bar(done, total)

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: object) -> None:
        if self._board is not None:
            self._board.close()
        if self._bar is not None:
            self._bar.close()

    def write(self, record: Mapping[str, float]) -> None:
        """Adds a record with a `step`; of several processes, only the first one writes."""
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
    """Name for TensorBoard, which groups figures by the part before the slash."""
    return name.replace("val_", "val/", 1) if name.startswith("val_") else f"train/{name}"


def _bar(done: int, total: int) -> Any:
    """Makes a progress bar, on a terminal and if tqdm is installed."""
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
    # Hides what was logged after the checkpoint that a resumed run goes on from.
    return SummaryWriter(str(folder), purge_step=done + 1 if done else None)
