"""The prior as other code calls it: against mixtures in closed form, and on real poses."""

import dataclasses
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bodies import (
    close,
    compilations,
    dot,
    golden_prior,
    products,
    random_like,
    slope,
    small_prior,
)
from jax import export

from body_model.rotations import axis_angle_to_matrix
from scorehmr_jax import diffusion
from scorehmr_jax.load import load_prior, shipped_priors
from scorehmr_jax.networks.protocol import Network
from scorehmr_jax.prior import Prior, rotations_to_x, x_to_rotations
from scorehmr_jax.simulation import mocap

rng = np.random.default_rng(0)
MODES = rng.uniform(-0.8, 0.8, (3, 144))
SHARE = np.array([0.5, 0.3, 0.2])
SPREAD = 0.05
SCHEDULE = diffusion.schedule(diffusion.cosine_betas())


@dataclass(frozen=True)
class Mixture(Network):
    """A network that is exact: of a mixture of Gaussians, whose modes are its weights."""

    spread: float = SPREAD
    dim = 144
    condition_dim = 0

    def init(self, key):
        return {"modes": jax.random.normal(key, (3, 144)), "share": jnp.ones(3) / 3}

    def noise(self, params, x, t, features):
        noise, variance, away, log_share = self.parts(params, x, t)
        share = jax.nn.softmax(log_share, axis=-1)
        return noise / variance * (share[..., None] * away).sum(-2)

    def log_density(self, params, x, t):
        _, variance, _, log_share = self.parts(params, x, t)
        return jax.nn.logsumexp(log_share, axis=-1) - 72 * jnp.log(variance[..., 0])

    def parts(self, params, x, t):
        signal = jnp.asarray(SCHEDULE.sqrt, x.dtype)[t][..., None]
        noise = jnp.asarray(SCHEDULE.sqrt_one_minus, x.dtype)[t][..., None]
        variance = (signal * self.spread) ** 2 + noise**2
        away = x[..., None, :] - signal[..., None] * params["modes"]
        log_share = jnp.log(params["share"]) - (away**2).sum(-1) / (2 * variance)
        return noise, variance, away, log_share


MIXTURE, GAUSSIAN = Mixture(), Mixture(spread=0.3)


def exact(network, dtype=np.float32):
    modes, share = (MODES, SHARE) if network is MIXTURE else (MODES[:1], np.ones(1))
    params = {"modes": modes.astype(dtype), "share": share.astype(dtype)}
    return Prior(params, SCHEDULE, None, network, "none")


@pytest.fixture(scope="module")
def mixture():
    return exact(MIXTURE)


@pytest.fixture(scope="module")
def small():
    """A prior with random weights that takes eight features."""
    return small_prior()


# Score and mean.


def test_score_is_the_gradient_of_the_log_density():
    with jax.enable_x64(True):
        prior = exact(MIXTURE, np.float64)
        x = jnp.asarray(MODES[[0, 1, 2]] + 0.3 * rng.standard_normal((3, 144)))
        t = jnp.array([50, 400, 900])
        log_density = partial(prior.network.log_density, prior.params)
        score, wanted = jax.jit(
            lambda x: (prior.score(x, t), jax.vmap(jax.grad(log_density))(x, t))
        )(x)
        close("score", score, wanted, atol=1e-9)


def test_score_and_mean_follow_from_the_noise(small):
    prior, t = small, np.array([0, 50, 999])
    x, c = (rng.standard_normal((3, n)).astype(np.float32) for n in (144, 8))

    @jax.jit
    def run(prior, x, t, c):
        return prior.noise(x, t, c), prior.score(x, t, c), prior.denoise(x, t, c)

    noise, score, mean = run(prior, x, t, c)
    a = np.cumprod(1 - diffusion.cosine_betas())[t][:, None]
    close("score", score, -noise / np.sqrt(1 - a), rtol=1e-4, atol=1e-4)
    # At the last level almost nothing is left of x_0, and its digits drown.
    scale = np.abs(noise) / np.sqrt(a)
    assert (np.abs(mean - (x - np.sqrt(1 - a) * noise) / np.sqrt(a)) < 1e-5 * (scale + 1)).all()
    one = run(prior, x[1], np.array(50), c[1])
    close("one level, one pose", one[1], score[1], rtol=1e-4, atol=1e-3)


