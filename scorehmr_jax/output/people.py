"""Bodies over time, as the .npz of `scorehmr refine` has them, ready to be written for others."""

import dataclasses
import os
import warnings
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from body_model import SMPL, fit_shape, move
from body_model.files import Npz, read_npz
from body_model.joints import NUM_JOINTS
from body_model.rotations import matrix_to_quaternion, quaternion_to_matrix
from body_model.smpl import pose_matrices
from scorehmr_jax.formats.own_estimates import has_first, read_fps
from scorehmr_jax.screening import PADDING
from scorehmr_jax.units import not_rotations

DEFAULT_FPS = 30.0
# One program each: operation by operation they would take seconds to compile.
_quaternions, _rotations = jax.jit(matrix_to_quaternion), jax.jit(quaternion_to_matrix)
_SAME_SHAPE = 0.05  # shape numbers that differ less from frame to frame are one shape


@dataclass(frozen=True)
class Person:
    """One body over T frames. Frames without a body hold NaN, or what was put there by `filled`."""

    pose: Float[np.ndarray, "T 24 3 3"]  # rotations
    betas: Float[np.ndarray, "T B"]
    translation: Float[np.ndarray, "T 3"]  # metres
    present: Bool[np.ndarray, " T"]  # False: no body was found in this frame
    row: int = 0  # of this person among those in the file

    def shape(self) -> Float[np.ndarray, " B"]:
        """Gives the one shape of all frames: their mean, with a warning if they differ."""
        known = self.betas[self.present]
        if np.ptp(known, axis=0).max() > _SAME_SHAPE:
            warnings.warn(
                "betas: every frame has a shape of its own; a file with one skeleton takes their "
                f"mean (they differ by up to {np.ptp(known, axis=0).max():.2g})",
                stacklevel=2,
            )
        return known.mean(0)

    def filled(self) -> "Person":
        """Puts bodies into frames without one, so that the others keep their time.

        Between two frames with a body, rotations and places go evenly from one to the other; before
        the first and after the last the body stands still. `present` stays as it is.
        """
        if self.present.all():
            return self
        known = np.flatnonzero(self.present)
        times = np.clip(np.arange(len(self.present)), known[0], known[-1])
        after = np.searchsorted(known, times)
        before = np.maximum(after - (known[after] > times), 0)
        first, last = known[before], known[after]
        share = (times - first) / np.maximum(last - first, 1)
        betas, translation = (
            a[first] + share[:, None] * (a[last] - a[first]) for a in (self.betas, self.translation)
        )
        pose = np.where(
            self.present[:, None, None, None],
            self.pose,
            _between(self.pose[first], self.pose[last], share),
        )
        return dataclasses.replace(self, pose=pose, betas=betas, translation=translation)

    def moved(
        self, body: SMPL, rotation: Float[np.ndarray, "3 3"], offset: Float[np.ndarray, " 3"]
    ) -> "Person":
        """Gives the same bodies in another frame, R x + t; see `body_model.move`."""
        pose, translation = move(body, self.pose, self.betas, self.translation, rotation, offset)
        return dataclasses.replace(
            self, pose=np.asarray(pose), translation=np.asarray(translation, float)
        )

    def converted(self, source: SMPL, target: SMPL) -> tuple["Person", float]:
        """Gives the same bodies in the parameters of another body; see `body_model.convert_body`.

        Args:
            source: the body that they are of.
            target: the body that they shall be of.
        Returns:
            The bodies, of one shape, and how far the shapes differ, metres.
        """
        shape = self.shape().astype(np.float32)
        found, distance = fit_shape(source, shape, target)
        pelvis = (
            np.asarray(source.rest_joints(shape))[0],
            np.asarray(target.rest_joints(found))[0],
        )
        person = dataclasses.replace(
            self,
            betas=np.tile(np.asarray(found, float), (len(self.present), 1)),
            translation=self.translation + pelvis[0] - pelvis[1],
        )
        return person, float(distance)


def read_people(path: str | os.PathLike[str]) -> tuple[list[Person], float | None]:
    """Reads bodies over time from an .npz such as `scorehmr refine` writes.

    The keys are those of `read_estimates`, of which `pose` (or `pose_axis_angle`), `betas` and
    `translation` are enough. Leading axes [T] are one body over time, [P, T] are P bodies. A frame
    counts as one without a body if its numbers are not finite or its `status` is padding. A key
    `fps`, if there is one, is the frame rate.

    Args:
        path: of the .npz.
    Returns:
        The people who are in any frame, and frames per second, None if the file does not say.
    Raises:
        ValueError: naming the file and key, if an array is missing or has another shape, or no
            frame has a body.
    """
    arrays = read_npz(path)
    people = _people(arrays)
    if not people:
        raise ValueError(f"{arrays.path}: no frame has a body: every one holds NaN or is padding")
    return people, read_fps(arrays)


