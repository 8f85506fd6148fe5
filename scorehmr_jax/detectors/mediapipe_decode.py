"""The numbers around MediaPipe's two networks: anchors, boxes, crops and landmarks.

The first network finds people in a square picture of 224 pixels, the second finds the landmarks of
one person in an upright square of 256 pixels. The formats are those of the models of the package
mediapipe 0.10.21 (Apache-2.0); the code is our own.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Real, UInt8

from body_model.keypoint_sets import KEYPOINT_SETS

DETECTOR_SIDE = 224  # pixels of the first network's picture
LANDMARK_SIDE = 256  # of the second's
NUM_LANDMARKS = 33
FOUND = 0.5  # least score of a person, and of landmarks being those of a person

_STRIDES_AND_ANCHORS = ((8, 2), (16, 2), (32, 6))  # anchors for each cell of a grid
_OVERLAP = 0.3  # boxes that share more than this are one person's
_MARGIN = 1.25  # side of the crop over twice the distance from the hips to the point of scale
_HEATMAP_REACH = 4  # cells to each side of a landmark that refine it

# The names of SMPL's keypoints where there are such; hands have knuckles here, no finger tips.
MEDIAPIPE_33 = KEYPOINT_SETS["mediapipe-33"].names


@dataclass(frozen=True)
class Region:
    """A square of a picture, upright in the person's own sense."""

    center: Float[np.ndarray, " 2"]  # pixels
    side: float  # pixels
    angle: float  # radians by which the square is turned, clockwise as seen

    @property
    def box(self) -> Float[np.ndarray, " 4"]:
        """Left, top, right and bottom of the square before it is turned."""
        return np.concatenate([self.center - self.side / 2, self.center + self.side / 2])

    def to_image(self, xy: Real[np.ndarray, "*batch 2"]) -> Float[np.ndarray, "*batch 2"]:
        """Maps points of the square, [0, 1] along both sides, to pixels of the picture."""
        return self.center + _turned((np.asarray(xy, float) - 0.5) * self.side, self.angle)


@dataclass(frozen=True)
class Found:
    """People that the first network found: R rows, the surest first."""

    box: Float[np.ndarray, "R 4"]  # of the face; left, top, right, bottom
    points: Float[np.ndarray, "R 4 2"]  # hips; point of scale; shoulders; their point of scale
    score: Float[np.ndarray, " R"]


@dataclass(frozen=True)
class Landmarks:
    """One person's landmarks."""

    xy: Float[np.ndarray, "33 2"]  # pixels of the picture
    visibility: Float[np.ndarray, " 33"]  # in [0, 1]
    points: Float[np.ndarray, "33 3"]  # metres about the hips; x right, y down, z forward
    score: float  # in [0, 1], of there being a person
    alignment: Float[np.ndarray, "2 2"]  # hips and point of scale, pixels: where to look next


def anchors() -> Float[np.ndarray, "2254 2"]:
    """Centres of the first network's anchors, in fractions of its picture."""
    parts = []
    for stride, count in _STRIDES_AND_ANCHORS:
        cells = DETECTOR_SIDE // stride
        middle = (np.arange(cells) + 0.5) / cells
        grid = np.stack(np.meshgrid(middle, middle), -1).reshape(-1, 2)
        parts.append(np.repeat(grid, count, axis=0))
    return np.concatenate(parts)


_ANCHORS = anchors()


def decode_people(
    raw: Float32[np.ndarray, "2254 12"], logits: Float32[np.ndarray, " 2254"], least: float = FOUND
) -> Found:
    """Reads people from the first network's results, each once.

    Args:
        raw: offsets from the anchors in pixels of the network's picture: centre and sides of the
            box, then x and y of four points.
        logits: of the scores.
        least: score in [0, 1] below which nobody is.
    Returns:
        In fractions of the network's picture. Of boxes that overlap, the mean by score.
    """
    scores = _sigmoid(logits)
    kept = np.flatnonzero(scores >= least)
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    numbers = raw[kept].astype(float).reshape(-1, 6, 2) / DETECTOR_SIDE
    middle, sides = numbers[:, 0] + _ANCHORS[kept], numbers[:, 1]
    boxes = np.concatenate([middle - sides / 2, middle + sides / 2], -1)
    points = numbers[:, 2:] + _ANCHORS[kept][:, None]
    found, left = [], np.arange(len(kept))
    while len(left):
        same = overlap(boxes[left[0]], boxes[left]) > _OVERLAP
        same[0] = True  # a box without area overlaps nothing
        group = left[same]
        share = scores[kept[group]] / scores[kept[group]].sum()
        middle_points = np.einsum("n,nkd->kd", share, points[group])
        found.append((share @ boxes[group], middle_points, float(scores[kept[left[0]]])))
        left = left[~same]
    return Found(
        np.array([box for box, _, _ in found]).reshape(-1, 4),
        np.array([each for _, each, _ in found]).reshape(-1, 4, 2),
        np.array([score for _, _, score in found], float),
    )


