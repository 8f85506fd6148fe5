"""Files for other programs: what is saved comes back."""

import dataclasses

import numpy as np
import pytest

from body_model.joints import NUM_JOINTS
from body_model.open.stand_in import stand_in
from body_model.rotations import axis_angle_to_matrix
from scorehmr_jax.output.gltf import save_glb

FRAMES = 7


@pytest.fixture(scope="module")
def body():
    return stand_in()


@pytest.fixture(scope="module")
def motion():
    rng = np.random.default_rng(0)
    pose = axis_angle_to_matrix(0.5 * rng.normal(size=(FRAMES, NUM_JOINTS, 3)).astype(np.float32))
    betas = np.linspace(-1, 1, 10, dtype=np.float32)
    translation = np.array([0.1, 0.2, 4.0]) + 0.1 * rng.normal(size=(FRAMES, 3))
    return np.asarray(pose), betas, translation.astype(np.float32)


def accessor(document, index):
    """The array of a glTF accessor."""
    item = document.accessors[index]
    view = document.bufferViews[item.bufferView]
    dtype = {5121: np.uint8, 5125: np.uint32, 5126: np.float32}[item.componentType]
    width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}[item.type]
    data = np.frombuffer(document.binary_blob(), dtype, item.count * width, view.byteOffset)
    return data.reshape(item.count, width).squeeze()


def gltf_skinned(document, frame):
    """Vertices of a frame as a glTF viewer makes them, from the file alone."""
    local = []
    animation = document.animations[0]
    for node in document.nodes[:NUM_JOINTS]:
        local.append(
            {"translation": np.array(node.translation), "rotation": np.array(node.rotation)}
        )
    for channel in animation.channels:
        values = accessor(document, animation.samplers[channel.sampler].output)
        local[channel.target.node][channel.target.path] = values[frame]
    world: list = [None] * NUM_JOINTS

    def walk(index, parent):
        x, y, z, w = local[index]["rotation"]
        matrix = np.eye(4)
        matrix[:3, :3] = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
        matrix[:3, 3] = local[index]["translation"]
        world[index] = parent @ matrix
        for child in document.nodes[index].children:
            walk(child, world[index])

    walk(0, np.eye(4))
    skin, primitive = document.skins[0], document.meshes[0].primitives[0]
    inverse_bind = accessor(document, skin.inverseBindMatrices).reshape(-1, 4, 4).swapaxes(1, 2)
    moves = np.stack([world[j] for j in skin.joints]) @ inverse_bind
    vertices = accessor(document, primitive.attributes.POSITION)
    bones = accessor(document, primitive.attributes.JOINTS_0)
    weights = accessor(document, primitive.attributes.WEIGHTS_0)
    blended = np.einsum("vk,vkrc->vrc", weights, moves[bones])
    return np.einsum("vrc,vc->vr", blended[:, :3, :3], vertices) + blended[:, :3, 3]


def test_glb_skins_to_the_same_vertices(tmp_path, body, motion):
    gltf = pytest.importorskip("pygltflib")
    pose, betas, translation = motion
    save_glb(tmp_path / "a.glb", body, pose, betas, translation, fps=25)
    assert [p.name for p in tmp_path.iterdir()] == ["a.glb"]
    document = gltf.GLTF2().load(str(tmp_path / "a.glb"))
    assert len(document.skins[0].joints) == NUM_JOINTS
    times = accessor(document, document.animations[0].samplers[0].input)
    np.testing.assert_allclose(times, np.arange(FRAMES) / 25, rtol=1e-6)
    assert (np.count_nonzero(body.skin_weights, axis=1) <= 4).all()
    plain = dataclasses.replace(body, pose_directions=np.zeros_like(body.pose_directions))
    for frame in (0, 3, FRAMES - 1):
        # Camera frame: y down, z forward; glTF: y up, z backward.
        expected = plain.vertices(pose[frame], betas, translation[frame]) * np.array([1, -1, -1])
        np.testing.assert_allclose(gltf_skinned(document, frame), expected, atol=2e-5)


def test_glb_of_a_y_up_motion_stands_upright(tmp_path, body):
    trimesh = pytest.importorskip("trimesh")
    pytest.importorskip("pygltflib")
    pose = np.tile(np.eye(3), (2, NUM_JOINTS, 1, 1))
    save_glb(tmp_path / "b.glb", body, pose, np.zeros(10), np.zeros((2, 3)), camera_frame=False)
    mesh = next(iter(trimesh.load(tmp_path / "b.glb").geometry.values()))
    assert mesh.faces.shape == np.shape(body.faces)
    height = body.template[:, 1]
    np.testing.assert_allclose(mesh.bounds[:, 1], [height.min(), height.max()], atol=1e-6)


def test_glb_refuses_what_does_not_fit(tmp_path, body, motion):
    pose, betas, translation = motion
    with pytest.raises(ValueError, match="T > 0"):
        save_glb(tmp_path / "c.glb", body, pose[:0], betas, translation[:0])
    with pytest.raises(ValueError, match="one shape"):
        save_glb(tmp_path / "c.glb", body, pose, np.zeros((FRAMES, 10)), translation)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"fps": 0}, "c.glb: expected fps, frames per second, above 0; found 0"),
        ({"fps": float("nan")}, "above 0; found nan"),
        ({"fps": float("inf")}, "above 0; found inf"),
        ({"poses": np.nan}, r"c.glb: poses: .* in frame 2 \(1 of 7 frames\)"),
        ({"poses": 2.0}, "c.glb: poses: expected rotations"),
        ({"translation": np.inf}, r"c.glb: translation: .* in frame 2 \(1 of 7"),
        ({"betas": np.nan}, "c.glb: betas: expected finite"),
        ({"path": "c.gltf"}, "c.gltf: expected the suffix .glb, found .gltf"),
        ({"path": "c"}, "c: expected the suffix .glb, found none"),
    ],
)
def test_glb_refuses_what_no_viewer_can_show(tmp_path, body, motion, change, reason):
    pytest.importorskip("pygltflib")
    pose, betas, translation = motion
    given = {"path": "c.glb", "poses": pose, "betas": betas, "translation": translation} | change
    for key in change.keys() & {"poses", "translation", "betas"}:
        given[key] = dict(poses=pose, betas=betas, translation=translation)[key].copy()
        given[key][2] = change[key]
    with pytest.raises(ValueError, match=reason):
        save_glb(tmp_path / given.pop("path"), body, **given)
    assert not list(tmp_path.iterdir())
