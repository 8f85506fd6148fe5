from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from body_model.rotations import axis_angle_to_matrix
from scorehmr_jax.convert.denoiser import released_denoiser
from scorehmr_jax.denoiser import Denoiser, DenoiserConfig
from scorehmr_jax.diffusion import cosine_betas, schedule
from scorehmr_jax.prior import rotations_to_x
from scorehmr_jax.training.ema import Ema
from scorehmr_jax.training.step import (
    Batch,
    Noised,
    init_state,
    low_levels,
    make_run,
    make_step,
    make_update,
    noise_loss,
    released_optimizer,
    start_state,
    uniform_levels,
)
from scorehmr_jax.training.validation import BANDS, band_losses, inversion_error

SCHEDULE = schedule(cosine_betas())
TINY = Denoiser(DenoiserConfig(features=0, hidden=16, blocks=1))


def released_run(golden: Path, variant: str):
    """The released code's twelve steps: denoiser, first weights, batches, results."""
    weights = dict(np.load(golden / f"ckpt/tiny_{variant}_ema_f16.npz"))
    params, sizes = released_denoiser(weights)
    data = np.load(golden / f"train_steps_tiny_{variant}.npz")
    x_0 = rotations_to_x(axis_angle_to_matrix(data["pose_aa"].reshape(-1, 24, 3)))
    if sizes["shape_features"]:
        stats = np.load(golden / "pack/betas_stats_eft_fits.npz")
        low, high = stats["betas_min"], stats["betas_max"]
        x_0 = jnp.concatenate([x_0, 2 * (data["betas"] - low) / (high - low) - 1], axis=-1)
    steps = len(data["t"])
    batches = Noised(
        jnp.broadcast_to(x_0, (steps, *x_0.shape)),
        jnp.broadcast_to(data["feats"], (steps, *data["feats"].shape)),
        jnp.asarray(data["t"]),
        jnp.asarray(data["noise"]),
    )
    return Denoiser(DenoiserConfig(**sizes)), params, batches, data


def assert_close(found, expected, relative=1e-4):
    """Largest difference against the largest number."""
    expected = np.asarray(expected)
    np.testing.assert_allclose(found, expected, rtol=0, atol=relative * np.abs(expected).max())


@pytest.mark.parametrize("variant", ["pare", "betas"])
def test_twelve_scanned_steps_equal_the_released_ones(golden, variant):
    denoiser, params, batches, data = released_run(golden, variant)
    optimizer = released_optimizer()
    update = make_update(denoiser, SCHEDULE, optimizer)
    many = jax.jit(partial(jax.lax.scan, update), donate_argnums=0)
    state, metrics = many(start_state(jax.tree.map(jnp.asarray, params), optimizer), batches)

    np.testing.assert_allclose(metrics["loss"], data["loss"], rtol=1e-4)
    np.testing.assert_allclose(metrics["grad_norm"], data["grad_norm_before_clip"], rtol=1e-4)
    pose = state.params["pose"]
    assert_close(pose["input"]["kernel"].T, data["final_init_mlp_weight"])
    assert_close(pose["output"]["kernel"].T, data["final_final_mlp_weight"])
    assert_close(state.ema["pose"]["input"]["kernel"].T, data["ema_init_mlp_weight"])
    for weights, key in ((state.params, "probe_out"), (state.ema, "probe_out_ema")):
        out = denoiser.apply({"params": weights}, data["noise"][0], data["probe_t"], data["feats"])
        assert_close(out, data[key])
    assert state.step == 12


def test_average_follows_the_released_warm_up():
    ema, average, expected = Ema(), {"w": jnp.zeros(())}, 0.0
    update = jax.jit(ema.update)
    for step in range(400):
        value = float(np.sin(step / 7))
        average = update(average, {"w": jnp.asarray(value)}, jnp.asarray(step))
        if step % 10 == 0:
            decay = 0 if step <= 100 else min(0.995, 1 - (1 + step - 100) ** (-2 / 3))
            expected = decay * expected + (1 - decay) * value
        assert abs(float(average["w"]) - expected) < 1e-6


