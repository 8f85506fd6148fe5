"""First estimates and their evidence in one .npz: what is written is read back, nothing is lost."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scorehmr_jax as sh
from body_model.files import read_npz
from body_model.joints import JOINT_NAMES
from body_model.rotations import matrix_to_axis_angle

N = 5


@pytest.fixture
def whole():
    """All that a file may hold, of N frames."""
    estimate, keypoints, camera = jax.tree.map(lambda a: np.asarray(a[:N]), sh.example())
    return {
        "estimate": estimate,
        "camera": camera,
        "keypoints": keypoints,
        "features": np.arange(N * 7.0, dtype=np.float32).reshape(N, 7) / 30,
        "status": np.arange(N, dtype=np.int32),
    }


@pytest.fixture
def arrays(whole, tmp_path):
    """The same as a dict, to write files with something odd."""
    sh.write_estimates(tmp_path / "whole.npz", **whole)
    return dict(read_npz(tmp_path / "whole.npz"))


def silent(path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return sh.read_estimates(path)


def written(tmp_path, arrays, drop=(), **changes):
    kept = {key: value for key, value in (arrays | changes).items() if key not in drop}
    np.savez(tmp_path / "in.npz", **kept)
    return tmp_path / "in.npz"


def equal(found, given, atol=0.0):
    for name in ("estimate", "camera", "keypoints", "features"):
        for a, b in zip(
            jax.tree.leaves(getattr(found, name)), jax.tree.leaves(given[name]), strict=True
        ):
            np.testing.assert_allclose(
                np.asarray(a, np.float64), np.asarray(b, np.float64), atol=atol
            )


@pytest.mark.parametrize("name", ["a.npz", "a", "a.b", "new/a.npz"])
def test_all_that_is_written_is_read_back(tmp_path, whole, name):
    sh.write_estimates(tmp_path / name, **whole)
    equal(silent(tmp_path / name), whole)
    assert (tmp_path / name).is_file()
    np.testing.assert_array_equal(read_npz(tmp_path / name)["status"], whole["status"])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
def test_every_precision_is_read_back(tmp_path, whole, dtype, kind):
    if kind is jnp.asarray and dtype == "float64":
        pytest.skip("needs jax_enable_x64")
    given = {
        key: jax.tree.map(lambda a: kind(np.asarray(a, jnp.dtype(dtype))), value)
        for key, value in whole.items()
        if key != "status"
    }
    sh.write_estimates(tmp_path / "a.npz", **given)
    equal(silent(tmp_path / "a.npz"), given, atol=1e-4 if dtype == "float64" else 0)
    angles = read_npz(tmp_path / "a.npz")["pose_axis_angle"]
    assert np.isfinite(angles).all() and angles.dtype.itemsize >= 4


def test_double_precision_is_kept_where_jax_has_it(tmp_path, whole):
    with jax.enable_x64(True):
        given = jax.tree.map(lambda a: np.asarray(a, np.float64), whole | {"status": None})
        sh.write_estimates(tmp_path / "a.npz", **given)
        found = silent(tmp_path / "a.npz")
        assert found.estimate.pose.dtype == np.float64
        equal(found, given)


def test_refined_bodies_of_any_leading_axes_are_read_back(tmp_path, whole):
    given = jax.tree.map(lambda a: np.stack([a[:3], a[1:4]]), whole)
    estimate = given["estimate"]
    refined = sh.Refined(
        **vars(estimate), pose_6d=estimate.pose[..., :2].swapaxes(-1, -2).reshape(2, 3, 144)
    )
    sh.write_estimates(tmp_path / "a.npz", **given | {"estimate": refined})
    equal(silent(tmp_path / "a.npz"), given)


def test_one_camera_for_all_is_written_for_each(tmp_path, whole):
    one = jax.tree.map(lambda a: a[0], whole["camera"])
    sh.write_estimates(tmp_path / "a.npz", **whole | {"camera": one})
    equal(silent(tmp_path / "a.npz"), whole)


def test_a_result_without_evidence_says_what_it_lacks(tmp_path, whole):
    sh.write_estimates(tmp_path / "a.npz", whole["estimate"])
    with pytest.raises(ValueError, match=r"a\.npz: no key keypoints; found betas, joint_names, "):
        sh.read_estimates(tmp_path / "a.npz")


def test_every_form_of_a_key_means_the_same(tmp_path, arrays, whole):
    angles = np.asarray(matrix_to_axis_angle(arrays["pose"]))
    size = arrays["image_size"]
    for drop, changes in (
        (["pose"], {}),
        (["pose_axis_angle"], {"pose": angles}),
        ([], {"focal": arrays["focal"][0, 0]}),
        ([], {"focal": arrays["focal"][:1, 0]}),
        ([], {"focal": arrays["focal"][:, 0].astype(int)}),
        ([], {"image_size": size[0].astype(np.uint16), "center": size[0] / 2}),
        (["joint_names", "status"], {}),
        ([], {"joint_names": np.array(JOINT_NAMES).astype(bytes)}),
    ):
        equal(silent(written(tmp_path, arrays, drop, **changes)), whole, atol=1e-5)


def test_the_principal_point_is_read(tmp_path, arrays):
    center = arrays["center"] + [120, -80]
    found = silent(written(tmp_path, arrays, center=center))
    np.testing.assert_array_equal(found.camera.center, center)


@pytest.mark.parametrize(
    ("drop", "message"),
    [
        (("focal",), "no key focal: assumes 5000 pixels. Give"),
        (("center",), "no key center: assumes the image's middle"),
        (("focal", "center"), "no key focal and no key center: assumes 5000 pixels and the image"),
    ],
)
def test_what_is_assumed_is_said(tmp_path, arrays, drop, message):
    path = written(tmp_path, arrays, drop)
    with pytest.warns(UserWarning, match=rf"in\.npz: {message}"):
        found = sh.read_estimates(path)
    expected = arrays["image_size"] / 2
    if "focal" in drop:
        assert (np.asarray(found.camera.focal) == 5000).all()
    np.testing.assert_array_equal(found.camera.center, expected)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("focal_length", r"not read: focal_length \(focal\?\); known are"),
        ("centre", r"not read: centre \(center\?\); known"),
        ("pred_cam_t", "not read: pred_cam_t; known are pose, "),
        ("keypoint", r"keypoint \(keypoints\?\)"),
        ("Pose", r"Pose \(pose\?\)"),
    ],
)
def test_a_key_that_is_not_read_is_named(tmp_path, arrays, key, message):
    with pytest.warns(UserWarning, match=rf"in\.npz: .*{message}"):
        sh.read_estimates(written(tmp_path, arrays, **{key: np.zeros(3)}))


def test_an_unknown_key_of_python_objects_is_named_too(tmp_path, arrays):
    with pytest.warns(UserWarning, match="not read: meta"):
        sh.read_estimates(written(tmp_path, arrays, meta=np.array([{}])))
    path = written(tmp_path, arrays, focal=np.array([{}]))
    with pytest.raises(ValueError, match="key focal holds Python objects"):
        sh.read_estimates(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: {"pose": np.rad2deg(matrix_to_axis_angle(a["pose"]))}, "pose: .*in radians"),
        (lambda a: {"pose": a["pose"] * 2}, r"pose: row 0 \(5 of 5 in all\) .* no rotations"),
        (lambda a: {"pose": a["pose"][:, :22]}, r"pose: expected shape \(5, 24, 3\) or \(5, 24, 3"),
        (lambda a: {"keypoints": a["keypoints"] / [1000, 1000, 1]}, "keypoints: expected pixels"),
        (lambda a: {"keypoints": a["keypoints"] * [1, 1, 100]}, "keypoints: .* percent"),
        (lambda a: {"keypoints": a["keypoints"][..., :2]}, r"keypoints: expected shape \(5, 25, 3"),
        (
            lambda a: {"translation": 1000 * a["translation"]},
            "keypoints, translation, focal: .*mil",
        ),
        (lambda a: {"focal": 1.5}, r"camera\.focal: expected pixels, found 1.5 x 1.5"),
        (lambda a: {"focal": [1500, -1500]}, r"focal: expected shape \(\) or \(1,\) or \(5,\)"),
        (lambda a: {"center": a["center"] / 1000}, r"camera\.center: .* normalised"),
        (lambda a: {"image_size": a["image_size"] / 1000}, r"camera\.image_size: .* in pixels"),
        (lambda a: {"betas": a["betas"][0]}, r"betas: expected shape \(N, B\), found \(10,\)"),
        (lambda a: {"betas": a["betas"] + 100}, "betas: expected SMPL's shape numbers"),
        (lambda a: {"joint_names": np.array(JOINT_NAMES[::-1])}, "joint_names: expected SMPL's"),
        (
            lambda a: {"features": a["features"][1:]},
            r"features: expected shape \(5, F\), found \(4",
        ),
    ],
)
def test_another_unit_or_shape_is_refused(tmp_path, arrays, change, message):
    path = written(tmp_path, arrays, ["pose_axis_angle"], **change(arrays))
    with pytest.raises(ValueError, match=rf"in\.npz: {message}"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sh.read_estimates(path)


def test_poses_that_contradict_each_other_are_named(tmp_path, arrays):
    path = written(tmp_path, arrays, pose_axis_angle=arrays["pose_axis_angle"][::-1])
    with pytest.warns(UserWarning, match="pose and pose_axis_angle are not the same; pose is"):
        found = sh.read_estimates(path)
    np.testing.assert_array_equal(found.estimate.pose, arrays["pose"])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("focal", np.nan, "focal: expected pixels above 0, found nan in 2 places"),
        ("image_size", 0, "image_size: expected pixels above 0, found 0 in 2 places"),
        ("pose", 0, r"pose: row 2 \(1 of 5 in all\) .*These rows keep their first"),
    ],
)
def test_one_odd_row_is_named_and_touches_no_other(tmp_path, arrays, whole, key, value, message):
    changed = arrays[key].copy()
    changed[2] = value
    path = written(tmp_path, arrays, ["pose_axis_angle"], **{key: changed})
    with pytest.warns(UserWarning, match=message):
        found = sh.read_estimates(path)
    rest = dataclasses.replace(
        found,
        **{n: jax.tree.map(lambda a: np.delete(a, 2, 0), getattr(found, n)) for n in vars(found)},
    )
    equal(rest, jax.tree.map(lambda a: np.delete(a, 2, 0), whole))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: {"keypoints": jax.tree.map(lambda a: a[:, :17], w["keypoints"])}, "keypoints: "),
        (lambda w: {"keypoints": jax.tree.map(lambda a: a[:3], w["keypoints"])}, "keypoints: "),
        (
            lambda w: {"keypoints": sh.Keypoints2D(w["keypoints"].xy, np.ones(25))},
            r"keypoints: .* and \(25,\)",
        ),
        (lambda w: {"features": w["features"][:3]}, r"features: .* estimate \(5,\), .*found \(3,"),
        (lambda w: {"features": np.zeros(())}, "features: "),
        (lambda w: {"status": w["status"][:3]}, r"status: .* estimate \(5,\), found shape \(3,\)"),
        (
            lambda w: {"estimate": sh.Estimate(np.zeros((5, 24, 3)), w["estimate"].betas, 0)},
            r"estimate.(pose|translation): ",
        ),
        (
            lambda w: jax.tree.map(lambda a: a[0], w),
            r"estimate.pose: expected \[..., N, 24, 3, 3\]",
        ),
        (lambda w: jax.tree.map(lambda a: a[:0], w), "estimate: no samples"),
        (
            lambda w: {"camera": dataclasses.replace(w["camera"], focal=w["camera"].focal[:, 0])},
            "camera.focal: expected",
        ),
        (
            lambda w: (
                jax.tree.map(lambda a: a[:2], w)
                | {"camera": sh.Camera(np.array([1000.0, 2000.0]), *(np.full((2, 2), 900.0),) * 2)}
            ),
            "camera: focal, center and image_size disagree",
        ),
    ],
)
def test_what_would_not_be_read_back_is_not_written(tmp_path, whole, change, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        sh.write_estimates(tmp_path / "a.npz", **whole | change(whole))
    assert not (tmp_path / "a.npz").exists()


def test_one_row_for_all_is_written_for_each(tmp_path, whole):
    one = {key: jax.tree.map(lambda a: a[:1], whole[key]) for key in ("keypoints", "features")}
    sh.write_estimates(tmp_path / "a.npz", **whole | one)
    each = jax.tree.map(lambda a: np.repeat(a, N, 0), one)
    equal(silent(tmp_path / "a.npz"), whole | each)


def test_a_file_without_images_or_without_a_center_says_so(tmp_path, arrays):
    empty = {k: v[:0] for k, v in arrays.items() if k != "joint_names"}
    with pytest.raises(ValueError, match=r"in\.npz: betas: no images"):
        sh.read_estimates(written(tmp_path, arrays, **empty))
    with pytest.raises(ValueError, match=r"in\.npz: center: .* nothing finite"):
        sh.read_estimates(written(tmp_path, arrays, center=np.full((N, 2), np.nan)))


def with_first(whole):
    """What a result holds beside it: frames per second, and an estimate unlike its own."""
    first = jax.tree.map(lambda a: np.asarray(a)[::-1], whole["estimate"])
    return whole | {"fps": 29.97, "first": first}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_frame_rate_and_first_estimate_are_read_back(tmp_path, whole, dtype):
    given = with_first(whole)
    first = jax.tree.map(lambda a: np.asarray(a, jnp.dtype(dtype)), given["first"])
    sh.write_estimates(tmp_path / "a.npz", **given | {"first": first})
    found = silent(tmp_path / "a.npz")
    equal(found, whole)
    assert found.fps == 29.97
    for name, value in vars(first).items():
        np.testing.assert_array_equal(getattr(found.first, name), value.astype(np.float32))
        assert read_npz(tmp_path / "a.npz")[f"first_{name}"].dtype == np.float32


def test_a_file_without_them_is_read_as_before(tmp_path, whole):
    sh.write_estimates(tmp_path / "a.npz", **whole)
    assert not {"fps", "first_pose"} & {*read_npz(tmp_path / "a.npz")}
    found = silent(tmp_path / "a.npz")
    assert found.fps is None and found.first is None


def test_a_first_estimate_of_several_people_and_of_one_shape_is_written_for_each(tmp_path, whole):
    two = jax.tree.map(lambda a: np.stack([a, a]), whole["estimate"])
    first = sh.Estimate(two.pose[:, ::-1], two.betas[0, 0, :4][None], two.translation[:1] + 1)
    sh.write_estimates(tmp_path / "a.npz", two, first=first)
    held = read_npz(tmp_path / "a.npz")
    np.testing.assert_array_equal(held["first_pose"], first.pose)
    np.testing.assert_array_equal(held["first_betas"], np.broadcast_to(first.betas, (2, N, 4)))
    wanted = np.broadcast_to(first.translation, (2, N, 3)).astype(np.float32)
    np.testing.assert_array_equal(held["first_translation"], wanted)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fps": 0}, "fps: expected one number of frames per second, above 0; found 0"),
        ({"fps": np.nan}, "fps: .*found nan"),
        ({"fps": np.array([25.0, 30.0])}, r"fps: .*found \[25. 30.\]"),
        ({"first": 1}, r"first: expected one for each estimate \(5,\), found \(1,\)"),
        ({"first": None}, r"first: estimate.pose: expected \[..., N, 24, 3, 3\]"),
    ],
)
def test_a_frame_rate_or_first_estimate_that_does_not_fit_is_not_written(
    tmp_path, whole, changes, message
):
    given = with_first(whole)
    if "first" in changes:
        rows = slice(0, 1) if changes["first"] else 0
        changes = {"first": jax.tree.map(lambda a: a[rows], given["first"])}
    with pytest.raises(ValueError, match=f"^{message}"):
        sh.write_estimates(tmp_path / "a.npz", **given | changes)
    assert not (tmp_path / "a.npz").exists()


@pytest.mark.parametrize(
    ("drop", "changes", "message"),
    [
        ((), {"fps": 0.0}, "fps: expected one number of frames per second, above 0; found 0"),
        ((), {"fps": [25.0, 30.0]}, r"fps: .*found \[25. 30.\]; leave the key out"),
        ((), {"fps": "fast"}, "fps: expected numbers"),
        (
            ("first_betas", "first_pose"),
            {},
            "no key first_pose and no key first_betas beside first_translation; expected all of",
        ),
        ((), {"first_betas": np.zeros((4, 10))}, r"first_betas: expected shape \(5, F\)"),
        ((), {"first_pose": np.zeros((5, 72))}, r"first_pose: expected shape \(5, 24, 3\) or"),
    ],
)
def test_a_frame_rate_or_first_estimate_that_does_not_fit_is_named(
    tmp_path, whole, drop, changes, message
):
    sh.write_estimates(tmp_path / "a.npz", **with_first(whole))
    path = written(tmp_path, dict(read_npz(tmp_path / "a.npz")), drop, **changes)
    with pytest.raises(ValueError, match=rf"in\.npz: {message}"):
        sh.read_estimates(path)


def test_a_first_estimate_that_was_lost_refuses_no_result(tmp_path, whole):
    given = with_first(whole)
    lost = jax.tree.map(
        lambda a: np.where(np.arange(N).reshape(-1, *[1] * (a.ndim - 1)) == 2, np.nan, a),
        given["first"],
    )
    sh.write_estimates(tmp_path / "a.npz", **given | {"first": lost})
    found = silent(tmp_path / "a.npz")
    equal(found, whole)
    assert [*np.flatnonzero(~np.isfinite(found.first.pose).all((1, 2, 3)))] == [2]
