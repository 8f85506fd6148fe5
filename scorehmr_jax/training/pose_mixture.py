"""Learns the mixture of Gaussians over poses that SMPLify uses, from motion capture.

    python -m scorehmr_jax.training.pose_mixture mocap_poses.npz --out pose_mixture.npz

writes what `scorehmr_jax/baselines/pose_mixture.npz` holds: eight components, as SMPLify has, of
the train split without DeepMimic's clips, whose origin is unclear, and of each pose's mirror image.
"""

import argparse
from pathlib import Path

import numpy as np
from jaxtyping import Float

from body_model.files import write_npz
from scorehmr_jax.baselines.pose_mixture import with_mirrored
from scorehmr_jax.simulation import mocap
from scorehmr_jax.training.pose_gaussian import spread

COMPONENTS = 8
_ROUNDS = 30  # of expectation and maximisation


def fit(
    angles: Float[np.ndarray, "N D"],
    count: int,
    variance: Float[np.ndarray, " D"],
    seed: int = 0,
    rounds: int = _ROUNDS,
) -> dict[str, np.ndarray]:
    """Fits a mixture by expectation maximisation, from k-means++ seeds.

    Args:
        angles: [N, D] what to fit.
        count: of components.
        variance: that is added to each number's in every component. Captured joints obey the rig
            that they were captured with; people do not.
        seed: of the components' first places.
        rounds: of expectation and maximisation.
    Returns:
        weights [C], means [C, D] and covars [C, D, D], as SMPLify's file names them.
    """
    rng, x = np.random.default_rng(seed), np.asarray(angles, np.float64)
    nearest, owner = np.full(len(x), 1e9), np.zeros(len(x), int)
    for i in range(count):
        away = ((x - x[rng.choice(len(x), p=nearest / nearest.sum())]) ** 2).sum(1)
        owner, nearest = np.where(away < nearest, i, owner), np.minimum(nearest, away)
    owned = np.eye(count)[owner]
    for _ in range(rounds):
        share = owned.mean(0) + 1e-9
        means = (owned.T @ x) / (share * len(x))[:, None]
        covariances = np.stack(
            [
                ((x - mean) * own[:, None]).T @ (x - mean) / own.sum() + np.diag(variance)
                for mean, own in zip(means, owned.T, strict=True)
            ]
        )
        log = np.empty_like(owned)
        for i, (mean, covariance) in enumerate(zip(means, covariances, strict=True)):
            root = np.linalg.cholesky(covariance)
            white = np.linalg.solve(root, (x - mean).T)
            log[:, i] = np.log(share[i]) - (white**2).sum(0) / 2 - np.log(np.diag(root)).sum()
        owned = np.exp(log - log.max(1, keepdims=True))
        owned /= owned.sum(1, keepdims=True)
    return {"weights": share / share.sum(), "means": means, "covars": covariances}


def main(arguments: list[str] | None = None) -> None:
    """Reads the arguments, learns and writes."""
    summary = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser("scorehmr_jax.training.pose_mixture", description=summary)
    parser.add_argument("data", type=Path, help=".npz of clips, as simulation/mocap.py reads it")
    parser.add_argument("--out", type=Path, required=True, help="the .npz to write")
    options = parser.parse_args(arguments)
    train = mocap.read(options.data).select("train", without=("deepmimic",))
    variance = np.repeat(spread()[1:] ** 2, 3)
    found = fit(with_mirrored(train.poses), COMPONENTS, variance)
    write_npz(options.out, {key: value.astype(np.float32) for key, value in found.items()})


if __name__ == "__main__":
    main()
