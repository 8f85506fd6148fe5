"""Bodies from 2D keypoints alone."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from bodies import small_prior

import body_model
import scorehmr_jax as sh
from body_model.joints import OPENPOSE_25
from scorehmr_jax.evaluation.metrics import pa_mpjpe

N = 8
NAMES = [name if name not in ("neck", "pelvis") else None for name in OPENPOSE_25]


@jax.jit
def joints(pose, betas):
    return body_model.Skeleton.of(body_model.stand_in())(pose, betas)


@pytest.fixture(scope="module")
def seen():
    """The example's bodies, seen with 3 pixels of noise; nobody in the last image."""
    estimate, _, camera = jax.tree.map(lambda a: a[::15][:N], sh.example())
    at = joints(estimate.pose, estimate.betas) + estimate.translation[:, None]
    noise = np.random.default_rng(0).normal(size=(N, 25, 2)) * 3
    confidence = np.ones((N, 25), np.float32)
    confidence[:, [1, 8]] = 0
    confidence[-1] = 0
    xy = np.asarray(sh.project(at, camera)) + noise
    return estimate, sh.Keypoints2D(xy.astype(np.float32), confidence), camera


@pytest.mark.slow
def test_poses_that_are_seen_like_the_keypoints(seen):
    truth, keypoints, camera = seen
    prior = sh.load_prior("open-uncond")
    found, score = sh.lift_2d(
        jax.random.key(1), prior, body_model.stand_in(), NAMES, keypoints, camera
    )
    assert found.pose.shape == (8, N, 24, 3, 3) and score.shape == (8, N)
    assert np.isnan(np.asarray(found.pose)[:, -1]).all() and np.isinf(score[:, -1]).all()
    assert (np.diff(np.asarray(score)[:, :-1], axis=0) >= 0).all()
    at = np.asarray(joints(found.pose, found.betas))[:, :-1]
    wanted = np.broadcast_to(joints(truth.pose, truth.betas)[:-1], at.shape)
    off = np.asarray(pa_mpjpe(at, wanted))  # mm
    assert off[0].mean() < 70 and off.min(0).mean() < 50
    assert off[0].mean() < off.mean()  # the order says something
    moved = at + np.asarray(found.translation)[:, :-1, None]
    lens = jax.tree.map(lambda a: a[None, :-1], camera)
    beside = np.linalg.norm(sh.project(moved, lens) - keypoints.xy[:-1], axis=-1)
    assert beside[0][keypoints.confidence[:-1] > 0].mean() < 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: {"keep": 9, "draws": 8}, r"keep: expected 1 to 8 \(draws\), found 9"),
        (lambda g: {"keep": 0}, "keep: expected 1 to 256"),
        (
            lambda g: {"names": NAMES[:24]},
            r"keypoints: expected \[..., N, 24\] for 24",
        ),
        (
            lambda g: {"prior": replace(g["prior"], condition_on="features")},
            "prior: conditioned on",
        ),
        (lambda g: {"names": ["knee", *NAMES[1:]]}, "knee"),
    ],
)
def test_what_does_not_fit_is_named(seen, change, message):
    _, keypoints, camera = seen
    given = {
        "key": jax.random.key(0),
        "prior": replace(small_prior(), condition_on="none"),
        "body": body_model.stand_in(),
        "names": NAMES,
        "keypoints": keypoints,
        "camera": camera,
    }
    with pytest.raises(ValueError, match=message):
        sh.lift_2d(**{**given, **change(given)})
