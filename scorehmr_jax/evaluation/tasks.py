"""The tasks a prior is used for without retraining, in one table.

Another task is one more entry of TASKS: `evaluate.py NAME` runs it, and a benchmark may name it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from scorehmr_jax.guidance import Term, keypoints_2d, multiview, smooth
from scorehmr_jax.refine import RefineConfig
from scorehmr_jax.stopping import Never
from scorehmr_jax.types import Camera, Keypoints2D

MODES = ("released", "default")


@dataclass(frozen=True)
class Task:
    """A kind of evidence, and the loop that the released code refines with."""

    name: str
    # The guidance: from keypoints [..., N, 25] of OpenPose and cameras [..., N] to terms.
    terms: Callable[[Keypoints2D, Camera | None], tuple[Term, ...]]
    released: RefineConfig
    # Images of a group are refined together and share their shape.
    grouped: bool = False
    # The images of a group are frames of one video, so that motion can be measured.
    is_video: bool = False
    # 2D keypoints and the sizes of the images are needed.
    needs_keypoints: bool = True

    def config(self, mode: str) -> RefineConfig:
        """Returns the loop of the released code, or this library's own.

        Raises:
            ValueError: if the mode is none of MODES.
        """
        if mode not in MODES:
            raise ValueError(f"mode: expected one of {', '.join(MODES)}, found {mode!r}")
        return self.released if mode == "released" else RefineConfig()


def _reprojection(keypoints: Keypoints2D, camera: Camera | None) -> Term:
    if camera is None:
        raise ValueError("keypoints: the cameras are missing; give the images' sizes")
    return keypoints_2d(keypoints, camera)


TASKS = {
    task.name: task
    for task in (
        Task(
            "keypoints",
            lambda keypoints, camera: (_reprojection(keypoints, camera),),
            RefineConfig.released(),
        ),
        Task(
            "multiview",
            lambda keypoints, camera: (multiview(),),
            RefineConfig.released(iterations=2, start=100, step=10, stop=Never()),
            grouped=True,
            needs_keypoints=False,
        ),
        Task(
            "video",
            lambda keypoints, camera: (_reprojection(keypoints, camera), smooth()),
            # Frames of one video could not stop one by one.
            RefineConfig.released(stop=Never()),
            grouped=True,
            is_video=True,
        ),
    )
}
