"""Pictures to find people in: a photo, a folder of photos, or a video, read frame by frame.

Pillow reads photos and PyAV reads videos (the extra `detect`). Frames come as they are shown:
turned as the EXIF data of a photo or the display matrix of a video say.
"""

import math
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from body_model.files import local_path

PHOTOS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
VIDEOS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".mts", ".wmv", ".3gp")

_FILM_DIAGONAL = math.hypot(36, 24)  # millimetres; what "35 mm equivalent" refers to
# EXIF numbers.
_FOCAL_MM, _FOCAL_35MM, _PIXELS_ACROSS = 0x920A, 0xA405, 0xA002
_SENSOR_RESOLUTION, _SENSOR_UNIT, _EXIF_PART = 0xA20E, 0xA210, 0x8769
_UNIT_MM = {2: 25.4, 3: 10.0, 4: 1.0}


@dataclass(frozen=True)
class Pictures:
    """Frames on disk. Iterating reads them anew, [H, W, 3] uint8, one at a time."""

    source: Path
    files: tuple[Path, ...]  # the photos; of a video, the video alone
    fps: float | None  # frames per second of a video; None for photos
    focals: tuple[float | None, ...] = field(default=())  # of the photos' EXIF data, pixels

    @property
    def is_video(self) -> bool:
        return self.fps is not None

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        return _video_frames(self.source) if self.is_video else map(_photo, self.files)


def open_pictures(source: str | Path) -> Pictures:
    """Opens a photo, a folder of photos or a video.

    Args:
        source: a file of one of PHOTOS or VIDEOS, or a folder; a folder's photos come in the
            natural order of their names (2 before 10), and its other files are left out.
    Returns:
        The frames, yet to be read.
    Raises:
        ValueError: if there is no picture, or the file cannot be read as one.
        ImportError: if Pillow or PyAV is not installed.
    """
    path = local_path(source)
    if path.is_dir():
        files = sorted((f for f in path.iterdir() if _suffix(f) in PHOTOS), key=_natural)
        if not files:
            videos = sorted(f.name for f in path.iterdir() if _suffix(f) in VIDEOS)
            hint = f"; give one of its videos, such as {videos[0]}" if videos else ""
            raise ValueError(f"{path}: expected pictures ({', '.join(PHOTOS)}), found none{hint}")
        good = [(file, focal) for file in files for focal in _header(file, alone=False)]
        if not good:
            raise ValueError(f"{path}: none of its {len(files)} pictures can be read")
        return Pictures(path, tuple(f for f, _ in good), None, tuple(focal for _, focal in good))
    if not path.is_file():
        raise ValueError(f"{path}: no such file or folder")
    if _suffix(path) in PHOTOS:
        return Pictures(path, (path,), None, tuple(_header(path, alone=True)))
    if _suffix(path) in VIDEOS:
        return Pictures(path, (path,), _frame_rate(path))
    raise ValueError(
        f"{path}: expected a picture ({', '.join(PHOTOS)}) or a video ({', '.join(VIDEOS)}), found "
        f"{path.suffix or 'no suffix'}; convert it to .png or .mp4"
    )


def _suffix(path: Path) -> str:
    return path.suffix.lower()


def _natural(path: Path) -> tuple[tuple[int, str], ...]:
    """Orders frame2 before frame10."""
    parts = re.findall(r"\d+|\D+", path.name.lower())
    return tuple((int(p), "") if p.isascii() and p.isdigit() else (-1, p) for p in parts)


def _pillow() -> Any:
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError("reading pictures needs Pillow: pip install pillow") from error
    return Image, ImageOps


def _header(path: Path, alone: bool) -> list[float | None]:
    """The focal length of a photo in a list; an empty one for a photo that cannot be read."""
    image_module, _ = _pillow()
    try:
        with image_module.open(path) as image:
            width, height = image.size
            return [exif_focal(image.getexif(), width, height)]
    except Exception as error:  # a damaged file can fail in any way
        message = f"{path}: expected a picture that Pillow reads ({error})"
        if alone:
            raise ValueError(message) from error
        warnings.warn(f"{message}; it is left out", stacklevel=3)
        return []


def exif_focal(exif: Any, width: int, height: int) -> float | None:
    """Reads a focal length from EXIF data.

    Args:
        exif: what Pillow's `Image.getexif` gives.
        width, height: of the picture, pixels.
    Returns:
        Pixels; None if the data do not say.
    """
    try:
        part = exif.get_ifd(_EXIF_PART)
        film = float(part.get(_FOCAL_35MM) or 0)
        if film > 0:
            return film / _FILM_DIAGONAL * math.hypot(width, height)
        length, density = float(part.get(_FOCAL_MM) or 0), float(part.get(_SENSOR_RESOLUTION) or 0)
        unit = _UNIT_MM.get(int(part.get(_SENSOR_UNIT) or 2))
        if length > 0 and density > 0 and unit is not None:
            # The density is of the picture as taken; it may have been made smaller since.
            taken = max(float(part.get(_PIXELS_ACROSS) or 0), 0) or float(max(width, height))
            return length * density / unit * max(width, height) / taken
    except Exception:  # damaged data say nothing
        pass
    return None


