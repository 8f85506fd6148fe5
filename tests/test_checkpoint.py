"""A prior on disk: what is written comes back, and only whole."""

import errno
import json
import os
import re
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorehmr_jax import checkpoint, orbax_store
from scorehmr_jax.convert.denoiser import to_released
from scorehmr_jax.convert.safetensors import load_safetensors, save_safetensors
from scorehmr_jax.load import load_prior
from scorehmr_jax.networks.denoiser import ResidualMLP
from scorehmr_jax.networks.parameters import flatten, unflatten
from scorehmr_jax.provenance import versions

CONFIG = {"features": 6, "hidden": 8, "blocks": 2, "shape_features": 4, "shape_blocks": 1}


@pytest.fixture
def params():
    rng = np.random.default_rng(0)
    shapes = ResidualMLP(**CONFIG).parameter_shapes()
    return unflatten({k: rng.normal(size=s).astype(np.float32) for k, s in shapes.items()})


NAMES = ["prior", "prior.npz", "prior.safetensors"]
DTYPES = ["float16", "bfloat16", "float32", "float64"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_comes_back_as_it_was(tmp_path, params, name, dtype):
    config = CONFIG | {"steps": 30000, "data": "some motion"}
    given = jax.tree.map(lambda a: a.astype(jnp.dtype(dtype)), params)
    checkpoint.write(tmp_path / "new" / name, given, config)
    loaded, found = checkpoint.read(tmp_path / "new" / name)
    assert found.items() >= config.items()
    jax.tree.map(np.testing.assert_array_equal, loaded, given)
    assert {type(a) for a in jax.tree.leaves(loaded)} == {np.ndarray}
    assert {a.dtype.name for a in jax.tree.leaves(loaded)} == {dtype}
    assert os.listdir(tmp_path / "new") == [name]


@pytest.mark.parametrize("name", NAMES)
def test_arrays_of_jax_and_of_another_byte_order_are_taken(tmp_path, params, name):
    for given in (
        jax.tree.map(jnp.asarray, params),
        jax.tree.map(lambda a: a.astype(">f4"), params),
    ):
        checkpoint.write(tmp_path / name, given, CONFIG)
        loaded, _ = checkpoint.read(tmp_path / name)
        jax.tree.map(np.testing.assert_array_equal, loaded, params)
        assert all(jnp.asarray(a).dtype == np.float32 for a in jax.tree.leaves(loaded))


@pytest.mark.parametrize("name", NAMES)
def test_a_file_tells_what_it_is_of(tmp_path, params, name):
    checkpoint.write(tmp_path / name, params, CONFIG)
    _, config = checkpoint.read(tmp_path / name)
    assert config["network"] == "residual-mlp"
    assert config["schedule"] == {"kind": "cosine", "steps": 1000}
    assert config["written_by"] == versions()


@pytest.mark.parametrize("name", NAMES)
def test_a_prior_comes_back_in_the_type_that_is_asked_for(tmp_path, params, name):
    half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), params)
    config = CONFIG | {"betas_range": [[-3.0] * 10, [2.0] * 10]}
    checkpoint.write(tmp_path / name, half, config)
    for dtype in ("float32", "bfloat16", np.float16):
        prior = load_prior(tmp_path / name, dtype=dtype)
        assert {a.dtype for a in jax.tree.leaves(prior.params)} == {jnp.dtype(dtype)}
    with jax.enable_x64(True):
        prior = load_prior(tmp_path / name, dtype="float64")
        assert {a.dtype for a in jax.tree.leaves(prior.params)} == {np.dtype(np.float64)}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["int32", "complex64", "float8_e4m3fn"])
def test_numbers_of_another_type_are_refused(tmp_path, params, name, dtype):
    wrong = jax.tree.map(lambda a: a.astype(jnp.dtype(dtype)), params)
    message = f"expected one of float16, bfloat16, float32, float64, found {dtype}"
    with pytest.raises(ValueError, match=message):
        checkpoint.write(tmp_path / name, wrong, CONFIG)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scheme", ["gs", "s3", "https", "file"])
def test_an_address_is_refused(tmp_path, params, name, scheme, monkeypatch):
    monkeypatch.chdir(tmp_path)
    address = f"{scheme}://bucket/{name}"
    for call in (
        lambda: checkpoint.write(address, params, CONFIG),
        lambda: checkpoint.read(address),
        lambda: load_prior(address),
    ):
        with pytest.raises(ValueError, match=f"{address}: is an address"):
            call()
    assert not os.listdir(tmp_path)


