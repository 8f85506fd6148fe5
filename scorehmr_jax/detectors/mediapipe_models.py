"""The files of MediaPipe's networks: found on this machine, or fetched once.

They lie in the wheel of mediapipe 0.10.21 (Apache-2.0), the last line that carries them. Only the
two files are used: the package asks for numpy below 2, and its code is never imported.
"""

import importlib.util
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from body_model.cache import cache_folder
from body_model.files import local_path

WHEEL = "mediapipe==0.10.21"
DETECTOR = "pose_detection.tflite"
LANDMARKS = "pose_landmark_full.tflite"
# A wheel is a zip file: that of one system and Python serves all others as well.
_FETCH = (
    *("download", "--quiet", "--no-deps", "--only-binary=:all:", "--python-version", "3.11"),
    *("--platform", "manylinux_2_28_x86_64", WHEEL),
)


def model_files(folder: str | Path | None = None) -> tuple[Path, Path]:
    """Finds the two networks, and fetches them with pip if they are nowhere on this machine.

    Looks into the given folder; or else into the installed package mediapipe, then into
    `cache_folder()` / "mediapipe", where what is fetched is kept.

    Args:
        folder: with pose_detection.tflite and one pose_landmark_*.tflite, anywhere inside.
    Returns:
        The files of the detector of people and of the landmarks.
    Raises:
        ValueError: if the given folder lacks one.
        ModuleNotFoundError: if they are not here and pip cannot fetch them; says what to do.
    """
    if folder is not None:
        found = _in_folder(local_path(folder))
        if found is None:
            raise ValueError(
                f"{folder}: expected {DETECTOR} and {LANDMARKS} (or pose_landmark_lite or _heavy) "
                "inside, found no such files; without a folder they are fetched"
            )
        return found
    for place in _places():
        if found := _in_folder(place):
            return found
    return _fetched()


def _places() -> Iterator[Path]:
    spec = importlib.util.find_spec("mediapipe")
    if spec is not None and spec.submodule_search_locations:
        yield Path(spec.submodule_search_locations[0]) / "modules"
    yield cache_folder() / "mediapipe"


def _in_folder(folder: Path) -> tuple[Path, Path] | None:
    detectors = sorted(folder.rglob(DETECTOR))
    landmarks = sorted(folder.rglob("pose_landmark_*.tflite"))
    # The full network where there are several.
    landmarks.sort(key=lambda path: path.name != LANDMARKS)
    return (detectors[0], landmarks[0]) if detectors and landmarks else None


def _fetched() -> tuple[Path, Path]:
    target = cache_folder() / "mediapipe"
    print(
        f"fetching MediaPipe's pose networks (the files of {WHEEL}, 36 MB, once) into {target}",
        file=sys.stderr,
    )
    try:
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(
                [sys.executable, "-m", "pip", *_FETCH, "--dest", folder],
                check=True,
                capture_output=True,
                text=True,
            )
            (wheel,) = Path(folder).glob("*.whl")
            return unpack(wheel, target)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        reason = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1:]
        raise ModuleNotFoundError(
            f"MediaPipe's pose networks could not be fetched ({' '.join(reason)}). On a machine "
            f"with a network run: python -m pip {' '.join(_FETCH)}; then unzip {DETECTOR} and "
            f"{LANDMARKS} out of the wheel into {target}",
            name="mediapipe",
        ) from error


def unpack(wheel: Path, target: Path) -> tuple[Path, Path]:
    """Copies the two networks out of a wheel.

    Args:
        wheel: of mediapipe 0.10.21.
        target: folder, made if need be.
    Returns:
        The two files.
    Raises:
        ValueError: if the wheel lacks one, as those of 0.10.31 and later do.
    """
    target.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        inside = {Path(name).name: name for name in archive.namelist()}
        for name in (DETECTOR, LANDMARKS):
            if name not in inside:
                raise ValueError(f"{wheel}: has no {name}; expected the wheel of {WHEEL}")
            # Whole or not at all: a file that breaks off would be taken for the network.
            part = target / f"{name}.part"
            part.write_bytes(archive.read(inside[name]))
            part.replace(target / name)
    return target / DETECTOR, target / LANDMARKS
