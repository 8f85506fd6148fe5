"""The documentation works as it is written, and names what there is."""

import argparse
import importlib
import re
import shlex
from pathlib import Path

import jax
import numpy as np
import pytest
from data_set_files import c3d
from evaluations import evaluate, folder_by_name, quick_refiner
from jax import export
from marker_files import PLACE, standing

import body_model
import scorehmr_jax
from scorehmr_jax.baselines import methods
from scorehmr_jax.commands.main import SUBCOMMANDS
from scorehmr_jax.confidence import SIGNS
from scorehmr_jax.evaluation.tasks import TASKS
from scorehmr_jax.marker_places import PLUG_IN_GAIT

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "THIRD_PARTY.md", "tests/golden/README.md")

DOCS = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page):
    """The Python code of a page, block by block."""
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)


def run(page, code, folder, monkeypatch):
    """Runs blocks as one session, with their line numbers in the page."""
    monkeypatch.chdir(folder)
    text, names = (ROOT / page).read_text(), {"__name__": page}
    for block in code:
        line = text[: text.find(block)].count("\n")
        exec(compile("\n" * line + block, str(ROOT / page), "exec"), names)
    return names


@pytest.fixture
def tables():
    """The tables that the page adds to; they are left as they were."""
    from scorehmr_jax.evaluation.benchmarks import BENCHMARKS
    from scorehmr_jax.evaluation.metric_table import METRICS
    from scorehmr_jax.formats.backbones import BACKBONES
    from scorehmr_jax.networks.registry import NETWORKS

    tables = (BENCHMARKS, METRICS, BACKBONES, NETWORKS)
    before = [dict(table) for table in tables]
    yield tables
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)


@pytest.mark.slow
def test_the_guide_to_extending_runs(tables, tmp_path, monkeypatch):
    sizes = [len(table) for table in tables]
    names = run("docs/extending.md", blocks("docs/extending.md"), tmp_path, monkeypatch)
    assert [len(table) for table in tables] == [size + 1 for size in sizes]
    assert (names["info"].status == 0).all()


def test_the_page_on_the_default_mode_runs(tmp_path, monkeypatch):
    names = run("docs/default_mode.md", blocks("docs/default_mode.md"), tmp_path, monkeypatch)
    shares = names["careful"].blend.shares(
        names["Change"](np.ones(2), np.array([0.4, 0.6]), np.full(2, 0.06)), None
    )
    np.testing.assert_array_equal(shares.body, [1, 0])


@pytest.mark.slow
def test_the_page_on_confidence_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(body_model, "open_body", body_model.stand_in)
    names = run("docs/confidence.md", blocks("docs/confidence.md"), tmp_path, monkeypatch)
    assert np.isfinite(names["info"].expected.joint_error).all() and names["good"].shape == (120,)
    text = (ROOT / "docs/confidence.md").read_text()
    assert all(f"| `{sign}`" in text or f", `{sign}` |" in text for sign in SIGNS)


def test_the_page_on_networks_runs(tmp_path, monkeypatch):
    names = run("docs/networks.md", blocks("docs/networks.md"), tmp_path, monkeypatch)
    assert np.isfinite(names["features"]["img_feats"]).all()


@pytest.mark.slow
def test_the_page_on_baselines_runs(tmp_path, monkeypatch):
    from scorehmr_jax.baselines.registry import BASELINES

    names = run("docs/baselines.md", blocks("docs/baselines.md"), tmp_path, monkeypatch)
    assert (names["info"].status == 0).all()
    text = (ROOT / "docs/baselines.md").read_text()
    assert all(f"`{name}`" in text for name in BASELINES)


@pytest.mark.slow
def test_the_page_on_terms_runs(tmp_path, monkeypatch):
    names = run("docs/terms.md", blocks("docs/terms.md"), tmp_path, monkeypatch)
    assert (names["info"].status == 0).all()


@pytest.mark.slow
def test_the_page_on_calibrated_cameras_runs(tmp_path, monkeypatch):
    names = run("docs/calibrated.md", blocks("docs/calibrated.md"), tmp_path, monkeypatch)
    assert names["refined"].pose.shape == (6, 24, 3, 3)


