"""People in pictures: the numbers around MediaPipe's networks, and who is who over time."""

import zipfile
from dataclasses import replace

import numpy as np
import pytest

from scorehmr_jax.detectors import mediapipe, mediapipe_models
from scorehmr_jax.detectors.following import Follower, OneEuroFilter
from scorehmr_jax.detectors.mediapipe import MediaPipePose
from scorehmr_jax.detectors.mediapipe_decode import (
    MEDIAPIPE_33,
    Landmarks,
    Region,
    anchors,
    crop,
    decode_landmarks,
    decode_people,
    person_region,
    search_areas,
    whole,
)
from scorehmr_jax.detectors.protocol import Detector

UPRIGHT = np.array([[0.0, 0], [0, -40]])  # the point of scale is above the hips


def logit(p):
    return np.float32(np.log(p / (1 - p)))


def test_anchors_are_the_middles_of_three_grids():
    found = anchors()
    assert found.shape == (2254, 2)
    np.testing.assert_allclose(found[0], 0.5 / 28)
    np.testing.assert_allclose(found[2], [1.5 / 28, 0.5 / 28])
    np.testing.assert_allclose(found[-1], 6.5 / 7)


def people(*rows):
    """The first network's results for rows of (anchor, score, centre, side, hips, scale)."""
    raw, logits = np.zeros((2254, 12), np.float32), np.full(2254, -90, np.float32)
    for anchor, score, centre, side, hips, scale in rows:
        place = anchors()[anchor]
        points = [hips, scale, hips, scale]
        numbers = [*(centre - place), side, side, *np.ravel([p - place for p in points])]
        raw[anchor], logits[anchor] = 224 * np.array(numbers), logit(score)
    return raw, logits


def test_people_are_read_once_and_the_surest_first():
    one, other = np.array([0.3, 0.4]), np.array([0.8, 0.4])
    found = decode_people(
        *people(
            (100, 0.6, one, 0.2, one, one - [0, 0.2]),
            (900, 0.9, other, 0.2, other, other - [0, 0.2]),
            # The same person again, a little beside; and one who is too unsure.
            (101, 0.3 / 0.5, np.add(one, (0.02, 0)), 0.2, np.add(one, (0.02, 0)), one - [0, 0.2]),
            (1500, 0.4, np.array([0.5, 0.9]), 0.1, one, one),
        )
    )
    np.testing.assert_allclose(found.score, [0.9, 0.6], atol=1e-5)
    np.testing.assert_allclose(found.points[0, 0], other, atol=1e-5)
    np.testing.assert_allclose(
        found.points[1, :2], [np.add(one, (0.01, 0)), one - [0, 0.2]], atol=1e-5
    )
    np.testing.assert_allclose(found.box[0], [0.7, 0.3, 0.9, 0.5], atol=1e-5)
    assert decode_people(*people()).points.shape == (0, 4, 2)


def test_a_region_is_turned_with_the_person():
    for angle in (0.0, 0.5, -2.5):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        region = person_region([100, 200] + UPRIGHT @ turn.T)
        assert region.side == pytest.approx(100)
        head = region.to_image(np.array([0.5, 0.1]))  # straight above the hips in the square
        np.testing.assert_allclose(head, [100, 200] + turn @ [0, -40], atol=1e-9)


def test_a_crop_takes_the_pixels_that_its_region_says():
    frame = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    same = crop(frame, Region(np.array([30.0, 20]), 20.0, 0.0), 20, "edge")
    np.testing.assert_array_equal(same, frame[10:30, 20:40])
    turned = crop(frame, Region(np.array([30.0, 20]), 20.0, np.pi / 2), 20, "edge")
    # The upper left corner of the square is now at the upper right of the picture.
    np.testing.assert_array_equal(turned[0, 0], frame[10, 40])
    np.testing.assert_array_equal(turned[5, 3], frame[13, 35])
    between = crop(frame, Region(np.array([30.5, 20]), 20.0, 0.0), 20, "edge")
    mean = (frame[10:30, 20:40].astype(int) + frame[10:30, 21:41] + 1) // 2
    np.testing.assert_array_equal(between, mean)
    beyond = Region(np.array([0.0, 0]), 20.0, 0.0)
    np.testing.assert_array_equal(crop(frame, beyond, 20, "edge")[0, 0], frame[0, 0])
    assert not crop(frame, beyond, 20, "black")[:10].any()
    assert crop(frame[:1, :1], whole(1, 1), 4, "edge").shape == (4, 4, 3)


