"""Pickles from strangers: what is read, and what is refused."""

import codecs
import gzip
import os
import pickle
import sys
import types
from collections import OrderedDict

import numpy as np
import pytest

from body_model.pickles import load_pickle
from body_model.placeholders import UnsafePickle

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


@pytest.fixture
def fake_class(monkeypatch):
    """Makes classes that pickle under any module's name."""

    def make(module: str, name: str) -> type:
        made = type(name, (), {"__module__": module})
        for i in range(module.count(".") + 1):
            parent = ".".join(module.split(".")[: i + 1])
            monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
        setattr(sys.modules[module], name, made)
        return made

    return make


class Call:
    """Pickles as a call of anything."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "value",
    [
        np.arange(6.0).reshape(2, 3).T,
        np.zeros((0, 3)),
        np.ones(3, ">f4"),
        np.array([True, False]),
        np.array(["left", "right"]),
        np.array([b"a"]),
        np.array(2.5),
        np.float32(1.5),
        OrderedDict(b=1, a=[(1, "x"), {2}, None, b"", bytearray(b"ab")]),
    ],
    ids=str,
)
def test_reads_what_data_files_hold(value, protocol):
    loaded = load_pickle(pickle.dumps(value, protocol))
    assert type(loaded) is type(value)
    if isinstance(value, np.ndarray):
        assert loaded.dtype == value.dtype
        np.testing.assert_array_equal(loaded, value)
    else:
        assert loaded == value


def test_reads_object_arrays_and_keeps_sharing():
    shared = np.ones(2)
    array = np.empty(2, object)
    array[:] = [shared, {"x": shared}]
    loaded = load_pickle(pickle.dumps([array, shared]))
    assert loaded[0][0] is loaded[1] and loaded[0][1]["x"] is loaded[1]


def test_reads_a_list_that_holds_itself():
    value: list = [1]
    value.append(value)
    loaded = load_pickle(pickle.dumps(value))
    assert loaded[1] is loaded


def test_reads_python_2():
    numbers = np.array([1.5, -2.0])
    data = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89U\x10" + numbers.tobytes() + b"tb."
    )
    np.testing.assert_array_equal(load_pickle(data), numbers)


def test_reads_golden_files(golden):
    for name in ("SMPL_to_J19.pkl", "h36m_val_multiview.pkl"):
        path = golden / "pack" / name
        ours, theirs = load_pickle(path), pickle.loads(path.read_bytes())
        assert len(ours) == len(theirs)
        if name.startswith("h36m"):
            assert [sorted(d) for d in ours] == [sorted(d) for d in theirs]
            ours, theirs = ours[-1]["body_pose"], theirs[-1]["body_pose"]
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("form", ["csc", "csr", "coo"])
@pytest.mark.parametrize("kind", ["matrix", "array"])
def test_sparse_matrices_become_dense_without_scipy(form, kind, monkeypatch):
    sparse = pytest.importorskip("scipy.sparse")
    dense = np.random.default_rng(0).random((4, 7)) * (np.arange(28).reshape(4, 7) % 3 == 0)
    data = pickle.dumps({"J": getattr(sparse, f"{form}_{kind}")(dense)})
    for module in [m for m in sys.modules if m.split(".")[0] == "scipy"]:
        monkeypatch.setitem(sys.modules, module, None)  # an import would now fail
    np.testing.assert_array_equal(load_pickle(data)["J"], dense)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_chumpy_arrays_become_plain(fake_class, protocol):
    x = np.arange(12.0).reshape(2, 6)
    ch = fake_class("chumpy.ch", "Ch")()
    ch.__dict__ |= {"x": x, "_dirty_vars": {"x"}}
    select = fake_class("chumpy.reordering", "Select")()
    select.__dict__ |= {"a": ch, "idxs": np.array([0, 5, 7]), "preferred_shape": (3, 1)}
    sys.modules["chumpy.ch"].Ch = type(ch)
    loaded = load_pickle(pickle.dumps([ch, select], protocol))
    np.testing.assert_array_equal(loaded[0], x)
    np.testing.assert_array_equal(loaded[1], [[0.0], [5.0], [7.0]])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_refuses_os_system_by_name_and_does_not_run_it(tmp_path, protocol):
    target = tmp_path / "ran"
    path = tmp_path / "body.pkl"
    path.write_bytes(pickle.dumps({"f": Call(os.system, f"touch {target}")}, protocol))
    with pytest.raises(UnsafePickle, match=r"body\.pkl: refuses os\.system"):
        load_pickle(path)
    assert not target.exists()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", "os.system"),
        (pickle.dumps(Call(eval, "1")), "builtins.eval"),
        (pickle.dumps(Call(getattr, "a", "upper")), "builtins.getattr"),
        (pickle.dumps(Call(np.load, "x.npy")), "refuses"),
        (pickle.dumps(Call(np.fromfile, "x")), "refuses"),
        (b"cnumpy\nndarray.tofile\n.", "numpy.ndarray.tofile"),
        (b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.", "numpy.ndarray.tofile"),
        (pickle.dumps(Call(np.dtype, [("a", "f4")])), "array type"),
        # numpy unpickles the bytes given with a scalar of type object.
        (
            b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'O8'\nI00\nI01\ntR"
            b"S'cos\\nsystem\\n(S'true'\\ntR.'\ntR.",
            "scalar of type object",
        ),
        (b"cnumpy.core.multiarray\n_reconstruct\nN}\x86b.", "state of a function"),
        (b"ccopy_reg\n_reconstructor\n(c__builtin__\nset\nc__builtin__\nobject\nNtR.", "foreign"),
        (b"c_codecs\nencode\n(S'a'\nS'rot13'\ntR.", "rot13"),
        (b"Pelsewhere\n.", "outside the file"),
    ],
)
def test_refuses_and_names_the_reason(data, reason):
    with pytest.raises(UnsafePickle, match=reason):
        load_pickle(data)


def _copies(name):
    copied = b"h\x00h\x01\x85R"
    contents = b"B" + (10**4).to_bytes(4, "little") + bytes(10**4) + b"q\x01"
    return b"\x80\x02(cbuiltins\n" + name.encode() + b"\nq\x00" + contents + 1000 * copied + b"t."


_F8 = b"cnumpy\ndtype\n(S'f8'\ntR"


@pytest.mark.parametrize(
    "data",
    [
        b"cnumpy._core.numeric\n_frombuffer\n(I9000000000\n" + _F8 + b"(I1\ntS'C'\ntR.",
        b"cnumpy.core.multiarray\nscalar\n(" + _F8 + b"I9000000000\ntR.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nNNtR(I1\n(I1\nt"
        + _F8
        + b"I00\nI9000000000\ntb.",
    ],
    ids=["buffer", "scalar", "array"],
)
def test_a_number_is_no_contents(data):
    # bytes(n) would take n bytes.
    with pytest.raises(ValueError, match="contents are no bytes"):
        load_pickle(data)


def test_names_an_array_of_another_length():
    data = pickle.dumps(np.ones(3), 2)
    assert data.count(b"K\x03\x85") == 1
    with pytest.raises(ValueError, match=r"shape \(2,\) with 24 bytes"):
        load_pickle(data.replace(b"K\x03\x85", b"K\x02\x85"))


@pytest.mark.parametrize(
    "data",
    [
        b"Nr\xff\xff\xff\xff.",  # a memo of 64 GB
        b"c__builtin__\nbytearray\n(I1000000000000\ntR.",
        b"c__builtin__\nbytes\n(I1000000000000\ntR.",
        gzip.compress(bytes(20 * 2**20)),
        # Copies of one object: six bytes each.
        _copies("list"),
        _copies("tuple"),
        _copies("bytearray"),
    ],
    ids=["memo", "bytearray", "bytes", "gzip", "lists", "tuples", "bytearrays"],
)
def test_refuses_to_grow(data, monkeypatch):
    monkeypatch.setattr("body_model.files._FREE", 2**20)
    with pytest.raises(UnsafePickle, match="refuses"):
        load_pickle(data)


def shared_lists(depth=60):
    """A few dozen lists that written out, or made an array, are 2 ** 60 of them."""
    value: list = ["f8"]
    for _ in range(depth):
        value = [value, value]
    return value


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"_shape": (10**6, 10**6)}, "memory"),
        ({"_shape": (-1, 10**6)}, "sizes that do not fit"),
        ({"indptr": np.array([0, 10**12])}, "indptr does not fit"),
        ({"indptr": np.array([0, -1, 1])}, "indptr does not fit"),
        ({"data": shared_lists()}, "vectors of numbers"),
        ({"indices": shared_lists()}, "without indices"),
        ({"indices": np.array([-1])}, "negative indices"),
        ({"data": np.array([[]], object)}, "vectors of numbers"),
    ],
    ids=lambda x: x if isinstance(x, str) else next(iter(x)),
)
def test_refuses_sparse_matrices_that_do_not_add_up(fake_class, state, reason):
    matrix = fake_class("scipy.sparse.csc", "csc_matrix")()
    matrix.__dict__ |= {
        "_shape": (2, 1),
        "data": np.ones(1),
        "indices": np.zeros(1, int),
        "indptr": np.array([0, 1]),
    }
    np.testing.assert_array_equal(load_pickle(pickle.dumps(matrix)), [[1.0], [0.0]])
    matrix.__dict__ |= state
    with pytest.raises(ValueError, match=reason):
        load_pickle(pickle.dumps(matrix))


def test_refuses_a_chumpy_view_that_repeats_a_large_entry(fake_class):
    select = fake_class("chumpy.reordering", "Select")()
    select.__dict__ |= {"a": np.array(["x"], "S100000"), "idxs": np.zeros(10**5, np.uint8)}
    with pytest.raises(UnsafePickle, match="memory"):
        load_pickle(pickle.dumps(select))


def test_messages_stay_short(fake_class):
    fake_class("chumpy.ch", "Other")
    for data in (
        pickle.dumps(Call(np.dtype, shared_lists())),
        pickle.dumps(Call(codecs.encode, "a", shared_lists())),
    ):
        with pytest.raises(UnsafePickle, match="refuses") as error:
            load_pickle(data)
        assert len(str(error.value)) < 300


@pytest.mark.parametrize("keep", [0, 1, 10, 100, -40, -1])
def test_names_a_truncated_file(tmp_path, keep):
    path = tmp_path / "cut.pkl"
    path.write_bytes(pickle.dumps({"weights": np.ones((10, 24)), "name": "body"})[:keep])
    with pytest.raises(ValueError, match=r"cut\.pkl: not a whole pickle"):
        load_pickle(path)


@pytest.mark.parametrize("content", [b"hello", b"\x89PNG\r\n\x1a\n" + bytes(50), b"[1, 2]"])
def test_names_a_foreign_file(tmp_path, content):
    path = tmp_path / "picture.pkl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"picture\.pkl: not a whole pickle"):
        load_pickle(path)


def test_names_a_damaged_archive_and_a_missing_file(tmp_path):
    path = tmp_path / "cut.pkl.gz"
    path.write_bytes(gzip.compress(pickle.dumps(np.random.default_rng(0).random(999)))[:-500])
    with pytest.raises(ValueError, match=r"cut\.pkl\.gz: cannot be decompressed"):
        load_pickle(path)
    with pytest.raises(ValueError, match=r"none\.pkl: cannot be read \(No such file"):
        load_pickle(tmp_path / "none.pkl")


def _nested(kind, levels):
    """A pickle whose one dict key is nested so deep that its hash overflows Python's stack."""
    if kind == "tuple":
        inner = b")" + b"\x85" * levels
    elif kind == "frozenset":
        inner = b")" + b"".join([b"(" * levels, b")", b"\x91" * levels])
    elif kind == "pair":
        inner = b")" + b"N\x86" * levels
    elif kind == "marked":
        inner = b"(" * levels + b"t" * levels
    elif kind == "memo":  # a list is put into the memo first and filled later
        inner = b"]q\x00" + b")" + b"\x85" * levels + b"a0" + b"c__builtin__\ntuple\nh\x00\x85R"
    else:
        inner = b"c__builtin__\ntuple\n(" * levels + b")" + b"tR" * levels
    return b"\x80\x04}" + inner + b"Ns."


@pytest.mark.parametrize("kind", ["tuple", "frozenset", "pair", "marked", "memo", "calls"])
def test_deep_nesting_is_refused_before_it_overflows_the_stack(kind):
    with pytest.raises(UnsafePickle, match="refuses what is nested deeper than 200 levels"):
        load_pickle(_nested(kind, 10**5))


@pytest.mark.parametrize("protocol", range(6))
def test_ordinary_depth_is_read(protocol):
    value = ()
    for _ in range(45):
        value = [{"a": (value, 1.0)}]
    assert load_pickle(pickle.dumps(value, protocol)) == value
    long = [[i, {str(i): (i,)}] for i in range(5000)]
    assert load_pickle(pickle.dumps(long, protocol)) == long
