"""Imports: what they bring along, which room may import which, and the public names."""

import ast
import functools
import json
import subprocess
import sys
from pathlib import Path

import public_names

ROOT = Path(__file__).resolve().parents[1]

HEAVY = {
    *("torch", "tensorflow", "tensorflow_datasets", "chumpy", "scipy", "orbax", "matplotlib"),
    *(
        "anny",
        "smplx",
        "av",
        "ai_edge_litert",
        "mediapipe",
        "pygltflib",
        "trimesh",
        "jinja2",
        "viser",
        "tqdm",
        "pandas",
        "cv2",
        "PIL",
        "pytest",
    ),
}
SCRIPT = """
import json, sys, time
import jax, jax.numpy
before = set(sys.modules)
import body_model
after_body = set(sys.modules)
import scorehmr_jax
seconds = time.process_time()  # since Python's own start, jax included
print(json.dumps({
    "seconds": seconds,
    "new": sorted(set(sys.modules) - before),
    "by_body_model": sorted(after_body - before),
    "backends": bool(jax._src.xla_bridge._backends),
}))
"""


@functools.cache
def report(again=0):
    """Imports both packages in a process of their own, in which a warning is an error."""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_nothing_heavy_is_imported_and_no_device_is_woken():
    found = report()
    print(f"body_model and scorehmr_jax with jax: {found['seconds']:.2f} s")
    brought = {name.partition(".")[0] for name in found["new"]}
    # What jax itself may bring is not ours to choose.
    assert not brought & HEAVY
    assert "scipy.sparse" not in found["new"]
    assert not any(name.startswith("scorehmr_jax") for name in found["by_body_model"])
    assert not any(name.split(".")[0] in ("flax", "optax") for name in found["by_body_model"])
    assert not found["backends"]


# Each room may import those before it, and the plain modules of the package's top.
ROOMS = (
    *("networks", "convert", "formats", "detectors", "regression", "simulation", "datasets"),
    *("evaluation", "baselines", "output", "training", "commands"),
)
STORY = (
    "types",
    "shapes",
    "units",
    "lens",
    "camera",
    "calibration",
    "diffusion",
    "prior",
    "terms",
    "guidance",
    "evidence",
    "motion",
    "restraints",
    "stopping",
    "checks",
    "screening",
    "blending",
    "problem",
    "moments",
    "sampler",
    "refine",
    "pose_gaussian",
    "ground",
    "lift_points",
    "lift_steps",
    "lift_start",
    "lift",
    "lift_2d",
    "marker_places",
    "marker_points",
    "markers",
)


def imports_of(path):
    """Modules and names that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_no_room_imports_one_above_it():
    package = ROOT / "scorehmr_jax"
    assert {path.name for path in package.iterdir() if (path / "__init__.py").is_file()} == set(
        ROOMS
    )
    for floor, room in enumerate(ROOMS):
        above = tuple(f"scorehmr_jax.{other}" for other in ROOMS[floor + 1 :])
        for path in (package / room).rglob("*.py"):
            wrong = [name for name in imports_of(path) if name.startswith(above)]
            assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_the_story_stands_alone():
    around = tuple(f"scorehmr_jax.{room}" for room in ROOMS if room != "networks")
    for name in STORY:
        path = ROOT / "scorehmr_jax" / f"{name}.py"
        wrong = [module for module in imports_of(path) if module.startswith(around)]
        assert not wrong, f"{path.name} imports {wrong}"
    for path in (ROOT / "body_model").rglob("*.py"):
        wrong = [module for module in imports_of(path) if module.startswith("scorehmr_jax")]
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_importing_the_package_brings_only_what_a_refinement_needs():
    brought = {name for name in report()["new"] if name.startswith("scorehmr_jax.")}
    unneeded = {f"scorehmr_jax.{r}" for r in ("simulation", "evaluation", "datasets", "output")}
    assert not brought & unneeded


def test_import_takes_under_two_seconds():
    # The best of three: other tests run beside this one.
    assert any(report(again)["seconds"] < 2 for again in range(3))


def test_public_names_change_on_purpose():
    found, known = public_names.public_names(), public_names.FILE.read_text()
    changed = set(found.splitlines()) ^ set(known.splitlines())
    assert found == known, (
        f"public names or their parameters changed: {sorted(changed)}. If that is meant, say so in "
        "CHANGELOG.md and run: python tests/public_names.py"
    )
