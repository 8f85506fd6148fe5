"""Benchmarks, tasks, metrics and backbones: one entry is all that a new one needs."""

import json
import pickle
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from evaluations import evaluate, folder_by_name, quick_refiner

from scorehmr_jax.baselines import methods
from scorehmr_jax.evaluation import batching, compared, results
from scorehmr_jax.evaluation.benchmarks import BENCHMARKS
from scorehmr_jax.evaluation.metric_table import METRICS, Metric
from scorehmr_jax.evaluation.protocol import Protocol
from scorehmr_jax.evaluation.tasks import TASKS, Task
from scorehmr_jax.formats.backbones import BACKBONES, Backbone
from scorehmr_jax.guidance import multiview
from scorehmr_jax.refine import RefineConfig


def test_one_entry_each_makes_a_benchmark_a_task_a_metric_and_a_backbone(
    golden, tmp_path, monkeypatch, capsys
):
    root = folder_by_name(golden, tmp_path, "h36m_val_multiview", "pkl")
    # The same numbers as of a network of our own: other keys, other folders.
    features = np.load(tmp_path / "cache/pare/h36m_val_multiview.pkl", allow_pickle=True)
    stats = np.load(root / "stats/pare_feat_stats.npz")
    (tmp_path / "cache/pare/h36m_val_multiview.pkl").unlink()
    (root / "stats/pare_feat_stats.npz").unlink()
    own = [{"own_feats": group["pose_feats"].reshape(-1, 3072)} for group in features]
    (tmp_path / "cache/own").mkdir()
    (tmp_path / "cache/own/h36m_val_multiview.pkl").write_bytes(pickle.dumps(own))
    statistics = {f"own_feats_{k}": stats[f"pose_feats_{k}"].ravel() for k in ("mean", "std")}
    np.savez(root / "stats/own_feat_stats.npz", **statistics)

    monkeypatch.delitem(BACKBONES, "pare")
    monkeypatch.setitem(BACKBONES, "ours", Backbone("ours", {"own_feats": (3072,)}, "own"))
    task = Task(
        "views",
        lambda keypoints, camera: (multiview(),),
        RefineConfig.released(),
        grouped=True,
        needs_keypoints=False,
    )
    monkeypatch.setitem(TASKS, "views", task)
    benchmark = Protocol("mine", "views", "h36m_val_multiview.pkl", joints=(25, 26))
    monkeypatch.setitem(BENCHMARKS, "mine", benchmark)

    def worst_joint(c):
        return 1000 * jnp.linalg.norm(c.found - c.true, axis=-1).max(-1)

    def turned(c):
        return jnp.diff(c.body.betas[..., 0], axis=-1)

    monkeypatch.setitem(METRICS, "worst", Metric("worst", "worst joint", "mm", worst_joint))
    several = Metric("turn", "change of shape", "sd", turned, fewer=1, by_sequence=True)
    monkeypatch.setitem(METRICS, "turn", several)
    filmed = Metric("film", "in videos alone", "mm", worst_joint, {"video"})
    monkeypatch.setitem(METRICS, "film", filmed)
    monkeypatch.setattr(methods, "make_refiner", quick_refiner)
    evaluate.main(["mine", "--data-root", str(root), "--out", str(tmp_path / "out")])

    printed = capsys.readouterr().out
    found = np.load(tmp_path / "out/per_sample.npz")
    written = json.loads((tmp_path / "out/metrics.json").read_text())
    n, groups = written["samples"], written["groups"]
    assert written["protocol"]["name"] == "mine" and written["protocol"]["task"] == "views"
    assert written["files"]["features"].endswith("cache/own/h36m_val_multiview.pkl")
    assert written["units"]["worst"] == "mm" and written["means"]["reg_worst"] > 0
    # Of two joints the worse is at most their sum, which is twice their mean.
    assert (found["opt_worst"] >= found["opt_mpjpe"]).all() and len(found["opt_worst"]) == n
    assert (found["opt_worst"] <= 2 * found["opt_mpjpe"] * (1 + 1e-5)).all()
    assert len(found["reg_turn"]) == written["counts"]["reg_turn"] == n - groups
    assert len(written["sequences"]) == groups and "reg_turn" in written["sequences"][0]
    assert "opt_film" not in found and "in videos alone" not in printed
    line = next(line for line in printed.splitlines() if line.startswith("worst joint"))
    assert f"{written['means']['opt_worst']:.2f}" in line and "mm" in line
    assert printed.count("change of shape") == 1 + groups
    # The features went in: the quick loop moves the body by them.
    assert np.ptp(found["camera_translation"][:, 0]) > 0


def test_an_entry_that_cannot_work_is_refused():
    with pytest.raises(ValueError, match=r"4dpw: task: expected one of .*, found 'pictures'"):
        Protocol("4dpw", "pictures")
    with pytest.raises(ValueError, match=r"metric m: needs: .* found \['sound'\]"):
        Metric("m", "m", "mm", lambda c: c.known, {"sound"})


