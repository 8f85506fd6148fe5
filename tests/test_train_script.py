"""`train.py` on a cluster: killed, resumed on other devices, split over processes."""

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
from training_runs import ROOT, environment, records, train_here

import train
from benchmarks.interruptions import mocap_file
from scorehmr_jax.load import load_prior
from scorehmr_jax.training.signals import EXIT_CODE

STEPS = 24
SMALL = ("--network.hidden", "16", "--run.steps-per-call", "2", "--run.save-every", "8")


def start(workdir, *options, devices=1):
    """Starts a run of the toy in a process that sees so many devices."""
    command = [sys.executable, "train.py", "tiny", "--workdir", workdir, "--steps", STEPS]
    command += ["--data", workdir.parent, *SMALL, *options]
    # To a file: a pipe that nobody reads could fill up and stop the run.
    with tempfile.NamedTemporaryFile(dir=workdir.parent, suffix=".out", delete=False) as out:
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=ROOT,
            env=environment(devices),
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    return process, Path(out.name)


def finish(started, code=0):
    """Waits for the end of a run, which must be as expected; returns what it printed."""
    process, out = started
    found = process.wait(timeout=300)
    assert found == code, out.read_text()[-3000:]
    return out.read_text()


def here(monkeypatch, workdir, *options):
    """Runs the toy in this process, on one device."""
    common = ("--steps", STEPS, "--data", workdir.parent, *SMALL)
    return train_here(monkeypatch, "tiny", workdir, *common, *options)


def losses(found):
    assert [r["step"] for r in found] == list(range(2, STEPS + 1, 2))
    return np.array([r["loss"] for r in found])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run that nothing happens to."""
    folder = tmp_path_factory.mktemp("runs")
    mocap_file(folder)
    with pytest.MonkeyPatch.context() as patch:
        here(patch, folder / "whole", "--tensorboard")
    return folder / "whole"


@pytest.mark.slow
def test_a_run_leaves_its_files(whole):
    first, *_, last = records(whole)
    assert first.keys() == {"step", "loss", "grad_norm", "steps_per_second"}
    assert {"val_loss", "val_loss_0_10", "val_inversion_error"} <= last.keys()
    assert {p.name for p in (whole / "checkpoints").iterdir()} >= {"8", "16", "24"}
    assert load_prior(whole / "weights.npz").condition_on == "none"
    (events,) = (whole / "tensorboard").iterdir()
    assert b"val/loss_0_10" in events.read_bytes()


def test_what_can_be_overridden_is_listed(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train.py", "open-cond", "--fields"])
    with pytest.raises(SystemExit) as end:
        train.main()
    assert not end.value.code
    listed = capsys.readouterr().out
    assert "--ema.decay" in listed and "--condition-on" in listed and "--network.hidden" in listed


def test_mistakes_are_told_in_a_line(tmp_path):
    command = ["train.py", "tiny", "--workdir", "gs://bucket/run", "--data", str(tmp_path)]
    run = subprocess.run(
        [sys.executable, *command, "--steps", "1"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1 and "Traceback" not in run.stderr
    assert "train.py: gs://bucket/run: is an address" in run.stderr
    assert not (ROOT / "gs:").exists()


@pytest.mark.slow
def test_a_finished_run_is_left_alone_and_a_changed_one_told(whole, monkeypatch):
    before = (whole / "log.jsonl").read_text()
    with pytest.raises(ValueError, match=r"ema\.decay: saved 0\.995, now 0\.9"):
        here(monkeypatch, whole, "--ema.decay", "0.9")
    assert (whole / "log.jsonl").read_text() == before


def interrupt(workdir, number, step, devices):
    """Sends a signal to a run once its log has that step; returns its exit code."""
    process, _ = start(workdir, devices=devices)
    log = workdir / "log.jsonl"
    while process.poll() is None:
        if log.exists() and log.read_text().count("\n") * 2 >= step:
            break
        time.sleep(0.01)
    process.send_signal(number)
    return process.wait(timeout=300)


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_it_had_not_been(whole, monkeypatch):
    workdir, chance = whole.parent / "killed", random.Random(0)
    code = interrupt(workdir, signal.SIGTERM, chance.randrange(2, 8, 2), devices=2)
    assert code == EXIT_CODE
    interrupt(workdir, signal.SIGKILL, chance.randrange(12, STEPS - 4, 2), devices=2)
    found = here(monkeypatch, workdir)  # on one device
    np.testing.assert_allclose(losses(found), losses(records(whole)), rtol=1e-5)


@pytest.mark.slow
def test_two_processes_of_two_devices_are_one_of_one(whole):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    workdir = whole.parent / "two"
    many = ("--coordinator", address, "--processes", 2, "--process-id")
    started = [start(workdir, *many, i, devices=2) for i in range(2)]
    for each in started:
        finish(each)
    np.testing.assert_allclose(losses(records(workdir)), losses(records(whole)), rtol=1e-5)
    found, wanted = (
        [r["val_loss"] for r in records(run) if "val_loss" in r] for run in (workdir, whole)
    )
    assert len(wanted) == 3
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
