"""A first estimate from named 3D points: any 3D pose network, or markers, as a start.

The parts are in lift_points.py (points on a body), lift_start.py (a start in closed form),
lift_steps.py (the steps from there) and pose_gaussian.py (what points do not tell).
"""

from collections.abc import Sequence
from dataclasses import field
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Real, Shaped

from body_model import SMPL
from body_model.arithmetic import native_fields
from body_model.pytree import Array, Number, pytree
from scorehmr_jax.camera import camera_batch
from scorehmr_jax.lift_points import BodyPoints, Name, place
from scorehmr_jax.lift_start import first_pose, first_translation
from scorehmr_jax.lift_steps import Evidence, Pose, Shape, matrices, steps
from scorehmr_jax.pose_gaussian import PoseGaussian
from scorehmr_jax.shapes import concrete, fits, floating, numbers, rows_of
from scorehmr_jax.types import Camera, Estimate, Keypoints2D
from scorehmr_jax.units import check_joints

_LEAST_POINTS = 3  # without which nothing is known of the root's rotation
_LEAST_RAYS = 2  # without which nothing is known of the depth
_PINHOLE = ("focal", "center", "image_size")
_HEIGHT_ERROR = 0.01  # metres, of a height that is known
_PLAUSIBLE_HEIGHT = (0.4, 2.8)  # metres


@pytree
class LiftConfig:
    """How far points may lie beside the body, and how many steps are made."""

    noise: Number = 0.04  # standard deviation of each point, metres; 0.02 fits motion capture
    offset: Number = 0.04  # how far a convention's points may lie beside the body's in every sample
    noise_2d: Number = 0.01  # of 2D keypoints: metres across the ray at the person's depth
    steps: int = field(default=5, metadata={"static": True})


@pytree
class LiftInfo:
    """How each sample was lifted."""

    found: Bool[
        Array, "*N"
    ]  # False: fewer than three points; the pose is the prior's mean, upright
    placed: Bool[Array, "*N"]  # False: the translation is not known and 0
    distance: Float[Array, "*N K"]  # from each point to the body's, metres; NaN where not seen


@runtime_checkable
class Lifter(Protocol):
    """A compiled `lift`, as `make_lifter` gives it."""

    def __call__(
        self,
        points: Real[Array, "*N K 3"],
        confidence: Shaped[Array, "*#N K"] | None = None,
        *,
        keypoints: Keypoints2D | None = None,
        camera: Camera | None = None,
        height: Number | None = None,
        shared_shape: bool = False,
    ) -> tuple[Estimate, LiftInfo]:
        """Lifts. Arguments, results and errors are those of `lift`."""


def lift(
    body: SMPL,
    names: Sequence[Name],
    points: Real[Array, "*N K 3"],
    confidence: Shaped[Array, "*#N K"] | None = None,
    *,
    keypoints: Keypoints2D | None = None,
    camera: Camera | None = None,
    height: Number | None = None,
    shared_shape: bool = False,
    prior: PoseGaussian | None = None,
    config: LiftConfig | None = None,
) -> tuple[Estimate, LiftInfo]:
    """Finds the pose, shape and place of a body from named 3D points.

    A start in closed form (the root from the points of the trunk, then the direction of each limb)
    is followed by a few damped Gauss-Newton steps on

        sum_k c_k |x_k - y_k|^2 / noise^2 + (a - m)^T P (a - m) + |betas|^2,

    where x_k are the body's points, y_k those given with their confidences c_k, and the Gaussian
    with mean m and precision P over the joints' axis-angles a tells what points do not: the twist
    of the limbs, the bend of the spine, head and hands. The loss is quadratic on purpose: a robust
    one gives up raised arms that it starts far from.

    Points that are not finite count as not seen, and a sample with too few points touches no
    other. Pure and differentiable; jit and vmap go through it. The body is prepared at every call:
    for many calls, use `make_lifter`.

    Args:
        body: any SMPL body, with concrete arrays.
        names: of the K points: a joint, a landmark of the body (`body.landmarks`), or a tuple of
            several for their mean, or None for a point that is left out. Leave out what is not
            the body's point of that name: the middle of the hips lies below SMPL's pelvis.
        points: [..., N, K, 3] metres, axes as the camera's (x right, y down, z forward). N counts
            samples, such as the frames of a video.
        confidence: [..., N, K] in [0, 1]; 0 means not seen. All seen without.
        keypoints: [..., N, K] the same points in the image. With them the points' origin is of no
            meaning (hip-centred points), the place before the camera is found, and they hold the
            body across the rays. Needs the camera.
        camera: of the keypoints, without a pose, distortion or skew.
        height: of the person, metres; one for all or one for each [...]. NaN where not known.
        shared_shape: True if the N samples of a group show one person.
        prior: from `PoseGaussian.fit`; the package's own without.
        config: how far points may lie beside the body.
    Returns:
        The estimate [..., N], ready for `refine`, and how each sample was lifted. Without keypoints
        the translation is in the frame of the points.
    Raises:
        ValueError: if shapes do not fit, a name is unknown to the body, or numbers are not in
            metres.
    """
    lifter = make_lifter(body, names, prior=prior, config=config)
    return lifter(
        points,
        confidence,
        keypoints=keypoints,
        camera=camera,
        height=height,
        shared_shape=shared_shape,
    )


