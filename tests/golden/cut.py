"""The cut golden set: `python tests/golden/cut.py FOLDER` makes it from the whole one in FOLDER.

README.md beside this file says what is in it. In `cut.xz` lie an index and, one after another, the
bytes of the arrays: first those of every number's first byte, then those of the second, and so
on, as that packs floats best.
"""

import gzip
import io
import json
import lzma
import pickle
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HERE = Path(__file__).parent
CUT = HERE / "cut.xz"
Arrays = dict[str, np.ndarray]

# Vertices that smplx takes as joints: nose, eyes, ears, feet, finger tips.
LANDMARKS = [332, 6260, 2800, 4071, 583, 3216, 3226, 3387, 6617, 6624, 6787]
LANDMARKS += [2746, 2319, 2445, 2556, 2673, 6191, 5782, 5905, 6016, 6133]
LOOP = ["pred_pose", "pred_betas", "init_cam_t", "cond_feats", "joints_2d", "joints_conf"]
LOOP += ["focal_length", "camera_center", "img_size", "settings", "x_0", "x_0_f64"]
LOOP += ["camera_translation", "camera_translation_f64", "opt_joints44"]
STEPS = ["kp_loss_per_step", "stop_mask_per_step_f64run"]  # [steps, N]
TRACE = ["t", "x_t", "pred_noise", "x_start", "scaled_gradient", "cam_after", "kp_loss_per_step"]
FIGURES = ["reg_mpjpe", "reg_re", "opt_mpjpe", "opt_re", "x_0", "camera_translation"]
ITEMS = ["keypoints_2d", "keypoints_3d", "box_center", "box_size", "img_size"]
WEIGHTS = "ckpt/tiny_pare_ema_f16.npz"
CHECKPOINT = "ckpt/tiny_pare_model-100.pt.xz"
BODY = "smpl_synthetic.npz"
REGRESSOR = "pack/SMPL_to_J19.pkl"
OFFICIAL_BODY = "pack/SMPL_NEUTRAL.pkl.gz"
AS_THEY_ARE = ("geometry.npz", "schedules.npz")  # whole, beside this file


# What is kept: file -> arrays. Samples are independent, so rows may go; frames and views are not.


def cut(golden: Path) -> Iterator[tuple[str, Arrays]]:
    """Yields each file's name and arrays; `0/pose` is the array `pose` of group 0 of a pickle."""

    def take(name: str, *keys: str, rows: Any = slice(None)) -> Arrays:
        with np.load(golden / f"{name}.npz") as file:
            return {key: file[key][rows] if file[key].ndim else file[key] for key in keys}

    def loop(name: str, rows: Any = slice(None)) -> Arrays:
        with np.load(golden / f"{name}.npz") as file:
            kept = take(name, *(key for key in LOOP if key in file.files), rows=rows)
            return kept | {key: file[key][:, rows] for key in STEPS if key in file.files}

    def pickled(name: str, groups: int, *keys: str) -> Arrays:
        data = pickle.loads((golden / f"{name}.pkl").read_bytes())[:groups]
        return {
            f"{i}/{k}": np.asarray(v)
            for i, d in enumerate(data)
            for k, v in d.items()
            if not keys or k in keys
        }

    weights = dict(np.load(golden / WEIGHTS))
    yield WEIGHTS, weights
    yield CHECKPOINT, hollow(lzma.decompress((golden / CHECKPOINT).read_bytes()), weights)
    body, reached = body_of_reached_vertices(golden)
    yield BODY, body
    yield "smpl_forward.npz", forward(golden, reached)
    yield "metrics.npz", dict(np.load(golden / "metrics.npz"))
    few = [0, 3, 6]
    with np.load(golden / "denoiser_tiny_pare.npz") as file:
        yield "denoiser_tiny_pare.npz", {k: v[few] for k, v in file.items() if len(v) == 8}
    yield "loop_A_keypoints_early_stop.npz", loop("loop_A_keypoints_early_stop", [0, 1, 5])
    yield "loop_A_keypoints_no_early_stop.npz", loop("loop_A_keypoints_no_early_stop", [0, 1, 5])
    yield "loop_A_early_stop_stress.npz", loop("loop_A_early_stop_stress", [0, 1, 10])
    yield "loop_A_nohips_2iters.npz", loop("loop_A_nohips_2iters", [0, 1])
    yield "loop_B_multiview.npz", loop("loop_B_multiview")
    yield "loop_trace.npz", loop("loop_trace") | take("loop_trace", *TRACE)
    with np.load(golden / "loop_G_ddim_tiny_pare.npz") as file:
        sampled = {k: file[k][few] for k in ("cond_feats", "x_T", "x_0")}
        first = {k: file[k][:, few] for k in ("x_t_first3", "pred_noise_first3", "x_start_first3")}
        yield "loop_G_ddim_tiny_pare.npz", sampled | first
    for end in ("", "_hmr2_preds", "_img_size", "_pare_feats"):
        with np.load(golden / f"pack/3dpw_test{end}.npz") as file:
            keys = [k for k in file.files if not end.startswith("_pare") or k.endswith("feats")]
        yield f"pack/3dpw_test{end}.npz", take(f"pack/3dpw_test{end}", *keys, rows=slice(8))
    keys = [*FIGURES, *(f"item_{k}" for k in ITEMS)]
    yield "pack/result_kp.npz", take("pack/result_kp", *keys, rows=slice(8))
    keys.remove("camera_translation")
    yield "pack/result_mv.npz", take("pack/result_mv", *keys, rows=slice(4))
    for end in ("", "_hmr2_preds", "_pare_feats"):
        yield f"pack/h36m_val_multiview{end}.pkl", pickled(f"pack/h36m_val_multiview{end}", 1)
    crops = ("center", "size", "patch_f32_sub", "kp2d_in", "kp2d_out")
    keys = ["image_bgr", *(f"c{i}_{key}" for i in range(3) for key in crops)]
    yield "image_crop.npz", take("image_crop", *keys)
    for name in ("pare_feat_stats", "betas_stats_eft_fits"):
        yield f"pack/{name}.npz", dict(np.load(golden / f"pack/{name}.npz"))


