"""Estimates of other networks: their joints land where their own convention puts them."""

import json
import pickle
import tracemalloc
import warnings

import body_files
import jax
import numpy as np
import pytest
from body_files import SIZE, angles, people

import body_model
import scorehmr_jax as sh
from scorehmr_jax.formats.bodies import people as people_of_rows
from scorehmr_jax.formats.bodies.on_body import REST_PELVIS
from scorehmr_jax.formats.bodies.read import BODY_FORMATS
from scorehmr_jax.formats.bodies.rows import Rows, shaped, whole_numbers

M = 6
WIDE, HIGH = map(float, SIZE)
DIAGONAL = float(np.hypot(WIDE, HIGH))
WHAM = {
    "pose": np.zeros((3, 72)),
    "trans": np.ones((3, 3)),
    "betas": np.zeros((3, 10)),
    "frame_ids": np.arange(3),
}


@pytest.fixture(scope="module")
def body():
    return body_model.stand_in()


@pytest.fixture(scope="module")
def made():
    return people(M)


@pytest.fixture(scope="module")
def joints(body, made):
    """In the frame of the camera."""
    return np.asarray(body.joints(made["pose"], made["betas"])) + made["translation"][:, None]


def read(path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sh.read_estimates(path, **options)


def pixels(points, focal, center):
    return points[..., :2] / points[..., 2:] * focal + center


def projected(body, given):
    """Where our bodies' joints are seen, of the rows that are present, person by person."""
    rows = given.tracks.present
    estimate, camera = jax.tree.map(lambda a: np.asarray(a)[rows], (given.estimate, given.camera))
    at = np.asarray(body.joints(estimate.pose, estimate.betas)) + estimate.translation[:, None]
    return np.asarray(sh.project(at, camera))


def assert_as_made(given, made, order):
    rows = given.tracks.present
    for name, value in vars(given.estimate).items():
        np.testing.assert_allclose(np.asarray(value)[rows], made[name][order], atol=2e-6)
        assert np.isnan(np.asarray(value)[~rows]).all()


@pytest.fixture
def written(tmp_path, made, joints):
    """Files of every format with the six bodies, their order person by person, and the pixels."""
    focal = 5000 / 256 * max(SIZE)
    tracked, images = [1, 3, 5, 0, 2, 4], [0, 1, 2, 3, 4, 5]
    # PHALP: pixels of a picture of 256, with bars, of a camera of 5000.
    drawn = pixels(joints, 5000, 128) * max(SIZE) / 256 - (max(SIZE) - SIZE) // 2
    np.savez(tmp_path / "hmr2.npz", **body_files.hmr2(made))
    (tmp_path / "camerahmr.pkl").write_bytes(pickle.dumps([body_files.camerahmr(made, 900.0)]))
    nlf_focal, seen = max(SIZE) / 2 / np.tan(np.radians(55 / 2)), joints[:, :24]
    (tmp_path / "nlf.pkl").write_bytes(body_files.pickled([body_files.nlf(made, seen, nlf_focal)]))
    return {
        "phalp": (body_files.phalp(tmp_path / "demo_v.pkl", made), tracked, drawn),
        "wham": (
            body_files.wham(tmp_path / "wham_output.pkl", made),
            images,
            pixels(joints, DIAGONAL, SIZE / 2),
        ),
        "tram": (
            body_files.tram(tmp_path / "video", made, 800.0),
            images,
            pixels(joints, 800, SIZE / 2),
        ),
        "hmr2": (tmp_path / "hmr2.npz", images, pixels(joints, focal, SIZE / 2)),
        "camerahmr": (tmp_path / "camerahmr.pkl", images, pixels(joints, 900, SIZE / 2)),
        "nlf": (tmp_path / "nlf.pkl", [0, 3, 1, 4, 2, 5], pixels(joints, nlf_focal, SIZE / 2)),
    }


@pytest.mark.parametrize("name", ["phalp", "wham", "tram", "hmr2", "camerahmr", "nlf"])
def test_joints_land_where_the_source_puts_them(written, body, made, name):
    path, order, wanted = written[name]
    given = read(path, body=body, image_size=SIZE if name == "wham" else None)
    assert given.tracks.format == name.replace("camerahmr", "hmr2")
    assert_as_made(given, made, order)
    np.testing.assert_allclose(projected(body, given), wanted[order], atol=1e-3)
    np.testing.assert_allclose(np.asarray(given.camera.image_size)[0, 0], SIZE, atol=0.01)


def test_people_of_tracks_keep_ids_frames_and_gaps(tmp_path, made):
    given = read(body_files.phalp(tmp_path / "a.pkl", made, skip=(2,), lost=(5,)))
    tracks = given.tracks
    assert tracks.ids.tolist() == [3, 7] and tracks.frame_numbers.tolist() == [0, 1, 2]
    assert tracks.present.tolist() == [[True, True, False], [True, False, True]]
    assert tracks.frame_names[0] == "000001.jpg" and tracks.video
    assert any("1 poses that PHALP predicted" in note for note in tracks.notes)
    later = read(body_files.wham(tmp_path / "b.pkl", made)).tracks
    assert later.frame_numbers.tolist() == [0, 1, 2, 3, 4]
    assert later.present.tolist() == [[1, 1, 1, 0, 0], [0, 0, 1, 1, 1]]


def test_a_frame_that_nobody_is_in_keeps_its_place(tmp_path, made):
    given = read(body_files.phalp(tmp_path / "a.pkl", made, skip=(2, 3)))
    assert given.tracks.frame_numbers.tolist() == [0, 1, 2]
    assert not given.tracks.present[:, 1].any()
    assert np.isfinite(np.asarray(given.camera.focal)).all()


def test_a_camera_stands_in_from_the_nearest_frame_of_a_long_video():
    present = np.random.default_rng(0).random((3, 50)) < 0.2
    nearest = people_of_rows.nearest(present)
    for row, found in zip(present, nearest, strict=True):
        held = np.flatnonzero(row)
        wanted = [held[np.abs(held - frame).argmin()] for frame in range(50)]  # the earlier of two
        np.testing.assert_array_equal(found, wanted)
    tracemalloc.start()
    people_of_rows.nearest(np.ones((1, 20_000), bool))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 10e6  # a table of frame by frame takes 3.2 GB


def test_people_in_frames_that_would_fill_the_memory_are_refused(monkeypatch):
    count = 40
    pose = np.broadcast_to(np.eye(3, dtype=np.float32), (count, 24, 3, 3))
    betas, place = np.zeros((count, 10), np.float32), np.ones((count, 3), np.float32)
    once = Rows(pose, betas, place, np.arange(count), np.arange(count))
    size = 40 * 40 * 4 * (24 * 9 + 10 + 3)
    monkeypatch.setattr(people_of_rows, "_MOST_BYTES", size)
    assert people_of_rows.assemble(once, "a.pkl", "phalp").tracks.present.sum() == 40
    monkeypatch.setattr(people_of_rows, "_MOST_BYTES", size - 1)
    with pytest.raises(ValueError, match=r"a\.pkl: 40 people in 40 frames take 0\.00136\d* GiB"):
        people_of_rows.assemble(once, "a.pkl", "phalp")


def test_bodies_that_are_not_finite_are_missing(tmp_path, made):
    odd = {name: value.copy() for name, value in made.items()}
    odd["translation"][0, 1] = np.nan
    path = body_files.phalp(tmp_path / "a.pkl", odd)
    with pytest.warns(UserWarning, match="1 bodies that are not finite are taken as missing"):
        given = sh.read_estimates(path)
    assert given.tracks.present.sum() == M - 1 and not given.tracks.present[1, 0]


def test_smplx_becomes_smpl_with_the_pelvis_where_it_was(tmp_path, body, made):
    path = body_files.gvhmr(tmp_path / "hmr4d_results.pt", made)
    with pytest.warns(UserWarning, match="SMPL-X are not SMPL's: mean shape"):
        given = sh.read_estimates(path)
    (estimate,) = jax.tree.map(lambda a: np.asarray(a)[0], (given.estimate,))
    np.testing.assert_allclose(estimate.pose[:, :22], made["pose"][:, :22], atol=2e-6)
    np.testing.assert_allclose(estimate.pose[:, 22:], np.tile(np.eye(3), (M, 2, 1, 1)))
    assert not estimate.betas.any()
    pelvis = np.array(REST_PELVIS["smplx"]) + made["translation"]
    ours = np.array(REST_PELVIS["smpl"]) + estimate.translation
    np.testing.assert_allclose(ours, pelvis, atol=1e-6)
    wanted = pixels(pelvis, DIAGONAL, SIZE / 2)
    found = sh.project(ours[:, None], jax.tree.map(lambda a: a[0], given.camera))[:, 0]
    np.testing.assert_allclose(found, wanted, atol=1e-3)
    kept = read(path, keep_shape=True).estimate
    np.testing.assert_array_equal(kept.betas[0], made["betas"])


def test_estimates_for_another_body_keep_the_pelvis(tmp_path, made):
    path = body_files.wham(tmp_path / "a.pkl", made)
    body = body_model.open_body()
    given = read(path, body=body).estimate
    rest = np.asarray(body.rest_joints(np.zeros(10)))[0]
    at = np.asarray(given.translation)[0, :3] + rest
    np.testing.assert_allclose(at, made["translation"][:3] + REST_PELVIS["smpl"], atol=1e-5)
    assert not np.asarray(given.betas)[0, :3].any()


@pytest.mark.parametrize(("width", "left"), [(156, "fingers"), (165, "fingers, jaw and eyes")])
def test_motion_in_a_world_has_no_camera(tmp_path, made, width, left):
    poses = np.zeros((M, width), np.float32)
    poses[:, :66] = angles(made["pose"])[:, :66]
    more = {"surface_model_type": np.array("smplx")} if width == 165 else {}
    np.savez(
        tmp_path / "a_poses.npz",
        poses=poses,
        trans=made["translation"],
        betas=np.arange(16.0) / 10,
        gender=np.array("female"),
        mocap_framerate=np.array(120.0),
        **more,
    )
    with pytest.warns(UserWarning, match=f"{left} are not SMPL's.*female body.*no camera"):
        given = sh.read_estimates(tmp_path / "a_poses.npz")
    assert given.camera is None and given.tracks.format == "amass" and given.fps == 120
    pose = np.asarray(given.estimate.pose)[0]
    np.testing.assert_allclose(pose[:, :22], made["pose"][:, :22], atol=2e-6)
    np.testing.assert_allclose(pose[:, 22:], np.tile(np.eye(3), (M, 2, 1, 1)))
    if width == 156:
        np.testing.assert_array_equal(given.estimate.translation[0], made["translation"])
        np.testing.assert_allclose(given.estimate.betas[0, 0], np.arange(10) / 10, atol=1e-6)


def test_frames_of_a_motion_that_were_filled_in_are_missing(tmp_path, made):
    poses = np.zeros((M, 156), np.float32)
    poses[:, :66] = angles(made["pose"])[:, :66]
    held = {"poses": poses, "trans": made["translation"], "betas": np.zeros(16)}
    present = np.arange(M) != 1
    np.savez(tmp_path / "a.npz", **held, present=present)
    with pytest.warns(UserWarning, match="1 frames that were filled in are taken as missing") as w:
        given = sh.read_estimates(tmp_path / "a.npz")
    assert not any("not read" in str(each.message) for each in w)
    np.testing.assert_array_equal(given.tracks.present[0], present)
    found = np.asarray(given.estimate.translation[0])
    np.testing.assert_array_equal(found[present], made["translation"][present])
    assert np.isnan(found[1]).all()


@pytest.mark.parametrize(
    ("present", "message"),
    [
        (np.ones(M + 1, bool), rf"a.npz: present: expected \[{M}\], found \[{M + 1}\]"),
        (np.zeros(M, bool), "a.npz: present: expected frames with a body"),
    ],
)
def test_a_motion_without_frames_of_its_own_is_named(tmp_path, present, message):
    np.savez(tmp_path / "a.npz", poses=np.zeros((M, 72)), trans=np.zeros((M, 3)), present=present)
    with pytest.raises(ValueError, match=message):
        sh.read_estimates(tmp_path / "a.npz")


def mhr_points(body, made):
    """70 points of MHR: the body's own where it has them, elsewhere its pelvis."""
    names = body_model.keypoint_set("mhr70").names
    skeleton = [*body_model.joints.JOINT_NAMES, *dict(body.landmarks)]
    known = [name for name in names if name in skeleton]
    at = np.asarray(body_model.Skeleton.of(body, known)(made["pose"], made["betas"]))
    points = np.zeros((M, 70, 3), np.float32)
    points[:, [names.index(name) for name in known]] = at
    return points


@pytest.mark.slow
def test_points_of_sam_3d_body_are_lifted(tmp_path, body, made, joints):
    points = mhr_points(body, made)
    images = body_files.sam3d(made, points, 700.0)
    (tmp_path / "sam.pkl").write_bytes(pickle.dumps(images))
    with pytest.raises(ValueError, match="holds points and no SMPL pose; give body="):
        read(tmp_path / "sam.pkl")
    given = read(tmp_path / "sam.pkl", body=body)
    assert given.tracks.frame_names[2] == "2.jpg" and not given.tracks.video
    np.testing.assert_allclose(np.asarray(given.camera.image_size)[0], np.tile(SIZE, (M, 1)), 1e-3)
    limbs = [4, 5, 7, 8, 18, 19, 20, 21]
    found = projected(body, given)[:, limbs]
    wanted = pixels(joints[:, limbs], 700, SIZE / 2)
    assert np.median(np.abs(found - wanted)) < 1  # 28 pixels are a metre
    # Its own 2D points come along as keypoints.
    own = np.asarray(given.keypoints.xy)[0, :, 0]  # nose
    where = body_model.keypoint_set("mhr70").names.index("nose")
    np.testing.assert_allclose(
        own, pixels(points + made["translation"][:, None], 700, SIZE / 2)[:, where], atol=1e-2
    )
    # One file for each image is the same.
    (tmp_path / "images").mkdir()
    for name, people_ in images.items():
        np.save(tmp_path / "images" / f"im{int(name[0]) + 10}.npy", np.array(people_, object))
    again = read(tmp_path / "images", body=body)
    np.testing.assert_array_equal(again.estimate.pose, given.estimate.pose)
    assert again.tracks.frame_names[2] == "im12.npy"
    assert again.tracks.frame_numbers.tolist() == [10, 11, 12, 13, 14, 15]


def test_a_folder_is_read_of_files_with_one_image_each_only(tmp_path, made, joints):
    """Files of several images, or of none, would shift the frames of those after them."""
    batch = body_files.nlf(made, joints, 900.0)
    two = body_files.hmr2(made)
    tables = {
        "nlf": (batch, batch, r"f_0\.pkl: nlf"),
        "wham": ({0: WHAM}, {1: WHAM}, r"f_0\.pkl: wham"),
        "hmr2": (two, [two, two], r"f_1\.pkl: hmr2"),
        "table": ({"a.jpg": two, "b.jpg": two}, two, r"f_0\.pkl: hmr2"),
    }
    for name, (first, second, found) in tables.items():
        for number, value in enumerate((first, second)):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / f"f_{number}.pkl").write_bytes(body_files.pickled(value))
        with pytest.raises(ValueError, match=f"{found}; expected in a folder one image"):
            read(tmp_path / name, image_size=SIZE)
    with pytest.raises(ValueError, match=r"f_0\.pkl: nlf; expected in a folder one image"):
        read(tmp_path / "nlf", format="nlf")


