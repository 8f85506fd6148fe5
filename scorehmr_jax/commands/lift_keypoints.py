"""First estimates from a file of keypoints: of their points in 3D, or of those in 2D alone."""

from collections.abc import Sequence
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from body_model import SMPL
from body_model.joints import JOINT_NAMES
from scorehmr_jax.commands.estimate_cameras import Given, choose_camera
from scorehmr_jax.formats.bodies.people import Tracks
from scorehmr_jax.formats.keypoints.result import NO_ID, DetectedPeople
from scorehmr_jax.formats.own_estimates import RefineInput
from scorehmr_jax.types import Camera, Estimate, Keypoints2D

_MOVEMENT = 0.05  # metres that a joint moves between frames, about the root


def lifted(
    found: DetectedPeople,
    model: SMPL,
    given: Given,
    size: np.ndarray | None,
    where: str,
    video: bool | None,
) -> RefineInput:
    """Makes first estimates of keypoints in 3D, placed by those in 2D; or of those in 2D alone.

    Of points in 2D the likeliest of several bodies is taken (`lift_2d`); in a video those that move
    least from frame to frame, of one shape.

    Args:
        found: of the file.
        model: the body.
        given: what the person says of the camera.
        size: width and height of the images, pixels, if known.
        where: begins messages.
        video: False if the images have nothing to do with each other.
    Raises:
        ValueError: if there are no points in 2D, or it is not known who is who.
    """
    from scorehmr_jax.lift import make_lifter

    if not found.confidence.any():
        raise ValueError(
            f"{where}: no points in 2D; sh.lift makes bodies of points in 3D, but there is nothing "
            "to refine them by"
        )
    followed = list(found.tracks)
    if not followed and found.present.shape[1] > 1 and video is not False:
        raise ValueError(
            f"{where}: several people without ids, so who is who is not known; give ids [T, P]"
        )
    whole = found if video is False else found.with_missing_frames()
    each = [whole.track(one) for one in followed] or [whole]

    def gathered(name: str, of: Sequence[DetectedPeople]) -> np.ndarray:
        return np.concatenate([getattr(one, name) for one in of], 1).swapaxes(0, 1)

    xy, confidence, present = (gathered(name, each) for name in ("xy", "confidence", "present"))
    seen = Keypoints2D(xy, np.where(present[..., None], confidence, 0))
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
    if found.points_3d is None:
        estimate = _of_2d(model, names, seen, plain, video is not False)
        placed = present & np.isfinite(np.asarray(estimate.translation)).all(-1)
        note = "bodies are the likeliest that could be seen like this: nothing tells their depth"
    else:
        estimate, info = make_lifter(model, names)(
            gathered("points_3d", each),
            np.where(present[..., None], gathered("confidence_3d", each), 0),
            keypoints=seen,
            camera=plain,
            shared_shape=video is not False,
        )
        placed = present & np.asarray(info.placed)
        note = "bodies are lifted from the points in 3D"
    estimate = jax.tree.map(
        lambda a: jnp.where(placed.reshape(*placed.shape, *(1,) * (a.ndim - 2)), a, jnp.nan),
        estimate,
    )
    ours = whole.to(max_offset=50)
    flat = [ours.track(one) for one in followed] or [ours]
    own = Keypoints2D(gathered("xy", flat), gathered("confidence", flat))
    if not placed.any():
        raise ValueError(
            f"{where}: nobody has three points in 3D and two in 2D, or four in 2D that a body has"
        )
    tracks = Tracks(
        placed,
        np.array(followed or [NO_ID] * len(placed)),
        whole.frame_numbers,
        whole.frame_names,
        video is not False,
        found.format,
        (note,),
    )
    return RefineInput(estimate, own, None, None, tracks)


def _of_2d(
    model: SMPL, names: list[str | None], seen: Keypoints2D, camera: Camera, video: bool
) -> Estimate:
    """Bodies [P, T] of points in 2D; NaN where too few are seen."""
    from scorehmr_jax.lift_2d import lift_2d
    from scorehmr_jax.load import load_prior

    key, prior = jax.random.key(0), load_prior("open-uncond")
    several, score = lift_2d(key, prior, model, names, seen, camera)
    if not video:
        return jax.tree.map(lambda a: a[0], several)
    joints = np.asarray(jax.jit(model.joints)(several.pose, several.betas))
    score = np.asarray(score)
    chosen = np.stack([steadiest(score[:, p], joints[:, p]) for p in range(score.shape[1])])

    def of_choice(array: jax.Array) -> jax.Array:
        index = chosen.reshape(1, *chosen.shape, *(1,) * (array.ndim - 3))
        return jnp.take_along_axis(array, jnp.asarray(index), 0)[0]

    found: Estimate = jax.tree.map(of_choice, several)
    shape = jnp.nanmedian(found.betas, axis=1, keepdims=True)
    shape = jnp.where(jnp.isfinite(found.betas), shape, jnp.nan)
    return Estimate(found.pose, shape, found.translation)


def steadiest(
    score: Float[np.ndarray, "H T"], joints: Float[np.ndarray, "H T J 3"]
) -> Int[np.ndarray, " T"]:
    """Chooses one of H bodies in each frame of a video: likely ones that move little.

    The path of the least sum of scores and squared movements, by dynamic programming.

    Args:
        score: the lower the likelier, as minus a log density; infinite where there is no body.
        joints: of the bodies, metres; the first is the root, which does not count.
    Returns:
        Indices into H; 0 in frames without any body.
    """
    chosen = np.zeros(score.shape[1], int)
    frames = np.flatnonzero(np.isfinite(score).any(0))
    if not len(frames):
        return chosen
    centred = joints - joints[..., :1, :]
    cost, came_from = score[:, frames[0]], []
    for before, after in pairwise(frames):
        moved = centred[:, None, before] - centred[None, :, after]
        step = cost[:, None] + np.nan_to_num((moved**2).sum((-2, -1))) / (2 * _MOVEMENT**2)
        came_from.append(step.argmin(0))
        cost = step.min(0) + score[:, after]
    last = int(cost.argmin())
    for frame, back in zip(frames[:0:-1], reversed(came_from), strict=True):
        chosen[frame] = last
        last = int(back[last])
    chosen[frames[0]] = last
    return chosen
