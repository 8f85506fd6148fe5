"""Body models from files: SMPL, SMPL-H and SMPL-X, whole and damaged."""

import dataclasses
import gzip
import os
import pickle
import re
import sys
import types
import warnings

import numpy as np
import pytest

from body_model import open_body, stand_in
from body_model.io import SMPLX_LANDMARKS, load, load_regressor, save
from body_model.joints import PARENTS, SMPL_LANDMARKS

FIELDS = (
    "template",
    "shape_directions",
    "pose_directions",
    "joint_regressor",
    "skin_weights",
    "faces",
)


def _tree(joints: int) -> list[int]:
    if joints == 24:
        return list(PARENTS)
    tree = list(PARENTS[:22]) + [15] * (joints - 52)
    for wrist in (20, 21):
        for _ in range(5):
            tree += [wrist, len(tree), len(tree) + 1]
    return tree


def _model(joints: int = 24, vertices: int = 60, shapes: int = 10, seed: int = 0) -> dict:
    """A random body in the format of SMPL's files."""
    rng = np.random.default_rng(seed)
    weights, regressor = rng.random((vertices, joints)), rng.random((joints, vertices))
    tree = np.array(_tree(joints))
    tree[0] = 2**32 - 1
    return {
        "v_template": 0.4 * rng.normal(size=(vertices, 3)),
        "f": rng.integers(0, vertices, (100, 3)).astype(np.uint32),
        "weights": weights / weights.sum(1, keepdims=True),
        "J_regressor": regressor / regressor.sum(1, keepdims=True),
        "shapedirs": 0.1 * rng.normal(size=(vertices, 3, shapes)),
        "posedirs": 0.01 * rng.normal(size=(vertices, 3, 9 * (joints - 1))),
        "kintree_table": np.stack([tree, np.arange(joints)]),
    }


def _pose_mesh(model: dict, pose: np.ndarray, betas: np.ndarray) -> np.ndarray:
    """Linear blend skinning of a model with any number of joints, joint by joint."""
    shaped = model["v_template"] + model["shapedirs"][..., : len(betas)] @ betas
    joints = model["J_regressor"] @ shaped
    posed = shaped + model["posedirs"] @ (pose[1:] - np.eye(3)).ravel()
    rotations, positions = [pose[0]], [joints[0]]
    for j, parent in enumerate(_tree(len(pose))):
        if j:
            rotations.append(rotations[parent] @ pose[j])
            positions.append(positions[parent] + rotations[parent] @ (joints[j] - joints[parent]))
    moved = [
        (posed - joint) @ r.T + p for joint, r, p in zip(joints, rotations, positions, strict=True)
    ]
    return np.einsum("vj,jvc->vc", model["weights"], moved)


def _rotations(count: int) -> np.ndarray:
    q, r = np.linalg.qr(np.random.default_rng(1).normal(size=(count, 3, 3)))
    q = q * np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None]
    return q * np.linalg.det(q)[:, None, None]


def _equal(a, b) -> None:
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(a, field), getattr(b, field), field)


def test_official_pickle_equals_the_arrays_it_was_made_from(golden):
    body = load(golden / "pack" / "SMPL_NEUTRAL.pkl.gz")
    with pytest.warns(UserWarning, match="not read: J_regressor_extra .*, parents; known are"):
        _equal(body, load(golden / "smpl_synthetic.npz"))
    source = np.load(golden / "smpl_synthetic.npz")
    np.testing.assert_array_equal(body.pose_directions, source["posedirs"])
    assert body.template.dtype == np.float32 and body.faces.dtype == np.int32
    assert dict(body.landmarks) == SMPL_LANDMARKS
    assert "chumpy" not in sys.modules


def test_open_body_loads(open_data):
    body = load(open_data / "open_body.npz", dtype=np.float64)
    assert body.template.dtype == np.float64 and body.skin_weights.shape == (6890, 24)


