"""Bodies drawn over the real pictures that they were found in, and beside them from the side.

Pictures are [H, W, 3] uint8; points are in the camera frame (x right, y down, z forward), metres.
No display and no GPU is needed. Photos are shrunk by Pillow, videos written by PyAV (the extra
`detect`); both are imported on first use.
"""

import os
from collections.abc import Iterable, Sequence
from fractions import Fraction

import numpy as np
from jaxtyping import Float, Int, UInt8

from body_model.files import local_path, writing
from scorehmr_jax.output.pictures import Picture
from scorehmr_jax.output.rasterize import draw_patch
from scorehmr_jax.types import Camera

BEFORE, AFTER = (0.90, 0.50, 0.30), (0.35, 0.62, 0.90)  # colours of estimate and refined body
OPACITY = 0.75
_AROUND = 0.15  # room around a body seen from the side, as a part of its height
_FAR = 10.0  # metres from which bodies are seen from the side


def overlay(
    picture: Picture,
    bodies: Sequence[Float[np.ndarray, "V 3"]],
    faces: Int[np.ndarray, "F 3"],
    camera: Camera,
    *,
    scale: float = 1.0,
    color: tuple[float, float, float] = AFTER,
    opacity: float = OPACITY,
    samples: int = 2,
) -> UInt8[np.ndarray, "h w 3"]:
    """Draws bodies over a picture, the nearer ones over the others.

    Args:
        picture: of the size that the camera has.
        bodies: vertices of each body; those that are not finite, or lie around the camera, are
            left out.
        faces: of all bodies, counter-clockwise seen from outside.
        camera: one camera.
        scale: pixels of the result per pixel of the picture.
        color: red, green and blue in [0, 1].
        opacity: of the bodies; 1 hides the person.
        samples: per pixel, along x and along y; 1 is fast and has hard edges.
    Returns:
        [H * scale, W * scale, 3].
    Raises:
        ValueError: if the camera is of another picture.
    """
    _check_size(picture, camera)
    canvas = _scaled(picture, scale)
    window = ((0.0, 0.0), scale, canvas.shape[1::-1])
    return _draw(canvas, bodies, faces, camera, window, color, opacity, samples)


def _check_size(picture: np.ndarray, camera: Camera) -> None:
    size = tuple(int(side) for side in np.asarray(camera.image_size))
    if picture.shape[1::-1] != size:
        raise ValueError(
            f"picture: expected the camera's, {size[0]} x {size[1]} pixels, found "
            f"{picture.shape[1]} x {picture.shape[0]}"
        )


def side_view(
    bodies: Sequence[Float[np.ndarray, "V 3"]],
    faces: Int[np.ndarray, "F 3"],
    size: tuple[int, int],
    *,
    middle: Float[np.ndarray, " 3"] | None = None,
    reach: float | None = None,
    color: tuple[float, float, float] = AFTER,
    samples: int = 2,
) -> UInt8[np.ndarray, "h w 3"]:
    """Draws bodies as seen from the right-hand side of the picture: what was depth is to the left.

    Args:
        bodies, faces, color, samples: as `overlay` has them.
        size: width and height of the result.
        middle: point that is shown in the middle; that of the bodies by default. Give one for all
            frames of a video.
        reach: metres shown above and below it; by default what the bodies need.
    Returns:
        [H, W, 3], on white.
    """
    width, height = size
    canvas = np.full((height, width, 3), 255, np.uint8)
    good = [body for body in bodies if np.isfinite(body).all()]
    if not good:
        return canvas
    low, high = (f([f(body, axis=0) for body in good], axis=0) for f in (np.min, np.max))
    if middle is None:
        middle = (low + high) / 2
    if reach is None:
        across = (high - low)[2] * height / width
        reach = (0.5 + _AROUND) * max((high - low)[1], across, 1e-3)
    # Turned about the vertical: the camera's forward becomes left, its left becomes forward.
    turn = np.array([[0.0, 0, -1], [0, 1, 0], [1, 0, 0]])
    turned = [(body - middle) @ turn.T + [0, 0, _FAR] for body in good]
    focal = height / 2 * _FAR / reach
    sides = np.array([width, height], float)
    camera = Camera(np.array([focal, focal]), sides / 2, sides)
    return _draw(canvas, turned, faces, camera, ((0.0, 0.0), 1.0, size), color, 1.0, samples)


