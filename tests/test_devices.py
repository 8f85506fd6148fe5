"""A refinement on several devices and processes has the result of one."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from compiling import xla_flags
from test_cli import columns

from body_model.files import read_npz
from body_model.io import save
from body_model.open.stand_in import stand_in
from scorehmr_jax.devices import Devices


def test_padding_repeats_the_last_sample_and_is_cut_off_again():
    devices = Devices.all()
    tree = {"a": np.arange(12.0).reshape(2, 3, 2), "none": None}
    padded, mask = devices.pad(tree, (2, 3))
    assert padded["a"].shape[1] % devices.mesh.size == 0 and padded["none"] is None
    assert mask.shape == padded["a"].shape[:2] and mask[:, :3].all() and not mask[:, 3:].any()
    back = devices.cut(devices.split(padded, mask.shape), (2, 3))
    np.testing.assert_array_equal(back["a"], tree["a"])


# The command with one round of the loop: processes that wait for each other at every step are slow
# where all share few cores.
SHORT = """
import importlib
loop = importlib.import_module("scorehmr_jax.refine")
config = loop.RefineConfig(iterations=1)
make = loop.make_refiner
loop.make_refiner = lambda prior, body, _: make(prior, body, config)
from scorehmr_jax.commands.main import main
main()
"""


def start(argv, devices):
    """The command with so many simulated devices."""
    return subprocess.Popen(
        [sys.executable, "-c", SHORT, "refine", *map(str, argv)],
        env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": xla_flags(devices)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process):
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return out


@pytest.mark.slow
def test_a_video_on_one_device_and_in_two_processes_of_four(tmp_path):
    save(tmp_path / "body.npz", stand_in())
    data = columns(11)
    data["translation"][4] = np.nan
    np.savez(tmp_path / "in.npz", **data)
    argv = [tmp_path / "in.npz", "--video", "--prior", "open-uncond"]
    argv += ["--body", tmp_path / "body.npz", "--out"]
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        several = ["--coordinator", f"localhost:{probe.getsockname()[1]}", "--processes", 2]
    pair = [start([*argv, tmp_path / "8.npz", *several, "--process-id", i], 4) for i in (0, 1)]
    finished(start([*argv, tmp_path / "1.npz"], 1))
    texts = [finished(process) for process in pair]
    assert "10 of 11 refined" in texts[0] and "refined" not in texts[1]
    found, expected = (read_npz(tmp_path / f"{n}.npz") for n in (8, 1))
    assert expected["status"].tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]
    assert set(found) == set(expected)
    for key, array in expected.items():
        if array.dtype.kind == "f":
            np.testing.assert_allclose(found[key], array, atol=1e-5, rtol=1e-6, err_msg=key)
        else:
            np.testing.assert_array_equal(found[key], array, err_msg=key)