def read_photo(path: str | Path, turned: bool = True) -> UInt8[np.ndarray, "H W 3"]:
    """Reads a whole photo: red, green and blue.

    Grey becomes the three of them, transparent parts lie on white, and of more than 8 bits the
    highest 8 of those in use are taken.

    Args:
        path: of a file that Pillow reads.
        turned: as its EXIF data say; False gives the pixels as they are stored.
    Raises:
        ValueError: naming the file, if it is missing, no picture, or breaks off.
        ImportError: if Pillow is not installed.
    """
    image_module, turns = _pillow()
    where = local_path(path)
    try:
        with image_module.open(where) as image:
            image.load()
            return np.asarray(_rgb(_upright(image, turns) if turned else image))
    except FileNotFoundError:
        raise ValueError(f"{where}: no such file") from None
    except Exception as error:  # a damaged file can fail in any way
        raise ValueError(f"{where}: expected a picture that Pillow reads ({error})") from error


def _photo(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """Reads a photo; where its pixels break off the rest is grey or black."""
    image_module, turns = _pillow()
    from PIL import ImageFile

    before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, True
    try:
        with image_module.open(path) as image:
            size = image.size
            try:
                image.load()
                return np.asarray(_rgb(_upright(image, turns)))
            except Exception as error:
                warnings.warn(f"{path}: cannot be decoded ({error}); taken as black", stacklevel=2)
                return np.zeros((size[1], size[0], 3), np.uint8)
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def _upright(image: Any, turns: Any) -> Any:
    """A decoded picture turned as its EXIF data say; as it is where these are damaged."""
    try:
        return turns.exif_transpose(image)
    except Exception:
        return image


def _rgb(image: Any) -> Any:
    """Red, green and blue; transparent parts on white, more than 8 bits to the highest 8."""
    image_module, _ = _pillow()
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return image_module.fromarray(_eight_bits(np.asarray(image))).convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        white = image_module.new("RGBA", image.size, "white")
        return image_module.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _eight_bits(numbers: np.ndarray) -> UInt8[np.ndarray, "H W"]:
    """The highest 8 bits of grey values; of fractions those of 255 times as many."""
    numbers = np.nan_to_num(numbers)
    highest = numbers.max(initial=0)
    if numbers.dtype.kind == "f" and highest <= 1:
        numbers = numbers * 255
    # Cameras of 10, 12 and 14 bits are stored in 16: by the type alone they would be dark.
    bits = next((n for n in (8, 10, 12, 14, 16) if highest < 2**n), 32)
    return (numbers.astype(float) / 2 ** (bits - 8)).clip(0, 255).astype(np.uint8)


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise ImportError(
            "reading videos needs PyAV: pip install 'scorehmr-jax[detect]'"
        ) from error
    return av


def _open_video(path: Path) -> Any:
    """Opens a video; the caller closes it."""
    av = _av()
    try:
        # Names in containers may be in any encoding.
        container = av.open(str(path), metadata_errors="replace")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise ValueError(
            f"{path}: expected a video that FFmpeg reads ({error}); it may have been cut off while "
            "it was copied: copy or record it again, or convert it with ffmpeg to .mp4"
        ) from error
    if not container.streams.video:
        container.close()
        raise ValueError(f"{path}: expected a video, found no pictures in it")
    return container


def _frame_rate(path: Path) -> float:
    with _open_video(path) as container:
        stream = container.streams.video[0]
        rate = stream.average_rate or stream.guessed_rate
    if not rate:
        warnings.warn(f"{path}: no frame rate; assumes 30 frames per second", stacklevel=3)
    return float(rate or 30)


def _video_frames(path: Path) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """Reads the frames of a video up to its end, or to where it breaks off."""
    av = _av()
    count, problem = 0, None
    with _open_video(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        expected = stream.frames
        try:
            for frame in container.decode(stream):
                if not frame.is_corrupt:
                    yield _turned(frame.to_ndarray(format="rgb24"), frame.rotation)
                    count += 1
        except (av.error.FFmpegError, OSError) as error:
            problem = str(error)
    if not count:
        raise ValueError(f"{path}: no frame of the video can be read ({problem or 'it is empty'})")
    if problem or count < expected:
        warnings.warn(
            f"{path}: breaks off after {count} of {expected or 'its'} frames"
            f"{f' ({problem})' if problem else ''}; goes on with these",
            stacklevel=2,
        )


def _turned(pixels: np.ndarray, degrees: float) -> np.ndarray:
    """Turns a frame counter-clockwise, to the next quarter."""
    quarters = round(degrees / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, quarters)) if quarters else pixels
