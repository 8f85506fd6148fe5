"""Keypoints out of other packages' files: nothing lost, nothing guessed, and faults named."""

import json
import warnings

import numpy as np
import pytest
from keypoint_files import (
    SIZE,
    alphapose,
    coco_results,
    flat,
    landmarks,
    mmpose_instance,
    openpose_folder,
    openpose_frame,
    person,
    write,
)

from body_model.joints import COCO_17, OPENPOSE_25
from body_model.keypoint_sets import KEYPOINT_SETS
from scorehmr_jax.formats.keypoints.arrays import write_keypoints
from scorehmr_jax.formats.keypoints.read import read_keypoints

# Made-up people lie about at random.
pytestmark = pytest.mark.filterwarnings("ignore:.*bones run across the person")

HALPE_26 = [*COCO_17, "head", "neck", "hip"] + [
    f"{s}_{p}" for p in ("big_toe", "small_toe", "heel") for s in ("left", "right")
]


def assert_person(found, at, points):
    np.testing.assert_allclose(found.xy[at], points[:, :2], rtol=1e-6)
    np.testing.assert_allclose(found.confidence[at], points[:, 2], rtol=1e-6)
    assert found.present[at]


A, B, C = (person(25, seed) for seed in range(3))


# OpenPose


def test_openpose_folders_keep_empty_frames_and_several_people(tmp_path):
    found = read_keypoints(openpose_folder(tmp_path / "füße", {9: [A], 10: [], 11: [B, C]}))
    assert (found.format, found.keypoint_set.name) == ("openpose", "openpose-25")
    np.testing.assert_array_equal(found.frame_numbers, [9, 10, 11])
    assert found.frame_names[0] == "walk_000000000009_keypoints"
    np.testing.assert_array_equal(found.present, [[1, 0], [0, 0], [1, 1]])
    assert_person(found, (0, 0), A)
    assert_person(found, (2, 0), B)
    assert_person(found, (2, 1), C)
    assert not found.confidence[0, 1].any() and not found.confidence[1].any()
    assert (found.ids == -1).all() and np.isnan(found.score).all()
    assert found.points_3d is None and found.image_size is None


def test_frames_are_in_the_order_of_their_numbers_not_of_their_names(tmp_path):
    for number, points in ((9, A), (10, B), (100, C)):
        write(tmp_path / f"v_{number}_keypoints.json", openpose_frame(points))
    with pytest.warns(UserWarning, match="89 frames between 9 and 100 have no file"):
        found = read_keypoints(tmp_path)
    np.testing.assert_array_equal(found.frame_numbers, [9, 10, 100])
    assert_person(found, (0, 0), A)
    assert_person(found, (2, 0), C)


def test_missing_frames_are_said_and_can_be_put_in_empty(tmp_path):
    folder = openpose_folder(tmp_path, {3: [A], 4: [B], 8: [C]})
    with pytest.warns(UserWarning, match="3 frames between 3 and 8 have no file, first 5 to 7"):
        found = read_keypoints(folder, image_size=SIZE)
    np.testing.assert_array_equal(found.frame_numbers, [3, 4, 8])
    full = found.with_missing_frames()
    np.testing.assert_array_equal(full.frame_numbers, range(3, 9))
    np.testing.assert_array_equal(full.present[:, 0], [1, 1, 0, 0, 0, 1])
    assert full.frame_names[3] == "" and full.frame_names[5] == found.frame_names[2]
    assert_person(full, (5, 0), C)
    np.testing.assert_array_equal(full.image_size, [SIZE] * 6)
    assert (full.ids[2] == -1).all() and np.isnan(full.score[2]).all()


@pytest.mark.parametrize("count", [18, 17, 26, 133, 136, 33])
def test_the_number_of_points_tells_the_set(count, tmp_path):
    points = person(count)
    found = read_keypoints(openpose_folder(tmp_path, {0: [points]}))
    assert len(found.keypoint_set) == count
    assert_person(found, (0, 0), points)


