"""Which detections show which people of a file of estimates, frame by frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
from jaxtyping import Float

from scorehmr_jax.formats.bodies.people import Tracks
from scorehmr_jax.formats.keypoints.result import DetectedPeople
from scorehmr_jax.types import Keypoints2D

# Points that lie farther apart than this part of the person's size show somebody else.
_FAR = 0.5


@dataclass(frozen=True)
class Matched:
    """Keypoints of the people of a file of estimates."""

    keypoints: Keypoints2D  # [P, T, 25]; confidence 0 where there are none
    frames: int  # that both files have
    by: str  # "names" or "numbers": how frames were found to be the same
    without: dict[int, list[int]]  # person -> places of frames in which nothing shows them
    left: list[tuple[int, int]]  # frame's number and place of detections that show nobody


def match(
    joints: Float[np.ndarray, "P T 25 2"], tracks: Tracks, people: DetectedPeople, where: str
) -> Matched:
    """Gives every person the detection that lies nearest to where the estimate is seen.

    Frames are the same if their images have the same name, of equal names those whose folders
    agree furthest; where no names agree, by number. In each frame pairs are made from the closest
    on: their distance is the mean over the points that are seen, and may be half the person's size.

    Args:
        joints: where the estimates' OpenPose-25 joints are seen, pixels.
        tracks: who is in which frame.
        people: detections in OpenPose-25's order.
        where: begins messages: the file of the keypoints.
    Raises:
        ValueError: if no frame is in both files, names do not tell which frames are the same, or
            no detection lies near anybody.
    """
    pairs, by = _frames(tracks, people, where)
    if not pairs:
        raise ValueError(
            f"{where}: none of its frames ({_span(people.frame_numbers)}) is among those of the "
            f"estimates ({_span(tracks.frame_numbers)}), by name or by number"
        )
    xy = np.zeros((*tracks.present.shape, *people.xy.shape[2:]), np.float32)
    confidence = np.zeros(xy.shape[:-1], np.float32)
    left: list[tuple[int, int]] = []
    for t, other in pairs:
        free = np.flatnonzero(people.present[other])
        persons = np.flatnonzero(tracks.present[:, t])
        cost = _distances(
            joints[persons, t], people.xy[other, free], people.confidence[other, free]
        )
        taken = set()
        while cost.size and np.min(cost) < _FAR:
            i, j = np.unravel_index(np.argmin(cost), cost.shape)
            xy[persons[i], t] = people.xy[other, free[j]]
            confidence[persons[i], t] = people.confidence[other, free[j]]
            cost[i], cost[:, j] = np.inf, np.inf
            taken.add(int(j))
        number = int(people.frame_numbers[other])
        left += [(number, int(free[j])) for j in range(len(free)) if j not in taken]
    seen = np.asarray(confidence.any(-1))
    if not seen.any():
        raise ValueError(
            f"{where}: none of its detections lies where the estimates are seen in {len(pairs)} "
            "frames; are these keypoints of the same video, in pixels of the same size?"
        )
    without = {
        person: [int(t) for t in np.flatnonzero(tracks.present[person] & ~seen[person])]
        for person in range(len(seen))
    }
    without = {person: frames for person, frames in without.items() if frames}
    return Matched(Keypoints2D(xy, confidence), len(pairs), by, without, left)


def _frames(
    tracks: Tracks, people: DetectedPeople, where: str
) -> tuple[list[tuple[int, int]], str]:
    """Places of the same frames in both files, and how they were found."""
    ours, theirs = _by_stem(tracks.frame_names), _by_stem(people.frame_names)
    common = [stem for stem in ours if stem in theirs]
    if common:
        names = tracks.frame_names, people.frame_names
        pairs = [pair for stem in common for pair in _same(ours[stem], theirs[stem], names, where)]
        return sorted(pairs), "names"
    place = {int(n): i for i, n in enumerate(people.frame_numbers)}
    numbers = [(t, place[int(n)]) for t, n in enumerate(tracks.frame_numbers) if int(n) in place]
    return numbers, "numbers"


def _by_stem(names: Sequence[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        if name:
            found.setdefault(PurePath(name).stem, []).append(i)
    return found


def _same(
    ours: list[int], theirs: list[int], names: tuple[Sequence[str], Sequence[str]], where: str
) -> list[tuple[int, int]]:
    """Pairs of frames of equal stems: those whose folders agree furthest from the end."""
    if len(ours) == len(theirs) == 1:
        return [(ours[0], theirs[0])]
    folders = tuple(
        {i: PurePath(of[i]).parts[-2::-1] for i in places}
        for of, places in zip(names, (ours, theirs), strict=True)
    )
    best, back = _nearest(folders[0], folders[1]), _nearest(folders[1], folders[0])
    pairs = [(i, j) for i in ours for j in best[i] if i in back[j]]
    for side in (0, 1):
        held: dict[int, tuple[int, int]] = {}
        for pair in pairs:
            if held.setdefault(pair[side], pair) != pair:
                i, j = pair
                raise ValueError(
                    f"{where}: {names[1][j]} may be {names[0][i]} of the estimates or another of "
                    "that name; expected images whose names, or folders and names, are told apart "
                    "in both files"
                )
    return pairs


def _nearest(
    folders: dict[int, tuple[str, ...]], others: dict[int, tuple[str, ...]]
) -> dict[int, set[int]]:
    """For each file those of the others that most folders, from the file up, agree with."""
    by_folders: dict[tuple[str, ...], set[int]] = {}
    for j, above in others.items():
        for n in range(len(above) + 1):
            by_folders.setdefault(above[:n], set()).add(j)
    return {
        i: next(by_folders[above[:n]] for n in range(len(above), -1, -1) if above[:n] in by_folders)
        for i, above in folders.items()
    }


def _distances(joints: np.ndarray, xy: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """Mean distance of each person's points from each detection's, as part of the size."""
    seen = (confidence > 0)[None]
    apart = np.linalg.norm(joints[:, None] - xy[None], axis=-1)
    count = np.maximum(seen.sum(-1), 1)
    size = np.linalg.norm(np.ptp(joints, axis=1), axis=-1)[:, None]
    mean = np.where(seen, apart, 0).sum(-1) / count / np.maximum(size, 1e-6)
    return np.where(seen.any(-1) & np.isfinite(mean), mean, np.inf)


def _span(numbers: np.ndarray) -> str:
    return f"{numbers[0]} to {numbers[-1]}" if len(numbers) else "none"
