"""Figures and pictures of a run on poses that it is not trained on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_runs import SCHEDULE

from body_model import stand_in
from scorehmr_jax.networks.denoiser import ResidualMLP
from scorehmr_jax.training.sharding import Placement
from scorehmr_jax.training.step import TrainingBatch
from scorehmr_jax.training.validator import Validator


@pytest.mark.slow
@pytest.mark.parametrize("condition_on", ["none", "estimate"])
def test_a_run_is_measured_and_drawn(tmp_path, condition_on):
    image = pytest.importorskip("matplotlib.image")
    conditioned = condition_on == "estimate"
    denoiser = ResidualMLP(features=144 if conditioned else 0, hidden=8, blocks=1)
    params = jax.jit(denoiser.init)(jax.random.key(0))
    upright = jnp.tile(jnp.array([1.0, 0, 0, 0, 1, 0]), (12, 24))
    batch = TrainingBatch(upright, upright if conditioned else None)
    validate = Validator(
        denoiser,
        SCHEDULE,
        batch,
        Placement.of(jax.devices()[:1]),
        condition_on=condition_on,
        body=stand_in(),
        samples=2,
    )
    found = validate(params, jax.random.key(1))
    assert all(np.isfinite(value) for value in found.values())
    assert ("val_best_pa_mpjpe" in found) == conditioned
    bands = [value for name, value in found.items() if name.startswith("val_loss_")]
    assert found["val_loss"] == pytest.approx(np.mean(bands)) and len(bands) == 5
    validate.draw(tmp_path / "samples/8.png", params, jax.random.key(1))
    picture = image.imread(tmp_path / "samples/8.png")
    assert picture.shape[0] > 400 and picture.shape[1] > 700 and picture.std() > 0.01
