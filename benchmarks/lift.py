"""Lifting 3D joints to a body, beside smplfitter, on motion capture with 2 cm of noise.

    python -m venv VENV
    VENV/bin/pip install smplfitter==0.6.0 'jax==<ours>' 'numpy==<ours>' flax optax jaxtyping
    PYTHONPATH=. VENV/bin/python -m benchmarks.lift --data DATA [--poses 1 256] [--json FILE]

DATA holds open_body.npz and mocap_poses.npz, of which the val split is used: 256 frames, each with
a shape of its own, before a camera. Both are given all 24 joints with normal noise; float32,
compiled. smplfitter is made for meshes: here its vertices have weight 0, and its penalties of the
shape are those that fit the noise. Each figure is the best of many turns in one process.
"""

import argparse
import json
import pickle
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import body_model
from body_model.files import write_text
from body_model.joints import SMPL_24
from body_model.rotations import axis_angle_to_matrix
from scorehmr_jax.lift import LiftConfig, make_lifter
from scorehmr_jax.simulation import mocap

NOISE = 0.02  # metres
SAMPLES = 256
SECONDS = 4.0  # for each number of poses


def main(arguments: list[str] | None = None) -> None:
    summary, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        "benchmarks.lift",
        description=summary,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--poses", type=int, nargs="+", default=(1, SAMPLES), metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the rows")
    options = parser.parse_args(arguments)
    body = body_model.load(options.data / "open_body.npz")
    joints, given = people(body, options.data / "mocap_poses.npz")
    ours = make_lifter(body, SMPL_24, config=LiftConfig(noise=NOISE, offset=0.0))
    fits: dict[str, Callable[[Any], Any]] = {
        "lift": lambda points: ours(points)[0],
        "smplfitter": _smplfitter(options.data / "open_body.npz"),
    }
    placed = jax.jit(body.joints)
    errors = {}
    for name, fit in fits.items():
        found = fit(given) if name == "smplfitter" else placed(*jax.tree.leaves(fit(given)))
        errors[name] = 1000 * float(np.linalg.norm(np.asarray(found) - joints, axis=-1).mean())
        print(f"{name:12} joint error {errors[name]:.1f} mm", flush=True)
    rows = []
    for n in options.poses:
        points = jnp.asarray(given[:n])
        seconds = _best({name: partial(fit, points) for name, fit in fits.items()})
        ratio = seconds["lift"] / seconds["smplfitter"]
        print(f"{n:4} poses", {k: f"{1000 * v:.2f} ms" for k, v in seconds.items()}, end=" ")
        print(f"ratio {ratio:.3f}", flush=True)
        rows.append({"poses": n, "seconds": seconds, "ratio": ratio, "joint_error_mm": errors})
    if options.json:
        write_text(options.json, json.dumps(rows, indent=1) + "\n")


def people(body: body_model.SMPL, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """True joints and joints with noise, [256, 24, 3] metres."""
    clips = mocap.read(path).select("val")
    rng = np.random.default_rng(0)
    frames = rng.choice(len(clips.poses), SAMPLES, replace=False)
    pose = axis_angle_to_matrix(jnp.asarray(clips.poses[frames]))
    turn = mocap.camera_rotations(jax.random.key(1), (SAMPLES,))
    pose = pose.at[:, 0].set(turn @ pose[:, 0])
    betas = rng.standard_normal((SAMPLES, 10)).astype(np.float32)
    joints = np.asarray(body.joints(pose, betas, np.array([0.1, 0.2, 4.0], np.float32)))
    return joints, joints + NOISE * rng.standard_normal(joints.shape).astype(np.float32)


def _smplfitter(path: Path) -> Callable[[Any], Any]:
    """The package smplfitter: a function from joints to the joints of the body that it fits."""
    from smplfitter.jax import BodyFitter, BodyModel

    with np.load(path) as file, tempfile.TemporaryDirectory() as folder:
        content = {key: file[key] for key in file.files}
        name = Path(folder) / "basicmodel_neutral_lbs_10_207_0_v1.1.0.pkl"
        name.write_bytes(pickle.dumps(content))
        np.save(Path(folder) / "kid_template.npy", np.zeros_like(content["v_template"]))
        model = BodyModel("smpl", "neutral", model_root=folder)
    fitter = BodyFitter(model)

    @jax.jit
    def fit(joints: Any) -> Any:
        vertices = jnp.broadcast_to(
            joints.mean(1, keepdims=True), (len(joints), model.num_vertices, 3)
        )
        found = fitter.fit(
            vertices,
            joints,
            vertex_weights=jnp.zeros(vertices.shape[:2]),
            joint_weights=jnp.ones(joints.shape[:2]),
            beta_regularizer=NOISE**2,
            beta_regularizer2=NOISE**2,
            requested_keys=["pose_rotvecs", "shape_betas"],
        )
        return model(found["pose_rotvecs"], found["shape_betas"], found["trans"])["joints"]

    return fit


def _best(timed: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """The least seconds of each, run in turns."""
    for run in timed.values():
        jax.block_until_ready(run())
    best = dict.fromkeys(timed, float("inf"))
    end, turns = time.perf_counter() + SECONDS, 0
    while turns < 3 or time.perf_counter() < end:
        turns += 1
        for name, run in timed.items():
            start = time.perf_counter()
            jax.block_until_ready(run())
            best[name] = min(best[name], time.perf_counter() - start)
    return best


if __name__ == "__main__":
    main()
