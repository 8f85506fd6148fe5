"""evaluate.py on the released formats, against what the released code reports for them."""

import importlib.util
import json
import lzma
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bodies import released_state

from scorehmr_jax.evaluation import batching, report
from scorehmr_jax.evaluation.protocols import BENCHMARKS, TASKS
from scorehmr_jax.screening import STATUS

SCRIPT = Path(__file__).resolve().parents[1] / "evaluate.py"
spec = importlib.util.spec_from_file_location("evaluate", SCRIPT)
assert spec is not None and spec.loader is not None
evaluate = importlib.util.module_from_spec(spec)
spec.loader.exec_module(evaluate)

TOLERANCE = 0.02  # mm
FIGURES = ("reg_mpjpe", "reg_re", "opt_mpjpe", "opt_re")


def flags(golden, stem, suffix, **changes):
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


def differences(folder, expected, samples):
    """Largest difference of each sample's figures, mm."""
    found = np.load(folder / "per_sample.npz")
    return np.max([np.abs(found[key] - expected[key])[samples] for key in FIGURES], axis=0)


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


@pytest.mark.slow
def test_keypoints_in_float32_with_two_bad_samples(golden, tmp_path, capsys):
    expected = np.load(golden / "pack/result_kp.npz")
    columns = dict(np.load(golden / "pack/3dpw_test_hmr2_preds.npz"))
    columns["pred_pose"][3] = np.nan
    columns["pred_cam_t"][7, 2] *= -1
    np.savez(tmp_path / "preds.npz", **columns)
    argv = flags(golden, "3dpw_test", "npz", estimates=tmp_path / "preds.npz")
    argv += ["--compare", str(golden / "pack/result_kp.npz"), "--out", str(tmp_path / "out")]
    n = len(columns["pred_pose"])
    with pytest.warns(UserWarning, match=rf"pred_pose is NaN or infinite in 1 of {n} rows \(3\)"):
        summary = evaluate.main(["keypoints", *argv])

    good = np.delete(np.arange(n), [3, 7])
    error = differences(tmp_path / "out", expected, good)
    flips = good[error > TOLERANCE]
    assert len(flips) <= 3
    printed = capsys.readouterr().out
    for i in flips:
        assert f"#{i} " in printed.split("compared with")[1]

    found = np.load(tmp_path / "out/per_sample.npz")
    assert found["imgname"][7] == np.load(golden / "pack/3dpw_test.npz")["imgname"][7]
    assert found["pose"].shape == (n, 24, 3, 3) and found["camera_translation"].shape == (n, 3)
    np.testing.assert_allclose(
        np.delete(found["camera_translation"], [3, 7, *flips], 0),
        np.delete(expected["camera_translation"], [3, 7, *flips], 0),
        atol=1e-3,
    )
    assert np.isnan(found["opt_mpjpe"][3]) and summary["dropped"] == 1
    np.testing.assert_array_equal(found["pose"][7], columns["pred_pose"][7])
    assert [STATUS[i].split(":")[0] for i in found["status"][[3, 7]]] == ["kept", "kept"]
    assert (found["status"][good] == 0).all()

    written = json.loads((tmp_path / "out/metrics.json").read_text())
    assert written == json.loads(json.dumps(summary))
    assert written["samples"] == n and written["counts"]["opt_re"] == n - 1
    assert written["protocol"]["task"] == "keypoints" and "jax" in written["versions"]
    assert written["units"]["re"] == "mm" and written["means"]["opt_2d"] < 10
    stopped = {s["sample"]: s["step"] for s in written["stopped_early"]}
    assert stopped == {int(i): int(found["stop_step"][i]) for i in stopped}
    for i, step in stopped.items():
        assert f"#{i} " in printed and f": {step}\n" in printed
    assert not [p for p in (tmp_path / "out").iterdir() if p.name.startswith(".")]


@pytest.mark.slow
def test_keypoints_in_float64(golden, tmp_path):
    argv = flags(golden, "3dpw_test", "npz")
    evaluate.main(["keypoints", *argv, "--precision", "float64", "--out", str(tmp_path)])
    expected = np.load(golden / "pack/result_kp.npz")
    error = differences(tmp_path, expected, slice(None))
    assert np.sum(error > TOLERANCE) <= 1
    assert np.load(tmp_path / "per_sample.npz")["pose"].dtype == np.float64


