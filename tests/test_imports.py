"""What importing the packages brings along."""

import json
import subprocess
import sys

HEAVY = (
    "torch", "tensorflow", "tensorflow_datasets", "chumpy", "scipy", "orbax", "matplotlib",
    "anny", "smplx", "pygltflib", "trimesh", "jinja2", "tqdm", "pandas", "cv2", "PIL", "pytest",
)  # fmt: skip
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


def report():
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=True
    )
    return json.loads(run.stdout)


def test_nothing_heavy_is_imported_and_no_device_is_woken():
    found = report()
    print(f"body_model and scorehmr_jax with jax: {found['seconds']:.2f} s")
    brought = {name.partition(".")[0] for name in found["new"]}
    # What jax itself may bring is not ours to choose.
    assert not brought & set(HEAVY)
    assert "scipy.sparse" not in found["new"]
    assert not any(name.startswith("scorehmr_jax") for name in found["by_body_model"])
    assert not any(name.split(".")[0] in ("flax", "optax") for name in found["by_body_model"])
    assert not found["backends"]


def test_import_takes_under_two_seconds():
    # The best of three: other tests run beside this one.
    assert any(report()["seconds"] < 2 for _ in range(3))


def test_the_public_names_are_there():
    import body_model
    import scorehmr_jax

    for package in (body_model, scorehmr_jax):
        assert package.__doc__
        for name in package.__all__:
            assert getattr(package, name) is not None
