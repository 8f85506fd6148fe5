"""Building of training sets from files: their content, and that they are whole or not there."""

import json
import pickle
import shutil
import signal
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow_datasets", reason="needs the extra `data`")
pytest.importorskip("array_record", reason="needs the extra `data`")

from training_files import change, everything, names_in, released_layout

from body_model.folders import _MARK, _beside, building
from scorehmr_jax.commands.main import main
from scorehmr_jax.datasets.build import Given, build, describe
from scorehmr_jax.datasets.image_sets import ImageFiles, ImageSet
from scorehmr_jax.datasets.records import RecordSet
from scorehmr_jax.datasets.samples import axis_angle_to_x, bad_rows
from scorehmr_jax.datasets.statistics import read_statistics
from scorehmr_jax.formats.tables import Table
from scorehmr_jax.units import not_rotations


@pytest.fixture
def data(golden, tmp_path):
    return released_layout(golden, tmp_path)


def test_one_command_builds_the_sets_of_a_paper_model(data, tmp_path, capsys):
    out = tmp_path / "sets"
    main(["build-data", "scorehmr-b", "--data-root", str(data), "--out", str(out)])
    printed = capsys.readouterr()
    assert "32 of 32 samples" in printed.out and "36 of 40 samples" in printed.out
    assert "dropped 4: without a pose fit" in printed.out
    assert "40/40" in printed.err  # the progress bar
    assert names_in(out) == ["coco", "h36m", "mpi_inf_3dhp"]


def test_a_set_holds_what_the_files_hold(data, tmp_path):
    folder = build("h36m", data, tmp_path / "sets", quiet=True)
    fits = np.load(data / "datasets/h36m_train_mosh.npz")
    raw = np.load(tmp_path / "cache/pare/h36m_train_mosh.npz")["pose_feats"]
    stats = np.load(data / "stats/pare_feat_stats.npz")
    found = everything(folder, "pose", "betas", "features")
    np.testing.assert_array_equal(found["pose"], axis_angle_to_x(fits["body_pose"]))
    np.testing.assert_array_equal(found["betas"], fits["betas"])
    features = (raw - stats["pose_feats_mean"]) / stats["pose_feats_std"]
    np.testing.assert_allclose(
        found["features"].astype(np.float32), features.reshape(32, 3072), rtol=2**-8, atol=1e-3
    )


def test_only_samples_with_fits_are_kept(data, tmp_path):
    folder = build("coco", data, tmp_path / "sets", quiet=True)
    pose = np.load(data / "datasets/coco_train_eft.npz")["body_pose"]
    kept = np.arange(40) % 10 != 0
    np.testing.assert_array_equal(everything(folder, "pose")["pose"], axis_angle_to_x(pose[kept]))
    change(data / "datasets/coco_train_eft.npz", has_betas=np.arange(40) % 4 > 0)
    folder = build("coco/eft_pare_shape", data, tmp_path / "sets", quiet=True)
    assert RecordSet.open(folder).widths["features"] == 4608
    assert "dropped 8: without a shape fit" in describe(folder)


def test_tfds_reads_the_sets_by_itself(data, tmp_path):
    folder = build("coco", data, tmp_path / "sets", quiet=True)
    program = f"""
import sys
import tensorflow_datasets as tfds
source = tfds.builder_from_directory({str(folder)!r}).as_data_source("train")
assert len(source) == 36 and source[35]["name"].decode().endswith(".jpg")
found = {{key: source[20][key] for key in ("pose", "features")}}
import ml_dtypes, numpy
found["features"] = found["features"].view(ml_dtypes.bfloat16).astype("float32")
numpy.savez(sys.argv[1], **found)
"""
    subprocess.run([sys.executable, "-c", program, tmp_path / "x.npz"], check=True, cwd=tmp_path)
    for key, ours in everything(folder, "pose", "features").items():
        np.testing.assert_array_equal(np.load(tmp_path / "x.npz")[key], ours[20])