@pytest.mark.parametrize("shapes", [10, 300])
def test_chumpy_and_sparse_pickle_equals_npz(tmp_path, monkeypatch, shapes):
    sparse = pytest.importorskip("scipy.sparse")
    model = _model(shapes=shapes)
    np.savez(tmp_path / "plain.npz", **model)
    for name in ("chumpy", "chumpy.ch"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    ch = type("Ch", (), {"__module__": "chumpy.ch"})
    sys.modules["chumpy.ch"].Ch = ch  # type: ignore[attr-defined]
    wrapped = dict(model, J_regressor=sparse.csc_matrix(model["J_regressor"]))
    for key in ("v_template", "shapedirs", "posedirs", "weights"):
        wrapped[key] = ch()
        wrapped[key].x = model[key]
    for protocol in (0, 2, 5):
        path = tmp_path / "chumpy.pkl"
        path.write_bytes(pickle.dumps(wrapped, protocol))
        body = load(path)
        _equal(body, load(tmp_path / "plain.npz"))
        assert body.shape_directions.shape == (60, 3, shapes)


@pytest.mark.parametrize(("joints", "wrists"), [(52, (25, 40)), (55, (28, 43))])
def test_hands_and_face_at_rest_give_the_same_mesh(tmp_path, joints, wrists):
    model = _model(joints, shapes=20)
    path = tmp_path / "model.npz"
    np.savez(path, **model)
    with pytest.warns(UserWarning, match=r"model\.npz: SMPL-[HX] with \d+ joints.*Left out"):
        body = load(path, dtype=np.float64)
    betas = np.arange(10) / 10
    pose = np.tile(np.eye(3), (joints, 1, 1))
    pose[:22] = _rotations(22)
    full = _pose_mesh(model, pose, betas)
    reduced = {
        "v_template": body.template,
        "shapedirs": body.shape_directions,
        "J_regressor": body.joint_regressor,
        "posedirs": body.pose_directions,
        "weights": body.skin_weights,
    }
    ours = np.tile(np.eye(3), (24, 1, 1))
    ours[:22] = pose[:22]
    np.testing.assert_allclose(_pose_mesh(reduced, ours, betas), full, atol=1e-12)
    # Rotations of the hands, which these models lack, change nothing.
    ours[22:] = _rotations(2)
    reduced["posedirs"][..., :189] = 0
    still = _pose_mesh(reduced, ours, betas)
    ours[22:] = np.eye(3)
    np.testing.assert_array_equal(_pose_mesh(reduced, ours, betas), still)
    np.testing.assert_array_equal(body.joint_regressor[22:], model["J_regressor"][list(wrists)])


@pytest.mark.parametrize(("columns", "kept"), [(400, 300), (20, 10), (10, 10)])
def test_expression_columns_of_smplx_are_left_out(tmp_path, columns, kept):
    model = _model(55, shapes=columns)
    np.savez(tmp_path / "x.npz", **model)
    with pytest.warns(UserWarning, match=f"{columns - kept} columns of expression"):
        body = load(tmp_path / "x.npz", dtype=np.float64)
    np.testing.assert_array_equal(body.shape_directions, model["shapedirs"][..., :kept])


def test_smplx_has_its_own_landmarks(tmp_path):
    small = _model(55)
    model = {
        key: np.zeros([10475 if n == 60 else n for n in array.shape], array.dtype)
        for key, array in small.items()
    }
    model["weights"][:, 0] = model["J_regressor"][:, 0] = model["v_template"][0] = 1
    np.savez(tmp_path / "x.npz", **model | {"kintree_table": small["kintree_table"]})
    with pytest.warns(UserWarning, match="SMPL-X"):
        body = load(tmp_path / "x.npz")
    assert dict(body.landmarks) == SMPLX_LANDMARKS
    assert SMPLX_LANDMARKS.keys() == SMPL_LANDMARKS.keys()


def test_save_and_load(tmp_path):
    np.savez(tmp_path / "a.npz", **_model())
    body = load(tmp_path / "a.npz")
    assert body.landmarks == ()  # not SMPL's mesh: its vertex numbers mean nothing here
    body = type(body)(**{f: getattr(body, f) for f in FIELDS}, landmarks=(("nose", 7),))
    save(tmp_path / "new" / "b.npz", body)
    again = load(tmp_path / "new" / "b.npz")
    _equal(again, body)
    assert again.landmarks == (("nose", 7),)
    assert np.load(tmp_path / "new" / "b.npz")["kintree_table"][0, 0] == 2**32 - 1


def test_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", **_model())
    body = load(tmp_path / "a.npz")
    before = (tmp_path / "a.npz").read_bytes()

    def fail(file, *_, **__):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np.lib.format, "write_array", fail)
    with pytest.raises(OSError, match="disk full"):
        save(tmp_path / "a.npz", body)
    assert (tmp_path / "a.npz").read_bytes() == before
    assert os.listdir(tmp_path) == ["a.npz"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"posedirs": None}, r"no key 'posedirs'; expected v_template, .*; found J_regressor, f,"),
        ({"posedirs": np.zeros((60, 3, 9))}, r"'posedirs': expected shape \[60, 3, 207\].*found"),
        ({"weights": np.zeros((59, 24))}, r"'weights': expected shape \[60, 24\].*\[59, 24\]"),
        ({"shapedirs": np.zeros((60, 10))}, r"'shapedirs': expected shape \[60, 3, B\]"),
        ({"v_template": np.zeros((60, 2))}, r"'v_template': expected shape"),
        ({"v_template": np.float64(1)}, r"'v_template': expected"),
        ({"v_template": np.full((60, 3), np.nan)}, r"'v_template' holds 180 values that are NaN"),
        ({"f": np.full((5, 3), 60)}, r"'f': expected vertex numbers from 0 to 59, found 60 to 60"),
        ({"f": np.zeros((0, 3), int)}, r"'f': expected shape \[F, 3\]"),
        ({"kintree_table": np.zeros((2, 16))}, r"'kintree_table': expected shape \[2, 24\]"),
        ({"kintree_table": np.zeros((2, 24))}, r"'kintree_table': expected SMPL's tree"),
        ({"weights": np.array(["x"])}, r"'weights': expected an array of numbers, found <U1"),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["npz", "pkl"])