def test_points_in_3d_and_tracks_of_openpose(tmp_path):
    deep = np.column_stack([np.full((25, 3), 0.5), np.ones(25)])
    deep[3] = 0
    frame = openpose_frame(A, pose_keypoints_3d=flat(deep), person_id=[7])
    found = read_keypoints(write(tmp_path / "a.json", frame))
    np.testing.assert_array_equal(found.points_3d[0, 0], deep[:, :3])
    np.testing.assert_array_equal(found.confidence_3d[0, 0], deep[:, 3])
    assert found.ids[0, 0] == 7


def test_faces_and_hands_that_are_not_read_are_named(tmp_path):
    frame = openpose_frame(A, hand_left_keypoints_2d=[1.0] * 63)
    path = write(tmp_path / "a.json", frame)
    with pytest.warns(UserWarning, match="hand_left_keypoints_2d are not read"):
        read_keypoints(path)


def test_a_damaged_file_does_not_cost_the_others(tmp_path):
    folder = openpose_folder(tmp_path, {0: [A], 1: [B], 2: [C]})
    last = sorted(folder.iterdir())[-1]
    last.write_text(last.read_text()[:50])
    with pytest.warns(
        UserWarning, match="000002_keypoints.json: is no JSON, or cut short .* 1 such"
    ):
        found = read_keypoints(folder)
    np.testing.assert_array_equal(found.frame_numbers, [0, 1])


def test_two_cameras_in_one_folder_are_refused(tmp_path):
    openpose_folder(tmp_path, {0: [A], 1: [A]}, "cam1")
    openpose_folder(tmp_path, {0: [B], 1: [B]}, "cam2")
    with pytest.raises(ValueError, match=r"holds several series of frames, cam1_.* and cam2_"):
        read_keypoints(tmp_path)


def test_normalised_points_and_percent_are_refused(tmp_path):
    small = A * [1 / 640, 1 / 480, 1]
    with pytest.raises(ValueError, match="expected pixels of the full image"):
        read_keypoints(openpose_folder(tmp_path / "a", {0: [small]}))
    with pytest.raises(ValueError, match="expected confidences from 0"):
        read_keypoints(openpose_folder(tmp_path / "b", {0: [A * [1, 1, 100]]}))


def test_what_is_not_finite_or_a_little_below_zero_is_not_seen(tmp_path):
    odd = A.copy()
    odd[0, 0], odd[1, 2], odd[2, 2] = np.nan, -0.01, np.nan
    found = read_keypoints(openpose_folder(tmp_path, {0: [odd]}))
    assert not found.confidence[0, 0, :3].any() and np.isfinite(found.xy).all()
    np.testing.assert_allclose(found.confidence[0, 0, 3:], A[3:, 2], rtol=1e-6)


def test_people_of_two_kinds_in_a_folder_are_refused(tmp_path):
    folder = openpose_folder(tmp_path, {0: [A], 1: [person(18)]})
    with pytest.raises(ValueError, match="18 points per person, expected the 25 of openpose-25"):
        read_keypoints(folder)


def test_a_stranger_among_the_frames_is_named(tmp_path):
    folder = openpose_folder(tmp_path, {0: [A], 1: [B]})
    write(folder / "notes.json", {"author": "me"})
    with pytest.raises(ValueError, match=r"notes.json is no frame of openpose, unlike 2 others"):
        read_keypoints(folder)


def test_nobody_anywhere_needs_a_convention(tmp_path):
    folder = openpose_folder(tmp_path, {0: [], 1: []})
    with pytest.raises(ValueError, match="nobody in any of 2 frames"):
        read_keypoints(folder)
    found = read_keypoints(folder, convention="BODY_25")
    assert found.xy.shape == (2, 0, 25, 2)


# COCO, Halpe


def test_coco_results_go_by_image(tmp_path):
    one, two, three = (person(17, seed) for seed in range(3))
    path = write(tmp_path / "r.json", coco_results([(139, one), (42, two), (139, three)]))
    found = read_keypoints(path)
    assert (found.format, found.keypoint_set.name) == ("coco-results", "coco-17")
    np.testing.assert_array_equal(found.frame_numbers, [42, 139])
    assert_person(found, (0, 0), two)
    assert_person(found, (1, 0), one)
    assert_person(found, (1, 1), three)
    assert found.score[1, 1] == 0.75 and not found.present[0, 1]