def test_tensorflow_is_never_imported(data, tmp_path):
    program = f"""
import sys
from scorehmr_jax.commands.main import main
from scorehmr_jax.datasets.feed import open_feed
main(["build-data", "scorehmr-b", "--data-root", {str(data)!r}, "--out", {str(tmp_path / "s")!r}])
feed = open_feed({{{str(tmp_path / "s/coco")!r}: 1.0}})
feed.resident(0, 8), next(feed.stream(0, 8))
assert not [name for name in sys.modules if name.split(".")[0] == "tensorflow"]
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_large_sets_need_no_tensorflow_either(data, tmp_path, monkeypatch):
    # TFDS's own writer turns to TensorFlow once a split is larger than this.
    monkeypatch.setattr("tensorflow_datasets.core.shuffle.MAX_MEM_BUFFER_SIZE", 1000)
    monkeypatch.setattr("scorehmr_jax.datasets.builders.SHARD_BYTES", 100_000)
    folder = build("h36m", data, tmp_path / "sets", quiet=True)
    records = RecordSet.open(folder)
    assert len(records.shards) == 3 and len(records) == 32
    rows = np.array([31, 0, 17, 17])
    whole = everything(folder, "pose")["pose"]
    np.testing.assert_array_equal(records.read(rows, ["pose"])["pose"], whole[rows])
    assert len(RecordSet.open(folder, "train[:50%]")) == 16


def test_estimates_can_come_along(data, tmp_path):
    files = Given(estimates=tmp_path / "cache/hmr2b/coco_train_eft.npz", backbone="none")
    found = everything(build("coco", data, tmp_path / "sets", files, quiet=True), "estimate")
    pose = np.load(files.estimates)["pred_pose"][1]
    expected = np.swapaxes(pose[..., :2], -1, -2).reshape(144)
    np.testing.assert_allclose(found["estimate"][0], expected, atol=1e-7)


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        (
            "cache/pare",
            {"pose_feats": np.zeros((39, 128, 24))},
            r"coco_train_eft.npz: pose_feats has shape \(39, 128, 24\); expected \(40, 128, 24\)",
        ),
        (
            "cache/pare",
            {"pose_feats": np.full((40, 128, 24), np.nan)},
            r"pose_feats is NaN or infinite in row 1 .*--drop-bad",
        ),
        (
            "cache/pare",
            {"pose_feats": None, "img_feats": np.zeros((40, 2048))},
            r"takes 3072 features per image; found cam_shape_feats .*img_feats",
        ),
        (
            "cache/pare",
            {"pose_feats": np.random.default_rng(0).normal(size=(40, 128, 24))},
            r"these features are not those of .*pare_feat_stats.npz",
        ),
        ("cache/pare", {"pose_feats": np.full((40, 128, 24), "?")}, r"pose_feats holds <U1"),
        ("data/datasets", {"has_body_pose": np.zeros(40)}, r"none of 40 images is left"),
        ("data/datasets", {"body_pose": np.full((40, 72), 20.0)}, r"36 of 36 poses; .* radians"),
        ("data/datasets", {"body_pose": np.zeros((40, 69))}, r"body_pose has shape \(40, 69\)"),
        ("data/datasets", {"has_betas": None}, r"betas, but no has_betas; .*has_betas \[40\]"),
        ("data/datasets", {"imgname": None}, r"the key 'imgname' is missing"),
        ("data/datasets", {"betas": None}, r"has_betas is above 0 in 40 rows, but the key 'betas'"),
    ],
)
def test_bad_files_are_named_and_leave_nothing_behind(data, tmp_path, file, changes, message):
    change(tmp_path / file / "coco_train_eft.npz", **changes)
    out = tmp_path / "sets"
    with pytest.raises(ValueError, match=message):
        build("coco", data, out, quiet=True)
    assert names_in(out) == []


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("h36m/mosh_pare", Given(backbone="prohmr"), r"--backbone: h36m/mosh_pare has no use"),
        ("h36m/spin", Given(fits="mosh"), r"--fits: h36m/spin has no use"),
        ("h36m", Given(fps=0.0), r"--fps: h36m has no use"),
        ("h36m", Given(name="mine"), r"--set-name: h36m has no use"),
        ("coco", Given(backbone="none", features=Path("f.npz")), r"--features: coco/eft_none"),
        ("amass", Given(statistics=Path("s"), drop_bad=True), r"--stats, --drop-bad: amass"),
        ("amass", Given(fps=0.0), r"--fps 0.0: expected frames per second, above 0"),
        ("amass/eft", Given(), r"amass/eft: amass comes in one kind only"),
        ("own", Given(estimates=Path("e.npz")), r"--estimates: own has no use"),
        *(
            ("own", Given(name=n), "--set-name .*: expected the name of one folder")
            for n in ("../../evil", "a/b", ".hidden", "")
        ),
    ],
)
def test_options_that_would_go_unused_are_refused(data, tmp_path, name, given, message):
    with pytest.raises(ValueError, match=message):
        build(name, data, tmp_path / "sets", given, quiet=True)


def test_a_mixture_is_refused_before_a_set_is_built(data, tmp_path):
    with pytest.raises(SystemExit, match="--backbone: h36m/mosh_pare has no use"):
        main(
            [
                "build-data",
                "scorehmr-b",
                "--backbone",
                "prohmr",
                "--data-root",
                str(data),
                "--out",
                str(tmp_path / "sets"),
            ]
        )
    with pytest.raises(SystemExit, match="no data set 'cocoa'"):
        main(
            [
                "build-data",
                "coco",
                "cocoa",
                "--data-root",
                str(data),
                "--out",
                str(tmp_path / "sets"),
            ]
        )
    assert names_in(tmp_path / "sets") == []


def test_a_mixture_goes_on_where_it_failed(data, tmp_path, capsys):
    out, hidden = tmp_path / "sets", tmp_path / "coco.npz"
    annotations = data / "datasets/coco_train_eft.npz"
    annotations.rename(hidden)
    command = ["build-data", "scorehmr-b", "--data-root", str(data), "--out", str(out), "--quiet"]
    with pytest.raises(SystemExit, match=r"coco_train_eft.npz: no such file"):
        main(command)
    hidden.rename(annotations)
    capsys.readouterr()
    main(command)
    assert "h36m/mosh_pare/1.0.0: there already, left as it is" in capsys.readouterr().out
    assert names_in(out) == ["coco", "h36m", "mpi_inf_3dhp"]
    main([*command, "--overwrite"])
    assert "left as it is" not in capsys.readouterr().out


def test_cache_is_found_beside_the_folder_one_is_in(data, tmp_path, monkeypatch):
    monkeypatch.chdir(data)
    assert "36 of 40" in describe(build("coco", ".", tmp_path / "sets", quiet=True))


def test_annotations_are_of_one_group(data, tmp_path):
    arrays = dict(np.load(data / "datasets/coco_train_eft.npz"))
    path = tmp_path / "sequences.pkl"
    path.write_bytes(pickle.dumps([arrays, arrays]))
    given = Given(annotations=path, backbone="none")
    with pytest.raises(ValueError, match=r"sequences.pkl: 2 groups; expected one"):
        build("coco", data, tmp_path / "sets", given, quiet=True)
    path.write_bytes(pickle.dumps([arrays]))
    assert "36 of 40" in describe(build("coco", data, tmp_path / "sets", given, quiet=True))


def test_names_may_be_bytes(data, tmp_path):
    import tensorflow_datasets as tfds

    path = data / "datasets/coco_train_eft.npz"
    names = np.load(path)["imgname"]
    change(path, imgname=names.astype("S"))
    folder = build("coco", data, tmp_path / "sets", quiet=True)
    source = tfds.builder_from_directory(str(folder)).as_data_source("train")
    assert source[0]["name"].decode() == names[1]


def test_estimates_are_rotations(data, tmp_path):
    path = tmp_path / "cache/hmr2b/coco_train_eft.npz"
    pose = np.load(path)["pred_pose"]
    pose[3] = 0
    change(path, pred_pose=pose)
    given = Given(estimates=path, backbone="none")
    with pytest.raises(ValueError, match=r"pred_pose is no rotation in row 3 .*--drop-bad"):
        build("coco", data, tmp_path / "sets", given, quiet=True)
    folder = build("coco", data, tmp_path / "sets", replace(given, drop_bad=True), quiet=True)
    assert "dropped 1: with an estimate that is no rotation" in describe(folder)


def test_other_statistics_are_taken_where_that_is_meant(data, tmp_path):
    with np.load(data / "stats/pare_feat_stats.npz") as file:
        stats = {key: file[key] + 9 * key.endswith("mean") for key in file.files}
    np.savez(tmp_path / "stats.npz", **stats)
    given = Given(statistics=tmp_path / "stats.npz")
    with pytest.raises(ValueError, match=r"not those of .*: --accept-statistics"):
        build("coco", data, tmp_path / "sets", given, quiet=True)
    with pytest.warns(UserWarning, match=r"not those of .*stats.npz"):
        build("coco", data, tmp_path / "sets", replace(given, accept_statistics=True), quiet=True)


def test_a_failed_build_keeps_the_set_that_was_there(data, tmp_path):
    out = tmp_path / "sets"
    folder = build("coco", data, out, quiet=True)
    before = describe(folder)
    with pytest.raises(ValueError, match=r"there is a set already.*--overwrite"):
        build("coco", data, out, quiet=True)
    features = tmp_path / "cache/pare/coco_train_eft.npz"
    whole = features.read_bytes()
    features.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"coco_train_eft.npz: cut short or damaged"):
        build("coco", data, out, overwrite=True, quiet=True)
    assert describe(folder) == before and names_in(out) == ["coco"]
    features.write_bytes(whole)
    change(data / "datasets/coco_train_eft.npz", has_body_pose=np.ones(40))
    assert "40 of 40" in describe(build("coco", data, out, overwrite=True, quiet=True))
    assert names_in(out / "coco/eft_pare") == ["1.0.0"]


def test_without_tfds_the_command_says_what_to_install(data, tmp_path):
    program = f"""
