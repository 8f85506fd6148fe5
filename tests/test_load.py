"""From files to a prior: shipped ones by name, and the range of the shape numbers."""

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from bodies import released_state

from scorehmr_jax import checkpoint
from scorehmr_jax.load import load_prior, shipped_priors
from scorehmr_jax.prior import Prior

SHIPPED = Path(checkpoint.__file__).parent / "weights" / "open-cond.npz"


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


@pytest.mark.parametrize("dtype", ["int8", "bool", np.int32, "complex64"])
def test_a_type_that_holds_no_weights_is_refused(dtype):
    with pytest.raises(ValueError, match="dtype: expected a floating-point type such as"):
        load_prior("open-uncond", dtype=dtype)


def test_a_type_that_jax_would_narrow_is_refused():
    with pytest.raises(ValueError, match="dtype: float64 needs jax's x64 mode"):
        load_prior("open-uncond", dtype="float64")


def older(path, changes):
    """Writes a shipped prior as a library of another age might have done."""
    arrays = dict(np.load(SHIPPED))
    config = json.loads(str(arrays.pop("config"))) | changes
    config = {name: value for name, value in config.items() if value is not None}
    np.savez(path, **arrays, config=np.array(json.dumps(config)))


def test_older_files_lack_names_and_call_features_image(tmp_path):
    none = dict.fromkeys(("network", "schedule", "written_by"))
    older(tmp_path / "a.npz", none | {"condition_on": "image"})
    prior, wanted = load_prior(tmp_path / "a.npz"), load_prior("open-cond")
    assert prior.condition_on == "features" and wanted.condition_on == "estimate"
    jax.tree.map(np.testing.assert_array_equal, replace(prior, condition_on="estimate"), wanted)
    older(tmp_path / "a.npz", none | {"condition_on": None})
    assert load_prior(tmp_path / "a.npz").condition_on == "features"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"condition_on": "none"}, "condition_on: the network takes 144 features, found 'none'"),
        ({"condition_on": "pixels"}, "expected one of features, estimate, none, found 'pixels'"),
        ({"condition_on": 3}, "expected one of features, estimate, none, found 3"),
        (
            {"schedule": {"kind": "sine", "steps": 9}},
            "expected one of cosine, linear, found 'sine'",
        ),
        ({"schedule": {"kind": "cosine", "steps": 1}}, "at least 2 levels, found 1"),
        ({"schedule": {"kind": "cosine"}}, "schedule: expected kind and steps, found {'kind'"),
        ({"schedule": "cosine"}, "schedule: expected kind and steps, found 'cosine'"),
        ({"network": "residual-mlp"}, "schedule: expected it in a file that .* found none; make"),
        (
            {"noise_schedule": {"kind": "linear", "steps": 1000}},
            "schedule: expected it .* found noise_schedule, which is not read; make the",
        ),
        (
            {
                "network": "residual-mlp",
                "schedule": {"kind": "cosine", "steps": 9},
                "condition_on": None,
            },
            "condition_on: expected it .* found none; make",
        ),
        ({"betas_range": [[0] * 10, [1] * 10]}, "betas_range: this network models no shape"),
        ({"network": "transformer"}, "expected one of residual-mlp, found 'transformer'"),
        ({"network": ["residual-mlp"]}, r"expected one of residual-mlp, found \['residual-mlp'\]"),
        ({"hidden": None}, r"expected features, .* absent: \['hidden'\]"),
        ({"hidden": "256"}, "hidden: expected a whole number of at least 1, found '256'"),
    ],
)
def test_a_description_that_makes_no_sense_is_refused(tmp_path, changes, message):
    older(tmp_path / "a.npz", changes)
    with pytest.raises(ValueError, match=rf"a\.npz: config: .*{message}"):
        load_prior(tmp_path / "a.npz")


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
    with pytest.raises(
        ValueError, match=r"betas_max: expected numbers \(10,\), found float64 \(9,\)"
    ):
        load_prior(path, betas_stats=wrong)
    for dtype in (np.uint8, np.float32):  # unsigned, the difference is 254
        np.savez(wrong, betas_min=np.full(10, 5, dtype), betas_max=np.full(10, 3, dtype))
        with pytest.raises(ValueError, match=r"stats\.npz: expected betas_min below betas_max"):
            load_prior(path, betas_stats=wrong)
    np.savez(wrong, betas_min=np.full(10, 3, np.uint8), betas_max=np.full(10, 5, np.uint8))
    found = load_prior(path, betas_stats=wrong).betas_range
    np.testing.assert_array_equal(found, np.repeat([[3.0], [5.0]], 10, 1))


def test_statistics_that_are_not_read_are_named():
    with pytest.warns(UserWarning, match=r"nowhere\.npz: not read: .* models no shape"):
        load_prior("open-uncond", betas_stats="nowhere.npz")


def test_a_range_that_a_prior_carries_comes_first(golden, tmp_path):
    np.savez(tmp_path / "weights.npz", **released_state(golden, "tiny_betas"))
    params, config = checkpoint.read(tmp_path / "weights.npz")
    carried = [[-3.0] * 10, [2.0] * 10]
    checkpoint.save_npz(tmp_path / "a.npz", params, config | {"betas_range": carried})
    stats = golden / "pack" / "betas_stats_eft_fits.npz"
    for given in (None, stats):
        with contextlib.nullcontext() if given is None else pytest.warns(match="carries its own"):
            prior = load_prior(tmp_path / "a.npz", betas_stats=given)
        np.testing.assert_array_equal(prior.betas_range, np.float32(carried))
    for wrong in (carried[::-1], [[0.0] * 9] * 2, [[-np.inf] * 10, [1.0] * 10], "wide"):
        with pytest.raises(ValueError, match=r"b\.npz: config: betas_range: expected \[2, 10\]"):
            checkpoint.save_npz(tmp_path / "b.npz", params, config | {"betas_range": wrong})
