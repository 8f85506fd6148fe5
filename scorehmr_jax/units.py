"""Units and conventions of what comes in, checked alike at every door.

One rule for all checks. What no sound input can be is refused; what a sound input can look like,
if rarely, is warned of. A check judges the whole of its rows (images, frames, poses), for a wrong
unit is in nearly all of them: it refuses when more than half of the rows say so, and a few odd rows
are left to the refinement, which keeps their first estimate. Rows that are not finite, or in which
nothing is seen, have no say.

    check_axis_angle    refuses turns of more than 4 pi (degrees)
    check_rotations     refuses matrices that are all no rotations; warns of some
    checked_confidence  refuses below 0 and above 2 (percent, logits); above 1 becomes 1, warned of
    check_keypoints     refuses what lies within 2 pixels of the origin (normalised);
                        warns of what is outside the image, or inside if its sides are exchanged
    check_camera        refuses focal lengths below a tenth of the image's longer side (mm, parts
                        of the image), images of less than 10 pixels, centers within 2 pixels of
                        the corner (normalised); warns of focal lengths below a quarter of the
                        side and of centers outside the image
    check_translation   warns of more than 1000 m (millimetres)
    check_person_size   refuses bodies of more than 20 m or less than 2 cm in the image (depth in
                        mm, cm; focal length not in pixels); warns of more than 5 m, and of less
                        than 0.5 m where most keypoints are seen (keypoints in percent)
    check_betas         refuses more than 50, warns of more than 10
    check_boxes         refuses sides of at most 12 pixels, or more in images above 2400 (sides
                        over 200), or below 0; and centers within 2 pixels of the corner
                        (normalised)
    check_frame_rates   refuses what are no frames per second (0, periods)
    check_joints        refuses joints that are more than 20 m apart (mm, cm)

All take numpy arrays with any leading axes and a text `where` that begins the message: file and
key, or the argument's name.
"""

import warnings

import numpy as np
from jaxtyping import Bool, Float, Real, Shaped

_FAR = 4 * np.pi  # fits in radians turn a joint by no more, but for a few that went astray
_FEW = 0.05
_MAX_CONFIDENCE = 2.0  # detectors that interpolate heat maps overshoot 1 (OpenPose up to 1.4)
_ROTATION_TOLERANCE = 0.02
_NORMALISED = 2.0  # pixels; a box's own coordinates reach a little beyond 1
_OVER_200 = 12.0  # the largest side of a box in an image of 2400 pixels, divided by 200
_LARGEST_OVER_200 = 30.0  # the same in one of 6000
_LEAST_RATE, _MOST_RATE = 1.0, 10_000.0  # below is a period in seconds, above one in nanoseconds
_SMALL_PERSON = 0.5  # metres
_MARGIN = 0.1  # of the image, in which a keypoint does not count as outside
# Of the surest keypoint's confidence: what is below was guessed, such as legs under a portrait.
_GUESSED = 0.1
_LEAST_SEEN = 3  # keypoints without which a row has no say


