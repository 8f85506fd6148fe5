"""The camera of a file of estimates, or the one that a person gives in its place."""

import math
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from body_model import SMPL
from scorehmr_jax.calibration import calibrated_camera
from scorehmr_jax.camera import camera_batch
from scorehmr_jax.formats.cameras import read_cameras
from scorehmr_jax.types import Camera, Estimate


@dataclass(frozen=True)
class Given:
    """What a person says of the camera."""

    file: Path | None = None  # a calibration
    name: str | None = None  # of a camera in it
    focal: float | None = None  # pixels
    fov: float | None = None  # degrees across the image's width

    def __post_init__(self) -> None:
        ways = {"--camera": self.file, "--focal": self.focal, "--fov": self.fov}
        said = [name for name, value in ways.items() if value is not None]
        if len(said) > 1:
            raise ValueError(f"{' and '.join(said)}: expected one of them")
        if self.name is not None and self.file is None:
            raise ValueError("--camera-name: expected --camera FILE beside it")


def choose_camera(
    estimate: Estimate,
    body: SMPL,
    own: Camera | None,
    in_world: bool,
    given: Given,
    image_size: Float[np.ndarray, "2"] | None,
) -> tuple[Estimate, Camera, str]:
    """Finds the camera, and puts the estimates before it.

    Estimates that were made for another focal length are moved: each pelvis stays where it is seen,
    and at the same size. Motion in a world is moved by the camera's extrinsics.

    Args:
        estimate: [..., N].
        body: of the estimates.
        own: the file's camera.
        in_world: True for motion in a world.
        given: what the person says.
        image_size: width and height, pixels, if known.
    Returns:
        The estimate in the camera's frame, a camera for each, and a sentence on the camera.
    Raises:
        ValueError: if nothing is known of the camera.
    """
    lead = np.shape(estimate.betas)[:-1]
    if given.file is not None:
        camera, pose, text = _from_file(given.file, given.name, lead, image_size)
        if in_world:
            if pose is None:
                raise ValueError(
                    f"{given.file}: no R and t; expected them for motion in a world, whose axes "
                    "they go from"
                )
            return _before(estimate, body, *pose), camera, f"{text}, with its place in the world"
        return (estimate if own is None else replaced(estimate, body, own, camera)), camera, text
    if in_world:
        raise ValueError(
            "motion in a world, without a camera; give --camera FILE with K, R and t of one that "
            "saw it"
        )
    if own is None and image_size is None:
        raise ValueError("the file does not tell the image's size; give --image-size WIDTH HEIGHT")
    if own is not None and given.focal is None and given.fov is None:
        focal = np.asarray(own.focal)[..., 0]
        return (
            estimate,
            own,
            f"focal length {_span(focal)} pixels, which the estimates were made for",
        )
    size = np.asarray(own.image_size if own is not None else image_size, np.float32)
    size = np.broadcast_to(size, (*lead, 2))
    if given.focal is not None:
        long, text = np.full(lead, given.focal), f"{given.focal:g} pixels, as given"
    elif given.fov is not None:
        long = size[..., 0] / 2 / math.tan(math.radians(given.fov) / 2)
        text = f"{_span(long)} pixels, from the {given.fov:g} degrees given"
    else:
        long = np.linalg.norm(size, axis=-1)
        text = f"{_span(long)} pixels; the image's diagonal is assumed: give --focal or --fov"
    focal = np.repeat(long[..., None], 2, -1).astype(np.float32)
    camera = Camera(*map(jnp.asarray, (focal, size / 2, size)))
    moved = estimate if own is None else replaced(estimate, body, own, camera)
    return moved, camera, f"focal length {text}"


def replaced(estimate: Estimate, body: SMPL, old: Camera, new: Camera) -> Estimate:
    """Moves bodies made for one camera before another: seen in the same place at the same size."""
    rest = _rest_pelvis(estimate, body)
    pelvis = rest + np.asarray(estimate.translation)
    before, after = (np.asarray(camera.focal) for camera in (old, new))
    near = pelvis[..., 2:]
    seen = pelvis[..., :2] / near * before + np.asarray(old.center)
    depth = near * after[..., :1] / before[..., :1]
    across = (seen - np.asarray(new.center)) / after * depth
    moved = np.concatenate([across, depth], -1) - rest
    return Estimate(estimate.pose, estimate.betas, jnp.asarray(moved, jnp.float32))


def _before(estimate: Estimate, body: SMPL, R: np.ndarray, t: np.ndarray) -> Estimate:
    """Moves bodies of a world to the frame of a camera: the root turns about the pelvis, not about
    the origin."""
    rest = _rest_pelvis(estimate, body)
    pelvis = (rest + np.asarray(estimate.translation)) @ R.T + t
    pose = np.array(estimate.pose)
    pose[..., 0, :, :] = R @ pose[..., 0, :, :]
    return Estimate(
        jnp.asarray(pose, jnp.float32), estimate.betas, jnp.asarray(pelvis - rest, jnp.float32)
    )


def _rest_pelvis(estimate: Estimate, body: SMPL) -> np.ndarray:
    betas = np.asarray(estimate.betas)
    known = np.nan_to_num(betas).reshape(-1, betas.shape[-1])
    return np.asarray(body.rest_joints(known))[:, 0].reshape(*betas.shape[:-1], 3)


def _from_file(
    path: Path, name: str | None, lead: tuple[int, ...], image_size: np.ndarray | None
) -> tuple[Camera, tuple[np.ndarray, np.ndarray] | None, str]:
    cameras = read_cameras(path)
    if name is not None:
        try:
            cameras = cameras.of([name])
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    if len(cameras.names) > 1:
        raise ValueError(
            f"{path}: {len(cameras.names)} cameras; give --camera-name, one of "
            f"{', '.join(cameras.names)}"
        )
    size = cameras.image_size[0]
    if image_size is not None:
        size = image_size
    if not np.isfinite(size).all():
        raise ValueError(f"{path}: no image size; give --image-size WIDTH HEIGHT")
    distortion = cameras.distortion[0]
    one = calibrated_camera(
        cameras.K[0].astype(np.float32),
        np.asarray(size, np.float32),
        distortion=distortion.astype(np.float32) if distortion.any() else None,
    )
    assert not camera_batch(one)
    fields = {
        key: jnp.broadcast_to(value, (*lead, *jnp.shape(value)))
        for key, value in vars(one).items()
        if value is not None
    }
    pose = None
    if cameras.R is not None and cameras.t is not None:
        pose = cameras.R[0], cameras.t[0]
    text = f"{cameras.names[0]} of {path.name}, focal length {float(one.focal[0]):.0f} pixels"
    return Camera(**fields), pose, text


def _span(numbers: np.ndarray) -> str:
    finite = np.asarray(numbers)[np.isfinite(numbers)]
    low, high = finite.min(), finite.max()
    return f"{low:.0f}" if round(low) == round(high) else f"{low:.0f} to {high:.0f}"
