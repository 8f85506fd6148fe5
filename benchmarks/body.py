"""Seconds of the body beside two other packages with a JAX body, on the same body.

    python -m benchmarks.body --data DIR [--poses 1 32 256] [--json FILE]

DIR holds open_body.npz, a body in SMPL's format. Measured are the vertices of a batch of poses, and
the gradients of surface keypoints by pose (axis-angle) and shape; float32, one shape for each
pose, everything compiled. The other packages, body-models and smplfitter, are installed into an
environment of their own in the cache folder, with this interpreter's versions of JAX and numpy;
all run there in one process, in turns, and each figure is the best of many turns. Others' work on
the machine spoils the figures all the same: measure on a quiet one.

A row of the JSON file is one quantity for one number of poses. Times in seconds: `ours` with the
body as an argument of the compiled function, `ours_constant` with the body as a constant of it, the
two packages (as constants: they are no arguments), and `products`, the matrix products that
cannot be avoided, alone. `ratio` is ours over the better package's, `ratio_to_products` over the
products'. `difference` is the largest between our result and a package's, in metres.
"""

import argparse
import importlib.metadata
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import machine
from body_model import SMPL, Skeleton, load
from body_model.cache import cache_folder
from body_model.joints import SMPL_LANDMARKS

PEERS = {"body-models": "0.26.2", "smplfitter": "0.6.0"}
POSES = (1, 32, 256)
KEYPOINTS = tuple(SMPL_LANDMARKS)
SECONDS = 4.0  # for each quantity and number of poses
SAME = 2e-5  # metres that the packages may differ by

Timed = Callable[[], Any]
Function = Callable[..., Any]  # of poses [N, 24, 3] and shapes [N, 10]