def test_saving_through_a_link_writes_where_it_leads(tmp_path, params, monkeypatch):
    rename = os.replace

    def on_two_disks(source, place):
        if ("store" in Path(source).parts) != ("store" in Path(place).parts):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(source, place)

    monkeypatch.setattr(os, "replace", on_two_disks)
    (tmp_path / "latest").symlink_to("store/real")
    for note in ("first", "second"):
        checkpoint.save(tmp_path / "latest", params, CONFIG | {"note": note})
        assert checkpoint.read(tmp_path / "store/real")[1]["note"] == note
        assert checkpoint.read(tmp_path / "latest")[1]["note"] == note
    assert (tmp_path / "latest").is_symlink() and os.listdir(tmp_path / "store") == ["real"]
    assert sorted(os.listdir(tmp_path)) == ["latest", "store"]


def test_another_suffix_is_refused(tmp_path, params):
    with pytest.raises(ValueError, match=r"a\.h5: expected \.npz, \.safetensors or no suffix"):
        checkpoint.write(tmp_path / "a.h5", params, CONFIG)


@pytest.mark.parametrize("name", NAMES)
def test_the_content_decides_not_the_suffix(tmp_path, params, name):
    checkpoint.write(tmp_path / name, params, CONFIG)
    os.rename(tmp_path / name, tmp_path / "renamed")
    jax.tree.map(np.testing.assert_array_equal, checkpoint.read(tmp_path / "renamed")[0], params)


@pytest.mark.parametrize("name", NAMES)
def test_saving_again_replaces(tmp_path, params, name):
    checkpoint.write(tmp_path / name, params, CONFIG)
    doubled = jax.tree.map(lambda a: 2 * a, params)
    checkpoint.write(tmp_path / name, doubled, CONFIG | {"note": "second"})
    loaded, config = checkpoint.read(tmp_path / name)
    assert config["note"] == "second"
    jax.tree.map(np.testing.assert_array_equal, loaded, doubled)
    assert os.listdir(tmp_path) == [name]


def test_save_never_deletes_other_peoples_files(tmp_path, params):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="exists and is no checkpoint"):
        checkpoint.save(tmp_path, params, CONFIG)
    assert (tmp_path / "thesis.tex").exists()


def test_reading_changes_nothing_on_disk(tmp_path, params):
    checkpoint.save(tmp_path / "prior", params, CONFIG)
    for name in ("prior", "other"):
        for kept in (f"{name}.replaced", f".{name}.replaced"):
            (tmp_path / kept).mkdir()
            (tmp_path / kept / "mine").touch()
    before = sorted(map(str, tmp_path.rglob("*")))
    checkpoint.read(tmp_path / "prior")
    with pytest.raises(ValueError, match="other: cannot be read"):
        checkpoint.read(tmp_path / "other")
    assert sorted(map(str, tmp_path.rglob("*"))) == before


def test_a_failed_save_leaves_the_old_checkpoint(tmp_path, params, monkeypatch):
    target = tmp_path / "prior"
    checkpoint.save(target, params, CONFIG)

    def fail(built, final):
        assert (built / orbax_store.MARK).exists()
        raise OSError("disk full")

    monkeypatch.setattr(orbax_store, "put_folder", fail)
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
    with pytest.raises(ValueError, match="prior: cannot be restored"):
        checkpoint.read(path)


def test_released_files_are_read(golden):
    ours, config = checkpoint.read(golden / "ckpt" / "tiny_pare_model-100.pt.xz")
    other, same = checkpoint.read(golden / "ckpt" / "tiny_pare_ema_f16.npz")
    assert config == same and config["features"] == 3072
    jax.tree.map(np.testing.assert_array_equal, ours, other)


def test_released_names_give_the_same_prior(tmp_path, params):
    np.savez(tmp_path / "released.npz", **to_released(params))
    save_safetensors(tmp_path / "released.safetensors", to_released(params), {})
    for name in ("released.npz", "released.safetensors"):
        loaded, config = checkpoint.read(tmp_path / name)
        assert config.items() >= CONFIG.items()
        jax.tree.map(np.testing.assert_array_equal, loaded, params)


def _without(tree, *path):
    if len(path) == 1:
        return {k: v for k, v in tree.items() if k != path[0]}
    return tree | {path[0]: _without(tree[path[0]], *path[1:])}


@pytest.mark.parametrize("name", NAMES)
def test_parameters_and_config_must_belong_together(tmp_path, params, name):
    path = tmp_path / name
    with pytest.raises(ValueError, match=r"blocks_0/linear1/kernel': expected shape \[151, 8\]"):
        checkpoint.write(path, params, CONFIG | {"features": 7})
    with pytest.raises(ValueError, match=r"'pose/output/bias': expected shape \[144\], found none"):
        checkpoint.write(path, _without(params, "pose", "output", "bias"), CONFIG)
    with pytest.raises(ValueError, match=r"absent: \['features', 'blocks'"):
        checkpoint.write(path, params, {"hidden": 8})
    with pytest.raises(ValueError, match="expected what JSON can hold"):
        checkpoint.write(path, params, CONFIG | {"note": object()})
    bad = jax.tree.map(lambda a: a * np.nan, params)
    with pytest.raises(ValueError, match="NaN or infinite"):
        checkpoint.write(path, bad, CONFIG)
    assert not path.exists()


