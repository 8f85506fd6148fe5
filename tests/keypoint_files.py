"""Made-up keypoint files in the formats of other packages."""

import json

import numpy as np

SIZE = (640, 480)


def person(count, seed=0):
    """Points [K, 3]: x, y, confidence; rounded, as files in text have them."""
    random = np.random.default_rng(seed)
    xy = random.uniform(50, 450, (count, 2))
    return np.round(np.column_stack([xy, random.uniform(0.3, 0.9, count)]), 3)


def flat(points):
    return [float(number) for number in points.ravel()]


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def openpose_frame(*people, **more):
    return {
        "version": 1.3,
        "people": [
            {
                "person_id": [-1],
                "pose_keypoints_2d": flat(points),
                "face_keypoints_2d": [],
                "hand_left_keypoints_2d": [],
                "hand_right_keypoints_2d": [],
                "pose_keypoints_3d": [],
                **more,
            }
            for points in people
        ],
    }


def openpose_folder(folder, frames, name="walk"):
    """A file for each frame, by its number."""
    for number, people in frames.items():
        write(folder / f"{name}_{number:012d}_keypoints.json", openpose_frame(*people))
    return folder


def coco_results(people):
    """A list of (image number, points)."""
    return [
        {"image_id": image, "category_id": 1, "keypoints": flat(points), "score": 0.75}
        for image, points in people
    ]


def alphapose(people):
    """A list of (image name, points), with boxes and tracks."""
    return [
        {
            "image_id": image,
            "category_id": 1,
            "keypoints": flat(points),
            "score": 2.5,
            "box": [0.0, 0.0, 10.0, 20.0],
            "idx": [index],
        }
        for index, (image, points) in enumerate(people)
    ]


def mmpose_instance(points):
    return {
        "keypoints": [[float(x), float(y)] for x, y in points[:, :2]],
        "keypoint_scores": [float(c) for c in points[:, 2]],
        "bbox": [[0.0, 0.0, 100.0, 200.0]],
        "bbox_score": 0.5,
    }


def landmarks(points, size=SIZE):
    """MediaPipe's: parts of the image's width and height."""
    return [
        {"x": x / size[0], "y": y / size[1], "z": 0.1, "visibility": c, "presence": 1.0}
        for x, y, c in points.tolist()
    ]
