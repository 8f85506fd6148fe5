"""What is expected of results on the real video of benchmarks/real.py, and what came."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

import scorehmr_jax as sh
from benchmarks.confidence_fit import auc, calibration_error
from benchmarks.confidence_scenes import variants
from benchmarks.real import read
from benchmarks.real_metrics import LIMBS, alone, in_views
from body_model.joints import JOINT_NAMES

_JOINTS = np.array([JOINT_NAMES.index(name) for name in LIMBS])


def on_real_video(folder: Path) -> list[dict[str, Any]]:
    """Compares expectations with what came, by the calibrations as they are in the package.

    Args:
        folder: of the video's numbers, as benchmarks/real.py has it.
    Returns:
        A row for each loop of lifted bodies: the limbs' 12 joints, in frames where they are sound.
    """
    video = read(folder)
    measure, rows = in_views(video), []
    for name, variant in variants().items():
        if not variant.lifted:
            continue
        refiner = sh.make_refiner(sh.load_prior(variant.prior), video.skeleton, variant.config)
        terms = variant.terms(video.keypoints, alone(video.camera, video.swapped.shape))
        refined, info = refiner(video.estimate, None, terms)
        if info.expected is None:
            raise ValueError(f"the loop {name!r} is not calibrated: run with --write")
        after = np.asarray(measure.of(refined)["pa_mpjpe"])[measure.good]
        worse = after > np.asarray(measure.first["pa_mpjpe"])[measure.good] + 2
        told = np.asarray(jnp.mean(info.expected.joint_error[..., _JOINTS], -1))[measure.good]
        chance = np.asarray(info.expected.worse)[measure.good]
        rows.append(
            {
                "loop": name,
                "unseen": "real video",
                "n": len(after),
                "worse_expected": float(chance.mean()),
                "worse_true": float(worse.mean()),
                "worse_auc": auc(chance, worse),
                "worse_ece": calibration_error(chance, worse.astype(float)),
                "error_expected": float(told.mean()),
                "error_true": float(after.mean()),
                "error_correlation": float(np.corrcoef(told, after)[0, 1]),
                "error_ece": calibration_error(told, after),
                "best_half": float(after[np.argsort(told)[: len(told) // 2]].mean()),
            }
        )
    return rows
