"""HMR 2.0 (4D-Humans) and CameraHMR: what their networks and demos give for the boxes of an image.

Read at: shubham-goel/4D-Humans, demo.py (`out` of the model, box_center, box_size and img_size of
the batch; the focal length is 5000 / 256 times the longer side of the image, and `cam_crop_to_full`
makes the translation) and pixelite1201/CameraHMR, mesh_estimator.py (the same, with `cam_int` of
its own estimate of the focal length). Neither writes a file; these are their names for what their
users save, as an .npz or a pickle of one image or of a list of images.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scorehmr_jax.formats.bodies.contents import has, table
from scorehmr_jax.formats.bodies.rows import (
    Rows,
    full_translation,
    key,
    no_ids,
    numbers,
    of_each,
    rotations,
    shaped,
    smpl_pose,
)

_PARAMETERS = ("pred_smpl_params", "out_smpl_params", "pose_smpl")
_WEAK = ("pred_cam", "out_cam")
_FULL = ("pred_cam_t_full", "output_cam_trans", "cam_t_full")
READ = (
    *_PARAMETERS,
    *("global_orient", "body_pose", "betas"),
    *_WEAK,
    *_FULL,
    "scaled_focal_length",
    *(
        "box_center",
        "box_size",
        "img_size",
        "cam_int",
        "personid",
        "img_name",
        "imgname",
        "img_path",
    ),
)
# Known keys of the networks' outputs that follow from the others, or are of the crop.
OTHERS = (
    *(
        "pred_cam_t",
        "pred_vertices",
        "pred_keypoints_3d",
        "pred_keypoints_2d",
        "mask",
        "img",
        "bbox",
    ),
    *("output_vertices", "output_joints", "uv_image", "uv_vector", "token_out", "right", "scores"),
)
_HMR2_FOCAL = 5000.0 / 256  # model_cfg.EXTRA.FOCAL_LENGTH / model_cfg.MODEL.IMAGE_SIZE


def is_file(held: Any) -> bool:
    """True for the outputs of one image, or a list or table of such."""
    if isinstance(held, Sequence) and not isinstance(held, str):
        return len(held) > 0 and all(is_image(each) for each in held)
    if (images := table(held)) and not is_image(held):
        return len(images) > 0 and all(is_image(each) for each in images.values())
    return is_image(held)


def is_image(held: Any) -> bool:
    """True for the outputs of one image."""
    parameters = any(has(held, name) for name in _PARAMETERS)
    return (parameters or has(held, "global_orient", "body_pose", "betas")) and (
        any(has(held, name) for name in _FULL)
        or (any(has(held, name) for name in _WEAK) and has(held, "box_center", "box_size"))
    )


def read(held: Any, where: str, image_size: np.ndarray | None = None) -> Rows:
    """Reads the people of each image.

    Args:
        held: the outputs of an image, a list of them, or a table by the image's name.
        where: begins messages.
        image_size: width and height, pixels, if the file does not tell.
    Raises:
        ValueError: naming file and key.
    """
    images: list[Any]
    names: list[str] = []
    if is_image(held):
        images = [held]
    elif isinstance(held, Mapping):
        images, names = [*held.values()], [*map(str, held)]
    else:
        images = [*held]
    parts = [_image(each, i, f"{where}, image {i}", image_size) for i, each in enumerate(images)]
    given = [_name(each) for each in images]
    names = names or [name or "" for name in given]
    return _joined(parts, dict(enumerate(names)) if any(names) else {})


def _image(held: Mapping[str, Any], frame: int, where: str, image_size: np.ndarray | None) -> Rows:
    inner = next((held[name] for name in _PARAMETERS if name in held), held)
    if not isinstance(inner, Mapping):
        raise ValueError(
            f"{where}: expected global_orient, body_pose and betas, found {inner!r:.60}"
        )
    betas = key(inner, "betas", where)
    betas = np.atleast_2d(betas)
    count = len(betas)
    orient, body = (key(inner, name, where) for name in ("global_orient", "body_pose"))
    pose, left = smpl_pose(rotations([orient, body], count, where), where)
    notes: list[str] = []
    size: np.ndarray | None = None
    if "img_size" in held:
        size = of_each(held["img_size"], count, 2, f"{where}: img_size")
    elif image_size is not None:
        size = np.broadcast_to(image_size, (count, 2)).astype(np.float32)
    if "cam_int" in held:
        matrix = of_each(held["cam_int"], count, 9, f"{where}: cam_int").reshape(count, 3, 3)
        focal, center = matrix[:, [0, 1], [0, 1]], matrix[:, :2, 2]
        if size is None:
            size = 2 * center
            notes = ["image size from the camera's center"]
        elif "img_size" in held and _off(size[:, ::-1], center) < _off(size, center):
            size = size[:, ::-1]  # CameraHMR's is height and width
    else:
        if size is None:
            raise ValueError(f"{where}: no key img_size; give image_size=(width, height)")
        center = size / 2
        # "focal_length" in the network's output is that of the crop.
        if "scaled_focal_length" in held:
            given = held["scaled_focal_length"]
            focal = of_each(given, count, 2, f"{where}: scaled_focal_length")
        else:
            focal = np.repeat(_HMR2_FOCAL * size.max(-1, keepdims=True), 2, 1)
            notes = ["focal length as HMR 2.0 has it: 5000 / 256 of the image's longer side"]
    full = next((name for name in _FULL if name in held), None)
    if full is not None:
        translation = shaped(
            numbers(held[full], f"{where}: {full}"), (count, 3), f"{where}: {full}"
        )
    else:
        weak = next(name for name in _WEAK if name in held)
        translation = full_translation(
            of_each(held[weak], count, 3, f"{where}: {weak}"),
            of_each(held["box_center"], count, 2, f"{where}: box_center"),
            of_each(held["box_size"], count, 1, f"{where}: box_size")[:, 0],
            2 * center,  # where the camera looks, which need not be the image's middle
            focal,
        )
    return Rows(
        pose,
        betas,
        translation,
        np.full(count, frame),
        no_ids(count),
        focal,
        center,
        size,
        video=False,
        model="smpl"
        if body.size == 23 * count * (9 if body.shape[-2:] == (3, 3) else 3)
        else "smplx",
        notes=tuple([*notes, *([left] if left else [])]),
    )


def _off(size: np.ndarray, center: np.ndarray) -> float:
    """The distance of images' middles from the center, in all."""
    return float(np.abs(size / 2 - center).sum())


def _name(held: Mapping[str, Any]) -> str | None:
    for name in ("imgname", "img_name", "img_path"):
        if name in held:
            return str(np.ravel(np.asarray(held[name], object))[0])
    return None


def _joined(parts: list[Rows], names: dict[int, str]) -> Rows:
    if len({part.betas.shape[1] for part in parts}) > 1 or len({part.model for part in parts}) > 1:
        raise ValueError("images of different body models in one file; read them one by one")

    def whole(name: str) -> Any:
        return np.concatenate([getattr(part, name) for part in parts])

    arrays = ("pose", "betas", "translation", "frames", "ids", "focal", "center", "image_size")
    return Rows(
        **{name: whole(name) for name in arrays},
        names=names,
        model=parts[0].model,
        video=False,
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    )