# Energy.


def test_energy_of_a_gaussian_is_its_negative_log_density():
    with jax.enable_x64(True):
        prior = exact(GAUSSIAN, np.float64)
        away = np.array([0.0, 0.1, 0.3, 0.5])[:, None] * rng.choice([-1, 1], (4, 144))
        x = jnp.asarray(MODES[0] + away)
        run = jax.jit(lambda k: prior.energy(x, k, draws=64))
        found = jnp.mean(jnp.stack([run(k) for k in jax.random.split(jax.random.key(0), 8)]), 0)
        a = np.cumprod(1 - diffusion.cosine_betas())[[10, 500]]
        square = (away**2).sum(-1)
        # KL(q(x_t | x_0), p_t) of two Gaussians, without what is the same for every pose.
        low, high = (t * square / (2 * (t * 0.09 + 1 - t)) for t in a)
        close("energy", found - found[0], low - high, rtol=0.03, atol=0.5)
        # And that is nearly the density's own.
        close("-log p", found - found[0], square / (2 * 0.09), rtol=0.15, atol=0.5)


def test_energy_falls_toward_the_modes(mixture):
    run = jax.jit(lambda x, k: mixture.energy(x, k))
    steps = np.linspace(0, 0.5, 4)[:, None]
    between = MODES[0] + steps * (MODES[1] - MODES[0])
    energy = run(jnp.asarray(between, jnp.float32), jax.random.key(0))
    assert (np.diff(energy) > 0).all()


def test_gradient_of_the_energy_equals_finite_differences():
    with jax.enable_x64(True):
        prior = small_prior(8, 16, 2, dtype=np.float64)
        x, c = jnp.asarray(rng.standard_normal((2, 144))), jnp.asarray(rng.standard_normal((2, 8)))
        key = jax.random.key(3)

        def energy(x):
            return prior.energy(x, key, c).sum()

        value, gradient = jax.jit(energy), jax.jit(jax.grad(energy))(x)
        for d in jnp.asarray(rng.standard_normal((4, 2, 144))):
            wanted = (value(x + 1e-5 * d) - value(x - 1e-5 * d)) / 2e-5
            close("slope", jnp.sum(gradient * d), wanted, rtol=1e-6)


def test_energy_is_one_number_per_pose_and_one_function_per_key():
    prior = small_prior()
    x, c = (rng.standard_normal((2, 3, n)).astype(np.float32) for n in (144, 8))
    with compilations() as programs:
        run = jax.jit(Prior.energy)
        energy = run(prior, x, jax.random.key(0), c)
        count = len(programs)
        again = run(small_prior(), x, jax.random.key(0), c)
        other = run(prior, x, jax.random.key(1), c)
        assert len(programs) <= count + 2  # the keys themselves
    assert energy.shape == (2, 3)
    np.testing.assert_array_equal(energy, again)
    assert (np.asarray(energy) != other).all()
    mapped = jax.jit(jax.vmap(lambda x, c: prior.energy(x, jax.random.key(0), c)))(x, c)
    close("vmap", mapped, energy, rtol=1e-4)


def test_energy_has_a_gradient_by_the_weights():
    prior = small_prior(0)
    x = rng.standard_normal((2, 144)).astype(np.float32)

    @jax.jit
    @jax.grad
    def slope(params):
        return dataclasses.replace(prior, params=params).energy(x, jax.random.key(0)).sum()

    leaves = jax.tree.leaves(slope(prior.params))
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    assert any(np.abs(leaf).max() > 0 for leaf in leaves)


def test_energy_looks_where_it_is_told():
    # Strata between two neighbouring levels can only take the upper.
    class Recorder(Mixture):
        def noise(self, params, x, t, features):
            jax.debug.callback(lambda t: seen.append(int(t)), t)
            return super().noise(params, x, t, features)

    for low, high in ((10, 500), (1, 2), (300, 999)):
        seen: list[int] = []
        energy = jax.jit(partial(exact(Recorder(0.3)).energy, levels=(low, high), draws=32))
        energy(jnp.zeros(144), jax.random.key(0))
        jax.effects_barrier()
        assert len(seen) == 32 and low <= min(seen) and max(seen) <= high
        log_snr = np.log((a := np.cumprod(1 - diffusion.cosine_betas())) / (1 - a))
        # Even in log signal-to-noise, not in level.
        found = np.sort(log_snr[seen])[::-2]
        edges = np.linspace(log_snr[low], log_snr[high], 17)
        slack = np.abs(np.diff(log_snr[low : high + 1])).max() + 1e-6
        assert (found <= edges[:-1] + slack).all() and (found >= edges[1:] - slack).all()


