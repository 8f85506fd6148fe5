"""First estimates and their evidence: read from anybody's files, written to one .npz of our own.

`scorehmr refine` reads such files and writes an .npz, which can be refined again.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, Real

from body_model import SMPL
from body_model.files import is_npz, local_path, npz_keys, write_npz
from body_model.joints import JOINT_NAMES, NUM_JOINTS, OPENPOSE_25
from body_model.pytree import Array, Number
from body_model.rotations import matrix_to_axis_angle
from scorehmr_jax.camera import camera_batch
from scorehmr_jax.checks import check_shapes
from scorehmr_jax.formats.bodies.contents import contents, is_torch
from scorehmr_jax.formats.bodies.people import Tracks
from scorehmr_jax.formats.bodies.read import folder_contents, format_of, read_people, unknown
from scorehmr_jax.formats.own_estimates import FIRST, OPTIONAL, RefineInput, read_own
from scorehmr_jax.shapes import fits_plainly, in_one_way
from scorehmr_jax.types import Camera, Estimate, Expectation, Keypoints2D, Refined

__all__ = ["RefineInput", "read_estimates", "write_estimates"]

_OWN = "scorehmr"
_axis_angle = jax.jit(matrix_to_axis_angle)
_OF_KEYPOINTS = {"keypoints", "xy", "landmarks", "points_3d", "world"}
# Keys that an .npz of ours has one of, even one that lacks others.
_OWN_KEYS = {"pose", "pose_axis_angle", "betas", "translation", "keypoints"}


def read_estimates(
    path: str | os.PathLike[str],
    format: str | None = None,
    *,
    body: SMPL | None = None,
    image_size: Real[Array, "2"] | Sequence[float] | None = None,
    keep_shape: bool = False,
) -> RefineInput:
    """Reads first estimates of any known format, with what evidence the file has beside them.

    The format is told from the content: our own .npz, or one of another network's (the page
    docs/formats.md says which). Of others the estimates are [P, T]: P people in T frames. What a
    file lacks, and what is assumed in its place, is announced. Nothing that a file names is run.

    SMPL-X's shape numbers are not SMPL's, and those of neither are the open body's: then the shape
    is the mean, and the pelvis stays where it is.

    Args:
        path: of the file or folder.
        format: "scorehmr" for our own, or a name of
            `scorehmr_jax.formats.bodies.read.BODY_FORMATS`, if it is known.
        body: that the estimates are for; SMPL without. Files with points alone need it: they are
            lifted to it.
        image_size: width and height, pixels, for files that do not tell. Not for our own.
        keep_shape: True to take shape numbers of another body model as they are.
    Raises:
        ValueError: naming the file and key, if it is of no known format, an array is missing, has
            another shape or is in other units.
    """
    where = local_path(path)
    if where.is_dir():
        held = folder_contents(where)
    elif format in (None, _OWN) and is_npz(where) and (format == _OWN or is_own(where)):
        return read_own(path)
    else:
        held = contents(where)
    if format == _OWN:
        raise ValueError(f"{where}: expected our own .npz, found {unknown(held, None)}")
    size = None if image_size is None else np.asarray(image_size, np.float32)
    people = read_people(where, held, format, body, size, keep_shape)
    points = people.keypoints
    return RefineInput(
        people.estimate,
        None if points is None else Keypoints2D(points[..., :2], points[..., 2]),
        people.camera,
        None,
        people.tracks,
        people.fps,
    )


def is_own(path: Path) -> bool:
    """True for an .npz with a key of ours, unless another format claims it."""
    if is_torch(path):
        return False
    return bool(_OWN_KEYS.intersection(npz_keys(path))) and format_of(contents(path)) is None


def is_keypoints(source: Path) -> bool:
    """True for a file or folder of keypoints: one that no reader of estimates knows."""
    if source.is_dir():
        return any(source.glob("*.json")) and not _are_images(source)
    if source.suffix.lower() == ".trc":
        return True
    if source.suffix.lower() == ".json":
        return format_of(contents(source)) is None
    if is_npz(source) and not is_torch(source):
        keys = {*npz_keys(source)}
        return not keys & (_OWN_KEYS - {"keypoints"}) and bool(keys & _OF_KEYPOINTS)
    return False


def _are_images(folder: Path) -> bool:
    """True for a folder of estimates, told by its first file."""
    first = min(file for file in folder.iterdir() if file.suffix.lower() == ".json")
    return format_of([contents(first)]) is not None


def write_estimates(
    path: str | os.PathLike[str],
    estimate: Estimate | Refined,
    camera: Camera | None = None,
    keypoints: Keypoints2D | None = None,
    features: Float[Array, "... F"] | None = None,
    status: Int[Array, "..."] | None = None,
    tracks: Tracks | None = None,
    filled: Bool[Array, "..."] | None = None,
    fps: Number | None = None,
    first: Estimate | None = None,
    kept_share: Float[Array, "..."] | None = None,
    expected: Expectation | None = None,
) -> None:
    """Writes estimates or refined bodies as a compressed .npz, whole or not at all.

    With camera and keypoints it is all that `read_estimates` reads. Beside the keys listed there it
    holds `status`, `kept_share`, what is expected of the result, and pose in both forms, `pose` and
    `pose_axis_angle`.

    Args:
        path: of the file; no suffix is added.
        estimate: of any leading axes [N].
        camera: the cameras, of the same leading axes or such that broadcast.
        keypoints: detections.
        features: standardised image features.
        status: what became of each sample, as `Info.status`.
        tracks: who is in which frame; written as `ids`, `frame_numbers` and `frame_names`.
        filled: True for samples without evidence of their own, made of those around them.
        fps: frames per second, of a video.
        first: the first estimate [N] that the estimate was refined from; float32 in the file.
        kept_share: how much of each refinement was kept, as `Info.kept_share`.
        expected: how far off each body is expected to be, as `Info.expected`; written as
            `expected_worse`, `expected_error` and `expected_joint_error`.
    Raises:
        ValueError: naming the argument, if it does not fit the estimate or `read_estimates` would
            refuse its shape; or if the path is an address or a folder.
    """
    lead = check_shapes(estimate)
    pose, betas = _plain(estimate.pose), _plain(estimate.betas)
    precision = np.promote_types(pose.dtype, np.float32)
    angles = np.asarray(_axis_angle(jnp.asarray(pose.astype(precision))))
    arrays: dict[str, Any] = {
        "pose": pose,
        "pose_axis_angle": angles.reshape(*lead, 3 * NUM_JOINTS),
        "betas": np.broadcast_to(betas, (*lead, betas.shape[-1])),
        "translation": np.broadcast_to(_plain(estimate.translation), (*lead, 3)),
        "joint_names": np.array(JOINT_NAMES),
    }
    if camera is not None:
        _check_rows("camera", camera_batch(camera), lead)
        for key in ("focal", "center", "image_size"):
            arrays[key] = np.broadcast_to(_plain(getattr(camera, key)), (*lead, 2))
        for key, (field, axes) in OPTIONAL.items():
            if (value := getattr(camera, field)) is not None:
                arrays[key] = np.broadcast_to(_plain(value), (*lead, *axes))
    if keypoints is not None:
        arrays["keypoints"] = _detections(keypoints, lead)
    if features is not None:
        array = _plain(features)
        if array.ndim < 1:
            raise ValueError(f"features: expected [..., N, F], found shape {array.shape}")
        _check_rows("features", array.shape[:-1], lead)
        arrays["features"] = np.broadcast_to(array, (*lead, array.shape[-1]))
    for key, value in (
        ("status", status),
        ("filled", filled),
        ("kept_share", kept_share),
    ):
        if value is None:
            continue
        array = _plain(value)
        if array.shape != lead:
            raise ValueError(
                f"{key}: expected one for each estimate {lead}, found shape {array.shape}"
            )
        arrays[key] = array
    if expected is not None:
        arrays |= _expectation(expected, lead)
    if tracks is not None:
        arrays["ids"], arrays["frame_numbers"] = tracks.ids, tracks.frame_numbers
        arrays["frame_names"] = np.array(tracks.frame_names, dtype=str)
    if fps is not None:
        arrays["fps"] = _frames_per_second(fps)
    if first is not None:
        arrays |= _first_estimate(first, lead)
    write_npz(path, {key: _plain(array) for key, array in arrays.items()})


def _expectation(expected: Expectation, lead: tuple[int, ...]) -> dict[str, np.ndarray]:
    """The arrays of what is expected of the same samples, by their keys."""
    shapes = {"worse": lead, "error": lead, "joint_error": (*lead, NUM_JOINTS)}
    arrays = {}
    for name, shape in shapes.items():
        array = _plain(getattr(expected, name))
        if array.shape != shape:
            raise ValueError(f"expected.{name}: expected shape {shape}, found {array.shape}")
        arrays[f"expected_{name}"] = array
    return arrays


def _frames_per_second(fps: Number) -> np.ndarray:
    found = np.asarray(fps, np.float64)
    if found.shape != () or not 0 < found < np.inf:
        raise ValueError(f"fps: expected one number of frames per second, above 0; found {fps}")
    return found


def _first_estimate(first: Estimate, lead: tuple[int, ...]) -> dict[str, np.ndarray]:
    """The arrays of a first estimate of the same samples, by their keys."""
    try:
        rows = check_shapes(first)
    except ValueError as error:
        raise ValueError(f"first: {error}") from None
    if rows != lead:
        raise ValueError(f"first: expected one for each estimate {lead}, found {rows}")
    fields = (first.pose, first.betas, first.translation)
    return {
        key: np.broadcast_to(
            _plain(value).astype(np.float32), (*lead, *np.shape(value)[np.ndim(value) - axes :])
        )
        for key, value, axes in zip(FIRST, fields, (3, 1, 1), strict=True)
    }


def _detections(keypoints: Keypoints2D, lead: tuple[int, ...]) -> np.ndarray:
    """Keypoints as [*lead, 25, 3], of one row for each estimate or one for all."""
    xy, confidence = _plain(keypoints.xy), _plain(keypoints.confidence)
    wanted = len(OPENPOSE_25)
    if xy.ndim < 2 or xy.shape[-2:] != (wanted, 2) or confidence.shape != xy.shape[:-1]:
        raise ValueError(
            f"keypoints: expected xy [..., N, {wanted}, 2] of OpenPose-25 and confidence [..., N, "
            f"{wanted}], found {xy.shape} and {confidence.shape}; leave others out"
        )
    _check_rows("keypoints", xy.shape[:-2], lead)
    both = np.concatenate([xy, confidence[..., None]], axis=-1)
    return np.broadcast_to(both, (*lead, wanted, 3))


def _check_rows(name: str, rows: tuple[int, ...], lead: tuple[int, ...]) -> None:
    if not fits_plainly(rows, lead):
        raise ValueError(
            f"{name}: expected one for each estimate {lead}, or one for all, found {rows}"
            f"{in_one_way(rows, lead)}"
        )


def _plain(array: Any) -> np.ndarray:
    """Returns an array of numpy's own types: files cannot hold bfloat16."""
    array = np.asarray(array)
    return array.astype(np.float32) if array.dtype.isbuiltin == 2 else array
