"""The metrics that an evaluation reports, in one table.

Another metric is one more entry of METRICS: it appears in the printed table, in metrics.json and in
per_sample.npz, before (`reg_NAME`) and after refinement (`opt_NAME`). The arithmetic is in
metrics.py.
"""

from collections.abc import Callable, Set
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from body_model import SMPL, Skeleton
from scorehmr_jax.camera import in_front
from scorehmr_jax.evaluation import metrics
from scorehmr_jax.evaluation.comparison import BODY, CAMERA, NEEDS, VIDEO, Comparison, Truth
from scorehmr_jax.evaluation.protocol import Protocol
from scorehmr_jax.types import Array, Estimate

# Many data sets give joints about the pelvis, not where they are: then the pelvis is nearer.
_LEAST_DEPTH = 0.5


@dataclass(frozen=True)
class Metric:
    """A figure of each sample."""

    name: str  # in files, after reg_ and opt_
    title: str  # in print
    unit: str
    measure: Callable[[Comparison], Array]  # [..., N - fewer]; NaN where it cannot be known
    needs: Set[str] = frozenset()  # of CAMERA, BODY, VIDEO
    fewer: int = 0  # T frames have T - fewer values; that of frames t, t + 1, ... is stored at t
    by_sequence: bool = False  # its mean over each sequence is reported, too

    def __post_init__(self) -> None:
        object.__setattr__(self, "needs", frozenset(self.needs))
        if unknown := self.needs - NEEDS:
            raise ValueError(
                f"metric {self.name}: needs: expected some of {sorted(NEEDS)}, found "
                f"{sorted(unknown)}"
            )


def _pelvis(c: Comparison) -> Array:
    found, true = c.pelvis
    return metrics.pelvis_error(found, true, c.known & (true[..., 2] > _LEAST_DEPTH))


def _keypoints(c: Comparison) -> Array:
    seen = (c.truth.keypoints.confidence > 0) & in_front(c.openpose)[..., None]
    return metrics.keypoint_error(c.projected, c.truth.keypoints.xy, seen)


def _vertices(c: Comparison) -> Array:
    assert c.truth.body is not None
    return jnp.where(c.truth.body.known, metrics.pve(*c.meshes), jnp.nan)


def _acceleration(c: Comparison) -> Array:
    return metrics.acceleration_error(c.found, c.true, c.known)


METRICS = {
    metric.name: metric
    for metric in (
        Metric("mpjpe", "MPJPE", "mm", lambda c: metrics.mpjpe(c.found, c.true, c.known_joints)),
        Metric("re", "PA-MPJPE", "mm", lambda c: metrics.pa_mpjpe(c.found, c.true, c.known_joints)),
        Metric("pve", "PVE", "mm", _vertices, {BODY}),
        Metric("pelvis", "pelvis error", "mm", _pelvis),
        Metric("2d", "2D error", "px", _keypoints, {CAMERA}),
        Metric(
            "accel",
            "acceleration error",
            "mm/frame^2",
            _acceleration,
            {VIDEO},
            2,
            by_sequence=True,
        ),
        Metric(
            "accel_m_s2",
            "acceleration error",
            "m/s^2",
            lambda c: _acceleration(c) * (c.protocol.fps**2 / metrics.MM_PER_M),
            {VIDEO},
            2,
            by_sequence=True,
        ),
        Metric(
            "jitter",
            "jitter (WHAM, camera frame)",
            "10 m/s^3",
            lambda c: metrics.jitter(c.placed, c.protocol.fps),
            {VIDEO},
            3,
        ),
    )
}


def measure(
    table: tuple[Metric, ...],
    protocol: Protocol,
    skeleton: Skeleton,
    model: SMPL,
    body: Estimate,
    truth: Truth,
    mask: Bool[Array, "*N"],
    others: tuple[SMPL, ...] = (),
) -> dict[str, Float[Array, "..."]]:
    """Works out every metric that can be; the table and the protocol are static.

    Args:
        table: entries of METRICS.
        protocol: decides which joints are measured.
        skeleton: of the protocol's keypoints.
        model: the body model; only metrics of the mesh use it.
        body: of samples [..., N], where N is one sequence if the task is video.
        truth: of the same samples.
        mask: False for padding, which follows the samples of a group.
        others: more body models, of the truth alone.
    Returns:
        By name, the figure of each sample [..., N], or [..., N - fewer] of a metric of several
        frames. NaN is what cannot be known.
    """
    comparison = Comparison(protocol, skeleton, model, body, truth, mask, others)
    out: dict[str, Array] = {}
    with jax.default_matmul_precision("float32"):
        for metric in table:
            if metric.needs <= comparison.offers and mask.shape[-1] > metric.fewer:
                # Padding comes last, so the last of several frames decides.
                real = mask[..., metric.fewer :]
                out[metric.name] = jnp.where(real, metric.measure(comparison), jnp.nan)
    return out
