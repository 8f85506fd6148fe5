"""Weights of the networks that look at pictures: released checkpoints, and files of our own."""

import json
import pickle
import tracemalloc
import warnings
import zipfile
from dataclasses import dataclass, replace

import golden_networks as nets
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from body_model.placeholders import UnsafePickle
from scorehmr_jax import image_checkpoint
from scorehmr_jax.commands.main import main
from scorehmr_jax.convert.safetensors import load_safetensors, save_safetensors
from scorehmr_jax.convert.torch_write import save_torch
from scorehmr_jax.load import load_image_network
from scorehmr_jax.networks.hmr2 import HMR2
from scorehmr_jax.networks.image_registry import IMAGE_NETWORKS
from scorehmr_jax.networks.parameters import flatten
from scorehmr_jax.networks.prohmr import ProHMR


@dataclass(frozen=True)
class SmallEncoder(ProHMR):
    width: int = 4
    blocks: tuple[int, ...] = (1, 1, 1, 1)
    gives_estimate: bool = False


@dataclass(frozen=True)
class SmallHMR2(HMR2):
    width: int = 16
    depth: int = 1
    heads: int = 2
    decoder_width: int = 16
    decoder_depth: int = 1
    decoder_heads: int = 2
    decoder_inner: int = 8
    decoder_hidden: int = 16


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    monkeypatch.setitem(IMAGE_NETWORKS, "prohmr", SmallEncoder)
    monkeypatch.setitem(IMAGE_NETWORKS, "hmr2", SmallHMR2)


def state(kind=SmallEncoder):
    """The released tensors of a small network."""
    shapes = nets.released_shapes(kind())
    return {key: nets.weight(key, shape) for key, shape in shapes.items()}


def assert_same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.fixture(scope="module")
def expected():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(IMAGE_NETWORKS, "prohmr", SmallEncoder)
        return nets.network(SmallEncoder(), state()).params


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "_orig_mod.", "model._orig_mod."])
@pytest.mark.parametrize("layout", ["plain", "lightning", "alone"])
def test_every_way_of_saving_gives_the_same_network(tmp_path, expected, prefix, layout):
    saved = {prefix + key: value for key, value in state().items()}
    if layout == "alone":
        saved = {key.replace("backbone.", ""): value for key, value in saved.items()}
    if layout == "lightning":
        saved = {prefix + "smpl.layer.weight": np.ones(3, np.float32)} | saved
        saved = {"epoch": 3, "state_dict": saved, "hyper_parameters": {"lr": 1e-4}}
    path = tmp_path / "data.ckpt"
    save_torch(path, saved)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network = load_image_network(path)
    assert network.name == "prohmr"
    assert_same(network.params, expected)


def test_a_norm_folded_into_its_convolution_changes_nothing():
    # A convolution of one pixel, written out.
    tensors = {key: value.astype(np.float64) for key, value in state().items()}
    key, norm = "backbone.layer1.0.conv1", "backbone.layer1.0.bn1"
    weight, *rest = (
        tensors[name]
        for name in (f"{key}.weight", *(f"{norm}.{leaf}" for leaf in ("weight", "bias")))
    )
    mean, variance = tensors[f"{norm}.running_mean"], tensors[f"{norm}.running_var"]
    pixel = np.arange(4.0)
    plain = weight[:, :, 0, 0] @ pixel
    after = (plain - mean) / np.sqrt(variance + 1e-5) * rest[0] + rest[1]
    layer = nets.network(SmallEncoder(), state()).params["layer1_0"]["conv1"]
    np.testing.assert_allclose(pixel @ layer["kernel"][0, 0] + layer["bias"], after, rtol=1e-5)


