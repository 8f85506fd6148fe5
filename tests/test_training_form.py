"""The denoiser's training form against its definition, with its own derivative."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from training_runs import SCHEDULE

from scorehmr_jax.networks.denoiser import ResidualMLP
from scorehmr_jax.networks.training_form import normed_linear
from scorehmr_jax.training.step import Noised, gradient_norm, noise_loss

SIZES = {
    "unconditional": ResidualMLP(features=0, hidden=12, blocks=2),
    "conditioned": ResidualMLP(features=20, hidden=12, blocks=2),
    "with shape": ResidualMLP(features=20, hidden=12, blocks=2, shape_features=6),
}


class AsDefined(ResidualMLP):
    """Trained as its definition says."""

    def training_noise(self, params, x, t, features):
        return self.noise(params, x, t, features)


def batch(config, leading):
    rng = np.random.default_rng(0)

    def normal(width):
        return jnp.asarray(rng.standard_normal((*leading, width)) * 3 + 0.5)

    features = normal(config.condition_dim) if config.condition_dim else None
    t = jnp.asarray(rng.integers(0, 1000, (leading[0], *(1,) * (len(leading) - 1))))
    return Noised(normal(config.dim), features, t, normal(config.dim))


@pytest.mark.parametrize(
    ("name", "leading"), [("unconditional", (6,)), ("conditioned", (6,)), ("with shape", (3, 2))]
)
def test_it_has_the_values_and_gradients_of_the_definition(name, leading):
    config = SIZES[name]
    with jax.enable_x64(True):
        shapes = jax.eval_shape(config.init, jax.random.key(0))
        rng = np.random.default_rng(1)
        params = jax.tree.map(lambda x: 0.3 * rng.standard_normal(x.shape), shapes)
        noised = batch(config, leading)

        def loss(network, params, x_0):
            each = Noised(x_0, noised.features, noised.t, noised.noise)
            return noise_loss(network, SCHEDULE, params, each).mean()

        found, expected = (
            jax.jit(jax.value_and_grad(partial(loss, network), (0, 1)))(params, noised.x_0)
            for network in (config, AsDefined(**vars(config)))
        )

        def close(found, expected):
            atol = 1e-12 * max(1, np.abs(expected).max())
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=atol)

        jax.tree.map(close, found, expected)


@pytest.mark.parametrize("precision", ["float32", "BF16_BF16_F32"])
def test_its_derivative_has_the_products_that_are_asked_for(precision):
    """Also where it is traced, which is after the setting has ended."""
    h, c = jnp.ones((4, 6)), jnp.ones((4, 10))
    scale, kernel = jnp.ones(16), jnp.ones((16, 8))

    def total(h, scale, kernel):
        return normed_linear(precision, h, c, scale, scale, kernel, jnp.ones(8)).sum()

    gradient = str(jax.make_jaxpr(jax.grad(total, argnums=(0, 1, 2)))(h, scale, kernel))
    products = gradient.count("dot_general[")
    exact = gradient.count("HIGHEST")  # the sums of norms, whatever is asked for
    if precision == "float32":
        assert exact >= products
    else:
        assert gradient.count("BF16_BF16_F32") == products - 3 and exact >= 3


def test_the_norm_of_a_tree():
    tree = {
        "a": np.full((3, 4, 5), 2.0, np.float32),
        "b": [np.array(3, np.float32), np.ones(7, np.float32)],
    }
    np.testing.assert_allclose(gradient_norm(tree), optax.tree.norm(tree), rtol=1e-6)
    with jax.default_matmul_precision("bfloat16"):
        np.testing.assert_allclose(gradient_norm(tree), optax.tree.norm(tree), rtol=1e-6)