def test_landmarks_are_refined_by_the_heatmap_and_turned_back():
    raw, heat = np.zeros((39, 5), np.float32), np.full((64, 64, 39), -20, np.float32)
    raw[:, :2], raw[:, 3] = 128, logit(0.8)
    heat[34, 30, 0] = 5  # the nose is seen two cells lower and to the left
    heat[34, 30, 1] = logit(0.3)  # unsure: the eye stays
    heat[10, 10, 2] = 5  # far away: nothing to do with this eye
    world = np.zeros((39, 3), np.float32)
    world[0] = 0.1, 0.2, 0.3
    region = Region(np.array([500.0, 300]), 256.0, np.pi / 2)
    found = decode_landmarks(raw, 0.9, heat, world, region)
    np.testing.assert_allclose(found.xy[0], [500 - 8, 300 - 8], atol=1e-2)
    np.testing.assert_allclose(found.xy[1:], np.tile([500.0, 300], (32, 1)))
    np.testing.assert_allclose(found.points[0], [-0.2, 0.1, 0.3], atol=1e-6)
    np.testing.assert_allclose(found.visibility, 0.8, atol=1e-6)


def test_search_areas_cover_the_picture():
    for size in ((300, 200), (200, 300), (64, 64)):
        first, *parts = search_areas(*size)
        assert first == [first[0]] and first[0].side == max(size)
        for areas in parts:
            low, high = np.array([a.box for a in areas]).min(0), np.array([a.box for a in areas])
            assert (low[:2] <= 1e-9).all() and (high[:, 2:].max(0) >= np.array(size) - 1e-9).all()


def person(x, y, score=0.9, size=40.0):
    """A standing person with the hips at x, y."""
    alignment = np.array([[x, y], [x, y - size]], float)
    xy = np.tile([[float(x), float(y)]], (33, 1))
    return Landmarks(xy, np.ones(33), np.zeros((33, 3)), score, alignment)


def test_each_person_keeps_a_place():
    follower = Follower(2)
    follower.enters(person(100, 100))
    follower.enters(person(300, 100))
    assert [p.xy[0, 0] for p in follower.next_frame()] == [100, 300]
    # The first is lost for a frame, comes back a little further, and gets the old place.
    for place, region in follower.regions():
        follower.found(place, person(303, 100) if region.center[0] > 200 else None)
    assert follower.free() == 1
    first, second = follower.next_frame()
    assert first is None and second.xy[0, 0] == 303
    (place, _), *_ = follower.regions()
    follower.found(place, person(306, 100))
    follower.enters(person(108, 100))
    assert [p.xy[0, 0] for p in follower.next_frame()] == [108, 306]


def test_two_places_never_hold_one_person_for_long():
    follower = Follower(2)
    follower.enters(person(100, 100))
    follower.enters(person(140, 100))
    follower.next_frame()
    # They cross, and one hides the other: both squares show the one in front.
    follower.found(0, person(120, 100, score=0.6))
    follower.found(1, person(121, 100, score=0.9))
    for _ in range(200):  # the squares follow slowly
        follower.next_frame()
        for place, _ in follower.regions():
            follower.found(place, person(120, 100, score=0.6 + 0.3 * place))
        follower.drop_doubles()
    assert [place for place, _ in follower.regions()] == [1]


def test_the_filter_follows_fast_movement_and_calms_slow_one():
    rng = np.random.default_rng(0)
    still = OneEuroFilter()
    shaken = [still(100 + rng.normal(size=1) / 10, 100.0)[0] for _ in range(200)]
    assert np.std(shaken[50:]) < 0.03
    moving = OneEuroFilter()
    last = [moving(np.array([20.0 * t]), 100.0)[0] for t in range(60)][-1]
    assert abs(last - 20 * 59) < 20


