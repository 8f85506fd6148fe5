"""Training step, runs of many steps, and validation."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from training_runs import (
    OPTIMIZER,
    SCHEDULE,
    TINY,
    check_released_steps,
    draw_toy,
    elsewhere,
    toy_data,
    toy_state,
    toy_step,
)

from benchmarks.interruptions import mocap_file
from body_model import Skeleton, stand_in
from scorehmr_jax.networks.denoiser import ResidualMLP
from scorehmr_jax.training import run_data
from scorehmr_jax.training.ema import Ema
from scorehmr_jax.training.run import Stream, make_advance, make_run
from scorehmr_jax.training.sharding import Placement
from scorehmr_jax.training.step import (
    Noised,
    TrainingBatch,
    init_state,
    low_levels,
    make_step,
    make_update,
    noise_loss,
    released_optimizer,
    start_state,
    uniform_levels,
)
from scorehmr_jax.training.validation import BANDS, band_losses, inversion_error, sample_errors

ONE = Placement.of(jax.devices()[:1])
KEY = jax.random.key(2)

ELSEWHERE = """
import json, sys
from pathlib import Path
from training_runs import check_released_steps
from scorehmr_jax.training.sharding import Placement

placement = Placement.of(shard_parameters=True)
check_released_steps(Path(sys.argv[1]), "betas", placement)
print(json.dumps(placement.devices))
"""


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["pare", "betas"])
def test_twelve_scanned_steps_equal_the_released_ones(golden, variant):
    check_released_steps(golden, variant, ONE)


@pytest.mark.slow
def test_they_do_on_eight_devices(golden):
    # The process that is started could not say so itself.
    if not (golden / "ckpt/tiny_betas_ema_f16.npz").is_file():
        pytest.skip("tiny_betas_ema_f16.npz is in shared/golden alone")
    assert elsewhere(ELSEWHERE, golden, devices=8) == 8


@cache
def run_of(steps):
    """A program of so many steps, which is compiled once for all tests."""
    return make_run(toy_step(), draw_toy, steps, ONE)


@cache
def eight_steps():
    """The toy after eight steps, and their losses."""
    state, metrics = run_of(8)(toy_state(ONE), toy_data(), KEY)
    return jax.tree.map(np.asarray, state), metrics["loss"]


@pytest.mark.slow
def test_interrupted_run_goes_on_as_if_it_had_not_been():
    whole, losses = eight_steps()
    state, first = run_of(4)(toy_state(ONE), toy_data(), KEY)
    state, second = run_of(4)(state, toy_data(), KEY)
    np.testing.assert_allclose(np.concatenate([first["loss"], second["loss"]]), losses, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.slow
def test_an_interrupted_stream_goes_on_and_draws_the_noise_of_resident_data():
    """Batches that the resident run would draw, given from outside."""
    data = jnp.asarray(toy_data())

    def batches(start):
        for step in range(start, 8):
            key_data, _ = jax.random.split(jax.random.fold_in(KEY, step))
            yield jax.tree.map(np.asarray, draw_toy(key_data, step, data))

    stream = Stream(batches)
    state, first = make_advance(stream, toy_step(), ONE)(toy_state(ONE), KEY, 4)
    advance = make_advance(stream, toy_step(), ONE)
    state, second = advance(state, KEY, 4)
    losses = np.concatenate([first["loss"], second["loss"]])
    np.testing.assert_allclose(losses, eight_steps()[1], rtol=1e-5)
    with pytest.raises(ValueError, match="the stream ended at step 8: expected 4 more"):
        advance(state, KEY, 4)


@pytest.mark.slow
def test_training_lowers_the_loss():
    data = np.tile(np.linspace(-1, 1, 144, dtype=np.float32), (50, 1))
    state, losses = toy_state(ONE), []
    for _ in range(40):
        state, metrics = run_of(8)(state, data, KEY)
        losses.append(float(metrics["loss"].mean()))
    assert np.mean(losses[-5:]) < 0.5 * losses[0]


def test_estimates_of_other_poses_or_numbers_are_simulated_anew(tmp_path, monkeypatch):
    simulated = []

    def simulate(key, skeleton, poses, per_frame):
        simulated.append(per_frame)
        x = np.zeros((len(poses) * per_frame, 144), np.float32)
        return x, x + per_frame

    monkeypatch.setattr(run_data, "simulate_pairs", simulate)
    monkeypatch.setattr(run_data.body_model, "open_body", stand_in)
    mocap_file(tmp_path)

    def estimates(per_frame):
        data = run_data.from_mocap(tmp_path, tmp_path, 8, estimates_per_frame=per_frame)
        return data.training.data.features

    assert estimates(2).mean() == 2 and estimates(2).mean() == 2
    assert simulated == [2, 2]  # once for each split
    assert estimates(3).mean() == 3
    poses = dict(np.load(tmp_path / "mocap_poses.npz"))
    np.savez(tmp_path / "mocap_poses.npz", **poses | {"poses": poses["poses"] / 2})
    estimates(3)
    assert simulated == [2, 2, 3, 3, 3, 3]


def test_more_motion_capture_is_drawn_by_its_share(tmp_path):
    mocap_file(tmp_path)
    poses = dict(np.load(tmp_path / "mocap_poses.npz"))
    for number, name in enumerate(("one", "two"), start=1):
        same = np.full_like(poses["poses"][:7], 0.3 * number)
        kept = {key: poses[key] for key in poses if key.startswith("clip_")}
        index = np.full(7, np.flatnonzero(kept["clip_split"] == "train")[0])
        np.savez(
            tmp_path / f"{name}.npz",
            **kept | {"poses": same, "trans": poses["trans"][:7], "clip_index": index},
        )
    data = run_data.from_mocap(
        tmp_path, tmp_path, 1000, more=(("one.npz", 0.2), ("two.npz", 0.5)), roll=30.0
    )
    source = data.training
    assert data.facts["data.poses"] == len(source.data.x_0)
    drawn = np.asarray(jax.jit(source.draw)(KEY, 0, source.data).x_0)[:, -6:]  # the right hand
    kinds = [np.asarray(source.data.x_0)[row, -6:] for row in (-14, -7)]
    # Mirrored or not: entries of the matrix change their signs at most.
    shares = [(np.abs(np.abs(drawn) - np.abs(k)).max(1) < 1e-5).mean() for k in kinds]
    np.testing.assert_allclose(shares, [0.2, 0.5], atol=0.05)
    alone = run_data.from_mocap(tmp_path, tmp_path, 8)
    assert len(alone.training.data.x_0) == len(source.data.x_0) - 14
    assert len(alone.validation.x_0) == len(data.validation.x_0)


def test_a_batch_that_devices_cannot_share_is_refused():
    with pytest.raises(ValueError, match=r"expected a multiple of 4 \(1 devices x level_group"):
        ONE.check_batch(6, level_group=4)


def test_dropped_conditions_are_zeros_and_leave_the_noise_alone():
    seen = {}

    def update(state, batch):
        seen["features"], seen["noise"] = batch.features, batch.noise
        return state, {}

    batch = TrainingBatch(jnp.zeros((400, 144)), jnp.ones((400, 6)))
    noises = []
    for share in (0.0, 0.25):
        step = make_step(update, 1000, level_group=2, condition_dropout=share)
        step(toy_state(ONE), batch, jax.random.key(0))
        kept = seen["features"].reshape(400, 6)
        assert set(np.unique(kept)) <= {0, 1} and (kept == kept[:, :1]).all()
        assert abs(float((1 - kept).mean()) - share) < 0.08
        noises.append(seen["noise"])
    np.testing.assert_array_equal(*noises)


def test_products_can_be_asked_for_in_bfloat16():
    params = jax.eval_shape(partial(init_state, TINY, OPTIMIZER), jax.random.key(0)).params
    batch = Noised(jnp.zeros((4, 144)), None, jnp.zeros(4, int), jnp.zeros((4, 144)))

    def gradient(precision):  # as text, as not every device has these products
        loss = partial(noise_loss, TINY, SCHEDULE, batch=batch, precision=precision)
        return str(jax.make_jaxpr(jax.grad(lambda p: loss(p).mean()))(params))

    rough, exact = gradient("BF16_BF16_F32"), gradient("float32")
    assert rough.count("BF16_BF16_F32") > 10 and "BF16" not in exact
    # The sums of squares that norms are made of stay exact.
    assert "HIGHEST" in rough


def test_the_average_of_half_precision_weights_is_float32():
    params = {"w": jnp.ones((), jnp.bfloat16)}
    state = start_state(params, optax.sgd(0.0))
    assert state.ema["w"].dtype == jnp.float32
    average = Ema(decay=0.999, every=1, after=-(10**6)).update(
        {"w": jnp.zeros(())}, params, jnp.asarray(0)
    )
    np.testing.assert_allclose(average["w"], 1e-3, rtol=1e-4)


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
    t = jnp.array([5, 300, 900])
    noise = jax.random.normal(jax.random.key(1), (3, 144))
    batch = Noised(jnp.zeros((3, 144)), None, t, noise)

    @jax.jit
    def ratio(params):
        losses = (noise_loss(TINY, SCHEDULE, params, batch, gamma) for gamma in (1.0, 0.0))
        return next(losses) / next(losses)

    ratio = ratio(toy_state(ONE).params)
    np.testing.assert_allclose(ratio, 1 - SCHEDULE.alphas_cumprod[t], rtol=1e-3)


def test_batch_that_levels_cannot_share_is_refused():
    update = make_update(TINY, SCHEDULE, released_optimizer())
    step = make_step(update, 1000, level_group=4)
    with pytest.raises(ValueError, match="batch: expected a multiple of level_group 4, found 6"):
        step(None, TrainingBatch(jnp.zeros((6, 144)), None), jax.random.key(1))


def test_validation_of_a_network_that_sees_no_noise():
    params = jax.tree.map(jnp.zeros_like, toy_state(ONE).params)
    batch = TrainingBatch(jax.random.normal(jax.random.key(1), (64, 144)), None)
    losses = band_losses(TINY, SCHEDULE, params, batch, jax.random.key(2))
    assert losses.shape == (len(BANDS),)
    np.testing.assert_allclose(losses, 1, atol=0.05)
    # Without noise x only shrinks on the way up, and grows again on the way down.
    assert inversion_error(TINY, SCHEDULE, params, batch) < 1e-4


def test_samples_are_measured_and_the_best_of_many_is_nearer():
    denoiser = ResidualMLP(features=6, hidden=8, blocks=1)
    params = jax.jit(denoiser.init)(jax.random.key(0))
    upright = jnp.tile(jnp.array([1.0, 0, 0, 0, 1, 0]), (3, 24))
    batch = TrainingBatch(upright, jnp.ones((3, 6)))
    skeleton = Skeleton.of(stand_in())

    measure = jax.jit(partial(sample_errors, denoiser, SCHEDULE, skeleton, 6))
    found = measure(params, batch, jax.random.key(1))
    assert all(jnp.shape(value) == () and 0 < value < 2000 for value in found.values())
    for name in ("mpjpe", "pa_mpjpe"):
        assert found[f"best_{name}"] < found[f"sample_{name}"]
    assert found["sample_pa_mpjpe"] < found["sample_mpjpe"]
