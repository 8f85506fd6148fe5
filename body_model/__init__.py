"""SMPL bodies in JAX, usable alone: `load` one, or take `open_body()`, which needs no licence."""

from body_model.skeleton import Skeleton
from body_model.smpl import SMPL

__all__ = ["SMPL", "Skeleton"]
