"""Posed meshes as .obj and .ply, one file for each frame. Needs trimesh, imported on first use."""

import os

import numpy as np
from jaxtyping import Int, Real

from body_model.files import local_path, writing
from scorehmr_jax.types import Array

SUFFIXES = (".obj", ".ply")


def save_mesh(
    path: str | os.PathLike[str], vertices: Real[Array, "V 3"], faces: Int[Array, "F 3"]
) -> None:
    """Writes a mesh, its vertices in their order, whole or not at all.

    Args:
        path: the file, its suffix .obj or .ply.
        vertices: [V, 3] metres.
        faces: [F, 3] vertices of each, counter-clockwise seen from outside.
    Raises:
        ValueError: if the suffix is another, or a vertex is not finite.
        ImportError: if trimesh is not installed.
    """
    path = local_path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path}: expected {' or '.join(SUFFIXES)}, found {path.suffix or 'none'}")
    if not np.isfinite(np.asarray(vertices)).all():
        raise ValueError(f"{path}: vertices: found NaN or infinity; leave this frame out")
    try:
        import trimesh
    except ImportError as error:
        raise ImportError(
            f"{path}: writing meshes needs trimesh: pip install 'scorehmr-jax[viz]'"
        ) from error
    # Unprocessed: the order of vertices is what other frames and the body's file have too.
    mesh = trimesh.Trimesh(np.asarray(vertices, float), np.asarray(faces), process=False)
    content = mesh.export(file_type=path.suffix.lower()[1:])
    with writing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)
