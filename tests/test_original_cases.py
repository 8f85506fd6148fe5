"""Data sets in their makers' files: truth in the camera, estimates matched, all counted."""

import pickle
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from data_set_files import FRAMES, aspset, bodies, emdb, image_rows, threedpw, turn
from evaluations import evaluate

import body_model
from body_model.joints import OPENPOSE_25, SMPL_24
from body_model.rotations import axis_angle_to_matrix
from scorehmr_jax.baselines.methods import make_method
from scorehmr_jax.evaluation.benchmarks import BENCHMARKS
from scorehmr_jax.evaluation.metric_table import METRICS
from scorehmr_jax.evaluation.originals import original_case
from scorehmr_jax.evaluation.protocol import Files
from scorehmr_jax.evaluation.runs import run
from scorehmr_jax.evaluation.views import views_case
from scorehmr_jax.formats.estimates import write_estimates
from scorehmr_jax.types import Camera, Estimate, Keypoints2D


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def made(place):
    return bodies(place)


@pytest.fixture
def files(place, made, tmp_path):
    """The files of a case, but for data and estimates."""
    return Files(
        tmp_path,
        tmp_path / "rows.npz",
        place / "SMPL_NEUTRAL.npz",
        place / "J19.npy",
        None,
        body_male=place / "SMPL_MALE.npz",
        body_female=place / "SMPL_FEMALE.npz",
    )


def images_of_3dpw():
    images = [f"imageFiles/walk_00/image_{i:05}.jpg" for _ in range(2) for i in range(FRAMES)]
    return images, np.repeat([0, 1], FRAMES)


def test_3dpw_matched_by_image_and_person_in_any_order(tmp_path, made, files):
    threedpw(tmp_path, made)
    images, people = images_of_3dpw()
    image_rows(files.estimates, images, people, without=[5, 8])
    with pytest.warns(UserWarning, match="1 of 12 rows are of frames that the protocol leaves out"):
        case = original_case(BENCHMARKS["3dpw-original"], files)
    # campose_valid leaves out one of 14 frames; of the others two have no estimate.
    assert dict(case.frames) == {
        "in the files": 14,
        "left out by the protocol": 1,
        "without an estimate": 2,
        "without a detection": 2,
    }
    assert len(case) == 13 and case.lengths == (6, 7)
    assert set(case.sequence.tolist()) == {0}  # both people are of one video
    wanted = [4 + 0.01 * i for i in range(14) if i != 2]
    wanted[4] = wanted[7] = np.nan  # frames 5 and 8 of the 14
    np.testing.assert_allclose(case.estimate.translation[:, 2], wanted, rtol=1e-6)
    assert case.truth.known.all() and case.names[0] == f"{images[0]}, person 0"
    # What is measured is known by all that it depends on, the keypoints' regressor too.
    other = replace(case.skeleton, rest=case.skeleton.rest + 0.01)
    assert replace(case, skeleton=other).fingerprint() != case.fingerprint()
    assert replace(case).fingerprint() == case.fingerprint()

    # The truth by another way: joints of the gendered body in the world, then the camera.
    held = pickle.loads((tmp_path / "sequenceFiles/test/walk_00.pkl").read_bytes())
    joints = held["jointPositions"][1].reshape(FRAMES, 24, 3)
    pose = held["cam_poses"]
    there = np.einsum("nij,nkj->nki", pose[:, :3, :3], joints) + pose[:, None, :3, 3]
    wrist = OPENPOSE_25.index("left_wrist")
    np.testing.assert_allclose(
        case.truth.joints[6:, wrist], there[:, SMPL_24.index("left_wrist")], atol=1e-5
    )
    assert (case.truth.joints[..., 2] > 1).all()  # before the camera, so y is down
    assert case.truth.body.model.tolist() == [2] * 6 + [1] * 7  # female, male by name
    assert [np.asarray(b.template).max() for b in case.others] == [
        np.asarray(made[g].template).max() for g in ("female", "male")
    ]


@pytest.mark.filterwarnings("ignore:1 of 14 rows")
def test_the_crops_own_camera_comes_before_a_place_of_another_focal_length(tmp_path, made, files):
    threedpw(tmp_path, made)
    images, people = images_of_3dpw()
    camera = np.tile([0.9, 0.0, 0.0], (len(images), 1))
    center, scale = np.tile([500.0, 400.0], (len(images), 1)), np.full(len(images), 200.0)
    image_rows(files.estimates, images, people, pred_cam=camera, center=center, scale=scale)
    case = original_case(BENCHMARKS["3dpw-original"], files)
    focal = np.asarray(case.truth.camera.focal)[..., 0]
    np.testing.assert_allclose(case.estimate.translation[:, 2], 2 * focal / (200 * 0.9), rtol=1e-5)


