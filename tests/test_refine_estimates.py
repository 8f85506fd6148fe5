"""`scorehmr refine` of other networks' estimates and of 3D keypoints."""

import importlib
import json
import pickle
import re
import warnings
from dataclasses import replace
from pathlib import Path

import body_files
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from body_files import SIZE, people
from keypoint_files import coco_results, openpose_folder, write

import body_model
import scorehmr_jax as sh
from body_model import save, stand_in
from scorehmr_jax.commands import refine
from scorehmr_jax.commands import refine_estimates as command
from scorehmr_jax.commands.estimate_cameras import Given, choose_camera, replaced
from scorehmr_jax.commands.gaps import fill_gaps, finite
from scorehmr_jax.commands.lift_keypoints import steadiest
from scorehmr_jax.commands.main import main
from scorehmr_jax.commands.matching import Matched
from scorehmr_jax.commands.refine_parts import Outcome
from scorehmr_jax.confidence import nobody_knows
from scorehmr_jax.types import Info, Refined

M = 6
FOCAL = 5000 / 256 * max(SIZE)
DEPTH = 70.0


@pytest.fixture(scope="module")
def body(tmp_path_factory):
    path = tmp_path_factory.mktemp("body") / "body.npz"
    save(path, stand_in())
    return path


@pytest.fixture(scope="module")
def made():
    """Two people beside each other in three frames: rows 0, 2, 4 on the left, the others right."""
    made = people(M)
    made["pose"] = np.tile(made["pose"][:2], (3, 1, 1, 1))  # they stand still
    made["translation"] = np.array([[(-0.8, 0.8)[i % 2], 0.2, DEPTH] for i in range(M)], np.float32)
    return made


@jax.jit
def skeleton(pose, betas):
    return body_model.Skeleton.of(stand_in())(pose, betas)


@pytest.fixture(scope="module")
def seen(made):
    """OpenPose-25 keypoints [M, 25, 3] where PHALP's camera sees the bodies, confidence 0.8."""
    joints = np.asarray(skeleton(made["pose"], made["betas"]))
    at = joints + made["translation"][:, None]
    # PHALP's bars of an odd number of pixels are not equally wide.
    center = max(SIZE) / 2 - (max(SIZE) - SIZE) // 2
    xy = at[..., :2] / at[..., 2:] * FOCAL + center
    return np.concatenate([xy, np.full((M, 25, 1), 0.8)], -1)


ASKED = []


def unchanged(prior, model, arrays, moving, config):
    """A refinement that compiles nothing."""

    def refine(part):
        ASKED.append(part.name)
        estimate, *_ = command.taken(arrays, part)
        pose_6d = np.zeros((len(part.mask), 144), np.float32)
        refined = Refined(estimate.pose, estimate.betas, estimate.translation + 1, pose_6d)
        nothing = nobody_knows(np.asarray(part.mask, bool))
        return Outcome(refined, np.where(part.mask, 0, 5), 0.5 * part.mask, nothing)

    return refine


@pytest.fixture
def quick(monkeypatch):
    ASKED.clear()
    monkeypatch.setattr(command, "_refiner", unchanged)


def run(*words):
    main(["refine", *map(str, words)])


def written(path):
    with np.load(path) as arrays:
        return dict(arrays)


