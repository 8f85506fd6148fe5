"""Priors written for others: the released .pt placement, safetensors."""

import json
import os
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
from bodies import released_state
from training_runs import TINY, toy_state

from scorehmr_jax import checkpoint
from scorehmr_jax.convert.denoiser import released_denoiser
from scorehmr_jax.convert.torch_file import load_torch
from scorehmr_jax.convert.torch_write import save_torch
from scorehmr_jax.convert.write_released import CONFIG_KEY, released_checkpoint
from scorehmr_jax.load import load_prior, shipped_priors
from scorehmr_jax.networks.denoiser import ResidualMLP
from scorehmr_jax.networks.parameters import flatten, unflatten
from scorehmr_jax.provenance import versions
from scorehmr_jax.training.export import export
from scorehmr_jax.training.run_store import RunStore
from scorehmr_jax.training.sharding import Placement

SHIPPED = Path(checkpoint.__file__).parent / "weights"
SIZES = {"features": 0, "hidden": 16, "blocks": 1, "shape_features": 0, "shape_blocks": 2}
KINDS = ["prior", "prior.npz", "prior.safetensors", "model-1.pt"]


def assert_equal(found, expected):
    """The same keys in the same order, values and types."""
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            assert_equal(found[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert type(found) is type(expected) and len(found) == len(expected)
        for pair in zip(found, expected, strict=True):
            assert_equal(*pair)
    elif isinstance(expected, np.ndarray | np.generic):
        assert found.dtype == expected.dtype and found.shape == expected.shape
        np.testing.assert_array_equal(found, expected)
    else:
        assert type(found) is type(expected) and found == expected


TYPES = ("i8", "i4", "i2", "i1", "u1", "?", "f2", "f4", "f8", "bfloat16", ">f4")
VALUE = {
    "step": 2000,
    "large": -(2**40),
    "lr": 1e-4,
    "none": None,
    "yes": True,
    3: "ä text",
    "list": [1, (2.5, "x"), []],
    "scalar": np.float32(2),
    "empty": np.zeros((0, 3), np.float32),
    "matrix": np.arange(6, dtype=np.float64).reshape(2, 3),
    "columns": np.ones((3, 2), "f2").T,
    **{kind: np.arange(3).astype(jax.numpy.dtype(kind)) for kind in TYPES},
}


def test_what_is_written_is_read_back(tmp_path):
    save_torch(tmp_path / "a.pt", VALUE)
    expected = VALUE | {">f4": VALUE[">f4"].astype("f4"), "columns": np.ones((2, 3), "f2")}
    assert_equal(load_torch(tmp_path / "a.pt"), expected)
    assert os.listdir(tmp_path) == ["a.pt"]


def test_storages_lie_where_they_can_be_mapped(tmp_path):
    save_torch(tmp_path / "a.pt", VALUE)
    raw = (tmp_path / "a.pt").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.pt") as archive:
        for info in archive.infolist():
            assert info.compress_type == zipfile.ZIP_STORED
            content = archive.read(info)
            head = raw[info.header_offset :]
            start = (
                info.header_offset
                + 30
                + sum(int.from_bytes(head[i : i + 2], "little") for i in (26, 28))
            )
            assert start % 64 == 0 and raw[start : start + len(content)] == content
        assert archive.read("a/version") == b"3\n"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [1, {2}]}, r"a\.1: expected numbers or arrays, found set"),
        ({"a": {"b": np.array(["x"])}}, r"a\.b: expected numbers of float32, .*, found <U1"),
        (object(), "value: expected numbers or arrays, found object"),
    ],
)
def test_what_pytorch_lacks_is_named_and_nothing_written(tmp_path, value, message):
    with pytest.raises(ValueError, match=rf"a\.pt: {message}"):
        save_torch(tmp_path / "a.pt", value)
    assert not os.listdir(tmp_path)


def test_the_released_checkpoint_comes_back_key_by_key(golden, tmp_path):
    released = load_torch(golden / "ckpt" / "tiny_pare_model-100.pt.xz")
    params, _ = released_denoiser(released)
    made = released_checkpoint(params, params, step=2000, learning_rate=0.0004)
    save_torch(tmp_path / "model-100.pt", made)
    assert_equal(load_torch(tmp_path / "model-100.pt"), dict(released))


