"""Made-up files of estimates as other networks write them, without their packages.

A pickle is written by Python's own pickler, which here can name classes that it cannot import.
"""

import collections
import io
import pickle
import struct
import zlib

import numpy as np
from scipy.spatial.transform import Rotation

from scorehmr_jax.convert.torch_write import save_torch

SIZE = np.array([641, 360])  # an odd difference: bars of PHALP are not equally wide
HMR2_FOCAL = 5000 / 256 * 641


class Named:
    """A class or function by its name."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Call:
    """What calling a function gives."""

    def __init__(self, function, *args):
        self.function, self.args = function, args


class Tensor:
    """A tensor of PyTorch."""

    def __init__(self, array):
        self.array = np.ascontiguousarray(array)


class Storage:
    def __init__(self, array):
        self.array = array


KINDS = {"float32": "FloatStorage", "float64": "DoubleStorage", "int64": "LongStorage"}


class Pickler(pickle._Pickler):
    """Python's pickler, which writes arrays as joblib does if asked, and tensors as PyTorch."""

    def __init__(self, file, as_joblib=False, protocol=3):
        super().__init__(file, protocol)
        self.file, self.as_joblib = file, as_joblib

    def persistent_id(self, thing):
        if isinstance(thing, Storage):
            kind = Named("torch", KINDS[thing.array.dtype.name])
            return ("storage", kind, "94774", "cpu", thing.array.size, None)

    def save(self, thing, save_persistent_id=True):
        if isinstance(thing, Named):
            return self.write(f"c{thing.module}\n{thing.name}\n".encode())
        if isinstance(thing, Call):
            self.save(thing.function)
            self.save(tuple(thing.args))
            return self.write(pickle.REDUCE)
        if isinstance(thing, Tensor):
            return self.save(rebuilt(thing.array))
        if self.as_joblib and type(thing) is np.ndarray:
            return self.save_array(thing)
        return super().save(thing, save_persistent_id)

    def save_array(self, array):
        self.save(Named("joblib.numpy_pickle", "NumpyArrayWrapper"))
        self.write(pickle.EMPTY_TUPLE + pickle.NEWOBJ)
        backwards = array.flags.f_contiguous and not array.flags.c_contiguous
        self.save(
            {
                "subclass": np.ndarray,
                "shape": array.shape,
                "order": "F" if backwards else "C",
                "dtype": array.dtype,
                "allow_mmap": not array.dtype.hasobject,
                "numpy_array_alignment_bytes": 16,
            }
        )
        self.write(pickle.BUILD)
        if array.dtype.hasobject:
            return self.file.write(pickle.dumps(array, 2))
        pad = 16 - (self.file.tell() + 1) % 16
        self.file.write(bytes([pad]) + b"\xff" * pad + array.tobytes("F" if backwards else "C"))


def rebuilt(array):
    """A tensor as PyTorch pickles it outside of its own files."""
    strides = tuple(n // array.itemsize for n in array.strides)
    storage = Call(Named("torch.storage", "_load_from_bytes"), legacy(array))
    of = Named("torch._utils", "_rebuild_tensor_v2")
    return Call(of, storage, 0, array.shape, strides, False, collections.OrderedDict())


def legacy(array):
    """A storage in PyTorch's format from before 1.6."""
    out = io.BytesIO()
    versions = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}
    for value in (0x1950A86A20F9469CFC6C, 1001, versions):
        out.write(pickle.dumps(value, 2))
    Pickler(out, protocol=2).dump(Storage(array))
    out.write(pickle.dumps(["94774"], 2))
    out.write(struct.pack("<q", array.size) + array.tobytes())
    return out.getvalue()


def pickled(value, **options):
    out = io.BytesIO()
    Pickler(out, **options).dump(value)
    return out.getvalue()


def save_joblib(path, value, compress=False):
    data = pickled(value, as_joblib=True)
    path.write_bytes(zlib.compress(data, 3) if compress else data)
    return path


