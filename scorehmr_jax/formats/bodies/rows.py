"""Bodies of people as a file has them: one row for each person in each frame."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from body_model.joints import NUM_JOINTS
from body_model.smpl import pose_matrices
from scorehmr_jax import units
from scorehmr_jax.camera import crop_to_full
from scorehmr_jax.formats.keypoints.result import NO_ID

Model = Literal["smpl", "smplx"]

# The joints that SMPL, SMPL-H and SMPL-X share, up to the wrists.
_SHARED = 22


@dataclass(frozen=True)
class Rows:
    """Bodies of people as a file has them: M rows, one for each person in each frame."""

    pose: Float[np.ndarray, "M 24 3 3"]  # rotations; the root's in the frame of the camera
    betas: Float[np.ndarray, "M B"]
    translation: Float[np.ndarray, "M 3"]  # metres, as the source's body model adds it
    frames: Int[np.ndarray, " M"]  # numbers, as the file counts
    ids: Int[np.ndarray, " M"]  # of the tracker; NO_ID (-1) where there is none
    focal: Float[np.ndarray, "M 2"] | None = None  # pixels; None: the file does not tell
    center: Float[np.ndarray, "M 2"] | None = None  # pixels
    image_size: Float[np.ndarray, "M 2"] | None = None  # width and height, pixels
    names: dict[int, str] = field(default_factory=dict)  # of images, by frame
    model: Model = "smpl"  # whose shape numbers and rest pose these are
    in_world: bool = False  # True: in a world of the file's own; there is no camera
    video: bool = True  # False: images that have nothing to do with each other
    notes: tuple[str, ...] = ()  # what was assumed or left out
    keypoints: Float[np.ndarray, "M K 3"] | None = None  # x, y, confidence of its own 2D points
    points: Float[np.ndarray, "M K 3"] | None = None  # 3D in place of a pose: to be lifted
    convention: str = ""  # of keypoints and points
    fps: float | None = None  # frames per second of the video; None: the file does not tell

    def __len__(self) -> int:
        return len(self.frames)


def numbers(value: Any, where: str) -> Float[np.ndarray, "..."]:
    """Gives an array of float32 at least.

    Raises:
        ValueError: naming the key, if it holds no numbers, or lists of unequal length.
    """
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16":
            array = np.asarray(value, float)
    except (TypeError, ValueError):
        raise ValueError(f"{where}: expected numbers, found {str(value)[:60]!r}") from None
    kept = array.dtype if array.dtype.kind == "f" else np.dtype(np.float32)
    return array.astype(np.promote_types(kept, np.float32))


def key(held: Mapping[str, Any], name: str, where: str) -> Float[np.ndarray, "..."]:
    """Reads the numbers of a key.

    Raises:
        ValueError: naming file and key, if it is missing or holds no numbers, or if this is no
            table.
    """
    if not isinstance(held, Mapping):
        raise ValueError(f"{where}: expected a table with {name}, found {str(held)[:60]!r}")
    if name not in held:
        found = ", ".join(map(str, list(held)[:12]))
        raise ValueError(f"{where}: no key {name}; found {found or 'none'}")
    return numbers(held[name], f"{where}: {name}")


def whole_numbers(value: Any, where: str) -> Int[np.ndarray, " M"]:
    """Reads numbers of frames or people.

    Raises:
        ValueError: naming the key, if these are not whole numbers.
    """
    array = np.asarray(value)
    if array.dtype.kind in "iu":
        return array.astype(np.int64).ravel()
    found = numbers(value, where).astype(np.float64).ravel()
    # Beyond these, floating-point numbers skip some.
    if not (np.isfinite(found) & (np.abs(found) < 2**53)).all() or (found % 1).any():
        raise ValueError(f"{where}: expected whole numbers, found {str(value)[:60]!r}")
    return found.astype(np.int64)


def shaped(array: Float[np.ndarray, "..."], shape: tuple[int, ...], where: str) -> Any:
    """Gives the array in a shape that differs in axes of length 1 only.

    Any other shape of as many numbers holds them in another order.

    Args:
        array: as the file has it.
        shape: the one that is wanted; one length may be -1, for any.
        where: file and key.
    Raises:
        ValueError: if it has another.
    """
    found, wanted = ([n for n in axes if n != 1] for axes in (array.shape, shape))
    rest = math.prod(n for n in shape if n != -1)
    if -1 in shape and rest and array.size % rest == 0:
        wanted = [n for n in (array.size // rest if n == -1 else n for n in shape) if n != 1]
    if found != wanted:
        names = ", ".join("any" if n == -1 else str(n) for n in shape)
        raise ValueError(f"{where}: expected [{names}], found {list(array.shape)}")
    return array.reshape(shape)


def rotations(
    parts: Float[np.ndarray, "..."] | list[np.ndarray], count: int, where: str
) -> Float[np.ndarray, "M J 3 3"]:
    """Gives rotation matrices of matrices [M, J, 3, 3] or of axis-angle [M, J, 3] or [M, 3 J].

    Args:
        parts: an array, or arrays to be put one after the other along the joints.
        count: M.
        where: file and key.
    Raises:
        ValueError: if these are no rotations, or turns in degrees.
    """
    if isinstance(parts, list):
        return np.concatenate([rotations(part, count, where) for part in parts], 1)
    first = next((n for n in parts.shape if n != 1), 1)
    if count > 1 and first != count:
        raise ValueError(
            f"{where}: expected rotations of {count} bodies, one after the other, found "
            f"{list(parts.shape)}"
        )
    if parts.shape[-2:] == (3, 3) and parts.size % max(9 * count, 1) == 0:
        matrices = parts.reshape(count, -1, 3, 3)
        units.check_rotations(matrices, where)
        return matrices
    if count == 0 or parts.size % (3 * count):
        raise ValueError(
            f"{where}: expected rotations [{count}, J, 3, 3] or axis-angle [{count}, 3 J], found "
            f"{list(parts.shape)}"
        )
    vectors = parts.reshape(count, -1, 3)
    units.check_axis_angle(vectors, where)
    return _matrices(vectors)


def smpl_pose(
    joints: Float[np.ndarray, "M J 3 3"], where: str, of_hands: bool | None = None
) -> tuple[Float[np.ndarray, "M 24 3 3"], str]:
    """Brings the joints of SMPL, SMPL-H or SMPL-X to SMPL's 24.

    Args:
        joints: the root and those after it: 24 of SMPL, 22 of the body alone, 52 of SMPL-H, 55 of
            SMPL-X.
        where: file and key.
        of_hands: True if the joints after the 22nd are fingers, face and eyes.
    Returns:
        The pose, and what was left out; "" if nothing.
    Raises:
        ValueError: for another number of joints.
    """
    found = joints.shape[1]
    if found == NUM_JOINTS and not of_hands:
        return joints, ""
    if found < _SHARED or found not in (_SHARED, NUM_JOINTS, 25, 52, 54, 55):
        raise ValueError(
            f"{where}: expected 24 joints of SMPL, 22 of the body, 52 of SMPL-H or 55 of SMPL-X, "
            f"found {found}"
        )
    hands = np.broadcast_to(np.eye(3, dtype=joints.dtype), (len(joints), 2, 3, 3))
    pose = np.concatenate([joints[:, :_SHARED], hands], 1)
    left = {25: "jaw and eyes", 52: "fingers"}.get(found, "fingers, jaw and eyes")
    return pose, "" if found == _SHARED else f"{left} are not SMPL's and are left out; hands rest"


def full_translation(
    weak: Float[np.ndarray, "M 3"],
    box_center: Float[np.ndarray, "M 2"],
    box_size: Float[np.ndarray, " M"],
    image_size: Float[np.ndarray, "M 2"],
    focal: Float[np.ndarray, "M 2"],
) -> Float[np.ndarray, "M 3"]:
    """Gives translations in the full image of the weak cameras of boxes; see `crop_to_full`."""
    return np.asarray(
        crop_to_full(*map(jnp.asarray, (weak, box_center, box_size, image_size, focal)))
    )


def no_ids(count: int) -> Int[np.ndarray, " M"]:
    """Ids of people who were not followed."""
    return np.full(count, NO_ID)


def of_each(value: Any, count: int, size: int, where: str) -> Float[np.ndarray, "M ..."]:
    """Gives `size` numbers for each row, of so many for each, or for all.

    Raises:
        ValueError: if there are others.
    """
    array = numbers(value, where)
    if size == 9 and array.shape[-2:] == (3, 3):
        array = array.reshape(*array.shape[:-2], size)
    if array.size == size and max(array.shape, default=1) == size:
        return np.broadcast_to(array.reshape(size), (count, size)).copy()
    if array.size == count and size == 2:
        return np.repeat(shaped(array, (count, 1), where), 2, 1)
    if array.size == 1:
        return np.full((count, size), array.reshape(()))
    return shaped(array, (count, size), where)


def _matrices(vectors: np.ndarray) -> np.ndarray:
    """Rotations of axis-angle [M, J, 3], by programs of one size."""
    flat = vectors.reshape(-1, 3)
    whole = -(-len(flat) // NUM_JOINTS) * NUM_JOINTS
    padded = np.zeros((whole, 3), flat.dtype)
    padded[: len(flat)] = flat
    made = np.asarray(pose_matrices(jnp.asarray(padded.reshape(-1, NUM_JOINTS, 3))))
    return made.reshape(-1, 3, 3)[: len(flat)].reshape(*vectors.shape[:-1], 3, 3)