def test_tracks_and_keypoints_become_bodies(tmp_path, made, seen, body, quick, capsys):
    source = body_files.phalp(tmp_path / "demo_v.pkl", made, skip=(2,))
    # The people stand in another order, a third one is a stranger, and a frame has nobody.
    frames = {1: [seen[1], seen[0], seen[0] + [300, 0, 0]], 2: [seen[3]], 3: []}
    openpose_folder(tmp_path / "json", frames)
    for number in (1, 2, 3):  # named as PHALP's images are
        file = tmp_path / "json" / f"walk_{number:012d}_keypoints.json"
        file.rename(tmp_path / "json" / f"{number:06d}.json")
    out = tmp_path / "neu ö" / "bodies.npz"
    run(source, "--keypoints", tmp_path / "json", "--out", out, "--body", body)
    printed = capsys.readouterr().out
    assert "frames:  3, 000001.jpg to 000003.jpg (phalp)" in printed
    assert "person of id 3: in 3 of 3" in printed
    assert "person of id 7: in 2 of 3; not in 000002.jpg" in printed
    assert "filled:  person of id 7: 000002.jpg, by the prior and smoothness" in printed
    assert f"focal length {FOCAL:.0f} pixels, which the estimates were made for" in printed
    assert "assumed: focal length as PHALP has it: 5000 / 256 of the image's longer" in printed
    assert "keypoints: 3 frames in common, by their names" in printed
    assert "person of id 3: none in 000003.jpg" in printed
    assert "detections that show nobody of the estimates, in frames 1 (place 2)" in printed
    assert "refined: 5 of 5" in printed and f"wrote:   {out}" in printed
    held = written(out)
    assert held["ids"].tolist() == [3, 7] and held["frame_numbers"].tolist() == [0, 1, 2]
    assert not held["status"].any() and (held["kept_share"] <= 1).all()
    assert held["filled"].tolist() == [[0, 0, 0], [0, 1, 0]]
    wanted = np.stack([[seen[1], seen[3], 0 * seen[0]], [seen[0], 0 * seen[0], 0 * seen[0]]])
    wanted[:, :, [1, 8]] = 0  # neck and pelvis, which lie beside the means that detectors have
    np.testing.assert_allclose(held["keypoints"], wanted, atol=0.01)
    np.testing.assert_allclose(held["translation"][0], made["translation"][[1, 3, 5]] + 1)
    np.testing.assert_allclose(held["translation"][1, 1], made["translation"][[0, 4]].mean(0) + 1)
    # Each person's own first estimate; of the frame that was filled, what it was filled with.
    wanted = np.stack([made["translation"][[1, 3, 5]], made["translation"][[0, 2, 4]]])
    wanted[1, 1] = made["translation"][[0, 4]].mean(0)
    np.testing.assert_allclose(held["first_translation"], wanted, rtol=1e-6)
    np.testing.assert_allclose(held["first_pose"], held["pose"], atol=1e-6)
    np.testing.assert_allclose(held["first_betas"], held["betas"], atol=1e-6)
    assert "fps" not in held
    assert not (tmp_path / "neu ö" / "bodies.parts").exists()


def test_what_was_stopped_goes_on(tmp_path, made, seen, body, quick, monkeypatch, capsys):
    source = body_files.phalp(tmp_path / "demo_v.pkl", made)
    rows = [(t, seen[2 * t + p]) for t in range(3) for p in range(2)]
    write(tmp_path / "k.json", [*coco_of(rows)])
    words = [
        source,
        "--keypoints",
        tmp_path / "k.json",
        "--out",
        tmp_path / "a.npz",
        "--body",
        body,
    ]

    def stopped(*given):
        refine = unchanged(*given)

        def until(part):
            if part.name == "person1":
                raise KeyboardInterrupt
            return refine(part)

        return until

    monkeypatch.setattr(command, "_refiner", stopped)
    with pytest.raises(SystemExit):
        run(*words)
    assert "stopped: 1 of 2 parts are done and kept" in capsys.readouterr().out
    assert not (tmp_path / "a.npz").exists() and ASKED == ["person0"]
    monkeypatch.setattr(command, "_refiner", unchanged)
    run(*words)
    assert "refined: 6 of 6; 1 parts from an earlier run" in capsys.readouterr().out
    assert ASKED == ["person0", "person1"]
    first = written(tmp_path / "a.npz")
    np.testing.assert_allclose(first["translation"][0], made["translation"][[1, 3, 5]] + 1)
    np.testing.assert_allclose(first["first_translation"] + 1, first["translation"])
    # Other input, or a damaged part, is done anew.
    write(
        tmp_path / "k.json", [*coco_of((t, points + np.array([0.5, 0, 0])) for t, points in rows)]
    )
    ASKED.clear()
    with pytest.raises(SystemExit):
        monkeypatch.setattr(command, "_refiner", stopped)
        run(*words)
    write(tmp_path / "k.json", [*coco_of(rows)])
    monkeypatch.setattr(command, "_refiner", unchanged)
    run(*words)
    assert ASKED == ["person0", "person0", "person1"]
    assert "earlier" not in capsys.readouterr().out
    with pytest.raises(SystemExit):
        monkeypatch.setattr(command, "_refiner", stopped)
        run(*words)
    (part,) = (tmp_path / "a.parts").iterdir()
    part.write_bytes(part.read_bytes()[:100])
    monkeypatch.setattr(command, "_refiner", unchanged)
    ASKED.clear()
    run(*words)
    assert ASKED == ["person0", "person1"]


