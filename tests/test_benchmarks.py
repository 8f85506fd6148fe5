"""The speed benchmark compares two programs that compute the same."""

import json
import sys

import jax
import numpy as np
import pytest

from benchmarks import refine
from body_model import Skeleton
from body_model.joints import OPENPOSE_25
from scorehmr_jax.networks.denoiser import ResidualMLP
from scorehmr_jax.refine import RefineConfig

TINY = ResidualMLP(features=8, hidden=16, blocks=2)


@pytest.fixture(scope="module")
def workload():
    return refine.workload(2, TINY)


def test_the_plain_mesh_has_the_skeletons_keypoints(workload):
    p = workload
    skeleton = Skeleton.of(p.body, OPENPOSE_25, np.asarray(p.regressor))
    betas = jax.random.normal(jax.random.key(0), (2, 10))

    @jax.jit
    def both(pose):
        return refine.plain.keypoints_44(p.body, p.regressor, pose, betas), skeleton(pose, betas)

    np.testing.assert_allclose(*both(p.estimate.pose), atol=2e-6)


@pytest.mark.slow
def test_the_plain_loop_has_the_same_result_and_the_benchmark_its_file(
    workload, tmp_path, monkeypatch, capsys
):
    config = RefineConfig(iterations=1)
    monkeypatch.setattr(refine, "workload", lambda batch, sizes: workload)
    monkeypatch.setattr(refine, "RefineConfig", lambda: config)
    monkeypatch.setattr(sys, "argv", ["refine", "--batch", "2", "--json", str(tmp_path / "f.json")])
    refine.main()
    (row,) = json.loads((tmp_path / "f.json").read_text())
    assert row["difference_mm"] < 0.01
    assert row["batch"] == 2 and row["released_seconds"] is None
    assert 0 < row["seconds"] < row["cold_seconds"]
    assert row["ratio"] == pytest.approx(row["plain_seconds"] / row["seconds"])
    assert {"machine", "jax", "plain_iterations", "peak_mb"} <= row.keys()
    printed = capsys.readouterr().out
    assert f"{row['seconds']:.4f}" in printed and "differ by at most" in printed
