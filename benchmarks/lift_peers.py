"""Other packages that fit a body to 3D joints, each as a function from joints to joints.

They ask for SMPL's files under their own names: the open body is written out as such.
"""

import contextlib
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from body_model.joints import SMPL_24
from scorehmr_jax.pose_gaussian import PoseGaussian


def smplfitter(path: Path, noise: float) -> Callable[[Any], Any]:
    """The package smplfitter: a function from joints [N, 24, 3] to those of the bodies it fits.

    It is made for meshes: here its vertices have weight 0, and its penalties of the shape are those
    that fit the noise. Compiled.
    """
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
            beta_regularizer=noise**2,
            beta_regularizer2=noise**2,
            requested_keys=["pose_rotvecs", "shape_betas"],
        )
        return model(found["pose_rotvecs"], found["shape_betas"], found["trans"])["joints"]

    return fit


def keypoints2body(path: Path) -> Callable[[Any], Any]:
    """The package keypoints2body: as `smplfitter`.

    Its settings for single frames, PyTorch on the CPU, pose after pose. Its files of SMPL's mean
    pose and of a mixture of poses need a licence: here they hold our own Gaussian of poses. It
    starts upright, and from there does not find people who are turned away; so it is given the
    joints with hips and spine turned upright, and what it finds is turned back.
    """
    import smplx
    import torch
    from keypoints2body.api.frame import optimize_params_frame
    from keypoints2body.models.smpl_data import SMPLData

    with np.load(path) as file:
        content = {key: file[key] for key in file.files}
    folder = Path(tempfile.mkdtemp())
    models = folder / "data/models"
    models.mkdir(parents=True)
    (models / "SMPL_NEUTRAL.pkl").write_bytes(pickle.dumps(content))
    prior = PoseGaussian.shipped()
    mean = np.asarray(prior.mean, np.float64).reshape(1, -1)
    covariance = np.linalg.inv(np.asarray(prior.precision, np.float64))
    mixture = {
        "means": np.repeat(mean, 8, 0),
        "covars": np.repeat(covariance[None], 8, 0),
        "weights": np.full(8, 1 / 8),
    }
    (models / "gmm_08.pkl").write_bytes(pickle.dumps(mixture))
    model = smplx.create(str(models / "SMPL_NEUTRAL.pkl"), model_type="smpl", batch_size=1)

    def fit(joints: Any) -> np.ndarray:
        given = np.asarray(joints)
        found = []
        with contextlib.chdir(folder):
            for points, turn in zip(given, _roots(given), strict=True):
                start = SMPLData(
                    betas=torch.zeros(1, 10),
                    global_orient=torch.zeros(1, 3),
                    body_pose=torch.tensor(mean, dtype=torch.float32),
                )
                result = optimize_params_frame(
                    (points @ turn).astype(np.float32),
                    prev_params=start,
                    joint_layout="SMPL24",
                    model=model,
                )
                found.append(result.joints[0, :24].numpy() @ turn.T)
        return np.stack(found)

    return fit


def _roots(joints: np.ndarray) -> np.ndarray:
    """Rotations [N, 3, 3] from upright to the hips and the lowest part of the spine."""
    pelvis, spine, left, right = (
        joints[:, SMPL_24.index(name)] for name in ("pelvis", "spine3", "left_hip", "right_hip")
    )
    x = left - right
    x = x / np.linalg.norm(x, axis=-1, keepdims=True)
    z = np.cross(x, spine - pelvis)
    z = z / np.linalg.norm(z, axis=-1, keepdims=True)
    return np.stack([x, np.cross(z, x), z], -1)