def test_a_body_of_the_wrong_gender_is_told_by_the_joints_of_the_file(tmp_path, made, files):
    threedpw(tmp_path, made)
    images, people = images_of_3dpw()
    image_rows(files.estimates, images, people, without=[2])
    with pytest.warns(UserWarning, match=r"walk_00_0: the joints of the file lie \d+ mm from"):
        original_case(BENCHMARKS["3dpw-original"], replace(files, body_male=files.body_female))
    with pytest.raises(ValueError, match="truth is of female and male bodies; please give --body-"):
        original_case(BENCHMARKS["3dpw-original"], replace(files, body_male=None))


def test_a_perfect_estimate_of_emdb_in_video_has_no_error_but_in_masked_frames(
    tmp_path, made, files
):
    """Also: no acceleration across frames that the mask takes out, and the true mesh by gender."""
    emdb(tmp_path, gender="neutral")
    images = [f"P1/14_outdoor_climb/images/{i:05}.jpg" for i in range(FRAMES)]
    keypoints = np.concatenate(
        [np.full((FRAMES, 25, 2), 500.0), np.full((FRAMES, 25, 1), 0.9)], axis=-1
    )
    detected = image_rows(tmp_path / "keypoints.npz", images, [0] * FRAMES, keypoints=keypoints)
    files = replace(files, keypoints=detected)
    image_rows(files.estimates, images, [0] * FRAMES)
    case = original_case(BENCHMARKS["emdb1-video"], files)
    assert case.lengths == (FRAMES,) and case.truth.known.tolist() == [
        i != 3 for i in range(FRAMES)
    ]
    assert case.frames["left out by the protocol"] == 1 and case.protocol.fps == 30
    own = np.asarray(axis_angle_to_matrix(np.asarray(case.truth.body.pose)))
    perfect = Estimate(own, case.truth.body.betas, case.estimate.translation)
    case = replace(case, estimate=perfect)
    method = make_method("estimate", body_model.Skeleton.of(case.body), case.protocol.how)
    found = run(case, method.refiner)
    good = case.truth.known
    for name in ("opt_mpjpe", "opt_re", "opt_pve"):
        assert found[name][good].max() < 0.01 and np.isnan(found[name][~good]).all(), name
    # Of frames 0 to 6 without 3, three in a row are 0, 1, 2 and 4, 5, 6.
    assert np.flatnonzero(np.isfinite(found["opt_accel"])).tolist() == [0, 4]

    female = replace(case, truth=replace(case.truth, body=replace(
        case.truth.body, model=np.ones(FRAMES, np.int32))), others=(made["female"],))  # fmt: skip
    measured = run(female, method.refiner)["opt_pve"][good]
    assert (measured > 20).all()  # the true mesh is another body's


def test_emdb_needs_detections_and_ours_come_before_those_of_3dpw(tmp_path, made, files):
    emdb(tmp_path / "emdb")
    images = [f"P1/14_outdoor_climb/images/{i:05}.jpg" for i in range(FRAMES)]
    image_rows(files.estimates, images, [0] * FRAMES)
    files = replace(files, data=tmp_path / "emdb")
    with pytest.raises(ValueError, match="emdb1: the data set has no detections: give --keypoints"):
        original_case(BENCHMARKS["emdb1"], files)
    threedpw(tmp_path, made)
    images, people = images_of_3dpw()
    own = np.full((14, 25, 3), 0.8)
    own[..., :2] = 300
    image_rows(files.estimates, images, people, without=[2])
    image_rows(tmp_path / "own.npz", images, people, keypoints=own, without=[2, 9])
    case = original_case(
        BENCHMARKS["3dpw-original"],
        replace(files, data=tmp_path, keypoints=tmp_path / "own.npz"),
    )
    seen = (case.truth.keypoints.confidence > 0).any(-1)
    assert np.flatnonzero(~seen).tolist() == [8] and (case.truth.keypoints.xy[0] == 300).all()


