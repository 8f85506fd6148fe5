"""A case out of several calibrated views of one person, with triangulated points as the truth.

Everything is in files of our own or of Pose2Sim's: first estimates [V, N] with keypoints in an .npz
as `scorehmr refine` reads it, the points in a .trc or .npz, the cameras in any calibration file.
"""

import numpy as np
from numpy.typing import DTypeLike

from scorehmr_jax.calibration import calibrated_camera
from scorehmr_jax.camera import to_camera_frame
from scorehmr_jax.evaluation.benchmarks import Files, Protocol
from scorehmr_jax.evaluation.cases import Case, bodies
from scorehmr_jax.evaluation.comparison import Truth
from scorehmr_jax.formats.cameras import read_cameras
from scorehmr_jax.formats.estimates import read_estimates
from scorehmr_jax.formats.keypoints.read import read_keypoints
from scorehmr_jax.types import Camera, Estimate, Keypoints2D


def views_case(protocol: Protocol, files: Files, dtype: DTypeLike = np.float32) -> Case:
    """Reads the views of one person, frame by frame: a group is one moment seen by all cameras.

    Args:
        protocol: its joints are of OpenPose's 25.
        files: `data` holds the points in 3D, in the world of `cameras`; `estimates` our .npz, the
            axes of its arrays being views and frames, bodies in the frames of the cameras.
        dtype: of the arrays.
    Raises:
        ValueError: naming the file, if views, frames or units do not fit.
    """
    if files.cameras is None:
        raise ValueError(f"{protocol.name}: please give --cameras, the calibration of the views")
    body, skeleton = bodies(protocol, files, dtype)
    held = read_estimates(files.estimates)
    pose = np.asarray(held.estimate.pose)
    calibration = read_cameras(files.cameras)
    views = len(calibration.names)
    if pose.ndim != 5 or len(pose) != views or held.keypoints is None or held.camera is None:
        raise ValueError(
            f"{files.estimates}: expected pose [V, N, 24, 3, 3], keypoints and image_size of the "
            f"{views} views of {files.cameras}, found pose {list(pose.shape)}"
        )
    if calibration.R is None or calibration.t is None:
        raise ValueError(f"{files.cameras}: expected extrinsics of all cameras, found none")
    frames = pose.shape[1]
    people = read_keypoints(files.data).to("openpose-25")
    if people.points_3d is None or people.confidence_3d is None or people.xy.shape[1] != 1:
        raise ValueError(
            f"{files.data}: expected points in 3D of one person, found {people.xy.shape[1]} "
            f"people{'' if people.points_3d is not None else ' in 2D'}"
        )
    if len(people.points_3d) != frames:
        raise ValueError(
            f"{files.data}: expected {frames} frames, as {files.estimates} has, found "
            f"{len(people.points_3d)}"
        )
    world = calibrated_camera(calibration.K, calibration.image_size, calibration.R, calibration.t)
    points, seen = people.points_3d[:, 0], people.confidence_3d[:, 0] > 0
    flat = np.broadcast_to(points.reshape(1, -1, 3), (views, points.shape[0] * 25, 3))
    placed = np.asarray(to_camera_frame(flat.astype(np.float32), world))
    joints = placed.reshape(views, frames, 25, 3).swapaxes(0, 1)
    known = seen[:, list(protocol.joints)].all(-1)
    # Frames first, views second: a group is a moment.
    estimate = Estimate(*(_flat(a, dtype) for a in (pose, held.estimate.betas,
                                                    held.estimate.translation)))  # fmt: skip
    keypoints = Keypoints2D(
        _flat(held.keypoints.xy, dtype), _flat(held.keypoints.confidence, dtype)
    )
    camera = Camera(
        *(_flat(getattr(held.camera, f), dtype) for f in ("focal", "center", "image_size"))
    )
    count = frames * views
    whole = np.isfinite(estimate.pose).all((1, 2, 3))
    return Case(
        protocol,
        tuple(f"frame {n:05}, {name}" for n in range(frames) for name in calibration.names),
        (views,) * frames,
        # One motion: frames of one video say nothing of others, and so there is no interval.
        np.zeros(count, np.int32),
        estimate,
        Truth(
            joints.reshape(count, 25, 3).astype(dtype), np.repeat(known, views), keypoints, camera,
            None,
        ),
        body,
        skeleton,
        frames={
            "in the files": count,
            "left out by the protocol": int((~known).sum()) * views,
            "without an estimate": int((~whole).sum()),
            "without a detection": int((~(keypoints.confidence > 0).any(-1)).sum()),
        },
    )  # fmt: skip


def _flat(array: object, dtype: DTypeLike) -> np.ndarray:
    """[V, N, ...] as [N V, ...]."""
    turned = np.asarray(array, dtype).swapaxes(0, 1)
    return turned.reshape(-1, *turned.shape[2:])
