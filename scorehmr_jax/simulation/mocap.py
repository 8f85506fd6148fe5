"""Motion capture as training poses: a file of clips, mirrored and turned before a camera."""

from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Key, Real, Shaped

from body_model.files import read_npz, warn_of_unread
from body_model.joints import MIRROR, NUM_JOINTS
from body_model.rotations import axis_angle_to_matrix
from scorehmr_jax.types import Array, Number
from scorehmr_jax.units import check_axis_angle, check_frame_rates

# Fields of `Mocap`, and the file's keys for them.
_CLIP_KEYS = {
    "names": "clip_names",
    "fps": "clip_fps",
    "split": "clip_split",
    "collection": "clip_source",
}
_KEYS = ("poses", "trans", "clip_index", *_CLIP_KEYS.values())
_OTHERS = ("split", "clip_subject", "clip_length", "clip_description")  # that are not needed
_NUMBERS = ("poses", "trans", "clip_index", "clip_fps")
_TEXTS = ("clip_names", "clip_split", "clip_source")
_SPLITS = ("train", "val", "test", "heldout")

# Reflecting x negates the entries of a matrix that mix x with y or z: these signs for the
# first and the second column, the 6D of a joint.
_MIRROR_SIGNS = np.array([1, -1, -1, -1, 1, 1], np.float32)


@dataclass(frozen=True)
class Mocap:
    """Frames of many clips, one clip after the other. World frame: y up, any heading."""

    poses: Float[np.ndarray, "N 24 3"]  # axis-angle, radians
    translations: Float[np.ndarray, "N 3"]  # metres
    clip: Int[np.ndarray, " N"]  # the frame's clip, an index into what follows
    names: Shaped[np.ndarray, " C"]
    fps: Real[np.ndarray, " C"]
    split: Shaped[np.ndarray, " C"]  # train, val or test
    collection: Shaped[np.ndarray, " C"]  # of motions that the clip is from

    def select(self, split: str, without: tuple[str, ...] = ()) -> "Mocap":
        """Keeps the frames of one split.

        Args:
            split: train, val or test.
            without: collections whose clips are left out.
        Returns:
            What is left, its clips numbered anew.
        Raises:
            ValueError: if nothing is left.
        """
        wanted = (self.split == split) & ~np.isin(self.collection, without)
        frames = wanted[self.clip]
        if not frames.any():
            splits = ", ".join(sorted(set(self.split.tolist())))
            raise ValueError(f"no clips in split {split!r} (there are: {splits}) without {without}")
        number = np.cumsum(wanted) - 1
        return Mocap(
            self.poses[frames],
            self.translations[frames],
            number[self.clip[frames]],
            **{field: getattr(self, field)[wanted] for field in _CLIP_KEYS},
        )


def read(path: str | Path) -> Mocap:
    """Reads clips from an .npz.

    Args:
        path: file with poses [N, 72] axis-angle in SMPL's order, trans [N, 3] metres,
            clip_index [N] integers, and for each clip clip_names, clip_fps, clip_split and
            clip_source, the collection it is from.
    Returns:
        The clips.
    Raises:
        ValueError: if the file cannot be read, a key is missing, a shape or type is wrong, a number
            is not finite, angles are in degrees, an index is not that of a clip, a frame rate is
            none or a split is another.
    """
    data = read_npz(path)
    missing = [key for key in _KEYS if key not in data]
    if missing:
        raise ValueError(f"{path}: expected the keys {', '.join(_KEYS)}; missing: {missing}")
    warn_of_unread(str(path), {*data, *data.objects}, _KEYS, _OTHERS)
    for key in _NUMBERS:
        if data[key].dtype.kind not in "fiu":
            raise ValueError(f"{path}: {key}: expected numbers, found {data[key].dtype}")
    frames, clips = (data[key].shape[:1] or (1,) for key in ("poses", "clip_names"))
    shapes = {"poses": (*frames, 3 * NUM_JOINTS), "trans": (*frames, 3), "clip_index": frames}
    shapes |= {key: clips for key in _CLIP_KEYS.values()}
    for key, shape in shapes.items():
        if data[key].shape != shape:
            raise ValueError(f"{path}: {key}: expected shape {shape}, found {data[key].shape}")
    for key in ("poses", "trans"):
        if not np.isfinite(data[key]).all():
            raise ValueError(f"{path}: {key} holds numbers that are not finite; leave them out")
    check_axis_angle(data["poses"], f"{path}: poses")
    check_frame_rates(data["clip_fps"], f"{path}: clip_fps")
    index = data["clip_index"]
    if index.dtype.kind not in "iu":
        raise ValueError(f"{path}: clip_index: expected integers, found {index.dtype}")
    (count,) = clips
    unknown = index[(index < 0) | (index >= count)]
    if len(unknown):
        raise ValueError(f"{path}: clip_index: expected 0 to {count - 1}, found {unknown[0]}")
    texts = {
        key: _as_text(path, key, data[key]) for key in _CLIP_KEYS.values() if key != "clip_fps"
    }
    odd = sorted({*texts["clip_split"].tolist()} - {*_SPLITS})
    if odd:
        raise ValueError(
            f"{path}: clip_split: expected {', '.join(_SPLITS)}, found {odd[0]!r}; correct it: "
            "such clips would be in no split"
        )
    return Mocap(
        _as_float(data["poses"]).reshape(-1, NUM_JOINTS, 3),
        _as_float(data["trans"]),
        index,
        **{field: texts.get(key, data[key]) for field, key in _CLIP_KEYS.items()},
    )