def save_npy(path, value):
    """What `numpy.save` makes of a table: an array of one object."""
    holder = np.empty((), object)
    holder[()] = value
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }"
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    start = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(start + pickled(holder))
    return path


def angles(matrices):
    vectors = Rotation.from_matrix(matrices.reshape(-1, 3, 3)).as_rotvec()
    return vectors.astype(np.float32).reshape(len(matrices), -1)


def people(count=6, seed=0):
    """Poses, shapes and places before a camera: what a network would have estimated."""
    random = np.random.default_rng(seed)
    first = np.linalg.qr(random.normal(size=(count, 24, 3, 3)) * 0.2 + np.eye(3))[0]
    sign = np.sign(np.diagonal(first, axis1=-2, axis2=-1))
    pose = (first * sign[..., None, :]).astype(np.float32)
    pose[:, :, :, 2] = np.cross(pose[..., 0], pose[..., 1])
    return {
        "pose": pose,
        "betas": random.normal(size=(count, 10)).astype(np.float32) * 0.5,
        "translation": random.uniform([-0.5, -0.5, 24.5], [0.5, 0.5, 25.5], (count, 3)).astype(
            np.float32
        ),
    }


def split(pose):
    return {"global_orient": pose[:, :1], "body_pose": pose[:, 1:]}


def phalp(path, made, frames=((0, 1), (0, 1), (0, 1)), ids=(7, 3), skip=(), lost=(), **options):
    """Two people in three frames, row by row; `skip` are rows left out, `lost` are predicted."""
    wide, high = SIZE
    held, row = {}, 0
    for number, persons in enumerate(frames):
        frame = {"time": number, "shot": 0, "frame_path": f"v/{number + 1:06d}.jpg"}
        frame |= {name: [] for name in ("tid", "smpl", "camera", "size", "tracked_time", "bbox")}
        for person in persons:
            if row not in skip:
                body = {name: part[row] for name, part in split(made["pose"]).items()}
                frame["tid"].append(ids[person])
                frame["smpl"].append({**body, "betas": made["betas"][row]})
                frame["camera"].append(made["translation"][row])
                frame["size"].append([int(high), int(wide)])
                frame["tracked_time"].append(3 if row in lost else 0)
                frame["bbox"].append(np.array([1.0, 2, 3, 4]))
            row += 1
        held[f"v/{number + 1:06d}.jpg"] = frame
    return save_joblib(path, held, compress=True, **options)


def wham(path, made):
    """Two people of three frames each, the second later; results are a defaultdict."""
    results = Call(Named("collections", "defaultdict"), Named("builtins", "dict"))
    table = {}
    for person in range(2):
        rows = slice(3 * person, 3 * person + 3)
        turned = angles(made["pose"][rows])
        table[person] = {
            "pose": turned,
            "trans": made["translation"][rows],
            "pose_world": turned,
            "trans_world": made["translation"][rows],
            "betas": made["betas"][rows],
            "verts": np.zeros((3, 5, 3), np.float32),
            "frame_ids": np.arange(3) + 2 * person,
        }
    out = io.BytesIO()
    pickler = Pickler(out, as_joblib=True)
    out.write(pickle.PROTO + b"\x03")
    pickler.save(results)
    out.write(pickle.MARK)
    for number, person in table.items():
        pickler.save(number)
        pickler.save(person)
    out.write(pickle.SETITEMS + pickle.STOP)
    path.write_bytes(out.getvalue())
    return path


def gvhmr(path, made):
    wide, high = SIZE
    turned = angles(made["pose"])
    count, focal = len(turned), float(np.hypot(wide, high))
    body = {
        "body_pose": turned[:, 3:66],
        "betas": made["betas"],
        "global_orient": turned[:, :3],
        "transl": made["translation"],
    }
    K = np.array([[focal, 0, wide / 2], [0, focal, high / 2], [0, 0, 1]], np.float32)
    save_torch(
        path,
        {
            "smpl_params_global": body,
            "smpl_params_incam": body,
            "K_fullimg": np.tile(K, (count, 1, 1)),
            "net_outputs": {"static_conf_logits": np.zeros((1, count, 6), np.float32)},
        },
    )
    return path


