"""Calibrated cameras: OpenCV's numbers, other frames, lenses, and where cameras are taken along."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bodies import close

import scorehmr_jax as sh
from scorehmr_jax.calibration import calibrated_camera, levelled, relative_to, undistort
from scorehmr_jax.camera import project, screened_camera, to_camera_frame

MATRIX = np.array([[1650, 0, 530], [0, 1675, 948], [0, 0, 1]], np.float32)
SIZE = np.array([1080, 1920], np.float32)
# cv2.Rodrigues of (0.2, -0.5, 0.1).
ROTATION = np.array(
    [
        [0.8732176735281025, -0.14383689977020328, -0.46561984590722144],
        [0.046312033253359086, 0.9756187833707889, -0.21453014965277342],
        [0.4851248192105903, 0.1657677163943513, 0.8585889435505759],
    ],
    np.float32,
)
TRANSLATION = np.array([0.1, -0.2, 3.5], np.float32)
POINTS = np.array(
    [[0, 0, 0], [0.3, -0.5, 0.4], [-0.6, 0.8, -0.3], [1.1, -1.4, 0.5], [-1.2, 0.2, 1.0]], np.float32
)
LENSES = {
    "phone": [-0.0462, 0.13998, 0.000608, 0.00069, 0],
    "wide": [-0.31, 0.12, 0.0012, -0.0009, -0.02],
    "none": [0] * 5,
}
# cv2.projectPoints (OpenCV 5.0.0) of the points through each lens.
PIXELS = {
    "phone": [
        *([577.137, 852.311], [634.461, 622.856], [316.872, 1282.5]),
        *([930.089, 308.364], [-91.755, 827.778]),
    ],
    "wide": [
        *([577.068, 852.433], [633.148, 626.647], [319.8, 1277.729]),
        *([906.816, 344.945], [-68.05, 832.589]),
    ],
    "none": [
        *([577.143, 852.286], [634.606, 622.215], [316.357, 1283.149]),
        *([931.341, 305.774], [-94.663, 827.097]),
    ],
}


def camera_with(lens):
    distortion = np.array(LENSES[lens], np.float32)
    return calibrated_camera(MATRIX, SIZE, ROTATION, TRANSLATION, distortion)


@pytest.mark.parametrize("lens", LENSES)
def test_pixels_are_those_of_opencv(lens):
    close("pixels", project(POINTS, camera_with(lens)), PIXELS[lens], rtol=0, atol=0.01)


@pytest.mark.parametrize("lens", LENSES)
def test_a_lens_is_undone(lens):
    found = undistort(np.array(PIXELS[lens]), camera_with(lens))
    close("pixels", found, PIXELS["none"], rtol=0, atol=0.02)
    ideal = replace(camera_with(lens), distortion=None)
    close("the pinhole's", found, project(POINTS, ideal), rtol=0, atol=0.02)
    close("nothing to undo", undistort(np.array(PIXELS[lens]), ideal), PIXELS[lens], atol=1e-3)


def test_many_cameras_project_as_each():
    lenses = np.array([*LENSES.values()], np.float32)
    many = calibrated_camera(np.stack([MATRIX] * 3), SIZE, ROTATION, TRANSLATION, lenses)
    close("pixels", project(np.stack([POINTS] * 3), many), [*PIXELS.values()], rtol=0, atol=0.01)
    back = undistort(np.array([*PIXELS.values()]), many)
    close("without lenses", back, [PIXELS["none"]] * 3, rtol=0, atol=0.02)


def test_skew_is_kept():
    skewed = MATRIX.copy()
    skewed[0, 1] = 30
    camera = calibrated_camera(skewed, SIZE, distortion=np.array(LENSES["wide"]))
    points = POINTS + np.array([0, 0, 4], np.float32)
    ideal = replace(camera, distortion=None)
    wanted = points @ skewed.T
    close("pixels", project(points, ideal), wanted[:, :2] / wanted[:, 2:], rtol=1e-5)
    back = undistort(project(points, camera), camera)
    close("there and back", back, project(points, ideal), rtol=0, atol=0.02)
    assert calibrated_camera(MATRIX, SIZE).skew is None


def test_the_first_four_numbers_of_a_lens_are_enough():
    four = calibrated_camera(MATRIX, SIZE, distortion=np.array(LENSES["phone"][:4]))
    close("distortion", four.distortion, LENSES["phone"], rtol=1e-6)


def test_points_beside_a_camera_with_a_lens_are_finite():
    depth = np.array([0, 1e-9, -1e-9, 1e-6, -1, -1e-30, 1e10], np.float32)
    points = np.stack([np.ones_like(depth), -np.ones_like(depth), depth], -1)
    camera = replace(camera_with("wide"), rotation=None, translation=None)
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(jnp.tanh(project(p, camera)))))(points)
    assert np.isfinite(project(points, camera)).all() and np.isfinite(gradient).all()


def test_cameras_in_the_frame_of_another():
    rng = np.random.default_rng(0)
    second = np.linalg.qr(rng.standard_normal((3, 3)))[0].astype(np.float32)
    second *= np.sign(np.linalg.det(second))
    rotations = np.stack([ROTATION, second])
    translations = np.stack([TRANSLATION, np.array([0.3, 0.1, 4], np.float32)])
    both = calibrated_camera(np.stack([MATRIX] * 2), SIZE, rotations, translations)
    first = jax.tree.map(lambda a: a[0], both)
    moved = relative_to(both, first)
    close("the reference itself", moved.rotation[0], np.eye(3), atol=1e-6)
    close("at its origin", moved.translation[0], np.zeros(3), atol=1e-6)
    world = np.stack([POINTS] * 2)
    there = jnp.stack([to_camera_frame(POINTS, first)] * 2)
    close("pixels", project(there, moved), project(world, both), rtol=1e-4, atol=1e-2)
    plain = sh.pinhole(SIZE, 1000.0)
    close("a camera without a pose", relative_to(first, plain).rotation, ROTATION, atol=1e-6)


def test_a_levelled_camera_has_the_worlds_up_above():
    camera = camera_with("none")
    up = np.array([0.1, -0.2, 0.97], np.float32)
    level = levelled(camera, up)
    turned = np.asarray(level.rotation) @ (up / np.linalg.norm(up))
    close("up", turned, [0, -1, 0], atol=1e-5)
    assert np.linalg.det(level.rotation) == pytest.approx(1, abs=1e-5)
    centre, wanted = (
        -np.asarray(c.rotation).T @ np.asarray(c.translation) for c in (level, camera)
    )
    close("where it was", centre, wanted, atol=1e-5)
    # It looks the same way, but for the tilt.
    view = np.asarray(level.rotation @ camera.rotation.T)[:, 2]
    assert view[0] == pytest.approx(0, abs=1e-5) and view[2] > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"matrix": MATRIX.T}, "matrix: expected K with a last row of 0, 0, 1"),
        ({"matrix": MATRIX[:2]}, r"matrix: expected \[..., 3, 3\], found \(2, 3\)"),
        ({"distortion": np.zeros(8)}, r"distortion: expected OpenCV's .* found \(8,\)"),
        ({"rotation": np.zeros(3)}, r"rotation: expected \(3, 3\), or \(3, 3\) for all"),
        ({"translation": np.zeros((2, 3))}, "translation: expected"),
    ],
)
def test_a_calibration_that_does_not_fit_is_named(change, message):
    given = {"matrix": MATRIX, "image_size": SIZE, "rotation": None, "translation": None} | change
    with pytest.raises(ValueError, match=message):
        calibrated_camera(**given)


def test_parts_of_a_camera_that_do_not_fit_are_named():
    camera = camera_with("phone")
    for field, value, message in (
        ("rotation", np.eye(4), r"camera.rotation: expected \[..., N, 3, 3\], found \(4, 4\)"),
        ("distortion", np.zeros(4), r"camera.distortion: expected \[..., N, 5\], found \(4,\)"),
        ("translation", np.zeros((2, 3)), r"camera: focal, .* disagree .*\(2, 3\)"),
        ("skew", np.zeros(2), "camera: focal, .* and skew disagree"),
    ):
        with pytest.raises(ValueError, match=message):
            project(POINTS, replace(camera, **{field: value}))
    with pytest.raises(ValueError, match=r"xy: expected \[..., K, 2\], found \(5, 3\)"):
        undistort(POINTS, camera)
    with pytest.raises(ValueError, match=r"camera: expected one for each .* \(\), found \(2,\)"):
        undistort(POINTS[:, :2], jax.tree.map(lambda a: np.stack([a, a]), camera))


def test_a_camera_with_a_number_that_is_not_finite_is_set_aside():
    camera = jax.tree.map(lambda a: np.stack([a, a, a]), camera_with("phone"))
    for field in ("rotation", "translation", "distortion", "focal"):
        value = np.array(getattr(camera, field))
        value[1, ..., 0] = np.nan
        found, good = screened_camera(replace(camera, **{field: value}))
        np.testing.assert_array_equal(good, [True, False, True])
        pixels = np.asarray(project(np.stack([POINTS] * 3), found))
        close("the others", pixels[[0, 2]], [PIXELS["phone"]] * 2, rtol=0, atol=0.01)
        assert np.isfinite(pixels).all()


def test_keypoints_of_a_camera_with_a_pose():
    # The body stands 20 m behind the frame's origin, and before this camera.
    camera = camera_with("phone")
    camera = replace(camera, translation=camera.translation + 20 * camera.rotation[:, 2])
    xy = np.array([PIXELS["phone"]], np.float32)
    term = sh.keypoints_2d(sh.Keypoints2D(xy, np.ones((1, 5), np.float32)), camera)
    pose = np.broadcast_to(np.eye(3, dtype=np.float32), (1, 24, 3, 3))
    betas, behind = np.zeros((1, 10), np.float32), np.array([[0, 0, -20]], np.float32)
    first = sh.Estimate(pose, betas, behind)
    hypothesis = sh.Hypothesis(
        pose_6d=np.zeros((1, 144), np.float32),
        pose=pose,
        betas=betas,
        joints=POINTS[None],
        translation=behind,
        mask=np.ones(1, bool),
        noise_std=np.zeros((), np.float32),
        first=first,
    )
    assert float(term(hypothesis)[0]) < 1e-2
    assert bool(term.usable(hypothesis)[0])
    term.check_units(first)
    assert not bool(term.usable(replace(hypothesis, translation=2 * behind))[0])
    far = replace(first, translation=np.array([[0, 0, 1000]], np.float32))
    with pytest.raises(ValueError, match="the keypoints span"):
        term.check_units(far)
    # Numbers that are known are checked inside a program too.
    with pytest.raises(ValueError, match="the keypoints span"):
        jax.jit(lambda: term.check_units(far))()


def test_matrices_that_are_no_rotations_are_refused():
    camera = replace(camera_with("none"), rotation=2 * ROTATION)
    keypoints = sh.Keypoints2D(np.array([PIXELS["none"]]), np.ones((1, 5)))
    with pytest.raises(ValueError, match=r"camera.rotation: row 0 .* no rotations"):
        sh.keypoints_2d(keypoints, camera)


def test_files_and_groups_take_all_of_a_camera_along(tmp_path):
    estimate, keypoints, _ = jax.tree.map(lambda a: np.asarray(a[:3]), sh.example())
    skewed = MATRIX.copy()
    skewed[0, 1] = 3
    lens = np.array(LENSES["wide"])
    camera = calibrated_camera(np.stack([skewed] * 3), SIZE, ROTATION, TRANSLATION, lens)
    sh.write_estimates(tmp_path / "a.npz", estimate, camera, keypoints)
    found = sh.read_estimates(tmp_path / "a.npz").camera
    for name, value in vars(camera).items():
        np.testing.assert_array_equal(getattr(found, name), value)
    (together, mask) = sh.stack_groups([jax.tree.map(lambda a: a[:2], camera), camera])
    assert together.rotation.shape == (2, 3, 3, 3) and mask.shape == (2, 3)
    with pytest.raises(ValueError, match=r"Camera.rotation: expected one for each sample"):
        sh.stack_groups([replace(camera, rotation=ROTATION)])


def test_a_mesh_is_drawn_by_a_camera_with_a_pose():
    render = pytest.importorskip("scorehmr_jax.output.render").render
    pytest.importorskip("matplotlib")
    square = np.array([[-0.2, -0.2, 0], [0.2, -0.2, 0], [0.2, 0.2, 0], [-0.2, 0.2, 0.0]])
    faces = np.array([[0, 2, 1], [0, 3, 2]])
    camera = camera_with("wide")
    seen = project(square.astype(np.float32) @ ROTATION, camera)
    picture = render(square @ ROTATION, faces, camera)
    ys, xs = np.nonzero((picture < 250).any(-1))
    found = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
    np.testing.assert_allclose(found, [*np.min(seen, 0), *np.max(seen, 0)], atol=1.5)