def overlap(
    box: Float[np.ndarray, " 4"], boxes: Float[np.ndarray, "N 4"]
) -> Float[np.ndarray, " N"]:
    """Area that a box shares with others, over the area of both together."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = np.maximum(high - low, 0).prod(-1)
    both = (box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(-1) - shared
    return np.where(both > 0, shared / np.where(both > 0, both, 1), 0)


def whole(width: int, height: int) -> Region:
    """The least upright square around a picture."""
    return Region(np.array([width / 2, height / 2]), float(max(width, height)), 0.0)


def search_areas(width: int, height: int) -> Iterator[list[Region]]:
    """Squares in which to look for people: the whole picture, then parts that overlap by half.

    The parts are as wide as the picture's shorter side, then half as wide.
    """
    yield [whole(width, height)]
    for side in (min(width, height), min(width, height) / 2):
        columns, rows = (
            np.linspace(side / 2, length - side / 2, max(int(np.ceil(2 * length / side)) - 1, 1))
            for length in (width, height)
        )
        yield [Region(np.array([x, y]), float(side), 0.0) for y in rows for x in columns]


def person_region(alignment: Float[np.ndarray, "2 2"]) -> Region:
    """The square around a person, turned so that the person is upright in it.

    Args:
        alignment: the hips' middle, and the point whose distance and direction give the person's
            size and turn, pixels.
    """
    across, down = alignment[1] - alignment[0]
    return Region(
        alignment[0],
        2 * _MARGIN * float(np.hypot(across, down)),
        float(np.pi / 2 - np.arctan2(-down, across)),
    )


def crop(
    frame: UInt8[np.ndarray, "H W 3"], region: Region, side: int, beyond: str
) -> Float32[np.ndarray, "side side 3"]:
    """Cuts a square out of a picture, turned and scaled, by bilinear interpolation.

    Args:
        frame: the picture.
        region: the square; it may leave the picture.
        side: pixels of the result.
        beyond: what is outside of the picture: "black", or its "edge" drawn out.
    Returns:
        Numbers in [0, 255].
    """
    height, width = frame.shape[:2]
    corner, right, below = region.to_image(np.array([[0, 0], [1, 0], [0, 1]]))
    along = np.arange(side) / side  # pixel i lies at i, not at i + 1/2: the networks learnt it so
    places = corner + along[:, None] * (right - corner) + along[:, None, None] * (below - corner)
    # Whole grey values at 32nds of a pixel, as the networks were always fed: without this
    # landmarks move by several pixels.
    places = np.rint(places.reshape(-1, 2) * 32).astype(np.int32)
    (left, top), shares = places.T >> 5, (places & 31).astype(np.float32) / 32
    across, down = shares.T
    pixels = np.ascontiguousarray(frame).reshape(-1, 3)
    total = np.zeros((side * side, 3), np.float32)
    for column, share in ((left, 1 - across), (left + 1, across)):
        for row, part in ((top, 1 - down), (top + 1, down)):
            weight = share * part
            if beyond == "black":
                weight *= (column >= 0) & (column < width) & (row >= 0) & (row < height)
            index = np.clip(row, 0, height - 1) * width + np.clip(column, 0, width - 1)
            total += pixels[index] * weight[:, None]
    return np.floor(total + 0.5).reshape(side, side, 3)


def decode_landmarks(
    raw: Float32[np.ndarray, "39 5"],
    score: float,
    heatmap: Float32[np.ndarray, "64 64 39"],
    world: Float32[np.ndarray, "39 3"],
    region: Region,
) -> Landmarks:
    """Reads a person's landmarks from the second network's results.

    Args:
        raw: x, y, z in pixels of the crop; logits of visibility and presence. 33 landmarks, then
            helpers, of which the first two say where the person will be in the next frame.
        score: of there being a person.
        heatmap: logits of where each landmark is.
        world: metres, in the crop's axes.
        region: what was cropped.
    """
    xy = region.to_image(_refined(raw[:, :2] / LANDMARK_SIDE, heatmap))
    points = world[:NUM_LANDMARKS].astype(float)
    points[:, :2] = _turned(points[:, :2], region.angle)
    visibility = _sigmoid(raw[:NUM_LANDMARKS, 3])
    return Landmarks(xy[:NUM_LANDMARKS], visibility, points, score, xy[NUM_LANDMARKS:][:2])


def _refined(xy: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """Moves landmarks [K, 2] in [0, 1] to the middle of what the heatmap shows near them."""
    cells = np.array(heatmap.shape[1::-1])
    xy = xy.astype(float)
    for k, (column, row) in enumerate((xy * cells).astype(int)):
        if not (0 <= column < cells[0] and 0 <= row < cells[1]):
            continue
        left, top = max(column - _HEATMAP_REACH, 0), max(row - _HEATMAP_REACH, 0)
        part = _sigmoid(
            heatmap[top : row + _HEATMAP_REACH + 1, left : column + _HEATMAP_REACH + 1, k]
        )
        if part.max() >= 0.5:
            across = part.sum(0) @ (left + np.arange(part.shape[1]))
            down = part.sum(1) @ (top + np.arange(part.shape[0]))
            xy[k] = np.array([across, down]) / part.sum() / cells
    return xy


def _turned(xy: np.ndarray, angle: float) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return xy @ np.array([[cos, sin], [-sin, cos]])


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(logits.astype(float), -100, 100)))
