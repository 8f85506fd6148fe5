"""Training runs that are killed at random and resumed on other devices, against one left alone.

    python -m benchmarks.interruptions --trials 20 --json FILE

Every trial runs `train.py tiny` on simulated devices, sends SIGTERM or SIGKILL at a random step and
resumes on another number of devices. Reported is the largest relative difference of any logged loss
from the uninterrupted run's.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import machine

ROOT = Path(__file__).parents[1]
STEPS = 60
EVERY = 2  # steps between two lines of the log
DEVICES = (1, 2, 4, 8)


def start(workdir: Path, devices: int) -> subprocess.Popen:
    """A run of the toy; what is compiled once is kept beside it for the next."""
    environment = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(workdir.parent / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    command = [sys.executable, "train.py", "tiny", "--workdir", workdir, "--steps", STEPS]
    command += ["--data", workdir.parent, "--network.hidden", 16]
    command += ["--run.steps-per-call", EVERY, "--run.save-every", 4 * EVERY]
    # To a file: a pipe that nobody reads would fill up and stop the run.
    with errors(workdir).open("ab") as file:
        return subprocess.Popen(
            list(map(str, command)),
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=file,
        )


def errors(workdir: Path) -> Path:
    return workdir.with_suffix(".err")


def finish(process: subprocess.Popen, workdir: Path) -> None:
    if process.wait(timeout=600):
        raise RuntimeError(errors(workdir).read_text()[-2000:])


def losses(workdir: Path) -> np.ndarray:
    """The whole sequence; every step must be there once."""
    records = [json.loads(line) for line in (workdir / "log.jsonl").read_text().splitlines()]
    steps = [record["step"] for record in records]
    if steps != list(range(EVERY, STEPS + 1, EVERY)):
        raise RuntimeError(f"{workdir}: the log has the steps {steps}")
    return np.array([record["loss"] for record in records])


def interrupt(workdir: Path, number: signal.Signals, step: int, devices: int) -> tuple[int, int]:
    """Starts a run and signals it at about a step; what it had logged, and its exit code."""
    process = start(workdir, devices)
    log = workdir / "log.jsonl"
    while process.poll() is None:
        if log.exists() and log.read_text().count("\n") * EVERY >= step:
            break
        time.sleep(0.002)
    process.send_signal(number)
    process.wait(timeout=600)
    return log.read_text().count("\n") * EVERY, process.returncode


def mocap_file(folder: Path) -> None:
    """Some random poses in the form that train.py reads."""
    poses = 0.4 * np.random.default_rng(0).standard_normal((64, 72)).astype(np.float32)
    np.savez(
        folder / "mocap_poses.npz",
        poses=poses,
        trans=np.zeros((64, 3), np.float32),
        clip_index=(np.arange(64) % 2).astype(np.int32),
        clip_names=np.array(["a", "b"]),
        clip_fps=np.full(2, 30.0),
        clip_split=np.array(["train", "val"]),
        clip_source=np.array(["random", "random"]),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        "benchmarks.interruptions", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    chance, rows = random.Random(options.seed), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mocap_file(folder)
        finish(start(folder / "whole", 4), folder / "whole")
        expected = losses(folder / "whole")
        for trial in range(options.trials):
            number = (signal.SIGTERM, signal.SIGKILL)[trial % 2]
            before, after = chance.sample(DEVICES, 2)
            workdir = folder / f"trial{trial}"
            step = chance.randrange(0, STEPS - EVERY, EVERY)
            reached, code = interrupt(workdir, number, step, before)
            finish(start(workdir, after), workdir)
            difference = np.max(np.abs(losses(workdir) - expected) / expected)
            rows.append(
                {
                    "signal": number.name,
                    "step": reached,
                    "exit_code": code,
                    "devices": before,
                    "devices_after": after,
                    "difference": float(difference),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    print(f"{len(rows)} trials; largest difference {max(r['difference'] for r in rows):.1e}")
    machine.write(rows, options.json)


if __name__ == "__main__":
    main()
