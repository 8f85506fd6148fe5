"""Benchmarks, in one table: a data set, the task on it, and what is measured there.

Another benchmark is one more entry of BENCHMARKS: `evaluate.py NAME --data-root DIR` runs it.
"""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from body_model.joints import EVAL_14, EVAL_17, EVAL_PELVIS
from scorehmr_jax.camera import DEFAULT_FOCAL
from scorehmr_jax.evaluation.tasks import TASKS, Task
from scorehmr_jax.formats.backbones import Backbone
from scorehmr_jax.formats.released_layout import ReleasedLayout

# Frames per second that stand in where nobody says how many.
DEFAULT_FPS = 30.0


@dataclass(frozen=True)
class Files:
    """The files that an evaluation reads."""

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
        """Lists the fields."""
        return tuple(f.name for f in fields(cls))


@dataclass(frozen=True)
class Protocol:
    """A benchmark."""

    name: str
    task: str  # one of TASKS
    data: str = ""  # its file in the released layout
    joints: tuple[int, ...] = EVAL_14  # of the 44 keypoints, those that are measured
    pelvis: int = EVAL_PELVIS  # of the 44, the one both bodies are centred on
    fps: float = DEFAULT_FPS  # frames per second of its videos
    focal: float = DEFAULT_FOCAL  # of every camera, pixels
    # The true bodies are of the body model that is given; 3DPW's are of the subject's gender.
    neutral_truth: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ValueError(
                f"{self.name}: task: expected one of {', '.join(TASKS)}, found {self.task!r}"
            )

    @property
    def how(self) -> Task:
        """The task's entry."""
        return TASKS[self.task]

    def released_files(self, root: str | Path, **given: Any) -> Files:
        """Lists the files of this benchmark in the released code's folders, but for features.

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
            betas_stats=layout.betas_statistics,
            image_sizes=sizes if sizes.is_file() else None,
        )
        return replace(files, **given)

    def with_features(self, files: Files, root: str | Path, backbone: Backbone) -> Files:
        """Adds the features of a backbone in the released code's folders, unless given."""
        layout = ReleasedLayout(root)
        return replace(
            files,
            features=files.features or layout.predictions(backbone.folder, self.data),
            feature_stats=files.feature_stats or layout.feature_statistics(backbone.folder),
        )


BENCHMARKS = {
    protocol.name: protocol
    for protocol in (
        Protocol("3dpw", "keypoints", "3dpw_test.npz", neutral_truth=False),
        Protocol("3dpw-video", "video", "3dpw_test_video.pkl", neutral_truth=False),
        Protocol("h36m", "keypoints", "h36m_val_p2.npz", fps=50),
        Protocol("h36m-multiview", "multiview", "h36m_val_multiview.pkl", fps=50),
        Protocol("mannequin", "multiview", "mannequin.pkl", joints=EVAL_17),
    )
}
