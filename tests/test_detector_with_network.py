"""One command from a photo to a refined body: MediaPipe finds the person, a network estimates."""

import importlib
import warnings

import golden_networks as nets
import numpy as np
import pytest
from stand_in_networks import outputs_of, registered

from body_model import save, stand_in
from body_model.cache import cache_folder
from body_model.files import read_npz
from scorehmr_jax import image_checkpoint
from scorehmr_jax.commands.main import main
from scorehmr_jax.detectors import mediapipe
from scorehmr_jax.detectors.mediapipe_decode import anchors
from scorehmr_jax.detectors.mediapipe_models import DETECTOR, LANDMARKS
from scorehmr_jax.networks.prohmr import ProHMR
from scorehmr_jax.regression.crop import crop

image = pytest.importorskip("PIL.Image")


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """Grace Hopper down to the chest, as matplotlib ships her."""
    cbook = pytest.importorskip("matplotlib.cbook")
    path = tmp_path_factory.mktemp("photo") / "hopper.jpg"
    with cbook.get_sample_data("grace_hopper.jpg") as file:
        path.write_bytes(file.read())
    return path


@pytest.fixture(scope="module")
def body(tmp_path_factory):
    path = tmp_path_factory.mktemp("body") / "body.npz"
    save(path, stand_in())
    return path


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """One round of the loop, so that it compiles soon."""
    loop = importlib.import_module("scorehmr_jax.refine")
    config = loop.RefineConfig(iterations=1, start=10)
    monkeypatch.setattr(loop.RefineConfig, "for_images", lambda **_: config)


HIPS, SCALE = np.array([0.5, 0.7]), np.array([0.5, 0.3])  # of the square about the photo
UNSEEN = range(17, 33)  # hands, hips, legs and feet, in MediaPipe's order


@pytest.fixture
def made_up(monkeypatch):
    """Of MediaPipe: a person in the middle, hips and legs far below the photo and not seen."""
    place = np.random.default_rng(0).uniform(70, 180, (39, 2))
    place[17:33, 1] += 600

    def detector(picture):
        raw, logits = np.zeros((2254, 12), np.float32), np.full((2254, 1), -90, np.float32)
        anchor = int(np.abs(anchors() - HIPS).sum(-1).argmin())
        points = [each - anchors()[anchor] for each in (HIPS, SCALE, HIPS, SCALE, HIPS, SCALE)]
        points[1] = np.array([0.3, 0.3])  # the face's size
        raw[anchor], logits[anchor] = 224 * np.ravel(points), 3
        return [raw, logits]

    def landmarks(picture):
        raw = np.zeros((39, 5), np.float32)
        raw[:, :2], raw[:, 3] = place, 3
        raw[list(UNSEEN), 3] = -5
        heat = np.full((64, 64, 39), -20, np.float32)
        return [raw.ravel(), np.array([0.9], np.float32), None, heat, np.zeros(117, np.float32)]

    monkeypatch.setattr(mediapipe, "model_files", lambda folder: ("detector", "landmarks"))
    pick = {"detector": detector, "landmarks": landmarks}
    monkeypatch.setattr(mediapipe, "_network", lambda path, threads: pick[path])


def refined(photo, body, network, out, *more):
    command = ["refine", str(photo), "--network", network, "--body", str(body), "--out", str(out)]
    main([*command, "--no-overlay", *more])
    return read_npz(out)


def test_the_network_is_shown_who_the_detector_found(photo, body, made_up, tmp_path, capsys):
    with registered(tmp_path) as network, warnings.catch_warnings():
        warnings.simplefilter("error")  # what is not seen is not said to lie beside the photo
        result = refined(photo, body, network, tmp_path / "o.npz")
        assert "person 1: found in 1 of 1" in capsys.readouterr().out
        keypoints = result["keypoints"][0]
        seen = keypoints[:, 2] > 0.2
        assert 8 <= seen.sum() < 12 and (keypoints[~seen, 2] < 0.01).all()
        # MediaPipe has more points in the face than OpenPose: the box is around all of them.
        low, high = keypoints[seen, :2].min(0), keypoints[seen, :2].max(0)
        found = mediapipe.MediaPipePose()([np.asarray(image.open(photo))])
        xy = found.xy[0, 0][found.confidence[0, 0] > 0.2]
        assert (xy.min(0) <= low + 1e-3).all() and (xy.max(0) >= high - 1e-3).all()
        size = (xy.max(0) - xy.min(0)) * 1.2
        pixels = np.asarray(image.open(photo))
        given = crop(pixels, (xy.max(0) + xy.min(0)) / 2, max(size[1], size[0] / 0.75), 16)
        outputs = outputs_of(given[None])
    np.testing.assert_allclose(result["first_pose"], outputs["pred_pose"], atol=2e-3)
    assert result["status"] == [0] and np.isfinite(result["pose"]).all()
    assert np.abs(result["pose"] - result["first_pose"]).max() > 1e-3


@pytest.mark.slow
def test_the_real_networks_together(photo, body, tmp_path):
    pytest.importorskip("ai_edge_litert")
    if not all((cache_folder() / "mediapipe" / name).is_file() for name in (DETECTOR, LANDMARKS)):
        pytest.skip("needs MediaPipe's networks, which `scorehmr refine PHOTO` fetches")
    small = ProHMR(8, (1, 1, 1, 1), flow_hidden=16, flow_layers=2, flow_blocks=1, head_hidden=8)
    network = nets.drawn(small)
    network.params["mean_camera"][:] = 0.9, 0, 0
    image_checkpoint.write(tmp_path / "net.safetensors", network.params, small)
    name = f"prohmr={tmp_path / 'net.safetensors'}"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = refined(photo, body, name, tmp_path / "o.npz")
    # Her nose and shoulders, and a body that the network gave.
    np.testing.assert_allclose(result["keypoints"][0, 0], [268, 225, 1], atol=12)
    np.testing.assert_allclose(result["keypoints"][0, [2, 5], :2], [[90, 420], [455, 425]], atol=40)
    assert result["status"] == [0] and np.isfinite(result["pose"]).all()