def body_of_reached_vertices(golden: Path) -> tuple[Arrays, np.ndarray]:
    """The body with its numbers at the vertices that joints and keypoints are made of.

    The other vertices lie at the origin and follow the root alone. So joints, keypoints and
    their gradients are those of the whole body, and its mesh is not.
    """
    body = dict(np.load(golden / "smpl_synthetic.npz"))
    reached = (body["J_regressor"] != 0).any(0) | (body["J_regressor_extra"] != 0).any(0)
    reached[LANDMARKS] = True
    for key in ("v_template", "shapedirs", "posedirs", "weights"):
        body[key][~reached] = 0
    body["weights"][~reached, 0] = 1
    return body, reached


def forward(golden: Path, reached: np.ndarray) -> Arrays:
    """Half of the poses, and of the vertices those that the cut body has."""
    with np.load(golden / "smpl_forward.npz") as file:
        kept = {k: v[::2] for k, v in file.items() if len(v) == 16 and "abs_mean" not in k}
        seen = reached[file["vertex_ids"]]
        ids = {k: file[k] for k in ("joint_map", "extra_joints_idxs")}
        ids["vertex_ids"] = file["vertex_ids"][seen]
    del kept["vertices_mean"]
    for key in ("vertices_subset", "aa_vertices_subset"):
        kept[key] = kept[key][:, seen]
    return kept | ids


# The checkpoint holds the weights several times, as float32, and zeros: it is kept without them.


def hollow(checkpoint: bytes, weights: Arrays) -> Arrays:
    """The checkpoint's bytes without the weights, and which weights were where."""
    names = {value.astype(np.float32).tobytes(): key for key, value in weights.items()}
    rest, places = np.frombuffer(checkpoint, np.uint8).copy(), []
    with zipfile.ZipFile(io.BytesIO(checkpoint)) as archive:
        for entry in archive.infolist():
            content = archive.read(entry)
            if content in names:
                start = checkpoint.index(content, entry.header_offset)
                rest[start : start + len(content)] = 0
                places.append((start, names[content]))
    starts, keys = zip(*places, strict=True)
    return {"rest": rest, "starts": np.array(starts), "keys": np.array(keys)}


def filled(rest: np.ndarray, starts: np.ndarray, keys: np.ndarray, weights: Arrays) -> bytes:
    """Undoes `hollow`."""
    whole = rest.copy()
    for start, key in zip(starts, keys, strict=True):
        content = np.frombuffer(weights[key].astype(np.float32).tobytes(), np.uint8)
        whole[start : start + len(content)] = content
    return whole.tobytes()


def layouts(golden: Path) -> dict[str, dict[str, list[int]]]:
    """Names and shapes of the weights that are left out."""
    weights = {v: np.load(golden / f"ckpt/{v}_ema_f16.npz") for v in ("tiny_betas", "tiny_prohmr")}
    return {v: {key: list(w.shape) for key, w in file.items()} for v, file in weights.items()}


# The packed form.


def pack(golden: Path) -> bytes:
    """Makes the content of `cut.xz` from the folder of the whole set."""
    files: dict[str, dict] = {}
    offsets: dict[bytes, int] = {}
    for name, arrays in cut(golden):
        files[name] = {}
        for key, array in arrays.items():
            stored = narrowest(np.ascontiguousarray(array))
            if is_picture(array):
                stored = np.diff(array, axis=1, prepend=np.uint8(0))  # packs three times as small
            numbers = np.frombuffer(stored.tobytes(), np.uint8).reshape(-1, width(stored.dtype))
            planes = numbers.T.tobytes()
            start = offsets.setdefault(planes, sum(map(len, offsets)))
            files[name][key] = [start, stored.dtype.str, array.dtype.str, array.shape]
    whole = (path.relative_to(golden).as_posix() for path in golden.rglob("*") if path.is_file())
    left_out = sorted(set(whole) - set(files) - {REGRESSOR, OFFICIAL_BODY, *AS_THEY_ARE})
    index = json.dumps({"files": files, "left_out": left_out}).encode()
    return lzma.compress(b"\n".join([index, b"".join(offsets)]), preset=9)


