"""Bodies over time in the browser, by viser (the extra `view`), imported on first use.

Everything is shown in the frame that the bodies are in, a camera's as a rule. Meshes are skinned in
the browser from 24 bones, so that hours of motion are small; the body's pose correctives are left
out. A page that is written has all of it inside and needs no network.
"""

import io
import os
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from body_model import SMPL
from body_model.files import local_path, write_text
from body_model.kinematics import forward_kinematics
from body_model.rotations import matrix_to_quaternion
from scorehmr_jax import lens
from scorehmr_jax.output.overlay import AFTER, BEFORE
from scorehmr_jax.output.people import Person
from scorehmr_jax.types import Camera

_distort = jax.jit(lens.distort)
_BEFORE_OPACITY = 0.4
_OPACITY_WITH_JOINTS = 0.65  # which lie inside the body
_DOT = 0.022  # metres across, of a joint
_UNSEEN = (150, 150, 150)  # colour of a joint without a detection
_BEHIND = 1.5  # how far behind the farthest body the picture stands, in its distance
_QUALITY = 80  # of JPEG


@dataclass(frozen=True)
class Joints:
    """Joints of a person over time, and how far from its detections each is seen."""

    places: Float[np.ndarray, "T K 3"]  # metres
    residual: Float[np.ndarray, "T K"]  # pixels; NaN without a detection
    worst: float  # pixels that are shown in full red


@dataclass(frozen=True)
class Shown:
    """All that is shown, T frames of it."""

    body: SMPL
    people: Sequence[Person]  # refined
    before: Sequence[Person] = ()
    joints: Sequence[Joints] = ()  # of the people, or none
    camera: Camera | None = None  # the first frame's
    pictures: Sequence[bytes] = ()  # JPEG of each frame, or none

    @property
    def frames(self) -> int:
        return len(self.people[0].present)


class Scene:
    """The things of `Shown` in a viser server, moved to a frame by `show`."""

    def __init__(self, server: Any, shown: Shown):
        self.server, self.shown = server, shown
        self.layers = {"refined": True, "before": True, "joints": True, "picture": True}
        self._bodies = [
            (layer, person, _Bones.of(shown.body, person), self._mesh(layer, number, person))
            for layer, people in (("refined", shown.people), ("before", shown.before))
            for number, person in enumerate(people)
        ]
        self._dots = [
            server.scene.add_point_cloud(
                f"/joints/{number}",
                points=np.zeros_like(joints.places[0], np.float32),
                colors=np.zeros_like(joints.places[0], np.uint8),
                point_size=_DOT,
                point_shape="circle",
                precision="float32",
            )
            for number, joints in enumerate(shown.joints)
        ]
        self._picture = self._plane()
        self._look()

    def show(self, frame: int) -> None:
        """Moves everything to a frame, counted from 0."""
        with self.server.atomic():
            for layer, person, bones, mesh in self._bodies:
                mesh.visible = bool(self.layers[layer] and person.present[frame])
                if person.present[frame]:
                    for bone, turn, place in zip(
                        mesh.bones, bones.turns[frame], bones.places[frame], strict=True
                    ):
                        bone.wxyz, bone.position = turn, place
            for number, (dots, joints) in enumerate(
                zip(self._dots, self.shown.joints, strict=True)
            ):
                person = self.shown.people[number]
                dots.visible = bool(self.layers["joints"] and person.present[frame])
                if person.present[frame]:
                    dots.points = joints.places[frame].astype(np.float32)
                    dots.colors = residual_colors(joints.residual[frame], joints.worst)
            if self._picture is not None:
                self._picture.visible = self.layers["picture"]
                self._picture.image = _decoded(self.shown.pictures[frame])

    def _mesh(self, layer: str, number: int, person: Person) -> Any:
        body, shape = self.shown.body, person.betas[person.present].mean(0).astype(np.float32)
        refined = layer == "refined"
        opacity = _BEFORE_OPACITY if not refined else None
        if refined and self.shown.joints:
            opacity = _OPACITY_WITH_JOINTS
        return self.server.scene.add_mesh_skinned(
            f"/{layer}/{number}",
            np.asarray(body.shaped(shape)),
            np.asarray(body.faces),
            bone_wxyzs=np.tile([1.0, 0, 0, 0], (24, 1)),
            bone_positions=np.asarray(body.rest_joints(shape), float),
            skin_weights=np.asarray(body.skin_weights),
            color=tuple(round(255 * part) for part in (AFTER if refined else BEFORE)),
            opacity=opacity,
        )

    def _plane(self) -> Any:
        """The picture, upright behind the bodies where the camera sees it."""
        camera = self.shown.camera
        if camera is None or not len(self.shown.pictures):
            return None
        turn, place = _pose(camera)
        focal, center, size = (
            np.asarray(getattr(camera, name), float) for name in ("focal", "center", "image_size")
        )
        depths = np.concatenate([p.translation[p.present] for p in self.shown.people])
        depth = _BEHIND * float(np.max((depths - place) @ turn[:, 2]))
        across = depth * size / focal
        return self.server.scene.add_image(
            "/picture",
            _decoded(self.shown.pictures[0]),
            render_width=across[0],
            render_height=across[1],
            format="jpeg",
            jpeg_quality=_QUALITY,
            wxyz=_quaternions(turn[None])[0],
            position=place + turn @ [*((size / 2 - center) / focal * depth), depth],
        )

    def _look(self) -> None:
        """Puts the viewer where the camera was, or before the bodies if there is no picture."""
        start, camera = self.server.initial_camera, self.shown.camera
        turn, place = _pose(camera)
        # A camera that has a pose is in a world, whose z is up by custom.
        in_world = camera is not None and camera.rotation is not None
        self.server.scene.set_up_direction("+z" if in_world else "-y")
        middle = np.concatenate([p.translation[p.present] for p in self.shown.people]).mean(0)
        if self._picture is None:
            start.position = middle + turn @ [1.2, -0.5, -2.6]
            start.look_at = middle
        else:
            assert camera is not None
            size, focal = (np.asarray(a, float) for a in (camera.image_size, camera.focal))
            start.position = place
            start.look_at = place + turn[:, 2] * float((middle - place) @ turn[:, 2])
            start.fov = 2 * float(np.arctan(size[1] / 2 / focal[1]))


