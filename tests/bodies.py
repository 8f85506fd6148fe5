"""What several tests share: bodies, priors and problems, golden or small, and numerical checks."""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from golden.cut import CutSet

from body_model import SMPL, Skeleton
from body_model.joints import OPENPOSE_25
from body_model.rotations import axis_angle_to_matrix
from scorehmr_jax import diffusion
from scorehmr_jax.camera import pinhole, project
from scorehmr_jax.guidance import Term, keypoints_2d, multiview, smooth
from scorehmr_jax.load import load_prior
from scorehmr_jax.networks.denoiser import ResidualMLP
from scorehmr_jax.prior import Prior
from scorehmr_jax.refine import RefineConfig
from scorehmr_jax.stopping import Never, StepStop
from scorehmr_jax.types import Camera, Estimate, Keypoints2D

HERE = Path(__file__).parent / "golden"  # the few golden arrays that come with the tests
VARIANTS = ("tiny_pare", "tiny_betas", "tiny_prohmr")


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {key: file[key] for key in file.files}


def close(name: str, found: Any, wanted: Any, atol: float = 0.0, rtol: float = 0.0) -> None:
    """assert_allclose that names the tensor."""
    np.testing.assert_allclose(found, wanted, rtol, atol, err_msg=name)


def relative(name: str, found: Any, wanted: Any, limit: float) -> None:
    """That the largest difference is small beside the largest number."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    error = np.abs(found - wanted).max() / np.abs(wanted).max()
    assert error < limit, f"{name}: relative error {error:.2g}"


def slope(function: Callable, x: Any, direction: Any, step: float) -> float:
    """Central difference of a scalar function of a pytree along a direction."""

    def moved(sign: float) -> Any:
        return jax.tree.map(lambda a, d: a + sign * step * d, x, direction)

    return float(function(moved(1.0)) - function(moved(-1.0))) / (2 * step)


def dot(a: Any, b: Any) -> float:
    return float(sum(jnp.sum(x * y) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True)))


def random_like(key: jax.Array, tree: Any) -> Any:
    leaves, treedef = jax.tree.flatten(tree)
    keys = jax.random.split(key, len(leaves))
    drawn = [jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(treedef, drawn)


@contextmanager
def compilations() -> Iterator[list[str]]:
    """Collects one entry for every program that XLA compiles inside."""
    seen: list[str] = []
    open_ = True

    def listen(event: str, *_: Any, **__: Any) -> None:
        if open_ and event == "/jax/core/compile/backend_compile_duration":
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seen
    finally:
        open_ = False


def products(program: Any) -> list[Any]:
    """The precision of every matrix product of a jaxpr, those of inner programs included."""
    found = []
    for equation in getattr(program, "jaxpr", program).eqns:
        if equation.primitive.name == "dot_general":
            found.append(equation.params["precision"])
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_program):
            if _is_program(value):
                found += products(value)
    return found


def _is_program(x: Any) -> bool:
    return hasattr(getattr(x, "jaxpr", x), "eqns")


# The released code's synthetic world.


def golden_body(golden: Path, dtype: Any = np.float32) -> SMPL:
    g = arrays(golden / "smpl_synthetic.npz")
    keys = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights")
    return SMPL(*(g[key].astype(dtype) for key in keys), g["f"])


def golden_skeleton(golden: Path, dtype: Any = np.float32) -> Skeleton:
    """The 44 keypoints of the released code."""
    regressor = arrays(golden / "smpl_synthetic.npz")["J_regressor_extra"]
    return Skeleton.of(golden_body(golden, dtype), OPENPOSE_25, regressor)


def golden_prior(golden: Path, variant: str, dtype: Any = np.float32) -> Prior:
    return load_prior(
        golden / "ckpt" / f"{variant}_ema_f16.npz",
        betas_stats=golden / "pack" / "betas_stats_eft_fits.npz",
        dtype=np.dtype(dtype).name,
    )


def released_state(golden: Path, variant: str) -> dict[str, np.ndarray]:
    """A state_dict of the released denoiser; where its weights are not at hand, of random ones."""
    layout = json.loads((HERE / "layouts.json").read_text()).get(variant)
    if layout is None or not isinstance(golden, CutSet):
        return arrays(golden / "ckpt" / f"{variant}_ema_f16.npz")
    rng = np.random.default_rng(0)
    return {key: (0.1 * rng.standard_normal(s)).astype(np.float16) for key, s in layout.items()}


@dataclass(frozen=True)
class GoldenLoop:
    arrays: dict[str, np.ndarray]
    prior: Prior
    estimate: Estimate
    features: jax.Array
    terms: tuple[Term, ...]
    config: RefineConfig


def golden_loop(golden: Path, name: str, dtype: Any = np.float32) -> GoldenLoop:
    """The inputs of a recorded run of the released loop."""
    g = arrays(golden / f"{name}.npz")
    settings = json.loads(str(g["settings"]))
    kwargs, guidance = settings.get("kwargs", settings), settings.get("guidance", {})

    def cast(key: str) -> jax.Array:
        return jnp.asarray(g[key], dtype)

    confidence = np.array(g["joints_conf"][..., 0], dtype)
    confidence[:, 25:] = 0
    if not guidance.get("use_hips", True):
        confidence[:, [8, 9, 12]] = 0
    camera = Camera(cast("focal_length"), cast("camera_center"), cast("img_size"))
    available = {
        "keypoint_guidance": keypoints_2d(
            Keypoints2D(cast("joints_2d"), jnp.asarray(confidence)), camera
        ),
        "temporal_guidance": smooth(),
        "multiview_guidance": multiview(),
    }
    return GoldenLoop(
        arrays=g,
        prior=golden_prior(golden, settings["variant"], dtype),
        estimate=Estimate(cast("pred_pose"), cast("pred_betas"), cast("init_cam_t")),
        features=cast("cond_feats"),
        terms=tuple(term for key, term in available.items() if kwargs.get(key)),
        config=RefineConfig.released(
            iterations=guidance.get("optim_iters", 1),
            start=guidance.get("sample_start", 50),
            step=guidance.get("ddim_step_size", 2),
            stop=StepStop() if guidance.get("early_stop") else Never(),
        ),
    )


# A small world of our own: quick to compile, and it needs no files.


def small_prior(
    features: int = 8,
    hidden: int = 16,
    blocks: int = 1,
    seed: int = 0,
    dtype: Any = np.float32,
    shape_features: int = 0,
) -> Prior:
    """A prior with random weights."""
    network = ResidualMLP(features, hidden, blocks, shape_features)
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    params = jax.tree.map(lambda s: _weights(rng, s.shape).astype(dtype), shapes)
    schedule = diffusion.schedule(diffusion.cosine_betas())
    betas_range = np.stack([np.full(10, -3, dtype), np.full(10, 3, dtype)])
    return Prior(
        params,
        schedule,
        betas_range if shape_features else None,
        network,
        "features" if features else "none",
    )


def _weights(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    if len(shape) == 1:  # biases, and the scales of norms
        return rng.uniform(0.5, 1.0, shape)
    return rng.standard_normal(shape) / np.sqrt(shape[0])


@dataclass(frozen=True)
class Scene:
    """People seen by cameras, and somebody's guess of their poses."""

    estimate: Estimate
    features: jax.Array
    keypoints: Keypoints2D
    camera: Camera


