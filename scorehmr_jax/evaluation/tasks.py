"""The tasks a prior is used for without retraining, in one table.

Another task is one more entry of TASKS: `evaluate.py NAME` runs it, and a benchmark may name it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

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
    # This library's own loop.
    default: RefineConfig = field(default_factory=RefineConfig.for_images)
    # The guidance of it; None: the same.
    default_terms: Callable[[Keypoints2D, Camera | None], tuple[Term, ...]] | None = None
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
        _check(mode)
        return self.released if mode == "released" else self.default

    def guidance(
        self, mode: str, keypoints: Keypoints2D, camera: Camera | None
    ) -> tuple[Term, ...]:
        """Returns the terms that guide a loop.

        Args:
            mode: one of MODES.
            keypoints: [..., N, 25] of OpenPose.
            camera: [..., N]; None: not known.
        Raises:
            ValueError: if the mode is none of MODES, or the cameras are needed and missing.
        """
        _check(mode)
        terms = self.terms if mode == "released" else self.default_terms or self.terms
        return terms(keypoints, camera)


def _check(mode: str) -> None:
    if mode not in MODES:
        raise ValueError(f"mode: expected one of {', '.join(MODES)}, found {mode!r}")


def _reprojection(keypoints: Keypoints2D, camera: Camera | None) -> Term:
    if camera is None:
        raise ValueError("keypoints: the cameras are missing; give the images' sizes")
    return keypoints_2d(keypoints, camera)


def _keypoints_and_views(keypoints: Keypoints2D, camera: Camera | None) -> tuple[Term, ...]:
    seen = () if camera is None else (keypoints_2d(keypoints, camera),)
    return (*seen, multiview())


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
            RefineConfig.for_views(),
            _keypoints_and_views,
            grouped=True,
            needs_keypoints=False,
        ),
        Task(
            "video",
            lambda keypoints, camera: (_reprojection(keypoints, camera), smooth()),
            # Frames of one video could not stop one by one.
            RefineConfig.released(stop=Never()),
            RefineConfig.for_video(),
            grouped=True,
            is_video=True,
        ),
    )
}
