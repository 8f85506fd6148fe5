"""The released checkpoint, read without PyTorch."""

import functools
import io
import lzma
import os
import pickle
import sys
import types
import zipfile

import jax
import ml_dtypes
import numpy as np
import pytest
from bodies import released_state

from body_model.placeholders import UnsafePickle
from scorehmr_jax.convert.denoiser import flatten, released_denoiser, to_released
from scorehmr_jax.convert.torch_file import load_torch
from scorehmr_jax.networks.denoiser import ResidualMLP

VARIANTS = ("tiny_pare", "tiny_betas", "tiny_prohmr")


class Tensor:
    """What a PyTorch tensor is in a pickle: a call on a storage that lies outside."""

    def __init__(self, kind, key, count, offset, size, strides):
        self.source, self.rest = Storage(kind, key, count), (offset, size, strides, False, {})

    def __reduce__(self):
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        return rebuild, (self.source, *self.rest)


class Storage:
    def __init__(self, kind, key, count):
        self.kind, self.key, self.count = kind, key, count


@pytest.fixture
def write_torch(monkeypatch, tmp_path):
    """Writes a checkpoint as torch.save lays it out, without PyTorch."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def _rebuild_tensor_v2():
        pass

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)

    class Pickler(pickle.Pickler):
        def persistent_id(self, x):
            if not isinstance(x, Storage):
                return None
            cls = type(f"{x.kind}Storage", (), {"__module__": "torch"})
            setattr(torch, cls.__name__, cls)
            return ("storage", cls, x.key, "cpu", x.count)

    def write(value, storages=None, name="model.pt", members=None, compression=zipfile.ZIP_STORED):
        description = io.BytesIO()
        Pickler(description, 2).dump(value)
        path = tmp_path / name
        with zipfile.ZipFile(path, "w", compression) as archive:
            archive.writestr("archive/data.pkl", description.getvalue())
            for key, array in (storages or {}).items():
                archive.writestr(f"archive/data/{key}", array.tobytes())
            for member, content in (members or {}).items():
                archive.writestr(f"archive/{member}", content)
        return path

    return write


@pytest.fixture(params=[False, True], ids=["read", "mapped"])
def read_torch(request):
    """`load_torch` with the numbers read, and left in the file."""
    return functools.partial(load_torch, mapped=request.param)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("Float", "f4"),
        ("Double", "f8"),
        ("Half", "f2"),
        ("BFloat16", ml_dtypes.bfloat16),
        ("Long", "i8"),
        ("Int", "i4"),
        ("Short", "i2"),
        ("Char", "i1"),
        ("Byte", "u1"),
        ("Bool", "?"),
    ],
)
def test_reads_every_storage_type_and_strides(read_torch, write_torch, kind, dtype):
    flat = (np.arange(12) % 5).astype(dtype)
    state = {
        "whole": Tensor(kind, "0", 12, 0, (3, 4), (4, 1)),
        "part": Tensor(kind, "0", 12, 1, (2, 3), (1, 4)),  # a transposed slice
        "scalar": Tensor(kind, "0", 12, 7, (), ()),
        "empty": Tensor(kind, "0", 12, 0, (0, 4), (4, 1)),
    }
    loaded = read_torch(write_torch(state, {"0": flat}))
    whole = flat.reshape(3, 4)
    np.testing.assert_array_equal(loaded["whole"], whole)
    np.testing.assert_array_equal(loaded["part"], whole.T[1:3])
    assert loaded["whole"].dtype == flat.dtype
    assert loaded["scalar"] == flat[7] and loaded["empty"].shape == (0, 4)
    with pytest.raises(ValueError, match="read-only"):
        loaded["whole"][0, 0] = 1


def test_reads_big_endian_and_xz(read_torch, write_torch):
    state = {"a": Tensor("Float", "0", 3, 0, (3,), (1,))}
    values = np.array([1.0, 2.0, 3.0], ">f4")
    path = write_torch(state, {"0": values}, members={"byteorder": "big"})
    np.testing.assert_array_equal(read_torch(path)["a"], [1, 2, 3])
    packed = path.with_suffix(".pt.xz")
    packed.write_bytes(lzma.compress(path.read_bytes()))
    np.testing.assert_array_equal(read_torch(packed)["a"], [1, 2, 3])


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (("Float", "0", 4, 0, (5,), (1,)), r"size \[5\].*reaches beyond its storage of 4"),
        (("Float", "0", 4, 3, (2,), (1,)), r"offset 3 reaches beyond"),
        (("Float", "0", 4, 0, (2, 2), (4, 1)), r"reaches beyond"),
        (("Float", "0", 4, -1, (2,), (1,)), r"offset -1"),
        (("Float", "0", 4, 0, (2,), (-1,)), r"strides \(-1,\)"),
        (("Float", "0", 4, 0, (2,), (1, 1)), r"strides \(1, 1\)"),
        (("Float", "0", 4, 0, (10**12,), (0,)), r"larger than its storage of 4"),
        (("Float", "0", 4, 0, (3, 3), (1, 0)), r"larger than its storage of 4"),
        (("Float", "0", 9, 0, (2,), (1,)), r"storage 0 has 4 numbers, expected 9"),
        (("Float", "7", 4, 0, (2,), (1,)), r"'data/7' is missing"),
        (("Float", "../data.pkl", 4, 0, (2,), (1,)), r"is missing"),
    ],
    ids=str,
)
def test_refuses_tensors_outside_their_storage(read_torch, write_torch, tensor, message):
    path = write_torch({"a": Tensor(*tensor)}, {"0": np.ones(4, "f4")})
    with pytest.raises(ValueError, match=rf"model\.pt: .*{message}"):
        read_torch(path)


def test_refuses_a_tensor_made_from_a_tensor(read_torch, write_torch):
    # A view of one number repeated would pass for a storage of many.
    inner = Tensor("Float", "0", 4, 0, (4,), (0,))
    outer = Tensor("Float", "0", 4, 0, (4,), (1,))
    outer.source = inner
    with pytest.raises(UnsafePickle, match=r"model\.pt: refuses a tensor that is not made from"):
        read_torch(write_torch({"a": outer}, {"0": np.ones(4, "f4")}))


def test_a_damaged_file_is_named_whatever_it_does(read_torch, write_torch):
    state = {"a": Tensor("Float", "0", 6, 0, (2, 3), (3, 1)), "step": 7}
    path = write_torch(state, {"0": np.ones(6, "f4")})
    whole = path.read_bytes()
    for spot in range(len(whole)):
        damaged = bytearray(whole)
        damaged[spot] ^= 0x55
        path.write_bytes(damaged)
        try:
            read_torch(path)
        except ValueError as error:  # any other error fails the test
            assert str(path) in str(error)


def test_numbers_that_are_not_what_was_written_are_told(read_torch, write_torch):
    path = write_torch({"a": Tensor("Float", "0", 9, 0, (9,), (1,))}, {"0": np.full(9, 3, "f4")})
    whole = path.read_bytes()
    path.write_bytes(whole.replace(np.full(9, 3, "f4").tobytes(), np.full(9, 5, "f4").tobytes()))
    with pytest.raises(ValueError, match=r"model\.pt: .*'data/0' is damaged"):
        read_torch(path)


def test_refuses_os_system_by_name(read_torch, write_torch, tmp_path):
    class Bad:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    path = write_torch({"model": Bad()})
    with pytest.raises(UnsafePickle, match=r"model\.pt: refuses os\.system"):
        read_torch(path)
    assert not (tmp_path / "ran").exists()


def test_refuses_compressed_members(read_torch, write_torch):
    path = write_torch({}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(UnsafePickle, match=r"model\.pt: refuses compressed"):
        read_torch(path)


def test_names_files_of_another_kind(read_torch, write_torch, tmp_path):
    cases = {
        "old.pt": (
            pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps({}),
            r"before 1\.6; save it again",
        ),
        "page.pt": (b"<html></html>", "not a whole PyTorch checkpoint"),
        "cut.pt": (write_torch({}).read_bytes()[:-30], "not a whole PyTorch checkpoint"),
    }
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}: .*{message}"):
            read_torch(tmp_path / name)
    with pytest.raises(ValueError, match="TorchScript"):
        read_torch(write_torch({}, members={"constants.pkl": ""}))
    np.savez(tmp_path / "arrays.npz", a=np.ones(2))
    with pytest.raises(ValueError, match=r"without data\.pkl"):
        read_torch(tmp_path / "arrays.npz")


def test_released_weights_give_the_released_output(golden):
    # The variant with both streams; its pose stream is that of the others.
    data = np.load(golden / "denoiser_tiny_betas.npz")
    params, config = released_denoiser(dict(np.load(golden / "ckpt" / "tiny_betas_ema_f16.npz")))
    assert {a.dtype for a in jax.tree.leaves(params)} == {np.dtype("f4")}
    denoise = jax.jit(ResidualMLP(**config).noise)
    out = denoise(params, data["x_mixed"], data["t_mixed"], data["feats"])
    np.testing.assert_allclose(out, data["out_mixed"], atol=1e-5)


def test_parameters_are_those_that_our_denoiser_makes(golden):
    params, config = released_denoiser(released_state(golden, "tiny_betas"))
    shapes = jax.eval_shape(ResidualMLP(**config).init, jax.random.key(0))
    assert jax.tree.map(np.shape, params) == jax.tree.map(lambda a: a.shape, shapes)


@pytest.mark.parametrize("variant", VARIANTS)
def test_to_released_undoes_it(golden, variant):
    state = released_state(golden, variant)
    back = to_released(released_denoiser(state)[0])
    assert back.keys() == state.keys()
    for key, array in state.items():
        np.testing.assert_array_equal(back[key], array, key)


def test_checkpoint_and_npz_agree(golden):
    state = load_torch(golden / "ckpt" / "tiny_pare_model-100.pt.xz")
    assert state.keys() == {"step", "model", "opt", "ema"}
    ours, config = released_denoiser(state)
    other, same = released_denoiser(dict(np.load(golden / "ckpt" / "tiny_pare_ema_f16.npz")))
    assert config == same
    jax.tree.map(np.testing.assert_array_equal, ours, other)


def test_averaged_weights_are_preferred(golden):
    state = load_torch(golden / "ckpt" / "tiny_pare_model-100.pt.xz")
    state["model"] = {k: v * 2 for k, v in state["model"].items()}
    state["ema"] = {
        k: v * 3 if k.startswith("online_model") else v for k, v in state["ema"].items()
    }
    averaged = released_denoiser(state)[0]["pose"]["input"]["kernel"]
    key = "model.init_mlp.weight"
    np.testing.assert_array_equal(averaged, state["model"][key].T / 2)
    plain = released_denoiser(state["model"])[0]["pose"]["input"]["kernel"]
    np.testing.assert_array_equal(plain, state["model"][key].T)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"final_mlp.bias": None}, r"missing: final_mlp\.bias; not expected: none"),
        ({"extra.weight": np.ones(3)}, r"missing: none; not expected: extra\.weight"),
        ({"init_mlp.weight": None}, r"no weights of a denoiser"),
        ({"blocks.0.block.layer_norm1.weight": None}, r"layer_norm1\.weight': expected a vector"),
        (
            {"blocks.1.block.linear_layer1.weight": np.ones((64, 9))},
            r"expected shape \[64, 3216\], found \[64, 9\]",
        ),
        ({"init_mlp.bias": np.full(144, np.nan)}, r"'init_mlp\.bias': .* of them NaN or infinite"),
        ({"init_mlp.bias": np.zeros(144, "V2")}, r"'init_mlp\.bias': expected finite numbers"),
        ({"init_mlp.bias": [0.0] * 144}, r"'init_mlp\.bias': expected an array, found a list"),
        ({"blocks.0.block.layer_norm1.weight": np.ones(100)}, "expected at least 144 .* found 100"),
    ],
    ids=["missing", "unexpected", "foreign", "no norm", "shape", "nan", "void", "list", "narrow"],
)
def test_names_keys_and_shapes_that_do_not_fit(golden, change, message):
    state = dict(np.load(golden / "ckpt" / "tiny_pare_ema_f16.npz")) | change
    state = {k: v for k, v in state.items() if v is not None}
    with pytest.raises(ValueError, match=f"weights.npz: .*{message}"):
        released_denoiser(state, "weights.npz")


def test_keys_that_are_no_text_are_passed_over(golden):
    state = dict(np.load(golden / "ckpt" / "tiny_pare_ema_f16.npz"))
    assert released_denoiser(state | {7: None})[1] == released_denoiser(state)[1]
    with pytest.raises(ValueError, match=r"no weights of a denoiser .*found keys none"):
        released_denoiser({7: None})


def test_flat_names(golden):
    params, _ = released_denoiser(released_state(golden, "tiny_betas"))
    assert {"pose/blocks_2/norm1/scale", "shape/time1/kernel"} <= flatten(params).keys()
