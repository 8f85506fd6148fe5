"""What calibration files say of each camera, in one set of words: name, K, dist, size, R, t, RT."""

import json
import os
import re
import tomllib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from body_model.files import damage_named, is_npz, local_path, read_npz

# The words of files, in small letters without other signs, and ours.
_WORDS = {
    **dict.fromkeys(("k", "matrix", "cameramatrix", "intrinsic", "intrinsics"), "K"),
    **dict.fromkeys(("intrinsicmatrix", "intrinsicmat", "mtx"), "K"),
    **dict.fromkeys(("dist", "d", "distortion", "distortions", "distcoef", "distcoeff"), "dist"),
    **dict.fromkeys(("distcoeffs", "distortioncoefficients", "distortioncoefs"), "dist"),
    **dict.fromkeys(("r", "rot", "rotation", "rotationmatrix", "rvec"), "R"),
    **dict.fromkeys(("t", "translation", "translationvector", "tvec"), "t"),
    **dict.fromkeys(("rt", "extrinsic", "extrinsics", "extrinsicmatrix"), "RT"),
    **dict.fromkeys(("size", "imagesize", "resolution", "imgsize"), "size"),
    **dict.fromkeys(("w", "width", "imagewidth"), "width"),
    **dict.fromkeys(("h", "height", "imageheight"), "height"),
    **{"name": "name", "names": "name", "fisheye": "fisheye"},
}
_SUBPIXELS = 64  # Qualisys counts in parts of a pixel
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