def turned_far(pose: Real[np.ndarray, "N ..."]) -> Bool[np.ndarray, " N"]:
    """Finds the rows of axis-angle [N, 3 J] or [N, J, 3] that can hardly be in radians."""
    vectors = pose.reshape(len(pose), pose[:1].size // 3, 3) if len(pose) else np.zeros((0, 1, 3))
    angles = np.linalg.norm(vectors.astype(float), axis=-1)
    return ((angles > _FAR) & np.isfinite(angles)).any(axis=1)


def refuse_degrees(far: int, rows: int, where: str) -> None:
    """Refuses poses of which too many are `turned_far`.

    Args:
        far: how many are.
        rows: of how many.
        where: begins the message.
    Raises:
        ValueError: if these are more than 5%, or of few rows more than half.
    """
    if far > max(_FEW * rows, min(rows / 2, 10)):
        raise ValueError(
            f"{where}: a joint turns by more than 4 pi in {far} of {rows} poses; expected "
            "axis-angle in radians, found degrees or no axis-angle"
        )


def check_axis_angle(pose: Real[np.ndarray, "N ..."], where: str) -> None:
    """Refuses axis-angle [N, 3 J] or [N, J, 3] in degrees.

    Raises:
        ValueError: as `refuse_degrees`.
    """
    refuse_degrees(int(turned_far(pose).sum()), len(pose), where)


def not_rotations(
    matrices: Real[np.ndarray, "N ..."], tolerance: float = _ROTATION_TOLERANCE
) -> Bool[np.ndarray, " N"]:
    """Finds the rows of [N, ..., 3, 3] that hold a finite matrix that is no rotation."""
    matrices = matrices.astype(np.promote_types(matrices.dtype, np.float32))
    with np.errstate(invalid="ignore", over="ignore"):
        off = np.abs(np.swapaxes(matrices, -1, -2) @ matrices - np.eye(3)).max((-1, -2))
        mirrored = np.linalg.det(np.where(np.isfinite(matrices), matrices, np.eye(3))) < 0
    wrong = (off > tolerance) | mirrored
    return wrong.any(axis=tuple(range(1, wrong.ndim)))


def check_rotations(matrices: Real[np.ndarray, "N ..."], where: str) -> None:
    """Refuses matrices [N, ..., 3, 3] of which no row is all rotations; warns of some.

    Rows of zeros, as trackers write them for a person out of sight, are among the latter.

    Raises:
        ValueError: naming the first row.
    """
    bad = np.flatnonzero(not_rotations(matrices))
    if not len(bad):
        return
    rows = len(matrices)
    message = (
        f"{where}: row {bad[0]} ({len(bad)} of {rows} in all) holds matrices that are no "
        "rotations; expected R^T R = 1 and det R = 1"
    )
    finite = np.isfinite(matrices).reshape(rows, -1).all(axis=1)
    if len(bad) >= np.count_nonzero(finite):
        raise ValueError(message)
    _warn(f"{message}. These rows keep their first estimate")


def checked_confidence(confidence: Shaped[np.ndarray, "..."], where: str) -> np.ndarray:
    """Returns confidences in [0, 1].

    Args:
        confidence: [..., K] in [0, 1], 0 for what is not seen. What is above 1 but not above 2
            becomes 1, with a warning. NaN stays.
        where: begins the message.
    Raises:
        ValueError: if one is below 0 or above 2: a score of another kind.
    """
    with np.errstate(invalid="ignore"):
        wrong = np.argwhere((confidence < 0) | (confidence > _MAX_CONFIDENCE))
        above = np.asarray(confidence > 1)
    if len(wrong):
        at = tuple(int(i) for i in wrong[0])
        raise ValueError(
            f"{where}: expected confidences from 0 (not seen) to 1, found "
            f"{float(confidence[at]):g} at {list(at)} ({len(wrong)} such in all). Divide by your "
            "detector's largest score (by 100 if it is percent), and set what it did not see to 0"
        )
    if not above.any():
        return confidence
    _warn(
        f"{where}: {np.count_nonzero(above)} confidences are above 1, up to "
        f"{float(confidence[above].max()):.3g}; they are taken as 1"
    )
    return np.where(above, np.ones((), confidence.dtype), confidence)


def check_keypoints(
    xy: Real[np.ndarray, "... K 2"],
    confidence: Shaped[np.ndarray, "... K"],
    image_size: Real[np.ndarray, "... 2"] | None,
    where: str,
) -> None:
    """Refuses keypoints that are not in pixels of the full image, and warns of a wrong image.

    Args:
        xy: pixels.
        confidence: only what is above 0 counts.
        image_size: width and height, pixels; broadcasts.
        where: begins the message.
    Raises:
        ValueError: if they lie within 2 pixels of the origin: normalised to 0..1 or -1..1.
    """
    points, seen = _rows_seen(xy, confidence)
    rows = seen.sum(-1) >= _LEAST_SEEN
    near = rows & np.where(seen, np.abs(points).max(-1) <= _NORMALISED, True).all(-1)
    if _most(near, rows):
        x = points[near][seen[near]]
        raise ValueError(
            f"{where}: expected pixels of the full image, found all keypoints of "
            f"{np.count_nonzero(near)} of {np.count_nonzero(rows)} images within "
            f"{x.min():.2g} to {x.max():.2g}, as if they were normalised; multiply by the image's "
            "width and height"
        )
    if image_size is None or not seen.any():
        return
    size = np.broadcast_to(np.asarray(image_size, float), (*xy.shape[:-2], 2)).reshape(-1, 2)

    def share_outside(size: np.ndarray) -> float:
        margin = _MARGIN * size[:, None]
        outside = ((points < -margin) | (points > size[:, None] + margin)).any(-1)
        return float(np.mean(outside, where=seen))

    outside, swapped = share_outside(size), share_outside(size[:, ::-1])
    if outside > 0.1 and swapped < outside / 10:
        _warn(
            f"{where}: {outside:.0%} of the keypoints lie outside the image, and {swapped:.0%} if "
            "its width and height are exchanged; expected image sizes as (width, height)"
        )
    elif outside > 0.5:
        _warn(
            f"{where}: {outside:.0%} of the keypoints lie outside the image; expected pixels of "
            f"the full image, the first of size {size[0, 0]:g} x {size[0, 1]:g}"
        )


def check_camera(
    focal: Real[np.ndarray, "... 2"],
    center: Real[np.ndarray, "... 2"],
    image_size: Real[np.ndarray, "... 2"],
    where: str,
) -> None:
    """Refuses cameras that are not in pixels, and warns of odd ones.

    Args:
        focal, center, image_size: of the same leading axes, or such that broadcast.
        where: begins the message, before the name of the array.
    Raises:
        ValueError: if focal lengths are in millimetres or in parts of the image, a center is in
            parts of the image, or images have no size to speak of.
    """
    focal, center, size = (
        np.asarray(a, float).reshape(-1, 2) for a in np.broadcast_arrays(focal, center, image_size)
    )
    side = size.max(-1)
    good = np.isfinite(side) & (side > 0) & np.isfinite(focal).all(-1) & (focal != 0).all(-1)
    _refuse(
        good & (side < 10),
        good,
        f"{where}.image_size: expected width and height in pixels, found {_first(size, good)}",
    )
    ratio = np.abs(focal).max(-1) / np.where(good, side, 1)
    text = f"found {_first(focal, good)} for an image of {_first(size, good)}"
    _refuse(
        good & (ratio < 0.1),
        good,
        f"{where}.focal: expected pixels, {text}; multiply a focal length in millimetres by the "
        "image's width / the sensor's width, a normalised one by the image's width",
    )
    if _most(good & (ratio < 0.25), good):
        _warn(f"{where}.focal: {text}, a view of more than 126 degrees; is it in pixels?")
    known = good & np.isfinite(center).all(-1)
    _refuse(
        known & (np.abs(center) <= _NORMALISED).all(-1),
        known,
        f"{where}.center: expected the principal point in pixels, found {_first(center, known)}; "
        "multiply a normalised one by the image's width and height",
    )
    outside = known & ((center < 0) | (center > size)).any(-1)
    if _most(outside, known):
        _warn(
            f"{where}.center: the principal point {_first(center, outside)} lies outside the image "
            f"of {_first(size, outside)} pixels"
        )


def check_translation(translation: Real[np.ndarray, "... 3"], where: str) -> None:
    """Warns of bodies that are more than 1000 m away, as if they were in millimetres."""
    distance = np.linalg.norm(np.asarray(translation, float).reshape(-1, 3), axis=-1)
    rows = np.isfinite(distance) & (distance > 0)
    if _most(rows & (distance > 1000), rows):
        _warn(
            f"{where}: bodies are {np.median(distance[rows]):.0f} m from the camera; expected "
            "metres, found millimetres?"
        )


def check_person_size(
    xy: Real[np.ndarray, "... K 2"],
    confidence: Shaped[np.ndarray, "... K"],
    translation: Real[np.ndarray, "... 3"],
    focal: Real[np.ndarray, "... 2"],
    where: str,
) -> None:
    """Compares what translation and focal length make of a person's size with a person.

    The extent of the keypoints in pixels, times depth over focal length, is a length in metres.
    Translations in millimetres or centimetres, and focal lengths that are not in pixels, make it
    absurd; a translation that was made for another focal length makes it wrong.

    Args:
        xy, confidence, translation, focal: of the same leading axes, or such that broadcast.
        where: begins the message.
    Raises:
        ValueError: if it is above 20 m or below 2 cm.
    """
    points, seen = _rows_seen(xy, confidence)
    lead = xy.shape[:-2]
    depth = np.broadcast_to(np.asarray(translation, float), (*lead, 3)).reshape(-1, 3)[:, 2]
    lens = np.abs(np.broadcast_to(np.asarray(focal, float), (*lead, 2)).reshape(-1, 2)).max(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        size = _extent(points, seen) * depth / lens
    # Behind the camera, or where the tracker lost the person, it is no size.
    rows = (seen.sum(-1) >= _LEAST_SEEN) & np.isfinite(size) & (size > 0)
    if not rows.any():
        return
    median = float(np.median(size[rows]))
    message = (
        f"{where}: at their depth (median {np.median(depth[rows]):.3g}) and focal length (median "
        f"{np.median(lens[rows]):.4g}) the keypoints span {median:.3g} m, where a person has up to "
        "2; expected metres and pixels"
    )
    if not 0.02 <= median <= 20:
        raise ValueError(f"{message}, found millimetres, or a focal length in other units")
    if median > 5:
        _warn(f"{message}. Were the translations made for another focal length?")
    # Of a few keypoints, as of a face, the span may be as small.
    whole = rows & (seen.sum(-1) > seen.shape[-1] / 2)
    if whole.any() and np.median(size[whole]) < _SMALL_PERSON:
        _warn(f"{message}. Are the keypoints in percent, or in pixels of a smaller image?")


def check_frame_rates(rates: Real[np.ndarray, "*N"], where: str) -> None:
    """Refuses frame rates that are none: 0, NaN, a period in seconds or in nanoseconds.

    Raises:
        ValueError: naming the first.
    """
    bad = rates[~((rates >= _LEAST_RATE) & (rates <= _MOST_RATE))]
    if bad.size:
        raise ValueError(
            f"{where}: expected frames per second, {_LEAST_RATE:g} to {_MOST_RATE:g}; found "
            f"{bad.flat[0]:g}"
        )


def check_betas(betas: Real[np.ndarray, "... B"], where: str) -> None:
    """Refuses shape numbers that belong to no person: each is standard normal.

    Raises:
        ValueError: if they are above 50.
    """
    largest = np.abs(np.asarray(betas, float)).max(-1, initial=0).ravel()
    finite = np.isfinite(largest)
    text = f"{where}: expected SMPL's shape numbers, mostly within -3 to 3, found up to "
    text += f"{largest[finite].max(initial=0):.3g}"
    _refuse(finite & (largest > 50), finite, text)
    if _most(finite & (largest > 10), finite):
        _warn(text)


def check_boxes(
    center: Real[np.ndarray, "... 2"],
    side: Real[np.ndarray, "..."],
    where: str,
    image_size: Real[np.ndarray, "... 2"] | None = None,
) -> None:
    """Refuses boxes whose sides are divided by 200, as some data sets have them, or normalised.

    Args:
        center: of square boxes, pixels.
        side: pixels.
        where: begins the message, before `center` or `scale`.
        image_size: width and height, pixels; broadcasts against the boxes.
    Raises:
        ValueError: if sides are at most 12 pixels or, in images of 2400 to 6000 pixels, a 200th of
            them; or if centers lie within 2 pixels of the corner.
    """
    sides = np.asarray(side, float).ravel()
    least = np.full(sides.shape, _OVER_200)
    if image_size is not None:
        sizes = np.broadcast_to(np.asarray(image_size, float), (*np.shape(side), 2))
        least = np.clip(sizes.reshape(-1, 2).max(-1) / 200, _OVER_200, _LARGEST_OVER_200)
    # A side of 0 stands for no box.
    rows = np.isfinite(sides) & (sides != 0)
    _refuse(
        rows & ~(sides > least) & np.isfinite(least),
        rows,
        f"{where}scale: expected the box's side in pixels, found {_first(sides, rows)}; multiply "
        "sides over 200 by 200, normalised ones by the image's size",
    )
    centers = np.asarray(center, float).reshape(-1, 2)
    rows = np.isfinite(centers).all(-1)
    _refuse(
        rows & (np.abs(centers) <= _NORMALISED).all(-1),
        rows,
        f"{where}center: expected the box's center in pixels, found {_first(centers, rows)}; "
        "multiply by the image's width and height",
    )


def check_joints(
    joints: Real[np.ndarray, "... K 3"], known: Shaped[np.ndarray, "... K"], where: str
) -> None:
    """Refuses 3D joints in millimetres or centimetres.

    Args:
        joints: metres.
        known: only joints where this is above 0 count.
        where: begins the message.
    Raises:
        ValueError: if the joints of a person are more than 20 m apart.
    """
    points, seen = _rows_seen(joints, known)
    extent = _extent(points, seen)
    rows = seen.sum(-1) >= _LEAST_SEEN
    _refuse(
        rows & (extent > 20),
        rows,
        f"{where}: expected metres, found joints {_first(extent, rows)} apart; divide by 1000 if "
        "these are millimetres",
    )


def _rows_seen(points: np.ndarray, confidence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points [N, K, D] as floats, and which of them are seen [N, K], and not guessed."""
    flat = np.asarray(points, float).reshape(-1, *points.shape[-2:])
    sure = np.broadcast_to(confidence, points.shape[:-1]).reshape(flat.shape[:-1])
    sure = np.minimum(np.where(np.isfinite(sure), sure, 0), 1)
    seen = (sure > 0) & (sure >= _GUESSED * sure.max(-1, keepdims=True, initial=0))
    return flat, seen & np.isfinite(flat).all(-1)


def _extent(points: np.ndarray, seen: np.ndarray) -> Float[np.ndarray, " N"]:
    """The longest side of the box around the points that are seen; 0 without any."""
    if not points.shape[1]:
        return np.zeros(len(points))
    inside = seen[..., None]
    high = np.where(inside, points, -np.inf).max(1)
    low = np.where(inside, points, np.inf).min(1)
    return np.where(seen.any(1), np.where(inside.any(1), high - low, 0).max(-1), 0)


def _most(odd: np.ndarray, rows: np.ndarray) -> bool:
    return bool(np.count_nonzero(odd) > np.count_nonzero(rows) / 2)


def _refuse(odd: np.ndarray, rows: np.ndarray, message: str) -> None:
    if _most(odd, rows):
        raise ValueError(f"{message} ({np.count_nonzero(odd)} of {np.count_nonzero(rows)} rows)")


def _first(values: np.ndarray, rows: np.ndarray) -> str:
    if not rows.any():
        return "none"
    return " x ".join(f"{value:.4g}" for value in np.atleast_1d(values[rows][0]))


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=3)
