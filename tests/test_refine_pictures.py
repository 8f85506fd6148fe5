"""`scorehmr refine` of pictures: frames through any detector to bodies, files and a summary."""

import importlib
import os
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from body_model import save, stand_in
from body_model.joints import COCO_17
from scorehmr_jax import RefineConfig, read_estimates
from scorehmr_jax.commands import picture_estimates
from scorehmr_jax.commands import refine_pictures as command
from scorehmr_jax.commands.focal_length import Lens
from scorehmr_jax.commands.main import main
from scorehmr_jax.commands.refine_parts import Outcome
from scorehmr_jax.commands.refine_pictures import refine_pictures
from scorehmr_jax.confidence import nobody_knows
from scorehmr_jax.detectors.protocol import Detections
from scorehmr_jax.formats.pictures import Pictures
from scorehmr_jax.types import Estimate, Refined

image = pytest.importorskip("PIL.Image")

SIZE = np.array([80, 60])
FOCAL = 100.0  # the diagonal
REFINED = command._refined


@pytest.fixture(scope="module")
def body(tmp_path_factory):
    path = tmp_path_factory.mktemp("body") / "body.npz"
    save(path, stand_in())
    return path


def standing(model, found, camera, moving):
    """The first estimate of a standing person, in place of the one that is lifted."""
    turned = jnp.diag(jnp.array([1.0, -1, -1]))
    pose = jnp.broadcast_to(jnp.eye(3), (*found.score.shape, 24, 3, 3)).at[..., 0, :, :]
    place = np.broadcast_to([0.0, 0, 4], (*found.score.shape, 3))
    betas = np.zeros((*found.score.shape, 10), np.float32)
    return Estimate(pose.set(turned), betas, place.astype(np.float32))


def unchanged(prior, model, seen, present):
    """A refinement that compiles nothing."""
    estimate = seen.estimate
    pose_6d = np.zeros((*present.shape, 144), np.float32)
    refined = Refined(estimate.pose, estimate.betas, estimate.translation, pose_6d)
    return Outcome(
        refined, np.where(present, 0, 5), 0.5 * present, nobody_knows(np.asarray(present, bool))
    )


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(picture_estimates, "_first_estimate", standing)
    monkeypatch.setattr(command, "_refined", unchanged)


class Seen:
    """A detector that sees a standing person in all frames but some, and COCO's points alone."""

    def __init__(self, missing=(), people=1):
        self.missing, self.people = missing, people

    def __call__(self, frames):
        sizes = np.array([frame.shape[1::-1] for frame in frames], float)
        model = stand_in()
        joints = np.array(model.joints(np.tile(np.eye(3), (24, 1, 1)), np.zeros(10)))
        points = joints * [1, -1, -1] + [0, 0, 4]
        names = tuple(n for n in COCO_17 if n.split("_")[-1] not in ("eye", "ear", "nose"))
        from body_model.joints import JOINT_NAMES

        points = points[[JOINT_NAMES.index(n) for n in names]]
        shape = (self.people, len(sizes))
        middle = sizes[:, None] / 2
        xy = np.tile(points[:, :2] / points[:, 2:] * FOCAL, (*shape, 1, 1)) + middle
        score = np.ones(shape)
        score[-1, list(self.missing)] = 0
        confidence = 0.9 * np.ones((*shape, len(names))) * score[..., None]
        xy = np.where(score[..., None, None] > 0, xy, np.nan)
        return Detections(names, xy, confidence, None, np.zeros((*shape, 4)), score, sizes)


def photos(folder, count, size=SIZE):
    folder.mkdir(exist_ok=True)
    for i in range(count):
        image.fromarray(np.full((*size[::-1], 3), 60, np.uint8)).save(folder / f"{i}.png")
    return folder


def test_a_photo_becomes_a_body_and_an_overlay(tmp_path, body, capsys):
    source = photos(tmp_path / "fötos", 1) / "0.png"
    refined, found = refine_pictures(source, tmp_path / "out", body=body, detector=Seen())
    printed = capsys.readouterr().out
    assert "frames:  1 of 80 x 60 pixels" in printed
    assert "focal length 100 pixels; the image's diagonal is assumed" in printed
    assert "refined: 1 of 1" in printed and "person 1: found in 1 of 1" in printed
    assert refined.pose.shape == (1, 1, 24, 3, 3) and found.score.shape == (1, 1)
    written = read_estimates(tmp_path / "out" / "refined.npz")  # it can be refined again
    np.testing.assert_allclose(written.estimate.pose, refined.pose[0], atol=1e-6)
    np.testing.assert_allclose(written.camera.focal, [[FOCAL, FOCAL]])
    assert np.count_nonzero(written.keypoints.confidence) == 12
    with image.open(tmp_path / "out" / "refined.png") as drawn:
        assert drawn.size == (2 * 80 + 2 * 30, 60)