def test_flags_of_annotators_are_no_confidences(tmp_path):
    marked = person(17)
    marked[:, 2] = [2, 1, 0, *[2] * 14]
    found = read_keypoints(write(tmp_path / "r.json", coco_results([(1, marked)])))
    np.testing.assert_array_equal(found.confidence[0, 0], [1, 1, 0, *[1] * 14])


def test_whole_bodies_in_parts_are_put_together(tmp_path):
    points = person(133)
    (row,) = coco_results([(1, points[:17])])
    parts = {"foot_kpts": (17, 23), "face_kpts": (23, 91)}
    parts |= {"lefthand_kpts": (91, 112), "righthand_kpts": (112, 133)}
    row |= {key: flat(points[a:b]) for key, (a, b) in parts.items()}
    found = read_keypoints(write(tmp_path / "r.json", [row]))
    assert found.keypoint_set.name == "coco-wholebody-133"
    assert_person(found, (0, 0), points)


def test_human36m_has_to_be_named(tmp_path):
    points = person(17)
    path = write(tmp_path / "r.json", coco_results([(1, points)]))
    found = read_keypoints(path, convention="h36m").to(["left_hip", "right_hip"])
    np.testing.assert_allclose(found.xy[0, 0], points[[4, 1], :2], rtol=1e-6)


def test_halpes_annotations_hold_sizes_and_empty_images(tmp_path):
    points = person(136)
    points[:, 2] = 2
    held = {
        "images": [
            {"id": 5, "file_name": "b.jpg", "width": 640, "height": 480},
            {"id": 3, "file_name": "a.jpg", "width": 1280, "height": 720},
        ],
        "annotations": [
            {"image_id": 5, "keypoints": flat(points), "bbox": [0, 0, 1, 1]},
            {"image_id": 3, "bbox": [0, 0, 1, 1]},
        ],
    }
    found = read_keypoints(write(tmp_path / "halpe.json", held))
    assert (found.format, found.keypoint_set.name) == ("coco-annotations", "halpe-136")
    assert found.frame_names == ("a.jpg", "b.jpg")
    np.testing.assert_array_equal(found.image_size, [[1280, 720], [640, 480]])
    np.testing.assert_array_equal(found.present, [[False], [True]])
    held["annotations"][0]["image_id"] = 8
    path = write(tmp_path / "halpe.json", held)
    with pytest.raises(ValueError, match=r"annotations\[0\]: image_id 8 is not among the images"):
        read_keypoints(path)


# AlphaPose


def test_alphaposes_list_goes_by_image_name(tmp_path):
    one, two = person(26, 0), person(26, 1)
    rows = alphapose([("10.jpg", one), ("9.jpg", two), ("9.jpg", one)])
    found = read_keypoints(write(tmp_path / "alphapose-results.json", rows))
    assert (found.format, found.keypoint_set.name) == ("alphapose", "halpe-26")
    assert found.frame_names == ("9.jpg", "10.jpg")
    np.testing.assert_array_equal(found.ids, [[1, 2], [0, -1]])
    assert_person(found, (0, 0), two)
    assert found.tracks == (0, 1, 2)
    assert_person(found.track(0), (1, 0), one)
    np.testing.assert_array_equal(found.track(0).present, [[False], [True]])
    with pytest.raises(ValueError, match="no person has id 5; found 0, 1, 2"):
        found.track(5)


@pytest.mark.parametrize("form", ["cmu", "open"])
def test_alphaposes_other_forms_are_openposes_18_points(form, tmp_path):
    one, two = person(18, 0), person(18, 1)
    frames = {"a1.jpg": [one], "a2.jpg": [two, one]}

    def frame(people):
        if form == "open":
            return {"version": "AlphaPose v0.3", **openpose_frame(*people)}
        return {"version": "AlphaPose v0.3", "bodies": [{"joints": flat(p)} for p in people]}

    whole = write(tmp_path / "r.json", {name: frame(people) for name, people in frames.items()})
    for name, people in frames.items():
        write(tmp_path / "sep-json" / f"{name[:-4]}.json", frame(people))
    for path in (whole, tmp_path / "sep-json"):
        found = read_keypoints(path)
        assert found.keypoint_set.name == "openpose-18"
        np.testing.assert_array_equal(found.frame_numbers, [1, 2])
        assert_person(found, (0, 0), one)
        assert_person(found, (1, 0), two)
        assert_person(found, (1, 1), one)