def _draw(
    canvas: np.ndarray,
    bodies: Sequence[np.ndarray],
    faces: np.ndarray,
    camera: Camera,
    window: tuple[tuple[float, float], float, tuple[int, int]],
    color: tuple[float, float, float],
    opacity: float,
    samples: int,
) -> UInt8[np.ndarray, "h w 3"]:
    """Blends bodies into a picture of its own, the farthest first."""
    origin, scale, size = window
    good = [body for body in bodies if np.isfinite(body).all()]
    for body in sorted(good, key=lambda body: -float(body[:, 2].mean())):
        try:
            patch, (left, top) = draw_patch(
                body, faces, camera, origin, scale, size, np.asarray(color), samples=samples
            )
        except ValueError:  # it lies around the camera
            continue
        part = canvas[top : top + patch.shape[0], left : left + patch.shape[1]]
        share = (opacity * patch[..., 3:]).astype(np.float32)
        blended = part * (1 - share) + (255 * patch[..., :3]).astype(np.float32) * share
        part[:] = (blended + 0.5).astype(np.uint8)
    return canvas


def _scaled(picture: np.ndarray, scale: float) -> np.ndarray:
    """A copy of a picture in another size."""
    if scale == 1:
        return picture.copy()
    from PIL import Image

    size = tuple(max(round(side * scale), 1) for side in picture.shape[1::-1])
    image = Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR, reducing_gap=2)
    return np.array(image)


def save_video(path: str | os.PathLike[str], frames: Iterable[Picture], fps: float) -> int:
    """Writes pictures of one size as an .mp4 (H.264), whole or not at all.

    Args:
        path: the .mp4; its folder is made if need be.
        frames: one after another; an odd last row or column is left out.
        fps: frames per second.
    Returns:
        The number of frames.
    Raises:
        ValueError: if the name does not end in .mp4, there is no frame, or sizes differ.
        ImportError: if PyAV is not installed.
    """
    target = local_path(path)
    if target.suffix.lower() != ".mp4":
        raise ValueError(f"{target}: expected the name of an .mp4")
    try:
        import av
    except ImportError as error:
        raise ImportError(
            "writing videos needs PyAV: pip install 'scorehmr-jax[detect]'"
        ) from error
    count, size = 0, None
    with writing(target) as file, av.open(file, "w", format="mp4") as container:
        rate = Fraction(fps).limit_denominator(60000)
        stream = container.add_stream("libx264", rate=rate, options={"preset": "veryfast"})
        for picture in frames:
            even = picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]
            if size is None:
                size = even.shape
                stream.width, stream.height, stream.pix_fmt = size[1], size[0], "yuv420p"
            elif even.shape != size:
                raise ValueError(
                    f"{target}: expected pictures of one size, found {size[1]} x {size[0]} and "
                    f"{even.shape[1]} x {even.shape[0]}"
                )
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
            container.mux(stream.encode(frame))
            count += 1
        if not count:
            raise ValueError(f"{target}: expected pictures to write, found none")
        container.mux(stream.encode())
    return count


def before_and_after(
    picture: Picture,
    before: Sequence[Float[np.ndarray, "V 3"]] | None,
    after: Sequence[Float[np.ndarray, "V 3"]],
    faces: Int[np.ndarray, "F 3"],
    camera: Camera,
    *,
    height: int = 720,
    middle: Float[np.ndarray, " 3"] | None = None,
    reach: float | None = None,
    samples: int = 2,
) -> UInt8[np.ndarray, "h w 3"]:
    """Draws two sets of bodies over a picture, side by side, and each from the side.

    Args:
        picture, faces, camera, samples: as `overlay` has them.
        before, after: vertices of the bodies, orange and blue; None leaves its panels out.
        height: of the result in pixels, at most; pictures are never enlarged.
        middle, reach: as `side_view` has them, for both.
    Returns:
        [H, W, 3]: over the picture before and after, from the side before and after.
    """
    scale = min(height / picture.shape[0], 4 / 3 * height / picture.shape[1], 1)
    _check_size(picture, camera)
    small = _scaled(picture, scale)
    window = ((0.0, 0.0), scale, small.shape[1::-1])
    drawn = [(b, c) for b, c in ((before, BEFORE), (after, AFTER)) if b is not None]
    pictures = [
        _draw(small.copy(), bodies, faces, camera, window, color, OPACITY, samples)
        for bodies, color in drawn
    ]
    tall = pictures[0].shape[0]
    sides = [
        side_view(
            bodies,
            faces,
            (tall // 2, tall),
            middle=middle,
            reach=reach,
            color=color,
            samples=samples,
        )
        for bodies, color in drawn
    ]
    return np.concatenate([*pictures, *sides], axis=1)