def _as_text(path: str | Path, key: str, values: np.ndarray) -> np.ndarray:
    """Turns bytes, which h5py and old numpy make of text, into text."""
    if values.dtype.kind == "S":
        return np.char.decode(values, "utf-8", "replace")
    if values.dtype.kind != "U":
        raise ValueError(f"{path}: {key}: expected text, found {values.dtype}")
    return values


def _as_float(array: np.ndarray) -> np.ndarray:
    """Turns whole numbers into fractions, which rotations of them need."""
    return array if array.dtype.kind == "f" else array.astype(np.float32)


def mirror(pose_6d: Float[Array, "*N 144"]) -> Float[Array, "*N 144"]:
    """Reflects poses left to right (x to -x), in the body's and the camera's frame.

    Args:
        pose_6d: [..., 144] poses in 6D.
    Returns:
        [..., 144].
    """
    joints = pose_6d.reshape(*pose_6d.shape[:-1], NUM_JOINTS, 6)
    signs = jnp.broadcast_to(_MIRROR_SIGNS.astype(pose_6d.dtype), joints.shape)
    return (joints[..., np.array(MIRROR), :] * signs).reshape(pose_6d.shape)


def jitter(
    key: Key[Array, ""], pose_6d: Float[Array, "*N 144"], sigma: Number
) -> Float[Array, "*N 144"]:
    """Turns every joint at random.

    Captured joints obey the rig that they were captured with: hinges bend about one axis exactly,
    spines share a turn in fixed parts. People do not, so a prior should not know it.

    Args:
        key: PRNG key.
        pose_6d: [..., 144] poses in 6D.
        sigma: standard deviation about each axis, radians.
    Returns:
        [..., 144].
    """
    columns = pose_6d.reshape(*pose_6d.shape[:-1], NUM_JOINTS, 2, 3)
    turn = axis_angle_to_matrix(sigma * jax.random.normal(key, (*columns.shape[:-2], 3)))
    turned = jnp.einsum("...ij,...cj->...ci", turn, columns)
    return turned.reshape(pose_6d.shape).astype(pose_6d.dtype)


def rotate_root(
    rotation: Float[Array, "*N 3 3"], pose_6d: Float[Array, "*N 144"]
) -> Float[Array, "*N 144"]:
    """Changes the frame that poses are seen from.

    Args:
        rotation: [..., 3, 3] from the old frame to the new one.
        pose_6d: [..., 144] poses in 6D.
    Returns:
        [..., 144]; but for the root, nothing is changed.
    """
    columns = pose_6d[..., :6].reshape(*pose_6d.shape[:-1], 2, 3)
    turned = jnp.einsum("...ij,...cj->...ci", rotation, columns)
    return jnp.concatenate([turned.reshape(*turned.shape[:-2], 6), pose_6d[..., 6:]], axis=-1)


def camera_rotations(
    key: Key[Array, ""],
    shape: tuple[int, ...],
    pitch: tuple[float, float] = (-15.0, 30.0),
    roll: float = 5.0,
) -> Float[Array, "*N 3 3"]:
    """Draws rotations from a world with y up to cameras with y down, held as people hold them.

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

    with jax.default_matmul_precision("float32"):
        return turn_about(2, tip) @ turn_about(0, np.pi + tilt) @ turn_about(1, yaw)


def roll(
    key: Key[Array, ""], sigma: Number, *poses_6d: Float[Array, "N 144"]
) -> tuple[Float[Array, "N 144"], ...]:
    """Rolls the cameras of half of the samples: phones and action cameras are held at a slant.

    Args:
        key: PRNG key.
        sigma: standard deviation of the roll, degrees.
        poses_6d: [N, 144] poses of the same samples in the cameras' frames.
    Returns:
        The same, each sample of all turned alike.
    """
    key_which, key_angle = jax.random.split(key)
    count, dtype = poses_6d[0].shape[:1], poses_6d[0].dtype
    angle = jnp.deg2rad(sigma) * jax.random.normal(key_angle, count, dtype)
    turn = turn_about(2, jnp.where(jax.random.bernoulli(key_which, shape=count), angle, 0))
    return tuple(rotate_root(turn, pose) for pose in poses_6d)


def turn_about(axis: int, angle: Float[Array, "*N"]) -> Float[Array, "*N 3 3"]:
    """Makes rotations about a coordinate axis.

    Args:
        axis: 0, 1 or 2.
        angle: [...] radians.
    Returns:
        [..., 3, 3].
    """
    along = jnp.broadcast_to(np.eye(3, dtype=angle.dtype)[axis], (*angle.shape, 3))
    return axis_angle_to_matrix(angle[..., None] * along)


def augment(key: Key[Array, ""], pose_6d: Float[Array, "N 144"]) -> Float[Array, "N 144"]:
    """Puts each pose before a camera of its own and mirrors half of them.

    Args:
        key: PRNG key.
        pose_6d: [N, 144] poses in 6D, y up.
    Returns:
        [N, 144] in the cameras' frames.
    """
    key_camera, key_mirror = jax.random.split(key)
    shape = pose_6d.shape[:-1]
    flip = jax.random.bernoulli(key_mirror, shape=(*shape, 1))
    return rotate_root(
        camera_rotations(key_camera, shape), jnp.where(flip, mirror(pose_6d), pose_6d)
    )