# MMPose, ViTPose, RTMPose


def meta(names):
    return {"dataset_name": "made_up", "keypoint_id2name": {str(i): n for i, n in enumerate(names)}}


def test_mmposes_videos_keep_empty_frames(tmp_path):
    one, two = person(26, 0), person(26, 1)
    frames = [
        {"frame_id": 1, "instances": [mmpose_instance(one), mmpose_instance(two)]},
        {"frame_id": 2, "instances": []},
        {"frame_id": 3, "instances": [{**mmpose_instance(two), "track_id": 4}]},
    ]
    demo = write(tmp_path / "a.json", {"meta_info": meta(HALPE_26), "instance_info": frames})
    inferencer = write(tmp_path / "b.json", frames)
    for path in (demo, inferencer):
        found = read_keypoints(path)
        assert (found.format, found.keypoint_set.name) == ("mmpose", "halpe-26")
        np.testing.assert_array_equal(found.frame_numbers, [1, 2, 3])
        np.testing.assert_array_equal(found.present, [[1, 1], [0, 0], [1, 0]])
        assert_person(found, (0, 1), two)
        assert_person(found, (2, 0), two)
        assert found.ids[2, 0] == 4 and found.score[0, 0] == 0.5


def test_mmposes_images_alone_and_in_a_folder(tmp_path):
    one, two = person(17, 0), person(17, 1)
    demo = {"meta_info": meta(COCO_17), "instance_info": [mmpose_instance(one)]}
    found = read_keypoints(write(tmp_path / "photo.json", demo))
    assert found.keypoint_set.name == "coco-17" and found.frame_names == ("photo",)
    assert_person(found, (0, 0), one)
    people = {"x": [mmpose_instance(one)], "y": [], "z": [mmpose_instance(p) for p in (two, one)]}
    for name, held in people.items():
        write(tmp_path / "predictions" / f"{name}.json", held)
    found = read_keypoints(tmp_path / "predictions")
    np.testing.assert_array_equal(found.present, [[1, 0], [0, 0], [1, 1]])
    assert_person(found, (2, 0), two)


def test_names_in_the_file_go_before_the_number_of_points(tmp_path):
    names = [*reversed(COCO_17)]
    points = person(17)
    held = {"meta_info": meta(names), "instance_info": [mmpose_instance(points)]}
    found = read_keypoints(write(tmp_path / "a.json", held)).to("coco-17")
    assert_person(found, (0, 0), points[::-1])


def test_mmposes_points_in_3d_are_not_taken_for_pixels(tmp_path):
    row = mmpose_instance(person(17))
    row["keypoints"] = [[0.1, 0.2, 0.3]] * 17
    path = write(tmp_path / "a.json", [row])
    with pytest.raises(ValueError, match="3D points, in axes that the file does not name"):
        read_keypoints(path)


def test_easy_vitpose_has_y_before_x(tmp_path):
    one, two = person(25, 0), person(25, 1)
    names = ["nose", "left_eye", "right_eye", "left_ear", "right_ear", "neck", "left_shoulder"]
    names += ["right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist"]
    names += ["left_hip", "right_hip", "hip", "left_knee", "right_knee", "left_ankle"]
    names += ["right_ankle", "left_big_toe", "left_small_toe", "left_heel"]
    names += ["right_big_toe", "right_small_toe", "right_heel"]
    held = {
        "keypoints": [{"0": one[:, [1, 0, 2]].tolist()}, {}, {"3": two[:, [1, 0, 2]].tolist()}],
        "skeleton": {str(i): name for i, name in enumerate(names)},
    }
    found = read_keypoints(write(tmp_path / "a.json", held))
    assert found.format == "easy-vitpose"
    assert_person(found, (0, 0), one)
    np.testing.assert_array_equal(found.ids[:, 0], [0, -1, 3])
    as_openpose = found.to()
    np.testing.assert_allclose(
        as_openpose.xy[2, 0, OPENPOSE_25.index("pelvis")], two[14, :2], rtol=1e-6
    )