def test_our_own_result_refined_again_says_what_its_first_estimates_are(
    tmp_path, made, seen, body, quick, capsys
):
    source = body_files.phalp(tmp_path / "demo_v.pkl", made)
    write(tmp_path / "k.json", [*coco_of((t, seen[2 * t + p]) for t in range(3) for p in range(2))])
    keypoints = ["--keypoints", tmp_path / "k.json"]
    run(source, "--out", tmp_path / "a.npz", "--body", body, *keypoints)
    assert "refined from before" not in capsys.readouterr().out
    once = written(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", fps=np.float32(24), **once)
    run(tmp_path / "b.npz", "--out", tmp_path / "c.npz", "--images", "--body", body)
    assert (
        "the file's bodies as first estimates; what they were refined from before is left out"
        in (capsys.readouterr().out)
    )
    again = written(tmp_path / "c.npz")
    for key in ("pose", "betas", "translation"):
        np.testing.assert_array_equal(again[f"first_{key}"], once[key])
    assert again["fps"] == 24 and (again["first_translation"] != once["first_translation"]).any()


def coco_of(rows):
    """COCO results of OpenPose-25 points; what it has no points for is 0."""
    names, of = body_model.keypoint_set("coco-17").names, body_model.keypoint_set("openpose-25")
    for image, points in rows:
        picked = points[[of.names.index(name) for name in names]]
        yield from coco_results([(image, picked)])


def test_a_calibrated_camera_takes_the_place_of_the_assumed_one(
    tmp_path, made, seen, body, quick, capsys
):
    source = body_files.phalp(tmp_path / "demo_v.pkl", made)
    rows = [(t, seen[2 * t + p]) for t in range(3) for p in range(2)]
    write(tmp_path / "k.json", [*coco_of(rows)])
    K = [[900.0, 0, 330], [0, 900, 170], [0, 0, 1]]
    (tmp_path / "c.json").write_text(json.dumps({"one": {"K": K, "size": SIZE.tolist()}}))
    words = [source, "--keypoints", tmp_path / "k.json", "--out", tmp_path, "--body", body]
    run(*words, "--camera", tmp_path / "c.json")
    assert "camera:  one of c.json, focal length 900 pixels" in capsys.readouterr().out
    held = written(tmp_path / "refined.npz")
    np.testing.assert_allclose(held["focal"][0, 0], [900, 900])
    assert (np.abs(held["translation"][..., 2] - 1 - DEPTH * 900 / FOCAL) < 0.2).all()
    with pytest.raises(SystemExit, match="--camera and --focal: expected one of them"):
        run(*words, "--camera", tmp_path / "c.json", "--focal", 900)
    with pytest.raises(SystemExit, match=r"no camera 'two'; found one"):
        run(*words, "--camera", tmp_path / "c.json", "--camera-name", "two")


def test_another_focal_length_keeps_people_where_they_are_seen(made):
    body = stand_in()
    estimate = sh.Estimate(*map(jnp.asarray, made.values()))
    size = np.tile(SIZE.astype(np.float32), (M, 1))
    old, new = sh.pinhole(size, 5000.0), sh.pinhole(size, 800.0)
    new = sh.Camera(new.focal, new.center + 20, new.image_size)
    moved = replaced(estimate, body, old, new)
    joints = body.joints(estimate.pose, estimate.betas)

    def pixels(of, camera):
        return np.asarray(sh.project(joints + of.translation[:, None], camera))

    np.testing.assert_allclose(pixels(moved, new)[:, 0], pixels(estimate, old)[:, 0], atol=1e-3)
    before, after = (np.ptp(pixels(*each), axis=1) for each in ((estimate, old), (moved, new)))
    assert np.abs(after / before - 1).max() < 0.3  # nearer, so with more perspective


def test_motion_in_a_world_goes_before_a_camera_about_the_pelvis(tmp_path, made):
    body = stand_in()
    R = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # z up becomes y down
    t = np.array([0.1, 1.2, 4])
    K = np.array([[900.0, 0, 320], [0, 900, 180], [0, 0, 1]])
    camera = {"K": K.tolist(), "R": R.tolist(), "t": t.tolist(), "size": [640, 360]}
    (tmp_path / "c.json").write_text(json.dumps({"one": camera}))
    place = np.array(made["translation"]) * [1, 0.04, 0.01]
    estimate = sh.Estimate(
        jnp.asarray(made["pose"]), jnp.asarray(made["betas"]), jnp.asarray(place, jnp.float32)
    )
    given = Given(tmp_path / "c.json")
    moved, lens, _ = choose_camera(estimate, body, None, True, given, None)
    world = np.asarray(body.joints(estimate.pose, estimate.betas)) + place[:, None]
    found = body.joints(moved.pose, moved.betas) + moved.translation[:, None]
    np.testing.assert_allclose(found, world @ R.T + t, atol=1e-5)
    at = (world @ R.T + t) @ K.T
    np.testing.assert_allclose(sh.project(found, lens), at[..., :2] / at[..., 2:], atol=1e-2)
    with pytest.raises(ValueError, match="motion in a world, without a camera; give --camera"):
        choose_camera(estimate, body, None, True, Given(), None)


def three_d(path, seen, made, **changes):
    """Keypoints of two people in 3D and 2D, as one .npz."""
    joints = np.asarray(skeleton(made["pose"], made["betas"]))
    arrays = {
        "keypoints": seen.reshape(3, 2, 25, 3),
        "points_3d": joints.reshape(3, 2, 25, 3),
        "ids": np.tile([4, 9], (3, 1)),
        "convention": np.array("openpose-25"),
        "image_size": SIZE,
    }
    np.savez(path, **{k: v for k, v in (arrays | changes).items() if v is not None})
    return path


def test_keypoints_in_3d_are_lifted(tmp_path, seen, made, body, quick, monkeypatch, capsys):
    asked = []

    def lifter(model, names):
        def lift(points, confidence, *, keypoints, camera, shared_shape):
            asked.append((points, confidence, keypoints, camera, shared_shape))
            shape = points.shape[:2]
            pose = np.tile(np.eye(3, dtype=np.float32), (*shape, 24, 1, 1))
            place = np.tile([0, 0, 5.0], (*shape, 1)).astype(np.float32)
            estimate = sh.Estimate(pose, np.zeros((*shape, 10), np.float32), place)
            return estimate, sh.LiftInfo(np.ones(shape, bool), np.ones(shape, bool), confidence)

        return lift

    monkeypatch.setattr(importlib.import_module("scorehmr_jax.lift"), "make_lifter", lifter)
    source = three_d(tmp_path / "points.npz", seen, made, fps=np.array(60))
    run(source, "--out", tmp_path / "out", "--body", body, "--focal", 900)
    printed = capsys.readouterr().out
    assert "person of id 9: in 3 of 3" in printed and "lifted from the points in 3D" in printed
    assert "focal length 900 pixels, as given" in printed and "refined: 6 of 6" in printed
    ((_, _, keypoints, camera, shared),) = asked
    assert shared and (np.asarray(camera.focal) == 900).all()
    np.testing.assert_allclose(keypoints.xy[1, 2], seen[5, :, :2], atol=1e-3)
    held = written(tmp_path / "out" / "refined.npz")
    assert held["fps"] == 60
    np.testing.assert_array_equal(held["first_translation"], np.tile([0, 0, 5.0], (2, 3, 1)))
    for changes, message in (
        ({"keypoints": None}, "no points in 2D; sh.lift makes bodies of points in 3D"),
        ({"ids": None, "present": np.ones((3, 2), bool)}, "several people without ids"),
        ({"image_size": None}, "give --image-size WIDTH HEIGHT"),
    ):
        three_d(source, seen, made, **changes)
        with pytest.raises(SystemExit, match=message):
            run(source, "--out", tmp_path / "out", "--body", body)


def test_keypoints_in_2d_alone_become_the_bodies_that_move_least(
    tmp_path, seen, made, body, quick, monkeypatch, capsys
):
    source = three_d(tmp_path / "points.npz", seen, made, points_3d=None)
    likeliest = np.zeros((2, 2, 3), np.float32)
    likeliest[1] += 1
    likeliest[0, 1, 2] = np.inf  # there is a body only of the other kind

    def several(key, prior, model, names, keypoints, camera):
        lead = likeliest.shape
        pose = np.tile(np.eye(3, dtype=np.float32), (*lead, 24, 1, 1))
        pose[0, :, 1, 1] = np.diag([1, -1, -1])  # another pose in the middle, and nowhere else
        pose[0, :, 1, 16] = np.diag([1, -1, -1])
        betas = np.tile(np.arange(3, dtype=np.float32)[:, None], (2, 2, 1, 10))
        place = np.tile([0, 0, 5.0], (*lead, 1)).astype(np.float32)
        return sh.Estimate(*map(jnp.asarray, (pose, betas, place))), likeliest

    monkeypatch.setattr(importlib.import_module("scorehmr_jax.lift_2d"), "lift_2d", several)
    run("--keypoints", source, "--out", tmp_path / "a.npz", "--body", body, "--focal", 900)
    assert "nothing tells their depth" in capsys.readouterr().out
    held = written(tmp_path / "a.npz")
    np.testing.assert_array_equal(held["first_betas"], np.ones((2, 3, 10)))  # one shape
    same = np.broadcast_to(np.eye(3), (24, 3, 3))
    np.testing.assert_array_equal(held["first_pose"][0], np.stack([same] * 3))
    run(source, "--images", "--out", tmp_path / "b.npz", "--body", body, "--focal", 900)
    held = written(tmp_path / "b.npz")
    np.testing.assert_array_equal(held["first_pose"][0, 1, 16], np.diag([1, -1, -1]))
    with pytest.raises(SystemExit, match="expected a photo, video, estimates or keypoints"):
        run("--focal", 900)


def test_the_steadiest_bodies_skip_frames_without_one():
    rng = np.random.default_rng(0)
    path = np.cumsum(0.01 * rng.standard_normal((6, 24, 3)), 0)
    joints = np.stack([path + 0.3 * rng.standard_normal((6, 24, 3)), path])
    score = np.tile([[0.0], [3.0]], (1, 6))
    score[:, 2] = np.inf
    np.testing.assert_array_equal(steadiest(score, joints), [1, 1, 0, 1, 1, 1])
    np.testing.assert_array_equal(steadiest(np.full((2, 6), np.inf), joints), np.zeros(6))


def test_options_of_one_kind_are_none_of_another(tmp_path, made, quick):
    source = body_files.wham(tmp_path / "wham_output.pkl", made)
    with pytest.raises(SystemExit, match=r"wham_output\.pkl: --people: of pictures only"):
        run(source, "--people", 2)
    with pytest.raises(SystemExit, match=r"a\.png: --keypoints: of estimates only"):
        run(tmp_path / "a.png", "--keypoints", "k.json")
    with pytest.raises(SystemExit, match=r"--processes: of our own \.npz only"):
        run(source, "--processes", 2)
    with pytest.raises(SystemExit, match="--video and --images: expected one of them"):
        run(source, "--video", "--images")
    with pytest.raises(SystemExit, match="does not tell the image's size; give --image-size"):
        run(source, "--out", tmp_path)
    with pytest.raises(SystemExit, match="holds no keypoints, so there is nothing to refine by"):
        run(source, "--out", tmp_path, "--image-size", *SIZE)


def test_a_folder_is_taken_for_what_it_holds(tmp_path, made, monkeypatch):
    asked = []
    monkeypatch.setattr(refine, "_refine_pictures", lambda args: asked.append("pictures"))
    monkeypatch.setattr(refine, "_refine_estimates", lambda args: asked.append("estimates"))
    folder = body_files.tram(tmp_path / "tram", made, FOCAL)
    (folder / "tram_output.mp4").write_bytes(b"")
    (tmp_path / "demo_out").mkdir()
    np.savez(tmp_path / "demo_out" / "a.npz", x=np.zeros(3))
    run(folder)
    run(tmp_path / "demo_out")
    (tmp_path / "demo_out" / "a.png").write_bytes(b"")
    run(tmp_path / "demo_out")
    run(tmp_path / "demo_out", "--keypoints", "k.json")
    run(tmp_path / "a.jpg")
    assert asked == ["estimates", "estimates", "pictures", "estimates", "pictures"]


def test_short_gaps_are_filled_between_their_ends(made):
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], np.float32)  # by 90 degrees about z
    pose = np.full((1, 9, 24, 3, 3), np.nan, np.float32)
    pose[0, 1], pose[0, 4], pose[0, 8] = np.eye(3), turn, np.eye(3)
    flat = np.where(np.isnan(pose[..., 0, 0, 0, None]), np.nan, np.arange(9.0)[None, :, None])
    betas, place = (np.repeat(flat, n, -1).astype(np.float32) for n in (10, 3))
    present = np.isfinite(pose).all((-3, -2, -1))
    first = sh.Estimate(*map(jnp.asarray, (pose, betas, place)))
    found, filled = fill_gaps(first, present, 2)
    assert filled[0].tolist() == [0, 0, 1, 1, 0, 0, 0, 0, 0]
    assert np.isnan(np.asarray(found.pose)[0, [0, 5, 6, 7]]).all()
    np.testing.assert_allclose(found.translation[0, 2:4], [[2] * 3, [3] * 3], atol=1e-6)
    both = np.asarray(found.pose)[0, 2:4]
    np.testing.assert_allclose(
        both @ both.swapaxes(-1, -2), np.broadcast_to(np.eye(3), both.shape), atol=1e-6
    )
    # About the same axis, a third and two thirds of the way.
    angles = np.degrees(np.arctan2(both[:, 5, 1, 0], both[:, 5, 0, 0]))
    np.testing.assert_allclose(angles, [26.57, 63.43], atol=0.01)  # on the chord
    assert fill_gaps(first, present, 3)[1][0].tolist() == [0, 0, 1, 1, 0, 1, 1, 1, 0]
    assert not fill_gaps(first, present, 0)[1].any()
    np.testing.assert_array_equal(finite(first), present)
    half = replace(first, translation=first.translation.at[0, 4].set(jnp.nan))
    assert np.flatnonzero(finite(half)).tolist() == [1, 8]


