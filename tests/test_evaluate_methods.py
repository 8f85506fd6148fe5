"""evaluate.py with methods beside the loop: weights of their own, features, the rate of videos."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from evaluations import evaluate, flags
from refining import people, skeleton

from body_model.files import write_npz
from scorehmr_jax.baselines import registry
from scorehmr_jax.baselines.flow_weights import write_flow
from scorehmr_jax.baselines.methods import make_method
from scorehmr_jax.baselines.registry import BASELINES, SEEN_VIEWS, WEIGHTS, learned, make_baseline
from scorehmr_jax.baselines.smoothers import filtered, one_euro
from scorehmr_jax.evaluation.tasks import TASKS
from scorehmr_jax.networks.flow import ConditionalFlow
from scorehmr_jax.prior import rotations_to_x
from scorehmr_jax.types import Info, Refined


def shifting(of):
    """A method that puts people elsewhere: `of` the weights, the features and the rate."""

    def method(task, fps):
        def run(body, weights, estimate, features, terms, mask):
            there = estimate.translation + of(weights, features, fps)
            pose = jnp.asarray(estimate.pose)
            status = jnp.zeros(pose.shape[:-3], jnp.int32)
            refined = Refined(pose, estimate.betas, there, rotations_to_x(pose))
            return refined, Info(status, status - 1, jnp.zeros((1, *status.shape)))

        return run

    return method


def shift(folder, estimates):
    moved = np.load(folder / "per_sample.npz")["camera_translation"]
    return moved - estimates["pred_cam_t"].reshape(moved.shape)


def arguments(golden, tmp_path, method, stem="3dpw_test", suffix="npz", **changes):
    given = flags(golden, stem, suffix, **changes)
    at = {part: i for i, part in enumerate(given)}
    for name in ("weights", "features", "feature_stats"):
        if name not in changes:
            i = at[f"--{name.replace('_', '-')}"]
            given[i : i + 2] = [None, None]
    given = [part for part in given if part is not None]
    return [*given, "--method", method, "--out", str(tmp_path / "out")]


def test_a_flow_of_image_features_gets_them_as_their_network_gives_them(
    golden, tmp_path, monkeypatch
):
    pack = golden / "pack"
    sizes = ConditionalFlow(features=128 * 24, hidden=4, layers=1, blocks=1, normed=False)
    write_npz(tmp_path / "flow.npz", write_flow(sizes, jax.jit(sizes.init)(jax.random.key(0))))
    seen = shifting(lambda weights, features, fps: features.mean(-1, keepdims=True))
    monkeypatch.setitem(BASELINES, "flow", replace(BASELINES["flow"], method=seen))
    features = pack / "3dpw_test_pare_feats.npz"
    given = {"weights": tmp_path / "flow.npz", "features": features}
    report = evaluate.main(["3dpw", *arguments(golden, tmp_path, "flow", **given)])
    raw = np.load(features)["pose_feats"].reshape(-1, 128 * 24).mean(-1)
    found = shift(tmp_path / "out", np.load(pack / "3dpw_test_hmr2_preds.npz"))
    np.testing.assert_allclose(found, np.tile(raw[:, None], 3), atol=1e-4)
    assert report["files"]["weights"] == str(tmp_path / "flow.npz")
    stats = pack / "pare_feat_stats.npz"
    with pytest.warns(UserWarning, match="--feature-stats are not used: .*flow.npz takes feat"):
        evaluate.main(["3dpw", *arguments(golden, tmp_path, "flow", **given, feature_stats=stats)])
    assert "feature_stats" not in json.loads((tmp_path / "out/metrics.json").read_text())["files"]
    with pytest.raises(ValueError, match=r"flow.npz needs image features: please give --features$"):
        evaluate.main(["3dpw", *arguments(golden, tmp_path, "flow", weights=given["weights"])])


def test_what_ships_takes_no_features_and_says_so(golden, tmp_path, monkeypatch):
    plain = shifting(lambda weights, features, fps: 0.0 if features is None else jnp.nan)
    monkeypatch.setitem(BASELINES, "flow", replace(BASELINES["flow"], method=plain))
    features = golden / "pack/3dpw_test_pare_feats.npz"
    with pytest.warns(UserWarning, match="--features are not used: flow takes no image features"):
        report = evaluate.main(["3dpw", *arguments(golden, tmp_path, "flow", features=features)])
    assert "weights" not in report["files"] and report["dropped"] == 0


def test_smplify_takes_its_own_mixture(golden, tmp_path, monkeypatch):
    held = {
        "weights": np.array([0.25, 0.75]),
        "means": np.stack([np.full(69, 0.5), np.zeros(69)]),
        "covars": np.tile(np.eye(69), (2, 1, 1)),
    }
    np.savez(tmp_path / "gmm.npz", **held)
    first = shifting(lambda mixture, features, fps: mixture.mean[0, 0])
    monkeypatch.setitem(BASELINES, "smplify", replace(BASELINES["smplify"], method=first))
    argv = arguments(golden, tmp_path, "smplify", weights=tmp_path / "gmm.npz")
    evaluate.main(["3dpw", *argv])
    found = shift(tmp_path / "out", np.load(golden / "pack/3dpw_test_hmr2_preds.npz"))
    np.testing.assert_allclose(found, 0.5, atol=1e-5)
    written = json.loads((tmp_path / "out/metrics.json").read_text())
    assert written["files"]["weights"].endswith("gmm.npz") and written["method"] == "smplify"
    with pytest.raises(ValueError, match="method adam-free: it has no weights; found x"):
        learned("adam-free", "x")
    with pytest.raises(ValueError, match="method scorehmr: it has no weights of its own; found x"):
        make_method("scorehmr", skeleton(), TASKS["video"], weights="x")


def test_the_rate_of_the_videos_reaches_the_one_euro_filter(golden, tmp_path, monkeypatch):
    p = people()
    terms = TASKS["video"].guidance("released", p.keypoints, p.camera)
    found = make_baseline("one-euro", skeleton(), "video", fps=60.0)(p.estimate, None, terms)[0]
    wanted = jax.jit(lambda e: filtered(skeleton(), e, terms, one_euro(fps=60.0))[0])(p.estimate)
    np.testing.assert_allclose(found.pose, wanted.pose, atol=1e-6)
    usual = make_baseline("one-euro", skeleton(), "video")(p.estimate, None, terms)[0]
    assert np.abs(usual.pose - found.pose).max() > 1e-3

    rate = shifting(lambda weights, features, fps: fps)
    monkeypatch.setitem(BASELINES, "one-euro", replace(BASELINES["one-euro"], method=rate))
    sizes = np.load(golden / "pack/result_video.npz")["item_img_size"]
    np.savez(tmp_path / "sizes.npz", img_size_wh=sizes)
    argv = arguments(
        golden, tmp_path, "one-euro", "3dpw_test_video", "pkl", image_sizes=tmp_path / "sizes.npz"
    )
    evaluate.main(["3dpw-video", *argv, "--fps", "25"])
    estimates = np.load(golden / "pack/3dpw_test_video_hmr2_preds.pkl", allow_pickle=True)
    whole = {"pred_cam_t": np.concatenate([group["pred_cam_t"] for group in estimates])}
    np.testing.assert_allclose(shift(tmp_path / "out", whole), 25, atol=1e-4)


def test_views_with_keypoints_have_weights_of_their_own(monkeypatch):
    monkeypatch.setitem(WEIGHTS["adam-pull"], SEEN_VIEWS, 1e7)
    monkeypatch.setitem(WEIGHTS["adam-pull"], "multiview", 0.0)
    p = people()
    run = registry.make_baseline("adam-pull", skeleton(), "multiview")
    moved = {
        mode: np.abs(
            run(p.estimate, None, TASKS["multiview"].guidance(mode, p.keypoints, p.camera))[0].pose
            - p.estimate.pose
        ).max()
        for mode in ("released", "default")
    }
    assert moved["default"] < 0.05 < 0.2 < moved["released"]
