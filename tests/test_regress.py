"""From real and made-up pictures through a network to first estimates and refined bodies."""

import importlib
import pickle
from dataclasses import replace

import golden_networks as nets
import jax
import numpy as np
import pytest
from stand_in_networks import outputs_of, registered

from body_model import save, stand_in
from body_model.files import read_npz, write_npz
from scorehmr_jax import checkpoint, image_checkpoint, project, read_estimates
from scorehmr_jax.commands import network_options
from scorehmr_jax.commands.main import main
from scorehmr_jax.commands.picture_networks import Networks
from scorehmr_jax.commands.picture_people import Where, find_people
from scorehmr_jax.formats.pictures import open_pictures
from scorehmr_jax.networks.denoiser import ResidualMLP
from scorehmr_jax.networks.image_network import ImageNetwork
from scorehmr_jax.networks.prohmr import ProHMR
from scorehmr_jax.regression.crop import crop

image = pytest.importorskip("PIL.Image")

# Grace Hopper, as matplotlib ships her: nose, right and left shoulder, eyes and ears.
POINTS = {0: (268, 225), 2: (60, 400), 5: (470, 400), 15: (222, 190), 16: (307, 188)}
POINTS |= {17: (160, 220), 18: (372, 205)}

KEPT = np.delete(np.arange(25), [1, 8])  # a detector's neck and mid-hip lie beside SMPL's


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    with registered(tmp_path_factory.mktemp("network")) as option:
        yield option


@pytest.fixture(scope="module")
def body(tmp_path_factory):
    path = tmp_path_factory.mktemp("body") / "body.npz"
    save(path, stand_in())
    return path