@pytest.mark.slow
def test_video_in_float32(golden, tmp_path):
    expected = np.load(golden / "pack/result_video.npz")
    np.savez(tmp_path / "sizes.npz", img_size_wh=expected["item_img_size"])
    argv = flags(golden, "3dpw_test_video", "pkl", image_sizes=tmp_path / "sizes.npz")
    summary = evaluate.main(["video", *argv, "--out", str(tmp_path)])
    assert differences(tmp_path, expected, np.arange(48)).max() < TOLERANCE
    found = np.load(tmp_path / "per_sample.npz")
    for key in ("reg_accel", "opt_accel"):
        np.testing.assert_allclose(found[key], expected[key], atol=TOLERANCE)
    np.testing.assert_allclose(
        found["camera_translation"], expected["camera_translation"], atol=1e-3
    )
    first = summary["sequences"][0]
    np.testing.assert_allclose(first["opt_accel"], expected["opt_accel"][:22].mean(), atol=0.01)
    np.testing.assert_allclose(first["opt_accel_m_s2"], first["opt_accel"] * 0.9)


@pytest.mark.slow
def test_multiview_by_name_in_float32(golden, tmp_path):
    root = folder_by_name(golden, tmp_path, "h36m_val_multiview", "pkl")
    evaluate.main(["h36m-multiview", "--data-root", str(root), "--out", str(tmp_path / "out")])
    expected = np.load(golden / "pack/result_mv.npz")
    assert differences(tmp_path / "out", expected, slice(None)).max() < TOLERANCE


def test_what_is_missing_is_named(golden, tmp_path, capsys):
    out = ["--out", str(tmp_path)]
    for argv, message in (
        (["keypoints", "--data", "x", *out], "please give --estimates, --weights"),
        (["keypoints", "--data-root", "x", *out], "--data-root goes with a benchmark"),
        (["3dpw", "--data-root", "x", *out], "--images or --image-sizes"),
        (["3dpw", "--data-root", "x", *out], "x/datasets/3dpw_test_img_size.npz"),
        (["4dpw", *out], "invalid choice"),
        (["3dpw", "--data-root", "x", *out, "--batch", "0"], "--batch: expected a number above 0"),
        (["3dpw", "--data-root", "x", *out, "--fps", "-1"], "--fps: expected a number above 0"),
        (["3dpw", "--data-root", "x", "--out", str(SCRIPT)], "evaluate.py is a file"),
    ):
        with pytest.raises(SystemExit):
            evaluate.main(argv)
        assert message in capsys.readouterr().err