def test_frames_of_a_folder_are_those_of_the_files_names(tmp_path, made):
    for number in (7, 12):
        held = body_files.hmr2({name: value[:2] for name, value in made.items()})
        (tmp_path / f"im{number}.pkl").write_bytes(body_files.pickled(held))
    given = read(tmp_path)
    assert given.tracks.frame_numbers.tolist() == [7, 12]
    assert given.tracks.frame_names == ("im7.pkl", "im12.pkl") and given.tracks.present.all()


def test_a_focal_length_of_the_whole_image_is_taken(tmp_path, made):
    held = {**body_files.hmr2(made, 777.0), "scaled_focal_length": np.array(777.0)}
    np.savez(tmp_path / "a.npz", **held)
    given = read(tmp_path / "a.npz")
    assert (np.asarray(given.camera.focal) == 777).all() and not given.tracks.notes
    np.testing.assert_allclose(given.estimate.translation[:, 0], made["translation"], rtol=1e-4)


def test_our_own_file_is_still_ours(tmp_path):
    estimate, keypoints, camera = jax.tree.map(lambda a: a[:2], sh.example())
    sh.write_estimates(tmp_path / "a.npz", estimate, camera, keypoints)
    for format in (None, "scorehmr"):
        given = sh.read_estimates(tmp_path / "a.npz", format)
        assert given.tracks is None
        np.testing.assert_array_equal(given.estimate.pose, estimate.pose)