# MediaPipe


WORLD = np.round(np.random.default_rng(3).normal(0, 0.4, (33, 3)), 3)


def world(points=WORLD):
    return [{"x": x, "y": y, "z": z, "visibility": 0.5} for x, y, z in points.tolist()]


def test_mediapipes_results_become_pixels(tmp_path):
    one, two = person(33, 0), person(33, 1)
    frames = [
        {"pose_landmarks": [landmarks(one)], "pose_world_landmarks": [world()]},
        {"pose_landmarks": [], "pose_world_landmarks": []},
        {
            "pose_landmarks": [landmarks(two), landmarks(one)],
            "pose_world_landmarks": [world(), world(-WORLD)],
        },
    ]
    bare, whole = (
        write(tmp_path / "bare.json", frames),
        write(tmp_path / "whole.json", {"image_size": [*SIZE], "frames": frames}),
    )
    for found in (read_keypoints(bare, image_size=SIZE), read_keypoints(whole)):
        assert (found.format, found.keypoint_set.name) == ("mediapipe", "mediapipe-33")
        np.testing.assert_array_equal(found.present, [[1, 0], [0, 0], [1, 1]])
        assert_person(found, (0, 0), one)
        assert_person(found, (2, 1), one)
        np.testing.assert_allclose(found.points_3d[2, 1], -WORLD, rtol=1e-6)
        np.testing.assert_allclose(found.confidence_3d[0, 0], one[:, 2], rtol=1e-6)
        assert not found.confidence_3d[1].any()
        np.testing.assert_array_equal(found.image_size, [SIZE] * 3)
    with pytest.raises(ValueError, match="does not hold its size; give image_size"):
        read_keypoints(bare)


def test_mediapipes_frames_in_files_of_their_own_and_of_their_own_size(tmp_path):
    sizes = np.array([SIZE, (320, 200), SIZE])
    people = [person(33, seed) for seed in range(3)]
    for i, (points, size) in enumerate(zip(people, sizes, strict=True)):
        write(tmp_path / f"f{8 + i}.json", {"pose_landmarks": [landmarks(points, size)]})
    found = read_keypoints(tmp_path, image_size=sizes)
    np.testing.assert_array_equal(found.image_size, sizes)
    for i, points in enumerate(people):
        assert_person(found, (i, 0), points)


@pytest.mark.parametrize(
    "frame",
    [
        {"poseLandmarks": landmarks(A[:, [0, 1, 2]]), "width": 640, "height": 480},
        {"pose_landmarks": {"landmark": landmarks(A)}, "image_size": [640, 480]},
        {"landmarks": [[[x / 640, y / 480, 0, c] for x, y, c in A]], "image_size": [640, 480]},
        {"landmarks": [[[x, y, 0, c] for x, y, c in A]]},
    ],
)
def test_mediapipe_in_other_words(frame, tmp_path):
    points = np.concatenate([A, person(8, 9)])
    text = json.dumps(frame)
    frame = json.loads(text)

    def extended(held):
        if isinstance(held, dict) and "landmark" in held:
            return {"landmark": extended(held["landmark"])}
        if isinstance(held[0], dict):
            return held + landmarks(points[25:])
        rows = held[0]
        pixels = rows[0][0] > 10
        size = (1, 1) if pixels else SIZE
        return [rows + [[x / size[0], y / size[1], 0, c] for x, y, c in points[25:].tolist()]]

    key = next(k for k in ("poseLandmarks", "pose_landmarks", "landmarks") if k in frame)
    frame[key] = extended(frame[key])
    found = read_keypoints(write(tmp_path / "a.json", frame))
    assert_person(found, (0, 0), points)