@pytest.fixture(scope="module")
def prior(tmp_path_factory):
    """A tiny prior on the stand-in's 2048 features, and their statistics."""
    folder = tmp_path_factory.mktemp("prior")
    tiny, rng = ResidualMLP(hidden=8, features=2048, blocks=1), np.random.default_rng(0)
    shapes = jax.eval_shape(tiny.init, jax.random.key(0))
    weights = jax.tree.map(lambda a: 0.1 * rng.normal(size=a.shape).astype(np.float32), shapes)
    checkpoint.write(folder / "prior.npz", weights, checkpoint.description(tiny))
    np.savez(folder / "stats.npz", mean=np.full(2048, 0.5), std=np.full(2048, 2.0))
    return folder


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A folder with a real photo, its keypoints and its box."""
    cbook = pytest.importorskip("matplotlib.cbook")
    folder = tmp_path_factory.mktemp("photo")
    with cbook.get_sample_data("grace_hopper.jpg") as file:
        (folder / "hopper.jpg").write_bytes(file.read())
    keypoints = np.zeros((1, 25, 3), np.float32)
    for i, (x, y) in POINTS.items():
        keypoints[0, i] = x, y, 0.9
    np.savez(folder / "keypoints.npz", keypoints=keypoints, convention="openpose-25")
    return folder


@pytest.fixture
def short(monkeypatch):
    """One round of the loop, so that it compiles soon."""
    loop = importlib.import_module("scorehmr_jax.refine")
    config = loop.RefineConfig(iterations=1, start=10)
    monkeypatch.setattr(loop.RefineConfig, "for_images", lambda **_: config)


def test_a_real_photo_becomes_a_refined_body_in_one_command(
    photo, network, prior, body, short, tmp_path, capsys
):
    out = tmp_path / "out"
    command = ["refine", str(photo / "hopper.jpg"), "--network", network, "--body", str(body)]
    command += ["--keypoints", str(photo / "keypoints.npz"), "--prior", str(prior / "prior.npz")]
    command += ["--feature-stats", str(prior / "stats.npz")]
    main([*command, "--no-overlay", "--out", str(out)])
    said = capsys.readouterr().out
    assert "frames:  1 of 512 x 600 pixels" in said and "refined: 1 of 1" in said
    result = read_npz(out / "refined.npz")
    assert result["status"] == [0] and np.isfinite(result["pose"]).all()
    assert np.abs(result["pose"] - result["first_pose"]).max() > 1e-3  # the loop did something
    # What the network says of the box around the points, worked out from the definitions.
    xy = np.array([*POINTS.values()], float)
    low, high = xy.min(0), xy.max(0)
    center, size = (low + high) / 2, (high - low) * 1.2
    side = max(size[1], size[0] / 0.75)
    pixels = np.asarray(image.open(photo / "hopper.jpg"))
    given = sampled(pixels, center, side, 16)
    outputs = jax.tree.map(np.asarray, outputs_of(given[None]))
    np.testing.assert_allclose(result["features"], (outputs["img_feats"] - 0.5) / 2, atol=0.02)
    np.testing.assert_allclose(result["first_pose"], outputs["pred_pose"], atol=2e-3)
    np.testing.assert_allclose(result["first_betas"], 2 * outputs["pred_betas"], atol=2e-3)
    scale, x, y = outputs["pred_cam"][0]
    diagonal = np.hypot(512, 600)
    np.testing.assert_allclose(result["focal"], [[diagonal, diagonal]], rtol=1e-6)
    depth = 2 * diagonal / (scale * side)
    place = [*(np.array([x, y]) + 2 * (center - [256, 300]) / (scale * side)), depth]
    np.testing.assert_allclose(result["first_translation"], [place], rtol=1e-3)


def test_prohmr_gives_the_first_estimate(photo, body, short, tmp_path):
    small = ProHMR(8, (1, 1, 1, 1), flow_hidden=16, flow_layers=2, flow_blocks=1, head_hidden=8)
    drawn = nets.drawn(small)
    drawn.params["mean_camera"][:] = 0.9, 0, 0
    image_checkpoint.write(tmp_path / "net.safetensors", drawn.params, small)
    command = ["--network", f"prohmr={tmp_path / 'net.safetensors'}", "--body", str(body)]
    command += ["--keypoints", str(photo / "keypoints.npz"), "--out", str(tmp_path / "o.npz")]
    main(["refine", str(photo / "hopper.jpg"), *command, "--no-overlay"])
    result = read_npz(tmp_path / "o.npz")
    assert result["status"] == [0] and np.isfinite(result["pose"]).all()
    xy = np.array([*POINTS.values()], float)
    middle, side = (xy.min(0) + xy.max(0)) / 2, 1.2 * (xy.max(0) - xy.min(0)).max()
    given = crop(np.asarray(image.open(photo / "hopper.jpg")), middle, side, 224)
    pose, betas, _ = jax.jit(ImageNetwork.regress)(drawn, drawn.crop.normalised(given[None]))
    np.testing.assert_allclose(result["first_pose"], pose, atol=1e-3)
    np.testing.assert_allclose(result["first_betas"], betas, atol=1e-3)


def sampled(pixels, center, side, size):
    """The patch of a box by plain bilinear interpolation, point by point."""
    patch = np.zeros((size, size, 3))
    for i, j in np.ndindex(size, size):
        x, y = center + (np.array([j, i]) - size / 2) * side / size
        for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
            column, row = int(np.floor(x)) + dx, int(np.floor(y)) + dy
            if 0 <= row < pixels.shape[0] and 0 <= column < pixels.shape[1]:
                weight = (1 - abs(x - column)) * (1 - abs(y - row))
                patch[i, j] += weight * pixels[row, column]
    return np.rint(patch).astype(np.uint8)


def test_estimates_of_a_photo_are_what_refine_reads(photo, network, prior, tmp_path, body, capsys):
    out = tmp_path / "first.npz"
    command = ["regress", str(photo / "hopper.jpg"), "--network", network, "--body", str(body)]
    command += ["--keypoints", str(photo / "keypoints.npz"), "--focal", "900", "--out", str(out)]
    main(command)
    assert "camera:  focal length 900 pixels, as given" in capsys.readouterr().out
    given = read_estimates(out)
    assert given.estimate.pose.shape == (1, 24, 3, 3) and given.features is None
    np.testing.assert_array_equal(given.camera.image_size, [[512, 600]])
    assert np.count_nonzero(given.keypoints.confidence) == len(POINTS)
    # With a prior that takes features the file holds them, standardised.
    for flags, message in (
        ([], r"expected statistics of img_feats .* --feature-stats, the prohmr_feat_stats.npz"),
        (["--feature-stats", str(prior / "stats.npz")], ""),
    ):
        whole = [*command, "--prior", str(prior / "prior.npz"), *flags]
        if message:
            with pytest.raises(SystemExit, match=message):
                main(whole)
        else:
            main(whole)
    assert read_estimates(out).features.shape == (1, 2048)


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    """Six frames of noise with two people in boxes, as folder, data set and keypoints."""
    folder = tmp_path_factory.mktemp("walk")
    rng = np.random.default_rng(0)
    (folder / "frames").mkdir()
    names = [f"f{t}.png" for t in range(6)]
    for name in names:
        pixels = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
        image.fromarray(pixels).save(folder / "frames" / name)
    xy = rng.uniform(-12, 12, (6, 2, 25, 2)) + np.array([[25, 30], [55, 30]])[:, None]
    ids = np.tile([7, 9], (6, 1))
    ids[1::2] = [9, 7]  # the file has them in another order in every second frame
    xy[1::2] = xy[1::2, ::-1]
    confidence = np.full((6, 2, 25, 1), 0.9)
    confidence[2, 1] = 0  # id 9 is not in frame 2
    present = confidence[..., 0, 0] > 0
    keypoints = np.concatenate([xy, confidence], -1).astype(np.float32)
    np.savez(
        folder / "keypoints.npz",
        **{"keypoints": keypoints, "ids": ids, "present": present},
        **{"frame_numbers": np.arange(6), "convention": "openpose-25"},
    )
    rows = {
        "imgname": np.array(names),
        "center": np.full((6, 2), [25.0, 30]),
        "scale": np.full((6, 2), [20.0, 30]),
        "body_keypoints_2d": np.where(ids[:, 0, None, None] == 7, *keypoints.swapaxes(0, 1)),
    }
    write_npz(folder / "set.npz", rows)
    groups = [{key: array[part] for key, array in rows.items()} for part in ([0, 1, 2], [3, 4])]
    (folder / "set.pkl").write_bytes(pickle.dumps(groups))
    return folder


def test_people_of_a_video_are_rows_with_one_shape_each(walk, network, body, tmp_path):
    av = pytest.importorskip("av")
    out = tmp_path / "frames.npz"
    given = ["--network", network, "--body", str(body), "--focal", "100"]
    given += ["--keypoints", str(walk / "keypoints.npz")]
    main(["regress", str(walk / "frames"), "--video", *given, "--out", str(out)])
    found = read_npz(out)
    assert found["pose"].shape == (2, 6, 24, 3, 3)
    np.testing.assert_array_equal(np.isnan(found["betas"][..., 0]), [[0] * 6, [0, 0, 1, 0, 0, 0]])
    for person in range(2):
        betas = found["betas"][person][np.isfinite(found["betas"][person]).all(-1)]
        np.testing.assert_array_equal(betas, np.tile(betas[:1], (len(betas), 1)))
    # Each row is one of the ids: its keypoints stay on its side of the picture.
    middle = found["keypoints"][..., :2].mean(-2)[..., 0]
    assert (middle[0] < 40).all() and (np.delete(middle[1], 2) > 40).all()
    # The frames of a film give the same but for its compression.
    from scorehmr_jax.output.overlay import save_video

    pixels = [np.asarray(image.open(walk / "frames" / f"f{t}.png")) for t in range(6)]
    save_video(tmp_path / "film.mp4", pixels, 25)
    film = tmp_path / "film.npz"
    main(["regress", str(tmp_path / "film.mp4"), *given, "--out", str(film)])
    again = read_npz(film)
    assert again["fps"] == 25 and av
    np.testing.assert_allclose(again["translation"], found["translation"], atol=0.1)


def test_estimates_of_a_data_set(walk, network, body, tmp_path, capsys):
    frames = tmp_path / "frames"
    frames.mkdir()
    for file in (walk / "frames").iterdir():
        (frames / file.name).symlink_to(file)
    (frames / "f4.png").unlink()
    common = ["--images", str(frames), "--network", network, "--body", str(body)]
    out = tmp_path / "first.npz"
    main(["regress", str(walk / "set.npz"), *common, "--out", str(out), "--batch", "4"])
    said = capsys.readouterr().out
    assert "estimates of 5 of 6 images, written to" in said and "row 4: " in said
    with pytest.warns(UserWarning, match=r"(image_size|focal): expected pixels above 0, found nan"):
        given = read_estimates(out)
    bad = np.isnan(np.asarray(given.estimate.translation)).any(-1)
    np.testing.assert_array_equal(bad, [0, 0, 0, 0, 1, 0])
    body_, camera = given.estimate, given.camera
    at = np.asarray(project(body_.translation[:, None], camera))[:, 0]
    scale, x, y = cameras_of(frames, walk / "set.npz").T
    side = np.float32(max(30, 20 / 0.75))
    wanted = np.array([25, 30]) + np.stack([x, y], -1) * scale[:, None] * side / 2
    np.testing.assert_allclose(at[~bad], wanted, rtol=1e-4)
    folder = tmp_path / "groups"
    main(["regress", str(walk / "set.pkl"), "--video", *common, "--out", str(folder)])
    whole = [read_npz(folder / f"group000{i}.npz") for i in range(2)]
    assert [len(each["pose"]) for each in whole] == [3, 2]
    np.testing.assert_array_equal(whole[0]["betas"], np.tile(whole[0]["betas"][:1], (3, 1)))
    np.testing.assert_allclose(whole[0]["translation"], body_.translation[:3], rtol=1e-5)


def cameras_of(frames, data):
    """What the network says of the boxes whose photos are there."""
    names = [n for n in read_npz(data)["imgname"] if (frames / n).exists()]
    patches = [
        crop(np.asarray(image.open(frames / name)), np.array([25, 30]), 30.0, 16) for name in names
    ]
    return np.asarray(outputs_of(np.stack(patches))["pred_cam"])


class Featureless:
    """A network that estimates, as far as the options look at it."""

    name, gives_estimate, feature_keys = "hmr2", True, ()


def test_boxes_say_where_people_are_and_keypoints_go_to_theirs(walk):
    pictures = open_pictures(walk / "frames")
    where = Where(boxes=walk / "set.npz", keypoints=walk / "keypoints.npz")
    found, _ = find_people(pictures, where, moving=True)
    np.testing.assert_array_equal(found.box, np.tile([15.0, 15, 35, 45], (1, 6, 1)))
    with np.load(walk / "set.npz") as arrays:
        wanted = arrays["body_keypoints_2d"][..., :2]
    np.testing.assert_allclose(found.xy[0][:, KEPT], wanted[:, KEPT])
    own, _ = find_people(pictures, Where(boxes=walk / "set.npz"), moving=True)
    np.testing.assert_array_equal(own.xy[0], wanted)
    rows = read_npz(walk / "set.npz")
    write_npz(walk / "two.npz", {key: np.repeat(array, 2, 0) for key, array in rows.items()})
    with pytest.raises(ValueError, match=r"two.npz: several boxes in an image, so who is who"):
        find_people(pictures, Where(boxes=walk / "two.npz"), moving=True)
    # Names of other photos, and of two folders' photos, are told and not guessed.
    names = [f"elsewhere/g{i}.jpg" for i in range(6)]
    write_npz(walk / "other.npz", {**rows, "imgname": np.array(names)})
    with pytest.raises(ValueError, match=r"none of its images, first elsewhere/g0.jpg, is one of"):
        find_people(pictures, Where(boxes=walk / "other.npz"), moving=True)
    both = [str(name) for name in rows["imgname"][:5]] + ["other/f0.jpg"]
    write_npz(walk / "both.npz", {**rows, "imgname": np.array(both)})
    with pytest.raises(ValueError, match=r"f0.* and other/f0.jpg are both f0.*; give the rows of"):
        find_people(pictures, Where(boxes=walk / "both.npz"), moving=False)
    # Boxes without keypoints send a detector into them.
    rows = dict(read_npz(walk / "set.npz"))
    del rows["body_keypoints_2d"]
    write_npz(walk / "boxes.npz", rows)
    asked = []

    def detector(frames):
        asked.extend(frames)
        return found

    where = Where(detector, boxes=walk / "boxes.npz")
    assert find_people(pictures, where, moving=True)[0].confidence.any() and len(asked) == 6
    alone = find_people(pictures, replace(where, keypoints_needed=False), moving=True)[0]
    assert not alone.confidence.any() and alone.found.all() and len(asked) == 6


def test_keypoints_find_their_frames(walk, tmp_path):
    pictures = open_pictures(walk / "frames")
    arrays = dict(np.load(walk / "keypoints.npz"))
    for names, numbers, row in (
        (["", "f3_keypoints", "", "", "", ""], np.arange(6), {3: 1}),  # by name, and it alone
        ([""] * 6, np.arange(1, 7), dict(enumerate(range(6)))),  # counted from 1
        ([""] * 6, np.arange(4, 10), {4: 0, 5: 1}),
    ):
        changed = arrays | {"frame_numbers": numbers, "frame_names": np.array(names)}
        np.savez(tmp_path / "k.npz", **changed)
        found, _ = find_people(pictures, Where(keypoints=tmp_path / "k.npz"), moving=False)
        assert [*np.flatnonzero(found.found.any(0))] == [*row]
        for t, source in row.items():
            xy = arrays["keypoints"][source, 0, :, :2]
            np.testing.assert_allclose(found.xy[0, t, KEPT], xy[KEPT], atol=1e-4)
    np.savez(tmp_path / "k.npz", **arrays | {"frame_numbers": np.arange(90, 96)})
    with pytest.raises(ValueError, match=r"k.npz: none of its 6 frames is one of the 6 pictures"):
        find_people(pictures, Where(keypoints=tmp_path / "k.npz"), moving=False)
    np.savez(tmp_path / "k.npz", **arrays | {"ids": np.full((6, 2), -1)})
    with pytest.raises(ValueError, match="several people without ids, so who is who in a video"):
        find_people(pictures, Where(keypoints=tmp_path / "k.npz"), moving=True)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--people", "3"], "--people: of a detector; the files say how many people there are"),
        (["--prior", "PRIOR"], r"the network hmr2: the prior takes 2048 features .* found none"),
        (["--camera", "a.toml"], "--camera: of estimates only"),
        (["--network", "pare=none.ckpt"], "--network: none.ckpt: no such file; expected"),
        (["--features", "a"], "--features: expected NAME=FILE"),
    ],
)
def test_mistakes_are_named_before_the_work(photo, prior, monkeypatch, flags, message):
    load = network_options.load
    monkeypatch.setattr(
        network_options, "load", lambda o, text, d: Featureless() if text == "x" else load(o, text)
    )
    flags = [str(prior / "prior.npz") if flag == "PRIOR" else flag for flag in flags]
    command = ["refine", str(photo / "hopper.jpg"), "--network", "x"]
    command += ["--keypoints", str(photo / "keypoints.npz"), "--out", str(prior / "o.npz")]
    with pytest.raises(SystemExit, match=message):
        main([*command, *flags])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--as-stored"], "--as-stored, --threads, --batch: of a data set only"),
        (["--batch", "3"], "--as-stored, --threads, --batch: of a data set only"),
        (["--images", "d", "--out", "o.npz", "--people", "3"], "--models, --people: of pictures"),
    ],
)
def test_options_of_the_other_kind_are_refused(photo, monkeypatch, flags, message):
    monkeypatch.setattr(network_options, "load", lambda *_: Featureless())
    with pytest.raises(SystemExit, match=message):
        main(["regress", str(photo / "hopper.jpg"), "--network", "x", *flags])
    with pytest.raises(SystemExit, match="a data set goes with --images DIR"):
        main(["regress", "set.npz", "--network", "x"])


def test_a_prior_that_takes_features_needs_a_network(photo, prior, tmp_path):
    with pytest.raises(SystemExit, match=r"the prior takes 2048 image features: give --features"):
        command = ["refine", str(photo / "hopper.jpg"), "--prior", str(prior / "prior.npz")]
        main([*command, "--out", str(tmp_path / "o.npz")])
    with pytest.raises(ValueError, match="of prohmr give features and no estimate; give"):
        Networks(estimates=ImageNetwork({}, ProHMR(gives_estimate=False)))