def test_names_what_is_wrong(tmp_path, kind, change, message):
    model = {k: v for k, v in (_model() | change).items() if v is not None}
    path = tmp_path / f"body.{kind}"
    if kind == "npz":
        np.savez(path, **model)
    else:
        path.write_bytes(pickle.dumps(model))
    with pytest.raises(ValueError, match=rf"body\.{kind}: .*{message}"):
        load(path)


def test_root_may_be_minus_one(tmp_path):
    model = _model()
    model["kintree_table"][0, 0] = -1
    np.savez(tmp_path / "a.npz", **model)
    assert load(tmp_path / "a.npz").template.shape == (60, 3)


def test_an_expression_of_chumpy_that_is_no_array_is_named(tmp_path):
    model = _model() | {"weights": "?"}
    data = pickle.dumps(model, 0).replace(b"V?\n", b"cchumpy.ch\nMatVecMult\n")
    (tmp_path / "a.pkl").write_bytes(data)
    with pytest.raises(ValueError, match=r"'weights': expected an array of numbers"):
        load(tmp_path / "a.pkl")


@pytest.mark.parametrize("name", ["body.npz", "body.pkl", "body.pkl.gz", "body.npy"])
def test_truncated_and_foreign_files_are_named(tmp_path, name):
    path = tmp_path / name
    if name.endswith("npz"):
        np.savez(path, **_model())
    elif name.endswith("npy"):
        np.save(path, np.ones((19, 60)))
    else:
        data = pickle.dumps(_model())
        path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    path.write_bytes(path.read_bytes()[:-300])
    for read in (load, load_regressor):
        with pytest.raises(ValueError, match=rf"{name}: .*"):
            read(path)
    path.write_bytes(b"<html>Please log in</html>")
    kind = "so it is no .npz" if name.endswith("npz") else "is no .npy"
    with pytest.raises(
        ValueError, match=rf"{name}: .*{kind if 'np' in name else 'not a whole pickle'}"
    ):
        load(path)
    with pytest.raises(ValueError, match="no such file"):
        load(tmp_path / "absent" / name)


def test_object_arrays_of_npz_are_never_unpickled(tmp_path):
    np.savez(tmp_path / "a.npz", **_model(), joint2num=np.array({"pelvis": 0}, object))
    assert load(tmp_path / "a.npz").template.shape == (60, 3)
    np.savez(tmp_path / "b.npz", **(_model() | {"weights": np.array([{}, {}])}))
    with pytest.raises(ValueError, match=r"b\.npz: key weights holds Python objects, which"):
        load(tmp_path / "b.npz")