def test_estimates_out_of_a_file_for_each_recording(tmp_path, made, files):
    threedpw(tmp_path, made)
    folder = tmp_path / "estimates"
    folder.mkdir()
    pose = np.tile(np.eye(3), (5, 24, 1, 1))
    write_estimates(
        folder / "walk_00_1.npz",
        Estimate(pose, np.zeros((5, 10)), np.full((5, 3), 4.0)),
        Camera(np.full((5, 2), 1900.0), np.full((5, 2), 500.0), np.full((5, 2), 1000.0)),
        Keypoints2D(np.full((5, 25, 2), 400.0), np.ones((5, 25))),
    )
    files = replace(files, estimates=folder)
    with pytest.warns(UserWarning, match="no file for walk_00_0"):
        case = original_case(BENCHMARKS["3dpw-original-video"], files)
    there = np.isfinite(case.estimate.translation).all(-1)
    assert there.tolist() == [False] * 7 + [True] * 5 + [False] * 2
    assert case.frames["without an estimate"] == 6 + 2
    (folder / "walk_00_1.npz").unlink()
    with pytest.raises(ValueError, match=r"no file for any recording; expected walk_00_0\.npz"):
        original_case(BENCHMARKS["3dpw-original-video"], files)


def test_rows_that_do_not_tell_who_they_are_of(tmp_path, made, files):
    threedpw(tmp_path, made)
    images, people = images_of_3dpw()

    path = files.estimates
    image_rows(path, images, people, without=[2])
    held = dict(np.load(path))
    for changes, message in (
        ({"person": None}, "images with several people, but no key 'person'"),
        ({"person": np.zeros(13)}, "are both of some/folder/imageFiles/walk_00/image"),
        ({"imgname": np.array(["a.jpg"] * 13)}, "none of 13 is an image of the data set"),
        ({"pred_pose": held["pred_pose"][:5]}, r"pred_pose has shape \(5, 24, 3, 3\)"),
        ({"pred_cam_t": None}, "the key 'pred_cam' is missing"),
    ):
        columns = {k: v for k, v in (held | changes).items() if v is not None}
        np.savez(path, **columns)
        with pytest.raises(ValueError, match=message) as info:
            original_case(BENCHMARKS["3dpw-original"], files)
        assert "rows.npz" in str(info.value)


def test_aspset_is_measured_at_joints_of_the_limbs_alone(tmp_path, files):
    aspset(tmp_path)
    names = [f"1e28-0001-left/{i:05}" for i in (0, 5, 10)]
    names += [f"1e28-0002-mid/{i:05}" for i in (0, 5, 10)]
    image_rows(files.estimates, names, [0] * 6)
    keypoints = np.full((6, 25, 3), 0.5)
    keypoints[..., :2] = 1500
    detected = image_rows(tmp_path / "keypoints.npz", names, [0] * 6, keypoints=keypoints)
    case = original_case(BENCHMARKS["aspset"], replace(files, keypoints=detected))
    # In frame 5 a knee was not seen.
    assert case.truth.known.tolist() == [True, False, True] * 2 and case.truth.body is None
    assert case.frames["in the files"] == 22 and case.frames["left out by the protocol"] == 16
    points = np.load(tmp_path / "test/joints_3d/1e28/1e28-0001.npy")
    wrist = case.protocol.keypoints.index("left_wrist", 25)
    wanted = points[0, 9] / 1000 + [0, 0.01, 0.5]
    np.testing.assert_allclose(case.truth.joints[0, wrist], wanted, rtol=1e-5)


def test_an_original_data_set_by_command(tmp_path, made, files, capsys, monkeypatch):
    quick = {name: METRICS[name] for name in ("mpjpe", "re")}
    monkeypatch.setattr(evaluate, "METRICS", quick)
    threedpw(tmp_path, made)
    images, people = images_of_3dpw()
    image_rows(files.estimates, images, people, without=[2, 5])
    argv = ["3dpw-original", "--method", "estimate", "--out", str(tmp_path / "out")]
    given = {"data": tmp_path, "estimates": files.estimates, "body": files.body}
    given |= {"extra_joints": files.extra_joints, "body_male": files.body_male}
    given |= {"body_female": files.body_female}
    for name, path in given.items():
        argv += [f"--{name.replace('_', '-')}", str(path)]
    with pytest.warns(UserWarning) as told:
        report = evaluate.main([*argv, "--boxes", "tight"])
    texts = [str(w.message) for w in told]
    assert "3dpw-original: 1 frames without an estimate" in texts
    assert "3dpw-original: expected 35515 samples, found 13: figures are of another set" in texts
    assert report["dropped"] == 1 and report["samples"] == 13
    assert report["frames"]["without a detection"] == 2
    printed = capsys.readouterr().out
    assert "boxes: tight" in printed and "gender: truth of the subject's gender" in printed
    assert "frames: 14 in the files, 1 left out by the protocol, 1 without an estimate" in printed
    assert report["changes_95"]["re"]["mean"] == 0  # nothing was refined


@jax.jit
def placed(skeleton, pose, betas, translation):
    return skeleton(pose, betas, jnp.broadcast_to(translation, (len(pose), 3)))


