"""The unconditional diffusion prior beside Gaussian mixtures fitted to the same poses.

    python -m benchmarks.density --data DIR --json FILE

DIR holds mocap_poses.npz. The mixture to sample from is chosen on `val`. Lists in the JSON file:
`likelihood`: mean log-density in nats of the same noisy poses x_t, and its standard error over
clips. Rotations in 6D fill no volume, so their own density is singular; that of x_t is not. A
mixture's has a closed form. The network's follows from the probability-flow ODE (Song et al., 2021)
up to level `top`: 950, where `Prior.sample` starts, and 998, the last even one, end in the standard
normal; 300 ends in the mixture of 1. `check`: the ODE where there is a closed form.
`samples`: 2000 poses a set. Distances are means over SMPL's 24 joints, mm, about the root, whose
orientation is taken away but for `apart_seen`. `apart`: of pairs; `to_train`: to the nearest
training pose, median; `coverage`: share of test poses with one of the set no farther than the test
poses' `to_train`. `outside`: share of joints whose axis-angle is more than 5 degrees outside of the
0.1 to 99.9% range of the training poses; `limits`: by joint; `poses_outside`: of any joint.
"""

import argparse
import json
from collections.abc import Callable
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm

import configs
from benchmarks import machine
from benchmarks.priors import Gaussian
from body_model import Skeleton, open_body
from body_model.joints import JOINT_NAMES
from body_model.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from scorehmr_jax.diffusion import Schedule, add_noise
from scorehmr_jax.evaluation.metrics import mpjpe
from scorehmr_jax.load import load_prior
from scorehmr_jax.prior import rotations_to_x, x_to_rotations
from scorehmr_jax.simulation import mocap
from scorehmr_jax.types import Array

LEVELS = (10, 50)
POSES, PROBES = 400, 2  # asked about, of each split
ODE_STEP, ODE_TOLERANCE = 0.1, 0.5  # in log(noise / signal); nats at any pose
COUNTS, WIDTHS = (1, 4, 8, 32, 64, 128), (0.0, 1e-4, 1e-3, 1e-2)  # width: variance added
EM_STEPS, FLOOR = 12, 1e-4  # least variance in any direction: joints of some rigs never turn
SAMPLES, SAMPLERS = 2000, ((50, 1.0), (10, 1.0), (10, None))  # step and clip; first the default
MARGIN, MOVED = np.deg2rad(5), slice(1, 22)  # joints with limits: the hands never move here


class Mixture(NamedTuple):
    """K normal distributions."""

    share: Array  # [K]
    mean: Array  # [K, D]
    covariance: Array  # [K, D, D]

    def widened(self, variance: Array | float) -> "Mixture":
        return self._replace(covariance=self.covariance + variance * jnp.eye(self.mean.shape[-1]))

    def at(self, schedule: Schedule, t: Array | int) -> "Mixture":
        """The density of x_t where this is that of x_0."""
        signal, spread = (jnp.asarray(c)[t] for c in (schedule.sqrt, schedule.sqrt_one_minus))
        shrunk = Mixture(self.share, signal * self.mean, signal**2 * self.covariance)
        return shrunk.widened(spread**2)

    @jax.jit
    def log_parts(self, x: Array) -> Array:
        """Log of every component's share times its density at x [N, D], [K, N]."""

        def one(part: Mixture) -> Array:
            root = jnp.linalg.cholesky(part.covariance)
            whiten = jax.scipy.linalg.solve_triangular(root, jnp.eye(len(root)), lower=True)
            normal = norm.logpdf((x - part.mean) @ whiten.T).sum(-1)
            return jnp.log(part.share) + normal - jnp.log(jnp.diagonal(root)).sum()

        return jax.lax.map(one, self)

    def log_density(self, x: Array) -> Array:
        return jax.nn.logsumexp(self.log_parts(x), axis=0)

    def sample(self, key: Array, count: int) -> Array:
        key_part, key_noise = jax.random.split(key)
        part = jax.random.categorical(key_part, jnp.log(self.share), shape=(count,))
        noise = jax.random.normal(key_noise, (count, self.mean.shape[-1]))
        root = jnp.linalg.cholesky(self.covariance)
        return self.mean[part] + jnp.einsum("nij,nj->ni", root[part], noise)


