"""The rotation and scale nearest to given points, with derivatives that are always finite."""

import jax
import jax.numpy as jnp
from jaxtyping import Float


@jax.custom_jvp
def nearest_rotation(m: Float[jax.Array, "*batch 3 3"]) -> Float[jax.Array, "*batch 3 3"]:
    """Finds the rotation R that makes the trace of R^T M largest (Kabsch, 1976).

    For M the sum of outer products of targets and sources, target source^T, R turns the sources
    onto the targets with the least squared distance. It is proper: where a reflection would fit
    better, the best rotation is taken. Its derivative is finite where singular values are equal.

    Args:
        m: [..., 3, 3].
    Returns:
        [..., 3, 3].
    """
    u, _, vt = jnp.linalg.svd(m, full_matrices=False)
    sign = jnp.where(_det(u) * _det(vt) < 0, -1, 1).astype(m.dtype)
    one = jnp.ones_like(sign)
    return (u * jnp.stack([one, one, sign], -1)[..., None, :]) @ vt


@nearest_rotation.defjvp
def nearest_rotation_jvp(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    # The derivative of the singular vectors is infinite where singular values are equal, that of
    # the rotation is not. With P = R^T M symmetric and dR = R W, the antisymmetric W solves
    # W P + P W = R^T dM - dM^T R; for the axial vectors this is (tr(P) 1 - P) w = v. Where it has
    # no single solution, the pseudo-inverse takes the least.
    (m,), (change,) = primals, tangents
    with jax.default_matmul_precision("float32"):
        r = nearest_rotation(m)
        p = jnp.swapaxes(r, -1, -2) @ m
        p = (p + jnp.swapaxes(p, -1, -2)) / 2
        pull = jnp.swapaxes(r, -1, -2) @ change
        v = _axial(pull - jnp.swapaxes(pull, -1, -2))
        trace = jnp.trace(p, axis1=-2, axis2=-1)[..., None, None]
        identity = jnp.broadcast_to(jnp.eye(3, dtype=m.dtype), p.shape)
        inverse = jnp.linalg.pinv(trace * identity - p, hermitian=True)
        w = (inverse @ v[..., None])[..., 0]
        return r, r @ _antisymmetric(w)


def similarity(
    source: Float[jax.Array, "*batch J 3"], target: Float[jax.Array, "*batch J 3"]
) -> tuple[Float[jax.Array, "*batch 3 3"], Float[jax.Array, "*batch"]]:
    """Finds the rotation R and scale s that bring s x R nearest to y (Umeyama, PAMI 1991).

    Args:
        source, target: [..., J, 3] the points x and y, each about their own mean.
    Returns:
        R [..., 3, 3], for points that are rows, and s [...], which is 1 where all points coincide.
    """
    with jax.default_matmul_precision("float32"):
        covariance = jnp.swapaxes(source, -1, -2) @ target
    rotation = nearest_rotation(covariance)
    spread = jnp.square(source).sum((-2, -1))
    fit = (rotation * covariance).sum((-2, -1))
    return rotation, jnp.where(spread == 0, 1, fit / jnp.where(spread == 0, 1, spread))


def _axial(w: jax.Array) -> jax.Array:
    """The vector w of antisymmetric [..., 3, 3] matrices W with W x = w x x."""
    return jnp.stack([w[..., 2, 1], w[..., 0, 2], w[..., 1, 0]], -1)


def _antisymmetric(w: jax.Array) -> jax.Array:
    """The matrices of which `_axial` gives the vectors."""
    x, y, z = (w[..., i] for i in range(3))
    zero = jnp.zeros_like(x)
    rows = [zero, -z, y, z, zero, -x, -y, x, zero]
    return jnp.stack(rows, -1).reshape(*w.shape[:-1], 3, 3)


def _det(m: jax.Array) -> jax.Array:
    """Determinant of [..., 3, 3]; of an orthogonal matrix only its sign is read."""
    return (m[..., 0, :] * jnp.cross(m[..., 1, :], m[..., 2, :])).sum(-1)
