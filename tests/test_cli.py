"""The command `scorehmr`: from file to file, and what a user hears of a mistake."""

import importlib
import importlib.util

import numpy as np
import pytest

from body_model.files import read_npz
from body_model.io import save
from body_model.joints import OPENPOSE_25
from body_model.open.stand_in import stand_in
from scorehmr_jax.commands.main import main
from scorehmr_jax.formats.estimates import read_estimates

COUNT = 3


@pytest.fixture
def short_loop(monkeypatch):
    loop = importlib.import_module("scorehmr_jax.refine")
    make, short = loop.make_refiner, loop.RefineConfig(iterations=1)
    monkeypatch.setattr(loop, "make_refiner", lambda prior, body, config: make(prior, body, short))


@pytest.fixture(scope="module")
def body(tmp_path_factory):
    path = tmp_path_factory.mktemp("body") / "body.npz"
    save(path, stand_in())
    return path


def columns(count=COUNT, **changes):
    upright = np.tile(np.eye(3), (count, 24, 1, 1))
    upright[:, 0] = np.diag([1.0, -1.0, -1.0])
    keypoints = np.ones((count, len(OPENPOSE_25), 3))
    keypoints[..., :2] = np.random.default_rng(0).uniform(300, 700, keypoints[..., :2].shape)
    data = {
        "pose": upright,
        "betas": np.zeros((count, 10)),
        "translation": np.tile([0.0, 0.2, 5.0], (count, 1)),
        "keypoints": keypoints,
        "image_size": np.full((count, 2), 1000),
        "focal": np.array(1500),
        "center": np.array([500, 500]),
    } | changes
    return {key: value for key, value in data.items() if value is not None}


def refine(folder, body, data, *flags):
    np.savez(folder / "in.npz", **data)
    given = ["refine", folder / "in.npz", "--out", folder / "out.npz", "--body", body, *flags]
    main([str(part) for part in given])


def test_from_file_to_file(tmp_path, body, short_loop, capsys):
    data = columns()
    data["translation"][1] = np.nan
    refine(tmp_path, body, data, "--video")
    with np.load(tmp_path / "out.npz") as found:
        assert found["pose"].shape == (COUNT, 24, 3, 3) and found["pose"].dtype == np.float32
        np.testing.assert_array_equal(found["focal"], np.full((COUNT, 2), 1500))
        np.testing.assert_allclose(found["pose"][1], data["pose"][1], atol=1e-6)
        assert np.abs(found["pose"][0] - data["pose"][0]).max() > 0.01
        np.testing.assert_array_equal(found["status"] > 0, [False, True, False])
    printed, said = capsys.readouterr()
    assert "2 of 3 refined" in printed and "  1: kept" in printed
    assert said == ""


def test_where_nobody_is_nothing_is_wrong(tmp_path, body, short_loop, capsys):
    data = columns()
    for name in ("pose", "betas", "translation"):
        data[name][1] = np.nan
    refine(tmp_path, body, data)
    printed = capsys.readouterr().out  # with keypoints somebody is there, and lacks a body
    assert "2 of 3 refined" in printed and "  1: kept: the estimate" in printed
    data["keypoints"][1, :, 2] = 0
    refine(tmp_path, body, data)
    assert "2 of 2 refined" in (printed := capsys.readouterr().out) and "  1: " not in printed
    assert read_npz(tmp_path / "out.npz")["status"].tolist() == [0, 5, 0]


def test_what_the_command_wrote_it_refines_again(tmp_path, body, short_loop, capsys):
    given = columns(fps=np.array(25))
    refine(tmp_path, body, given)
    assert "first estimate" not in capsys.readouterr().out
    (tmp_path / "out.npz").rename(tmp_path / "once.npz")
    once, again = (str(tmp_path / f"{name}.npz") for name in ("once", "again"))
    main(["refine", once, "--out", again, "--body", str(body), "--video"])
    printed, said = capsys.readouterr()
    assert said == "" and f"first estimate: the bodies of {once}; what they were" in printed
    first, second = read_estimates(once), read_estimates(again)
    for name in ("keypoints", "camera"):
        a, b = (vars(getattr(given, name)) for given in (first, second))
        for key, array in a.items():
            np.testing.assert_array_equal(array, b[key])
    assert np.abs(first.estimate.pose - second.estimate.pose).max() > 0.01
    assert first.fps == second.fps == 25
    for key, array in vars(first.first).items():
        np.testing.assert_allclose(array, given[key], atol=1e-6)
    for key, array in vars(second.first).items():
        np.testing.assert_array_equal(array, getattr(first.estimate, key))


