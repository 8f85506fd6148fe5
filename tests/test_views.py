"""The benchmark of four views: where cameras stand, and what views are fused to."""

import jax
import jax.numpy as jnp
from bodies import close

import body_model
import scorehmr_jax as sh
from benchmarks.fusion import fused
from benchmarks.views import places
from body_model import Skeleton
from scorehmr_jax.simulation.placement import place_before_cameras
from scorehmr_jax.simulation.scene import Scene
from scorehmr_jax.types import Estimate, Keypoints2D


def test_one_body_is_seen_by_all_cameras_where_each_views_body_is():
    skeleton = Skeleton.of(body_model.stand_in())

    @jax.jit
    def of(key):
        pose = jnp.broadcast_to(jnp.eye(3), (3, 24, 3, 3))
        betas = 0.5 * jax.random.normal(key, (3, 10))
        place = 0.2 * jax.random.normal(key, (3, 3))
        *bodies, camera = place_before_cameras(key, skeleton, pose, betas, place, 4)
        truth, camera = jax.tree.map(
            lambda a: a.reshape(3, 4, *a.shape[1:]), (Estimate(*bodies), camera)
        )
        own = sh.project(skeleton(truth.pose, truth.betas, truth.translation), camera)
        none = Keypoints2D(own, jnp.ones(own.shape[:-1]))
        common = places(skeleton, Scene(truth, camera, none, truth))
        one = fused(skeleton, jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), truth), common)
        points = skeleton(one.pose, one.betas, one.translation)
        return own, jnp.swapaxes(sh.project(jnp.stack([points] * 4), common), 0, 1)

    own, together = of(jax.random.key(0))
    close("pixels", together, own, atol=0.05)
    assert float(jnp.ptp(own, axis=1).max()) > 50  # the views differ
