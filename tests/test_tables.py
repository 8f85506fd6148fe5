"""Tables filled from any source, kept, and written in every form; intervals over sequences."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from evaluations import evaluate, folder_by_name, quick_refiner

import body_model
from benchmarks import open_tables
from scorehmr_jax.baselines import methods
from scorehmr_jax.baselines.methods import METHODS, make_method
from scorehmr_jax.baselines.registry import BASELINES
from scorehmr_jax.camera import pinhole
from scorehmr_jax.evaluation.batching import Rows
from scorehmr_jax.evaluation.benchmarks import BENCHMARKS, open_protocol
from scorehmr_jax.evaluation.cases import Case
from scorehmr_jax.evaluation.comparison import Truth
from scorehmr_jax.evaluation.intervals import Interval, mean_interval, paired_difference
from scorehmr_jax.evaluation.protocol import expectations
from scorehmr_jax.evaluation.released import sequences
from scorehmr_jax.evaluation.results import Results
from scorehmr_jax.evaluation.tables import store
from scorehmr_jax.evaluation.tables.fill import Missing, fill, reference_of
from scorehmr_jax.evaluation.tables.layout import Column, Row, Table
from scorehmr_jax.evaluation.tables.paper import NOISE, STEPS, TABLES
from scorehmr_jax.evaluation.tables.stand_ins import OPEN_TABLES
from scorehmr_jax.evaluation.tables.write import as_latex, as_text, write_table
from scorehmr_jax.evaluation.tasks import TASKS
from scorehmr_jax.simulation.scene import Scene
from scorehmr_jax.types import Estimate, Info, Keypoints2D, Refined


def test_intervals_are_over_sequences_and_hold_the_mean_as_often_as_they_say():
    random = np.random.default_rng(0)
    held = width = 0.0
    for _ in range(200):
        of = np.repeat(random.normal(10, 2, 30), 20)  # sequences differ
        sequence = np.repeat(np.arange(30), 20)
        found = mean_interval(of + random.normal(0, 0.1, 600), sequence)
        held += found.low <= 10 <= found.high
        width = found.high - found.low
    assert 0.9 <= held / 200 <= 0.98
    # Frames taken for independent would claim to know it far better.
    alone = mean_interval(of, np.arange(600))
    assert alone.high - alone.low < width / 3
    assert found.samples == 600 and found.sequences == 30
    assert (
        found == mean_interval(of + 0, sequence) or found.mean != mean_interval(of, sequence).mean
    )


def test_pairs_differ_less_than_methods_do_and_only_where_both_are_known():
    random = np.random.default_rng(1)
    sequence = np.repeat(np.arange(20), 10)
    hard = np.repeat(random.normal(60, 15, 20), 10)
    first, second = hard + random.normal(0, 1, 200), hard - 2 + random.normal(0, 1, 200)
    second[:30] = np.nan
    pair = paired_difference(first, second, sequence)
    assert pair.samples == 170 and pair.sequences == 17
    assert pair.low > 1 and pair.high < 3  # 2 mm apart, seen through differences of 15
    one, other = mean_interval(first, sequence), mean_interval(second, sequence)
    assert one.low < other.high
    with pytest.raises(ValueError, match=r"same samples \(200,\), found \(3,\)"):
        paired_difference(first, second[:3], sequence)
    with pytest.raises(ValueError, match="one for each sample"):
        mean_interval(first, sequence[:5])


def test_an_interval_of_one_sequence_or_of_nothing_is_not_made_up():
    found = mean_interval(np.array([1.0, 3.0, np.nan]), np.zeros(3, int))
    assert found == Interval(2.0, None, None, 2, 1) and str(found) == "2.0"
    assert mean_interval(np.full(3, np.nan), np.arange(3)) is None
    assert str(Interval(1.25, 0.5, 2.0, 9, 3)) == "1.2 [0.5, 2.0]"


def test_sequences_are_told_by_folder_and_name():
    names = ["a/b/image_0001.jpg", "a/b/image_0002.jpg", "a/c/image_0001.jpg", "a/b/other_1.jpg"]
    assert len(set(sequences(names, [4], False)[[0, 1]])) == 1
    assert len(set(sequences(names, [4], False).tolist())) == 3
    # The samples of a group are of the sequence of its first.
    assert sequences(names, [2, 2], True).tolist() == [0, 0, 1, 1]


def test_every_table_names_what_there_is():
    for tables, known in ((TABLES, BENCHMARKS), (OPEN_TABLES, None)):
        assert set(tables) == {
            *(f"table{i}" for i in range(1, 6)),
            "ablation-noise",
            "ablation-step",
        }
        for table in tables.values():
            for protocol in table.protocols:
                task = (known[protocol] if known else open_protocol(*protocol.split("-")[1:])).task
                names = {row.method for row in table.rows if row.start}
                baselines = {n for n, b in BASELINES.items() if task in b.tasks}
                assert names <= baselines | {"estimate", "scorehmr", "default"}, table.name
    # What the ablations print as the paper's.
    assert [row.published[0] for row in TABLES["ablation-noise"].rows] == [*NOISE.values()]
    assert [row.changes["step"] for row in TABLES["ablation-step"].rows] == [*STEPS]
    config = TASKS["keypoints"].released
    for row in (*TABLES["ablation-step"].rows, *TABLES["ablation-noise"].rows):
        changed = replace(config, **row.changes)  # refuses a start that is no multiple of the step
        assert changed.start in (*NOISE, 48) and (changed.start + changed.step) > 50
    published = {
        (row.title, row.start): row.published
        for row in TABLES["table2"].rows
        if row.source == "the paper"
    }
    assert published["+ ScoreHMR-b", "hmr2b"] == (51.1, 76.6)
    with pytest.raises(ValueError, match="published: expected 2 figures"):
        replace(TABLES["table2"], rows=(Row("x", published=(1.0,)),))


def small_case(protocol, count=6):
    """Bodies that stand before a camera; estimates lean."""
    body = body_model.stand_in()
    skeleton = body_model.Skeleton.of(body, protocol.keypoints)
    pose = np.tile(np.eye(3, dtype=np.float32), (count, 24, 1, 1))
    there = np.tile(np.float32([0, 0, 4]), (count, 1))
    betas = np.zeros((count, 10), np.float32)
    joints = np.asarray(jax.jit(lambda *a: skeleton(*a))(pose, betas, there))
    lean = pose.copy()
    angle = 0.1 * np.arange(1, count + 1)
    lean[:, 1, 1, 1] = lean[:, 1, 2, 2] = np.cos(angle)  # a leg, about x
    lean[:, 1, 2, 1] = np.sin(angle)
    lean[:, 1, 1, 2] = -lean[:, 1, 2, 1]
    sizes = np.full((count, 2), 1000, np.float32)
    camera = jax.tree.map(np.asarray, pinhole(sizes, 1500.0))
    xy = (joints[:, :25, :2] / joints[:, :25, 2:] * 1500 + 500).astype(np.float32)
    keypoints = Keypoints2D(xy, np.ones((count, 25), np.float32))
    truth = Truth(joints, np.ones(count, bool), keypoints, camera, None)
    return Case(
        protocol,
        tuple(f"clip{i // 2}/{i}" for i in range(count)),
        (count,),
        (np.arange(count) // 2).astype(np.int32),
        Estimate(lean, betas, there),
        truth,
        body,
        skeleton,
        frames={"in the files": count},
    )


class Source:
    """One case, and no weights at all."""

    def __init__(self):
        self.made = {}

    def case(self, start, protocol):
        if protocol.endswith("strong"):
            raise Missing("strong.npz is missing: download it")
        if protocol not in self.made:
            self.made[protocol] = small_case(open_protocol(*protocol.split("-")[1:]))
        return self.made[protocol]

    def prior(self, name):
        raise Missing(f"{name} was not released")

    def features(self, prior, start, protocol):
        return None


def test_a_table_is_filled_as_far_as_data_goes_kept_and_written(tmp_path):
    columns = tuple(Column(f"open-keypoints-{s}", "re", s) for s in ("weak", "strong"))
    rows = (
        Row("estimate", "simulated", published=(50.0, 40.0)),
        Row("+ mended", "simulated", "mended", place=1.0),
        Row("+ ScoreHMR", "simulated", "scorehmr", "prior-x"),
        Row("+ other", published=(None, 33.2), source="published by its makers"),
    )
    table = Table("ablation-test", "A test; mm", columns, rows, ("A note.",), axis="x")
    calls = []

    def mended(estimate, features, terms, mask=None):
        """Half of the samples are as they should be."""
        calls.append(len(estimate.pose))
        pose = jnp.asarray(estimate.pose).at[::2].set(jnp.eye(3))
        status = jnp.zeros(len(pose), jnp.int32)
        refined = Refined(pose, estimate.betas, estimate.translation, jnp.zeros((len(pose), 144)))
        return refined, Info(status, status - 1, jnp.zeros((1, len(pose))))

    def prepare(name, case, prior, changes):
        if name == "mended":
            return replace(
                make_method("estimate", case.skeleton, case.protocol.how), refiner=mended
            )
        return make_method(name, case.skeleton, case.protocol.how, prior, changes)

    source, runs = Source(), tmp_path / "runs"
    filled = fill(table, source, prepare, runs)
    estimate, better, absent, other = filled
    weak, strong = columns
    assert estimate.cells[weak].change.mean == 0 and estimate.cells[weak].found.sequences == 3
    assert better.cells[weak].change.high < 0 and better.cells[weak].found.samples == 6
    assert better.beside[weak.protocol].worse.mean == 0
    assert estimate.cells[strong].found is None and estimate.cells[strong].published == 40
    assert estimate.missing == {strong.protocol: "strong.npz is missing: download it"}
    assert absent.missing[weak.protocol] == "prior-x was not released"
    assert other.cells[strong].published == 33.2 and not other.missing
    once = len(calls)
    assert once == 3  # six samples in one batch, and two calls that were timed
    assert 0 < better.beside[weak.protocol].seconds < 10

    # What was computed is not computed again, but for another input.
    again = fill(table, source, prepare, runs)
    assert len(calls) == once and again[1].cells == better.cells
    assert again[1].beside == better.beside
    named = fill(replace(table, reference="estimate"), source, prepare, runs)
    assert named[0].cells[weak].against is None
    assert named[1].cells[weak].against == better.cells[weak].change and len(calls) == once
    case = source.made[weak.protocol]
    case.estimate.translation[0, 2] += 0.5
    fill(table, source, prepare, runs)
    assert len(calls) == 2 * once and len([*runs.iterdir()]) == 4
    key = json.loads((next(runs.glob("mended-*")) / "key.json").read_text())
    assert {"method", "protocol", "configuration", "weights", "data", "code"} <= key.keys()
    case.estimate.translation[0, 2] -= 0.5

    described = {weak.protocol: case.protocol.described()}
    text = as_text(table, filled, described)
    assert "strong.npz is missing: download it" in text and "prior-x was not released" in text
    assert "published by its makers" in text and "frames of open-keypoints-weak: " not in text
    line = next(x for x in text.splitlines() if x.startswith("+ mended"))
    assert str(better.cells[weak].found) in line and "0.0%" in line
    assert "expected samples: not known" in text and "  6 in the files" in text
    latex = as_latex(table, filled)
    assert r"+ mended & " in latex and latex.startswith("% ablation-test: A test; mm\n")
    # Whose figures stand beside which benchmark's is told by name.
    titles = next(line for line in latex.splitlines() if line.startswith("& "))
    assert r"& weak pelvis, mm & weak worse by 2 mm &" in titles
    assert titles.endswith(r"& strong pelvis, mm & strong worse by 2 mm \\")
    files = write_table(tmp_path / "out", table, filled, described)
    assert {f.suffix for f in files} == {".txt", ".md", ".tex", ".json", ".png"}
    held = json.loads((tmp_path / "out/ablation-test.json").read_text())
    assert held["rows"][1]["cells"][0]["found"]["mean"] == better.cells[weak].found.mean
    assert held["rows"][0]["missing"] == estimate.missing
    assert (tmp_path / "out/ablation-test.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "out/ablation-test.md").read_text().count("|---|") == 2


def test_rows_are_compared_with_the_loop_from_the_same_estimates():
    table = TABLES["table2"]
    titles = [(row.title, row.start) for row in table.rows]
    for start in ("prohmr", "hmr2b"):
        number = titles.index(("+ SMPLify", start))
        assert titles[reference_of(table, number)] == ("+ ScoreHMR-b", start)
    assert reference_of(table, titles.index(("+ ScoreHMR-b", "hmr2b"))) is None
    assert reference_of(table, titles.index(("LGD", None))) is None
    other = replace(table, reference="+ SMPLify")
    assert titles[reference_of(other, titles.index(("HMR 2.0b", "hmr2b")))][0] == "+ SMPLify"
    # Of an ablation it is the first, which has the released settings.
    assert [reference_of(TABLES["ablation-step"], i) for i in range(6)] == [None, 0, 0, 0, 0, 0]


def test_keys_tell_weights_and_code(monkeypatch):
    tree = {"a": np.arange(3.0), "b": np.ones(2, np.float32)}
    assert store.weights_hash(tree) == store.weights_hash({k: v.copy() for k, v in tree.items()})
    assert store.weights_hash(tree) != store.weights_hash(tree | {"a": np.arange(3.0) + 1e-12})
    assert store.digest({"a": 1, "b": 2}) == store.digest({"b": 2, "a": 1})
    store.code.cache_clear()
    monkeypatch.setattr(store, "commit", lambda: "abc")
    assert store.code() == "abc"
    for known in ("abc-dirty", None):  # then the sources themselves tell
        store.code.cache_clear()
        monkeypatch.setattr(store, "commit", lambda known=known: known)
        assert store.code().startswith("sources ")
    store.code.cache_clear()


def test_methods_that_cannot_be_are_refused():
    skeleton, task = body_model.Skeleton.of(body_model.stand_in()), TASKS["keypoints"]
    assert {"estimate", "scorehmr", "default", *BASELINES} == set(METHODS)
    with pytest.raises(ValueError, match="method scorehmr: expected a prior"):
        make_method("scorehmr", skeleton, task)
    with pytest.raises(ValueError, match="method adam-free: has no start to change"):
        make_method("adam-free", skeleton, task, changes={"start": 100})
    with pytest.raises(ValueError, match="method: expected one of"):
        make_method("magic", skeleton, task)


def test_protocols_say_how_they_measure_and_what_they_expect():
    said = BENCHMARKS["emdb1"].described()
    assert said["joints"].startswith("24: pelvis, left_hip") and said["pelvis"] == "pelvis"
    assert "good_frames_mask" in said["frames"] and "12 mm" in said["boxes"]
    assert BENCHMARKS["pose2sim"].described()["pelvis"] == "left_hip and right_hip"
    assert BENCHMARKS["3dpw"].described()["expected samples"] == "35515"
    counts = {"in the files": 35000, "left out by the protocol": 439}
    assert expectations(BENCHMARKS["3dpw"], counts) == [
        "3dpw: expected 35515 samples, found 34561: figures are of another set"
    ]
    assert expectations(BENCHMARKS["emdb1"], counts) == [
        "emdb1: expected 24117 frames in the files, found 35000: figures are of another set"
    ]
    assert not expectations(BENCHMARKS["h36m"], counts)
    assert "24117 before frames are left out" in said["expected samples"]


def test_tables_by_command_name_what_is_missing(tmp_path, capsys):
    out, sized = ["--out", str(tmp_path / "out")], ["--images", "z"]
    for argv, message in (
        (["table2", *out], "table2: please give --data-root or --open, one of the two"),
        (["table2", "--open", "x", "--data-root", "y", *out], "one of the two"),
        (["table6", *out], "invalid choice"),
        (
            ["table2", "--open", "x", "--method", "smplify", *out],
            "has methods, modes and weights of",
        ),
        (["3dpw", "--data-root", "y", "--quick", *out], "--open, --split, --quick: of the tables"),
        (
            ["3dpw", "--data-root", "y", *sized, "--method", "smplify", "--mode", "default", *out],
            "--mode: of the loop; smplify has none",
        ),
        (
            ["3dpw", "--data-root", "y", *sized, "--method", "adam-free", "--weights", "w", *out],
            "--weights: adam-free has none; found w",
        ),
        (
            ["3dpw", "--data-root", "y", *sized, "--method", "estimate", "--weights", "w", *out],
            "--weights: estimate has none; found w",
        ),
        (
            ["emdb1-video", "--data-root", "y", "--fps", "25", *out],
            "--fps: recordings of emdb1-video know their own; found 25",
        ),
    ):
        with pytest.raises(SystemExit):
            evaluate.main(argv)
        assert message in capsys.readouterr().err
    evaluate.main(["table5", "--data-root", str(tmp_path / "data"), *out])
    printed = capsys.readouterr().out
    assert "3dpw_test.npz is missing: download_data.sh of https" in printed
    assert "EMDB is missing: https://emdb.ait.ethz.ch" in printed
    assert "51.1" in printed and (tmp_path / "out/table5.tex").is_file()


def test_a_table_on_the_released_folders(golden, tmp_path, monkeypatch, capsys):
    root = folder_by_name(golden, tmp_path, "3dpw_test", "npz")
    sizes = root / "datasets/3dpw_test_img_size.npz"
    sizes.symlink_to(golden / "pack/3dpw_test_img_size.npz")
    monkeypatch.setattr(methods, "make_refiner", quick_refiner)
    for _ in range(2):  # the second time out of what was kept
        evaluate.main(["table5", "--data-root", str(root), "--out", str(tmp_path / "out/table5")])
        err = capsys.readouterr().err
    assert "ScoreHMR-b, hmr2b, on 3dpw" not in err
    held = json.loads((tmp_path / "out/table5/table5.json").read_text())
    rows = {row["title"]: row for row in held["rows"]}
    cells = {c["protocol"]: c for c in rows["HMR 2.0b + ScoreHMR-b"]["cells"]}
    assert cells["3dpw"]["found"]["samples"] > 5 and cells["3dpw"]["published"] == 51.1
    assert cells["emdb1"]["found"] is None
    assert "score_hmr_with_shape" in rows["HMR 2.0b + ScoreHMR-b with shape"]["missing"]["3dpw"]
    assert "prohmr_preds" in rows["ProHMR + ScoreHMR-b"]["missing"]["3dpw"]
    assert held["protocols"]["3dpw"]["expected samples"] == "35515"


def test_results_of_several_frames_are_kept_with_the_sequence_of_each():
    found = Results([3, 2], {"opt_accel": 2})
    rows = np.arange(5)
    found.add(Rows(rows, np.ones(5, bool)), {"opt_re": rows * 1.0, "opt_accel": rows[:3] * 1.0})
    figures = store.Figures.of(found, np.array([0, 0, 0, 1, 1]), {})
    assert len(figures.values["opt_accel"]) == 5 and np.isnan(figures.values["opt_accel"][3:]).all()


@pytest.mark.parametrize(
    ("setting", "groups", "lengths"),
    [("keypoints", 1, (8,)), ("video", 2, (4, 4)), ("multiview", 2, (4, 4))],
)
def test_scenes_of_the_open_benchmark_are_cases(tmp_path, monkeypatch, setting, groups, lengths):
    """With a scene that is made up at once: who is whose, and what the truth is."""
    body = body_model.stand_in()
    monkeypatch.setattr(body_model, "open_body", lambda: body)
    still = small_case(open_protocol(setting, "weak"), 8)
    tree = Scene(still.estimate, still.truth.camera, still.truth.keypoints, still.estimate)
    grouped = jax.tree.map(lambda a: np.asarray(a).reshape(groups, -1, *a.shape[1:]), tree)
    asked = []

    def made_up(key, skeleton, clips, setting, strength, size):
        asked.append((setting, strength, clips.names.tolist()))
        return grouped

    monkeypatch.setattr(open_tables, "scene", made_up)
    path = tmp_path / "mocap_poses.npz"
    np.savez(
        path,
        poses=np.zeros((24, 72), np.float32),
        trans=np.zeros((24, 3), np.float32),
        clip_index=np.repeat([0, 1, 2], 8).astype(np.int32),
        clip_names=np.array(["a", "b", "c"]),
        clip_fps=np.full(3, 30.0),
        clip_split=np.array(["val", "test", "val"]),
        clip_source=np.array(["x", "x", "x"]),
    )
    source = open_tables.OpenSource(tmp_path, "val", quick=True)
    source.size = open_tables.QUICK.__class__(frames=8, length=4)
    case = source.case("simulated", f"open-{setting}-medium")
    assert asked == [(setting, "medium", ["a", "c"])]  # nothing of test
    assert case.lengths == lengths and case is source.case("simulated", f"open-{setting}-medium")
    root = np.asarray(body.rest_joints(None)).reshape(-1, 3)[0] + [0, 0, 4]  # where it stands
    np.testing.assert_allclose(case.truth.joints[:, 25], np.tile(root, (8, 1)), atol=1e-5)
    # Two clips of eight frames, spread evenly: half of the samples are of each.
    assert sorted(np.bincount(case.sequence)) == [4, 4]
    assert {name.split("/")[0] for name in case.names} == {"a", "c"}
    with pytest.raises(Missing, match="the prior with-shape is not shipped: train one"):
        source.prior("with-shape")
    with pytest.raises(ValueError, match="--split: expected one of val, test, heldout"):
        open_tables.OpenSource(tmp_path, "all")
