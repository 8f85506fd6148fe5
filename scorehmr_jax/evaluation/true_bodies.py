"""The truth of recordings, of bodies of any gender or of joints alone, in the frames of cameras."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import DTypeLike

from body_model import SMPL, Skeleton
from body_model.io import load
from body_model.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from scorehmr_jax.camera import to_camera_frame
from scorehmr_jax.evaluation.bodies import skeleton_of
from scorehmr_jax.evaluation.comparison import TrueBody
from scorehmr_jax.evaluation.protocol import Files, Protocol
from scorehmr_jax.formats.recordings.recording import Recording, TrueJoints, TrueMotion
from scorehmr_jax.types import Array, Camera

_CHUNK = 256  # frames whose true joints are worked out at once
# Joints of the file that lie farther than this from those of the body are of another body.
_SAME_BODY = 10.0  # mm


def true_bodies(
    protocol: Protocol,
    files: Files,
    recordings: Sequence[Recording],
    body: SMPL,
    dtype: DTypeLike,
) -> dict[str, tuple[SMPL, Skeleton]]:
    """Loads the body of each gender that the truth has.

    Args:
        protocol: says whether the truth is of the subject's gender.
        files: with the bodies.
        recordings: with the truth.
        body: of the estimates.
        dtype: of the bodies.
    Returns:
        By gender, the body and its reduction to the protocol's keypoints.
    Raises:
        ValueError: naming what is missing.
    """
    genders = {r.truth.gender for r in recordings if isinstance(r.truth, TrueMotion)}
    found = {}
    for gender in sorted(genders):
        model, path = body, getattr(files, f"body_{gender}", None)
        if gender != "neutral" and not protocol.neutral_truth:
            if path is None:
                raise ValueError(
                    f"{protocol.name}: the truth is of {' and '.join(sorted(genders))} bodies; "
                    f"please give --body-{gender}: SMPL_{gender.upper()}.pkl of "
                    "https://smpl.is.tue.mpg.de"
                )
            model = load(path, dtype=dtype)
        found[gender] = model, skeleton_of(model, protocol, files)
    return found


def truths(
    protocol: Protocol,
    recordings: Sequence[Recording],
    kept: Sequence[np.ndarray],
    of_gender: Mapping[str, tuple[SMPL, Skeleton]],
    models: Sequence[SMPL],
) -> tuple[Bool[np.ndarray, " N"], Float[np.ndarray, "N K 3"], TrueBody | None]:
    """Brings the truth of all samples into the frames of their cameras.

    Args:
        protocol: whose keypoints are wanted.
        recordings: with the truth.
        kept: of each recording, the frames that are samples.
        of_gender: from `true_bodies`.
        models: those bodies in the order in which TrueBody numbers them.
    Returns:
        Which samples have true joints, these in metres, and the true bodies.
    """
    known, joints, poses, betas, numbers = [], [], [], [], []
    for recording, rows in zip(recordings, kept, strict=True):
        camera = jax.tree.map(lambda a, rows=rows: a[rows], recording.camera)
        if isinstance(recording.truth, TrueJoints):
            points, seen = _arranged(protocol, recording.truth, rows, camera)
            known.append(seen[:, list(protocol.joints)].all(-1))
            joints.append(points)
            continue
        truth = recording.truth
        model, skeleton = of_gender[truth.gender]
        parts = truth.pose[rows], truth.betas[rows], truth.translation[rows]
        points, pose = _in_chunks(skeleton, *parts, camera)
        _check_body(recording, rows, model, truth)
        known.append(np.isfinite(points).all((1, 2)))
        joints.append(points)
        poses.append(pose)
        betas.append(parts[1])
        number = next(i for i, other in enumerate(models) if other is model)
        numbers.append(np.full(len(pose), number, np.int32))
    body = None
    if poses:
        body = TrueBody(*map(np.concatenate, (poses, betas, known, numbers)))
    return np.concatenate(known), np.concatenate(joints), body


@jax.jit
def _placed(
    skeleton: Skeleton, pose: Array, betas: Array, translation: Array, camera: Camera
) -> tuple[Array, Array]:
    """Keypoints in the camera frame, and the pose with its root there."""
    points = to_camera_frame(skeleton(pose, betas, translation), camera)
    with jax.default_matmul_precision("float32"):
        root = jnp.asarray(camera.rotation) @ axis_angle_to_matrix(pose[:, 0])
    return points, jnp.asarray(pose).at[:, 0].set(matrix_to_axis_angle(root))


def _in_chunks(skeleton: Skeleton, *parts: Any) -> tuple[np.ndarray, np.ndarray]:
    """`_placed` by a program of one size."""
    dtype = np.asarray(skeleton.rest).dtype
    done: list[Any] = []
    count = len(parts[0])
    for start in range(0, count, _CHUNK):
        rows = np.minimum(np.arange(start, start + _CHUNK), count - 1)
        chunk = jax.tree.map(lambda a, rows=rows: np.asarray(a[rows], dtype), parts)
        done.append(jax.tree.map(np.asarray, _placed(skeleton, *chunk)))
    points, pose = (np.concatenate(arrays)[:count] for arrays in zip(*done, strict=True))
    return points, pose


def _check_body(recording: Recording, rows: np.ndarray, model: SMPL, truth: TrueMotion) -> None:
    """Warns if the file's own joints are not those of the body: another gender or model."""
    if truth.joints is None or not recording.counts.any():
        return
    some = np.flatnonzero(recording.counts)[:8]
    some = np.pad(some, (0, 8 - len(some)), mode="edge")
    dtype = np.asarray(model.template).dtype
    parts = (np.asarray(a[some], dtype) for a in (truth.pose, truth.betas, truth.translation))
    apart = np.linalg.norm(np.asarray(_joints(model, *parts)) - truth.joints[some], axis=-1)
    if (distance := 1000 * float(apart.mean())) > _SAME_BODY:
        warnings.warn(
            f"{recording.name}: the joints of the file lie {distance:.0f} mm from those of the "
            f"{truth.gender} body that was given: it is of another gender or model, or betas, "
            "trans and cam_poses are of another version of the data set",
            stacklevel=4,
        )


@jax.jit
def _joints(model: SMPL, pose: Array, betas: Array, translation: Array) -> Array:
    return model.joints(pose, betas, translation)


def _arranged(
    protocol: Protocol, truth: TrueJoints, rows: np.ndarray, camera: Camera
) -> tuple[np.ndarray, np.ndarray]:
    """True joints in the protocol's order and the camera frame, and which are seen."""
    turned = np.einsum("nij,nkj->nki", np.asarray(camera.rotation), truth.points[rows])
    points = turned + np.asarray(camera.translation)[:, None]
    out = np.zeros((len(points), len(protocol.keypoints), 3))
    seen = np.zeros(out.shape[:2], bool)
    # Of two points of a name, the later is the one that is measured.
    place = {name: i for i, name in enumerate(protocol.keypoints)}
    for source, name in enumerate(truth.names):
        if name in place:
            out[:, place[name]] = points[:, source]
            seen[:, place[name]] = truth.seen[rows, source]
    return out, seen
