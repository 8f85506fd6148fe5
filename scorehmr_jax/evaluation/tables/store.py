"""Results that were computed once are kept: by method, protocol, configuration, weights and code.

A table that was interrupted goes on where it was, and another table takes what it shares with one.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np

from body_model.files import local_path, read_npz, write_json, write_npz
from scorehmr_jax import cluster
from scorehmr_jax.evaluation.results import Results
from scorehmr_jax.provenance import commit

_ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Figures:
    """What is known of each sample of a run."""

    values: Mapping[str, np.ndarray]  # reg_NAME and opt_NAME, one value for each sample; status
    sequence: np.ndarray  # [N]
    frames: Mapping[str, int]  # by what became of them before any was refined
    seconds: float | None = None  # of a sample, once compiled

    @classmethod
    def of(
        cls,
        results: Results,
        sequence: np.ndarray,
        frames: Mapping[str, int],
        seconds: float | None = None,
    ) -> "Figures":
        """Takes the figures of results; of several frames, NaN stands where there are fewer."""
        names = [name for name in results.names() if name.startswith(("reg_", "opt_", "status"))]
        return cls({name: results[name] for name in names}, sequence, frames, seconds)


def kept(folder: Path, key: Mapping[str, Any], compute: Callable[[], Figures]) -> Figures:
    """Reads the figures of a key, or computes and writes them; all processes have to call it.

    Args:
        folder: of all results.
        key: what they depend on, as JSON has it: another key is another result.
        compute: makes them.
    Raises:
        ValueError: naming the file, if one of that name is damaged.
    """
    place = local_path(folder) / f"{key['method']}-{key['protocol']['name']}-{digest(key)[:12]}"
    if cluster.all_agree((place / "figures.npz").is_file()):
        return _read(place / "figures.npz")
    figures = compute()
    if cluster.is_main():
        counts = np.array([*figures.frames.values()])
        extra = {"sequence": figures.sequence, "frames": np.array([*figures.frames], "U")}
        if figures.seconds is not None:
            extra["seconds"] = np.array(figures.seconds)
        write_json(place / "key.json", key)
        # Last: whoever finds it finds all of it.
        write_npz(place / "figures.npz", {**figures.values, **extra, "frame_counts": counts})
    return figures


def _read(path: Path) -> Figures:
    held = dict(read_npz(path))
    names, counts = held.pop("frames"), held.pop("frame_counts")
    sequence, seconds = held.pop("sequence"), held.pop("seconds", None)
    frames = dict(zip(names.tolist(), counts.tolist(), strict=True))
    return Figures(held, sequence, frames, None if seconds is None else float(seconds))


def digest(value: Any) -> str:
    """A hash of what JSON can hold, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def weights_hash(tree: Any) -> str:
    """A hash of the numbers of a pytree, such as a prior's weights."""
    told = hashlib.blake2b(digest_size=8)
    for leaf in jax.tree.leaves(tree):
        array = np.ascontiguousarray(leaf)
        told.update(f"{array.dtype}{array.shape}".encode())
        told.update(array.tobytes())
    return told.hexdigest()


@cache
def code() -> str:
    """The commit of this code; where it was changed since or has none, a hash of its sources."""
    known = commit()
    if known and not known.endswith("-dirty"):
        return known
    told = hashlib.blake2b(digest_size=8)
    for package in ("body_model", "scorehmr_jax", "benchmarks"):
        held = (file for file in (_ROOT / package).rglob("*") if file.suffix in (".py", ".npz"))
        for file in sorted(held):
            told.update(str(file.relative_to(_ROOT)).encode())
            told.update(file.read_bytes())
    return f"sources {told.hexdigest()}"
