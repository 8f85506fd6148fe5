"""Bodies in the browser: what a page holds is where our bodies are, and nothing is fetched."""

import argparse
import base64
import dataclasses
import functools
import importlib
import re

import jax
import numpy as np
import pytest
from test_take_away import BODY, FRAMES, first_columns, motion, one, our_joints

import scorehmr_jax as sh
from body_model import Skeleton
from body_model.io import save
from scorehmr_jax.commands.main import main
from scorehmr_jax.output.pictures import save_png
from scorehmr_jax.output.viewer import residual_colors, without_lens
from scorehmr_jax.screening import PADDING
from scorehmr_jax.types import Camera


@pytest.fixture
def view(tmp_path, monkeypatch):
    """`scorehmr view --export` in a folder of its own; the page's text."""
    pytest.importorskip("viser")
    save(tmp_path / "body.npz", BODY)
    monkeypatch.chdir(tmp_path)

    def run(columns, *flags):
        np.savez("result.npz", **columns)
        flags = ("--body", "body.npz", "--fps", "10", *flags)
        main(["view", "result.npz", "--export", "page.html", *flags])
        return (tmp_path / "page.html").read_text()

    return run


@pytest.fixture
def pictures(tmp_path):
    """A folder of a picture for each frame, each of its own grey."""
    for frame in range(FRAMES):
        save_png(tmp_path / f"pictures/{frame}.png", np.full((200, 200, 3), 20 * frame, np.uint8))
    return tmp_path / "pictures"


def recorded(page):
    """Messages (time, message) of a page, and the arrays that they refer to."""
    import msgspec
    import zstandard

    data = base64.b64decode(re.search(r'__VISER_EMBED_DATA__="([^"]*)"', page)[1])
    inner = zstandard.ZstdDecompressor().decompress(data[8:], int.from_bytes(data[:8], "little"))
    size = int.from_bytes(inner[:8], "little")
    return msgspec.msgpack.decode(inner[8 : 8 + size])


def seen():
    """A result with a camera and detections that lie on the joints, but for one."""
    return {key: np.array(value) for key, value in _seen().items()}


@functools.cache
def _seen():
    columns = one(motion())
    columns["translation"] += np.float32([0, 0, 4])
    estimate = sh.Estimate(columns["pose"], columns["betas"], columns["translation"])
    camera = sh.pinhole(np.full((FRAMES, 2), 200.0, np.float32), 300.0)
    joints = jax.jit(lambda skeleton, *at: skeleton(*at))
    xy = np.array(sh.project(joints(Skeleton.of(BODY), *vars(estimate).values()), camera))
    confidence = np.ones(xy.shape[:-1], np.float32)
    xy[:, 3] += [30, 0]
    confidence[:, 5] = 0
    keypoints = np.concatenate([xy, confidence[..., None]], -1)
    return (
        columns
        | {"keypoints": keypoints, "image_size": np.array([200, 200])}
        | {
            "focal": 300,
            "center": np.array([100, 100]),
        }
    )


def test_a_page_holds_the_motion_and_fetches_nothing(view):
    columns = one(motion())
    columns["pose"][5] = np.nan
    page = view(columns)
    assert not re.findall(r"https?://(?!www\.w3\.org)[\w.]+", re.sub(r'DATA__="[^"]*"', "", page))
    assert 'src="' not in page.split("<body")[0].split("<script")[0]
    messages = recorded(page)
    assert messages["durationSeconds"] == pytest.approx(FRAMES / 10)
    places = {}
    for time, message in messages["messages"]:
        if message["type"] == "SetBonePositionMessage" and message["name"] == "/refined/0":
            places[round(time * 10), message["bone_index"]] = message["position"]
    wanted = our_joints(columns)
    for (frame, joint), place in places.items():
        if frame:  # all of what was before the start is at time 0 too
            np.testing.assert_allclose(place, wanted[frame, joint], atol=1e-4)
    shown = {frame for frame, _ in places}
    assert shown == {*range(FRAMES)} - {5}
    hidden = [t for t, m in messages["messages"] if m["type"] == "SetSceneNodeVisibilityMessage"]
    assert {round(10 * time) for time in hidden} >= {5, 6}