def views_files(folder, views=2, frames=3):
    """Two calibrated views of a person who stands, with the true joints as points."""
    body = body_model.stand_in()
    body_model.save(folder / "body.npz", body)
    pose = np.tile(np.eye(3, dtype=np.float32), (views, frames, 24, 1, 1))
    size = np.tile(np.float32([1000, 1000]), (views, 1))
    K = np.array([[1500.0, 0, 500], [0, 1500, 500], [0, 0, 1]])
    R = np.stack([np.eye(3), turn([0, 1, 0], 0.6)])[:views]
    t = np.array([[0, 0, 4.0], [0.2, 0, 5.0]])[:views]
    names = OPENPOSE_25
    skeleton = body_model.Skeleton.of(body)
    points = np.asarray(placed(skeleton, pose[0, :1], np.zeros((1, 10), np.float32), 0.0))[0]
    there = np.einsum("vij,kj->vki", R, points) + t[:, None]
    xy = there[..., :2] / there[..., 2:] * 1500 + 500
    keypoints = np.broadcast_to(xy[:, None], (views, frames, 25, 2)).astype(np.float32)
    seen = np.ones((frames, 25))
    seen[1, names.index("left_knee")] = 0
    np.savez(folder / "points.npz", points_3d=np.tile(points, (frames, 1, 1)), confidence_3d=seen,
             names=np.array(names))  # fmt: skip
    np.savez(folder / "cameras.npz", K=np.tile(K, (views, 1, 1)), R=R, t=t, image_size=size)
    # The estimates stand as they should in the first camera, and turned in the second.
    turned = pose.copy()
    turned[:, :, 0] = R[:, None]
    root = points[names.index("pelvis")]
    shift = np.einsum("vij,j->vi", R, root) + t - root
    write_estimates(
        folder / "views.npz",
        Estimate(turned, np.zeros((views, frames, 10)), np.tile(shift[:, None], (1, frames, 1))),
        Camera(*(np.broadcast_to(a, (views, frames, 2)).astype(np.float32)
                 for a in ([1500, 1500], [500, 500], [1000, 1000]))),
        Keypoints2D(keypoints, np.ones((views, frames, 25), np.float32)),
    )  # fmt: skip
    given = {"data": "points", "estimates": "views", "body": "body", "cameras": "cameras"}
    return Files(**{k: folder / f"{v}.npz" for k, v in given.items()}, extra_joints=None)


@pytest.mark.parametrize(
    ("name", "lengths", "first"),
    [
        ("pose2sim", (2, 2, 2), "cam02/00000"),
        ("pose2sim-video", (3, 3), "cam01/00001"),
        ("pose2sim-single", (6,), "cam01/00001"),
    ],
)
def test_calibrated_views_as_moments_videos_or_images(tmp_path, name, lengths, first):
    files = views_files(tmp_path)
    case = views_case(BENCHMARKS[name], files)
    assert case.lengths == lengths and case.names[1] == first
    assert case.frames["left out by the protocol"] == 2  # a knee was not seen, in both views
    # What the estimates say, placed by the skeleton, is what the points say in each camera.
    estimate = case.estimate
    found = placed(case.skeleton, estimate.pose, estimate.betas, estimate.translation)
    limbs = list(case.protocol.joints)
    np.testing.assert_allclose(found[:, limbs], case.truth.joints[:, limbs], atol=1e-4)
    assert (~case.truth.known).sum() == 2 and len(case) == 6
    assert (np.asarray(case.truth.keypoints.xy) > 0).all()


def test_views_that_do_not_go_together_are_named(tmp_path):
    files = views_files(tmp_path)
    protocol = BENCHMARKS["pose2sim"]
    with pytest.raises(ValueError, match="pose2sim: please give --cameras"):
        views_case(protocol, replace(files, cameras=None))
    held = dict(np.load(files.cameras))
    np.savez(files.cameras, **{k: v[:1] for k, v in held.items()})
    with pytest.raises(ValueError, match=r"views.npz: expected pose \[V, N, .* of the 1 views of"):
        views_case(protocol, files)
    np.savez(files.cameras, **{k: v for k, v in held.items() if k not in ("R", "t")})
    with pytest.raises(ValueError, match=r"cameras.npz: expected extrinsics of all cameras"):
        views_case(protocol, files)
    np.savez(files.cameras, **held)
    points = dict(np.load(files.data))
    np.savez(files.data, **points | {k: points[k][:2] for k in ("points_3d", "confidence_3d")})
    with pytest.raises(ValueError, match=r"points.npz: expected 3 frames, as .* has, found 2"):
        views_case(protocol, files)
