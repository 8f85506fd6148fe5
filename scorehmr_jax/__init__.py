"""ScoreHMR in JAX: refine 3D human pose with a learned diffusion prior."""

from scorehmr_jax.blending import (
    FixedShares,
    GatedShares,
    KeepAll,
    MeanOfViews,
    SmoothedEstimate,
)
from scorehmr_jax.calibration import calibrated_camera, levelled, relative_to, undistort
from scorehmr_jax.camera import crop_to_full, pinhole, project
from scorehmr_jax.denoised_fit import DenoisedFit
from scorehmr_jax.evidence import calibrated_views, keypoints_3d
from scorehmr_jax.example import example
from scorehmr_jax.formats.cameras import CameraFile, read_cameras
from scorehmr_jax.formats.estimates import RefineInput, read_estimates, write_estimates
from scorehmr_jax.formats.keypoints.arrays import write_keypoints
from scorehmr_jax.formats.keypoints.read import read_keypoints
from scorehmr_jax.formats.keypoints.result import DetectedPeople
from scorehmr_jax.ground import Ground, fit_ground
from scorehmr_jax.groups import stack_groups, unstack_groups
from scorehmr_jax.guidance import Term, keypoints_2d, multiview, smooth, weighted
from scorehmr_jax.lift import LiftConfig, LiftInfo, lift, make_lifter
from scorehmr_jax.lift_2d import lift_2d
from scorehmr_jax.load import load_image_network, load_prior, shipped_priors
from scorehmr_jax.marker_places import PLUG_IN_GAIT, MarkerPlace
from scorehmr_jax.markers import (
    AttachedMarkers,
    MarkerConfig,
    MarkerFit,
    attach_markers,
    fit_markers,
)
from scorehmr_jax.motion import foot_contact, smooth_camera
from scorehmr_jax.networks.image_network import ImageNetwork
from scorehmr_jax.pose_gaussian import PoseGaussian
from scorehmr_jax.prior import Prior, rotations_to_x, x_to_rotations
from scorehmr_jax.problem import Problem, Setup
from scorehmr_jax.refine import make_refiner, refine
from scorehmr_jax.refine_config import RefineConfig
from scorehmr_jax.restraints import known_height, trust, usual_shape
from scorehmr_jax.sampler import guided_step
from scorehmr_jax.screening import STATUS
from scorehmr_jax.stopping import Never, RoundStop, StepStop
from scorehmr_jax.types import (
    Camera,
    Estimate,
    Expectation,
    Hypothesis,
    Info,
    Keypoints2D,
    Keypoints3D,
    Refined,
)
from scorehmr_jax.variations import best_of, varied_estimates

__all__ = [
    "PLUG_IN_GAIT",
    "STATUS",
    "AttachedMarkers",
    "Camera",
    "CameraFile",
    "DenoisedFit",
    "DetectedPeople",
    "Estimate",
    "Expectation",
    "FixedShares",
    "GatedShares",
    "Ground",
    "Hypothesis",
    "ImageNetwork",
    "Info",
    "KeepAll",
    "Keypoints2D",
    "Keypoints3D",
    "LiftConfig",
    "LiftInfo",
    "MarkerConfig",
    "MarkerFit",
    "MarkerPlace",
    "MeanOfViews",
    "Never",
    "PoseGaussian",
    "Prior",
    "Problem",
    "RefineConfig",
    "RefineInput",
    "Refined",
    "RoundStop",
    "Setup",
    "SmoothedEstimate",
    "StepStop",
    "Term",
    "attach_markers",
    "best_of",
    "calibrated_camera",
    "calibrated_views",
    "crop_to_full",
    "example",
    "fit_ground",
    "fit_markers",
    "foot_contact",
    "guided_step",
    "keypoints_2d",
    "keypoints_3d",
    "known_height",
    "levelled",
    "lift",
    "lift_2d",
    "load_image_network",
    "load_prior",
    "make_lifter",
    "make_refiner",
    "multiview",
    "pinhole",
    "project",
    "read_cameras",
    "read_estimates",
    "read_keypoints",
    "refine",
    "relative_to",
    "rotations_to_x",
    "shipped_priors",
    "smooth",
    "smooth_camera",
    "stack_groups",
    "trust",
    "undistort",
    "unstack_groups",
    "usual_shape",
    "varied_estimates",
    "weighted",
    "write_estimates",
    "write_keypoints",
    "x_to_rotations",
]
