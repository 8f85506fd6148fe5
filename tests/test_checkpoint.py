"""A prior on disk: what is written comes back, and only whole."""

import json
import os
import re
import shutil

import jax
import numpy as np
import pytest

from scorehmr_jax import checkpoint
from scorehmr_jax.convert.denoiser import to_released
from scorehmr_jax.load import load_prior
from scorehmr_jax.networks.denoiser import Denoiser
from scorehmr_jax.networks.parameters import flatten, unflatten

CONFIG = {"features": 6, "hidden": 8, "blocks": 2, "shape_features": 4, "shape_blocks": 1}


@pytest.fixture
def params():
    rng = np.random.default_rng(0)
    shapes = Denoiser(**CONFIG).parameter_shapes()
    return unflatten({k: rng.normal(size=s).astype(np.float32) for k, s in shapes.items()})


def _write(kind, path, params, config):
    if kind == "orbax":
        checkpoint.save(path, params, config)
    else:
        checkpoint.save_npz(path, params, config)


@pytest.mark.parametrize(("kind", "name"), [("orbax", "prior"), ("npz", "prior.npz")])
def test_comes_back_as_it_was(tmp_path, params, kind, name):
    config = CONFIG | {"steps": 30000, "data": "some motion"}
    _write(kind, tmp_path / "new" / name, jax.tree.map(jax.numpy.asarray, params), config)
    loaded, found = checkpoint.read(tmp_path / "new" / name)
    assert found == config
    jax.tree.map(np.testing.assert_array_equal, loaded, params)
    assert all(type(a) is np.ndarray for a in jax.tree.leaves(loaded))
    assert os.listdir(tmp_path / "new") == [name]


def test_float16_files_come_as_float32(tmp_path, params):
    small = jax.tree.map(lambda a: a.astype(np.float16), params)
    checkpoint.save_npz(tmp_path / "a.npz", small, CONFIG)
    assert np.load(tmp_path / "a.npz")["pose/input/kernel"].dtype == np.float16
    loaded, _ = checkpoint.load_npz(tmp_path / "a.npz")
    assert {a.dtype for a in jax.tree.leaves(loaded)} == {np.dtype("f4")}
    jax.tree.map(np.testing.assert_array_equal, loaded, small)


@pytest.mark.parametrize(("kind", "name"), [("orbax", "prior"), ("npz", "prior.npz")])
def test_saving_again_replaces(tmp_path, params, kind, name):
    _write(kind, tmp_path / name, params, CONFIG)
    doubled = jax.tree.map(lambda a: 2 * a, params)
    _write(kind, tmp_path / name, doubled, CONFIG | {"note": "second"})
    loaded, config = checkpoint.read(tmp_path / name)
    assert config["note"] == "second"
    jax.tree.map(np.testing.assert_array_equal, loaded, doubled)
    assert os.listdir(tmp_path) == [name]


def test_save_never_deletes_other_peoples_files(tmp_path, params):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="exists and is no checkpoint"):
        checkpoint.save(tmp_path, params, CONFIG)
    assert (tmp_path / "thesis.tex").exists()


def test_a_failed_save_leaves_the_old_checkpoint(tmp_path, params, monkeypatch):
    target = tmp_path / "prior"
    checkpoint.save(target, params, CONFIG)
    rename = os.rename

    def fail(source, destination):
        if str(source).endswith("new") and str(destination) == str(target):
            raise OSError("disk full")
        rename(source, destination)

    monkeypatch.setattr(checkpoint.os, "rename", fail)
    with pytest.raises(OSError, match="disk full"):
        checkpoint.save(target, jax.tree.map(lambda a: 2 * a, params), CONFIG)
    loaded, _ = checkpoint.load(target)
    jax.tree.map(np.testing.assert_array_equal, loaded, params)
    assert os.listdir(tmp_path) == ["prior"]


@pytest.mark.parametrize("part", ["_CHECKPOINT_METADATA", "params", "config"])
def test_half_a_directory_is_no_checkpoint(tmp_path, params, part):
    path = tmp_path / "prior"
    checkpoint.save(path, params, CONFIG)
    shutil.rmtree(path / part) if (path / part).is_dir() else (path / part).unlink()
    with pytest.raises(ValueError, match=rf"prior: not a whole checkpoint.*{part} absent"):
        checkpoint.read(path)


def test_damaged_arrays_are_named(tmp_path, params):
    path = tmp_path / "prior"
    checkpoint.save(path, params, CONFIG)
    for file in (path / "params").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(ValueError, match="prior: damaged checkpoint"):
        checkpoint.read(path)