def test_parameters_have_the_released_order_with_shape_too(golden):
    released = released_state(golden, "tiny_betas")
    made = released_checkpoint(*[released_denoiser(released)[0]] * 2)
    names = [key.removeprefix("model.") for key in made["model"] if key.startswith("model.")]
    assert names == list(released)
    assert len(made["opt"]["state"]) == len(released)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's folder, and its state: weights, average and moments all differ."""
    folder = tmp_path_factory.mktemp("export") / "run"
    state = toy_state(Placement.of(jax.devices()[:1]))
    config = {f"denoiser.{name}": size for name, size in SIZES.items()}
    adam = state.opt_state[1][0]
    adam = adam._replace(
        mu=jax.tree.map(lambda x: x + 2, adam.mu), nu=jax.tree.map(lambda x: x + 3, adam.nu)
    )
    state = type(state)(
        state.params,
        jax.tree.map(lambda x: x + 1, state.ema),
        (state.opt_state[0], (adam, *state.opt_state[1][1:])),
        state.step + 70,
    )
    with RunStore(folder, config | {"learning_rate": 0.5, "condition_on": "none"}) as store:
        store.save(state, jax.random.key(0))
    return folder, state


def test_a_run_becomes_a_released_checkpoint(run, tmp_path):
    folder, state = run
    export(folder, tmp_path / "model-1.pt")
    found = load_torch(tmp_path / "model-1.pt")
    assert found["step"] == 70 and found["opt"]["param_groups"][0]["lr"] == 0.5
    params, config = checkpoint.read(tmp_path / "model-1.pt")
    jax.tree.map(np.testing.assert_array_equal, params, state.ema)
    assert config.items() >= SIZES.items()
    online, _ = released_denoiser({"model": found["model"]})
    jax.tree.map(np.testing.assert_array_equal, online, state.params)
    # Number 4 is the input layer's matrix.
    assert found["opt"]["state"][4]["exp_avg"].shape == (144, 144)
    assert (found["opt"]["state"][5]["exp_avg"] == 2).all()
    assert (found["opt"]["state"][5]["exp_avg_sq"] == 3).all()


@pytest.mark.parametrize("name", KINDS)
def test_a_run_becomes_a_prior(run, tmp_path, name):
    folder, state = run
    export(folder, tmp_path / name, step=70)
    params, config = checkpoint.read(tmp_path / name)
    jax.tree.map(np.testing.assert_array_equal, params, state.ema)
    assert config.items() >= (SIZES | {"condition_on": "none"}).items()
    assert load_prior(tmp_path / name).network == TINY


@pytest.mark.parametrize("name", KINDS)
def test_every_form_holds_the_whole_prior(tmp_path, name):
    network = ResidualMLP(3, 8, 1, 2, 1)
    rng = np.random.default_rng(0)
    flat = {k: rng.normal(size=s) for k, s in network.parameter_shapes().items()}
    params = unflatten({k: a.astype(np.float32) for k, a in flat.items()})
    config = checkpoint.description(
        network, schedule=("linear", 900), betas_range=[[-3] * 10, [2] * 10]
    )
    checkpoint.write(tmp_path / "trained.npz", params, config)
    trained = checkpoint.read(tmp_path / "trained.npz")[1]["written_by"]
    export(tmp_path / "trained.npz", tmp_path / "once.npz")
    export(tmp_path / "once.npz", tmp_path / name)
    loaded, found = checkpoint.read(tmp_path / name)
    jax.tree.map(np.testing.assert_array_equal, loaded, params)
    assert found.items() >= config.items()
    assert found["exported_from"] == trained and found["written_by"] == versions()
    prior, wanted = load_prior(tmp_path / name), load_prior(tmp_path / "trained.npz")
    assert (prior.network, prior.condition_on) == (network, "features")
    jax.tree.map(np.testing.assert_array_equal, prior, wanted)


@pytest.mark.parametrize("name", shipped_priors())
def test_a_shipped_prior_goes_to_the_released_code_and_back(tmp_path, name):
    export(SHIPPED / f"{name}.npz", tmp_path / "model-1.pt")
    jax.tree.map(
        np.testing.assert_array_equal, load_prior(tmp_path / "model-1.pt"), load_prior(name)
    )


