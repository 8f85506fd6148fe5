"""An evaluation on several devices and processes has the figures of one device, bit for bit."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from compiling import xla_flags
from evaluations import (
    SCRIPT,
    TOLERANCE,
    differences,
    evaluate,
    flags,
    folder_by_name,
    quick_refiner,
)

from scorehmr_jax.baselines import methods
from scorehmr_jax.evaluation.metric_table import METRICS

HERE = Path(__file__).parent


def start(script, argv, devices):
    """A process with so many simulated devices."""
    environ = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": xla_flags(devices)}
    environ["PYTHONPATH"] = os.pathsep.join([str(HERE), str(HERE.parent)])
    return subprocess.Popen(
        [sys.executable, script, *map(str, argv)],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process):
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return out, err


def assert_equal(folder, expected):
    found, wanted = (np.load(f / "per_sample.npz") for f in (folder, expected))
    assert set(found) == set(wanted)
    for name in wanted:
        np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)


@pytest.mark.slow
def test_two_processes_of_four_devices_each(golden, tmp_path, monkeypatch):
    """With a loop that compiles at once: which batch runs where, and what comes back."""
    eighth = len(np.load(golden / "pack/3dpw_test.npz")["imgname"]) // 8
    argv = ["keypoints", *flags(golden, "3dpw_test", "npz"), "--batch", str(eighth), "--out"]
    monkeypatch.setattr(methods, "make_refiner", quick_refiner)
    monkeypatch.setattr(evaluate, "METRICS", {"mpjpe": METRICS["mpjpe"]})
    summary = evaluate.main([*argv, str(tmp_path / "one")])
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    several = ["--coordinator", f"localhost:{port}", "--processes", 2, "--process-id"]
    script = HERE / "evaluations.py"
    pair = [start(script, [*argv, tmp_path / "two", *several, i], 4) for i in (0, 1)]
    (out, err), (other_out, other_err) = (finished(process) for process in pair)
    assert_equal(tmp_path / "two", tmp_path / "one")
    assert f"{summary['means']['opt_mpjpe']:.2f}" in out and "no --focal" in err
    assert "MPJPE" not in other_out and "no --focal" not in other_err


@pytest.mark.slow
def test_several_views_in_float32_on_one_device_and_on_two(golden, tmp_path):
    root = folder_by_name(golden, tmp_path, "h36m_val_multiview", "pkl")
    argv = ["h36m-multiview", "--data-root", str(root), "--batch", "4", "--out"]
    other = start(SCRIPT, [*argv, tmp_path / "two"], 2)
    with pytest.warns(UserWarning, match="no image sizes: errors in the image are not measured"):
        evaluate.main([*argv, str(tmp_path / "one")])
    expected = np.load(golden / "pack/result_mv.npz")
    assert differences(tmp_path / "one", expected, slice(None)).max() < TOLERANCE
    finished(other)
    assert_equal(tmp_path / "two", tmp_path / "one")
