"""Errors of priors on poses that they have not seen.

    python -m benchmarks.priors --data DIR --json FILE [--sets val deepmimic ...] [--priors ...]

DIR holds mocap_poses.npz and, for the set ui-prmd, ui_prmd_poses.npz
(scorehmr_jax/datasets/ui_prmd.py). Rows of the JSON file: one prior on one set, with the mean
squared error of the predicted noise by band of levels (1 is the error of predicting no noise at
all), and `inversion_error`: mean absolute error per number of x_0 after DDIM inversion to level 50
and unguided sampling back. `gaussian` predicts the noise best among linear functions: it is the
normal distribution with the mean and covariance of the training poses in mocap_poses.npz.
"""

import argparse
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Integer, Key

from benchmarks import machine
from body_model import Skeleton, open_body
from body_model.rotations import axis_angle_to_matrix
from scorehmr_jax.diffusion import cosine_betas, schedule
from scorehmr_jax.load import load_prior, shipped_priors
from scorehmr_jax.networks.protocol import POSE_DIM, Network, Params
from scorehmr_jax.prior import rotations_to_x
from scorehmr_jax.simulation import mocap
from scorehmr_jax.simulation.pairs import simulate_pairs
from scorehmr_jax.training.step import TrainingBatch
from scorehmr_jax.training.validation import BANDS, band_losses, inversion_error
from scorehmr_jax.types import Array

# Of sets: file, split, and the collection that alone is taken.
SETS = {
    "val": ("mocap_poses.npz", "val", None),
    "deepmimic": ("mocap_poses.npz", "train", "deepmimic"),  # which priors are not trained on
    "ui-prmd": ("ui_prmd_poses.npz", "val", None),
    "test": ("mocap_poses.npz", "test", None),
}


@dataclass(frozen=True)
class Gaussian(Network):
    """The normal distribution in the place of a network: its noise is known exactly."""

    dim = POSE_DIM
    condition_dim = 0

    def init(self, key: Key[Array, ""]) -> Params:
        """Fits standard normal numbers."""
        return self.of(jax.random.normal(key, (2 * POSE_DIM, POSE_DIM)))

    @staticmethod
    def of(x: Float[Array, "N D"]) -> dict[str, Array]:
        """Gives the parameters of the distribution with the mean and the covariance of poses."""
        values, vectors = jnp.linalg.eigh(jnp.cov(x, rowvar=False))
        return {"mean": x.mean(0), "values": jnp.maximum(values, 0), "vectors": vectors}

    def noise(
        self,
        params: Params,
        x: Float[Array, "*x D"],
        t: Integer[Array, "*t"],
        features: Float[Array, "*f F"] | None,
    ) -> Float[Array, "*out D"]:
        """Predicts the noise: the expectation of it, given x_t."""
        del features
        a = jnp.asarray(schedule(cosine_betas()).alphas_cumprod)[t][..., None]
        centred = (x - jnp.sqrt(a) * params["mean"]) @ params["vectors"]
        variance = a * params["values"] + 1 - a
        return jnp.sqrt(1 - a) * (centred / variance) @ params["vectors"].T


def main() -> None:
    """Measures priors on sets."""
    parser = argparse.ArgumentParser("benchmarks.priors", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of mocap_poses.npz")
    parser.add_argument("--json", type=Path, help="where to write the rows")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=["val", "deepmimic"])
    parser.add_argument("--priors", nargs="+", default=shipped_priors(), help="names or files")
    options = parser.parse_args()
    constants = schedule(cosine_betas())
    key_camera, key_pairs, key_noise = jax.random.split(jax.random.key(0), 3)

    def upright(poses: Float[np.ndarray, "N 24 3"]) -> Array:
        return rotations_to_x(axis_angle_to_matrix(jnp.asarray(poses)))

    train = mocap.read(options.data / "mocap_poses.npz").select("train", ("deepmimic",))
    gaussian = Gaussian.of(mocap.augment(key_camera, upright(train.poses)))
    skeleton = Skeleton.of(open_body())
    rows = []
    for name in options.sets:
        file, split, alone = SETS[name]
        clips = mocap.read(options.data / file)
        others = tuple(c for c in set(clips.collection.tolist()) if alone not in (None, c))
        poses = clips.select(split, others).poses
        plain = TrainingBatch(mocap.augment(key_camera, upright(poses)), None)
        pairs = TrainingBatch(
            *map(jnp.asarray, simulate_pairs(key_pairs, skeleton, poses, per_frame=1))
        )
        losses = partial(band_losses, schedule=constants, key=key_noise)
        rows.append(row("gaussian", name, losses(Gaussian(), params=gaussian, batch=plain)))
        for source in options.priors:
            prior = load_prior(source)
            batch = plain if prior.condition_on == "none" else pairs
            rows.append(row(source, name, losses(prior.network, params=prior.params, batch=batch)))
            error = inversion_error(prior.network, constants, prior.params, batch)
            rows[-1]["inversion_error"] = float(error)
    for each in rows:
        print(json.dumps(each))
    machine.write(rows, options.json)


def row(prior: str, name: str, losses: Float[Array, " B"]) -> dict[str, Any]:
    """Makes a row of a prior's losses by band, on the set of a name."""
    bands = (f"loss_{low}_{high}" for low, high in BANDS)
    return {"prior": prior, "set": name, **dict(zip(bands, map(float, losses), strict=True))}


if __name__ == "__main__":
    main()