def test_tensors_that_do_not_fit_are_listed(tmp_path):
    saved = state()
    del saved["backbone.layer4.0.conv2.weight"]
    saved["backbone.layer5.0.conv1.weight"] = np.ones((2, 2), np.float32)
    saved["backbone.conv1.weight"] = np.ones((4, 3, 3, 3), np.float32)
    path = tmp_path / "wrong.pt"
    save_torch(path, saved)
    with pytest.raises(ValueError) as error:
        load_image_network(path)
    for part in (
        "wrong.pt (prohmr)",
        "missing: backbone.layer4.0.conv2.weight;",
        "not expected: backbone.layer5.0.conv1.weight;",
        "of another shape: backbone.conv1.weight: expected [4, 3, 7, 7], found [4, 3, 3, 3]",
    ):
        assert part in str(error.value)


def test_counters_of_batches_may_be_absent(tmp_path, expected):
    saved = {key: value for key, value in state().items() if "num_batches" not in key}
    save_torch(tmp_path / "old.pt", saved)
    assert_same(load_image_network(tmp_path / "old.pt").params, expected)


def test_parts_that_are_not_read_are_named(tmp_path):
    more = {"depth.weight": np.ones(2, np.float32), "flow.weight": np.ones(2, np.float32)}
    save_torch(tmp_path / "more.pt", state() | more)
    with pytest.warns(UserWarning, match=r"not read, tensors of: depth \(1\); flow \(1\)"):
        load_image_network(tmp_path / "more.pt")


def test_another_network_is_told_by_its_name(tmp_path):
    save_torch(tmp_path / "net.pt", state(SmallHMR2))
    assert load_image_network(tmp_path / "net.pt").name == "hmr2"
    with pytest.raises(ValueError, match=r"expected the network pare; these are .* of hmr2"):
        load_image_network(tmp_path / "net.pt", "pare")
    with pytest.raises(ValueError, match=r"network: expected one of .*, found 'vgg'"):
        load_image_network(tmp_path / "net.pt", "vgg")


def test_what_is_no_network_is_said(tmp_path):
    save_torch(tmp_path / "other.pt", {"fc.weight": np.ones((2, 2), np.float32)})
    with pytest.raises(ValueError, match=r"no weights of prohmr, pare, hmr2; .* fc.weight"):
        load_image_network(tmp_path / "other.pt")
    save_torch(tmp_path / "empty.pt", {"epoch": 3})
    with pytest.raises(ValueError, match=r"empty.pt: no weights; found the keys epoch"):
        load_image_network(tmp_path / "empty.pt")
    save_torch(tmp_path / "list.pt", [1, 2])
    with pytest.raises(ValueError, match="expected a dict of weights, found list"):
        load_image_network(tmp_path / "list.pt")
    save_torch(tmp_path / "two.pt", {"a.weight": np.ones(1), "module.a.weight": np.ones(1)})
    with pytest.raises(ValueError, match=r"'module.a.weight': a second tensor of the name"):
        load_image_network(tmp_path / "two.pt")
    (tmp_path / "text.bin").write_text("nothing of the kind")
    with pytest.raises(ValueError, match=r"text.bin: no network's file; expected a released"):
        load_image_network(tmp_path / "text.bin")
    with pytest.raises(ValueError, match=r"gone.ckpt: cannot be read"):
        load_image_network(tmp_path / "gone.ckpt")


