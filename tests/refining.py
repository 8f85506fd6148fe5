"""A small refinement problem that several test files share."""

from functools import cache

import jax
import numpy as np
from bodies import Scene, close, scene, small_prior

from body_model import Skeleton, stand_in
from body_model.joints import SMPL_24
from scorehmr_jax.guidance import Term, keypoints_2d, smooth
from scorehmr_jax.prior import Prior
from scorehmr_jax.refine import RefineConfig
from scorehmr_jax.types import Estimate, Refined

# Short and small, so that it compiles fast: two rounds of three steps, of the joints alone.
CONFIG = RefineConfig(iterations=2, start=6, step=2)
N = 6

tree = jax.tree.map


@cache
def skeleton() -> Skeleton:
    return Skeleton.of(stand_in(), SMPL_24)


@cache
def prior() -> Prior:
    return small_prior()


@cache
def people() -> Scene:
    return scene(skeleton(), N)


def parts(people: Scene) -> tuple:
    return people.estimate, people.features, people.keypoints, people.camera


def rows(people: Scene, which) -> Scene:
    return Scene(*(tree(lambda a: a[which], part) for part in parts(people)))


def spoil(array, value=np.nan, row=2):
    """One number of one row replaced."""
    return array.at[(row, *(0,) * (array.ndim - 1))].set(value)


def evidence(people: Scene, smoothness: float = 0.0, weight: float = 0.003) -> tuple[Term, ...]:
    """Terms of one kind whatever the weights: they compile once."""
    return keypoints_2d(people.keypoints, people.camera, weight=weight), smooth(weight=smoothness)


def same(found: Refined, wanted: Refined, atol: float = 1e-5, among=slice(None)) -> None:
    for name in ("pose", "betas", "translation", "pose_6d"):
        close(
            name,
            np.asarray(getattr(found, name))[among],
            np.asarray(getattr(wanted, name))[among],
            atol=atol,
        )


def is_estimate(found: Refined, estimate: Estimate, row: int) -> None:
    for name in ("pose", "betas", "translation"):
        np.testing.assert_array_equal(getattr(found, name)[row], getattr(estimate, name)[row])


def double(part):
    return tree(lambda a: np.asarray(a, np.float64), part)
