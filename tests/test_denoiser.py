"""The denoiser against the released code's, and its shortcuts against a plain transcription."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bodies import VARIANTS, arrays, close, golden_prior, plain_denoiser, small_prior

from scorehmr_jax.networks.denoiser import Denoiser, DenoiserConfig, fold, sinusoid
from scorehmr_jax.prior import Prior

noise = jax.jit(Prior.noise)


@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_the_released_code(golden, variant):
    g = arrays(golden / f"denoiser_{variant}.npz")
    prior = golden_prior(golden, variant)
    for t in (0, 2, 50, 999):
        found = noise(prior, g[f"x_t{t}"], np.full(len(g["feats"]), t), g["feats"])
        close(f"out_t{t}", found, g[f"out_t{t}"], atol=1e-5)
    found = noise(prior, g["x_mixed"], g["t_mixed"], g["feats"])
    close("out_mixed", found, g["out_mixed"], atol=1e-5)
    # The last digit of a rate, times 999.
    close("sinusoidal", sinusoid(g["t_mixed"], 144), g["sinusoidal"], atol=1e-4)


def test_time_embedding_equals_the_released_code(golden):
    g = arrays(golden / "denoiser_tiny_pare.npz")
    prior = golden_prior(golden, "tiny_pare")
    stream = fold(prior.config, prior.params).streams[0]
    close("time_emb", jax.jit(stream.embedding)(g["t_mixed"]), g["time_emb"], atol=1e-5)


@pytest.mark.parametrize(
    ("features", "hidden", "blocks"), [(8, 16, 1), (0, 24, 2), (3072, 16, 1), (1, 16, 3)]
)
def test_shortcuts_equal_the_plain_transcription(features, hidden, blocks):
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        prior = small_prior(features, hidden, blocks, dtype=np.float64)
        x, t = rng.standard_normal((5, 144)), np.array([0, 2, 50, 500, 999])
        # Means far from zero are where a variance of sums would lose its digits.
        c = 3 + 2 * rng.standard_normal((5, features)) if features else None
        found = noise(prior, x, t, c)
        wanted = plain_denoiser(prior.params["pose"], x, t, c)
        close("noise", found, wanted, atol=1e-11 * np.abs(wanted).max())


def test_float32_keeps_its_digits_under_features_far_from_zero():
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((5, 144)), np.array([0, 2, 50, 500, 999])
    c = 100 + rng.standard_normal((5, 512))
    prior = small_prior(512, 64, 2)
    wanted = plain_denoiser(jax.tree.map(lambda a: a.astype(float), prior.params["pose"]), x, t, c)
    found = noise(prior, x.astype(np.float32), t, c.astype(np.float32))
    close("noise", found, wanted, atol=1e-4 * np.abs(wanted).max())


def test_shape_stream_sees_its_own_features():
    with jax.enable_x64(True):
        prior = small_prior(6, 16, 1, shape_features=4, dtype=np.float64)
        assert prior.dim == 154 and prior.config.condition_dim == 10
        rng = np.random.default_rng(0)
        x, c = (rng.standard_normal((3, n)) for n in (154, 10))
        t = np.array([0, 50, 900])
        pose = plain_denoiser(prior.params["pose"], x[:, :144], t, c[:, :6])
        shape = plain_denoiser(prior.params["shape"], x[:, 144:], t, c[:, 6:])
        wanted = np.concatenate([pose, shape], -1)
        close("noise", noise(prior, x, t, c), wanted, atol=1e-10 * np.abs(wanted).max())


def test_prepared_once_serves_every_step():
    prior = small_prior(8, 16, 2)
    rng = np.random.default_rng(0)
    x, c = (rng.standard_normal((4, n)).astype(np.float32) for n in (144, 8))

    @jax.jit
    def by_parts(x, c):
        network = fold(prior.config, prior.params)
        table = network.modulation(jnp.arange(0, 50, 2))
        return network(x, jax.tree.map(lambda leaf: leaf[7], table), network.condition(c))

    close("noise", by_parts(x, c), noise(prior, x, np.full(4, 14), c), rtol=1e-4, atol=1e-4)


def test_one_is_as_many_and_any_leading_axes_do():
    prior, rng = small_prior(8, 16, 2), np.random.default_rng(0)
    x, c = (rng.standard_normal((2, 3, n)).astype(np.float32) for n in (144, 8))
    t = np.array([[0, 2, 4], [50, 500, 999]])
    many = noise(prior, x, t, c)
    assert many.shape == (2, 3, 144)
    close("one", noise(prior, x[1, 2], t[1, 2], c[1, 2]), many[1, 2], rtol=1e-4, atol=1e-4)
    close(
        "one level for all",
        noise(prior, x, np.array(50), c)[1, 0],
        many[1, 0],
        rtol=1e-4,
        atol=1e-4,
    )
    # Hypotheses of the same images.
    wide = noise(prior, x, np.array(50), c[0])
    close("features of the last axis", wide[1, 2], noise(prior, x[1, 2], np.array(50), c[0, 2]),
          rtol=1e-4, atol=1e-4)  # fmt: skip


def test_sizes_of_the_released_model():
    shapes = jax.eval_shape(
        Denoiser(DenoiserConfig()).init,
        jax.random.key(0),
        jnp.zeros((1, 144)),
        jnp.zeros(1, int),
        jnp.zeros((1, 3072)),
    )
    assert sum(x.size for x in jax.tree.leaves(shapes)) == 11_307_024


def test_initial_weights_are_bounded_as_pytorch_draws_them():
    prior = small_prior()
    model = Denoiser(prior.config)
    params = jax.jit(model.init)(
        jax.random.key(0), jnp.zeros((1, 144)), jnp.zeros(1, int), jnp.zeros((1, 8))
    )["params"]["pose"]
    block = params["blocks_0"]
    for layer, inputs in ((params["input"], 144), (block["linear1"], 152), (block["time"], 576)):
        for leaf in (layer["kernel"], layer["bias"]):
            assert 0.9 * inputs**-0.5 < np.abs(leaf).max() <= inputs**-0.5
    close("scale", block["norm1"]["scale"], np.ones(152))
    close("shift", block["norm1"]["bias"], np.zeros(152))


def test_gradient_by_features_equals_finite_differences():
    with jax.enable_x64(True):
        prior, rng = small_prior(8, 16, 1, dtype=np.float64), np.random.default_rng(0)
        x, c = jnp.asarray(rng.standard_normal((2, 144))), jnp.asarray(rng.standard_normal((2, 8)))
        loss = jax.jit(lambda c: jnp.sum(prior.noise(x, 50, c) ** 2))
        d = jnp.asarray(rng.standard_normal((2, 8)))
        wanted = (loss(c + 1e-6 * d) - loss(c - 1e-6 * d)) / 2e-6
        close("slope", jnp.sum(jax.jit(jax.grad(loss))(c) * d), wanted, rtol=1e-6)


def test_equal_features_have_finite_gradients():
    # Their variance is nought, and so may be that of the pose.
    prior = small_prior(8, 16, 1)
    gradient = jax.jit(jax.grad(lambda x, c: jnp.sum(prior.noise(x, 2, c) ** 2), (0, 1)))
    for leaf in gradient(jnp.zeros((1, 144)), jnp.zeros((1, 8))):
        assert np.isfinite(leaf).all()