def test_mediapipe_without_visibility_is_announced(tmp_path):
    rows = [{k: v for k, v in p.items() if k in "xyz"} for p in landmarks(person(33))]
    path = write(tmp_path / "a.json", [{"pose_landmarks": [rows]}])
    with pytest.warns(UserWarning, match="without visibility: confidence 1 is assumed"):
        found = read_keypoints(path, image_size=SIZE)
    assert (found.confidence == 1).all()


# .npz


def test_our_own_file_is_read_as_it_was_written(tmp_path):
    frames = [
        {"pose_landmarks": [landmarks(person(33, 0))], "pose_world_landmarks": [world()]},
        {"pose_landmarks": [landmarks(person(33, s)) for s in (1, 2)]},
    ]
    path = write(tmp_path / "a.json", frames)
    first = read_keypoints(path, image_size=SIZE)
    for of in (first, first.to(["left_hip", "right_hip", "c7"])):
        write_keypoints(tmp_path / "a.npz", of)
        again = read_keypoints(tmp_path / "a.npz")
        for key in ("xy", "confidence", "present", "ids", "points_3d", "confidence_3d"):
            np.testing.assert_allclose(getattr(again, key), getattr(of, key), rtol=1e-6)
        assert again.keypoint_set.names == of.keypoint_set.names
        assert again.frame_names == of.frame_names and again.format == "npz"
        np.testing.assert_array_equal(again.image_size, [SIZE] * 2)


def test_arrays_of_one_person(tmp_path):
    keypoints = np.stack([A, B, 0 * C])
    np.savez(tmp_path / "a.npz", keypoints=keypoints)
    found = read_keypoints(tmp_path / "a.npz")
    assert found.keypoint_set.name == "openpose-25"
    np.testing.assert_array_equal(found.present[:, 0], [1, 1, 0])
    assert_person(found, (1, 0), B)
    points = np.stack([person(33, s) for s in range(4)])
    np.savez(
        tmp_path / "b.npz",
        xy=points[..., :2],
        visibility=points[..., 2],
        world=np.stack([WORLD] * 4),
        image_size=SIZE,
        fps=30.0,
    )
    found = read_keypoints(tmp_path / "b.npz")
    assert_person(found, (3, 0), points[3])
    np.testing.assert_allclose(found.points_3d[2, 0], WORLD, rtol=1e-6)
    parts = np.concatenate([points[..., :2] / SIZE, np.zeros((4, 33, 1)), points[..., 2:]], -1)
    np.savez(tmp_path / "c.npz", landmarks=parts)
    assert_person(read_keypoints(tmp_path / "c.npz", image_size=SIZE), (3, 0), points[3])


def test_points_in_3d_alone_need_a_convention(tmp_path):
    deep = np.random.default_rng(0).normal(0, 0.4, (5, 17, 3)).astype(np.float32)
    deep[2, 4] = np.nan
    np.savez(tmp_path / "a.npz", points_3d=deep)
    with pytest.raises(ValueError, match="17 points in 3D, in an order that it does not name"):
        read_keypoints(tmp_path / "a.npz")
    found = read_keypoints(tmp_path / "a.npz", convention="h36m-17")
    assert found.present.all() and not found.confidence.any() and not found.xy.any()
    np.testing.assert_array_equal(found.points_3d[[0, 1], 0], deep[:2])
    assert found.confidence_3d.sum() == 5 * 17 - 1 and found.confidence_3d[2, 0, 4] == 0
    smpl = found.to("smpl-24")
    np.testing.assert_array_equal(smpl.points_3d[0, 0, 1], deep[0, 4])  # the left hip
    np.savez(tmp_path / "b.npz", points_3d=1000 * deep, convention="h36m-17")
    with pytest.raises(ValueError, match="expected metres"):
        read_keypoints(tmp_path / "b.npz")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"keypoints": np.ones((2, 25, 2))}, r"keypoints: expected \[T, K, 3\]"),
        ({"xy": np.ones((2, 17, 2))}, "xy without confidence"),
        ({"points": np.ones(3)}, "not read: points|no key landmarks"),
        ({"keypoints": np.full((4, 2, 25, 3), 0.5)}, "people, or views"),
        ({"keypoints": np.ones((2, 25, 3)), "ids": np.zeros(3)}, r"ids: expected shape \(2,\)"),
        ({"keypoints": np.ones((2, 25, 3)), "image_size": [1, 2, 3]}, "image_size: expected"),
        ({"keypoints": np.full((2, 25, 3), "x")}, "keypoints: expected numbers"),
        ({"keypoints": np.ones((2, 25, 3)), "convention": "odd"}, "convention: keypoint set 'odd'"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*not read")
def test_arrays_of_other_shapes_are_refused(arrays, message, tmp_path):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=message) as error:
        read_keypoints(tmp_path / "a.npz")
    assert "a.npz" in str(error.value)