@pytest.mark.parametrize("kind", ["npz", "npy", "pkl"])
def test_whatever_a_damaged_file_does_is_a_message_that_names_it(tmp_path, kind):
    path = tmp_path / f"damaged.{kind}"
    if kind == "npz":
        np.savez(path, **{k: v[:2] for k, v in _model().items()})
    elif kind == "npy":
        np.save(path, np.ones((2, 3)))
    else:
        path.write_bytes(pickle.dumps({k: v[:2] for k, v in _model().items()}))
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    # Most of the bytes are numbers; what can go wrong lies at the ends and in the headers.
    spots = [m.start() + k for m in re.finditer(b"PK|NUMPY|numpy", whole) for k in range(60)]
    for spot in rng.choice([k for k in spots if k < len(whole)], 150):
        damaged = bytearray(whole)
        damaged[spot] = rng.integers(256)
        path.write_bytes(damaged)
        for read in (load, load_regressor):
            try:
                read(path)
            except ValueError as error:  # any other error fails the test
                assert str(path) in str(error)


def test_npz_that_is_far_larger_inside_is_refused(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "bomb.npz", weights=np.zeros(10**6))
    monkeypatch.setattr("body_model.files._FREE", 10**6)
    with pytest.raises(ValueError, match=r"bomb\.npz: .*far more than its size"):
        load(tmp_path / "bomb.npz")


def test_what_is_no_array_is_named_by_its_type(tmp_path):
    shared: list = [0]
    for _ in range(60):  # written out, this would have no end
        shared = [shared, shared]
    path = tmp_path / "lists.pkl"
    for change, message in (
        (
            {"weights": shared},
            "'weights': expected an array of numbers, found a value of type list",
        ),
        ({"landmark_names": shared}, "'landmark_names': expected an array of text, found a value"),
        ({"weights": "text"}, "'weights': expected an array of numbers, found a value of type str"),
    ):
        path.write_bytes(pickle.dumps(_model() | change))
        with pytest.raises(ValueError, match=rf"lists\.pkl: key {message}"):
            load(path)


def test_regressor_of_every_kind(tmp_path):
    sparse = pytest.importorskip("scipy.sparse")
    matrix = np.random.default_rng(0).random((19, 60))
    np.save(tmp_path / "a.npy", matrix)
    np.savez(tmp_path / "a.npz", J19=matrix, names=np.array(["nose"] * 19))
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(matrix))
    (tmp_path / "s.pkl").write_bytes(pickle.dumps(sparse.csr_matrix(matrix)))
    for name in ("a.npy", "a.npz", "a.pkl", "s.pkl"):
        loaded = load_regressor(tmp_path / name, 60, np.float64)
        np.testing.assert_array_equal(loaded, matrix)
    with pytest.raises(ValueError, match=r"a\.npy: .*shape \[R, 61\], found \[19, 60\]"):
        load_regressor(tmp_path / "a.npy", 61)
    np.savez(tmp_path / "two.npz", a=matrix, b=matrix)
    with pytest.raises(ValueError, match=r"two\.npz: expected one matrix.*a, b"):
        load_regressor(tmp_path / "two.npz")
    np.save(tmp_path / "nan.npy", matrix * np.nan)
    with pytest.raises(ValueError, match=r"nan\.npy: .*NaN"):
        load_regressor(tmp_path / "nan.npy")


def test_golden_regressors(golden):
    matrix = load_regressor(golden / "pack" / "SMPL_to_J19.pkl", 6890)
    source = np.load(golden / "smpl_synthetic.npz")["J_regressor_extra"]
    np.testing.assert_array_equal(matrix, source)


def test_a_sparse_regressor_in_an_npz_is_named_with_what_to_do(tmp_path):
    sparse = pytest.importorskip("scipy.sparse")
    model = _model()
    model["J_regressor"] = np.array(sparse.csc_matrix(model["J_regressor"]), dtype=object)
    np.savez(tmp_path / "b.npz", **model)
    message = r"b.npz: key J_regressor holds Python objects, .* load the .pkl .* or save .toarray"
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "b.npz")
    np.savez(tmp_path / "r.npz", regressor=model["J_regressor"])
    with pytest.raises(ValueError, match=r"r.npz: key regressor holds Python objects"):
        load_regressor(tmp_path / "r.npz")