def test_a_truncated_checkpoint_is_named(tmp_path):
    save_torch(tmp_path / "whole.ckpt", state())
    data = (tmp_path / "whole.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"cut.ckpt: not a whole PyTorch checkpoint.*truncated"):
        load_image_network(tmp_path / "cut.ckpt")


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_weights_in_half_precision_are_announced(tmp_path, expected, dtype):
    half = {k: v.astype(dtype) if v.dtype == np.float32 else v for k, v in state().items()}
    save_torch(tmp_path / "half.pt", half)
    with pytest.warns(UserWarning, match=f"weights of {np.dtype(dtype)}, read as float32"):
        network = load_image_network(tmp_path / "half.pt")
    for leaf, whole in zip(jax.tree.leaves(network.params), jax.tree.leaves(expected), strict=True):
        assert leaf.dtype == jnp.float32
        np.testing.assert_allclose(leaf, whole, rtol=0.02, atol=0.02)


def test_numbers_that_are_none_are_named(tmp_path):
    bad = state()
    bad["backbone.layer2.0.bn1.running_var"] = np.full(8, np.nan, np.float32)
    save_torch(tmp_path / "nan.pt", bad)
    with pytest.raises(ValueError, match=r"'backbone.layer2.0.bn1.running_var'.*NaN or infinite"):
        load_image_network(tmp_path / "nan.pt")


def save_with(path, module, name, instance):
    """Puts a class, or an object of it, into a checkpoint beside the weights."""
    save_torch(path, {"state_dict": state()})
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    (root,) = (key for key in members if key.endswith("data.pkl"))
    value = pickle.GLOBAL + f"{module}\n{name}\n".encode()
    if instance:  # with an item and a state of its own, as a dict's subclass has them
        text = pickle.BINUNICODE + (2).to_bytes(4, "little") + b"lr"
        item = pickle.MARK + text + pickle.NONE + pickle.SETITEMS
        value += pickle.EMPTY_TUPLE + pickle.NEWOBJ + item + pickle.EMPTY_DICT + pickle.BUILD
    # {"state_dict": ...} becomes {"state_dict": ..., "settings": value}.
    end = pickle.SETITEMS + pickle.STOP
    assert members[root].endswith(end)
    key = pickle.BINUNICODE + (8).to_bytes(4, "little") + b"settings"
    members[root] = members[root].removesuffix(end) + key + value + end
    with zipfile.ZipFile(path, "w") as archive:
        for filename, content in members.items():
            archive.writestr(filename, content)


@pytest.mark.parametrize("instance", [True, False])
@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("yacs.config", "CfgNode"),
        ("omegaconf.dictconfig", "DictConfig"),
        ("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint"),
    ],
)
def test_settings_of_a_run_are_passed_over(tmp_path, expected, module, name, instance):
    save_with(tmp_path / "run.ckpt", module, name, instance)
    assert_same(load_image_network(tmp_path / "run.ckpt").params, expected)


def test_a_callable_that_is_not_allowed_is_refused_by_name(tmp_path):
    save_with(tmp_path / "bad.ckpt", "evil.tools", "shell", True)
    with pytest.raises(UnsafePickle, match=r"bad.ckpt: refuses evil.tools.shell"):
        load_image_network(tmp_path / "bad.ckpt")


@pytest.mark.parametrize("out", ["net.safetensors", "net"])
def test_convert_writes_what_reads_back(tmp_path, expected, capsys, out):
    save_torch(tmp_path / "data.ckpt", state())
    main(["convert", str(tmp_path / "data.ckpt"), "--out", str(tmp_path / out)])
    assert "SmallEncoder(width=4" in capsys.readouterr().out
    network = load_image_network(tmp_path / out, "prohmr")
    assert_same(network.params, expected)
    # And into the other form, in 16 bits.
    other = tmp_path / ("again" if out.endswith("s") else "again.safetensors")
    main(["convert", str(tmp_path / out), "--out", str(other), "--type", "bfloat16"])
    params, architecture = image_checkpoint.read(other)
    assert architecture == SmallEncoder()
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {"bfloat16"}
    narrow = load_image_network(other, dtype="bfloat16")
    assert_same(narrow.params, network.astype("bfloat16").params)


def test_released_tensors_as_safetensors_are_read_too(tmp_path, expected):
    floats = {key: value for key, value in state().items() if value.dtype == np.float32}
    save_safetensors(tmp_path / "net.safetensors", floats, {})
    assert_same(load_image_network(tmp_path / "net.safetensors").params, expected)