def test_rates_and_gaps_that_make_no_sense_are_refused_before_the_work(tmp_path, made, seen, body):
    own = {**made, "keypoints": seen, "image_size": SIZE, "focal": FOCAL, "center": SIZE / 2}
    np.savez(tmp_path / "own.npz", **own)
    for flags, message in (
        (["--fps", "-1"], "--fps: expected frames per second of a video, above 0, found -1"),
        (["--fps", "25", "--images"], "--fps: of videos only, and these are images"),
        (["--fill", "-2", "--video"], "--fill: expected frames, 0 or more, found -2"),
        (["--feature-stats", "x.npz"], "--feature-stats: of pictures only"),
    ):
        with pytest.raises(SystemExit, match=message):
            run(tmp_path / "own.npz", *flags, "--body", body, "--out", tmp_path / "o.npz")
    assert not (tmp_path / "o.npz").exists()


def test_frames_with_image_features_are_never_filled(tmp_path, made, seen, body, monkeypatch):
    monkeypatch.setattr(command, "_refiner", unchanged)
    gap = {name: np.array(value) for name, value in made.items()}
    gap["pose"][2] = np.nan
    own = {**gap, "keypoints": seen, "image_size": SIZE, "focal": FOCAL, "center": SIZE / 2}
    for features, wanted in ((None, [2]), (np.zeros((M, 4)), [])):
        more = {} if features is None else {"features": features}
        np.savez(tmp_path / "own.npz", **own, **more)
        run(
            tmp_path / "own.npz",
            "--video",
            "--fps",
            25,
            "--body",
            body,
            "--out",
            tmp_path / "o.npz",
        )
        assert np.flatnonzero(written(tmp_path / "o.npz")["filled"]).tolist() == wanted


