"""The benchmark on real video: what it fuses and measures, of a body that is known."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bodies import close

import body_model
import scorehmr_jax as sh
from benchmarks import fusion, real, real_metrics, real_videos
from body_model import Skeleton
from body_model.files import write_npz
from body_model.joints import JOINT_NAMES
from body_model.rotations import axis_angle_to_matrix
from scorehmr_jax.camera import to_camera_frame
from scorehmr_jax.detectors.protocol import Detections

V, N = 4, 5
DATA = Path(__file__).resolve().parents[2] / "shared/real"


def video_of(skeleton, turn_of_one_view=0.0):
    """A body that turns, before four cameras in a world with z up, and its exact estimates."""
    rng = np.random.default_rng(0)
    pose = axis_angle_to_matrix(jnp.asarray(0.2 * rng.standard_normal((N, 24, 3)), jnp.float32))
    betas = jnp.tile(jnp.asarray(rng.standard_normal(10), jnp.float32), (N, 1))
    place = jnp.asarray(0.1 * rng.standard_normal((N, 3)), jnp.float32)
    # From a world with z up to cameras with y down, a quarter turn apart, four metres away.
    upright = jnp.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    about = axis_angle_to_matrix(jnp.array([[0, 0, 0.5 * np.pi * v] for v in range(V)]))
    rotation = upright @ about
    matrix = jnp.tile(jnp.array([[1500.0, 0, 540], [0, 1500, 960], [0, 0, 1]]), (V, 1, 1))
    size, away = jnp.array([1080.0, 1920]), jnp.array([0, 0, 4.0])
    camera = sh.calibrated_camera(matrix, size, rotation, away)
    points = skeleton(pose, betas, place)
    pelvis = skeleton.rest[:3, 0] + betas @ skeleton.rest[:3, 1:].T
    seen = jnp.repeat(pose[None], V, 0).at[:, :, 0].set(rotation[:, None] @ pose[:, 0])
    there = jnp.einsum("vij,nj->vni", rotation, pelvis + place) + away - pelvis
    turn = axis_angle_to_matrix(jnp.array([0, turn_of_one_view, 0.0]))
    estimate = sh.Estimate(
        seen.at[2, :, 18].set(seen[2, :, 18] @ turn), jnp.stack([betas] * V), there
    )
    each = jax.tree.map(lambda a: a[:, None], camera)
    xy = sh.project(jnp.stack([points] * V), each)
    return real_metrics.Video(
        skeleton=skeleton,
        camera=camera,
        calibration=camera,
        estimate=estimate,
        keypoints=sh.Keypoints2D(xy, jnp.ones(xy.shape[:-1])),
        joints=np.asarray(points)[:, real_metrics.OF_BODY],
        good=np.ones(N, bool),
        swapped=np.zeros((V, N), bool),
    )


@pytest.fixture(scope="module")
def skeleton():
    return Skeleton.of(body_model.stand_in())


def test_exact_estimates_have_no_error(skeleton):
    video = video_of(skeleton)
    row = real_metrics.in_views(video).row("single", "estimate", lambda: (video.estimate, None))
    for name in ("mpjpe", "pa_mpjpe", "pa_mpjpe_unswapped", "pelvis_mm", "acceleration"):
        assert row[name] == pytest.approx(0, abs=0.01), name
    assert row["reprojection_px"] == pytest.approx(0, abs=0.01) and row["n"] == V * N
    aside = replace(video.estimate, translation=video.estimate.translation.at[..., 2].add(0.1))
    row = real_metrics.in_views(video).row("single", "aside", lambda: (aside, None))
    assert row["pelvis_mm"] == pytest.approx(100, abs=0.1)
    assert row["mpjpe"] == pytest.approx(0, abs=0.01) and row["reprojection_px"] > 1


def test_the_median_of_the_views_is_the_body_though_one_is_wrong(skeleton):
    video = video_of(skeleton, turn_of_one_view=1.0)
    frame = sh.levelled(jax.tree.map(lambda a: a[0], video.camera), jnp.array([0.0, 0, 1]))
    cameras = sh.relative_to(video.camera, frame)
    fused = fusion.fused(skeleton, video.estimate, jax.tree.map(lambda a: a[:, None], cameras))
    found = skeleton(fused.pose, fused.betas, fused.translation)[:, real_metrics.OF_BODY]
    close("joints", found, to_camera_frame(video.joints, frame), atol=1e-4)
    row = real_metrics.in_one_frame(video, frame, cameras, fused).row(
        "calibrated", "median", lambda: (fused, None)
    )
    assert row["mpjpe"] == pytest.approx(0, abs=0.1)
    assert row["reprojection_px"] == pytest.approx(0, abs=0.1)


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason=f"needs {DATA}")
def test_the_first_estimates_of_the_video_have_their_known_errors():
    video = real.read(DATA)
    row = real_metrics.in_views(video).row("single", "estimate", lambda: (video.estimate, None))
    assert row["pa_mpjpe"] == pytest.approx(88.6, abs=0.05)
    assert row["pa_mpjpe_unswapped"] == pytest.approx(77.8, abs=0.05)
    assert row["mpjpe"] == pytest.approx(140.2, abs=0.05)


def test_a_folder_without_the_numbers_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit):
        real.main(["--data", str(tmp_path)])
    assert "no single_cameras.npz" in capsys.readouterr().err


@pytest.mark.slow
def test_what_the_networks_found_is_kept_and_made_a_body_again(tmp_path, skeleton):
    """From kept landmarks, through a lens, to a first estimate before each camera."""
    body = body_model.stand_in()
    demo, kept = tmp_path / "demo", tmp_path / "kept"
    (demo / "calibration").mkdir(parents=True)
    one = "matrix = [[1500.0, 0.0, 540.0], [0.0, 1500.0, 960.0], [0.0, 0.0, 1.0]]\n"
    one += "size = [1080.0, 1920.0]\ndistortions = [-0.05, 0.14, 0.001, 0.0005]\n"
    one += "rotation = [0.1, 0.2, 0.3]\ntranslation = [0.0, 0.0, 4.0]\n"
    text = "".join(f"[{view}]\n{one}" for view in real_videos.VIEWS)
    (demo / "calibration/Calib.qca.txt").write_text(text)
    kept.mkdir()
    names = tuple(n for n in (*JOINT_NAMES, *dict(body.landmarks)) if n not in ("neck", "pelvis"))
    points = Skeleton.of(body, names)
    video = video_of(points)
    file = real_videos.read_cameras(demo / "calibration/Calib.qca.txt").of(real_videos.VIEWS)
    lens = sh.calibrated_camera(file.K, file.image_size, distortion=file.distortion)
    each = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32)[:, None], lens)
    still = jax.tree.map(lambda a: jnp.repeat(a[:, :1], N, 1), video.estimate)
    seen = points(*vars(still).values())
    for v, view in enumerate(real_videos.VIEWS):
        found = Detections(
            names,
            xy=np.asarray(sh.project(seen, each))[v, None].astype(float),
            confidence=np.ones((1, N, len(names))),
            points=np.asarray(seen - seen.mean(-2, keepdims=True))[v, None].astype(float),
            box=np.zeros((1, N, 4)),
            score=np.ones((1, N)),
            image_size=np.tile([1080.0, 1920.0], (N, 1)),
        )
        write_npz(kept / f"{view}.npz", vars(found) | {"names": np.array(names), "seconds": 0.25})
    result = real_videos.see(demo, body, kept)
    assert result.seconds["detect"] == 0.25 and not result.exchanged.any()
    assert result.camera.distortion is None
    again = points(*vars(result.estimate).values())
    assert float(jnp.linalg.norm(again - seen, axis=-1).mean()) < 0.05
