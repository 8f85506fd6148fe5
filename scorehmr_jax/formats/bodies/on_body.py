"""Estimates of one body model on another: the same pose, with the pelvis in the same place."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from body_model import SMPL
from scorehmr_jax.formats.bodies.rows import Model
from scorehmr_jax.types import Estimate

# The pelvis of the neutral bodies at rest, with mean shape, metres. A translation is added to it,
# so the same translation puts the two bodies at different heights.
REST_PELVIS: dict[Model, tuple[float, float, float]] = {
    "smpl": (-0.00179506, -0.22333382, 0.02821918),
    "smplx": (0.0031, -0.3514, 0.0120),
}
_NAMES = {"smpl": "SMPL", "smplx": "SMPL-X"}
_VERTICES: dict[int, Model] = {6890: "smpl", 10475: "smplx"}


def on_body(
    estimate: Estimate, model: Model, body: SMPL | None, keep_shape: bool = False
) -> tuple[Estimate, str]:
    """Moves estimates of one body model to another.

    Args:
        estimate: [..., N] of `model`.
        model: whose shape numbers and rest pose these are.
        body: that they are for; SMPL without.
        keep_shape: True to take the shape numbers as they are, though another model's mean
            something else.
    Returns:
        The estimate, and what was done; "" if nothing had to be.
    """
    wanted = "smpl" if body is None else _VERTICES.get(len(body.template))
    if wanted == model:
        return estimate, ""
    shape = np.asarray(estimate.betas)
    if not keep_shape:
        shape = np.where(np.isfinite(shape), 0, shape)
    pelvis = np.array(REST_PELVIS[model])
    moved = np.asarray(estimate.translation) + (pelvis - _pelvis(body)).astype(np.float32)
    name = _NAMES[wanted] if wanted else "this body"
    note = f"shape numbers of {_NAMES[model]} are not {name}'s: "
    note += "taken as they are" if keep_shape else "mean shape; the pelvis stays where it is"
    return Estimate(estimate.pose, jnp.asarray(shape), jnp.asarray(moved)), note


def _pelvis(body: SMPL | None) -> Float[np.ndarray, " 3"]:
    if body is None:
        return np.array(REST_PELVIS["smpl"])
    return np.asarray(body.joint_regressor)[0] @ np.asarray(body.template)