# .trc


def trc(path, units="m", scale=1.0):
    """Pose2Sim's: a marker is missing in the second frame."""
    names = ["CHip", "RHip", "LHip", "RBigToe", "LBigToe", "Head"]
    lines = [
        f"PathFileType\t4\t(X/Y/Z)\t{path.name}",
        "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate",
        f"60\t60\t2\t{len(names)}\t{units}\t60",
        "Frame#\tTime\t" + "\t\t\t".join(names) + "\t\t",
        "\t\t" + "\t".join(f"{axis}{i}" for i in range(1, 7) for axis in "XYZ"),
        "1\t0.0\t" + "\t".join(str(scale * i / 10) for i in range(18)),
        "3\t0.1\t" + "\t".join("" if i < 3 else str(scale * i / 20) for i in range(18)),
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(("units", "scale"), [("m", 1.0), ("mm", 1000.0)])
def test_markers_of_opensim_come_in_metres(units, scale, tmp_path):
    found = read_keypoints(trc(tmp_path / "a.trc", units, scale))
    assert found.format == "trc"
    assert found.keypoint_set.names[:4] == ("mid_hip", "right_hip", "left_hip", "right_big_toe")
    np.testing.assert_array_equal(found.frame_numbers, [1, 3])
    np.testing.assert_allclose(found.points_3d[0, 0], np.arange(18).reshape(6, 3) / 10, atol=1e-6)
    np.testing.assert_array_equal(found.confidence_3d[1, 0], [0, 1, 1, 1, 1, 1])
    assert not found.confidence.any()
    with pytest.raises(ValueError, match="Units: expected m, cm or mm, found 'inch'"):
        read_keypoints(trc(tmp_path / "a.trc", "inch"))


# Any format


STANDING = {
    **{"shoulder": (30, 100), "elbow": (40, 160), "wrist": (45, 220)},
    **{"hip": (20, 240), "knee": (22, 330), "ankle": (22, 420), "ear": (10, 60), "eye": (5, 55)},
    **{"nose": (0, 60), "mid_hip": (0, 240), "spine_h36m": (0, 170), "thorax_h36m": (0, 95)},
    **{"jaw_h36m": (0, 70), "head_h36m": (0, 40)},
}


def standing(of):
    """A person who stands upright, seen from the front, in the order of a set."""
    points = []
    for name in KEYPOINT_SETS[of].names:
        side, _, part = name.partition("_")
        x, y = STANDING[part if side in ("left", "right") else name]
        points.append((300 + (x if side == "left" else -x), y, 0.9))
    return np.array(points, float)


@pytest.mark.parametrize("order", ["coco-17", "h36m-17"])
def test_a_convention_that_does_not_fit_is_announced(order, tmp_path):
    path = write(tmp_path / "r.json", coco_results([(i, standing(order)) for i in range(3)]))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        read_keypoints(path, convention=order)
    assert not said
    if order == "h36m-17":
        with pytest.warns(UserWarning, match="do not lie as those of coco-17 do: bones run across"):
            read_keypoints(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("{", "is no JSON, or cut short"),
        ('{"a": 1}', "of no known format, found a table with a; known are openpose"),
        ("3", "of no known format, found int"),
        ('[{"b": 1}]', "found a list of 1 tables with b"),
        ('{"people": [{}]}', r"people\[0\]: no key pose_keypoints_2d"),
        ('{"people": [{"pose_keypoints_2d": [1, 2]}]}', "expected 3 numbers for each point"),
        ('{"people": [{"pose_keypoints_2d": ["x"]}]}', "expected numbers"),
        ('{"people": [{"pose_keypoints_2d": [1, 2, 0.5]}]}', "1 points per person, of a set"),
        ('[{"image_id": 1.5, "keypoints": [1, 2, 1]}]', "image_id: expected a whole number"),
    ],
)
def test_bad_files_are_named(text, message, tmp_path):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_keypoints(path)
    assert str(path) in str(error.value)