def test_exports_of_earlier_versions_name_the_network_and_no_schedule(tmp_path):
    export(SHIPPED / "open-uncond.npz", tmp_path / "model-1.pt")
    held = load_torch(tmp_path / "model-1.pt")
    config = json.loads(held[CONFIG_KEY])
    del config["schedule"], config["condition_on"]
    save_torch(tmp_path / "model-2.pt", held | {CONFIG_KEY: json.dumps(config)})
    prior, wanted = load_prior(tmp_path / "model-2.pt"), load_prior("open-uncond")
    jax.tree.map(np.testing.assert_array_equal, prior, wanted)
    assert prior.condition_on == "none"


def test_half_precision_stays_half_in_every_form_but_the_released(tmp_path):
    network = ResidualMLP(0, 4, 1)
    shapes = network.parameter_shapes()
    params = unflatten({k: jax.numpy.ones(s, "bfloat16") for k, s in shapes.items()})
    checkpoint.write(tmp_path / "half", params, checkpoint.description(network))
    for name in KINDS:
        export(tmp_path / "half", tmp_path / "out" / name)
        loaded, _ = checkpoint.read(tmp_path / "out" / name)
        jax.tree.map(np.testing.assert_array_equal, loaded, params)
        types = {a.dtype.name for a in jax.tree.leaves(loaded)}
        assert types == {"float32" if name.endswith(".pt") else "bfloat16"}


def test_safetensors_hold_every_weight(run, tmp_path):
    folder, state = run
    export(folder, tmp_path / "a.safetensors")
    raw = (tmp_path / "a.safetensors").read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header, body = json.loads(raw[8 : 8 + size]), raw[8 + size :]
    assert json.loads(header.pop("__metadata__")["config"])["hidden"] == 16
    expected = flatten(state.ema)
    assert header.keys() == expected.keys()
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        array = np.frombuffer(body[start:end], "<f4").reshape(entry["shape"])
        np.testing.assert_array_equal(array, expected[name])


def _with_shape(path, low):
    network = ResidualMLP(0, 4, 1, 2, 1)
    shapes = network.parameter_shapes()
    params = unflatten({k: np.ones(s, np.float32) for k, s in shapes.items()})
    betas_range = [[low] * 10, [2] * 10]
    checkpoint.write(path, params, checkpoint.description(network, betas_range=betas_range))
    return path


def test_statistics_of_another_prior_stay(tmp_path):
    one, other = _with_shape(tmp_path / "one.npz", -3), _with_shape(tmp_path / "other.npz", -2)
    out = tmp_path / "out"
    export(one, out / "model-1.pt")
    export(one, out / "model-2.pt")  # of the same run, say
    before = (out / "betas_stats.npz").read_bytes()
    with pytest.raises(ValueError, match=r"betas_stats\.npz: expected .* of this prior, .* found"):
        export(other, out / "model-3.pt")
    assert (out / "betas_stats.npz").read_bytes() == before
    assert {path.name for path in out.iterdir()} == {"model-1.pt", "model-2.pt", "betas_stats.npz"}


def test_a_released_prior_is_written_with_its_statistics_or_not_at_all(tmp_path, monkeypatch):
    source, out = _with_shape(tmp_path / "one.npz", -3), tmp_path / "out"
    (out / "betas_stats.npz").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"betas_stats\.npz: is a folder"):
        export(source, out / "model-1.pt")
    assert [path.name for path in out.iterdir()] == ["betas_stats.npz"]
    (out / "betas_stats.npz").rmdir()

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr("scorehmr_jax.training.export.save_torch", full)
    with pytest.raises(OSError, match="disk full"):
        export(source, out / "model-1.pt")
    assert not list(out.iterdir())


def test_what_cannot_be_exported_is_told(run, tmp_path):
    with pytest.raises(ValueError, match=r"a\.h5: expected \.pt, \.npz"):
        export(run[0], tmp_path / "a.h5")
    with pytest.raises(ValueError, match=r"expected a checkpoint of step 3, found \[70\]"):
        export(run[0], tmp_path / "a.npz", step=3)
    export(run[0], tmp_path / "a.npz")
    with pytest.raises(ValueError, match=r"a\.npz: no training run, so there is no step 70"):
        export(tmp_path / "a.npz", tmp_path / "b.npz", step=70)
    (tmp_path / "new" / "checkpoints").mkdir(parents=True)
    with pytest.raises(ValueError, match="new: expected a checkpoint, found none"):
        export(tmp_path / "new", tmp_path / "b.npz")
    with pytest.raises(ValueError, match=r"gs://bucket/b\.npz: is an address"):
        export(tmp_path / "a.npz", "gs://bucket/b.npz")
