"""evaluate.py on the released formats, against what the released code reports for them."""

import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
from bodies import released_state
from evaluations import SCRIPT, TOLERANCE, differences, evaluate, flags

from scorehmr_jax.camera import pinhole
from scorehmr_jax.evaluation.tasks import MODES, TASKS
from scorehmr_jax.screening import STATUS
from scorehmr_jax.types import Keypoints2D


@pytest.mark.slow
def test_keypoints_in_float64_with_two_bad_samples(golden, tmp_path, capsys):
    expected = np.load(golden / "pack/result_kp.npz")
    columns = dict(np.load(golden / "pack/3dpw_test_hmr2_preds.npz"))
    columns["pred_pose"][3] = np.nan
    columns["pred_cam_t"][7, 2] *= -1
    np.savez(tmp_path / "preds.npz", **columns)
    argv = flags(golden, "3dpw_test", "npz", estimates=tmp_path / "preds.npz")
    argv += ["--precision", "float64", "--compare", str(golden / "pack/result_kp.npz")]
    n = len(columns["pred_pose"])
    with pytest.warns(UserWarning, match=rf"pred_pose is NaN or infinite in 1 of {n} rows \(3\)"):
        summary = evaluate.main(["keypoints", *argv, "--out", str(tmp_path / "out")])

    good = np.delete(np.arange(n), [3, 7])
    error = differences(tmp_path / "out", expected, good)
    flips = good[error > TOLERANCE]
    assert len(flips) <= 1
    printed = capsys.readouterr().out
    for i in flips:
        assert f"#{i} " in printed.split("compared with")[1]

    found = np.load(tmp_path / "out/per_sample.npz")
    assert found["imgname"][7] == np.load(golden / "pack/3dpw_test.npz")["imgname"][7]
    assert found["pose"].shape == (n, 24, 3, 3) and found["camera_translation"].shape == (n, 3)
    assert found["pose"].dtype == np.float64
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
    assert written["protocol"]["task"] == "keypoints"
    assert {"jax", "scorehmr-jax", "commit"} <= written["versions"].keys()
    assert written["units"]["re"] == "mm" and written["means"]["opt_2d"] < 10
    stopped = {s["sample"]: s["step"] for s in written["stopped_early"]}
    assert stopped == {int(i): int(found["stop_step"][i]) for i in stopped}
    for i, step in stopped.items():
        assert f"#{i} " in printed and f": {step}\n" in printed
    assert not [p for p in (tmp_path / "out").iterdir() if p.name.startswith(".")]


@pytest.mark.slow
def test_video_in_float32(golden, tmp_path):
    expected = np.load(golden / "pack/result_video.npz")
    np.savez(tmp_path / "sizes.npz", img_size_wh=expected["item_img_size"])
    argv = flags(golden, "3dpw_test_video", "pkl", image_sizes=tmp_path / "sizes.npz")
    with pytest.warns(UserWarning, match="no --fps: 30 frames per second for every video"):
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
    np.testing.assert_allclose(first["opt_accel_m_s2"], first["opt_accel"] * 0.9, rtol=1e-6)


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
        (["3dpw", "--data-root", "x", *out, "--focal", "0"], "--focal: expected a number above 0"),
        (["3dpw", "--data-root", "x", *out, "--fps", "inf"], "--fps: expected a number above 0"),
        (
            ["3dpw", "--data-root", "x", *out, "--images", "y", "--image-sizes", "z"],
            "--images, --image-sizes: expected one of the two",
        ),
        (["3dpw", "--data-root", "x", "--out", str(SCRIPT)], "evaluate.py is a file"),
    ):
        with pytest.raises(SystemExit):
            evaluate.main(argv)
        assert message in capsys.readouterr().err


def test_numbers_that_stand_in_for_others_are_named_once_and_only_then(golden):
    def warned(*argv):
        args = evaluate.arguments([*argv])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            evaluate.warn_of_numbers(args)
        return args.protocol, [str(w.message).partition(":")[0] for w in caught]

    files = flags(golden, "3dpw_test", "npz")
    assert warned("keypoints", *files)[1] == ["no --focal"]
    assert warned("video", *files)[1] == ["no --focal", "no --fps"]
    protocol, texts = warned("video", *files, "--focal", "1200", "--fps", "25")
    assert not texts and (protocol.focal, protocol.fps) == (1200, 25)
    assert warned("3dpw", *files)[1] == []
    assert warned("multiview", *files[:-2])[1] == ["no image sizes"]
    assert warned("3dpw", *files, "--fps", "25")[1] == ["--fps is not used"]
    texts = warned("multiview", *files[:-2], "--focal", "1200")[1]
    assert texts == ["--focal is not used", "no image sizes"]


def test_bad_input_ends_with_one_line_and_no_results(golden, tmp_path):
    argv = flags(golden, "3dpw_test", "npz", data=tmp_path / "gone.npz")
    done = subprocess.run(
        [sys.executable, SCRIPT, "keypoints", *argv, "--out", tmp_path / "out"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == f"evaluate.py: {tmp_path / 'gone.npz'}: no such file"
    assert "evaluate.py: no --focal: 5000 pixels" in done.stderr
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
    for held in ({"opt_mpjpe": np.array(["a"])}, {"mpjpe": np.ones(3)}):
        np.savez(tmp_path / "other.npz", **held)
        with pytest.raises(ValueError, match=r"other.npz: expected numbers reg_mpjpe, .*; found"):
            evaluate.main(["keypoints", *argv, "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_tasks_use_the_released_settings():
    assert {name: task.grouped for name, task in TASKS.items()} == {
        "keypoints": False,
        "multiview": True,
        "video": True,
    }
    loops = {name: task.config("released") for name, task in TASKS.items()}
    assert {name: (c.iterations, c.start, c.step) for name, c in loops.items()} == {
        "keypoints": (10, 50, 2),
        "video": (10, 50, 2),
        "multiview": (2, 100, 10),
    }
    assert loops["keypoints"].stop != loops["video"].stop == loops["multiview"].stop
    with pytest.raises(ValueError, match="mode: expected one of released, default, found 'best'"):
        TASKS["video"].config("best")


def test_the_default_mode_keeps_a_share_and_sees_all_there_is():
    keypoints = Keypoints2D(np.full((4, 25, 2), 500.0), np.ones((4, 25)))
    camera = pinhole(np.full((4, 2), 1000.0), 1500.0)
    for task in TASKS.values():
        assert task.config("default").blend.blends and not task.config("released").blend.blends
    kinds = {
        (name, mode): [type(term).__name__ for term in task.guidance(mode, keypoints, camera)]
        for name, task in TASKS.items()
        for mode in MODES
    }
    assert kinds["multiview", "released"] == ["MultiviewTerm"]
    assert kinds["multiview", "default"] == ["KeypointTerm", "MultiviewTerm"]
    assert kinds["video", "default"] == kinds["video", "released"] == ["KeypointTerm", "SmoothTerm"]
    assert len(TASKS["multiview"].guidance("default", keypoints, None)) == 1
    with pytest.raises(ValueError, match="mode: expected one of"):
        TASKS["video"].guidance("best", keypoints, camera)