def test_released_files_are_read(golden):
    ours, config = checkpoint.read(golden / "ckpt" / "tiny_pare_model-100.pt.xz")
    other, same = checkpoint.read(golden / "ckpt" / "tiny_pare_ema_f16.npz")
    assert config == same and config["features"] == 3072
    jax.tree.map(np.testing.assert_array_equal, ours, other)


def test_released_names_give_the_same_prior(tmp_path, params):
    np.savez(tmp_path / "released.npz", **to_released(params))
    loaded, config = checkpoint.read(tmp_path / "released.npz")
    assert config == CONFIG
    jax.tree.map(np.testing.assert_array_equal, loaded, params)


def _without(tree, *path):
    if len(path) == 1:
        return {k: v for k, v in tree.items() if k != path[0]}
    return tree | {path[0]: _without(tree[path[0]], *path[1:])}


@pytest.mark.parametrize("kind", ["orbax", "npz"])
def test_parameters_and_config_must_belong_together(tmp_path, params, kind):
    path = tmp_path / "prior"
    with pytest.raises(ValueError, match=r"blocks_0/linear1/kernel': expected shape \[151, 8\]"):
        _write(kind, path, params, CONFIG | {"features": 7})
    with pytest.raises(ValueError, match=r"'pose/output/bias': expected shape \[144\], found none"):
        _write(kind, path, _without(params, "pose", "output", "bias"), CONFIG)
    with pytest.raises(ValueError, match=r"expected whole numbers for features, hidden"):
        _write(kind, path, params, {"hidden": 8})
    with pytest.raises(ValueError, match="expected what JSON can hold"):
        _write(kind, path, params, CONFIG | {"note": object()})
    bad = jax.tree.map(lambda a: a * np.nan, params)
    with pytest.raises(ValueError, match="NaN or infinite"):
        _write(kind, path, bad, CONFIG)
    assert not path.exists()


@pytest.mark.parametrize("name", ["a.npz", "a.pt", "a.bin", "a.pkl"])
def test_foreign_files_are_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"<html>Please log in</html>")
    with pytest.raises(ValueError, match=rf"{name}: not a (whole PyTorch )?checkpoint"):
        checkpoint.read(tmp_path / name)
    with pytest.raises(ValueError, match=rf"absent/{name}: cannot be read \(No such file"):
        checkpoint.read(tmp_path / "absent" / name)


def test_a_damaged_npz_is_named_whatever_it_does(tmp_path, params):
    path = tmp_path / "damaged.npz"
    checkpoint.save_npz(path, params, CONFIG)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    spots = [m.start() + k for m in re.finditer(b"PK", whole) for k in range(50)]
    for spot in rng.choice([k for k in spots if k < len(whole)], 150):
        damaged = bytearray(whole)
        damaged[spot] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            checkpoint.read(path)
        except ValueError as error:  # any other error fails the test
            assert str(path) in str(error)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"pose/input/bias": np.array(["x"] * 144)},
            r"'pose/input/bias': expected floats, found <U1",
        ),
        ({"pose/input": np.ones(3)}, r"parameter 'pose/input': expected none, found shape \[3\]"),
        ({"config": np.array(json.dumps(CONFIG | {"blocks": 10**12}))}, "blocks of only"),
    ],
    ids=["text", "a parameter where modules are", "blocks"],
)
def test_npz_that_only_looks_like_ours(tmp_path, params, change, message):
    arrays = flatten(params) | {"config": np.array(json.dumps(CONFIG))} | change
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=rf"a\.npz: .*{message}"):
        checkpoint.read(tmp_path / "a.npz")


@pytest.mark.parametrize("top", [0.0, np.nan, np.inf])
def test_an_empty_range_of_shape_is_refused(tmp_path, params, top):
    checkpoint.save_npz(tmp_path / "a.npz", params, CONFIG)
    np.savez(tmp_path / "stats.npz", betas_min=np.zeros(10), betas_max=np.full(10, top))
    with pytest.raises(ValueError, match=r"stats\.npz: expected betas_min below betas_max"):
        load_prior(tmp_path / "a.npz", betas_stats=tmp_path / "stats.npz")


def test_truncated_and_other_npz_are_named(tmp_path, params):
    path = tmp_path / "a.npz"
    checkpoint.save_npz(path, params, CONFIG)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"a\.npz: cut short or damaged"):
        checkpoint.read(path)
    np.savez(path, poses=np.ones(3))
    with pytest.raises(ValueError, match=r"a\.npz: no weights of a denoiser.*found keys poses"):
        checkpoint.read(path)
    with pytest.raises(ValueError, match=r"a\.npz: no key 'config'"):
        checkpoint.load_npz(path)