def test_pictures_detections_and_the_body_before_are_shown(view, tmp_path, pictures):
    columns = seen()
    np.savez(tmp_path / "first.npz", **one(motion(seed=1)))
    page = view(columns, "--before", "first.npz", "--pictures", "pictures", "--width", "50")
    names = {m.get("name") for _, m in recorded(page)["messages"]}
    assert {"/refined/0", "/before/0", "/joints/0", "/picture"} <= names
    (pictures / "0.png").unlink()
    with pytest.raises(SystemExit, match="pictures: expected 12 pictures, one a frame, found 11"):
        view(columns, "--pictures", "pictures")


def test_frame_rate_and_first_estimates_are_those_of_the_file_unless_others_are_given(tmp_path):
    from scorehmr_jax.commands.view import _gather

    save(tmp_path / "body.npz", BODY)
    columns = first_columns(one(motion()))
    np.savez(tmp_path / "result.npz", fps=np.array(24.0), **columns)
    other = one(motion(seed=3))
    np.savez(tmp_path / "other.npz", **other)
    options = {"pictures": None, "body": tmp_path / "body.npz", "width": 50}

    def gathered(before=None, fps=None):
        shown, rate = _gather(
            argparse.Namespace(result=tmp_path / "result.npz", before=before, fps=fps, **options)
        )
        (person,) = shown.before
        return person.translation, rate

    place, rate = gathered()
    np.testing.assert_array_equal(place, columns["first_translation"])
    assert rate == 24
    place, rate = gathered(tmp_path / "other.npz", 10.0)
    np.testing.assert_array_equal(place, other["translation"])
    assert rate == 10


def test_joints_are_coloured_by_their_distance_from_the_detections(tmp_path):
    from scorehmr_jax.commands.view import evidence
    from scorehmr_jax.output.people import read_people

    np.savez(tmp_path / "a.npz", **seen())
    people, _ = read_people(tmp_path / "a.npz")
    camera, (joints,) = evidence(tmp_path / "a.npz", BODY, people)
    np.testing.assert_allclose(joints.residual[:, 3], 30, rtol=1e-3)
    assert np.isnan(joints.residual[:, 5]).all()
    rest = np.delete(joints.residual, [3, 5], axis=1)
    np.testing.assert_allclose(rest, 0, atol=0.01)
    np.testing.assert_array_equal(camera.image_size, [200, 200])
    colors = residual_colors(joints.residual[0], joints.worst)
    assert (colors[0] == [0, 190, 60]).all() and (colors[3] == [220, 0, 60]).all()
    assert (colors[5] == 150).all()


def test_what_cannot_be_shown_is_named(view, tmp_path):
    columns = one(motion())
    with pytest.raises(SystemExit, match=r"page\.txt: expected the name of an \.html, found \.txt"):
        view(columns, "--export", "page.txt")
    short = {key: value[:3] for key, value in columns.items()}
    np.savez(tmp_path / "first.npz", **short)
    with pytest.raises(SystemExit, match=r"first\.npz: expected the 12 frames of result\.npz"):
        view(columns, "--before", "first.npz")
    with pytest.raises(SystemExit, match="--fps"):
        view(columns, "--fps", "-1")


