"""Validation of a run: figures on poses that it is not trained on, and pictures of samples."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Key

from body_model import SMPL, Skeleton
from body_model.pytree import Array
from scorehmr_jax import cluster
from scorehmr_jax.datasets.batch import TrainingBatch
from scorehmr_jax.diffusion import Schedule
from scorehmr_jax.networks.protocol import Network
from scorehmr_jax.prior import Prior
from scorehmr_jax.training.sharding import Placement
from scorehmr_jax.training.validation import BANDS, band_losses, inversion_error, sample_errors

SAMPLED = 64  # poses whose samples are measured
_DRAWN = 4  # poses in a picture, with six samples each
_GRID = 18  # samples in a picture of an unconditional prior


class Validator:
    """Measures averaged weights on a batch, and draws samples; programs are compiled once.

    Args:
        network, schedule: of the run.
        batch: validation poses.
        placement: of the run.
        condition_on: as `Prior.condition_on`.
        body: to measure and draw samples with; None does neither.
        samples: number of samples for each pose that is measured, of a prior with a condition; 0
            leaves this out.
    """

    def __init__(
        self,
        network: Network,
        schedule: Schedule,
        batch: TrainingBatch,
        placement: Placement,
        *,
        condition_on: str = "none",
        body: SMPL | None = None,
        samples: int = 0,
    ) -> None:
        self._placement, self._body, self._condition_on = placement, body, condition_on
        self._losses = jax.jit(partial(band_losses, network, schedule))
        self._inversion = jax.jit(partial(inversion_error, network, schedule))
        self._batch = placement.put(batch)
        apart = max(1, len(batch.x_0) // SAMPLED)  # as neighbours are alike
        some = jax.tree.map(lambda x: np.asarray(x)[::apart][:SAMPLED], batch)
        self._some = placement.put(some)
        self._errors = None
        if body is not None and samples and condition_on != "none":
            skeleton = Skeleton.of(body)
            self._errors = jax.jit(partial(sample_errors, network, schedule, skeleton, samples))
        shown = jax.tree.map(lambda x: x[:: max(1, len(x) // _DRAWN)][:_DRAWN], some)
        self._shown, self._features = shown, placement.put(shown).features

        def samples_of(params: Any, features: Array | None, key: Array) -> Array:
            prior = Prior(params, schedule, None, network)
            shape = (_GRID, 1) if features is None else (6, len(features))
            return prior.sample(key, features, shape=shape)

        self._samples = jax.jit(samples_of)

    def __call__(self, params: Any, key: Key[Array, ""]) -> dict[str, float]:
        """Computes figures by name, val_loss among them. All processes must call it."""
        bands = np.asarray(self._losses(params, self._batch, key), float)
        found = {f"loss_{a}_{b}": x for (a, b), x in zip(BANDS, bands, strict=True)}
        inversion = self._inversion(params, self._batch)
        found |= {"loss": bands.mean(), "inversion_error": inversion}
        if self._errors is not None:
            found |= self._errors(params, self._some, key)
        return {f"val_{name}": float(value) for name, value in found.items()}

    def draw(self, path: Path, params: Any, key: Key[Array, ""]) -> None:
        """Writes a picture of samples. All processes must call it; the first one draws.

        Raises:
            ImportError: if matplotlib is not installed.
        """
        from scorehmr_jax.output.pictures import save_png
        from scorehmr_jax.output.sample_pictures import draw_samples

        drawn = self._placement.gather(self._samples(params, self._features, key))
        if self._body is None or not cluster.is_main():
            return
        shown = self._shown
        if shown.features is None:
            picture = draw_samples(self._body, drawn)
        else:
            estimate = shown.features if self._condition_on == "estimate" else None
            picture = draw_samples(self._body, drawn, shown.x_0, estimate)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_png(path, picture)
