"""First estimates from 2D keypoints alone: poses of the prior that could be seen like this."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Key, Shaped

from body_model import SMPL
from body_model.pytree import Array, Number
from scorehmr_jax.camera import camera_batch
from scorehmr_jax.lift import make_lifter
from scorehmr_jax.lift_points import BodyPoints, Name, place
from scorehmr_jax.prior import Prior, rotations_to_x, x_to_rotations
from scorehmr_jax.shapes import floating, rows_of
from scorehmr_jax.types import Camera, Estimate, Keypoints2D

_TRUST = 0.02  # confidence of a drawn pose's points: they only tell what the keypoints do not
_NEAR = 0.3  # metres; bodies nearer to the camera's plane are none
_LEAST_SEEN = 4  # keypoints
# Of the energy. At the lower levels that it looks at by default the small faults of a bent pose
# drown what tells likely poses from others.
_LEVELS, _DRAWS = (50, 500), 64
_PINHOLE = ("focal", "center", "image_size")


def lift_2d(
    key: Key[Array, ""],
    prior: Prior,
    body: SMPL,
    names: Sequence[Name],
    keypoints: Keypoints2D,
    camera: Camera,
    *,
    draws: int = 256,
    keep: int = 8,
    sigma: Number = 0.01,
) -> tuple[Estimate, Float[Array, " H *N"]]:
    """Finds bodies that are seen at 2D keypoints, several for each image.

    Depth cannot be seen, so there are several answers. Poses are drawn from the prior and each is
    placed where its points come closest to the rays of the keypoints, in closed form; from the
    closest ones `lift` bends the bodies to the keypoints. The order is by

        prior.energy(x) + sum_k c_k |p_k - y_k|^2 / (2 (sigma s)^2),

    with projected points p_k, keypoints y_k of confidence c_k and the size s of the person in the
    image. Refine all, and `best_of` chooses anew:

        estimates, _ = sh.lift_2d(key, prior, body, OPENPOSE_25, keypoints, camera)
        refined, chosen = sh.best_of(*sh.refine(prior, skeleton, estimates, None, terms))

    On 60 poses of the example, with 3 pixels of noise in images of 1000, the first is 51 mm off
    (PA-MPJPE), the eight are 54 mm on average, and the best of them 41 mm; the energy's levels were
    chosen on these. 16 images take 0.3 s once compiled.

    Args:
        key: typed PRNG key.
        prior: an unconditional one, such as "open-uncond".
        body: any SMPL body, with concrete arrays.
        names: of the K points, as `lift` has them.
        keypoints: [..., N, K]; with fewer than four that are seen, an image has no answer: NaN.
        camera: of the keypoints, without a pose, distortion or skew.
        draws: poses that are drawn, the same for all images.
        keep: H, how many are kept.
        sigma: how far points lie beside keypoints, as part of the person's size.
    Returns:
        Estimates [H, ..., N], the likeliest first, and what they are ordered by.
    Raises:
        ValueError: if the prior is conditional, keep is not within 1 and draws, or as `lift`.
    """
    if prior.condition_on != "none":
        raise ValueError(
            f"prior: conditioned on {prior.condition_on}; expected an unconditional one, such as "
            "load_prior('open-uncond')"
        )
    if not 1 <= keep <= draws:
        raise ValueError(f"keep: expected 1 to {draws} (draws), found {keep}")
    lead, count = np.shape(keypoints.confidence)[:-1], len(names)
    if np.shape(keypoints.xy) != (*lead, count, 2):
        raise ValueError(
            f"keypoints: expected [..., N, {count}] for {count} names, found xy "
            f"{np.shape(keypoints.xy)} and confidence {np.shape(keypoints.confidence)}"
        )
    camera_batch(camera)
    first, second = jax.random.split(key)
    on_body = jax.tree.map(jnp.asarray, BodyPoints.of(body, names))
    rays, weight = _rays(on_body, keypoints, camera)
    points, near = _closest(prior, on_body, first, rays, weight, draws, keep)
    trust = jnp.broadcast_to(_TRUST * (weight > 0), points.shape[:-1])

    def each(array: Array) -> Array:
        return jnp.broadcast_to(jnp.asarray(array), (keep, *np.shape(array)))

    plain = Camera(
        *(rows_of(name, getattr(camera, name), (2,), lead) for name in _PINHOLE),
        **{name: value for name, value in vars(camera).items() if name not in _PINHOLE},
    )
    seen = Keypoints2D(each(jnp.nan_to_num(floating(keypoints.xy))), each(weight))
    lifter = make_lifter(body, names)
    estimate, info = lifter(points, trust, keypoints=seen, camera=jax.tree.map(each, plain))
    score = _score(prior, on_body, second, estimate, rays, weight, sigma)
    score = jnp.where(info.placed & near, score, jnp.inf)
    order = jnp.argsort(score, axis=0)

    def sort(array: Array) -> Array:
        index = order.reshape(*order.shape, *(1,) * (array.ndim - order.ndim))
        sorted_ = jnp.take_along_axis(array, index, 0)
        good = jnp.isfinite(jnp.take_along_axis(score, order, 0))
        return jnp.where(good.reshape(index.shape), sorted_, jnp.nan)

    return jax.tree.map(sort, estimate), jnp.take_along_axis(score, order, 0)


def _rays(
    body: BodyPoints, keypoints: Keypoints2D, camera: Camera
) -> tuple[Float[Array, "*N K 2"], Float[Array, "*N K"]]:
    """Keypoints at depth 1, and their confidences; 0 where not seen."""
    lead = np.shape(keypoints.confidence)[:-1]
    focal, center = (
        rows_of(f"camera.{name}", getattr(camera, name), (2,), lead)[..., None, :]
        for name in ("focal", "center")
    )
    rays = (floating(keypoints.xy) - center) / focal
    share = floating(keypoints.confidence).astype(rays.dtype)
    seen = (share > 0) & jnp.isfinite(rays).all(-1) & jnp.asarray(body.named)
    seen &= seen.sum(-1, keepdims=True) >= _LEAST_SEEN
    return jnp.where(seen[..., None], rays, 0), jnp.where(seen, share, 0)


@partial(jax.jit, static_argnames=("draws", "keep"))
def _closest(
    prior: Prior,
    body: BodyPoints,
    key: Key[Array, ""],
    rays: Float[Array, "*N K 2"],
    weight: Shaped[Array, "*N K"],
    draws: int,
    keep: int,
) -> tuple[Float[Array, "H *N K 3"], Bool[Array, " H *N"]]:
    """The points of the drawn poses that come closest to the rays, about the body, and whether
    they are before the camera."""
    pose = jnp.moveaxis(x_to_rotations(prior.sample(key, shape=(draws,), step=25)), 0, -1)
    shape = jnp.zeros((body.skeleton.num_betas, draws), pose.dtype)
    points = jnp.moveaxis(place(body, pose, shape).points, -1, 0)  # [D, K, 3]
    lead, count = weight.shape[:-1], weight.shape[-1]

    def of_image(rays: Array, weight: Array) -> tuple[Array, Array]:
        moved, off = jax.vmap(lambda each: _placed(each, rays, weight))(points)
        best = jnp.argsort(off)[:keep]
        return moved[best], jnp.isfinite(off[best])

    flat = rays.reshape(-1, count, 2), weight.reshape(-1, count)
    moved, near = jax.lax.map(lambda image: of_image(*image), flat)
    moved = jnp.moveaxis(moved, 1, 0).reshape(keep, *lead, count, 3)
    return moved, jnp.moveaxis(near, 1, 0).reshape(keep, *lead)


def _placed(points: Array, rays: Array, weight: Array) -> tuple[Array, Array]:
    """Points [K, 3] moved to where they come closest to the rays, and their mean distance."""
    # |X_xy + t_xy - u (X_z + t_z)|^2 is least where a linear equation of t holds.
    total = jnp.maximum(weight.sum(), 1e-6)
    off = rays * points[:, 2:] - points[:, :2]
    mean = (weight[:, None] * rays).sum(0)
    last = jnp.append(-mean, (weight * (rays**2).sum(-1)).sum())
    side = jnp.concatenate([total * jnp.eye(2, dtype=points.dtype), -mean[:, None]], 1)
    matrix = jnp.concatenate([side, last[None]])
    known = jnp.append((weight[:, None] * off).sum(0), -(weight * (rays * off).sum(-1)).sum())
    moved = points + jnp.linalg.solve(matrix + 1e-9 * jnp.eye(3, dtype=points.dtype), known)
    beside = moved[:, :2] - rays * moved[:, 2:]
    distance = jnp.sqrt((weight * (beside**2).sum(-1)).sum() / total)
    behind = jnp.where(weight > 0, moved[:, 2], jnp.inf).min() < _NEAR
    return moved, jnp.where(behind | ~jnp.isfinite(distance), jnp.inf, distance)


@jax.jit
def _score(
    prior: Prior,
    body: BodyPoints,
    key: Key[Array, ""],
    estimate: Estimate,
    rays: Array,
    weight: Array,
    sigma: Number,
) -> Float[Array, " H *N"]:
    pose, shape = jnp.moveaxis(estimate.pose, (-3, -2, -1), (0, 1, 2)), estimate.betas
    points = place(body, pose, jnp.moveaxis(shape, -1, 0)).points  # [K, 3, H, ..., N]
    at = jnp.moveaxis(points, (0, 1), (-2, -1)) + estimate.translation[..., None, :]
    seen = at[..., :2] / jnp.maximum(at[..., 2:], _NEAR)
    inside = (weight > 0)[..., None]
    span = jnp.where(inside, rays, -jnp.inf).max(-2) - jnp.where(inside, rays, jnp.inf).min(-2)
    size = jnp.sqrt((jnp.where(jnp.isfinite(span), span, 1) ** 2).sum(-1))
    off = (weight * ((seen - rays) ** 2).sum(-1)).sum(-1) / (2 * (sigma * size) ** 2)
    x = rotations_to_x(estimate.pose)
    return prior.energy(x, key, draws=_DRAWS, levels=_LEVELS) + off