def test_a_file_of_no_known_format_says_what_was_tried(tmp_path, made):
    (tmp_path / "a.json").write_text(json.dumps({"poses": [1, 2]}))
    with pytest.raises(ValueError, match=r"a\.json: of no known format, found a table with poses;"):
        sh.read_estimates(tmp_path / "a.json")
    np.savez(tmp_path / "b.npz", odd=np.zeros(3))
    tried = "|".join(BODY_FORMATS)
    with pytest.raises(ValueError, match=rf"b\.npz: of no known.*tried scorehmr.*({tried})"):
        sh.read_estimates(tmp_path / "b.npz")
    path = body_files.wham(tmp_path / "c.pkl", made)
    with pytest.raises(
        ValueError, match=r"c\.pkl: expected phalp \(PHALP.*found a table with 0, 1"
    ):
        sh.read_estimates(path, "phalp")
    with pytest.raises(ValueError, match=r"format 'whan' is not known; known are scorehmr, phalp"):
        sh.read_estimates(path, "whan")
    with pytest.raises(ValueError, match=r"expected our own \.npz"):
        sh.read_estimates(path, "scorehmr")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: no file of estimates"):
        sh.read_estimates(tmp_path / "empty")


def test_a_key_that_is_not_read_is_named(tmp_path, made):
    held = {0: {"pose": angles(made["pose"]), "trans": made["translation"], "betas": made["betas"]}}
    held[0] |= {"frame_ids": np.arange(M), "contact": np.zeros(3)}
    path = body_files.save_joblib(tmp_path / "a.pkl", held)
    with pytest.warns(UserWarning, match=r"a\.pkl: not read: contact"):
        sh.read_estimates(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: {"pose": np.rad2deg(a["pose"])}, "person 0: pose.*radians"),
        (lambda a: {"pose": a["pose"][:, :70]}, "person 0: pose: expected rotations"),
        (lambda a: {"pose": a["pose"][:, :69]}, "person 0: pose: expected 24 joints"),
        (lambda a: {"trans": a["trans"][:4]}, r"person 0: trans: expected \[6, 3\], found \[4, 3"),
        (lambda a: {"trans": a["trans"].T}, r"person 0: trans: expected \[6, 3\], found \[3, 6"),
        (lambda a: {"trans": a["trans"].reshape(2, 9)}, r"trans: expected \[6, 3\], found \[2, 9"),
        (lambda a: {"betas": a["betas"].T}, r"betas: expected \[6, 10\], found \[10, 6"),
        (lambda a: {"pose": a["pose"].T}, r"pose: expected rotations of 6 bodies.*found \[72, 6"),
        (lambda a: {"frame_ids": np.full(6, np.nan)}, "person 0: frame_ids: expected whole"),
        (lambda a: {"frame_ids": None}, "person 0: frame_ids: expected whole"),
        (lambda a: {"betas": a["betas"] + 100}, "betas: expected SMPL's shape numbers"),
        (lambda a: {"betas": np.array(["x"])}, "person 0: betas: expected numbers"),
        (lambda a: {"frame_ids": np.zeros(6)}, "person 0 comes twice in frame 0"),
        (lambda a: {"trans": np.full((6, 3), np.nan)}, "none of 6 bodies is finite"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, made, change, message):
    held = {"pose": angles(made["pose"]), "trans": made["translation"], "betas": made["betas"]}
    held |= {"frame_ids": np.arange(M)}
    path = body_files.save_joblib(tmp_path / "a.pkl", {0: {**held, **change(held)}})
    with pytest.raises(ValueError, match=rf"a\.pkl.*{message}"):
        read(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"smpl": [None]}, "smpl: expected a table with global_orient, found 'None'"),
        ({"smpl": [{}]}, "smpl: no key global_orient; found none"),
        ({"camera": None}, "camera: expected a list, found 'None'"),
        ({"camera": [None]}, r"camera: expected \[3\], found \[\]"),
        ({"tid": 3}, "tid: expected a list, found '3'"),
        ({"tid": [None]}, "tid: expected whole numbers, found 'None'"),
        ({"time": "x"}, "time: expected numbers, found 'x'"),
        ({"size": 5}, "not as phalp has it"),
    ],
)
def test_a_damaged_frame_of_phalp_is_named(tmp_path, change, message):
    smpl = {"global_orient": np.eye(3)[None], "body_pose": np.tile(np.eye(3), (23, 1, 1))}
    frame = {"tid": [1], "smpl": [{**smpl, "betas": np.zeros(10)}], "camera": [np.ones(3)]}
    frame |= {"size": [[360, 641]], "time": 0}
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({"f.jpg": frame}))
    assert read(path).tracks.present.sum() == 1
    path.write_bytes(pickle.dumps({"f.jpg": {**frame, **change}}))
    with pytest.raises(ValueError, match=rf"a\.pkl.*{message}"):
        read(path)


