"""First estimates and image features of the people in pictures, by networks."""

import itertools
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from body_model import SMPL
from scorehmr_jax.camera import crop_to_full
from scorehmr_jax.commands.long_work import progress
from scorehmr_jax.detectors.protocol import Detections
from scorehmr_jax.formats.backbones import backbone_of_width
from scorehmr_jax.formats.bodies.on_body import on_body
from scorehmr_jax.formats.features import flattened
from scorehmr_jax.formats.pictures import Pictures
from scorehmr_jax.networks.image_network import ESTIMATE_KEYS, ImageNetwork
from scorehmr_jax.prior import Prior
from scorehmr_jax.regression.boxes import Boxes
from scorehmr_jax.regression.crop import check_box, crop
from scorehmr_jax.regression.feed import Patch, patches
from scorehmr_jax.regression.run import run, whole_batch
from scorehmr_jax.types import Camera, Estimate

_BATCH = 32


@dataclass(frozen=True)
class Networks:
    """The networks of a refinement of pictures."""

    estimates: ImageNetwork | None = None  # makes the first estimates; None: they are lifted
    features: ImageNetwork | None = None  # gives the prior's features; None: the other one
    statistics: Path | None = None  # mean and standard deviation of the features

    def __post_init__(self) -> None:
        if self.estimates is not None and not self.estimates.gives_estimate:
            raise ValueError(
                f"--network: these weights of {self.estimates.name} give features and no estimate; "
                "give them as --features, and a network that estimates bodies as --network"
            )

    def check(self, width: int) -> None:
        """Raises a ValueError unless these give the `width` features that a prior takes."""
        if not width:
            if self.features is not None:
                warnings.warn(
                    f"--features: the prior takes no image features; {self.features.name} is not "
                    "used",
                    stacklevel=2,
                )
            return
        if self.of_features is None:
            raise ValueError(
                f"the prior takes {width} image features: give --features NAME=FILE, the network "
                "that they are of"
            )
        # Of one picture that is all zeros: whatever would be refused later is refused now.
        keys = backbone_of_width(width).columns
        held = {key: np.zeros(keys[key]) for key in keys if key in self.of_features.feature_keys}
        flattened(held, self.statistics, width, f"the network {self.of_features.name}")

    @property
    def estimator(self) -> ImageNetwork | None:
        """The network of the first estimates, read as its weights were trained."""
        if self.estimates is None:
            return None
        return replace(self.estimates, architecture=self.estimates.architecture.as_trained)

    @property
    def of_features(self) -> ImageNetwork | None:
        """The network that gives the features."""
        return self.features or self.estimates


@dataclass(frozen=True)
class Believed:
    """What networks make of people [P, T]."""

    estimate: Estimate | None  # NaN where nobody is, or the network was not shown anybody
    features: Float[np.ndarray, "P T F"] | None  # standardised
    notes: tuple[str, ...] = ()  # what was assumed


def features_wanted(prior: Prior | None) -> int:
    """Image features that a prior takes for each sample; 0 if it takes none."""
    if prior is None or prior.condition_on != "features":
        return 0
    return prior.network.condition_dim


def believe(
    pictures: Pictures,
    found: Detections,
    boxes: Boxes,
    camera: Camera,
    networks: Networks,
    model: SMPL,
    width: int,
    moving: bool,
) -> Believed:
    """Shows people to networks.

    Args:
        pictures: that they are in.
        found: who is where [P, T].
        boxes: of the people [P, T].
        camera: of the full images [P, T].
        networks: that are shown them.
        model: the body that the estimates are for.
        width: of the features that the prior takes; 0 for none.
        moving: True for the frames of one video: a person has one shape, the mean.
    Raises:
        ValueError: if nobody can be shown.
    """
    outputs: dict[str, np.ndarray] = {}
    estimate, features, notes = None, None, []
    if (estimator := networks.estimator) is not None:
        outputs = _shown(pictures, found, boxes, estimator, "first estimates")
        if moving:
            outputs["pred_betas"] = np.stack([*map(mean_shape, outputs["pred_betas"])])
        estimate, note = in_full_image(outputs, boxes, camera, estimator, model)
        notes += [note] if note else []
    if width:
        of = networks.of_features
        assert of is not None  # see Networks.check
        if networks.features is not None:
            outputs = _shown(pictures, found, boxes, networks.features, "features")
        columns = {key: outputs[key] for key in of.feature_keys}
        features = flattened(columns, networks.statistics, width, f"the network {of.name}")
    return Believed(estimate, features, tuple(notes))