def test_frames_without_a_person_are_missing(tmp_path, body, capsys):
    folder, out = photos(tmp_path / "frames", 4), tmp_path / "out.npz"
    refine_pictures(folder, out, body=body, detector=Seen([2]))
    printed = capsys.readouterr().out
    assert "person 1: found in 3 of 4; not in 2.png" in printed and "refined: 3 of 3" in printed
    with np.load(out) as arrays:
        np.testing.assert_array_equal(arrays["status"], [0, 0, 5, 0])
        np.testing.assert_array_equal(arrays["kept_share"], [0.5, 0.5, 0, 0.5])
        assert np.isnan(arrays["pose"][2]).all() and np.isfinite(arrays["pose"][3]).all()
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [f"{i}.png.png" for i in range(4)]


@pytest.mark.parametrize("video", [True, False])
def test_lifted_people_have_a_loop_and_a_prior_of_their_own(tmp_path, body, monkeypatch, video):
    taken = []

    def make(prior, model, config):
        taken.append((prior, config))
        raise ValueError("enough")

    monkeypatch.setattr(command, "_refined", REFINED)
    monkeypatch.setattr(importlib.import_module("scorehmr_jax.refine"), "make_refiner", make)
    monkeypatch.setattr(command, "features_wanted", lambda prior: 0)
    monkeypatch.setattr("scorehmr_jax.load.load_prior", str)
    folder = photos(tmp_path / "frames", 2)
    with pytest.raises(ValueError, match="enough"):
        refine_pictures(folder, tmp_path / "o.npz", body=body, detector=Seen(), video=video)
    loop = RefineConfig.for_video if video else RefineConfig.for_images
    assert taken == [("open-uncond", loop(lifted=True))]


def test_a_frame_that_no_body_could_be_made_of_is_a_gap(tmp_path, body, monkeypatch):
    def without_the_third(*given):
        estimate = standing(*given)
        return replace(estimate, pose=estimate.pose.at[0, 2].set(np.nan))

    monkeypatch.setattr(picture_estimates, "_first_estimate", without_the_third)
    folder, out = photos(tmp_path / "frames", 6), tmp_path / "a.npz"
    found = Seen(missing=[3])
    refined, _ = refine_pictures(folder, out, body=body, detector=found, video=True, draw=False)
    assert np.isfinite(refined.pose).all()
    with np.load(out) as arrays:  # somebody was seen in the third, so it is not made up
        assert [*np.flatnonzero(arrays["filled"])] == [3]


def test_short_gaps_of_a_video_are_filled_and_long_ones_are_not(tmp_path, body, capsys):
    folder = photos(tmp_path / "frames", 8)
    words = {"body": body, "detector": Seen([2, 4, 5]), "draw": False, "video": True}
    refine_pictures(folder, tmp_path / "a.npz", **words, longest_gap=1, fps=25)
    printed = capsys.readouterr().out
    assert "filled:  person 1: 2.png, by the prior and smoothness alone" in printed
    assert "8 of 80 x 60 pixels at 25 per second" in printed and "refined: 5 of 5" in printed
    with np.load(tmp_path / "a.npz") as arrays:
        np.testing.assert_array_equal(arrays["filled"], np.arange(8) == 2)
        np.testing.assert_array_equal(arrays["status"], [0, 0, 0, 0, 5, 5, 0, 0])
        assert np.isfinite(arrays["pose"][2]).all() and not arrays["keypoints"][2, :, 2].any()
        assert arrays["fps"] == 25
    refine_pictures(folder, tmp_path / "b.npz", **words, longest_gap=0)
    with np.load(tmp_path / "b.npz") as arrays:
        assert not arrays["filled"].any() and "fps" not in arrays
    with pytest.raises(ValueError, match="--fps: expected frames per second of a video"):
        refine_pictures(folder, tmp_path / "c.npz", body=body, detector=Seen(), fps=25)


def test_the_first_estimate_can_be_left_out_of_the_overlay(tmp_path, body):
    source = photos(tmp_path / "one", 1) / "0.png"
    refine_pictures(source, tmp_path / "out", body=body, detector=Seen(), draw_before=False)
    with image.open(tmp_path / "out" / "refined.png") as drawn:
        assert drawn.size == (80 + 30, 60)


@pytest.mark.slow
def test_a_missing_frame_harms_no_other(tmp_path, body, monkeypatch):
    monkeypatch.setattr(command, "_refined", REFINED)
    loop = importlib.import_module("scorehmr_jax.refine")
    make, config = loop.make_refiner, loop.RefineConfig(iterations=1, start=10)
    monkeypatch.setattr(loop, "make_refiner", lambda prior, body, _: make(prior, body, config))
    folder, out = photos(tmp_path / "frames", 4), tmp_path / "out.npz"
    whole, part = (
        refine_pictures(folder, out, body=body, detector=detector, draw=False)[0]
        for detector in (Seen(), Seen([2]))
    )
    np.testing.assert_allclose(part.pose[0, [0, 1, 3]], whole.pose[0, [0, 1, 3]], atol=1e-5)
    assert np.isnan(part.pose[0, 2]).all()


