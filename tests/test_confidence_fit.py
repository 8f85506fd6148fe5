"""The benchmark that calibrates confidence: its fits find what is there, its figures are right."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
import refining

from benchmarks import confidence as command
from benchmarks.confidence_fit import (
    GAMMA,
    LOGISTIC,
    RISING,
    auc,
    calibration_error,
    crossed,
    expected,
    figures,
    fit,
    regress,
    reliability,
)
from benchmarks.confidence_scenes import Observed, half_of, variants
from scorehmr_jax import confidence
from scorehmr_jax.confidence import SIGNS, Calibration, Signs, calibration_of
from scorehmr_jax.guidance import keypoints_2d
from scorehmr_jax.refine import RefineConfig
from scorehmr_jax.simulation.mocap import Mocap

COUNT = 6000
TRUE = Calibration(
    error=(5.0, 0.4, 0.0, 0.3, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0),
    worse=(4.0, 0.0, 0.9, 0.0, 0.0, 0.0, 0.0, 1.1, 0.0, 0.0),
    joints=tuple(np.linspace(-0.6, 0.6, 24)),
    joint_moved=0.5,
    low=(-20.0,) * len(SIGNS),
    high=(20.0,) * len(SIGNS),
)


def rows_of(true: Calibration, seed: int = 0) -> Observed:
    """Samples whose errors follow from their signs as a calibration says, and scatter."""
    rng = np.random.default_rng(seed)
    size = np.exp(rng.normal(-3.5, 0.7, (8, COUNT)))
    moved = size[0][:, None] * np.exp(rng.normal(0, 0.5, (COUNT, 24)))
    kept, residual, before, oddness, depth, around, motion = size[1:]
    unseen = rng.uniform(0, 0.4, COUNT)
    signs = Signs(moved, kept, residual, before, unseen, 1e3 * oddness, depth, around, motion)
    signs = jax.tree.map(lambda a: np.asarray(a, np.float32), signs)
    half = np.arange(COUNT) % 2
    tags = {"strength": np.where(half, "weak", "strong")}
    told = expected(true, Observed(signs, moved, kept, half, tags))
    errors = told.joint_error * rng.gamma(4, 1 / 4, (COUNT, 1)) * rng.gamma(4, 1 / 4, (COUNT, 24))
    harmed = rng.uniform(size=COUNT) < told.worse
    first = errors.mean(-1) + np.where(harmed, -3, 3)
    return Observed(signs, errors, first, half, tags)


@pytest.fixture(scope="module")
def rows() -> Observed:
    return rows_of(TRUE)


def test_a_fit_finds_what_the_errors_follow(rows):
    found = fit(rows, "video")
    told, wanted = expected(found, rows), expected(TRUE, rows)
    np.testing.assert_allclose(found.error[1:], TRUE.error[1:], atol=0.06)
    assert np.median(np.abs(told.error / wanted.error - 1)) < 0.02
    assert np.abs(told.worse - wanted.worse).mean() < 0.02
    assert found.joint_moved == pytest.approx(0.5, abs=0.03)
    np.testing.assert_allclose(found.joints, TRUE.joints, atol=0.05)


def test_signs_without_meaning_weigh_nothing_and_promised_ones_never_lessen_an_error():
    falling = replace(TRUE, error=(5.0, 0.4, 0.0, -0.3, 0.0, 0.5, -0.2, 0.0, 0.0, 0.0))
    found = fit(rows_of(falling), "keypoints")
    weights = dict(zip(SIGNS, found.error[1:], strict=True))
    assert weights["around"] == weights["motion"] == 0 != weights["unseen"]
    assert all(weights[name] >= 0 for name in RISING) and weights["residual"] == 0
    views = fit(rows_of(TRUE), "multiview")
    assert views.worse[1 + SIGNS.index("motion")] == 0 != views.worse[1 + SIGNS.index("around")]


def test_what_judges_a_fit_was_not_in_it(rows):
    # The second half errs three times as much; a fit to it expects that of the first.
    factor = np.where(rows.half == 1, 3.0, 1.0)
    uneven = replace(rows, joint_error=rows.joint_error * factor[:, None])
    told = crossed(uneven, "video")
    plain = expected(TRUE, rows)
    ratio = told.error / plain.error
    assert np.median(ratio[rows.half == 0]) == pytest.approx(3, rel=0.05)
    assert np.median(ratio[rows.half == 1]) == pytest.approx(1, rel=0.05)


def test_figures_of_a_perfect_expectation(rows):
    told = expected(TRUE, rows)
    found = figures(told, rows)
    assert found["error_expected"] == pytest.approx(found["error_true"], rel=0.03)
    assert found["worse_expected"] == pytest.approx(found["worse_true"], abs=0.02)
    assert found["worse_ece"] < 0.03 and found["error_ece"] / found["error_true"] < 0.05
    assert found["worse_brier"] < found["worse_brier_of_mean"] and found["worse_auc"] > 0.7
    assert found["best_half"] < found["error_true"]


def test_regression_by_hand():
    x = np.repeat([[0.0], [1.0]], 50, 0)
    y = np.where(np.arange(100) % 2, 3.0, 1.0) * np.where(x[:, 0], 5, 1)
    np.testing.assert_allclose(regress(x, y, GAMMA, ridge=0), [np.log(2), np.log(5)], atol=1e-6)
    y = np.concatenate([np.arange(50) < 10, np.arange(50) < 40]).astype(float)
    odds = np.log([0.2 / 0.8, 0.8 / 0.2])
    np.testing.assert_allclose(regress(x, y, LOGISTIC, ridge=0), [odds[0], odds[1] - odds[0]])


def test_area_bins_and_calibration_error_by_hand():
    true = np.array([0, 0, 1, 0, 1, 1.0])
    assert auc(np.arange(6.0), true) == pytest.approx(8 / 9)
    assert auc(np.ones(6), true) == 0.5 and np.isnan(auc(np.ones(3), np.zeros(3)))
    assert reliability(np.arange(6.0), true, 3) == [(0.5, 0.0, 2), (2.5, 0.5, 2), (4.5, 1.0, 2)]
    told = np.linspace(0, 1, 1000)
    assert calibration_error(told, told) == 0
    assert calibration_error(told, told + 0.25) == pytest.approx(0.25)


def few_clips() -> Mocap:
    length = np.array([40, 33, 90, 70])
    clip = np.repeat(np.arange(4), length)
    poses = np.broadcast_to(np.arange(len(clip))[:, None, None], (len(clip), 24, 3)).astype(float)
    names = np.array(["a", "b", "c", "d"])
    split, collection = (np.array([name] * 4) for name in ("train", "deepmimic"))
    split[0] = "val"
    return Mocap(poses, poses[:, 0], clip, names, np.full(4, 30.0), split, collection)


def test_halves_share_no_clip_and_differ_from_cell_to_cell():
    clips = few_clips()
    first, second = (half_of(clips, half, 5) for half in (0, 1))
    assert {*first.clip} == {0, 2} and {*second.clip} == {1, 3}
    assert np.bincount(first.clip)[0] >= 32 and np.bincount(second.clip)[1] >= 32
    starts = {half_of(clips, 0, seed).poses[0, 0, 0] for seed in range(20)}
    assert len(starts) > 3 and max(starts) <= 8


def test_the_picture_and_the_table(tmp_path, rows, capsys):
    bins = {"images": command._bins(expected(TRUE, rows), rows)}
    command.draw(tmp_path / "p.png", bins)
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    command.print_bins(bins)
    assert capsys.readouterr().out.count("expected/came") == 3
    row = {"loop": "images", **figures(expected(TRUE, rows), rows)}
    command.print_tables([row | {"unseen": command.KNOWN}, row | {"unseen": "network: other"}])
    printed = capsys.readouterr().out
    assert f"| images | {row['worse_expected']:.1%} / {row['worse_true']:.1%} |" in printed
    assert "| network: other | " in printed


def test_the_command_writes_what_refine_reads(tmp_path, rows, monkeypatch, capsys):
    asked = []

    def observed(body, sets, variant, frames):
        asked.append((variant, frames))
        kinds = dict.fromkeys(("detector", "network", "strength", "clips"), np.full(COUNT, "usual"))
        return replace(rows, tags=kinds)

    file = tmp_path / "confidence.json"
    monkeypatch.setattr(command, "observed", observed)
    monkeypatch.setattr(command, "FILE", file)
    monkeypatch.setattr(command.mocap, "read", lambda path: few_clips())
    monkeypatch.setattr(command.body_model, "open_body", lambda: None)
    options = ["--data", str(tmp_path), "--write", "--json", str(tmp_path / "rows.json")]
    assert command.main([*options, "--plot", str(tmp_path / "p.png"), "--frames", "64"]) == 0
    assert len(asked) == len(variants()) and {frames for _, frames in asked} == {64}
    told = json.loads((tmp_path / "rows.json").read_text())
    assert {row["loop"] for row in told["rows"]} == {*variants()} == {*told["bins"]}
    assert (tmp_path / "p.png").is_file() and "| images |" in capsys.readouterr().out
    monkeypatch.setattr(confidence, "FILE", file)
    confidence.fits.cache_clear()
    try:
        wanted = fit(rows, "keypoints")
        terms = (keypoints_2d(refining.people().keypoints, refining.people().camera),)
        assert calibration_of(RefineConfig.for_images(), terms) == wanted
        lifted = calibration_of(RefineConfig.for_images(lifted=True), terms)
        assert lifted == wanted and calibration_of(RefineConfig(), terms) is None
    finally:
        confidence.fits.cache_clear()
    with pytest.raises(SystemExit):
        command.main([*options, "--loops", "video"])
    assert "--write: expected all loops" in capsys.readouterr().err


def test_every_kind_is_judged_by_fits_that_have_not_seen_it(rows):
    variant = variants()["video"]
    told = crossed(rows, "video")
    shown = np.where(np.arange(COUNT) % 3, "shows less", "usual")
    others = dict.fromkeys(("detector", "strength", "clips"), np.full(COUNT, "another"))
    found = [*command.judged(variant, told, replace(rows, tags={"network": shown, **others}))]
    assert [row["unseen"] for row in found] == ["clips' half", "network: shows less"]
    assert found[0]["n"] == COUNT and found[1]["n"] == (shown == "shows less").sum()