def test_a_principal_point_off_the_middle_moves_nothing_but_the_pixels(
    tmp_path, body, short_loop, capsys
):
    data, shift = columns(), np.array([120.0, -80.0])
    refine(tmp_path, body, data)
    expected = read_npz(tmp_path / "out.npz")
    data["keypoints"][..., :2] += shift
    refine(tmp_path, body, data | {"center": 500 + shift})
    found = read_npz(tmp_path / "out.npz")
    np.testing.assert_array_equal(found["center"], np.tile(500 + shift, (COUNT, 1)))
    for key in ("pose", "translation"):
        np.testing.assert_allclose(found[key], expected[key], atol=1e-4)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pose": None}, "in.npz: no key pose; found betas, center, focal, "),
        (
            {"pose": np.zeros((COUNT, 72))},
            "pose: expected shape (3, 24, 3) or (3, 24, 3, 3), found",
        ),
        ({"pose": np.full((COUNT, 24, 3), "a")}, "pose: expected numbers, found <U1"),
        (
            {"pose": np.zeros((COUNT, 24, 3, 3))},
            "pose: row 0 (3 of 3 in all) holds matrices that are no",
        ),
        (
            {"betas": np.zeros((COUNT, 300))},
            "estimate.betas: expected [..., N, 10], found (3, 300)",
        ),
        (
            {"pose": np.full((COUNT, 24, 3), 30.0)},
            "in 3 of 3 poses; expected axis-angle in radians",
        ),
        (
            {"translation": np.full((COUNT, 3), 5e3)},
            "found millimetres, or a focal length in other",
        ),
        ({"focal": np.array(35)}, "camera.focal: expected pixels, found 35 x 35 for an image of"),
        ({"center": np.full(2, 0.5)}, "camera.center: expected the principal point in pixels"),
        ({"focal": np.ones(4)}, "focal: expected shape () or (1,) or (3,) or (3, 2), found (4,)"),
        ({"focal": np.array(-1)}, "focal: expected pixels above 0, found -1"),
        ({"image_size": np.zeros((COUNT, 2))}, "image_size: expected pixels above 0, found 0"),
        ({"features": np.zeros((2, 144))}, "features: expected shape (3, F), found (2, 144)"),
        (
            {"keypoints": np.full((COUNT, 25, 3), 90)},
            "keypoints: expected confidences from 0 (not seen) to 1",
        ),
    ],
)
def test_a_mistake_is_named_in_one_line_and_nothing_is_written(tmp_path, body, changes, message):
    with pytest.raises(SystemExit) as end:
        refine(tmp_path, body, columns(**changes))
    assert f"scorehmr refine: {tmp_path / 'in.npz'}: " in end.value.code
    assert message in end.value.code and len(end.value.code.splitlines()) == 1
    assert not (tmp_path / "out.npz").exists()


def test_the_file_that_is_wrong_is_the_one_that_is_named(tmp_path, body):
    for flags, name in (
        (["--prior", "/gone.pt"], "/gone.pt"),
        (["--out", tmp_path], tmp_path),
        (["--out", tmp_path / "a.glb"], r"\S*a.glb: ends in .glb; expected the .npz to write"),
        (["--out", "gs://bucket/a.npz"], "gs://bucket/a.npz: is an address"),
        (["--body", "s3://bucket/a.pkl"], "s3://bucket/a.pkl: is an address"),
    ):
        with pytest.raises(SystemExit, match=f"^scorehmr refine: {name}"):
            refine(tmp_path, body, columns(), *flags)


def test_a_place_that_cannot_be_written_is_named_before_the_work(tmp_path, body, monkeypatch):
    def work(*_):
        raise AssertionError("the work began")

    monkeypatch.setattr(importlib.import_module("scorehmr_jax.refine"), "make_refiner", work)
    (tmp_path / "file").write_text("x")
    with pytest.raises(SystemExit, match=r"file: is a file; expected a folder"):
        refine(tmp_path, body, columns(), "--out", tmp_path / "file" / "o.npz")


def test_the_demo_says_first_what_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="pip install matplotlib jinja2 pygltflib"):
        main(["demo", "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
