"""Files written whole or not at all, and read with care."""

import json
import os
import stat
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from body_model import files
from body_model.files import (
    open_npz,
    read_npy,
    read_npz,
    write_json,
    write_npz,
    write_text,
    writing,
)
from body_model.folders import building
from body_model.paths import local_path, make_folder
from body_model.pickles import load_pickle

ADDRESSES = ("gs://bucket/a.npz", "s3://b/c", "http://host/a", "file:///a/b", Path("gs://b/c"))
DTYPES = ("?", "i1", "u2", "<i8", ">i4", "f2", "<f4", ">f8", "c16", "U3", "S2", "m8[s]")


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize(
    "door",
    [
        local_path,
        read_npz,
        read_npy,
        load_pickle,
        lambda path: write_npz(path, {"a": np.zeros(2)}),
        lambda path: write_text(path, "text"),
        lambda path: write_json(path, {}),
        lambda path: writing(path).__enter__(),
    ],
)
def test_an_address_is_refused_and_never_becomes_a_folder(door, address, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"^\w+://.*: is an address; expected a path on this mach"):
        door(address)
    assert not any(tmp_path.iterdir())


def test_ordinary_paths_with_colons_and_a_home_are_paths(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/home/somebody")
    for path in ("a:b", "12:30/take", "./C:/data", "./me@host:x", "me@host/x", "/abs/gs:/x"):
        assert local_path(path) == Path(path)
    for name in ("me@host:x.npz", "C:/x.npz", "gs:/x.npz"):
        write_npz(local_path(tmp_path / name), {"a": np.ones(1)})
        assert read_npz(tmp_path / name)["a"] == 1
    assert local_path("~/prior") == Path("/home/somebody/prior")
    assert local_path("a/~/b") == Path("a/~/b")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("me@host:/data/x.npz", "an address of another machine; .* scp"),
        ("me@10.0.0.1:x.npz", "an address of another machine"),
        (" gs://b/x.npz", "an address"),
        ("az_blob://b/x.npz", "an address"),
        ("C:/Users/me/x.npz", "a path of Windows; .*/mnt/c/Users"),
        ("d:\\x.npz", "a path of Windows; .*/mnt/d/Users"),
        ("\\\\server\\x.npz", "a path of Windows"),
    ],
)
@pytest.mark.parametrize("door", [read_npz, make_folder, lambda p: write_npz(p, {"a": np.ones(1)})])
def test_what_another_machine_has_never_becomes_a_folder(
    path, message, door, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f": is {message}"):
        door(path)
    assert not any(tmp_path.iterdir())


def test_a_path_is_text_and_holds_no_zero():
    with pytest.raises(ValueError, match="expected a path as text, found bytes"):
        read_npz(b"a.npz")
    with pytest.raises(ValueError, match="holds a zero byte; expected a path"):
        read_npz("a\0b")


@pytest.mark.parametrize(
    "door", [make_folder, lambda p: write_text(p / "a", ""), lambda p: building(p).__enter__()]
)
def test_a_file_in_the_place_of_a_folder_is_named(door, tmp_path):
    (tmp_path / "in.npz").touch()
    for path in (tmp_path / "in.npz", tmp_path / "in.npz" / "deep" / "er"):
        with pytest.raises(ValueError, match=rf"^{tmp_path}/in.npz: is a file; expected a folder"):
            door(path)


def test_a_file_is_the_old_one_until_the_block_ends(tmp_path):
    path = tmp_path / "new" / "a.txt"
    write_text(path, "old é")
    with writing(path, "w") as file:
        file.write("new")
        assert path.read_text("utf-8") == "old é"
    assert path.read_text() == "new" and len(list(path.parent.iterdir())) == 1


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_a_block_that_fails_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(error), writing(path) as file:
        file.write(b"half")
        raise error
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_file_has_the_permissions_of_any_new_one(tmp_path):
    mask = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_a_link_is_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real/a.txt")
    for text in ("first", "second"):
        write_text(tmp_path / "link", text)
        assert (tmp_path / "real" / "a.txt").read_text() == text
    assert (tmp_path / "link").is_symlink()


