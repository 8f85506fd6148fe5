"""`train.py`, as a cluster treats it: killed, resumed on other devices, split over processes."""

import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from training_runs import ROOT, environment, records

from benchmarks.interruptions import mocap_file
from scorehmr_jax.load import load_prior
from scorehmr_jax.training.stop import EXIT_CODE

STEPS = 24
SMALL = (
    "--network.hidden", "16", "--run.steps-per-call", "2", "--run.save-every", "8",
)  # fmt: skip


def start(workdir, *options, devices=1):
    command = [sys.executable, "train.py", "tiny", "--workdir", str(workdir),
               "--steps", str(STEPS), "--data", str(workdir.parent), *SMALL, *options]  # fmt: skip
    # To a file: a pipe that nobody reads could fill up and stop the run.
    with tempfile.NamedTemporaryFile(dir=workdir.parent, suffix=".out", delete=False) as out:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment(devices), stdout=out, stderr=subprocess.STDOUT
        )
    return process, Path(out.name)


def finish(started, code=0):
    """What a run printed, when it has ended as it should."""
    process, out = started
    found = process.wait(timeout=300)
    assert found == code, out.read_text()[-3000:]
    return out.read_text()


def losses(workdir):
    found = records(workdir)
    assert [r["step"] for r in found] == list(range(2, STEPS + 1, 2))
    return np.array([r["loss"] for r in found])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing happens to, on four devices."""
    folder = tmp_path_factory.mktemp("runs")
    mocap_file(folder)
    finish(start(folder / "whole", "--tensorboard", devices=4))
    return folder / "whole"


def test_a_run_leaves_its_files(whole):
    first, *_, last = records(whole)
    assert first.keys() == {"step", "loss", "grad_norm", "steps_per_second"}
    assert {"val_loss", "val_loss_0_10", "val_inversion_error"} <= last.keys()
    assert {p.name for p in (whole / "checkpoints").iterdir()} >= {"8", "16", "24"}
    assert load_prior(whole / "weights.npz").condition_on == "none"
    (events,) = (whole / "tensorboard").iterdir()
    assert b"val/loss_0_10" in events.read_bytes()


def test_what_can_be_overridden_is_listed():
    run = subprocess.run([sys.executable, "train.py", "open-cond", "--fields"], cwd=ROOT,
                         env=environment(), capture_output=True, text=True)  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "--ema.decay" in run.stdout and "--condition-on" in run.stdout


def test_a_finished_run_is_left_alone_and_a_changed_one_told(whole):
    before = (whole / "log.jsonl").read_text()
    message = finish(start(whole, "--ema.decay", "0.9"), 1)
    assert "ema.decay: saved 0.995, now 0.9" in message and "Traceback" not in message
    assert (whole / "log.jsonl").read_text() == before


def wait_for_step(process, workdir, step):
    """Returns once the log has that step, or the process has ended."""
    while process.poll() is None:
        log = workdir / "log.jsonl"
        if log.exists() and log.read_text().count("\n") * 2 >= step:
            return
        time.sleep(0.01)


def interrupt_and_resume(folder, name, number, step, devices):
    """The losses of a run that got a signal at about a step and went on with other devices."""
    workdir = folder / name
    process, _ = start(workdir, devices=devices[0])
    wait_for_step(process, workdir, step)
    process.send_signal(number)
    process.wait(timeout=300)
    if number == signal.SIGTERM:
        assert process.returncode == EXIT_CODE
    finish(start(workdir, devices=devices[1]))
    return losses(workdir)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "devices"), [(signal.SIGTERM, (1, 2)), (signal.SIGKILL, (2, 1))]
)
def test_a_killed_run_goes_on_as_if_it_had_not_been(whole, number, devices):
    step = random.Random(number).randrange(2, STEPS - 4, 2)
    found = interrupt_and_resume(whole.parent, number.name, number, step, devices)
    np.testing.assert_allclose(found, losses(whole), rtol=1e-5)


@pytest.mark.slow
def test_two_processes_of_two_devices_are_one_of_four(whole):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    workdir = whole.parent / "two"
    started = [
        start(workdir, "--coordinator", address, "--processes", "2", "--process-id", str(i),
              devices=2)
        for i in range(2)
    ]  # fmt: skip
    for each in started:
        finish(each)
    np.testing.assert_allclose(losses(workdir), losses(whole), rtol=1e-5)
    found, wanted = ([r["val_loss"] for r in records(run) if "val_loss" in r]
                     for run in (workdir, whole))  # fmt: skip
    assert len(wanted) == 3
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
