"""Training sets from a folder of files: one's own, or AMASS's."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow_datasets", reason="needs the extra `data`")
pytest.importorskip("array_record", reason="needs the extra `data`")

from training_files import everything

from scorehmr_jax.commands.main import main
from scorehmr_jax.datasets.amass import Amass
from scorehmr_jax.datasets.build import Given, build, describe
from scorehmr_jax.datasets.records import RecordSet
from scorehmr_jax.datasets.samples import axis_angle_to_x


def own_file(path, n=20, width=6, **changes):
    rng = np.random.default_rng(n)
    arrays = {"body_pose": rng.normal(size=(n, 72)), "features": rng.normal(3, 2, (n, width))}
    arrays |= changes
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    return arrays


def test_a_folder_of_ones_own_files(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    first = own_file(folder / "a.npz", 20)
    second = own_file(folder / "b.npz", 30, has_body_pose=np.arange(30) > 0)
    second["features"][0] = 1e6  # of a picture without a fit, which changes no statistics
    own_file(folder / "b.npz", 30, **second)
    built = build("own", folder, tmp_path / "sets", Given(name="mine"), quiet=True)
    assert built == tmp_path / "sets/mine/1.0.0" and "49 of 50" in describe(built)
    found = everything(built, "pose", "features")
    rows = np.concatenate([first["features"], second["features"][1:]])
    expected = (rows - rows.mean(0)) / rows.std(0)
    np.testing.assert_allclose(
        found["features"].astype(np.float32), expected, rtol=2**-7, atol=0.01
    )
    saved = RecordSet.open(built).statistics
    np.testing.assert_allclose(saved.mean, rows.mean(0), rtol=1e-5)
    np.savez(folder / "feature_stats.npz", mean=np.full(6, 90.0), std=np.ones(6))
    with pytest.raises(ValueError, match=r"not those of .*feature_stats.npz"):
        build("own", folder, tmp_path / "other", quiet=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"body_pose": np.zeros((20, 69))}, r"b.npz: body_pose has shape \(20, 69\)"),
        ({"features": np.zeros((20, 5))}, r"features has shape \(20, 5\); expected \(20, 6\)"),
        ({"features": np.zeros((19, 6))}, r"features has shape \(19, 6\); expected \(20, 6\)"),
        ({"features": np.full((20, 6), "?")}, r"b.npz: features holds <U1; expected numbers"),
        ({"body_pose": 0.0}, r"b.npz: body_pose has shape \(\); expected \[N, 72\]"),
        ({"features": None}, r"b.npz: the key 'features' is missing, but .*a.npz has it"),
        ({"body_pose": np.full((20, 72), np.inf)}, r"b.npz: row 0 and maybe others hold NaN"),
    ],
)
def test_ones_own_files_must_agree(tmp_path, changes, message):
    folder = tmp_path / "mine"
    folder.mkdir()
    own_file(folder / "a.npz")
    own_file(folder / "b.npz", **changes)
    with pytest.raises(ValueError, match=message):
        build("own", folder, tmp_path / "sets", quiet=True)


@pytest.mark.parametrize(
    ("changes", "message", "dropped"),
    [
        # Finite as it is, but not as it is kept.
        ({"betas": np.full((20, 10), 1e39)}, r"row 0 .* NaN or infinity in one of .*betas", 20),
        ({"pred_pose": np.zeros((20, 24, 3, 3))}, r"row 0 .* estimate .*no rotation", 20),
        ({"body_pose": np.degrees(np.full((20, 72), 0.3))}, r"20 of 20 poses; .*in radians", None),
        ({"betas": np.full((20, 10), 100.0)}, r"a.npz, betas: expected SMPL's .* up to 100", None),
    ],
)
def test_what_is_no_pose_is_refused_or_dropped(tmp_path, changes, message, dropped):
    folder = tmp_path / "mine"
    folder.mkdir()
    own_file(folder / "a.npz", **changes)
    with pytest.raises(ValueError, match=message):
        build("own", folder, tmp_path / "sets", quiet=True)
    if dropped:
        good = {"betas": np.zeros((90, 10)), "pred_pose": np.tile(np.eye(3), (90, 24, 1, 1))}
        own_file(folder / "b.npz", 90, **{key: good[key] for key in changes})
        built = build("own", folder, tmp_path / "sets", Given(drop_bad=True), quiet=True)
        assert "90 of 110" in describe(built) and "dropped 20: with" in describe(built)


def test_a_few_poses_may_have_gone_astray(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    pose = np.zeros((20, 72))
    pose[3, 5] = 99
    own_file(folder / "a.npz", body_pose=pose)
    assert "20 of 20" in describe(build("own", folder, tmp_path / "sets", quiet=True))


def test_statistics_that_are_not_there_are_no_default(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    own_file(folder / "a.npz")
    given = Given(statistics=tmp_path / "stast.npz")
    with pytest.raises(ValueError, match=r"stast.npz: no such file; expected mean and std"):
        build("own", folder, tmp_path / "sets", given, quiet=True)
    own_file(folder / "a.npz", features=None)
    with pytest.raises(ValueError, match=r"mine has no features"):
        build("own", folder, tmp_path / "sets", given, quiet=True)
    (folder / "a.npz").rename(folder / "feature_stats.npz")
    with pytest.raises(ValueError, match=r"expected .npz files beside feature_stats.npz"):
        build("own", folder, tmp_path / "sets", quiet=True)


def test_one_recipe_for_several_sets_of_ones_own(tmp_path):
    stats, files = tmp_path / "stats.npz", []
    for i, name in enumerate(("indoors", "outdoors")):
        (tmp_path / name).mkdir()
        files.append(str(tmp_path / name / "a.npz"))
        own_file(files[-1], 20 + i)
    main(["feature-stats", *files, "--out", str(stats)])
    for name in ("indoors", "outdoors"):
        main(
            [
                "build-data",
                "own",
                "--set-name",
                name,
                "--data-root",
                str(tmp_path / name),
                "--stats",
                str(stats),
                "--out",
                str(tmp_path / "sets"),
                "--quiet",
            ]
        )
    sets = [RecordSet.open(tmp_path / "sets" / name) for name in ("indoors", "outdoors")]
    assert sets[0].statistics.digest == sets[1].statistics.digest


def test_a_feature_that_never_changes_stays_small(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    features = np.random.default_rng(0).normal(3, 2, (20, 6))
    features[:, 2] = 0.1
    own_file(folder / "a.npz", features=features)
    built = build("own", folder, tmp_path / "sets", quiet=True)
    assert RecordSet.open(built).statistics.std[2] == 1
    assert np.abs(everything(built, "features")["features"][:, 2].astype(float)).max() < 1e-6


def test_amass_gives_body_pose_alone(tmp_path):
    folder = tmp_path / "amass/CMU/01"
    folder.mkdir(parents=True)
    poses = np.random.default_rng(0).normal(size=(120, 156))
    betas = np.arange(16.0)
    np.savez(folder / "01_poses.npz", poses=poses, betas=betas, mocap_framerate=60.0)
    np.savez(folder / "shape.npz", betas=betas)
    built = build("amass", tmp_path / "amass", tmp_path / "sets", quiet=True)
    text = describe(built)
    assert "20 of 120" in text and "dropped 1: files without poses" in text
    found = everything(built, "pose", "betas")
    expected = poses[::6].reshape(20, -1, 3)[:, :24].copy()
    expected[:, [0, 22, 23]] = 0
    np.testing.assert_allclose(found["pose"], axis_angle_to_x(expected), atol=1e-6)
    np.testing.assert_array_equal(found["betas"], np.tile(betas[:10], (20, 1)))


@pytest.mark.parametrize("shape", [(8,), (16,), (1, 8), (12, 8)])
def test_amass_has_more_or_fewer_shape_numbers(tmp_path, shape):
    betas = np.arange(1.0, 1 + np.prod(shape)).reshape(shape)
    np.savez(tmp_path / "clip.npz", poses=np.zeros((12, 156)), betas=betas, mocap_framerate=10.0)
    found = everything(build("amass", tmp_path, tmp_path / "sets", quiet=True), "betas")["betas"]
    expected = np.zeros((12, 16))
    expected[:, : shape[-1]] = betas
    np.testing.assert_array_equal(found, expected[:, :10])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"betas": np.zeros((3, 8))}, r"clip.npz: betas has shape \(3, 8\); expected \[B\] or"),
        ({"betas": np.zeros((12, 1))}, r"clip.npz: betas has shape \(12, 1\); expected \[B\] or"),
        ({"trans": np.zeros((11, 3))}, r"clip.npz: expected keys of one number of frames, found"),
        ({"root_orient": np.zeros((9, 3))}, r"of frames, found {'poses': 12, 'root_orient': 9}"),
        ({"pose_body": np.zeros((9, 63))}, r"of frames, found {'poses': 12, 'pose_body': 9}"),
        ({"dmpls": np.zeros((9, 8))}, r"of frames, found {'poses': 12, 'dmpls': 9}"),
        ({"mocap_framerate": np.nan}, r"clip.npz: mocap_framerate: expected frames .* found nan"),
        (
            {"mocap_framerate": 1 / 120},
            r"expected frames per second, 1 to 10000; found 0.008",
        ),
        ({"mocap_framerate": [10.0, 20.0]}, r"clip.npz: mocap_framerate is .*expected one number"),
        ({"fps": 30.0}, r"clip.npz: its frame rates differ: .*10.0, 'fps': 30.0"),
        ({"poses": np.zeros((12, 55, 3))}, r"clip.npz: poses has shape \(12, 55, 3\); expected"),
        ({"poses": np.zeros((0, 156))}, r"clip.npz: poses has no frames"),
        ({"betas": np.full(16, 100.0)}, r"clip.npz, betas: expected SMPL's shape numbers, .* 100"),
        ({"poses": np.full((12, 156), 20.0)}, r"12 of 12 poses; expected axis-angle in radians"),
    ],
)
def test_bad_clips_are_named(tmp_path, changes, message):
    arrays = {"poses": np.zeros((12, 156)), "betas": np.zeros(16), "mocap_framerate": 10.0}
    np.savez(tmp_path / "clip.npz", **arrays | changes)
    with pytest.raises(ValueError, match=message):
        build("amass", tmp_path, tmp_path / "sets", quiet=True)


def clip(path, frames=240, form=156, seed=0, **changes):
    """A clip in AMASS's form, at 120 frames per second, in which somebody moves."""
    path.parent.mkdir(parents=True, exist_ok=True)
    poses = np.random.default_rng(seed).normal(size=(frames, form))
    arrays = {"poses": poses, "betas": np.zeros(16), "mocap_framerate": 120.0} | changes
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})