@pytest.mark.parametrize("draws", [0, 1, 7, -2])
def test_an_odd_number_of_draws_is_refused(draws):
    with pytest.raises(ValueError, match=f"an even number of at least 2, found {draws}"):
        small_prior(0).energy(jnp.zeros(144), jax.random.key(0), draws=draws)


@pytest.mark.parametrize("levels", [(0, 10), (10, 10), (20, 10), (10, 1000)])
def test_levels_outside_the_schedule_are_refused(levels):
    with pytest.raises(ValueError, match="levels: expected 0 < low < high < 1000"):
        small_prior(0).energy(jnp.zeros(144), jax.random.key(0), levels=levels)


# Sampling and inversion.


def test_samples_recover_the_modes(mixture):
    sample = jax.jit(lambda key: mixture.sample(key, shape=(2, 500), step=20))
    found = np.asarray(sample(jax.random.key(0)))
    assert found.shape == (2, 500, 144)
    away = np.linalg.norm(found.reshape(-1, 1, 144) - MODES, axis=-1)
    nearest = away.argmin(1)
    size = SPREAD * np.sqrt(144)  # how far a draw lies from its mode
    assert (away.min(1) < 1.2 * size).mean() > 0.99
    close("shares", np.bincount(nearest, minlength=3) / 1000, SHARE, atol=0.06)
    for mode in range(3):
        middle = found.reshape(-1, 144)[nearest == mode].mean(0)
        close(f"mode {mode}", middle, MODES[mode], atol=0.03)
    assert len(np.unique(nearest[:500])) == 3 and (found[0] != found[1]).any()
    np.testing.assert_array_equal(sample(jax.random.key(0)), found)


def test_samples_stay_in_bounds(small):
    c = rng.standard_normal((3, 8)).astype(np.float32)

    @jax.jit
    def sample(key, c):
        return [small.sample(key, c, shape=(4, 3), step=250, clip=clip) for clip in (1.0, None)]

    found, free = map(np.asarray, sample(jax.random.key(0), c))
    assert found.shape == (4, 3, 144) and found.dtype == np.float32
    assert np.abs(found).max() <= 1
    assert (found[0] != found[1]).any(1).all()  # hypotheses differ
    assert np.abs(free).max() > 1


def test_decode_undoes_encode(mixture):
    x = jnp.asarray(MODES + SPREAD * rng.standard_normal((3, 144)), jnp.float32)
    for start, limit in ((50, 3e-3), (300, 5e-3)):
        latent = mixture.encode(x, start=start)
        assert np.abs(latent - x).max() > 0.01
        error = np.abs(mixture.decode(latent, start=start) - x)
        print(f"inversion to level {start} and back: {error.mean():.1e} per dimension")
        assert error.mean() < limit


def test_latents_are_noisier_higher_up():
    # Of a draw from the prior the latent is a draw of x_t.
    prior = exact(GAUSSIAN)
    x = jnp.asarray(MODES[0] + 0.3 * rng.standard_normal((50, 144)), jnp.float32)
    a = prior.schedule.alphas_cumprod[300]
    latent = np.asarray(prior.encode(x, start=300))
    close("spread", (latent - np.sqrt(a) * MODES[0]).std(), np.sqrt(a * 0.09 + 1 - a), rtol=0.03)