@pytest.fixture
def networks(monkeypatch, tmp_path):
    """Made-up networks that see bright spots: the first finds them, the second centres on them."""

    def detector(picture):
        grey = picture.mean(-1)
        rows = []
        for y, x in np.argwhere(grey > 0.5)[:: max((grey > 0.5).sum() // 3, 1)]:
            hips = np.array([x, y]) / 224
            anchor = int(np.abs(anchors() - hips).sum(-1).argmin())
            rows.append((anchor, 0.9, hips, 0.1, hips, hips - [0, 0.1]))
        raw, logits = people(*rows)
        return [raw, logits[:, None]]

    def landmarks(picture):
        grey = picture.mean(-1)
        y, x = np.argwhere(grey > 0.8).mean(0) if (grey > 0.8).any() else (0, 0)
        raw = np.zeros((39, 5), np.float32)
        raw[:, :2], raw[:, 3] = [x, y], 3
        raw[34, 1] -= 256 / 2.5  # of the same size in the next frame
        heat = np.full((64, 64, 39), -20, np.float32)
        score = np.array([0.9 if (grey > 0.8).any() else 0.1], np.float32)
        return [raw.ravel(), score, None, heat, np.zeros(117, np.float32)]

    monkeypatch.setattr(mediapipe, "model_files", lambda folder: ("detector", "landmarks"))
    pick = {"detector": detector, "landmarks": landmarks}
    monkeypatch.setattr(mediapipe, "_network", lambda path, threads: pick[path])


def spots(*places, size=(240, 320)):
    frame = np.zeros((*size, 3), np.uint8)
    for x, y in places:
        frame[y - 6 : y + 6, x - 6 : x + 6] = 255
    return frame


def test_people_of_pictures_and_of_a_video(networks):
    pictures = [spots((60, 120)), spots(), spots((60, 120), (250, 100), size=(200, 300))]
    detector = MediaPipePose(people=2)
    assert isinstance(detector, Detector)
    found = detector(pictures)
    assert found.names == MEDIAPIPE_33 and found.xy.shape == (2, 3, 33, 2)
    np.testing.assert_array_equal(found.found.sum(0), [1, 0, 2])
    np.testing.assert_array_equal(found.image_size, [[320, 240], [320, 240], [300, 200]])
    np.testing.assert_allclose(found.xy[0, 0, 5], [60, 120], atol=2)
    assert np.isnan(found.xy[0, 1]).all() and not found.confidence[0, 1].any()
    assert {round(x / 10) for x in found.xy[:, 2, 0, 0]} == {6, 25}

    video = [spots((60 + 3 * t, 120)) for t in range(10)]
    found = MediaPipePose(track=True)(iter(video))
    assert found.found.all()
    np.testing.assert_allclose(found.xy[0, :, 0, 0], 60 + 3 * np.arange(10), atol=2)
    assert MediaPipePose()(iter([])).xy.shape == (0, 0, 33, 2)
    assert MediaPipePose()([spots()]).xy.shape == (0, 1, 33, 2)


def test_people_of_given_boxes_stay_in_their_order(networks):
    frame = spots((60, 120), (250, 100))
    boxes = np.array([[220.0, 60, 280, 140], [30, 80, 90, 160], [0, 0, 0, 0]])
    found = MediaPipePose(boxes=[boxes])([frame])
    np.testing.assert_allclose(found.xy[:2, 0, 0, 0], [250, 60], atol=2)
    np.testing.assert_array_equal(found.found[:, 0], [True, True, False])


def test_points_in_openpose_order_leave_out_means(networks):
    found = MediaPipePose()([spots((60, 120))])
    keypoints = found.as_openpose()
    assert keypoints.xy.shape == (1, 1, 25, 2)
    # Neck, mid-hip and the small toes are nobody's landmarks.
    np.testing.assert_array_equal(np.flatnonzero(keypoints.confidence[0, 0] == 0), [1, 8, 20, 23])
    gone = replace(found, xy=np.full_like(found.xy, np.nan)).as_openpose()
    assert not gone.confidence.any() and np.isfinite(gone.xy).all()


def test_the_networks_are_taken_out_of_the_wheel(tmp_path, monkeypatch):
    wheel, target = tmp_path / "mediapipe.whl", tmp_path / "cache"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("mediapipe/modules/pose_detection/pose_detection.tflite", b"one")
        archive.writestr("mediapipe/modules/pose_landmark/pose_landmark_full.tflite", b"two")
        archive.writestr("mediapipe/python/code.py", b"no")
    files = mediapipe_models.unpack(wheel, target)
    assert [file.read_bytes() for file in files] == [b"one", b"two"]
    assert len([*target.iterdir()]) == 2
    assert mediapipe_models.model_files(tmp_path) == files
    monkeypatch.setattr(mediapipe_models, "_places", lambda: [tmp_path / "none", target])
    assert mediapipe_models.model_files() == files
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("mediapipe/code.py", b"no")
    with pytest.raises(ValueError, match=r"has no pose_detection.tflite; expected the wheel of"):
        mediapipe_models.unpack(wheel, target)


def test_networks_that_cannot_be_had_are_named(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"expected pose_detection.tflite and .* inside"):
        mediapipe_models.model_files(tmp_path)
    monkeypatch.setattr(mediapipe_models, "_places", lambda: [])
    monkeypatch.setattr(mediapipe_models, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(mediapipe_models.sys, "executable", str(tmp_path / "no python"))
    with pytest.raises(ModuleNotFoundError, match=r"not be fetched .* python -m pip download"):
        mediapipe_models.model_files()


def test_a_number_of_people_below_one_is_refused():
    with pytest.raises(ValueError, match="people: expected 1 or more, found 0"):
        MediaPipePose(people=0)
