"""Noise schedules and DDIM, against the released code and against a mixture with known modes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bodies import HERE, arrays, close, golden_prior

from scorehmr_jax import diffusion
from scorehmr_jax.prior import Prior

KINDS = {"cosine": diffusion.cosine_betas, "linear": diffusion.linear_betas}
TABLES = {
    "alphas_cumprod": "alphas_cumprod",
    "sqrt_recip": "sqrt_recip",
    "sqrt_recip_minus_one": "sqrt_recipm1",
    "sqrt_one_minus": "sqrt_one_minus",
    "sqrt": "sqrt",
}


@pytest.fixture(scope="module")
def released():
    return arrays(HERE / "schedules.npz")


@pytest.fixture(scope="module")
def schedule():
    return diffusion.schedule(diffusion.cosine_betas())


@pytest.mark.parametrize("kind", KINDS)
def test_schedules_equal_the_released_code(released, kind):
    betas = KINDS[kind]()
    close(f"{kind}_betas_f64", betas, released[f"{kind}_betas_f64"], atol=1e-14)
    close(
        f"{kind}_alphas_cumprod_f64",
        np.cumprod(1 - betas),
        released[f"{kind}_alphas_cumprod_f64"],
        atol=1e-14,
    )
    found = diffusion.schedule(betas)
    assert found.num_steps == 1000
    for ours, theirs in TABLES.items():
        table = getattr(found, ours)
        assert table.dtype == np.float32
        # To the last digit: half of one moves joints at low levels.
        np.testing.assert_array_equal(table, released[f"{kind}_{theirs}"], err_msg=ours)


def test_the_ddim_step_alone_takes_roots_of_the_rounded_product(schedule):
    level = schedule.at(jnp.array([2, 50]), jnp.float32)
    a = schedule.alphas_cumprod[[2, 50]]
    np.testing.assert_array_equal(level.ddim_noise, np.sqrt(1 - a))
    np.testing.assert_array_equal(level.sqrt_one_minus, schedule.sqrt_one_minus[[2, 50]])
    assert (np.asarray(level.ddim_noise) != level.sqrt_one_minus).any()


def test_predicting_x_0_undoes_noise(schedule):
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        x_0, noise = (jnp.asarray(rng.standard_normal((4, 3, 144))) for _ in range(2))
        t = jnp.array([[0, 2, 50], [100, 300, 500], [700, 800, 900], [950, 980, 990]])
        x = diffusion.add_noise(schedule, x_0, t, noise)
        level = schedule.at(t[..., None], x.dtype)
        error = jnp.abs(diffusion.predict_x_0(level, x, noise) - x_0).max(-1)
        # The tables are float32's, so that far up, where x_0 is drowned, its digits are lost.
        assert (error < 1e-6 * jnp.asarray(schedule.sqrt_recip)[t]).all()


def test_noise_has_the_right_size(schedule):
    x_0 = 2 * jnp.ones((200, 144))
    for t in (2, 300, 900):
        noise = jax.random.normal(jax.random.key(t), x_0.shape)
        x = diffusion.add_noise(schedule, x_0, jnp.full(200, t), noise)
        a = float(schedule.alphas_cumprod[t])
        close("mean", x.mean(), 2 * np.sqrt(a), atol=5 * np.sqrt((1 - a) / x.size))
        close("variance", x.var(), 1 - a, rtol=0.05)


# A mixture of Gaussians, whose noise is known in closed form.

MODES = np.array([[1.0, 0, -1, 0.5], [-1, 1, 0, 0.5], [0.2, -1, 1, -0.5]])
SHARE = np.array([0.5, 0.3, 0.2])
SPREAD = 0.05


def mixture_noise(schedule, dtype=jnp.float32):
    def noise(x, t):
        level = schedule.at(t, dtype)
        signal, spread = 1 / level.sqrt_recip, level.sqrt_one_minus
        variance = signal**2 * SPREAD**2 + spread**2
        away = x[..., None, :] - signal * jnp.asarray(MODES, dtype)
        log_share = jnp.log(jnp.asarray(SHARE, dtype)) - (away**2).sum(-1) / (2 * variance)
        share = jax.nn.softmax(log_share, axis=-1)
        return spread / variance * (share[..., None] * away).sum(-2)

    return noise


def test_ddim_samples_a_known_mixture(schedule):
    x = jax.random.normal(jax.random.key(0), (2000, 4))
    times = diffusion.ddim_times(990, 0, 10)[::-1]
    sample = jax.jit(lambda x: diffusion.ddim(mixture_noise(schedule), schedule, x, times))
    latent, x_0 = map(np.asarray, sample(x))
    away = np.linalg.norm(x_0[:, None] - MODES, axis=-1)
    nearest = away.argmin(1)
    assert (away.min(1) < 6 * SPREAD).mean() > 0.98
    close("shares", np.bincount(nearest, minlength=3) / 2000, SHARE, atol=0.04)
    for mode in range(3):
        spread = latent[nearest == mode] - MODES[mode]
        close("mode", spread.mean(0), np.zeros(4), atol=0.01)
        close("spread", spread[np.abs(spread).max(1) < 6 * SPREAD].std(0), SPREAD, rtol=0.2)


def test_ddim_up_and_down_returns(schedule):
    noise = mixture_noise(schedule)
    x = MODES[[0, 1, 2]] + SPREAD * np.random.default_rng(0).standard_normal((3, 4))
    errors = []
    for step in (10, 2):
        times = diffusion.ddim_times(300, 0, step)
        up, _ = diffusion.ddim(noise, schedule, jnp.asarray(x, jnp.float32), times)
        down, _ = diffusion.ddim(noise, schedule, up, times[::-1])
        errors.append(float(jnp.abs(down - x).max()))
    assert errors[1] < 0.01
    assert errors[1] < errors[0] / 2


def test_times_ascend_to_the_start():
    np.testing.assert_array_equal(diffusion.ddim_times(10, 0, 2), [0, 2, 4, 6, 8, 10])
    np.testing.assert_array_equal(diffusion.ddim_times(9, 1, 4), [1, 5, 9])


def test_one_level_is_no_path(schedule):
    with pytest.raises(ValueError, match="times: expected at least two levels, found 1"):
        diffusion.ddim(mixture_noise(schedule), schedule, jnp.zeros(4), np.array([50]))


def test_a_schedule_has_a_name():
    for kind, betas in KINDS.items():
        jax.tree.map(
            np.testing.assert_array_equal,
            diffusion.named_schedule(kind, 500),
            diffusion.schedule(betas(500)),
        )


@pytest.mark.parametrize(
    ("kind", "steps", "message"),
    [
        ("sine", 1000, "expected one of cosine, linear, found 'sine'"),
        ("cosine", 1, "at least 2 levels, found 1"),
        ("cosine", 10.5, r"at least 2 levels, found 10\.5"),
        ("linear", 10, r"betas: expected \[T\] numbers in \[0, 1\)"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(kind, steps, message):
    with pytest.raises(ValueError, match=message):
        diffusion.named_schedule(kind, steps)


@pytest.mark.parametrize(
    "betas", [[], [0.1, 1.0], [0.0, 0.1], [np.nan, 0.1], [-0.1, 0.1], [[0.1, 0.2]]]
)
def test_betas_that_are_none_are_refused(betas):
    with pytest.raises(ValueError, match="betas: expected"):
        diffusion.schedule(np.array(betas))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_is_rounded_once(schedule, dtype):
    """At every level, the first and the last among them, where half precision has no digits."""
    rng = np.random.default_rng(0)
    x_0, noise = (jnp.asarray(rng.standard_normal((1000, 8)), dtype) for _ in range(2))
    t = np.arange(1000)
    found = diffusion.add_noise(schedule, x_0, t, noise)
    wanted = diffusion.add_noise(schedule, x_0.astype(np.float32), t, noise.astype(np.float32))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, wanted.astype(dtype))
    level = schedule.at(t, dtype)
    assert {leaf.dtype for leaf in jax.tree.leaves(level)} == {np.dtype(np.float32)}
    assert (np.asarray(level.ddim_noise) > 0).all()
    half, single = (
        diffusion.ddim(mixture_noise(schedule), schedule, x, np.arange(0, 301, 50))[0]
        for x in (x_0[:, :4], x_0[:, :4].astype(np.float32))
    )
    np.testing.assert_array_equal(half, single.astype(dtype))


@pytest.mark.parametrize("variant", ["tiny_pare", "tiny_betas"])
def test_sampling_equals_the_released_code(golden, variant):
    g = arrays(golden / f"loop_G_ddim_{variant}.npz")
    prior = golden_prior(golden, variant)

    @jax.jit
    def run(prior: Prior, x, features):
        def noise(x, t):
            return prior.noise(x, t, features)

        first = noise(x, jnp.asarray(950))
        times = np.arange(950, -1, -50)
        return first, diffusion.ddim(noise, prior.schedule, x, times, clip=1.0)[1]

    first, x_0 = run(prior, g["x_T"], g["cond_feats"])
    close("x_t_first3[0]", g["x_T"], g["x_t_first3"][0])
    close("pred_noise_first3[0]", first, g["pred_noise_first3"][0], atol=1e-5)
    level = prior.schedule.at(jnp.asarray(950), jnp.float32)
    x_start = jnp.clip(diffusion.predict_x_0(level, g["x_T"], first), -1, 1)
    close("x_start_first3[0]", x_start, g["x_start_first3"][0], atol=1e-4)
    target = prior.schedule.at(jnp.asarray(900), jnp.float32)
    close(
        "x_t_first3[1]", diffusion.ddim_step(target, x_start, first), g["x_t_first3"][1], atol=1e-4
    )
    close("x_0", x_0, g["x_0"], atol=1e-4)
