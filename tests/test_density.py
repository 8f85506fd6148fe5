"""The benchmark of densities: mixtures, the probability-flow ODE, what is counted of samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bodies import close
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from benchmarks import density
from benchmarks.mixture import FLOOR, Mixture, fit
from benchmarks.priors import Gaussian
from body_model import stand_in
from body_model.joints import JOINT_NAMES
from body_model.rotations import axis_angle_to_matrix
from scorehmr_jax.diffusion import cosine_betas, schedule
from scorehmr_jax.prior import rotations_to_x

SCHEDULE = schedule(cosine_betas())
A = np.cumprod(1 - cosine_betas())
DIM = 4


@jax.jit
def to_x(turns):
    return rotations_to_x(axis_angle_to_matrix(turns))


def mixture(count=3, dim=DIM, seed=0):
    rng = np.random.default_rng(seed)
    root = 0.3 * rng.standard_normal((count, dim, dim))
    covariance = root @ root.transpose(0, 2, 1) + 1e-3 * np.eye(dim)
    arrays = (rng.dirichlet(np.ones(count)), rng.uniform(-1, 1, (count, dim)), covariance)
    return Mixture(*(jnp.asarray(a, jnp.float32) for a in arrays))


def closed_form(parts, x, a=1.0):
    """Log-densities of sqrt(a) times a draw plus noise, by scipy in double precision."""
    logs = [
        np.log(share) + multivariate_normal.logpdf(x, a**0.5 * mean, a * c + (1 - a) * np.eye(DIM))
        for share, mean, c in zip(*(np.asarray(p, float) for p in parts), strict=True)
    ]
    return logsumexp(logs, axis=0)


def test_a_mixtures_density_is_scipys():
    parts, x = mixture(), np.random.default_rng(1).uniform(-1, 1, (20, DIM)).astype(np.float32)
    close("clean", parts.log_density(x), closed_form(parts, x), rtol=1e-4, atol=1e-3)
    at = jax.jit(lambda t: parts.at(SCHEDULE, t).log_density(x))
    for t in (10, 50, 500):
        found = at(t)
        close(f"level {t}", found, closed_form(parts, x, A[t]), rtol=1e-4, atol=1e-3)


def test_samples_have_the_mixtures_moments():
    parts = mixture()
    x = np.asarray(parts.sample(jax.random.key(0), 50_000), float)
    share, mean, covariance = (np.asarray(p, float) for p in parts)
    away = mean - share @ mean
    close("mean", x.mean(0), share @ mean, atol=0.02)
    spread = np.einsum("k,kij->ij", share, covariance) + (away.T * share) @ away
    close("covariance", np.cov(x.T), spread, atol=0.03)


def test_em_finds_the_components_that_poses_were_drawn_from():
    covariance = jnp.stack([0.04 * jnp.eye(DIM), 0.09 * jnp.eye(DIM)])
    true = Mixture(jnp.array([0.7, 0.3]), jnp.array([[-1.0] * DIM, [1.0] * DIM]), covariance)
    found = fit(0, true.sample(jax.random.key(0), 5000), 2)
    order = jnp.argsort(-found.share)
    for name, a, b in zip(Mixture._fields, found, true, strict=True):
        close(name, a[order], b, atol=0.03)


def test_em_keeps_a_floor_where_nothing_varies():
    x = jnp.zeros((50, DIM)).at[:, 0].set(jnp.linspace(-1, 1, 50))
    (covariance,) = fit(0, x, 1).covariance
    close("variances", np.diagonal(covariance)[1:], FLOOR, rtol=1e-3)


def gaussian():
    """A denoiser and its density."""
    x = mixture(1).sample(jax.random.key(0), 1000)
    found = Gaussian.of(x)
    return x, lambda x, t: Gaussian().noise(found, x, t, None), density.as_mixture(found)


def test_the_ode_finds_the_density_of_a_gaussian():
    (x, noise, same), low = gaussian(), 10
    x = density.noisy(SCHEDULE, x[:16], low)
    tops = {300: same.at(SCHEDULE, 300), 998: None}
    found = density.flow_log_density(noise, SCHEDULE, low, tops)(x, jax.random.key(0))
    wanted = same.at(SCHEDULE, low).log_density(x)
    assert found.shape == (2, 16) and np.ptp(wanted) > 2
    for top, each in zip(tops, found, strict=True):
        close(f"up to {top}", each, wanted, atol=0.02)
    # Random probes are right on average.
    run = density.flow_log_density(noise, SCHEDULE, low, {998: None}, probes=64)
    close("probes", run(x, jax.random.key(1))[0].mean(), wanted.mean(), atol=0.1)


def test_an_ode_that_is_wrong_is_refused(monkeypatch):
    monkeypatch.setattr(density, "LEVELS", (50,))  # each takes seconds to compile
    x, _, same = gaussian()
    rows = density.check_flow(SCHEDULE, x, same)
    assert [row["level"] for row in rows] == [50, 50]
    assert max(row["error"] for row in rows) < 0.05
    monkeypatch.setattr(density, "ODE_TOLERANCE", 1e-6)
    with pytest.raises(ValueError, match="differs from the closed form"):
        density.check_flow(SCHEDULE, x, same)


def test_the_error_of_a_mean_counts_clips_and_not_frames():
    values = np.repeat([1.0, 2.0, 4.0], 5)
    found = density.clustered(values, np.repeat([0, 1, 2], 5))
    assert found["mean"] == pytest.approx(7 / 3)
    # As of three numbers, each seen five times; of fifteen it would be a third of it and less.
    assert found["error"] == pytest.approx(np.std([1, 2, 4]) / np.sqrt(3))
    alone = density.clustered(values, np.arange(15))
    assert alone["error"] == pytest.approx(values.std() / np.sqrt(15))


def test_distances_are_means_over_joints_in_mm():
    bodies = jnp.zeros((2, 3, 3)).at[1, :, 0].set(jnp.array([0, 0.003, 0.006]))
    total, least = density.distances(bodies, bodies)
    close("sum", total, [3, 3], rtol=1e-5)
    close("least", least, [0, 0])


def test_joints_outside_of_the_training_range_are_found():
    rng = np.random.default_rng(0)
    train, odd = np.zeros((2, 400, 24, 3), np.float32)
    train[:, 4, 0] = rng.uniform(0, 2, 400)  # a knee that bends one way
    odd[:4, 4, 0] = np.deg2rad([60, -4, -10, 130])
    odd[0, 18, 1] = np.deg2rad(10)
    found = density.outside(to_x(odd), to_x(train))
    assert np.argwhere(found).tolist() == [[0, 18], [2, 4], [3, 4]]


def test_samples_are_compared_with_test_and_training_poses(monkeypatch):
    monkeypatch.setattr(density, "open_body", stand_in)
    rng = np.random.default_rng(0)
    sizes = {"train": 0.05, "test": 0.1, "wild": 1.5}
    turns = {name: size * rng.standard_normal((30, 24, 3)) for name, size in sizes.items()}
    turns["headed"] = turns["test"].copy()
    turns["headed"][:, 0] = [0, 1, 0] * rng.uniform(-3, 3, (30, 1))
    x = {name: to_x(each.astype(np.float32)) for name, each in turns.items()}
    rows = {row.pop("set"): row for row in density.compare(x, x["train"])}
    assert rows["train"]["to_train"] < 1e-3 and rows["train"]["outside"] == 0
    assert rows["wild"]["to_train"] > 2 * rows["test"]["to_train"]
    assert rows["wild"]["apart"] > 2 * rows["test"]["apart"]
    assert rows["wild"]["poses_outside"] == 1 and rows["wild"]["coverage"] == 0
    # The heading is taken away, but for what is seen.
    for name in ("apart", "to_train", "outside"):
        assert rows["headed"][name] == pytest.approx(rows["test"][name], rel=1e-3)
    assert rows["headed"]["coverage"] == 1
    assert rows["headed"]["apart_seen"] > 1.5 * rows["test"]["apart_seen"]
    assert rows["test"]["limits"].keys() == set(JOINT_NAMES[1:22])