def test_damage_of_any_kind_names_the_file(tmp_path, made, joints):
    body = {name: np.array(1.0) for name in ("transl", "global_orient", "body_pose", "betas")}
    nlf = body_files.nlf(made, joints[:, :24], 900.0)
    motion = {"poses": np.zeros((6, 156)), "trans": np.zeros((6, 3)), "betas": np.zeros((4, 10))}
    for held, message in (
        ({"smpl_params_incam": body}, "not as gvhmr has it"),
        ({"smpl_params_incam": 5}, "smpl_params_incam: expected a table with transl, found '5'"),
        ({**nlf, "trans": [a.array.T for a in nlf["trans"]][:1]}, "image 1: trans: expected one"),
        ({**nlf, "betas": [a.array.T for a in nlf["betas"]]}, r"image 0: betas: .*found \[10, 3"),
        (motion, r"betas: expected \[10\] or \[6, 10\], found \[4, 10"),
    ):
        (tmp_path / "a.pkl").write_bytes(body_files.pickled(held))
        with pytest.raises(ValueError, match=rf"a\.pkl.*{message}"):
            read(tmp_path / "a.pkl")


def test_shapes_differ_in_axes_of_length_one_only():
    numbers = np.arange(6.0)
    for shape, wanted in (
        ((2, 3), (2, 3)),
        ((2, 1, 3), (2, 3)),
        ((1, 2, 3), (-1, 3)),
        ((6,), (1, 6)),
        ((1, 6, 1), (6,)),
        ((6, 1), (-1, 1)),
        ((6,), (1, -1)),
    ):
        found = shaped(numbers.reshape(shape), wanted, "k")
        np.testing.assert_array_equal(found, numbers.reshape(wanted))
    for shape, wanted in (((3, 2), (2, 3)), ((6,), (2, 3)), ((2, 3), (6,)), ((3, 2), (-1, 3))):
        with pytest.raises(ValueError, match=r"k: expected \[.*\], found \[.*\]"):
            shaped(numbers.reshape(shape), wanted, "k")


