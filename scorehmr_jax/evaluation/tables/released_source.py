"""Data of the paper's tables in the released code's folders."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from scorehmr_jax.evaluation.benchmarks import BENCHMARKS
from scorehmr_jax.evaluation.cases import Case
from scorehmr_jax.evaluation.features import features_of
from scorehmr_jax.evaluation.originals import original_case
from scorehmr_jax.evaluation.protocol import Files, Protocol
from scorehmr_jax.evaluation.released import released_case
from scorehmr_jax.evaluation.tables.fill import Missing
from scorehmr_jax.evaluation.tables.paper import NETWORKS
from scorehmr_jax.formats.backbones import backbone_of_width
from scorehmr_jax.formats.released_layout import ReleasedLayout
from scorehmr_jax.load import load_prior
from scorehmr_jax.prior import Prior
from scorehmr_jax.types import Array

# Folders of cache/ and model_weights/, by the names that tables use.
_ESTIMATES = {"hmr2b": "hmr2b", "hmr2a": "hmr2a", "prohmr": "prohmr_preds", "vibe": "vibe"}
_WEIGHTS = {
    "pare-eft": "score_hmr",
    "pare-spin": "score_hmr_pare_spin",
    "prohmr-eft": "score_hmr_prohmr_eft",
    "prohmr-spin": "score_hmr_prohmr_spin",
    "with-shape": "score_hmr_with_shape",
}
_CONFIGS = {"with-shape": "with-shape", "prohmr-spin": "scorehmr-a"}
_SMPL = "SMPL, https://smpl.is.tue.mpg.de (licence: research alone)"


class ReleasedSource:
    """Finds each file by its name in the folder `data` of the released code.

    Args:
        root: that folder.
        images: of the images, to read sizes from; without it the lists of sizes beside the
            annotations are needed.
        dtype: of all arrays.
    """

    def __init__(
        self, root: Path, images: Path | None = None, dtype: DTypeLike = np.float32
    ) -> None:
        self.layout, self.root, self.images, self.dtype = ReleasedLayout(root), root, images, dtype
        self._cases: dict[tuple[str, str], Case] = {}
        self._priors: dict[str, Prior] = {}

    def case(self, start: str, protocol: str) -> Case:
        """Gives the samples of a benchmark with the estimates of a network."""
        if (start, protocol) not in self._cases:
            self._cases[start, protocol] = self._read(start, BENCHMARKS[protocol])
        return self._cases[start, protocol]

    def prior(self, name: str) -> Prior:
        """Loads weights by the name that tables use."""
        if name not in self._priors:
            self._priors[name] = self._load(name)
        return self._priors[name]

    def _read(self, start: str, protocol: Protocol) -> Case:
        files = self._files(start, protocol)
        self._require(start, protocol, files)
        if protocol.source == "released":
            return released_case(protocol, files, self.images, self.dtype)
        return original_case(protocol, files, self.dtype)

    def _load(self, name: str) -> Prior:
        place = self.layout.data / "model_weights" / _WEIGHTS[name] / "model-100.pt"
        if not place.exists():
            how = "download_data.sh of https://github.com/statho/ScoreHMR"
            if name != "pare-eft":
                config = _CONFIGS.get(name, "scorehmr-b")
                how = f"it was not released: train it (python train.py {config}; docs/training.md)"
            raise Missing(f"{place} is missing: {how}")
        betas = self.layout.betas_statistics
        return load_prior(place, betas_stats=betas if betas.is_file() else None, dtype=self.dtype)

    def features(self, prior: Prior, start: str, protocol: str) -> Array | None:
        """Reads the features that a prior takes; None if it takes none."""
        if prior.condition_on != "features":
            return None
        of = BENCHMARKS[protocol]
        width = prior.network.condition_dim
        backbone = backbone_of_width(width)
        files = of.with_features(self._files(start, of), self.root, backbone)
        for path in (files.features, files.feature_stats):
            if path is not None and not path.is_file():
                raise Missing(f"{path} is missing: features of {backbone.name} for {of.name}")
        return features_of(width, files, self.case(start, protocol), self.dtype)

    def _files(self, start: str, protocol: Protocol) -> Files:
        data = protocol.data if protocol.source == "released" else f"{protocol.name}.npz"
        # Which weights is each row's affair.
        files = protocol.released_files(self.root, weights=Path("none"))
        return replace(files, estimates=self.layout.predictions(_ESTIMATES[start], data))

    def _require(self, start: str, protocol: Protocol, files: Files) -> None:
        """Raises `Missing` for all files that are not there, and says where each is to be had."""
        network = NETWORKS[start]
        how = {
            files.data: protocol.obtain,
            files.estimates: "download_hmr2_preds.sh of https://github.com/statho/ScoreHMR"
            if start == "hmr2b" and protocol.source == "released"
            else f"estimates of {network} for {protocol.name}: run it (docs/evaluation.md)",
            files.body: _SMPL,
            files.body_male: _SMPL,
            files.body_female: _SMPL,
        }
        if protocol.needs_regressor:
            how[files.extra_joints] = "download_data.sh of https://github.com/statho/ScoreHMR"
        if protocol.how.needs_keypoints and protocol.source == "emdb":
            detections = files.keypoints or self.layout.predictions(
                "openpose", f"{protocol.name}.npz"
            )
            how[detections] = "detections of OpenPose: run it (docs/evaluation.md)"
        missing = [
            f"{path} is missing: {where}"
            for path, where in how.items()
            if path is not None and not path.exists()
        ]
        needs_sizes = protocol.how.needs_keypoints and protocol.source == "released"
        if needs_sizes and self.images is None and files.image_sizes is None:
            sizes = self.layout.image_sizes(protocol.data)
            missing.append(f"{sizes} is missing: give --images, the folder of the images")
        if missing:
            raise Missing("\n".join(missing))