@pytest.mark.parametrize("name", ["a.npz", "a.pt", "a.bin", "a.pkl", "a.safetensors"])
def test_foreign_files_are_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"<html>Please log in</html>")
    with pytest.raises(
        ValueError, match=rf"{name}: not a (whole )?(PyTorch )?(checkpoint|\.safetensors)"
    ):
        checkpoint.read(tmp_path / name)
    with pytest.raises(ValueError, match=rf"absent/{name}: cannot be read \(No such file"):
        checkpoint.read(tmp_path / "absent" / name)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_damaged_file_is_named_whatever_it_does(tmp_path, params, suffix):
    path = tmp_path / f"damaged{suffix}"
    checkpoint.write(path, params, CONFIG)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    if suffix == ".npz":
        spots = [m.start() + k for m in re.finditer(b"PK", whole) for k in range(50)]
    else:
        spots = list(range(8 + int.from_bytes(whole[:8], "little")))
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
            r"'pose/input/bias': expected one of float16, .* found <U1",
        ),
        ({"pose/input": np.ones(3)}, r"parameter 'pose/input': expected none, found shape \[3\]"),
        (
            {"config": np.array(json.dumps(CONFIG | {"blocks": 10**12}))},
            "blocks: expected a whole number of at least 1 and at most 1000",
        ),
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "I64"}, "a: expected one of F64, F32, F16, BF16, found 'I64'"),
        ({"shape": [3]}, r"a: 8 bytes do not hold shape \[3\] of F32"),
        ({"shape": [2**40, 2**40]}, "a: 8 bytes do not hold shape"),
        ({"shape": [-1, -2]}, "a: expected whole numbers"),
        ({"data_offsets": [8, 16]}, "a: lies at bytes 8 to 16 of only 8"),
        (
            {"shape": [10**15], "data_offsets": [0, 4 * 10**15]},
            "a: lies at bytes 0 to 4000000000000000 of only 8; the file is truncated",
        ),
        (
            {"shape": [2**68], "data_offsets": [0, 2**70]},
            f"a: lies at bytes 0 to {2**70} of only 8; the file is truncated",
        ),
        (
            {"shape": [0], "data_offsets": [2**70, 2**70]},
            f"a: lies at bytes {2**70} to {2**70} of only 8",
        ),
        ({"data_offsets": [0]}, "a: expected dtype, shape and data_offsets"),
    ],
    ids=[
        "type",
        "shape",
        "bomb",
        "negative",
        "beyond",
        "memory",
        "whole number",
        "empty",
        "offsets",
    ],
)
def test_safetensors_that_do_not_add_up(tmp_path, change, message):
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | change
    header = json.dumps({"a": entry}).encode()
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(ValueError, match=rf"a\.safetensors: {message}"):
        load_safetensors(tmp_path / "a.safetensors")


@pytest.mark.parametrize("places", [[(0, 8), (0, 8)], [(4, 8), (0, 8)], [(0, 8), (4, 8)]])
def test_safetensors_that_share_bytes_are_refused(tmp_path, places):
    # Else a small file asks for as much memory as it has names.
    header = {
        name: {"dtype": "F32", "shape": [(end - start) // 4], "data_offsets": [start, end]}
        for name, (start, end) in zip("ab", places, strict=True)
    }
    text = json.dumps(header).encode()
    (tmp_path / "a.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    with pytest.raises(ValueError, match=r"a\.safetensors: [ab]: lies .*, where [ab] lies"):
        load_safetensors(tmp_path / "a.safetensors")


def test_safetensors_lie_in_any_order_and_may_be_empty(tmp_path):
    places = {"a": (4, 8), "b": (0, 4), "none": (2, 2), "last": (8, 8), "first": (0, 0)}
    header = {
        name: {"dtype": "F32", "shape": [(end - start) // 4], "data_offsets": [start, end]}
        for name, (start, end) in places.items()
    }
    text = json.dumps(header).encode()
    content = len(text).to_bytes(8, "little") + text + np.float32([2, 1]).tobytes()
    (tmp_path / "a.safetensors").write_bytes(content)
    arrays, _ = load_safetensors(tmp_path / "a.safetensors")
    assert {name: array.tolist() for name, array in arrays.items()} == {
        "a": [1],
        "b": [2],
        "none": [],
        "last": [],
        "first": [],
    }


def test_a_runs_folder_tells_where_its_weights_are(tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"folder of a training run; .*run/weights\.npz"):
        load_prior(tmp_path / "run")


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
