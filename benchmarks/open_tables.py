"""The open benchmark as data of the paper's tables: `python evaluate.py table2 --open DIR`.

Figures are comparable with those of benchmarks.open: the scenes are the same.
"""

from pathlib import Path

import jax
import numpy as np

import body_model
from benchmarks.scenes import FULL, QUICK, VIEWS, scene, windows
from body_model import Skeleton
from body_model.rotations import matrix_to_axis_angle
from scorehmr_jax.evaluation.benchmarks import open_protocol
from scorehmr_jax.evaluation.cases import Case
from scorehmr_jax.evaluation.comparison import TrueBody, Truth
from scorehmr_jax.evaluation.tables.fill import Missing
from scorehmr_jax.load import load_prior, shipped_priors
from scorehmr_jax.prior import Prior
from scorehmr_jax.simulation import mocap
from scorehmr_jax.types import Array, Estimate

# As benchmarks.open has them: what is chosen on val is seen with other random numbers.
_SEEDS = {"val": 1, "test": 0, "heldout": 0}


class OpenSource:
    """Scenes of the open benchmark.

    Args:
        folder: of mocap_poses.npz.
        split: val, for all that is tried; test, for figures; heldout, once.
        quick: fewer frames.
    Raises:
        ValueError: if there is no such file or split.
    """

    def __init__(self, folder: Path, split: str = "test", quick: bool = False) -> None:
        path = folder / ("mocap_heldout.npz" if split == "heldout" else "mocap_poses.npz")
        if split not in _SEEDS:
            raise ValueError(f"--split: expected one of {', '.join(_SEEDS)}, found {split!r}")
        clips = mocap.read(path)
        self.clips = clips if split == "heldout" else clips.select(split)
        self.seed, self.size = _SEEDS[split], QUICK if quick else FULL
        self.body = body_model.open_body()
        self.skeleton = Skeleton.of(self.body)
        self._cases: dict[str, Case] = {}
        self._priors: dict[str, Prior] = {}

    def case(self, start: str, protocol: str) -> Case:
        """Simulates a setting at a strength, `open-SETTING-STRENGTH`."""
        if protocol not in self._cases:
            self._cases[protocol] = self._simulated(protocol)
        return self._cases[protocol]

    def prior(self, name: str) -> Prior:
        """Loads a shipped prior."""
        if name not in shipped_priors():
            raise Missing(
                f"the prior {name} is not shipped: train one (python train.py with-shape; "
                "docs/training.md)"
            )
        if name not in self._priors:
            self._priors[name] = load_prior(name)
        return self._priors[name]

    def features(self, prior: Prior, start: str, protocol: str) -> Array | None:
        """Gives none: simulated images have no features."""
        if prior.condition_on == "features":
            raise Missing("the open benchmark has no images, and so no image features")
        return None

    def _simulated(self, name: str) -> Case:
        _, setting, strength = name.split("-")
        protocol = open_protocol(setting, strength)
        made = scene(
            jax.random.key(self.seed), self.skeleton, self.clips, setting, strength, self.size
        )
        flat = jax.tree.map(lambda a: np.asarray(a).reshape(-1, *a.shape[2:]), made)
        count, group = len(flat.estimate.pose), made.estimate.pose.shape[1]
        measured = Skeleton.of(self.body, protocol.keypoints)
        joints, pose = jax.jit(_truth)(measured, flat.truth)
        known = np.ones(count, bool)
        body = TrueBody(np.asarray(pose), flat.truth.betas, known, np.zeros(count, np.int32))
        clip = self._clips(setting, count)
        return Case(
            protocol,
            tuple(f"{self.clips.names[c]}/{i:05}" for i, c in enumerate(clip)),
            (group,) * (count // group) if setting != "keypoints" else (count,),
            clip.astype(np.int32),
            flat.estimate,
            Truth(np.asarray(joints), known, flat.keypoints, flat.camera, body),
            self.body,
            measured,
            frames={"in the files": count},
        )

    def _clips(self, setting: str, count: int) -> np.ndarray:
        """The clip of each frame, as the scene has taken them."""
        if setting == "video":
            length = self.size.length
            frames = windows(self.clips.clip, count // length, length).ravel()
        else:
            views = VIEWS if setting == "multiview" else 1
            spread = np.linspace(0, len(self.clips.clip) - 1, count // views)
            frames = np.repeat(spread.round().astype(int), views)
        return self.clips.clip[frames]


def _truth(skeleton: Skeleton, truth: Estimate) -> tuple[Array, Array]:
    """True keypoints in the camera frame, and the true pose in axis-angle."""
    joints = skeleton(truth.pose, truth.betas, truth.translation)
    return joints, matrix_to_axis_angle(truth.pose)