def scene(
    skeleton: Skeleton, n: int, features: int = 8, seed: int = 0, dtype: Any = np.float32
) -> Scene:
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(dtype)

    turns, betas, translation = 0.3 * draw(n, 24, 3), 0.5 * draw(n, 10), 0.2 * draw(n, 3)
    translation += np.array([0, 0, 5], dtype)
    confidence = rng.uniform(0.3, 1, (n, skeleton.num_keypoints)).astype(dtype)
    away, moved = 0.1 * draw(n, 24, 3), translation + 0.05 * draw(n, 3)
    camera = pinhole(jnp.full((n, 2), 1000, dtype), 1200.0)
    pose, xy = _posed(skeleton, turns, betas, translation, camera, away)
    estimate = Estimate(pose, jnp.asarray(betas), jnp.asarray(moved))
    keypoints = Keypoints2D(xy, jnp.asarray(confidence))
    return Scene(estimate, jnp.asarray(draw(n, features)), keypoints, camera)


@jax.jit  # op by op it would be 150 programs
def _posed(
    skeleton: Skeleton,
    turns: jax.Array,
    betas: jax.Array,
    translation: jax.Array,
    camera: Camera,
    away: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """The first guess of a pose, and where the true one is seen."""
    upside_down = jnp.diag(jnp.array([1, -1, -1], turns.dtype))  # y is up, of the camera down
    truth = axis_angle_to_matrix(turns)
    truth = truth.at[:, 0].set(upside_down @ truth[:, 0])
    xy = project(skeleton(truth, betas, translation), camera)
    return axis_angle_to_matrix(away) @ truth, xy


def plain_denoiser(params: Any, x: Any, t: Any, features: Any = None) -> np.ndarray:
    """One stream of the denoiser, [N, D], as the paper draws it: no shortcut, in numpy."""

    def linear(layer: Any, h: np.ndarray) -> np.ndarray:
        return h @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])

    def norm(layer: Any, h: np.ndarray) -> np.ndarray:
        h = (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + 1e-5)
        return h * np.asarray(layer["scale"]) + np.asarray(layer["bias"])

    def gelu(h: np.ndarray) -> np.ndarray:
        return h * (1 + np.vectorize(math.erf)(h / math.sqrt(2))) / 2

    half = x.shape[-1] // 2
    angles = np.asarray(t)[:, None] * np.exp(-math.log(10000) * np.arange(half) / (half - 1))
    time = np.concatenate([np.sin(angles), np.cos(angles)], -1)
    time = linear(params["time2"], gelu(linear(params["time1"], time)))
    h = linear(params["input"], x)
    for i in range(sum(name.startswith("blocks_") for name in params)):
        block = params[f"blocks_{i}"]
        scale, shift = np.split(linear(block["time"], time / (1 + np.exp(-time))), 2, -1)
        h = h * (scale + 1) + shift
        both = h if features is None else np.concatenate([h, features], -1)
        inner = gelu(linear(block["linear1"], norm(block["norm1"], both)))
        h = h + gelu(linear(block["linear2"], norm(block["norm2"], inner)))
    return linear(params["output"], h)