def make_lifter(
    body: SMPL,
    names: Sequence[Name],
    *,
    prior: PoseGaussian | None = None,
    config: LiftConfig | None = None,
) -> Lifter:
    """Prepares `lift` for one body and set of names.

    One compilation for each set of shapes, which other lifters share; new numbers never recompile.

    Args and errors: as `lift`.
    Returns:
        A function (points, confidence=None, *, keypoints, camera, height, shared_shape) ->
        (Estimate, LiftInfo).
    """
    on_body = jax.tree.map(jnp.asarray, BodyPoints.of(body, names))
    known = jax.tree.map(jnp.asarray, PoseGaussian.shipped() if prior is None else prior)
    errors, count = LiftConfig() if config is None else config, len(names)

    def lifter(
        points: Real[Array, "*N K 3"],
        confidence: Shaped[Array, "*#N K"] | None = None,
        *,
        keypoints: Keypoints2D | None = None,
        camera: Camera | None = None,
        height: Number | None = None,
        shared_shape: bool = False,
    ) -> tuple[Estimate, LiftInfo]:
        points = numbers("points", points)
        if confidence is not None:
            confidence = numbers("confidence", confidence)
        if keypoints is not None and camera is not None:
            keypoints = native_fields("keypoints", keypoints, Keypoints2D)
            camera = native_fields("camera", camera, Camera)
        height = None if height is None else numbers("height", height)
        _check(count, points, confidence, keypoints, camera, height)
        # What is not given has numbers too, so that it does not compile anew.
        sure = np.ones(count) if confidence is None else confidence
        tall = np.nan if height is None else height
        given = (points, sure, keypoints, camera, tall)
        return _compiled(on_body, known, errors, *given, shared=shared_shape)

    return lifter


def _check(
    count: int,
    points: Array,
    confidence: Array | None,
    keypoints: Keypoints2D | None,
    camera: Camera | None,
    height: Number | None,
) -> None:
    """Refuses shapes that do not fit, and lengths that are not in metres."""
    shape = np.shape(points)
    if len(shape) < 3 or shape[-2:] != (count, 3):
        raise ValueError(f"points: expected [..., N, {count}, 3] for {count} names, found {shape}")
    if confidence is not None and not (
        np.ndim(confidence)
        and fits(np.shape(confidence)[:-1], shape[:-2])
        and np.shape(confidence)[-1] == count
    ):
        raise ValueError(
            f"confidence: expected {shape[:-1]}, one for each point, found {np.shape(confidence)}"
        )
    if (keypoints is None) != (camera is None):
        raise ValueError("keypoints and camera: give both, or neither")
    if keypoints is not None and camera is not None:
        found = np.shape(keypoints.xy), np.shape(keypoints.confidence)
        if found != ((*shape[:-1], 2), shape[:-1]):
            raise ValueError(
                f"keypoints: expected one for each point, {(*shape[:-1], 2)} and {shape[:-1]}, "
                f"found {found[0]} and {found[1]}"
            )
        beyond = [n for n, value in vars(camera).items() if value is not None and n not in _PINHOLE]
        if beyond:
            raise ValueError(
                f"camera: expected focal, center and image_size alone, found {', '.join(beyond)}; "
                "undistort the keypoints, and move the body to the camera's pose afterwards"
            )
        if not fits(camera_batch(camera), shape[:-2]):
            raise ValueError(
                f"camera: expected one for each sample {shape[:-2]}, found {camera_batch(camera)}"
            )
    given = concrete(points, np.ones(count) if confidence is None else confidence)
    if given is not None:
        xyz, known = given
        check_joints(xyz, known, "points")
    given = None if height is None else concrete(height)
    if given is not None:
        low, high = _PLAUSIBLE_HEIGHT
        wrong = np.ravel(given[0])[(np.ravel(given[0]) < low) | (np.ravel(given[0]) > high)]
        if wrong.size:
            raise ValueError(f"height: expected metres, {low} to {high}, found {wrong[0]:.4g}")