@pytest.mark.parametrize("suffix", [".npz", ".pkl"])
def test_keys_that_no_body_file_has_are_named(tmp_path, suffix):
    path = tmp_path / f"b{suffix}"

    def write(**more):
        model = _model() | more
        np.savez(path, **model) if suffix == ".npz" else path.write_bytes(pickle.dumps(model))

    write(bs_style="lbs", gender=np.array("neutral"), vt=np.zeros((9, 2)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(path)
    write(landmark_vertex=np.zeros(3), extra=np.zeros(2))
    with pytest.warns(UserWarning, match=r"not read: extra, landmark_vertex \(landmark_vertices\?"):
        load(path)


@pytest.mark.parametrize(
    ("keys", "factor"),
    [
        (["v_template"], 10),
        (["v_template", "shapedirs", "posedirs"], 3.28),  # feet
        (["v_template", "shapedirs", "posedirs"], 1000),
        (["v_template", "shapedirs", "posedirs"], 0.001),
        (["shapedirs"], 100),
        (["posedirs"], 1000),
    ],
)
def test_a_body_in_other_units_than_metres_is_refused(tmp_path, keys, factor):
    model = _model()
    model["v_template"] *= 1.8 / np.ptp(model["v_template"], axis=0).max()
    np.savez(tmp_path / "b.npz", **model)
    load(tmp_path / "b.npz")
    np.savez(tmp_path / "b.npz", **model | {key: factor * model[key] for key in keys})
    with pytest.raises(ValueError, match=rf"b.npz: key '{keys[0]}': expected metres.*found"):
        load(tmp_path / "b.npz")


@pytest.mark.parametrize("make", [load, load_regressor, stand_in, open_body])
@pytest.mark.parametrize("dtype", [int, bool, "U5", "no type", None, complex])
def test_a_body_is_of_floating_point_numbers(tmp_path, make, dtype):
    path = []
    if make in (load, load_regressor):
        np.savez(tmp_path / "b.npz", **_model())
        np.save(tmp_path / "r.npy", np.ones((19, 60)))
        path = [tmp_path / ("b.npz" if make is load else "r.npy")]
    with pytest.raises(ValueError, match="dtype: expected a floating-point type such as float32"):
        make(*path, dtype=dtype)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape_directions": np.zeros((60, 3, 0))}, r"key 'shapedirs': expected shape"),
        ({"faces": np.zeros((0, 3), int)}, r"key 'f': expected shape"),
        ({"template": np.full((60, 3), np.nan)}, r"key 'v_template' holds 180 values"),
        ({"skin_weights": np.zeros((60, 24))}, r"key 'weights': expected rows that sum to 1"),
    ],
    ids=str,
)
def test_a_body_that_could_not_be_read_is_not_written(tmp_path, change, message):
    np.savez(tmp_path / "a.npz", **_model())
    body = dataclasses.replace(load(tmp_path / "a.npz"), **change)
    with pytest.raises(ValueError, match=rf"b.npz: {message}"):
        save(tmp_path / "b.npz", body)
    assert os.listdir(tmp_path) == ["a.npz"]


@pytest.mark.parametrize("key", ["weights", "J_regressor"])
@pytest.mark.parametrize("factor", [100, 0])
def test_weights_that_do_not_sum_to_1_are_refused(tmp_path, key, factor):
    model = _model()
    changed = model[key].copy()
    changed[3:] *= factor
    np.savez(tmp_path / "b.npz", **model | {key: changed})
    with pytest.raises(ValueError, match=rf"b.npz: key '{key}': expected rows that sum to 1"):
        load(tmp_path / "b.npz")


def test_landmarks_without_names_are_refused(tmp_path):
    np.savez(tmp_path / "b.npz", **_model(), landmark_vertices=np.arange(3))
    with pytest.raises(ValueError, match=r"key 'landmark_vertices': expected 'landmark_names'"):
        load(tmp_path / "b.npz")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", ["b.npz", "b", "new/b.dat"])
def test_a_body_of_any_precision_is_read_back(tmp_path, dtype, name):
    np.savez(tmp_path / "a.npz", **_model())
    body = load(tmp_path / "a.npz", dtype)
    save(tmp_path / name, body)
    again = load(tmp_path / name, dtype)
    for key, value in vars(body).items():
        np.testing.assert_array_equal(getattr(again, key), value)
        assert getattr(again, key) == value if key == "landmarks" else True


def test_keys_beside_a_regressor_are_named(tmp_path):
    np.savez(tmp_path / "r.npz", J19=np.ones((19, 60)), names=np.array(["a"] * 19))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_regressor(tmp_path / "r.npz")
    np.savez(tmp_path / "r.npz", J19=np.ones((19, 60)), scale=np.ones(19))
    with pytest.warns(UserWarning, match="r.npz: not read: scale; known are J19"):
        assert load_regressor(tmp_path / "r.npz").shape == (19, 60)
