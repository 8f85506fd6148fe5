"""SMPL bodies in JAX, usable alone: `load` one, or take `open_body()`, which needs no licence."""

from body_model.io import load, load_regressor, save
from body_model.open_body import open_body
from body_model.skeleton import Skeleton
from body_model.smpl import SMPL
from body_model.stand_in import stand_in

__all__ = ["SMPL", "Skeleton", "load", "load_regressor", "open_body", "save", "stand_in"]
