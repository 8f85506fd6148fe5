"""Bodies from optical markers."""

from dataclasses import replace
from functools import cache

import jax
import numpy as np
import pytest
from data_set_files import c3d

import body_model
from body_model.joints import JOINT_NAMES, MIRROR
from body_model.rotations import axis_angle_to_matrix
from scorehmr_jax.commands.main import main
from scorehmr_jax.datasets import ui_prmd
from scorehmr_jax.marker_places import PLUG_IN_GAIT, normals_of, vertices_of
from scorehmr_jax.markers import MarkerConfig, attach_markers, fit_markers
from scorehmr_jax.pose_gaussian import PoseGaussian
from scorehmr_jax.simulation import mocap

NAMES = tuple(PLUG_IN_GAIT)
T, K = 60, len(NAMES)
CONFIG = MarkerConfig(noise=0.005, independent=60.0, frames=T, steps=15)


@cache
def body():
    return body_model.open_body()


@cache
def truth():
    """Usual poses of one person, whose markers sit some centimetres beside the usual places."""
    rng = np.random.default_rng(0)
    prior = PoseGaussian.shipped()
    spread = np.linalg.cholesky(np.linalg.inv(np.asarray(prior.precision, np.float64)))
    angles = np.asarray(prior.mean) + 0.7 * (rng.normal(size=(T, 69)) @ spread.T).reshape(T, 23, 3)
    angles[:, -2:] = 0  # hands have no markers
    root = rng.normal(size=(T, 1, 3)) * 2
    pose = np.asarray(axis_angle_to_matrix(np.concatenate([root, angles], 1).astype(np.float32)))
    betas = (0.7 * rng.normal(size=10)).astype(np.float32)
    places = [PLUG_IN_GAIT[name] for name in NAMES]
    vertices = vertices_of(body(), places)
    spread = np.array([place.spread for place in places])[:, None]
    offsets = 0.01 * normals_of(body())[vertices] + 0.7 * spread * rng.normal(size=(K, 3))
    translation = rng.normal(size=(T, 3)).astype(np.float32)
    return pose, betas, translation, vertices, offsets


@cache
def markers():
    """Markers that move with the skin: the mesh of a body whose vertices lie where they sit."""
    pose, betas, translation, vertices, offsets = truth()
    template = np.array(body().template)
    moved = np.zeros_like(template)
    moved[vertices] = offsets
    # The joints stay: they are those of the body, not of the moved vertices.
    lifted = replace(
        body(),
        template=np.concatenate([template, (template + moved)[vertices]]).astype(np.float32),
        **{
            name: np.concatenate(
                [getattr(body(), name), np.asarray(getattr(body(), name))[vertices]]
            )
            for name in ("shape_directions", "pose_directions", "skin_weights")
        },
        joint_regressor=np.pad(body().joint_regressor, [(0, 0), (0, K)]),
    )
    vertices_at = jax.jit(lambda pose: lifted.vertices(pose, betas)[..., -K:, :])
    points = np.asarray(vertices_at(pose)) + translation[:, None]
    noise = np.random.default_rng(1).normal(size=points.shape)
    return (points + 0.002 * noise).astype(np.float32)


@cache
def attached():
    return attach_markers(body(), NAMES, markers(), config=CONFIG)


def joints_of(pose, betas, translation):
    return np.asarray(body().joints(pose, betas, translation))


def test_places_and_joints_are_found_from_markers_that_sit_elsewhere():
    pose, betas, translation, _, offsets = truth()
    usual = np.array([PLUG_IN_GAIT[name].spread for name in NAMES])[:, None]
    # Markers sat 0.7 of their spread beside the usual places.
    assert np.sqrt((((offsets - attached().offsets) / usual) ** 2).mean()) < 0.25
    fit = fit_markers(attached(), markers(), config=CONFIG)
    assert fit.found.all() and fit.distance.shape == (T, K)
    assert fit.distance.mean() < 0.004
    off = joints_of(fit.pose, fit.betas, fit.translation) - joints_of(pose, betas, translation)
    assert np.linalg.norm(off, axis=-1)[:, :22].mean() < 0.012
    np.testing.assert_allclose(
        fit.pose[:, -2:], np.broadcast_to(np.eye(3), (T, 2, 3, 3)), atol=0.01
    )


