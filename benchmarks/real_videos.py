"""Pose2Sim's demo of one man, from its four videos to keypoints and first estimates.

The videos and their calibration lie in the wheel pose2sim 0.10.49 (BSD-3-Clause):

    pip download --no-deps pose2sim==0.10.49

All that follows is the package's own: MediaPipe's networks find the man in each video alone,
exchanged sides are put right, the lens's distortion is taken out, and `lift` makes a body of the
landmarks. What the networks find can be kept, so that later runs are quick.
"""

import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import jax
import jax.numpy as jnp
import numpy as np

import scorehmr_jax as sh
from body_model import SMPL
from body_model.files import read_npz, write_npz
from body_model.joints import JOINT_NAMES
from scorehmr_jax.detectors.protocol import Detections
from scorehmr_jax.detectors.sides import with_sides_put_right
from scorehmr_jax.formats.cameras import read_cameras
from scorehmr_jax.formats.pictures import open_pictures
from scorehmr_jax.lift import make_lifter

VIEWS = ("cam01", "cam02", "cam03", "cam04")
_DEMO = "Pose2Sim/Demo_SinglePerson/"
_CALIBRATION = "calibration/Calib.qca.txt"


@dataclass(frozen=True)
class Seen:
    """What the videos tell of one man before V cameras in N frames."""

    camera: sh.Camera  # [V] as calibrated, with poses in the world; no distortion is left
    keypoints: sh.Keypoints2D  # [V, N, 25] of OpenPose, pixels of these cameras
    estimate: sh.Estimate  # [V, N] of each view alone, in the frame of its camera
    exchanged: np.ndarray  # [V, N] sides were put right
    seconds: dict[str, float]  # a frame: to detect (of the run that did), to lift once compiled


def see(videos: Path, body: SMPL, kept: Path | None = None) -> Seen:
    """Finds the man in each video, and makes first estimates.

    Args:
        videos: the wheel, or a folder with what is in its Pose2Sim/Demo_SinglePerson.
        body: of the estimates.
        kept: a folder for what the networks find. It is read from there if it is there.
    """
    with _demo(videos) as folder:
        file = read_cameras(folder / _CALIBRATION).of(VIEWS)
        found = [_detected(folder / f"videos/{view}.mp4", kept) for view in VIEWS]
    camera = sh.calibrated_camera(
        *(jnp.asarray(a, jnp.float32) for a in (file.K, file.image_size, file.R, file.t)),
        distortion=jnp.asarray(file.distortion, jnp.float32),
    )
    exchanged, straight, seconds = [], [], {"detect": 0.0, "lift": 0.0}
    for view, (detections, took) in enumerate(found):
        seconds["detect"] += took / len(VIEWS)
        detections, sides = with_sides_put_right(detections)
        exchanged.append(sides[0])
        lens = jax.tree.map(lambda a, view=view: a[view], camera)
        straight.append(replace(detections, xy=np.asarray(sh.undistort(detections.xy, lens))))
    camera = replace(camera, distortion=None)
    estimate, seconds["lift"] = lifted(body, straight, camera)
    keypoints = jax.tree.map(
        lambda *views: jnp.concatenate(views), *(d.as_openpose() for d in straight)
    )
    return Seen(camera, keypoints, estimate, np.array(exchanged), seconds)


def lifted(body: SMPL, views: list[Detections], camera: sh.Camera) -> tuple[sh.Estimate, float]:
    """Bodies [V, N] of what was detected, one shape a view; and seconds a frame once compiled."""
    known = {*JOINT_NAMES, *dict(body.landmarks)}
    lifter = make_lifter(body, [name if name in known else None for name in views[0].names])
    points, xy, sure = (
        np.concatenate([np.nan_to_num(getattr(d, name)) for d in views]).astype(np.float32)
        for name in ("points", "xy", "confidence")
    )
    alone = replace(camera, rotation=None, translation=None)
    alone = jax.tree.map(
        lambda a: jnp.broadcast_to(a[:, None], (*sure.shape[:2], *a.shape[1:])), alone
    )

    def run() -> sh.Estimate:
        keypoints = sh.Keypoints2D(xy, sure)
        return lifter(points, sure, keypoints=keypoints, camera=alone, shared_shape=True)[0]

    jax.block_until_ready(run())
    start = time.perf_counter()
    estimate = jax.block_until_ready(run())
    return estimate, (time.perf_counter() - start) / sure[..., 0].size


def _detected(video: Path, kept: Path | None) -> tuple[Detections, float]:
    """What the networks find in a video, and the seconds a frame that they took."""
    file = None if kept is None else kept / f"{video.stem}.npz"
    if file is not None and file.is_file():
        held = read_npz(file)
        arrays = {f.name: held[f.name] for f in fields(Detections) if f.name != "names"}
        return Detections(names=tuple(map(str, held["names"])), **arrays), float(held["seconds"])
    from scorehmr_jax.detectors.mediapipe import MediaPipePose

    start = time.perf_counter()
    found = MediaPipePose(track=True)(open_pictures(video))
    seconds = (time.perf_counter() - start) / len(found.image_size)
    if not found.found.all():
        raise ValueError(f"{video}: somebody in all frames was expected; is it Pose2Sim's demo?")
    if file is not None:
        arrays = {f.name: np.asarray(getattr(found, f.name)) for f in fields(found)}
        write_npz(file, arrays | {"seconds": np.float64(seconds)})
    return found, seconds


@contextmanager
def _demo(videos: Path) -> Iterator[Path]:
    """The demo's folder, unpacked if it is in a wheel."""
    if videos.is_dir():
        yield videos
        return
    with TemporaryDirectory() as folder, zipfile.ZipFile(videos) as wheel:
        inside = [name for name in wheel.namelist() if name.startswith(_DEMO)]
        inside = [name for name in inside if name.endswith((_CALIBRATION, ".mp4"))]
        wheel.extractall(folder, inside)
        yield Path(folder) / _DEMO