def taken(folder, **options):
    """Samples, reasons and files left out of a folder of clips."""
    reader = Amass(folder, **options)
    names = [name for _, samples in reader.parts() for name in samples.names]
    between = "frames between those that are taken"
    dropped = {why: count for why, count in reader.dropped.items() if why != between}
    return names, dropped, {Path(path).name for path in reader.left_out}


@pytest.mark.parametrize(
    "key", ["mocap_framerate", "mocap_frame_rate", "mocap_fps", "fps", "FPS", "frameRate"]
)
def test_a_frame_rate_is_known_by_any_of_its_names(tmp_path, key):
    clip(tmp_path / "a_stageii.npz", form=165, **({"mocap_framerate": None} | {key: 120.0}))
    assert len(taken(tmp_path)[0]) == 20


def test_a_frame_rate_that_is_not_there_is_never_assumed_in_silence(tmp_path):
    clip(tmp_path / "a_poses.npz")
    clip(tmp_path / "b_poses.npz", mocap_framerate=None, seed=1)
    names, dropped, left_out = taken(tmp_path)
    assert len(names) == 20 and dropped == {"clips of unknown frame rate": 1}
    assert left_out == {"b_poses.npz"}
    assert len(taken(tmp_path, clip_fps=60.0)[0]) == 20 + 40
    built = build("amass", tmp_path, tmp_path / "sets", Given(clip_fps=60.0), quiet=True)
    assert "1 clips to have 60 frames per second" in describe(built)
    (tmp_path / "a_poses.npz").unlink()
    with pytest.raises(ValueError, match=r"b_poses.npz: no frame rate; .* --clip-fps"):
        taken(tmp_path)