def test_what_lies_in_the_folder_of_parts_stays(tmp_path, made, seen, body, quick):
    source = body_files.phalp(tmp_path / "demo_v.pkl", made)
    write(tmp_path / "k.json", [*coco_of((t, seen[2 * t + p]) for t in range(3) for p in range(2))])
    (tmp_path / "a.parts").mkdir()
    (tmp_path / "a.parts" / "mine.txt").write_text("mine")
    words = ["--keypoints", tmp_path / "k.json", "--out", tmp_path / "a.npz", "--body", body]
    run(source, *words)
    assert [file.name for file in (tmp_path / "a.parts").iterdir()] == ["mine.txt"]


def test_a_person_in_no_frame_is_left_out_by_name(tmp_path, made, seen, body, quick, capsys):
    arrays = {name: value.reshape(2, 3, *value.shape[1:]).copy() for name, value in made.items()}
    arrays["pose"][0] = np.nan
    arrays |= {"keypoints": seen.reshape(2, 3, 25, 3), "image_size": SIZE, "focal": FOCAL}
    arrays["center"] = SIZE / 2
    np.savez(tmp_path / "a.npz", **arrays)
    for options in (("--video", "--fill", 5), ("--images",)):
        run(tmp_path / "a.npz", *options, "--out", tmp_path / "b.npz", "--body", body)
        printed = capsys.readouterr().out
        assert "person 1: in 0 of 3; left out: no estimate of theirs is finite" in printed
        assert "person 2: in 3 of 3\n" in printed and "refined: 3 of 3" in printed
        held = written(tmp_path / "b.npz")
        np.testing.assert_allclose(held["translation"][1], arrays["translation"][1] + 1)
        assert np.isnan(held["pose"][0]).all() and (held["status"][0] == 5).all()
    arrays["pose"][1] = np.nan
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(SystemExit, match=r"a\.npz: none of its bodies is finite"):
        run(tmp_path / "a.npz", "--images", "--out", tmp_path / "b.npz", "--body", body)


