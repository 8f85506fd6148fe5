"""What a data set knows of one person in one video: the truth and the cameras, whoever wrote it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from scorehmr_jax import units
from scorehmr_jax.types import Camera, Keypoints2D

GENDERS = ("male", "female", "neutral")
NUM_BETAS = 10


@dataclass(frozen=True)
class TrueMotion:
    """A body of SMPL in motion, in the frame that the camera's pose starts from."""

    pose: Float[np.ndarray, "N 24 3"]  # axis-angle, radians
    betas: Float[np.ndarray, "N 10"]
    translation: Float[np.ndarray, "N 3"]  # metres
    gender: str  # one of GENDERS: of the body model that these numbers are of
    # SMPL's 24 joints as the file has them, metres; None: it has none. They tell a wrong body.
    joints: Float[np.ndarray, "N 24 3"] | None = None


@dataclass(frozen=True)
class TrueJoints:
    """Joints of a person, in the frame that the camera's pose starts from."""

    points: Float[np.ndarray, "N J 3"]  # metres
    seen: Bool[np.ndarray, "N J"]
    names: tuple[str, ...]  # as body_model.joints has them


@dataclass(frozen=True)
class Recording:
    """One person before one camera, N frames at equal distances in time. Arrays are numpy's."""

    name: str  # of the sequence, the person, and the camera where there are several
    images: tuple[str, ...]  # N names
    person: int  # among those of the images
    fps: float
    camera: Camera  # [N] with its pose; no distortion
    truth: TrueMotion | TrueJoints
    counts: Bool[np.ndarray, " N"]  # False: the protocol leaves this frame out
    # What the data set has of a detector, [N, 25] in OpenPose's order; None: nothing.
    keypoints: Keypoints2D | None = None
    notes: tuple[str, ...] = ()  # what was assumed or left out

    def __len__(self) -> int:
        return len(self.images)


def key(held: Any, name: str, where: str) -> Any:
    """Takes a key of a table.

    Raises:
        ValueError: naming the file and what it has, if it is missing.
    """
    if not isinstance(held, Mapping):
        raise ValueError(f"{where}: expected a table with {name}, found {type(held).__name__}")
    if name not in held:
        found = ", ".join(sorted(map(str, held))[:20])
        raise ValueError(f"{where}: the key {name!r} is missing; found {found or 'none'}")
    return held[name]


def array(
    held: Any, name: str, shape: tuple[int | None, ...], where: str
) -> Float[np.ndarray, "..."]:
    """Takes an array of numbers of a table.

    Args:
        held: the table.
        name: of the key.
        shape: what it must have; None stands for any length.
        where: begins messages.
    Raises:
        ValueError: naming file and key, if it is missing, of another shape or no numbers.
    """
    return shaped(key(held, name, where), shape, f"{where}: {name}")


def shaped(value: Any, shape: tuple[int | None, ...], where: str) -> Float[np.ndarray, "..."]:
    """Gives numbers as float64 of a shape, in which None stands for any length; errors as there."""
    try:
        found = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{where}: no array of one shape ({error})") from None
    fits = len(found.shape) == len(shape) and all(
        want in (None, have) for want, have in zip(shape, found.shape, strict=True)
    )
    if not fits or found.dtype.kind not in "fiub":
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise ValueError(
            f"{where}: expected numbers [{wanted}], found {found.dtype} {list(found.shape)}"
        )
    return found.astype(np.float64)


def gender(value: Any, where: str) -> str:
    """Reads a gender: m, f, male, female or neutral, as text or bytes.

    Raises:
        ValueError: for anything else.
    """
    text = value.decode("latin1") if isinstance(value, bytes) else str(value)
    short = {"m": "male", "f": "female", "n": "neutral"}
    found = short.get(text.strip().lower(), text.strip().lower())
    if found not in GENDERS:
        raise ValueError(f"{where}: expected one of {', '.join(GENDERS)}, found {text!r}")
    return found


def ten_betas(value: Any, count: int, where: str) -> tuple[Float[np.ndarray, "N 10"], str]:
    """Gives the first ten shape numbers to each frame.

    Args:
        value: [B], [1, B] or [count, B]; 10 numbers or more, as bodies of 300 have them.
        count: of frames.
        where: file and key.
    Returns:
        The numbers, and what was left out; "" if nothing.
    Raises:
        ValueError: if there are fewer, or others.
    """
    found = np.atleast_2d(np.asarray(value, np.float64))
    if found.ndim != 2 or len(found) not in (1, count) or found.shape[1] < NUM_BETAS:
        raise ValueError(
            f"{where}: expected {NUM_BETAS} shape numbers or more, [B] or [{count}, B], found "
            f"shape {np.shape(value)}"
        )
    units.check_betas(found, where)
    rest = found[:, NUM_BETAS:]
    note = ""
    if np.any(rest):
        note = f"{where}: {rest.shape[1]} shape numbers after the tenth are left out"
    return np.broadcast_to(found[:, :NUM_BETAS], (count, NUM_BETAS)).copy(), note


def camera_of(
    intrinsics: Float[np.ndarray, "3 3"],
    extrinsics: Float[np.ndarray, "N 4 4"],
    image_size: Float[np.ndarray, "2"],
    where: str,
    counts: Bool[np.ndarray, " N"] | None = None,
) -> Camera:
    """Gives a camera that may move: one K and a pose for each frame.

    Args:
        intrinsics: K, pixels.
        extrinsics: from the world to the camera, metres.
        image_size: width and height, pixels.
        where: begins messages.
        counts: frames whose poses are to be checked; all without.
    Raises:
        ValueError: if a pose turns by no rotation, or numbers are no pixels.
    """
    count = len(extrinsics)
    known = np.ones(count, bool) if counts is None else counts
    units.check_rotations(extrinsics[known, :3, :3], f"{where}: world to camera")
    focal, center = intrinsics[[0, 1], [0, 1]], intrinsics[:2, 2]
    focal, center, size = (np.broadcast_to(a, (count, 2)) for a in (focal, center, image_size))
    units.check_camera(focal, center, size, f"{where}: camera")
    return Camera(focal, center, size, extrinsics[:, :3, :3], extrinsics[:, :3, 3])