def test_a_comparison_names_what_only_one_run_knows():
    found = results.Results([3])
    stops = np.array([-1, 7, -1])
    figures = {"opt_re": np.array([1.0, np.nan, 3.0]), "stop_step": stops}
    found.add(batching.Rows(np.arange(3), np.ones(3, bool)), figures)
    other = {"opt_re": np.array([1.5, 2.0, 3.0]), "opt_pve": np.zeros(3), "status": np.zeros(3)}
    text = compared.difference_from(found, "f.npz", other, "abc")
    assert "largest difference 0.50000, 1 of 3 above 0.02, 1 known in one of the two alone" in text
    assert "not compared, as not measured here or of other samples: opt_pve\n" in text
    assert "#0 a differs by 0.500: did not stop here" in text
    assert "#1 b is known in one alone: stopped here at step 7" in text
    text = compared.difference_from(found, "f.npz", other, "abc", sequence=np.array([0, 1, 1]))
    # The second is known to one alone; the others are of two sequences.
    assert "opt_re       mean difference -0.250 [-0.50, 0.00], 2 samples" in text
    compared.difference_from(found, "f.npz", other | {"imgname": np.array([*"abc"])}, "abc")
    with pytest.raises(ValueError, match=r"f\.npz: other samples, or in another order"):
        compared.difference_from(found, "f.npz", other | {"imgname": np.array([*"acb"])}, "abc")
    with pytest.raises(ValueError, match=r"of 3 samples to compare with; found opt_re \(2,\)"):
        compared.difference_from(found, "f.npz", {"opt_re": np.zeros(2)}, "abc")


def test_progress_without_tqdm(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert list(results.progress("ab")) == ["a", "b"]
    assert capsys.readouterr().err == "\rbatch 1 of 2\rbatch 2 of 2\n"
    assert list(results.progress("ab", shown=False)) == ["a", "b"]
    assert not capsys.readouterr().err


@pytest.mark.parametrize("size", [1, 4, 7, 100])
def test_every_sample_is_in_one_batch_and_shapes_are_few(size):
    lengths = [3, 1, 9, 2, 9, 30, 3, 3]
    total = sum(lengths)
    ends = np.cumsum(lengths)
    alone = list(batching.independent(total, size))
    together = list(batching.grouped(lengths, size))
    for batches in alone, together:
        seen = np.concatenate([rows[mask] for rows, mask in batches])
        np.testing.assert_array_equal(np.sort(seen), np.arange(total))
        for rows, _ in batches:
            assert rows.min() >= 0 and rows.max() < total
            assert rows.size <= size or len(rows) == 1  # one group may be longer
    for rows, mask in together:
        for group, real in zip(rows, mask, strict=True):
            assert len(set(np.searchsorted(ends, group[real], side="right"))) <= 1
            assert (np.diff(group[real]) == 1).all()
            assert not np.any(np.diff(real.astype(int)) > 0)  # padding comes last
    assert len({rows.shape for rows, _ in together}) <= 6
    assert len({rows.shape for rows, _ in alone}) == 1


def several_frames():
    """Figures of sequences of 4, 2 and 3 frames, the second too short for one."""
    found = results.Results([4, 2, 3], {"opt_accel": 2, "opt_mpjpe": 0})
    rows = np.array([[0, 1, 2, 3], [6, 7, 8, 8]])
    mask = np.array([[1, 1, 1, 1], [1, 1, 1, 0]], bool)
    accel = np.array([[1.0, 2.0], [3.0, np.nan]])
    long = batching.Rows(rows, mask), {"opt_accel": accel, "opt_mpjpe": rows * 1.0}
    rows = np.array([[4, 5]])
    short = batching.Rows(rows, np.ones((1, 2), bool)), {"opt_mpjpe": rows * 1.0}
    return found, long, short


def test_figures_of_several_frames_are_kept_by_sequence():
    found, long, short = several_frames()
    found.add(*long)
    found.add(*short)
    parts = found.sequences("opt_accel")
    assert [list(part) for part in parts] == [[1, 2], [], [3]]
    np.testing.assert_array_equal(found.arrays()["opt_mpjpe"], np.arange(9))


def test_a_process_with_short_sequences_alone_gets_the_figures_of_the_others(monkeypatch):
    ours, long, short = several_frames()
    theirs = several_frames()[0]
    ours.add(*short)
    theirs.add(*long)
    other = [np.array([True, True]), theirs["opt_accel"], theirs["opt_mpjpe"]]
    monkeypatch.setattr(results.cluster, "from_all", lambda mine: np.stack([mine, other.pop(0)]))
    ours.share(np.array([1, 1, 1, 1, 0, 0, 1, 1, 1]))
    assert [list(part) for part in ours.sequences("opt_accel")] == [[1, 2], [], [3]]
    np.testing.assert_array_equal(ours.arrays()["opt_mpjpe"], np.arange(9))