@pytest.mark.parametrize("people", [1, 2])
def test_features_of_our_own_file_reach_the_prior_and_the_result(
    tmp_path, made, seen, body, monkeypatch, people
):
    lead = (M,) if people == 1 else (people, M // people)
    arrays = {name: value.reshape(*lead, *value.shape[1:]) for name, value in made.items()}
    arrays |= {"keypoints": seen.reshape(*lead, 25, 3), "image_size": SIZE, "focal": FOCAL}
    arrays |= {"center": SIZE / 2, "features": np.arange(M * 4.0).reshape(*lead, 4)}
    np.savez(tmp_path / "a.npz", **arrays)
    got = []

    def make(prior, model, config):
        def refiner(estimate, features, terms, mask):
            got.append(np.asarray(features)[np.asarray(mask)])
            pose_6d = np.zeros((*mask.shape, 144), np.float32)
            status = np.zeros(mask.shape, int)
            none = np.zeros((0, *mask.shape), np.float32)
            return Refined(*vars(estimate).values(), pose_6d), Info(status, status - 1, none)

        return refiner

    monkeypatch.setattr(importlib.import_module("scorehmr_jax.refine"), "make_refiner", make)
    monkeypatch.setattr(importlib.import_module("scorehmr_jax.load"), "load_prior", str)
    run(tmp_path / "a.npz", "--images", "--out", tmp_path / "b.npz", "--body", body)
    np.testing.assert_array_equal(np.concatenate(got), np.arange(M * 4.0).reshape(M, 4))
    held = written(tmp_path / "b.npz")
    np.testing.assert_array_equal(held["features"].reshape(M, 4), np.concatenate(got))


def test_lifted_bodies_have_a_loop_and_a_prior_of_their_own(
    tmp_path, made, seen, body, monkeypatch
):
    taken = []

    def make(prior, model, config):
        taken.append((prior, config))
        raise ValueError("enough")

    monkeypatch.setattr(importlib.import_module("scorehmr_jax.refine"), "make_refiner", make)
    monkeypatch.setattr(importlib.import_module("scorehmr_jax.load"), "load_prior", str)
    three_d(tmp_path / "points.npz", seen, made)
    own = {**made, "keypoints": seen, "image_size": SIZE, "focal": FOCAL, "center": SIZE / 2}
    np.savez(tmp_path / "own.npz", **own)
    config = sh.RefineConfig
    for name, more, prior, loop in (
        ("points.npz", ["--focal", FOCAL], "open-uncond", config.for_video(lifted=True)),
        (
            "points.npz",
            ["--focal", FOCAL, "--images"],
            "open-uncond",
            config.for_images(lifted=True),
        ),
        ("own.npz", ["--images"], "open-cond", config.for_images()),
    ):
        with pytest.raises(SystemExit, match="enough"):
            run(tmp_path / name, *more, "--body", body, "--out", tmp_path / "out.npz")
        assert taken.pop() == (prior, loop)


def commands_of_the_page():
    page = Path(__file__).resolve().parents[1] / "docs" / "formats.md"
    found = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    return sorted({line for block in found for line in block.splitlines()})


def files_of_the_page(made, seen):
    """What the page's command lines read, in the folder that the test is in."""
    joints = np.asarray(stand_in().joints(made["pose"], made["betas"]))
    body_files.phalp(Path("demo_walk.pkl"), made)
    body_files.wham(Path("wham_output.pkl"), made)
    body_files.gvhmr(Path("hmr4d_results.pt"), made)
    body_files.tram(Path("results/walk"), made, FOCAL)
    np.savez("hmr2.npz", **body_files.hmr2(made))
    batch = body_files.nlf(made, joints + made["translation"][:, None], FOCAL)
    Path("nlf.pkl").write_bytes(body_files.pickled(batch))
    points = np.tile(joints[:, :1], (1, 70, 1)) + np.arange(210).reshape(70, 3) / 1000
    Path("sam3d.pkl").write_bytes(pickle.dumps(body_files.sam3d(made, points, FOCAL)))
    poses = np.zeros((M, 156), np.float32)
    poses[:, :66] = body_files.angles(made["pose"])[:, :66]
    np.savez("clip_poses.npz", poses=poses, trans=made["translation"], betas=np.zeros(16))
    Path("Calib.toml").write_text(
        "[one]\nname = 'one'\nmatrix = [[900.0, 0, 320], [0, 900.0, 180], [0, 0, 1]]\n"
        "size = [641.0, 360.0]\nrotation = [0.0, 0, 0]\ntranslation = [0.0, 0, 0]\n"
    )
    three_d("points.npz", seen, made)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("line", commands_of_the_page())
def test_the_command_lines_of_the_page_run(line, tmp_path, made, seen, quick, monkeypatch, capsys):
    asked = []

    def anywhere(joints, tracks, people, where):
        asked.append((where, people.format))
        keypoints = sh.Keypoints2D(np.nan_to_num(joints), np.ones(joints.shape[:-1]))
        return Matched(keypoints, len(people.frame_numbers), "numbers", {}, [])

    def lift(body, names, points, confidence=None):
        shape = points.shape[:-2]
        estimate = sh.Estimate(
            *(np.broadcast_to(a[0], (*shape, *a.shape[1:])) for a in made.values())
        )
        return estimate, sh.LiftInfo(np.ones(shape, bool), np.ones(shape, bool), points[..., 0])

    def lifter(body, names):
        return lambda points, confidence, **_: lift(body, names, points)

    lifting = importlib.import_module("scorehmr_jax.lift")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lifting, "lift", lift)
    monkeypatch.setattr(lifting, "make_lifter", lifter)
    monkeypatch.setattr(command, "match", anywhere)
    monkeypatch.setattr(command, "_seen", lambda _, e, __: np.ones((*e.betas.shape[:-1], 25, 2)))
    monkeypatch.setattr(body_model, "open_body", stand_in)
    openpose_folder(tmp_path / "openpose_json", {t: [seen[2 * t]] for t in range(3)})
    files_of_the_page(made, seen)
    run(*line.split()[2:])
    printed = capsys.readouterr().out
    assert "refined: 6 of 6" in printed and "wrote:   walk/refined.npz" in printed
    assert asked == ([("openpose_json", "openpose")] if "--keypoints" in line else [])
    assert np.isfinite(written("walk/refined.npz")["translation"]).any()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_whole_way_pulls_bodies_to_the_keypoints(tmp_path, made, seen, body, capsys):
    source = body_files.phalp(tmp_path / "demo_v.pkl", made)
    off = seen + np.array([16, 12, 0])
    rows = {t: [off[2 * t], off[2 * t + 1]] for t in range(3)}
    openpose_folder(tmp_path / "json", rows)
    run(source, "--keypoints", tmp_path / "json", "--out", tmp_path, "--body", body)
    assert "refined: 6 of 6" in capsys.readouterr().out
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = sh.read_estimates(tmp_path / "refined.npz")

    def error(estimate):
        at = skeleton(estimate.pose, estimate.betas) + estimate.translation[..., None, :]
        off = np.abs(sh.project(at, found.camera) - found.keypoints.xy)[..., 0]
        return off[np.asarray(found.keypoints.confidence) > 0].mean()

    order = [[1, 3, 5], [0, 2, 4]]
    first = jax.tree.map(lambda a: jnp.asarray(a)[jnp.array(order)], sh.Estimate(**made))
    assert 8 < error(first) < 20 and error(found.estimate) < 0.7 * error(first)
