"""A long refinement in parts, each written when it is done, so that it can go on another day."""

import hashlib
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from body_model.files import local_path, read_npz, write_npz
from scorehmr_jax.confidence import nobody_knows
from scorehmr_jax.devices import Devices
from scorehmr_jax.provenance import versions
from scorehmr_jax.screening import OK, PADDING
from scorehmr_jax.types import Estimate, Expectation, Info, Refined

_SMALLEST = 16  # samples of a program; others are twice as many, and so on
_WRITTEN = re.compile(r"(person|images)\d+-[0-9a-f]{16}\.npz")
_IMAGES = 128  # that have nothing to do with each other, refined together


@dataclass(frozen=True)
class Outcome:
    """What became of samples."""

    refined: Refined  # [...]
    status: Int[np.ndarray, "..."]  # as `Info.status`
    kept_share: Float[np.ndarray, "..."]  # as `Info.kept_share`; 1 where all of it was kept
    expected: Expectation  # as `Info.expected`; `nobody_knows` of a loop that is not calibrated

    @classmethod
    def of(cls, refined: Refined, info: Info, devices: Devices, batch: Sequence[int]) -> "Outcome":
        """Takes what `refine` gave on all devices, without what `Devices.pad` added to [*batch]."""
        found = refined, info.status, info.kept_share, info.expected
        refined, status, kept, expected = devices.cut(found, batch)
        kept = status == 0 if kept is None else kept
        expected = nobody_knows(np.asarray(status) == OK) if expected is None else expected
        return cls(refined, np.asarray(status), np.asarray(kept, np.float32), expected)


@dataclass(frozen=True)
class Part:
    """Samples that are refined together: the frames of one person's video, or some images."""

    name: str
    person: Int[np.ndarray, " S"]
    frame: Int[np.ndarray, " S"]
    mask: Bool[np.ndarray, " S"]  # False for frames that the person is not in, and for padding


def parts_of(present: Bool[np.ndarray, "P T"], video: bool) -> list[Part]:
    """Splits the work: by person in a video, from where they come to where they go.

    Sizes are few, so that few programs are compiled: what is added is masked. People who are in no
    frame have no part.
    """
    if video:
        rows = []
        for person, seen in enumerate(present):
            held = np.flatnonzero(seen)
            if not len(held):
                continue
            frames = np.arange(held[0], held[-1] + 1)
            rows.append((f"person{person}", np.full(len(frames), person), frames))
    else:
        persons, frames = np.nonzero(present)
        rows = [
            (f"images{i}", persons[i : i + _IMAGES], frames[i : i + _IMAGES])
            for i in range(0, len(persons), _IMAGES)
        ]
    parts = []
    for name, persons, frames in rows:
        size = _SMALLEST * 2 ** max(0, math.ceil(math.log2(len(frames) / _SMALLEST)))
        pad = (0, size - len(frames))
        mask = np.pad(present[persons, frames], pad)
        parts.append(Part(name, np.pad(persons, pad, "edge"), np.pad(frames, pad, "edge"), mask))
    return parts


def taken(tree: Any, part: Part) -> Any:
    """The part's samples [S, ...] of arrays [P, T, ...]."""
    return jax.tree.map(lambda a: np.asarray(a)[part.person, part.frame], tree)


def refine_parts(
    parts: list[Part],
    given: Any,
    settings: str,
    folder: Path,
    refine: Callable[[Part], Outcome],
) -> Iterator[tuple[Part, Outcome, bool]]:
    """Refines part after part and writes each, whole or not at all.

    Args:
        parts: of the work.
        given: the arrays [P, T, ...] that a part's result depends on.
        settings: what else it depends on.
        folder: for the results.
        refine: what makes a part's outcome.
    Yields:
        The part, its outcome, and whether it was there from an earlier run.
    """
    for part in parts:
        digest = hashlib.sha256(settings.encode())
        for leaf in jax.tree.leaves(taken(given, part)):
            digest.update(np.ascontiguousarray(leaf).tobytes())
        file = folder / f"{part.name}-{digest.hexdigest()[:16]}.npz"
        before = _before(file, len(part.frame))
        if before is None:
            outcome = refine(part)
            shares = {"status": outcome.status, "kept_share": outcome.kept_share}
            write_npz(file, {**vars(outcome.refined), **shares, **vars(outcome.expected)})
            yield part, outcome, False
        else:
            yield part, before, True


def settings_of(config: Any, files: Sequence[str | Path]) -> str:
    """Names what every part's result depends on beside its arrays.

    Args:
        config: of the refinement; its `repr` tells all of it.
        files: whose content matters; a name that is no file stands for itself.
    """
    return "|".join([repr(config), repr(versions()), *map(_content, files)])


def _content(name: str | Path) -> str:
    path = local_path(name)
    held = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return "|".join([str(name), *map(_digest, held)])


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_parts(folder: Path) -> None:
    """Removes the parts that a refinement wrote, and the folder if nothing else is in it."""
    for file in [*folder.iterdir()] if folder.is_dir() else []:
        if _WRITTEN.fullmatch(file.name):
            file.unlink(missing_ok=True)
    with suppress(OSError):  # not empty, or not there
        folder.rmdir()


def _before(file: Path, count: int) -> Outcome | None:
    """The result of an earlier run; None if there is none, or it is damaged."""
    if not file.is_file():
        return None
    try:
        held = read_npz(file)
        fields = Refined(*(held[name] for name in ("pose", "betas", "translation", "pose_6d")))
        expected = Expectation(*(held[name] for name in ("worse", "error", "joint_error")))
        found = Outcome(fields, held["status"], held["kept_share"], expected)
    except ValueError:
        return None
    return found if len(found.status) == count else None


def empty_outcome(estimate: Estimate) -> Outcome:
    """An outcome [P, T] of NaN, of which nobody is in any frame, to be filled."""
    pose = np.full(np.shape(estimate.pose), np.nan, np.float32)
    betas, place = (
        np.full(np.shape(a), np.nan, np.float32) for a in (estimate.betas, estimate.translation)
    )
    lead = pose.shape[:-3]
    refined = Refined(pose, betas, place, np.full((*lead, 144), np.nan, np.float32))
    return Outcome(
        refined,
        np.full(lead, PADDING),
        np.zeros(lead, np.float32),
        nobody_knows(np.zeros(lead, bool)),
    )


def put(result: Outcome, part: Part, outcome: Outcome) -> None:
    """Fills in what became of a part."""
    at = part.person[part.mask], part.frame[part.mask]
    for whole, found in zip(
        jax.tree.leaves(vars(result)), jax.tree.leaves(vars(outcome)), strict=True
    ):
        whole[at] = np.asarray(found)[part.mask]