def test_several_people_are_rows(tmp_path, body, capsys):
    folder, out = photos(tmp_path / "frames", 2), tmp_path / "out.npz"
    refined, _ = refine_pictures(
        folder, out, body=body, detector=Seen([0], people=2), video=True, draw=False
    )
    assert refined.pose.shape == (2, 2, 24, 3, 3)
    with np.load(out) as arrays:
        np.testing.assert_array_equal(arrays["status"], [[0, 0], [5, 0]])
        assert arrays["keypoints"].shape == (2, 2, 25, 3)
        assert "fps" not in arrays and arrays["first_pose"].shape == (2, 2, 24, 3, 3)
        lost = np.isnan(arrays["first_pose"]).all((-3, -2, -1))
        np.testing.assert_array_equal(lost, [[False, False], [True, False]])
    assert "person 2: found in 1 of 2; not in 0.png" in capsys.readouterr().out


def test_a_video_becomes_a_video(tmp_path, body, capsys):
    av = pytest.importorskip("av")
    from scorehmr_jax.output.overlay import save_video

    source = tmp_path / "film.mp4"
    save_video(source, [np.full((60, 80, 3), 60, np.uint8)] * 18, 50)
    refine_pictures(source, tmp_path / "out", body=body, detector=Seen([4]), lens=Lens(fov=60))
    printed = capsys.readouterr().out
    assert "frames:  18 of 80 x 60 pixels at 50 per second" in printed
    assert "focal length 69 pixels, from the 60 degrees given" in printed
    with av.open(str(tmp_path / "out" / "refined.mp4")) as container:
        assert container.streams.video[0].average_rate == 50
        assert len([*container.decode(video=0)]) == 18
    with np.load(tmp_path / "out" / "refined.npz") as arrays:
        assert arrays["fps"] == 50
        for key in ("pose", "betas", "translation"):
            np.testing.assert_array_equal(arrays[f"first_{key}"], arrays[key])  # unchanged
        assert [*np.flatnonzero(arrays["filled"])] == [4]
    main(
        ["export", str(tmp_path / "out/refined.npz"), str(tmp_path / "a.bvh"), "--body", str(body)]
    )
    assert "are assumed" not in capsys.readouterr().err  # of the frame rate
    assert "Frame Time: 0.02" in (tmp_path / "a.bvh").read_text()


def test_pictures_of_mixed_sizes_have_a_camera_each(tmp_path, body, capsys):
    folder = photos(tmp_path / "mixed", 2)
    photos(folder, 1, SIZE[::-1])
    refine_pictures(folder, tmp_path / "o.npz", body=body, detector=Seen(), draw=False)
    with np.load(tmp_path / "o.npz") as arrays:
        np.testing.assert_array_equal(arrays["image_size"], [[60, 80], [80, 60]])
        np.testing.assert_array_equal(arrays["center"], [[30, 40], [40, 30]])
    assert "2 of 60 x 80 and 80 x 60 pixels" in capsys.readouterr().out


def test_the_focal_length_of_exif_is_used_where_there_is_one():
    pictures = Pictures(Path("a"), (Path("a"), Path("b")), None, (50.0, None))
    size = np.array([[80, 60], [80, 60]], float)
    focal, said = Lens().focals(pictures, size)
    np.testing.assert_array_equal(focal, [50, 100])
    assert "assumed for 1 of 2 pictures" in said
    assert Lens(focal=77).focals(pictures, size)[1] == "77 pixels, as given"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--focal", "1.2"], "--focal: expected pixels, 10 or more, found 1.2"),
        (["--fov", "200"], "--fov: expected degrees, 1 to 179, found 200"),
        (["--fov", "60", "--focal", "900"], "expected one of them, found both"),
        (["--out", "a.glb"], "a.glb: ends in .glb; expected a folder, or the .npz to write"),
    ],
)
def test_a_mistake_is_named_before_the_work(tmp_path, flags, message):
    source = photos(tmp_path / "a", 1)
    with pytest.raises(SystemExit, match=message):
        main(["refine", str(source), *flags])


def test_options_of_pictures_are_none_of_an_npz(tmp_path):
    with pytest.raises(SystemExit, match=r"--people, --no-overlay: of pictures only"):
        main(["refine", "in.npz", "--out", "out.npz", "--people", "2", "--no-overlay"])
    with pytest.raises(SystemExit, match=r"--out: expected the .npz to write"):
        main(["refine", "in.npz"])


def test_pictures_without_people_and_folders_that_cannot_be_written(tmp_path, body):
    folder = photos(tmp_path / "a", 2)
    nobody = Seen([0, 1])
    with pytest.raises(ValueError, match="a: nobody was found in 2 pictures"):
        refine_pictures(folder, tmp_path / "out", body=body, detector=nobody)
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    if os.access(locked, os.W_OK):  # the superuser may write everywhere
        locked = photos(tmp_path / "b", 1) / "0.png"
    with pytest.raises((OSError, ValueError), match=r"locked|0.png"):
        refine_pictures(folder, locked / "out", body=body, detector=Seen())
