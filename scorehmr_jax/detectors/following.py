"""Who is who from frame to frame: where each person was, and where to look next."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from scorehmr_jax.detectors.mediapipe_decode import Landmarks, Region, overlap, person_region

_SAME_PERSON = 0.7  # share of two squares in common above which two places hold one person
_REMEMBERED = 30  # frames after which nobody is taken for one who was there before
_FRAME_RATE = 30.0  # that MediaPipe assumes in its filter
# The filter of the squares: cut-off at rest (Hz), growth with speed, cut-off of the speed (Hz).
_AT_REST, _WITH_SPEED, _OF_SPEED = 0.01, 10.0, 1.0


class OneEuroFilter:
    """A low-pass filter that follows fast movement and calms slow one (Casiez et al., 2012)."""

    def __init__(self) -> None:
        self._value: np.ndarray | None = None
        self._raw = self._speed = np.zeros(0)

    def __call__(self, value: Float[np.ndarray, "..."], scale: float) -> Float[np.ndarray, "..."]:
        """Filters the next value.

        Args:
            value: of any shape, the same at every call.
            scale: size of the object in the unit of the value; speeds are measured by it.
        """
        if self._value is None:
            self._value, self._speed = value, np.zeros_like(value)
        else:
            speed = (value - self._raw) / scale * _FRAME_RATE
            self._speed += _share(_OF_SPEED) * (speed - self._speed)
            share = _share(_AT_REST + _WITH_SPEED * np.abs(self._speed))
            self._value = self._value + share * (value - self._value)
        self._raw = value
        return self._value


def _share(cutoff: float | np.ndarray) -> float | np.ndarray:
    return 1 / (1 + _FRAME_RATE / (2 * np.pi * cutoff))


@dataclass
class _Place:
    """One person of the video."""

    filter: OneEuroFilter
    region: Region | None = None  # where to look in the next frame; None: lost, or never there
    last: Region | None = None  # where the person was last
    missing: int = 0  # frames since then
    person: Landmarks | None = None  # in this frame


class Follower:
    """The people of a video, each in a place that stays theirs.

    Args:
        people: number of places.
    """

    def __init__(self, people: int):
        self._places = [_Place(OneEuroFilter()) for _ in range(people)]

    def regions(self) -> list[tuple[int, Region]]:
        """Places with a person, and where to look for them."""
        return [(i, p.region) for i, p in enumerate(self._places) if p.region is not None]

    def free(self) -> int:
        """Number of places without a person."""
        return sum(place.region is None for place in self._places)

    def found(self, place: int, person: Landmarks | None) -> None:
        """Takes what was seen where the person of a place was searched; None: nobody."""
        this = self._places[place]
        this.person = person
        if person is None:
            this.region, this.filter = None, OneEuroFilter()
            return
        size = 2 * float(np.linalg.norm(person.alignment[1] - person.alignment[0]))
        this.region = this.last = person_region(this.filter(person.alignment, max(size, 1e-6)))
        this.missing = 0

    def drop_doubles(self) -> None:
        """Empties the less sure of two places that have come to hold one person."""
        for i, region in self.regions():
            for j, other in self.regions():
                if i < j and overlap(region.box, other.box[None])[0] > _SAME_PERSON:
                    self.found(min(i, j, key=self._score), None)

    def _score(self, place: int) -> float:
        person = self._places[place].person
        return 0.0 if person is None else person.score

    def enters(self, person: Landmarks) -> None:
        """Gives a person who was not followed the place he had before, or a free one."""
        here = person_region(person.alignment)

        def fitness(place: _Place) -> tuple[int, float]:
            if place.last is None:
                return 1, 0.0
            distance = float(np.linalg.norm(place.last.center - here.center))
            near = place.missing <= _REMEMBERED and distance < place.last.side / 2
            return (0, distance) if near else (2, -place.missing)

        free = [i for i, place in enumerate(self._places) if place.region is None]
        self.found(min(free, key=lambda i: fitness(self._places[i])), person)

    def next_frame(self) -> list[Landmarks | None]:
        """Gives the people of this frame, one for each place, and begins the next."""
        row = [place.person for place in self._places]
        for place in self._places:
            place.person = None
            place.missing += 1
        return row