def test_sampling_and_inversion_have_gradients_and_map():
    with jax.enable_x64(True):
        prior, key = small_prior(dtype=np.float64), jax.random.key(0)
        at = tuple(jnp.asarray(rng.standard_normal((3, n))) for n in (144, 8))

        def inversion(x, c):
            return prior.encode(x, c, start=4), prior.decode(x, c, start=4)

        def loss(at):
            drawn = prior.sample(key, at[1], step=250, clip=None)
            return sum(
                jnp.sum(jnp.sin(i * each)) for i, each in enumerate((*inversion(*at), drawn), 1)
            )

        direction = random_like(jax.random.key(1), at)
        found, wanted = (
            dot(jax.jit(jax.grad(loss))(at), direction),
            slope(jax.jit(loss), at, direction, 1e-6),
        )
        assert wanted != 0 and abs(found - wanted) < 1e-5 * abs(wanted)
        together, mapped = jax.jit(lambda x, c: (inversion(x, c), jax.vmap(inversion)(x, c)))(*at)
        close("vmap", mapped, together, atol=1e-9)


def test_a_path_of_many_levels_keeps_its_memory():
    prior, c = small_prior(hidden=256), jnp.zeros((64, 8))

    def total(c):
        return jnp.sum(prior.sample(jax.random.key(0), c, step=2))

    latent = 64 * 144 * 4
    for run, limit in ((total, 20 * latent), (jax.grad(total), 2 * 500 * latent)):
        memory = jax.jit(run).lower(c).compile().memory_analysis()
        assert memory.temp_size_in_bytes < limit


def test_precision_is_that_of_the_pose():
    with jax.enable_x64(True):
        prior, c = small_prior(), np.zeros((2, 8))
        for dtype in (np.float32, np.float64):
            x = np.zeros((2, 144), dtype)
            for method in (prior.encode, prior.decode):
                assert jax.eval_shape(method, x, c).dtype == dtype
        sample = jax.eval_shape(lambda: prior.sample(jax.random.key(0), c))
    assert sample.dtype == np.float32


def test_one_pose_under_many_features():
    prior = small_prior()
    x, c = (rng.standard_normal(s).astype(np.float32) for s in ((144,), (3, 8)))
    encode = jax.jit(lambda x, c: prior.encode(x, c, start=4))
    found = encode(x, c)
    wanted = encode(np.stack([x] * 3), c)
    close("latents", found, wanted, atol=1e-5)
    for call in (
        lambda: prior.encode(jnp.zeros((2, 144)), c),
        lambda: prior.sample(jax.random.key(0), c, shape=(2,)),
    ):
        with pytest.raises(
            ValueError, match=r"rows that broadcast .* \(2,\), found shape \(3, 8\)"
        ):
            call()


METHODS = {
    "noise": lambda prior, x, c: prior.noise(x, np.array(50), c),
    "denoise": lambda prior, x, c: prior.denoise(x, np.array([50, 60]), c),
    "score": lambda prior, x, c: prior.score(x, 50, c),
    "energy": lambda prior, x, c: prior.energy(x, jax.random.key(0), c),
    "encode": lambda prior, x, c: prior.encode(x, c, start=4),
    "decode": lambda prior, x, c: prior.decode(x, c, start=4),
    "sample": lambda prior, x, c: prior.sample(jax.random.key(0), c, shape=(3, 2), step=250),
    "network": lambda prior, x, c: prior.network.noise(prior.params, x, np.array(50), c),
    "training": lambda prior, x, c: jax.value_and_grad(
        lambda x: prior.network.training_noise(prior.params, x, np.array(50), c).sum()
    )(x),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sizes", [(0, 0), (8, 0), (8, 6)], ids=["alone", "features", "shape"])
def test_nothing_is_broadcast_or_promoted_unasked(method, sizes):
    """Under the switches that other projects test with; they act where a function is traced."""
    features, shape_features = sizes
    prior = small_prior(features, shape_features=shape_features)
    x = np.zeros((2, prior.dim), np.float32)
    c = np.zeros((2, sum(sizes)), np.float32) if features else None
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        jax.make_jaxpr(METHODS[method])(prior, x, c)


@jax.jit
def all_of(prior, x, c):
    names = METHODS.keys() - {"network", "training"}
    return {name: METHODS[name](prior, x, c) for name in sorted(names)}


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_near_single(small, dtype):
    """Weights, poses and features of half precision: results are rounded, the way is not."""
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), small.params)
    half = dataclasses.replace(small, params=params)
    # Features as far from zero as a sum of squares of half precision cannot be.
    x, c = (jnp.asarray(m * rng.standard_normal((2, n)), dtype) for m, n in ((1, 144), (99, 8)))
    wanted = all_of(*jax.tree.map(lambda leaf: leaf.astype(np.float32), (half, x, c)))
    for name, found in all_of(half, x, c).items():
        single = name in ("energy", "sample")
        assert found.dtype == (np.float32 if single else dtype)
        rounding = 1e-4 if single else float(jnp.finfo(dtype).eps)
        close(name, np.asarray(found, np.float32), wanted[name], rtol=rounding, atol=1e-4)