def narrowest(array: np.ndarray) -> np.ndarray:
    """The same numbers as the smallest floats that hold them exactly."""
    for dtype in (np.float16, np.float32):
        if array.dtype.kind == "f" and array.itemsize > np.dtype(dtype).itemsize:
            with np.errstate(over="ignore"):
                small = array.astype(dtype)
            if small.astype(array.dtype).tobytes() == array.tobytes():
                return small
    return array


def is_picture(array: np.ndarray) -> bool:
    """True for pixels [H, W, 3]."""
    return array.dtype == np.uint8 and array.ndim == 3


def width(dtype: np.dtype) -> int:
    """Bytes of a number, or of a letter."""
    return 4 if dtype.kind == "U" else dtype.itemsize


def unpacked() -> tuple[dict[str, Arrays], list[str]]:
    """The arrays of `cut.xz` by file, and the names of the files that were left out."""
    text, blob = lzma.decompress(CUT.read_bytes()).split(b"\n", 1)
    index = json.loads(text)

    def read(start: int, stored: str, dtype: str, shape: list[int]) -> np.ndarray:
        size, letters = width(np.dtype(stored)), np.dtype(stored).itemsize // 4
        count = int(np.prod(shape)) * (letters if stored[1] == "U" else 1)
        planes = np.frombuffer(blob, np.uint8, size * count, start).reshape(size, count)
        array = np.frombuffer(planes.T.tobytes(), stored).reshape(shape).astype(dtype)
        return np.cumsum(array, axis=1, dtype=np.uint8) if is_picture(array) else array

    files = {
        name: {key: read(*where) for key, where in arrays.items()}
        for name, arrays in index["files"].items()
    }
    return files, index["left_out"]


def write(folder: Path) -> None:
    """Writes the cut set as files with the names, keys and formats of the whole set."""
    files, left_out = unpacked()
    (folder / "left_out.json").write_text(json.dumps(left_out))
    checkpoint, body = files.pop(CHECKPOINT), files[BODY]
    for name in (*files, CHECKPOINT, REGRESSOR, OFFICIAL_BODY):
        (folder / name).parent.mkdir(exist_ok=True)
    whole = filled(**checkpoint, weights=files[WEIGHTS])
    (folder / CHECKPOINT).write_bytes(lzma.compress(whole, preset=0))
    regressor = body["J_regressor_extra"].astype(float)
    (folder / REGRESSOR).write_bytes(pickle.dumps(regressor, protocol=2))
    with gzip.open(folder / OFFICIAL_BODY, "wb", compresslevel=1) as file:
        pickle.dump(official(body), file, protocol=2)
    for name in AS_THEY_ARE:
        shutil.copy(HERE / name, folder)
    for name, arrays in files.items():
        if name.endswith(".npz"):
            np.savez(folder / name, **arrays)
        else:
            (folder / name).write_bytes(pickle.dumps(groups(arrays)))


def official(body: Arrays) -> dict[str, Any]:
    """The body as the official pickle has it."""
    from scipy.sparse import csc_matrix  # only to make a file; our readers do without

    pickled = {key: body[key].astype(float) for key in ("v_template", "weights", "shapedirs")}
    numbers = {key: body[key].astype(np.uint32) for key in ("f", "kintree_table")}
    regressor = csc_matrix(body["J_regressor"].astype(float))
    return pickled | numbers | {"posedirs": body["posedirs"], "J_regressor": regressor}


def groups(arrays: Arrays) -> list[dict[str, Any]]:
    """The list of dicts of a pickled file; names of images are a list."""
    found: dict[str, dict[str, Any]] = {}
    for name, array in arrays.items():
        group, key = name.split("/")
        value = array.tolist() if key == "imgname" else array
        found.setdefault(group, {})[key] = value
    return list(found.values())


class CutSet(type(Path())):  # type: ignore[misc]
    """The cut set as a folder: a test that asks for a file that was left out skips."""

    def __truediv__(self, name: str) -> "CutSet":
        path = super().__truediv__(name)
        lists = [Path(parent, "left_out.json") for parent in path.parents]
        for file in () if path.exists() else filter(Path.exists, lists):
            if path.relative_to(file.parent).as_posix() in json.loads(file.read_text()):
                pytest.skip(f"{name} is in shared/golden alone, which is not beside the repository")
        return path


def folder(cache: Path = HERE / "unpacked") -> CutSet:
    """The cut set, written below `cache` unless it lies there already."""
    made_of = CUT.read_bytes() + Path(__file__).read_bytes()
    place = cache / sha256(made_of).hexdigest()[:16]
    if not place.exists():
        cache.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=cache))
        write(made)
        try:
            made.rename(place)
        except OSError:  # another process was faster
            shutil.rmtree(made)
    return CutSet(place)


if __name__ == "__main__":
    whole = Path(sys.argv[1])
    CUT.write_bytes(pack(whole))
    (HERE / "layouts.json").write_text(json.dumps(layouts(whole)) + "\n")
    print(f"{CUT}: {CUT.stat().st_size / 1e6:.2f} MB, without", *unpacked()[1])