@pytest.mark.slow
def test_the_page_on_bodies_runs(tmp_path, monkeypatch):
    names = run("docs/bodies.md", blocks("docs/bodies.md"), tmp_path, monkeypatch)
    standing = body_model.stand_in().joints(names["world_pose"], None, names["world_translation"])
    assert (standing[:, 15, 2] > 1.4).all()  # the head, with z up and the ground at 0


@pytest.mark.slow
def test_the_page_on_markers_runs(tmp_path, monkeypatch):
    points, pose = standing()  # y up; the file is z up
    lost = np.ones((len(points), points.shape[1] + 1), bool)
    lost[2] = False
    shin = points[:, [[*PLUG_IN_GAIT].index("LTIB")]]
    points = np.concatenate([points, shin], 1)[..., [0, 2, 1]] * [1, -1, 1]
    (tmp_path / "walk.c3d").write_bytes(c3d(1000 * points, [*PLUG_IN_GAIT, "LWAND"], seen=lost))
    monkeypatch.setattr(body_model, "open_body", body_model.stand_in)
    names = run("docs/markers.md", blocks("docs/markers.md"), tmp_path, monkeypatch)
    fit, attached = names["fit"], names["attached"]
    np.testing.assert_array_equal(fit.found, lost.all(1))
    assert names["off"] < 0.005 and np.isnan(fit.distance[2]).all()
    head = body_model.stand_in().joints(fit.pose, fit.betas, fit.translation)[fit.found, 15]
    true = body_model.stand_in().joints(pose, None, PLACE)[fit.found, 15]
    np.testing.assert_allclose(head, true, atol=0.05)
    assert "LWAND" in attached.names and (tmp_path / "walk.bvh").exists()


def test_the_page_on_features_runs(tmp_path, monkeypatch):
    names = run("docs/features.md", blocks("docs/features.md"), tmp_path, monkeypatch)
    assert names["patch"].shape == (256, 256, 3) and abs(names["points"]).max() < 0.5


@pytest.fixture
def some_body(monkeypatch):
    """The open body; without its data the figure that needs none."""
    try:
        body_model.open_body()
    except (ImportError, ValueError):
        monkeypatch.setattr(body_model, "open_body", body_model.stand_in)


@pytest.mark.slow
def test_the_page_on_exported_programs_writes_a_file_that_needs_no_class_of_ours(
    some_body, tmp_path, monkeypatch
):
    run("docs/export.md", blocks("docs/export.md"), tmp_path, monkeypatch)
    read = export.deserialize(bytearray((tmp_path / "refine_images.bin").read_bytes()))
    given, _ = jax.tree.unflatten(read.in_tree, read.in_avals)
    refined = jax.tree.unflatten(read.out_tree, read.out_avals)
    assert type(given[0]) is dict and type(refined) is dict
    shapes = {name: [str(n) for n in aval.shape] for name, aval in refined.items()}
    assert shapes["pose"] == ["images", "1", "24", "3", "3"]
    assert shapes["status"] == ["images", "1"]
    assert {"cpu", "cuda"} <= set(read.platforms)


def test_the_quick_start_reads_what_the_command_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(body_model, "open_body", body_model.stand_in)
    estimate, keypoints, camera = jax.tree.map(lambda a: a[:1], scorehmr_jax.example())
    (tmp_path / "photo_refined").mkdir()
    file = tmp_path / "photo_refined/refined.npz"
    status = np.zeros(1, int)
    scorehmr_jax.write_estimates(file, estimate, camera, keypoints, status=status, first=estimate)
    names = run("docs/quick_start.md", blocks("docs/quick_start.md"), tmp_path, monkeypatch)
    wanted = body_model.stand_in().vertices(estimate.pose, estimate.betas, estimate.translation)
    np.testing.assert_allclose(names["vertices"], wanted, atol=1e-5)


def test_the_released_loops_on_the_page_are_those_of_the_evaluation(tmp_path, monkeypatch):
    page = "docs/coming_from_pytorch.md"
    names = run(page, blocks(page), tmp_path, monkeypatch)
    for name, task in (("released", "keypoints"), ("video", "video"), ("views", "multiview")):
        assert names[name] == TASKS[task].released


