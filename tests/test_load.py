"""From files to a prior: shipped ones by name, and the range of the shape numbers."""

import jax
import numpy as np
import pytest
from bodies import released_state

from scorehmr_jax import checkpoint
from scorehmr_jax.load import load_prior, shipped_priors
from scorehmr_jax.prior import Prior


def test_shipped_priors_load_by_name():
    for name in shipped_priors():
        prior = load_prior(name)
        assert prior.dim == 144 and prior.condition_on in ("none", "estimate")
        features = prior.network.condition_dim or None
        row = np.zeros((1, features), np.float32) if features else None
        noise = jax.jit(Prior.noise)(prior, np.zeros((1, 144), np.float32), np.array(50), row)
        assert np.isfinite(noise).all()


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="no-such-prior: no such file, and no shipped prior"):
        load_prior("no-such-prior")


def test_a_prior_with_shape_needs_its_statistics(golden, tmp_path):
    path = tmp_path / "weights.npz"
    np.savez(path, **released_state(golden, "tiny_betas"))
    with pytest.raises(ValueError, match="models shape; give betas_stats"):
        load_prior(path)
    wrong = tmp_path / "stats.npz"
    np.savez(wrong, betas_min=np.zeros(10))
    with pytest.raises(ValueError, match=r"stats\.npz: no key betas_max; found"):
        load_prior(path, betas_stats=wrong)
    np.savez(wrong, betas_min=np.zeros(10), betas_max=np.zeros(9))
    with pytest.raises(ValueError, match=r"betas_max: expected \(10,\), found \(9,\)"):
        load_prior(path, betas_stats=wrong)


def test_a_range_that_a_prior_carries_comes_first(golden, tmp_path):
    np.savez(tmp_path / "weights.npz", **released_state(golden, "tiny_betas"))
    params, config = checkpoint.read(tmp_path / "weights.npz")
    carried = [[-3.0] * 10, [2.0] * 10]
    checkpoint.save_npz(tmp_path / "a.npz", params, config | {"betas_range": carried})
    stats = golden / "pack" / "betas_stats_eft_fits.npz"
    for given in (None, stats):
        prior = load_prior(tmp_path / "a.npz", betas_stats=given)
        np.testing.assert_array_equal(prior.betas_range, np.float32(carried))
    checkpoint.save_npz(tmp_path / "b.npz", params, config | {"betas_range": carried[::-1]})
    with pytest.raises(ValueError, match=r"b\.npz: betas_range: expected \[2, 10\]"):
        load_prior(tmp_path / "b.npz")