def test_a_prior_is_an_argument_of_an_exported_function(small):
    x, c = (rng.standard_normal((2, n)).astype(np.float32) for n in (144, 8))
    run = jax.jit(lambda prior, x, c: prior.score(x, 50, c))
    written = export.export(run)(small, x, c).serialize()
    found = export.deserialize(bytearray(written)).call(small, x, c)
    close("score", found, run(small, x, c), rtol=1e-6)


def test_levels_that_do_not_broadcast_are_refused(small):
    x, c = jnp.zeros((2, 144)), jnp.zeros((2, 8))
    with pytest.raises(ValueError, match=r"t: expected levels that broadcast .* \(2,\), found"):
        small.noise(x, np.array([1, 2, 3]), c)


def test_what_a_prior_is_conditioned_on_is_checked(small):
    with pytest.raises(ValueError, match="expected one of features, estimate, none, found 'image'"):
        dataclasses.replace(small, condition_on="image")


def test_a_prior_with_shape_takes_ten_numbers_of_it():
    prior = small_prior(shape_features=6)
    pose = jnp.broadcast_to(jnp.eye(3), (2, 24, 3, 3))
    with pytest.raises(ValueError, match="models 10 shape numbers, found 11"):
        prior.x_of(pose, jnp.zeros((2, 11)))


@pytest.mark.parametrize(
    ("t", "message"),
    [
        (1000, "this prior has levels 0 to 999, found 1000 to 1000"),
        (np.array([5, -1]), "found -1 to 5"),
        (50.0, "expected integer levels, found float32"),
    ],
)
def test_levels_that_do_not_exist_are_refused(t, message):
    prior, x = small_prior(0), jnp.zeros((2, 144))
    for method in (prior.noise, prior.score, prior.denoise):
        with pytest.raises(ValueError, match=message):
            method(x, t)


def test_levels_known_to_a_traced_function_are_checked(small):
    x, c = jnp.zeros((2, 144)), jnp.zeros((2, 8))
    for t in (jnp.array([5, 50]), np.array([5, 50]), 5, np.int64(5), jnp.uint8(5)):
        assert jax.eval_shape(lambda x, c, t=t: small.score(x, t, c), x, c).shape == (2, 144)
    for t in (jnp.array([5, 1000]), np.array([5, 1000])):
        with pytest.raises(ValueError, match="found 5 to 1000"):
            jax.eval_shape(lambda x, c, t=t: small.score(x, t, c), x, c)


@pytest.mark.parametrize(("start", "step"), [(50, 0), (49, 2), (0, 2), (1000, 2), (2, 4), (50, -2)])
def test_a_path_that_does_not_fit_is_refused(start, step):
    prior, x = small_prior(0), jnp.zeros(144)
    for method in (prior.encode, prior.decode):
        with pytest.raises(ValueError, match=f"found start={start}, step={step}"):
            method(x, start=start, step=step)


@pytest.mark.parametrize("step", [0, -1, 501])
def test_steps_that_make_no_path_are_refused(step):
    with pytest.raises(ValueError, match=f"step: expected 1 to 500, found {step}"):
        small_prior(0).sample(jax.random.key(0), step=step)


def test_widths_that_do_not_fit_are_refused():
    prior, key = small_prior(8), jax.random.key(0)
    x, c = jnp.zeros((2, 144)), jnp.zeros((2, 8))
    calls = {
        "noise": lambda x, c: prior.noise(x, 5, c),
        "score": lambda x, c: prior.score(x, 5, c),
        "denoise": lambda x, c: prior.denoise(x, 5, c),
        "energy": lambda x, c: prior.energy(x, key, c),
        "encode": prior.encode,
        "decode": prior.decode,
        "sample": lambda x, c: prior.sample(key, c),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError, match=r"width 8, found shape \(2, 7\)"):
            call(x, c[:, :7])
        with pytest.raises(ValueError, match="needs 8 numbers per sample, found none"):
            call(x, None)
        if name != "sample":
            with pytest.raises(ValueError, match=r"diffuses 144 numbers, found shape \(2, 143\)"):
                call(x[:, :143], c)


