"""The ground under feet: where it is, which way is up, and how well that is known."""

import numpy as np
import pytest

import scorehmr_jax as sh

UP = np.array([0.1, -0.97, -0.2]) / np.linalg.norm([0.1, -0.97, -0.2])
HEIGHT = -1.3  # of the ground below the camera, along UP


def walk(frames=120, reach=2.0, noise=0.01, jumps=0.25, seed=0):
    """Four points of two feet [T, 4, 3] that step on a tilted ground, in the camera's frame."""
    rng = np.random.default_rng(seed)
    x = np.cross(UP, [0, 0, 1.0])
    x /= np.linalg.norm(x)
    y = np.cross(UP, x)
    t = np.linspace(0, 2 * np.pi, frames)
    middle = reach * (np.cos(t)[:, None] * x + np.sin(t)[:, None] * y) + [0, 0, 5.0]
    middle = middle - (middle @ UP - HEIGHT)[:, None] * UP
    feet = middle[:, None] + 0.1 * np.stack([x + y, x - y, -x + y, -x - y])
    swing = np.abs(np.sin(8 * t))[:, None] * 0.15
    feet[:, :2] += swing[..., None] * UP  # one foot is lifted in turn
    feet[rng.random(frames) < jumps] += 0.4 * UP  # and both in a jump
    return feet + noise * rng.normal(size=feet.shape)


def test_somebody_who_walks_about_shows_the_ground():
    feet = walk()
    found = sh.fit_ground(feet)
    assert np.degrees(np.arccos(found.rotation[2] @ UP)) < 1 and found.up_error < 2
    world = feet @ found.rotation.T + found.translation
    # The lowest of four noisy points is a little too low.
    assert np.median(world[..., 2].min(1)) == pytest.approx(0, abs=0.01)
    assert found.residual < 0.02
    np.testing.assert_allclose(found.rotation @ found.rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(found.rotation) == pytest.approx(1)
    ahead = found.rotation @ [0, 0, 1.0]
    assert ahead[0] == pytest.approx(0, abs=1e-12) and ahead[1] > 0.9
    np.testing.assert_allclose(world[0].mean(0)[:2], 0, atol=1e-9)


def test_somebody_who_stands_still_does_not_turn_it_and_it_says_so():
    feet = walk(reach=0.0, jumps=0.0)
    start = UP + np.array([0.05, 0, 0])
    found = sh.fit_ground(feet, start_up=start)
    assert found.up_error > 4
    assert np.degrees(np.arccos(found.rotation[2] @ start / np.linalg.norm(start))) < 3


def test_a_known_up_is_kept_and_lost_frames_have_no_say():
    feet = walk()
    feet[3] = np.nan
    found = sh.fit_ground(feet, up=2 * UP)
    np.testing.assert_allclose(found.rotation[2], UP, atol=1e-12)
    assert found.up_error == 0
    # Up along the camera's own axis: it looks straight down.
    down = sh.fit_ground(feet[..., [0, 2, 1]] * [1, 1, -1], up=np.array([0, 0, -1.0]))
    np.testing.assert_allclose(down.rotation @ down.rotation.T, np.eye(3), atol=1e-12)


def test_what_is_no_ground_is_refused():
    with pytest.raises(ValueError, match="found none"):
        sh.fit_ground(np.full((2, 4, 3), np.nan))
    with pytest.raises(ValueError, match=r"up: expected a direction"):
        sh.fit_ground(walk(), up=np.zeros(3))
