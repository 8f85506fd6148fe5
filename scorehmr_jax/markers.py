"""Bodies from the optical markers of motion capture: where a person's markers sit, and the poses.

The places are known to a few centimetres only and are the same in all frames: `attach_markers`
finds them with the person's shape from some frames, and `fit_markers` the pose in every frame. The
parts are in marker_places.py (where labs put markers), marker_points.py (markers as points of a
body) and lift_steps.py (the steps).
"""

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Real, Shaped

from body_model import SMPL
from body_model.joints import JOINT_NAMES
from body_model.pytree import Array, Number, pytree
from scorehmr_jax.lift_points import BodyPoints, place
from scorehmr_jax.lift_start import first_pose
from scorehmr_jax.lift_steps import Evidence, Pose, Shape, matrices, steps
from scorehmr_jax.marker_places import PLUG_IN_GAIT, MarkerPlace
from scorehmr_jax.marker_points import held, on_skin, with_free_places
from scorehmr_jax.pose_gaussian import PoseGaussian
from scorehmr_jax.units import check_joints

_AT_ONCE = 512  # frames
_ROUNDS = 3  # of steps; in all but the first, markers far off count less
_LEAST = 3  # markers without which nothing is known of the root's rotation
_HANDS = [JOINT_NAMES.index(name) - 1 for name in ("left_hand", "right_hand")]
_STIFF = 1e6  # 1 / radians^2


@pytree
class MarkerConfig:
    """How far markers may lie beside the body, and how many frames and steps are worked with."""

    noise: Number = 0.01  # standard deviation of a marker in a frame, metres: skin moves
    # Metres beside the body at which a marker counts a quarter: exchanged, or put on anew.
    tolerance: Number = 0.03
    off_skin: Number = 0.01  # from the skin to the middle of a marker, metres
    # Frames that tell apart where markers sit; more do not tell more, as skin moves alike in many.
    independent: Number = 8.0
    usual: Number = 0.3  # weight of usual poses where poses are sought
    usual_attaching: Number = 0.1  # and where places are: there, all frames pull the same way
    frames: int = field(default=150, metadata={"static": True})  # that places are sought in
    steps: int = field(default=15, metadata={"static": True})  # a round; there are three


@pytree
class AttachedMarkers:
    """One person's shape, and where the markers sit on it. From `attach_markers`."""

    points: BodyPoints  # the markers on the body of that shape
    betas: Float[Array, " B"]
    offsets: Float[Array, "K 3"]  # from the vertices of `PLUG_IN_GAIT` in the rest pose, metres
    names: tuple[str, ...] = field(metadata={"static": True})

    def placed(
        self, pose: Float[Array, "T 24 3 3"], translation: Float[Array, "T 3"]
    ) -> Float[Array, "T K 3"]:
        """Places all markers on the body in a pose, those too that were not seen.

        Args:
            pose: [T, 24, 3, 3] rotations.
            translation: [T, 3] metres.
        Returns:
            [T, K, 3] metres.
        """
        with jax.default_matmul_precision("float32"):
            points = jax.tree.map(jnp.asarray, self.points)
            found = place(points, jnp.moveaxis(pose, 0, -1), jnp.zeros((0, len(pose)))).points
        return jnp.moveaxis(found, -1, 0) + translation[:, None]


@pytree
class MarkerFit:
    """Poses that were fitted to markers."""

    pose: Float[Array, "T 24 3 3"]  # rotations; the root's in the axes of the markers
    betas: Float[Array, " B"]
    translation: Float[Array, "T 3"]  # metres, in these axes
    distance: Float[Array, "T K"]  # from each marker to the body's, metres; NaN where not seen
    found: Bool[Array, " T"]  # False: fewer than three markers, the pose means nothing


