"""Files of optical markers: what is taken of them, what is refused, and what is written."""

import tracemalloc

import numpy as np
import pytest
from data_set_files import c3d
from marker_files import PLACE, T, standing

import body_model
from scorehmr_jax import markers
from scorehmr_jax.commands.fit_markers import fit_marker_files
from scorehmr_jax.commands.main import main
from scorehmr_jax.marker_places import PLUG_IN_GAIT
from scorehmr_jax.markers import MarkerFit

NAMES = tuple(PLUG_IN_GAIT)
K = len(NAMES)


def whole(path, points=None, names=NAMES, **options):
    """Writes a file of markers."""
    points = standing()[0] if points is None else points
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(c3d(1000 * points, names, **options))


@pytest.fixture
def stand_in(monkeypatch):
    """The stand-in in the place of the open body: small, and there without data."""
    monkeypatch.setattr(body_model, "open_body", body_model.stand_in)


@pytest.fixture
def given(stand_in, monkeypatch):
    """Puts known bodies in the place of the fit, which takes seconds; notes what it was given."""
    given = []

    def fit(attached, points, seen):
        given.append(points)
        place = np.tile(PLACE, (len(points), 1))
        found = seen.sum(1) >= 3
        pose = np.tile(standing()[1], (len(points) // T, 1, 1, 1))
        return MarkerFit(pose, np.zeros(10, np.float32), place, 0.001 * seen, found)

    monkeypatch.setattr(markers, "attach_markers", lambda *_: None)
    monkeypatch.setattr(markers, "fit_markers", fit)
    return given


def z_up(points):
    """The same points, turned about x."""
    return points[..., [0, 2, 1]] * [1, -1, 1]


def check_motion(path, joints, limit):
    """Compares a motion that was written with `standing`."""
    found = dict(np.load(path))
    assert found["poses"].shape == (T, 3 * joints) and found["mocap_framerate"] == 50
    angles = np.zeros((T, 24, 3), np.float32)
    angles[:, :22] = found["poses"][:, :66].reshape(T, 22, 3)
    got = body_model.stand_in().joints(angles, found["betas"][:10], found["trans"])
    true = np.asarray(body_model.stand_in().joints(standing()[1], None, PLACE))
    assert np.linalg.norm(got - z_up(true), axis=-1)[:, :22].mean() < limit


def written(folder, up, joints, *more):
    """Runs the command on markers in a capture's axes."""
    points, _ = standing()
    whole(folder / "a.c3d", z_up(points) if up == "z" else points)
    options = ["--up", up, "--joints", str(joints), *more]
    main(["fit-markers", str(folder / "a.c3d"), "--out", str(folder / "o"), *options])
    return folder / "o/a.npz"


@pytest.mark.parametrize("joints", [24, 52])
@pytest.mark.parametrize("up", ["y", "z"])
def test_motions_stand_with_z_up_whatever_axis_points_up(given, tmp_path, up, joints):
    path = written(tmp_path, up, joints)
    check_motion(path, joints, 1e-4)
    np.testing.assert_allclose(given[0], standing()[0], atol=1e-5)


@pytest.mark.slow
def test_a_body_of_ones_own_is_fitted(tmp_path, monkeypatch):
    def load(path):
        assert path.name == "own.pkl"
        return body_model.stand_in()

    monkeypatch.setattr(body_model, "load", load)
    monkeypatch.setattr(body_model, "open_body", None)  # not asked for
    path = written(tmp_path, "y", 24, "--body", str(tmp_path / "own.pkl"))
    check_motion(path, 24, 0.04)


def test_two_people_in_a_file_are_told_apart(given, tmp_path, capsys):
    points, _ = standing()
    file = tmp_path / "a.c3d"
    labels = [f"{who}:{name}" for who in ("Anna", "Bob") for name in NAMES]
    file.write_bytes(c3d(1000 * np.concatenate([points, points + 1], 1), labels))
    message = "a.c3d: LFHD is there twice, as Anna:LFHD and Bob:LFHD; .* --subject NAME"
    with pytest.raises(ValueError, match=message):
        fit_marker_files([file], tmp_path / "o")
    with pytest.raises(ValueError, match=r"others\) of Eve, found Anna:LFHD"):
        fit_marker_files([file], tmp_path / "o", subject="Eve")
    assert not (tmp_path / "o").exists()
    for who in ("Anna", "bob"):
        out = str(tmp_path / "o")
        main(["fit-markers", str(file), "--out", out, "--up", "y", "--subject", who])
    assert f"a.c3d: left out {K} markers: Bob:LFHD, " in capsys.readouterr().out
    np.testing.assert_allclose(given[0], points, atol=1e-5)
    np.testing.assert_allclose(given[1], points + 1, atol=1e-5)


def test_markers_that_are_left_out_are_named(given, tmp_path, capsys):
    points = np.concatenate([standing()[0], np.zeros((T, 2, 3))], 1)
    (tmp_path / "a.c3d").write_bytes(c3d(1000 * points, [*NAMES, "WAND", "*110"]))
    fit_marker_files([tmp_path / "a.c3d"], tmp_path / "o", up="y")
    assert "a.c3d: left out 2 markers: WAND, *110\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "b.c3d",
            {"names": [f"X{n}" for n in range(K)]},
            "b.c3d: expected markers of Plug-in .* X0",
        ),
        ("b/a.c3d", {}, "a: several files of this name"),
        (
            "b.c3d",
            {"seen": np.arange(K) < np.full((T, 1), 2)},
            "b.c3d: expected frames with 3 markers or more, found 2 at most in 8 frames",
        ),
        ("b.C3D", {"seen": np.zeros((T, K), bool)}, "b.C3D: expected frames with 3 markers"),
        ("b.c3d", {"unit": "m"}, "b.c3d: expected metres"),
    ],
)
def test_a_file_that_cannot_be_fitted_is_named_before_any_is_written(
    stand_in, tmp_path, name, change, message
):
    whole(tmp_path / "a.c3d")
    whole(tmp_path / name, **change)
    with pytest.raises(ValueError, match=message) as found:
        fit_marker_files([tmp_path / "a.c3d", tmp_path / name], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert str(tmp_path) in str(found.value) or "several" in message


def test_long_files_with_gaps_take_little_memory(given, tmp_path):
    frames = 8000
    seen = np.repeat(np.random.default_rng(0).random((frames, 1)) < 0.5, K, 1)
    whole(tmp_path / "a.c3d", np.tile(standing()[0], (frames // T, 1, 1)), seen=seen)
    tracemalloc.start()
    fit_marker_files([tmp_path / "a.c3d"], tmp_path / "o", up="y")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 250e6  # a table of the distances between frames alone takes as much


def test_frames_without_markers_are_written_with_a_body_and_marked(given, tmp_path):
    seen = np.ones((T, K), bool)
    seen[[0, 5]] = False
    whole(tmp_path / "a.c3d", seen=seen)
    fit_marker_files([tmp_path / "a.c3d"], tmp_path / "o", up="y")
    held = dict(np.load(tmp_path / "o/a.npz"))
    np.testing.assert_array_equal(held["present"], seen.all(1))
    np.testing.assert_array_equal(held["poses"][[0, 5]], held["poses"][[1, 4]])
