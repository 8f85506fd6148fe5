"""A short video to try things on: a simulated first estimate with its evidence."""

from pathlib import Path

from body_model import SMPL
from scorehmr_jax.types import Camera, Estimate, Keypoints2D

FILE = Path(__file__).with_name("example.npz")


def example(body: SMPL | None = None, seed: int = 0) -> tuple[Estimate, Keypoints2D, Camera]:
    """Reads the demo's video: 120 frames of one person.

    Args:
        body: whose motion it is; without one the open body's, whose numbers come ready made.
            Another body's are simulated, which takes some twenty seconds.
        seed: of the simulated errors; the ready-made numbers have 0.
    Returns:
        A regression network's estimate [120], a detector's OpenPose-25 keypoints [120, 25] and
        the camera [120].
    """
    if body is not None or seed:
        from scorehmr_jax.simulation.scene import simulated_example

        return simulated_example(body, seed)
    from scorehmr_jax.formats.own_estimates import read_own

    given = read_own(FILE)
    assert given.keypoints is not None and given.camera is not None
    return given.estimate, given.keypoints, given.camera