def main(arguments: list[str] | None = None) -> int:
    summary, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        "benchmarks.body",
        description=summary,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of open_body.npz")
    parser.add_argument("--poses", type=int, nargs="+", default=POSES, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the rows")
    options = parser.parse_args(arguments)
    if min(options.poses) < 1:
        parser.error("--poses: expected positive numbers")
    path = options.data / "open_body.npz"
    if not path.is_file():
        parser.error(f"--data {options.data}: no open_body.npz in this folder")
    if not _has_peers():
        return _in_environment(sys.argv[1:] if arguments is None else arguments)

    print(f"{'':11}{'poses':>6}{'ours':>10}{'constant':>10}", end="")
    print("".join(f"{name:>13}" for name in PEERS), f"{'products':>10}{'ratio':>8}{'products':>10}")
    rows = []
    for row in measure(path, options.poses):
        rows.append(row)
        peers = "".join(f"{1e3 * row[name]:13.3f}" for name in PEERS)
        print(f"{row['quantity']:11}{row['poses']:6d}{1e3 * row['ours']:10.3f}", end="")
        print(f"{1e3 * row['ours_constant']:10.3f}{peers}{1e3 * row['products']:11.3f}", end="")
        print(f"{row['ratio']:8.2f}{row['ratio_to_products']:10.2f}", flush=True)
    print("milliseconds; the last two columns: ours over the better package, over the products")
    machine.write(rows, options.json)
    return 0


def measure(path: Path, poses: list[int]) -> Iterator[dict[str, Any]]:
    """The rows of the benchmark, one after the other."""
    body = jax.tree.map(jnp.asarray, load(path))
    skeleton = jax.tree.map(jnp.asarray, Skeleton.of(body, KEYPOINTS))
    with tempfile.TemporaryDirectory() as folder:
        peers = {"body-models": _BodyModels(path), "smplfitter": _Smplfitter(path, Path(folder))}
    rng = np.random.default_rng(0)
    for n in sorted(poses):
        pose = jnp.asarray(0.3 * rng.standard_normal((n, 24, 3)), jnp.float32)
        betas = jnp.asarray(rng.standard_normal((n, 10)), jnp.float32)
        weights = jnp.asarray(rng.standard_normal((n, len(KEYPOINTS), 3)), jnp.float32)
        quantities: dict[str, tuple[SMPL | Skeleton, dict[str, Function], Timed]] = {
            "vertices": (
                body,
                {name: peer.vertices for name, peer in peers.items()},
                _mesh_products(body, n),
            ),
            "gradients": (
                skeleton,
                {name: peer.keypoints for name, peer in peers.items()},
                _skeleton_products(skeleton, n),
            ),
        }
        for quantity, (ours, theirs, products) in quantities.items():
            wrap = _gradient_of(weights) if quantity == "gradients" else _value_of
            timed = {
                "ours": _compiled(wrap(_call), ours, pose, betas),
                "ours_constant": _compiled(
                    wrap(lambda p, b, ours=ours: _call(ours, p, b)), pose, betas
                ),
                **{name: _compiled(wrap(f), pose, betas) for name, f in theirs.items()},
            }
            difference = max(_difference(timed["ours"](), timed[name]()) for name in PEERS)
            if difference > SAME * (len(KEYPOINTS) if quantity == "gradients" else 1):
                raise ValueError(f"{quantity}: the packages differ by {difference:.2g}")
            times = _best(timed | {"products": products})
            peer = min(times[name] for name in PEERS)
            yield {
                "quantity": quantity,
                "poses": n,
                **times,
                "ratio": times["ours"] / peer,
                "ratio_to_products": times["ours"] / times["products"],
                "difference": difference,
                "versions": PEERS | {"numpy": np.__version__},
                **machine.describe(),
            }


class _BodyModels:
    """The package body-models."""

    def __init__(self, path: Path) -> None:
        from body_models.smpl.jax import SMPL as Model

        self.model = Model(model_path=path)
        landmarks = dict(load(path).landmarks)
        rows = np.eye(self.model.num_vertices, dtype=np.float32)
        chosen = rows[[landmarks[name] for name in KEYPOINTS]]
        self.regressor = self.model.prepare_point_regressor(jnp.asarray(chosen))

    def vertices(self, pose: Any, betas: Any) -> Any:
        return self.model.forward_vertices(pose[:, 1:], pelvis_rotation=pose[:, 0], shape=betas)

    def keypoints(self, pose: Any, betas: Any) -> Any:
        return self.model.forward_points(
            pose[:, 1:], pelvis_rotation=pose[:, 0], shape=betas, point_regressor=self.regressor
        )


class _Smplfitter:
    """The package smplfitter; its keypoints are vertices of the mesh."""

    def __init__(self, path: Path, folder: Path) -> None:
        from smplfitter.jax import BodyModel

        with np.load(path) as file:
            content = {key: file[key] for key in file.files}
        (folder / "basicmodel_neutral_lbs_10_207_0_v1.1.0.pkl").write_bytes(pickle.dumps(content))
        np.save(folder / "kid_template.npy", np.zeros_like(content["v_template"]))
        self.model = BodyModel("smpl", "neutral", model_root=str(folder))
        landmarks = dict(load(path).landmarks)
        self.chosen = np.array([landmarks[name] for name in KEYPOINTS])

    def vertices(self, pose: Any, betas: Any) -> Any:
        return self.model(pose.reshape(len(pose), -1), betas)["vertices"]

    def keypoints(self, pose: Any, betas: Any) -> Any:
        return self.vertices(pose, betas)[:, self.chosen]


def _call(ours: SMPL | Skeleton, pose: Any, betas: Any) -> Any:
    return ours.vertices(pose, betas) if isinstance(ours, SMPL) else ours(pose, betas)


def _value_of(function: Function) -> Function:
    return function


def _gradient_of(weights: jax.Array) -> Callable[[Function], Function]:
    """Makes a function's gradients, by its last two arguments, of its weighted sum."""

    def wrap(function: Function) -> Function:
        def gradients(*arguments: Any) -> Any:
            def total(*last: Any) -> jax.Array:
                return jnp.sum(weights * function(*arguments[:-2], *last))

            return jax.grad(total, (0, 1))(*arguments[-2:])

        return gradients

    return wrap


def _mesh_products(body: SMPL, n: int) -> Timed:
    """The products of the mesh alone: shape, pose correctives, skinning."""
    rng = np.random.default_rng(1)

    @jax.jit
    def products(body: SMPL, betas: Any, features: Any, frames: Any) -> Any:
        shape = body.shape_directions.reshape(-1, 10) @ betas
        pose = body.pose_directions.reshape(-1, 207) @ features
        return shape, pose, body.skin_weights @ frames

    sizes = ((10, n), (207, n), (24, 12 * n))
    inputs = [jnp.asarray(rng.standard_normal(size), jnp.float32) for size in sizes]
    return lambda: products(body, *inputs)


def _skeleton_products(skeleton: Skeleton, n: int) -> Timed:
    """The products of the keypoints and of their gradients alone."""
    rng = np.random.default_rng(1)

    @jax.jit
    def products(skeleton: Skeleton, features: Any, back: Any) -> Any:
        return skeleton.local @ features, skeleton.local.T @ back

    sizes = ((skeleton.local.shape[1], n), (skeleton.local.shape[0], n))
    inputs = [jnp.asarray(rng.standard_normal(size), jnp.float32) for size in sizes]
    return lambda: products(skeleton, *inputs)


def _compiled(function: Function, *arguments: Any) -> Timed:
    compiled = jax.jit(function)
    return lambda: compiled(*arguments)


def _difference(ours: Any, theirs: Any) -> float:
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    return max(float(jnp.abs(a - b).max()) for a, b in pairs)


def _best(timed: dict[str, Timed]) -> dict[str, float]:
    """The least seconds of each, run in turns; each runs three times in a row."""
    for run in timed.values():
        jax.block_until_ready(run())
    best = dict.fromkeys(timed, float("inf"))
    end = time.perf_counter() + SECONDS
    turns = 0
    while turns < 3 or time.perf_counter() < end:
        turns += 1
        for name, run in timed.items():
            for _ in range(3):
                start = time.perf_counter()
                jax.block_until_ready(run())
                best[name] = min(best[name], time.perf_counter() - start)
    return best


def _has_peers() -> bool:
    for name, version in PEERS.items():
        try:
            if importlib.metadata.version(name) != version:
                return False
        except importlib.metadata.PackageNotFoundError:
            return False
    return True


def _in_environment(arguments: list[str]) -> int:
    """Runs this benchmark in an environment that has the other packages, made if need be."""
    pins = {"jax": jax.__version__, "jaxlib": importlib.metadata.version("jaxlib")}
    pins |= {"numpy": np.__version__} | PEERS
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = cache_folder() / f"benchmarks-body-python{version}-jax{pins['jax']}"
    python, done = folder / "bin" / "python", folder / "done"
    if not done.exists():
        print(f"installing {', '.join(PEERS)} into {folder} ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        packages = [f"{name}=={pin}" for name, pin in pins.items()]
        install = [str(python), "-m", "pip", "install", "--quiet", *packages, "jaxtyping"]
        subprocess.run(install, check=True)
        done.touch()
    environment = {"JAX_PLATFORMS": "cpu"} | os.environ
    environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
    command = [str(python), "-m", "benchmarks.body", *arguments]
    return subprocess.run(command, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
