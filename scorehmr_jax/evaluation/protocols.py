"""How each benchmark is run and measured: one object per benchmark."""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from body_model.joints import EVAL_14, EVAL_17, EVAL_PELVIS
from scorehmr_jax.formats.released_layout import ReleasedLayout
from scorehmr_jax.guidance import Term, keypoints_2d, multiview, smooth
from scorehmr_jax.refine import RefineConfig
from scorehmr_jax.stopping import Never
from scorehmr_jax.types import Camera, Keypoints2D


@dataclass(frozen=True)
class Files:
    """Where everything is that an evaluation reads."""

    data: Path  # annotations
    estimates: Path  # of a regression network, for the same images
    body: Path  # SMPL
    extra_joints: Path  # regressor of the 19 joints that are evaluated
    weights: Path  # of the prior
    features: Path | None = None  # of the images, for a prior that wants them
    feature_stats: Path | None = None  # their mean and standard deviation
    betas_stats: Path | None = None  # range of the shape numbers, for a prior with shape
    image_sizes: Path | None = None

    @classmethod
    def names(cls) -> tuple[str, ...]:
        return tuple(f.name for f in fields(cls))


@dataclass(frozen=True)
class Protocol:
    """A benchmark."""

    task: str  # keypoints, multiview or video
    data: str = ""  # its file in the released layout
    joints: tuple[int, ...] = EVAL_14  # of the 44 keypoints, those that are measured
    pelvis: int = EVAL_PELVIS  # of the 44, what both bodies are centred on
    fps: float = 30.0  # frames per second of its videos
    # Whether the true bodies are of the body that is given; 3DPW's are of the subject's gender.
    neutral_truth: bool = field(default=True, kw_only=True)

    @property
    def grouped(self) -> bool:
        """Whether a group's images are refined together and share their shape."""
        return self.task != "keypoints"

    @property
    def uses_keypoints(self) -> bool:
        return self.task != "multiview"

    def config(self, mode: str) -> RefineConfig:
        """The loop as the released code runs it, or as this library does by default."""
        if mode == "default":
            return RefineConfig()
        if self.task == "multiview":
            return RefineConfig.released(iterations=2, start=100, step=10, stop=Never())
        # Frames of one video could not stop one by one.
        return (
            RefineConfig.released(stop=Never()) if self.task == "video" else RefineConfig.released()
        )

    def terms(self, keypoints: Keypoints2D, camera: Camera | None) -> tuple[Term, ...]:
        """The guidance that the benchmark is about, with the paper's weights.

        Args:
            keypoints: [..., N, 25] OpenPose; not read by multi-view refinement.
            camera: [..., N]; likewise.
        """
        if self.task == "multiview":
            return (multiview(),)
        if camera is None:
            raise ValueError(f"{self.task}: the camera is missing; give image sizes")
        evidence = keypoints_2d(keypoints, camera)
        return (evidence, smooth()) if self.task == "video" else (evidence,)

    def released_files(self, root: str | Path, **given: Any) -> Files:
        """Lists the files of this benchmark in the released code's folders.

        Args:
            root: its folder `data`; `cache` is in it or beside it.
            given: files that are elsewhere, by field of Files.
        Raises:
            ValueError: if there are several checkpoints to choose from.
        """
        layout = ReleasedLayout(root)
        sizes = layout.image_sizes(self.data)
        files = Files(
            data=layout.annotations(self.data),
            estimates=layout.predictions("hmr2b", self.data),
            body=layout.body,
            extra_joints=layout.extra_joints,
            weights=given.get("weights") or layout.checkpoint(),
            features=layout.predictions("pare", self.data),
            feature_stats=layout.feature_statistics("pare"),
            betas_stats=layout.betas_statistics,
            image_sizes=sizes if sizes.is_file() else None,
        )
        return replace(files, **given)


TASKS = {name: Protocol(name) for name in ("keypoints", "multiview", "video")}

BENCHMARKS = {
    "3dpw": Protocol("keypoints", "3dpw_test.npz", neutral_truth=False),
    "3dpw-video": Protocol("video", "3dpw_test_video.pkl", neutral_truth=False),
    "h36m": Protocol("keypoints", "h36m_val_p2.npz", fps=50),
    "h36m-multiview": Protocol("multiview", "h36m_val_multiview.pkl", fps=50),
    "mannequin": Protocol("multiview", "mannequin.pkl", joints=EVAL_17),
}
