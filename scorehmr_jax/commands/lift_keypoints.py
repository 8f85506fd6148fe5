"""First estimates from a file of keypoints in 3D."""

import jax
import jax.numpy as jnp
import numpy as np

from body_model import SMPL
from body_model.joints import JOINT_NAMES
from scorehmr_jax.commands.estimate_cameras import Given, choose_camera
from scorehmr_jax.formats.bodies.people import Tracks
from scorehmr_jax.formats.keypoints.result import NO_ID, DetectedPeople
from scorehmr_jax.formats.own_estimates import RefineInput
from scorehmr_jax.types import Camera, Estimate, Keypoints2D


def lifted(
    found: DetectedPeople,
    model: SMPL,
    given: Given,
    size: np.ndarray | None,
    where: str,
    video: bool | None,
) -> RefineInput:
    """Makes first estimates of keypoints in 3D, placed by those in 2D.

    Args:
        found: of the file.
        model: the body.
        given: what the person says of the camera.
        size: width and height of the images, pixels, if known.
        where: begins messages.
        video: False if the images have nothing to do with each other.
    Raises:
        ValueError: if there are no points in 3D or in 2D, or it is not known who is who.
    """
    from scorehmr_jax.lift import make_lifter

    if found.points_3d is None:
        raise ValueError(
            f"{where}: keypoints in 2D alone; expected points in 3D (points_3d), from which a body "
            "can be made, or estimates beside them: scorehmr refine ESTIMATES --keypoints FILE; "
            "sh.lift_2d makes several bodies of points in 2D"
        )
    assert found.confidence_3d is not None
    if not found.confidence.any():
        raise ValueError(
            f"{where}: points in 3D without any in 2D; sh.lift makes bodies of them, and there is "
            "nothing to refine them by"
        )
    followed = list(found.tracks)
    if not followed and found.present.shape[1] > 1 and video is not False:
        raise ValueError(
            f"{where}: several people without ids, so who is who is not known; give ids [T, P]"
        )
    whole = found if video is False else found.with_missing_frames()
    each = [whole.track(one) for one in followed] or [whole]
    places = ("xy", "confidence", "points_3d", "confidence_3d", "present")
    xy, confidence, points, sure, present = (
        np.concatenate([getattr(one, name) for one in each], 1).swapaxes(0, 1) for name in places
    )
    blank = np.zeros((*present.shape, 10), np.float32)
    _, camera, _ = choose_camera(
        Estimate(
            np.zeros((*present.shape, 24, 3, 3), np.float32), blank, np.zeros_like(blank[..., :3])
        ),
        model,
        None,
        False,
        given,
        size,
    )
    known = {*JOINT_NAMES, *dict(model.landmarks)}
    names = [name if name in known else None for name in found.keypoint_set.names]
    plain = Camera(camera.focal, camera.center, camera.image_size)
    estimate, info = make_lifter(model, names)(
        points,
        np.where(present[..., None], sure, 0),
        keypoints=Keypoints2D(xy, np.where(present[..., None], confidence, 0)),
        camera=plain,
        shared_shape=video is not False,
    )
    placed = present & np.asarray(info.placed)
    estimate = jax.tree.map(
        lambda a: jnp.where(placed.reshape(*placed.shape, *(1,) * (a.ndim - 2)), a, jnp.nan),
        estimate,
    )
    ours = whole.to(max_offset=50)
    flat = [ours.track(one) for one in followed] or [ours]
    own = Keypoints2D(
        *(np.concatenate([getattr(o, n) for o in flat], 1).swapaxes(0, 1) for n in places[:2])
    )
    notes = ["bodies are lifted from the points in 3D"]
    if not placed.any():
        raise ValueError(f"{where}: nobody has three points in 3D and two in 2D")
    tracks = Tracks(
        placed,
        np.array(followed or [NO_ID] * len(placed)),
        whole.frame_numbers,
        whole.frame_names,
        video is not False,
        found.format,
        tuple(notes),
    )
    return RefineInput(estimate, own, None, None, tracks)
