"""ScoreHMR in JAX: refine 3D human pose with a learned diffusion prior."""

from scorehmr_jax.camera import crop_to_full, pinhole, project
from scorehmr_jax.example import example
from scorehmr_jax.formats.estimates import RefineInput, read_estimates, write_estimates
from scorehmr_jax.groups import stack_groups, unstack_groups
from scorehmr_jax.guidance import Term, keypoints_2d, multiview, smooth, weighted
from scorehmr_jax.lift import LiftConfig, LiftInfo, lift, make_lifter
from scorehmr_jax.load import load_prior, shipped_priors
from scorehmr_jax.pose_gaussian import PoseGaussian
from scorehmr_jax.prior import Prior, rotations_to_x, x_to_rotations
from scorehmr_jax.problem import Problem, RefineConfig, Setup
from scorehmr_jax.refine import make_refiner, refine
from scorehmr_jax.sampler import guided_step
from scorehmr_jax.screening import STATUS
from scorehmr_jax.stopping import Never, RoundStop, StepStop
from scorehmr_jax.types import Camera, Estimate, Hypothesis, Info, Keypoints2D, Refined
from scorehmr_jax.variations import best_of, varied_estimates

__all__ = [
    "STATUS",
    "Camera",
    "Estimate",
    "Hypothesis",
    "Info",
    "Keypoints2D",
    "LiftConfig",
    "LiftInfo",
    "Never",
    "PoseGaussian",
    "Prior",
    "Problem",
    "RefineConfig",
    "RefineInput",
    "Refined",
    "RoundStop",
    "Setup",
    "StepStop",
    "Term",
    "best_of",
    "crop_to_full",
    "example",
    "guided_step",
    "keypoints_2d",
    "lift",
    "load_prior",
    "make_lifter",
    "make_refiner",
    "multiview",
    "pinhole",
    "project",
    "read_estimates",
    "refine",
    "rotations_to_x",
    "shipped_priors",
    "smooth",
    "stack_groups",
    "unstack_groups",
    "varied_estimates",
    "weighted",
    "write_estimates",
    "x_to_rotations",
]
