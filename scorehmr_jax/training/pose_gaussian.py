"""Learns the Gaussian over poses that `lift` uses, from motion capture.

    python -m scorehmr_jax.training.pose_gaussian mocap_poses.npz --out pose_gaussian.npz

writes what `scorehmr_jax/pose_gaussian.npz` holds: the train split without DeepMimic's clips, whose
origin is unclear, and each pose's mirror image.
"""

import argparse
from pathlib import Path

import numpy as np
from jaxtyping import Float

from body_model.files import write_npz
from body_model.joints import JOINT_NAMES
from scorehmr_jax.pose_gaussian import PoseGaussian
from scorehmr_jax.simulation import mocap

# Radians. The collars do not move in this data, and people's do when they raise their arms.
JITTER = 0.07
_COLLARS = 0.12


def spread() -> Float[np.ndarray, " 24"]:
    """Gives the spread that is added to that of each captured joint, radians."""
    return np.array([_COLLARS if "collar" in name else JITTER for name in JOINT_NAMES])


def main(arguments: list[str] | None = None) -> None:
    """Reads the arguments, learns and writes."""
    summary = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser("scorehmr_jax.training.pose_gaussian", description=summary)
    parser.add_argument("data", type=Path, help=".npz of clips, as simulation/mocap.py reads it")
    parser.add_argument("--out", type=Path, required=True, help="the .npz to write")
    options = parser.parse_args(arguments)
    train = mocap.read(options.data).select("train", without=("deepmimic",))
    write_npz(options.out, vars(PoseGaussian.fit(train.poses, spread())))


if __name__ == "__main__":
    main()
