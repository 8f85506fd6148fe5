"""Moving bodies as .glb (binary glTF 2.0) for Blender, game engines and the web."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Real

from body_model.files import writing
from body_model.joints import JOINT_NAMES, NUM_JOINTS, PARENTS
from body_model.rotations import matrix_to_quaternion
from body_model.smpl import SMPL
from scorehmr_jax.output.motion import checked_motion
from scorehmr_jax.types import Array

# From the camera's frame (y down, z forward) to glTF's (y up, z backward): half a turn about x.
CAMERA_TO_GLTF = np.diag([1.0, -1.0, -1.0])
MAX_INFLUENCES = 4  # bones per vertex that every glTF viewer supports


def save_glb(
    path: str | Path,
    body: SMPL,
    poses: Real[Array, "T 24 3 3"] | Real[Array, "T 24 3"],
    betas: Real[Array, " B"],
    translation: Real[Array, "T 3"],
    fps: float = 30.0,
    camera_frame: bool = True,
) -> None:
    """Writes a moving body as a skinned, animated glTF binary.

    The mesh has the shape of `betas` in the rest pose, a skeleton of 24 joints, at most four
    bones per vertex, and one animation: a rotation track per joint and the root's translation.
    glTF blends linearly, so the body's pose correctives are left out.

    Args:
        path: the file to write, its suffix .glb.
        body: the body.
        poses: [T, 24, 3, 3] rotations or [T, 24, 3] axis-angle.
        betas: [B] one shape for the whole motion.
        translation: [T, 3] metres.
        fps: frames per second.
        camera_frame: poses and translation are in a camera frame (y down, z forward) and are
            turned to y up; with False they are y up already.
    Raises:
        ValueError: naming the file, if there is no frame, if the numbers of frames or shapes do
            not fit, if a number is NaN or a matrix no rotation, if fps is not above 0, or if the
            suffix is another.
    """
    path, rotations, places = checked_motion(path, ".glb", poses, betas, translation, fps)
    frames = len(rotations)
    import pygltflib as gltf

    rest_vertices = np.asarray(body.shaped(betas), float)
    rest_joints = np.asarray(body.rest_joints(betas), float)
    to_gltf = CAMERA_TO_GLTF if camera_frame else np.eye(3)
    rotations[:, 0] = to_gltf @ rotations[:, 0]
    # The body turns about its pelvis, so that is the point that the root's track moves.
    root_path = (rest_joints[0] + places) @ to_gltf.T
    quaternions = _continuous(np.asarray(matrix_to_quaternion(jnp.asarray(rotations))))
    bones, weights = _influences(np.asarray(body.skin_weights, float))

    document = gltf.GLTF2(
        asset=gltf.Asset(version="2.0", generator="scorehmr-jax"),
        scene=0,
        scenes=[gltf.Scene(nodes=[0, NUM_JOINTS])],
        materials=[
            gltf.Material(
                name="skin",
                pbrMetallicRoughness=gltf.PbrMetallicRoughness(
                    baseColorFactor=[0.72, 0.62, 0.55, 1.0], metallicFactor=0.0, roughnessFactor=0.7
                ),
            )
        ],
    )
    data = _Buffer(document)
    attributes = gltf.Attributes(
        POSITION=data.add(rest_vertices, gltf.VEC3, bounds=True, target=gltf.ARRAY_BUFFER),
        NORMAL=data.add(_normals(rest_vertices, body.faces), gltf.VEC3, target=gltf.ARRAY_BUFFER),
        JOINTS_0=data.add(bones.astype(np.uint8), gltf.VEC4, target=gltf.ARRAY_BUFFER),
        WEIGHTS_0=data.add(weights, gltf.VEC4, target=gltf.ARRAY_BUFFER),
    )
    faces = data.add(
        np.asarray(body.faces, np.uint32).ravel(), gltf.SCALAR, target=gltf.ELEMENT_ARRAY_BUFFER
    )
    document.meshes = [
        gltf.Mesh(
            name="body",
            primitives=[gltf.Primitive(attributes=attributes, indices=faces, material=0)],
        )
    ]

    offsets = rest_joints - np.concatenate([np.zeros((1, 3)), rest_joints[list(PARENTS[1:])]])
    offsets[0], first = root_path[0], quaternions[0]
    document.nodes = [
        gltf.Node(
            name=name,
            children=[child for child, parent in enumerate(PARENTS) if parent == joint],
            translation=offsets[joint].tolist(),
            rotation=first[joint, [1, 2, 3, 0]].tolist(),
        )
        for joint, name in enumerate(JOINT_NAMES)
    ]
    document.nodes.append(gltf.Node(name="body", mesh=0, skin=0))

    inverse_bind = np.tile(np.eye(4), (NUM_JOINTS, 1, 1))
    inverse_bind[:, :3, 3] = -rest_joints
    # glTF stores matrices column by column, quaternions as x, y, z, w.
    matrices = data.add(inverse_bind.swapaxes(1, 2).reshape(NUM_JOINTS, 16), gltf.MAT4)
    document.skins = [
        gltf.Skin(joints=list(range(NUM_JOINTS)), skeleton=0, inverseBindMatrices=matrices)
    ]
    times = data.add(np.arange(frames) / fps, gltf.SCALAR, bounds=True)
    animation = gltf.Animation(name="motion")
    tracks = [("rotation", j, quaternions[:, j, [1, 2, 3, 0]]) for j in range(NUM_JOINTS)]
    for kind, joint, values in [("translation", 0, root_path), *tracks]:
        output = data.add(values, gltf.VEC3 if kind == "translation" else gltf.VEC4)
        animation.channels.append(
            gltf.AnimationChannel(
                sampler=len(animation.samplers),
                target=gltf.AnimationChannelTarget(node=joint, path=kind),
            )
        )
        animation.samplers.append(gltf.AnimationSampler(input=times, output=output))
    document.animations = [animation]
    data.close()
    with writing(path) as file:
        file.write(b"".join(document.save_to_bytes()))


class _Buffer:
    """The one binary chunk of a .glb: every array becomes a view and an accessor."""

    def __init__(self, document):
        self.document, self.chunk = document, bytearray()

    def add(
        self, array: np.ndarray, kind: str, bounds: bool = False, target: int | None = None
    ) -> int:
        """Appends an array, floats as float32, and returns its accessor's index."""
        import pygltflib as gltf

        if array.dtype.kind == "f":
            array = array.astype(np.float32)
        types = {"f4": gltf.FLOAT, "u1": gltf.UNSIGNED_BYTE, "u4": gltf.UNSIGNED_INT}
        self.chunk += bytes(-len(self.chunk) % 4)
        data = np.ascontiguousarray(array).tobytes()
        self.document.bufferViews.append(
            gltf.BufferView(
                buffer=0, byteOffset=len(self.chunk), byteLength=len(data), target=target
            )
        )
        self.chunk += data
        rows = array.reshape(len(array), -1)
        self.document.accessors.append(
            gltf.Accessor(
                bufferView=len(self.document.bufferViews) - 1,
                componentType=types[array.dtype.str[1:]],
                count=len(array),
                type=kind,
                min=rows.min(0).tolist() if bounds else None,
                max=rows.max(0).tolist() if bounds else None,
            )
        )
        return len(self.document.accessors) - 1

    def close(self) -> None:
        import pygltflib as gltf

        self.document.buffers = [gltf.Buffer(byteLength=len(self.chunk))]
        self.document.set_binary_blob(bytes(self.chunk))


def _influences(skin_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds the strongest bones [V, 4] of each vertex and their weights, which sum to 1."""
    bones = np.argsort(-skin_weights, axis=1, kind="stable")[:, :MAX_INFLUENCES]
    weights = np.take_along_axis(skin_weights, bones, 1)
    weights /= weights.sum(1, keepdims=True)
    # glTF asks for bone 0 where the weight is 0.
    return np.where(weights > 0, bones, 0), weights


def _continuous(quaternions: np.ndarray) -> np.ndarray:
    """Chooses signs that bring neighbouring frames [T, J, 4] near: some viewers blend linearly."""
    dots = np.sum(quaternions[1:] * quaternions[:-1], -1, keepdims=True)
    signs = np.cumprod(np.where(dots < 0, -1.0, 1.0), axis=0)
    return np.concatenate([quaternions[:1], quaternions[1:] * signs])


def _normals(vertices: np.ndarray, faces: Array) -> np.ndarray:
    """Returns unit vertex normals [V, 3]; of a vertex without faces, the y axis."""
    faces = np.asarray(faces)
    corners = vertices[faces]
    area = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, faces[:, corner], area)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.where(length > 0, normals / np.where(length > 0, length, 1), [0.0, 1.0, 0.0])