def test_a_marker_that_is_not_seen_is_where_the_body_has_it():
    seen = np.ones((T, K), bool)
    hidden = [NAMES.index(name) for name in ("LELB", "RKNE", "LTOE", "C7")]
    seen[:, hidden] = False
    points = np.where(seen[..., None], markers(), np.nan)
    fit = fit_markers(attached(), points, config=CONFIG)
    again = fit_markers(attached(), np.where(seen[..., None], markers(), 7.0), seen, config=CONFIG)
    np.testing.assert_array_equal(fit.pose, again.pose)
    assert np.isnan(fit.distance[:, hidden]).all() and np.isfinite(fit.distance[seen]).all()
    off = attached().placed(fit.pose, fit.translation) - markers()
    np.testing.assert_allclose(np.linalg.norm(off, axis=-1)[seen], fit.distance[seen], atol=1e-5)
    assert np.linalg.norm(off, axis=-1)[:, hidden].mean() < 0.02
    whole = fit_markers(attached(), markers(), config=CONFIG)
    off = joints_of(fit.pose, fit.betas, fit.translation)
    off = off - joints_of(whole.pose, whole.betas, whole.translation)
    assert np.linalg.norm(off, axis=-1).mean() < 0.015


def test_markers_that_were_put_on_anew_hardly_move_the_body():
    points = markers().copy()
    points[:, [NAMES.index("LTHI"), NAMES.index("RFRM")]] += np.array([0.1, 0, 0], np.float32)

    def moved(tolerance):
        config = replace(CONFIG, tolerance=tolerance)
        fits = (fit_markers(attached(), each, config=config) for each in (points, markers()))
        here, there = (joints_of(fit.pose, fit.betas, fit.translation) for fit in fits)
        return np.linalg.norm(here - there, axis=-1).mean()

    assert moved(0.03) < 0.2 * moved(10.0)


def test_frames_without_markers_touch_no_other():
    points = markers().copy()
    points[1] = np.nan
    points[2, 2:] = np.nan
    fit = fit_markers(attached(), points, config=CONFIG)
    whole = fit_markers(attached(), markers(), config=CONFIG)
    np.testing.assert_array_equal(fit.found, [n not in (1, 2) for n in range(T)])
    others = [n for n in range(T) if n not in (1, 2)]
    np.testing.assert_array_equal(fit.pose[others], whole.pose[others])
    assert np.isfinite(fit.pose).all() and np.isfinite(fit.translation).all()


@pytest.mark.slow
def test_files_of_markers_become_motions_with_amass_keys(tmp_path, capsys):
    z_up = 1000 * markers()[..., [2, 0, 1]]  # millimetres
    labels = [f"Someone:{name}" for name in NAMES]
    seen = np.ones((20, K), bool)
    seen[3] = False
    (tmp_path / "a.c3d").write_bytes(c3d(z_up[:20], labels, rate=100.0, seen=seen))
    some = [*range(K - 1, 3, -1)]  # another order, and markers that the other file has not
    extra = np.concatenate([z_up[20:, some], z_up[20:, :1]], 1)
    other = [*(labels[k] for k in some), "*110"]
    (tmp_path / "b.c3d").write_bytes(c3d(extra, other, rate=100.0))
    main(["fit-markers", *(str(tmp_path / f"{n}.c3d") for n in "ab"), "--out", str(tmp_path / "o")])
    assert "a.npz: 20 frames, 1 without enough markers" in capsys.readouterr().out
    pose, betas, translation, *_ = truth()
    for name, rows in (("a", np.delete(np.arange(20), 3)), ("b", np.arange(20, T))):
        found = dict(np.load(tmp_path / f"o/{name}.npz"))
        assert found["poses"].shape[1] == 156 and found["mocap_framerate"] == 100
        angles = np.concatenate([found["poses"][:, :66], np.zeros((len(found["poses"]), 6))], 1)
        got = joints_of(angles.reshape(-1, 24, 3), found["betas"][:10], found["trans"])
        true = joints_of(pose, betas, translation)[rows][..., [2, 0, 1]]
        if name == "a":
            np.testing.assert_array_equal(found["present"], np.arange(20) != 3)
            got = np.delete(got, 3, 0)
        assert np.linalg.norm(got - true, axis=-1)[:, :22].mean() < 0.03


