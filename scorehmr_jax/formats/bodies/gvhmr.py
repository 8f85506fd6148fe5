"""GVHMR's hmr4d_results.pt.

Read at: zju3dv/GVHMR, hmr4d/model/gvhmr/gvhmr_pl_demo.py (smpl_params_incam and smpl_params_global
with body_pose [T, 63], global_orient [T, 3], betas [T, 10] and transl [T, 3], K_fullimg [T, 3, 3])
and tools/demo/demo.py, which gives them to SMPL-X. One person; K's center is the image's middle.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from scorehmr_jax.formats.bodies.contents import has
from scorehmr_jax.formats.bodies.rows import (
    Rows,
    key,
    of_each,
    rotations,
    shaped,
    smpl_pose,
)

READ = ("smpl_params_incam", "K_fullimg")
OTHERS = ("smpl_params_global", "net_outputs")


def is_file(held: Any) -> bool:
    """True for a table with its parameters in the camera's frame."""
    return has(held, "smpl_params_incam")


def read(held: Mapping[str, Any], where: str, image_size: np.ndarray | None = None) -> Rows:
    """Reads the person in the camera's frame; GVHMR's world is left out.

    Args:
        held: as the file has it.
        where: begins messages.
        image_size: width and height, pixels; without it twice K's center.
    Raises:
        ValueError: naming file and key.
    """
    inner, at = held["smpl_params_incam"], f"{where}: smpl_params_incam"
    translation = key(inner, "transl", at)
    count = len(translation)
    parts = [key(inner, name, at) for name in ("global_orient", "body_pose")]
    pose, left = smpl_pose(rotations(parts, count, at), at)
    matrix = of_each(key(held, "K_fullimg", where), count, 9, f"{where}: K_fullimg")
    matrix = matrix.reshape(count, 3, 3)
    center = matrix[:, :2, 2]
    size = 2 * center if image_size is None else np.broadcast_to(image_size, (count, 2))
    return Rows(
        pose,
        of_each(key(inner, "betas", at), count, 10, f"{at}: betas"),
        shaped(translation, (count, 3), f"{at}: transl"),
        np.arange(count),
        np.zeros(count, int),
        matrix[:, [0, 1], [0, 1]],
        center,
        size.astype(np.float32),
        model="smplx",
        notes=(left,) if left else (),
    )
