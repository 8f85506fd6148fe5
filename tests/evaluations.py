"""evaluate.py for the tests: as a module, on golden files, and with a loop that compiles at once.

python tests/evaluations.py ARGUMENTS runs it with that loop and one metric.
"""

import importlib.util
import lzma
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from scorehmr_jax.baselines import methods
from scorehmr_jax.evaluation.metric_table import METRICS
from scorehmr_jax.prior import rotations_to_x
from scorehmr_jax.refine import Info
from scorehmr_jax.types import Refined

SCRIPT = Path(__file__).resolve().parents[1] / "evaluate.py"
spec = importlib.util.spec_from_file_location("evaluate", SCRIPT)
assert spec is not None and spec.loader is not None
evaluate = importlib.util.module_from_spec(spec)
spec.loader.exec_module(evaluate)


TOLERANCE = 0.02  # mm, to the released code's figures
FIGURES = ("reg_mpjpe", "reg_re", "opt_mpjpe", "opt_re")


def differences(folder, expected, samples):
    """Largest difference of each sample's figures, mm."""
    found = np.load(folder / "per_sample.npz")
    return np.max([np.abs(found[key] - expected[key])[samples] for key in FIGURES], axis=0)


def flags(golden, stem, suffix, **changes):
    """The arguments that name the golden pack's files."""
    pack = golden / "pack"
    given = {
        "data": pack / f"{stem}.{suffix}",
        "estimates": pack / f"{stem}_hmr2_preds.{suffix}",
        "features": pack / f"{stem}_pare_feats.{suffix}",
        "feature_stats": pack / "pare_feat_stats.npz",
        "weights": golden / "ckpt/tiny_pare_model-100.pt.xz",
        "body": golden / "smpl_synthetic.npz",
        "extra_joints": pack / "SMPL_to_J19.pkl",
        "image_sizes": pack / "3dpw_test_img_size.npz",
        **changes,
    }
    return [part for k, v in given.items() for part in (f"--{k.replace('_', '-')}", str(v))]


def folder_by_name(golden, root, stem, suffix):
    """The released code's folders, with the golden pack in them."""
    pack = golden / "pack"
    files = {
        f"data/datasets/{stem}.{suffix}": pack / f"{stem}.{suffix}",
        f"cache/hmr2b/{stem}.{suffix}": pack / f"{stem}_hmr2_preds.{suffix}",
        f"cache/pare/{stem}.{suffix}": pack / f"{stem}_pare_feats.{suffix}",
        "data/stats/pare_feat_stats.npz": pack / "pare_feat_stats.npz",
        "data/smpl/SMPL_NEUTRAL.pkl": pack / "SMPL_NEUTRAL.pkl.gz",
        "data/SMPL_to_J19.pkl": pack / "SMPL_to_J19.pkl",
    }
    for name, target in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(target)
    weights = root / "data/model_weights/score_hmr/model-100.pt"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(lzma.decompress((golden / "ckpt/tiny_pare_model-100.pt.xz").read_bytes()))
    return root / "data"


def quick_refiner(prior, body, config):
    """Stands in for `make_refiner`: its result depends on all that it is given."""

    @jax.jit
    def refiner(estimate, features, terms, mask):
        shift = 0.0 if features is None else 0.01 * jnp.tanh(features.mean(-1, keepdims=True))
        pose = jnp.swapaxes(estimate.pose, -1, -2)
        translation = estimate.translation + shift + 0.1 * mask[..., None]
        refined = Refined(pose, estimate.betas / 2, translation, rotations_to_x(pose))
        status = jnp.where(mask, 0, 5)
        return refined, Info(status, jnp.full_like(status, -1), jnp.zeros((1, *status.shape)))

    return refiner


if __name__ == "__main__":
    methods.make_refiner = quick_refiner
    evaluate.METRICS = {"mpjpe": METRICS["mpjpe"]}
    evaluate.main()
