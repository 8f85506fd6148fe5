"""First estimates and their evidence in one .npz: what `scorehmr refine` reads."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from body_model.io import read_npz
from body_model.smpl import pose_matrices
from scorehmr_jax.camera import DEFAULT_FOCAL, pinhole
from scorehmr_jax.formats.tables import not_rotations
from scorehmr_jax.types import Array, Camera, Estimate, Keypoints2D


@dataclass(frozen=True)
class Given:
    """What a file holds of N images."""

    estimate: Estimate
    keypoints: Keypoints2D  # [N, 25] OpenPose
    camera: Camera
    features: Array | None  # [N, F] standardised


def read(path: str | Path) -> Given:
    """Reads first estimates and their evidence; `scorehmr refine --help` tells the keys.

    Raises:
        ValueError: naming the file and key, if an array is missing or has another shape.
    """
    path = Path(path)
    arrays = read_npz(path)
    betas = _key(path, arrays, "betas", (None, 10))
    count = len(betas)
    keypoints = _key(path, arrays, "keypoints", (count, 25, 3))
    image_size = _positive(path, "image_size", _key(path, arrays, "image_size", (count, 2)))
    translation = _key(path, arrays, "translation", (count, 3))
    pose = _key(path, arrays, "pose", (count, 24, 3), (count, 24, 3, 3))
    if pose.ndim == 4 and len(bad := np.flatnonzero(not_rotations(pose))):
        raise ValueError(
            f"{path}: pose: row {bad[0]} ({len(bad)} in all) holds matrices that are no "
            "rotations; expected R^T R = 1 and det R = 1"
        )
    focal: Any = DEFAULT_FOCAL
    if "focal" in arrays:
        focal = _key(path, arrays, "focal", (), (1,), (count,), (count, 2))
        focal = _positive(path, "focal", focal)
    features = _key(path, arrays, "features", (count, None)) if "features" in arrays else None
    return Given(
        Estimate(pose_matrices(jnp.asarray(pose)), jnp.asarray(betas), jnp.asarray(translation)),
        Keypoints2D(jnp.asarray(keypoints[..., :2]), jnp.asarray(keypoints[..., 2])),
        pinhole(jnp.asarray(image_size), jnp.asarray(focal)),
        None if features is None else jnp.asarray(features),
    )


def _key(path: Path, arrays: dict[str, Any], key: str, *shapes: tuple[int | None, ...]) -> Any:
    """The numbers of a key, as floats, of one of the shapes; None stands for any length."""
    if key not in arrays:
        raise ValueError(f"{path}: no key {key}; found {', '.join(sorted(arrays)) or 'none'}")
    array = arrays[key]
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{path}: {key}: expected numbers, found {array.dtype}")
    fits = (
        len(shape) == array.ndim
        and all(want in (None, have) for want, have in zip(shape, array.shape, strict=True))
        for shape in shapes
    )
    if not any(fits):
        wanted = " or ".join(str(shape).replace("None", "N") for shape in shapes)
        raise ValueError(f"{path}: {key}: expected shape {wanted}, found {array.shape}")
    return array.astype(np.promote_types(array.dtype, np.float32))


def _positive(path: Path, key: str, array: Any) -> Any:
    if not (np.isfinite(array) & (array > 0)).all():
        found = array.min()
        raise ValueError(f"{path}: {key}: expected pixels above 0, found {found:g} among them")
    return array