def _lift(
    body: BodyPoints,
    prior: PoseGaussian,
    config: LiftConfig,
    points: Array,
    confidence: Array,
    keypoints: Keypoints2D | None,
    camera: Camera | None,
    height: Number,
    shared: bool,
) -> tuple[Estimate, LiftInfo]:
    with jax.default_matmul_precision("float32"):
        points = floating(points)
        dtype, lead = points.dtype, points.shape[:-2]
        body, prior, config = jax.tree.map(lambda a: jnp.asarray(a, dtype), (body, prior, config))
        evidence, found = _evidence(body, points, confidence, config)
        shape = _shape(body, config, height, lead, found, shared)
        pose = first_pose(body, prior, evidence)
        placed = found
        if keypoints is not None and camera is not None:
            evidence, seen = _with_rays(body, evidence, keypoints, camera, config)
            mean = jnp.zeros((body.skeleton.num_betas, len(found)), dtype)
            at = place(body, matrices(pose), mean).points
            moved = first_translation(at, evidence)
            pose = Pose(pose.root, pose.angles, pose.origin, moved)
            placed = found & seen
        pose, betas = steps(body, prior, evidence, shape, pose, config.steps)

        rotations = matrices(pose)
        off = place(body, rotations, betas).points + pose.origin - evidence.points
        distance = jnp.sqrt((off**2).sum(1))
        distance = jnp.where(evidence.weight > 0, distance, jnp.nan)
        translation = pose.origin if pose.translation is None else pose.translation
        if pose.translation is not None:
            placed &= translation[2] > 0
        estimate = Estimate(
            jnp.moveaxis(rotations, -1, 0).reshape(*lead, 24, 3, 3),
            betas.T.reshape(*lead, -1),
            jnp.where(placed, translation, 0).T.reshape(*lead, 3),
        )
    return estimate, LiftInfo(
        found.reshape(lead), placed.reshape(lead), distance.T.reshape(*lead, -1)
    )


_compiled = jax.jit(_lift, static_argnames="shared")


def _evidence(
    body: BodyPoints, points: Array, confidence: Array, config: LiftConfig
) -> tuple[Evidence, Array]:
    """The points with their weights, batch axes last and one, and which samples have enough."""
    lead, count = points.shape[:-2], points.shape[-2]
    share = jnp.broadcast_to(floating(confidence).astype(points.dtype), (*lead, count))
    share = share.reshape(-1, count).T
    target = jnp.moveaxis(points.reshape(-1, count, 3), 0, -1)
    seen = (share > 0) & jnp.isfinite(share) & jnp.isfinite(target).all(1)
    seen &= body.named[:, None]
    found = seen.sum(0) >= _LEAST_POINTS
    seen &= found
    weight = jnp.where(seen, share, 0) / config.noise**2
    return Evidence(jnp.where(seen[:, None], target, 0), weight, None, None), found


def _with_rays(
    body: BodyPoints, evidence: Evidence, keypoints: Keypoints2D, camera: Camera, config: LiftConfig
) -> tuple[Evidence, Array]:
    """Evidence with the keypoints' rays, and which samples have enough of them."""
    count, samples = evidence.weight.shape
    dtype = evidence.points.dtype
    lead = np.shape(keypoints.confidence)[:-1]
    focal, center = (
        rows_of(name, side, (2,), lead)[..., None, :].astype(dtype)
        for name, side in (("camera.focal", camera.focal), ("camera.center", camera.center))
    )
    rays = (floating(keypoints.xy).astype(dtype) - center) / focal
    rays = jnp.moveaxis(rays.reshape(samples, count, 2), 0, -1)
    share = floating(keypoints.confidence).astype(dtype).reshape(samples, count).T
    seen = (share > 0) & jnp.isfinite(share) & jnp.isfinite(rays).all(1) & body.named[:, None]
    enough = seen.sum(0) >= _LEAST_RAYS
    seen &= enough
    weight = jnp.where(seen, share, 0) / config.noise_2d**2
    rays = jnp.where(seen[:, None], rays, 0)
    return Evidence(evidence.points, evidence.weight, rays, weight), enough


def _shape(
    body: BodyPoints,
    config: LiftConfig,
    height: Number,
    lead: tuple[int, ...],
    found: Array,
    shared: bool,
) -> Shape:
    """What is known of each group's shape; without a shared one, each sample is a group."""
    dtype = body.height.dtype
    groups = lead[:-1] if shared else lead
    known = floating(height).astype(dtype)
    if not shared and known.ndim:
        known = known[..., None]
    known = jnp.broadcast_to(known, groups).reshape(-1)
    weight = jnp.where(jnp.isfinite(known), 1 / _HEIGHT_ERROR**2, 0).astype(dtype)
    known = jnp.where(jnp.isfinite(known), known, 0)
    # Points that lie beside the body's in every sample tell no more the more samples there are.
    samples = found.reshape(len(known), -1).sum(1).astype(dtype)
    scale = config.noise**2 / (config.noise**2 + jnp.maximum(samples, 1) * config.offset**2)
    return Shape(body.height, known, weight, scale)
