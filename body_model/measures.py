"""Lengths of a body, measured in its rest pose."""

import jax.numpy as jnp
from jaxtyping import Float, Real

from body_model.joints import JOINT_NAMES
from body_model.pytree import Array
from body_model.smpl import SMPL

# Distances between joints of the rest pose, by name.
LENGTHS = {
    "shoulder_width": ("left_shoulder", "right_shoulder"),
    "hip_width": ("left_hip", "right_hip"),
    "trunk": ("pelvis", "neck"),
    **{
        f"{side}_{name}": (f"{side}_{first}", f"{side}_{last}")
        for side in ("left", "right")
        for name, first, last in (
            ("upper_arm", "shoulder", "elbow"),
            ("forearm", "elbow", "wrist"),
            ("thigh", "hip", "knee"),
            ("shin", "knee", "ankle"),
        )
    },
}


def measure(
    body: SMPL, betas: Real[Array, "*batch n"] | None = None
) -> dict[str, Float[Array, "*batch"]]:
    """Measures a shape in the rest pose, in which SMPL stands upright with arms stretched out.

    - `height`: from the lowest to the highest vertex, along y
    - `arm_span`: from finger tip to finger tip, along x
    - `head`: from the joint of the neck to the highest vertex, along y
    - `shoulder_width`, `hip_width`: between the joints of both sides, which lie inside the body
    - `trunk`: from pelvis to neck
    - `left_upper_arm`, `left_forearm`, `left_thigh`, `left_shin`, and so on the right: between
      the joints at their ends

    Args:
        body: an SMPL body.
        betas: [..., n] the first n shape numbers; the mean shape without.
    Returns:
        Metres [...], by name. They can be differentiated by betas.
    Raises:
        ValueError: if there are more shape numbers than the body has.
    """
    vertices, joints = body.shaped(betas), body.rest_joints(betas)
    place = {name: joints[..., index, :] for index, name in enumerate(JOINT_NAMES)}
    low, high = jnp.min(vertices, axis=-2), jnp.max(vertices, axis=-2)
    found: dict[str, Array] = {
        "height": high[..., 1] - low[..., 1],
        "arm_span": high[..., 0] - low[..., 0],
        "head": high[..., 1] - place["neck"][..., 1],
    }
    for name, (first, last) in LENGTHS.items():
        found[name] = jnp.linalg.norm(place[first] - place[last], axis=-1)
    return found
