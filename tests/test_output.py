"""Pictures, files and the report: what is drawn is where it should be, what is saved comes back."""

import dataclasses

import numpy as np
import pytest

from body_model.joints import NUM_JOINTS, OPENPOSE_25
from body_model.open.stand_in import stand_in
from body_model.rotations import axis_angle_to_matrix
from scorehmr_jax.output.export import save_glb
from scorehmr_jax.types import Camera, Keypoints2D

render_module = pytest.importorskip("scorehmr_jax.output.render")
pytest.importorskip("matplotlib")

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


@pytest.fixture
def camera():
    return Camera(np.array([500.0, 500.0]), np.array([160.0, 120.0]), np.array([320.0, 240.0]))


def square(depth: float, flip: bool = False):
    """A 0.4 m square before the camera, seen from its front unless flipped."""
    vertices = np.array(
        [[-0.2, -0.2, depth], [0.2, -0.2, depth], [0.2, 0.2, depth], [-0.2, 0.2, depth]]
    )
    faces = np.array([[0, 2, 1], [0, 3, 2]])
    return vertices, faces[:, ::-1] if flip else faces


def drawn_box(picture):
    ys, xs = np.nonzero((picture < 250).any(-1))
    return xs.min(), ys.min(), xs.max() + 1, ys.max() + 1


def test_render_puts_a_face_where_the_camera_projects_it(camera):
    vertices, faces = square(2.0)
    picture = render_module.render(vertices + np.array([0.1, 0, 0]), faces, camera)
    assert picture.shape == (240, 320, 3) and picture.dtype == np.uint8
    # x: 160 + 500 * (0.1 -+ 0.2) / 2; y: 120 +- 500 * 0.2 / 2
    np.testing.assert_allclose(drawn_box(picture), (135, 70, 235, 170), atol=1)


def test_render_crop_and_scale(camera):
    vertices, faces = square(2.0)
    picture = render_module.render(vertices, faces, camera, crop=(100, 60, 220, 180), scale=2)
    assert picture.shape == (240, 240, 3)
    np.testing.assert_allclose(drawn_box(picture), (20, 20, 220, 220), atol=2)


def test_render_culls_back_faces_and_what_is_behind_the_camera(camera):
    for vertices, faces in (square(2.0, flip=True), square(-2.0), square(-2.0, flip=True)):
        assert (render_module.render(vertices, faces, camera) == 255).all()


def test_render_near_hides_far(camera):
    far, faces = square(3.0)
    far = far + np.array([0.0, 0.0, 0.5]) * np.sign(far[:, :1])  # tilted: another shade
    near = square(2.0)[0] * [0.5, 0.5, 1.0]
    near_alone = render_module.render(near, faces, camera)[100:140, 140:180].astype(int)
    far_alone = render_module.render(far, faces, camera)[100:140, 140:180].astype(int)
    assert np.abs(near_alone - far_alone).min() > 10
    for order in ((near, far), (far, near)):
        both = np.concatenate(order)
        picture = render_module.render(both, np.concatenate([faces, faces + 4]), camera)
        np.testing.assert_allclose(picture[100:140, 140:180], near_alone, atol=9)


def test_render_draws_keypoints_that_were_seen_and_no_others(camera):
    xy = np.full((25, 2), 60.0)
    confidence = np.zeros(25)
    right, left = OPENPOSE_25.index("right_wrist"), OPENPOSE_25.index("left_wrist")
    xy[right], xy[left] = (50, 200), (280, 40)
    confidence[[right, left]] = 1
    vertices, faces = square(2.0, flip=True)
    picture = render_module.render(
        vertices, faces, camera, keypoints=Keypoints2D(xy, confidence)
    ).astype(int)
    red, _, blue = picture[200, 50]
    assert red > blue + 60
    red, _, blue = picture[40, 280]
    assert blue > red + 60
    assert (picture[55:65, 55:65] == 255).all()


def test_render_over_an_image(camera):
    background = np.full((240, 320, 3), (10, 200, 10), np.uint8)
    picture = render_module.render(*square(2.0), camera, background=background)
    np.testing.assert_allclose(picture[5, 5], (10, 200, 10), atol=2)
    assert picture[120, 160, 0] > 60


def test_render_refuses_nan(camera):
    vertices, faces = square(2.0)
    vertices[0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        render_module.render(vertices, faces, camera)


def test_contact_sheet_and_png(tmp_path):
    from matplotlib.image import imread

    red, blue = np.zeros((2, 20, 30, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    sheet = render_module.contact_sheet([[red, blue], [blue]], gap=0)
    np.testing.assert_array_equal(sheet[:20, 30:], blue)
    assert (sheet[20:, 30:] == 255).all()
    titled = render_module.contact_sheet([[red, blue]], columns=("a", "b"), rows=("c",))
    assert titled.shape[0] > 20 and titled.shape[1] > 60
    render_module.save_png(tmp_path / "sheet.png", sheet)
    np.testing.assert_array_equal(np.round(255 * imread(tmp_path / "sheet.png")[..., :3]), sheet)
    assert [p.name for p in tmp_path.iterdir()] == ["sheet.png"]


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


METRICS = {"MPJPE": "mm", "acceleration": "mm/frame²", "time": "s per frame"}


def report_rows():
    from scorehmr_jax.output.report import Row

    return [
        Row("single frames", {"MPJPE": 80.0, "acceleration": 20.0},
            {"MPJPE": 60.0, "acceleration": 25.0, "time": 0.0123}),
        Row("four views", {"MPJPE": 80.0, "acceleration": np.nan}, {"MPJPE": 80.0}),
    ]  # fmt: skip


def test_report_is_one_file_that_needs_no_other(tmp_path):
    pytest.importorskip("jinja2")
    import base64
    import io
    import re

    from matplotlib.image import imread

    from scorehmr_jax.output.report import Figure, save_report

    picture = np.zeros((20, 30, 3), np.uint8)
    picture[:, :15] = 200
    save_report(
        tmp_path / "report.html", "A < B", "lead", METRICS, report_rows(),
        [Figure("walk", "a caption", picture)], ["a note"],
    )  # fmt: skip
    html = (tmp_path / "report.html").read_text("utf-8")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    assert "A &lt; B" in html and "a caption" in html and "a note" in html
    assert not re.search(r"https?://|<script|<link|@import|url\(", html)
    (source,) = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    shown = imread(io.BytesIO(base64.b64decode(source)))[..., :3]
    np.testing.assert_array_equal(np.round(255 * shown), picture)
    # Less is better: 60 after 80 is good, 25 after 20 is not, 80 after 80 is neither.
    assert re.search(r'class="change better">−25%', html)
    assert re.search(r'class="change worse">\+25%', html)
    assert re.search(r'class="change ">\+0%', html)


def test_table_for_the_terminal():
    from scorehmr_jax.output.report import Row, format_table

    header, rule, first, second = format_table(METRICS, report_rows()).splitlines()
    assert len(header) == len(rule) == len(first) == len(second)
    assert "MPJPE (mm)" in header and "acceleration (mm/frame²)" in header
    assert "80.0 -> 60.0" in first and "0.012" in first
    assert "0.010" in format_table(METRICS, [Row("a", {}, {"time": 0.00999})])
    assert second.split() == ["four", "views", "80.0", "->", "80.0", "-", "-"]