def test_bad_input_ends_with_one_line_and_no_results(golden, tmp_path):
    argv = flags(golden, "3dpw_test", "npz", data=tmp_path / "gone.npz")
    done = subprocess.run(
        [sys.executable, SCRIPT, "keypoints", *argv, "--out", tmp_path / "out"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == f"evaluate.py: {tmp_path / 'gone.npz'}: no such file"
    assert not (tmp_path / "out").exists()


def test_features_of_another_checkpoint_are_refused(golden, tmp_path):
    np.savez(tmp_path / "weights.npz", **released_state(golden, "tiny_prohmr"))
    argv = flags(golden, "3dpw_test", "npz", weights=tmp_path / "weights.npz")
    with pytest.raises(ValueError, match=r"takes 2048 features.*pose_feats \(128, 24\)"):
        evaluate.main(["keypoints", *argv, "--out", str(tmp_path)])


def test_a_data_set_without_keypoints_is_refused(golden, tmp_path):
    columns = dict(np.load(golden / "pack/3dpw_test.npz"))
    columns.pop("body_keypoints_2d")
    np.savez(tmp_path / "data.npz", **columns)
    argv = flags(golden, "3dpw_test", "npz", data=tmp_path / "data.npz")
    with pytest.raises(ValueError, match=r"data.npz: no image has a keypoint"):
        evaluate.main(["keypoints", *argv, "--out", str(tmp_path)])


def test_a_regressor_with_other_rows_and_a_damaged_comparison_are_refused(golden, tmp_path):
    regressor = np.load(golden / "smpl_synthetic.npz")["J_regressor_extra"]
    np.save(tmp_path / "regressor.npy", regressor[:18])
    argv = flags(golden, "3dpw_test", "npz", extra_joints=tmp_path / "regressor.npy")
    with pytest.raises(ValueError, match=r"regressor.npy: expected 19 rows.*\(18, 6890\)"):
        evaluate.main(["keypoints", *argv, "--out", str(tmp_path / "out")])
    (tmp_path / "other.npz").write_bytes((golden / "pack/result_kp.npz").read_bytes()[:999])
    argv = flags(golden, "3dpw_test", "npz", compare=tmp_path / "other.npz")
    with pytest.raises(ValueError, match=r"other.npz: cut short or damaged"):
        evaluate.main(["keypoints", *argv, "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_a_comparison_names_what_only_one_run_knows():
    results = report.Results([3])
    stops = np.array([-1, 7, -1])
    figures = {"opt_re": np.array([1.0, np.nan, 3.0]), "stop_step": stops}
    results.add(np.arange(3), np.ones(3, bool), figures)
    text = report.comparison(results, "f.npz", {"opt_re": np.array([1.5, 2.0, 3.0])}, "abc")
    assert "largest difference 0.50000, 1 of 3 above 0.02, 1 known in one of the two alone" in text
    assert "#0 a differs by 0.500: did not stop here" in text
    assert "#1 b is known in one alone: stopped here at step 7" in text
    with pytest.raises(ValueError, match=r"of 3 samples to compare with; found opt_re \(2,\)"):
        report.comparison(results, "f.npz", {"opt_re": np.zeros(2)}, "abc")


def test_progress_without_tqdm(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert list(report.progress("ab")) == ["a", "b"]
    assert capsys.readouterr().err == "\rbatch 1 of 2\rbatch 2 of 2\n"


def test_benchmarks_use_the_released_settings():
    loops = {name: task.config("released") for name, task in TASKS.items()}
    assert {name: (c.iterations, c.start, c.step, c.stop) for name, c in loops.items()} == {
        "keypoints": (10, 50, 2, "step"),
        "video": (10, 50, 2, "never"),
        "multiview": (2, 100, 10, "never"),
    }
    assert len(BENCHMARKS["mannequin"].joints) == 17 and len(BENCHMARKS["3dpw"].joints) == 14


@pytest.mark.parametrize("size", [1, 4, 7, 100])
def test_every_sample_is_in_one_batch_and_shapes_are_few(size):
    lengths = [3, 1, 9, 2, 9, 30, 3, 3]
    total = sum(lengths)
    ends = np.cumsum(lengths)
    for batches in (
        list(batching.independent(total, size)),
        list(batching.grouped(lengths, size)),
    ):
        seen = np.concatenate([rows[mask] for rows, mask in batches])
        np.testing.assert_array_equal(np.sort(seen), np.arange(total))
        assert all(rows.min() >= 0 and rows.max() < total for rows, _ in batches)
    for rows, mask in batches:
        for group, real in zip(rows, mask, strict=True):
            assert len(set(np.searchsorted(ends, group[real], side="right"))) <= 1
            assert (np.diff(group[real]) == 1).all()
    assert len({rows.shape for rows, _ in batches}) <= 6
    assert len({rows.shape for rows, _ in batching.independent(total, size)}) == 1


def test_figures_of_several_frames_are_kept_by_sequence():
    results = report.Results([4, 2, 3])
    rows = np.array([[0, 1, 2, 3], [6, 7, 8, 8]])
    mask = np.array([[1, 1, 1, 1], [1, 1, 1, 0]], bool)
    accel = np.array([[1.0, 2.0], [3.0, np.nan]])
    results.add(rows, mask, {"opt_accel": accel, "opt_mpjpe": rows * 1.0})
    short = np.array([[4, 5]])
    results.add(short, np.ones((1, 2), bool), {"opt_mpjpe": short * 1.0})
    parts = results.sequences("opt_accel")
    assert [list(part) for part in parts] == [[1, 2], [], [3]]
    np.testing.assert_array_equal(results.arrays()["opt_mpjpe"], np.arange(9))
