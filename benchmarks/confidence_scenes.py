"""What confidence is calibrated on: clips, networks, detectors and loops, and how they err."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Key

from benchmarks.scenes import Size, grouped, people
from body_model import SMPL, Skeleton
from body_model.joints import OPENPOSE_25
from body_model.pytree import pytree
from scorehmr_jax.camera import project
from scorehmr_jax.confidence import Signs
from scorehmr_jax.evaluation import metrics
from scorehmr_jax.evaluation.tasks import TASKS
from scorehmr_jax.lift import make_lifter
from scorehmr_jax.load import load_prior
from scorehmr_jax.problem import Setup
from scorehmr_jax.refine import refine_with_signs
from scorehmr_jax.refine_config import RefineConfig
from scorehmr_jax.screening import OK
from scorehmr_jax.simulation.clip_noise import smooth_noise
from scorehmr_jax.simulation.detector import DETECTOR, Detector
from scorehmr_jax.simulation.mocap import Mocap
from scorehmr_jax.simulation.regressor import REGRESSORS, Regressor
from scorehmr_jax.simulation.scene import Scene, detect, observe
from scorehmr_jax.terms import Term
from scorehmr_jax.types import Array, Camera, Estimate, Keypoints2D, Number

HALVES = 2
VIDEO_LENGTH = 32  # frames; few clips are long
MOST_SKIPPED = 32  # frames at the begin of a clip, so that no two cells have the same
CLEAN = Detector(offset=(0.005, 0.015), noise=0.01, outliers=0.02)
BAD = Detector(offset=(0.03, 0.05), noise=0.04, outliers=0.1)
DETECTORS = {"usual": DETECTOR, "clean": CLEAN, "bad": BAD}
# Networks whose errors show less or more in the image than those of the other benchmarks.
NETWORKS: dict[str, Callable[[Regressor], Regressor]] = {
    "usual": lambda usual: usual,
    "shows more": lambda usual: replace(usual, image_rotation=2 * usual.image_rotation),
    "shows less": lambda usual: replace(usual, image_rotation=usual.image_rotation / 2, pull=0.5),
}
# Detector and network of a cell.
FAMILIES = (
    ("usual", "usual"),
    ("clean", "usual"),
    ("bad", "usual"),
    ("usual", "shows more"),
    ("usual", "shows less"),
)
# Of points that bodies are lifted from: standard deviation of their depth, metres at a knee.
DEPTH_ERRORS = {"weak": 0.16, "medium": 0.1, "strong": 0.05}
_FLATTENED = 5.0  # largest share of the depth that is lost, per metre of error
_COMMON = 0.7  # share of the variance that a limb's points have in common
_REACH = {"hip": 0.2, "knee": 0.6, "ankle": 1.0, "toe": 1.0, "heel": 1.0}
_REACH |= {"shoulder": 0.6, "elbow": 0.9, "wrist": 1.2}


@dataclass(frozen=True)
class Variant:
    """A loop with the terms and the prior that it is for."""

    config: RefineConfig
    setting: str  # of benchmarks/scenes.py
    lifted: bool = False  # estimates are lifted from 3D points

    @property
    def prior(self) -> str:
        return "open-uncond" if self.lifted else "open-cond"

    def terms(self, keypoints: Keypoints2D, camera: Camera) -> tuple[Term, ...]:
        return TASKS[self.setting].guidance("default", keypoints, camera)


def variants() -> dict[str, Variant]:
    """Lists the loops that are calibrated, by name."""
    return {
        "images": Variant(RefineConfig.for_images(), "keypoints"),
        "video": Variant(RefineConfig.for_video(), "video"),
        "views": Variant(RefineConfig.for_views(), "multiview"),
        "images, lifted": Variant(RefineConfig.for_images(lifted=True), "keypoints", True),
        "video, lifted": Variant(RefineConfig.for_video(lifted=True), "video", True),
    }


@pytree
class Observed:
    """Refined samples with their truth, one row each."""

    signs: Signs  # [N]
    joint_error: Array  # [N, 24] of the result, aligned, mm
    before: Array  # [N] PA-MPJPE of the estimate, mm
    half: Array  # [N] of the clips: 0 or 1
    tags: dict[str, Array]  # [N] the names of its clips, strength, detector and network

    @property
    def error(self) -> Array:
        return self.joint_error.mean(-1)

    @property
    def worse(self) -> Array:
        return self.error > self.before + 2

    def rows(self, which: Array) -> "Observed":
        """Takes some of the samples."""
        return jax.tree.map(lambda a: a[which], self)


def observed(body: SMPL, sets: dict[str, Mocap], variant: Variant, frames: int) -> Observed:
    """Refines simulated people of every kind by one loop, and compares them with their truth.

    Args:
        body: of the people.
        sets: clips by name.
        variant: the loop.
        frames: of a cell: clips of one set, a strength, a detector and a network.
    """
    skeleton = Skeleton.of(body)
    look, lifter = _make_look(body, skeleton, variant), make_lifter(body, OPENPOSE_25)
    size = Size(frames // HALVES, VIDEO_LENGTH)
    families = [f for f in FAMILIES if f[1] == "usual"] if variant.lifted else FAMILIES
    cells = [
        (*cell, *family, half)
        for cell in itertools.product(sets, REGRESSORS)
        for family in families
        for half in range(HALVES)
    ]
    found = []
    for number, (clips, strength, detector, network, half) in enumerate(cells):
        motion = half_of(sets[clips], half, number)
        key_people, key_estimate, key_detections = jax.random.split(jax.random.key(number), 3)
        truth, camera, clip = people(key_people, skeleton, motion, variant.setting, size)
        if variant.lifted:
            keypoints = detect(
                key_detections, skeleton, truth, camera, clip, DETECTORS[detector], number
            )
            flaws = skeleton, truth, DEPTH_ERRORS[strength], clip
            points = flawed_points(key_estimate, *flaws, keypoints, camera)
            estimate, _ = lifter(points, keypoints=keypoints, camera=camera)
            flat = Scene(truth, camera, keypoints, estimate)
        else:
            regressor = NETWORKS[network](REGRESSORS[strength])
            keys, seen = (key_estimate, key_detections), DETECTORS[detector]
            flat = observe(keys, skeleton, truth, camera, regressor, clip, seen, number)
        signs, errors, before, refined = jax.device_get(look(grouped(flat, variant.setting, size)))
        names = {"clips": clips, "strength": strength, "detector": detector, "network": network}
        tags = {name: np.full(len(before), value) for name, value in names.items()}
        rows = Observed(signs, errors, before, np.full(len(before), half), tags)
        found.append(rows.rows(refined))
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *found)


def half_of(clips: Mocap, half: int, seed: int) -> Mocap:
    """Takes every other clip, less some frames at its begin."""
    rng, wanted = np.random.default_rng(seed), np.arange(len(clips.names)) % HALVES == half
    keep = np.zeros(len(clips.clip), bool)
    for clip in np.flatnonzero(wanted):
        frames = np.flatnonzero(clips.clip == clip)
        spare = min(len(frames) - VIDEO_LENGTH, MOST_SKIPPED)
        keep[frames[rng.integers(max(spare, 0) + 1) :]] = True
    return replace(
        clips, poses=clips.poses[keep], translations=clips.translations[keep], clip=clips.clip[keep]
    )


@jax.jit
def flawed_points(
    key: Key[Array, ""],
    skeleton: Skeleton,
    truth: Estimate,
    depth_error: Number,
    clip: Int[Array, " N"],
    keypoints: Keypoints2D,
    camera: Camera,
) -> Float[Array, "N 25 3"]:
    """Simulates a network that finds points in 2D and 3D at once.

    Across the view the points are as wrong as its keypoints, for the one comes from the other, so
    that a body lifted from them agrees with the keypoints from the start. Along it they are wrong
    and flat.

    Args:
        key: PRNG key.
        skeleton: OPENPOSE_25 of the people.
        truth: N people.
        depth_error: standard deviation at an ankle, metres.
        clip: of each frame; errors persist over its frames.
        keypoints, camera: what the network found in 2D, in the frame of which camera.
    Returns:
        Points about the pelvis, metres.
    """
    points = skeleton(truth.pose, truth.betas, truth.translation)
    pixels = keypoints.xy - project(points, camera)
    across = pixels * points[..., 2:] / camera.focal[..., None, :]
    # Of a keypoint that was not found, the network guesses the point.
    across = jnp.where(keypoints.confidence[..., None] > 0, across, 0)
    points = points.at[..., :2].add(across)
    points = points - points[:, OPENPOSE_25.index("pelvis"), None]
    count, (key_common, key_own, key_flat) = len(points), jax.random.split(key, 3)
    limbs, reach = zip(*map(_limb_and_reach, OPENPOSE_25), strict=True)
    common = smooth_noise(key_common, (count, max(limbs) + 1), clip)[:, np.array(limbs)]
    own = smooth_noise(key_own, (count, len(OPENPOSE_25)), clip)
    error = jnp.sqrt(_COMMON) * common + jnp.sqrt(1 - _COMMON) * own
    flat = _FLATTENED * depth_error * jax.random.uniform(key_flat)
    depth = (1 - flat) * points[..., 2] + depth_error * jnp.asarray(reach) * error
    return points.at[..., 2].set(depth)


def _limb_and_reach(name: str) -> tuple[int, float]:
    """The number of a keypoint's limb, 0 for the trunk, and how far its error has grown there."""
    part = next((part for part in _REACH if name.endswith(part)), None)
    if part is None:
        return 0, 0.0 if name == "pelvis" else 0.7
    arm, left = part in ("shoulder", "elbow", "wrist"), name.startswith("left")
    return 1 + 2 * arm + left, _REACH[part]


def _make_look(
    body: SMPL, skeleton: Skeleton, variant: Variant
) -> Callable[[Scene], tuple[Signs, Array, Array, Array]]:
    """Prepares a loop: (scene) -> signs, errors, errors of the estimate, whether refined; [N]."""
    setup = jax.jit(Setup.of, static_argnums=2)(load_prior(variant.prior), skeleton, variant.config)

    @jax.jit
    def look(setup: Setup, scene: Scene) -> Any:
        terms = variant.terms(scene.keypoints, scene.camera)
        refined, info, signs = refine_with_signs(setup, scene.estimate, None, terms, None)
        after, before, true = (
            body.joints(b.pose, b.betas, b.translation)
            for b in (refined, scene.estimate, scene.truth)
        )
        off = jnp.linalg.norm(metrics.similarity_align(after, true) - true, axis=-1)
        found = signs(), 1000 * off, metrics.pa_mpjpe(before, true), info.status == OK
        axes = info.status.ndim
        return jax.tree.map(lambda a: a.reshape(-1, *a.shape[axes:]), found)

    return partial(look, setup)