def cameras_of(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Reads what a file, or EasyMocap's folder, says of each camera.

    Args:
        path: of the file or folder.
    Returns:
        For each camera that has an intrinsic matrix its name, `K`, and what else there is of
        `dist`, `size`, `R` (a matrix or a Rodrigues vector), `t`, `RT`, `fisheye`; not checked.
    Raises:
        ValueError: naming the file, if it is missing, damaged or of no known format.
    """
    where = local_path(path)
    if where.is_dir():
        return _easymocap(where)
    if is_npz(where):
        held = read_npz(where)
        return _side_by_side({key: held[key] for key in held}, str(where))
    with damage_named(where):
        text = where.read_bytes().decode("utf-8", errors="replace").strip()
    if text.startswith("<"):
        return _xml(text, where)
    if text.startswith("%YAML"):
        return _named(_yaml(text, where), where.stem)
    if text.startswith(("{", "[{")):
        try:
            return _json(json.loads(text), where.stem)
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}: is no JSON, or cut short ({error})") from None
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _labelled(text, where.stem)
        if not found:
            raise ValueError(
                f"{where}: of no known format; expected Pose2Sim's .toml ({error}), Qualisys's "
                ".qca.txt, OpenCV's .yml, .xml or .json, or text with K, R, t"
            ) from None
        return found
    return _named(tables, where.stem)


def _translated(held: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A camera in our words; the first of two keys that mean the same counts."""
    camera: dict[str, Any] = {"name": name}
    for key, value in held.items():
        word = _WORDS.get(re.sub(r"[^a-z]", "", str(key).lower()))
        if word == "name":
            camera["name"] = str(value)
        elif word is not None and word not in camera:
            camera[word] = _plain(value)
    if "width" in camera and "height" in camera and "size" not in camera:
        camera["size"] = [camera["width"], camera["height"]]
    return camera


def _plain(value: Any) -> Any:
    """A matrix as rows, also of the form that OpenCV writes."""
    if isinstance(value, Mapping) and {"rows", "cols", "data"} <= {*value}:
        return np.reshape(value["data"], (int(value["rows"]), int(value["cols"])))
    return value


def _named(held: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The cameras of a table of tables; or the only one, if the table is a camera itself."""
    alone = _translated(held, name)
    if "K" in alone:
        return [alone]
    found = [_translated(v, k) for k, v in held.items() if isinstance(v, Mapping)]
    return [camera for camera in found if "K" in camera]


def _json(held: Any, name: str) -> list[dict[str, Any]]:
    if isinstance(held, Mapping) and isinstance(held.get("cameras"), list | Mapping):
        held = held["cameras"]
    if isinstance(held, list):
        held = {str(i): camera for i, camera in enumerate(held)}
    return _named(held, name)


def _side_by_side(held: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """The cameras of arrays [V, ...] beside each other."""
    words = _translated(held, "")
    if "K" not in words:
        raise ValueError(f"{where}: no key K; found {', '.join(held)}")
    K = np.asarray(words["K"])
    if K.ndim != 3:
        raise ValueError(f"{where}: K: expected [V, 3, 3], found {K.shape}")
    names = held.get("names", [f"cam{i + 1:02d}" for i in range(len(K))])
    cameras = []
    for v, name in enumerate(names):
        camera: dict[str, Any] = {"name": str(name)}
        for word in ("K", "dist", "size", "R", "t", "RT"):
            if word in words:
                array = np.asarray(words[word])
                if array.shape[:1] != (len(K),):
                    raise ValueError(
                        f"{where}: {word}: expected [{len(K)}, ...], found {array.shape}"
                    )
                camera[word] = array[v]
        cameras.append(camera)
    return cameras


def _yaml(text: str, where: Path) -> dict[str, Any]:
    """OpenCV's YAML, whose first line is not that of others."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Reads OpenCV's matrices as tables."""

    Loader.add_constructor(
        "tag:yaml.org,2002:opencv-matrix",
        lambda loader, node: loader.construct_mapping(node, deep=True),
    )
    try:
        held = yaml.load(text.partition("\n")[2], Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"{where}: is no YAML of OpenCV's ({str(error)[:100]})") from None
    return held if isinstance(held, dict) else {}


def _easymocap(folder: Path) -> list[dict[str, Any]]:
    """EasyMocap's pair of files, in which a key ends with the camera's name."""
    held: dict[str, Any] = {}
    for name in ("intri.yml", "extri.yml"):
        if not (folder / name).is_file():
            raise ValueError(
                f"{folder}: no {name}; expected EasyMocap's intri.yml and extri.yml, or the path "
                "of a calibration file"
            )
        held |= _yaml((folder / name).read_text(encoding="utf-8"), folder / name)
    cameras = []
    for name in map(str, held.get("names", [])):
        own = {
            key.removesuffix(f"_{name}"): v for key, v in held.items() if key.endswith(f"_{name}")
        }
        cameras.append(_translated(own, name))
    return [camera for camera in cameras if "K" in camera]


def _xml(text: str, where: Path) -> list[dict[str, Any]]:
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError(
            f"{where}: refuses XML with definitions of its own; expected a calibration"
        )
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"{where}: is no XML, or cut short ({error})") from None
    if root.tag == "opencv_storage":
        return _named({each.tag: _opencv_node(each) for each in root}, where.stem)
    if root.tag == "calibration":
        return [_qualisys(each, where) for each in root.iter("camera") if each.get("active") != "0"]
    raise ValueError(
        f"{where}: XML of <{root.tag}>; expected Qualisys's <calibration> or <opencv_storage>"
    )


def _opencv_node(node: Any) -> Any:
    if node.get("type_id") == "opencv-matrix":
        held = {each.tag: each.text or "" for each in node}
        return {**held, "data": [float(number) for number in held.get("data", "").split()]}
    numbers = _NUMBER.findall(node.text or "")
    if len(node):
        return {each.tag: _opencv_node(each) for each in node}
    return (node.text or "").strip() if not numbers else [float(number) for number in numbers]


def _qualisys(camera: Any, where: Path) -> dict[str, Any]:
    """A camera of Qualisys Track Manager.

    Intrinsics are in 64ths of a pixel of the sensor, of which the image may be a part; distortion
    has no unit. The transform is from the camera to the world, in millimetres, its matrix column by
    column; the camera looks along -z with y up.
    """
    name = camera.get("serial") or camera.get("name") or ""
    parts = {tag: camera.find(tag) for tag in ("fov_video", "transform", "intrinsic")}
    lacking = [tag for tag, part in parts.items() if part is None]
    if lacking:
        raise ValueError(f"{where}: camera {name}: no {lacking[0]}; expected Qualisys's .qca.txt")

    def number(tag: str, key: str) -> float:
        try:
            return float(parts[tag].get(key))
        except (TypeError, ValueError):
            raise ValueError(
                f"{where}: camera {name}: {tag} {key}: expected a number, found "
                f"{parts[tag].get(key)!r}"
            ) from None

    left, top, right, bottom = (number("fov_video", k) for k in ("left", "top", "right", "bottom"))
    if number("intrinsic", "sensorMaxU") < (_SUBPIXELS / 2) * (right - left):
        raise ValueError(
            f"{where}: camera {name}: sensorMaxU {number('intrinsic', 'sensorMaxU'):g} for an "
            f"image of {right - left + 1:g} pixels; expected 64ths of a pixel, as Qualisys has them"
        )
    if float(camera.get("viewrotation") or 0) != 0:
        warnings.warn(
            f"{where}: camera {name}: viewrotation is {camera.get('viewrotation')}; the "
            "calibration is that of the images as the camera takes them, not of turned ones",
            stacklevel=2,
        )
    fu, fv, cu, cv = (
        number("intrinsic", key) / _SUBPIXELS
        for key in ("focalLengthU", "focalLengthV", "centerPointU", "centerPointV")
    )
    k1, k2, k3, p1, p2 = (
        number("intrinsic", key)
        for key in (
            *("radialDistortion1", "radialDistortion2", "radialDistortion3"),
            *("tangentalDistortion1", "tangentalDistortion2"),
        )
    )
    rows = [[number("transform", f"r{i}{j}") for j in (1, 2, 3)] for i in (1, 2, 3)]
    turned = np.diag([1.0, -1.0, -1.0]) @ np.array(rows)  # to y down and z forward
    center = np.array([number("transform", key) for key in "xyz"]) / 1000
    return {
        "name": name,
        "K": [[fu, 0, cu - left], [0, fv, cv - top], [0, 0, 1]],
        "dist": [k1, k2, p1, p2, k3],
        "size": [right - left + 1, bottom - top + 1],
        "R": turned,
        "t": -turned @ center,
    }


def _labelled(text: str, name: str) -> list[dict[str, Any]]:
    """Text in which a word, K, R, t, dist or size, stands before its numbers.

    A line `[name]`, `camera name` or `name: name` begins another camera.
    """
    cameras: list[dict[str, Any]] = []
    current: dict[str, Any] = {}
    values: list[float] = []
    for line in text.splitlines():
        line = line.partition("#")[0].strip()
        header = re.fullmatch(
            r"\[\s*([A-Za-z][^\]]*)\]|(?:camera|name)\b\s*[:=]?\s*(\S+)", line, re.I
        )
        if header:
            current = {}
            cameras.append({"name": header[1] or header[2], "held": current})
            continue
        label = re.match(r"([A-Za-z][A-Za-z_ ]*?)\s*(?:[:=]|(?=[\s\[(]|$))", line)
        if label:
            if not cameras:
                cameras.append({"name": name, "held": current})
            values = current.setdefault(label[1], [])
            line = line[label.end() :]
        values.extend(float(number) for number in _NUMBER.findall(line))
    found = [_translated(camera["held"], camera["name"]) for camera in cameras]
    return [camera for camera in found if "K" in camera]
