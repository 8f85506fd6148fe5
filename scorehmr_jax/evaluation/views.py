"""A case out of several calibrated views of one person, with triangulated points as the truth.

Everything is in files of our own or of Pose2Sim's: first estimates [V, N] with keypoints in an .npz
as `scorehmr refine` reads it, the points in a .trc or .npz, the cameras in any calibration file.
"""

import numpy as np
from numpy.typing import DTypeLike

from scorehmr_jax.calibration import calibrated_camera
from scorehmr_jax.camera import to_camera_frame
from scorehmr_jax.evaluation.bodies import bodies
from scorehmr_jax.evaluation.cases import Case
from scorehmr_jax.evaluation.comparison import Truth
from scorehmr_jax.evaluation.protocol import Files, Protocol
from scorehmr_jax.formats.cameras import read_cameras
from scorehmr_jax.formats.estimates import read_estimates
from scorehmr_jax.formats.keypoints.read import read_keypoints
from scorehmr_jax.types import Camera, Estimate, Keypoints2D

# Frames that are drawn together for intervals.
_BLOCK = 10


def views_case(protocol: Protocol, files: Files, dtype: DTypeLike = np.float32) -> Case:
    """Reads the views of one person: a group is a moment seen by all cameras, or a view's video.

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
    joints = placed.reshape(views, frames, 25, 3)
    known = np.asarray(seen[:, list(protocol.joints)].all(-1))
    # The views of a moment are a group, or the frames of a view.
    by_moment = protocol.task == "multiview"
    group = views if by_moment else frames

    def flat_rows(array: object) -> np.ndarray:
        held = np.asarray(array)
        held = held.swapaxes(0, 1) if by_moment else held
        return held.reshape(-1, *held.shape[2:])

    def numbers(array: object) -> np.ndarray:
        return flat_rows(array).astype(dtype)

    moment = flat_rows(np.broadcast_to(np.arange(frames), (views, frames)))
    view = flat_rows(np.broadcast_to(np.arange(views)[:, None], (views, frames)))
    points_2d = held.keypoints
    estimate = Estimate(*map(numbers, (pose, held.estimate.betas, held.estimate.translation)))
    keypoints = Keypoints2D(numbers(points_2d.xy), numbers(points_2d.confidence))
    camera = Camera(*(numbers(getattr(held.camera, f)) for f in ("focal", "center", "image_size")))
    missing = ~np.isfinite(estimate.pose).all((1, 2, 3))
    unseen = ~(np.asarray(keypoints.confidence) > 0).any(-1)
    counts = known[moment]
    return Case(
        protocol,
        tuple(f"{calibration.names[v]}/{n:05}" for v, n in zip(view, moment, strict=True)),
        (len(moment),) if protocol.task == "keypoints" else (group,) * (len(moment) // group),
        (moment // _BLOCK).astype(np.int32),
        estimate,
        Truth(numbers(joints), counts, keypoints, camera, None),
        body,
        skeleton,
        frames={
            "in the files": len(moment),
            "left out by the protocol": int((~counts).sum()),
            "without an estimate": int((counts & missing).sum()),
            "without a detection": int((counts & unseen).sum()),
        },
        notes=(
            f"intervals are over blocks of {_BLOCK} frames: they tell of this video alone, and are "
            "too narrow where motion lasts longer",
        ),
    )