def test_missing_files_and_other_formats_are_named(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        read_keypoints(tmp_path / "none.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"holds no .json files"):
        read_keypoints(tmp_path / "empty")
    path = write(tmp_path / "a.json", openpose_frame(A))
    with pytest.raises(ValueError, match=r"expected coco-results .*, found a table with version"):
        read_keypoints(path, format="coco-results")
    with pytest.raises(ValueError, match="format 'kinect' is not known; known are openpose"):
        read_keypoints(path, format="kinect")
    with pytest.raises(ValueError, match="25 points per person, expected the 17 of coco-17"):
        read_keypoints(path, convention="coco-17")
    with pytest.raises(ValueError, match=r"expected an \.npz"):
        read_keypoints(path, format="npz")


def test_a_described_set_is_taken(tmp_path):
    points = person(3)
    described = tmp_path / "set.toml"
    described.write_text('names = ["left_hip", "right_hip", "c7"]')
    path = write(tmp_path / "r.json", coco_results([(1, points)]))
    found = read_keypoints(path, convention=described).to()
    pelvis = found.xy[0, 0, OPENPOSE_25.index("pelvis")]
    np.testing.assert_allclose(pelvis, points[:2, :2].mean(0), rtol=1e-6)
    assert found.confidence[0, 0, OPENPOSE_25.index("nose")] == 0


def test_images_of_a_data_set_are_no_video(tmp_path):
    people = [(1, person(17)), (500000, person(17))]
    found = read_keypoints(write(tmp_path / "r.json", coco_results(people)))
    with pytest.raises(ValueError, match="expected those of a video"):
        found.with_missing_frames()


SOUND = [
    openpose_frame(A, B),
    coco_results([(1, person(17)), (2, person(17))]),
    alphapose([("a1.jpg", person(17)), ("a2.jpg", person(17))]),
    {"a1.jpg": {"bodies": [{"joints": flat(person(18))}]}},
    {
        "meta_info": meta(COCO_17),
        "instance_info": [{"frame_id": 1, "instances": [mmpose_instance(person(17))]}],
    },
    {"keypoints": [{"0": person(17).tolist()}], "skeleton": dict(enumerate(COCO_17))},
    {
        "image_size": [*SIZE],
        "frames": [{"pose_landmarks": [landmarks(person(33))], "pose_world_landmarks": [world()]}],
    },
    {"pose_landmarks": {"landmark": landmarks(person(33))}, "image_size": [*SIZE]},
    {
        "images": [{"id": 1, "width": 3, "height": 4}],
        "annotations": [{"image_id": 1, "keypoints": flat(person(17))}],
    },
]
ODD = (None, "x", [], {}, [[]], 3, -1, 1e9, True, float("nan"), [1, 2], {"a": 1}, [None], "7")


def changed_anywhere(held):
    """Copies of a file's content, each with something odd in another place."""

    def places(value, path=()):
        yield path
        items = value.items() if isinstance(value, dict) else ()
        for key, each in [*items, *(enumerate(value[:2]) if isinstance(value, list) else ())]:
            yield from places(each, (*path, key))

    for path in [*places(held)][1:]:
        for odd in ODD:
            copy = json.loads(json.dumps(held))
            inner = copy
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = odd
            yield copy


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("held", SOUND)
def test_whatever_is_wrong_in_a_file_is_said_with_its_name(held, tmp_path):
    held = json.loads(json.dumps(held))
    path = write(tmp_path / "sound.json", held)
    read_keypoints(path)
    refused = 0
    for content in [*changed_anywhere(held)][::3]:
        write(path, content)
        try:
            read_keypoints(path)
        except ValueError as error:
            refused += 1
            assert "sound.json" in str(error)
    assert refused