@pytest.mark.slow
def test_markers_of_exercises_become_clips_of_motion_capture(tmp_path):
    half = T // 2
    # Two people, of two episodes each; one frame of the second has its markers mixed up.
    points = markers()[..., [2, 0, 1]].copy()
    points[half + 3] = np.roll(points[half + 3], 7, axis=0)
    held = {
        "markers": np.round(points / 0.0002).astype(np.int16),
        "unit": np.array(0.0002),
        "names": np.array(NAMES),
        "subject": np.repeat([3, 9], half),
        "movement": np.tile(np.repeat([1, 4], half // 2), 2),
        "correct": np.ones(T, int),
        "episode": np.full(T, 2),
    }
    np.savez(tmp_path / "in.npz", **held)
    ui_prmd.main([str(tmp_path / "in.npz"), "--out", str(tmp_path / "out.npz")])
    clips = mocap.read(tmp_path / "out.npz")
    assert len(clips.poses) == T - 1 and clips.split.tolist() == ["train"] * 2 + ["val"] * 2
    assert clips.names[[0, 3]].tolist() == ["s03_m01_right_e02", "s09_m04_right_e02"]
    np.testing.assert_array_equal(np.bincount(clips.clip), [15, 15, 14, 15])
    pose, betas, translation, *_ = truth()
    rows = np.delete(np.arange(T), half + 3)
    got = joints_of(clips.poses, betas, clips.translations)
    off = got - joints_of(pose, betas, translation)[rows]
    assert np.linalg.norm(off, axis=-1)[:, :22].mean() < 0.03
    np.savez(tmp_path / "in.npz", markers=held["markers"])
    with pytest.raises(SystemExit, match=r"in.npz: expected the keys .*missing: .*'unit'"):
        ui_prmd.main([str(tmp_path / "in.npz"), "--out", str(tmp_path / "out.npz")])


def test_places_are_on_the_right_side_and_limb_of_any_body():
    for each in (body(), body_model.stand_in()):
        vertices = vertices_of(each, [PLUG_IN_GAIT[name] for name in NAMES])
        template = np.asarray(each.template)
        joints = np.asarray(each.joint_regressor) @ template
        for name, vertex in zip(NAMES, vertices, strict=True):
            near = PLUG_IN_GAIT[name].joint
            if near is not None:
                apart = np.linalg.norm(joints[JOINT_NAMES.index(near)] - template[vertex])
                assert apart < 0.09, name
            if name[0] == "L":
                right = template[vertices[NAMES.index(f"R{name[1:]}")]]
                np.testing.assert_allclose(right * [-1, 1, 1], template[vertex], atol=0.02)
                assert template[vertex, 0] > 0.01
        heads = np.linalg.norm(normals_of(each), axis=1)
        np.testing.assert_allclose(heads[vertices], 1, atol=1e-5)


def test_mirrored_places_are_beside_the_joint_of_the_other_side():
    for name in NAMES:
        place = PLUG_IN_GAIT[name]
        if name[0] == "L" and place.joint is not None:
            other = PLUG_IN_GAIT[f"R{name[1:]}"].joint
            assert JOINT_NAMES.index(other) == MIRROR[JOINT_NAMES.index(place.joint)]


@pytest.mark.parametrize(
    ("names", "points", "seen", "message"),
    [
        (("LELB", "WAND"), np.zeros((5, 2, 3)), None, "no place is known for WAND"),
        (NAMES, np.zeros((5, 4, 3)), None, r"expected \[T, 39, 3\]"),
        (NAMES, np.zeros((5, K, 3)), np.ones((5, 3)), r"seen: expected \[5, 39\]"),
        (NAMES, np.full((5, K, 3), np.nan), None, "expected frames with 3 markers"),
    ],
)
def test_what_does_not_fit_is_named(names, points, seen, message):
    with pytest.raises(ValueError, match=message):
        attach_markers(body(), names, points, seen)


def test_millimetres_are_refused():
    with pytest.raises(ValueError, match="metres"):
        attach_markers(body(), NAMES, 1000 * markers())


def test_no_frames_are_refused():
    with pytest.raises(ValueError, match=r"expected \[T, 39, 3\] with a frame at least, found 0"):
        fit_markers(attached(), np.zeros((0, K, 3)))
