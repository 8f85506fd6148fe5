"""What a refinement of estimates says at its end."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from scorehmr_jax.commands.matching import Matched
from scorehmr_jax.formats.bodies.people import Tracks
from scorehmr_jax.formats.keypoints.result import NO_ID
from scorehmr_jax.types import Expectation

_SHOWN = 8  # frames or people that a line names, at most


def summary(
    tracks: Tracks,
    camera_note: str,
    matched: Matched | None,
    status: np.ndarray,
    expected: Expectation,
    filled: np.ndarray,
    earlier: int,
    target: Path,
    laps: dict[str, float],
) -> Iterator[str]:
    """Says what was read, assumed and refined, line by line.

    Args:
        tracks: who is in which frame.
        camera_note: a sentence on the camera.
        matched: how keypoints of another file were given to people.
        status: [P, T], as `Info.status`.
        expected: [P, T], as `Info.expected`.
        filled: [P, T] frames in which a person was lost and that were filled.
        earlier: parts that an earlier run had done.
        target: the file that was written.
        laps: seconds of each part of the work.
    """
    from scorehmr_jax.screening import PADDING, STATUS

    frames = tracks.present.shape[1]
    yield f"frames:  {frames}, {_places(tracks, np.arange(frames), ends=True)} ({tracks.format})"
    for person, row in enumerate(tracks.present):
        missing = np.flatnonzero(~row)
        absent = f"; not in {_places(tracks, missing)}" if len(missing) and tracks.video else ""
        if not row.any():
            absent = "; left out: no estimate of theirs is finite"
        yield f"{_name(tracks, person)}: in {row.sum()} of {frames}{absent}"
    yield f"camera:  {camera_note}"
    for note in tracks.notes:
        yield f"assumed: {note}"
    if matched is not None:
        yield f"keypoints: {matched.frames} frames in common, by their {matched.by}"
        for person, lacking in matched.without.items():
            yield f"  {_name(tracks, person)}: none in {_places(tracks, lacking)}"
        if matched.left:
            some = ", ".join(f"{n} (place {p})" for n, p in matched.left[:_SHOWN])
            more = f" and {len(matched.left) - _SHOWN} more" if len(matched.left) > _SHOWN else ""
            yield f"  detections that show nobody of the estimates, in frames {some}{more}"
    kept = f"; {earlier} parts from an earlier run" if earlier else ""
    yield f"refined: {(status[tracks.present] == 0).sum()} of {tracks.present.sum()}{kept}"
    yield from expectation(expected)
    for person, row in enumerate(filled):
        if row.any():
            where = _places(tracks, np.flatnonzero(row))
            yield f"filled:  {_name(tracks, person)}: {where}, by the prior and smoothness alone"
    for code in np.unique(status[(status != 0) & (status != PADDING)]):
        for person in range(len(status)):
            if (rows := status[person] == code).any():
                places = _places(tracks, np.flatnonzero(rows))
                yield f"  {_name(tracks, person)}, {places}: {STATUS[code]}"
    each = ", ".join(f"{name} {seconds:.1f}" for name, seconds in laps.items())
    yield f"time:    {sum(laps.values()):.1f} s ({each})"
    yield f"wrote:   {target}"


def expectation(expected: Expectation) -> Iterator[str]:
    """Says how far off results are expected to be; nothing where nobody knows.

    Args:
        expected: of any samples, as `Info.expected`.
    """
    known = np.isfinite(expected.error)
    if known.any():
        low, middle, high = np.quantile(np.asarray(expected.error)[known], [0.1, 0.5, 0.9])
        yield (
            f"expected: {middle:.0f} mm from the truth ({low:.0f} to {high:.0f} in most), were "
            "these the people of the simulation; `expected_error` in the result says it of each"
        )


def _name(tracks: Tracks, person: int) -> str:
    identity = int(tracks.ids[person])
    return f"person {person + 1}" if identity == NO_ID else f"person of id {identity}"


def _places(tracks: Tracks, rows: Sequence[int] | np.ndarray, ends: bool = False) -> str:
    """Names frames by image or number."""
    names = [tracks.frame_names[i] or str(tracks.frame_numbers[i]) for i in rows]
    if ends and len(names) > 2:
        return f"{names[0]} to {names[-1]}"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
