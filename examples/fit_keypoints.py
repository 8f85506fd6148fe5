"""Fit a body to 2D keypoints with optax, the learned prior standing in for what pixels cannot say.

The keypoints are those of a made-up pose before a camera, a fifth of them missing.
"""

import jax
import jax.numpy as jnp
import optax

import body_model
import scorehmr_jax as sh
from body_model.rotations import axis_angle_to_matrix
from scorehmr_jax.guidance import geman_mcclure

body = body_model.stand_in()  # or body_model.open_body(), or body_model.load(path)
skeleton = body_model.Skeleton.of(body)
prior = sh.load_prior("open-uncond")

# A target: arms lowered and a knee bent, 4 m before a camera, whose y points down.
bends = {
    0: (3.0, 0, 0),
    1: (-0.6, 0, 0.1),
    4: (0.9, 0, 0),
    16: (0.2, 0.3, -1.1),
    17: (0, -0.5, 1.0),
    18: (0, -0.9, 0),
    19: (0, 0.6, 0),
}
angles = jnp.zeros((24, 3)).at[jnp.array(list(bends))].set(jnp.array(list(bends.values())))
target = skeleton(axis_angle_to_matrix(angles), jnp.zeros(10), jnp.array([0.0, 0.2, 4.0]))
camera = sh.pinhole(jnp.array([1000.0, 1000.0]), focal=1200.0)
noise, drop = jax.random.split(jax.random.key(2))
keypoints = sh.project(target, camera) + 4 * jax.random.normal(noise, (25, 2))
seen = jax.random.bernoulli(drop, 0.8, (25, 1))


def joints(guess):
    return skeleton(sh.x_to_rotations(guess[0]), jnp.zeros(10), guess[1])


def loss(guess, key, weight):
    error = (sh.project(joints(guess), camera) - keypoints) / 5
    return jnp.sum(seen * geman_mcclure(error, 20.0)) + weight * prior.energy(guess[0], key)


@jax.jit
def fit(guess, weight):
    optimiser = optax.adam(optax.cosine_decay_schedule(0.03, 600))

    def step(carry, key):
        guess, state = carry
        updates, state = optimiser.update(jax.grad(loss)(guess, key, weight), state)
        return (optax.apply_updates(guess, updates), state), None

    keys = jax.random.split(jax.random.key(1), 600)  # new noise for every step
    return jax.lax.scan(step, (guess, optimiser.init(guess)), keys)[0][0]


# It starts upright, arms lowered.
standing = (
    jnp.zeros((24, 3))
    .at[jnp.array([0, 16, 17])]
    .set(jnp.array([(jnp.pi, 0, 0), (0, 0, -1.2), (0, 0, 1.2)]))
)
start = (sh.rotations_to_x(axis_angle_to_matrix(standing)), jnp.array([0.0, 0.0, 4.0]))
fits = {"before": start, "keypoints alone": fit(start, 0.0), "with the prior": fit(start, 0.3)}
for name, guess in fits.items():
    found = joints(guess)
    pixels = jnp.linalg.norm(sh.project(found, camera) - sh.project(target, camera), axis=-1)
    metres = jnp.linalg.norm((found - found[8]) - (target - target[8]), axis=-1)  # 8: pelvis
    print(f"{name:16} {pixels.mean():5.1f} px {1000 * metres.mean():5.0f} mm")