def test_what_cannot_be_a_file_is_named(tmp_path):
    for name, kind in ((tmp_path, "a folder"), ("/dev/null", "a device")):
        with pytest.raises(ValueError, match=f"^{name}: is {kind}.*; expected the name of a file"):
            write_text(name, "")
    assert not stat.S_ISREG(os.stat("/dev/null").st_mode)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ValueError, match="loop: is a link that leads to itself"):
        write_text(tmp_path / "loop", "")
    write_text(tmp_path / ("n" * 250), "a name as long as it may be")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["a.npz", "a", "a.dat"])
def test_arrays_come_back_as_they_were(tmp_path, dtype, name):
    values = np.array([[0, 1, 100], [3, 4, 5]]).astype(dtype)
    arrays = {
        "file": values,
        "fortran": np.asfortranarray(values),
        "a/b": values[0, 0],
        "none": values[:0],
    }
    write_npz(tmp_path / name, arrays)
    found = read_npz(tmp_path / name)
    assert list(found) == list(arrays)
    for key, array in arrays.items():
        assert found[key].dtype == array.dtype
        np.testing.assert_array_equal(found[key], array)
    with np.load(tmp_path / name) as theirs:
        np.testing.assert_array_equal(theirs["file"], values)


@pytest.mark.parametrize(
    "array",
    [
        np.array([{}]),
        np.zeros(2, ml_dtypes.bfloat16),
        np.zeros(2, ml_dtypes.float8_e5m2),
        np.zeros(2, [("a", "O")]),
    ],
)
def test_arrays_that_would_not_come_back_are_not_written(tmp_path, array):
    with pytest.raises(ValueError, match=r"a\.npz: key odd: an \.npz cannot hold"):
        write_npz(tmp_path / "a.npz", {"good": np.zeros(2), "odd": array})
    assert not any(tmp_path.iterdir())


def test_json_holds_no_nan(tmp_path):
    write_json(tmp_path / "a.json", {"a": [1, None, "é"]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1, None, "é"]}
    with pytest.raises(ValueError, match=r"b\.json: cannot be written as JSON"):
        write_json(tmp_path / "b.json", {"a": float("nan")})
    assert not (tmp_path / "b.json").exists()


def test_a_key_of_python_objects_is_there_but_is_not_read(tmp_path):
    np.savez(tmp_path / "a.npz", plain=np.arange(3), odd=np.array([{}, None]))
    found = read_npz(tmp_path / "a.npz")
    assert "odd" in found and "none" not in found and list(found) == ["plain"]
    for ask in (lambda: found["odd"], lambda: found.get("odd")):
        with pytest.raises(ValueError, match=r"a\.npz: key odd holds Python objects, which"):
            ask()
    with pytest.raises(ValueError, match=r"a\.npz: no key none; found plain"):
        found["none"]
    assert found.get("none") is None
    assert list(read_npz(tmp_path / "a.npz", ("plain", "none"))) == ["plain"]