def test_our_own_files_are_checked(tmp_path, expected):
    path = tmp_path / "net.safetensors"
    image_checkpoint.write(path, expected, SmallEncoder())
    arrays, metadata = load_safetensors(path)
    assert arrays.keys() == flatten(expected).keys()
    with pytest.raises(ValueError, match="expected the network hmr2, found prohmr"):
        load_image_network(path, "hmr2")
    short = {key: value for key, value in arrays.items() if key != "conv1/bias"}
    save_safetensors(tmp_path / "short.safetensors", short, metadata)
    with pytest.raises(ValueError, match=r"conv1/bias: expected \[4\], found none"):
        load_image_network(tmp_path / "short.safetensors")
    config = {**json.loads(metadata["config"]), "network": "vgg"}
    save_safetensors(tmp_path / "vgg.safetensors", arrays, {"config": json.dumps(config)})
    with pytest.raises(ValueError, match=r"config: network: expected one of .*found 'vgg'"):
        load_image_network(tmp_path / "vgg.safetensors")
    with pytest.raises(ValueError, match=r"expected .safetensors or no suffix, found .npz"):
        image_checkpoint.write(tmp_path / "net.npz", expected, SmallEncoder())


def test_a_mistake_of_convert_is_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit, match=r"convert: --out .*net.pt: expected .safetensors"):
        main(["convert", "absent.ckpt", "--out", str(tmp_path / "net.pt")])
    with pytest.raises(SystemExit, match=r"scorehmr convert: absent.ckpt: cannot be read"):
        main(["convert", "absent.ckpt", "--out", str(tmp_path / "net")])
    assert not list(tmp_path.iterdir())


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A checkpoint of 20 MB, and the bytes of its weights in float32."""
    kind = replace(SmallHMR2(), width=256, depth=6, decoder_width=32)
    monkeypatch.setattr(SmallHMR2, "released", classmethod(lambda cls: (kind,)))
    shapes = nets.released_shapes(kind)
    saved = {key: np.full(shape, i, np.float32) for i, (key, shape) in enumerate(shapes.items())}
    save_torch(tmp_path / "large.ckpt", {"state_dict": saved})
    return tmp_path / "large.ckpt", sum(array.nbytes for array in saved.values())


def test_a_large_network_is_in_memory_once(large, tmp_path):
    path, size = large
    assert size > 15e6
    image_checkpoint.read(path)  # so that shapes are known
    for source in (path, tmp_path / "net.safetensors"):
        tracemalloc.start()
        params, architecture = image_checkpoint.read(source)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert sum(leaf.nbytes for leaf in jax.tree.leaves(params)) == size
        assert most < 1.2 * size
        if source == path:
            tracemalloc.start()
            image_checkpoint.write(tmp_path / "net.safetensors", params, architecture)
            assert tracemalloc.get_traced_memory()[1] < 0.2 * size
            tracemalloc.stop()
    tracemalloc.start()
    main(["convert", str(path), "--out", str(tmp_path / "half.safetensors"), "--type", "bfloat16"])
    assert tracemalloc.get_traced_memory()[1] < 1.3 * size
    tracemalloc.stop()


def test_weights_stay_when_their_file_is_written_over(tmp_path, expected):
    path = tmp_path / "net.pt"
    save_torch(path, state())
    network = load_image_network(path)
    params, _ = image_checkpoint.read(path)
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    assert_same(params, expected)
    assert_same(network.params, expected)


def test_what_convert_cannot_read_back_is_said(tmp_path, monkeypatch):
    save_torch(tmp_path / "data.ckpt", state())
    read = image_checkpoint.read

    def other(path, name=None):
        params, architecture = read(path, name)
        if "net" in str(path):
            params["conv1"]["bias"] = params["conv1"]["bias"] + 1
        return params, architecture

    monkeypatch.setattr(image_checkpoint, "read", other)
    with pytest.raises(SystemExit, match="does not read back as it was written"):
        main(["convert", str(tmp_path / "data.ckpt"), "--out", str(tmp_path / "net.safetensors")])