def save_page(path: str | os.PathLike[str], shown: Shown, fps: float) -> None:
    """Writes a page that shows a motion by itself: one file, without a network.

    Args:
        path: the .html to write.
        shown: what is in it.
        fps: frames per second.
    Raises:
        ValueError: if the name does not end in .html.
        ImportError: if viser is not installed.
    """
    path = local_path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"{path}: expected the name of an .html, found {path.suffix or 'none'}")
    server = new_server()
    try:
        scene = Scene(server, shown)
        scene.show(0)
        recording = server.get_scene_serializer()
        for frame in range(shown.frames):
            scene.show(frame)
            recording.insert_sleep(1 / fps)
        write_text(path, recording.as_html())
    finally:
        with redirect_stdout(io.StringIO()):
            server.stop()


def new_server(port: int | None = None) -> Any:
    """Starts viser's server on this machine alone.

    Args:
        port: to listen on; any free one by default.
    Raises:
        ImportError: if viser is not installed.
    """
    try:
        import viser
    except ImportError as error:
        raise ImportError(
            "showing bodies in the browser needs viser: pip install 'scorehmr-jax[view]'"
        ) from error
    with redirect_stdout(io.StringIO()):  # its banner
        return viser.ViserServer(host="127.0.0.1", port=port or 0, verbose=False)


def residual_colors(residual: Float[np.ndarray, " K"], worst: float) -> UInt8[np.ndarray, "K 3"]:
    """Colours from green (0) over yellow to red (`worst` pixels and more); grey for NaN."""
    share = np.clip(np.nan_to_num(residual) / worst, 0, 1)
    red, green = np.minimum(2 * share, 1), np.minimum(2 - 2 * share, 1)
    colors = np.stack([220 * red, 190 * green, 60 * np.ones_like(share)], -1).astype(np.uint8)
    colors[np.isnan(residual)] = _UNSEEN
    return colors


def small_jpeg(picture: UInt8[np.ndarray, "H W 3"], width: int) -> bytes:
    """Encodes a picture as JPEG, shrunk to a width in pixels if it is larger."""
    from PIL import Image

    image = Image.fromarray(picture)
    if image.width > width:
        image = image.resize((width, max(round(image.height * width / image.width), 1)))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def without_lens(picture: UInt8[np.ndarray, "H W 3"], camera: Camera) -> UInt8[np.ndarray, "H W 3"]:
    """Takes the distortion of a camera's lens out of its picture, so that lines are straight.

    Args:
        picture: of the size that the camera has.
        camera: one camera; without a distortion the picture stays as it is.
    Returns:
        What a pinhole of the same focal length and middle sees; black where the lens saw nothing.
    """
    if camera.distortion is None or not np.any(camera.distortion):
        return picture
    focal, center = (np.asarray(side, np.float32) for side in (camera.focal, camera.center))
    tall, wide = picture.shape[:2]
    grid = np.stack(np.meshgrid(np.arange(wide), np.arange(tall)), -1).astype(np.float32) + 0.5
    plane = _distort((grid - center) / focal, np.asarray(camera.distortion, np.float32))
    seen = np.floor(np.asarray(plane) * focal + center).astype(int)
    inside = ((seen >= 0) & (seen < (wide, tall))).all(-1)
    x, y = np.moveaxis(np.where(inside[..., None], seen, 0), -1, 0)
    return np.where(inside[..., None], picture[y, x], 0).astype(np.uint8)


def _decoded(jpeg: bytes) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))


@dataclass(frozen=True)
class _Bones:
    """Where the bones of a person are in every frame; the frame before's where there is no body."""

    turns: Float[np.ndarray, "T 24 4"]  # quaternions, w first
    places: Float[np.ndarray, "T 24 3"]  # metres

    @classmethod
    def of(cls, body: SMPL, person: Person) -> "_Bones":
        whole = person.filled()
        shape = person.betas[person.present].mean(0).astype(np.float32)
        rest = np.asarray(body.rest_joints(shape))
        pose = jnp.moveaxis(jnp.asarray(whole.pose, jnp.float32), 0, -1)
        walk = jax.jit(forward_kinematics)
        turns, places = walk(pose, jnp.tile(rest[..., None], (1, 1, pose.shape[-1])))
        turns, places = (np.moveaxis(np.asarray(a, float), -1, 0) for a in (turns, places))
        return cls(_quaternions(turns), places + whole.translation[:, None])


def _quaternions(rotations: np.ndarray) -> np.ndarray:
    return np.asarray(jax.jit(matrix_to_quaternion)(jnp.asarray(rotations)), float)


def _pose(camera: Camera | None) -> tuple[np.ndarray, np.ndarray]:
    """Axes (columns) and place of a camera in the frame of the bodies."""
    if camera is None:
        return np.eye(3), np.zeros(3)
    turn = np.eye(3) if camera.rotation is None else np.asarray(camera.rotation, float)
    shift = np.zeros(3) if camera.translation is None else np.asarray(camera.translation, float)
    return turn.T, -turn.T @ shift
