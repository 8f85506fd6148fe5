"""From files in the released layout to a trained prior: one command builds, another trains."""

import json
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("tensorflow_datasets", reason="needs the extra `data`")
pytest.importorskip("array_record", reason="needs the extra `data`")

from training_files import released_layout
from training_runs import ROOT, environment, records, train_here

import train
from scorehmr_jax.commands.main import main
from scorehmr_jax.datasets.build import Given, build
from scorehmr_jax.datasets.mixtures import MIXTURES
from scorehmr_jax.load import load_prior
from scorehmr_jax.training.export import export

SMALL = (
    *("--network.hidden", "8", "--network.blocks", "1", "--batch", "8", "--run.samples", "0"),
    *("--run.steps-per-call", "2", "--run.save-every", "4"),
)


@pytest.fixture(scope="module")
def data(golden, tmp_path_factory):
    return released_layout(golden, tmp_path_factory.mktemp("released"))


@pytest.fixture(scope="module")
def sets(data):
    out = data.parent / "sets"
    main(["build-data", "scorehmr-b", "--data-root", str(data), "--out", str(out), "--quiet"])
    return out


def run(monkeypatch, name, sets, workdir, *options, steps=8):
    """Trains in this process; returns the losses."""
    options = ("--data", sets, "--steps", steps, *SMALL, *options)
    return [record["loss"] for record in train_here(monkeypatch, name, workdir, *options)]


@pytest.mark.slow
def test_two_commands_and_no_tensorflow(data, tmp_path):
    def command(program, *arguments):
        """Runs a command, and looks for TensorFlow at its end."""
        code = f"""
import runpy, sys
sys.argv = {[program, *map(str, arguments)]!r}
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    assert not [name for name in sys.modules if name.split(".")[0] == "tensorflow"]
"""
        return subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=environment(),
        )

    sets, workdir = tmp_path / "sets", tmp_path / "run"
    built = command(
        "scorehmr_jax/__main__.py", "build-data", "scorehmr-b", "--data-root", data, "--out", sets
    )
    assert "h36m/mosh_pare" in built.stdout and "36 of 40 samples" in built.stdout
    options = ("--data", sets, "--workdir", workdir, "--steps", 4)
    trained = command("train.py", "scorehmr-b", *options, *SMALL)
    last = json.loads(trained.stdout.splitlines()[-1])
    assert last["step"] == 4 and np.isfinite(last["val_loss"])
    assert load_prior(workdir / "weights.npz").condition_on == "features"


@pytest.fixture(scope="module")
def streamed(sets, tmp_path_factory):
    """The folder of a streamed run that failed after a checkpoint and was started again."""
    workdir = tmp_path_factory.mktemp("runs") / "streamed"
    with pytest.MonkeyPatch.context() as patch:
        with patch.context() as failing, pytest.raises(KeyboardInterrupt):
            failing.setattr(train.Log, "write", stop_at(6, train.Log.write))
            run(failing, "scorehmr-b", sets, workdir, "--run.feed", "stream")
        run(patch, "scorehmr-b", sets, workdir, "--run.feed", "stream")
    return workdir


def stop_at(step, write):
    def interrupted(self, record):
        if record["step"] == step:
            raise KeyboardInterrupt
        write(self, record)

    return interrupted


@pytest.mark.slow
def test_resident_and_streamed_runs_are_the_same_and_resume(monkeypatch, sets, streamed, tmp_path):
    whole = run(monkeypatch, "scorehmr-b", sets, tmp_path / "resident", "--run.feed", "resident")
    np.testing.assert_allclose([r["loss"] for r in records(streamed)], whole, rtol=1e-5)
    assert len(set(whole)) == 4


@pytest.mark.slow
def test_other_data_is_noticed_when_a_run_goes_on(monkeypatch, data, streamed, tmp_path):
    stats = dict(np.load(data / "stats/pare_feat_stats.npz"))
    stats["pose_feats_std"] = 1.5 * stats["pose_feats_std"]
    np.savez(tmp_path / "other.npz", **stats)
    other = Given(statistics=tmp_path / "other.npz")
    for name in MIXTURES["scorehmr-b"]:
        build(name, data, tmp_path / "sets", other, quiet=True)
    with pytest.raises(ValueError, match=r"another configuration\n  data.h36m/mosh_pare: saved .*"):
        run(monkeypatch, "scorehmr-b", tmp_path / "sets", streamed, "--run.feed", "stream")


@pytest.mark.slow
def test_a_prior_with_shape_comes_with_its_range(monkeypatch, data, tmp_path):
    sets, workdir = tmp_path / "sets", tmp_path / "run"
    main(
        ["build-data", "scorehmr-b-shape", "--data-root", str(data), "--out", str(sets), "--quiet"]
    )
    run(monkeypatch, "with-shape", sets, workdir, "--network.shape-blocks", "1", steps=2)
    prior = load_prior(workdir / "weights.npz")
    betas = np.load(data / "datasets/h36m_train_mosh.npz")["betas"]
    low, high = prior.betas_range
    assert prior.dim == 154 and (low <= betas.min(0)).all() and (high >= betas.max(0)).all()
    export(workdir, tmp_path / "model-1.pt")  # the released code reads the range from a file
    given = load_prior(tmp_path / "model-1.pt", betas_stats=tmp_path / "betas_stats.npz")
    np.testing.assert_array_equal(given.betas_range, prior.betas_range)


@pytest.mark.slow
def test_sets_train_a_prior_on_estimates(monkeypatch, data, tmp_path):
    given = Given(estimates=data.parent / "cache/hmr2b/coco_train_eft.npz")
    build("coco/eft_none", data, tmp_path, given, quiet=True)
    run(
        monkeypatch,
        "scorehmr-b",
        tmp_path,
        tmp_path / "run",
        "--mixture",
        "coco/eft_none",
        "1.0",
        "--condition-on",
        "estimate",
        "--network.features",
        "144",
        steps=2,
    )
    assert load_prior(tmp_path / "run/weights.npz").condition_on == "estimate"


def test_what_does_not_fit_is_named(monkeypatch, sets, tmp_path):
    with pytest.raises(ValueError, match=r"nowhere/h36m/mosh_pare: expected one training set"):
        run(monkeypatch, "scorehmr-b", tmp_path / "nowhere", tmp_path / "a")
    with pytest.raises(ValueError, match=r"expected 2048 numbers of features .* found 3072"):
        run(monkeypatch, "scorehmr-b", sets, tmp_path / "b", "--network.features", "2048")
    shard = next((sets / "coco").rglob("*array_record*"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=rf"{shard}: a damaged shard"):
        run(monkeypatch, "scorehmr-b", sets, tmp_path / "e")
    shard.write_bytes(whole)
