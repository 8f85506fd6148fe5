"""People in frames by MediaPipe's pose networks, run without the package mediapipe.

The networks run in ai-edge-litert (the extra `detect`); everything around them is in
mediapipe_decode.py, and who is who from frame to frame in following.py.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Real

from scorehmr_jax.detectors import mediapipe_decode as decode
from scorehmr_jax.detectors.following import Follower
from scorehmr_jax.detectors.mediapipe_decode import Landmarks, Region
from scorehmr_jax.detectors.mediapipe_models import model_files
from scorehmr_jax.detectors.protocol import Detections, Frame

_SAME_PERSON = 0.5  # share of two squares in common above which they hold the same person
_THOROUGH = 5  # frames of a video from one thorough search for missing people to the next
_AROUND_BOX = 1.5  # side of the square in which the person of a given box is searched


class MediaPipePose:
    """A detector of 33 landmarks in 2D and 3D: a `Detector`.

    Args:
        track: the frames are those of a video: a person is searched only where he was in the
            frame before. Of pictures that have nothing to do with each other everyone is found
            anew.
        people: at most so many in each frame, the surest first.
        boxes: boxes [B, 4] (left, top, right, bottom, pixels) of the people to look for, for each
            frame; None where they are to be found. Person b of a frame is that of its box b.
        models: a folder with the two .tflite files; else they are found or fetched.
        threads: of each network.
    Raises:
        ImportError: if ai-edge-litert is not installed.
        ModuleNotFoundError: if the networks cannot be had.
    """

    def __init__(
        self,
        *,
        track: bool = False,
        people: int = 1,
        boxes: Sequence[Real[np.ndarray, "B 4"] | None] | None = None,
        models: str | Path | None = None,
        threads: int = 2,
    ):
        if people < 1:
            raise ValueError(f"people: expected 1 or more, found {people}")
        self.track, self.people, self.boxes = track, people, boxes
        detector, landmarks = model_files(models)
        self._detector = _network(detector, threads)
        self._landmarks = _network(landmarks, threads)

    def __call__(self, frames: Iterable[Frame]) -> Detections:
        rows: list[list[Landmarks | None]] = []
        sizes = []
        follower = Follower(self.people) if self.track and self.boxes is None else None
        for index, frame in enumerate(frames):
            sizes.append(frame.shape[1::-1])
            if self.boxes is not None and index < len(self.boxes):
                boxes = self.boxes[index]
            else:
                boxes = None
            if follower is not None:
                rows.append(self._followed(frame, follower, index % _THOROUGH == 0))
            elif boxes is not None:
                regions = [self._in_box(frame, np.asarray(box, float)) for box in boxes]
                rows.append([None if r is None else self._look(frame, r) for r in regions])
            else:
                rows.append(self._everyone(frame, [], self.people))
        return _collect(rows, sizes)

    def _everyone(
        self, frame: Frame, known: list[Region], most: int, thorough: bool = True
    ) -> list[Landmarks | None]:
        """Finds people who are not in the known squares.

        Small people escape the network in the whole frame: where there are fewer than wanted, a
        thorough search looks into parts of it too.
        """
        people: list[Landmarks | None] = []
        taken = list(known)
        for areas in decode.search_areas(frame.shape[1], frame.shape[0]):
            found = [each for area in areas for each in self._regions(frame, area)]
            for region, _ in sorted(found, key=lambda each: -each[1]):
                if len(people) == most:
                    return people
                if any(decode.overlap(region.box, t.box[None])[0] > _SAME_PERSON for t in taken):
                    continue
                person = self._look(frame, region)
                if person is not None:
                    people.append(person)
                    taken.append(region)
            if not thorough or (people and len(areas) > 1):
                break
        return people

    def _followed(self, frame: Frame, follower: Follower, thorough: bool) -> list[Landmarks | None]:
        """Finds people where they were, and others in free places."""
        for place, region in follower.regions():
            follower.found(place, self._look(frame, region))
        follower.drop_doubles()
        if follower.free():
            known = [region for _, region in follower.regions()]
            for person in self._everyone(frame, known, follower.free(), thorough):
                assert person is not None
                follower.enters(person)
        return follower.next_frame()

    def _regions(self, frame: Frame, area: Region) -> list[tuple[Region, float]]:
        """The squares around the people in a part of a frame with scores, the surest first."""
        picture = decode.crop(frame, area, decode.DETECTOR_SIDE, "black") / 127.5 - 1
        raw, logits = self._detector(picture)
        found = decode.decode_people(raw, logits[:, 0])
        squares = [decode.person_region(area.to_image(points[:2])) for points in found.points]
        return list(zip(squares, map(float, found.score), strict=True))

    def _in_box(self, frame: Frame, box: np.ndarray) -> Region | None:
        """The square around the person of a box: the one who is nearest to its middle."""
        if not (np.isfinite(box).all() and (box[2:] > box[:2]).all()):
            return None
        middle, side = (box[:2] + box[2:]) / 2, float((box[2:] - box[:2]).max())
        regions = self._regions(frame, Region(middle, _AROUND_BOX * side, 0.0))
        inside = [
            r for r, _ in regions if (r.center > box[:2]).all() and (r.center < box[2:]).all()
        ]
        if inside:
            return min(inside, key=lambda r: float(np.linalg.norm(r.center - middle)))
        return Region(middle, 1.25 * side, 0.0)

    def _look(self, frame: Frame, region: Region) -> Landmarks | None:
        picture = decode.crop(frame, region, decode.LANDMARK_SIDE, "edge") / 255
        raw, score, _, heatmap, world = self._landmarks(picture)
        if not score[0] >= decode.FOUND:
            return None
        return decode.decode_landmarks(
            raw.reshape(39, 5), float(score[0]), heatmap, world.reshape(39, 3), region
        )


def _network(
    path: Path, threads: int
) -> Callable[[Float32[np.ndarray, "S S 3"]], list[np.ndarray]]:
    """A network as a function from one picture to its results."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise ImportError(
            "finding people needs ai-edge-litert: pip install 'scorehmr-jax[detect]'"
        ) from error
    interpreter = Interpreter(str(path), num_threads=threads)
    interpreter.allocate_tensors()
    (given,) = interpreter.get_input_details()
    results = [each["index"] for each in interpreter.get_output_details()]

    def run(picture: Float32[np.ndarray, "S S 3"]) -> list[np.ndarray]:
        interpreter.set_tensor(given["index"], picture[None].astype(np.float32))
        interpreter.invoke()
        return [interpreter.get_tensor(index)[0] for index in results]

    return run


def _collect(
    rows: Sequence[Sequence[Landmarks | None]], sizes: Sequence[tuple[int, int]]
) -> Detections:
    """People of all frames in arrays; as many rows as the fullest frame has people."""
    most = max((len(row) for row in rows), default=0)
    shape = (most, len(rows))
    xy = np.full((*shape, decode.NUM_LANDMARKS, 2), np.nan)
    points = np.full((*shape, decode.NUM_LANDMARKS, 3), np.nan)
    confidence = np.zeros((*shape, decode.NUM_LANDMARKS))
    score, box = np.zeros(shape), np.full((*shape, 4), np.nan)
    for t, row in enumerate(rows):
        for p, person in enumerate(row):
            if person is not None:
                xy[p, t], points[p, t], score[p, t] = person.xy, person.points, person.score
                confidence[p, t] = person.visibility
                box[p, t] = np.concatenate([person.xy.min(0), person.xy.max(0)])
    image_size = np.array(sizes, float).reshape(-1, 2)
    return Detections(decode.MEDIAPIPE_33, xy, confidence, points, box, score, image_size)