def test_a_video_of_body_poses_needs_a_rate_too_and_single_poses_none(tmp_path):
    poses = np.random.default_rng(0).normal(size=(240, 69))
    np.savez(tmp_path / "a.npz", body_pose=poses, transl=np.zeros((240, 3)))
    with pytest.raises(ValueError, match=r"a.npz: no frame rate; .* --clip-fps"):
        taken(tmp_path)
    assert len(taken(tmp_path, clip_fps=30.0)[0]) == 80
    np.savez(tmp_path / "a.npz", body_pose=poses)
    assert len(taken(tmp_path)[0]) == len(taken(tmp_path, clip_fps=30.0)[0]) == 240


def test_an_odd_file_is_left_out_by_name(tmp_path):
    folder = tmp_path / "amass"
    clip(folder / "good_poses.npz")
    clip(folder / "empty_poses.npz", frames=0)
    clip(folder / "degrees_poses.npz", poses=np.full((12, 156), 20.0))
    clip(folder / "wide_poses.npz", form=99)
    clip(folder / "text_poses.npz", poses=np.full((12, 156), "?"))
    clip(folder / "scalar_poses.npz", poses=np.zeros(()))
    np.savez(folder / "keypoints.npz", keypoints=np.zeros((12, 25, 3)))
    np.savez(folder / "shape.npz", betas=np.zeros(16))
    whole = (folder / "good_poses.npz").read_bytes()
    (folder / "half_poses.npz").write_bytes(whole[: len(whole) // 2])
    (folder / "nothing_poses.npz").write_bytes(b"")
    (folder / "._good_poses.npz").write_bytes(b"what another system leaves")
    names, dropped, left_out = taken(folder)
    assert len(names) == 20
    assert dropped == {
        "clips without frames": 1,
        "files without poses": 1,
        "files without poses (of subjects)": 1,
        "files that cannot be used": 6,
    }
    odd = ("empty", "degrees", "wide", "text", "scalar", "half", "nothing")
    assert left_out == {f"{name}_poses.npz" for name in odd} | {"keypoints.npz"}
    text = describe(build("amass", folder, tmp_path / "sets", quiet=True))
    assert "20 of 504" in text and "dropped 1: clips without frames" in text
    assert "wide_poses.npz: poses has shape (240, 99); expected" in text


def test_frames_that_were_filled_in_are_no_samples(tmp_path, recwarn):
    present = np.arange(20) < 5
    poses = np.random.default_rng(0).normal(size=(20, 156))
    poses[3] = poses[15] = np.nan
    clip(tmp_path / "a.npz", poses=poses, mocap_framerate=10.0, present=present)
    names, dropped, _ = taken(tmp_path)
    assert names == [f"a.npz/{row}" for row in (0, 1, 2, 4)] and not recwarn
    assert dropped == {"filled in, without a body of their own": 15, "with NaN or infinity": 1}
    clip(tmp_path / "a.npz", frames=20, mocap_framerate=10.0, present=present[:4])
    with pytest.raises(ValueError, match=r"a.npz: present has shape \(4,\); expected \[20\]"):
        taken(tmp_path)


def motion(frames=240, form=156, seed=0, fitted=0.0):
    """Somebody who moves; `fitted` is how far the fits of two body models are apart, radians."""
    rng, t = np.random.default_rng(seed), np.linspace(0, 1, frames)[:, None]
    poses = np.zeros((frames, form))
    cycles, phase, size = rng.uniform(0.5, 4, 63), rng.uniform(0, 6, 63), rng.uniform(0, 0.5, 63)
    poses[:, 3:66] = size * np.sin(2 * np.pi * cycles * t + phase) + rng.normal(size=63) * 0.2
    apart = np.random.default_rng(9)
    poses[:, 3:66] += fitted * (apart.normal(size=63) + 0.2 * apart.normal(size=(frames, 63)))
    return poses


@pytest.mark.parametrize(
    ("second", "changes", "again"),
    [
        # The other body model, side by side or in another copy of the data set.
        ("CMU/01/01_01_stageii.npz", {"form": 165, "fitted": 0.1}, True),
        ("CMU/01/01_01_stageii.npz", {"form": 165, "fitted": 0.1, "frames": 239}, True),
        ("CMU/01/01_01_stageii.npz", {"form": 165, "frames": 120, "rate": 60.0}, True),
        ("SMPLX_N/CMU/01/01_01_stageii.npz", {"form": 165, "fitted": 0.1}, True),
        ("SMPLX_N/CMU/01/01 01_stageii.npz", {"form": 165, "fitted": 0.1}, True),
        # The same file, and its body alone.
        ("backup/renamed.npz", {}, True),
        ("backup/float32.npz", {"body_alone": True}, True),
        # Names that are equal say little.
        ("CMU/02/01_01_poses.npz", {"seed": 1}, False),
        ("other/01/01_01_poses.npz", {"seed": 1}, False),
        ("CMU/01/01_02_stageii.npz", {"form": 165, "fitted": 0.1}, False),
        ("GRAB/01/01_01_stageii.npz", {"form": 165, "seed": 1}, False),
        ("CMU/01/01_01_stageii.npz", {"form": 165, "seed": 1}, False),
        ("CMU/01/01_01_stageii.npz", {"form": 165, "size": 0.0}, False),
    ],
)
def test_one_clip_in_two_forms_is_taken_once(tmp_path, second, changes, again):
    poses = motion().astype(np.float32)
    clip(tmp_path / "CMU/01/01_01_poses.npz", poses=poses)
    changes = dict(changes)
    arrays = {"mocap_framerate": changes.pop("rate", 120.0)}
    if changes.pop("body_alone", False):
        arrays |= {"poses": None, "pose_body": poses[:, 3:66].astype(float)}
    else:
        arrays["poses"] = changes.pop("size", 1.0) * motion(**changes).astype(np.float32)
    clip(tmp_path / second, **arrays)
    names, dropped, left_out = taken(tmp_path)
    assert dropped == ({"clips that are there already": 1} if again else {})
    assert len(left_out) == again
    assert len({name.rpartition("/")[0] for name in names}) == 2 - again


def test_of_many_twins_by_name_the_one_with_the_same_motion_is_found(tmp_path):
    for person in range(3):
        clip(tmp_path / f"SMPLH/{person}/3/walk_poses.npz", poses=motion(seed=person))
    clip(tmp_path / "SMPLX/3/walk_stageii.npz", poses=motion(form=165, seed=2, fitted=0.1))
    reader = Amass(tmp_path)
    assert sum(len(samples) for _, samples in reader.parts()) == 60
    [(path, why)] = reader.left_out.items()
    assert path.endswith("walk_stageii.npz") and why.endswith("SMPLH/2/3/walk_poses.npz")


@pytest.mark.parametrize("betas", [None, np.zeros(0)])
def test_clips_without_a_shape_and_unknown_keys_are_named(tmp_path, betas, recwarn):
    known = {"gender": np.array("male"), "dmpls": np.zeros((240, 8)), "markers_latent": np.ones(9)}
    clip(tmp_path / "a_poses.npz", **known)
    taken(tmp_path)
    assert not recwarn
    clip(tmp_path / "b_poses.npz", seed=1, betas=betas, beta=np.ones(16))
    with pytest.warns(UserWarning) as found:
        taken(tmp_path)
    texts = [str(warning.message) for warning in found]
    assert any("b_poses.npz: no betas, so that its shape is taken to be zeros" in t for t in texts)
    assert any("b_poses.npz and maybe others: not read: beta (betas?)" in text for text in texts)


def test_one_file_of_poses_never_replaces_clips_in_silence(tmp_path):
    clip(tmp_path / "CMU/a_poses.npz")
    clip(tmp_path / "datasets/amass.npz", seed=1)
    with pytest.raises(ValueError, match=r"found both, such as .*CMU/a_poses.npz; give the one"):
        build("amass", tmp_path, tmp_path / "sets", quiet=True)
    for chosen in ("CMU", "datasets/amass.npz"):
        assert build("amass", tmp_path / chosen, tmp_path / "sets", overwrite=True, quiet=True)
    (tmp_path / "CMU/a_poses.npz").unlink()
    np.savez(tmp_path / "smpl_mean_params.npz", pose=np.zeros(144))
    assert build("amass", tmp_path, tmp_path / "sets", overwrite=True, quiet=True)


def test_of_two_forms_the_other_is_taken_where_one_is_odd(tmp_path):
    clip(tmp_path / "a_poses.npz", poses=np.full((12, 156), np.nan))
    clip(tmp_path / "a_stageii.npz", form=165)
    assert len(taken(tmp_path)[0]) == 20


def test_clips_at_rest_are_not_taken_for_each_other(tmp_path):
    for name in ("a", "b"):
        clip(tmp_path / f"{name}_poses.npz", poses=np.zeros((240, 156)))
    assert len(taken(tmp_path)[0]) == 40


def test_linked_folders_are_read_once(tmp_path):
    clip(tmp_path / "disk/CMU/01/01_01_poses.npz")
    folder = tmp_path / "amass"
    folder.mkdir()
    (folder / "CMU").symlink_to(tmp_path / "disk/CMU")
    (folder / "around").symlink_to(folder)
    names, dropped, _ = taken(folder)
    assert names[0] == "CMU/01/01_01_poses.npz/0" and len(names) == 20 and not dropped


def test_own_files_that_are_odd_are_named_before_anything_is_built(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    own_file(folder / "a.npz", 20)
    own_file(folder / "b.npz", 30)
    own_file(folder / "c.npz", 40, features=None)
    own_file(folder / "d.npz", 50, body_pose=np.degrees(np.full((50, 72), 0.3)))
    (folder / "e.npz").write_bytes((folder / "a.npz").read_bytes())
    (folder / "f.npz").write_bytes((folder / "a.npz").read_bytes()[:500])
    own_file(folder / "g.npz", 0)
    own_file(folder / "h.npz", 60, betas=np.full((60, 10), 100.0))
    with pytest.raises(ValueError) as error:
        build("own", folder, tmp_path / "sets", quiet=True)
    for message in (
        "c.npz: the key 'features' is missing, but",
        "d.npz, body_pose: a joint turns by more than 4 pi in 50 of 50",
        "e.npz: holds the arrays of",
        "f.npz: cut short or damaged",
        "leave such files out: --drop-bad",
    ):
        assert message in str(error.value)
    text = describe(build("own", folder, tmp_path / "sets", Given(drop_bad=True), quiet=True))
    assert "50 of 50" in text and "dropped 1: files that are there twice" in text
    assert "dropped 1: files without rows" in text and "c.npz: the key 'features'" in text


def test_a_file_that_breaks_off_is_counted_once(tmp_path):
    own_file(tmp_path / "a.npz", 3000, width=50)
    own_file(tmp_path / "b.npz", 2000, width=50)
    whole = bytearray((tmp_path / "b.npz").read_bytes())
    whole[-100_000] ^= 255  # in the last rows of its features
    (tmp_path / "b.npz").write_bytes(whole)
    with pytest.raises(ValueError, match=r"b.npz, features: cut short or damaged"):
        build("own", tmp_path, tmp_path / "sets", quiet=True)
    text = describe(build("own", tmp_path, tmp_path / "sets", Given(drop_bad=True), quiet=True))
    assert "dropped 1: files that cannot be used" in text and "b.npz, features: cut" in text
    assert "4,024 of 5,000" in text  # all parts but the last


def test_statistics_of_a_folder_below_are_no_samples(tmp_path):
    (tmp_path / "below").mkdir()
    own_file(tmp_path / "a.npz")
    np.savez(tmp_path / "below/feature_stats.npz", mean=np.zeros(6), std=np.ones(6))
    with pytest.raises(ValueError, match=r"below/feature_stats.npz: .*body_pose"):
        build("own", tmp_path, tmp_path / "sets", quiet=True)


def test_an_empty_own_file_ends_nothing(tmp_path):
    own_file(tmp_path / "a.npz")
    own_file(tmp_path / "b.npz", 0)
    text = describe(build("own", tmp_path, tmp_path / "sets", quiet=True))
    assert "20 of 20" in text and "b.npz: no rows in body_pose" in text
    (tmp_path / "a.npz").unlink()
    with pytest.raises(ValueError, match=r"no file can be used: .*b.npz: no rows"):
        build("own", tmp_path, tmp_path / "other", quiet=True)


def test_keys_of_ones_own_that_are_not_read_are_named(tmp_path):
    own_file(tmp_path / "a.npz", features=None, keypoints_2d=np.zeros((20, 25, 3)))
    with pytest.warns(UserWarning, match=r"not read: keypoints_2d \(in .*a.npz\)"):
        build("own", tmp_path, tmp_path / "sets", quiet=True)
    own_file(tmp_path / "a.npz", features=None, Feature=np.zeros((20, 6)))
    with pytest.raises(ValueError, match=r"a.npz: holds 'Feature', .*rename it to 'features'"):
        build("own", tmp_path, tmp_path / "other", quiet=True)


def test_a_shape_that_is_no_fit_is_zeros_and_counted(tmp_path):
    betas, known = np.ones((20, 10)), np.arange(20) % 4 > 0
    own_file(tmp_path / "a.npz", features=None, betas=betas, has_betas=known)
    built = build("own", tmp_path, tmp_path / "sets", quiet=True)
    found = everything(built, "betas")["betas"]
    np.testing.assert_array_equal(found, betas * known[:, None])
    assert "without a shape fit, which is zeros there: 5" in describe(built)


@pytest.mark.parametrize(("key", "width"), [("body_pose", 72), ("betas", 10)])
def test_what_stands_where_there_is_no_fit_may_be_anything(tmp_path, key, width):
    known = np.arange(20) < 5
    values = np.where(known[:, None], 0.1, np.full((20, width), -999.0))
    own_file(tmp_path / "a.npz", features=None, **{key: values, f"has_{key}": known})
    built = build("own", tmp_path, tmp_path / "sets", quiet=True)
    assert f"{5 if key == 'body_pose' else 20} of 20 samples" in describe(built)


def test_a_shape_that_is_marked_as_a_fit_must_be_there(tmp_path):
    own_file(tmp_path / "a.npz", features=None, has_betas=np.ones(20))
    with pytest.raises(ValueError, match=r"a.npz: has_betas is above 0 in 20 rows, but .*'betas'"):
        build("own", tmp_path, tmp_path / "sets", quiet=True)
