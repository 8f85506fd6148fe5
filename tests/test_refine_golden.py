"""The guided loop against recorded runs of the released code, call by call and as a whole."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bodies import GoldenLoop, close, golden_loop, golden_skeleton, relative
from compiling import AS_USERS

from body_model import Skeleton
from scorehmr_jax import diffusion
from scorehmr_jax.prior import Prior, rotations_to_x, x_to_rotations
from scorehmr_jax.refine import make_refiner, refine
from scorehmr_jax.screening import OK
from scorehmr_jax.types import Hypothesis

X_0 = 1e-4
JOINTS = 1e-5  # metres
keypoints_of = jax.jit(Skeleton.__call__)


@pytest.fixture(scope="module")
def skeleton(golden) -> Callable[[type], Skeleton]:
    return partial(golden_skeleton, golden)


def run(golden, skeleton, name, dtype):
    loop = golden_loop(golden, name, dtype)
    body = skeleton(dtype)
    refined, info = make_refiner(loop.prior, body, loop.config)(
        loop.estimate, loop.features, loop.terms
    )
    return loop, jax.tree.map(
        np.asarray, (refined, info, keypoints_of(body, refined.pose, refined.betas))
    )


def compare(loop: GoldenLoop, found, exact: bool) -> None:
    """`exact`: against the released loop in float64, by far closer than asked."""
    refined, info, joints = found
    g, suffix = loop.arrays, "_f64" if exact else ""
    x_0 = refined.pose_6d
    if loop.prior.network.with_shape:
        low, high = np.asarray(loop.prior.betas_range)
        x_0 = np.concatenate([x_0, 2 * (refined.betas - low) / (high - low) - 1], axis=-1)
    close("x_0", x_0, g["x_0" + suffix], atol=1e-6 if exact else X_0)
    away = np.linalg.norm(joints - g["opt_joints44"], axis=-1)
    assert away.max() < JOINTS, f"joints: {1e3 * away.max():.4f} mm"
    if "camera_translation" in g:
        close(
            "camera_translation", refined.translation, g["camera_translation" + suffix], atol=1e-4
        )
    assert (info.status == OK).all()


def compare_losses(loop: GoldenLoop, info, until: np.ndarray | None = None) -> None:
    wanted = loop.arrays["kp_loss_per_step"]
    for sample, losses in enumerate(np.moveaxis(np.asarray(info.losses), 1, 0)):
        # A sample that has stopped goes on elsewhere; only its result is kept.
        end = None if until is None or until[sample] < 0 else until[sample] + 1
        close(
            f"kp_loss_per_step of sample {sample}",
            losses[:end],
            wanted[:end, sample],
            rtol=1e-4,
            atol=1e-3,
        )


@pytest.mark.parametrize(
    "name",
    [
        "loop_A_keypoints_no_early_stop",
        "loop_A_nohips_2iters",
        "loop_B_multiview",
        "loop_C_video",
        "loop_D_temporal_only",
    ],
)
def test_equals_the_released_code(golden, skeleton, name):
    loop, found = run(golden, skeleton, name, np.float32)
    compare(loop, found, exact=False)
    assert (found[1].stop_step == -1).all()
    if len(loop.terms) == 1 and "kp_loss_per_step" in loop.arrays:
        compare_losses(loop, found[1])


@pytest.mark.parametrize(
    "name",
    [
        "loop_A_keypoints_early_stop",
        "loop_A_early_stop_stress",
        "loop_E_keypoints_betas",
        "loop_F_keypoints_prohmr",
    ],
)
def test_early_stopping_equals_the_released_code(golden, skeleton, name):
    with jax.enable_x64(True):
        loop, found = run(golden, skeleton, name, np.float64)
    mask = loop.arrays["stop_mask_per_step_f64run"]
    stops = np.where(mask.any(0), mask.argmax(0), -1)
    np.testing.assert_array_equal(found[1].stop_step, stops, err_msg="stop_mask_per_step")
    compare(loop, found, exact=True)
    compare_losses(loop, found[1], until=stops)


def test_the_program_that_users_compile_equals_the_released_code(golden, skeleton):
    loop, body = golden_loop(golden, "loop_C_video"), skeleton(np.float32)

    def run(prior, body, *given):
        refined, info = refine(prior, body, *given, loop.config)
        return refined, info, body(refined.pose, refined.betas)

    compiled = jax.jit(run, compiler_options=AS_USERS)
    found = compiled(loop.prior, body, loop.estimate, loop.features, loop.terms)
    compare(loop, jax.tree.map(np.asarray, found), exact=False)


# Every call of one iteration on three frames, each from the recorded state before it.


@pytest.fixture(scope="module")
def calls(golden, skeleton):
    loop = golden_loop(golden, "loop_trace")
    g, body = loop.arrays, skeleton(np.float32)
    guided = g["t"][25:]
    cameras = np.concatenate([g["init_cam_t"][None], g["cam_after"][25:-1]])

    @jax.jit
    def compute(prior: Prior, terms, features, betas):
        noise = prior.noise(g["x_t"], g["t"][:, None] + jnp.zeros((1, 3), int), features)
        level = prior.schedule.at(g["t"][:, None, None], noise.dtype)
        x_start = diffusion.predict_x_0(level, g["x_t"], noise)

        def loss(x_0):
            pose = x_to_rotations(x_0)
            shape = jnp.broadcast_to(betas, (25, *betas.shape))
            joints, everyone = body(pose, shape), jnp.ones((25, 3), bool)
            none = jnp.zeros(())
            first = Hypothesis(
                x_0, pose, shape, joints, cameras, everyone, none, first=loop.estimate
            )
            losses = [term(first) for term in terms]
            total = sum(jnp.sum(t.weight * each) for t, each in zip(terms, losses, strict=True))
            return total, losses[0]

        (_, losses), slope = jax.value_and_grad(loss, has_aux=True)(x_start[25:])
        up = jax.tree.map(lambda leaf: leaf[25:], level)
        by_x_t = up.sqrt_recip * slope
        after = noise[25:] + up.sqrt_one_minus * by_x_t
        x_0 = diffusion.predict_x_0(up, g["x_t"][25:], after)
        return noise, x_start, losses, by_x_t, after, x_0

    names = ("noise", "x_start", "losses", "gradient", "guided_noise", "guided_x_start")
    found = compute(loop.prior, loop.terms, loop.features, loop.estimate.betas)
    return loop, guided, dict(zip(names, map(np.asarray, found), strict=True))


def test_trace_starts_at_the_estimate(calls):
    loop = calls[0]
    close("x_t[0]", rotations_to_x(loop.estimate.pose), loop.arrays["x_t"][0], atol=1e-6)
    np.testing.assert_array_equal(loop.arrays["t"], [*range(0, 50, 2), *range(50, 0, -2)])


def test_trace_of_the_inversion(calls):
    loop, _, found = calls
    g = loop.arrays
    close("pred_noise", found["noise"][:25], g["pred_noise"][:25], atol=1e-5)
    close("x_start", found["x_start"][:25], g["x_start"][:25], atol=1e-5)


def test_trace_of_the_guidance(calls):
    loop, guided, found = calls
    g = loop.arrays
    close("kp_loss_per_step", found["losses"], g["kp_loss_per_step"], rtol=1e-4)
    for i, t in enumerate(guided):
        relative(
            f"scaled_gradient at t={t}", found["gradient"][i], g["scaled_gradient"][25 + i], 1e-4
        )
    close("pred_noise", found["guided_noise"], g["pred_noise"][25:], atol=1e-4)
    close("x_start", found["guided_x_start"], g["x_start"][25:], atol=1e-5)


def test_trace_of_the_steps(calls):
    loop, _, _ = calls
    g = loop.arrays
    targets = np.append(g["t"][1:25], [50])
    targets = np.concatenate([targets, g["t"][26:], [0]])
    level = loop.prior.schedule.at(targets[:, None, None], jnp.dtype("float32"))
    x = np.asarray(diffusion.ddim_step(level, g["x_start"], g["pred_noise"]))
    close("x_t", x[:-1], g["x_t"][1:], atol=1e-6)


def test_trace_as_a_whole(golden, skeleton):
    loop = golden_loop(golden, "loop_trace")
    refined, info = make_refiner(loop.prior, skeleton(np.float32), loop.config)(
        loop.estimate, loop.features, loop.terms
    )
    close("x_0", refined.pose_6d, loop.arrays["x_0"], atol=X_0)
    close("camera_translation", refined.translation, loop.arrays["camera_translation"], atol=1e-4)
    assert info.losses.shape == (25, 3)