def fit(seed: int, poses: Array, count: int) -> Mixture:
    """A mixture of so many components, by EM from k-means++ seeds."""
    rng, x = np.random.default_rng(seed), np.asarray(poses)
    square, owner = np.full(len(x), 1e9), np.zeros(len(x), int)
    for i in range(count):
        away = ((x - x[rng.choice(len(x), p=square / square.sum())]) ** 2).sum(1)
        owner, square = np.where(away < square, i, owner), np.minimum(square, away)
    mixture = maximise(x, np.eye(count, dtype=x.dtype)[:, owner])
    for _ in range(EM_STEPS):
        mixture = maximise(x, np.asarray(jax.nn.softmax(mixture.log_parts(poses), axis=0)))
    return mixture


def maximise(x: np.ndarray, owned: np.ndarray) -> Mixture:
    """The likeliest mixture for poses [N, D] of which components own these parts, [K, N]."""
    total, mean, covariance = [], [], []
    for weight in owned:
        near = weight > 1e-6  # of a hundred components, one or two own a pose
        weight, mine = weight[near, None], x[near]
        total.append(weight.sum() + 1e-9)
        mean.append((weight * mine).sum(0) / total[-1])
        away = np.sqrt(weight) * (mine - mean[-1])
        covariance.append(away.T @ away / total[-1])
    parts = (np.array(total) / np.sum(total), np.array(mean), np.array(covariance))
    return Mixture(*(jnp.asarray(part, x.dtype) for part in parts)).widened(FLOOR)