def read_first(path: str | os.PathLike[str]) -> list[Person]:
    """Reads the first estimates that the bodies in an .npz were refined from.

    The keys are `first_pose`, `first_betas` and `first_translation`, of the axes of the bodies.

    Args:
        path: of the .npz, such as `scorehmr refine` writes.
    Returns:
        The people who have one in any frame; none if the file does not hold them.
    Raises:
        ValueError: naming the file and key, if an array is missing or has another shape.
    """
    arrays = read_npz(path)
    if not has_first(arrays):
        return []
    lead = arrays["translation"].shape[:-1]
    if arrays["first_translation"].shape[:-1] != lead:
        raise ValueError(
            f"{arrays.path}: first_translation: expected one for each body {lead}, found shape "
            f"{arrays['first_translation'].shape}"
        )
    return _people(arrays, "first_")


def _people(arrays: Npz, prefix: str = "") -> list[Person]:
    """People of three keys, who are in any frame."""
    pose, betas, translation = _numbers(arrays, prefix)
    lead = translation.shape[:-1]
    rows = (-1, lead[-1] if lead else 1)
    present = np.isfinite(pose).all((-3, -2, -1)) & np.isfinite(betas).all(-1)
    present &= np.isfinite(translation).all(-1)
    if "status" in arrays and arrays["status"].shape == lead:
        present &= arrays["status"] != PADDING
    odd = not_rotations(pose.reshape(-1, NUM_JOINTS, 3, 3)).reshape(lead) & present
    if odd.any():
        warnings.warn(
            f"{arrays.path}: {prefix}pose: expected rotations, found others in "
            f"{np.count_nonzero(odd)} of {odd.size} frames, which count as frames without a body",
            stacklevel=3,
        )
    pose, betas, translation, present = (
        a.reshape(*rows, *a.shape[len(lead) :]) for a in (pose, betas, translation, present & ~odd)
    )
    people = [
        Person(pose[row], betas[row], translation[row], present[row], row)
        for row in range(len(present))
    ]
    return [person for person in people if person.present.any()]


def frame_rate(
    source: str | os.PathLike[str], given: float | None, known: float | None, frames: int
) -> float:
    """Chooses frames per second: those given, those the file says, or 30 with a warning.

    Args:
        source: the file, which the warning names.
        given: by the user.
        known: to the file, as `read_people` gives it.
        frames: a single one needs no rate.
    Raises:
        ValueError: if the rate given is not above 0.
    """
    if given is not None and not 0 < given < np.inf:
        raise ValueError(f"--fps: expected frames per second, above 0; found {given}")
    if given is None and known is None and frames > 1:
        warnings.warn(
            f"{source}: does not say how many frames are a second; {DEFAULT_FPS:g} are assumed. "
            "Give --fps",
            stacklevel=2,
        )
    return given or known or DEFAULT_FPS


def _numbers(arrays: Npz, prefix: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pose in rotations, betas and translation of the same leading axes."""
    path = arrays.path
    betas, translation = (
        np.asarray(arrays[prefix + key], float) for key in ("betas", "translation")
    )
    key = prefix + "pose"
    if not prefix and key not in arrays:
        key = "pose_axis_angle"
    pose = np.asarray(arrays[key], float)
    lead = translation.shape[:-1]
    if key == "pose_axis_angle" and pose.shape == (*lead, 3 * NUM_JOINTS):
        pose = pose.reshape(*lead, NUM_JOINTS, 3)
    fits = pose.shape in ((*lead, NUM_JOINTS, 3), (*lead, NUM_JOINTS, 3, 3))
    if translation.shape[-1:] != (3,) or betas.shape[:-1] != lead or not fits or 0 in lead:
        raise ValueError(
            f"{path}: expected {key} [T, 24, 3, 3], {prefix}betas [T, B] and {prefix}translation "
            f"[T, 3] of the same frames, found {pose.shape}, {betas.shape} and {translation.shape}"
        )
    known = np.isfinite(pose).all(axis=tuple(range(len(lead), pose.ndim)))
    matrices = np.array(pose_matrices(jnp.asarray(pose, jnp.float32)), float)
    return np.where(known[..., None, None, None], matrices, np.nan), betas, translation


def _between(first: np.ndarray, last: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Rotations on the shortest way from one to another (slerp), by the share of the way."""
    a, b = (np.asarray(_quaternions(jnp.asarray(r)), float) for r in (first, last))
    cosine = np.sum(a * b, -1, keepdims=True)
    b, cosine = np.where(cosine < 0, -b, b), np.abs(cosine)
    angle = np.arccos(np.minimum(cosine, 1))
    t = share[:, None, None]
    near = angle < 1e-4
    sine = np.where(near, 1, np.sin(angle))
    mixed = np.where(
        near,
        a + t * (b - a),
        (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / sine,
    )
    return np.asarray(_rotations(jnp.asarray(mixed)), float)
