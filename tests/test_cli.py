"""The command `scorehmr`: from file to file, and what a user hears of a mistake."""

import functools
import importlib
import importlib.util

import numpy as np
import pytest

from body_model.io import save
from body_model.joints import OPENPOSE_25
from body_model.open.stand_in import stand_in
from scorehmr_jax.commands.main import main

COUNT = 3


@pytest.fixture(scope="module")
def body(tmp_path_factory):
    path = tmp_path_factory.mktemp("body") / "body.npz"
    save(path, stand_in())
    return path


def columns(**changes):
    upright = np.tile(np.eye(3), (COUNT, 24, 1, 1))
    upright[:, 0] = np.diag([1.0, -1.0, -1.0])
    keypoints = np.ones((COUNT, len(OPENPOSE_25), 3))
    keypoints[..., :2] = np.random.default_rng(0).uniform(300, 700, keypoints[..., :2].shape)
    data = {
        "pose": upright,
        "betas": np.zeros((COUNT, 10)),
        "translation": np.tile([0.0, 0.2, 5.0], (COUNT, 1)),
        "keypoints": keypoints,
        "image_size": np.full((COUNT, 2), 1000),
        "focal": np.array(1500),
    } | changes
    return {key: value for key, value in data.items() if value is not None}


def refine(folder, body, data, *flags):
    np.savez(folder / "in.npz", **data)
    given = ["refine", folder / "in.npz", "--out", folder / "out.npz", "--body", body, *flags]
    main([str(part) for part in given])


def test_from_file_to_file(tmp_path, body, monkeypatch, capsys):
    loop = importlib.import_module("scorehmr_jax.refine")
    short = functools.partial(loop.make_refiner, config=loop.RefineConfig(iterations=1))
    monkeypatch.setattr(loop, "make_refiner", short)
    data = columns()
    data["translation"][1] = np.nan
    refine(tmp_path, body, data, "--video")
    with np.load(tmp_path / "out.npz") as found:
        assert found["pose"].shape == (COUNT, 24, 3, 3) and found["pose"].dtype == np.float32
        np.testing.assert_array_equal(found["focal"], np.full((COUNT, 2), 1500))
        np.testing.assert_allclose(found["pose"][1], data["pose"][1], atol=1e-6)
        assert np.abs(found["pose"][0] - data["pose"][0]).max() > 0.01
    printed = capsys.readouterr().out
    assert "2 of 3 refined" in printed and "  1: kept" in printed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pose": None}, "in.npz: no key pose; found betas, focal, "),
        (
            {"pose": np.zeros((COUNT, 72))},
            "pose: expected shape (3, 24, 3) or (3, 24, 3, 3), found",
        ),
        ({"pose": np.full((COUNT, 24, 3), "a")}, "pose: expected numbers, found <U1"),
        (
            {"pose": np.zeros((COUNT, 24, 3, 3))},
            "pose: row 0 (3 in all) holds matrices that are no",
        ),
        ({"betas": np.zeros((COUNT, 300))}, "betas: expected shape (N, 10), found (3, 300)"),
        ({"focal": np.ones(4)}, "focal: expected shape () or (1,) or (3,) or (3, 2), found (4,)"),
        ({"focal": np.array(-1)}, "focal: expected pixels above 0, found -1"),
        ({"image_size": np.zeros((COUNT, 2))}, "image_size: expected pixels above 0, found 0"),
        ({"features": np.zeros((2, 144))}, "features: expected shape (3, N), found (2, 144)"),
        (
            {"keypoints": np.full((COUNT, 25, 3), 90)},
            "keypoints.confidence: expected within [0, 1]",
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
    for flags, name in ((["--prior", "/gone.pt"], "/gone.pt"), (["--out", tmp_path], tmp_path)):
        with pytest.raises(SystemExit, match=f"^scorehmr refine: {name}: "):
            refine(tmp_path, body, columns(), *flags)


def test_the_demo_says_first_what_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="pip install matplotlib jinja2 pygltflib"):
        main(["demo", "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
