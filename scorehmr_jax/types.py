"""Inputs and results of a refinement: shapes, units, frames.

Camera frame: x right, y down, z forward. Metres, radians, pixels. `N` counts samples: images,
frames of a video, or views of a person; any leading axes may stand in its place.
"""

from jaxtyping import Bool, Float, Int, Real, Shaped

from body_model.pytree import Array, Number, pytree

__all__ = [
    "Array",
    "Camera",
    "Estimate",
    "Expectation",
    "Hypothesis",
    "Info",
    "Keypoints2D",
    "Keypoints3D",
    "Number",
    "Refined",
]


@pytree
class Estimate:
    """A first estimate of a body, from any regression network."""

    pose: Float[Array, "*N 24 3 3"]  # joint rotations; the root's is in the camera frame
    betas: Float[Array, "*#N B"]  # SMPL shape, usually 10 numbers
    translation: Float[Array, "*#N 3"]  # body to camera, metres


@pytree
class Keypoints2D:
    """2D detections in the full image."""

    xy: Real[Array, "*N K 2"]  # pixels
    confidence: Shaped[Array, "*N K"]  # in [0, 1]; 0 means: not seen


@pytree
class Keypoints3D:
    """3D detections or markers, in the frame that the body is in or about a centre of their own."""

    xyz: Real[Array, "*N K 3"]  # metres
    confidence: Shaped[Array, "*N K"]  # in [0, 1]; 0 means: not seen


@pytree
class Camera:
    """A pinhole camera; its pose and the faults of its lens, where they are known.

    A point X of the frame that the body is in lies at R X + t in the frame of the camera.
    """

    focal: Real[Array, "*#N 2"]  # pixels
    center: Real[Array, "*#N 2"]  # principal point, pixels
    image_size: Real[Array, "*#N 2"]  # width and height, pixels
    rotation: Real[Array, "*#N 3 3"] | None = None  # R; None: the identity
    translation: Real[Array, "*#N 3"] | None = None  # t, metres; None: 0
    distortion: Real[Array, "*#N 5"] | None = None  # OpenCV's k1, k2, p1, p2, k3; None: none
    skew: Real[Array, "*#N"] | None = None  # K[0, 1], pixels; None: 0


@pytree
class Hypothesis:
    """The body that a guidance term judges: the current guess of x_0 in every form."""

    pose_6d: Float[Array, "*N 144"]  # as the diffusion has it; not orthonormal
    pose: Float[Array, "*N 24 3 3"]  # rotations
    betas: Float[Array, "*N B"]
    joints: Float[Array, "*N K 3"]  # keypoints of the skeleton, body frame (no translation)
    translation: Float[Array, "*N 3"]  # body to camera, metres
    mask: Bool[Array, "*N"]  # False for padding, and for samples that are left as they are
    noise_std: Float[Array, ""]  # of the x_t it was predicted from, sqrt(1 - a_t); 0: no diffusion
    first: Estimate  # where the refinement started, [..., N]


@pytree
class Refined:
    """A refined body."""

    pose: Float[Array, "*N 24 3 3"]  # rotations
    betas: Float[Array, "*N B"]
    translation: Float[Array, "*N 3"]  # body to camera, metres
    pose_6d: Float[Array, "*N 144"]  # the diffusion's own x_0, before it is made orthonormal


@pytree
class Expectation:
    """What results are expected to be off: means over simulated people with the same signs.

    Errors are distances of SMPL's 24 joints from the truth after the best similarity transform
    (as PA-MPJPE has it), millimetres; infinite where nothing is known.
    """

    worse: Float[Array, "*N"]  # probability that PA-MPJPE rose by more than 2 mm
    error: Float[Array, "*N"]  # PA-MPJPE, mm
    joint_error: Float[Array, "*N 24"]  # of each joint, mm; their mean is `error`


@pytree
class Info:
    """The course of each sample's refinement."""

    status: Int[Array, "*N"]  # index into STATUS, which says what it means; 0: refined
    stop_step: Int[Array, "*N"]  # step at which the sample stopped; -1: it did not
    # Unweighted, before each step of the fit, if any, and each guided one; once all have stopped,
    # the last.
    losses: Float[Array, " S *N"]
    # Share of the refinement of the body's pose that was kept; None: all of it.
    kept_share: Float[Array, "*N"] | None = None
    # What the result is expected to be off; None: not known of this loop or these terms.
    expected: Expectation | None = None
