"""Made-up data sets in the files of their makers: 3DPW, EMDB, ASPset-510; of the stand-in body."""

import json
import pickle
import struct
from dataclasses import replace

import numpy as np

import body_model
from body_model.joints import EXTRA_19, JOINT_NAMES

FRAMES = 7
K = np.array([[1900.0, 0, 540], [0, 1910, 960], [0, 0, 1]])
ASPSET = (
    *(f"{s}_{j}" for s in ("right", "left")
      for j in ("ankle", "knee", "hip", "wrist", "elbow", "shoulder")),
    *("head_top", "head", "neck", "spine", "pelvis"),
)  # fmt: skip


def bodies(folder):
    """SMPL_NEUTRAL, _MALE and _FEMALE, which differ in size, and a regressor of 19 joints."""
    neutral = body_model.stand_in()
    made = {"neutral": neutral}
    for gender, size in (("male", 1.1), ("female", 0.9)):
        made[gender] = replace(neutral, template=(neutral.template * size).astype(np.float32))
    for gender, body in made.items():
        body_model.save(folder / f"SMPL_{gender.upper()}.npz", body)
    regressor = np.zeros((len(EXTRA_19), len(neutral.template)), np.float32)
    for row, name in enumerate(EXTRA_19):
        near = name.replace("pelvis_mpii", "pelvis").replace("thorax_mpii", "spine3")
        near = near.replace("neck_lsp", "neck").replace("jaw_h36m", "neck")
        near = near.replace("spine_h36m", "spine2").replace("head_h36m", "head")
        near = near.replace("head_top_lsp", "head")
        regressor[row] = np.asarray(neutral.joint_regressor)[JOINT_NAMES.index(near)]
    np.save(folder / "J19.npy", regressor)
    return made


def turn(axis, angle):
    """A rotation about an axis, by Rodrigues' formula."""
    x, y, z = np.asarray(axis, float) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def world_to_camera(count):
    """Poses of a camera that moves, metres: it looks along the world's -z, and upright."""
    poses = np.tile(np.eye(4), (count, 1, 1))
    for i, pose in enumerate(poses):
        pose[:3, :3] = turn([0.1, 1, 0.05], 0.05 * i) @ np.diag([1.0, -1, -1])
        pose[:3, 3] = 0.1 * i, 0.9, 4 + 0.05 * i
    return poses


def motion(seed, count=FRAMES):
    """Pose [N, 72], betas [10] and trans [N, 3] in a world with y up."""
    random = np.random.default_rng(seed)
    pose = 0.2 * random.normal(size=(count, 72))
    pose[:, :3] = [0, 0.4, 0]
    trans = np.column_stack([0.2 * np.arange(count) / count, np.full((count, 2), 0.1)])
    return pose, random.normal(size=10), trans


def threedpw(folder, made, people=("m", "f"), shape_numbers=10, **changes):
    """sequenceFiles/test/walk_00.pkl as Python 2 wrote it."""
    moved = [motion(i) for i in range(len(people))]
    valid = [np.ones(FRAMES, np.uint8) for _ in people]
    valid[0][2] = 0
    detections = []
    for i in range(len(people)):
        random = np.random.default_rng(20 + i)
        points = random.uniform(100, 900, (FRAMES, 3, 18))
        points[:, 2] = random.uniform(0.3, 0.9, (FRAMES, 18))
        points[4] = 0  # fewer than six joints were found
        detections.append(points)
    joints = []
    for (pose, shape, trans), sign in zip(moved, people, strict=True):
        model = made[{"m": "male", "f": "female"}[sign]]
        shapes = np.tile(shape, (FRAMES, 1)).astype(np.float32)
        each = pose.reshape(-1, 24, 3).astype(np.float32), shapes, trans.astype(np.float32)
        joints.append(np.asarray(model.joints(*each)).reshape(FRAMES, 72))
    held = {
        "sequence": "walk_00",
        "poses": [pose for pose, _, _ in moved],
        "betas": [np.append(shape, np.full(shape_numbers - 10, 0.1)) for _, shape, _ in moved],
        "trans": [trans for _, _, trans in moved],
        "genders": [*people],
        "campose_valid": valid,
        "cam_poses": world_to_camera(FRAMES),
        "cam_intrinsics": K,
        "poses2d": detections,
        "jointPositions": joints,
        "img_frame_ids": 2 * np.arange(FRAMES),
        "poses_60Hz": [np.zeros((2 * FRAMES, 72)) for _ in people],
        "v_template_clothed": [np.zeros((6890, 3)) for _ in people],
        "texture_maps": [],
    } | changes
    file = folder / "sequenceFiles/test/walk_00.pkl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pickle.dumps(held, protocol=2))
    return folder


