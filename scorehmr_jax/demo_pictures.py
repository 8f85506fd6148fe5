"""The demo's pictures: estimate, refined and true bodies, over keypoints and from the side."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from body_model import SMPL
from scorehmr_jax.camera import project
from scorehmr_jax.output.render import contact_sheet, crop_around, render
from scorehmr_jax.types import Camera

BEFORE, AFTER, TRUTH = (0.90, 0.72, 0.60), (0.62, 0.75, 0.88), (0.80, 0.80, 0.79)
# From the camera's view to the view from the person's one side: a quarter turn about y.
_QUARTER_TURN = np.array([[0.0, 0, -1], [0, 1, 0], [1, 0, 0]])


def draw_moments(body: SMPL, scene: Any, refined: Any, frames: Sequence[int]) -> np.ndarray:
    """A row per frame: before and after over the keypoints, then both and the truth sideways."""
    rows = []
    for frame in frames:
        keypoints, camera = _pick((scene.keypoints, scene.camera), frame)
        bodies = [
            (_Posed(body, _pick(person, frame)), color)
            for person, color in (
                (scene.estimate, BEFORE), (refined, AFTER), (scene.truth, TRUTH)
            )
        ]  # fmt: skip
        crop = crop_around(np.asarray(keypoints.xy)[np.asarray(keypoints.confidence) > 0])
        row = [
            render(posed.vertices, body.faces, camera, keypoints=keypoints, crop=crop, color=color,
                   scale=0.5)
            for posed, color in bodies[:2]
        ]  # fmt: skip
        sides = [(posed.from_the_side(bodies[-1][0]), color) for posed, color in bodies]
        side_crop = crop_around(np.concatenate([_pixels(v, camera) for v, _ in sides]), 0.06)
        row += [
            render(vertices, body.faces, camera, crop=side_crop, color=color, scale=0.5)
            for vertices, color in sides
        ]
        rows.append(row)
    titles = ("estimate", "refined", "estimate, side", "refined, side", "truth, side")
    return contact_sheet(rows, columns=titles)


def draw_views(body: SMPL, scene: Any, refined: Any, moment: int) -> np.ndarray:
    """A column per view: the estimate above, the refined body below, over the keypoints."""
    rows = []
    for people, color in ((scene.estimate, BEFORE), (refined, AFTER)):
        row = []
        for view in range(scene.keypoints.xy.shape[1]):
            person, keypoints, camera = _pick(
                (people, scene.keypoints, scene.camera), (moment, view)
            )
            crop = crop_around(np.asarray(keypoints.xy)[np.asarray(keypoints.confidence) > 0])
            row.append(
                render(_Posed(body, person).vertices, body.faces, camera, keypoints=keypoints,
                       crop=crop, color=color, scale=0.5)
            )  # fmt: skip
        rows.append(row)
    titles = [f"view {view + 1}" for view in range(len(rows[0]))]
    return contact_sheet(rows, columns=titles, rows=("estimate", "refined"))


def draw_strip(body: SMPL, scene: Any, refined: Any, frames: Sequence[int]) -> np.ndarray:
    """A column per frame, all seen from the side: estimate, refined, truth."""
    people = ((scene.estimate, BEFORE), (refined, AFTER), (scene.truth, TRUTH))
    rows = []
    for person, color in people:
        row = []
        for frame in frames:
            camera = _pick(scene.camera, frame)
            true = _Posed(body, _pick(scene.truth, frame))
            vertices = _Posed(body, _pick(person, frame)).from_the_side(true)
            middle = _pixels(true.pelvis[None], camera)[0]
            reach = 420 * 4.3 / true.pelvis[2]
            crop = (middle[0] - 0.5 * reach, middle[1] - reach, middle[0] + 0.5 * reach,
                    middle[1] + reach)  # fmt: skip
            row.append(render(vertices, body.faces, camera, crop=crop, color=color,
                              scale=130 / reach))  # fmt: skip
        rows.append(row)
    return contact_sheet(rows, rows=("estimate", "refined", "truth"))


class _Posed:
    """The mesh of one person in the camera frame."""

    def __init__(self, body: SMPL, person: Any):
        self.vertices = np.asarray(body.vertices(person.pose, person.betas, person.translation))
        self.pelvis = np.asarray(body.joints(person.pose, person.betas, person.translation))[0]

    def from_the_side(self, where: "_Posed") -> np.ndarray:
        """Vertices turned a quarter about the pelvis, which is put where another's is."""
        return (self.vertices - self.pelvis) @ _QUARTER_TURN.T + where.pelvis


def _pick(tree: Any, index: Any) -> Any:
    return jax.tree.map(lambda array: np.asarray(array[index]), tree)


def _pixels(points: np.ndarray, camera: Camera) -> np.ndarray:
    return np.asarray(project(points, camera))
