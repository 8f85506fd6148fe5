"""The open benchmark's page: what is measured, what is run, and what is written from its file."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_tables import Source, small_case

from benchmarks import open_page
from benchmarks.open_methods import OPEN_METRICS, prepare, table_of
from benchmarks.open_page_text import page_of, panels_of
from benchmarks.scenes import FULL, SETTINGS
from body_model.joints import OPENPOSE_25
from scorehmr_jax.baselines.registry import for_task
from scorehmr_jax.evaluation.benchmarks import open_protocol
from scorehmr_jax.evaluation.comparison import Comparison
from scorehmr_jax.evaluation.tables.layout import Row
from scorehmr_jax.evaluation.tables.stand_ins import START
from scorehmr_jax.types import Estimate

ABOUT = {"cores": 2, "machine": "M", "load": 1.5, "batch": 128}
ABOUT |= {"commit": "abc", "split": "val", "samples": 96}


def row(method, title, re, against, strength="weak", setting="keypoints", **others):
    figures = {"mpjpe": [80.0, 70.0, 90.0], "pelvis": [250.4, None, None], "pixels": [9.0, 8, 10]}
    return {
        **ABOUT,
        "setting": setting,
        "strength": strength,
        "method": method,
        "title": title,
        "re": re,
        **figures,
        "worse": [0.125, 0.1, 0.15],
        "against_default": against,
        "seconds": 0.01234,
        **others,
    }


ROWS = [
    row("estimate", "first estimate", [80.0, 70.0, 90.0], [20.0, 10.0, 30.0]),
    row("flow", "ProHMR-fitting", [40.04, 36.0, 44.0], [-20.0, -30.0, -10.0]),
    row("smplify", "SMPLify", [59.0, 50.0, 70.0], [-1.0, -5.0, 3.0]),
    row("default", "default mode, open-cond", [60.0, 50.0, 70.0], None),
    row("estimate", "first estimate", [40.0, None, None], [9.0, None, None], "strong"),
    row("default", "default mode, open-cond", [31.0, 30.0, 32.0], None, "strong"),
    row(
        "estimate",
        "first estimate",
        [93.0, 90, 95],
        [9.0, 8, 10],
        setting="video",
        slide=[7.25, 7, 8],
    ),
]


def test_the_page_is_what_the_command_makes_of_its_file(tmp_path):
    (tmp_path / "rows.json").write_text(json.dumps(ROWS))
    assert open_page.main([str(tmp_path / "rows.json"), "--docs", str(tmp_path / "docs")]) == 0
    page = (tmp_path / "docs/open_benchmark.md").read_text()
    assert page == page_of(ROWS)
    assert (tmp_path / "docs/images/open_benchmark.png").read_bytes()[:4] == b"\x89PNG"
    images, videos = page.split("## Videos\n")
    weak, strong = images.split("### Strong network\n")
    head = "| method | PA-MPJPE [95%] | against default [95%] | worse | MPJPE | pelvis | 2D px |"
    assert (
        f"{head} ms/frame |\n|---|---:|---:|---:|---:|---:|---:|---:|\n| first estimate |" in weak
    )
    flow = "| **40.0 [36.0, 44.0]** | -20.0 [-30.0, -10.0] | 12.5% | 80.0 | 250 | 9.0 | 12.34 |"
    assert f"| ProHMR-fitting {flow}" in weak
    assert "| first estimate | 80.0 [70.0, 90.0] | +20.0 [+10.0, +30.0] | 12.5% |" in weak
    assert "| first estimate | 40.0 | +9.0 | 12.5% | 80.0 | 250 | 9.0 | - |" in strong
    # SMPLify is ahead on the mean alone.
    assert "the whole interval below 0: ProHMR-fitting (weak)." in weak
    assert "| sliding |" in videos and "| 7.2 |" in videos and "sliding |" not in images
    assert "`val`, 96 frames in each cell. What a method weighs was chosen on these clips" in page
    assert "### Medium" not in page
    assert panels_of(ROWS)["Single images"]["SMPLify"] == {"weak": (59.0, 50.0, 70.0)}


def test_the_page_tells_the_command_and_the_runs_that_made_it():
    quick = "    python -m benchmarks.open_page FILE.json --data DIR --split val --quick\n\n"
    page = page_of(ROWS)
    assert quick in page and "They were run on 2 cores of M (load 1.5), commit abc." in page
    page = page_of([row | {"split": "test", "samples": FULL.frames} for row in ROWS])
    assert quick.replace("val --quick", "test") in page
    # Settings that were run one by one: elsewhere, and then with other code.
    elsewhere = [row | ({"load": 2} if row["setting"] == "video" else {}) for row in ROWS]
    told = (
        "run by itself: Single images on 2 cores of M (load 1.5), commit abc; Videos on 2 cores of "
        "M (load 2.0), commit "
    )
    page = page_of(elsewhere)
    assert f"{told}abc." in page and "Commits differ" not in page
    other = [row | ({"commit": "def"} if row["setting"] == "video" else {}) for row in elsewhere]
    assert f"{told}def. Commits differ: " in page_of(other)


def test_one_setting_at_a_time_joins_the_file(tmp_path, monkeypatch, capsys):
    asked = []

    def run(setting, data, split, quick, folder):
        asked.append((setting, split, quick, folder))
        return [ROWS[0] | {"setting": setting, "title": f"{setting} anew"}]

    monkeypatch.setattr(open_page, "run", run)
    file, docs = tmp_path / "rows.json", ["--docs", str(tmp_path / "docs")]
    with pytest.raises(SystemExit):
        open_page.main([str(file), *docs])
    assert "rows.json: no such file; please give --data" in capsys.readouterr().err
    given = [str(file), "--data", "DIR", "--split", "val", "--quick", *docs]
    open_page.main([*given, "--setting", "video"])
    open_page.main([*given, "--setting", "keypoints"])
    assert [row["title"] for row in open_page.read(file)] == ["keypoints anew", "video anew"]
    open_page.main(given)
    assert [each[0] for each in asked] == ["video", "keypoints", *SETTINGS]
    assert asked[0][1:] == ("val", True, tmp_path)
    for other in (given[:-3], [*given[:3], "--split", "test", *given[-3:]]):
        with pytest.raises(ValueError, match=r"expected \d+ samples of \w+ in each cell, as asked"):
            open_page.main([*other, "--setting", "video"])
    assert len(asked) == 5  # it is refused before anything runs


def test_every_method_has_a_row_in_each_setting():
    for setting in SETTINGS:
        table = table_of(setting)
        titles = [row.title for row in table.rows]
        assert len(set(titles)) == len(titles) and table.reference == titles[-1]
        methods = [row.method for row in table.rows]
        assert {*for_task(setting), "estimate", "scorehmr", "default"} <= set(methods)
        assert ("smplify+keypoints" in methods) == (setting == "multiview")
        metrics = {column.metric for column in table.columns}
        assert ({"accel", "slide"} <= metrics) == (setting == "video")


def test_the_keypoints_guide_where_a_row_says_so():
    case = small_case(open_protocol("multiview", "weak"))
    modes = {
        name: prepare(name, case, None, {}).mode for name in ("adam-free", "adam-free+keypoints")
    }
    assert modes == {"adam-free": "released", "adam-free+keypoints": "default"}


@pytest.fixture(scope="module")
def standing():
    """Six frames of a body that stands still, at first, and then goes 40 mm a frame."""
    case = small_case(open_protocol("video", "weak"))
    goes = np.maximum(np.arange(6) - 3, 0)[:, None, None] * np.float32([0.04, 0, 0])
    truth = replace(case.truth, joints=case.truth.joints + goes)
    pose = np.tile(np.eye(3, dtype=np.float32), (6, 24, 1, 1))
    return replace(case, truth=truth, estimate=Estimate(pose, case.estimate.betas, np.float32(
        [[0.01 * i, 0, 4] for i in range(6)])))  # fmt: skip


def test_what_slides_is_a_foot_that_stands(standing):
    case = standing
    comparison = Comparison(
        case.protocol, case.skeleton, case.body, case.estimate, case.truth, jnp.ones(6, bool)
    )
    slid = OPEN_METRICS["slide"].measure(comparison)
    np.testing.assert_allclose(slid[:3], 10, atol=1e-2)
    assert np.isnan(slid[3:]).all()
    pixels = OPEN_METRICS["pixels"].measure(comparison)
    # 10 mm aside at 4 m, focal length 1500; at last 50 mm aside, where the truth is 80.
    np.testing.assert_allclose(pixels[0], 0, atol=1e-2)
    np.testing.assert_allclose(pixels[1], 3.75, rtol=0.05)
    np.testing.assert_allclose(pixels[5], 11.25, rtol=0.05)
    assert len(OPENPOSE_25) == comparison.projected.shape[-2]


def test_a_setting_that_is_run_gives_a_row_for_each_cell(tmp_path, monkeypatch, standing):
    class Video(Source):
        def __init__(self, data, split, quick):
            assert (data, split, quick) == (Path("DIR"), "val", True)

        def case(self, start, protocol):
            return replace(standing, protocol=open_protocol(*protocol.split("-")[1:]))

    table = table_of("video")
    kept = (table.rows[0], Row(table.reference, START, "estimate"))
    monkeypatch.setattr(open_page, "OpenSource", Video)
    monkeypatch.setattr(open_page, "table_of", lambda setting: replace(table, rows=kept))
    ready = []
    monkeypatch.setattr(
        open_page, "prepare", lambda name, *given: ready.append(name) or prepare(name, *given)
    )
    found = open_page.run("video", Path("DIR"), "val", True, tmp_path)
    assert [(row["strength"], row["title"]) for row in found[:2]] == [
        ("weak", "first estimate"),
        ("weak", table.reference),
    ]
    assert ready == ["estimate"]  # one program for three strengths
    assert len(found) == 6 and {row["split"] for row in found} == {"val"}
    first, default = found[:2]
    assert first["slide"][0] == pytest.approx(10, abs=0.01) and first["re"][0] < 0.01
    assert first["against_default"][0] == 0 and default["against_default"] is None
    assert first["seconds"] > 0 and first["samples"] == 96 and first["worse"][0] == 0
    assert json.loads(json.dumps(found)) == found and jax.__version__ == first["jax"]
    assert len([*(tmp_path / "runs").iterdir()]) == 3  # both rows of a strength are the same


def test_a_method_is_made_ready_once_for_each_prior(monkeypatch, standing):
    made = []

    def ready(name, case, prior, changes):
        made.append((name, prior))
        return prepare("estimate", case, None, {})

    monkeypatch.setattr(open_page, "prepare", ready)
    once, priors = open_page.once_for_all(), ["one", "other"]
    for name, prior in [("scorehmr", p) for p in priors * 2] + [("default", priors[0])]:
        once(name, standing, prior, {})
    assert made == [("scorehmr", "one"), ("scorehmr", "other"), ("default", "one")]