@pytest.mark.parametrize("page", ["README.md", *DOCS])
def test_commands_on_the_pages_have_the_options_that_there_are(page):
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    for module in SUBCOMMANDS:
        module.add_parser(commands)
    text = (ROOT / page).read_text().replace("\\\n", " ")
    lines = re.findall(r"^(?:    )?(scorehmr .*)$", text, re.MULTILINE)
    for line in lines:
        try:
            parser.parse_args(shlex.split(line, comments=True)[1:])
        except SystemExit:
            pytest.fail(line)


def test_evaluations_on_the_page_have_the_options_that_there_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs/evaluation.md").read_text()
    lines = re.findall(r"^    python evaluate.py (.*)$", text, re.MULTILINE)
    assert len(lines) > 4
    for line in lines:
        evaluate.arguments(shlex.split(line))


@pytest.mark.slow
def test_the_first_lines_of_the_readme_run(some_body, tmp_path, monkeypatch, capsys):
    code = blocks("README.md")[:2]
    names = run("README.md", code, tmp_path, monkeypatch)
    before, after = map(float, capsys.readouterr().out.split("->"))
    assert after < before / 2
    assert (names["info"].status == 0).all() and names["info"].losses.shape[1] == 120


def test_the_guides_benchmark_and_metric_are_evaluated(
    tables, golden, tmp_path, monkeypatch, capsys
):
    root = folder_by_name(golden, tmp_path, "h36m_val_multiview", "pkl")
    for folder in (root / "datasets", tmp_path / "cache/hmr2b", tmp_path / "cache/pare"):
        (folder / "h36m_val_multiview.pkl").rename(folder / "studio_test.pkl")
    sizes = np.load(golden / "pack/result_mv.npz")["item_img_size"]
    np.savez(tmp_path / "sizes.npz", img_size_wh=sizes)
    needed = [b for b in blocks("docs/extending.md") if "METRICS" in b or "BENCHMARKS" in b]
    run("docs/extending.md", ["from pathlib import Path\n", *needed], tmp_path, monkeypatch)
    monkeypatch.setattr(methods, "make_refiner", quick_refiner)
    argv = ["studio", "--data-root", str(root), "--out", str(tmp_path / "out")]
    summary = evaluate.main([*argv, "--image-sizes", str(tmp_path / "sizes.npz")])
    assert summary["protocol"]["task"] == "video" and summary["units"]["wrists"] == "mm"
    found = np.load(tmp_path / "out/per_sample.npz")
    assert (found["reg_wrists"] > 0).all() and "wrist error" in capsys.readouterr().out


def test_every_module_of_the_package_has_its_place_in_the_architecture():
    text = (ROOT / "docs/architecture.md").read_text()
    package = ROOT / "scorehmr_jax"
    rooms = {f"`{path.parent.name}/`" for path in package.glob("*/__init__.py")}
    modules = {f"`{path.name}`" for path in package.glob("[!_]*.py")}
    assert not [name for name in rooms | modules if name not in text]


@pytest.mark.parametrize("package", [body_model, scorehmr_jax])
def test_every_public_name_is_on_the_page_of_its_package(package):
    text = (ROOT / f"docs/api/{package.__name__}.md").read_text()
    shown = re.findall(r"^::: (\S+)\.(\w+)$", text, re.MULTILINE)
    assert sorted(name for _, name in shown) == sorted(package.__all__)
    for module, name in shown:
        assert getattr(importlib.import_module(module), name) is getattr(package, name)


def test_every_page_is_in_the_navigation_of_the_site():
    text = (ROOT / "mkdocs.yml").read_text()
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    shown = set(re.findall(r": (\S+\.md)$", text[text.index("nav:") :], re.MULTILINE))
    assert not pages - shown


@pytest.mark.parametrize(
    "page",
    [*PAGES, *DOCS],
)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text()
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    files = [link.partition("#")[0] for link in links if "://" not in link]
    assert not [file for file in files if not (ROOT / page).parent.joinpath(file).exists()]