def attach_markers(
    body: SMPL,
    names: Sequence[str],
    points: Real[Array, "T K 3"],
    seen: Shaped[Array, "T K"] | None = None,
    *,
    places: Mapping[str, MarkerPlace] = PLUG_IN_GAIT,
    config: MarkerConfig | None = None,
) -> AttachedMarkers:
    """Finds a person's shape and where the markers sit, from frames of many poses.

    Damped Gauss-Newton steps on all poses, the shape and the markers' offsets together; the offsets
    are as usual as the places say, and the shape as the body's numbers do.

    Args:
        body: any SMPL body, with concrete arrays.
        names: of the K markers, each in `places`.
        points: [T, K, 3] metres, in any axes. Frames beyond `config.frames` are passed over evenly.
        seen: [T, K] False or 0 where a marker was not seen; not finite points are not, either.
        places: where each marker sits, roughly.
        config: how far markers may lie beside the body.
    Returns:
        The markers on a body of the person's shape, for `fit_markers`.
    Raises:
        ValueError: if shapes do not fit, a marker has no place, numbers are not in metres, or no
            frame has three markers.
    """
    config = MarkerConfig() if config is None else config
    unknown = [name for name in names if name not in places]
    if unknown:
        raise ValueError(
            f"names: no place is known for {', '.join(unknown)} (there are: {', '.join(places)}); "
            "leave these markers out, or give `places` for them"
        )
    xyz, visible = _checked(points, seen, names)
    _check_enough(visible, "points")
    count = visible.sum(1)
    whole = np.flatnonzero(count >= max(_LEAST, np.median(count)))
    rows = whole[np.linspace(0, len(whole) - 1, min(config.frames, len(whole))).round().astype(int)]

    known = [places[name] for name in names]
    spread = np.array([each.spread for each in known])
    on_body, off = on_skin(body, known, float(config.off_skin))
    free = with_free_places(on_body, spread)
    evidence, _ = _evidence(xyz[rows], visible[rows], config.noise)
    told = min(float(config.independent) / len(rows), 1.0)
    prior = _usual(config.usual_attaching)
    numbers = np.asarray(_solve(free, prior, evidence, told, config, shared=True)[1][:, 0])
    betas = numbers[: on_body.skeleton.num_betas]
    moved = off + spread[:, None] * numbers[len(betas) :].reshape(-1, 3)
    offsets = moved.astype(np.float32)
    return AttachedMarkers(held(free, numbers), betas, offsets, tuple(names))


def fit_markers(
    attached: AttachedMarkers,
    points: Real[Array, "T K 3"],
    seen: Shaped[Array, "T K"] | None = None,
    *,
    config: MarkerConfig | None = None,
) -> MarkerFit:
    """Fits a pose to the markers of every frame, each by itself.

    A start in closed form is followed by damped Gauss-Newton steps on

        sum_k |x_k - y_k|^2 / noise^2 + usual (a - m)^T P (a - m),

    with the Gaussian over the joints' axis-angles a that `lift` has; then markers that are far off
    are trusted less (Geman and McClure, 1987), and the steps repeated. Hands do not move.

    Args:
        attached: the person's markers, in the order of the points.
        points: [T, K, 3] metres, in any axes.
        seen: [T, K] False or 0 where a marker was not seen; not finite points are not, either.
        config: how far markers may lie beside the body.
    Returns:
        The poses, and how far each marker is from the body's.
    Raises:
        ValueError: if there are no frames, shapes do not fit or numbers are not in metres.
    """
    config = MarkerConfig() if config is None else config
    xyz, visible = _checked(points, seen, attached.names)
    if not len(xyz):
        raise ValueError(f"points: expected [T, {xyz.shape[1]}, 3] with a frame at least, found 0")
    prior, frames, parts = _usual(config.usual), len(xyz), []
    for start in range(0, frames, _AT_ONCE):
        rows = np.minimum(np.arange(start, start + _AT_ONCE), frames - 1)  # one shape, one program
        evidence, enough = _evidence(xyz[rows], visible[rows], config.noise)
        pose, _, off = _solve(attached.points, prior, evidence, 0.0, config, shared=False)
        part = (jnp.moveaxis(matrices(pose), -1, 0), pose.origin.T, off.T, enough)
        parts.append(jax.tree.map(lambda a, n=frames - start: np.asarray(a)[:n], part))
    rotations, origin, off, found = (np.concatenate(each) for each in zip(*parts, strict=True))
    return MarkerFit(rotations, attached.betas, origin, np.where(visible, off, np.nan), found)