def in_full_image(
    outputs: Mapping[str, np.ndarray],
    boxes: Boxes,
    camera: Camera,
    network: ImageNetwork,
    model: SMPL,
) -> tuple[Estimate, str]:
    """Puts the bodies that a network makes of its boxes before the camera of the full image.

    Args:
        outputs: of the network, [..., N, ...].
        boxes: [..., N] of the people.
        camera: [..., N] of the full images.
        network: whose outputs these are.
        model: the body that the estimates are for.
    Returns:
        The estimates, NaN where the network was not shown anybody, and what was assumed; "" for
        nothing.
    """
    pose, betas, weak = (np.array(outputs[key]) for key in ESTIMATE_KEYS)
    translation = np.full_like(weak, np.nan)
    good = np.isfinite(weak).all(-1)
    if good.any():
        center, side, size, focal = (
            np.asarray(a)[good].astype(np.float32)
            for a in (
                boxes.center,
                boxes.side(network.crop.shown),
                camera.image_size,
                camera.focal,
            )
        )
        translation[good] = crop_to_full(weak[good], center, side, size, focal)
    return on_body(Estimate(pose, betas, translation), "smpl", model)


def mean_shape(betas: Float[np.ndarray, "T B"]) -> Float[np.ndarray, "T B"]:
    """Gives the frames of one person the mean of those that are known; the others stay NaN."""
    known = np.isfinite(betas).all(-1, keepdims=True)
    mean = np.where(known, betas, 0).sum(0) / max(known.sum(), 1)
    return np.where(known, mean, betas).astype(betas.dtype)


def _shown(
    pictures: Pictures, found: Detections, boxes: Boxes, network: ImageNetwork, what: str
) -> dict[str, np.ndarray]:
    """A network's outputs [P, T, ...]; NaN where nobody is. Warns of who could not be shown."""
    side = boxes.side(network.crop.shown)
    rows = [(int(p), int(t)) for t, p in np.argwhere(found.found.T)]
    persons, frames = np.array(rows).T
    seen = progress(
        _patches(pictures, boxes.center, side, rows, network.crop.size), what, len(rows)
    )
    outputs: dict[str, np.ndarray] = {}
    start, problems = 0, []
    for batch in run(network, seen, whole_batch(min(_BATCH, len(rows)))):
        part = slice(start, start := start + len(batch.problems))
        for key, value in batch.outputs.items():
            if key not in outputs:
                outputs[key] = np.full((*found.score.shape, *value.shape[1:]), np.nan, np.float32)
            outputs[key][persons[part], frames[part]] = value
        problems += [text for text in batch.problems if text]
    if len(problems) == len(rows):
        raise ValueError(f"nobody could be shown to {network.name}: {problems[0]}")
    for text in problems[:8]:
        warnings.warn(f"not shown to {network.name}: {text}", stacklevel=3)
    if len(problems) > 8:
        warnings.warn(f"{len(problems) - 8} more were not shown to {network.name}", stacklevel=3)
    return outputs


def _patches(
    pictures: Pictures,
    center: np.ndarray,
    side: np.ndarray,
    rows: list[tuple[int, int]],
    size: int,
) -> Iterator[Patch]:
    """The patch of each person and frame, frame by frame."""
    if not pictures.is_video:
        persons, frames = np.array(rows).T
        files = [pictures.files[t] for t in frames]
        yield from patches(files, center[persons, frames], side[persons, frames], size)
        return
    by_frame = itertools.groupby(rows, key=lambda row: row[1])
    wanted = {t: [person for person, _ in held] for t, held in by_frame}
    for t, frame in enumerate(pictures):
        for person in wanted.get(t, []):
            image_size = np.array(frame.shape[1::-1], float)
            try:
                check_box(center[person, t], side[person, t])
            except ValueError as error:
                yield Patch(np.zeros((size, size, 3), np.uint8), image_size, f"frame {t}: {error}")
                continue
            yield Patch(crop(frame, center[person, t], side[person, t], size), image_size)
