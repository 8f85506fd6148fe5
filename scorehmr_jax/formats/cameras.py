"""Calibrated cameras out of other packages' files.

World points go to a camera's axes (x right, y down, z forward) by x = R X + t, and to pixels by K
after the lens's distortion, OpenCV's five numbers (k1, k2, p1, p2, k3). camera_files.py finds what
the files hold; here it is checked and brought to one form.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from scorehmr_jax import units
from scorehmr_jax.formats.camera_files import cameras_of

# Camera centers farther from the world's origin than this are no metres.
_FAR = 100.0


@dataclass(frozen=True)
class CameraFile:
    """The V cameras of a calibration."""

    names: tuple[str, ...]
    K: Float[np.ndarray, "V 3 3"]  # intrinsics, pixels of the images as they are (distorted)
    distortion: Float[np.ndarray, "V 5"]  # OpenCV's k1, k2, p1, p2, k3; 0: none
    image_size: Float[np.ndarray, "V 2"]  # width and height, pixels; NaN where not known
    R: Float[np.ndarray, "V 3 3"] | None = None  # world to camera; None: no extrinsics
    t: Float[np.ndarray, "V 3"] | None = None  # metres

    def of(self, names: Sequence[str]) -> "CameraFile":
        """Takes some cameras, by name, in the order asked for.

        Raises:
            ValueError: for a name that is not among them.
        """
        unknown = [name for name in names if name not in self.names]
        if unknown:
            raise ValueError(f"no camera {unknown[0]!r}; found {', '.join(self.names)}")
        rows = [self.names.index(name) for name in names]
        R, t = (None if a is None else a[rows] for a in (self.R, self.t))
        return CameraFile(
            tuple(names), self.K[rows], self.distortion[rows], self.image_size[rows], R, t
        )


def read_cameras(path: str | os.PathLike[str], scale: float = 1.0) -> CameraFile:
    """Reads the cameras of a calibration file of any known format.

    - Pose2Sim's, Sports2D's, aniposelib's and FreeMoCap's .toml
    - Qualisys Track Manager's .qca.txt
    - OpenCV's .yml, .xml and .json of one camera, and EasyMocap's folder of intri.yml and extri.yml
    - .json, .npz and text with names of matrices: K, R, t, dist, size, or `extrinsic` [3 or 4, 4]

    Rotations are matrices or Rodrigues vectors. Qualisys's lengths are millimetres by definition;
    others are taken as metres, times `scale`.

    Args:
        path: of the file or folder.
        scale: metres per unit of the file: 0.001 for millimetres.
    Returns:
        The cameras in the file's order.
    Raises:
        ValueError: naming file and camera: if the format is not known, a matrix is missing or of
            another shape, a rotation is none, a lens is described in another way than by OpenCV's
            five numbers, or cameras are so far away that these are no metres.
    """
    held = cameras_of(path)
    where = os.fspath(path)
    if not held:
        raise ValueError(f"{where}: no camera with an intrinsic matrix in it")
    names = tuple(str(camera["name"]) for camera in held)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{where}: camera {twice[0]} comes more than once")
    ones = [_camera(camera, f"{where}: {camera['name']}") for camera in held]
    K, distortion, size = (np.stack([one[key] for one in ones]) for key in ("K", "dist", "size"))
    R, t = _extrinsics(names, ones, scale, where)
    known = np.isfinite(size).all(-1)
    if known.any():
        focal = K[:, [0, 1], [0, 1]]
        units.check_camera(focal[known], K[known, :2, 2], size[known], f"{where}: camera")
    return CameraFile(names, K, distortion, size, R, t)


def _camera(held: dict[str, Any], where: str) -> dict[str, np.ndarray]:
    """Brings what a file says of a camera to one form: K, dist, size, and R and t if there."""
    if held.get("fisheye") in (True, "true", 1):
        raise ValueError(
            f"{where}: a fisheye lens; expected OpenCV's five numbers. Undistort the images and "
            "give the cameras without distortion"
        )
    K = _matrix(held["K"], (3, 3), f"{where}: K")
    if not (K[0, 0] > 0 and K[1, 1] > 0 and np.allclose(K[2], [0, 0, 1])):
        raise ValueError(
            f"{where}: K: expected focal lengths above 0 and a last row 0, 0, 1, found "
            f"{K.round(3).tolist()}"
        )
    one = {
        "K": K,
        "dist": _distortion(held.get("dist", []), f"{where}: distortion"),
        "size": np.full(2, math.nan),
    }
    if "size" in held:
        one["size"] = _matrix(held["size"], (2,), f"{where}: image size")
    if "RT" in held:
        both = _numbers(held["RT"], f"{where}: extrinsics")
        if both.size not in (12, 16):
            raise ValueError(f"{where}: extrinsics: expected [3 or 4, 4], found {both.shape}")
        both = both.reshape(-1, 4)
        one |= {"R": both[:3, :3], "t": both[:3, 3]}
    elif ("R" in held) != ("t" in held):
        lacking = "t" if "R" in held else "R"
        raise ValueError(f"{where}: no {lacking}; expected rotation and translation together")
    elif "R" in held:
        turn = _numbers(held["R"], f"{where}: R")
        if turn.size not in (3, 9):
            raise ValueError(
                f"{where}: R: expected [3, 3] or a Rodrigues vector, found {turn.shape}"
            )
        one["R"] = _rodrigues(turn.ravel()) if turn.size == 3 else turn.reshape(3, 3)
        one["t"] = _matrix(held["t"], (3,), f"{where}: t")
    if "R" in one and units.not_rotations(one["R"][None]).any():
        off, det = np.abs(one["R"] @ one["R"].T - np.eye(3)).max(), np.linalg.det(one["R"])
        raise ValueError(f"{where}: R is no rotation: R R^T is {off:.2g} from 1, det R = {det:.2g}")
    return one


def _extrinsics(
    names: Sequence[str], ones: list[dict[str, np.ndarray]], scale: float, where: str
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """R and t of all cameras, or None if the file has none."""
    placed = ["R" in one for one in ones]
    if not any(placed):
        return None, None
    if not all(placed):
        lacking = names[placed.index(False)]
        raise ValueError(f"{where}: {lacking}: no R and t, which other cameras have")
    R = np.stack([one["R"] for one in ones])
    t = np.stack([one["t"] for one in ones]) * scale
    centers = -np.einsum("vji,vj->vi", R, t)
    far = np.median(np.linalg.norm(centers, axis=-1))
    if far > _FAR:
        raise ValueError(
            f"{where}: t: cameras are {far:.0f} m from the origin; expected metres. Give "
            "scale=0.001 if these are millimetres, 0.01 if centimetres"
        )
    return R, t


def _distortion(held: Any, where: str) -> np.ndarray:
    """OpenCV's five numbers; those that are not given are 0."""
    numbers = _numbers(held, where).ravel()
    if (numbers[5:] != 0).any():
        raise ValueError(
            f"{where}: {numbers.size} numbers, of which those after the fifth are not 0; expected "
            "k1, k2, p1, p2, k3 (calibrate without CALIB_RATIONAL_MODEL and the like)"
        )
    five = np.zeros(5)
    five[: min(5, numbers.size)] = numbers[:5]
    return five


def _rodrigues(vector: np.ndarray) -> np.ndarray:
    """The rotation by |vector| about the vector."""
    angle = float(np.linalg.norm(vector))
    if angle == 0:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross


def _numbers(held: Any, where: str) -> np.ndarray:
    try:
        array = np.array(held, float)
    except (TypeError, ValueError):
        raise ValueError(f"{where}: expected numbers, found {str(held)[:60]!r}") from None
    if not np.isfinite(array).all():
        raise ValueError(
            f"{where}: expected finite numbers, found {array.ravel()[:4].tolist()}, ..."
        )
    return array


def _matrix(held: Any, shape: tuple[int, ...], where: str) -> np.ndarray:
    array = _numbers(held, where)
    if array.size != math.prod(shape):
        raise ValueError(f"{where}: expected shape {shape}, found {array.shape}")
    return array.reshape(shape)
