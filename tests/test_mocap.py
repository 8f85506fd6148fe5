"""Motion capture as training poses, and pairs of them with simulated estimates."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from body_model import Skeleton, stand_in
from body_model.joints import JOINT_NAMES, MIRROR
from body_model.rotations import axis_angle_to_matrix
from scorehmr_jax.prior import rotations_to_x, x_to_rotations
from scorehmr_jax.simulation import mocap
from scorehmr_jax.simulation.pairs import augment_pairs, random_regressors, simulate_pairs
from scorehmr_jax.simulation.regressor import REGRESSORS


def random_poses(count: int, size: float = 0.6) -> np.ndarray:
    return size * np.random.default_rng(0).standard_normal((count, 24, 3)).astype(np.float32)


@jax.jit
def to_x(turns):
    return rotations_to_x(axis_angle_to_matrix(turns))


@pytest.fixture
def clips(tmp_path):
    """Three clips in two splits, written to a file."""
    arrays = {
        "poses": random_poses(9).reshape(9, 72),
        "trans": np.zeros((9, 3), np.float32),
        "clip_index": np.repeat([0, 1, 2], 3).astype(np.int32),
        "clip_names": np.array(["a", "b", "c"]),
        "clip_fps": np.full(3, 30.0),
        "clip_split": np.array(["train", "val", "train"]),
        "clip_source": np.array(["one", "one", "two"]),
    }

    def write(**changes):
        path = tmp_path / "clips.npz"
        kept = {k: v for k, v in (arrays | changes).items() if v is not None}
        np.savez(path, **kept)
        return path

    return write


def test_select_takes_a_split_without_some_sources(clips):
    all_clips = mocap.read(clips())
    train = all_clips.select("train")
    assert train.names.tolist() == ["a", "c"] and train.clip.tolist() == [0, 0, 0, 1, 1, 1]
    np.testing.assert_array_equal(train.poses[3:], all_clips.poses[6:])
    assert all_clips.select("train", without=("one",)).names.tolist() == ["c"]
    with pytest.raises(ValueError, match=r"no clips in split 'test' \(there are: train, val\)"):
        all_clips.select("test")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trans": None}, r"clips\.npz: expected the keys .* missing: \['trans'\]"),
        ({"poses": np.zeros((9, 66))}, r"poses: expected shape \(9, 72\), found \(9, 66\)"),
        ({"poses": np.full((9, 72), np.nan)}, "poses holds numbers that are not finite"),
        ({"poses": np.rad2deg(random_poses(9)).reshape(9, 72)}, "poses: .* in radians, found deg"),
        ({"clip_fps": np.zeros(2)}, r"clip_fps: expected shape \(3,\), found \(2,\)"),
        ({"clip_index": np.full(9, 3)}, "clip_index: expected 0 to 2, found 3"),
        ({"clip_index": np.repeat([0, -1, 1], 3)}, "clip_index: expected 0 to 2, found -1"),
        ({"clip_index": np.zeros(9)}, "clip_index: expected integers, found float64"),
        ({"poses": np.array(0.0)}, r"poses: expected shape \(1, 72\), found \(\)"),
        ({"clip_names": np.array("a")}, r"clip_names: expected shape \(1,\), found \(\)"),
        ({"poses": np.full((9, 72), "a")}, "poses: expected numbers, found <U1"),
        ({"clip_fps": np.array(["30"] * 3)}, "clip_fps: expected numbers, found <U2"),
        ({"clip_split": np.array(["train", "tarin", "val"])}, "clip_split: .* found 'tarin'"),
        ({"clip_source": np.arange(3)}, "clip_source: expected text, found int64"),
        *(
            ({"clip_fps": np.array([30, rate, 30])}, "clips.npz: clip_fps: expected frames per sec")
            for rate in (0, np.nan, 1 / 30, -30, 1e9)
        ),
    ],
)
def test_bad_file_is_named_with_what_is_wrong(clips, change, message):
    with pytest.raises(ValueError, match=message):
        mocap.read(clips(**change))


def test_text_may_be_bytes_and_other_keys_are_named(clips, recwarn):
    names = {key: np.array([b"train"] * 3) for key in ("clip_split", "clip_source", "clip_names")}
    found = mocap.read(clips(**names)).select("train")
    assert found.names.tolist() == ["train"] * 3 and not recwarn
    with pytest.warns(UserWarning, match=r"clips.npz: not read: betas, notes; known are"):
        mocap.read(clips(notes=np.ones(3), betas=np.ones((9, 10))))


def test_training_split_of_the_real_file(open_data):
    clips = mocap.read(open_data / "mocap_poses.npz")
    train = clips.select("train", without=("deepmimic",))
    assert len(train.poses) == 49450 - 8091
    assert "deepmimic" not in train.collection
    assert not set(train.names) & set(clips.select("test").names)


def test_mirrored_pose_puts_the_other_joints_at_the_mirrored_places():
    skeleton = Skeleton.of(stand_in(), JOINT_NAMES)

    @jax.jit
    def joints(x):
        return skeleton(x_to_rotations(x), jnp.zeros((4, 10)))

    x = to_x(random_poses(4))
    expected = np.asarray(joints(x))[:, MIRROR] * [-1, 1, 1]
    np.testing.assert_allclose(joints(mocap.mirror(x)), expected, atol=1e-5)


def test_turned_root_equals_the_product_of_matrices():
    @jax.jit
    def run(turns):
        pose, turn = axis_angle_to_matrix(turns), mocap.camera_rotations(jax.random.key(0), (5,))
        turned = x_to_rotations(mocap.rotate_root(turn, rotations_to_x(pose)))
        return turned, pose.at[:, 0].set(turn @ pose[:, 0])

    turned, expected = run(random_poses(5))
    np.testing.assert_allclose(turned, expected, atol=1e-5)


def test_cameras_stand_upright_and_look_from_all_around():
    draw = jax.jit(partial(mocap.camera_rotations, shape=(4000,), pitch=(-10, 20)))
    turn = np.asarray(draw(jax.random.key(1)))
    identity = np.tile(np.eye(3), (4000, 1, 1))
    np.testing.assert_allclose(turn @ np.swapaxes(turn, 1, 2), identity, atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(turn), 1, atol=1e-5)
    up = turn @ np.array([0, 1, 0])
    assert (up[:, 1] < -0.8).all()
    # Looking down on a person, their head is nearer than their feet.
    pitch = np.degrees(np.arctan2(-up[:, 2], -up[:, 1]))
    assert abs(pitch.min() + 10) < 1 and abs(pitch.max() - 20) < 1
    heading = np.arctan2(turn[:, 0, 0], turn[:, 0, 2])
    assert np.histogram(heading, 8, (-np.pi, np.pi))[0].min() > 350


def test_half_of_the_cameras_roll():
    x = jnp.broadcast_to(to_x(random_poses(1)), (4000, 144))
    one, two = jax.jit(lambda x: mocap.roll(jax.random.key(3), 20.0, x, 2 * x))(x)
    np.testing.assert_allclose(two, 2 * one, atol=1e-5)
    np.testing.assert_array_equal(one[:, 6:], x[:, 6:])
    # About the axis that the camera looks along: z stays.
    turned, before = (np.asarray(a)[:, :6].reshape(-1, 2, 3) for a in (one, x))
    np.testing.assert_allclose(turned[..., 2], before[..., 2], atol=1e-6)
    angle = np.arctan2(turned[:, 0, 1], turned[:, 0, 0])
    angle = np.degrees(angle - np.arctan2(before[:, 0, 1], before[:, 0, 0]))
    still = np.abs(angle) < 1e-4
    assert 0.45 < still.mean() < 0.55
    np.testing.assert_allclose(np.sqrt((angle[~still] ** 2).mean()), 20, rtol=0.1)


def test_jitter_turns_every_joint_by_about_its_size():
    @jax.jit
    def run(turns):
        pose = axis_angle_to_matrix(turns)
        return x_to_rotations(mocap.jitter(jax.random.key(6), rotations_to_x(pose), 0.03)) - pose

    angle = np.linalg.norm(run(random_poses(200)), axis=(-2, -1)) / np.sqrt(2)
    np.testing.assert_allclose(np.sqrt((angle**2).mean(0)), 0.03 * np.sqrt(3), rtol=0.2)


def test_augmentation_mirrors_half_and_keeps_the_body_pose_otherwise():
    x = to_x(random_poses(400))
    out, mirrored = (np.asarray(a[:, 6:]) for a in _augmented(x))
    same = (out == x[:, 6:]).all(1)
    assert (same ^ (out == mirrored).all(1)).all() and 150 < same.sum() < 250


@jax.jit
def _augmented(x):
    return mocap.augment(jax.random.key(2), x), mocap.mirror(x)


@pytest.mark.slow
def test_pairs_are_of_every_strength_and_belong_together():
    poses = random_poses(20, 0.2)
    skeleton = Skeleton.of(stand_in())
    true, estimated = simulate_pairs(jax.random.key(3), skeleton, poses, 2)
    assert true.shape == estimated.shape == (40, 144) and np.isfinite(estimated).all()
    # The two estimates of a frame are by two networks, before two cameras.
    np.testing.assert_allclose(true[::2, 6:], true[1::2, 6:], atol=1e-5)
    assert np.abs(true[::2, :6] - true[1::2, :6]).max(-1).min() > 1e-3
    error = np.sqrt(((true - estimated) ** 2).mean(-1))
    assert error.min() < 0.1 and error.max() > 0.15
    # An estimate is nearer to its own pose than to those of others.
    others = np.sqrt(((true[:, None] - estimated) ** 2).mean(-1))
    assert (others.argmin(0) // 2 == np.arange(40) // 2).mean() > 0.9

    moved_true, moved = jax.jit(augment_pairs)(jax.random.key(4), true, estimated)
    np.testing.assert_allclose(np.sqrt(((moved_true - moved) ** 2).mean(-1)), error, atol=1e-5)


def test_random_networks_cover_their_range():
    networks = random_regressors(jax.random.key(5), 1000)
    # From nearly perfect to weaker than the benchmark's middle one.
    assert float(networks.rotation.min()) < 0.03
    assert float(networks.rotation.max()) > REGRESSORS["medium"].rotation
    # What is wrong with all but the best hides in depth.
    poor = networks.rotation > 0.1
    assert bool(jnp.all((networks.image_rotation < 0.6 * networks.rotation) | ~poor))