def emdb(folder, name="P1/14_outdoor_climb", **changes):
    """A sequence of EMDB 1."""
    pose, betas, trans = motion(5)
    good = np.ones(FRAMES, bool)
    good[3] = False
    held = {
        "gender": "female",
        "name": name.replace("/", "_"),
        "emdb1": True,
        "emdb2": False,
        "n_frames": FRAMES,
        "good_frames_mask": good,
        "camera": {
            "intrinsics": K,
            "extrinsics": world_to_camera(FRAMES),
            "width": 1080,
            "height": 1920,
        },
        "smpl": {
            "poses_root": pose[:, :3],
            "poses_body": pose[:, 3:],
            "trans": trans,
            "betas": betas,
        },
        "kp2d": np.full((FRAMES, 24, 2), 500.0),
        "bboxes": {"bboxes": np.full((FRAMES, 4), 100.0), "invalid_idxs": np.array([3])},
    } | changes
    file = folder / name / f"{held['name']}_data.pkl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pickle.dumps(held, protocol=4))
    return folder


def c3d(points, names, unit="mm", rate=50.0, seen=None, scale=-1.0, processor=84):
    """A C3D file: a header, the group POINT, frames of x, y, z and a residual."""

    def text(name, values, description=b""):
        width = max(map(len, values), default=0)
        data = b"".join(v.ljust(width).encode() for v in values)
        dims = bytes([2, width, len(values)]) if len(values) > 1 else bytes([1, width])
        return parameter(name, -1, dims, data)

    def parameter(name, kind, dims, data):
        rest = struct.pack("<b", kind) + dims + data + b"\x00"
        return struct.pack("<bb", len(name), 1) + name + struct.pack("<H", 2 + len(rest)) + rest

    group = struct.pack("<bb", 5, -1) + b"POINT" + struct.pack("<H", 3) + b"\x00"
    entries = group + text(b"LABELS", names) + (text(b"UNITS", [unit]) if unit else b"")
    entries += parameter(b"RATE", 4, bytes([0]), struct.pack("<f", rate))
    body = bytes([0, 0, 1, processor]) + entries + b"\x00" * 4
    blocks = -(-len(body) // 512)
    frames, count = points.shape[:2]
    residual = np.zeros((frames, count)) if seen is None else np.where(seen, 0.0, -1.0)
    rows = np.concatenate([points / (1.0 if scale < 0 else scale), residual[..., None]], -1)
    header = struct.pack("<BB5HfHHf", 2, 0x50, count, 0, 1, frames, 0, scale, 2 + blocks, 0, rate)
    data = rows.astype("<f4" if scale < 0 else "<i2").tobytes()
    return header.ljust(512, b"\x00") + body.ljust(512 * blocks, b"\x00") + data


def aspset(folder, columns=4):
    """Two clips of the test split, of one camera each, and one of val; joints in millimetres."""
    rows = [("1e28", "0001", "test", "left"), ("1e28", "0002", "test", "mid")]
    rows.append(("04ac", "0026", "val", "all"))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "splits.csv").write_text("".join(f"{','.join(r[:columns])}\n" for r in rows))
    random = np.random.default_rng(8)
    for subject, clip, split, _ in rows:
        place = folder / ("test" if split == "test" else "trainval")
        points = random.normal(size=(11, 17, 3)) * 400 + [0, 0, 18000]
        seen = np.ones((11, 17), bool)
        seen[5, ASPSET.index("left_knee")] = False
        file = place / "joints_3d" / subject / f"{subject}-{clip}.c3d"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(c3d(points, ASPSET, seen=seen))
        np.save(file.with_suffix(".npy"), points)
        for number, camera in enumerate(("left", "mid", "right")):
            pose = np.eye(4)
            pose[:3, :3] = turn([0, 1, 0], 0.3 * number)
            pose[:3, 3] = 1000.0 * number, 10, 500
            intrinsic = np.column_stack([np.diag([3900.0, 3905, 1]), np.zeros(3)])
            intrinsic[:2, 2] = 1907, 1082
            held = {
                "intrinsic_matrix": intrinsic.ravel().tolist(),
                "extrinsic_matrix": pose.ravel().tolist(),
            }
            target = place / "cameras" / subject / f"{subject}-{camera}.json"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(json.dumps(held))
    return folder


def image_rows(path, images, people, pose=None, without=(), **more):
    """Estimates, a row for each person found: in another order than the truth's, some missing."""
    count = len(images)
    order = [i for i in np.random.default_rng(1).permutation(count) if i not in without]
    pose = np.tile(np.eye(3), (count, 24, 1, 1)) if pose is None else pose
    columns = {
        "imgname": np.array([f"some/folder/{name}" for name in images]),
        "person": np.array(people),
        "pred_pose": pose,
        "pred_betas": np.zeros((count, 10)),
        "pred_cam_t": np.column_stack([np.zeros((count, 2)), 4 + 0.01 * np.arange(count)]),
    } | more
    np.savez(path, **{key: np.asarray(value)[order] for key, value in columns.items()})
    return path
