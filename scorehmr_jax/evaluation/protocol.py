"""What a benchmark is: a data set, the task on it, and how it is measured there."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from body_model.joints import EVAL_14, EVAL_PELVIS, EXTRA_19, OPENPOSE_25
from scorehmr_jax.camera import DEFAULT_FOCAL
from scorehmr_jax.evaluation.tasks import TASKS, Task
from scorehmr_jax.formats.backbones import Backbone
from scorehmr_jax.formats.released_layout import ReleasedLayout

# Frames per second that stand in where nobody says how many.
DEFAULT_FPS = 30.0

# How the files of a benchmark are written: as the released code has them, or as their makers do.
SOURCES = ("released", "3dpw", "emdb", "aspset", "pose2sim", "open")


@dataclass(frozen=True)
class Files:
    """The files that an evaluation reads."""

    data: Path  # annotations: a file, or the data set's own folder
    estimates: Path  # of a regression network, for the same images
    body: Path | None  # SMPL; None: the open body
    extra_joints: Path | None  # regressor of the 19 joints after OpenPose's 25
    weights: Path | str | None = None  # of the prior
    features: Path | None = None  # of the images, for a prior that wants them
    feature_stats: Path | None = None  # their mean and standard deviation
    betas_stats: Path | None = None  # range of the shape numbers, for a prior with shape
    image_sizes: Path | None = None
    keypoints: Path | None = None  # detections, for a data set that has none
    body_male: Path | None = None  # bodies of the truth, where it is of the subject's gender
    body_female: Path | None = None
    cameras: Path | None = None  # a calibration, for a data set that has none

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Lists the fields."""
        return tuple(f.name for f in fields(cls))


@dataclass(frozen=True)
class Protocol:
    """A benchmark. Texts say what cannot be told from the numbers."""

    name: str
    task: str  # one of TASKS
    data: str = ""  # its file or folder in the released layout
    # Those that are measured: numbers of OpenPose's 25, then of `after_openpose`.
    joints: tuple[int, ...] = EVAL_14
    pelvis: int | tuple[int, ...] = EVAL_PELVIS  # what both bodies are centred on; several: a mean
    fps: float = DEFAULT_FPS  # frames per second of its videos
    focal: float | None = DEFAULT_FOCAL  # of every camera, pixels; None: as the data set has it
    # The true bodies are of the body model that is given; 3DPW's are of the subject's gender.
    neutral_truth: bool = field(default=True, kw_only=True)
    source: str = field(default="released", kw_only=True)  # one of SOURCES
    split: str = field(default="", kw_only=True)
    after_openpose: tuple[str, ...] = field(default=EXTRA_19, kw_only=True)
    regressor: str = field(default="SMPL_to_J19.pkl, from posed vertices", kw_only=True)
    gender: str = field(default="truth and estimates neutral", kw_only=True)
    frames: str = field(default="every row of the file", kw_only=True)
    boxes: str = field(default="those of the file of estimates", kw_only=True)
    alignment: str = field(
        default="MPJPE: pelvis on pelvis; PA-MPJPE: similarity over the joints measured",
        kw_only=True,
    )
    samples: int | None = field(default=None, kw_only=True)  # that are expected; None: not known
    whole: int | None = field(default=None, kw_only=True)  # likewise, before frames are left out
    obtain: str = field(default="", kw_only=True)  # where the data is to be had

    def __post_init__(self) -> None:
        for key, known in (("task", (*TASKS,)), ("source", SOURCES)):
            if (found := getattr(self, key)) not in known:
                raise ValueError(
                    f"{self.name}: {key}: expected one of {', '.join(known)}, found {found!r}"
                )

    @property
    def how(self) -> Task:
        """The task's entry."""
        return TASKS[self.task]

    @property
    def keypoints(self) -> tuple[str, ...]:
        """The names that `joints` and `pelvis` are numbers of."""
        return (*OPENPOSE_25, *self.after_openpose)

    @property
    def needs_regressor(self) -> bool:
        """True if the regressor of 19 joints is needed."""
        return self.after_openpose == EXTRA_19

    def described(self) -> dict[str, Any]:
        """Says in words how it is measured, for print and JSON; the unit is that of each metric."""
        among = self.keypoints
        centre = (self.pelvis,) if isinstance(self.pelvis, int) else self.pelvis
        focal = "as the data set has it" if self.focal is None else f"{self.focal:g} px, of all"
        said = {
            "joints": f"{len(self.joints)}: {', '.join(among[j] for j in self.joints)}",
            "regressor": self.regressor,
            "pelvis": " and ".join(among[j] for j in centre),
            "gender": self.gender,
            "frames": self.frames,
            "boxes": self.boxes,
            "alignment": self.alignment,
            "units": "millimetres in the camera frame, axes x right, y down, z forward",
            "focal length": focal,
            "expected samples": self._expected(),
        }
        if self.how.is_video:
            said["frame rate"] = f"{self.fps:g} per second"
        return said

    def _expected(self) -> str:
        before = "" if self.whole is None else f"{self.whole} before frames are left out"
        return "; ".join(filter(None, (str(self.samples or ""), before))) or "not known"

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
        if self.source != "released":
            detections = layout.predictions("openpose", f"{self.name}.npz")
            files = replace(
                files,
                data=layout.data / self.data,
                estimates=layout.predictions("hmr2b", f"{self.name}.npz"),
                keypoints=detections if detections.is_file() else None,
                image_sizes=None,
            )
        if not self.neutral_truth and self.source != "released":
            male, female = (layout.body.with_name(f"SMPL_{g}.pkl") for g in ("MALE", "FEMALE"))
            files = replace(files, body_male=male, body_female=female)
        return replace(files, **given)

    def with_features(self, files: Files, root: str | Path, backbone: Backbone) -> Files:
        """Adds the features of a backbone in the released code's folders, unless given."""
        layout = ReleasedLayout(root)
        name = self.data if self.source == "released" else f"{self.name}.npz"
        return replace(
            files,
            features=files.features or layout.predictions(backbone.folder, name),
            feature_stats=files.feature_stats or layout.feature_statistics(backbone.folder),
        )


def expectations(protocol: Protocol, frames: Mapping[str, int]) -> list[str]:
    """Tells where counts are not the expected ones, each in a line.

    Args:
        protocol: what is expected.
        frames: the counts of a case: "in the files" and "left out by the protocol".
    """
    whole = frames["in the files"]
    found = whole - frames.get("left out by the protocol", 0)
    counts = (("samples", protocol.samples, found), ("frames in the files", protocol.whole, whole))
    return [
        f"{protocol.name}: expected {wanted} {what}, found {count}: figures are of another set"
        for what, wanted, count in counts
        if wanted is not None and count != wanted
    ]
