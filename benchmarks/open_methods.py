"""Every method in every setting of the open benchmark, as tables that can be filled."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from body_model import Skeleton
from body_model.joints import OPENPOSE_25
from scorehmr_jax.baselines.methods import DEFAULT, LOOP, Method, make_method
from scorehmr_jax.baselines.registry import BASELINES, for_task
from scorehmr_jax.camera import project
from scorehmr_jax.evaluation import metrics
from scorehmr_jax.evaluation.cases import Case
from scorehmr_jax.evaluation.comparison import CAMERA, VIDEO, Comparison
from scorehmr_jax.evaluation.metric_table import METRICS, Metric
from scorehmr_jax.evaluation.tables.layout import Column, Row, Table
from scorehmr_jax.evaluation.tables.stand_ins import START, STRENGTHS
from scorehmr_jax.prior import Prior
from scorehmr_jax.types import Array

PRIORS = ("open-uncond", "open-cond")
CHOSEN = "open-cond"  # the better of them on the val split
DEFAULT_TITLE = f"default mode, {CHOSEN}"
# Of a method that is guided by the keypoints of all views beside their agreement.
_SEEN = "+keypoints"
_TOLD = ("scorehmr", "adam-free", "adam-pull", "smplify", "flow", "dposer")

_FEET = tuple(
    OPENPOSE_25.index(f"{side}_{point}")
    for side in ("left", "right")
    for point in ("big_toe", "small_toe", "heel")
)
_STILL = 0.005  # metres a frame below which a foot is taken to stand: 15 cm/s at 30 fps


def _sliding(c: Comparison) -> Array:
    """How far points of the feet move in a frame in which the true ones stand, mm."""
    feet = np.asarray(_FEET)
    found, true = (
        jnp.linalg.norm(jnp.diff(points[..., feet, :], axis=-3), axis=-1)
        for points in (c.placed, jnp.asarray(c.truth.joints))
    )
    stands = true < _STILL
    mean = jnp.where(stands, found, 0).sum(-1) / jnp.maximum(stands.sum(-1), 1)
    return jnp.where(stands.any(-1), metrics.MM_PER_M * mean, jnp.nan)


def _pixels(c: Comparison) -> Array:
    """How far keypoints lie from the true ones in the image, pixels."""
    assert c.truth.camera is not None
    count = c.truth.keypoints.xy.shape[-2]
    true = project(jnp.asarray(c.truth.joints)[..., :count, :], c.truth.camera)
    return metrics.keypoint_error(c.projected, true, jnp.ones(true.shape[:-1]))


# Cameras stand still and the truth is where it is said to be: more can be measured than elsewhere.
OPEN_METRICS = {name: METRICS[name] for name in ("re", "mpjpe", "pelvis", "accel")} | {
    metric.name: metric
    for metric in (
        Metric("pixels", "2D error", "px", _pixels, {CAMERA}),
        Metric("slide", "foot sliding", "mm/frame", _sliding, {VIDEO}, fewer=1),
    )
}


def table_of(setting: str) -> Table:
    """Lists every method of a setting, with the columns of all strengths.

    Args:
        setting: a task.
    """
    rows = [Row("first estimate", START)]
    rows += [Row(BASELINES[name].label, START, name) for name in for_task(setting)]
    rows += [Row(f"released, {prior}", START, LOOP, prior) for prior in PRIORS]
    if setting == "multiview":
        for name in _TOLD:
            prior = CHOSEN if name == LOOP else None
            title = f"released, {CHOSEN}" if name == LOOP else BASELINES[name].label
            rows.append(Row(f"{title}, with keypoints", START, name + _SEEN, prior))
    rows.append(Row(DEFAULT_TITLE, START, DEFAULT, CHOSEN))
    columns = tuple(
        Column(f"open-{setting}-{strength}", name, strength)
        for strength in STRENGTHS
        for name, metric in OPEN_METRICS.items()
        if VIDEO not in metric.needs or setting == "video"
    )
    return Table(f"open-{setting}", setting, columns, tuple(rows), reference=DEFAULT_TITLE)


def prepare(name: str, case: Case, prior: Prior | None, changes: Mapping[str, Any]) -> Method:
    """Makes a method of a table ready.

    Args:
        name: one of METHODS, with "+keypoints" after it if the default mode's evidence guides it.
        case: what it is for.
        prior: of the loop.
        changes: of the loop's configuration.
    """
    plain = name.removesuffix(_SEEN)
    skeleton, protocol = Skeleton.of(case.body, OPENPOSE_25), case.protocol
    method = make_method(plain, skeleton, protocol.how, prior, changes, fps=protocol.fps)
    return method if plain == name else replace(method, mode="default")