import sys
sys.modules["tensorflow_datasets"] = None
import scorehmr_jax.datasets.feed
from scorehmr_jax.commands.main import main
main(["build-data", "coco", "--data-root", {str(data)!r}, "--out", {str(tmp_path / "s")!r}])
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 1 and "Traceback" not in run.stderr
    assert "pip install 'scorehmr-jax[data]'" in run.stderr


def test_a_full_disk_leaves_nothing_behind(data, tmp_path):
    out = tmp_path / "sets"
    program = f"""
import resource, signal
from scorehmr_jax.commands.main import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
main(["build-data", "coco", "--data-root", {str(data)!r}, "--out", {str(out)!r}])
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 1 and "Traceback" not in run.stderr
    assert "a shard cannot be written" in run.stderr and "is the disk full?" in run.stderr
    assert names_in(out) == []


# Builds as the command does, but stays in the middle of it.
SLOW = """
import signal, sys, time
from scorehmr_jax.commands.main import main
from scorehmr_jax.datasets import builders
signal.signal(signal.SIGINT, signal.default_int_handler)
def wait(example):
    print("building", file=sys.__stdout__, flush=True)
    time.sleep(60)
builders._serialized = wait
main(sys.argv[1:])
"""


def stopped(number, *command):
    """Sends a signal to the command in the middle of it; returns its exit code and what it said."""
    run = subprocess.Popen(
        [sys.executable, "-c", SLOW, *map(str, command)],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert run.stdout.readline() == "building\n"
    run.send_signal(number)
    _, said = run.communicate(timeout=60)
    return run.returncode, said


def test_a_build_that_is_stopped_leaves_nothing_behind(data, tmp_path):
    out = tmp_path / "sets"
    command = ["build-data", "coco", "--data-root", data, "--out", out, "--quiet"]
    for number in (signal.SIGTERM, signal.SIGINT):
        assert stopped(number, *command) == (128 + number, "scorehmr build-data: stopped\n")
        assert names_in(out) == []
    stopped(signal.SIGKILL, *command)
    elsewhere = out / ".building-another.host-x"
    elsewhere.mkdir()
    with building(out) as mine:  # another build that goes on
        assert len(names_in(out)) == 2
        build("coco", data, out, quiet=True)
        assert mine.exists()
    assert names_in(out) == [elsewhere.name, "coco"]


def test_a_set_is_in_sight_while_it_is_replaced(data, tmp_path, monkeypatch):
    folder = build("coco", data, tmp_path / "sets", quiet=True)
    whole = describe(folder)
    # As a kill between two renames leaves it.
    (folder / _MARK).touch()
    old = folder.rename(_beside(folder))
    assert len(RecordSet.open(tmp_path / "sets/coco")) == 36
    with pytest.raises(ValueError, match="there is a set already"):
        build("coco", data, tmp_path / "sets", quiet=True)
    assert describe(folder) == whole and not old.exists()
    shutil.copytree(folder, old)  # as a kill after both
    (old / _MARK).touch()
    assert len(RecordSet.open(tmp_path / "sets/coco")) == 36
    build("coco", data, tmp_path / "sets", overwrite=True, quiet=True)
    assert describe(folder) == whole and not old.exists()


def test_bytes_that_changed_on_disk_are_noticed(data, tmp_path):
    features = tmp_path / "cache/pare/coco_train_eft.npz"
    damaged = bytearray(features.read_bytes())
    damaged[len(damaged) // 2] ^= 255
    features.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"coco_train_eft.npz, pose_feats: cut short or damaged"):
        build("coco/eft_pare_shape", data, tmp_path / "sets", quiet=True)


def test_bad_samples_can_be_left_out(data, tmp_path):
    path = tmp_path / "cache/pare/coco_train_eft.npz"
    features = np.load(path)["pose_feats"]
    features[[0, 3, 5]] = np.nan  # the first has no fit
    change(path, pose_feats=features)
    text = describe(build("coco", data, tmp_path / "sets", Given(drop_bad=True), quiet=True))
    assert "34 of 40" in text and "dropped 2: with NaN" in text


def test_names_that_are_not_known_are_told_what_is(data, tmp_path):
    for name, message in (("coc", "there are: h36m"), ("h36m/eft_foo", "there are: mosh_pare")):
        with pytest.raises(ValueError, match=message):
            build(name, data, tmp_path / "sets", quiet=True)
    with pytest.raises(SystemExit, match=r"build-data: .*nowhere: no such folder"):
        main(["build-data", "coco", "--data-root", "nowhere", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"h36m_train_spin.npz: no such file"):
        main(
            [
                "build-data",
                "h36m",
                "--fits",
                "spin",
                "--data-root",
                str(data),
                "--out",
                str(tmp_path / "sets"),
            ]
        )


def test_a_set_of_no_images_is_named(data, tmp_path):
    file = data / "datasets/coco_train_eft.npz"
    change(file, **{key: array[:0] for key, array in np.load(file).items()})
    with pytest.raises(ValueError, match=r"coco_train_eft.npz: imgname: no images; expected"):
        build("coco", data, tmp_path / "sets", Given(backbone="none"), quiet=True)


def test_checks_of_rows_take_no_rows_too():
    empty = np.zeros((0, 24, 3, 3))
    Table("a.npz", {"x": empty}).array("x", empty.shape, np.float32)
    assert bad_rows(empty, empty[:, 0]).shape == not_rotations(empty).shape == (0,)
    assert axis_angle_to_x(np.zeros((0, 72))).shape == (0, 144)


@pytest.mark.parametrize("option", ["--data-root", "--out", "--annotations", "--stats"])
def test_an_address_is_no_folder(data, tmp_path, monkeypatch, option):
    monkeypatch.chdir(tmp_path)
    options = {"--data-root": str(data), "--out": "sets", option: "gs://bucket/data"}
    before = names_in(tmp_path)
    with pytest.raises(SystemExit, match=r"gs://bucket/data: is an address; expected a path"):
        main(
            ["build-data", "coco", "--quiet", *(word for each in options.items() for word in each)]
        )
    assert names_in(tmp_path) == before


@pytest.mark.parametrize("name", ["annotations", "features", "statistics", "estimates"])
def test_keys_that_nothing_is_made_of_are_named(data, tmp_path, name):
    files = {
        "annotations": data / "datasets/coco_train_eft.npz",
        "features": tmp_path / "cache/pare/coco_train_eft.npz",
        "statistics": data / "stats/pare_feat_stats.npz",
        "estimates": tmp_path / "cache/hmr2b/coco_train_eft.npz",
    }
    reader = ImageSet(ImageFiles(**files))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert reader.total == 40 and reader.widths and reader.statistics
    change(files[name], Extra_key=np.zeros(40))
    reader = ImageSet(ImageFiles(**files))
    with pytest.warns(UserWarning, match=rf"{files[name]}: not read: Extra_key"):
        assert reader.total and reader.widths and reader.statistics


def test_a_set_without_any_shape_says_so(data, tmp_path):
    change(data / "datasets/coco_train_eft.npz", betas=None, has_betas=None)
    built = build("coco", data, tmp_path / "sets", Given(backbone="none"), quiet=True)
    assert "without a shape fit, which is zeros there: 36" in describe(built)


def test_what_a_set_says_of_itself(data, tmp_path):
    folder = build("coco", data, tmp_path / "sets", quiet=True)
    notes = json.loads((folder / "metadata.json").read_text())
    assert notes["kept"] == 36 and notes["read"] == 40 and notes["backbone"] == "pare"
    shapes = {"pose_feats": (128, 24)}
    saved = read_statistics(data / "stats/pare_feat_stats.npz", shapes)
    assert notes["statistics"] == saved.digest
    assert "(betas 10, features 3072, pose 144)" in describe(folder)