def flow_log_density(
    noise: Callable, schedule: Schedule, low: int, tops: dict[int, Mixture | None], probes: int = 0
) -> Callable[[Array, Array], Array]:
    """Log-densities at a level by the probability-flow ODE: (x [N, D], key) -> [tops, N].

    With x_t = cos(angle) x_0 + sin(angle) noise, dx / dangle = (noise - sin(angle) x) / cos(angle).
    Runge-Kutta steps of fourth order stop at levels only: the network knows nothing in between.

    Args:
        noise: predicts the noise in x [N, D] at one level.
        tops: ascending levels, odd if the low one is, and densities; None: the standard normal.
        probes: random signs that estimate the divergence (Hutchinson, 1990); 0: the exact one.
    """
    angles = np.arctan2(schedule.sqrt_one_minus.astype(float), schedule.sqrt.astype(float))
    ratio = np.log(np.tan(angles))

    def slope(x: Array, key: Array, t: Array) -> tuple[Array, Array]:
        along = jnp.broadcast_to(jnp.eye(x.shape[-1])[:, None], (x.shape[-1], *x.shape))
        if probes:
            along = jax.random.rademacher(key, (probes, *x.shape), x.dtype)
        push = partial(jax.jvp, lambda x: noise(x, t), (x,))
        found, pushed = jax.vmap(lambda v: push((v,)), out_axes=(None, 0))(along)
        trace = (along * pushed).sum((0, -1)) / max(probes, 1)
        sine, cosine = jnp.asarray(schedule.sqrt_one_minus)[t], jnp.asarray(schedule.sqrt)[t]
        return (found - sine * x) / cosine, (trace - sine * x.shape[-1]) / cosine

    def step(state: tuple[Array, Array], now: tuple) -> tuple[tuple[Array, Array], None]:
        (x, volume), (key, start, middle, end, half, whole) = state, now
        keys = jax.random.split(key, 4)
        a, a_ = slope(x, keys[0], start)
        b, b_ = slope(x + half * a, keys[1], middle)
        c, c_ = slope(x + half * b, keys[2], middle)
        d, d_ = slope(x + whole * c, keys[3], end)
        x = x + whole / 6 * (a + 2 * b + 2 * c + d)
        return (x, volume + whole / 6 * (a_ + 2 * b_ + 2 * c_ + d_)), None

    @jax.jit
    def run(x: Array, key: Array) -> Array:
        volume, found = jnp.zeros(len(x)), []
        for first, last in pairwise((low, *tops)):
            even = np.searchsorted(ratio, np.arange(ratio[first], ratio[last], ODE_STEP))
            t = np.unique([*(first + (even - first) // 2 * 2), last])
            start, middle, end = t[:-1], (t[:-1] + t[1:]) // 2, t[1:]
            lengths = (angles[middle] - angles[start], angles[end] - angles[start])
            keys = jax.random.split(jax.random.fold_in(key, first), len(start))
            parts = (keys, *map(jnp.asarray, (start, middle, end, *lengths)))
            (x, volume), _ = jax.lax.scan(step, (x, volume), parts)
            top = tops[last]
            found.append(volume + (top.log_density(x) if top else norm.logpdf(x).sum(-1)))
        return jnp.stack(found)

    return run


def noisy(schedule: Schedule, x: Array, t: int) -> Array:
    return add_noise(schedule, x, jnp.asarray(t), jax.random.normal(jax.random.key(0), x.shape))


def evenly(x: Any, count: int) -> Any:
    return x[np.linspace(0, len(x) - 1, count).astype(int)]


def check_flow(schedule: Schedule, train: Array, mixture: Mixture) -> list[dict[str, Any]]:
    """The ODE's greatest errors on training poses; a ValueError above the tolerance."""
    gaussian, key, rows = Gaussian.of(train, schedule), jax.random.key(0), []
    values, vectors = gaussian.spectrum
    same = Mixture(jnp.ones(1), gaussian.mean[None], ((vectors * values) @ vectors.T)[None])

    def noise(x: Array, t: Array) -> Array:
        score = jax.grad(lambda x: mixture.at(schedule, t).log_density(x).sum())(x)
        return -jnp.asarray(schedule.sqrt_one_minus)[t] * score

    cases = (same, lambda x, t: gaussian.apply(None, x, t, None), 64), (mixture, noise, 8)
    for level, (density, denoiser, count) in product(LEVELS, cases):
        x = noisy(schedule, evenly(train, count), level)
        found = flow_log_density(denoiser, schedule, level, {998: None})(x, key)[0]
        error = float(jnp.abs(found - density.at(schedule, level).log_density(x)).max())
        rows.append({"level": level, "components": len(density.share), "error": error})
        if not error <= ODE_TOLERANCE:
            raise ValueError(f"the ODE differs from the closed form, in nats: {rows[-1]}")
    return rows


def clustered(values: np.ndarray, clip: np.ndarray) -> dict[str, float]:
    """Mean and its standard error; frames of one clip are no independent draws."""
    away = np.bincount(clip, values - values.mean())
    return {"mean": float(values.mean()), "error": float(np.linalg.norm(away)) / len(values)}


@jax.jit
def distances(bodies: Array, others: Array) -> tuple[Array, Array]:
    """Sum and least of each body's distances to others, of joints [N, J, 3] and [M, J, 3]; mm."""
    away = partial(mpjpe, target=others)
    return jax.lax.map(lambda body: (away(body).sum(), away(body).min()), bodies)


def outside(x: Array, train: Array) -> np.ndarray:
    """Whether joints of x [N, D] turn as hardly a training pose does, [N, 24]."""
    found, known = (np.asarray(matrix_to_axis_angle(x_to_rotations(each))) for each in (x, train))
    low, high = np.quantile(known, (0.001, 0.999), axis=0)
    return ((found < low - MARGIN) | (found > high + MARGIN)).any(-1)


def compare(sets: dict[str, Array], train: Array) -> list[dict[str, Any]]:
    """Rows of `samples`."""
    skeleton, rows = Skeleton.of(open_body(), JOINT_NAMES), []

    def joints(x: Array, turned: bool = False) -> Array:
        pose = x_to_rotations(x) if turned else x_to_rotations(x).at[:, 0].set(jnp.eye(3))
        found = skeleton(pose, jnp.zeros((len(x), skeleton.num_betas)))
        return found - found[:, :1]

    test, known = joints(sets["test"]), joints(train)
    typical = jnp.median(distances(test, known)[1])
    for name, x in sets.items():
        out, own, seen = outside(x, train)[:, MOVED], joints(x), joints(x, turned=True)
        figures = {
            "apart": distances(own, own)[0].mean() / (len(x) - 1),
            "apart_seen": distances(seen, seen)[0].mean() / (len(x) - 1),
            "to_train": jnp.median(distances(own, known)[1]),
            "coverage": (distances(test, own)[1] <= typical).mean(),
            "outside": out.mean(), "poses_outside": out.any(1).mean(),
            "limits": dict(zip(JOINT_NAMES[MOVED], out.mean(0), strict=True)),
        }  # fmt: skip
        rows.append({"set": name, **jax.tree.map(float, figures)})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser("benchmarks.density", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of mocap_poses.npz")
    parser.add_argument("--json", type=Path, help="where to write the rows")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    keys = jax.random.split(jax.random.key(options.seed), 5)
    clips, prior = mocap.read(options.data / "mocap_poses.npz"), load_prior("open-uncond")
    schedule = prior.schedule

    def poses(key: Array, split: str, without: tuple[str, ...] = ()) -> Array:
        upright = axis_angle_to_matrix(jnp.asarray(clips.select(split, without).poses))
        return mocap.augment(key, rotations_to_x(upright))

    train = poses(keys[0], "train", configs.get("open-uncond").leave_out)
    whole = {"val": poses(keys[1], "val"), "test": poses(keys[2], "test")}
    asked = [(split, t, noisy(schedule, evenly(whole[split], POSES), t))
             for split, t in product(whole, LEVELS)]  # fmt: skip
    rows: list[dict[str, Any]] = []

    def add(name: str, split: str, level: int, values: Array, **notes: Any) -> None:
        row = {"prior": name, "split": split, "level": level} | notes
        rows.append(row | clustered(np.asarray(values), evenly(clips.select(split).clip, POSES)))

    fitted: dict[tuple[str, float], Mixture] = {}
    for count in COUNTS:
        mixture = fit(options.seed, train, count)
        fitted |= {(f"mixture of {count}", width): mixture.widened(width) for width in WIDTHS}
    for ((name, width), mixture), (split, level, x) in product(fitted.items(), asked):
        add(name, split, level, mixture.at(schedule, level).log_density(x), width=width)
    on_val = (row for row in rows if (row["split"], row["level"]) == ("val", LEVELS[0]))
    best = max(on_val, key=lambda row: row["mean"])
    one, chosen = fitted["mixture of 1", 0.0], fitted[best["prior"], best["width"]]
    check = check_flow(schedule, train, chosen)
    for split, level, x in asked:
        tops = {300: one.at(schedule, 300), 950: None, 998: None}
        values = flow_log_density(prior.noise, schedule, level, tops, PROBES)(x, keys[3])
        for top, each in zip(tops, values, strict=True):
            add("open-uncond", split, level, each, top=top)
    sets = {"test": evenly(whole["test"], SAMPLES), "mixture of 1": one.sample(keys[4], SAMPLES)}
    sets["train"] = jax.random.choice(keys[4], train, (SAMPLES,), replace=False)
    sets[f"{best['prior']}, width {best['width']}"] = chosen.sample(keys[4], SAMPLES)
    for step, clip in SAMPLERS:
        drawn = prior.sample(keys[4], shape=(SAMPLES,), step=step, clip=clip)
        sets[f"open-uncond, step {step}, clip {clip}"] = drawn
    found = {"likelihood": rows, "check": check, "samples": compare(sets, train)}
    print(*map(json.dumps, rows + check + found["samples"]), sep="\n")
    machine.write(found, options.json)


if __name__ == "__main__":
    with jax.default_matmul_precision("float32"):
        main()