def test_x_and_rotations():
    turns = rng.standard_normal((2, 24, 3)).astype(np.float32)
    matrices = axis_angle_to_matrix(turns)
    x = rotations_to_x(matrices)
    assert x.shape == (2, 144)
    close("column by column", x[1, 6:12], np.concatenate(np.asarray(matrices)[1, 1].T[:2]))
    close("back", x_to_rotations(x), matrices, atol=1e-6)
    with_shape = jnp.concatenate([x, jnp.ones((2, 10))], -1)
    close("with shape", x_to_rotations(with_shape), matrices, atol=1e-6)


# Real networks.


@pytest.mark.parametrize("name", ["open-uncond", "open-cond"])
def test_inversion_returns_held_out_poses(open_data, name):
    """Inverts real poses that the shipped networks never saw, and samples back unguided."""
    if name not in shipped_priors():
        pytest.skip(f"{name} does not come with the package yet")
    frames = mocap.read(open_data / "mocap_poses.npz").select("test").poses[::32]
    world = rotations_to_x(axis_angle_to_matrix(frames))
    turn = mocap.camera_rotations(jax.random.key(0), (len(frames),))
    pose_6d = mocap.rotate_root(turn, world)
    prior = load_prior(name)
    features = pose_6d if prior.network.condition_dim else None

    @jax.jit
    def there_and_back(prior, x, features):
        return prior.decode(prior.encode(x, features), features)

    error = np.abs(there_and_back(prior, pose_6d, features) - pose_6d)
    print(f"{name}: {error.mean():.1e} per dimension (the paper: 1e-3)")
    assert error.mean() < 3e-3


def test_inversion_with_the_released_kind_of_network(golden):
    prior = golden_prior(golden, "tiny_pare")
    with np.load(golden / "loop_A_keypoints_early_stop.npz") as g:
        x, c = rotations_to_x(jnp.asarray(g["pred_pose"])), jnp.asarray(g["cond_feats"])
    run = jax.jit(lambda prior, x, c: prior.decode(prior.encode(x, c), c))
    error = np.abs(run(prior, x, c) - x)
    print(f"tiny_pare: {error.mean():.1e} per dimension")
    assert error.mean() < 5e-3


def test_the_example_needs_the_prior():
    if "open-uncond" not in shipped_priors():
        pytest.skip("the prior of the example does not come with the package yet")
    path = Path(__file__).parents[1] / "examples" / "fit_keypoints.py"
    run = subprocess.run(
        [sys.executable, path], capture_output=True, text=True, timeout=300, check=True
    )
    before, alone, both = (line.split() for line in run.stdout.splitlines())
    # Pixels alone are soon met, and say too little of the depth.
    assert float(alone[-4]) < 0.1 * float(before[-4])
    assert float(both[-2]) < 0.8 * min(float(alone[-2]), float(before[-2]))


@pytest.mark.parametrize("method", ["noise", "denoise", "score", "energy", "sample", "encode"])
def test_no_product_is_rounded_to_tf32(small, method):
    # An accelerator's default; the precision is in the program, so that a CPU can tell.
    x, c, key = jnp.zeros((2, small.dim)), jnp.zeros((2, 8)), jax.random.key(0)
    ways = {
        "noise": lambda x: small.noise(x, 5, c),
        "denoise": lambda x: small.denoise(x, 5, c),
        "score": lambda x: small.score(x, 5, c),
        "energy": lambda x: small.energy(x, key, c),
        "sample": lambda x: small.sample(key, c),
        "encode": lambda x: small.encode(x, c),
    }
    with jax.default_matmul_precision("bfloat16"):
        found = products(jax.make_jaxpr(ways[method])(x))
    assert found and set(found) == {(jax.lax.Precision.HIGHEST,) * 2}