def _damaged(tmp_path, kind):
    path = tmp_path / "in"
    np.savez_compressed(path.with_suffix(".npz"), a=np.random.default_rng(0).normal(size=999))
    whole = path.with_suffix(".npz").read_bytes()
    if kind == "archive":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("word/document.xml", "text")
    elif kind == "array":
        with open(path, "wb") as file:
            np.save(file, np.zeros(3))
    elif kind == "encrypted":
        data = bytearray(whole)
        data[6] |= 1
        data[data.index(b"PK\x01\x02") + 8] |= 1
        path.write_bytes(data)
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind != "missing":
        middle = bytearray(whole)
        middle[len(whole) // 2] ^= 255
        path.write_bytes(
            {"cut": whole[:-300], "flipped": middle, "text": b"hello", "empty": b""}[kind]
        )
    return path


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "no such file"),
        ("folder", "is a folder; expected a file"),
        ("pipe", "is a device or pipe"),
        ("cut", "cut short or damaged"),
        ("flipped", "cut short or damaged"),
        ("text", "begins with b'hello', so it is no .npz"),
        ("empty", "is empty, so it is no .npz"),
        ("array", r"holds a single array \(.npy\); expected an .npz"),
        ("archive", "a zip archive without arrays, first 'word/document.xml'"),
        ("encrypted", "the archive is encrypted"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_truly(tmp_path, kind, reason):
    path = _damaged(tmp_path, kind)
    with pytest.raises(ValueError, match=f"^{path}: {reason}"):
        read_npz(path)


def test_only_what_is_read_counts_as_large(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", large=np.zeros(10**6), small=np.zeros(3))
    monkeypatch.setattr(files, "_FREE", 10**5)
    assert list(read_npz(tmp_path / "a.npz", ("small",))) == ["small"]
    for read in (read_npz, lambda path: open_npz(path).__enter__()):
        with pytest.raises(ValueError, match=r"a\.npz: refuses to read 8000\d+ bytes, far more"):
            read(tmp_path / "a.npz")


def test_one_array_alone_is_read_or_named(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(3))
    np.testing.assert_array_equal(read_npy(tmp_path / "a.npy"), np.arange(3))
    np.save(tmp_path / "b.npy", np.array([{}]), allow_pickle=True)
    (tmp_path / "c.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-3])
    (tmp_path / "d.npy").write_bytes(b"text")
    for name, reason in (("b", "holds Python objects"), ("c", "cannot be"), ("d", "is no .npy")):
        with pytest.raises(ValueError, match=rf"{name}\.npy: {reason}"):
            read_npy(tmp_path / f"{name}.npy")


def _doors():
    """Public readers and writers across the project, each with an address."""
    import scorehmr_jax as sh
    from body_model import load, load_regressor, save, stand_in
    from scorehmr_jax import checkpoint
    from scorehmr_jax.convert.safetensors import save_safetensors
    from scorehmr_jax.convert.torch_file import load_torch
    from scorehmr_jax.convert.torch_write import save_torch
    from scorehmr_jax.formats import image_size
    from scorehmr_jax.formats.features import read_features
    from scorehmr_jax.formats.released import read_groups
    from scorehmr_jax.output.gltf import save_glb
    from scorehmr_jax.training.export import export

    still = np.tile(np.eye(3, dtype=np.float32), (2, 24, 1, 1))
    flat, place = np.zeros((2, 10), np.float32), np.ones((2, 3), np.float32)
    return {
        "a body": load,
        "a body to write": lambda path: save(path, stand_in()),
        "a regressor": load_regressor,
        "a prior": sh.load_prior,
        "a checkpoint": checkpoint.read,
        "estimates": sh.read_estimates,
        "estimates to write": lambda path: sh.write_estimates(
            path, sh.Estimate(still, flat, place)
        ),
        "a motion": lambda path: save_glb(path, stand_in(), still, flat[0], place),
        "weights": load_torch,
        "weights to write": lambda path: save_torch(path, {}),
        "tensors to write": lambda path: save_safetensors(path, {}, {}),
        "an export": lambda path: export("open-uncond", path),
        "images": lambda path: image_size.from_headers(path, ["a.png"]),
        "sizes": lambda path: image_size.from_file(path, [["a.png"]]),
        "annotations": lambda path: read_groups(path, path),
        "features": lambda path: read_features(path, None, 3, [1]),
    }


@pytest.mark.parametrize("door", _doors())
def test_no_door_of_the_project_takes_an_address(door, tmp_path, monkeypatch):
    pytest.importorskip("pygltflib" if door == "a motion" else "numpy")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"^gs://bucket/thing\.npz: is an address"):
        _doors()[door]("gs://bucket/thing.npz")
    assert not any(tmp_path.iterdir())