def test_overlays_are_drawn_of_a_result_made_before(tmp_path, pictures, monkeypatch):
    Image = pytest.importorskip("PIL.Image")
    save(tmp_path / "body.npz", BODY)
    monkeypatch.chdir(tmp_path)
    columns = seen()
    status = np.where(np.arange(FRAMES) == 2, PADDING, 0)
    np.savez("result.npz", status=status, **columns)
    command = ["export", "result.npz", "out.png", "--body", "body.npz"]
    main([*command, "--pictures", "pictures"])
    files = sorted((tmp_path / "out").iterdir())
    assert len(files) == FRAMES
    for frame in (0, 2):
        picture = np.asarray(Image.open(tmp_path / f"out/{frame}.png.png").convert("RGB"))
        plain, drawn = (picture[:200, 200 * k : 200 * (k + 1)] for k in range(2))
        assert (plain == 20 * frame).all()  # no result from before
        assert (drawn != 20 * frame).any() == (frame != 2)  # nobody is in frame 2
    main([*command, "--pictures", "pictures", "--before", "result.npz"])
    picture = np.asarray(Image.open(tmp_path / "out/0.png.png").convert("RGB"))
    assert (picture[:200, :200] != 0).any()
    # The first estimates of the file itself, of which the person is in no frame but the first.
    first = {f"first_{key}": columns[key].copy() for key in ("pose", "betas", "translation")}
    first["first_pose"][1:] = np.nan
    np.savez("result.npz", status=status, **columns, **first)
    main([*command, "--pictures", "pictures"])
    for frame in (0, 1):
        picture = np.asarray(Image.open(tmp_path / f"out/{frame}.png.png").convert("RGB"))
        assert (picture[:200, :200] != 20 * frame).any() == (frame == 0)
    with pytest.raises(SystemExit, match=r"out\.png: .*give them as --pictures"):
        main(command)
    with pytest.raises(SystemExit, match=r"pictures: is photos; expected the name of a \.png"):
        main(["export", "result.npz", "out.mp4", "--body", "body.npz", "--pictures", "pictures"])
    (pictures / "0.png").unlink()
    with pytest.raises(SystemExit, match="pictures: expected 12 pictures, one a frame, found 11"):
        main([*command, "--pictures", "pictures"])


def test_the_browser_is_opened_on_a_server_that_plays(tmp_path, monkeypatch, capsys):
    pytest.importorskip("viser")
    view = importlib.import_module("scorehmr_jax.commands.view")
    save(tmp_path / "body.npz", BODY)
    np.savez(tmp_path / "result.npz", **seen())
    opened, shown, slept = [], [], []
    monkeypatch.setattr(view.webbrowser, "open", opened.append)
    show = view.Scene.show
    monkeypatch.setattr(view.Scene, "show", lambda *at: (shown.append(at[1]), show(*at)))

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(view.time, "sleep", sleep)
    files = [str(tmp_path / name) for name in ("result.npz", "body.npz")]
    with pytest.raises(SystemExit) as ended:
        main(["view", files[0], "--body", files[1], "--fps", "20"])
    assert ended.value.code == 130 and slept == [1 / 20] * 4
    (url,) = opened
    assert re.fullmatch(r"http://localhost:\d+", url) and url in capsys.readouterr().out
    assert shown[0] == 0 and set(shown) <= {0, 1, 2, 3} and 1 in shown


def test_a_picture_without_its_lens_has_what_a_pinhole_sees():
    """A dot that is drawn where the lens shows a point stands where a pinhole shows it."""
    size, focal = np.array([200.0, 160]), np.array([180.0, 180])
    camera = Camera(focal, size / 2, size, distortion=np.array([-0.2, 0.05, 0.002, -0.001, 0.0]))
    points = np.array([[0.4, 0.3, 1], [-0.4, 0.1, 1], [0.1, -0.35, 1]], np.float32)
    picture = np.zeros((160, 200, 3), np.uint8)
    seen = np.asarray(sh.project(points, camera))
    pinhole = np.asarray(sh.project(points, dataclasses.replace(camera, distortion=None)))
    assert np.linalg.norm(seen - pinhole, axis=-1).min() > 1.5
    for color, (x, y) in enumerate(seen):
        picture[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2, color] = 255
    straight = without_lens(picture, camera)
    for color, place in enumerate(pinhole):
        rows, columns = np.nonzero(straight[..., color])
        middle = np.array([columns.mean(), rows.mean()]) + 0.5
        assert np.linalg.norm(middle - place) < 1.2
    assert without_lens(picture, dataclasses.replace(camera, distortion=None)) is picture
