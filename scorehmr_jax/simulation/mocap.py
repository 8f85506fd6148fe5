"""Motion capture as training poses: a file of clips, mirrored and turned before a camera."""

from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from body_model.io import read_npz
from body_model.joints import MIRROR, NUM_JOINTS
from body_model.rotations import axis_angle_to_matrix
from scorehmr_jax.types import Array

_CLIP_KEYS = {"names": "clip_names", "fps": "clip_fps", "split": "clip_split",
              "source": "clip_source"}  # fmt: skip
_KEYS = ("poses", "trans", "clip_index", *_CLIP_KEYS.values())

# Reflecting x negates the entries of a matrix that mix x with y or z: these signs for the
# first and the second column, the 6D of a joint.
_MIRROR_SIGNS = np.array([1, -1, -1, -1, 1, 1], np.float32)


@dataclass(frozen=True)
class Mocap:
    """Frames of many clips, one clip after the other. World frame: y up, any heading."""

    poses: np.ndarray  # [N, 24, 3] axis-angle, radians
    translations: np.ndarray  # [N, 3] metres
    clip: np.ndarray  # [N] the frame's clip, an index into what follows
    names: np.ndarray  # [C]
    fps: np.ndarray  # [C]
    split: np.ndarray  # [C] train, val or test
    source: np.ndarray  # [C] where the clip comes from

    def select(self, split: str, without: tuple[str, ...] = ()) -> "Mocap":
        """The frames of one split, less the clips of some sources.

        Raises:
            ValueError: if nothing is left.
        """
        wanted = (self.split == split) & ~np.isin(self.source, without)
        frames = wanted[self.clip]
        if not frames.any():
            splits = ", ".join(sorted(set(self.split.tolist())))
            raise ValueError(f"no clips in split {split!r} (there are: {splits}) without {without}")
        number = np.cumsum(wanted) - 1
        return Mocap(
            self.poses[frames], self.translations[frames], number[self.clip[frames]],
            self.names[wanted], self.fps[wanted], self.split[wanted], self.source[wanted],
        )  # fmt: skip


def read(path: str | Path) -> Mocap:
    """Reads clips from an .npz.

    Args:
        path: file with poses [N, 72] axis-angle in SMPL's order, trans [N, 3] metres,
            clip_index [N], and per clip clip_names, clip_fps, clip_split, clip_source.
    Raises:
        ValueError: if it cannot be read, a key is missing, a shape is wrong, or a number is not
            finite.
    """
    data = read_npz(path)
    missing = [key for key in _KEYS if key not in data]
    if missing:
        raise ValueError(f"{path}: expected the keys {', '.join(_KEYS)}; missing: {missing}")
    frames, clips = len(data["poses"]), len(data["clip_names"])
    shapes = {"poses": (frames, 3 * NUM_JOINTS), "trans": (frames, 3), "clip_index": (frames,)}
    shapes |= {key: (clips,) for key in _CLIP_KEYS.values()}
    for key, shape in shapes.items():
        if data[key].shape != shape:
            raise ValueError(f"{path}: {key}: expected shape {shape}, found {data[key].shape}")
    for key in ("poses", "trans"):
        if not np.isfinite(data[key]).all():
            raise ValueError(f"{path}: {key} holds numbers that are not finite; leave them out")
    index = data["clip_index"]
    if frames and not (index.min() >= 0 and index.max() < clips):
        raise ValueError(f"{path}: clip_index: expected 0 to {clips - 1}, found {index.max()}")
    return Mocap(
        data["poses"].reshape(frames, NUM_JOINTS, 3), data["trans"], index,
        **{field: data[key] for field, key in _CLIP_KEYS.items()},
    )  # fmt: skip


def mirror(pose_6d: Array) -> Array:
    """Poses [..., 144] reflected left to right (x to -x), in the body's and the camera's frame."""
    joints = pose_6d.reshape(*pose_6d.shape[:-1], NUM_JOINTS, 6)
    mirrored = joints[..., np.array(MIRROR), :] * _MIRROR_SIGNS.astype(pose_6d.dtype)
    return mirrored.reshape(pose_6d.shape)


def jitter(key: Array, pose_6d: Array, sigma: float) -> Array:
    """Poses [..., 144] with every joint turned at random, sigma radians about each axis.

    Captured joints lie on their source's rig: hinges that bend about one axis exactly, spines
    that share a turn in fixed parts. People do not, so a prior should not know it.
    """
    columns = pose_6d.reshape(*pose_6d.shape[:-1], NUM_JOINTS, 2, 3)
    turn = axis_angle_to_matrix(sigma * jax.random.normal(key, (*columns.shape[:-2], 3)))
    turned = jnp.einsum("...ij,...cj->...ci", turn, columns)
    return turned.reshape(pose_6d.shape).astype(pose_6d.dtype)


def rotate_root(rotation: Array, pose_6d: Array) -> Array:
    """Poses [..., 144] seen from a frame turned by rotations [..., 3, 3]."""
    columns = pose_6d[..., :6].reshape(*pose_6d.shape[:-1], 2, 3)
    turned = jnp.einsum("...ij,...cj->...ci", rotation, columns)
    return jnp.concatenate([turned.reshape(*turned.shape[:-2], 6), pose_6d[..., 6:]], axis=-1)


def camera_rotations(
    key: Array,
    shape: tuple[int, ...],
    pitch: tuple[float, float] = (-15.0, 30.0),
    roll: float = 5.0,
) -> Array:
    """Rotations from a world with y up to cameras with y down, held about as people hold them.

    Args:
        key: PRNG key.
        shape: leading axes of the result.
        pitch: bounds of a uniform angle, degrees; the camera looks down where it is positive.
        roll: standard deviation of the roll, degrees.
    Returns:
        [*shape, 3, 3]; the heading is uniform.
    """
    key_yaw, key_pitch, key_roll = jax.random.split(key, 3)
    yaw = jax.random.uniform(key_yaw, shape, minval=-np.pi, maxval=np.pi)
    low, high = np.deg2rad(pitch)
    tilt = jax.random.uniform(key_pitch, shape, minval=low, maxval=high)
    tip = jax.random.normal(key_roll, shape) * np.deg2rad(roll)

    def about(axis: int, angle: Array) -> Array:
        return axis_angle_to_matrix(angle[..., None] * np.eye(3)[axis])

    with jax.default_matmul_precision("float32"):
        return about(2, tip) @ about(0, np.pi + tilt) @ about(1, yaw)


def augment(key: Array, pose_6d: Array) -> Array:
    """Poses [N, 144] with y up, each before a camera of its own; half of them are mirrored."""
    key_camera, key_mirror = jax.random.split(key)
    shape = pose_6d.shape[:-1]
    flip = jax.random.bernoulli(key_mirror, shape=(*shape, 1))
    return rotate_root(
        camera_rotations(key_camera, shape), jnp.where(flip, mirror(pose_6d), pose_6d)
    )