def tram(folder, made, focal):
    """A folder of a video with two people."""
    for person in range(2):
        rows = slice(3 * person, 3 * person + 3)
        save_npy(
            folder / "hps" / f"hps_track_{person}.npy",
            {
                "pred_cam": Tensor(np.ones((3, 3), np.float32)),
                "pred_pose": Tensor(np.zeros((3, 144), np.float32)),
                "pred_shape": Tensor(made["betas"][rows]),
                "pred_rotmat": Tensor(made["pose"][rows]),
                "pred_trans": Tensor(made["translation"][rows][:, None]),
                "frame": Tensor(np.arange(3) + 1),
            },
        )
    camera = {
        "pred_cam_R": np.tile(np.eye(3), (4, 1, 1)),
        "pred_cam_T": np.zeros((4, 3)),
        "img_focal": np.float64(focal),
        "img_center": SIZE / 2,
    }
    save_npy(folder / "camera.npy", camera)
    return folder


def weak_cameras(made, focal, center, box_center, box_size):
    """The cameras of boxes that put bodies where they are in the full image."""
    x, y, z = made["translation"].T
    scale = 2 * focal / (box_size * z)
    return np.stack(
        [
            scale,
            x - 2 * (box_center[:, 0] - center[0]) / (scale * box_size),
            y - 2 * (box_center[:, 1] - center[1]) / (scale * box_size),
        ],
        -1,
    ).astype(np.float32)


def hmr2(made, focal=HMR2_FOCAL):
    """The outputs of HMR 2.0 for an image of six people, with the boxes of the batch."""
    count = len(made["pose"])
    box_center = SIZE / 2 + np.arange(2 * count).reshape(count, 2)
    box_size = np.full(count, 150.0)
    parameters = {**split(made["pose"]), "betas": made["betas"]}
    return {
        **parameters,
        "pred_cam": weak_cameras(made, focal, SIZE / 2, box_center, box_size),
        "pred_smpl_params": parameters,
        "pred_cam_t": np.zeros((count, 3), np.float32),  # before the crop
        "focal_length": np.full((count, 2), 5000.0),  # of the crop
        "box_center": box_center,
        "box_size": box_size,
        "img_size": np.tile(SIZE.astype(float), (count, 1)),
        "personid": np.arange(count),
    }


def camerahmr(made, focal):
    """The same of CameraHMR, which finds the focal length."""
    held = hmr2(made, focal)
    kept = {name: held[name] for name in ("pred_cam", "box_center", "box_size")}
    K = [[focal, 0, SIZE[0] / 2], [0, focal, SIZE[1] / 2], [0, 0, 1]]
    count = len(made["pose"])
    return {
        **kept,
        "out_smpl_params": held["pred_smpl_params"],
        "cam_int": np.tile(K, (count, 1, 1)),
    }


def nlf(made, joints, focal):
    """A batch of two images with three people each; joints [M, 24, 3] are in the camera's frame."""
    seen = joints[..., :2] / joints[..., 2:] * focal + SIZE / 2
    whole = {
        "pose": angles(made["pose"]),
        "betas": made["betas"],
        "trans": made["translation"],
        "joints3d": 1000 * joints,
        "joints2d": seen,
        "boxes": np.zeros((len(joints), 5), np.float32),
    }
    return {name: [Tensor(a[i : i + 3]) for i in (0, 3)] for name, a in whole.items()}


def sam3d(made, points, focal):
    """Six images with one person each; points [M, 70, 3] are about the body."""
    images = {}
    for i, place in enumerate(made["translation"]):
        at = points[i] + place
        images[f"{i}.jpg"] = [
            {
                "bbox": np.zeros(4),
                "focal_length": np.float32(focal),
                "pred_keypoints_3d": points[i],
                "pred_keypoints_2d": (at[:, :2] / at[:, 2:] * focal + SIZE / 2).astype(np.float32),
                "pred_cam_t": place,
                "mask": None,
            }
        ]
    return images