def test_ids_are_read_to_the_last_digit():
    many = 2**24 + 1
    assert whole_numbers([many, 3.0], "k").tolist() == [many, 3]
    assert whole_numbers(np.array([many]), "k").tolist() == [many]
    for bad in (np.nan, 1.5, 1e300, "x"):
        with pytest.raises(ValueError, match="k: expected"):
            whole_numbers([bad], "k")


@pytest.mark.parametrize("as_written", [True, False])
def test_the_size_of_the_file_comes_before_one_from_the_center(tmp_path, body, made, as_written):
    """CameraHMR writes height and width; others width and height."""
    held = body_files.camerahmr(made, 900.0)
    held["cam_int"][:, :2, 2] += [30, -20]  # the camera looks beside the image's middle
    held["img_size"] = np.tile(SIZE[:: -1 if as_written else 1], (M, 1))
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(held))
    given = read(path, image_size=(100, 200))
    assert (np.asarray(given.camera.image_size) == SIZE).all() and not given.tracks.notes
    np.testing.assert_allclose(given.camera.center[0, 0], SIZE / 2 + [30, -20])
    seen = projected(body, given)
    held["cam_int"][:, :2, 2] -= [30, -20]
    del held["img_size"]
    path.write_bytes(pickle.dumps(held))
    guessed = read(path)
    # In the pixels of its box, a person is where they were.
    np.testing.assert_allclose(seen[:, 0], projected(body, guessed)[:, 0], atol=3)
    assert (np.asarray(guessed.camera.image_size) == SIZE).all()
    assert guessed.tracks.notes == ("image size from the camera's center",)
    assert (np.asarray(read(path, image_size=(700, 400)).camera.image_size) == [700, 400]).all()


def test_nlf_of_no_pinhole_camera_is_refused(tmp_path, made, joints):
    held = {
        "pose": [angles(made["pose"])],
        "betas": [made["betas"]],
        "trans": [made["translation"]],
        "joints3d": [1000 * joints],
        "joints2d": [np.random.default_rng(0).uniform(0, 300, (M, 24, 2))],
    }
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(held))
    with pytest.raises(ValueError, match="no pinhole camera takes its 3D joints"):
        read(tmp_path / "a.pkl")
