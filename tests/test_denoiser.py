"""The denoiser: its definition against the released code's, its other forms against that."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bodies import VARIANTS, arrays, close, golden_prior, plain_denoiser, small_prior

from scorehmr_jax.networks.denoiser import ResidualMLP
from scorehmr_jax.networks.layers import sinusoid
from scorehmr_jax.networks.parameters import flatten
from scorehmr_jax.prior import Prior


def define(prior, x, t, features=None):
    return prior.network.noise(prior.params, x, t, features)


noise, definition = jax.jit(Prior.noise), jax.jit(define)


@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_the_released_code(golden, variant):
    g = arrays(golden / f"denoiser_{variant}.npz")
    prior = golden_prior(golden, variant)
    noise, definition = jax.jit(Prior.noise), jax.jit(define)  # as users have them
    for t in (0, 2, 50, 999):
        found = noise(prior, g[f"x_t{t}"], np.full(len(g["feats"]), t), g["feats"])
        close(f"out_t{t}", found, g[f"out_t{t}"], atol=1e-5)
    for form in (noise, definition):
        found = form(prior, g["x_mixed"], g["t_mixed"], g["feats"])
        close("out_mixed", found, g["out_mixed"], atol=1e-5)
    # The last digit of a rate, times 999.
    close("sinusoidal", sinusoid(g["t_mixed"], 144), g["sinusoidal"], atol=1e-4)


def test_time_embedding_equals_the_released_code(golden):
    g = arrays(golden / "denoiser_tiny_pare.npz")
    stream = golden_prior(golden, "tiny_pare").prepare().streams[0]
    close("time_emb", jax.jit(stream.embedding)(g["t_mixed"]), g["time_emb"], atol=1e-5)


@pytest.mark.parametrize(
    ("features", "hidden", "blocks"), [(8, 16, 1), (0, 24, 2), (3072, 16, 1), (1, 16, 3)]
)
def test_definition_and_folded_form_equal_the_plain_transcription(features, hidden, blocks):
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        prior = small_prior(features, hidden, blocks, dtype=np.float64)
        x, t = rng.standard_normal((5, 144)), np.array([0, 2, 50, 500, 999])
        # Means far from zero are where a variance of sums would lose its digits.
        c = 3 + 2 * rng.standard_normal((5, features)) if features else None
        wanted = plain_denoiser(prior.params["pose"], x, t, c)
        for form in (noise, definition):
            close("noise", form(prior, x, t, c), wanted, atol=1e-11 * np.abs(wanted).max())


def test_float32_keeps_its_digits_under_features_far_from_zero():
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((5, 144)), np.array([0, 2, 50, 500, 999])
    c = 100 + rng.standard_normal((5, 512))
    prior = small_prior(512, 64, 2)
    wanted = plain_denoiser(jax.tree.map(lambda a: a.astype(float), prior.params["pose"]), x, t, c)
    for form in (noise, definition):
        found = form(prior, x.astype(np.float32), t, c.astype(np.float32))
        close("noise", found, wanted, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("features", [6, 0])
def test_shape_stream_sees_its_own_features(features):
    with jax.enable_x64(True):
        prior = small_prior(features, 16, 1, shape_features=4, dtype=np.float64)
        assert prior.dim == 154 and prior.network.condition_dim == features + 4
        rng = np.random.default_rng(0)
        x, c = (rng.standard_normal((3, n)) for n in (154, features + 4))
        t = np.array([0, 50, 900])
        of_pose = c[:, :features] if features else None
        pose = plain_denoiser(prior.params["pose"], x[:, :144], t, of_pose)
        shape = plain_denoiser(prior.params["shape"], x[:, 144:], t, c[:, features:])
        wanted = np.concatenate([pose, shape], -1)
        for form in (noise, definition):
            close("noise", form(prior, x, t, c), wanted, atol=1e-10 * np.abs(wanted).max())


def test_prepared_once_serves_every_step():
    prior = small_prior(8, 16, 2)
    rng = np.random.default_rng(0)
    x, c = (rng.standard_normal((4, n)).astype(np.float32) for n in (144, 8))

    @jax.jit
    def by_parts(x, c):
        network = prior.prepare()
        table = network.modulation(jnp.arange(0, 50, 2))
        return network(x, jax.tree.map(lambda leaf: leaf[7], table), network.condition(c))

    close("noise", by_parts(x, c), noise(prior, x, np.full(4, 14), c), rtol=1e-4, atol=1e-4)


def test_one_is_as_many_and_any_leading_axes_do():
    prior, rng = small_prior(8, 16, 2), np.random.default_rng(0)
    x, c = (rng.standard_normal((2, 3, n)).astype(np.float32) for n in (144, 8))
    t = np.array([[0, 2, 4], [50, 500, 999]])
    many = noise(prior, x, t, c)
    assert many.shape == (2, 3, 144)

    def same(name, found, wanted):
        close(name, found, wanted, rtol=1e-4, atol=1e-4)

    same("definition", definition(prior, x, t, c), many)
    same("one", noise(prior, x[1, 2], t[1, 2], c[1, 2]), many[1, 2])
    same("one level for all", noise(prior, x, np.array(50), c)[1, 0], many[1, 0])
    # Hypotheses of the same images.
    one = noise(prior, x[1, 2], np.array(50), c[0, 2])
    for form in (noise, definition):
        same("features of the last axis", form(prior, x, np.array(50), c[0])[1, 2], one)
    # One pose at many levels, under many features.
    for form in (noise, definition):
        found = form(prior, x[1, 2], np.array([0, 50]), c[:, 2])
        same("more levels than poses", found[1], noise(prior, x[1, 2], np.array(50), c[1, 2]))


def test_sizes_of_the_released_model():
    shapes = ResidualMLP().parameter_shapes()
    assert sum(map(np.prod, shapes.values())) == 11_307_024


@pytest.mark.parametrize(
    "network",
    [
        ResidualMLP(0, 16, 1),
        ResidualMLP(8, 12, 2),
        ResidualMLP(8, 12, 2, 6, 1),
        ResidualMLP(0, 8, 1, 4, 3),
    ],
)
def test_shapes_are_those_of_first_weights(network):
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    found = jax.tree.map(np.shape, shapes)
    assert network.parameter_shapes() == flatten_shapes(found)


def flatten_shapes(tree):
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: isinstance(x, tuple))
    return {jax.tree_util.keystr(p, simple=True, separator="/"): shape for p, shape in leaves}


@pytest.mark.parametrize(
    "sizes", [{"features": -1}, {"hidden": 0}, {"blocks": 1.5}, {"blocks": True}, {"hidden": "8"}]
)
def test_sizes_that_make_no_sense_are_refused(sizes):
    (name,) = sizes
    with pytest.raises(ValueError, match=f"{name}: expected a whole number of at least"):
        ResidualMLP(**sizes)


def test_initial_weights_are_bounded_as_pytorch_draws_them():
    params = jax.jit(ResidualMLP(8, 16, 1).init)(jax.random.key(0))["pose"]
    block = params["blocks_0"]
    for layer, inputs in ((params["input"], 144), (block["linear1"], 152), (block["time"], 576)):
        for leaf in (layer["kernel"], layer["bias"]):
            assert 0.9 * inputs**-0.5 < np.abs(leaf).max() <= inputs**-0.5
    close("scale", block["norm1"]["scale"], np.ones(152))
    close("shift", block["norm1"]["bias"], np.zeros(152))
    assert {leaf.dtype for leaf in flatten(params).values()} == {np.dtype(np.float32)}


def test_gradient_by_features_equals_finite_differences():
    with jax.enable_x64(True):
        prior, rng = small_prior(8, 16, 1, dtype=np.float64), np.random.default_rng(0)
        x, c = jnp.asarray(rng.standard_normal((2, 144))), jnp.asarray(rng.standard_normal((2, 8)))

        def loss(c):
            return jnp.sum(prior.noise(x, 50, c) ** 2)

        value = jax.jit(loss)
        d = jnp.asarray(rng.standard_normal((2, 8)))
        wanted = (value(c + 1e-6 * d) - value(c - 1e-6 * d)) / 2e-6
        close("slope", jnp.sum(jax.jit(jax.grad(loss))(c) * d), wanted, rtol=1e-6)


def test_equal_features_have_finite_gradients():
    # Their variance is nought, and so may be that of the pose.
    prior = small_prior(8, 16, 1)
    gradient = jax.jit(jax.grad(lambda x, c: jnp.sum(prior.noise(x, 2, c) ** 2), (0, 1)))
    for leaf in gradient(jnp.zeros((1, 144)), jnp.zeros((1, 8))):
        assert np.isfinite(leaf).all()
