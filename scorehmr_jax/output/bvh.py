"""Moving skeletons as .bvh, which animation programs read."""

import os
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Real

from body_model.files import write_text
from body_model.joints import JOINT_NAMES, NUM_JOINTS, PARENTS
from body_model.smpl import SMPL
from scorehmr_jax.output.gltf import CAMERA_TO_GLTF
from scorehmr_jax.output.motion import checked_motion
from scorehmr_jax.types import Array

_ORDER = "Zrotation Xrotation Yrotation"
_CHILDREN = [[c for c, parent in enumerate(PARENTS) if parent == j] for j in range(NUM_JOINTS)]
_END = 0.5  # length of the last bone of a limb, which SMPL does not have, in the one before it


def save_bvh(
    path: str | os.PathLike[str],
    body: SMPL,
    poses: Real[Array, "T 24 3 3"] | Real[Array, "T 24 3"],
    betas: Real[Array, " B"],
    translation: Real[Array, "T 3"],
    fps: float = 30.0,
    camera_frame: bool = True,
) -> None:
    """Writes a moving skeleton as a BVH file, in metres, with y up.

    The offsets are those of the rest pose (a T-pose) of the shape `betas`; the root's channels
    are the place of the pelvis. Angles are Euler angles in degrees, R = R_z R_x R_y. Joints have
    the names of `body_model.joints` and come limb by limb. Feet, hands and head get a last bone
    that SMPL does not have, half as long as the one before it.

    Args:
        path: the file to write, its suffix .bvh.
        body: the body.
        poses: [T, 24, 3, 3] rotations or [T, 24, 3] axis-angle.
        betas: [B] one shape for the whole motion.
        translation: [T, 3] metres.
        fps: frames per second.
        camera_frame: poses and translation are in a camera frame (y down, z forward) and are
            turned to y up; with False they are y up already.
    Raises:
        ValueError: naming the file, if there is no frame, if the numbers of frames or shapes do
            not fit, if a number is not finite, if fps is not above 0, or if the suffix is another.
    """
    path, rotations, places = checked_motion(path, ".bvh", poses, betas, translation, fps)
    frames = len(rotations)
    to_y_up = CAMERA_TO_GLTF if camera_frame else np.eye(3)
    rest = np.asarray(body.rest_joints(betas), float)
    rotations[:, 0] = to_y_up @ rotations[:, 0]
    # The body turns about its pelvis, so that is the point that the root's channels place.
    root = (rest[0] + places) @ to_y_up.T
    order = list(_walk(0))
    angles = np.degrees(_euler_angles(rotations))[:, order]
    numbers = np.concatenate([root, angles.reshape(frames, -1)], axis=1)
    head = [
        "HIERARCHY",
        *_joint(0, rest, 0),
        "MOTION",
        f"Frames: {frames}",
        f"Frame Time: {1 / fps:.10f}",
    ]
    rows = (" ".join(f"{x:.6f}" for x in row) for row in numbers)
    write_text(path, "\n".join([*head, *rows, ""]))


def _walk(joint: int) -> Iterator[int]:
    """Joints in the order of the file: each before its children, limb by limb."""
    yield joint
    for child in _CHILDREN[joint]:
        yield from _walk(child)


def _joint(joint: int, rest: np.ndarray, depth: int) -> Iterator[str]:
    """The lines of a joint and of those below it."""
    tab = "\t" * depth
    bone = rest[joint] - rest[PARENTS[joint]]
    offset = bone if joint else np.zeros(3)  # the root's channels say where it is
    yield f"{tab}{'JOINT' if joint else 'ROOT'} {JOINT_NAMES[joint]}"
    yield f"{tab}{{"
    yield f"{tab}\tOFFSET {_triple(offset)}"
    places = "" if joint else "Xposition Yposition Zposition "
    yield f"{tab}\tCHANNELS {3 if joint else 6} {places}{_ORDER}"
    for child in _CHILDREN[joint]:
        yield from _joint(child, rest, depth + 1)
    if not _CHILDREN[joint]:
        yield from (f"{tab}\tEnd Site", f"{tab}\t{{")
        yield from (f"{tab}\t\tOFFSET {_triple(_END * bone)}", f"{tab}\t}}")
    yield f"{tab}}}"


def _triple(values: np.ndarray) -> str:
    return " ".join(f"{x:.6f}" for x in values)


def _euler_angles(rotations: Float[np.ndarray, "T J 3 3"]) -> Float[np.ndarray, "T J 3"]:
    """Angles a, b, c of R = R_z(a) R_x(b) R_y(c), radians, that go on from frame to frame."""
    r = rotations
    a = np.arctan2(-r[..., 0, 1], r[..., 1, 1])
    b = np.arctan2(r[..., 2, 1], np.hypot(r[..., 0, 1], r[..., 1, 1]))
    # Of what is left when a is undone: so a that is arbitrary, at b = 90 degrees, does no harm.
    sine, cosine = np.sin(a), np.cos(a)
    c = np.arctan2(
        cosine * r[..., 0, 2] + sine * r[..., 1, 2], cosine * r[..., 0, 0] + sine * r[..., 1, 0]
    )
    angles = np.stack([a, b, c], axis=-1)
    # Every rotation has two such triples, and whole turns more. Programs blend angles, so the
    # nearest to those of the frame before are taken.
    other = np.stack([a + np.pi, np.pi - b, c + np.pi], axis=-1)
    for t in range(1, len(angles)):
        both = np.stack([angles[t], other[t]])
        both -= 2 * np.pi * np.round((both - angles[t - 1]) / (2 * np.pi))
        far = np.abs(both - angles[t - 1]).sum(-1)
        angles[t] = np.where((far[0] <= far[1])[..., None], both[0], both[1])
    return angles