def test_levels_cover_all_and_favour_the_low_ones():
    quantile = (np.arange(100_000) + 0.5) / 100_000
    uniform = np.bincount(uniform_levels(quantile, 1000), minlength=1000)
    assert uniform.min() == uniform.max() == 100
    low = np.bincount(low_levels(quantile, 1000), minlength=1000)
    assert len(low) == 1000 and low.min() > 0
    assert low[:100].sum() == 50_000 and np.ptp(low[:100]) <= 2 and np.ptp(low[100:]) <= 2


def test_p2_weighting_weighs_levels_by_their_noise():
    params = init_state(TINY, optax.sgd(0.0), jax.random.key(0)).params
    t = jnp.array([5, 300, 900])
    noise = jax.random.normal(jax.random.key(1), (3, 144))
    batch = Noised(jnp.zeros((3, 144)), None, t, noise)
    loss = jax.jit(partial(noise_loss, TINY, SCHEDULE), static_argnames="p2_gamma")
    ratio = loss(params, batch, p2_gamma=1.0) / loss(params, batch)
    np.testing.assert_allclose(ratio, 1 - SCHEDULE.alphas_cumprod[t], rtol=1e-3)


OPTIMIZER = released_optimizer(3e-3)


@cache
def run_of(steps: int):
    """Compiled once for all tests."""

    def draw(key, data):
        return Batch(data[jax.random.randint(key, (32,), 0, len(data))], None)

    update = make_update(TINY, SCHEDULE, OPTIMIZER, Ema(0.9, 2, 0))
    return make_run(make_step(update, 1000, low_levels, share_level=4), draw, steps)


def test_interrupted_run_goes_on_as_if_it_had_not_been():
    data = jax.random.normal(jax.random.key(0), (50, 144))
    fresh = partial(init_state, TINY, OPTIMIZER, jax.random.key(1))
    whole, metrics = run_of(8)(fresh(), data, jax.random.key(2))
    half = run_of(4)
    state, first = half(fresh(), data, jax.random.key(2))
    state, second = half(state, data, jax.random.key(2))
    np.testing.assert_allclose(
        np.concatenate([first["loss"], second["loss"]]), metrics["loss"], rtol=1e-5
    )
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_training_lowers_the_loss():
    data = jnp.tile(jnp.linspace(-1, 1, 144), (50, 1))
    state = init_state(TINY, OPTIMIZER, jax.random.key(0))
    losses = []
    for _ in range(40):
        state, metrics = run_of(8)(state, data, jax.random.key(1))
        losses.append(float(metrics["loss"].mean()))
    assert np.mean(losses[-5:]) < 0.5 * losses[0]


def test_batch_that_levels_cannot_share_is_refused():
    update = make_update(TINY, SCHEDULE, released_optimizer())
    step = make_step(update, 1000, share_level=4)
    state = init_state(TINY, released_optimizer(), jax.random.key(0))
    with pytest.raises(ValueError, match="batch size 6 is no multiple of share_level 4"):
        step(state, Batch(jnp.zeros((6, 144)), None), jax.random.key(1))


def test_validation_of_a_denoiser_that_sees_no_noise():
    params = jax.tree.map(
        jnp.zeros_like, init_state(TINY, optax.sgd(0.0), jax.random.key(0)).params
    )
    batch = Batch(jax.random.normal(jax.random.key(1), (64, 144)), None)
    losses = band_losses(TINY, SCHEDULE, params, batch, jax.random.key(2))
    assert losses.shape == (len(BANDS),)
    np.testing.assert_allclose(losses, 1, atol=0.05)
    # Without noise x only shrinks on the way up, and grows again on the way down.
    assert inversion_error(TINY, SCHEDULE, params, batch) < 1e-4
