"""The unconditional diffusion prior beside Gaussian mixtures fitted to the same poses.

    python -m benchmarks.density --data DIR --json FILE

DIR holds mocap_poses.npz. The JSON file has three lists.

`likelihood`: mean log-densities in nats of the same noisy poses x_t, and their standard errors over
clips. (Rotations in 6D fill no volume, so the density of x_0 would be singular; that of x_t is
not.) A mixture's density has a closed form; `width` is the variance added to it. The network's
follows from the probability-flow ODE (Song et al., 2021), which is solved up to the level `top`: at
950, where `Prior.sample` starts, and at 998, the last even level, x_t counts as standard normal; at
300 it counts as drawn from the mixture of one component.

`check`: errors of the ODE's solution where the density has a closed form.

`samples`: a row for each set of 2000 poses. Lengths are means over SMPL's 24 joints in mm, about
the root; the root's orientation is taken away, but for `apart_seen`.
  apart          mean distance of pairs within the set
  to_train       median distance to the nearest training pose
  coverage       share of test poses that have one of the set as near as the test poses' own
                 `to_train`; the mixture that is sampled from is the best one on `val`
  outside        share of joints with an axis-angle more than 5 degrees outside of the range from
                 0.1 to 99.9% of the training poses; `limits` the same by joint
  poses_outside  share of poses with such a joint
"""

import argparse
import json
from collections.abc import Callable
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from jaxtyping import Bool, Float, Int, Key

import configs
from benchmarks import machine
from benchmarks.mixture import Mixture, fit
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
POSES = 400  # of each split, whose density is asked for
PROBES = 2  # random directions that estimate the divergence
ODE_STEP = 0.1  # in log(noise / signal)
ODE_TOLERANCE = 0.5  # nats at any pose
COUNTS = (1, 4, 8, 32, 64, 128)  # components of the mixtures
WIDTHS = (0.0, 1e-4, 1e-3, 1e-2)  # variances added to them
SAMPLES = 2000
SAMPLERS = ((50, 1.0), (10, 1.0), (10, None))  # step and clip of `Prior.sample`; the default first
MARGIN = np.deg2rad(5)
MOVED = slice(1, 22)  # joints with limits: the hands never move in this motion capture


def flow_log_density(
    noise: Callable[[Array, Array], Array],
    schedule: Schedule,
    low: int,
    tops: dict[int, Mixture | None],
    probes: int = 0,
) -> Callable[[Float[Array, "N D"], Key[Array, ""]], Float[Array, "T N"]]:
    """Makes a function that computes log-densities at a level by the probability-flow ODE.

    With x_t = cos(angle) x_0 + sin(angle) noise, dx / dangle = (noise - sin(angle) x) / cos(angle).
    Runge-Kutta steps of fourth order stop at levels only: the network knows nothing in between.

    Args:
        noise: predicts the noise in x [N, D] at one level.
        schedule: of the levels.
        low: the level whose density is asked for.
        tops: ascending levels, odd if the low one is, and the densities that are taken for those
            there; None stands for the standard normal.
        probes: random signs that estimate the divergence (Hutchinson, 1990); 0: the exact one.
    Returns:
        A compiled function of x [N, D] and a PRNG key; it gives log-densities in nats for each top.
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


def noisy(schedule: Schedule, x: Float[Array, "N D"], t: int) -> Float[Array, "N D"]:
    """Adds the noise of a level, always the same."""
    return add_noise(schedule, x, jnp.asarray(t), jax.random.normal(jax.random.key(0), x.shape))


def evenly(x: Any, count: int) -> Any:
    """Takes so many rows of an array, spread evenly."""
    return x[np.linspace(0, len(x) - 1, count).astype(int)]


def check_flow(
    schedule: Schedule, train: Float[Array, "N D"], mixture: Mixture
) -> list[dict[str, Any]]:
    """Measures the ODE's greatest errors on training poses.

    Args:
        schedule: of the levels.
        train: [N, D] poses.
        mixture: a density to check, beside the normal distribution fitted to the poses.
    Returns:
        Rows of `check`.
    Raises:
        ValueError: if an error is above the tolerance.
    """
    gaussian, key, rows = Gaussian.of(train), jax.random.key(0), []

    def noise(x: Array, t: Array) -> Array:
        score = jax.grad(lambda x: mixture.at(schedule, t).log_density(x).sum())(x)
        return -jnp.asarray(schedule.sqrt_one_minus)[t] * score

    def gaussian_noise(x: Array, t: Array) -> Array:
        return Gaussian().noise(gaussian, x, t, None)

    cases = (as_mixture(gaussian), gaussian_noise, 64), (mixture, noise, 8)
    for level, (density, denoiser, count) in product(LEVELS, cases):
        x = noisy(schedule, evenly(train, count), level)
        found = flow_log_density(denoiser, schedule, level, {998: None})(x, key)[0]
        error = float(jnp.abs(found - density.at(schedule, level).log_density(x)).max())
        rows.append({"level": level, "components": len(density.share), "error": error})
        if not error <= ODE_TOLERANCE:
            raise ValueError(f"the ODE differs from the closed form, in nats: {rows[-1]}")
    return rows


def as_mixture(gaussian: dict[str, Array]) -> Mixture:
    """Makes a mixture of one component of a `Gaussian`'s parameters."""
    values, vectors = gaussian["values"], gaussian["vectors"]
    covariance = (vectors * values) @ vectors.T
    return Mixture(jnp.ones(1), gaussian["mean"][None], covariance[None])


def clustered(values: Float[np.ndarray, " N"], clip: Int[np.ndarray, " N"]) -> dict[str, float]:
    """Computes a mean and its standard error; frames of one clip are no independent draws."""
    away = np.bincount(clip, values - values.mean())
    return {"mean": float(values.mean()), "error": float(np.linalg.norm(away)) / len(values)}


@jax.jit
def distances(
    bodies: Float[Array, "N J 3"], others: Float[Array, "M J 3"]
) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
    """Measures the sum and the least of each body's distances to others, of their joints, mm."""
    away = partial(mpjpe, target=others)
    return jax.lax.map(lambda body: (away(body).sum(), away(body).min()), bodies)


def outside(x: Float[Array, "N D"], train: Float[Array, "M D"]) -> Bool[np.ndarray, "N 24"]:
    """Finds the joints of poses that turn as hardly a training pose does."""
    found, known = (np.asarray(_angles(each)) for each in (x, train))
    low, high = np.quantile(known, (0.001, 0.999), axis=0)
    return ((found < low - MARGIN) | (found > high + MARGIN)).any(-1)


@jax.jit
def _angles(x: Array) -> Array:
    return matrix_to_axis_angle(x_to_rotations(x))


def compare(sets: dict[str, Array], train: Float[Array, "N D"]) -> list[dict[str, Any]]:
    """Compares sets of poses with test and training poses.

    Args:
        sets: poses [M, D] by name, those of `test` among them.
        train: [N, D] training poses.
    Returns:
        Rows of `samples`.
    """
    skeleton, rows = Skeleton.of(open_body(), JOINT_NAMES), []

    @partial(jax.jit, static_argnames="turned")
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
            "outside": out.mean(),
            "poses_outside": out.any(1).mean(),
            "limits": dict(zip(JOINT_NAMES[MOVED], out.mean(0), strict=True)),
        }
        rows.append({"set": name, **jax.tree.map(float, figures)})
    return rows


def main() -> None:
    """Runs the comparison."""
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
    asked = [
        (split, t, noisy(schedule, evenly(whole[split], POSES), t))
        for split, t in product(whole, LEVELS)
    ]
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
