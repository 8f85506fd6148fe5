"""The demo's pictures: estimate, refined and true bodies, over keypoints and from the side."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Real

from body_model import SMPL
from scorehmr_jax.camera import project
from scorehmr_jax.evaluation.metrics import pa_mpjpe
from scorehmr_jax.output.pictures import Picture, contact_sheet
from scorehmr_jax.output.render import crop_around, render
from scorehmr_jax.simulation.scene import Scene
from scorehmr_jax.types import Array, Camera, Estimate, Refined

BEFORE, AFTER, TRUTH = (0.90, 0.72, 0.60), (0.62, 0.75, 0.88), (0.80, 0.80, 0.79)
HEIGHT = 340  # of a picture, pixels
# From the camera's view to the view from the person's one side: a quarter turn about y.
_QUARTER_TURN = np.array([[0.0, 0, -1], [0, 1, 0], [1, 0, 0]])


def draw_moments(
    body: SMPL,
    scene: Scene,
    refined: Refined,
    frames: Sequence[int],
    names: tuple[str, str] = ("estimate", "refined"),
) -> Picture:
    """Draws a row per frame: before and after over the keypoints, then both and the truth sideways.

    Args:
        body: whose mesh is drawn.
        scene: of a video's frames [N].
        refined: bodies [N].
        frames: the ones to draw.
        names: of the scene's estimates and of the refined bodies.
    Returns:
        [H, W, 3] uint8.
    """
    rows, errors = [], []
    for frame in frames:
        keypoints, camera = _pick((scene.keypoints, scene.camera), frame)
        people = ((scene.estimate, BEFORE), (refined, AFTER), (scene.truth, TRUTH))
        bodies = [(_Posed(body, _pick(person, frame)), color) for person, color in people]
        before, after, true = (posed for posed, _ in bodies)
        window = _window(np.concatenate([posed.vertices for posed, _ in bodies]), camera)
        row = [
            render(posed.vertices, body.faces, camera, keypoints=keypoints, color=color, **window)
            for posed, color in bodies[:2]
        ]
        sides = [(posed.from_the_side(true), color) for posed, color in bodies]
        window = _window(np.concatenate([vertices for vertices, _ in sides]), camera)
        row += [
            render(vertices, body.faces, camera, color=color, **window) for vertices, color in sides
        ]
        rows.append(row)
        a, b = (float(pa_mpjpe(p.joints, true.joints)) for p in (before, after))
        errors.append(f"frame {frame}: {a:.0f} → {b:.0f} mm")
    titles = (*names, *(f"{name}, side" for name in (*names, "truth")))
    return contact_sheet(rows, columns=titles, rows=errors)


def draw_views(body: SMPL, scene: Scene, refined: Refined, moment: int) -> Picture:
    """Draws a column per view: the estimate above, the refined body below, over the keypoints.

    Args:
        body: whose mesh is drawn.
        scene: of moments and views [M, V].
        refined: bodies [M, V].
        moment: the one to draw.
    Returns:
        [H, W, 3] uint8.
    """
    rows: tuple[list, list] = ([], [])
    for view in range(scene.keypoints.xy.shape[1]):
        at = moment, view
        people = [_Posed(body, _pick(p, at)) for p in (scene.estimate, refined, scene.truth)]
        keypoints, camera = _pick((scene.keypoints, scene.camera), at)
        window = _window(np.concatenate([posed.vertices for posed in people]), camera)
        window |= {"keypoints": keypoints}
        for row, posed, color in zip(rows, people[:2], (BEFORE, AFTER), strict=True):
            row.append(render(posed.vertices, body.faces, camera, color=color, **window))
    titles = [f"view {view + 1}" for view in range(len(rows[0]))]
    return contact_sheet(rows, columns=titles, rows=("estimate", "refined"))


def draw_strip(body: SMPL, scene: Scene, refined: Refined, frames: Sequence[int]) -> Picture:
    """Draws a column per frame, all seen from the side: estimate, refined, truth.

    Args:
        body: whose mesh is drawn.
        scene: of a video's frames [N].
        refined: bodies [N].
        frames: the ones to draw.
    Returns:
        [H, W, 3] uint8.
    """
    people = ((scene.estimate, BEFORE), (refined, AFTER), (scene.truth, TRUTH))
    rows = []
    for person, color in people:
        row = []
        for frame in frames:
            camera = _pick(scene.camera, frame)
            true = _Posed(body, _pick(scene.truth, frame))
            vertices = _Posed(body, _pick(person, frame)).from_the_side(true)
            x, y = _pixels(true.pelvis[None], camera)[0]
            metre = camera.focal[0] / true.pelvis[2]  # in pixels, at the person
            crop = (x - 0.75 * metre, y - 1.15 * metre, x + 0.75 * metre, y + 1.05 * metre)
            row.append(
                render(vertices, body.faces, camera, crop=crop, color=color, scale=110 / metre)
            )
        rows.append(row)
    return contact_sheet(rows, rows=("estimate", "refined", "truth"))


class _Posed:
    """The mesh of one person in the camera frame."""

    def __init__(self, body: SMPL, person: Estimate | Refined):
        pose = person.pose, person.betas, person.translation
        self.vertices, self.joints = jax.tree.map(np.asarray, _posed(body, *pose))
        self.pelvis = self.joints[0]

    def from_the_side(self, where: "_Posed") -> Float[np.ndarray, "V 3"]:
        """Turns the vertices a quarter about the pelvis, which is put where another's is."""
        return (self.vertices - self.pelvis) @ _QUARTER_TURN.T + where.pelvis


@jax.jit
def _posed(body: SMPL, *pose: Array) -> tuple[Float[Array, "V 3"], Float[Array, "24 3"]]:
    return body.vertices(*pose), body.joints(*pose)


def _pick(tree: Any, index: Any) -> Any:
    """Takes one sample of a pytree, in numpy's arrays."""
    return jax.tree.map(lambda array: np.asarray(array)[index], tree)


def _window(points: Float[np.ndarray, "V 3"], camera: Camera) -> dict[str, Any]:
    """Chooses the part of the image to show, and its scale, for pictures of one height."""
    crop = crop_around(_pixels(points, camera), 0.06)
    return {"crop": crop, "scale": HEIGHT / (crop[3] - crop[1])}


def _pixels(points: Float[np.ndarray, "V 3"], camera: Camera) -> Real[np.ndarray, "V 2"]:
    return np.asarray(project(jnp.asarray(points), camera))