def check_markers(
    points: Real[np.ndarray, "T K 3"], seen: Bool[np.ndarray, "T K"], where: str
) -> None:
    """Refuses markers that `fit_markers` could make no body of.

    Args:
        points: metres.
        seen: where markers were seen.
        where: begins messages: the file.
    Raises:
        ValueError: if no frame has three markers, or numbers are not in metres.
    """
    _check_enough(seen, where)
    check_joints(points, seen, where)


def _check_enough(seen: Bool[np.ndarray, "T K"], where: str) -> None:
    most = seen.sum(1).max(initial=0)
    if most < _LEAST:
        raise ValueError(
            f"{where}: expected frames with {_LEAST} markers or more, found {most} at most in "
            f"{len(seen)} frames"
        )


def _checked(
    points: Array, seen: Array | None, names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Points with zeros where they are not seen, and where they are."""
    xyz: np.ndarray = np.asarray(points, np.float32)
    if xyz.ndim != 3 or xyz.shape[1:] != (len(names), 3):
        raise ValueError(
            f"points: expected [T, {len(names)}, 3] for {len(names)} markers, found {[*xyz.shape]}"
        )
    visible: np.ndarray = np.isfinite(xyz).all(-1)
    if seen is not None:
        if np.shape(seen) != xyz.shape[:2]:
            raise ValueError(
                f"seen: expected [{len(xyz)}, {len(names)}], one for each marker, found "
                f"{[*np.shape(seen)]}"
            )
        visible = visible & (np.asarray(seen) > 0)
    xyz = np.where(visible[..., None], xyz, 0)
    check_joints(xyz, visible.astype(np.float32), "points")
    return xyz, visible


def _evidence(points: np.ndarray, seen: np.ndarray, noise: Number) -> tuple[Evidence, np.ndarray]:
    found = seen.sum(-1) >= _LEAST
    weight = (seen & found[:, None]) / np.float32(noise) ** 2
    return Evidence(np.moveaxis(points, 0, -1), weight.T.astype(np.float32), None, None), found


def _usual(weight: Number) -> PoseGaussian:
    """The Gaussian of usual poses with a weight, and hands that do not move."""
    shipped = PoseGaussian.shipped()
    precision, mean = weight * np.asarray(shipped.precision), np.array(shipped.mean)
    mean[_HANDS] = 0
    turns = [3 * hand + axis for hand in _HANDS for axis in range(3)]
    precision[turns, turns] += _STIFF
    return replace(shipped, precision=precision.astype(np.float32), mean=mean)


def _solve(
    points: BodyPoints,
    prior: PoseGaussian,
    evidence: Evidence,
    told: float,
    config: MarkerConfig,
    shared: bool,
) -> tuple[Pose, Array, Array]:
    """Poses, shape numbers and distances [K, M]; `told` weighs what points say about the shape."""
    given = (points, prior, evidence, told, config.tolerance)
    arrays = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), given)
    return _compiled(*arrays, count=config.steps, shared=shared)


def _solved(
    points: BodyPoints,
    prior: PoseGaussian,
    evidence: Evidence,
    told: Array,
    tolerance: Array,
    *,
    count: int,
    shared: bool,
) -> tuple[Pose, Array, Array]:
    none = jnp.zeros(1 if shared else evidence.weight.shape[1])
    shape = Shape(points.height, none, none, none + told)

    def again(carry: tuple[Pose, Any], _: None) -> tuple[tuple[Pose, Any], tuple[Any, Any]]:
        pose, trust = carry
        trusted = replace(evidence, weight=evidence.weight * trust)
        pose, numbers = steps(points, prior, trusted, shape, pose, count)
        off = place(points, matrices(pose), numbers).points + pose.origin - evidence.points
        squared = (off**2).sum(1)
        trust = (1 + squared / tolerance**2) ** -2  # Geman and McClure's
        return (pose, trust), (numbers, jnp.sqrt(squared))

    with jax.default_matmul_precision("float32"):
        start = first_pose(points, prior, evidence), jnp.ones_like(evidence.weight)
        # All markers first: a robust loss from the start gives up limbs that it begins far from.
        (pose, _), found = jax.lax.scan(again, start, None, length=_ROUNDS)
    numbers, off = (each[-1] for each in found)
    return pose, numbers, off


_compiled = jax.jit(_solved, static_argnames=("count", "shared"))
