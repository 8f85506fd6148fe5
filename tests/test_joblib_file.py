"""Files of joblib and pickled tensors, read without these packages and without running anything."""

import gzip
import pickle
import zlib

import body_files
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse import csc_matrix

import scorehmr_jax as sh
from body_model import files, pickles
from body_model.placeholders import UnsafePickle
from scorehmr_jax.convert.joblib_file import load_joblib
from scorehmr_jax.convert.torch_file import TENSORS

ARRAYS = {
    "rows": np.arange(12.0).reshape(3, 4),
    "columns": np.asfortranarray(np.arange(12, dtype=np.int16).reshape(3, 4)),
    "one": np.array(7.0),
    "none": np.zeros((0, 3), np.float32),
    "text": np.array(["a", "bc"]),
    "objects": np.array([{"x": 1}, None], object),
    "inside": [np.ones(3), {"again": np.zeros((2, 2))}],
    "number": 2.5,
}


def assert_the_same(found):
    for name in ("rows", "columns", "one", "none", "text"):
        np.testing.assert_array_equal(found[name], ARRAYS[name])
        assert found[name].dtype == ARRAYS[name].dtype and found[name].shape == ARRAYS[name].shape
    assert [*found["objects"]] == [{"x": 1}, None] and found["number"] == 2.5
    np.testing.assert_array_equal(found["inside"][1]["again"], np.zeros((2, 2)))


def test_joblib_files_are_read_without_it(tmp_path):
    for compress in (False, True):
        path = body_files.save_joblib(tmp_path / "a.pkl", ARRAYS, compress)
        assert_the_same(load_joblib(path))


@pytest.mark.parametrize(
    "options",
    [{}, *({"compress": c} for c in (3, ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)))],
)
def test_files_of_joblib_itself(tmp_path, options):
    joblib = pytest.importorskip("joblib")
    joblib.dump(ARRAYS, tmp_path / "a.pkl", **options)
    assert_the_same(load_joblib(tmp_path / "a.pkl"))


def test_what_joblib_cannot_be_read_is_named(tmp_path):
    whole = body_files.pickled(ARRAYS, as_joblib=True)
    path = tmp_path / "a.pkl"
    path.write_bytes(b"\x04\x22\x4d\x18" + whole)
    with pytest.raises(ValueError, match=r"a\.pkl: compressed by lz4, which is not read; save it"):
        load_joblib(path)
    for end in (10, 200, len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match=r"a\.pkl: not a whole"):
            load_joblib(path)
    body_files.save_joblib(path, ARRAYS, compress=True)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"a\.pkl: cut short"):
        load_joblib(path)


def evil(tmp_path):
    run = body_files.Call(body_files.Named("os", "system"), f"touch {tmp_path}/ran")
    return {"pose": np.zeros(3), "run": run}


def test_nothing_that_a_file_names_is_run(tmp_path):
    path = body_files.save_joblib(tmp_path / "a.pkl", evil(tmp_path))
    with pytest.raises(UnsafePickle, match=r"a\.pkl: refuses os\.system"):
        sh.read_estimates(path)
    path = body_files.save_npy(tmp_path / "b.npy", {"run": evil(tmp_path)["run"]})
    with pytest.raises(UnsafePickle, match=r"b\.npy: refuses os\.system"):
        sh.read_estimates(path)
    bad = body_files.Call(body_files.Named("torch.storage", "_load_from_bytes"), b"cos\nsystem\n.")
    (tmp_path / "c.pkl").write_bytes(body_files.pickled({"x": bad}))
    with pytest.raises(UnsafePickle, match="refuses a storage that is not in PyTorch's format"):
        sh.read_estimates(tmp_path / "c.pkl")
    assert not (tmp_path / "ran").exists()


def test_deep_nesting_in_a_joblib_file_is_refused(tmp_path):
    deep = pickle.NONE + pickle.TUPLE1 * 200_000
    inner = b"}" + deep + pickle.NONE + pickle.SETITEM
    wrapper = b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n0"
    (tmp_path / "a.pkl").write_bytes(b"\x80\x03" + wrapper + inner + b".")
    with pytest.raises(ValueError, match=r"a\.pkl: refuses what is nested deeper"):
        load_joblib(tmp_path / "a.pkl")


def layers(data):
    """Data under gzip, zlib and gzip again, each of which is far larger inside."""
    many = gzip.compress(bytes(900), 9)
    return gzip.compress(zlib.compress(many * (2**20 // len(many)) + data, 9), 9)


def test_layers_of_compression_share_one_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_FREE", 2**16)
    read_on = []
    monkeypatch.setattr(pickles, "_check_opcodes", lambda data: read_on.append(len(data)))
    path = tmp_path / "a.pkl"
    for data in (layers(b""), gzip.compress(zlib.compress(bytes(2**18), 9), 9)):
        path.write_bytes(data)
        with pytest.raises(UnsafePickle, match=r"a\.pkl: refuses to decompress to more than"):
            load_joblib(path)
    # A third layer is no pickle, and is not opened.
    path.write_bytes(gzip.compress(zlib.compress(gzip.compress(bytes(2**18), 9), 9), 9))
    with pytest.raises(ValueError, match=r"a\.pkl: not a whole pickle"):
        load_joblib(path)
    assert max(read_on) < 2**11


def wrapped(inner, count):
    """A file of joblib's with arrays of `count` objects, for which the pickles `inner` stand."""
    state = {"shape": (count,), "order": "C", "dtype": np.dtype(object)}
    held = pickle.dumps(state, 2)[2:-1]  # without the protocol and the end
    wrapper = b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81" + held + b"b"
    return b"\x80\x03(" + b"".join(wrapper + each for each in inner) + b"l."


def test_arrays_of_objects_share_one_limit_and_are_such(tmp_path, monkeypatch):
    path = tmp_path / "a.pkl"
    whole = pickle.dumps(np.array([{"x": 1}, None], object), 2)
    path.write_bytes(wrapped([whole, whole], 2))
    assert [[*each] for each in load_joblib(path)] == [[{"x": 1}, None]] * 2
    numbers = pickle.dumps(np.zeros(2), 2)
    for inner, count in ((numbers, 2), (pickle.dumps([1, 2], 2), 2), (whole, 3)):
        path.write_bytes(wrapped([inner], count))
        with pytest.raises(ValueError, match=rf"an array of {count} objects that holds something"):
            load_joblib(path)
    one = csc_matrix((100, 50))
    held = np.empty(1, object)
    held[0] = one
    inner = pickle.dumps(held, 2)
    path.write_bytes(wrapped([inner] * 4, 1))
    size = path.stat().st_size
    # Dense, each takes 40 kB: two of them are allowed, four are not.
    monkeypatch.setattr(files, "_GROWTH", 0)
    monkeypatch.setattr(files, "_FREE", 200_000)
    assert len(load_joblib(path)) == 4 and size < 10_000
    monkeypatch.setattr(files, "_FREE", 90_000)
    with pytest.raises(UnsafePickle, match=r"a\.pkl: .*far more memory"):
        load_joblib(path)


def test_arrays_of_tensors_keep_views(tmp_path):
    value = body_files.Tensor(np.arange(6.0, dtype=np.float32).reshape(2, 3))
    (tmp_path / "a.pkl").write_bytes(body_files.pickled({"t": value}))
    found = load_joblib(tmp_path / "a.pkl", TENSORS)["t"]
    np.testing.assert_array_equal(found, jnp.arange(6).reshape(2, 3))
